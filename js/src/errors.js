// The one kind of error that this client reports.

/** @import { ErrorCode } from "./types.d.ts" */

/**
 * What each code says to people, where the code alone does not.
 *
 * @type {Partial<Record<ErrorCode, string>>}
 */
const MESSAGES = {
  "insecure-context": "WebCrypto needs https, or localhost",
  unsupported: "needs WebSocket, X25519 and a known profile; gcrypt.v3 needs ML-KEM-768",
};

/** What failed, by a stable `code`. It holds no key, no plaintext and no underlying error. */
export class GcryptError extends Error {
  /** @param {ErrorCode} code */
  constructor(code) {
    super(MESSAGES[code] ?? code);
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
 * @returns {never}
 */
export function fail(code) {
  throw new GcryptError(code);
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
