// The one kind of error that this client reports.

/** @import { ErrorCode } from "./types.d.ts" */

/**
 * What a code says to people, where the server's log does not say more. The key endpoint gives the
 * sentence of `csrf`.
 *
 * @type {Partial<Record<ErrorCode, string>>}
 */
const MESSAGES = {
  "insecure-context": "needs https, or localhost",
  unsupported: "no X25519, ML-KEM-768, WebSocket",
  unauthorized: "no session key: log in",
  "key-mismatch": "reload the page",
  aborted: "closed before open",
  "message-too-big": "over maxMessage",
  "not-json": "no JSON: use sendJSON()",
  "decryption-failed": "another passphrase, or changed",
};

/** What failed, by a stable `code`. It holds no key, no plaintext and no underlying error. */
export class GcryptError extends Error {
  /**
   * @param {ErrorCode} code
   * @param {string} [message] the server's, where the code has no sentence of its own
   */
  constructor(code, message = MESSAGES[code] ?? `${code}: see the server's log`) {
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
