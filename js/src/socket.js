// `EncryptedWebSocket`: the interface of a WebSocket, whose messages are sealed and opened.

/**
 * @import { Bytes, End, Handler, Keys, SecureKey, Settings } from "./internal.d.ts"
 * @import { CarrierClass, CarrierSocket, Cipher, ErrorCode, FrameDirection, Message, Options, Position, Profile, SecureProfile, SocketBase } from "./types.d.ts"
 */

import { concat, fromUtf8, isText, join, toHex, toJSON, toUtf8 } from "./bytes.js";
import { textCipher } from "./classic.js";
import { fail, GcryptError, requireValid } from "./errors.js";
import { OwnCloseEvent, OwnEvent, OwnMessageEvent } from "./events.js";
import {
  BINARY,
  CONTROL,
  DEFAULT_MAX_MESSAGE,
  FRAME_OVERHEAD,
  GROUP,
  GROUP_HEADER,
  HELLO,
  isCloseCode,
  isPositive,
  KIND_MASK,
  KIND_NAMES,
  MAX_FRAGMENT,
  MAX_REASON,
  MAX_RESUME,
  MORE,
  PADDED,
  pad,
  parseObject,
  REPLY,
  SENT_FRAGMENT,
  TEXT,
  unpad,
} from "./frames.js";
import { forget, renew, SESSION, sessionKey, TOO_LONG, V1, V2, V3 } from "./keys.js";
import { hasMlKem } from "./mlkem.js";
import { respond } from "./noise.js";
import { baseUrl, pageConfig } from "./page.js";
import { webCrypto } from "./webcrypto.js";
import {
  dressAsInterface,
  requireArgument,
  toContent,
  toStrings,
  toUnsignedShort,
  toUSVString,
} from "./webidl.js";

// The browser's own class, also when a page puts this one in its place later.
const NativeWebSocket = globalThis.WebSocket;

const KEY_URL = "/gcrypt/key/";
const HANDSHAKE_TIMEOUT = 20000; // milliseconds

const EVENTS = ["open", "message", "error", "close", "gap", "joined", "frame"];

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
/** @internal */
export const STATES = { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 };
const { CONNECTING, OPEN, CLOSING, CLOSED } = STATES;

/** Opens and seals nothing: before there are keys, and when they have been dropped. */
const refuse = async () => fail("invalid-frame");

/** Does nothing. */
const ignore = () => {};

/** @param {string} name the name of a `DOMException` */
const domError = (name) => new DOMException(name, name);

/**
 * The absolute address of a socket, as WebSocket resolves it.
 *
 * @param {string} url
 * @returns {string}
 * @throws {DOMException} `SyntaxError`
 */
function parseUrl(url) {
  try {
    const { href } = new URL(url, baseUrl());
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
 * Whether a page may close with a code.
 *
 * @param {number} code
 */
const isPageCode = (code) => code === 1000 || (code >= 3000 && code < 5000);

/**
 * Whether a profile has a handshake.
 *
 * @param {string} profile
 * @returns {profile is SecureProfile}
 */
const isSecure = (profile) => profile === V3 || profile === V2;

/**
 * @internal
 * @param {Bytes | Blob} content
 * @returns {number} bytes
 */
export const sizeOf = (content) => (content instanceof Uint8Array ? content.length : content.size);

/**
 * @param {Bytes | Blob} content
 * @returns {Promise<Bytes>}
 */
const readBytes = async (content) =>
  content instanceof Uint8Array ? content : new Uint8Array(await content.arrayBuffer());

/** A `WebSocket` whose messages are encrypted. */
export class EncryptedWebSocket extends /** @type {SocketBase} */ (EventTarget) {
  #state = CONNECTING;
  /** The application's subprotocol that the server chose. */
  #protocol = "";
  /** @type {BinaryType} */
  #binaryType = "blob";
  /** The `on…` handlers, by type of event. @type {Map<string, Handler>} */
  #handlers = new Map();
  /** Whether a listener for errors was ever added; without one, the console gets the error. */
  #hasErrorListener = false;
  /** @type {string} */
  #url;
  /** The application's subprotocols. @type {string[]} */
  #protocols;
  /** @type {Settings} */
  #settings;
  #handshakeTimer;
  /** Aborts when nothing has to be waited for any more. */
  #ended = new AbortController();
  /** The server's choice; until that is known, the first that may be offered. @type {Profile} */
  #profile;
  /** Every subprotocol token of the request, in its order. @type {string[]} */
  #offered = [];

  /** The socket that carries the frames; made as soon as there is a key. @type {CarrierSocket | undefined} */
  #carrier;

  /** Bytes of plaintext that are waiting to be handed to the carrier. */
  #waiting = 0;
  /** The largest message that the server accepts. */
  #peerLimit = Infinity;
  /** The fragments of a message that has not ended, and their size in bytes. @type {Bytes[]} */
  #fragments = [];
  #fragmentsSize = 0;
  /** Their kind; 0 when no message has begun. */
  #fragmentsKind = 0;

  // History: without the option `resume` there are no positions.
  /** By group, those heard of last at the end. @type {Map<string, Position>} */
  #positions = new Map();
  /** The groups that the connection is joined to, by id. @type {Map<number, string>} */
  #joined = new Map();
  #lastId = 0;
  /** The position of the message that is arriving, if it has one. @type {Position | undefined} */
  #position;

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

  /** Why the connection ends. The first cause counts. @type {End | undefined} */
  #end;
  /** Whether a sealed close was sent or opened. */
  #closeSealed = false;

  static {
    const { prototype } = EncryptedWebSocket;
    const { addEventListener } = prototype;
    /** @this {EncryptedWebSocket} */
    prototype.addEventListener = function (/** @type {any[]} */ ...args) {
      this.#hasErrorListener ||= args[0] === "error";
      Reflect.apply(addEventListener, this, args);
    };
    for (const type of EVENTS) {
      Object.defineProperty(prototype, `on${type}`, {
        configurable: true,
        /** @this {EncryptedWebSocket} */
        get() {
          return this.#handlers.get(type)?.value ?? null;
        },
        /** @this {EncryptedWebSocket} */
        set(value) {
          this.#setHandler(type, value);
        },
      });
    }
    // The build shortens names.
    Object.defineProperty(EncryptedWebSocket, "name", { value: "EncryptedWebSocket" });
    dressAsInterface(EncryptedWebSocket, "WebSocket", STATES);
  }

  // Opening

  /**
   * @param {string | URL} url
   * @param {string | Iterable<string>} [protocols] the application's
   * @param {Options} [options]
   */
  constructor(url, protocols = [], options = {}) {
    super();
    requireArgument(arguments.length);
    const config = pageConfig();
    const {
      crypt,
      profile = crypt && V1,
      keyUrl = config.keyUrl ?? KEY_URL,
      maxMessage = DEFAULT_MAX_MESSAGE,
      handshakeTimeout = HANDSHAKE_TIMEOUT,
      WebSocket = NativeWebSocket ?? fail("unsupported"),
    } = options;
    const enabled = profile === undefined ? (config.profiles ?? [V3, V2]) : [profile];
    const profiles = enabled.filter(isSecure);
    this.#profile = enabled[0] === V1 ? V1 : (profiles[0] ?? fail("unsupported"));
    if (!crypt) webCrypto();
    const keyUrlFromCode = options.keyUrl !== undefined;
    const key = options.keySource ?? options.key;
    this.#settings = { ...options, key, profiles, keyUrl, keyUrlFromCode, maxMessage, WebSocket };
    for (const position of options.resume?.slice(-MAX_RESUME) ?? []) this.#moveTo(position);
    this.#protocols = toStrings(protocols);
    this.#url = parseUrl(`${url}`);
    checkProtocols(this.#protocols);
    this.#handshakeTimer = setTimeout(() => {
      this.#ended.abort(TOO_LONG);
      this.#fail(new GcryptError("timeout"));
    }, handshakeTimeout);
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
       * @param {string | Iterable<string>} [protocols]
       * @param {Options} [more]
       */
      constructor(url, protocols = [], more = {}) {
        requireArgument(arguments.length);
        super(url, protocols, { ...options, ...more });
      }
    };
  }

  /**
   * @template {keyof Keys} M
   * @param {M} member
   */
  #sessionKey(member) {
    return sessionKey(member, this.#settings, this.#ended.signal);
  }

  async #connect() {
    const { crypt, WebSocket } = this.#settings;
    if (this.#profile === V1) {
      this.#offered = [V1, ...this.#protocols];
      this.#useCipher(crypt ?? (await this.#sessionKey(V1)));
    } else {
      await this.#prepareSecure();
    }
    if (this.#end) return;
    const carrier = this.#createCarrier(WebSocket);
    this.#carrier = carrier;
    carrier.binaryType = "arraybuffer";
    carrier.onopen = () => {
      if (this.#profile === V1) this.#opened("");
      else this.#select(carrier.protocol);
    };
    carrier.onerror = ignore; // `close` follows
    carrier.onmessage = ({ data }) =>
      this.#receive(typeof data === "string" ? data : new Uint8Array(data));
    carrier.onclose = (event) => {
      this.#inbound = this.#inbound.then(() => this.#carrierClosed(event));
    };
  }

  /**
   * @param {CarrierClass} WebSocket
   * @returns {CarrierSocket}
   */
  #createCarrier(WebSocket) {
    try {
      return new WebSocket(this.#url, this.#offered);
    } catch {
      return fail("connection-failed"); // such as one that the page's policy forbids
    }
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
   * With a handshake: find out what to offer, and get ready for HELLO.
   */
  async #prepareSecure() {
    const hybrid = await hasMlKem();
    const profiles = this.#settings.profiles.filter((each) => hybrid || each !== V3);
    if (!profiles.length) fail("unsupported");
    const ephemeral = await webCrypto().generateKey("X25519", false, ["deriveBits"]);
    const key = await this.#sessionKey(SESSION);
    this.#open = async (frame) => {
      this.#open = refuse;
      requireValid(frame[0] === HELLO);
      this.#reply(frame, key, /** @type {CryptoKeyPair} */ (ephemeral)).catch(this.#fail);
    };
    const { kid, ticket } = key;
    this.#offered = [...profiles, ticket ? `gcrypt.ticket.${ticket}` : `gcrypt.kid.${kid}`];
  }

  /** @param {string} subprotocol what the server selected */
  #select(subprotocol) {
    if (isSecure(subprotocol) && this.#offered.includes(subprotocol)) this.#profile = subprotocol;
    else this.#fail(new GcryptError("invalid-frame"));
  }

  /**
   * Answer HELLO, and use the keys that come of it.
   *
   * @param {Bytes} hello
   * @param {SecureKey} key
   * @param {CryptoKeyPair} ephemeral
   */
  async #reply(hello, key, ephemeral) {
    const { keyUrl, maxMessage, resume } = this.#settings;
    const kid = toHex(hello.subarray(1, 9));
    if (kid !== key.kid) {
      // The site has rotated its passphrase, or the visitor has logged in anew.
      if (!this.#settings.key) renew(keyUrl);
      if (!key.ticket) key = await this.#sessionKey(SESSION); // else that of another ticket
      if (kid !== key.kid) fail("key-mismatch");
    }
    // The server compares these with the request that it got, so nobody on the way can change it.
    const { hostname, pathname, search } = new URL(this.#url);
    const request = { offered: this.#offered, host: hostname, target: pathname + search };
    const payload = toUtf8(
      toJSON({
        subprotocols: this.#protocols,
        max_message: maxMessage,
        ...request,
        resume: resume && this.positions,
      }),
    );
    const { opened, reply, receiving, sending } = await respond(
      /** @type {SecureProfile} */ (this.#profile),
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
    return this.#profile;
  }

  /** @returns {number} */
  get readyState() {
    return this.#state;
  }

  /** @returns {string} */
  get protocol() {
    return this.#protocol;
  }

  /** @returns {string} always empty */
  get extensions() {
    return "";
  }

  /** @returns {Position[]} of groups with history, for the option `resume` of the next socket */
  get positions() {
    return [...this.#positions.values()];
  }

  /** @returns {BinaryType} the form in which bytes are delivered */
  get binaryType() {
    return this.#binaryType;
  }

  set binaryType(value) {
    const type = `${value}`;
    if (type === "blob" || type === "arraybuffer") this.#binaryType = type;
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
    requireArgument(arguments.length);
    const message = toContent(data);
    if (this.#state === CONNECTING) throw domError("InvalidStateError");
    const isText = typeof message === "string";
    const content = isText ? toUtf8(message) : message;
    if (this.#state === OPEN) this.#checkMessage(message, sizeOf(content));
    this.#waiting += sizeOf(content);
    if (this.#state === OPEN) this.#send(isText ? TEXT : BINARY, content);
  }

  /**
   * @param {string | Bytes | Blob} message
   * @param {number} size bytes
   * @throws {GcryptError} `not-json` or `message-too-big`
   */
  #checkMessage(message, size) {
    if (this.profile === V1) {
      try {
        JSON.parse(/** @type {string} */ (typeof message === "string" ? message : ""));
      } catch {
        fail("not-json");
      }
    }
    if (size > this.#peerLimit) fail("message-too-big");
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
  close(code = undefined, reason = undefined) {
    const state = this.#state; // a TypeError on another object
    const number = code === undefined ? code : toUnsignedShort(code);
    const text = reason === undefined ? "" : toUSVString(reason);
    if (number !== undefined && !isPageCode(number)) throw domError("InvalidAccessError");
    if (toUtf8(text).length > MAX_REASON) throw domError("SyntaxError");
    if (state === CONNECTING) this.#fail(new GcryptError("aborted"));
    if (state !== OPEN) return;
    this.#state = CLOSING;
    if (this.profile === V1) this.#closeBehind(number, text);
    else this.#sealClose({ code: number ?? 1000, reason: text, wasClean: true });
  }

  /**
   * A handler is a listener, in the place where it was set first.
   *
   * @param {string} type
   * @param {unknown} value
   */
  #setHandler(type, value) {
    const handler = this.#handlers.get(type);
    if (Object(value) !== value) {
      // Whatever is no object means: none.
      if (handler) this.removeEventListener(/** @type {any} */ (type), handler.listener);
      this.#handlers.delete(type);
    } else if (handler) {
      handler.value = value;
    } else {
      /** @type {Handler} */
      const added = {
        value,
        listener: (event) => {
          if (typeof added.value === "function") added.value.call(this, event);
        },
      };
      this.#handlers.set(type, added);
      this.addEventListener(/** @type {any} */ (type), added.listener);
    }
  }

  // Outbound

  /**
   * Seal a message, and queue its frames.
   *
   * @param {number} kind
   * @param {Bytes | Blob} content
   */
  #send(kind, content) {
    const secure = this.profile !== V1;
    const padding = secure && this.#settings.padding;
    // Padding takes a byte, at least.
    const limit = secure ? SENT_FRAGMENT - (padding ? 1 : 0) : Infinity;
    const size = sizeOf(content);
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
        const carrier = this.#carrier;
        if (this.#seal === refuse || carrier?.readyState !== OPEN) return;
        this.#inspect("outbound", kind, frame, await plaintext);
        carrier.send(frame);
        if (kind === CONTROL) this.#closeSealed = true;
        else this.#waiting -= sizeOf(part);
      })
      .catch((error) => {
        this.#seal = refuse; // the server could not open what follows
        this.#fail(error);
      });
  }

  // Inbound

  /**
   * Open a frame, and deliver it when those before it have been delivered.
   *
   * @param {string | Bytes} frame
   */
  #receive(frame) {
    if (this.#state >= CLOSING) return;
    const opened = this.#open(frame);
    opened.catch(ignore); // until its turn
    this.#inbound = this.#inbound
      .then(async () => {
        const plaintext = await opened;
        if (plaintext && this.#state < CLOSING) this.#deliver(frame, plaintext);
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
    let plaintext = type & PADDED ? unpad(opened) : opened;
    this.#inspect("inbound", kind, frame, plaintext);
    const begun = this.#fragmentsKind;
    if (kind === CONTROL && !more && !begun) {
      this.#control(parseObject(plaintext));
      return;
    }
    requireValid(this.#state === OPEN);
    requireValid(kind === TEXT || kind === BINARY || kind === GROUP);
    requireValid(!begun || kind === begun);
    if (kind === GROUP && !begun) {
      this.#position = this.#readPosition(plaintext);
      plaintext = plaintext.subarray(GROUP_HEADER);
    }
    this.#fragmentsSize += plaintext.length;
    if (this.#fragmentsSize > this.#settings.maxMessage) fail("message-too-big");
    if (plaintext.length) this.#fragments.push(plaintext); // else any number would fit
    this.#fragmentsKind = more ? kind : 0;
    if (more) return;
    const whole = this.#fragments.length === 1 ? this.#fragments[0] : join(this.#fragments);
    this.#fragments = [];
    this.#fragmentsSize = 0;
    this.#message(kind, whole);
  }

  /**
   * @param {number} kind
   * @param {Bytes} bytes
   */
  #message(kind, bytes) {
    /** @type {string | Blob | ArrayBuffer} */
    let data;
    if (kind !== BINARY) data = fromUtf8(bytes);
    else if (this.#binaryType === "blob") data = new Blob([bytes]);
    else data = bytes.length === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer;
    const { origin } = new URL(this.#url);
    let members = {};
    if (kind === GROUP) {
      const position = /** @type {Position} */ (this.#position);
      this.#moveTo(position);
      members = { group: position.group, position: position.n };
    }
    this.dispatchEvent(new OwnMessageEvent("message", { data, origin, ...members }));
  }

  /** @param {Position} position the last one heard of in its group */
  #moveTo({ group, epoch, n }) {
    this.#positions.delete(group);
    this.#positions.set(group, { group, epoch, n });
  }

  /**
   * The position of a GROUP message, which begins with it.
   *
   * @param {Bytes} plaintext
   * @returns {Position}
   */
  #readPosition(plaintext) {
    requireValid(plaintext.length >= GROUP_HEADER);
    const view = new DataView(plaintext.buffer, plaintext.byteOffset);
    const position = this.#positions.get(this.#joined.get(view.getUint32(0)) ?? "");
    const n = Number(view.getBigUint64(4));
    requireValid(position && Number.isSafeInteger(n) && n > position.n);
    return { ...position, n };
  }

  /**
   * The connection was joined to a group with history.
   *
   * @param {Record<string, unknown>} message
   */
  #join({ id, group, epoch, n, recovered }) {
    requireValid(isPositive(id) && id > this.#lastId && id < 2 ** 32);
    requireValid(isText(group) && group && ![...this.#joined.values()].includes(group));
    requireValid(isText(epoch) && /^[0-9a-f]{16}$/.test(epoch));
    requireValid(n === 0 || (isPositive(n) && Number.isSafeInteger(n)));
    requireValid(typeof recovered === "boolean");
    this.#lastId = id;
    this.#joined.set(id, group);
    this.#moveTo({ group, epoch, n });
    this.dispatchEvent(new OwnEvent("joined", { group, recovered }));
  }

  /** @param {unknown} id a membership that has ended */
  #leave(id) {
    const group = this.#joined.get(/** @type {number} */ (id));
    requireValid(group);
    this.#joined.delete(/** @type {number} */ (id));
    this.#positions.delete(group);
  }

  /**
   * Obey a control message. Types that are not known are ignored.
   *
   * @param {Record<string, unknown>} message
   */
  #control(message) {
    const { type, subprotocol = null, code, reason = "", group, missed } = message;
    const open = this.#state === OPEN;
    if (type === "accept") {
      requireValid(!open);
      requireValid(
        subprotocol === null || this.#protocols.includes(/** @type {string} */ (subprotocol)),
      );
      this.#opened(/** @type {string | null} */ (subprotocol) ?? "");
    } else if (type === "close") {
      requireValid(isCloseCode(code));
      requireValid(isText(reason) && toUtf8(reason).length <= MAX_REASON);
      this.#closeSealed = true;
      this.#sealClose({
        code,
        reason,
        wasClean: true,
        error: open ? undefined : new GcryptError("rejected"),
      });
    } else if (type === "gap") {
      requireValid(open && isText(group) && group && isPositive(missed));
      this.dispatchEvent(new OwnEvent("gap", { group, missed }));
    } else if (type === "joined" || type === "left") {
      requireValid(open && this.#settings.resume);
      if (type === "joined") this.#join(message);
      else this.#leave(message.id);
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
   * End the connection because of a failure. Unless the server can be told why under encryption, the
   * keys are dropped.
   *
   * @param {unknown} cause
   */
  #fail = (cause) => {
    if (this.#end) return;
    const unsupported = cause instanceof DOMException && cause.name === "NotSupportedError";
    const error =
      cause instanceof GcryptError
        ? cause
        : new GcryptError(unsupported ? "unsupported" : "invalid-frame");
    const code = CLOSE_CODES[error.code] ?? 1006;
    const end = { code, reason: "", wasClean: false, error };
    if (code === 1009 || code === 4408) {
      this.#sealClose(end).then(() => this.#finish());
    } else {
      this.#end = end;
      this.#state = CLOSING;
      this.#seal = refuse;
      this.#closeCarrier(code, "");
      queueMicrotask(() => this.#finish());
    }
  };

  /**
   * Send a sealed close where there are keys for it, then close the carrier.
   *
   * @param {End} end
   * @returns {Promise<void>} resolves when it is done
   */
  #sealClose(end) {
    const { code, reason } = end;
    this.#end = end;
    this.#state = CLOSING;
    if (this.profile !== V1 && this.#seal !== refuse) {
      this.#send(CONTROL, toUtf8(toJSON({ type: "close", code, reason })));
    }
    return this.#closeBehind(code, "");
  }

  /**
   * Close the carrier behind what was sent.
   *
   * @param {number | undefined} code
   * @param {string} reason
   */
  #closeBehind(code, reason) {
    this.#outbound = this.#outbound.then(() => this.#closeCarrier(code, reason));
    return this.#outbound;
  }

  /**
   * Only gcrypt.v1 gives a reason: it is in clear there.
   *
   * @param {number | undefined} code
   * @param {string} reason
   */
  #closeCarrier(code, reason) {
    try {
      this.#carrier?.close(code, reason);
    } catch {
      this.#carrier?.close(); // the platform refuses the code
    }
  }

  /**
   * The carrier has closed. What it says counts in gcrypt.v1 alone, for anybody could have said it.
   *
   * @param {CloseEvent} event
   */
  #carrierClosed({ code, reason, wasClean }) {
    this.#end ??=
      this.profile === V1
        ? { code: code ?? 1005, reason: reason ?? "", wasClean }
        : { code: 1006, reason: "", wasClean: false };
    if (this.#state === CONNECTING) {
      this.#end.error = new GcryptError(code === 4401 ? "unauthorized" : "connection-failed");
    }
    this.#finish();
  }

  /** Dispatch the last events, once. */
  #finish() {
    if (this.#state === CLOSED) return;
    clearTimeout(this.#handshakeTimer);
    this.#ended.abort();
    this.#state = CLOSED;
    this.#seal = refuse;
    const authentic = this.#closeSealed;
    let { code, reason, wasClean, error } = /** @type {End} */ (this.#end);
    if (this.profile !== V1 && wasClean && !authentic) {
      // The connection broke before this page's close could be sent.
      [code, reason, wasClean] = [1006, "", false];
    }
    if (code === 4401 || error?.code === "unauthorized") this.#forgetKey();
    if (error) {
      if (!this.#hasErrorListener) console.error(`${this.#url}: ${error}`);
      this.dispatchEvent(new OwnEvent("error", { error }));
    }
    this.dispatchEvent(new OwnCloseEvent("close", { code, reason, wasClean, authentic }));
  }

  /** The session has ended. Only a sealed close proves that. */
  #forgetKey() {
    const { key, crypt, keyUrl } = this.#settings;
    if (key || crypt) return; // not the key endpoint's
    if (this.#closeSealed) forget(keyUrl);
    else renew(keyUrl);
  }
}
