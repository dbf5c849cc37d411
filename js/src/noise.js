// gcrypt.v2: Noise_NNpsk0_25519_AESGCM_SHA256 as the responder. Sections are those of the Noise
// Protocol Framework, revision 34.

/** @import { Bytes, SecureKey } from "./internal.d.ts" */

import { concat, EMPTY, fromHex, toUtf8 } from "./bytes.js";
import { importKey, webCrypto } from "./webcrypto.js";

const PROTOCOL_NAME = "Noise_NNpsk0_25519_AESGCM_SHA256"; // 32 bytes, so it is its own hash
const PROLOGUE_LABEL = "gcrypt.v2";
const KEY_SIZE = 32;
const REKEY_NONCE = 2n ** 64n - 1n;

/** A direction's key is renewed after so many frames. */
const REKEY_INTERVAL = 65536;

/**
 * One direction's cipher: each call seals or opens the next frame.
 *
 * @callback CipherState
 * @param {"encrypt" | "decrypt"} operation
 * @param {Bytes} additionalData
 * @param {Bytes | Promise<Bytes>} data
 * @returns {Promise<Bytes>}
 */

/**
 * Section 12.3: AES-GCM with the counter as its nonce.
 *
 * @param {number | bigint} n
 * @param {Bytes} additionalData
 */
function aesGcm(n, additionalData) {
  const iv = new DataView(new ArrayBuffer(12));
  iv.setBigUint64(4, BigInt(n));
  return { name: "AES-GCM", iv, additionalData };
}

/**
 * @param {Bytes} rawKey 32 bytes
 * @returns {Promise<CryptoKey>}
 */
const importCipherKey = (rawKey) => importKey("AES-GCM", rawKey, "encrypt", "decrypt");

/**
 * Section 4.2: REKEY.
 *
 * @param {CryptoKey} key
 * @returns {Promise<CryptoKey>}
 */
async function rekey(key) {
  const zeros = new Uint8Array(KEY_SIZE);
  const sealed = await webCrypto().encrypt(aesGcm(REKEY_NONCE, EMPTY), key, zeros);
  return importCipherKey(new Uint8Array(sealed, 0, KEY_SIZE));
}

/**
 * Section 5.1. A call takes its counter and its key at once and may then run beside others.
 *
 * @param {Bytes} rawKey 32 bytes
 * @returns {CipherState}
 */
function createCipherState(rawKey) {
  let key = importCipherKey(rawKey);
  let n = 0;
  return async (operation, additionalData, data) => {
    const current = key;
    const parameters = aesGcm(n++, additionalData);
    if (n % REKEY_INTERVAL === 0) key = key.then(rekey);
    return new Uint8Array(await webCrypto()[operation](parameters, await current, await data));
  };
}

/**
 * The whole handshake: read the server's message, write the answer, split. Section 5.3, for the
 * responder.
 *
 * @param {SecureKey} sessionKey
 * @param {Bytes} message Noise message 1
 * @param {CryptoKeyPair} ephemeral X25519
 * @param {Bytes} payload for message 2
 * @returns {Promise<{ opened: Bytes, reply: Bytes, receiving: CipherState, sending: CipherState }>}
 *   message 1's payload, message 2, and the ciphers of both directions
 * @throws {DOMException} if message 1 was not made with this session key
 */
export async function respond({ kid, psk }, message, { publicKey, privateKey }, payload) {
  const subtle = webCrypto();
  let h = toUtf8(PROTOCOL_NAME);
  let ck = h;
  /** @type {Bytes} */ let k = EMPTY;

  /** @param {Bytes} data */
  const mixHash = async (data) => {
    h = new Uint8Array(await subtle.digest("SHA-256", concat(h, data)));
  };
  /**
   * Section 4.3.
   *
   * @param {CryptoKey} secret
   * @param {number} outputs
   */
  const hkdf = async (secret, outputs) => {
    const parameters = { name: "HKDF", hash: "SHA-256", salt: ck, info: EMPTY };
    const bits = await subtle.deriveBits(parameters, secret, outputs * KEY_SIZE * 8);
    return Array.from({ length: outputs }, (_, i) => new Uint8Array(bits, i * KEY_SIZE, KEY_SIZE));
  };
  /** @param {Bytes | ArrayBuffer} secret */
  const mixKey = async (secret) => {
    [ck, k] = await hkdf(await importKey("HKDF", secret, "deriveBits"), 2);
  };

  await mixHash(concat(toUtf8(PROLOGUE_LABEL), fromHex(kid)));

  // -> psk, e
  const [pskChainingKey, pskHash] = await hkdf(psk, 3); // the next MixKey replaces the third, k
  ck = pskChainingKey;
  await mixHash(pskHash);
  const remote = message.slice(0, KEY_SIZE);
  const sealed = message.slice(KEY_SIZE);
  await mixHash(remote);
  await mixKey(remote);
  const opened = await createCipherState(k)("decrypt", h, sealed);
  await mixHash(sealed);

  // <- e, ee
  const own = new Uint8Array(await subtle.exportKey("raw", publicKey));
  await mixHash(own);
  await mixKey(own);
  const exchange = { name: "X25519", public: await importKey("X25519", remote) };
  await mixKey(await subtle.deriveBits(exchange, privateKey, KEY_SIZE * 8));
  const reply = concat(own, await createCipherState(k)("encrypt", h, payload));

  // Split: the initiator, which is the server, sends with the first key.
  const [first, second] = await hkdf(await importKey("HKDF", EMPTY, "deriveBits"), 2);
  return {
    opened,
    reply,
    receiving: createCipherState(first),
    sending: createCipherState(second),
  };
}
