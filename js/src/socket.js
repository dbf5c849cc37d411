// `EncryptedWebSocket`: the interface of a WebSocket, whose messages are sealed and opened.

/**
 * @import { Bytes, End, SecureKey, Settings } from "./internal.d.ts"
 * @import { CarrierSocket, Cipher, ErrorCode, FrameDirection, Message, Options, Profile, Target } from "./types.d.ts"
 */

import { concat, fromUtf8, isText, toHex, toJSON, toUtf8 } from "./bytes.js";
import { textCipher } from "./classic.js";
import { fail, GcryptError, requireValid } from "./errors.js";
import { OwnCloseEvent, OwnEvent } from "./events.js";
import {
  BINARY,
  CONTROL,
  DEFAULT_MAX_MESSAGE,
  FRAME_OVERHEAD,
  HELLO,
  isPositive,
  KIND_MASK,
  KIND_NAMES,
  MAX_FRAGMENT,
  MORE,
  PADDED,
  pad,
  parseObject,
  REPLY,
  TEXT,
  unpad,
} from "./frames.js";
import { forget, sessionKey, V1, V2 } from "./keys.js";
import { respond } from "./noise.js";
import { pageConfig } from "./page.js";
import { webCrypto } from "./webcrypto.js";

const KEY_URL = "/gcrypt/key/";
const HANDSHAKE_TIMEOUT = 20000; // milliseconds
const MAX_REASON = 123; // bytes of UTF-8

const EVENTS = /** @type {const} */ (["open", "message", "error", "close", "gap", "frame"]);

/**
 * The close codes of failures. The others are 1006.
 *
 * @type {Partial<Record<ErrorCode, number>>}
 */
const CLOSE_CODES = {
  "decryption-failed": 4400,
  "invalid-frame": 4400,
  "key-mismatch": 4400,
  "message-too-big": 1009,
  timeout: 4408,
  unauthorized: 4401,
};

// readyState
const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

/** Opens and seals nothing: before there are keys, and when they have been dropped. */
const refuse = async () => fail("invalid-frame");

/** Does nothing. */
const ignore = () => {};

/** @param {string} name the name of a `DOMException` */
const domError = (name) => new DOMException(name, name);

/**
 * The absolute address of a socket, as WebSocket resolves it.
 *
 * @param {string | URL} url
 * @returns {string}
 * @throws {DOMException} `SyntaxError`
 */
function parseUrl(url) {
  try {
    const { href } = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
    if (/^(ws|http)s?:[^#]*$/.test(href)) return href.replace("http", "ws");
  } catch {
    // Not an address.
  }
  throw domError("SyntaxError");
}

/**
 * @param {string[]} protocols
 * @throws {DOMException} `SyntaxError` if one is not a token, or occurs twice
 */
function checkProtocols(protocols) {
  for (const [i, protocol] of protocols.entries()) {
    const isToken = /^[!#-'*+.^`|~\w-]+$/.test(protocol);
    if (!isToken || protocols.indexOf(protocol) < i) throw domError("SyntaxError");
  }
}

/**
 * @param {Bytes | Blob} data
 * @returns {number} bytes
 */
const sizeOf = (data) => (data instanceof Blob ? data.size : data.length);

/**
 * @param {Bytes | Blob} data
 * @returns {Promise<Bytes>}
 */
const readBytes = async (data) =>
  data instanceof Blob ? new Uint8Array(await data.arrayBuffer()) : data;

/** A `WebSocket` whose messages are encrypted. */
export class EncryptedWebSocket extends /** @type {{ new (): Target }} */ (EventTarget) {
  static CONNECTING = CONNECTING;
  static OPEN = OPEN;
  static CLOSING = CLOSING;
  static CLOSED = CLOSED;
  CONNECTING = CONNECTING;
  OPEN = OPEN;
  CLOSING = CLOSING;
  CLOSED = CLOSED;

  extensions = "";
  /** @type {BinaryType} */
  binaryType = "blob";

  #state = CONNECTING;
  /** The application's subprotocol that the server chose. */
  #protocol = "";
  /** @type {string} */
  #url;
  /** The application's subprotocols. @type {string[]} */
  #protocols;
  /** @type {Settings} */
  #settings;
  #handshakeTimer;
  /** Every subprotocol token of the request, in its order. @type {string[]} */
  #offered = [];

  /** The socket that carries the frames; made as soon as there is a key. @type {CarrierSocket | undefined} */
  #carrier;

  /** Bytes of plaintext that are waiting to be handed to the carrier. */
  #waiting = 0;
  /** The largest message that the server accepts. */
  #peerLimit = Infinity;
  /** The fragments of a message that has not ended, and their kind. @type {Bytes[]} */
  #fragments = [];
  #fragmentsKind = 0;

  // Frames are opened and sealed side by side, and taken in their order: each direction is a queue.
  #inbound = Promise.resolve();
  #outbound = Promise.resolve();
  /**
   * Opens a frame. What is not for the application, HELLO, opens to nothing.
   *
   * @type {(frame: any) => Promise<Bytes | void>}
   */
  #open = refuse;
  /** Seals a plaintext into a frame. @type {(type: number, plaintext: Bytes | Promise<Bytes>) => Promise<Bytes | string>} */
  #seal = refuse;

  /** What the `close` event will say. Once it is known, nothing more is delivered. @type {End | undefined} */
  #end;

  // Opening

  /**
   * @param {string | URL} url
   * @param {string | string[]} [protocols] the application's
   * @param {Options} [options]
   */
  constructor(url, protocols = [], options = {}) {
    super();
    const config = pageConfig();
    const {
      crypt,
      profile = crypt ? V1 : (config.profile ?? V2),
      keyUrl = config.keyUrl ?? KEY_URL,
      maxMessage = DEFAULT_MAX_MESSAGE,
      handshakeTimeout = HANDSHAKE_TIMEOUT,
      WebSocket = globalThis.WebSocket ?? fail("unsupported"),
    } = options;
    if (!crypt) webCrypto();
    this.#settings = { ...options, profile, keyUrl, maxMessage, WebSocket };
    this.#protocols = [protocols].flat();
    this.#url = parseUrl(url);
    checkProtocols(this.#protocols);
    for (const type of EVENTS) {
      this[`on${type}`] = null;
      this.addEventListener(type, (/** @type {any} */ event) => this[`on${type}`]?.(event));
    }
    this.#handshakeTimer = setTimeout(
      () => this.#fail(new GcryptError("timeout")),
      handshakeTimeout,
    );
    this.#connect().catch(this.#fail);
  }

  /**
   * A class with these options built in, for libraries that construct a WebSocket themselves.
   *
   * @param {Options} options
   * @returns {typeof EncryptedWebSocket}
   */
  static with(options) {
    // biome-ignore lint/complexity/noThisInStatic: the class that `with` is called on, not this one
    return class extends this {
      /**
       * @param {string | URL} url
       * @param {string | string[]} [protocols]
       * @param {Options} [more]
       */
      constructor(url, protocols, more) {
        super(url, protocols, { ...options, ...more });
      }
    };
  }

  async #connect() {
    const { profile, crypt, WebSocket } = this.#settings;
    this.#offered = [profile, ...(profile === V2 ? await this.#prepareSecure() : this.#protocols)];
    if (profile === V1) this.#useCipher(crypt ?? (await sessionKey(V1, this.#settings)));
    if (this.#end) return;
    const carrier = new WebSocket(this.#url, this.#offered);
    this.#carrier = carrier;
    carrier.binaryType = "arraybuffer";
    carrier.onopen = () => {
      if (profile === V1) this.#opened("");
    };
    carrier.onerror = ignore; // `close` follows
    carrier.onmessage = ({ data }) =>
      this.#receive(typeof data === "string" ? data : new Uint8Array(data));
    carrier.onclose = ({ code, reason, wasClean }) => {
      const error = code === 4401 ? "unauthorized" : "connection-failed";
      this.#inbound = this.#inbound
        .then(() => {
          const early = this.#state === CONNECTING;
          this.#stop(code, reason, wasClean && profile === V1, early ? error : undefined);
        })
        .then(() => this.#finish());
    };
  }

  /**
   * gcrypt.v1: seal and open with a `Crypt` object.
   *
   * @param {Cipher} cipher
   */
  #useCipher(cipher) {
    const { seal, open } = textCipher(cipher);
    this.#seal = async (_, json) => seal(fromUtf8(await json));
    this.#open = async (frame) => toUtf8(await open(frame));
  }

  /**
   * gcrypt.v2: get ready for HELLO.
   *
   * @returns {Promise<string[]>} the tokens to offer beside the profile
   */
  async #prepareSecure() {
    const ephemeral = await webCrypto().generateKey("X25519", false, ["deriveBits"]);
    const key = await sessionKey(V2, this.#settings);
    this.#open = async (frame) => {
      this.#open = refuse;
      requireValid(frame[0] === HELLO);
      this.#reply(frame, key, /** @type {CryptoKeyPair} */ (ephemeral)).catch(this.#fail);
    };
    return [`gcrypt.kid.${key.kid}`];
  }

  /**
   * gcrypt.v2: answer HELLO, and use the keys that come of it.
   *
   * @param {Bytes} hello
   * @param {SecureKey} key
   * @param {CryptoKeyPair} ephemeral
   */
  async #reply(hello, key, ephemeral) {
    const { keyUrl, maxMessage } = this.#settings;
    const kid = toHex(hello.subarray(1, 9));
    if (kid !== key.kid) {
      // The site has rotated its passphrase, or the visitor has logged in anew.
      forget(keyUrl);
      key = await sessionKey(V2, this.#settings);
      if (kid !== key.kid) fail("key-mismatch");
    }
    // The server compares these with the request that it got, so nobody on the way can change it.
    const { hostname, pathname, search } = new URL(this.#url);
    const request = { offered: this.#offered, host: hostname, target: pathname + search };
    const payload = toUtf8(
      toJSON({ subprotocols: this.#protocols, max_message: maxMessage, ...request }),
    );
    const { opened, reply, receiving, sending } = await respond(
      key,
      hello.subarray(9),
      ephemeral,
      payload,
    );
    const { max_message: peerLimit = DEFAULT_MAX_MESSAGE } = parseObject(opened);
    requireValid(isPositive(peerLimit));
    if (this.#end) return;

    this.#peerLimit = peerLimit;
    this.#open = async (frame) => {
      requireValid(frame.length <= MAX_FRAGMENT + FRAME_OVERHEAD);
      return receiving("decrypt", frame.subarray(0, 1), frame.subarray(1));
    };
    this.#seal = async (type, plaintext) => {
      const header = Uint8Array.of(type);
      return concat(header, await sending("encrypt", header, plaintext));
    };
    const frame = concat(Uint8Array.of(REPLY), reply);
    this.#inspect("inbound", HELLO, hello, opened);
    this.#inspect("outbound", REPLY, frame, payload);
    this.#carrier?.send(frame);
  }

  /** @param {string} protocol the application's subprotocol, or an empty string */
  #opened(protocol) {
    clearTimeout(this.#handshakeTimer);
    this.#protocol = protocol;
    this.#state = OPEN;
    this.dispatchEvent(new Event("open"));
  }

  // The interface of a WebSocket

  /** @returns {string} */
  get url() {
    return this.#url;
  }

  /** @returns {Profile} */
  get profile() {
    return this.#settings.profile;
  }

  /** @returns {number} */
  get readyState() {
    return this.#state;
  }

  /** @returns {string} */
  get protocol() {
    return this.#protocol;
  }

  /** @returns {number} bytes, those that are being sealed included */
  get bufferedAmount() {
    return this.#waiting + (this.#carrier?.bufferedAmount ?? 0);
  }

  /**
   * @param {Message} data
   * @throws {DOMException} `InvalidStateError` before `open`
   * @throws {GcryptError} `message-too-big` for the server, or `not-json` in gcrypt.v1
   */
  send(data) {
    if (this.#state === CONNECTING) throw domError("InvalidStateError");
    if (this.profile === V1) {
      try {
        JSON.parse(typeof data === "object" ? "" : data);
      } catch {
        fail("not-json");
      }
    }
    /** @type {Bytes | Blob} */
    let content;
    let kind = BINARY;
    if (data instanceof Blob) content = data;
    else if (data instanceof ArrayBuffer) content = new Uint8Array(data);
    else if (ArrayBuffer.isView(data)) {
      content = new Uint8Array(
        /** @type {ArrayBuffer} */ (data.buffer),
        data.byteOffset,
        data.byteLength,
      );
    } else {
      content = toUtf8(data);
      kind = TEXT;
    }
    if (sizeOf(content) > this.#peerLimit) fail("message-too-big");
    if (this.#state === OPEN) this.#send(kind, content);
  }

  /**
   * Send a value as JSON text.
   *
   * @param {unknown} value
   * @throws {GcryptError} `not-json`, or what `send` throws
   */
  sendJSON(value) {
    this.send(toJSON(value));
  }

  /**
   * @param {number} [code] 1000, or 3000 to 4999
   * @param {string} [reason] at most 123 bytes of UTF-8
   * @throws {DOMException} `InvalidAccessError` or `SyntaxError` for other arguments
   */
  close(code, reason = "") {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code < 5000)) {
      throw domError("InvalidAccessError");
    }
    if (toUtf8(reason).length > MAX_REASON) throw domError("SyntaxError");
    if (this.#state === CONNECTING) this.#fail(new GcryptError("aborted"));
    this.#stop(code, reason, true);
  }

  // Outbound

  /**
   * Seal a message, and queue its frames.
   *
   * @param {number} kind
   * @param {Bytes | Blob} content
   */
  #send(kind, content) {
    const secure = this.profile === V2;
    const padding = secure && this.#settings.padding;
    // Padding takes a byte, at least.
    const limit = secure ? MAX_FRAGMENT - (padding ? 1 : 0) : Infinity;
    const size = sizeOf(content);
    this.#waiting += size;
    let start = 0;
    do {
      const part = content.slice(start, start + limit);
      start += limit;
      const type = kind | (padding ? PADDED : 0) | (start < size ? MORE : 0);
      this.#queue(kind, type, part);
    } while (start < size);
  }

  /**
   * Seal a frame, and send it when those before it have been sent.
   *
   * @param {number} kind
   * @param {number} type
   * @param {Bytes | Blob} part
   */
  #queue(kind, type, part) {
    const plaintext = readBytes(part);
    const sealed = this.#seal(type, type & PADDED ? plaintext.then(pad) : plaintext);
    sealed.catch(ignore); // until its turn
    this.#outbound = this.#outbound
      .then(async () => {
        const frame = await sealed;
        if (this.#seal === refuse) return;
        this.#waiting -= sizeOf(part);
        this.#inspect("outbound", kind, frame, await plaintext);
        this.#carrier?.send(frame);
      })
      .catch(this.#fail);
  }

  // Inbound

  /**
   * Open a frame, and deliver it when those before it have been delivered.
   *
   * @param {string | Bytes} frame
   */
  #receive(frame) {
    if (this.#end) return;
    const opened = this.#open(frame);
    opened.catch(ignore); // until its turn
    this.#inbound = this.#inbound
      .then(async () => {
        const plaintext = await opened;
        if (plaintext && !this.#end) this.#deliver(frame, plaintext);
      })
      .catch(this.#fail);
  }

  /**
   * @param {string | Bytes} frame
   * @param {Bytes} opened its plaintext, which may be padded
   */
  #deliver(frame, opened) {
    const type = typeof frame === "string" ? TEXT : frame[0];
    const kind = type & KIND_MASK;
    const more = type & MORE;
    const plaintext = type & PADDED ? unpad(opened) : opened;
    this.#inspect("inbound", kind, frame, plaintext);
    const fragments = this.#fragments;
    if (kind === CONTROL && !more && !fragments.length) {
      this.#control(parseObject(plaintext));
      return;
    }
    requireValid(this.#state === OPEN);
    requireValid(kind === TEXT || kind === BINARY);
    requireValid(!fragments.length || kind === this.#fragmentsKind);
    this.#fragmentsKind = kind;
    fragments.push(plaintext);
    const size = fragments.reduce((sum, each) => sum + each.length, 0);
    if (size > this.#settings.maxMessage) fail("message-too-big");
    if (more) return;
    this.#fragments = [];
    this.#message(kind, concat(...fragments));
  }

  /**
   * @param {number} kind
   * @param {Bytes} bytes
   */
  #message(kind, bytes) {
    /** @type {string | Blob | ArrayBuffer} */
    let data = bytes.buffer;
    if (kind === TEXT) data = fromUtf8(bytes);
    else if (this.binaryType === "blob") data = new Blob([bytes]);
    this.dispatchEvent(new MessageEvent("message", { data, origin: new URL(this.#url).origin }));
  }

  /**
   * Obey a control message. Types that are not known are ignored.
   *
   * @param {Record<string, unknown>} message
   */
  #control({ type, subprotocol = null, code, reason = "", group, missed }) {
    const open = this.#state === OPEN;
    if (type === "accept") {
      requireValid(!open);
      requireValid(
        subprotocol === null || this.#protocols.includes(/** @type {string} */ (subprotocol)),
      );
      this.#opened(/** @type {string | null} */ (subprotocol) ?? "");
    } else if (type === "close") {
      requireValid(isPositive(code) && code >= 1000 && code < 5000);
      requireValid(isText(reason));
      this.#stop(code, reason, true, open ? undefined : "rejected");
    } else if (type === "gap") {
      requireValid(open && isText(group) && group && isPositive(missed));
      this.dispatchEvent(new OwnEvent("gap", { group, missed }));
    } else {
      requireValid(isText(type));
    }
  }

  /**
   * Show a frame to the page that asked for it.
   *
   * @param {FrameDirection} direction
   * @param {number} kind
   * @param {string | Bytes} data the frame
   * @param {Bytes} content its plaintext
   */
  #inspect(direction, kind, data, content) {
    if (!this.#settings.inspect) return;
    const plaintext = kind === BINARY ? content : new TextDecoder().decode(content);
    this.dispatchEvent(
      new OwnEvent("frame", { direction, kind: KIND_NAMES[kind], data, plaintext }),
    );
  }

  // The end

  /**
   * End the connection because of a failure.
   *
   * @param {unknown} cause
   */
  #fail = (cause) => {
    /** @type {ErrorCode} */
    let error = "invalid-frame";
    if (cause instanceof GcryptError) error = cause.code;
    else if (cause instanceof DOMException && cause.name === "NotSupportedError")
      error = "unsupported";
    this.#stop(CLOSE_CODES[error] ?? 1006, "", false, error);
  };

  /**
   * End the connection. The first call decides what the `close` event says.
   *
   * @param {number | undefined} code
   * @param {string} reason
   * @param {boolean} wasClean
   * @param {ErrorCode} [error] for an `error` event before it
   */
  #stop(code, reason, wasClean, error) {
    if (this.#end) return;
    const secure = this.profile === V2;
    this.#open = refuse;
    this.#end = { code: code ?? 1005, reason, wasClean, authentic: wasClean && secure };
    if (error) {
      queueMicrotask(() =>
        this.dispatchEvent(new OwnEvent("error", { error: new GcryptError(error) })),
      );
    }
    if (code === 1006 || code === 4400) this.#seal = refuse;
    else if (secure && this.#seal !== refuse) {
      this.#send(CONTROL, toUtf8(toJSON({ type: "close", code: code ?? 1000, reason })));
    }
    this.#state = CLOSING;
    this.#outbound = this.#outbound.then(() => {
      if (!this.#carrier) return this.#finish();
      try {
        this.#carrier.close(code, secure ? "" : reason);
      } catch {
        this.#carrier.close(); // the platform refuses the code
      }
    });
  }

  #finish() {
    const end = /** @type {End} */ (this.#end);
    clearTimeout(this.#handshakeTimer);
    this.#state = CLOSED;
    this.#seal = refuse;
    if (end.code === 4401) forget(this.#settings.keyUrl);
    this.dispatchEvent(new OwnCloseEvent("close", end));
  }
}
