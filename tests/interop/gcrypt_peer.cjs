// g-crypt behind a pipe. The argument names the crypto-js to run it on: "nested" for the 3.x that
// g-crypt depends on, "root" for the one in the project's node_modules.
//
// A line of JSON in, [operation, passphrase, [argument, …]], gives a line of JSON out, a result for
// each argument: ["ok", value] or ["error"]. The first line out is the version of crypto-js.
"use strict";

const path = require("node:path");
const readline = require("node:readline");

const Crypt = require("g-crypt");
const nested = path.dirname(require.resolve("g-crypt"));
const paths = process.argv[2] === "nested" ? [nested] : [__dirname];
const load = (name) => require(require.resolve(name, { paths }));
// g-crypt looks its library up in this global at every call.
globalThis.CryptoJS = load("crypto-js");

const operations = {
  encrypt: (crypt, value) => crypt.encrypt(value),
  decrypt: (crypt, frame) => crypt.decrypt(frame),
  // What the page would have, as text: to compare to the byte.
  decryptAndPrint: (crypt, frame) => JSON.stringify(crypt.decrypt(frame)),
};

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

say(load("crypto-js/package.json").version);
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [operation, passphrase, values] = JSON.parse(line);
  const crypt = Crypt(passphrase);
  say(
    values.map((value) => {
      try {
        return ["ok", operations[operation](crypt, value)];
      } catch {
        return ["error"];
      }
    }),
  );
});
