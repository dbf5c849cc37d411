// What the page says about its site: the element that `{% gcrypt_config %}` renders, and cookies.

/** @import { PageConfig } from "./internal.d.ts" */

/** Any other element with this id may come from a user of the site. */
const CONFIG = 'script[type="application/json"]#gcrypt-config';

/**
 * A member of the document itself: an element whose name is the same would hide it.
 *
 * @template {keyof Document} K
 * @param {K} name
 * @returns {Document[K] | undefined}
 */
const documentMember = (name) =>
  globalThis.document && Reflect.get(Document.prototype, name, document);

/**
 * The page's configuration; an empty one where there is none, or no page.
 *
 * @returns {PageConfig}
 */
export const pageConfig = () =>
  JSON.parse(documentMember("querySelector")?.call(document, CONFIG)?.textContent ?? "{}");

/**
 * The value of a cookie of the page, as it is stored.
 *
 * @param {string} name
 * @returns {string | undefined}
 */
export const readCookie = (name) =>
  `; ${documentMember("cookie")}`.split(`; ${name}=`)[1]?.split(";")[0];

/**
 * What relative addresses are relative to.
 *
 * @returns {string | undefined}
 */
export const baseUrl = () => documentMember("baseURI") ?? globalThis.location?.href;

/**
 * The absolute form of an address that the page's code did not choose.
 *
 * @param {string} url
 * @returns {string}
 * @throws {TypeError} if it is not one of this origin
 */
export function ownUrl(url) {
  const { href, origin } = new URL(url, location.href);
  if (origin !== location.origin) throw new TypeError("not of this origin");
  return href;
}
