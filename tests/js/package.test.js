// What is shipped: one small module that any policy lets run, and types that fit it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";

import * as client from "gcrypt-channels";

import { BUILT } from "./wire.js";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../..", import.meta.url));
const source = readFileSync(BUILT, "utf8");

suite("gcrypt.js", () => {
  test("takes at most 8 KiB, gzipped", () => {
    assert.ok(gzipSync(source, { level: 9 }).length <= 8192);
  });

  test("exports what is documented, and nothing else", () => {
    const names = ["Crypt", "EncryptedWebSocket", "GcryptError", "forgetKeys"];
    assert.deepEqual(Object.keys(client), names);
  });

  test("keeps the names of its classes", () => {
    assert.equal(client.EncryptedWebSocket.name, "EncryptedWebSocket");
    assert.equal(new client.GcryptError("timeout").name, "GcryptError");
  });

  test("imports nothing and evaluates no text", () => {
    assert.doesNotMatch(
      source,
      /^import\b|\bimport\(["'`]|\brequire\(|\beval\(|\bnew Function\b|innerHTML/m,
    );
  });

  test("stores nothing, and logs nothing but errors that nobody listens for", () => {
    assert.doesNotMatch(source, /localStorage|sessionStorage|indexedDB/);
    assert.deepEqual(source.match(/console\.\w+/g), ["console.error"]);
  });
});

suite("the npm package", () => {
  test("holds the client and its types", async () => {
    const { stdout } = await run("npm", ["pack", "--dry-run", "--json"], { cwd: root });
    const files = JSON.parse(stdout)[0].files.map(({ path }) => path.split("/").at(-1));
    assert.deepEqual(files.sort(), [
      "LICENSE",
      "README.md",
      "gcrypt.d.ts",
      "gcrypt.js",
      "gcrypt.js.map",
      "package.json",
    ]);
  });

  for (const [module, resolution] of [
    ["nodenext", "nodenext"],
    ["esnext", "bundler"],
  ]) {
    test(`compiles into a TypeScript project with ${resolution} resolution`, async () => {
      const options = [
        "--noEmit",
        "--strict",
        "--target",
        "es2022",
        "--lib",
        "es2022,dom",
        "--types",
        "",
      ];
      const resolve = ["--module", module, "--moduleResolution", resolution, "--ignoreConfig"];
      const tsc = fileURLToPath(new URL("../../node_modules/typescript/bin/tsc", import.meta.url));
      await run(process.execPath, [tsc, ...options, ...resolve, "tests/js/consumer.ts"], {
        cwd: root,
      });
    });
  }
});
