"""channels_redis's own tests, of the release that is installed, with the wrapper in between.

They run unedited, once plain and once sealed. The tests that do not end alike are those that
`release.json` names with the reason, no more and no fewer.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, Redis

pytestmark = [pytest.mark.network, pytest.mark.interop]

RELEASE: dict[str, Any] = json.loads(Path(__file__).with_name("release.json").read_text())
FILES = ("tests/test_core.py", "tests/test_pubsub.py", "tests/test_serializers.py")
TIMEOUT = 600  # seconds for one run of all of them

Outcomes = dict[str, str]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release's tests, unpacked; without its package, so that the installed one is tested."""
    directory = tmp_path_factory.mktemp("channels_redis")
    requirement = f"channels_redis=={RELEASE['version']}"
    options = ["--no-binary", ":all:", "--no-deps", "--quiet", "--dest", str(directory)]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, requirement],
        check=True,
        timeout=TIMEOUT,
    )
    (archive,) = directory.glob("*.tar.gz")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == RELEASE["sha256"]
    with tarfile.open(archive) as unpacked:
        wanted = [
            each for each in unpacked if each.name.split("/")[1:2] in (["tests"], ["setup.cfg"])
        ]
        unpacked.extractall(directory, wanted, filter="data")
    return directory / f"channels_redis-{RELEASE['version']}"


def run(release: Path, layer: str, *tests: str) -> Outcomes:
    """What became of each test, over a Redis of its own."""
    outcomes = release / f"{layer}.json"
    outcomes.unlink(missing_ok=True)
    plugin = ["-p", "tests.foreign.channels_redis.plugin", "-p", "no:cacheprovider"]
    with Redis() as redis:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *plugin, *tests],
            cwd=release,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "LAYER": layer,
                "REDIS_URL": redis.url,
                "OUTCOMES": str(outcomes),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert outcomes.exists(), done.stdout + done.stderr
    print(done.stdout)  # shown when the comparison fails
    found: Outcomes = json.loads(outcomes.read_text())
    return found


def test_the_pinned_release_is_the_one_that_is_installed() -> None:
    assert version("channels_redis") == RELEASE["version"], "pin this one in release.json"


def test_every_expected_difference_has_a_reason() -> None:
    assert all(len(reason.split()) > 3 for reason in RELEASE["differences"].values())


def test_its_tests_end_as_they_do_without_the_wrapper(release: Path) -> None:
    plain, sealed = run(release, "plain", *FILES), run(release, "sealed", *FILES)
    differing = {test for test in plain if plain[test] != sealed[test]}
    # Some of them measure time. What differs unexpectedly has a second chance, on both sides.
    if again := sorted(differing ^ set(RELEASE["differences"])):
        plain |= run(release, "plain", *again)
        sealed |= run(release, "sealed", *again)
        differing = {test for test in plain if plain[test] != sealed[test]}
    assert plain.keys() == sealed.keys()
    assert len(plain) > 50
    assert differing == set(RELEASE["differences"])
