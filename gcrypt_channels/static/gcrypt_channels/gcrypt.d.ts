/*! gcrypt_channels, MIT; built from js/src */
// The public types that are not in the code. Sizes are in bytes, times in milliseconds.

/** The profiles with a handshake. */
export type SecureProfile = "gcrypt.v3" | "gcrypt.v2";

export type Profile = SecureProfile | "gcrypt.v1";

/** What `EncryptedWebSocket.send` takes. */
export type Message = string | ArrayBuffer | ArrayBufferView | Blob;

/** A session key in the form in which the key endpoint gives it. */
export interface SessionKey {
  /** Not of gcrypt.v1: the key's public name, 16 lower-case hex digits. */
  kid?: string;
  /** Not of gcrypt.v1: 32 bytes in base64url. */
  psk?: string;
  /** gcrypt.v1 */
  passphrase?: string;
  /** Of a ticket endpoint: offered in place of the session cookie, with the `kid` and `psk` beside it. */
  ticket?: string;
}

/** What a `GcryptError` is about; docs/javascript.md says more about each. */
export type ErrorCode =
  /** WebCrypto needs https, or localhost. */
  | "insecure-context"
  /** The runtime lacks WebSocket, WebCrypto, X25519 or, where `gcrypt.v3` is a must, ML-KEM-768. */
  | "unsupported"
  /** The session has no key: log in. */
  | "unauthorized"
  /** The key endpoint's CSRF protection refused the request; the message says why. */
  | "csrf"
  /** The key endpoint could not be reached, or gave no key for the profile. */
  | "key-unavailable"
  /** The server uses a key that this session does not have. */
  | "key-mismatch"
  /** The socket ended before it was open. */
  | "connection-failed"
  /** The application refused; `close` has its code and reason. */
  | "rejected"
  /** Not open within `handshakeTimeout`. */
  | "timeout"
  /** `close()` was called before `open`. */
  | "aborted"
  /** The server, or somebody on the way, sent a frame that is not valid. */
  | "invalid-frame"
  /** A message is larger than its receiver accepts. */
  | "message-too-big"
  /** gcrypt.v1 carries JSON text only. */
  | "not-json"
  /** `Crypt.decrypt` was not given what `Crypt.encrypt` made with the same passphrase. */
  | "decryption-failed";

/** What carries the frames: as much of a WebSocket as is used. */
export interface CarrierSocket {
  binaryType: string;
  readonly readyState: number;
  readonly bufferedAmount: number;
  /** The subprotocol that the server selected. */
  readonly protocol: string;
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  send(frame: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

export type CarrierClass = new (url: string, protocols: string[]) => CarrierSocket;

/** The object that g-crypt's `Crypt(passphrase)` returns, or ours. */
export interface Cipher {
  encrypt(value: unknown): string | Promise<string>;
  decrypt(text: string): unknown;
}

export interface AsyncCipher {
  /** Rejects with a `TypeError` for a value that JSON cannot express. */
  encrypt(value: unknown): Promise<string>;
  /** Rejects with a `GcryptError`, code `decryption-failed`, whatever is wrong. */
  // biome-ignore lint/suspicious/noExplicitAny: like JSON.parse
  decrypt(text: string): Promise<any>;
}

export interface CryptConstructor {
  (passphrase: string): AsyncCipher;
  new (passphrase: string): AsyncCipher;
}

export interface Options {
  /** The key endpoint; by default the one in the page's configuration, else `/gcrypt/key/`. */
  keyUrl?: string;
  /** Django's CSRF token for the key endpoint, where there is no page to take it from: in a worker. */
  csrfToken?: string;
  /**
   * The only one to offer. By default the server chooses among those in the page's configuration, else
   * between `gcrypt.v3`, where the runtime has ML-KEM-768, and `gcrypt.v2`.
   */
  profile?: Profile;
  /** The class of the socket that carries the frames; by default the global `WebSocket` that there was when this module was loaded. */
  WebSocket?: CarrierClass;
  /** Time until `open` is due; by default 20,000. */
  handshakeTimeout?: number;
  /** The session key, for a page or program that has it from elsewhere than `keyUrl`. */
  key?: SessionKey;
  /**
   * Called for the session key before each connection, in place of `keyUrl`, such as for a ticket. What
   * it throws is the error `key-unavailable`, unless it is a `GcryptError`.
   */
  keySource?: () => SessionKey | Promise<SessionKey>;
  /** gcrypt.v1: seals and opens with this object; no key is fetched, and WebCrypto is not needed. */
  crypt?: Cipher;
  /** The largest message that is accepted; by default 1,048,576. */
  maxMessage?: number;
  /** Not in gcrypt.v1: hide the sizes of what is sent. */
  padding?: boolean;
  /**
   * Not in gcrypt.v1: the `positions` of an earlier socket, or an empty array. Groups with history then
   * have positions, and what came after these is sent again. The last 64 are offered.
   */
  resume?: readonly Position[];
  /** Dispatch a `frame` event for each frame. */
  inspect?: boolean;
}

export type FrameDirection = "inbound" | "outbound";

export type FrameKind = "HELLO" | "REPLY" | "TEXT" | "BINARY" | "CONTROL" | "GROUP";

/** A frame as it was on the wire, beside what is in it. */
export interface FrameEvent extends Event {
  readonly direction: FrameDirection;
  readonly kind: FrameKind;
  /** The frame; text in gcrypt.v1. */
  readonly data: Uint8Array | string;
  /** Bytes when the kind is `BINARY`. */
  readonly plaintext: Uint8Array | string;
}

/** Messages to a group were lost on their way to this page. */
export interface GapEvent extends Event {
  readonly group: string;
  readonly missed: number;
}

/** A place among the messages of a group with history: behind its `n`-th. */
export interface Position {
  readonly group: string;
  /** 16 lower-case hex digits; the messages of another epoch are others. */
  readonly epoch: string;
  readonly n: number;
}

/** The connection was joined to a group with history. */
export interface JoinedEvent extends Event {
  readonly group: string;
  /** Whether everything follows that came after the position that was offered. */
  readonly recovered: boolean;
}

/** A `MessageEvent`; a broadcast to a group with history has the other two members. */
export interface EncryptedMessageEvent extends MessageEvent {
  readonly group?: string;
  /** The message's number in its group. */
  readonly position?: number;
}

export interface EncryptedErrorEvent extends Event {
  /** A `GcryptError`. */
  readonly error: Error & { readonly code: ErrorCode };
}

/** A `CloseEvent` where the runtime has that class. */
export interface EncryptedCloseEvent extends Event {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
  /**
   * Whether this end was meant: the server said so under encryption, or this page called `close()`.
   * Otherwise the socket just ended, and messages may be missing. Always false in gcrypt.v1.
   */
  readonly authentic: boolean;
}

export interface EventMap {
  /** The application accepted. */
  open: Event;
  /** `data` is text, a `Blob` or an `ArrayBuffer`, as in a `WebSocket`. */
  message: EncryptedMessageEvent;
  /** `close` follows. */
  error: EncryptedErrorEvent;
  close: EncryptedCloseEvent;
  gap: GapEvent;
  joined: JoinedEvent;
  frame: FrameEvent;
}

export type Handlers = {
  [K in keyof EventMap as `on${K}`]: ((event: EventMap[K]) => unknown) | null;
};

type Listen<ListenOptions> = <K extends keyof EventMap>(
  type: K,
  listener: ((event: EventMap[K]) => unknown) | { handleEvent(event: EventMap[K]): unknown } | null,
  options?: ListenOptions | boolean,
) => void;

/** An `EventTarget` that knows its events, and the constants of a `WebSocket`. */
export interface Target extends Handlers {
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;
  addEventListener: Listen<AddEventListenerOptions>;
  removeEventListener: Listen<EventListenerOptions>;
  dispatchEvent(event: Event): boolean;
}

export interface SocketBase {
  new (): Target;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;
}
/** What failed, by a stable `code`. It holds no key, no plaintext and no underlying error. */
export declare class GcryptError extends Error {
    /** @readonly @type {ErrorCode} */
    code: ErrorCode;
    /**
     * @param {ErrorCode} code
     * @param {string} [message] the server's, where the code has no sentence of its own
     */
    constructor(code: ErrorCode, message?: string);
}
/** g-crypt's `Crypt`, made asynchronous. Works with and without `new`. */
export declare const Crypt: CryptConstructor;
/** Forget all keys, for instance at a logout. The next socket asks the key endpoint again. */
export declare function forgetKeys(): void;
declare const EncryptedWebSocket_base: SocketBase;
/** A `WebSocket` whose messages are encrypted. */
export declare class EncryptedWebSocket extends /** @type {SocketBase} */ /** @type {SocketBase} */ EncryptedWebSocket_base {
    #private;
    /**
     * @param {string | URL} url
     * @param {string | Iterable<string>} [protocols] the application's
     * @param {Options} [options]
     */
    constructor(url: string | URL, protocols?: string | Iterable<string>, options?: Options);
    /**
     * A class with these options built in, for libraries that construct a WebSocket themselves.
     *
     * @param {Options} options
     * @returns {typeof EncryptedWebSocket}
     */
    static with(options: Options): typeof EncryptedWebSocket;
    /** @returns {string} */
    get url(): string;
    /** @returns {Profile} */
    get profile(): Profile;
    /** @returns {number} */
    get readyState(): number;
    /** @returns {string} */
    get protocol(): string;
    /** @returns {string} always empty */
    get extensions(): string;
    /** @returns {Position[]} of groups with history, for the option `resume` of the next socket */
    get positions(): Position[];
    /** @returns {BinaryType} the form in which bytes are delivered */
    get binaryType(): BinaryType;
    set binaryType(value: BinaryType);
    /** @returns {number} bytes, those that are being sealed included */
    get bufferedAmount(): number;
    /**
     * @param {Message} data
     * @throws {DOMException} `InvalidStateError` before `open`
     * @throws {GcryptError} `message-too-big` for the server, or `not-json` in gcrypt.v1
     */
    send(data: Message): void;
    /**
     * Send a value as JSON text.
     *
     * @param {unknown} value
     * @throws {GcryptError} `not-json`, or what `send` throws
     */
    sendJSON(value: unknown): void;
    /**
     * @param {number} [code] 1000, or 3000 to 4999
     * @param {string} [reason] at most 123 bytes of UTF-8
     * @throws {DOMException} `InvalidAccessError` or `SyntaxError` for other arguments
     */
    close(code?: number, reason?: string): void;
}
export {};
