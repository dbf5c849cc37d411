// `EncryptedWebSocket.with(…)` where other libraries expect the class WebSocket.

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { buildSchema } from "graphql";
import { createClient, makeServer } from "graphql-ws";
import ReconnectingWebSocket from "partysocket/ws";
import WebSocket from "ws";
import { EncryptedWebSocket } from "#client";

import { newKey, startServer, TEXT } from "./peer.js";
import { listen } from "./wire.js";

const key = newKey();
const Socket = EncryptedWebSocket.with({ WebSocket, key: key.json });

suite("partysocket", () => {
  const settings = { WebSocket: Socket, minReconnectionDelay: 1, maxReconnectionDelay: 10 };

  test("reconnects after a truncation, and sends what was queued", async (t) => {
    let connections = 0;
    const received = [];
    const { url } = await startServer(t, async (connection) => {
      await connection.accept(key, "json");
      received.push((await connection.receive())[1].toString());
      if (++connections === 1) connection.socket.terminate();
      else connection.send(TEXT, "hello again");
    });
    const socket = new ReconnectingWebSocket(url, "json", settings);
    t.after(() => socket.close());
    socket.send("queued");
    const { seen, next } = listen(socket, ["open", "message", "close"]);
    assert.equal((await next()).type, "open");
    assert.equal(socket.protocol, "json");
    assert.equal((await next()).type, "close");
    socket.send("queued again");
    assert.equal((await next()).type, "open");
    assert.equal((await next()).data, "hello again");
    assert.deepEqual(received, ["queued", "queued again"]);
    assert.equal(seen.length, 4);
  });

  test("stops at a close that says so", async (t) => {
    const { url } = await startServer(t, async (connection) => {
      await connection.accept(key);
      connection.close(4401, "logged out");
    });
    const codes = [];
    const shouldReconnectOnClose = ({ code }) => void codes.push(code);
    const socket = new ReconnectingWebSocket(url, [], { ...settings, shouldReconnectOnClose });
    const { next } = listen(socket, ["close"]);
    assert.equal((await next()).code, 4401);
    assert.deepEqual(codes, [4401]);
    assert.equal(socket.shouldReconnect, false);
  });

  test("can be stopped by the error of a session without a key", async (t) => {
    const { url, keyUrl, requests } = await startServer(
      t,
      () => {},
      () => [401, {}],
    );
    const socket = new ReconnectingWebSocket(url, [], {
      ...settings,
      WebSocket: EncryptedWebSocket.with({ WebSocket, keyUrl }),
    });
    const failed = new Promise((resolve) => {
      socket.addEventListener("error", ({ error }) => {
        if (error.code === "unauthorized") socket.close();
        resolve(error.code);
      });
    });
    assert.equal(await failed, "unauthorized");
    assert.equal(socket.readyState, socket.CLOSED);
    assert.equal(requests.length, 1);
  });

  test("can clone a close event with what ours adds, as it does in browsers", async (t) => {
    const { url } = await startServer(t, async (connection) => {
      await connection.accept(key);
      connection.close(4000, "reason");
    });
    const { next } = listen(new Socket(url), ["close"]);
    const event = await next();
    const clone = new event.constructor(event.type, event);
    for (const name of ["type", "code", "reason", "wasClean", "authentic"])
      assert.equal(clone[name], event[name]);
  });
});

suite("graphql-ws", () => {
  const schema = buildSchema("type Query { greeting: String } type Subscription { count: Int }");
  const roots = {
    query: { greeting: "hello" },
    subscription: {
      async *count() {
        for (let count = 1; count <= 3; count++) yield { count };
      },
    },
  };
  const server = makeServer({ schema, roots });

  /** graphql-ws's own server behind the encryption. */
  async function serve(connection) {
    const { subprotocols } = await connection.accept(key, "graphql-transport-ws");
    assert.deepEqual(subprotocols, ["graphql-transport-ws"]);
    let handle;
    server.opened(
      {
        protocol: "graphql-transport-ws",
        send: (data) => connection.send(TEXT, data),
        close: (code, reason) => connection.close(code, reason),
        onMessage: (callback) => (handle = callback),
      },
      {},
    );
    for (;;) {
      const [type, plaintext] = await connection.receive();
      if (type !== TEXT) return;
      handle(plaintext.toString());
    }
  }

  test("queries and subscribes", async (t) => {
    const { url } = await startServer(t, serve);
    const client = createClient({ url, webSocketImpl: Socket });
    t.after(() => client.dispose());
    const results = [];
    for (const query of ["{ greeting }", "subscription { count }"]) {
      for await (const { data } of client.iterate({ query })) results.push({ ...data });
    }
    assert.deepEqual(results, [{ greeting: "hello" }, { count: 1 }, { count: 2 }, { count: 3 }]);
  });

  test("retries after a truncation", async (t) => {
    let connections = 0;
    const { url } = await startServer(t, async (connection) => {
      if (++connections > 1) return serve(connection);
      await connection.accept(key, "graphql-transport-ws");
      connection.socket.terminate();
    });
    const client = createClient({ url, webSocketImpl: Socket, retryWait: async () => {} });
    t.after(() => client.dispose());
    const { value } = await client.iterate({ query: "{ greeting }" }).next();
    assert.deepEqual({ ...value.data }, { greeting: "hello" });
    assert.equal(connections, 2);
  });
});
