// The frames of gcrypt.v2 and gcrypt.v3, and what is in them (docs/protocol.md, "Frames" and "Transport").

/**
 * @import { Bytes } from "./internal.d.ts"
 * @import { FrameKind } from "./types.d.ts"
 */

import { fromUtf8 } from "./bytes.js";
import { requireValid } from "./errors.js";

// The low six bits of a frame's first byte are its kind.
export const HELLO = 0x01;
export const REPLY = 0x02;
export const TEXT = 0x10;
export const BINARY = 0x11;
export const CONTROL = 0x12;
export const GROUP = 0x13;
export const KIND_MASK = 0x3f;

// The high two bits are flags.
export const PADDED = 0x40;
export const MORE = 0x80;

/** @type {Record<number, FrameKind>} */
export const KIND_NAMES = {
  [HELLO]: "HELLO",
  [REPLY]: "REPLY",
  [TEXT]: "TEXT",
  [BINARY]: "BINARY",
  [CONTROL]: "CONTROL",
  [GROUP]: "GROUP",
};

/** A frame holds at most so many bytes of plaintext. */
export const MAX_FRAGMENT = 262144;

/** The plaintext of one frame that is sent, padding included; the size that costs a server least. */
export const SENT_FRAGMENT = 114688;

/** A frame has its type and a tag beside its plaintext. */
export const FRAME_OVERHEAD = 1 + 16;

/** A peer that names no limit accepts messages of so many bytes. */
export const DEFAULT_MAX_MESSAGE = 1048576;

/** A close's reason has at most so many bytes of UTF-8. */
export const MAX_REASON = 123;

/** A GROUP message begins with `id(4) ‖ n(8)`. */
export const GROUP_HEADER = 12;

/** REPLY names at most so many positions. */
export const MAX_RESUME = 64;

const PADDING_MARK = 0x80;

/**
 * Lengthen a plaintext to the next Padmé length, so that its size tells little.
 *
 * @param {Bytes} plaintext
 * @returns {Bytes}
 */
export function pad(plaintext) {
  // 31 - clz32(x) is floor(log2(x)).
  const exponent = 31 - Math.clz32(plaintext.length + 1);
  const zeroBits = exponent - (32 - Math.clz32(exponent));
  const padded = new Uint8Array(((plaintext.length >> zeroBits) + 1) << zeroBits);
  padded.set(plaintext);
  padded[plaintext.length] = PADDING_MARK;
  return padded;
}

/**
 * The plaintext without its padding.
 *
 * @param {Bytes} padded
 * @returns {Bytes}
 * @throws {GcryptError} `invalid-frame` if there is no padding
 */
export function unpad(padded) {
  let end = padded.length - 1;
  while (padded[end] === 0) end--;
  requireValid(padded[end] === PADDING_MARK);
  return padded.subarray(0, end);
}

/**
 * The JSON object that a handshake payload or a control message is.
 *
 * @param {Bytes} bytes
 * @returns {Record<string, unknown>}
 * @throws {Error} if the bytes are not the UTF-8 of a JSON object
 */
export function parseObject(bytes) {
  const text = fromUtf8(bytes);
  requireValid(/^\s*{/.test(text));
  return JSON.parse(text);
}

/**
 * Whether a value is an integer of at least 1.
 *
 * @param {unknown} value
 * @returns {value is number}
 */
export const isPositive = (value) => Number.isInteger(value) && /** @type {number} */ (value) > 0;

/**
 * Whether a close may name a code. The others have no meaning, or say that there was no close.
 *
 * @param {unknown} code
 * @returns {code is number}
 */
export const isCloseCode = (code) =>
  isPositive(code) &&
  ((code >= 1000 && code <= 1003) ||
    (code >= 1007 && code <= 1014) ||
    (code >= 3000 && code <= 4999));
