// A WebSocket without a network: a test plays what the server sends, and sees what is sent to it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";

import { bundle } from "../../js/build.js";

/** The module under test: the source, or the built file (package.json, "imports"). */
export const CLIENT = import.meta.resolve("#client");

/** The built file, as it is shipped. */
export const BUILT = new URL(
  "../../gcrypt_channels/static/gcrypt_channels/gcrypt.js",
  import.meta.url,
);

export const vectors = (name) =>
  JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), "utf8"));

let instances = 0;

/**
 * An instance of the client of its own. It may have another rekey interval, which only the vectors
 * shorten.
 */
export async function importClient({ rekeyInterval = 65536 } = {}) {
  const shorten = {
    name: "rekey-interval",
    setup(build) {
      build.onLoad({ filter: /src\/noise\.js$/ }, async ({ path }) => {
        const source = await readFile(path, "utf8");
        const declaration = "const REKEY_INTERVAL = 65536;";
        assert.ok(source.includes(declaration));
        return {
          contents: source.replace(declaration, `const REKEY_INTERVAL = ${rekeyInterval};`),
        };
      });
    },
  };
  const files = await bundle({ minified: CLIENT === BUILT.href, plugins: [shorten] });
  const module = `${files.get("gcrypt.js")}// ${++instances}`;
  return import(`data:text/javascript,${encodeURIComponent(module)}`);
}

/** What a Wire class has seen: `sockets`, in the order they were made. */
export function wireClass() {
  return class Wire {
    static sockets = [];
    readyState = 0;
    bufferedAmount = 0;
    extensions = "";
    sent = [];
    closed = null; // the arguments of close()
    waiting = [];

    constructor(url, protocols) {
      Object.assign(this, { url, protocols, protocol: protocols[0] });
      Wire.sockets.push(this);
      Wire.made?.(this);
    }

    static next() {
      return new Promise((resolve) => {
        Wire.made = resolve;
      });
    }

    send(frame) {
      this.sent.push(frame);
      this.waiting.shift()?.();
    }

    /** The frame that is sent as number `index`. */
    async frame(index) {
      while (this.sent.length <= index) await new Promise((resolve) => this.waiting.push(resolve));
      return this.sent[index];
    }

    close(...args) {
      if (this.refuses?.(args[0])) throw new Error("InvalidAccessError");
      this.closed ??= args;
      this.end(...args);
    }

    /** The socket ends, whoever wanted it. */
    end(code = 1005, reason = "", wasClean = true) {
      if (this.readyState === 3) return;
      this.readyState = 3;
      queueMicrotask(() => this.onclose({ code, reason, wasClean }));
    }

    open() {
      this.readyState = 1;
      this.onopen();
    }

    deliver(frame) {
      const data = typeof frame === "string" ? frame : new Uint8Array(frame).buffer;
      this.onmessage({ data });
    }
  };
}

/** Collects a socket's events: `next()` waits for the next one, `seen` holds those that came. */
export function listen(socket, types = ["open", "message", "error", "close", "gap", "joined"]) {
  const seen = [];
  const waiting = [];
  const unread = [];
  for (const type of types) {
    socket.addEventListener(type, (event) => {
      seen.push(event);
      const waiter = waiting.shift();
      if (waiter) waiter(event);
      else unread.push(event);
    });
  }
  return {
    seen,
    next: () =>
      unread.length
        ? Promise.resolve(unread.shift())
        : new Promise((resolve) => waiting.push(resolve)),
    /** The types, and no others, that come until `close`. */
    async types() {
      if (socket.readyState !== 3) await once(socket, "close");
      return seen.map((event) => event.type);
    },
  };
}

/** The names of the globals that a test has replaced. */
const replaced = new WeakMap();

/** A page's globals, for as long as the test runs. */
export function page(t, globals) {
  const names = replaced.get(t) ?? new Set();
  replaced.set(t, names);
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    if (names.has(name)) continue;
    names.add(name);
    t.after(() =>
      before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name],
    );
  }
}

/** As much of a document as the client looks at. A mark-up that hides members cannot hide these. */
class Document {
  constructor(cookie, config) {
    Object.assign(this, { values: { cookie, config } });
  }

  get baseURI() {
    return location.href;
  }

  get cookie() {
    return this.values.cookie;
  }

  querySelector(selector) {
    const { config } = this.values;
    const known = selector === 'script[type="application/json"]#gcrypt-config';
    return known && config ? { textContent: JSON.stringify(config) } : null;
  }
}

/** A page at `href`, for as long as the test runs. */
export function visit(t, { cookie = "", config, href = "http://127.0.0.1/" }) {
  page(t, { Document, document: new Document(cookie, config), location: new URL(href) });
}
