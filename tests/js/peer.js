// An independent server for the client's tests: the three profiles on node:crypto and `ws`,
// written from docs/protocol.md and the Noise specification alone.

import assert from "node:assert/strict";
import * as nodeCrypto from "node:crypto";
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  randomBytes,
} from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

import { WebSocketServer } from "ws";

export const HELLO = 0x01;
export const REPLY = 0x02;
export const TEXT = 0x10;
export const BINARY = 0x11;
export const CONTROL = 0x12;
export const GROUP = 0x13;
export const PADDED = 0x40;
export const MORE = 0x80;

export const V2 = "gcrypt.v2";
export const V3 = "gcrypt.v3";

/** The profiles that this Node has; before 24 it lacks ML-KEM-768. */
export const PROFILES = "decapsulate" in nodeCrypto ? [V3, V2] : [V2];

/** An option of tests that need gcrypt.v3. */
export const NEEDS_V3 = { skip: !PROFILES.includes(V3) };

const NAMES = {
  [V2]: Buffer.from("Noise_NNpsk0_25519_AESGCM_SHA256"),
  [V3]: Buffer.from("Noise_NNhfs+psk0_25519+MLKEM768_AESGCM_SHA256"),
};
const SEALED_CIPHERTEXT_SIZE = 1088 + 16;
const TAG_SIZE = 16;
const SPKI = Buffer.from("302a300506032b656e032100", "hex"); // DER in front of a raw X25519 key
const PKCS8 = Buffer.from("302e020100300506032b656e04220420", "hex");
// RFC 9935, section 6: the private key of ML-KEM-768 as its seed.
const PKCS8_SEED = Buffer.from("3054020100300b060960864801650304040204428040", "hex");

const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
const hmac = (key, ...parts) => createHmac("sha256", key).update(Buffer.concat(parts)).digest();

/** Noise section 4.3, with HMAC as it is written there. */
function hkdf(chainingKey, material, outputs) {
  const secret = hmac(chainingKey, material);
  const made = [];
  for (let i = 1; i <= outputs; i++)
    made.push(hmac(secret, made.at(-1) ?? Buffer.alloc(0), Buffer.of(i)));
  return made;
}

function nonce(n) {
  const bytes = Buffer.alloc(12);
  bytes.writeBigUInt64BE(BigInt(n), 4);
  return bytes;
}

function seal(key, n, associatedData, plaintext) {
  const cipher = createCipheriv("aes-256-gcm", key, nonce(n)).setAAD(associatedData);
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function open(key, n, associatedData, sealed) {
  const cipher = createDecipheriv("aes-256-gcm", key, nonce(n)).setAAD(associatedData);
  cipher.setAuthTag(sealed.subarray(-TAG_SIZE));
  return Buffer.concat([cipher.update(sealed.subarray(0, -TAG_SIZE)), cipher.final()]);
}

/** One direction of the transport. */
class Cipher {
  n = 0;

  constructor(key) {
    this.key = key;
  }

  step(work) {
    const result = work(this.key, this.n);
    if (++this.n % 65536 === 0)
      this.key = seal(this.key, 2n ** 64n - 1n, Buffer.alloc(0), Buffer.alloc(32)).subarray(0, 32);
    return result;
  }

  seal(type, plaintext) {
    const header = Buffer.of(type);
    return this.step((key, n) =>
      Buffer.concat([header, seal(key, n, header, Buffer.from(plaintext))]),
    );
  }

  open(frame) {
    return this.step((key, n) => open(key, n, frame.subarray(0, 1), frame.subarray(1)));
  }
}

/** The initiator. Only the vectors pass the two key pairs. */
export class Handshake {
  constructor(psk, kid, profile, { pair, kem } = {}) {
    this.h = this.ck = NAMES[profile].length > 32 ? sha256(NAMES[profile]) : NAMES[profile];
    this.mixHash(Buffer.from(profile), kid);
    this.psk = psk;
    this.pair = pair ?? generateKeyPairSync("x25519");
    if (profile === V3) this.kem = kem ?? generateKeyPairSync("ml-kem-768");
  }

  mixHash(...parts) {
    this.h = sha256(this.h, ...parts);
  }

  mixKey(material) {
    [this.ck, this.k] = hkdf(this.ck, material, 2);
    this.n = 0;
  }

  encryptAndHash(plaintext) {
    const sealed = seal(this.k, this.n++, this.h, plaintext);
    this.mixHash(sealed);
    return sealed;
  }

  decryptAndHash(sealed) {
    const plaintext = open(this.k, this.n++, this.h, sealed);
    this.mixHash(sealed);
    return plaintext;
  }

  mixEphemeral(key) {
    this.mixHash(key);
    this.mixKey(key);
  }

  write(payload) {
    const [ck, hash, k] = hkdf(this.ck, this.psk, 3);
    this.ck = ck;
    this.k = k;
    this.mixHash(hash);
    const own = this.pair.publicKey.export({ type: "spki", format: "der" }).subarray(-32);
    this.mixEphemeral(own);
    const parts = [own];
    if (this.kem) parts.push(this.encryptAndHash(this.encapsulationKey()));
    parts.push(this.encryptAndHash(Buffer.from(payload)));
    return Buffer.concat(parts);
  }

  /** What `e1` carries: the raw key is at the end of its DER. */
  encapsulationKey() {
    return this.kem.publicKey.export({ type: "spki", format: "der" }).subarray(-1184);
  }

  read(message) {
    const remote = message.subarray(0, 32);
    this.mixEphemeral(remote);
    const publicKey = createPublicKey({
      key: Buffer.concat([SPKI, remote]),
      format: "der",
      type: "spki",
    });
    this.mixKey(diffieHellman({ privateKey: this.pair.privateKey, publicKey }));
    let rest = message.subarray(32);
    if (this.kem) {
      this.ciphertext = this.decryptAndHash(rest.subarray(0, SEALED_CIPHERTEXT_SIZE));
      this.secret = nodeCrypto.decapsulate(this.kem.privateKey, this.ciphertext);
      this.mixKey(this.secret);
      rest = rest.subarray(SEALED_CIPHERTEXT_SIZE);
    }
    const payload = this.decryptAndHash(rest);
    const [sending, receiving] = hkdf(this.ck, Buffer.alloc(0), 2);
    return { payload, sending: new Cipher(sending), receiving: new Cipher(receiving) };
  }
}

/** A key pair of node:crypto from its raw private key, behind the DER that says what it is. */
function importPair(prefix, raw) {
  const der = Buffer.concat([prefix, raw]);
  const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  return { der, privateKey, publicKey: createPublicKey(privateKey) };
}

/** The server's key pairs of a vector. */
export const importServerKeys = (ephemeral, seed) => ({
  pair: importPair(PKCS8, ephemeral),
  kem: importPair(PKCS8_SEED, seed),
});

/** A raw X25519 private key as a WebCrypto key pair. */
export async function importEphemeral(raw) {
  const { der, publicKey } = importPair(PKCS8, raw);
  const publicDer = publicKey.export({ type: "spki", format: "der" });
  return {
    privateKey: await crypto.subtle.importKey("pkcs8", der, "X25519", false, ["deriveBits"]),
    publicKey: await crypto.subtle.importKey("spki", publicDer, "X25519", true, []),
  };
}

export function newKey() {
  const [kid, psk] = [randomBytes(8), randomBytes(32)];
  return { kid, psk, json: { kid: kid.toString("hex"), psk: psk.toString("base64url") } };
}

/** The server's end of one connection. `frames` is an async iterator over what arrives. */
export class Connection {
  constructor(socket, request) {
    this.socket = socket;
    this.request = request;
    this.queue = [];
    this.waiting = [];
    this.closed = once(socket, "close").then(([code, reason]) => ({
      code,
      reason: reason.toString(),
    }));
    socket.on("message", (data, isBinary) => {
      const frame = isBinary ? data : data.toString();
      const waiter = this.waiting.shift();
      if (waiter) waiter(frame);
      else this.queue.push(frame);
    });
  }

  /** The next frame as it came. */
  frame() {
    if (this.queue.length) return Promise.resolve(this.queue.shift());
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  async greet({ kid, psk }, payload = { max_message: 1048576 }) {
    const noise = new Handshake(psk, kid, this.socket.protocol);
    this.raw(Buffer.concat([Buffer.of(HELLO), kid, noise.write(JSON.stringify(payload))]));
    const reply = await this.frame();
    if (reply[0] !== REPLY) throw new Error("no REPLY");
    const { payload: answer, sending, receiving } = noise.read(reply.subarray(1));
    Object.assign(this, { sending, receiving });
    const members = JSON.parse(answer);
    this.compare(members);
    return members;
  }

  /** Check that REPLY names the request that arrived here. */
  compare({ offered, host, target }) {
    const { headers, url } = this.request;
    assert.deepEqual(
      offered,
      headers["sec-websocket-protocol"].split(",").map((each) => each.trim()),
    );
    assert.equal(host, headers.host.replace(/:\d+$/, ""));
    assert.equal(target, url);
  }

  /** Greet, and accept as the application would. */
  async accept(key, subprotocol = null) {
    const answer = await this.greet(key);
    this.control({ type: "accept", subprotocol });
    return answer;
  }

  raw(frame) {
    this.socket.send(frame);
  }

  send(type, plaintext) {
    this.raw(this.sending.seal(type, plaintext));
  }

  control(message) {
    this.send(CONTROL, JSON.stringify(message));
  }

  close(code, reason = "") {
    this.control({ type: "close", code, reason });
    this.socket.close(code, reason);
  }

  /** The next transport frame, opened: [type, plaintext]. */
  async receive() {
    const frame = await this.frame();
    return [frame[0], this.receiving.open(frame)];
  }
}

/**
 * Serve on a free port of the loopback interface. `serve(connection)` runs for each WebSocket,
 * `keys(request)` answers the key endpoint with [status, body, headers]. `select(offers)` returns the
 * subprotocol; by default it is the first one.
 */
export async function startServer(t, serve, keys = () => [404, {}], select = ([first]) => first) {
  const requests = [];
  const http = createServer((request, response) => {
    requests.push({ url: request.url, method: request.method, headers: request.headers });
    const [status, body, headers] = keys(request);
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(JSON.stringify(body));
  });
  const sockets = new WebSocketServer({
    server: http,
    maxPayload: 2 ** 26,
    handleProtocols: (offers) => select([...offers]),
  });
  const failures = [];
  sockets.on("connection", (socket, request) => {
    Promise.resolve(serve(new Connection(socket, request))).catch((error) => failures.push(error));
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const { port } = http.address();
  t.after(async () => {
    for (const client of sockets.clients) client.terminate();
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
    if (failures.length) throw failures[0];
  });
  return {
    url: `http://127.0.0.1:${port}/ws/`,
    keyUrl: `http://127.0.0.1:${port}/gcrypt/key/`,
    requests,
  };
}
