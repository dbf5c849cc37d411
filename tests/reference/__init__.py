"""The protocol a second time, from other people's implementations: noiseprotocol, openssl and
pycryptodome. Nothing in here imports ``gcrypt_channels``, so what it makes is evidence.
"""

from __future__ import annotations
