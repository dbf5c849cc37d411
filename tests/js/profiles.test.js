// Which profiles the client offers, and what it makes of the server's choice.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import WebSocket from "ws";

import { NEEDS_V3, newKey, PROFILES, startServer, V2, V3 } from "./peer.js";
import { importClient, listen, visit, wireClass } from "./wire.js";

const key = newKey();
const kid = `gcrypt.kid.${key.json.kid}`;

/** The runtime answers as one without ML-KEM-768 does. */
function withoutMlKem(t) {
  const importKey = crypto.subtle.importKey.bind(crypto.subtle);
  return t.mock.method(crypto.subtle, "importKey", async (format, bytes, algorithm, ...rest) => {
    if (algorithm === "ML-KEM-768") throw new DOMException("", "NotSupportedError");
    return importKey(format, bytes, algorithm, ...rest);
  });
}

/** What a socket asks for. */
async function offered(options = {}) {
  const { EncryptedWebSocket } = await importClient();
  const Wire = wireClass();
  const made = Wire.next();
  const socket = new EncryptedWebSocket("ws://h/", [], {
    WebSocket: Wire,
    key: key.json,
    ...options,
  });
  const { types } = listen(socket);
  const { protocols } = await made;
  socket.close();
  await types();
  return protocols;
}

/** What a socket gets of a server that selects by `select`. */
async function opened(t, select, options = {}) {
  const { EncryptedWebSocket } = await importClient();
  const { url } = await startServer(t, (connection) => connection.accept(key), undefined, select);
  const socket = new EncryptedWebSocket(url, [], { WebSocket, key: key.json, ...options });
  const { next } = listen(socket);
  return { socket, event: await next(), next };
}

suite("the offer", () => {
  test("has gcrypt.v3 before gcrypt.v2", NEEDS_V3, async () => {
    assert.deepEqual(await offered(), [V3, V2, kid]);
  });

  test("has gcrypt.v2 alone where the runtime lacks ML-KEM-768", async (t) => {
    withoutMlKem(t);
    assert.deepEqual(await offered(), [V2, kid]);
  });

  test("has the profiles that the site enables, in their order", NEEDS_V3, async (t) => {
    for (const [profiles, expected] of [
      [
        [V2, V3],
        [V2, V3],
      ],
      [[V2, "gcrypt.v1"], [V2]],
      [["gcrypt.v9", V3], [V3]],
      [["gcrypt.v1", V3], ["gcrypt.v1"]],
    ]) {
      visit(t, { config: { profiles } });
      const classic = expected[0] === "gcrypt.v1" && { key: { passphrase: "a passphrase" } };
      const tokens = classic ? expected : [...expected, kid];
      assert.deepEqual(await offered(classic || {}), tokens);
    }
  });

  test("has no other than the one that the code names", NEEDS_V3, async (t) => {
    visit(t, { config: { profiles: ["gcrypt.v1"] } });
    assert.deepEqual(await offered({ profile: V2 }), [V2, kid]);
    assert.deepEqual(await offered({ profile: V3 }), [V3, kid]);
  });

  test("is none where gcrypt.v3 is a must and ML-KEM-768 is missing", async (t) => {
    withoutMlKem(t);
    const { EncryptedWebSocket } = await importClient();
    const options = { WebSocket: class {}, key: key.json, profile: V3 };
    const socket = new EncryptedWebSocket("ws://h/", [], options);
    const { seen, types } = listen(socket);
    assert.deepEqual(await types(), ["error", "close"]);
    assert.equal(seen[0].error.code, "unsupported");
  });

  test("costs one trial, however many sockets there are", async (t) => {
    const importKey = withoutMlKem(t);
    const { EncryptedWebSocket } = await importClient();
    for (let i = 0; i < 3; i++) {
      const Wire = wireClass();
      const made = Wire.next();
      const socket = new EncryptedWebSocket("ws://h/", [], { WebSocket: Wire, key: key.json });
      await made;
      socket.close();
    }
    const trials = importKey.mock.calls.filter(
      ({ arguments: [, , name] }) => name === "ML-KEM-768",
    );
    assert.equal(trials.length, 1);
  });
});

suite("the server's choice", () => {
  for (const profile of PROFILES) {
    test(`may be ${profile}`, async (t) => {
      const { socket, event } = await opened(t, () => profile);
      assert.equal(event.type, "open");
      assert.equal(socket.profile, profile);
    });
  }

  test("opens gcrypt.v3 where the runtime encapsulates bits alone", NEEDS_V3, async (t) => {
    Object.defineProperty(crypto.subtle, "encapsulateKey", {
      value: undefined,
      configurable: true,
    });
    t.after(() => delete crypto.subtle.encapsulateKey);
    const { socket, event } = await opened(t, () => V3);
    assert.equal(event.type, "open");
    assert.equal(socket.profile, V3);
  });

  test("may not be a token that is no profile", async () => {
    const { EncryptedWebSocket } = await importClient();
    const Wire = wireClass();
    for (const choice of [kid, "", "gcrypt.v1"]) {
      const made = Wire.next();
      const socket = new EncryptedWebSocket("ws://h/", [], { WebSocket: Wire, key: key.json });
      const { seen, types } = listen(socket);
      const wire = await made;
      wire.protocol = choice;
      wire.open();
      assert.deepEqual(await types(), ["error", "close"]);
      assert.equal(seen[0].error.code, "invalid-frame");
      assert.deepEqual([seen[1].code, wire.closed[0], wire.sent], [4400, 4400, []]);
    }
  });

  test("may not be a profile that was not offered", NEEDS_V3, async () => {
    const { EncryptedWebSocket } = await importClient();
    const Wire = wireClass();
    const made = Wire.next();
    const options = { WebSocket: Wire, key: key.json, profile: V3 };
    const socket = new EncryptedWebSocket("ws://h/", [], options);
    const { seen, types } = listen(socket);
    const wire = await made;
    wire.protocol = V2;
    wire.open();
    assert.deepEqual(await types(), ["error", "close"]);
    assert.equal(seen[1].code, 4400);
  });
});
