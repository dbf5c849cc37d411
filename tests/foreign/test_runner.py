"""The comparison of other people's suites with what is expected of them misses nothing."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.foreign.__main__ import NOT_RUN, main
from tests.foreign.runner import EXPECTED, Report, differences
from tests.foreign.suites import SUITES, NotAvailableError, Suite

PASSED = {"test_a": "passed", "test_b": "failed", "test_c": "failed"}


@pytest.fixture(autouse=True)
def expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_b` of the suite is expected to fail with the mixin, and `test_c` may."""
    listed = {"suite": "theirs", "modes": ["mixin"], "reason": "That is so."}
    monkeypatch.setattr(
        "tests.foreign.runner.EXPECTED",
        [{**listed, "tests": ["test_b"]}, {**listed, "tests": ["test_c"], "race": True}],
    )


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [
        ({}, []),
        ({"test_c": "passed"}, []),
        ({"test_a": "failed"}, ["failed: test_a"]),
        ({"test_a": "skipped"}, ["skipped: test_a"]),
        ({"test_b": "passed"}, ["passed, and is not expected to: test_b"]),
        ({"test_d": "failed"}, ["failed: test_d"]),
    ],
)
def test_every_unexpected_outcome_is_a_difference(
    outcomes: dict[str, str], found: list[str]
) -> None:
    assert differences("theirs", "mixin", Report({**PASSED, **outcomes}, 1)) == found


def test_a_listed_test_that_is_not_there_is_a_difference() -> None:
    found = differences("theirs", "mixin", Report({"test_a": "passed", "test_b": "failed"}, 1))
    assert found == ["is not there: test_c"]


def test_what_is_listed_for_one_mode_is_not_excused_in_another() -> None:
    found = differences("theirs", "plain", Report(PASSED, 0))
    assert found == ["failed: test_b", "failed: test_c"]


def test_a_run_in_which_nothing_was_encrypted_proves_nothing() -> None:
    assert differences("theirs", "mixin", Report(PASSED, 0)) == ["nothing was encrypted"]


def test_every_listed_difference_has_a_reason_and_a_place() -> None:
    assert EXPECTED
    for each in EXPECTED:
        assert each["suite"] in SUITES
        assert set(each["modes"]) <= set(SUITES[each["suite"]].modes)
        assert re.match("[A-Z].*[.]$", each["reason"])
        assert each["tests"] == sorted(set(each["tests"]))


@pytest.fixture
def unreachable(closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A suite that is neither in the cache nor anywhere else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    suite = replace(SUITES["channels"], origin=f"http://127.0.0.1:{closed_port}/")
    monkeypatch.setitem(SUITES, "channels", suite)
    return suite


def test_a_suite_that_cannot_be_had_is_not_run(
    unreachable: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotAvailableError):
        unreachable.unpack(tmp_path)
    assert main(["channels"]) == NOT_RUN
    printed = capsys.readouterr().out
    assert printed.count(" not run: ") == len(unreachable.modes)
    assert printed.endswith(f"0 as expected, 0 failed, {len(unreachable.modes)} not run\n")


def test_an_archive_that_is_not_the_pinned_one_is_refused(
    unreachable: Suite, tmp_path: Path
) -> None:
    cache = tmp_path / "gcrypt_channels" / "foreign"
    cache.mkdir(parents=True)
    file = cache / f"{unreachable.name}-{unreachable.version}.tar.gz"
    file.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ValueError, match="not the pinned one"):
        unreachable.unpack(tmp_path)
