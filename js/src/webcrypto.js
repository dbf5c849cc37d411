// WebCrypto, and what to say where there is none.

/** @import { Bytes } from "./internal.d.ts" */

import { fail } from "./errors.js";

/**
 * @returns {SubtleCrypto}
 * @throws {GcryptError} `insecure-context` or `unsupported` where the runtime has no WebCrypto
 */
export const webCrypto = () =>
  globalThis.crypto?.subtle ??
  fail(globalThis.isSecureContext === false ? "insecure-context" : "unsupported");

/**
 * Import raw key bytes as a key that cannot be exported.
 *
 * @param {string} algorithm
 * @param {Bytes | ArrayBuffer} bytes
 * @param {KeyUsage[]} usages
 * @returns {Promise<CryptoKey>}
 */
export const importKey = (algorithm, bytes, ...usages) =>
  webCrypto().importKey("raw", bytes, algorithm, false, usages);
