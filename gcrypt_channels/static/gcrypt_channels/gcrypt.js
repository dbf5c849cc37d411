/**
 * gcrypt_channels in the browser: `EncryptedWebSocket`, a `WebSocket` whose messages only this
 * session and the Django server can read, and `Crypt`, g-crypt's API on WebCrypto.
 *
 * For browsers and Node >= 20; no dependency, no build step. The wire: docs/protocol.md. The use:
 * docs/javascript.md. The types: types.d.ts. Sizes are in bytes, times in milliseconds.
 *
 * @module gcrypt_channels
 * @import {Bytes, CryptConstructor, Handlers, Message, Options, Profile, Target} from "./types.d.ts"
 */

const V1 = "gcrypt.v1";
const V2 = "gcrypt.v2";
const HELLO = 0x01;
const REPLY = 0x02;
const TEXT = 0x10;
const BINARY = 0x11;
const CONTROL = 0x12;
const KIND_MASK = 0x3f;
const PADDED = 0x40;
const MORE = 0x80;
const MAX_FRAGMENT = 262144;
const MAX_MESSAGE = 1048576;
const REKEY_INTERVAL = 65536;

/** For each code of an error: the code of the `close` that follows, and what is wrong. */
const ERRORS = /** @type {const} */ ({
  "insecure-context": [1006, "needs a secure context: https, or localhost"],
  unsupported: [1006, "needs WebSocket, and WebCrypto with X25519"],
  unauthorized: [4401, "no key for this session: log in"],
  "key-unavailable": [1006, "the key endpoint gave no key"],
  "key-mismatch": [4400, "the server's key is not this session's"],
  "connection-failed": [1006, "ended before it was open"],
  rejected: [1006, "the application refused"],
  timeout: [4408, "not open in time"],
  aborted: [1006, "close() before open"],
  "invalid-frame": [4400, "invalid frame"],
  "message-too-big": [1009, "message over the limit"],
  "not-json": [1006, "gcrypt.v1 carries JSON text only"],
  "decryption-failed": [4400, "decryption failed"],
});

/** What went wrong, told by a stable `code`. No key or plaintext is in it. */
export class GcryptError extends Error {
  /** @param {keyof typeof ERRORS} code */
  constructor(code) {
    super(ERRORS[code][1]);
    this.name = "GcryptError";
    /** @readonly */
    this.code = code;
  }
}

/** @param {keyof typeof ERRORS} code @returns {never} */
function fail(code) {
  throw new GcryptError(code);
}

// Bytes

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @param {string} text @returns {Bytes} */
const utf8 = (text) => new TextEncoder().encode(text);

/** @param {...Uint8Array} parts @returns {Bytes} */
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
  for (let at = 0; at < bytes.length; at += 8192) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(binary);
}

/** @param {any} value */
const toJSON = (value) => JSON.stringify(value) ?? fail("not-json");

const webCrypto = () =>
  globalThis.crypto?.subtle ??
  fail(globalThis.isSecureContext === false ? "insecure-context" : "unsupported");

// gcrypt.v1: g-crypt's format, for which WebCrypto lacks MD5 (RFC 1321)

const SHIFTS = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21];
const SINES = Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32));

/** @param {Uint8Array} data */
function md5(data) {
  const input = new DataView(new ArrayBuffer(((data.length + 72) >> 6) << 6));
  new Uint8Array(input.buffer).set(data);
  input.setUint8(data.length, 0x80);
  input.setUint32(input.byteLength - 8, data.length * 8, true);
  const state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  for (let block = 0; block < input.byteLength; block += 64) {
    let [a, b, c, d] = state;
    for (let i = 0; i < 64; i++) {
      const round = i >> 4;
      const mixed = [(b & c) | (~b & d), (d & b) | (~d & c), b ^ c ^ d, c ^ (b | ~d)][round];
      const word = [i, 5 * i + 1, 3 * i + 5, 7 * i][round] & 15;
      const sum = a + mixed + SINES[i] + input.getInt32(block + word * 4, true);
      const shift = SHIFTS[round * 4 + (i & 3)];
      [a, b, c, d] = [d, (b + ((sum << shift) | ((sum | 0) >>> (32 - shift)))) | 0, b, c];
    }
    [a, b, c, d].forEach((word, i) => (state[i] += word));
  }
  return new Uint8Array(state.buffer);
}

/** EVP_BytesToKey, one iteration. @param {Bytes} passphrase @param {Bytes} salt */
async function deriveClassic(passphrase, salt) {
  const secret = concat(passphrase, salt);
  const first = md5(secret);
  const second = md5(concat(first, secret));
  return {
    key: await importKey("AES-CBC", concat(first, second)),
    iv: md5(concat(second, secret)),
  };
}

/** @param {"AES-CBC" | "AES-GCM"} name @param {Bytes} bytes */
const importKey = (name, bytes) => webCrypto().importKey("raw", bytes, name, false, ["encrypt", "decrypt"]);

/** @param {Bytes} passphrase @param {Bytes} json */
async function sealClassic(passphrase, json) {
  const salt = globalThis.crypto.getRandomValues(new Uint8Array(8));
  const { key, iv } = await deriveClassic(passphrase, salt);
  const ct = await webCrypto().encrypt({ name: "AES-CBC", iv }, key, json);
  return toJSON({ ct: toBase64(new Uint8Array(ct)), iv: toHex(iv), s: toHex(salt) });
}

/** @param {Bytes} passphrase @param {string} frame @returns {Promise<string>} JSON text */
async function openClassic(passphrase, frame) {
  webCrypto();
  try {
    const members = JSON.parse(frame);
    const { ct, iv: sentIv, s } = members;
    const names = Object.keys(members).sort().join();
    const ciphertext = fromBase64(ct);
    if (
      names !== (sentIv === undefined ? "ct,s" : "ct,iv,s") ||
      !/^[\da-f]{16}$/i.test(s) ||
      toBase64(ciphertext) !== ct || // atob takes more than canonical base64
      frame.split('"').length !== names.split(",").length * 4 + 1 // a member named twice
    ) {
      fail("decryption-failed");
    }
    const { key, iv } = await deriveClassic(passphrase, fromHex(s));
    // CryptoJS ignores the iv it is sent. Trusting it would let a flipped bit of it change the JSON.
    if (sentIv !== undefined && sentIv.toLowerCase() !== toHex(iv)) fail("decryption-failed");
    const plaintext = await webCrypto().decrypt({ name: "AES-CBC", iv }, key, ciphertext);
    const json = decoder.decode(plaintext);
    JSON.parse(json);
    return json;
  } catch {
    fail("decryption-failed");
  }
}

/**
 * g-crypt's `Crypt`, asynchronous, with or without `new`. The format is unauthenticated.
 *
 * @example const text = await Crypt("a long passphrase").encrypt({ id: 1 });
 */
export const Crypt = /** @type {CryptConstructor} */ (
  /** @param {string} passphrase */
  function (passphrase) {
    const secret = utf8(passphrase);
    return {
      encrypt: async (/** @type {any} */ value) => sealClassic(secret, utf8(toJSON(value))),
      decrypt: async (/** @type {string} */ text) => JSON.parse(await openClassic(secret, text)),
    };
  }
);

// gcrypt.v2: Noise_NNpsk0_25519_AESGCM_SHA256, with the sections of Noise's revision 34

/** Section 12.3: 32 zero bits, then the counter. @param {number} n @param {BufferSource} additionalData */
function gcm(n, additionalData) {
  const iv = new DataView(new ArrayBuffer(12));
  iv.setBigUint64(4, BigInt(n));
  return { name: "AES-GCM", iv, additionalData };
}

/** One direction. The counter is taken at the call; the work of several calls may overlap. */
class CipherState {
  /** @type {Promise<CryptoKey>} */
  #key;
  #n = 0;

  /** @param {Bytes} key */
  constructor(key) {
    this.#key = importKey("AES-GCM", key);
  }

  #next() {
    const step = { key: this.#key, n: this.#n++ };
    if (this.#n % REKEY_INTERVAL === 0) this.#key = this.#key.then(rekey);
    return step;
  }

  /** @param {number} type @param {Bytes | Promise<Bytes>} plaintext */
  async seal(type, plaintext) {
    const { key, n } = this.#next();
    const header = Uint8Array.of(type);
    const sealed = await webCrypto().encrypt(gcm(n, header), await key, await plaintext);
    return concat(header, new Uint8Array(sealed));
  }

  /** @param {Bytes} frame */
  async open(frame) {
    const { key, n } = this.#next();
    const params = gcm(n, frame.subarray(0, 1));
    return new Uint8Array(await webCrypto().decrypt(params, await key, frame.subarray(1)));
  }
}

/** Section 4.2: 32 zeros sealed under the highest nonce, without the tag. @param {CryptoKey} key */
async function rekey(key) {
  const params = { ...gcm(0, new Uint8Array()), iv: new Uint8Array(12).fill(255, 4) };
  const sealed = await webCrypto().encrypt(params, key, new Uint8Array(32));
  return importKey("AES-GCM", new Uint8Array(sealed, 0, 32));
}

/** @param {Bytes} secret */
const hkdfKey = (secret) => webCrypto().importKey("raw", secret, "HKDF", false, ["deriveBits"]);

/**
 * The responder's handshake: open message 1, then seal message 2 (sections 5.2, 5.3 and 9.2).
 *
 * @param {SecureKey} sessionKey @param {Bytes} message @param {CryptoKeyPair} ephemeral
 * @param {Bytes} payload of message 2
 */
async function respond({ kid, psk }, message, ephemeral, payload) {
  const subtle = webCrypto();
  let hash = utf8("Noise_NNpsk0_25519_AESGCM_SHA256");
  let chainingKey = hash;
  let key = hash;

  /** @param {Uint8Array} data */
  const mixHash = async (data) => {
    hash = new Uint8Array(await subtle.digest("SHA-256", concat(hash, data)));
  };
  // Noise's HKDF is that of RFC 5869: the chaining key is the salt, and the info is empty.
  /** @param {CryptoKey} secret @param {number} outputs */
  const hkdf = async (secret, outputs) => {
    const params = { name: "HKDF", hash: "SHA-256", salt: chainingKey, info: new Uint8Array() };
    const bits = await subtle.deriveBits(params, secret, outputs * 256);
    return Array.from({ length: outputs }, (_, i) => new Uint8Array(bits, i * 32, 32));
  };
  /** @param {BufferSource} secret */
  const mixKey = async (secret) => {
    [chainingKey, key] = await hkdf(await hkdfKey(new Uint8Array(/** @type {ArrayBuffer} */ (secret))), 2);
  };

  await mixHash(concat(utf8(V2), fromHex(kid)));
  // -> psk, e
  let pskHash;
  [chainingKey, pskHash, key] = await hkdf(psk, 3);
  await mixHash(pskHash);
  const remote = message.slice(0, 32);
  await mixHash(remote);
  await mixKey(remote);
  const sealed = message.subarray(32);
  const opened = await subtle.decrypt(gcm(0, hash), await importKey("AES-GCM", key), sealed);
  await mixHash(sealed);
  // <- e, ee
  const own = new Uint8Array(await subtle.exportKey("raw", ephemeral.publicKey));
  await mixHash(own);
  await mixKey(own);
  const remoteKey = await subtle.importKey("raw", remote, "X25519", false, []);
  await mixKey(await subtle.deriveBits({ name: "X25519", public: remoteKey }, ephemeral.privateKey, 256));
  const reply = await subtle.encrypt(gcm(0, hash), await importKey("AES-GCM", key), payload);
  // Split: the initiator, that is the server, sends under the first key.
  const [receiving, sending] = await hkdf(await hkdfKey(new Uint8Array()), 2);
  return {
    payload: new Uint8Array(opened),
    message: concat(own, new Uint8Array(reply)),
    receiving: new CipherState(receiving),
    sending: new CipherState(sending),
  };
}

/** Append 0x80 and zeros, up to a Padmé length. @param {Bytes} plaintext */
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
  return padded[end] === 0x80 ? padded.subarray(0, end) : fail("invalid-frame");
}

/** @param {Uint8Array} data @returns {any} */
function parseObject(data) {
  const value = JSON.parse(decoder.decode(data));
  return value?.constructor === Object ? value : fail("invalid-frame");
}

// Session keys: in this module's memory alone, for each key endpoint

/** @typedef {{kid: string, psk: CryptoKey}} SecureKey */
/** @typedef {{[V1]?: Bytes, [V2]?: SecureKey}} Keys */

/** @type {Map<string, Promise<Keys>>} */
const cache = new Map();

// In a page that comes back from the back/forward cache, the session may be another one.
globalThis.addEventListener?.("pageshow", (event) => event.persisted && cache.clear());

/** What `{% gcrypt_config %}` put into the page. @returns {any} */
const pageConfig = () => JSON.parse(globalThis.document?.getElementById("gcrypt-config")?.textContent ?? "{}");

/** @param {any} members in the key endpoint's form */
async function importKeys({ [V1]: classic, [V2]: secure }) {
  /** @type {Keys} */
  const keys = {};
  if (classic) keys[V1] = utf8(classic.passphrase);
  if (secure) {
    const psk = fromBase64(secure.psk.replace(/-/g, "+").replace(/_/g, "/"));
    if (!/^[\da-f]{16}$/.test(secure.kid) || psk.length !== 32) fail("key-unavailable");
    keys[V2] = { kid: secure.kid, psk: await hkdfKey(psk) };
  }
  return keys;
}

/** @param {string} keyUrl */
async function fetchKeys(keyUrl) {
  const { csrfCookie = "csrftoken", csrfHeader = "X-CSRFToken", csrfToken } = pageConfig();
  const cookies = globalThis.document?.cookie.split("; ") ?? [];
  const cookie = cookies.find((each) => each.startsWith(csrfCookie + "="));
  const response = await fetch(keyUrl, {
    method: "POST",
    headers: { [csrfHeader]: csrfToken ?? cookie?.slice(csrfCookie.length + 1) ?? "" },
    credentials: "same-origin",
    cache: "no-store",
    redirect: "error",
  });
  if (response.status === 401 || response.status === 403) fail("unauthorized");
  return importKeys(await response.json());
}

/**
 * @template {Profile} P
 * @param {P} profile @param {Options & {keyUrl: string}} options
 * @param {boolean} [again] Fetch, whatever is known.
 * @returns {Promise<NonNullable<Keys[P]>>}
 */
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

/**
 * An event class with more properties. Like the DOM's own, an event can be made from another one.
 *
 * @param {typeof Event} Base @param {string[]} names
 * @returns {new (type: string, init: any) => any}
 */
const eventClass = (Base, names) =>
  class extends Base {
    /** @param {string} type @param {any} init */
    constructor(type, init) {
      super(type, init);
      for (const name of names) {
        if (!(name in this)) Object.defineProperty(this, name, { value: init[name], enumerable: true });
      }
    }
  };

const EncryptedErrorEvent = eventClass(Event, ["error", "message"]);
const GapEvent = eventClass(Event, ["group", "missed"]);
const FrameEvent = eventClass(Event, ["direction", "kind", "data", "plaintext"]);
const EncryptedCloseEvent = eventClass(globalThis.CloseEvent ?? Event, ["code", "reason", "wasClean", "authentic"]);

// The socket

/** @param {string} name */
const domError = (name) => new DOMException("EncryptedWebSocket: " + name, name);

/** Whether `WebSocket.close` takes this code. @param {number} code */
const isOwnCode = (code) => code === 1000 || (code >= 3000 && code <= 4999);

/** @param {string | URL} url */
function parseUrl(url) {
  try {
    const parsed = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
    parsed.protocol = parsed.protocol.replace("http", "ws");
    if (/^wss?:$/.test(parsed.protocol) && !parsed.href.includes("#")) return parsed;
  } catch {}
  throw domError("SyntaxError");
}

/** @param {string | string[]} protocols */
function parseProtocols(protocols) {
  const list = [protocols].flat();
  const valid = list.every((each) => /^[!#-'*+.^`|~\w-]+$/.test(each));
  if (!valid || new Set(list).size < list.length) throw domError("SyntaxError");
  return list;
}

/**
 * A `WebSocket` whose messages are encrypted. What fails is told by `error`, then `close`; the
 * constructor throws a `GcryptError` only where the runtime cannot encrypt at all.
 *
 * @example
 * const socket = new EncryptedWebSocket("/ws/counter/");
 * socket.onopen = () => socket.sendJSON({ id: 1 });
 * socket.onmessage = ({ data }) => console.log(JSON.parse(data));
 */
export class EncryptedWebSocket extends /** @type {{new (): Target}} */ (EventTarget) {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  CONNECTING = 0;
  OPEN = 1;
  CLOSING = 2;
  CLOSED = 3;

  /** @type {Handlers["open"]} */ onopen = null;
  /** @type {Handlers["message"]} */ onmessage = null;
  /** @type {Handlers["error"]} */ onerror = null;
  /** @type {Handlers["close"]} */ onclose = null;
  /** @type {Handlers["gap"]} */ ongap = null;
  /** @type {Handlers["frame"]} */ onframe = null;

  #url;
  #protocols;
  #options;
  #timer;
  /** @type {WebSocket | undefined} */ #socket;
  #state = 0;
  #protocol = "";
  /** @type {BinaryType} */ #binaryType = "blob";
  /** Bytes of messages that the socket does not have yet. */ #pending = 0;
  #peerMaxMessage = Infinity;

  // Frames are sealed and opened side by side, and taken in order: one chain for each direction.
  #inbound = Promise.resolve();
  #outbound = Promise.resolve();
  #greeted = false;
  /** @type {((data: any) => Promise<Bytes>) | undefined} */ #open;
  /** @type {((type: number, plaintext: Bytes | Promise<Bytes>) => Promise<Bytes | string>) | undefined} */ #seal;
  /** @type {Bytes[]} */ #fragments = [];
  #fragmentKind = 0;
  /** What `close` will tell; once that is known, nothing is delivered. @type {object | undefined} */ #end;

  /**
   * @param {string | URL} url relative, `ws(s):` or `http(s):`
   * @param {string | string[]} [protocols] the application's subprotocols
   * @param {Options} [options]
   */
  constructor(url, protocols = [], options = {}) {
    super();
    const config = pageConfig();
    this.#options = {
      ...options,
      profile: options.profile ?? (options.crypt ? V1 : /** @type {Profile} */ (config.profile ?? V2)),
      keyUrl: options.keyUrl ?? /** @type {string} */ (config.keyUrl ?? "/gcrypt/key/"),
      WebSocket: options.WebSocket ?? globalThis.WebSocket ?? fail("unsupported"),
    };
    if (this.profile !== V1 && (this.profile !== V2 || options.crypt)) throw new TypeError("profile");
    if (!options.crypt) webCrypto();
    this.#url = parseUrl(url).href;
    this.#protocols = parseProtocols(protocols);
    for (const type of /** @type {const} */ (["open", "message", "error", "close", "gap", "frame"])) {
      this.addEventListener(type, (event) => /** @type {any} */ (this)["on" + type]?.(event));
    }
    this.#timer = setTimeout(() => this.#fail(new GcryptError("timeout")), options.handshakeTimeout ?? 20000);
    this.#connect().catch((error) => this.#fail(error));
  }

  /**
   * The class with these options, for those who construct `new WebSocket(url, protocols)`.
   *
   * @param {Options} options
   * @returns {typeof EncryptedWebSocket}
   */
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
  get profile() {
    return this.#options.profile;
  }
  get readyState() {
    return this.#state;
  }
  /** The subprotocol that the application chose. */
  get protocol() {
    return this.#protocol;
  }
  get extensions() {
    return this.#socket?.extensions ?? "";
  }
  get bufferedAmount() {
    return this.#pending + (this.#socket?.bufferedAmount ?? 0);
  }
  get binaryType() {
    return this.#binaryType;
  }
  set binaryType(type) {
    if (type === "blob" || type === "arraybuffer") this.#binaryType = type;
  }

  /**
   * Throws an `InvalidStateError` while connecting, and a `GcryptError` for a message that the
   * server does not accept (`message-too-big`) or gcrypt.v1 cannot carry (`not-json`).
   *
   * @param {Message} data
   */
  send(data) {
    if (this.#state === 0) throw domError("InvalidStateError");
    /** @type {Blob | Bytes} */ let content;
    let kind = BINARY;
    if (data instanceof Blob) content = data;
    else if (data instanceof ArrayBuffer) content = new Uint8Array(data.slice(0));
    else if (ArrayBuffer.isView(data)) {
      content = new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
    } else {
      content = utf8(data);
      kind = TEXT;
    }
    if (this.profile === V1) {
      try {
        JSON.parse(kind === TEXT ? data : "");
      } catch {
        fail("not-json");
      }
    }
    const size = content.size ?? content.length;
    if (size > this.#peerMaxMessage) fail("message-too-big");
    if (this.#state === 1) this.#send(kind, content, size);
    else this.#pending += size; // discarded, and counted, as by a WebSocket
  }

  /** Send a value as JSON text. @param {any} value */
  sendJSON(value) {
    this.send(toJSON(value));
  }

  /** @param {number} [code] 1000, or 3000 to 4999 @param {string} [reason] at most 123 bytes */
  close(code, reason = "") {
    if (code !== undefined && !isOwnCode(code)) throw domError("InvalidAccessError");
    if (utf8(reason).length > 123) throw domError("SyntaxError");
    if (this.#state === 0) this.#fail(new GcryptError("aborted"));
    if (this.#state === 1) {
      this.#state = 2;
      this.#end = { code: code ?? 1005, reason, wasClean: true, authentic: this.profile === V2 };
      this.#hangUp(code, reason, true);
    }
  }

  async #connect() {
    const { profile, crypt, WebSocket } = this.#options;
    const offers = [profile];
    /** @type {(frame: Bytes) => Promise<void>} */ let greet;
    if (profile === V2) {
      // Where X25519 is unknown, this fails before there is a connection.
      const ephemeral = await webCrypto().generateKey("X25519", false, ["deriveBits"]);
      const key = await sessionKey(V2, this.#options);
      offers.push("gcrypt.kid." + key.kid);
      greet = (frame) => this.#greet(frame, key, /** @type {CryptoKeyPair} */ (ephemeral));
    } else {
      offers.push(...this.#protocols);
      const passphrase = crypt ? new Uint8Array() : await sessionKey(V1, this.#options);
      this.#seal = async (_, json) =>
        crypt ? crypt.encrypt(JSON.parse(decoder.decode(await json))) : sealClassic(passphrase, await json);
      this.#open = async (frame) =>
        concat(Uint8Array.of(TEXT), utf8(crypt ? toJSON(await crypt.decrypt(frame)) : await openClassic(passphrase, frame)));
    }
    if (this.#end) return;
    /** @type {WebSocket} */
    const socket = (this.#socket = new WebSocket(this.url, offers));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => profile === V1 && this.#opened("");
    socket.onerror = () => {}; // `close` follows
    socket.onmessage = ({ data }) => {
      if (this.#end) return;
      const opened = this.#receive(data, greet);
      opened.catch(() => {}); // until its turn
      this.#inbound = this.#inbound
        .then(async () => {
          const plaintext = await opened;
          if (plaintext && !this.#end) this.#deliver(data, plaintext);
        })
        .catch((error) => this.#fail(error));
    };
    socket.onclose = (event) => {
      // A handshake may be waiting for the key endpoint; messages come before the end.
      if (this.#open) this.#inbound = this.#inbound.then(() => this.#finish(event));
      else this.#finish(event);
    };
  }

  // Outbound

  /** Seal a message, in fragments if need be. @param {number} kind @param {Blob | Bytes} content @param {number} size */
  #send(kind, content, size) {
    const { profile, padding, inspect } = this.#options;
    const limit = profile === V1 ? Infinity : MAX_FRAGMENT - (padding ? 1 : 0);
    let start = 0;
    do {
      const end = Math.min(start + limit, size);
      const part = content.slice(start, end);
      const plaintext = part instanceof Blob ? part.arrayBuffer().then((buffer) => new Uint8Array(buffer)) : part;
      const flags = (padding ? PADDED : 0) | (end < size ? MORE : 0);
      const sealed = this.#seal(kind | flags, padding ? Promise.resolve(plaintext).then(pad) : plaintext);
      sealed.catch(() => {}); // until its turn
      const count = end - start;
      this.#pending += count;
      this.#outbound = this.#outbound
        .then(async () => {
          const frame = await sealed;
          if (!this.#seal) return;
          this.#pending -= count;
          if (inspect) this.#inspect("outbound", kind, frame, await plaintext);
          this.#socket.send(frame);
        })
        .catch((error) => this.#fail(error));
      start = end;
    } while (start < size);
  }

  /** Close the socket, behind what is still to be sent, and after an authenticated close. */
  #hangUp(code, reason, sealed) {
    if (sealed && this.profile === V2 && this.#seal) {
      const close = utf8(toJSON({ type: "close", code: code ?? 1000, reason }));
      this.#send(CONTROL, close, close.length);
    }
    this.#outbound = this.#outbound.then(() => {
      this.#seal = undefined;
      // gcrypt.v2 keeps the reason off the wire; a page may not send every code.
      const args = isOwnCode(code) ? (this.profile === V1 ? [code, reason] : [code]) : [];
      if (this.#socket) this.#socket.close(...args);
      else this.#finish();
    });
  }

  // Inbound

  async #receive(data, greet) {
    if (this.profile === V1) return this.#open(data);
    const frame = new Uint8Array(data);
    if (typeof data === "string" || frame.length > MAX_FRAGMENT + 17) fail("invalid-frame");
    if (this.#open) return this.#open(frame);
    if (this.#greeted || frame[0] !== HELLO) fail("invalid-frame");
    this.#greeted = true;
    await greet(frame);
  }

  /** Answer HELLO with REPLY. */
  async #greet(frame, key, ephemeral) {
    const kid = toHex(frame.subarray(1, 9));
    if (kid !== key.kid) {
      // The key was rotated since it was fetched.
      if (!this.#options.key) key = await sessionKey(V2, this.#options, true);
      if (kid !== key.kid) fail("key-mismatch");
    }
    const subprotocols = this.#protocols;
    const payload = utf8(toJSON({ subprotocols, max_message: this.#options.maxMessage ?? MAX_MESSAGE }));
    const noise = await respond(key, frame.subarray(9), ephemeral, payload);
    const { max_message = MAX_MESSAGE } = parseObject(noise.payload);
    if (!(Number.isInteger(max_message) && max_message > 0)) fail("invalid-frame");
    if (this.#end) return;
    this.#peerMaxMessage = max_message;
    this.#inspect("inbound", HELLO, frame, noise.payload);
    const reply = concat(Uint8Array.of(REPLY), noise.message);
    this.#inspect("outbound", REPLY, reply, payload);
    this.#open = async (data) => concat(data.subarray(0, 1), await noise.receiving.open(data));
    this.#seal = (type, plaintext) => noise.sending.seal(type, plaintext);
    this.#socket.send(reply);
  }

  #inspect(direction, kind, data, plaintext) {
    if (!this.#options.inspect) return;
    const name = { [HELLO]: "HELLO", [REPLY]: "REPLY", [TEXT]: "TEXT", [BINARY]: "BINARY", [CONTROL]: "CONTROL" }[kind];
    const shown = kind === BINARY ? plaintext : new TextDecoder().decode(plaintext);
    const view = typeof data === "string" ? data : new Uint8Array(data)
    this.dispatchEvent(new FrameEvent("frame", { direction, kind: name, data: view, plaintext: shown }));
  }

  /** Take an opened frame: its type, then its plaintext. */
  #deliver(data, opened) {
    const type = opened[0];
    const kind = type & KIND_MASK;
    const plaintext = type & PADDED ? unpad(opened.subarray(1)) : opened.subarray(1);
    this.#inspect("inbound", kind, data, plaintext);
    const fragments = this.#fragments;
    if (kind === CONTROL && !(type & MORE) && !fragments.length) return this.#control(parseObject(plaintext));
    if (this.#state !== 1 || (kind !== TEXT && kind !== BINARY)) fail("invalid-frame");
    if (fragments.length && kind !== this.#fragmentKind) fail("invalid-frame");
    this.#fragmentKind = kind;
    fragments.push(plaintext);
    const size = fragments.reduce((sum, each) => sum + each.length, 0);
    if (size > (this.#options.maxMessage ?? MAX_MESSAGE)) fail("message-too-big");
    if (type & MORE) return;
    const message = concat(...fragments);
    this.#fragments = [];
    const content =
      kind === TEXT ? decoder.decode(message) : this.#binaryType === "blob" ? new Blob([message]) : message.buffer;
    this.dispatchEvent(new MessageEvent("message", { data: content, origin: new URL(this.url).origin }));
  }

  #control({ type, subprotocol = null, code, reason = "", group, missed }) {
    const open = this.#state === 1;
    if (type === "accept") {
      if (open || (subprotocol !== null && !this.#protocols.includes(subprotocol))) fail("invalid-frame");
      this.#opened(subprotocol ?? "");
    } else if (type === "close") {
      if (!(code >= 1000 && code < 5000) || typeof reason !== "string") fail("invalid-frame");
      this.#end = { code, reason, wasClean: true, authentic: true };
      this.#state = 2;
      if (!open) this.#tell(new GcryptError("rejected"));
      this.#hangUp(code);
    } else if (type === "gap") {
      if (!open) fail("invalid-frame");
      this.dispatchEvent(new GapEvent("gap", { group, missed }));
    } else if (typeof type !== "string") fail("invalid-frame");
  }

  // The beginning and the end

  #opened(protocol) {
    clearTimeout(this.#timer);
    this.#protocol = protocol;
    this.#state = 1;
    this.dispatchEvent(new Event("open"));
  }

  #tell(error) {
    this.dispatchEvent(new EncryptedErrorEvent("error", { error, message: error.message }));
  }

  /** End over something that failed: drop the keys, tell the page, close the socket. */
  #fail(cause) {
    if (this.#end) return;
    const known = cause instanceof GcryptError;
    const unsupported = cause?.name === "NotSupportedError";
    const error = known ? cause : new GcryptError(unsupported ? "unsupported" : "invalid-frame");
    const code = ERRORS[error.code][0];
    this.#end = { code, reason: "", wasClean: false, authentic: false };
    this.#state = 2;
    queueMicrotask(() => {
      this.#tell(error);
      if (code !== 1009) this.#seal = undefined;
      this.#hangUp(code, "", true);
    });
  }

  #finish({ code, reason, wasClean } = {}) {
    if (this.#state === 3) return;
    clearTimeout(this.#timer);
    const early = this.#state === 0;
    this.#state = 3;
    this.#open = this.#seal = undefined;
    if (!this.#end) {
      this.#end = { code, reason, wasClean: wasClean && this.profile === V1, authentic: false };
      if (early) this.#tell(new GcryptError(code === 4401 ? "unauthorized" : "connection-failed"));
    }
    if (this.#end.code === 4401) cache.delete(this.#options.keyUrl);
    this.dispatchEvent(new EncryptedCloseEvent("close", this.#end));
  }
}
