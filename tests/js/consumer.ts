// Not run, but compiled: what a TypeScript project writes against the package.

import { Crypt, EncryptedWebSocket, forgetKeys, GcryptError, type Options } from "gcrypt-channels";

const options: Options = { profile: "gcrypt.v2", maxMessage: 4096, csrfToken: "x" };
const socket = new EncryptedWebSocket("/ws/", ["json"], options);
socket.onopen = () => socket.sendJSON({ id: 1 });
socket.onmessage = ({ data }) => console.log(data);
socket.onerror = ({ error }) => error.code === "unauthorized" && location.reload();
socket.addEventListener("close", ({ code, authentic }) => {
  const told: [number, boolean] = [code, authentic];
  console.log(told);
});
socket.addEventListener("gap", ({ group, missed }) => console.log(group.length + missed));
socket.addEventListener("frame", ({ direction }) => console.log(direction === "inbound"));
socket.send(new Uint8Array(3));
socket.send(new Blob());
socket.binaryType = "arraybuffer";
const state: number = socket.readyState + socket.bufferedAmount + EncryptedWebSocket.OPEN;

const Special: typeof EncryptedWebSocket = EncryptedWebSocket.with({ padding: true });
forgetKeys();
new Special(new URL("wss://localhost/"), "json").close(1000, `${state}`);

const text: Promise<string> = Crypt("passphrase").encrypt({ id: 1 });
const value: Promise<unknown> = text.then((sealed) => new Crypt("passphrase").decrypt(sealed));
value.catch((error) => error instanceof GcryptError && error.code === "decryption-failed");

// @ts-expect-error: not a code
socket.onerror = ({ error }) => error.code === "nonsense";
// @ts-expect-error: not an option
new EncryptedWebSocket("/ws/", [], { nonsense: true });
// @ts-expect-error: not an event
socket.addEventListener("nonsense", () => {});
// @ts-expect-error: decided by the server
socket.protocol = "json";
