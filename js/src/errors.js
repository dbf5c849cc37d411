// The one kind of error that this client reports.

/** @import { ErrorCode } from "./types.d.ts" */

/**
 * What each code says to people. The key endpoint gives the sentence of `csrf`.
 *
 * @type {Partial<Record<ErrorCode, string>>}
 */
const MESSAGES = {
  "insecure-context": "WebCrypto needs https, or localhost",
  unsupported: "needs WebSocket, X25519 and a known profile; gcrypt.v3 needs ML-KEM-768",
  unauthorized: "no session key: log in",
  "key-unavailable": "keyUrl gave no key: see the server's log",
  "key-mismatch": "the server has another key: reload",
  "connection-failed": "ended before open: see the server's log",
  rejected: "the application refused",
  timeout: "no open within handshakeTimeout",
  aborted: "close() was called before open",
  "invalid-frame": "a frame is not valid: see the server's log",
  "message-too-big": "over maxMessage, or the server's limit",
  "not-json": "not JSON: use sendJSON()",
  "decryption-failed": "another passphrase, or altered",
};

/** What failed, by a stable `code`. It holds no key, no plaintext and no underlying error. */
export class GcryptError extends Error {
  /**
   * @param {ErrorCode} code
   * @param {string} [message] the server's, where the code has no sentence of its own
   */
  constructor(code, message = MESSAGES[code]) {
    super(message);
    this.name = "GcryptError";
    /** @readonly @type {ErrorCode} */
    this.code = code;
  }
}

/**
 * Throw a `GcryptError`.
 *
 * @internal
 * @param {ErrorCode} code
 * @param {string} [message]
 * @returns {never}
 */
export function fail(code, message) {
  throw new GcryptError(code, message);
}

/**
 * Throw the error `invalid-frame` unless a condition of the protocol holds. All violations look
 * alike, so that nobody learns from the error which check failed.
 *
 * @internal
 * @param {unknown} condition
 * @returns {asserts condition}
 */
export function requireValid(condition) {
  if (!condition) fail("invalid-frame");
}
