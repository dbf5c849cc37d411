// gcrypt.v1: the frames of g-crypt 1.1.0, and its `Crypt` (docs/protocol.md, "gcrypt.v1").

/**
 * @import { Bytes } from "./internal.d.ts"
 * @import { AsyncCipher, Cipher, CryptConstructor } from "./types.d.ts"
 */

import {
  concat,
  fromBase64,
  fromHex,
  fromUtf8,
  isText,
  toBase64,
  toHex,
  toJSON,
  toUtf8,
} from "./bytes.js";
import { fail } from "./errors.js";
import { md5 } from "./md5.js";
import { importKey, webCrypto } from "./webcrypto.js";

const SALT_SIZE = 8;

/** The members of a frame: as many quotation marks has its text with all of them, or without `iv`. */
const QUOTES_WITH_IV = 12;
const QUOTES_WITHOUT_IV = 8;

/**
 * OpenSSL's EVP_BytesToKey with MD5 and one iteration.
 *
 * @param {Bytes} passphrase
 * @param {Bytes} salt 8 bytes
 * @returns {Promise<{ key: CryptoKey, iv: Bytes }>} AES-256-CBC's key, and its IV of 16 bytes
 */
async function deriveKey(passphrase, salt) {
  const secret = concat(passphrase, salt);
  const first = md5(secret);
  const second = md5(concat(first, secret));
  const key = await importKey("AES-CBC", concat(first, second), "encrypt", "decrypt");
  return { key, iv: md5(concat(second, secret)) };
}

/**
 * Seal a JSON text, as it is, into a frame.
 *
 * @param {Bytes} passphrase
 * @param {string} json
 * @returns {Promise<string>} the frame, a JSON text of its own
 */
async function sealText(passphrase, json) {
  const salt = globalThis.crypto.getRandomValues(new Uint8Array(SALT_SIZE));
  const plaintext = toUtf8(json);
  const { key, iv } = await deriveKey(passphrase, salt);
  const ciphertext = await webCrypto().encrypt({ name: "AES-CBC", iv }, key, plaintext);
  return toJSON({ ct: toBase64(new Uint8Array(ciphertext)), iv: toHex(iv), s: toHex(salt) });
}

/**
 * Open a frame, strictly.
 *
 * @param {Bytes} passphrase
 * @param {string} frame
 * @returns {Promise<{ json: string, value: unknown }>} the JSON text in it, and the value of that
 * @throws {GcryptError} `decryption-failed`, whichever check failed
 */
async function openText(passphrase, frame) {
  webCrypto(); // its lack is an error of its own
  try {
    const { ct, iv: sentIv, s } = JSON.parse(frame);
    const hasIv = sentIv !== undefined;
    const { key, iv } = await deriveKey(passphrase, fromHex(s));
    if (
      // Each member contributes four quotation marks, so this also proves that there is no other
      // member and that none occurs twice.
      frame.split('"').length - 1 === (hasIv ? QUOTES_WITH_IV : QUOTES_WITHOUT_IV) &&
      /^[\da-f]{16}$/i.test(s) &&
      // The IV is derived. To believe another one would let anyone flip bits of the first block.
      (!hasIv || sentIv.toLowerCase() === toHex(iv)) &&
      // Canonical base64, without whitespace.
      btoa(atob(ct)) === ct
    ) {
      const plaintext = await webCrypto().decrypt({ name: "AES-CBC", iv }, key, fromBase64(ct));
      const json = fromUtf8(new Uint8Array(plaintext));
      return { json, value: JSON.parse(json) };
    }
  } catch {
    // What is wrong with a frame is not told.
  }
  return fail("decryption-failed");
}

/**
 * The passphrases of our own `Crypt` objects, which show none themselves.
 *
 * @type {WeakMap<Cipher, Bytes>}
 */
const passphrases = new WeakMap();

/**
 * @param {string} passphrase
 * @returns {AsyncCipher}
 */
function createCipher(passphrase) {
  // UTF-8 would turn any lone surrogate into the same U+FFFD.
  if (!passphrase || !isText(passphrase)) throw new TypeError("not a passphrase");
  const secret = toUtf8(passphrase);
  const cipher = {
    encrypt: async (/** @type {unknown} */ value) => sealText(secret, toJSON(value)),
    decrypt: async (/** @type {string} */ text) => (await openText(secret, text)).value,
  };
  passphrases.set(cipher, secret);
  return cipher;
}

/** g-crypt's `Crypt`, made asynchronous. Works with and without `new`. */
export const Crypt = /** @type {CryptConstructor} */ (createCipher);

/**
 * Seals and opens JSON texts with a `Crypt` object. Ours carries a text as it is; g-crypt's takes
 * values, so what JavaScript cannot represent, such as large integers, is changed on its way.
 *
 * @internal
 * @param {Cipher} cipher
 * @returns {{ seal: (json: string) => Promise<string>, open: (frame: string) => Promise<string> }}
 */
export function textCipher(cipher) {
  const secret = passphrases.get(cipher);
  if (secret) {
    return {
      seal: (json) => sealText(secret, json),
      open: async (frame) => (await openText(secret, frame)).json,
    };
  }
  return {
    seal: async (json) => cipher.encrypt(JSON.parse(json)),
    open: async (frame) => toJSON(await cipher.decrypt(frame)),
  };
}
