/**
 * The browser client. Use: docs/javascript.md; wire: docs/protocol.md. Sizes are in bytes.
 *
 * @import {Bytes, CryptConstructor, ErrorCode, Keys, Message, Options, Profile, SecureKey, Target} from "./types.d.ts"
 */

const V1 = "gcrypt.v1";
const V2 = "gcrypt.v2";
const HELLO = 0x01;
const REPLY = 0x02;
const TEXT = 0x10;
const BINARY = 0x11;
const CONTROL = 0x12;
/** @type {Record<number, string>} */
const KINDS = { [HELLO]: "HELLO", [REPLY]: "REPLY", [TEXT]: "TEXT", [BINARY]: "BINARY", [CONTROL]: "CONTROL" };
const PADDED = 0x40;
const MORE = 0x80;
const MAX_FRAGMENT = 262144;
const MAX_MESSAGE = 1048576;
const REKEY_INTERVAL = 65536;

/** @type {Partial<Record<ErrorCode, string>>} */
const HINTS = {
  "insecure-context": "WebCrypto needs https, or localhost",
  unsupported: "needs WebSocket, and WebCrypto with X25519",
};

/** @type {Partial<Record<ErrorCode, number>>} */
const CLOSE_CODES = {
  "decryption-failed": 4400,
  "invalid-frame": 4400,
  "key-mismatch": 4400,
  "message-too-big": 1009,
  timeout: 4408,
  unauthorized: 4401,
};

/** What failed, by a stable `code`; it holds no secret. */
export class GcryptError extends Error {
  /** @param {ErrorCode} code */
  constructor(code) {
    super(HINTS[code] ?? code);
    this.name = "GcryptError";
    this.code = code;
  }
}

/** @param {ErrorCode} code @returns {never} */
const fail = (code) => {
  throw new GcryptError(code);
};

/** @param {any} valid */
const check = (valid) => valid || fail("invalid-frame");
const refuse = async () => check(false);

// Bytes

const NONE = new Uint8Array();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @param {string} text @returns {Bytes} */
const utf8 = (text) => new TextEncoder().encode(text);

/** @param {Uint8Array[]} parts */
function concat(...parts) {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** @param {Uint8Array} bytes */
const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** @param {string} hex */
const fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));

/** @param {string} text */
const fromBase64 = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

/** @param {Uint8Array} bytes */
function toBase64(bytes) {
  let binary = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    binary += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return btoa(binary);
}

/** @param {any} value */
const toJSON = (value) => JSON.stringify(value) ?? fail("not-json");

const webCrypto = () =>
  globalThis.crypto?.subtle ??
  fail(globalThis.isSecureContext === false ? "insecure-context" : "unsupported");

/** @param {string} name @param {BufferSource} bytes @param {KeyUsage[]} usages */
const importKey = (name, bytes, ...usages) => webCrypto().importKey("raw", bytes, name, false, usages);

// gcrypt.v1: all but MD5 (RFC 1321) is WebCrypto's

const SHIFTS = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21];
const SINES = Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32));

/** @param {Uint8Array} data */
function md5(data) {
  const words = new Int32Array(((data.length + 72) >> 6) << 4); // little-endian
  const bytes = new Uint8Array(words.buffer);
  bytes.set(data);
  bytes[data.length] = 0x80;
  words[words.length - 2] = data.length * 8;
  const state = new Int32Array(fromHex("0123456789abcdeffedcba9876543210").buffer);
  for (let block = 0; block < words.length; block += 16) {
    let [a, b, c, d] = state;
    for (let i = 0; i < 64; i++) {
      const round = i >> 4;
      const [mixed, word] =
        round < 1 ? [(b & c) | (~b & d), i]
        : round < 2 ? [(d & b) | (~d & c), 5 * i + 1]
        : round < 3 ? [b ^ c ^ d, 3 * i + 5]
        : [c ^ (b | ~d), 7 * i];
      const sum = (a + mixed + SINES[i] + words[block + (word & 15)]) | 0;
      const shift = SHIFTS[round * 4 + (i & 3)];
      [a, b, c, d] = [d, (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0, b, c];
    }
    [a, b, c, d].forEach((word, i) => (state[i] += word));
  }
  return new Uint8Array(state.buffer);
}

/** EVP_BytesToKey @param {Bytes} passphrase @param {Bytes} salt */
async function derive(passphrase, salt) {
  const secret = concat(passphrase, salt);
  const first = md5(secret);
  const second = md5(concat(first, secret));
  const key = await importKey("AES-CBC", concat(first, second), "encrypt", "decrypt");
  return { key, iv: md5(concat(second, secret)) };
}

/** g-crypt's `Crypt`, made asynchronous. */
export const Crypt = /** @type {CryptConstructor} */ (
  /** @param {string} passphrase */
  function (passphrase) {
    const secret = utf8(passphrase);
    return {
      /** @param {any} value */
      async encrypt(value) {
        const salt = globalThis.crypto.getRandomValues(new Uint8Array(8));
        const plaintext = utf8(toJSON(value));
        const { key, iv } = await derive(secret, salt);
        const ct = await webCrypto().encrypt({ name: "AES-CBC", iv }, key, plaintext);
        return toJSON({ ct: toBase64(new Uint8Array(ct)), iv: toHex(iv), s: toHex(salt) });
      },
      /** @param {string} text */
      async decrypt(text) {
        webCrypto();
        try {
          const members = JSON.parse(text);
          const { ct, iv: sent, s } = members;
          const names = Object.keys(members).sort().join();
          const ciphertext = fromBase64(ct);
          const { key, iv } = await derive(secret, fromHex(s));
          if (
            // A flipped bit of the iv must not change the JSON.
            (names === "ct,s" || (names === "ct,iv,s" && sent.toLowerCase() === toHex(iv))) &&
            text.split('"').length === names.split(",").length * 4 + 1 && // no member twice
            /^[\da-f]{16}$/i.test(s) &&
            toBase64(ciphertext) === ct // canonical
          ) {
            const plaintext = await webCrypto().decrypt({ name: "AES-CBC", iv }, key, ciphertext);
            return JSON.parse(decoder.decode(plaintext));
          }
        } catch {}
        fail("decryption-failed");
      },
    };
  }
);

// gcrypt.v2, with the sections of Noise

/** Section 12.3 @param {number | bigint} n @param {Bytes} additionalData */
function gcm(n, additionalData) {
  const iv = new DataView(new ArrayBuffer(12));
  iv.setBigUint64(4, BigInt(n));
  return { name: "AES-GCM", iv, additionalData };
}

/** @param {Bytes} key */
const gcmKey = (key) => importKey("AES-GCM", key, "encrypt", "decrypt");

/** Section 4.2: REKEY @param {CryptoKey} key */
async function rekey(key) {
  const sealed = await webCrypto().encrypt(gcm(2n ** 64n - 1n, NONE), key, new Uint8Array(32));
  return gcmKey(new Uint8Array(sealed, 0, 32));
}

/** Section 5.1. A call takes its counter at once; calls may overlap. @param {Bytes} rawKey */
function cipherState(rawKey) {
  let key = gcmKey(rawKey);
  let n = 0;
  /** @param {"encrypt" | "decrypt"} operation @param {Bytes} header @param {Bytes | Promise<Bytes>} data */
  return async (operation, header, data) => {
    const current = key;
    const params = gcm(n++, header);
    if (n % REKEY_INTERVAL === 0) key = key.then(rekey);
    return new Uint8Array(await webCrypto()[operation](params, await current, await data));
  };
}

/**
 * Section 5.3, as the responder
 * @param {SecureKey} key @param {Bytes} message @param {CryptoKeyPair} ephemeral @param {Bytes} payload
 */
async function respond({ kid, psk }, message, { publicKey, privateKey }, payload) {
  const subtle = webCrypto();
  let hash = utf8("Noise_NNpsk0_25519_AESGCM_SHA256");
  let chainingKey = hash;
  let key = hash;

  /** @param {Uint8Array} data */
  const mixHash = async (data) => {
    hash = new Uint8Array(await subtle.digest("SHA-256", concat(hash, data)));
  };
  /** Section 4.3 @param {CryptoKey} secret @param {number} outputs */
  const hkdf = async (secret, outputs) => {
    const params = { name: "HKDF", hash: "SHA-256", salt: chainingKey, info: NONE };
    const bits = await subtle.deriveBits(params, secret, outputs * 256);
    return Array.from({ length: outputs }, (_, i) => new Uint8Array(bits, i * 32, 32));
  };
  /** @param {BufferSource} secret */
  const mixKey = async (secret) => {
    [chainingKey, key] = await hkdf(await importKey("HKDF", secret, "deriveBits"), 2);
  };

  await mixHash(concat(utf8(V2), fromHex(kid)));
  // -> psk, e
  let pskHash;
  [chainingKey, pskHash, key] = await hkdf(psk, 3);
  await mixHash(pskHash);
  const remote = message.slice(0, 32);
  const sealed = message.slice(32);
  await mixHash(remote);
  await mixKey(remote);
  const opened = await cipherState(key)("decrypt", hash, sealed);
  await mixHash(sealed);
  // <- e, ee
  const own = new Uint8Array(await subtle.exportKey("raw", publicKey));
  await mixHash(own);
  await mixKey(own);
  const exchange = { name: "X25519", public: await importKey("X25519", remote) };
  await mixKey(await subtle.deriveBits(exchange, privateKey, 256));
  const reply = concat(own, await cipherState(key)("encrypt", hash, payload));
  // Split: the initiator, the server, sends with the first key.
  const [receiving, sending] = await hkdf(await importKey("HKDF", NONE, "deriveBits"), 2);
  return { opened, reply, receiving: cipherState(receiving), sending: cipherState(sending) };
}

/** To a Padmé length @param {Bytes} plaintext */
function pad(plaintext) {
  const size = plaintext.length + 1;
  const exponent = 31 - Math.clz32(size);
  const mask = 2 ** (exponent - 32 + Math.clz32(exponent)) - 1;
  const padded = new Uint8Array((size + mask) & ~mask);
  padded.set(plaintext);
  padded[size - 1] = 0x80;
  return padded;
}

/** @param {Bytes} padded */
function unpad(padded) {
  let end = padded.length - 1;
  while (padded[end] === 0) end--;
  check(padded[end] === 0x80);
  return padded.subarray(0, end);
}

/** @param {Bytes} data @returns {any} */
function parseObject(data) {
  const text = decoder.decode(data);
  check(/^\s*{/.test(text));
  return JSON.parse(text);
}

// Session keys, for each key endpoint

/** @type {Map<string, Promise<Keys>>} */
const cache = new Map();

// The session may have changed.
globalThis.addEventListener?.("pageshow", (event) => event.persisted && cache.clear());

/** @returns {any} */
const pageConfig = () => JSON.parse(globalThis.document?.getElementById("gcrypt-config")?.textContent ?? "{}");

/** @param {any} members @returns {Promise<Keys>} */
async function importKeys({ [V1]: classic, [V2]: secure }) {
  /** @type {Keys} */
  const keys = {};
  if (classic) keys[V1] = Crypt(classic.passphrase);
  if (secure) {
    const { kid, psk } = secure;
    const secret = fromBase64(psk.replace(/-/g, "+").replace(/_/g, "/"));
    if (!/^[\da-f]{16}$/.test(kid) || secret.length !== 32) fail("key-unavailable");
    keys[V2] = { kid, psk: await importKey("HKDF", secret, "deriveBits") };
  }
  return keys;
}

/** @param {string} keyUrl */
async function fetchKeys(keyUrl) {
  const { csrfCookie = "csrftoken", csrfHeader = "X-CSRFToken", csrfToken } = pageConfig();
  const cookies = "; " + globalThis.document?.cookie;
  const response = await fetch(keyUrl, {
    method: "POST",
    headers: { [csrfHeader]: csrfToken ?? cookies.split(`; ${csrfCookie}=`)[1]?.split(";")[0] ?? "" },
    credentials: "same-origin",
    cache: "no-store",
    redirect: "error",
  });
  if (response.status === 401 || response.status === 403) fail("unauthorized");
  return importKeys(await response.json());
}

/** @param {Profile} profile @param {any} options @param {boolean} [again] @returns {Promise<any>} */
async function sessionKey(profile, { key, keyUrl }, again) {
  try {
    if (!key && (again || !cache.has(keyUrl))) cache.set(keyUrl, fetchKeys(keyUrl));
    const keys = await (key ? importKeys({ [profile]: key }) : cache.get(keyUrl));
    return keys?.[profile] ?? fail("key-unavailable");
  } catch (error) {
    cache.delete(keyUrl);
    throw error instanceof GcryptError ? error : new GcryptError("key-unavailable");
  }
}

// Events

/** With clones, as the DOM's: `new Class(type, event)` @param {any} Base @returns {any} */
const eventClass = (Base) =>
  class extends Base {
    /** @param {string} type @param {any} init */
    constructor(type, init) {
      super(type, init);
      for (const name in init) if (!(name in this)) this[name] = init[name];
    }
  };

const DetailEvent = eventClass(Event);
const EndEvent = eventClass(globalThis.CloseEvent ?? Event);

// The socket

/** @param {string} name */
const domError = (name) => new DOMException(name, name);

/** @param {any} value */
const isText = (value) => typeof value === "string" && value.isWellFormed();

/** A `WebSocket` whose messages are encrypted. */
export class EncryptedWebSocket extends /** @type {{new (): Target}} */ (EventTarget) {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  CONNECTING = 0;
  OPEN = 1;
  CLOSING = 2;
  CLOSED = 3;

  /** @type {BinaryType} */ binaryType = "blob";
  #state = 0;
  #protocol = "";
  #url = "";
  /** @type {string[]} */ #protocols;
  /** @type {any} */ #options;
  #timer;
  /** @type {any} */ #socket;
  #pending = 0;
  #peerMaxMessage = Infinity;
  /** @type {Bytes[]} */ #fragments = [];
  #fragmentKind = 0;

  // Frames are opened and sealed at once, but taken in order.
  #inbound = Promise.resolve();
  #outbound = Promise.resolve();
  /** @type {(frame: any) => Promise<Bytes | void>} */ #open = refuse;
  /** @type {(type: number, plaintext: Bytes | Promise<Bytes>) => Promise<any>} */ #seal = refuse;
  /** For `close`; once it is set, nothing is delivered. @type {any} */ #end;

  /** @param {string | URL} url @param {string | string[]} [protocols] @param {Options} [options] */
  constructor(url, protocols = [], options = {}) {
    super();
    const config = pageConfig();
    const {
      crypt,
      profile = crypt ? V1 : (config.profile ?? V2),
      keyUrl = config.keyUrl ?? "/gcrypt/key/",
      maxMessage = MAX_MESSAGE,
      handshakeTimeout = 20000,
      WebSocket = globalThis.WebSocket ?? fail("unsupported"),
    } = options;
    if (!crypt) webCrypto();
    this.#options = { ...options, profile, keyUrl, maxMessage, WebSocket };
    this.#protocols = [protocols].flat();
    try {
      this.#url = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href.replace(/^http/, "ws");
    } catch {}
    const invalid = (/** @type {string} */ each, /** @type {number} */ i) =>
      !/^[!#-'*+.^`|~\w-]+$/.test(each) || this.#protocols.indexOf(each) < i;
    if (!/^wss?:[^#]*$/.test(this.#url) || this.#protocols.some(invalid)) throw domError("SyntaxError");
    for (const type of /** @type {const} */ (["open", "message", "error", "close", "gap", "frame"])) {
      this[`on${type}`] = null;
      this.addEventListener(type, (event) => /** @type {any} */ (this)[`on${type}`]?.(event));
    }
    this.#timer = setTimeout(() => this.#fail("timeout"), handshakeTimeout);
    this.#connect().catch(this.#caught);
  }

  /** @param {Options} options @returns {typeof EncryptedWebSocket} */
  static with(options) {
    return class extends this {
      /** @param {string | URL} url @param {string | string[]} [protocols] @param {Options} [more] */
      constructor(url, protocols, more) {
        super(url, protocols, { ...options, ...more });
      }
    };
  }

  get url() {
    return this.#url;
  }
  /** @returns {Profile} */
  get profile() {
    return this.#options.profile;
  }
  get readyState() {
    return this.#state;
  }
  get protocol() {
    return this.#protocol;
  }
  /** @returns {string} */
  get extensions() {
    return this.#socket?.extensions ?? "";
  }
  /** @returns {number} */
  get bufferedAmount() {
    return this.#pending + (this.#socket?.bufferedAmount ?? 0);
  }

  /** @param {Message} data */
  send(data) {
    if (this.#state === 0) throw domError("InvalidStateError");
    if (this.profile === V1) {
      try {
        JSON.parse(typeof data === "object" ? "" : data);
      } catch {
        fail("not-json");
      }
    }
    const view = data instanceof ArrayBuffer ? new Uint8Array(data) : data;
    if (ArrayBuffer.isView(view)) this.#send(BINARY, new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
    else if (view instanceof Blob) this.#send(BINARY, view);
    else this.#send(TEXT, utf8(view));
  }

  /** @param {any} value */
  sendJSON(value) {
    this.send(toJSON(value));
  }

  /** @param {number} [code] @param {string} [reason] */
  close(code, reason = "") {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code < 5000)) throw domError("InvalidAccessError");
    if (utf8(reason).length > 123) throw domError("SyntaxError");
    if (this.#state === 0) this.#fail("aborted");
    if (this.#state > 1) return;
    this.#end = { code: code ?? 1005, reason, wasClean: true, authentic: this.profile === V2 };
    this.#hangUp(code, reason, true);
  }

  async #connect() {
    const { profile, crypt, WebSocket } = this.#options;
    const offers = [profile];
    if (profile === V2) {
      const ephemeral = await webCrypto().generateKey("X25519", false, ["deriveBits"]);
      const key = await sessionKey(V2, this.#options);
      offers.push("gcrypt.kid." + key.kid);
      this.#open = async (frame) => {
        this.#open = refuse;
        check(frame[0] === HELLO);
        this.#reply(frame, key, ephemeral).catch(this.#caught);
      };
    } else {
      offers.push(...this.#protocols);
      const cipher = crypt ?? (await sessionKey(V1, this.#options));
      this.#seal = async (_, json) => cipher.encrypt(JSON.parse(decoder.decode(await json)));
      this.#open = async (frame) => utf8(toJSON(await cipher.decrypt(frame)));
    }
    if (this.#end) return;
    const socket = (this.#socket = new WebSocket(this.#url, offers));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => profile === V1 && this.#opened("");
    socket.onerror = () => {};
    socket.onmessage = (/** @type {MessageEvent} */ { data }) =>
      this.#receive(typeof data === "string" ? data : new Uint8Array(data));
    socket.onclose = (/** @type {CloseEvent} */ event) => {
      this.#inbound = this.#inbound.then(() => this.#finish(event));
    };
  }

  /** @param {number} kind @param {any} content a Blob or bytes */
  #send(kind, content) {
    const { profile, padding } = this.#options;
    const size = content.size ?? content.length;
    if (kind !== CONTROL) {
      if (size > this.#peerMaxMessage) fail("message-too-big");
      this.#pending += size;
      if (this.#state > 1) return; // as in a WebSocket
    }
    const limit = profile === V1 ? Infinity : MAX_FRAGMENT - (padding ? 1 : 0);
    let start = 0;
    do {
      const part = content.slice(start, start + limit);
      const share = part.size ?? part.length;
      start += share;
      const plaintext = part.arrayBuffer?.().then((/** @type {ArrayBuffer} */ buffer) => new Uint8Array(buffer)) ?? part;
      const type = kind | (padding ? PADDED : 0) | (start < size ? MORE : 0);
      const sealed = this.#seal(type, padding ? Promise.resolve(plaintext).then(pad) : plaintext);
      sealed.catch(() => {}); // until its turn
      this.#outbound = this.#outbound
        .then(async () => {
          const frame = await sealed;
          if (this.#seal === refuse) return;
          if (kind !== CONTROL) this.#pending -= share;
          this.#inspect("outbound", kind, frame, await plaintext);
          this.#socket.send(frame);
        })
        .catch(this.#caught);
    } while (start < size);
  }

  /** @param {string | Bytes} frame */
  #receive(frame) {
    if (this.#end) return;
    const opened = this.#open(frame);
    opened.catch(() => {}); // until its turn
    this.#inbound = this.#inbound
      .then(async () => {
        const plaintext = await opened;
        if (plaintext && !this.#end) this.#deliver(frame, plaintext);
      })
      .catch(this.#caught);
  }

  /** @param {Bytes} hello @param {SecureKey} key @param {CryptoKeyPair} ephemeral */
  async #reply(hello, key, ephemeral) {
    const kid = toHex(hello.subarray(1, 9));
    if (kid !== key.kid && !this.#options.key) key = await sessionKey(V2, this.#options, true);
    if (kid !== key.kid) fail("key-mismatch");
    const payload = utf8(toJSON({ subprotocols: this.#protocols, max_message: this.#options.maxMessage }));
    const { opened, reply, receiving, sending } = await respond(key, hello.subarray(9), ephemeral, payload);
    const { max_message = MAX_MESSAGE } = parseObject(opened);
    check(Number.isInteger(max_message) && max_message > 0);
    if (this.#end) return;
    this.#peerMaxMessage = max_message;
    this.#open = async (frame) => {
      check(frame.length <= MAX_FRAGMENT + 17);
      return receiving("decrypt", frame.subarray(0, 1), frame.subarray(1));
    };
    this.#seal = async (type, plaintext) => {
      const header = Uint8Array.of(type);
      return concat(header, await sending("encrypt", header, plaintext));
    };
    const frame = concat(Uint8Array.of(REPLY), reply);
    this.#inspect("inbound", HELLO, hello, opened);
    this.#inspect("outbound", REPLY, frame, payload);
    this.#socket.send(frame);
  }

  /** @param {string} direction @param {number} kind @param {string | Bytes} data @param {Bytes} content */
  #inspect(direction, kind, data, content) {
    if (!this.#options.inspect) return;
    const plaintext = kind === BINARY ? content : new TextDecoder().decode(content);
    this.dispatchEvent(new DetailEvent("frame", { direction, kind: KINDS[kind], data, plaintext }));
  }

  /** @param {string | Bytes} frame @param {Bytes} opened */
  #deliver(frame, opened) {
    const type = typeof frame === "string" ? TEXT : frame[0];
    const kind = type & 0x3f;
    const plaintext = type & PADDED ? unpad(opened) : opened;
    this.#inspect("inbound", kind, frame, plaintext);
    const fragments = this.#fragments;
    if (kind === CONTROL && !(type & MORE) && !fragments.length) return this.#control(parseObject(plaintext));
    check(this.#state === 1 && (kind === TEXT || kind === BINARY) && (!fragments.length || kind === this.#fragmentKind));
    this.#fragmentKind = kind;
    fragments.push(plaintext);
    if (fragments.reduce((size, each) => size + each.length, 0) > this.#options.maxMessage) fail("message-too-big");
    if (type & MORE) return;
    this.#fragments = [];
    const bytes = concat(...fragments);
    const data = kind === TEXT ? decoder.decode(bytes) : this.binaryType === "blob" ? new Blob([bytes]) : bytes.buffer;
    this.dispatchEvent(new MessageEvent("message", { data, origin: new URL(this.#url).origin }));
  }

  /** @param {any} message */
  #control({ type, subprotocol = null, code, reason = "", group, missed }) {
    const open = this.#state === 1;
    if (type === "accept") {
      check(!open && [null, ...this.#protocols].includes(subprotocol));
      this.#opened(subprotocol ?? "");
    } else if (type === "close") {
      check(Number.isInteger(code) && code >= 1000 && code < 5000 && isText(reason));
      this.#end = { code, reason, wasClean: true, authentic: true };
      if (!open) this.#tell("rejected");
      this.#hangUp(code);
    } else if (type === "gap") {
      check(open && group && isText(group) && Number.isInteger(missed) && missed > 0);
      this.dispatchEvent(new DetailEvent(type, { group, missed }));
    } else check(isText(type));
  }

  /** @param {string} protocol */
  #opened(protocol) {
    clearTimeout(this.#timer);
    this.#protocol = protocol;
    this.#state = 1;
    this.dispatchEvent(new Event("open"));
  }

  /** @param {ErrorCode} code */
  #tell(code) {
    this.dispatchEvent(new DetailEvent("error", { error: new GcryptError(code) }));
  }

  /** @param {any} error */
  #caught = (error) => {
    const code = error?.name === "NotSupportedError" ? "unsupported" : "invalid-frame";
    this.#fail(error instanceof GcryptError ? error.code : code);
  };

  /** @param {ErrorCode} error */
  #fail(error) {
    if (this.#end) return;
    const code = CLOSE_CODES[error];
    this.#end = { code: code ?? 1006, reason: "", wasClean: false, authentic: false };
    queueMicrotask(() => this.#tell(error));
    this.#hangUp(code, "", code !== 4400);
  }

  /** @param {number} [code] @param {string} [reason] @param {boolean} [meant] behind what is still to be sent */
  #hangUp(code, reason, meant) {
    this.#state = 2;
    if (!meant) this.#seal = refuse;
    else if (this.profile === V2 && this.#seal !== refuse) {
      this.#send(CONTROL, utf8(toJSON({ type: "close", code: code ?? 1000, reason })));
    }
    this.#outbound = this.#outbound.then(() => {
      if (!this.#socket) return this.#finish({});
      try {
        this.#socket.close(code, this.profile === V1 ? reason : "");
      } catch {
        this.#socket.close();
      }
    });
  }

  /** @param {any} event */
  #finish({ code, reason, wasClean }) {
    clearTimeout(this.#timer);
    const early = this.#state === 0;
    this.#state = 3;
    if (!this.#end) {
      this.#end = { code, reason, wasClean: wasClean && this.profile === V1, authentic: false };
      if (early) this.#tell(code === 4401 ? "unauthorized" : "connection-failed");
    }
    this.#seal = this.#open = refuse;
    if (this.#end.code === 4401) cache.delete(this.#options.keyUrl);
    this.dispatchEvent(new EndEvent("close", this.#end));
  }
}
