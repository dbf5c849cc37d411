// Where the client gets its keys from, when it asks again, and when it does not.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import WebSocket from "ws";
import { EncryptedWebSocket } from "#client";

import { newKey, startServer } from "./peer.js";
import { importClient, listen } from "./wire.js";

const answer = (key, passphrase = "a passphrase for v1") => [
  200,
  { "gcrypt.v1": { passphrase }, "gcrypt.v2": key.json },
];

/** A page's globals, for as long as the test runs. */
function page(t, globals) {
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    t.after(() =>
      before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name],
    );
  }
}

const documentWith = (cookie, config) => ({
  baseURI: "http://127.0.0.1/",
  cookie,
  getElementById: (id) =>
    id === "gcrypt-config" && config ? { textContent: JSON.stringify(config) } : null,
});

async function outcome(socket) {
  const { seen, types } = listen(socket);
  await types();
  const [error, close] = seen.slice(-2);
  return [error.error?.code, close.code];
}

suite("the key endpoint", () => {
  test("is asked once by POST, for all sockets, also for those that come later", async (t) => {
    const key = newKey();
    const { url, keyUrl, requests } = await startServer(
      t,
      (connection) => connection.accept(key),
      () => answer(key),
    );
    const make = () => listen(new EncryptedWebSocket(url, [], { WebSocket, keyUrl }));
    const both = [make(), make()];
    for (const { next } of both) assert.equal((await next()).type, "open");
    assert.equal((await make().next()).type, "open");
    assert.deepEqual(
      requests.map(({ method, url }) => [method, url]),
      [["POST", "/gcrypt/key/"]],
    );
  });

  test("is asked once more when HELLO names another kid", async (t) => {
    const [old, current] = [newKey(), newKey()];
    const answers = [answer(old), answer(current)];
    const { url, keyUrl, requests } = await startServer(
      t,
      (connection) => connection.accept(current),
      () => answers.shift(),
    );
    const socket = new EncryptedWebSocket(url, [], { WebSocket, keyUrl });
    assert.equal((await listen(socket).next()).type, "open");
    assert.equal(requests.length, 2);
  });

  test("is not asked a third time when the kid still differs", async (t) => {
    const [known, other] = [newKey(), newKey()];
    const { url, keyUrl, requests } = await startServer(
      t,
      (connection) => connection.greet(other),
      () => answer(known),
    );
    const socket = new EncryptedWebSocket(url, [], { WebSocket, keyUrl });
    assert.deepEqual(await outcome(socket), ["key-mismatch", 4400]);
    assert.equal(requests.length, 2);
  });

  test("is not asked at all where the page has the key", async (t) => {
    const [known, other] = [newKey(), newKey()];
    const { url, keyUrl, requests } = await startServer(
      t,
      (connection) => connection.greet(other),
      () => answer(known),
    );
    const socket = new EncryptedWebSocket(url, [], { WebSocket, keyUrl, key: known.json });
    assert.deepEqual(await outcome(socket), ["key-mismatch", 4400]);
    assert.equal(requests.length, 0);
  });

  for (const [status, expected] of [
    [401, ["unauthorized", 4401]],
    [403, ["unauthorized", 4401]],
    [404, ["key-unavailable", 1006]],
    [500, ["key-unavailable", 1006]],
    [200, ["key-unavailable", 1006]], // without a key for the profile
  ]) {
    test(`may refuse with ${status}, and the next socket asks again`, async (t) => {
      const { url, keyUrl, requests } = await startServer(
        t,
        () => assert.fail("connected"),
        () => [status, {}],
      );
      for (let i = 1; i < 3; i++) {
        const socket = new EncryptedWebSocket(url, [], { WebSocket, keyUrl });
        assert.deepEqual(await outcome(socket), expected);
        assert.equal(requests.length, i);
      }
    });
  }

  test("may be out of reach", async () => {
    const socket = new EncryptedWebSocket("ws://127.0.0.1:1/", [], {
      WebSocket,
      keyUrl: "http://127.0.0.1:1/",
    });
    assert.deepEqual(await outcome(socket), ["key-unavailable", 1006]);
  });

  test("may give what is no key", async () => {
    for (const members of [{ kid: 1 }, { kid: "00", psk: "!" }, "x"]) {
      const socket = new EncryptedWebSocket("ws://127.0.0.1:1/", [], { WebSocket, key: members });
      assert.deepEqual(await outcome(socket), ["key-unavailable", 1006]);
    }
  });

  test("is not waited for when the page closes the socket, or time is up", async (t) => {
    const pending = {
      WebSocket: class {
        constructor() {
          assert.fail("connected");
        }
      },
    };
    page(t, { fetch: () => new Promise(() => {}) });
    const hung = "http://hung/";
    const late = new EncryptedWebSocket("ws://h/", [], {
      ...pending,
      keyUrl: hung,
      handshakeTimeout: 20,
    });
    assert.deepEqual(await outcome(late), ["timeout", 4408]);
    const aborted = new EncryptedWebSocket("ws://h/", [], { ...pending, keyUrl: hung });
    aborted.close();
    assert.deepEqual(await outcome(aborted), ["aborted", 1006]);
  });

  test("may answer too late: then no connection is made", async (t) => {
    const key = newKey();
    let answerNow;
    const asked = new Promise((resolve) => {
      page(t, {
        fetch: () => {
          resolve();
          return new Promise(
            (answered) => (answerNow = () => answered(Response.json(answer(key)[1]))),
          );
        },
      });
    });
    const made = [];
    const Wire = class {
      constructor(url) {
        made.push(url);
      }
      close() {
        this.onclose({});
      }
    };
    const make = (url) =>
      new EncryptedWebSocket(url, [], { WebSocket: Wire, keyUrl: "http://late/" });
    const first = make("ws://first/");
    const { types } = listen(first);
    await asked;
    first.close();
    assert.deepEqual(await types(), ["error", "close"]);
    // Both wait for the same answer, the first one in front.
    const second = make("ws://second/");
    answerNow();
    while (!made.length) await new Promise(setImmediate);
    assert.deepEqual(made, ["ws://second/"]);
    second.close();
  });

  test("is asked again after a close with 4401, by the next socket alone", async (t) => {
    const key = newKey();
    const serve = async (connection) => {
      await connection.accept(key);
      connection.close(4401, "logged out");
    };
    const { url, keyUrl, requests } = await startServer(t, serve, () => answer(key));
    for (let i = 1; i < 3; i++) {
      const { types } = listen(new EncryptedWebSocket(url, [], { WebSocket, keyUrl }));
      assert.deepEqual(await types(), ["open", "close"]);
      assert.equal(requests.length, i);
    }
  });

  test("is asked again by a page that comes back from the back/forward cache", async (t) => {
    const target = new EventTarget();
    page(t, { addEventListener: target.addEventListener.bind(target) });
    const { EncryptedWebSocket: InPage } = await importClient();
    const key = newKey();
    const { url, keyUrl, requests } = await startServer(
      t,
      (connection) => connection.accept(key),
      () => answer(key),
    );
    const open = async () =>
      assert.equal((await listen(new InPage(url, [], { WebSocket, keyUrl })).next()).type, "open");
    await open();
    target.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: false }));
    await open();
    assert.equal(requests.length, 1);
    target.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
    await open();
    assert.equal(requests.length, 2);
  });
});

suite("the page", () => {
  const pages = {
    "a cookie": [documentWith("other=1; csrftoken=from-cookie; x=y"), "x-csrftoken", "from-cookie"],
    "a cookie whose name ends alike": [
      documentWith("not-csrftoken=wrong; csrftoken=right"),
      "x-csrftoken",
      "right",
    ],
    "names of its own": [
      documentWith("csrftoken=wrong; __Host-csrf=right", {
        csrfCookie: "__Host-csrf",
        csrfHeader: "X-My-CSRF",
      }),
      "x-my-csrf",
      "right",
    ],
    "a token in its config": [
      documentWith("csrftoken=cookie", { csrfToken: "from-config" }),
      "x-csrftoken",
      "from-config",
    ],
    "no token": [documentWith(""), "x-csrftoken", ""],
  };
  for (const [name, [document, header, token]] of Object.entries(pages)) {
    test(`with ${name} proves that it is of this site`, async (t) => {
      const key = newKey();
      const { url, keyUrl, requests } = await startServer(
        t,
        (connection) => connection.accept(key),
        () => answer(key),
      );
      page(t, { document });
      const { next } = listen(new EncryptedWebSocket(url, [], { WebSocket, keyUrl }));
      await next();
      assert.equal(requests[0].headers[header], token);
    });
  }

  test("says where the key is, and which profile the site has", async (t) => {
    const { url, keyUrl, requests } = await startServer(
      t,
      () => {},
      () => answer(newKey()),
    );
    page(t, { document: documentWith("", { keyUrl, profile: "gcrypt.v1" }) });
    const socket = new EncryptedWebSocket(url, [], { WebSocket });
    assert.equal(socket.profile, "gcrypt.v1");
    await listen(socket).next();
    assert.equal(requests[0].url, "/gcrypt/key/");
  });
});

suite("a runtime that lacks what it takes", () => {
  const args = ["ws://h/", [], { WebSocket: class {}, key: newKey().json }];

  test("is told apart from an insecure page, at once", (t) => {
    page(t, { crypto: undefined });
    assert.throws(() => new EncryptedWebSocket(...args), {
      name: "GcryptError",
      code: "unsupported",
    });
    page(t, { isSecureContext: false });
    assert.throws(() => new EncryptedWebSocket(...args), {
      code: "insecure-context",
      message: /https/,
    });
  });

  test("needs a WebSocket", async (t) => {
    page(t, { WebSocket: undefined });
    const { EncryptedWebSocket: Alone } = await importClient();
    assert.throws(() => new Alone("ws://h/"), { code: "unsupported", message: /WebSocket/ });
  });

  test("without X25519 makes no connection", async (t) => {
    t.mock.method(crypto.subtle, "generateKey", () =>
      Promise.reject(new DOMException("no", "NotSupportedError")),
    );
    const Never = class {
      constructor() {
        assert.fail("connected");
      }
    };
    const socket = new EncryptedWebSocket("ws://h/", [], { ...args[2], WebSocket: Never });
    assert.deepEqual(await outcome(socket), ["unsupported", 1006]);
  });
});
