// g-crypt in Node, for sessions.py: µs of CPU to encrypt and decrypt one value of each size asked for.
"use strict";

const Crypt = require("g-crypt");
globalThis.CryptoJS = require("crypto-js"); // where g-crypt looks for it

const ROUND_MICROSECONDS = 200e3;

const crypt = Crypt("p".repeat(43));

function microseconds(work) {
  for (let calls = 1; ; calls *= 2) {
    const start = process.cpuUsage();
    for (let i = 0; i < calls; i++) work();
    const { user, system } = process.cpuUsage(start);
    if (user + system >= ROUND_MICROSECONDS) return (user + system) / calls;
  }
}

const figures = process.argv.slice(2).map((size) => {
  const value = "x".repeat(Number(size) - 2);
  const work = () => crypt.decrypt(crypt.encrypt(value));
  microseconds(work); // until the compiler has seen it
  return microseconds(work);
});
console.log(JSON.stringify(figures));
