// The browser client of gcrypt_channels. See docs/javascript.md and docs/protocol.md.

export { Crypt } from "./classic.js";
export { GcryptError } from "./errors.js";
export { forgetKeys } from "./keys.js";
export { EncryptedWebSocket } from "./socket.js";
