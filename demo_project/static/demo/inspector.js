// The wire inspector: each message over the best profile that the browser has and over the classic
// one at once, frame by frame, and what becomes of a frame in other hands.

import { EncryptedWebSocket } from "gcrypt_channels";

import { keepOpen } from "./link.js";
import { wire } from "./wire.js";

const PATH = "/ws/echo/";
/** The options of the two sockets. */
const SIDES = { best: {}, classic: { profile: "gcrypt.v1" } };
const log = document.getElementById("log");
const text = document.getElementById("text");
const links = {};

/** For each side: the cards whose frames are still to be seen, oldest first. */
const awaited = {};

/** A WebSocket class that hands each of its objects to `tap`: the way to send raw frames. */
const tapped = (tap) =>
  class extends WebSocket {
    constructor(...args) {
      super(...args);
      tap(this);
    }
  };

function element(name, { className = "", text = "" } = {}, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  made.append(...children);
  return made;
}

/** One message: what the application sent, the frames of both sides there and back. */
class Card {
  captured = {}; // side → the outbound frame

  constructor(title) {
    this.frames = element("div", { className: "frames" });
    this.cells = {};
    for (const side in SIDES) {
      this.addLine(side, "outbound", "→", profileOf(side));
      this.addLine(side, "inbound", "←", "");
    }
    this.item = element("li", { className: "panel" }, element("h2", { text: title }), this.frames);
  }

  addLine(side, direction, arrow, label) {
    const cell = element("div", { text: "…" });
    this.cells[side + direction] = cell;
    this.frames.append(
      element("span", { className: "profile", text: label }),
      element("span", { className: "arrow", text: arrow }),
      cell,
    );
  }

  showFrame(side, direction, frame) {
    this.cells[side + direction].replaceChildren(wire(frame));
    if (direction === "outbound") this.captured[side] = frame;
    if (Object.keys(SIDES).every((each) => each in this.captured) && !this.button) {
      this.offerAttempts();
    }
  }

  offerAttempts() {
    this.button = element("button", { className: "quiet", text: "Let others try these frames" });
    this.button.addEventListener("click", () => this.attempt());
    this.item.append(this.button);
  }

  async attempt() {
    this.button.disabled = true;
    const head = element("tr", {}, element("th", { text: "who sends it" }));
    for (const side in SIDES) head.append(element("th", { text: profileOf(side) }));
    const table = element("table", { className: "attempts" }, element("thead", {}, head));
    this.item.append(table);
    for (const [who, send] of ATTEMPTS) {
      const row = element("tr", {}, element("td", { text: who }));
      table.append(row);
      for (const side in SIDES) row.append(outcomeCell(await send(side, this.captured[side])));
    }
    this.button.disabled = false;
  }
}

function outcomeCell({ delivered, code, reason }) {
  if (delivered) {
    return element("td", { className: "delivered", text: "delivered: no replay protection" });
  }
  const why = reason ? ` (${reason})` : "";
  return element("td", { className: "refused", text: `refused, close ${code}${why}` });
}

/** Resolves when `socket` delivers a message, or the server closes `raw`, which carries its frames. */
const outcomeOf = (socket, raw) =>
  new Promise((resolve) => {
    socket.addEventListener("message", () => resolve({ delivered: true }), { once: true });
    raw.addEventListener("close", ({ code, reason }) => resolve({ code, reason }), { once: true });
  });

/** The other user, logged in on the server's side, on a connection of his own. */
async function sendAsOther(side, frame) {
  const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const response = await fetch("/inspector/trespass/", {
    method: "POST",
    headers: { "X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value },
    body: JSON.stringify(
      typeof frame === "string" ? { text: frame } : { bytes: hex(frame), profile: profileOf(side) },
    ),
  });
  return response.json();
}

/** The same user, on a second connection of this page: the same key, another handshake. */
function sendOnSecond(side, frame) {
  let raw;
  const options = { ...SIDES[side], WebSocket: tapped((socket) => (raw = socket)) };
  const socket = new EncryptedWebSocket(PATH, [], options);
  return new Promise((resolve) => {
    socket.addEventListener("open", () => {
      resolve(outcomeOf(socket, raw).finally(() => socket.close()));
      raw.send(frame);
    });
  });
}

/** Once more on the connection that it came from. */
function sendAgain(side, frame) {
  const { socket, raw } = links[side];
  const outcome = outcomeOf(socket, raw);
  raw.send(frame);
  return outcome;
}

const me = document.getElementById("user").textContent;
const other = me === "bob" ? "alice" : "bob";
const ATTEMPTS = [
  ...("trespass" in log.dataset ? [[`${other}, on a socket of ${other}'s own`, sendAsOther]] : []),
  [`${me}, on a second connection`, sendOnSecond],
  [`${me}, a second time on the same one`, sendAgain],
];

/** The profile that a side has come to. */
const profileOf = (side) => links[side].socket.profile;

function start(side) {
  let raw;
  links[side] = keepOpen(PATH, {
    status: document.getElementById(`status-${side}`),
    options: { ...SIDES[side], inspect: true, WebSocket: tapped((socket) => (raw = socket)) },
    on: {
      open: () => {
        awaited[side] = { outbound: [], inbound: [] };
        links[side].raw = raw;
      },
      frame: ({ direction, kind, data }) => {
        if (kind === "TEXT") awaited[side][direction].shift()?.showFrame(side, direction, data);
      },
    },
  });
}

for (const side in SIDES) start(side);

document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const sockets = Object.keys(SIDES).map((side) => links[side].socket);
  if (!sockets.every((socket) => socket.readyState === WebSocket.OPEN)) return;
  const content = { message: text.value };
  const card = new Card(JSON.stringify(content));
  log.prepend(card.item);
  for (const side in SIDES) {
    awaited[side].outbound.push(card);
    awaited[side].inbound.push(card);
    links[side].socket.sendJSON(content);
  }
});
