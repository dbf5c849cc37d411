// The types that only the client itself uses.

import type { GcryptError } from "./errors.js";
import type {
  AsyncCipher,
  CarrierClass,
  Options,
  Profile,
  SecureProfile,
  SessionKey,
} from "./types.d.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

/** A session key of gcrypt.v2 and gcrypt.v3, imported. */
export interface SecureKey {
  kid: string;
  psk: CryptoKey;
  /** Offered in place of `kid`. */
  ticket?: string;
}

/** What the key endpoint gave, imported. */
export interface Keys {
  "gcrypt.v1"?: AsyncCipher;
  session?: SecureKey;
}

/** A request to a key endpoint, or its answer. */
export interface KeyRequest {
  keys: Promise<Keys>;
  controller: AbortController;
  /** How many sockets wait for it. */
  waiting: number;
}

/** A socket's options, those that have a default filled in. */
export interface Settings extends Omit<Options, "key"> {
  /** The session key, or what is called for it. */
  key?: SessionKey | (() => SessionKey | Promise<SessionKey>);
  /** Those with a handshake that may be offered. */
  profiles: SecureProfile[];
  keyUrl: string;
  /** Whether the page's code chose `keyUrl`, so that it may be of another origin. */
  keyUrlFromCode: boolean;
  maxMessage: number;
  WebSocket: CarrierClass;
}

/** Where a socket's key comes from. */
export type KeySource = Pick<Settings, "key" | "keyUrl" | "keyUrlFromCode" | "csrfToken">;

/** What `{% gcrypt_config %}` tells. */
export interface PageConfig {
  keyUrl?: string;
  profiles?: Profile[];
  csrfCookie?: string;
  csrfHeader?: string;
  csrfToken?: string;
}

/** Why a connection ends, and what its `close` event says. */
export interface End {
  code: number;
  reason: string;
  wasClean: boolean;
  /** For an `error` event before it. */
  error?: GcryptError;
}

/** What an `on…` attribute holds, and the listener that calls it. */
export interface Handler {
  value: unknown;
  listener: (event: Event) => void;
}
