from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from gcrypt_channels.crypto import primitives
from gcrypt_channels.protocol.profiles import PROFILES, V1, V2, V3, is_available

MODULE = "cryptography.hazmat.primitives.asymmetric.mlkem"


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    primitives.mlkem768_available.cache_clear()
    yield
    primitives.mlkem768_available.cache_clear()


def test_the_best_comes_first() -> None:
    assert PROFILES == (V3, V2, V1) == ("gcrypt.v3", "gcrypt.v2", "gcrypt.v1")


def test_v3_is_available_where_the_library_has_ml_kem() -> None:
    pytest.importorskip(MODULE)
    assert is_available(V3)


def test_v3_is_not_available_where_the_library_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)  # to import it is an ImportError
    assert [each for each in PROFILES if is_available(each)] == [V2, V1]


def test_v3_is_not_available_where_openssl_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(seed: bytes | None = None) -> None:
        raise UnsupportedAlgorithm("ML-KEM-768 is not supported by this backend.")

    monkeypatch.setattr(primitives, "MlKem768Key", refuse)
    assert [each for each in PROFILES if is_available(each)] == [V2, V1]


def test_the_library_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = is_available(V3)
    monkeypatch.setitem(sys.modules, MODULE, None)
    assert is_available(V3) is first
