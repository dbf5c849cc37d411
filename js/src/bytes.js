// Bytes, and their forms as text: UTF-8, hexadecimal, base64 and JSON.

/** @import { Bytes } from "./internal.d.ts" */

import { fail } from "./errors.js";

export const EMPTY = new Uint8Array();

const encoder = new TextEncoder();

/** Throws on bytes that are not UTF-8, and keeps a byte order mark. */
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The UTF-8 of a text. A lone surrogate becomes U+FFFD.
 *
 * @param {string} text
 * @returns {Bytes}
 */
export const toUtf8 = (text) => encoder.encode(text);

/**
 * The text of UTF-8 bytes.
 *
 * @param {Bytes} bytes
 * @returns {string}
 * @throws {TypeError} if the bytes are not UTF-8
 */
export const fromUtf8 = (bytes) => decoder.decode(bytes);

/**
 * Join byte arrays into a new one.
 *
 * @param {Bytes[]} parts
 * @returns {Bytes}
 */
export function join(parts) {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}

/**
 * The same, for a few that are written out.
 *
 * @param {Bytes[]} parts
 * @returns {Bytes}
 */
export const concat = (...parts) => join(parts);

/**
 * Lower-case hexadecimal digits.
 *
 * @param {Bytes} bytes
 * @returns {string}
 */
export const toHex = (bytes) =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * The bytes of hexadecimal digits. The caller has checked that `hex` is nothing else.
 *
 * @param {string} hex
 * @returns {Bytes}
 */
export const fromHex = (hex) =>
  Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));

/**
 * @param {string} text standard base64
 * @returns {Bytes}
 * @throws {DOMException} if the text is not base64
 */
export function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** So many arguments, at most, are passed to one call of `String.fromCharCode`. */
const CHUNK = 8192;

/**
 * Standard base64, with padding.
 *
 * @param {Bytes} bytes
 * @returns {string}
 */
export function toBase64(bytes) {
  let binary = "";
  for (let i = 0; i < bytes.length; i += CHUNK) {
    binary += String.fromCharCode(...bytes.subarray(i, i + CHUNK));
  }
  return btoa(binary);
}

/**
 * The JSON text of a value.
 *
 * @param {unknown} value
 * @returns {string}
 * @throws {GcryptError} `not-json` for a value that has none, such as `undefined`
 */
export const toJSON = (value) => JSON.stringify(value) ?? fail("not-json");

/**
 * Whether a value is a text that UTF-8 can carry.
 *
 * @param {unknown} value
 * @returns {value is string}
 */
export const isText = (value) => typeof value === "string" && value.isWellFormed();
