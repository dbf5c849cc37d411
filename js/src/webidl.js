// How a browser's own class converts its arguments, and what its members look like (Web IDL).

/** @import { Bytes } from "./internal.d.ts" */

import { EMPTY } from "./bytes.js";

/**
 * @param {number} given how many arguments there are
 * @throws {TypeError} if the first, required one is missing
 */
export function requireArgument(given) {
  if (!given) throw new TypeError("1 argument required");
}

/**
 * `USVString`: a text without lone surrogates.
 *
 * @param {unknown} value
 * @returns {string}
 * @throws {TypeError} for a symbol
 */
export const toUSVString = (value) => `${value}`.toWellFormed();

/**
 * `[Clamp] unsigned short`: an integer from 0 to 65535. Fractions are cut off, as Chromium does.
 *
 * @param {unknown} value
 * @returns {number}
 * @throws {TypeError} for a symbol or a BigInt
 */
export const toUnsignedShort = (value) =>
  Math.trunc(Math.min(Math.max(+(/** @type {any} */ (value)), 0), 65535)) || 0;

/**
 * `(DOMString or sequence<DOMString>)`: the strings of an iterable object, or the one string.
 *
 * @param {unknown} value
 * @returns {string[]}
 */
export function toStrings(value) {
  const isIterable = Object(value) === value && Symbol.iterator in /** @type {object} */ (value);
  const items = isIterable ? [.../** @type {Iterable<unknown>} */ (value)] : [value];
  return items.map((item) => `${item}`);
}

/**
 * The name of a value's class, which is the same in every frame of a page.
 *
 * @param {unknown} value
 * @returns {string}
 */
const className = (value) => Object.prototype.toString.call(value).slice(8, -1);

/**
 * `(BufferSource or Blob or USVString)`: what is sent. The bytes are not copied.
 *
 * @param {unknown} data
 * @returns {string | Bytes | Blob}
 * @throws {TypeError} for a symbol, and for memory that is shared or may change its size
 */
export function toContent(data) {
  const name = className(data);
  if (name === "Blob" || name === "File") return /** @type {Blob} */ (data);
  const isView = ArrayBuffer.isView(data);
  if (!isView && !name.endsWith("ArrayBuffer")) return toUSVString(data);

  const { byteOffset = 0, byteLength, buffer = data } = /** @type {Bytes} */ (data);
  const { resizable } = /** @type {{ resizable?: boolean }} */ (buffer);
  if (resizable || className(buffer) !== "ArrayBuffer") throw new TypeError("not an ArrayBuffer");
  // A buffer that was transferred away is empty.
  return byteLength
    ? new Uint8Array(/** @type {ArrayBuffer} */ (buffer), byteOffset, byteLength)
    : EMPTY;
}

/**
 * Give a class what a class of the browser has: members that can be enumerated, constants on the
 * class and on its prototype, its name as `toStringTag`.
 *
 * @param {new (...args: never) => object} Class
 * @param {string} name
 * @param {Record<string, number>} constants
 */
export function dressAsInterface(Class, name, constants) {
  const { prototype } = Class;
  for (const member of Object.getOwnPropertyNames(prototype)) {
    if (member !== "constructor") Object.defineProperty(prototype, member, { enumerable: true });
  }
  for (const target of [Class, prototype]) {
    for (const constant in constants) {
      Object.defineProperty(target, constant, { value: constants[constant], enumerable: true });
    }
  }
  Object.defineProperty(prototype, Symbol.toStringTag, { value: name, configurable: true });
}
