// The stage of the front page: one message on its way from alice to bob, and eight attacks on it.
//
// This page is alice. It sends each message over two sockets, one plain and one encrypted. All that
// the other three columns show comes from the server's stream of observations.

import { EncryptedWebSocket } from "gcrypt_channels";

import { Row, sign } from "./stage-row.js";

const ROWS = 3;
const PERIOD = 4200; // milliseconds between two messages of its own
const MOST = 40; // of them
const SIDES = ["plain", "gcrypt"];
const PATIENCE = 1500; // milliseconds for a message to arrive before the next one is sent
// None of these is what an attack has alice say: what is under way cannot be taken for its result.
const TALK = [
  "The key is under the mat",
  "Please pay dave 20",
  "Noon, at the usual place",
  "My number is 555 0134",
  "The offer is 2.4 million",
];
const LIMIT = 8000; // milliseconds for an attack
const MARKS = { open: "▲", sealed: "■", refused: "✕", none: "–" };
const REFUSED = 4400;
const LAST = "logout"; // ends the login that the others need

const $ = (selector) => document.querySelector(selector);
const root = document.documentElement;
const rows = $("#rows");
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const endpoint = $("#stage").dataset.endpoint;

let sandbox = null; // { name, paths }
const sockets = { plain: null, gcrypt: null };
let row = null;
let paused = calm;
let turn = 0;
let timer = 0;
let switching = 0;

// The switch between the two servers

function setMode(mode) {
  root.dataset.mode = mode;
  $(`input[name="mode"][value="${mode}"]`).checked = true;
}

function touched() {
  clearTimeout(switching);
}

$(".switch").addEventListener("change", ({ target }) => {
  touched();
  setMode(target.value);
});
$("#stage").addEventListener("pointerdown", touched);
addEventListener("keydown", touched);

// Requests

async function post(path) {
  const token =
    document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ??
    $("[name=csrfmiddlewaretoken]").value;
  const answer = await fetch(path, {
    method: "POST",
    headers: { "X-CSRFToken": token },
    signal: AbortSignal.timeout(LIMIT),
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error ?? `The server answered ${answer.status}.`);
  return body;
}

// Sockets

function url(side) {
  return `${location.protocol.replace("http", "ws")}//${location.host}${sandbox.paths[side]}`;
}

/** A socket that comes back until the sandbox ends; what waits for it is sent when it is open. */
class Line {
  constructor(side) {
    this.side = side;
    this.waiting = [];
    this.watchers = [];
    this.wait = 100;
    this.connect();
  }

  /** Wait until the socket is open. */
  opened() {
    if (this.socket?.readyState === WebSocket.OPEN) return Promise.resolve();
    return new Promise((resolve) => this.watchers.push(resolve));
  }

  connect() {
    const socket =
      this.side === "plain" ? new WebSocket(url("plain")) : new EncryptedWebSocket(url("gcrypt"));
    this.socket = socket;
    socket.addEventListener("open", () => {
      if (this.socket !== socket) return;
      this.wait = 100;
      for (const opened of this.watchers.splice(0)) opened();
      for (const text of this.waiting.splice(0)) this.send(text);
    });
    socket.addEventListener("close", ({ code }) => {
      if (this.socket !== socket) return;
      this.socket = null;
      if (code === REFUSED) this.waiting = []; // it was to be said on that connection
      this.timer = setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(this.wait * 2, 2000);
    });
    socket.addEventListener("error", () => {}); // the close that follows says all that matters here
  }

  reopen() {
    this.end();
    this.connect();
  }

  send(text) {
    if (this.socket?.readyState === WebSocket.OPEN)
      this.socket.send(JSON.stringify({ message: text }));
    else this.waiting.push(text);
  }

  end() {
    clearTimeout(this.timer);
    const { socket } = this;
    this.socket = null;
    socket?.close();
  }
}

// Messages

function show(text) {
  row = new Row(text, calm);
  rows.prepend(row.element);
  while (rows.children.length > ROWS) rows.lastChild.remove();
  for (const [index, each] of [...rows.children].entries()) each.style.setProperty("--i", index);
}

let said = Promise.resolve();

/** Send a message when the one before has arrived: what is observed belongs to the last row. */
function say(text) {
  said = said.then(async () => {
    show(text);
    for (const side of SIDES) sockets[side].send(text);
    row.travel();
    await row.complete(PATIENCE);
  });
}

function goOn() {
  clearInterval(timer);
  if (paused) return;
  timer = setInterval(() => {
    if (document.hidden || busy || turn >= MOST) return;
    say(TALK[turn++ % TALK.length]);
  }, PERIOD);
}

function observed({ data }) {
  const note = JSON.parse(data);
  if (note.at !== "page") {
    row?.observe(note);
    return;
  }
  if (note.over) end("The sandbox has ended. Reload the page for a new one.");
  if (note.reopen) for (const side of SIDES) sockets[side].reopen();
  if (note.say) say(note.say);
  if (note.show) show(note.show);
  if (note.renew) renewed = begin();
}

// The sandbox

let stream = null;
let renewed = Promise.resolve();

async function begin() {
  end("");
  sandbox = await post(endpoint);
  await new Promise((open) => {
    stream = new EventSource(`${endpoint}${sandbox.name}/events/`);
    stream.addEventListener("open", open, { once: true });
    stream.addEventListener("message", observed);
  });
  for (const side of SIDES) sockets[side] = new Line(side);
}

function end(text) {
  stream?.close();
  for (const side of SIDES) sockets[side]?.end();
  clearInterval(timer);
  $("#trouble").textContent = text;
}

// Attacks

let busy = false;
const buttons = [...document.querySelectorAll(".attack")];
const results = new Map();

function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

function mark(name, { tone, mark: word }) {
  const spoken = element("span", "sr", `${name}: `);
  return element("span", `t-${tone}`, spoken, `${MARKS[tone]} ${word}`);
}

function side(name, which, { tone, word, got, saw, why }) {
  const facts = document.createElement("dl");
  for (const [term, text] of [
    ["The attacker got", got],
    ["The client saw", saw],
    ["Why", why],
  ]) {
    facts.append(element("dt", "", term), element("dd", "", text));
  }
  const made = element("section", `side s-${tone}`);
  made.dataset.side = which;
  made.append(element("h4", "", name), element("p", `word t-${tone}`, sign(tone), word), facts);
  return made;
}

function report(name, did, { plain, gcrypt }) {
  $("#v-name").textContent = name;
  $("#v-did").textContent = did;
  $("#sides").replaceChildren(
    side("Plain Channels", "plain", plain),
    side("gcrypt_channels", "gcrypt", gcrypt),
  );
}

async function press(button) {
  const name = button.querySelector("b").textContent;
  const marks = button.querySelector(".marks");
  for (const each of buttons) each.setAttribute("aria-pressed", each === button);
  button.setAttribute("aria-busy", "true");
  marks.textContent = "running";
  try {
    await renewed;
    // The attack is for what alice does next, and not for a socket that is just coming back.
    await Promise.all([said, ...SIDES.map((each) => sockets[each].opened())]);
    const result = await post(`${endpoint}${sandbox.name}/attacks/${button.dataset.attack}/`);
    await renewed;
    results.set(button.dataset.attack, result);
    marks.replaceChildren(
      mark("plain Channels", result.plain),
      mark("gcrypt_channels", result.gcrypt),
    );
    report(name, button.dataset.did, result);
    return `${name}. Plain Channels: ${result.plain.word}. gcrypt_channels: ${result.gcrypt.word}.`;
  } catch (error) {
    const why = error.name === "TimeoutError" ? `no answer in ${LIMIT / 1000} s` : error.message;
    marks.textContent = why;
    return `${name}: ${why}`;
  } finally {
    button.removeAttribute("aria-busy");
  }
}

function count(which) {
  return [...results.values()].filter((each) => each[which].tone === "open").length;
}

function summary() {
  const [plain, gcrypt] = SIDES.map(count);
  const of = `of ${results.size} worked`;
  const worked = (which) =>
    buttons
      .filter((each) => results.get(each.dataset.attack)?.[which].tone === "open")
      .map((each) => each.querySelector("b").textContent)
      .join(", ");
  report("All of them", "Every attack above, against both servers, one after the other.", {
    plain: {
      tone: plain ? "open" : "sealed",
      word: `${plain} ${of}`,
      got: worked("plain") || "Nothing.",
      saw: "Nothing, each time.",
      why: "Nothing ties a message to who wrote it, or to its place.",
    },
    gcrypt: {
      tone: gcrypt > 1 ? "open" : "sealed",
      word: `${gcrypt} ${of}`,
      got: worked("gcrypt") || "Nothing.",
      saw: "Close codes that say what happened.",
      why: "A cookie is a login, until alice logs out.",
    },
  });
  return `All were run. Plain Channels: ${plain} ${of}. gcrypt_channels: ${gcrypt} ${of}.`;
}

async function attacking(work) {
  if (busy) return;
  busy = true;
  touched();
  $("#said").textContent = await work();
  busy = false;
  if (matchMedia("(max-width: 52rem)").matches) {
    $("#verdict").scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
  }
}

for (const button of buttons)
  button.addEventListener("click", () => attacking(() => press(button)));
$("#all").addEventListener("click", () =>
  attacking(async () => {
    const able = buttons.filter((each) => !each.disabled);
    const inOrder = able.filter((each) => each.dataset.attack !== LAST);
    inOrder.push(...able.filter((each) => each.dataset.attack === LAST));
    for (const button of inOrder) await press(button);
    for (const button of buttons) button.setAttribute("aria-pressed", "false");
    return summary();
  }),
);

// The form

$("#say").addEventListener("submit", (event) => {
  event.preventDefault();
  touched();
  const input = $("#text");
  const text = input.value.trim();
  if (!text || !sandbox) return;
  say(text);
  input.value = "";
  goOn();
});

function syncPause() {
  const button = $("#pause");
  button.textContent = paused ? "Play" : "Pause";
  button.setAttribute("aria-pressed", paused);
}

$("#pause").addEventListener("click", () => {
  paused = !paused;
  syncPause();
  goOn();
});

// The beginning

setMode(calm ? "gcrypt" : "plain");
if (!calm) switching = setTimeout(() => setMode("gcrypt"), PERIOD - 1000);
syncPause();
addEventListener("pagehide", () => end(""));
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
try {
  await begin();
  say(TALK[turn++]);
  goOn();
  root.dataset.stage = "ready";
} catch (error) {
  $("#trouble").textContent = `The stage did not open. ${error.message}`;
}
