"""``v1.json``: frames of the classic profile, by openssl."""

from __future__ import annotations

import base64
import json
from typing import Any

from . import openssl
from .seeds import seeded

PASSPHRASES = ("a long passphrase, of words", "pässphräse 🔑 пароль", "x")
TEXTS = {
    "an object": '{"id":1}',
    "an empty string": '""',
    "null": "null",
    "a number": "-12.5e3",
    "a block and nothing more": '"23456789012345"',
    "a block less one": '"2345678901234"',
    "unicode": '"grüße, мир, 日本語, 😀, \u2028"',
    "escapes": '"\\u0000\\n\\"\\\\ \\ud800"',
    "nested": "[" * 64 + "]" * 64,
    "long": json.dumps([{"n": n, "name": "number"} for n in range(200)], separators=(",", ":")),
}


def build() -> dict[str, Any]:
    valid = [
        _valid(name, passphrase, text)
        for passphrase in PASSPHRASES
        for name, text in TEXTS.items()
        if passphrase == PASSPHRASES[0] or name in ("an object", "unicode")
    ]
    return {"valid": valid, "invalid": [*_wrong_frames(), *_wrong_plaintexts()]}


def _valid(name: str, passphrase: str, text: str) -> dict[str, str]:
    salt = seeded(f"v1 {passphrase} {name}", 8)
    key, iv = openssl.derive(passphrase, salt)
    frame = openssl.frame(passphrase, salt, text)
    return {
        "name": name,
        "passphrase": passphrase,
        "text": text,
        "salt": salt.hex(),
        "key": key.hex(),
        "iv": iv.hex(),
        "frame": frame,
    }


def _invalid(name: str, frame: str) -> dict[str, str]:
    return {"name": name, "passphrase": PASSPHRASES[0], "frame": frame}


def _wrong_frames() -> list[dict[str, str]]:
    """Frames that were altered after openssl made them."""
    salt = bytes.fromhex("0123456789abcdef")
    frame = openssl.frame(PASSPHRASES[0], salt, '{"admin":false,"user":"alice"}')
    good = json.loads(frame)
    ct, iv, s = good["ct"], good["iv"], good["s"]
    assert s == salt.hex()

    def with_(**members: Any) -> str:
        return json.dumps({**good, **members}, separators=(",", ":"))

    def without(*names: str) -> str:
        return json.dumps({k: v for k, v in good.items() if k not in names}, separators=(",", ":"))

    other_salt = bytes.fromhex("0123456789abcdee")
    _without_meaning(other_salt, ct)
    flipped_iv = f"{int(iv, 16) ^ 1 << 64:032x}"
    other_end = _without_meaning(salt, ct[:-3] + ("D" if ct[-3] == "C" else "C") + ct[-2:])
    first_block = base64.b64encode(base64.b64decode(ct)[:16]).decode()
    return [
        _invalid("no text", ""),
        _invalid("not JSON", "ct"),
        _invalid("an array", f"[{frame}]"),
        _invalid("a string", json.dumps(frame)),
        _invalid("null", "null"),
        _invalid("trailing text", frame + "x"),
        _invalid("no ct", without("ct")),
        _invalid("no s", without("s")),
        _invalid("an unknown member", with_(x="")),
        _invalid("ct twice", frame.replace('{"ct"', f'{{"ct":"{ct}","ct"')),
        _invalid("iv twice", frame.replace(',"s"', f',"iv":"{iv}","s"')),
        _invalid("ct not a string", with_(ct=[ct])),
        _invalid("ct null", with_(ct=None)),
        _invalid("iv null", with_(iv=None)),
        _invalid("iv empty", with_(iv="")),
        _invalid("s null", with_(s=None)),
        _invalid("iv short", with_(iv=iv[:-2])),
        _invalid("iv long", with_(iv=iv + "00")),
        _invalid("iv not hex", with_(iv="g" + iv[1:])),
        _invalid("iv with a space", with_(iv=" " + iv[1:])),
        _invalid("iv differs in one bit", with_(iv=flipped_iv)),
        _invalid("iv of zeros", with_(iv="0" * 32)),
        _invalid("s short", with_(s=s[:-2])),
        _invalid("s long", with_(s=s + "00")),
        _invalid("s not hex", with_(s="0x" + s[2:])),
        _invalid("s of digits that are not ASCII", with_(s="\u0660" + s[1:])),
        _invalid("another salt, no iv", without("iv").replace(s, other_salt.hex())),
        _invalid("ct empty", with_(ct="")),
        _invalid("ct not whole blocks", with_(ct="AAAA")),
        _invalid("ct with a line break", with_(ct=ct[:4] + "\n" + ct[4:])),
        _invalid("ct with a space", with_(ct=ct + " ")),
        _invalid("ct without its padding", with_(ct=ct.rstrip("="))),
        _invalid("ct with too much padding", with_(ct=ct + "=")),
        _invalid("ct in the URL alphabet", with_(ct="-_" + ct[2:])),
        _invalid("ct with stray bits in its last digit", with_(ct=_stray_bits(ct))),
        _invalid("ct with another last digit", with_(ct=other_end)),
        _invalid("ct cut by a block", with_(ct=_without_meaning(salt, first_block))),
    ]


def _without_meaning(salt: bytes, ct: str) -> str:
    """Return ``ct``, having made sure that it is not by chance the ciphertext of something."""
    plaintext = openssl.decrypt(PASSPHRASES[0], salt, base64.b64decode(ct))
    assert plaintext is None or not plaintext.isascii()
    return ct


def _stray_bits(ct: str) -> str:
    """Set a bit that base64's decoders drop: 32 bytes leave two of the last digit's bits unused."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    digits = ct.rstrip("=")
    last = alphabet[alphabet.index(digits[-1]) + 1]
    return digits[:-1] + last + ct[len(digits) :]


def _wrong_plaintexts() -> list[dict[str, str]]:
    """Frames that are well made, around something that is not JSON."""
    plaintexts = {
        "plaintext empty": "",
        "plaintext not JSON": "hello",
        "plaintext two values": "1 2",
        "plaintext NaN": "NaN",
        "plaintext Infinity": "[-Infinity]",
        "plaintext single quotes": "{'id':1}",
        "plaintext a byte order mark": '\ufeff""',
    }
    invalid = [
        _invalid(name, openssl.frame(PASSPHRASES[0], seeded(f"v1 {name}", 8), text))
        for name, text in plaintexts.items()
    ]
    other = openssl.frame(PASSPHRASES[1], seeded("v1 another passphrase", 8), '{"id":1}')
    return [*invalid, _invalid("another passphrase", other)]
