// MD5 (RFC 1321), which WebCrypto does not have. g-crypt's key derivation uses it.

/** @import { Bytes } from "./internal.d.ts" */

import { fromHex } from "./bytes.js";

const BLOCK_BITS = 6; // a block has 64 bytes

/** The rotations of the four rounds, four for each. */
const SHIFTS = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21];

/** The table T of section 3.4. */
const SINES = Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32));

/** Section 3.3: the words A, B, C, D, low-order bytes first. */
const INITIAL_STATE = "0123456789abcdeffedcba9876543210";

/**
 * The data, a bit 1, zeros, and the length in bits: whole blocks of little-endian words
 * (sections 3.1 and 3.2). Every runtime with WebCrypto keeps typed arrays in little-endian order.
 *
 * @param {Bytes} data
 * @returns {Int32Array<ArrayBuffer>}
 */
function padToBlocks(data) {
  const blocks = (data.length + 8 + (1 << BLOCK_BITS)) >> BLOCK_BITS;
  const words = new Int32Array(blocks << (BLOCK_BITS - 2));
  const bytes = new Uint8Array(words.buffer);
  bytes.set(data);
  bytes[data.length] = 0x80;
  words[words.length - 2] = data.length * 8;
  return words;
}

/**
 * @param {Bytes} data less than 256 MiB
 * @returns {Bytes} 16 bytes
 */
export function md5(data) {
  const words = padToBlocks(data);
  const state = new Int32Array(fromHex(INITIAL_STATE).buffer);
  for (let block = 0; block < words.length; block += 16) {
    let [a, b, c, d] = state;
    for (let i = 0; i < 64; i++) {
      const round = i >> 4;
      const mixed = [d ^ (b & (c ^ d)), c ^ (d & (b ^ c)), b ^ c ^ d, c ^ (b | ~d)][round];
      const word = [i, 5 * i + 1, 3 * i + 5, 7 * i][round] & 15;
      const sum = a + mixed + SINES[i] + words[block + word];
      const shift = SHIFTS[round * 4 + (i & 3)];
      const rotated = (sum << shift) | (sum >>> (32 - shift));
      [a, b, c, d] = [d, (b + rotated) | 0, b, c];
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
  }
  return new Uint8Array(state.buffer);
}
