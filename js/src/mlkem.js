// ML-KEM-768 (FIPS 203) by WebCrypto, for gcrypt.v3. Not every runtime has it.

/** @import { Bytes } from "./internal.d.ts" */

import { importKey, webCrypto } from "./webcrypto.js";

const ALGORITHM = "ML-KEM-768";

/** Bytes of an encapsulation key. */
export const PUBLIC_SIZE = 1184;

/**
 * A secret for the owner of an encapsulation key, as a key for HKDF. Where the runtime can encapsulate
 * a key, the secret never is in this program's memory.
 *
 * @param {Bytes} publicKey which the import checks, as FIPS 203 says in section 7.2
 * @returns {Promise<{ ciphertext: Bytes, secret: CryptoKey }>}
 * @throws {Error} if the key is not valid, or the runtime has no ML-KEM-768
 */
export async function encapsulate(publicKey) {
  /** @type {any} not in the compiler's library yet */
  const subtle = webCrypto();
  const operation = subtle.encapsulateKey ? "encapsulateKey" : "encapsulateBits";
  const key = await subtle.importKey("raw-public", publicKey, ALGORITHM, false, [operation]);
  const use = subtle.encapsulateKey ? ["HKDF", false, ["deriveBits"]] : [];
  const { ciphertext, sharedKey } = await subtle[operation](ALGORITHM, key, ...use);
  const secret =
    sharedKey instanceof ArrayBuffer ? await importKey("HKDF", sharedKey, "deriveBits") : sharedKey;
  return { ciphertext: new Uint8Array(ciphertext), secret };
}

/** @type {Promise<boolean> | undefined} */
let trial;

/**
 * Whether the runtime has ML-KEM-768: found out by trying, once. The key of zeros is a valid one.
 *
 * @returns {Promise<boolean>}
 */
export const hasMlKem = () =>
  (trial ??= encapsulate(new Uint8Array(PUBLIC_SIZE)).then(
    () => true,
    () => false,
  ));
