// The page's side of the browser benchmark: how long it takes to seal and to open a message.

import { Crypt, EncryptedWebSocket } from "/gcrypt.js";

/** One call of the session: the argument and the frame that it returns travel as text. */
async function exchange(method, argument = "") {
  return Uint8Array.from(atob(await globalThis.session(method, argument)), (char) =>
    char.charCodeAt(0),
  );
}

/** Carries frames to the benchmark's session in Python while connecting, then merely counts them. */
class Loop {
  static current;
  readyState = 1;
  bufferedAmount = 0;
  frames = [];
  expected = 0;

  constructor() {
    Loop.current = this;
    exchange("hello", "gcrypt.v2").then((frame) => this.deliver(frame));
  }

  deliver(frame) {
    this.onmessage({ data: frame.buffer });
  }

  send(frame) {
    if (frame[0] === 0x02)
      exchange("reply", btoa(String.fromCharCode(...frame))).then((accept) => this.deliver(accept));
    else if (this.frames.push(frame) === this.expected) this.complete();
  }

  collect(count) {
    this.frames = [];
    this.expected = count;
    return new Promise((resolve) => (this.complete = resolve));
  }
}

let socket;

async function time(work) {
  const start = performance.now();
  const result = await work();
  return [performance.now() - start, result];
}

/** `gcrypt.v2`, as a page uses it: messages sent and received one behind the other. */
async function secure(text, count) {
  const loop = Loop.current;
  const sealed = loop.collect(count);
  const [sealing] = await time(() => {
    for (let i = 0; i < count; i++) socket.send(text);
    return sealed;
  });
  const prepared = await Promise.all(Array.from({ length: count }, () => exchange("seal", text)));
  const received = new Promise((resolve) => {
    let missing = count;
    socket.onmessage = ({ data }) => {
      if (data !== text) throw new Error("another message");
      if (!--missing) resolve();
    };
  });
  const [opening] = await time(() => {
    for (const frame of prepared) loop.deliver(frame);
    return received;
  });
  return [sealing, opening];
}

/** `gcrypt.v1` by any object with g-crypt's interface; asynchronous ones work on all messages at once. */
const classic = (crypt) => async (text, count) => {
  const value = JSON.parse(text);
  const [sealing, frames] = await time(() =>
    Promise.all(Array.from({ length: count }, () => crypt.encrypt(value))),
  );
  const [opening, values] = await time(() =>
    Promise.all(frames.map((frame) => crypt.decrypt(frame))),
  );
  if (values.some((each) => each !== value)) throw new Error("another message");
  return [sealing, opening];
};

/** g-crypt as it is, on one of the two versions of CryptoJS that the page has loaded. */
const original = (CryptoJS) => {
  const crypt = globalThis.Crypt("a long passphrase, of words");
  const on = (method) => (argument) => {
    globalThis.CryptoJS = CryptoJS;
    return crypt[method](argument);
  };
  return classic({ encrypt: on("encrypt"), decrypt: on("decrypt") });
};

const contestants = {
  "gcrypt.v2": secure,
  "gcrypt.v1": classic(Crypt("a long passphrase, of words")),
  "g-crypt, CryptoJS 3": original(globalThis.CryptoJS3),
  "g-crypt, CryptoJS 4": original(globalThis.CryptoJS4),
};

/** Connect the contestant that needs it. */
globalThis.prepare = (key) =>
  new Promise((resolve, reject) => {
    socket = new EncryptedWebSocket("ws://localhost/", [], {
      profile: "gcrypt.v2",
      WebSocket: Loop,
      key,
    });
    socket.onopen = resolve;
    socket.onerror = ({ error }) => reject(error);
  });

/** Milliseconds from HELLO to REPLY on a connection of its own: the client's part of a handshake. */
globalThis.shakeHands = (profile, key) =>
  new Promise((resolve, reject) => {
    class Wire {
      readyState = 1;
      bufferedAmount = 0;

      constructor() {
        exchange("hello", profile).then((hello) => {
          this.started = performance.now();
          this.onmessage({ data: hello.buffer });
        });
      }

      send() {
        resolve(performance.now() - this.started);
        opening.onerror = null;
        opening.close();
      }

      close() {}
    }
    const opening = new EncryptedWebSocket("ws://localhost/", [], {
      profile,
      WebSocket: Wire,
      key,
    });
    opening.onerror = ({ error }) => reject(error);
  });

/** Milliseconds to seal and to open `count` messages of JSON text, `size` bytes each. */
globalThis.run = (name, size, count) =>
  contestants[name](JSON.stringify("x".repeat(size - 2)), count);

globalThis.names = Object.keys(contestants);
