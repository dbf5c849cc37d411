// The echo of a g-crypt application in Node: ws, and g-crypt on CryptoJS. The passphrase is the argument.
"use strict";

const Crypt = require("g-crypt");
globalThis.CryptoJS = require("crypto-js"); // where g-crypt looks for it
const { WebSocketServer } = require("ws");

const crypt = Crypt(process.argv[2]);
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[3]) });
server.on("connection", (socket) => {
  socket.on("message", (frame) => {
    socket.send(crypt.encrypt(crypt.decrypt(frame.toString())));
  });
});
server.on("listening", () => console.log("Listening"));
