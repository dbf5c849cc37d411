// What a page can observe of a WebSocket class. Each case returns a value; the same cases run on the
// browser's own class and on EncryptedWebSocket, and the values are compared.

const EVENTS = ["open", "message", "error", "close"];
const STATES = ["CONNECTING", "OPEN", "CLOSING", "CLOSED"];

/** The name of what `work` throws, or its value. */
function attempt(work) {
  try {
    return ["returned", work()];
  } catch (error) {
    return ["threw", error.name, error.code ?? null];
  }
}

/** The next event of a type. */
const next = (socket, type) =>
  new Promise((resolve) => socket.addEventListener(type, resolve, { once: true }));

/** The types of the events until `close`, with the readyState that a listener sees. */
async function log(socket) {
  const seen = [];
  for (const type of EVENTS) {
    socket.addEventListener(type, () => seen.push([type, socket.readyState]));
  }
  await next(socket, "close");
  return seen;
}

/** What a `close` event says. */
const told = ({ code, reason, wasClean }) => ({ code, reason, wasClean });

/** What comes back for a message: its form, and its text or bytes. */
async function echo(socket, data) {
  const answer = next(socket, "message");
  socket.send(data);
  const { data: back } = await answer;
  if (typeof back === "string") return ["text", back];
  const bytes = back instanceof Blob ? await back.arrayBuffer() : back;
  return [back.constructor.name, ...new Uint8Array(bytes)];
}

function detached() {
  const buffer = new ArrayBuffer(4);
  structuredClone(buffer, { transfer: [buffer] });
  return buffer;
}

/** An iframe's globals: its classes are not those of this page. */
function otherRealm() {
  const frame = document.createElement("iframe");
  document.body.append(frame);
  return frame.contentWindow;
}

/** Cases that need no connection. `make` constructs a socket and closes it at once. */
const offline = {
  "typeof the class": ({ Socket }) => typeof Socket,
  "the class is called without new": ({ Socket }) => attempt(() => Socket("/")),
  "new without arguments": ({ Socket }) => attempt(() => new Socket()),
  "the class's parent": ({ Socket }) => Object.getPrototypeOf(Socket) === EventTarget,
  "the class's number of arguments": ({ Socket }) => Socket.length,
  "a socket is an EventTarget": ({ make }) => make("/") instanceof EventTarget,
  "toString()": ({ make }) => String(make("/")),
  "Object.prototype.toString": ({ Socket }) => Object.prototype.toString.call(Socket.prototype),
  toStringTag: ({ Socket }) =>
    Object.getOwnPropertyDescriptor(Socket.prototype, Symbol.toStringTag),
  "own properties of a socket": ({ make }) => Reflect.ownKeys(make("/")),
  "JSON.stringify of a socket": ({ make }) => JSON.stringify(make("/")),
  "constants of the class": ({ Socket }) =>
    STATES.map((name) => Object.getOwnPropertyDescriptor(Socket, name)),
  "constants of the prototype": ({ Socket }) =>
    STATES.map((name) => Object.getOwnPropertyDescriptor(Socket.prototype, name)),
  "assigning to a constant": ({ Socket, make }) => [
    attempt(() => {
      Socket.OPEN = 7;
    }),
    attempt(() => {
      make("/").OPEN = 7;
    }),
    Socket.OPEN,
  ],
  "read-only attributes": ({ Socket }) =>
    ["url", "readyState", "bufferedAmount", "extensions", "protocol"].map((name) => {
      const { get, set, enumerable, configurable } = Object.getOwnPropertyDescriptor(
        Socket.prototype,
        name,
      );
      return [name, typeof get, typeof set, enumerable, configurable];
    }),
  "writable attributes": ({ Socket }) =>
    ["binaryType", ...EVENTS.map((type) => `on${type}`)].map((name) => {
      const { get, set, enumerable, configurable } = Object.getOwnPropertyDescriptor(
        Socket.prototype,
        name,
      );
      return [name, typeof get, typeof set, enumerable, configurable];
    }),
  methods: ({ Socket }) =>
    ["send", "close"].map((name) => {
      const { value, writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(
        Socket.prototype,
        name,
      );
      return [name, value.length, writable, enumerable, configurable];
    }),
  "assigning to readyState": ({ make }) =>
    attempt(() => {
      make("/").readyState = 7;
    }),
  "assigning to url": ({ make }) =>
    attempt(() => {
      make("/").url = "ws://elsewhere/";
    }),
  "attributes of the prototype itself": ({ Socket }) =>
    ["url", "readyState", "binaryType", "onopen"].map((name) =>
      attempt(() => Socket.prototype[name]),
    ),
  "methods on another object": ({ Socket }) =>
    ["send", "close"].map((name) => attempt(() => Socket.prototype[name].call({}, "x"))),
  "what a new socket says": ({ make }) => {
    const { binaryType, bufferedAmount, extensions, protocol, onopen, onerror } = make("/");
    return { binaryType, bufferedAmount, extensions, protocol, onopen, onerror };
  },
  "readyState before the connection": ({ Socket }) => {
    const socket = new Socket("/");
    const state = socket.readyState;
    socket.close();
    return [state, socket.readyState];
  },

  "a relative URL": ({ make }) => make("a?b=c").url.replace(location.host, "host"),
  "an http URL": ({ make }) => make("http://localhost/x").url,
  "an https URL": ({ make }) => make("https://localhost/x").url,
  "a URL object": ({ make }) => make(new URL("ws://localhost/y")).url,
  "a URL that is normalised": ({ make }) => make("WS://LocalHost:80/a/../ü?ö").url,
  "a URL that is undefined": ({ make }) => make(undefined).url.replace(location.host, "host"),
  "a URL that is null": ({ make }) => make(null).url.replace(location.host, "host"),
  "a URL that is an object": ({ make }) => make({ toString: () => "ws://localhost/o" }).url,
  "a URL that is a symbol": ({ make }) => attempt(() => make(Symbol("x")).url),
  "URLs that are not for sockets": ({ make }) =>
    ["ftp://h/", "ws://h/#x", "ws://h/#", "ws://[", "mailto:a@b", "blob:x"].map((url) =>
      attempt(() => make(url).url),
    ),

  "protocols that are not tokens": ({ make }) =>
    ["", "a b", "a,b", "é", [""], ["a", "b c"], {}, [["a", "b"]]].map((protocols) =>
      attempt(() => typeof make("/", protocols)),
    ),
  "protocols that occur twice": ({ make }) =>
    [
      ["a", "a"],
      ["a", "A"],
    ].map((protocols) => attempt(() => typeof make("/", protocols))),
  "protocols that are tokens": ({ make }) =>
    [undefined, null, 5, [], "a", ["a", "b"], ["a!#$%&'*+-.^_`|~9Z"], [5, null]].map((protocols) =>
      attempt(() => typeof make("/", protocols)),
    ),
  "protocols of any iterable": ({ make }) =>
    [new Set(["a", "b"]), new String("ab"), new Map(), new Set(["a", "a b"])].map((protocols) =>
      attempt(() => typeof make("/", protocols)),
    ),
  "protocols with a symbol": ({ make }) => [
    attempt(() => typeof make("/", Symbol("x"))),
    attempt(() => typeof make("/", [Symbol("x")])),
  ],
  "protocols whose iterator throws": ({ make }) =>
    attempt(() =>
      make("/", {
        [Symbol.iterator]() {
          throw new RangeError();
        },
      }),
    ),

  "binaryType takes its two values": ({ make }) => {
    const socket = make("/");
    return ["arraybuffer", "blob"].map((type) => {
      socket.binaryType = type;
      return socket.binaryType;
    });
  },
  "binaryType ignores others": ({ make }) => {
    const socket = make("/");
    return ["bogus", "", null, undefined, 5, "Blob"].map((type) => {
      socket.binaryType = type;
      return socket.binaryType;
    });
  },
  "binaryType converts an object": ({ make }) => {
    const socket = make("/");
    socket.binaryType = { toString: () => "arraybuffer" };
    return socket.binaryType;
  },
  "binaryType of a symbol": ({ make }) =>
    attempt(() => {
      make("/").binaryType = Symbol("x");
    }),

  "a handler that is a function": ({ make }) => {
    const socket = make("/");
    const handler = () => {};
    socket.onmessage = handler;
    return socket.onmessage === handler;
  },
  "a handler that is no object": ({ make }) => {
    const socket = make("/");
    return [5, "x", true, undefined, null, Symbol("x")].map((value) => {
      socket.onmessage = () => {};
      socket.onmessage = value;
      return socket.onmessage;
    });
  },
  "a handler that is an object": ({ make }) => {
    const socket = make("/");
    const handler = { handleEvent() {} };
    socket.onclose = handler;
    return socket.onclose === handler;
  },
  "handlers of each type are their own": ({ make }) => {
    const socket = make("/");
    socket.onopen = () => {};
    return EVENTS.map((type) => typeof socket[`on${type}`]);
  },
  "handlers of each socket are their own": ({ make }) => {
    make("/").onopen = () => {};
    return make("/").onopen;
  },
  "a handler of a dispatched event": ({ make }) => {
    const socket = make("/");
    const seen = [];
    socket.onopen = function (event) {
      seen.push(this === socket, event.type);
    };
    socket.dispatchEvent(new Event("open"));
    return seen;
  },
  "an object handler of a dispatched event": ({ make }) => {
    const socket = make("/");
    const seen = [];
    socket.onopen = { handleEvent: () => seen.push("called") };
    socket.dispatchEvent(new Event("open"));
    return seen;
  },
  "a handler has the place where it was first set": ({ make }) => {
    const socket = make("/");
    const seen = [];
    socket.addEventListener("open", () => seen.push("first"));
    socket.onopen = () => seen.push("replaced");
    socket.addEventListener("open", () => seen.push("last"));
    socket.onopen = () => seen.push("handler");
    socket.dispatchEvent(new Event("open"));
    return seen;
  },
  "a handler that was removed comes back at the end": ({ make }) => {
    const socket = make("/");
    const seen = [];
    socket.onopen = () => seen.push("removed");
    socket.addEventListener("open", () => seen.push("listener"));
    socket.onopen = null;
    socket.onopen = () => seen.push("handler");
    socket.dispatchEvent(new Event("open"));
    return seen;
  },
  "stopImmediatePropagation() before a handler": ({ make }) => {
    const socket = make("/");
    const seen = [];
    socket.addEventListener("open", (event) => event.stopImmediatePropagation());
    socket.onopen = () => seen.push("handler");
    socket.dispatchEvent(new Event("open"));
    return seen;
  },
  "stopImmediatePropagation() in a handler": ({ make }) => {
    const socket = make("/");
    const seen = [];
    socket.onopen = (event) => event.stopImmediatePropagation();
    socket.addEventListener("open", () => seen.push("listener"));
    socket.dispatchEvent(new Event("open"));
    return seen;
  },
  "a listener of each form": ({ make }) => {
    const socket = make("/");
    const seen = [];
    socket.addEventListener("open", { handleEvent: () => seen.push("object") });
    socket.addEventListener("open", () => seen.push("once"), { once: true });
    socket.dispatchEvent(new Event("open"));
    socket.dispatchEvent(new Event("open"));
    return seen;
  },

  "send() before the connection": ({ Socket }) => {
    const socket = new Socket("/");
    const results = [
      attempt(() => socket.send("x")),
      attempt(() => socket.send()),
      attempt(() => socket.send(Symbol("x"))),
    ];
    socket.close();
    return results;
  },
  "close codes that a page may not send": ({ make }) => {
    const socket = make("/");
    const codes = [0, 999, 1001, 1006, 2999, 5000, -1, 65536 + 1000, 70000, null, NaN, "", "x"];
    return [...codes, {}, [], true, Infinity].map((code) => attempt(() => socket.close(code)));
  },
  "close codes that are converted": ({ make }) => {
    const socket = make("/");
    const codes = [
      undefined,
      1000,
      "3000",
      3000.7,
      4999.4,
      [1000],
      { valueOf: () => 4000 },
      2999.5,
    ];
    return [...codes, 999.5, 1000.5, 4999.5, 2999.51].map((code) =>
      attempt(() => socket.close(code)),
    );
  },
  "close codes that have no number": ({ make }) => {
    const socket = make("/");
    return [Symbol("x"), 1000n].map((code) => attempt(() => socket.close(code)));
  },
  "close reasons that are too long": ({ make }) => {
    const socket = make("/");
    return ["x".repeat(123), "x".repeat(124), "é".repeat(61), "é".repeat(62), "\ud800".repeat(41)]
      .concat("\ud800".repeat(42))
      .map((reason) => attempt(() => socket.close(1000, reason)));
  },
  "close reasons that are converted": ({ make }) => {
    const socket = make("/");
    return [5, null, undefined, {}, Symbol("x")].map((reason) =>
      attempt(() => socket.close(1000, reason)),
    );
  },
  "close() looks at the code before the reason": ({ make }) =>
    attempt(() => make("/").close(1, "x".repeat(124))),
};

/** Cases on a connection that is open. */
const online = {
  "readyState when open": ({ socket }) => socket.readyState,
  extensions: ({ socket }) => socket.extensions,
  "send() returns": ({ socket }) => attempt(() => socket.send("x")),
  "sends text": ({ socket }) => echo(socket, "grüße 😀"),
  "sends an empty text": ({ socket }) => echo(socket, ""),
  "sends a byte order mark": ({ socket }) => echo(socket, "\ufeffx"),
  "sends a zero byte": ({ socket }) => echo(socket, "a\0b"),
  "sends a lone surrogate": ({ socket }) => echo(socket, "a\ud800b"),
  "sends a String object": ({ socket }) => echo(socket, new String("object")),
  "sends a number": ({ socket }) => echo(socket, 42),
  "sends undefined": ({ socket }) => echo(socket, undefined),
  "sends null": ({ socket }) => echo(socket, null),
  "sends an object": ({ socket }) => echo(socket, {}),
  "sends an array": ({ socket }) => echo(socket, [1, [2, 3]]),
  "sends an object with toString()": ({ socket }) => echo(socket, { toString: () => "own" }),
  "send() without arguments": ({ socket }) => attempt(() => socket.send()),
  "send() of a symbol": ({ socket }) => attempt(() => socket.send(Symbol("x"))),
  "send() whose toString() throws": ({ socket }) =>
    attempt(() =>
      socket.send({
        toString() {
          throw new RangeError();
        },
      }),
    ),
  "sends a Blob": ({ socket }) => echo(socket, new Blob(["ab"])),
  "sends a File": ({ socket }) => echo(socket, new File(["ab"], "name")),
  "sends an empty Blob": ({ socket }) => echo(socket, new Blob([])),
  "sends an ArrayBuffer": ({ socket }) => echo(socket, Uint8Array.of(1, 2).buffer),
  "sends a Uint8Array": ({ socket }) => echo(socket, Uint8Array.of(1, 2, 255)),
  "sends a part of a buffer": ({ socket }) => echo(socket, Uint8Array.of(1, 2, 3).subarray(1, 2)),
  "sends a DataView": ({ socket }) => echo(socket, new DataView(Uint8Array.of(7, 8, 9).buffer, 1)),
  "sends a Float64Array": ({ socket }) => echo(socket, Float64Array.of(1)),
  "sends an empty buffer": ({ socket }) => echo(socket, new ArrayBuffer(0)),
  "sends a detached buffer": ({ socket }) => echo(socket, detached()),
  "sends a view of a detached buffer": ({ socket }) => {
    const buffer = new ArrayBuffer(4);
    const view = new Uint8Array(buffer);
    structuredClone(buffer, { transfer: [buffer] });
    return echo(socket, view);
  },
  "sends a resizable buffer": ({ socket }) =>
    attempt(() => socket.send(new ArrayBuffer(2, { maxByteLength: 4 }))),
  "sends a view of a resizable buffer": ({ socket }) =>
    attempt(() => socket.send(new Uint8Array(new ArrayBuffer(2, { maxByteLength: 4 })))),
  "sends a view of shared memory": ({ socket }) => {
    const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    return attempt(() => socket.send(new Uint8Array(buffer, 0, 2)));
  },
  "sends shared memory": ({ socket }) => {
    const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    return attempt(() => socket.send(buffer));
  },
  "sends a buffer of another realm": ({ socket }) => {
    const { Uint8Array: Other } = otherRealm();
    return echo(socket, Other.of(1, 2).buffer);
  },
  "sends a view of another realm": ({ socket }) => {
    const { Uint8Array: Other } = otherRealm();
    return echo(socket, Other.of(1, 2));
  },
  "sends a Blob of another realm": ({ socket }) => {
    const { Blob: Other } = otherRealm();
    return echo(socket, new Other(["ab"]));
  },
  "sends what the data was at that time": async ({ socket }) => {
    const data = Uint8Array.of(1, 2);
    const answer = echo(socket, data);
    data.fill(9);
    return answer;
  },
  "receives a Blob": async ({ socket }) => {
    socket.send(Uint8Array.of(1));
    const { data } = await next(socket, "message");
    return [data.constructor.name, data.size, data.type];
  },
  "receives an ArrayBuffer": async ({ socket }) => {
    socket.binaryType = "arraybuffer";
    socket.send(Uint8Array.of(1));
    const { data } = await next(socket, "message");
    return [data.constructor.name, data.byteLength];
  },
  "binaryType counts when a message arrives": async ({ socket }) => {
    socket.send(Uint8Array.of(1));
    socket.binaryType = "arraybuffer";
    const { data } = await next(socket, "message");
    return data.constructor.name;
  },
  "a message event": async ({ socket }) => {
    const places = [];
    socket.onmessage = ({ target, currentTarget, eventPhase }) =>
      places.push(target === socket, currentTarget === socket, eventPhase);
    socket.send("x");
    const event = await next(socket, "message");
    const { type, data, origin, lastEventId, source, ports, bubbles, cancelable } = event;
    return [
      Object.prototype.toString.call(event),
      event instanceof MessageEvent,
      { type, data, lastEventId, source, bubbles, cancelable },
      origin.replace(location.host, "host"),
      ports.length,
      places,
    ];
  },
  "a message event is trusted": async ({ socket }) => {
    socket.send("x");
    return (await next(socket, "message")).isTrusted;
  },
  "messages come in order": async ({ socket }) => {
    const received = [];
    const all = new Promise((resolve) => {
      socket.onmessage = ({ data }) => {
        if (received.push(data) === 20) resolve();
      };
    });
    for (let i = 0; i < 20; i++) socket.send(i % 2 ? `${i}` : new Blob([`${i}`]));
    await all;
    return Promise.all(received.map((data) => (typeof data === "string" ? data : data.text())));
  },
  "bufferedAmount after a send": ({ socket }) => {
    socket.send("é");
    const text = socket.bufferedAmount;
    socket.send(new Uint8Array(10));
    socket.send(new Blob(["abc"]));
    return [text, socket.bufferedAmount];
  },
  "bufferedAmount when all is sent": async ({ socket }) => {
    socket.send("x");
    await next(socket, "message");
    return socket.bufferedAmount;
  },
  "a failed conversion changes nothing": async ({ socket }) => {
    attempt(() => socket.close(1));
    attempt(() => socket.close(1000, "x".repeat(124)));
    attempt(() => socket.send());
    return [socket.readyState, await echo(socket, "still open")];
  },

  "close(): states and events": async ({ socket }) => {
    const seen = log(socket);
    socket.close();
    const state = socket.readyState;
    return [state, await seen, socket.readyState];
  },
  "close(): the event": async ({ socket }) => {
    socket.close();
    const event = await next(socket, "close");
    return [
      Object.prototype.toString.call(event),
      event instanceof CloseEvent,
      event.bubbles,
      event.cancelable,
      told(event),
    ];
  },
  "close(1000): the event": async ({ socket }) => {
    socket.close(1000);
    return told(await next(socket, "close"));
  },
  "close(4000, reason): the event": async ({ socket }) => {
    socket.close(4000, "reason");
    return told(await next(socket, "close"));
  },
  'close("3000", 5): the event': async ({ socket }) => {
    socket.close("3000", 5);
    return told(await next(socket, "close"));
  },
  "close(3000.7, null): the event": async ({ socket }) => {
    socket.close(3000.7, null);
    return told(await next(socket, "close"));
  },
  "close(4000, a lone surrogate): the event": async ({ socket }) => {
    socket.close(4000, "\ud800");
    return told(await next(socket, "close"));
  },
  "close() with a reason alone": ({ socket }) =>
    ["", "reason"].map((reason) => attempt(() => socket.close(undefined, reason))),
  "close() twice: the first counts": async ({ socket }) => {
    socket.close(3001);
    socket.close(3002);
    return (await next(socket, "close")).code;
  },
  "close() after the end": async ({ socket }) => {
    socket.close();
    await next(socket, "close");
    return [attempt(() => socket.close()), attempt(() => socket.close(1)), socket.readyState];
  },
  "close() in a handler": async ({ socket }) => {
    socket.send("x");
    const seen = log(socket);
    socket.onmessage = () => socket.close();
    return seen;
  },
  "no message comes after close()": async ({ socket }) => {
    socket.send("1");
    await next(socket, "message");
    for (let i = 0; i < 10; i++) socket.send("late");
    const seen = log(socket);
    socket.close();
    return seen;
  },
  "send() after close()": async ({ socket }) => {
    socket.close();
    const closing = [attempt(() => socket.send("x")), attempt(() => socket.send())];
    await next(socket, "close");
    return [closing, attempt(() => socket.send("x")), attempt(() => socket.send())];
  },
  "bufferedAmount after close()": async ({ socket }) => {
    socket.close();
    const amounts = [socket.bufferedAmount];
    for (const data of ["é", new Uint8Array(10), new ArrayBuffer(3), new Blob(["abc"])]) {
      const before = socket.bufferedAmount;
      socket.send(data);
      amounts.push(socket.bufferedAmount - before);
    }
    const total = socket.bufferedAmount;
    await next(socket, "close");
    socket.send("abc");
    return [amounts, socket.bufferedAmount - total];
  },
  "the url after the end": async ({ socket, path }) => {
    socket.close();
    await next(socket, "close");
    return socket.url.endsWith(path);
  },

  "the server closes: states and events": async ({ socket }) => {
    socket.send("close 4001 ");
    return [await log(socket), socket.readyState];
  },
  "the server closes: the event": async ({ socket }) => {
    socket.send("close 4001 its reason");
    return told(await next(socket, "close"));
  },
  "the server closes with 1000: the event": async ({ socket }) => {
    socket.send("close 1000 ");
    return told(await next(socket, "close"));
  },
};

/** Cases that make their own connections. */
const connecting = {
  "the events of an opening": async ({ Socket, path }) => {
    const socket = new Socket(path);
    const event = await next(socket, "open");
    const seen = [
      Object.prototype.toString.call(event),
      event.constructor === Event,
      event.bubbles,
      event.cancelable,
      socket.readyState,
    ];
    socket.close();
    return seen;
  },
  "the chosen protocol": async ({ Socket, path }) => {
    const chosen = [];
    for (const protocols of [undefined, "json", ["a", "b"], new Set(["c", "d"]), 5, null]) {
      const socket = new Socket(path, protocols);
      const before = socket.protocol;
      await next(socket, "open");
      chosen.push([before, socket.protocol]);
      socket.close();
    }
    return chosen;
  },
  "close() before the opening: states and events": async ({ Socket, path }) => {
    const socket = new Socket(path);
    const seen = log(socket);
    socket.close();
    const state = socket.readyState;
    return [state, await seen];
  },
  "close() before the opening: the event": async ({ Socket, path }) => {
    const socket = new Socket(path);
    socket.close(4000, "reason");
    return told(await next(socket, "close"));
  },
  "a refused connection: states and events": async ({ Socket, path }) =>
    log(new Socket(`${path}refuse/`)),
  "a refused connection: the event": async ({ Socket, path }) =>
    told(await next(new Socket(`${path}refuse/`), "close")),
  "a refused connection: the error event": async ({ Socket, path }) => {
    const event = await next(new Socket(`${path}refuse/`), "error");
    return [Object.prototype.toString.call(event), event.bubbles, event.cancelable];
  },
  "a failed connection: states and events": async ({ Socket }) => log(new Socket("/nowhere/")),
  "a failed connection: the event": async ({ Socket }) =>
    told(await next(new Socket("/nowhere/"), "close")),
};

const shown = (value) =>
  JSON.stringify(value, (_, each) => {
    if (each === undefined) return "undefined";
    if (typeof each === "number" && !Number.isFinite(each)) return String(each);
    return each;
  });

/**
 * Run all cases on a class.
 *
 * @param {typeof WebSocket} Socket
 * @param {string} path of the server's consumer
 * @returns {Promise<Record<string, string>>} what each case returned, as JSON, or that it failed
 */
export async function observe(Socket, path) {
  const make = (url, protocols) => {
    const socket = new Socket(url, protocols);
    socket.close();
    return socket;
  };
  const results = {};
  const run = async (name, work) => {
    try {
      const limit = new Promise((_, reject) => setTimeout(reject, 20_000, new Error("too long")));
      results[name] = shown(await Promise.race([work(), limit]));
    } catch (error) {
      results[name] = `failed: ${error}`;
    }
  };
  for (const [name, work] of Object.entries(offline)) {
    await run(name, () => work({ Socket, make }));
  }
  for (const [name, work] of Object.entries(online)) {
    await run(name, async () => {
      const socket = new Socket(path);
      await next(socket, "open");
      try {
        return await work({ socket, path });
      } finally {
        socket.close();
      }
    });
  }
  for (const [name, work] of Object.entries(connecting)) {
    await run(name, () => work({ Socket, path }));
  }
  return results;
}
