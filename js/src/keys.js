// The session's keys: fetched from the key endpoint, and kept in this module's memory alone.

/**
 * @import { KeyRequest, Keys, KeySource } from "./internal.d.ts"
 * @import { SessionKey } from "./types.d.ts"
 */

import { fromBase64 } from "./bytes.js";
import { Crypt } from "./classic.js";
import { fail, GcryptError } from "./errors.js";
import { ownUrl, pageConfig, readCookie } from "./page.js";
import { importKey } from "./webcrypto.js";

/** @internal */
export const V1 = "gcrypt.v1";
/** @internal */
export const V2 = "gcrypt.v2";
/** @internal */
export const V3 = "gcrypt.v3";

/** The key endpoint's member for both of them. @internal */
export const SESSION = "session";

/** Why a socket that has run out of time waits no longer. @internal */
export const TOO_LONG = "timeout";

/** A wrong `kid` makes a key endpoint be asked once in so many milliseconds, at most. */
const RENEWAL_INTERVAL = 5000;

/**
 * The answers of key endpoints and the requests for them, by address.
 *
 * @type {Map<string, KeyRequest>}
 */
const requests = new Map();

/**
 * When a key endpoint's answer was dropped because of what the wire said, by address.
 *
 * @type {Map<string, number>}
 */
const renewals = new Map();

// A page that comes back from the back/forward cache may belong to an ended session.
globalThis.addEventListener?.("pageshow", ({ persisted }) => {
  if (persisted) forgetKeys();
});

/** Forget all keys, for instance at a logout. The next socket asks the key endpoint again. */
export function forgetKeys() {
  requests.clear();
}

/**
 * Forget one key endpoint's answer.
 *
 * @internal
 * @param {string} keyUrl
 * @param {KeyRequest} [request] the answer that is meant, if not the last one
 */
export function forget(keyUrl, request = requests.get(keyUrl)) {
  if (requests.get(keyUrl) === request) requests.delete(keyUrl);
}

/**
 * Forget one key endpoint's answer because of what the wire said. That may be a lie, so it has an
 * effect once in a while only.
 *
 * @internal
 * @param {string} keyUrl
 */
export function renew(keyUrl) {
  const now = performance.now();
  if (now - (renewals.get(keyUrl) ?? -Infinity) < RENEWAL_INTERVAL) return;
  renewals.set(keyUrl, now);
  forget(keyUrl);
}

/**
 * The key of a profile: the page's own, what its key source gives now, or the key endpoint's member.
 *
 * @internal
 * @template {keyof Keys} M
 * @param {M} member
 * @param {KeySource} source
 * @param {AbortSignal} signal aborts when the caller waits no longer
 * @returns {Promise<NonNullable<Keys[M]>>}
 * @throws {GcryptError} `unauthorized`, `csrf` or `key-unavailable`, or the one that a key source throws
 */
export async function sessionKey(member, source, signal) {
  const { key } = source;
  try {
    if (!key) return await endpointKey(member, source, signal);
    const given = typeof key === "function" ? await key() : key;
    return (await importKeys({ [member]: given }))[member] ?? fail("key-unavailable");
  } catch (error) {
    throw error instanceof GcryptError ? error : new GcryptError("key-unavailable");
  }
}

/**
 * The key that the key endpoint gives. Its answer is shared by all sockets. A failure is not kept, and
 * neither is a request that took too long for a socket. When nobody waits any more, it is given up.
 *
 * @template {keyof Keys} M
 * @param {M} member
 * @param {KeySource} source
 * @param {AbortSignal} signal
 * @returns {Promise<NonNullable<Keys[M]>>}
 */
async function endpointKey(member, source, signal) {
  const { keyUrl } = source;
  const request = requests.get(keyUrl) ?? askEndpoint(source);
  const leave = () => {
    request.waiting--;
    if (!request.waiting) request.controller.abort();
    if (!request.waiting || signal.reason === TOO_LONG) forget(keyUrl, request);
  };
  signal.throwIfAborted();
  request.waiting++;
  signal.addEventListener("abort", leave);
  try {
    return (await request.keys)[member] ?? fail("key-unavailable");
  } catch (error) {
    forget(keyUrl, request);
    throw error;
  } finally {
    signal.removeEventListener("abort", leave);
  }
}

/**
 * @param {KeySource} source
 * @returns {KeyRequest}
 */
function askEndpoint(source) {
  const controller = new AbortController();
  const request = { controller, waiting: 0, keys: fetchKeys(source, controller.signal) };
  requests.set(source.keyUrl, request);
  return request;
}

/**
 * @param {KeySource} source
 * @param {AbortSignal} signal
 * @returns {Promise<Keys>}
 */
async function fetchKeys({ keyUrl, keyUrlFromCode, csrfToken }, signal) {
  const config = pageConfig();
  const { csrfCookie = "csrftoken", csrfHeader = "X-CSRFToken" } = config;
  const token = csrfToken ?? config.csrfToken ?? readCookie(csrfCookie) ?? "";
  const response = await fetch(keyUrlFromCode ? keyUrl : ownUrl(keyUrl), {
    method: "POST",
    headers: { [csrfHeader]: token },
    redirect: "manual",
    signal,
  });
  const { status } = response;
  if (status === 403) {
    const { error, detail } = await response.json().catch(() => ({})); // a proxy may have refused
    if (error === "csrf") fail(error, detail);
  }
  // A redirect leads to a login page. Browsers show its status as 0.
  if (/^(0|3..|40[13])$/.test(`${status}`)) fail("unauthorized");
  return importKeys(await response.json());
}

/**
 * Import an answer of the key endpoint. What is imported cannot be exported again.
 *
 * @param {Partial<Record<keyof Keys, SessionKey>>} members
 * @returns {Promise<Keys>}
 */
async function importKeys({ [V1]: classic, [SESSION]: secure }) {
  /** @type {Keys} */
  const keys = {};
  if (classic) keys[V1] = Crypt(/** @type {string} */ (classic.passphrase));
  if (secure) {
    const { kid, psk, ticket } = /** @type {Required<SessionKey>} */ (secure);
    const base64 = psk.replace(/-/g, "+").replace(/_/g, "/");
    keys[SESSION] = { kid, ticket, psk: await importKey("HKDF", fromBase64(base64), "deriveBits") };
  }
  return keys;
}
