/**
 * The browser client. Use: docs/javascript.md; wire: docs/protocol.md. Sizes are in bytes.
 *
 * @import {Bytes, CryptConstructor, ErrorCode, Keys, Message, Options, Profile, SecureKey, Target} from "./types.d.ts"
 */
import type { CryptConstructor, ErrorCode, Message, Options, Profile, Target } from "./types.d.ts";
/** What failed, by a stable `code`; it holds no secret. */
export declare class GcryptError extends Error {
    code: ErrorCode;
    /** @param {ErrorCode} code */
    constructor(code: ErrorCode);
}
/** g-crypt's `Crypt`, made asynchronous. */
export declare const Crypt: CryptConstructor;
declare const EncryptedWebSocket_base: new () => Target;
/** A `WebSocket` whose messages are encrypted. */
export declare class EncryptedWebSocket extends /** @type {{new (): Target}} */ /** @type {{new (): Target}} */ EncryptedWebSocket_base {
    #private;
    static CONNECTING: number;
    static OPEN: number;
    static CLOSING: number;
    static CLOSED: number;
    CONNECTING: number;
    OPEN: number;
    CLOSING: number;
    CLOSED: number;
    /** @type {BinaryType} */ binaryType: BinaryType;
    /** @param {string | URL} url @param {string | string[]} [protocols] @param {Options} [options] */
    constructor(url: string | URL, protocols?: string | string[], options?: Options);
    /** @param {Options} options @returns {typeof EncryptedWebSocket} */
    static with(options: Options): typeof EncryptedWebSocket;
    get url(): string;
    /** @returns {Profile} */
    get profile(): Profile;
    get readyState(): number;
    get protocol(): string;
    /** @returns {string} */
    get extensions(): string;
    /** @returns {number} */
    get bufferedAmount(): number;
    /** @param {Message} data */
    send(data: Message): void;
    /** @param {any} value */
    sendJSON(value: any): void;
    /** @param {number} [code] @param {string} [reason] */
    close(code?: number, reason?: string): void;
}
export {};
