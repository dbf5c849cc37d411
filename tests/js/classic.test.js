// `EncryptedWebSocket` under gcrypt.v1, with a passphrase of the session and with the page's g-crypt.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { suite, test } from "node:test";
import CryptoJS from "crypto-js";
import WebSocket from "ws";
import { Crypt, EncryptedWebSocket } from "#client";

import { startServer } from "./peer.js";
import { listen, wireClass } from "./wire.js";

const GCrypt = createRequire(import.meta.url)("g-crypt");
const passphrase = "a passphrase, of words";
const server = GCrypt(passphrase); // the other end is the real one
const options = { WebSocket, profile: "gcrypt.v1", key: { passphrase } };

/** Sends back each value, in a list. */
async function echo(connection) {
  for (;;) connection.raw(server.encrypt([server.decrypt(await connection.frame())]));
}

async function opened(t, serve, more = options, protocols = []) {
  const { url } = await startServer(t, serve);
  const socket = new EncryptedWebSocket(url, protocols, more);
  const events = listen(socket);
  assert.equal((await events.next()).type, "open");
  return { socket, events };
}

suite("gcrypt.v1", () => {
  const ways = {
    "a session's passphrase": options,
    "our Crypt": { WebSocket, crypt: Crypt(passphrase) },
    "the page's own g-crypt": { WebSocket, crypt: GCrypt(passphrase) },
  };
  for (const [name, way] of Object.entries(ways)) {
    test(`counts with g-crypt by ${name}`, async (t) => {
      const { socket, events } = await opened(t, echo, way);
      assert.equal(socket.profile, "gcrypt.v1");
      socket.sendJSON({ id: 1, text: "grüße 😀" });
      assert.equal((await events.next()).data, '[{"id":1,"text":"grüße 😀"}]');
      socket.send(" 2 ");
      assert.equal((await events.next()).data, "[2]");
    });
  }

  // What JSON.parse and JSON.stringify would change between them.
  const EXACT = '{ "b": 76561198028033919, "a": -0, "1": 1e400, "0": 1.0, "c": "\\u00e9" }';
  for (const name of ["a session's passphrase", "our Crypt"]) {
    test(`carries JSON text as it is by ${name}`, async (t) => {
      let sealed;
      const { socket, events } = await opened(
        t,
        async (connection) => {
          sealed = await connection.frame();
          connection.raw(sealed);
        },
        ways[name],
      );
      socket.send(EXACT);
      assert.equal((await events.next()).data, EXACT);
      const { ct, s } = JSON.parse(sealed);
      const params = { ciphertext: CryptoJS.enc.Base64.parse(ct), salt: CryptoJS.enc.Hex.parse(s) };
      const text = CryptoJS.AES.decrypt(params, passphrase).toString(CryptoJS.enc.Utf8);
      assert.equal(text, EXACT);
    });
  }

  test("refuses a frame whose plaintext is not JSON text", async (t) => {
    const { events } = await opened(t, (connection) => {
      const { ciphertext, iv, salt } = CryptoJS.AES.encrypt("{id: 1}", passphrase);
      const ct = ciphertext.toString(CryptoJS.enc.Base64);
      connection.raw(JSON.stringify({ ct, iv: iv.toString(), s: salt.toString() }));
    });
    assert.deepEqual(await events.types(), ["open", "error", "close"]);
    assert.equal(events.seen[1].error.code, "decryption-failed");
  });

  test("fetches its passphrase from the key endpoint", async (t) => {
    const { url, keyUrl } = await startServer(t, echo, () => [
      200,
      { "gcrypt.v1": { passphrase } },
    ]);
    const socket = new EncryptedWebSocket(url, [], { WebSocket, profile: "gcrypt.v1", keyUrl });
    const { next } = listen(socket);
    await next();
    socket.send("null");
    assert.equal((await next()).data, "[null]");
  });

  test("offers its profile before the application's subprotocols", async (t) => {
    let offers;
    const { socket } = await opened(
      t,
      (connection) => {
        offers = connection.request.headers["sec-websocket-protocol"];
      },
      options,
      ["json"],
    );
    assert.equal(offers, "gcrypt.v1,json");
    assert.equal(socket.protocol, "");
  });

  test("keeps the order of messages both ways", async (t) => {
    const { socket, events } = await opened(t, echo);
    const size = (i) => (i % 2 ? 10 : 20_000);
    for (let i = 0; i < 100; i++) socket.sendJSON([i, "x".repeat(size(i))]);
    for (let i = 0; i < 100; i++) assert.equal(JSON.parse((await events.next()).data)[0][0], i);
  });

  test("refuses what is not JSON text, at once", async (t) => {
    const { socket } = await opened(t, echo);
    for (const data of [
      "",
      "{",
      "text",
      new Uint8Array([49]),
      new ArrayBuffer(1),
      new Blob(["1"]),
    ]) {
      assert.throws(() => socket.send(data), { name: "GcryptError", code: "not-json" });
    }
    assert.equal(socket.readyState, socket.OPEN);
  });

  test("has no padding", async (t) => {
    const { socket, events } = await opened(t, echo, { ...options, padding: true });
    socket.send("1");
    assert.equal((await events.next()).data, "[1]");
  });

  test("ends with 4400 at the first frame that does not open", async (t) => {
    let closed;
    const { events } = await opened(t, async (connection) => {
      closed = connection.closed;
      connection.raw(server.encrypt(1));
      connection.raw(GCrypt("another").encrypt(2));
      connection.raw(server.encrypt(3));
    });
    assert.deepEqual(await events.types(), ["open", "message", "error", "close"]);
    assert.equal(events.seen[2].error.code, "decryption-failed");
    assert.deepEqual([events.seen[3].code, (await closed).code], [4400, 4400]);
  });

  for (const [name, frame] of [
    ["binary", Buffer.from("1")],
    ["plaintext", '{"id":1}'],
  ]) {
    test(`ends at a ${name} frame`, async (t) => {
      const { events } = await opened(t, (connection) => connection.raw(frame));
      assert.deepEqual(await events.types(), ["open", "error", "close"]);
    });
  }

  test("cannot tell an authentic end, and does not claim to", async (t) => {
    const { events } = await opened(t, (connection) => connection.socket.close(4000, "reason"));
    const { code, reason, wasClean, authentic } = await events.next();
    assert.deepEqual([code, reason, wasClean, authentic], [4000, "reason", true, false]);
  });

  test("closes with its reason in the clear, behind what was sent", async (t) => {
    const served = [];
    const { socket, events } = await opened(t, async (connection) => {
      served.push(server.decrypt(await connection.frame()), await connection.closed);
    });
    socket.send("1");
    socket.close(3000, "bye");
    const { code, reason, authentic } = await events.next();
    assert.deepEqual([code, reason, authentic], [3000, "bye", false]);
    assert.deepEqual(served, [1, { code: 3000, reason: "bye" }]);
  });

  test("says 1005 where the wire has no code", async (t) => {
    const { socket, events } = await opened(t, (connection) => connection.socket.close());
    assert.equal((await events.next()).code, 1005);
    const Wire = wireClass();
    const made = Wire.next();
    const other = new EncryptedWebSocket("ws://h/", [], { ...options, WebSocket: Wire });
    const { next } = listen(other);
    const wire = await made;
    wire.open();
    await next();
    wire.onclose({ wasClean: true });
    const { code, reason } = await next();
    assert.deepEqual([code, reason, socket.readyState], [1005, "", 3]);
  });

  test("says what the wire says after close(), as a WebSocket does", async (t) => {
    const { socket, events } = await opened(t, (connection) => {
      connection.socket.terminate();
    });
    socket.close(3000, "bye");
    const { code, wasClean } = await events.next();
    assert.deepEqual([code, wasClean], [1006, false]);
  });

  test("needs no WebCrypto with the page's own g-crypt", async (t) => {
    const { value } = { value: globalThis.crypto };
    const set = (crypto) =>
      Object.defineProperty(globalThis, "crypto", {
        value: crypto,
        configurable: true,
        writable: true,
      });
    t.after(() => set(value));
    const { url } = await startServer(t, echo);
    set({ getRandomValues: value.getRandomValues.bind(value) });
    const socket = new EncryptedWebSocket(url, [], { WebSocket, crypt: GCrypt(passphrase) });
    const { next } = listen(socket);
    await next();
    socket.send("1");
    assert.equal((await next()).data, "[1]");
    assert.throws(() => new EncryptedWebSocket(url, [], options), { code: "unsupported" });
  });

  test("shows its frames for inspection", async (t) => {
    const { url } = await startServer(t, echo);
    const socket = new EncryptedWebSocket(url, [], { ...options, inspect: true });
    const frames = [];
    socket.onframe = ({ direction, kind, data, plaintext }) =>
      frames.push([direction, kind, server.decrypt(data), plaintext]);
    const { next } = listen(socket);
    await next();
    socket.send("1");
    await next();
    assert.deepEqual(frames, [
      ["outbound", "TEXT", 1, "1"],
      ["inbound", "TEXT", [1], "[1]"],
    ]);
  });
});
