"""The format of tickets: `docs/protocol.md`, *Tickets*, computed a second time by pycryptodome."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF
from hypothesis import given
from hypothesis import strategies as st

from gcrypt_channels.crypto.ticket import open_ticket, seal_ticket
from gcrypt_channels.exceptions import DecryptionFailed

SECRET = bytes(range(32))
OLDER = bytes(range(32, 64))
SALT = bytes(range(100, 116))
CLAIMS = b'{"expires":1,"user":"7"}'


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    derived: Any = HKDF(secret, size, salt, SHA256, context=info)
    return bytes(derived)


def base64url(data: bytes) -> str:
    return base64.b64encode(data, altchars=b"-_").decode().rstrip("=")


def independent(
    secret: bytes, salt: bytes, claims: bytes, version: bytes = b"\x01"
) -> tuple[str, bytes, bytes]:
    """Ticket, kid and psk by another library."""
    header = version + salt
    cipher: Any = AES.new(hkdf(secret, salt, b"gcrypt ticket seal", 32), AES.MODE_GCM, bytes(12))
    cipher.update(header)
    sealed = header + b"".join(cipher.encrypt_and_digest(claims))
    digest = hashlib.sha256(sealed).digest()
    kid = hkdf(secret, salt, b"gcrypt ticket kid" + digest, 8)
    return base64url(sealed), kid, hkdf(secret, salt, b"gcrypt ticket psk" + digest, 32)


def decoded(ticket: str) -> bytes:
    return base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))


def test_a_ticket_is_what_another_implementation_makes() -> None:
    ticket, key = seal_ticket(SECRET, CLAIMS, salt=SALT)
    assert (ticket, key.kid, key.psk) == independent(SECRET, SALT, CLAIMS)
    assert ticket.startswith("AWRlZmdoaWprbG1ub3Bxc")  # the format, and so all of it, is fixed
    assert key.kid.hex() == "90f45855340e8975"
    assert (
        hashlib.sha256(key.psk + ticket.encode()).hexdigest()
        == "a16e281ee7418a4f45881c2cadebad011c50fa7c788b55ca49d5269ed492c6fe"
    )


@given(st.binary(max_size=800), st.binary(min_size=32, max_size=32))
def test_every_ticket_opens_to_its_claims_and_its_key(claims: bytes, secret: bytes) -> None:
    ticket, key = seal_ticket(secret, claims)
    assert open_ticket([secret], ticket) == (claims, key)
    assert (ticket, key.kid, key.psk) == independent(secret, decoded(ticket)[1:17], claims)


def test_no_two_tickets_share_a_salt_or_a_key() -> None:
    tickets = [seal_ticket(SECRET, CLAIMS) for _ in range(100)]
    assert len({decoded(ticket)[1:17] for ticket, _ in tickets}) == 100
    assert len({key.psk for _, key in tickets}) == 100


def test_every_secret_is_tried_and_no_other_opens_it() -> None:
    ticket, key = seal_ticket(OLDER, CLAIMS)
    assert open_ticket([SECRET, OLDER], ticket) == (CLAIMS, key)
    for secrets in ([SECRET], []):
        with pytest.raises(DecryptionFailed):
            open_ticket(secrets, ticket)


def test_no_ticket_opens_with_a_bit_flipped_or_a_byte_less_or_more() -> None:
    sealed = decoded(seal_ticket(SECRET, CLAIMS, salt=SALT)[0])
    flipped = (
        sealed[:at] + bytes([sealed[at] ^ 1 << bit]) + sealed[at + 1 :]
        for at in range(len(sealed))
        for bit in range(8)
    )
    cut = (sealed[:size] for size in range(len(sealed)))
    for each in (*flipped, *cut, sealed + b"\x00", b"\x01" + sealed):
        with pytest.raises(DecryptionFailed):
            open_ticket([SECRET], base64url(each))


@pytest.mark.parametrize("claims", [b"", b"1", b"12"])  # each remainder of the length
def test_a_ticket_has_one_form_alone(claims: bytes) -> None:
    ticket, _ = seal_ticket(SECRET, claims)
    forms = [
        ticket + "=",
        ticket + "==",
        ticket + "\n",
        " " + ticket,
        f"{ticket[:9]}\n{ticket[9:]}",
    ]
    forms += [ticket + "A", ticket + ".", ticket.replace("A", "\u0410", 1)]  # which is Cyrillic
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    forms += [ticket[:-1] + each for each in alphabet if each != ticket[-1]]
    for form in forms:
        with pytest.raises(DecryptionFailed):
            open_ticket([SECRET], form)


def test_the_other_base64_alphabet_is_none() -> None:
    tickets = (seal_ticket(SECRET, CLAIMS)[0] for _ in range(1000))
    ticket = next(each for each in tickets if "-" in each and "_" in each)
    for form in (ticket.replace("-", "+"), ticket.replace("_", "/")):
        with pytest.raises(DecryptionFailed):
            open_ticket([SECRET], form)


@pytest.mark.parametrize("version", [b"\x00", b"\x02"])
def test_a_ticket_of_another_version_does_not_open_though_its_seal_is_whole(version: bytes) -> None:
    ticket, *_ = independent(SECRET, SALT, CLAIMS, version)
    with pytest.raises(DecryptionFailed):
        open_ticket([SECRET], ticket)


@given(st.text())
def test_any_other_text_is_no_ticket(text: str) -> None:
    with pytest.raises(DecryptionFailed):
        open_ticket([SECRET], text)


def test_a_key_does_not_show_its_secret() -> None:
    _, key = seal_ticket(SECRET, CLAIMS)
    assert key.psk.hex() not in repr(key)
    assert repr(key.psk) not in repr(key)
