// gcrypt.v2, frame by frame, against transcripts of an independent implementation.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { suite, test } from "node:test";

import { importEphemeral } from "./peer.js";
import { importClient, listen, vectors, wireClass } from "./wire.js";

const { connections, received, refused } = vectors("v2");
const hex = (text) => Buffer.from(text, "hex");
const concernClient = ({ steps, sender = steps.at(-1).from }) => sender === "server";

/** Open a connection of the vectors up to the client's REPLY, which is checked. */
async function begin(t, vector) {
  const { EncryptedWebSocket } = await importClient({ rekeyInterval: vector.rekey_interval });
  const ephemeral = await importEphemeral(hex(vector.client_ephemeral));
  t.mock.method(crypto.subtle, "generateKey", async () => ephemeral);
  const Wire = wireClass();
  const made = Wire.next();
  const reply = vector.steps.find(({ event }) => event === "reply");
  const socket = new EncryptedWebSocket(
    `ws://${vector.host}${vector.target}`,
    reply?.subprotocols,
    {
      WebSocket: Wire,
      key: { kid: vector.kid, psk: hex(vector.psk).toString("base64url") },
      maxMessage: vector.client_max_message,
      padding: vector.padding,
    },
  );
  const wire = await made;
  wire.open();
  return { socket, wire, events: listen(socket) };
}

/** Take the client's own step: what it sends has to be the vector's frames. */
async function act(socket, wire, step) {
  const first = wire.sent.length;
  if (step.event === "text") socket.send(step.text);
  else if (step.event === "binary") socket.send(hex(step.data));
  else if (step.event === "long") socket.send(Buffer.alloc(step.size, step.byte));
  else if (step.event === "close") socket.close(step.code, step.reason);
  const expected = step.frames ?? step.sha256;
  const frames = [];
  for (let i = 0; i < expected.length; i++) {
    // REPLY may already have gone out.
    frames.push(await wire.frame(step.event === "reply" ? i : first + i));
  }
  const shown = frames.map((frame) =>
    step.frames
      ? Buffer.from(frame).toString("hex")
      : createHash("sha256").update(frame).digest("hex"),
  );
  assert.deepEqual(shown, expected);
}

/** What the page has to see of a server's step. */
async function observe(socket, events, step) {
  if (["hello", "ignored"].includes(step.event)) return;
  const event = await events.next();
  const types = { accept: "open", text: "message", binary: "message" };
  assert.equal(event.type, types[step.event] ?? step.event);
  if (step.event === "accept") assert.equal(socket.protocol, step.subprotocol ?? "");
  else if (step.event === "text") assert.equal(event.data, step.text);
  else if (step.event === "binary") assert.deepEqual(Buffer.from(event.data), hex(step.data));
  else if (step.event === "gap")
    assert.deepEqual([event.group, event.missed], [step.group, step.missed]);
  else if (step.event === "close") {
    const { code, reason, wasClean, authentic } = event;
    assert.deepEqual([code, reason, wasClean, authentic], [step.code, step.reason, true, true]);
  }
}

async function play(socket, wire, events, steps) {
  socket.binaryType = "arraybuffer";
  for (const step of steps) {
    if (step.from === "client") await act(socket, wire, step);
    else {
      for (const frame of step.frames) wire.deliver(hex(frame));
      if (step.event === "close" && socket.readyState === 0)
        assert.equal((await events.next()).error.code, "rejected");
      await observe(socket, events, step);
    }
    if (step.event === "close") return; // the vectors go on; a page is not told and cannot send
  }
}

suite("complete connections", () => {
  // A page cannot close with 1001.
  const possible = ({ name }) => name !== "closed by the client before the accept";
  for (const vector of [...connections.filter(possible), ...received.filter(concernClient)]) {
    test(vector.name, async (t) => {
      const { socket, wire, events } = await begin(t, vector);
      await play(socket, wire, events, vector.steps);
      if (socket.readyState === 1) socket.close();
      await events.types();
    });
  }
});

suite("frames that the client refuses", () => {
  for (const vector of refused.filter(concernClient)) {
    test(vector.name, async (t) => {
      const { socket, wire, events } = await begin(t, vector);
      const last = vector.steps.at(-1);
      await play(socket, wire, events, vector.steps.slice(0, -1));
      const before = events.seen.map(({ type }) => type);
      const sent = wire.sent.length;
      for (const frame of last.frames) wire.deliver(hex(frame));
      const after = (await events.types()).slice(before.length);
      const close = events.seen.at(-1);
      if (/after a close|second close/.test(vector.name)) {
        // The authenticated close has ended the connection; what follows it is not looked at.
        assert.deepEqual(after, ["close"]);
        assert.equal(close.authentic, true);
        return;
      }
      assert.deepEqual(after, ["error", "close"]);
      const { error } = events.seen.at(-2);
      const foreignKey = /^HELLO (cut to its first byte|with a bit of the kid flipped)$/.test(
        vector.name,
      );
      const code = foreignKey
        ? "key-mismatch"
        : last.code === 1009
          ? "message-too-big"
          : "invalid-frame";
      assert.equal(error.code, code);
      assert.deepEqual(
        [close.code, close.wasClean, close.authentic],
        [last.code, false, last.code === 1009],
      );
      // 1009 is told under encryption, for a page may not send it; 4400 has no keys to tell it.
      assert.equal(wire.sent.length - sent, last.code === 1009 ? 1 : 0);
      assert.equal(wire.closed[0], last.code);
    });
  }
});
