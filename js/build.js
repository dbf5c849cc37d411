// Builds the browser client: `node js/build.js` writes the files that are shipped, and
// `node js/build.js --check` fails unless they are what the source builds.

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import { minify } from "terser";

const ROOT = new URL("../", import.meta.url);
const SOURCE = new URL("js/src/", ROOT);
const SHIPPED = new URL("gcrypt_channels/static/gcrypt_channels/", ROOT);
const DECLARATIONS = new URL("build/types/", ROOT); // tsconfig.json's outDir

const BANNER = "/*! gcrypt_channels, MIT; built from js/src */";

/**
 * The module and its source map. esbuild joins the modules; terser then writes them shorter than esbuild
 * can, by about 4 %.
 *
 * @param {{ minified?: boolean, plugins?: import("esbuild").Plugin[] }} [options]
 * @returns {Promise<Map<string, string>>} the text of each file, by name
 */
export async function bundle({ minified = true, plugins = [] } = {}) {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("index.js", SOURCE))],
    outfile: fileURLToPath(new URL("gcrypt.js", SHIPPED)),
    banner: { js: BANNER },
    bundle: true,
    charset: "utf8",
    format: "esm",
    legalComments: "none",
    minify: minified,
    plugins,
    sourcemap: "external",
    target: "es2022",
    write: false,
  });
  const [map, module] = outputFiles.map(({ text }) => text);
  if (!minified) return new Map([["gcrypt.js", module]]);
  const short = await minify(module, {
    module: true,
    ecma: 2022,
    compress: { passes: 3 },
    format: { comments: /^!/ },
    sourceMap: { content: map, includeSources: true, url: "gcrypt.js.map" },
  });
  return new Map([
    ["gcrypt.js", `${short.code}\n`],
    ["gcrypt.js.map", `${short.map}\n`],
  ]);
}

/** The modules with public declarations, in the order in which they are joined. */
const DECLARED = ["errors", "classic", "keys", "socket"];

/**
 * The declarations as one file: the public types, and what the compiler finds in the public modules.
 * They import types from each other only, so the imports go.
 *
 * @returns {string}
 */
function declarations() {
  const tsc = fileURLToPath(new URL("node_modules/typescript/bin/tsc", ROOT));
  execFileSync(process.execPath, [tsc, "--project", fileURLToPath(ROOT)], { stdio: "inherit" });
  const emitted = DECLARED.map((name) => new URL(`${name}.d.ts`, DECLARATIONS));
  const texts = [new URL("types.d.ts", SOURCE), ...emitted].map((file) =>
    readFileSync(file, "utf8"),
  );
  const lines = texts.flatMap((text) => text.trimEnd().split("\n"));
  const own = lines.filter((line) => !/^(import type .* from "\.\/.*";|export \{\};)$/.test(line));
  return [BANNER, ...own, "export {};", ""].join("\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const files = (await bundle()).set("gcrypt.d.ts", declarations());
  for (const [name, text] of files) {
    const file = new URL(name, SHIPPED);
    if (!process.argv.includes("--check")) {
      writeFileSync(file, text);
    } else if (readFileSync(file, "utf8") !== text) {
      console.error(`${name} is not what js/src builds: run "npm run build" and commit it.`);
      process.exitCode = 1;
    }
  }
}
