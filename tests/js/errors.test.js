// What errors say, and that no error goes unseen.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { EncryptedWebSocket, GcryptError } from "#client";

const TYPES = readFileSync(new URL("../../js/src/types.d.ts", import.meta.url), "utf8");

/** Every code, as the public type lists them. */
const CODES = [
  ...TYPES.split("ErrorCode =")[1]
    .split("\n\n")[0]
    .matchAll(/\| "([^"]+)"/g),
].map(([, code]) => code);

suite("an error", () => {
  for (const code of CODES) {
    test(`${code} has a sentence`, () => {
      const { message } = new GcryptError(code, code === "csrf" ? "the server's words" : undefined);
      assert.notEqual(message, code);
      assert.match(message, / /);
    });
  }

  const Forbidden = class {
    constructor() {
      throw new DOMException("mixed content", "SecurityError");
    }
  };
  const key = { kid: "00".repeat(8), psk: "A".repeat(43) };
  /** What was written of the client; Node.js writes warnings there, too. */
  const written = ({ calls }) =>
    calls.map((each) => `${each.arguments}`).filter((line) => line.startsWith("ws:"));
  const make = () => new EncryptedWebSocket("ws://h/room/", [], { WebSocket: Forbidden, key });

  test("that nobody listens for is written to the console, once", async (t) => {
    const { mock } = t.mock.method(console, "error", () => {});
    const socket = make();
    await once(socket, "close");
    assert.deepEqual(written(mock), [
      "ws://h/room/: GcryptError: connection-failed: see the server's log",
    ]);
  });

  for (const [name, hear] of Object.entries({
    "an event listener": (socket, heard) => socket.addEventListener("error", heard),
    "an object that listens": (socket, handleEvent) =>
      socket.addEventListener("error", { handleEvent }, { once: true }),
    onerror: (socket, heard) => Object.assign(socket, { onerror: heard }),
  })) {
    test(`that ${name} hears is not written to the console`, async (t) => {
      const { mock } = t.mock.method(console, "error", () => {});
      const socket = make();
      let heard = 0;
      hear(socket, () => heard++);
      await once(socket, "close");
      assert.deepEqual([heard, written(mock)], [1, []]);
    });
  }
});
