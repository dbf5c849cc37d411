// The types that only the client itself uses.

import type { AsyncCipher, ErrorCode, Options, Profile, SessionKey } from "./types.d.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

/** A session key of gcrypt.v2, imported. */
export interface SecureKey {
  kid: string;
  psk: CryptoKey;
}

/** What the key endpoint gave, imported, for each profile. */
export interface Keys {
  "gcrypt.v1"?: AsyncCipher;
  "gcrypt.v2"?: SecureKey;
}

/** Where a socket's key comes from. */
export interface KeySource {
  key?: SessionKey;
  keyUrl: string;
}

/** A socket's options, those that have a default filled in. */
export type Settings = Options &
  Required<Pick<Options, "keyUrl" | "maxMessage" | "profile" | "WebSocket">>;

/** What `{% gcrypt_config %}` tells. */
export interface PageConfig {
  keyUrl?: string;
  profile?: Profile;
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
  error?: ErrorCode;
}

/** What an `on…` attribute holds, and the listener that calls it. */
export interface Handler {
  value: unknown;
  listener: (event: Event) => void;
}
