// The session's keys: fetched from the key endpoint, and kept in this module's memory alone.

/**
 * @import { KeySource, Keys } from "./internal.d.ts"
 * @import { Profile, SessionKey } from "./types.d.ts"
 */

import { fromBase64 } from "./bytes.js";
import { Crypt } from "./classic.js";
import { fail, GcryptError } from "./errors.js";
import { pageConfig, readCookie } from "./page.js";
import { importKey } from "./webcrypto.js";

export const V1 = "gcrypt.v1";
export const V2 = "gcrypt.v2";

/**
 * The answers of key endpoints, by address.
 *
 * @type {Map<string, Promise<Keys>>}
 */
const cache = new Map();

// A page that comes back from the back/forward cache may belong to an ended session.
globalThis.addEventListener?.("pageshow", ({ persisted }) => {
  if (persisted) cache.clear();
});

/**
 * Make the next socket ask the key endpoint again.
 *
 * @param {string} keyUrl
 */
export const forget = (keyUrl) => cache.delete(keyUrl);

/**
 * The key of a profile.
 *
 * @template {Profile} P
 * @param {P} profile
 * @param {KeySource} source
 * @returns {Promise<NonNullable<Keys[P]>>}
 * @throws {GcryptError} `unauthorized` or `key-unavailable`
 */
export async function sessionKey(profile, { key, keyUrl }) {
  try {
    const keys = key ? importKeys({ [profile]: key }) : (cache.get(keyUrl) ?? fetchKeys(keyUrl));
    if (!key) cache.set(keyUrl, keys);
    return (await keys)[profile] ?? fail("key-unavailable");
  } catch (error) {
    forget(keyUrl);
    throw error instanceof GcryptError ? error : new GcryptError("key-unavailable");
  }
}

/**
 * Ask the key endpoint.
 *
 * @param {string} keyUrl
 * @returns {Promise<Keys>}
 */
async function fetchKeys(keyUrl) {
  const { csrfCookie = "csrftoken", csrfHeader = "X-CSRFToken", csrfToken } = pageConfig();
  const response = await fetch(keyUrl, {
    method: "POST",
    headers: { [csrfHeader]: csrfToken ?? readCookie(csrfCookie) ?? "" },
  });
  if (response.status === 401 || response.status === 403) fail("unauthorized");
  return importKeys(await response.json());
}

/**
 * Import an answer of the key endpoint. What is imported cannot be exported again.
 *
 * @param {Partial<Record<Profile, SessionKey>>} members
 * @returns {Promise<Keys>}
 */
async function importKeys({ [V1]: classic, [V2]: secure }) {
  /** @type {Keys} */
  const keys = {};
  if (classic) keys[V1] = Crypt(/** @type {string} */ (classic.passphrase));
  if (secure) {
    const { kid, psk } = /** @type {Required<SessionKey>} */ (secure);
    const base64 = psk.replace(/-/g, "+").replace(/_/g, "/");
    keys[V2] = { kid, psk: await importKey("HKDF", fromBase64(base64), "deriveBits") };
  }
  return keys;
}
