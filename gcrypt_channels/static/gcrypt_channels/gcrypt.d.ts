/** See docs/javascript.md and docs/protocol.md. @import * as T from "./types.d.ts" */
import type * as T from "./types.d.ts";
/** What failed, by a stable `code`; it holds no secret. */
export declare class GcryptError extends Error {
    code: T.ErrorCode;
    /** @param {T.ErrorCode} code */
    constructor(code: T.ErrorCode);
}
/** g-crypt's `Crypt`, made asynchronous. */
export declare const Crypt: T.CryptConstructor;
declare const EncryptedWebSocket_base: new () => T.Target;
/** A `WebSocket` whose messages are encrypted. */
export declare class EncryptedWebSocket extends /** @type {{new (): T.Target}} */ /** @type {{new (): T.Target}} */ EncryptedWebSocket_base {
    #private;
    static CONNECTING: number;
    static OPEN: number;
    static CLOSING: number;
    static CLOSED: number;
    CONNECTING: number;
    OPEN: number;
    CLOSING: number;
    CLOSED: number;
    extensions: string;
    /** @type {BinaryType} */ binaryType: BinaryType;
    /** @param {string | URL} url @param {string | string[]} [protocols] @param {T.Options} [options] */
    constructor(url: string | URL, protocols?: string | string[], options?: T.Options);
    /** @param {T.Options} options @returns {typeof EncryptedWebSocket} */
    static with(options: T.Options): typeof EncryptedWebSocket;
    get url(): string;
    /** @returns {T.Profile} */
    get profile(): T.Profile;
    get readyState(): number;
    get protocol(): string;
    /** @returns {number} */
    get bufferedAmount(): number;
    /** @param {T.Message} data */
    send(data: T.Message): void;
    /** @param {any} value */
    sendJSON(value: any): void;
    /** @param {number} [code] @param {string} [reason] */
    close(code?: number, reason?: string): void;
}
export {};
