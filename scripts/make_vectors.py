"""Makes ``tests/vectors/*.json``, which the Python and the JavaScript tests read.

Everything in them comes from independent implementations: noiseprotocol (Noise), the openssl
program (gcrypt.v1) and pycryptodome (the primitives, ML-KEM). ``--check`` makes them again and
fails unless the committed files are the same; the inputs are seeded, so they are.

Bytes are lower-case hex, text is text, sizes are bytes.

``primitives.json``: ``aes_gcm`` (``ciphertext`` ends in its tag), ``aes_cbc`` (PKCS#7), ``hkdf``
(SHA-256) and ``x25519``: lists of inputs with their output.

``noise.json``: ``handshakes``, each with both sides' inputs, the two ``messages`` with their
``payloads``, the ``handshake_hash`` and the ``transport``: messages in the order they were sent,
each direction with a key of its own that is rekeyed after every ``rekey_interval`` messages.

``v1.json``: ``valid`` frames, each with its ``text``, and ``salt``, ``key``, ``iv`` for those who
make the frame again; ``invalid`` frames, which nobody may open under ``passphrase``.

``v2.json``:

* ``padme``: pairs of a length and its Padmé length.
* ``connections``: from HELLO on. ``offered``, ``host`` and ``target`` are the request's. ``steps``
  are in the order they were sent; each has ``from`` ("server" or "client"), ``event`` (hello,
  reply, accept, text, binary, long, gap, close) with its members (``text``; ``data``;
  ``subprotocols``; …) and the ``frames``, which a sender with the given request, ephemeral key,
  limits, padding and rekey interval makes exactly. ``long`` is a binary message of ``size`` times
  ``byte``, its frames told by their ``sha256``.
* ``received``: the same, but made by a ``sender`` with other habits (short fragments, other JSON):
  only for the other side, which on the way takes its own steps. ``ignored`` is a control message
  of an unknown type.
* ``refused``: the same, and the last step has the event ``refused``: the receiver refuses the last
  of its frames, and no earlier one, with the close ``code``. On the way it takes its own steps.

``v3.json``: ``connections`` and ``refused`` as in ``v2.json``, for the other handshake.
``kem_seed`` is the server's ``d ‖ z`` and ``kem_coins`` the client's ``m`` of FIPS 203. ``flags``
say what a vector is about, and ``notes`` what each flag means.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.reference import (  # noqa: E402 (needs the path)
    noise_vectors,
    primitive_vectors,
    v1_vectors,
    v2_vectors,
    v3_vectors,
)

DIRECTORY = ROOT / "tests" / "vectors"
BUILDERS = {
    "primitives.json": primitive_vectors.build,
    "noise.json": noise_vectors.build,
    "v1.json": v1_vectors.build,
    "v2.json": v2_vectors.build,
    "v3.json": v3_vectors.build,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Make tests/vectors/*.json.")
    parser.add_argument("--check", action="store_true", help="fail unless the files are current")
    check = parser.parse_args().check
    stale = []
    for name, build in BUILDERS.items():
        path = DIRECTORY / name
        made = json.dumps(build(), ensure_ascii=False, indent=1) + "\n"
        if not check:
            path.write_text(made, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != made:
            stale.append(name)
    if stale:
        print(f"not current: {', '.join(stale)}; run scripts/make_vectors.py", file=sys.stderr)
    elif check:
        print(f"current: {', '.join(BUILDERS)}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
