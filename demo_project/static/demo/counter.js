// The counter: one message at a time, or as fast as the answers come.

import { keepOpen } from "./link.js";

const number = document.getElementById("number");
const rate = document.getElementById("rate");
const run = document.getElementById("run");
let value = 0;
let running = false;
let counted = 0; // since the rate was last shown
let since = performance.now();
let link = open();

function open() {
  const { value: profile } = document.querySelector("input[name=profile]:checked");
  return keepOpen("/ws/counter/", {
    status: document.getElementById("status"),
    options: profile ? { profile } : {},
    on: { open: goOn, message: receive },
  });
}

function count() {
  if (link.socket.readyState === WebSocket.OPEN) link.socket.sendJSON({ id: value });
}

function goOn() {
  if (running) count();
}

function receive({ data }) {
  value = JSON.parse(data).id;
  number.textContent = value;
  counted += 1;
  const elapsed = performance.now() - since;
  if (running && elapsed > 500) {
    rate.textContent = `${Math.round((1000 * counted) / elapsed)} round trips per second`;
    counted = 0;
    since = performance.now();
  }
  goOn();
}

document.getElementById("count").addEventListener("click", count);

run.addEventListener("click", () => {
  running = !running;
  run.setAttribute("aria-pressed", running);
  run.textContent = running ? "Stop" : "Run";
  counted = 0;
  since = performance.now();
  goOn();
});

for (const choice of document.querySelectorAll("input[name=profile]")) {
  choice.addEventListener("change", () => {
    link.stop();
    link = open();
  });
}
