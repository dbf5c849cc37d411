// Where the client gets its keys from, when it asks again, and when it does not.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import WebSocket from "ws";
import { EncryptedWebSocket, forgetKeys, GcryptError } from "#client";

import { newKey, startServer } from "./peer.js";
import { importClient, listen, page, visit, wireClass } from "./wire.js";

const answer = (key, passphrase = "a passphrase for v1") => [
  200,
  { "gcrypt.v1": { passphrase }, session: key.json },
];

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

  test("may refuse the CSRF token: the error is csrf and says what the server says", async (t) => {
    const detail = "CSRF verification failed: set SECURE_PROXY_SSL_HEADER.";
    const { url, keyUrl, requests } = await startServer(
      t,
      () => assert.fail("connected"),
      () => [403, { error: "csrf", detail }],
    );
    for (let i = 1; i < 3; i++) {
      const { seen, types } = listen(new EncryptedWebSocket(url, [], { WebSocket, keyUrl }));
      assert.deepEqual(await types(), ["error", "close"]);
      const [{ error }, close] = seen;
      assert.deepEqual([error.code, error.message, close.code], ["csrf", detail, 1006]);
      assert.equal(requests.length, i);
    }
  });

  test("that is refused by a proxy's page has no key for this session", async (t) => {
    page(t, { fetch: async () => new Response("<!doctype html>", { status: 403 }) });
    const socket = new EncryptedWebSocket("ws://h/", [], { WebSocket, keyUrl: "http://r/" });
    assert.deepEqual(await outcome(socket), ["unauthorized", 4401]);
  });

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

  test("that redirects to a page has no key for this session", async (t) => {
    const { url, keyUrl, requests } = await startServer(
      t,
      () => assert.fail("connected"),
      () => [302, {}, { Location: "/accounts/login/" }],
    );
    const socket = new EncryptedWebSocket(url, [], { WebSocket, keyUrl });
    assert.deepEqual(await outcome(socket), ["unauthorized", 4401]);
    assert.deepEqual(
      requests.map(({ url }) => url),
      ["/gcrypt/key/"],
    );
  });

  test("that redirects as browsers show it has no key either", async (t) => {
    page(t, { fetch: async () => ({ type: "opaqueredirect", status: 0 }) });
    const socket = new EncryptedWebSocket("ws://h/", [], { WebSocket, keyUrl: "http://r/" });
    assert.deepEqual(await outcome(socket), ["unauthorized", 4401]);
  });

  test("that answers with a page is of no use", async (t) => {
    page(t, { fetch: async () => new Response("<!doctype html>") });
    const socket = new EncryptedWebSocket("ws://h/", [], { WebSocket, keyUrl: "http://p/" });
    assert.deepEqual(await outcome(socket), ["key-unavailable", 1006]);
  });

  // With gcrypt.v1 a socket asks for its key within its constructor.
  const classic = { WebSocket, profile: "gcrypt.v1" };

  test("is asked again when it did not answer in time, and the request is given up", async (t) => {
    const signals = [];
    const { url } = await startServer(t, () => {});
    page(t, {
      fetch: async (_, { signal }) => {
        signals.push(signal);
        if (signals.length > 1) return Response.json(answer(newKey())[1]);
        return new Promise((_, reject) => signal.addEventListener("abort", reject));
      },
    });
    const options = { ...classic, keyUrl: "http://slow/" };
    const patient = new EncryptedWebSocket(url, [], options);
    const hasty = new EncryptedWebSocket(url, [], { ...options, handshakeTimeout: 20 });
    assert.deepEqual(await outcome(hasty), ["timeout", 4408]);
    assert.equal(signals[0].aborted, false); // another socket waits for it
    const { next } = listen(new EncryptedWebSocket(url, [], options));
    assert.equal((await next()).type, "open");
    patient.close();
    assert.deepEqual(await outcome(patient), ["aborted", 1006]);
    assert.deepEqual(
      signals.map(({ aborted }) => aborted),
      [true, false],
    );
  });

  test("is given up when no socket waits for it any more", async (t) => {
    const signals = [];
    page(t, {
      fetch: (_, { signal }) => {
        signals.push(signal);
        return new Promise((_, reject) => signal.addEventListener("abort", reject));
      },
    });
    const make = () => new EncryptedWebSocket("ws://h/", [], { ...classic, keyUrl: "http://w/" });
    const [first, second] = [make(), make()];
    first.close();
    assert.deepEqual(await outcome(first), ["aborted", 1006]);
    assert.equal(signals[0].aborted, false);
    second.close();
    assert.deepEqual(await outcome(second), ["aborted", 1006]);
    assert.deepEqual([signals.length, signals[0].aborted], [1, true]);
  });

  test("is asked because of a wrong kid once in five seconds, for all sockets", async (t) => {
    const [known, other] = [newKey(), newKey()];
    const clock = performance.now.bind(performance);
    let passed = 0;
    t.mock.method(performance, "now", () => clock() + passed);
    const { url, keyUrl, requests } = await startServer(
      t,
      (connection) => connection.greet(other),
      () => answer(known),
    );
    const make = () => outcome(new EncryptedWebSocket(url, [], { WebSocket, keyUrl }));
    const mismatch = ["key-mismatch", 4400];
    assert.deepEqual(await Promise.all([make(), make(), make()]), [mismatch, mismatch, mismatch]);
    assert.equal(requests.length, 2);
    passed += 2000;
    assert.deepEqual(await make(), mismatch);
    assert.equal(requests.length, 2);
    passed += 3000;
    assert.deepEqual(await make(), mismatch);
    assert.equal(requests.length, 3);
  });

  for (const [name, serve, expected] of [
    ["a wrong one", (connection) => connection.greet(newKey()), ["key-mismatch", 4400]],
    [
      "one of an ended session",
      (connection) => connection.socket.close(4401),
      ["unauthorized", 1006],
    ],
  ]) {
    test(`is not asked again because a socket has its own key, ${name}`, async (t) => {
      const key = newKey();
      let serveOwn = null;
      const { url, keyUrl, requests } = await startServer(
        t,
        (connection) => (serveOwn ?? ((each) => each.accept(key)))(connection),
        () => answer(key),
      );
      const make = (more) => new EncryptedWebSocket(url, [], { WebSocket, keyUrl, ...more });
      assert.equal((await listen(make()).next()).type, "open");
      serveOwn = serve;
      assert.deepEqual(await outcome(make({ key: newKey().json })), expected);
      serveOwn = null;
      assert.equal((await listen(make()).next()).type, "open");
      assert.equal(requests.length, 1);
    });
  }

  test("is asked because of a 4401 in clear once in five seconds", async (t) => {
    const key = newKey();
    const { url, keyUrl, requests } = await startServer(
      t,
      (connection) => connection.socket.close(4401),
      () => answer(key),
    );
    for (const expected of [1, 2, 2, 2]) {
      const socket = new EncryptedWebSocket(url, [], { WebSocket, keyUrl });
      assert.deepEqual(await outcome(socket), ["unauthorized", 1006]);
      assert.equal(requests.length, expected);
    }
  });

  test("is asked again after forgetKeys()", async (t) => {
    const key = newKey();
    const { url, keyUrl, requests } = await startServer(
      t,
      (connection) => connection.accept(key),
      () => answer(key),
    );
    for (let i = 1; i < 3; i++) {
      const { next } = listen(new EncryptedWebSocket(url, [], { WebSocket, keyUrl }));
      assert.equal((await next()).type, "open");
      assert.equal(requests.length, i);
      forgetKeys();
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
    const answers = [];
    let asked;
    page(t, {
      fetch: () =>
        new Promise((answered) => {
          answers.push(() => answered(Response.json(answer(key)[1])));
          asked();
        }),
    });
    const fetched = () =>
      new Promise((resolve) => {
        asked = resolve;
      });
    const Wire = wireClass();
    const options = { WebSocket: Wire, keyUrl: "http://late/" };
    const firstFetch = fetched();
    const first = new EncryptedWebSocket("ws://first/", [], options);
    await firstFetch;
    first.close();
    assert.deepEqual(await outcome(first), ["aborted", 1006]);
    answers[0]();
    const secondFetch = fetched();
    const made = Wire.next();
    const second = new EncryptedWebSocket("ws://second/", [], options);
    await secondFetch;
    answers[1]();
    assert.equal((await made).url, "ws://second/");
    assert.equal(Wire.sockets.length, 1);
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
    "a cookie": [{ cookie: "other=1; csrftoken=from-cookie; x=y" }, "x-csrftoken", "from-cookie"],
    "a cookie whose name ends alike": [
      { cookie: "not-csrftoken=wrong; csrftoken=right" },
      "x-csrftoken",
      "right",
    ],
    "names of its own": [
      {
        cookie: "csrftoken=wrong; __Host-csrf=right",
        config: { csrfCookie: "__Host-csrf", csrfHeader: "X-My-CSRF" },
      },
      "x-my-csrf",
      "right",
    ],
    "a token in its config": [
      { cookie: "csrftoken=cookie", config: { csrfToken: "from-config" } },
      "x-csrftoken",
      "from-config",
    ],
    "no token": [{}, "x-csrftoken", ""],
    "a token from its code": [
      { cookie: "csrftoken=cookie", config: { csrfToken: "config" }, csrfToken: "code" },
      "x-csrftoken",
      "code",
    ],
  };
  for (const [name, [{ csrfToken, ...contents }, header, token]] of Object.entries(pages)) {
    test(`with ${name} proves that it is of this site`, async (t) => {
      const key = newKey();
      const { url, keyUrl, requests } = await startServer(
        t,
        (connection) => connection.accept(key),
        () => answer(key),
      );
      visit(t, contents);
      const { next } = listen(new EncryptedWebSocket(url, [], { WebSocket, keyUrl, csrfToken }));
      await next();
      assert.equal(requests[0].headers[header], token);
    });
  }

  test("needs no document where the code has the token, as in a worker", async (t) => {
    const key = newKey();
    const { url, keyUrl, requests } = await startServer(
      t,
      (connection) => connection.accept(key),
      () => answer(key),
    );
    const options = { WebSocket, keyUrl, csrfToken: "of the worker" };
    const { next } = listen(new EncryptedWebSocket(url, [], options));
    assert.equal((await next()).type, "open");
    assert.equal(requests[0].headers["x-csrftoken"], "of the worker");
  });

  test("says where the key is, and which profiles the site has", async (t) => {
    const { url, keyUrl, requests } = await startServer(
      t,
      () => {},
      () => answer(newKey()),
    );
    const config = { keyUrl: "/gcrypt/key/?of-the-site", profiles: ["gcrypt.v1", "gcrypt.v3"] };
    visit(t, { config, href: new URL("/page/", keyUrl) });
    const socket = new EncryptedWebSocket(url, [], { WebSocket });
    assert.equal(socket.profile, "gcrypt.v1");
    await listen(socket).next();
    assert.equal(requests[0].url, "/gcrypt/key/?of-the-site");
  });

  test("cannot send its token to another site", async (t) => {
    const fetched = [];
    page(t, { fetch: async (url) => fetched.push(url) });
    for (const keyUrl of [
      "https://elsewhere.example/",
      "//elsewhere.example/",
      "http://127.0.0.1:81/",
      "data:,{}",
    ]) {
      visit(t, { cookie: "csrftoken=secret", config: { keyUrl } });
      const socket = new EncryptedWebSocket("ws://h/", [], { WebSocket });
      assert.deepEqual(await outcome(socket), ["key-unavailable", 1006]);
    }
    assert.deepEqual(fetched, []);
  });

  test("cannot lower the profile that the code names", (t) => {
    visit(t, { config: { profiles: ["gcrypt.v1"] } });
    const options = { WebSocket: class {}, key: newKey().json, profile: "gcrypt.v2" };
    const socket = new EncryptedWebSocket("ws://h/", [], options);
    assert.equal(socket.profile, "gcrypt.v2");
    socket.close();
  });

  test("may not name a profile that is not known", (t) => {
    for (const profile of ["gcrypt.v0", "", "constructor", 2]) {
      assert.throws(() => new EncryptedWebSocket("ws://h/", [], { WebSocket, profile }), {
        code: "unsupported",
      });
      visit(t, { config: { profiles: [profile] } });
      assert.throws(() => new EncryptedWebSocket("ws://h/", [], { WebSocket }), {
        code: "unsupported",
      });
    }
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

suite("a key source", () => {
  /** A server of one key, which keeps the last token that each request offered. */
  async function serverOf(t, key) {
    const offered = [];
    const { url, requests } = await startServer(t, (connection) => {
      offered.push(connection.request.headers["sec-websocket-protocol"].split(",").at(-1).trim());
      return connection.accept(key);
    });
    return { url, requests, offered };
  }

  test("is asked for each socket, and its ticket is offered in place of the kid", async (t) => {
    const key = newKey();
    const { url, requests, offered } = await serverOf(t, key);
    let asked = 0;
    const keySource = async () => ({ ...key.json, ticket: `T-_${++asked}`, expires_in: 60 });
    for (const expected of ["gcrypt.ticket.T-_1", "gcrypt.ticket.T-_2"]) {
      const socket = new EncryptedWebSocket(url, [], { WebSocket, keySource });
      assert.equal((await listen(socket).next()).type, "open");
      assert.equal(offered.at(-1), expected);
    }
    assert.deepEqual([asked, requests.length], [2, 0]);
  });

  test("may be synchronous, and give a key without a ticket", async (t) => {
    const key = newKey();
    const { url, offered } = await serverOf(t, key);
    const socket = new EncryptedWebSocket(url, [], { WebSocket, keySource: () => key.json });
    assert.equal((await listen(socket).next()).type, "open");
    assert.deepEqual(offered, [`gcrypt.kid.${key.json.kid}`]);
  });

  test("is asked once more when HELLO names another kid, but not with a ticket", async (t) => {
    for (const [ticket, times] of [
      [undefined, 2],
      ["T", 1],
    ]) {
      let asked = 0;
      const { url, requests } = await startServer(t, (connection) => connection.greet(newKey()));
      const known = newKey();
      const keySource = async () => {
        asked++;
        return { ...known.json, ticket };
      };
      const socket = new EncryptedWebSocket(url, [], { WebSocket, keySource });
      assert.deepEqual(await outcome(socket), ["key-mismatch", 4400]);
      assert.deepEqual([asked, requests.length], [times, 0]);
    }
  });

  const { kid, psk } = newKey().json;
  for (const [name, answer, expected] of [
    ["throws", () => Promise.reject(new Error("secret")), ["key-unavailable", 1006]],
    ["throws synchronously", () => assert.fail("secret"), ["key-unavailable", 1006]],
    ["says so", () => Promise.reject(new GcryptError("unauthorized")), ["unauthorized", 4401]],
    ["gives nothing", () => undefined, ["key-unavailable", 1006]],
    ["gives text", () => "nonsense", ["key-unavailable", 1006]],
    ["gives no psk", () => ({ kid, ticket: "T" }), ["key-unavailable", 1006]],
    ["gives a psk that is none", () => ({ kid, psk: 7, ticket: "T" }), ["key-unavailable", 1006]],
    ["gives no ticket", () => ({ kid, psk, ticket: "a b" }), ["connection-failed", 1006]],
  ]) {
    test(`that ${name} is one error, and is not asked again`, async () => {
      let asked = 0;
      const keySource = () => {
        asked++;
        return answer();
      };
      const options = { WebSocket, keySource };
      const { seen, types } = listen(new EncryptedWebSocket("ws://127.0.0.1:1/", [], options));
      assert.deepEqual(await types(), ["error", "close"]);
      assert.deepEqual([seen[0].error.code, seen[1].code], expected);
      assert.doesNotMatch(seen[0].error.stack, /secret/);
      assert.equal(asked, 1);
    });
  }

  test("that hangs ends with the time", async () => {
    const options = { WebSocket, keySource: () => new Promise(() => {}), handshakeTimeout: 10 };
    const socket = new EncryptedWebSocket("ws://127.0.0.1:1/", [], options);
    assert.deepEqual(await outcome(socket), ["timeout", 4408]);
  });
});
