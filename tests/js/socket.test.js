// `EncryptedWebSocket` under gcrypt.v3 and gcrypt.v2, over real sockets, with a peer of other origin (peer.js).

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { inspect } from "node:util";
import WebSocket from "ws";
import { EncryptedWebSocket, GcryptError } from "#client";

import {
  BINARY,
  CONTROL,
  GROUP,
  Handshake,
  HELLO,
  MORE,
  newKey,
  PADDED,
  PROFILES,
  startServer,
  TEXT,
} from "./peer.js";
import { importClient, listen, visit, wireClass } from "./wire.js";

const key = newKey();

/** A server that accepts, then sends back what it gets until the client closes. */
async function echo(connection) {
  await connection.accept(key);
  for (;;) {
    const [type, plaintext] = await connection.receive();
    if (type === CONTROL) return;
    connection.send(type, plaintext);
  }
}

function deferred() {
  const made = {};
  made.promise = new Promise((resolve) => Object.assign(made, { resolve }));
  return made;
}

/** A blob whose bytes are what the promise gives. */
const unreadable = (promise) => Object.assign(new Blob(["x"]), { arrayBuffer: () => promise });

for (const profile of PROFILES)
  suite(profile, () => {
    const options = { WebSocket, key: key.json, profile };

    /** An open socket without a network, and the server's cipher. */
    async function openedWire(more = {}) {
      const Wire = wireClass();
      const made = Wire.next();
      const socket = new EncryptedWebSocket("ws://h/", [], {
        ...options,
        ...more,
        WebSocket: Wire,
      });
      const events = listen(socket);
      const wire = await made;
      wire.open();
      const noise = new Handshake(key.psk, key.kid, profile);
      wire.deliver(Buffer.concat([Buffer.of(HELLO), key.kid, noise.write("{}")]));
      const { sending: server } = noise.read(Buffer.from((await wire.frame(0)).subarray(1)));
      wire.deliver(server.seal(CONTROL, '{"type":"accept","subprotocol":null}'));
      await events.next();
      return { socket, wire, server, ...events };
    }

    async function opened(t, serve, more = {}, protocols = []) {
      const { url } = await startServer(t, serve);
      const socket = new EncryptedWebSocket(url, protocols, { ...options, ...more });
      const events = listen(socket);
      assert.equal((await events.next()).type, "open");
      return { socket, events };
    }

    suite("opening", () => {
      test("offers the profile and its kid, and the application's subprotocols inside", async (t) => {
        let seen;
        const { socket } = await opened(
          t,
          async (connection) => {
            const answer = await connection.accept(key, "json");
            seen = { answer, offers: connection.request.headers["sec-websocket-protocol"] };
          },
          { maxMessage: 4096 },
          ["graphql-transport-ws", "json"],
        );
        assert.equal(seen.offers, `${profile},gcrypt.kid.${key.json.kid}`);
        const { subprotocols, max_message } = seen.answer;
        assert.deepEqual(subprotocols, ["graphql-transport-ws", "json"]);
        assert.equal(max_message, 4096);
        assert.deepEqual(
          [socket.protocol, socket.profile, socket.extensions],
          ["json", profile, ""],
        );
      });

      // The peer compares them with the request that it got; here are the forms that are hard to get.
      for (const [url, host, target] of [
        ["wss://Example.ORG:8443", "example.org", "/"],
        ["ws://h/a/../ws/r%C3%A4um/?id=1&x=a%20b", "h", "/ws/r%C3%A4um/?id=1&x=a%20b"],
        [
          "ws://b\u00fccher.example/\u00e4?\u00f6=\u{1f600}",
          "xn--bcher-kva.example",
          "/%C3%A4?%C3%B6=%F0%9F%98%80",
        ],
        ["ws://[2001:DB8::0:1]:80/ws/?", "[2001:db8::1]", "/ws/"],
        ["http://user:word@127.1/ws/;x=1", "127.0.0.1", "/ws/;x=1"],
      ]) {
        test(`tells the server that it asked for ${url}`, async () => {
          const Wire = wireClass();
          const made = Wire.next();
          const socket = new EncryptedWebSocket(url, "json", { ...options, WebSocket: Wire });
          const { types } = listen(socket);
          const wire = await made;
          const noise = new Handshake(key.psk, key.kid, profile);
          wire.deliver(Buffer.concat([Buffer.of(HELLO), key.kid, noise.write("{}")]));
          const reply = await wire.frame(0);
          const members = JSON.parse(noise.read(Buffer.from(reply.subarray(1))).payload);
          assert.deepEqual(members, {
            subprotocols: ["json"],
            max_message: 1048576,
            offered: [profile, `gcrypt.kid.${key.json.kid}`],
            host,
            target,
          });
          socket.close();
          await types();
        });
      }

      test("waits for the application's accept", async (t) => {
        let accept;
        const { url } = await startServer(t, async (connection) => {
          await connection.greet(key);
          accept();
          accept = () => connection.control({ type: "accept", subprotocol: null });
        });
        const greeted = new Promise((resolve) => (accept = resolve));
        const socket = new EncryptedWebSocket(url, [], options);
        const { seen, next } = listen(socket);
        await greeted;
        assert.equal(socket.readyState, socket.CONNECTING);
        assert.throws(() => socket.send("early"), { name: "InvalidStateError" });
        assert.deepEqual(seen, []);
        accept();
        assert.equal((await next()).type, "open");
        assert.equal(socket.readyState, EncryptedWebSocket.OPEN);
      });

      test("takes one HELLO", async () => {
        const Wire = wireClass();
        const made = Wire.next();
        const { types } = listen(
          new EncryptedWebSocket("ws://h/", [], { ...options, WebSocket: Wire }),
        );
        const wire = await made;
        const hello = () =>
          Buffer.concat([
            Buffer.of(HELLO),
            key.kid,
            new Handshake(key.psk, key.kid, profile).write("{}"),
          ]);
        wire.deliver(hello());
        wire.deliver(hello());
        assert.deepEqual(await types(), ["error", "close"]);
        assert.deepEqual([wire.sent, wire.closed[0]], [[], 4400]);
      });

      test("refuses a subprotocol that was not offered", async (t) => {
        const { url } = await startServer(t, (connection) => connection.accept(key, "other"));
        const socket = new EncryptedWebSocket(url, "json", options);
        const { seen, types } = listen(socket);
        assert.deepEqual(await types(), ["error", "close"]);
        assert.equal(seen[0].error.code, "invalid-frame");
        assert.equal(seen[1].code, 4400);
      });
    });

    suite("messages", () => {
      test("keep their kind, whatever form they have", async (t) => {
        const { socket, events } = await opened(t, echo);
        const bytes = Uint8Array.of(0, 1, 254, 255);
        const sent = ["text", "", "grüße 😀", "\ufeffmark", bytes.buffer, bytes, new Uint8Array(0)];
        sent.push(
          bytes.subarray(1, 3),
          new DataView(bytes.buffer, 1, 2),
          new Blob(["blob"]),
          new Blob([]),
        );
        for (const type of ["blob", "arraybuffer"]) {
          socket.binaryType = type;
          for (const data of sent) {
            socket.send(data);
            const { data: echoed, origin } = await events.next();
            assert.equal(origin, new URL(socket.url).origin);
            if (typeof data === "string") assert.equal(echoed, data);
            else {
              assert.ok(echoed instanceof (type === "blob" ? Blob : ArrayBuffer));
              const [got, expected] = await Promise.all(
                [echoed, data].map((each) => new Response(each).arrayBuffer()),
              );
              assert.deepEqual(got, expected);
            }
          }
        }
        socket.send(42); // as WebSocket: what is no data is text
        assert.equal((await events.next()).data, "42");
        socket.sendJSON({ id: 1 });
        assert.equal((await events.next()).data, '{"id":1}');
        assert.throws(() => socket.sendJSON(undefined), { code: "not-json" });
      });

      test("are what they were when they were sent", async (t) => {
        const { socket, events } = await opened(t, echo);
        socket.binaryType = "arraybuffer";
        const bytes = Uint8Array.of(1, 2, 3);
        socket.send(bytes);
        socket.send(bytes.buffer);
        bytes.fill(9);
        for (let i = 0; i < 2; i++)
          assert.deepEqual(new Uint8Array((await events.next()).data), Uint8Array.of(1, 2, 3));
      });

      test("stay in order both ways, blobs among them, and before the close", async (t) => {
        const count = 3000;
        const received = [];
        const { socket, events } = await opened(t, async (connection) => {
          await connection.accept(key);
          for (let i = 0; i < count; i++) connection.send(TEXT, String(i));
          for (let i = 0; i < count; i++) received.push(Number((await connection.receive())[1]));
          connection.close(4000, "enough");
        });
        for (let i = 0; i < count; i++) socket.send(i % 3 ? String(i) : new Blob([String(i)]));
        assert.deepEqual(await events.types(), ["open", ...Array(count).fill("message"), "close"]);
        assert.deepEqual(received, [...Array(count).keys()]);
        assert.deepEqual(
          events.seen.slice(1, -1).map(({ data }) => Number(data)),
          received,
        );
      });

      // The vectors rekey both directions, sooner; this one is about the interval.
      test("go on over the rekey after 65,536 frames", async (t) => {
        const count = 65536 + 10;
        const { socket, events } = await opened(t, async (connection) => {
          await connection.accept(key);
          for (let i = 0; i < count; i++) assert.equal(Number((await connection.receive())[1]), i);
          connection.close(1000);
        });
        for (let i = 0; i < count; i++) socket.send(String(i));
        assert.deepEqual(await events.types(), ["open", "close"]);
        assert.equal(events.seen.at(-1).authentic, true);
      });

      test("of 5 MiB travel in fragments", async (t) => {
        const size = 5 * 2 ** 20;
        const types = [];
        const { socket, events } = await opened(
          t,
          async (connection) => {
            await connection.greet(key, { max_message: size });
            connection.control({ type: "accept", subprotocol: null });
            for (;;) {
              const [type, plaintext] = await connection.receive();
              if (type === CONTROL) return;
              types.push([type, plaintext.length]);
              connection.send(type, plaintext);
            }
          },
          { maxMessage: size },
        );
        const data = crypto.getRandomValues(new Uint8Array(65536));
        const big = new Blob(Array(80).fill(data));
        for (const message of [big, await big.arrayBuffer()]) {
          socket.send(message);
          const { data: echoed } = await events.next();
          assert.ok(
            Buffer.from(await echoed.arrayBuffer()).equals(Buffer.from(await big.arrayBuffer())),
          );
        }
        assert.equal(types.length, 92);
        assert.deepEqual(types[0], [BINARY | MORE, 114688]);
        assert.deepEqual(types.at(-1), [BINARY, 81920]);
        assert.throws(() => socket.send(new Blob([big, "x"])), { code: "message-too-big" });
        socket.send("still open");
        assert.equal((await events.next()).data, "still open");
      });

      test("may come in any number of fragments, also in empty ones", async () => {
        const count = 20_000;
        const { socket, wire, server, next } = await openedWire();
        socket.binaryType = "arraybuffer";
        for (let i = 0; i < count; i++)
          wire.deliver(server.seal(BINARY | MORE, i % 2 ? [i % 251] : []));
        wire.deliver(server.seal(BINARY, [7]));
        const { data } = await next();
        assert.equal(data.byteLength, count / 2 + 1);
        wire.deliver(server.seal(BINARY | MORE, []));
        wire.deliver(server.seal(BINARY, []));
        assert.equal((await next()).data.byteLength, 0);
        wire.deliver(server.seal(BINARY | PADDED, [1, 2, 0x80, 0, 0]));
        assert.deepEqual(new Uint8Array((await next()).data), Uint8Array.of(1, 2));
        socket.close();
      });

      test("hide their size when padded, and gcrypt.v1 ignores that", async (t) => {
        const sizes = [];
        const { socket } = await opened(
          t,
          async (connection) => {
            await connection.accept(key);
            for (;;) {
              const [type, plaintext] = await connection.receive();
              sizes.push([type & PADDED, plaintext.length]);
            }
          },
          { padding: true },
        );
        socket.send("x".repeat(1000));
        socket.send(new Uint8Array(1023));
        socket.send(new Uint8Array(114688));
        while (sizes.length < 4) await new Promise(setImmediate);
        assert.deepEqual(sizes, [
          [PADDED, 1024],
          [PADDED, 1024],
          [PADDED, 114688],
          [PADDED, 2],
        ]);
      });

      test("count in bufferedAmount until they are handed on", async (t) => {
        const { socket, events } = await opened(t, echo);
        socket.send("x".repeat(1000));
        socket.send(new Blob(["y".repeat(500)]));
        assert.ok(socket.bufferedAmount >= 1500);
        await events.next();
        await events.next();
        assert.equal(socket.bufferedAmount, 0);
      });

      test("over the page's own limit end the connection with 1009, told under encryption", async (t) => {
        const told = deferred();
        const { events } = await opened(
          t,
          async (connection) => {
            await connection.accept(key);
            connection.send(TEXT, "x".repeat(11));
            told.resolve(JSON.parse((await connection.receive())[1]));
          },
          { maxMessage: 10 },
        );
        assert.deepEqual(await events.types(), ["open", "error", "close"]);
        const [, { error }, { code, wasClean, authentic }] = events.seen;
        assert.equal(error.code, "message-too-big");
        assert.deepEqual([code, wasClean, authentic], [1009, false, true]);
        assert.deepEqual(await told.promise, { type: "close", code: 1009, reason: "" });
      });

      test("that were lost are told as gaps", async (t) => {
        const { events } = await opened(t, async (connection) => {
          await connection.accept(key);
          connection.control({ type: "gap", group: "room", missed: 3 });
        });
        const { type, group, missed } = await events.next();
        assert.deepEqual([type, group, missed], ["gap", "room", 3]);
      });
    });

    suite("history", () => {
      const epoch = "00112233445566ff";
      const joined = { type: "joined", id: 1, group: "room", epoch, n: 5, recovered: true };

      /** A GROUP message, or its first fragment. */
      const stamped = (id, n, text) => {
        const header = Buffer.alloc(12);
        header.writeUInt32BE(id);
        header.writeBigUInt64BE(BigInt(n), 4);
        return Buffer.concat([header, Buffer.from(text)]);
      };

      test("is offered only with the option, the last 64 positions of it", async (t) => {
        const resume = Array.from({ length: 65 }, (_, n) => ({ group: `g${n}`, epoch, n }));
        for (const [more, offered] of [
          [{}, undefined],
          [{ resume: [] }, []],
          [{ resume }, resume.slice(1)],
        ]) {
          let answer;
          const { socket } = await opened(
            t,
            async (connection) => {
              answer = await connection.accept(key);
            },
            more,
          );
          assert.deepEqual(answer.resume, offered);
          assert.deepEqual(socket.positions, offered ?? []);
        }
      });

      test("tells of joining, and gives messages their group and position", async (t) => {
        const { socket, events } = await opened(
          t,
          async (connection) => {
            await connection.accept(key);
            connection.control(joined);
            connection.send(GROUP, stamped(1, 6, "six"));
            connection.send(GROUP | MORE, stamped(1, 9, "ni"));
            connection.send(GROUP, "ne");
            connection.send(TEXT, "plain");
          },
          { resume: [{ group: "room", epoch, n: 5 }], maxMessage: 5 },
        );
        const told = await events.next();
        assert.deepEqual([told.type, told.group, told.recovered], ["joined", "room", true]);
        for (const expected of [
          ["six", "room", 6],
          ["nine", "room", 9],
          ["plain", undefined, undefined],
        ]) {
          const { data, group, position } = await events.next();
          assert.deepEqual([data, group, position], expected);
        }
        assert.deepEqual(socket.positions, [{ group: "room", epoch, n: 9 }]);
      });

      test("is forgotten when the group is left, and begins again with a new epoch", async (t) => {
        const again = { ...joined, id: 2, epoch: "ff".repeat(8), n: 0, recovered: false };
        const { socket, events } = await opened(
          t,
          async (connection) => {
            await connection.accept(key);
            connection.control(joined);
            connection.control({ type: "left", id: 1 });
            connection.send(TEXT, "between");
            connection.control(again);
          },
          { resume: [] },
        );
        assert.equal((await events.next()).type, "joined");
        let between;
        socket.onmessage = () => {
          between = socket.positions;
        };
        await events.next();
        assert.deepEqual(between, []);
        assert.equal((await events.next()).recovered, false);
        assert.deepEqual(socket.positions, [{ group: "room", epoch: "ff".repeat(8), n: 0 }]);
      });

      const control = (message) => [CONTROL, JSON.stringify(message)];
      for (const [name, frames, more] of [
        ["an id that was not joined", [[GROUP, stamped(2, 6, "x")]]],
        ["a position that is not above the last", [[GROUP, stamped(1, 5, "x")]]],
        ["a position above 2^53 - 1", [[GROUP, stamped(1, 2n ** 53n, "x")]]],
        ["fewer than twelve bytes", [[GROUP, stamped(1, 6, "").subarray(0, 11)]]],
        ["an id that was left", [control({ type: "left", id: 1 }), [GROUP, stamped(1, 6, "x")]]],
        ["an id that was used", [control({ ...joined, group: "other" })]],
        ["a group that is joined already", [control({ ...joined, id: 2 })]],
        ["a wrong epoch", [control({ ...joined, id: 2, group: "b", epoch: "FF".repeat(8) })]],
        ["a wrong n", [control({ ...joined, id: 2, group: "b", n: -1 })]],
        ["a wrong recovered", [control({ ...joined, id: 2, group: "b", recovered: 1 })]],
        ["the end of no membership", [control({ type: "left", id: 2 })]],
        ["no offer", [], {}],
      ]) {
        test(`is 4400 with ${name}`, async (t) => {
          const { events } = await opened(
            t,
            async (connection) => {
              await connection.accept(key);
              connection.control(joined);
              for (const frame of frames) connection.send(...frame);
            },
            more ?? { resume: [] },
          );
          let event;
          do event = await events.next();
          while (event.type !== "close");
          assert.equal(event.code, 4400);
        });
      }
    });

    suite("the end", () => {
      test("is authentic when the server says so", async (t) => {
        const { socket, events } = await opened(t, async (connection) => {
          await connection.accept(key);
          connection.close(4401, "logged out");
        });
        const { code, reason, wasClean, authentic } = await events.next();
        assert.deepEqual([code, reason, wasClean, authentic], [4401, "logged out", true, true]);
        assert.equal(socket.readyState, socket.CLOSED);
        if (globalThis.CloseEvent) assert.ok(events.seen.at(-1) instanceof CloseEvent);
      });

      test("is a truncation when the socket just closes, with whatever code", async (t) => {
        const { events } = await opened(t, async (connection) => {
          await connection.accept(key);
          connection.socket.close(1000, "all is well");
        });
        assert.deepEqual(await events.types(), ["open", "close"]);
        const { code, reason, wasClean, authentic } = events.seen.at(-1);
        assert.deepEqual([code, reason, wasClean, authentic], [1006, "", false, false]);
      });

      test("is a truncation when the connection is cut", async (t) => {
        const { events } = await opened(t, async (connection) => {
          await connection.accept(key);
          connection.socket.terminate();
        });
        const { code, wasClean, authentic } = await events.next();
        assert.deepEqual([code, wasClean, authentic], [1006, false, false]);
      });

      test("is told to the server, its reason under encryption alone", async (t) => {
        const served = {};
        const { socket, events } = await opened(t, async (connection) => {
          await connection.accept(key);
          served.first = (await connection.receive())[1].toString();
          const [type, close] = await connection.receive();
          Object.assign(served, { type, close: JSON.parse(close), wire: await connection.closed });
        });
        socket.send("last words");
        socket.close(3001, "bye");
        assert.equal(socket.readyState, socket.CLOSING);
        socket.send("too late");
        assert.deepEqual(await events.types(), ["open", "close"]);
        const { code, reason, wasClean, authentic } = events.seen.at(-1);
        assert.deepEqual([code, reason, wasClean, authentic], [3001, "bye", true, true]);
        assert.deepEqual(served, {
          first: "last words",
          type: CONTROL,
          close: { type: "close", code: 3001, reason: "bye" },
          wire: { code: 3001, reason: "" },
        });
        socket.close();
      });

      test("without a code is 1000, here and to the server", async (t) => {
        const served = deferred();
        const { socket, events } = await opened(t, async (connection) => {
          await connection.accept(key);
          const close = JSON.parse((await connection.receive())[1]);
          served.resolve([close, (await connection.closed).code]);
        });
        socket.close();
        const { code, authentic } = await events.next();
        assert.deepEqual([code, authentic], [1000, true]);
        assert.deepEqual(await served.promise, [{ type: "close", code: 1000, reason: "" }, 1000]);
      });

      for (const code of [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 4999]) {
        test(`may have the code ${code}`, async (t) => {
          const { events } = await opened(t, async (connection) => {
            await connection.accept(key);
            connection.close(code, "x".repeat(123));
          });
          const close = await events.next();
          assert.deepEqual([close.code, close.reason.length, close.authentic], [code, 123, true]);
        });
      }

      const forbidden = [999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 1000.5, "1000", null].map(
        (code) => ({ code, reason: "" }),
      );
      forbidden.push({ code: 1000, reason: "é".repeat(62) }, { code: 1000, reason: "\ud800" });
      for (const members of forbidden) {
        test(`is invalid as ${JSON.stringify(members).slice(0, 40)}`, async (t) => {
          const { events } = await opened(t, async (connection) => {
            await connection.accept(key);
            connection.control({ type: "close", ...members });
          });
          assert.deepEqual(await events.types(), ["open", "error", "close"]);
          const { code, authentic } = events.seen.at(-1);
          assert.deepEqual([code, authentic], [4400, false]);
        });
      }

      test("has no code on the wire where the platform refuses it", async () => {
        const { wire, server, types } = await openedWire();
        wire.refuses = (code) => code !== undefined && code !== 1000 && !(code >= 3000);
        wire.deliver(server.seal(CONTROL, '{"type":"close","code":1012}'));
        await types();
        assert.deepEqual(wire.closed, []);
      });

      test("repeats its code on the wire, without its reason", async () => {
        const { wire, server, types } = await openedWire();
        wire.deliver(server.seal(CONTROL, '{"type":"close","code":4001,"reason":"secret"}'));
        await types();
        assert.deepEqual(wire.closed, [4001, ""]);
      });

      test("is a truncation when the connection breaks before close() could be told", async () => {
        const { socket, wire, types, seen } = await openedWire();
        socket.send(
          Object.assign(new Blob(["x"]), { slice: () => unreadable(new Promise(() => {})) }),
        );
        socket.close(3000, "bye");
        wire.end(1006, "", false);
        assert.deepEqual(await types(), ["open", "close"]);
        const { code, reason, wasClean, authentic } = seen.at(-1);
        assert.deepEqual([code, reason, wasClean, authentic], [1006, "", false, false]);
      });

      test("is a truncation when the wire has begun to close before close() is called", async () => {
        const { socket, wire, types, seen } = await openedWire();
        const sent = wire.sent.length;
        wire.readyState = 2;
        socket.close(3000);
        assert.deepEqual(await types(), ["open", "close"]);
        assert.deepEqual([seen.at(-1).code, seen.at(-1).authentic], [1006, false]);
        assert.equal(wire.sent.length, sent);
      });

      test("after a failure does not wait for the carrier", async () => {
        const { socket, wire, types, seen } = await openedWire();
        wire.end = () => {};
        const states = [];
        socket.addEventListener("error", () => states.push(socket.readyState));
        wire.deliver(Buffer.from("no frame"));
        assert.deepEqual(await types(), ["open", "error", "close"]);
        assert.deepEqual([states, seen.at(-1).code, wire.closed[0]], [[3], 4400, 4400]);
      });

      test("takes the arguments that WebSocket takes", async (t) => {
        const { socket } = await opened(t, echo);
        for (const code of [0, 999, 1001, 1006, 2999, 5000]) {
          assert.throws(() => socket.close(code), { name: "InvalidAccessError" });
        }
        assert.throws(() => socket.close(1000, "é".repeat(62)), { name: "SyntaxError" });
        assert.equal(socket.readyState, socket.OPEN);
        socket.close(1000, "é".repeat(61));
      });

      test("delivers nothing that comes after close() was called", async (t) => {
        const { socket, events } = await opened(t, async (connection) => {
          await connection.accept(key);
          await connection.receive();
          for (let i = 0; i < 10; i++) connection.send(TEXT, "late");
        });
        socket.send("go");
        socket.close();
        assert.deepEqual(await events.types(), ["open", "close"]);
      });

      test("before the opening is an error", async (t) => {
        const { url } = await startServer(t, echo);
        const socket = new EncryptedWebSocket(url, [], options);
        const { seen, types } = listen(socket);
        socket.close();
        assert.equal(socket.readyState, socket.CLOSING);
        assert.deepEqual(seen, []); // events come later, as a WebSocket's do
        assert.deepEqual(await types(), ["error", "close"]);
        assert.deepEqual(
          [seen[0].error.code, seen[1].code, seen[1].wasClean],
          ["aborted", 1006, false],
        );
      });

      test("before the opening stays the end, though the accept is on its way", async () => {
        const Wire = wireClass();
        const made = Wire.next();
        const socket = new EncryptedWebSocket("ws://h/", [], { ...options, WebSocket: Wire });
        const { types } = listen(socket);
        const wire = await made;
        const noise = new Handshake(key.psk, key.kid, profile);
        wire.deliver(Buffer.concat([Buffer.of(HELLO), key.kid, noise.write("{}")]));
        const reply = await wire.frame(0);
        const { sending } = noise.read(Buffer.from(reply.subarray(1)));
        wire.deliver(sending.seal(CONTROL, '{"type":"accept","subprotocol":null}'));
        socket.close();
        assert.deepEqual(await types(), ["error", "close"]);
        assert.equal(socket.readyState, socket.CLOSED);
      });

      test("is the application's refusal when that comes instead of its accept", async (t) => {
        const { url } = await startServer(t, async (connection) => {
          await connection.greet(key);
          connection.close(4403, "not here");
        });
        const { seen, types } = listen(new EncryptedWebSocket(url, [], options));
        assert.deepEqual(await types(), ["error", "close"]);
        assert.equal(seen[0].error.code, "rejected");
        assert.deepEqual(
          [seen[1].code, seen[1].reason, seen[1].authentic],
          [4403, "not here", true],
        );
      });

      // Such a close is in clear: anybody could have sent it, so its code is no more than a hint.
      for (const [code, expected] of [
        [4401, "unauthorized"],
        [4406, "connection-failed"],
        [1013, "connection-failed"],
      ]) {
        test(`is reported when the server closes with ${code} before the handshake`, async (t) => {
          const { url } = await startServer(t, (connection) => connection.socket.close(code));
          const { seen, types } = listen(new EncryptedWebSocket(url, [], options));
          assert.deepEqual(await types(), ["error", "close"]);
          assert.deepEqual(
            [seen[0].error.code, seen[1].code, seen[1].authentic],
            [expected, 1006, false],
          );
        });
      }

      test("is reported when nobody listens", async (t) => {
        const { url } = await startServer(t, echo);
        const closed = new URL(url);
        closed.port = "1";
        const { seen, types } = listen(new EncryptedWebSocket(closed, [], options));
        assert.deepEqual(await types(), ["error", "close"]);
        assert.deepEqual([seen[0].error.code, seen[1].code], ["connection-failed", 1006]);
      });

      test("is reported when the platform forbids the connection", async () => {
        const Forbidden = class {
          constructor() {
            throw new DOMException("mixed content", "SecurityError");
          }
        };
        const socket = new EncryptedWebSocket("ws://h/", [], { ...options, WebSocket: Forbidden });
        const { seen, types } = listen(socket);
        assert.deepEqual(await types(), ["error", "close"]);
        assert.deepEqual([seen[0].error.code, seen[1].code], ["connection-failed", 1006]);
      });

      test("comes when the handshake takes too long", async (t) => {
        const { url } = await startServer(t, () => {});
        const { seen, types } = listen(
          new EncryptedWebSocket(url, [], { ...options, handshakeTimeout: 50 }),
        );
        assert.deepEqual(await types(), ["error", "close"]);
        assert.deepEqual([seen[0].error.code, seen[1].code], ["timeout", 4408]);
      });

      test("does not come when that time passes on an open connection", async (t) => {
        t.mock.timers.enable({ apis: ["setTimeout"] });
        const { socket, events } = await opened(t, echo);
        t.mock.timers.tick(3_600_000);
        socket.send("still here");
        assert.equal((await events.next()).data, "still here");
      });

      test("comes with 4400 when a frame was tampered with, and nothing of it is delivered", async (t) => {
        const closed = deferred();
        const { events } = await opened(t, async (connection) => {
          await connection.accept(key);
          connection.send(TEXT, "good");
          const frame = connection.sending.seal(TEXT, "bad");
          frame[5] ^= 1;
          connection.raw(frame);
          connection.send(TEXT, "after");
          closed.resolve(await connection.closed);
        });
        assert.deepEqual(await events.types(), ["open", "message", "error", "close"]);
        const [, { data }, { error }, { code, authentic }] = events.seen;
        assert.deepEqual(
          [data, error.code, code, authentic],
          ["good", "invalid-frame", 4400, false],
        );
        assert.ok(error instanceof GcryptError);
        assert.equal((await closed.promise).code, 4400);
      });

      const wrong = {
        "longer than a frame may be": [TEXT, "x".repeat(262145)],
        "a control message that claims to go on": [
          CONTROL | MORE,
          '{"type":"gap","group":"room","missed":1}',
        ],
      };
      for (const [name, [type, plaintext]] of Object.entries(wrong)) {
        test(`comes with 4400 when a frame is ${name}`, async (t) => {
          const { events } = await opened(t, async (connection) => {
            await connection.accept(key);
            connection.send(type, plaintext);
          });
          assert.deepEqual(await events.types(), ["open", "error", "close"]);
          assert.equal(events.seen.at(-1).code, 4400);
        });
      }

      test("comes when a blob cannot be read, and nothing is sent after it", async () => {
        const { socket, wire, types } = await openedWire();
        const sent = wire.sent.length;
        const gone = Promise.reject(new Error("gone"));
        socket.send(Object.assign(new Blob(["x"]), { slice: () => unreadable(gone) }));
        socket.send("after");
        socket.close(1000);
        assert.deepEqual((await types()).slice(-1), ["close"]);
        assert.equal(wire.sent.length, sent);
      });
    });

    suite("the surface of a WebSocket", () => {
      const lazy = { ...options, WebSocket: class {} };
      const make = (url, protocols) => {
        const socket = new EncryptedWebSocket(url, protocols, lazy);
        socket.close();
        return socket;
      };

      test("has the constants", () => {
        const socket = make("ws://localhost/");
        const names = ["CONNECTING", "OPEN", "CLOSING", "CLOSED"];
        assert.deepEqual(
          names.map((name) => EncryptedWebSocket[name]),
          [0, 1, 2, 3],
        );
        assert.deepEqual(
          names.map((name) => socket[name]),
          [0, 1, 2, 3],
        );
        assert.equal(socket.binaryType, "blob");
        for (const type of ["open", "message", "error", "close", "gap", "joined", "frame"])
          assert.equal(socket[`on${type}`], null);
      });

      test("resolves URLs", (t) => {
        visit(t, { href: "https://example.org/a/b?c" });
        assert.equal(make("/ws/?x=http").url, "wss://example.org/ws/?x=http");
        assert.equal(make("ws").url, "wss://example.org/a/ws");
        assert.equal(make("http://h/").url, "ws://h/");
        assert.equal(make(new URL("wss://h/x")).url, "wss://h/x");
        for (const url of ["ftp://h/", "ws://h/#x", "ws://h/#", "ws://[", "mailto:a@b"]) {
          assert.throws(() => make(url), { name: "SyntaxError" });
        }
      });

      test("refuses relative URLs where there is no page", () => {
        assert.throws(() => make("/ws/"), { name: "SyntaxError" });
      });

      test("refuses subprotocols that are twice or no tokens", () => {
        for (const protocols of ["", "a b", ["a", "a"], ["a,b"], ["é"]]) {
          assert.throws(() => make("ws://h/", protocols), { name: "SyntaxError" });
        }
        make("ws://h/", ["a!#$%&'*+-.^_`|~9Z", "b"]);
      });

      test("calls handlers in their order, and survives what they throw", async (t) => {
        const { socket, events } = await opened(t, echo);
        const calls = [];
        socket.addEventListener("message", { handleEvent: () => calls.push("listener") });
        socket.onmessage = function ({ data }) {
          calls.push([this === socket, data]);
        };
        const thrown = new Promise((resolve) => {
          const others = process.listeners("uncaughtException");
          process.removeAllListeners("uncaughtException");
          process.once("uncaughtException", (error) => {
            for (const listener of others) process.on("uncaughtException", listener);
            resolve(error.message);
          });
        });
        socket.addEventListener(
          "message",
          () => {
            throw new Error("of the page");
          },
          { once: true },
        );
        socket.send("1");
        await events.next();
        assert.equal(await thrown, "of the page");
        socket.send("2");
        await events.next();
        assert.deepEqual(calls, ["listener", [true, "1"], "listener", [true, "2"]]);
      });

      test("may stand in for the global class, and is carried by the one before it", async (t) => {
        const Wire = wireClass();
        const made = Wire.next();
        const before = Object.getOwnPropertyDescriptor(globalThis, "WebSocket") ?? {
          value: undefined,
        };
        t.after(() => Object.defineProperty(globalThis, "WebSocket", before));
        Object.defineProperty(globalThis, "WebSocket", {
          ...before,
          value: Wire,
          configurable: true,
        });
        const { EncryptedWebSocket: Own } = await importClient();
        Object.defineProperty(globalThis, "WebSocket", { value: Own, configurable: true });
        const socket = new globalThis.WebSocket("ws://h/", [], { key: key.json });
        assert.ok((await made) instanceof Wire);
        const { types } = listen(socket);
        socket.close();
        await types();
        assert.equal(Wire.sockets.length, 1);
      });

      test("comes as a class with options", async (t) => {
        const { url } = await startServer(t, echo);
        const Special = EncryptedWebSocket.with({ ...options, handshakeTimeout: 5000 }).with({
          padding: true,
        });
        const socket = new Special(url, "json");
        assert.ok(socket instanceof EncryptedWebSocket);
        assert.equal(Special.CLOSED, 3);
        const { next } = listen(socket);
        await next();
        socket.close();
      });
    });

    suite("inspection", () => {
      test("shows each frame beside its plaintext, in order", async (t) => {
        const { url } = await startServer(t, echo);
        const socket = new EncryptedWebSocket(url, ["json"], { ...options, inspect: true });
        const frames = [];
        socket.onframe = (event) => frames.push(event);
        const { next } = listen(socket);
        await next();
        socket.send("text");
        await next();
        socket.send(Uint8Array.of(7));
        await next();
        socket.close(1000, "bye");
        await next();
        const shown = frames.map(({ direction, kind, plaintext }) => [direction, kind, plaintext]);
        const reply = JSON.stringify({
          subprotocols: ["json"],
          max_message: 1048576,
          offered: [profile, `gcrypt.kid.${key.json.kid}`],
          host: "127.0.0.1",
          target: "/ws/",
        });
        assert.deepEqual(shown, [
          ["inbound", "HELLO", '{"max_message":1048576}'],
          ["outbound", "REPLY", reply],
          ["inbound", "CONTROL", '{"type":"accept","subprotocol":null}'],
          ["outbound", "TEXT", "text"],
          ["inbound", "TEXT", "text"],
          ["outbound", "BINARY", Uint8Array.of(7)],
          ["inbound", "BINARY", Uint8Array.of(7)],
          ["outbound", "CONTROL", '{"type":"close","code":1000,"reason":"bye"}'],
        ]);
        assert.deepEqual(
          frames.map(({ data }) => data[0]),
          [1, 2, 0x12, 0x10, 0x10, 0x11, 0x11, 0x12],
        );
      });

      test("is off unless asked for", async (t) => {
        const { socket, events } = await opened(t, echo);
        socket.onframe = () => assert.fail("a frame event");
        socket.send("text");
        await events.next();
      });

      test("finds no key in a socket", async (t) => {
        const { socket, events } = await opened(t, echo);
        socket.send("text");
        await events.next();
        const shown = inspect(socket, { depth: 12, showHidden: true }) + JSON.stringify(socket);
        assert.ok(!shown.includes(key.json.psk));
        assert.ok(!shown.includes(key.psk.toString("hex")));
        assert.deepEqual(
          Object.values(socket).filter((value) => typeof value === "object" && value !== null),
          [],
        );
      });
    });
  });
