// The chat room: what was said, and the frame in which this window received it.

import { keepOpen } from "./link.js";
import { wire } from "./wire.js";

const me = document.getElementById("user").textContent;
const messages = document.getElementById("messages");
const text = document.getElementById("text");
let lastFrame = null; // the frame whose message is delivered next

function addMessage({ user, message }) {
  const item = document.createElement("li");
  if (user === me) item.className = "own";
  const name = document.createElement("p");
  name.className = "name";
  name.textContent = user;
  const bubble = document.createElement("p");
  bubble.className = "bubble";
  bubble.textContent = message;
  item.append(name, bubble, wire(lastFrame));
  messages.append(item);
  messages.scrollTop = messages.scrollHeight;
}

function addGap({ missed }) {
  const item = document.createElement("li");
  item.className = "gap";
  item.textContent = `at least ${missed} message${missed === 1 ? "" : "s"} lost on the way here`;
  messages.append(item);
}

const link = keepOpen("/ws/chat/lobby/", {
  status: document.getElementById("status"),
  options: { inspect: true },
  on: {
    frame: ({ direction, kind, data }) => {
      if (direction === "inbound" && kind === "TEXT") lastFrame = data;
    },
    message: ({ data }) => addMessage(JSON.parse(data)),
    gap: addGap,
  },
});

document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (link.socket.readyState !== WebSocket.OPEN) return;
  link.socket.sendJSON({ message: text.value });
  text.value = "";
});
