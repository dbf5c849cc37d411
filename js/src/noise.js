// The handshakes of gcrypt.v2 and gcrypt.v3 as the responder. Sections are those of the Noise Protocol
// Framework, revision 34; for gcrypt.v3 see docs/protocol.md.

/**
 * @import { Bytes, SecureKey } from "./internal.d.ts"
 * @import { SecureProfile } from "./types.d.ts"
 */

import { concat, EMPTY, fromHex, toUtf8 } from "./bytes.js";
import { V2, V3 } from "./keys.js";
import { encapsulate, PUBLIC_SIZE } from "./mlkem.js";
import { importKey, webCrypto } from "./webcrypto.js";

const PROTOCOL_NAMES = {
  [V2]: "Noise_NNpsk0_25519_AESGCM_SHA256",
  [V3]: "Noise_NNhfs+psk0_25519+MLKEM768_AESGCM_SHA256",
};
const KEY_SIZE = 32;
const SEALED_PUBLIC_SIZE = PUBLIC_SIZE + 16;
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
 * @param {SecureProfile} profile
 * @param {SecureKey} sessionKey
 * @param {Bytes} message Noise message 1
 * @param {CryptoKeyPair} ephemeral X25519
 * @param {Bytes} payload for message 2
 * @returns {Promise<{ opened: Bytes, reply: Bytes, receiving: CipherState, sending: CipherState }>}
 *   message 1's payload, message 2, and the ciphers of both directions
 * @throws {DOMException} if message 1 was not made with this session key, or its ML-KEM key is not valid
 */
export async function respond(profile, { kid, psk }, message, { publicKey, privateKey }, payload) {
  const subtle = webCrypto();
  const name = toUtf8(PROTOCOL_NAMES[profile]);
  let h = name;
  /** @type {CipherState} */ let cipher;

  /** @param {Bytes} data */
  const hash = async (data) => new Uint8Array(await subtle.digest("SHA-256", data));
  /** @param {Bytes} data */
  const mixHash = async (data) => {
    h = await hash(concat(h, data));
  };
  if (name.length > KEY_SIZE) h = await hash(name);
  let ck = h;
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
  const toSecret = (secret) => importKey("HKDF", secret, "deriveBits");
  /** @param {CryptoKey} secret */
  const mixKey = async (secret) => {
    const [chainingKey, key] = await hkdf(secret, 2);
    ck = chainingKey;
    cipher = createCipherState(key);
  };
  /** @param {Bytes} ephemeral */
  const mixEphemeral = async (ephemeral) => {
    await mixHash(ephemeral);
    await mixKey(await toSecret(ephemeral));
  };
  /** @param {Bytes} sealed */
  const decrypt = async (sealed) => {
    const opened = await cipher("decrypt", h, sealed);
    await mixHash(sealed);
    return opened;
  };
  /** @param {Bytes} plaintext */
  const encrypt = async (plaintext) => {
    const sealed = await cipher("encrypt", h, plaintext);
    await mixHash(sealed);
    return sealed;
  };

  await mixHash(concat(toUtf8(profile), fromHex(kid)));

  // -> psk, e, and e1 in gcrypt.v3
  const [pskChainingKey, pskHash] = await hkdf(psk, 3); // the next MixKey replaces the third, k
  ck = pskChainingKey;
  await mixHash(pskHash);
  const remote = message.subarray(0, KEY_SIZE);
  await mixEphemeral(remote);
  let rest = message.subarray(KEY_SIZE);
  let encapsulated;
  if (profile === V3) {
    encapsulated = await encapsulate(await decrypt(rest.subarray(0, SEALED_PUBLIC_SIZE)));
    rest = rest.subarray(SEALED_PUBLIC_SIZE);
  }
  const opened = await decrypt(rest);

  // <- e, ee, and ekem1 in gcrypt.v3
  const own = new Uint8Array(await subtle.exportKey("raw", publicKey));
  await mixEphemeral(own);
  const exchange = { name: "X25519", public: await importKey("X25519", remote) };
  await mixKey(await toSecret(await subtle.deriveBits(exchange, privateKey, KEY_SIZE * 8)));
  let reply = own;
  if (encapsulated) {
    reply = concat(reply, await encrypt(encapsulated.ciphertext));
    await mixKey(encapsulated.secret);
  }
  reply = concat(reply, await encrypt(payload));

  // Split: the initiator, which is the server, sends with the first key.
  const [first, second] = await hkdf(await toSecret(EMPTY), 2);
  return {
    opened,
    reply,
    receiving: createCipherState(first),
    sending: createCipherState(second),
  };
}
