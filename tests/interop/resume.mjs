// A page that comes back: `node resume.mjs URL KID PSK`. For each line of the input it does what the line
// says, and prints what it has heard since, as one line of JSON.

import { createInterface } from "node:readline";

import { EncryptedWebSocket } from "#client";

const [url, kid, psk] = process.argv.slice(2);
let socket;
let heard = [];
let wanted = 0;
let tell = () => {};

function hear(what) {
  heard.push(what);
  if (heard.length >= wanted) tell();
}

function connect(resume) {
  socket = new EncryptedWebSocket(url, [], { key: { kid, psk }, resume });
  socket.onjoined = ({ group, recovered }) => hear({ group, recovered });
  socket.onmessage = ({ data, position }) => hear({ number: JSON.parse(data)[0], position });
  socket.onclose = ({ authentic }) => hear({ closed: authentic });
}

const actions = {
  connect: () => connect([]),
  leave: () => socket.close(),
  comeBack: () => connect(socket.positions),
  wait: () => {},
};

for await (const line of createInterface({ input: process.stdin })) {
  const [action, count] = line.split(" ");
  wanted = Number(count);
  const told = new Promise((resolve) => {
    tell = resolve;
  });
  actions[action]();
  if (heard.length < wanted) await told;
  console.log(JSON.stringify(heard.splice(0)));
}

process.exit(); // the socket is open
