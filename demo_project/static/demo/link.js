// A socket that comes back: what every page of the demo does with an EncryptedWebSocket.

import { EncryptedWebSocket } from "gcrypt_channels";

import { closeText, show } from "./status.js";

const FIRST_WAIT = 250; // milliseconds, doubled after each failure
const LONGEST_WAIT = 4000;
const LOGGED_OUT = 4401; // only a login helps

let thawed = false; // the page came out of the back/forward cache
let over = false; // its session has ended

/** A thawed page of an ended session may show what belonged to someone else: load it anew. */
function reloadIfStale() {
  if (thawed && over) location.reload();
}

addEventListener("pageshow", ({ persisted }) => {
  thawed ||= persisted;
  reloadIfStale();
});

/**
 * Keep an EncryptedWebSocket to `path` open until the session ends.
 * `on` may hold the listeners `open`, `message`, `frame` and `close`; `status` shows the state.
 * Returns an object whose `socket` is the current one, and whose `stop()` ends it for good.
 */
export function keepOpen(path, { status, options = {}, on = {} }) {
  let wait = FIRST_WAIT;
  let timer = 0;
  const link = { socket: null, stop };

  function connect() {
    const socket = new EncryptedWebSocket(path, [], options);
    link.socket = socket;
    show(status, "connecting", "connecting");
    for (const [type, listener] of Object.entries(on)) socket.addEventListener(type, listener);
    socket.addEventListener("open", () => {
      wait = FIRST_WAIT;
      show(status, "open", `open, ${socket.profile}`);
    });
    socket.addEventListener("close", (event) => {
      if (link.socket !== socket) return;
      show(status, "closed", closeText(event));
      if (event.code === LOGGED_OUT) {
        over = true;
        reloadIfStale();
        return;
      }
      timer = setTimeout(connect, wait);
      wait = Math.min(2 * wait, LONGEST_WAIT);
    });
  }

  function stop() {
    const { socket } = link;
    link.socket = null;
    clearTimeout(timer);
    socket.close();
  }

  connect();
  return link;
}
