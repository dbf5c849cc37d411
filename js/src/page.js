// What the page says about its site: the element that `{% gcrypt_config %}` renders.

/** @import { PageConfig } from "./internal.d.ts" */

const CONFIG_ID = "gcrypt-config";

/**
 * The page's configuration; an empty one where there is none, or no page.
 *
 * @returns {PageConfig}
 */
export const pageConfig = () =>
  JSON.parse(globalThis.document?.getElementById(CONFIG_ID)?.textContent ?? "{}");

/**
 * The value of a cookie of the page, as it is stored.
 *
 * @param {string} name
 * @returns {string | undefined}
 */
export function readCookie(name) {
  const cookies = `; ${globalThis.document?.cookie}`;
  return cookies.split(`; ${name}=`)[1]?.split(";")[0];
}
