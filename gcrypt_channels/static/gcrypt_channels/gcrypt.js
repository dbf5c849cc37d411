/** See docs/javascript.md and docs/protocol.md. @import * as T from "./types.d.ts" */

const V1 = "gcrypt.v1";
const V2 = "gcrypt.v2";
const HELLO = 0x01;
const REPLY = 0x02;
const TEXT = 0x10;
const BINARY = 0x11;
const CONTROL = 0x12;
/** @type {any} */
const KINDS = { 1: "HELLO", 2: "REPLY", 16: "TEXT", 17: "BINARY", 18: "CONTROL" };
const PADDED = 0x40;
const MORE = 0x80;
const FRAGMENT = 114688; // what is sent; more is received
const MAX_FRAGMENT = 262144;
const MAX_MESSAGE = 1048576;
const REKEY_INTERVAL = 65536;

/** @type {any} */
const HINTS = {
  "insecure-context": "WebCrypto needs https, or localhost",
  unsupported: "needs WebSocket and X25519",
};

/** @type {any} */
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
  /** @param {T.ErrorCode} code */
  constructor(code) {
    super(HINTS[code] ?? code);
    this.name = "GcryptError";
    this.code = code;
  }
}

/** @param {T.ErrorCode} code @returns {never} */
const fail = (code) => {
  throw new GcryptError(code);
};

/** @param {any} valid */
const check = (valid) => valid || fail("invalid-frame");
const refuse = async () => check(false);

// Bytes

const NONE = new Uint8Array();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @param {string} text @returns {T.Bytes} */
const utf8 = (text) => new TextEncoder().encode(text);

/** @param {T.Bytes[]} parts */
function concat(...parts) {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** @param {T.Bytes} bytes */
const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** @param {string} hex */
const fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));

/** @param {string} text */
function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** @param {T.Bytes} bytes */
function toBase64(bytes) {
  let binary = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    binary += String.fromCharCode.apply(null, /** @type {any} */ (bytes.subarray(i, i + 8192)));
  }
  return btoa(binary);
}

/** Of a Blob or bytes @param {any} data @returns {number} */
const sizeOf = (data) => data.size ?? data.length;

/** @param {any} data @returns {Promise<T.Bytes>} */
const toBytes = async (data) => (data.size === undefined ? data : new Uint8Array(await data.arrayBuffer()));

/** Those that a close may name @param {any} code */
const isCloseCode = (code) =>
  Number.isInteger(code) &&
  ((code >= 1000 && code < 1004) || (code > 1006 && code < 1015) || (code >= 3000 && code < 5000));

/** @param {any} value */
const toJSON = (value) => JSON.stringify(value) ?? fail("not-json");

const webCrypto = () =>
  globalThis.crypto?.subtle ??
  fail(globalThis.isSecureContext === false ? "insecure-context" : "unsupported");

/** @param {string} name @param {any} bytes @param {KeyUsage[]} usages */
const importKey = (name, bytes, ...usages) => webCrypto().importKey("raw", bytes, name, false, usages);

// gcrypt.v1, with MD5 (RFC 1321)

const SHIFTS = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21];
const SINES = Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32));

/** @param {T.Bytes} data */
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
      const mixed = [d ^ (b & (c ^ d)), c ^ (d & (b ^ c)), b ^ c ^ d, c ^ (b | ~d)][round];
      const word = [i, 5 * i + 1, 3 * i + 5, 7 * i][round] & 15;
      const sum = a + mixed + SINES[i] + words[block + word];
      const shift = SHIFTS[round * 4 + (i & 3)];
      [a, b, c, d] = [d, (b + ((sum << shift) | (sum >>> -shift))) | 0, b, c];
    }
    [a, b, c, d].forEach((word, i) => (state[i] += word));
  }
  return new Uint8Array(state.buffer);
}

/** EVP_BytesToKey @param {T.Bytes} passphrase @param {T.Bytes} salt */
async function derive(passphrase, salt) {
  const secret = concat(passphrase, salt);
  const first = md5(secret);
  const second = md5(concat(first, secret));
  const key = await importKey("AES-CBC", concat(first, second), "encrypt", "decrypt");
  return { key, iv: md5(concat(second, secret)) };
}

/** g-crypt's `Crypt`, made asynchronous. */
export const Crypt = /** @type {T.CryptConstructor} */ (
  /** @param {string} passphrase */
  function (passphrase) {
    if (!passphrase) throw new TypeError("no passphrase");
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
          const { ct, iv: sent, s } = JSON.parse(text);
          const { key, iv } = await derive(secret, fromHex(s));
          if (
            // four for each member: none twice
            text.split('"').length === (sent === undefined ? 9 : 13) &&
            /^[\da-f]{16}$/i.test(s) &&
            // a flipped bit must not change the JSON
            (sent === undefined || sent.toLowerCase() === toHex(iv)) &&
            btoa(atob(ct)) === ct // canonical
          ) {
            const plaintext = await webCrypto().decrypt({ name: "AES-CBC", iv }, key, fromBase64(ct));
            return JSON.parse(decoder.decode(plaintext));
          }
        } catch {}
        fail("decryption-failed");
      },
    };
  }
);

// gcrypt.v2, with the sections of Noise

/** Section 12.3 @param {any} n @param {T.Bytes} additionalData */
function gcm(n, additionalData) {
  const iv = new DataView(new ArrayBuffer(12));
  iv.setBigUint64(4, BigInt(n));
  return { name: "AES-GCM", iv, additionalData };
}

/** @param {T.Bytes} key */
const gcmKey = (key) => importKey("AES-GCM", key, "encrypt", "decrypt");

/** Section 4.2: REKEY @param {CryptoKey} key */
async function rekey(key) {
  const sealed = await webCrypto().encrypt(gcm(2n ** 64n - 1n, NONE), key, new Uint8Array(32));
  return gcmKey(new Uint8Array(sealed, 0, 32));
}

/** Section 5.1; calls may overlap @param {T.Bytes} rawKey */
function cipherState(rawKey) {
  let key = gcmKey(rawKey);
  let n = 0;
  /** @param {"encrypt" | "decrypt"} operation @param {T.Bytes} header @param {any} data */
  return async (operation, header, data) => {
    const current = key;
    const params = gcm(n++, header);
    if (n % REKEY_INTERVAL === 0) key = key.then(rekey);
    return new Uint8Array(await webCrypto()[operation](params, await current, await data));
  };
}

/**
 * Section 5.3, as the responder
 * @param {T.SecureKey} key @param {T.Bytes} message @param {CryptoKeyPair} ephemeral @param {T.Bytes} payload
 */
async function respond({ kid, psk }, message, { publicKey, privateKey }, payload) {
  const subtle = webCrypto();
  let h = utf8("Noise_NNpsk0_25519_AESGCM_SHA256");
  let [ck, k] = [h, h];

  /** @param {T.Bytes} data */
  const mixHash = async (data) => {
    h = new Uint8Array(await subtle.digest("SHA-256", concat(h, data)));
  };
  /** Section 4.3 @param {CryptoKey} secret @param {number} outputs */
  const hkdf = async (secret, outputs) => {
    const params = { name: "HKDF", hash: "SHA-256", salt: ck, info: NONE };
    const bits = await subtle.deriveBits(params, secret, outputs * 256);
    return Array.from({ length: outputs }, (_, i) => new Uint8Array(bits, i * 32, 32));
  };
  /** @param {any} secret */
  const mixKey = async (secret) => {
    [ck, k] = await hkdf(await importKey("HKDF", secret, "deriveBits"), 2);
  };

  await mixHash(concat(utf8(V2), fromHex(kid)));
  // -> psk, e
  let tempHash;
  [ck, tempHash, k] = await hkdf(psk, 3);
  await mixHash(tempHash);
  const re = message.slice(0, 32);
  const sealed = message.slice(32);
  await mixHash(re);
  await mixKey(re);
  const opened = await cipherState(k)("decrypt", h, sealed);
  await mixHash(sealed);
  // <- e, ee
  const e = new Uint8Array(await subtle.exportKey("raw", publicKey));
  await mixHash(e);
  await mixKey(e);
  const exchange = { name: "X25519", public: await importKey("X25519", re) };
  await mixKey(await subtle.deriveBits(exchange, privateKey, 256));
  const reply = concat(e, await cipherState(k)("encrypt", h, payload));
  // Split: the initiator, the server, sends with the first key.
  const [receiving, sending] = await hkdf(await importKey("HKDF", NONE, "deriveBits"), 2);
  return { opened, reply, receiving: cipherState(receiving), sending: cipherState(sending) };
}

/** To a Padmé length @param {T.Bytes} plaintext */
function pad(plaintext) {
  const exponent = 31 - Math.clz32(plaintext.length + 1);
  const zeros = exponent - 32 + Math.clz32(exponent);
  const padded = new Uint8Array(((plaintext.length >> zeros) + 1) << zeros);
  padded.set(plaintext);
  padded[plaintext.length] = 0x80;
  return padded;
}

/** @param {T.Bytes} padded */
function unpad(padded) {
  let end = padded.length - 1;
  while (padded[end] === 0) end--;
  check(padded[end] === 0x80);
  return padded.subarray(0, end);
}

/** @param {T.Bytes} data @returns {any} */
function parseObject(data) {
  const text = decoder.decode(data);
  check(/^\s*{/.test(text));
  return JSON.parse(text);
}

/** By key endpoint @type {Map<string, Promise<T.Keys>>} */
const cache = new Map();

globalThis.addEventListener?.("pageshow", (event) => event.persisted && cache.clear());

/** @returns {any} */
const pageConfig = () => JSON.parse(globalThis.document?.getElementById("gcrypt-config")?.textContent ?? "{}");

/** @param {any} members @returns {Promise<T.Keys>} */
const importKeys = async ({ [V1]: classic, [V2]: secure }) => ({
  [V1]: classic && Crypt(classic.passphrase),
  [V2]: secure && {
    kid: secure.kid,
    psk: await importKey("HKDF", fromBase64(secure.psk.replace(/-/g, "+").replace(/_/g, "/")), "deriveBits"),
  },
});

/** @param {string} keyUrl */
async function fetchKeys(keyUrl) {
  const { csrfCookie = "csrftoken", csrfHeader = "X-CSRFToken", csrfToken } = pageConfig();
  const cookies = "; " + globalThis.document?.cookie;
  const response = await fetch(keyUrl, {
    method: "POST",
    headers: { [csrfHeader]: csrfToken ?? cookies.split(`; ${csrfCookie}=`)[1]?.split(";")[0] ?? "" },
  });
  if (response.status === 401 || response.status === 403) fail("unauthorized");
  return importKeys(await response.json());
}

/** @param {T.Profile} profile @param {any} options @returns {Promise<any>} */
async function sessionKey(profile, { key, keyUrl }) {
  try {
    const keys = key ? importKeys({ [profile]: key }) : (cache.get(keyUrl) ?? fetchKeys(keyUrl));
    if (!key) cache.set(keyUrl, keys);
    return (await keys)[profile] ?? fail("key-unavailable");
  } catch (error) {
    cache.delete(keyUrl);
    throw error instanceof GcryptError ? error : new GcryptError("key-unavailable");
  }
}

/** To be cloned like the DOM's @param {any} Base @returns {any} */
const eventClass = (Base) =>
  class extends Base {
    /** @param {string} type @param {any} init */
    constructor(type, init) {
      super(type, init);
      for (const name in init) if (!(name in this)) this[name] = init[name];
    }
  };

const OwnEvent = eventClass(Event);
const OwnCloseEvent = eventClass(globalThis.CloseEvent ?? Event);

/** @param {string} name */
const domError = (name) => new DOMException(name, name);

/** @param {string | URL} url */
function parseUrl(url) {
  try {
    const { href } = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
    if (/^(ws|http)s?:[^#]*$/.test(href)) return href.replace("http", "ws");
  } catch {}
  throw domError("SyntaxError");
}

/** @param {any} value */
const isText = (value) => typeof value === "string" && value.isWellFormed();

/** A `WebSocket` whose messages are encrypted. */
export class EncryptedWebSocket extends /** @type {{new (): T.Target}} */ (EventTarget) {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  CONNECTING = 0;
  OPEN = 1;
  CLOSING = 2;
  CLOSED = 3;

  extensions = "";
  /** @type {BinaryType} */ binaryType = "blob";
  #state = 0;
  #protocol = "";
  #url;
  /** @type {string[]} */ #protocols;
  #options;
  #timer;
  /** @type {any} */ #socket;
  #pending = 0;
  #peerLimit = Infinity;
  /** @type {string[]} */ #offers = [];
  /** @type {T.Bytes[]} */ #parts = [];
  #partsKind = 0;

  // Frames are opened and sealed at once, taken in order.
  #inbound = Promise.resolve();
  #outbound = Promise.resolve();
  /** @type {(frame: any) => Promise<T.Bytes | void>} */ #open = refuse;
  /** @type {(type: number, plaintext: any) => Promise<any>} */ #seal = refuse;
  /** For `close`; once it is set, nothing is delivered. @type {any} */ #end;

  /** @param {string | URL} url @param {string | string[]} [protocols] @param {T.Options} [options] */
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
    this.#url = parseUrl(url);
    this.#protocols.forEach((each, i, all) => {
      if (!/^[!#-'*+.^`|~\w-]+$/.test(each) || all.indexOf(each) < i) throw domError("SyntaxError");
    });
    for (const type of /** @type {const} */ (["open", "message", "error", "close", "gap", "frame"])) {
      this[`on${type}`] = null;
      this.addEventListener(type, (event) => /** @type {any} */ (this)[`on${type}`]?.(event));
    }
    this.#timer = setTimeout(() => this.#fail(new GcryptError("timeout")), handshakeTimeout);
    this.#connect().catch(this.#fail);
  }

  /** @param {T.Options} options @returns {typeof EncryptedWebSocket} */
  static with(options) {
    return class extends this {
      /** @param {string | URL} url @param {string | string[]} [protocols] @param {T.Options} [more] */
      constructor(url, protocols, more) {
        super(url, protocols, { ...options, ...more });
      }
    };
  }

  get url() {
    return this.#url;
  }
  /** @returns {T.Profile} */
  get profile() {
    return this.#options.profile;
  }
  get readyState() {
    return this.#state;
  }
  get protocol() {
    return this.#protocol;
  }
  /** @returns {number} */
  get bufferedAmount() {
    return this.#pending + (this.#socket?.bufferedAmount ?? 0);
  }

  /** @param {T.Message} data */
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
    const isView = ArrayBuffer.isView(view);
    const content = isView ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : view instanceof Blob ? view : utf8(view);
    if (sizeOf(content) > this.#peerLimit) fail("message-too-big");
    if (this.#state === 1) this.#send(isView || content === view ? BINARY : TEXT, content);
  }

  /** @param {any} value */
  sendJSON(value) {
    this.send(toJSON(value));
  }

  /** @param {number} [code] @param {string} [reason] */
  close(code, reason = "") {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code < 5000)) throw domError("InvalidAccessError");
    if (utf8(reason).length > 123) throw domError("SyntaxError");
    if (this.#state === 0) this.#fail(new GcryptError("aborted"));
    this.#stop(code, reason, true);
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
        this.#reply(frame, key, ephemeral).catch(this.#fail);
      };
    } else {
      offers.push(...this.#protocols);
      const cipher = crypt ?? (await sessionKey(V1, this.#options));
      this.#seal = async (_, json) => cipher.encrypt(JSON.parse(decoder.decode(await json)));
      this.#open = async (frame) => utf8(toJSON(await cipher.decrypt(frame)));
    }
    if (this.#end) return;
    this.#offers = offers;
    /** @type {WebSocket} */
    const socket = (this.#socket = new WebSocket(this.#url, offers));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => profile === V1 && this.#opened("");
    socket.onerror = () => {};
    socket.onmessage = ({ data }) =>
      this.#receive(typeof data === "string" ? data : new Uint8Array(data));
    socket.onclose = ({ code, reason, wasClean }) => {
      const error = code === 4401 ? "unauthorized" : "connection-failed";
      this.#inbound = this.#inbound
        .then(() => this.#stop(code, reason, wasClean && profile === V1, this.#state ? undefined : error))
        .then(() => this.#finish());
    };
  }

  /** @param {number} kind @param {any} content */
  #send(kind, content) {
    const secure = this.profile === V2;
    const padding = secure && this.#options.padding;
    const limit = secure ? FRAGMENT - (padding ? 1 : 0) : Infinity;
    const size = sizeOf(content);
    this.#pending += size;
    let start = 0;
    do {
      const part = content.slice(start, start + limit);
      const plaintext = toBytes(part);
      start += limit;
      const type = kind | (padding ? PADDED : 0) | (start < size ? MORE : 0);
      const sealed = this.#seal(type, padding ? plaintext.then(pad) : plaintext);
      sealed.catch(() => {}); // until its turn
      this.#outbound = this.#outbound
        .then(async () => {
          const frame = await sealed;
          if (this.#seal === refuse) return;
          this.#pending -= sizeOf(part);
          this.#inspect("outbound", kind, frame, await plaintext);
          this.#socket.send(frame);
        })
        .catch(this.#fail);
    } while (start < size);
  }

  /** @param {string | T.Bytes} frame */
  #receive(frame) {
    if (this.#end) return;
    const opened = this.#open(frame);
    opened.catch(() => {}); // until its turn
    this.#inbound = this.#inbound
      .then(async () => {
        const plaintext = await opened;
        if (plaintext && !this.#end) this.#deliver(frame, plaintext);
      })
      .catch(this.#fail);
  }

  /** @param {T.Bytes} hello @param {T.SecureKey} key @param {CryptoKeyPair} ephemeral */
  async #reply(hello, key, ephemeral) {
    const kid = toHex(hello.subarray(1, 9));
    if (kid !== key.kid) {
      cache.delete(this.#options.keyUrl);
      key = await sessionKey(V2, this.#options);
      if (kid !== key.kid) fail("key-mismatch");
    }
    const { hostname, pathname, search } = new URL(this.#url);
    const payload = utf8(toJSON({
      subprotocols: this.#protocols,
      max_message: this.#options.maxMessage,
      offered: this.#offers,
      host: hostname,
      target: pathname + search,
    }));
    const { opened, reply, receiving, sending } = await respond(key, hello.subarray(9), ephemeral, payload);
    const { max_message = MAX_MESSAGE } = parseObject(opened);
    check(Number.isInteger(max_message) && max_message > 0);
    if (this.#end) return;
    this.#peerLimit = max_message;
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

  /** @param {string} direction @param {number} kind @param {any} data @param {any} content */
  #inspect(direction, kind, data, content) {
    if (!this.#options.inspect) return;
    const plaintext = kind === BINARY ? content : new TextDecoder().decode(content);
    this.dispatchEvent(new OwnEvent("frame", { direction, kind: KINDS[kind], data, plaintext }));
  }

  /** @param {string | T.Bytes} frame @param {T.Bytes} opened */
  #deliver(frame, opened) {
    const type = typeof frame === "string" ? TEXT : frame[0];
    const kind = type & 0x3f;
    const plaintext = type & PADDED ? unpad(opened) : opened;
    this.#inspect("inbound", kind, frame, plaintext);
    const parts = this.#parts;
    if (kind === CONTROL && !(type & MORE) && !parts.length) return this.#control(parseObject(plaintext));
    check(this.#state === 1 && (kind === TEXT || kind === BINARY) && (!parts.length || kind === this.#partsKind));
    this.#partsKind = kind;
    parts.push(plaintext);
    if (parts.reduce((size, each) => size + each.length, 0) > this.#options.maxMessage) fail("message-too-big");
    if (type & MORE) return;
    this.#parts = [];
    const bytes = concat(...parts);
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
      check(isCloseCode(code) && isText(reason) && utf8(reason).length <= 123);
      this.#stop(code, reason, true, open ? undefined : "rejected");
    } else if (type === "gap") {
      check(open && group && isText(group) && Number.isInteger(missed) && missed > 0);
      this.dispatchEvent(new OwnEvent(type, { group, missed }));
    } else check(isText(type));
  }

  /** @param {string} protocol */
  #opened(protocol) {
    clearTimeout(this.#timer);
    this.#protocol = protocol;
    this.#state = 1;
    this.dispatchEvent(new Event("open"));
  }

  /** @param {any} cause */
  #fail = (cause) => {
    const code = cause?.name === "NotSupportedError" ? "unsupported" : "invalid-frame";
    const error = cause instanceof GcryptError ? cause.code : code;
    this.#stop(CLOSE_CODES[error] ?? 1006, "", false, error);
  };

  /** End, once @param {number | undefined} code @param {string} reason @param {boolean} wasClean @param {T.ErrorCode} [error] */
  #stop(code, reason, wasClean, error) {
    if (this.#end) return;
    this.#open = refuse;
    const secure = this.profile === V2;
    this.#end = { code: code ?? 1005, reason, wasClean, authentic: wasClean && secure };
    if (error) queueMicrotask(() => this.dispatchEvent(new OwnEvent("error", { error: new GcryptError(error) })));
    if (code === 1006 || code === 4400) this.#seal = refuse;
    else if (secure && this.#seal !== refuse) {
      this.#send(CONTROL, utf8(toJSON({ type: "close", code: code ?? 1000, reason })));
    }
    this.#state = 2;
    this.#outbound = this.#outbound.then(() => {
      if (!this.#socket) return this.#finish();
      try {
        this.#socket.close(code, secure ? "" : reason);
      } catch {
        this.#socket.close(); // not a code for pages
      }
    });
  }

  #finish() {
    clearTimeout(this.#timer);
    this.#state = 3;
    this.#seal = refuse;
    if (this.#end.code === 4401) cache.delete(this.#options.keyUrl);
    this.dispatchEvent(new OwnCloseEvent("close", this.#end));
  }
}
