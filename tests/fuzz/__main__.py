"""Fuzzes a parser with atheris, guided by the code that its inputs reach.

`python -m tests.fuzz RUNS NAME` gives the target so many inputs of at most 4 KiB. It may use
512 MiB of memory and 5 seconds an input. An input that breaks it is kept in `build/fuzz/`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

from tests.fuzz import NAMES

BUILD = Path(__file__).resolve().parents[2] / "build" / "fuzz"
LIMITS = ["-max_len=4096", "-rss_limit_mb=512", "-timeout=5"]
REPORT = ["-verbosity=0", "-print_final_stats=1"]


def main(arguments: list[str]) -> None:
    if len(arguments) != 2 or arguments[1] not in NAMES:
        sys.exit(f"usage: python -m tests.fuzz RUNS {'|'.join(NAMES)}")
    runs, name = arguments
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    with atheris.instrument_imports(include=["gcrypt_channels"]):
        import django

        django.setup()
        from tests.fuzz.targets import TARGETS

    target, seeds = TARGETS[name]
    corpus = BUILD / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [*LIMITS, *REPORT, f"-runs={runs}", f"-artifact_prefix={corpus}-"]
    atheris.Setup([name, *options, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
