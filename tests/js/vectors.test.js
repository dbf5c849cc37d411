// gcrypt.v3 and gcrypt.v2, frame by frame, against transcripts of independent implementations.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { suite, test } from "node:test";

import { Handshake, importEphemeral, importServerKeys, PROFILES, V2, V3 } from "./peer.js";
import { importClient, listen, vectors, wireClass } from "./wire.js";

const hex = (text) => Buffer.from(text, "hex");
const concernClient = ({ steps, sender = steps.at(-1).from }) => sender === "server";

/**
 * WebCrypto draws the randomness of an encapsulation itself, so what came of the vector's is taken out
 * of its REPLY, with the server's keys.
 */
async function mockEncapsulation(t, vector, hello, reply) {
  const keys = importServerKeys(hex(vector.server_ephemeral), hex(vector.kem_seed));
  const noise = new Handshake(hex(vector.psk), hex(vector.kid), V3, keys);
  const written = noise.write(JSON.stringify({ max_message: hello.max_message }));
  assert.equal(written.toString("hex"), hello.frames[0].slice(18)); // behind type and kid
  noise.read(hex(reply.frames[0]).subarray(1));
  const sharedKey = await crypto.subtle.importKey("raw", noise.secret, "HKDF", false, [
    "deriveBits",
  ]);
  const { ciphertext } = noise;
  t.mock.method(crypto.subtle, "encapsulateKey", async () => ({ ciphertext, sharedKey }));
}

/** Open a connection of the vectors up to the client's REPLY, which is checked. */
async function begin(t, vector, profile) {
  const { EncryptedWebSocket } = await importClient({ rekeyInterval: vector.rekey_interval });
  const ephemeral = await importEphemeral(hex(vector.client_ephemeral));
  t.mock.method(crypto.subtle, "generateKey", async () => ephemeral);
  const Wire = wireClass();
  const made = Wire.next();
  const reply = vector.steps.find(({ event }) => event === "reply");
  if (profile === V3 && reply) await mockEncapsulation(t, vector, vector.steps[0], reply);
  const socket = new EncryptedWebSocket(
    `ws://${vector.host}${vector.target}`,
    reply?.subprotocols,
    {
      WebSocket: Wire,
      profile: profile === V3 ? undefined : profile, // both are offered
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

for (const [profile, file] of [
  [V3, "v3"],
  [V2, "v2"],
])
  suite(profile, { skip: !PROFILES.includes(profile) }, () => {
    const { connections, received = [], refused } = vectors(file);

    suite("complete connections", () => {
      // A page cannot close with 1001.
      const possible = ({ name }) => name !== "closed by the client before the accept";
      for (const vector of [...connections.filter(possible), ...received.filter(concernClient)]) {
        test(vector.name, async (t) => {
          const { socket, wire, events } = await begin(t, vector, profile);
          await play(socket, wire, events, vector.steps);
          if (socket.readyState === 1) socket.close();
          await events.types();
        });
      }
    });

    suite("frames that the client refuses", () => {
      for (const vector of refused.filter(concernClient)) {
        test(vector.name, async (t) => {
          const { socket, wire, events } = await begin(t, vector, profile);
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
          const foreignKey =
            /^(v3: )?HELLO (cut to its first byte|with a bit of the kid flipped)$/.test(
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
  });
