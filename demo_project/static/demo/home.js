// The front page: a counter, seen by the application and seen on the wire.

import { keepOpen } from "./link.js";
import { wire } from "./wire.js";

const ROWS = 6;
const log = document.getElementById("log");
const button = document.getElementById("count");
let number = 0;
let untilQuiet = 2; // counts on by itself, then waits for the visitor

function addRow({ direction, kind, plaintext, data }) {
  const isMessage = kind === "TEXT";
  const row = document.createElement("li");
  row.className = isMessage ? direction : `${direction} handshake`;
  const plain = document.createElement("span");
  plain.className = "plain";
  plain.textContent = isMessage ? plaintext : "handshake";
  row.append(plain, wire(data, 16));
  log.append(row);
  while (log.children.length > ROWS) log.firstChild.remove();
}

const link = keepOpen("/ws/counter/", {
  status: document.getElementById("status"),
  options: { inspect: true },
  on: {
    open: () => link.socket.sendJSON({ id: number }),
    message: ({ data }) => {
      number = JSON.parse(data).id;
      if (--untilQuiet > 0) link.socket.sendJSON({ id: number });
    },
    frame: (event) => {
      if (event.kind !== "CONTROL") addRow(event);
    },
  },
});

button.addEventListener("click", () => {
  if (link.socket.readyState === WebSocket.OPEN) link.socket.sendJSON({ id: number });
});
