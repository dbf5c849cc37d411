"""What the campaign fuzzes: every parser takes its seeds and refuses what is near them."""

from __future__ import annotations

import pytest

from gcrypt_channels.crypto.classic import Crypt
from tests.fuzz import NAMES
from tests.fuzz.targets import TARGETS, Target


def test_the_campaign_fuzzes_every_target() -> None:
    assert list(TARGETS) == NAMES


@pytest.mark.parametrize(("target", "seeds"), TARGETS.values(), ids=TARGETS)
def test_a_target_raises_nothing_near_its_seeds(target: Target, seeds: list[bytes]) -> None:
    for seed in [b"", *seeds]:
        target(seed)
        for place in range(min(len(seed), 200)):
            target(seed[:place])
            target(seed[:place] + bytes([seed[place] ^ 1]) + seed[place + 1 :])


def test_a_target_lets_a_defect_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Crypt, text: str) -> None:
        raise IndexError

    monkeypatch.setattr(Crypt, "decrypt", broken)
    with pytest.raises(IndexError):
        TARGETS["classic-frame"][0](b"")
