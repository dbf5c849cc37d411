// gcrypt.v1's `Crypt`: against the vectors, and against the real g-crypt and CryptoJS.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { suite, test } from "node:test";

import CryptoJS from "crypto-js";

import { Crypt, GcryptError } from "#client";

import { vectors } from "./wire.js";

const require = createRequire(import.meta.url);
const GCrypt = require("g-crypt"); // brings its own CryptoJS 3
const { valid, invalid } = vectors("v1");
const VALUES = [
  { id: 1 },
  "",
  null,
  0,
  false,
  [],
  "grüße, мир, 日本語, 😀",
  { a: ["x".repeat(100_000)] },
];

const fails = (promise) =>
  assert.rejects(
    promise,
    (error) => error instanceof GcryptError && error.code === "decryption-failed",
  );

/** g-crypt's format on CryptoJS 4, as g-crypt sets it up on CryptoJS 3. */
const format = {
  stringify: ({ ciphertext, iv, salt }) =>
    JSON.stringify({
      ct: ciphertext.toString(CryptoJS.enc.Base64),
      iv: iv.toString(),
      s: salt.toString(),
    }),
  parse: (text) => {
    const { ct, iv, s } = JSON.parse(text);
    const { Base64, Hex } = CryptoJS.enc;
    return CryptoJS.lib.CipherParams.create({
      ciphertext: Base64.parse(ct),
      iv: Hex.parse(iv),
      salt: Hex.parse(s),
    });
  },
};

suite("vectors", () => {
  for (const { name, passphrase, text, salt, frame } of valid) {
    test(`opens ${name} (${passphrase.length})`, async () => {
      assert.deepEqual(await Crypt(passphrase).decrypt(frame), JSON.parse(text));
    });

    if (salt && JSON.stringify(JSON.parse(text)) === text && JSON.parse(frame).iv) {
      test(`seals ${name} (${passphrase.length}) as everybody does`, async (t) => {
        t.mock.method(crypto, "getRandomValues", (array) => {
          array.set(Buffer.from(salt, "hex"));
          return array;
        });
        assert.equal(await Crypt(passphrase).encrypt(JSON.parse(text)), frame);
      });
    }
  }
  for (const { name, passphrase, frame } of invalid) {
    test(`refuses ${name}`, () => fails(Crypt(passphrase).decrypt(frame)));
  }
});

suite("interoperation", () => {
  const passphrases = [
    "p",
    "a long passphrase, of words",
    "пароль 🔑",
    "x".repeat(48),
    "y".repeat(300),
  ];
  for (const passphrase of passphrases) {
    test(`with g-crypt on CryptoJS 3, passphrase of ${passphrase.length}`, async () => {
      for (const value of VALUES) {
        assert.deepEqual(GCrypt(passphrase).decrypt(await Crypt(passphrase).encrypt(value)), value);
        assert.deepEqual(await Crypt(passphrase).decrypt(GCrypt(passphrase).encrypt(value)), value);
      }
    });

    test(`with CryptoJS 4, passphrase of ${passphrase.length}`, async () => {
      for (const value of VALUES) {
        const theirs = CryptoJS.AES.encrypt(JSON.stringify(value), passphrase, {
          format,
        }).toString();
        assert.deepEqual(await Crypt(passphrase).decrypt(theirs), value);
        const ours = await Crypt(passphrase).encrypt(value);
        const opened = CryptoJS.AES.decrypt(ours, passphrase, { format }).toString(
          CryptoJS.enc.Utf8,
        );
        assert.deepEqual(JSON.parse(opened), value);
      }
    });
  }
});

suite("Crypt", () => {
  test("works with and without new", async () => {
    const text = await new Crypt("secret").encrypt({ id: 1 });
    assert.deepEqual(await Crypt("secret").decrypt(text), { id: 1 });
  });

  test("draws a fresh salt for each value", async () => {
    const crypt = Crypt("secret");
    assert.notEqual(JSON.parse(await crypt.encrypt(1)).s, JSON.parse(await crypt.encrypt(1)).s);
  });

  test("refuses what JSON cannot express", async () => {
    await assert.rejects(Crypt("secret").encrypt(undefined), { code: "not-json" });
  });

  test("takes no passphrase but a text that UTF-8 can carry", () => {
    for (const passphrase of [undefined, null, "", 1, {}, [], ["secret"], new String("secret")]) {
      assert.throws(() => Crypt(passphrase), TypeError);
      assert.throws(() => new Crypt(passphrase), TypeError);
    }
    assert.throws(() => Crypt("\ud800"), TypeError);
    assert.throws(() => Crypt("a\udc00b"), TypeError);
    Crypt("\ud83d\ude00");
  });

  test("shows no passphrase", async () => {
    const crypt = Crypt("a-canary-passphrase");
    const { inspect } = await import("node:util");
    assert.doesNotMatch(inspect(crypt, { depth: 9, showHidden: true }), /canary/);
    assert.doesNotMatch(JSON.stringify(crypt), /canary/);
    const error = await crypt.decrypt("{}").catch((caught) => caught);
    assert.doesNotMatch(inspect(error, { depth: 9, showHidden: true }), /canary/);
  });

  test("refuses every flipped bit of iv, and delivers no other object by it", async () => {
    const crypt = Crypt("secret");
    const frame = JSON.parse(await crypt.encrypt({ id: 1 }));
    const iv = Buffer.from(frame.iv, "hex");
    for (let bit = 0; bit < 128; bit++) {
      const flipped = Buffer.from(iv);
      flipped[bit >> 3] ^= 1 << (bit & 7);
      await fails(crypt.decrypt(JSON.stringify({ ...frame, iv: flipped.toString("hex") })));
    }
  });

  test("refuses every argument that is not a frame with one error", async () => {
    for (const argument of [
      undefined,
      null,
      1,
      {},
      [],
      Symbol.iterator,
      new Uint8Array(3),
      "",
      "{",
      "[".repeat(1e5),
    ]) {
      await fails(Crypt("secret").decrypt(argument));
    }
  });

  test("says what is missing without WebCrypto", async (t) => {
    const { value } = Object.getOwnPropertyDescriptor(globalThis, "crypto") ?? {};
    const real = globalThis.crypto;
    const set = (crypto) =>
      Object.defineProperty(globalThis, "crypto", {
        value: crypto,
        configurable: true,
        writable: true,
      });
    t.after(() => {
      delete globalThis.isSecureContext;
      set(value ?? real);
    });
    const text = await Crypt("secret").encrypt(1);
    set({ getRandomValues: real.getRandomValues.bind(real) });
    await assert.rejects(Crypt("secret").encrypt(1), { code: "unsupported" });
    globalThis.isSecureContext = false;
    await assert.rejects(Crypt("secret").encrypt(1), { code: "insecure-context" });
    await assert.rejects(Crypt("secret").decrypt(text), { code: "insecure-context" });
  });
});
