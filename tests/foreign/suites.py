"""The releases whose tests are run, each a pinned archive outside of this repository.

Those whose source distribution lacks what their tests need come as the archive of the tag. All are
kept in `~/.cache/gcrypt_channels/foreign/` (`XDG_CACHE_HOME` moves it) and
fetched from there on; one may as well be put there by hand.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
FETCH_TIMEOUT = 20.0  # seconds
PIP_TIMEOUT = 180.0


class NotAvailableError(Exception):
    """The archive of a suite cannot be had here."""


@dataclass(frozen=True)
class Suite:
    """A release and how its tests are chosen.

    `sha256` is that of the tar file in the archive, since nobody promises that the same archive is
    always compressed to the same bytes. `origin` is a URL or `"sdist"`, `arguments` are pytest's,
    and `plugin` is ours, which knows the `modes`.
    """

    name: str
    version: str
    licence: str
    origin: str
    sha256: str
    arguments: list[str]
    plugin: str = "gcrypt_foreign"
    modes: tuple[str, ...] = ("plain", "mixin", "mixin-last", "seal_outbound")

    def unpack(self, directory: Path) -> Path:
        """Unpack the release into `directory`; return its root.

        Raises:
            NotAvailableError: it is not in the cache and cannot be fetched.
            ValueError: the archive is not the pinned one.
        """
        packed = self._cached()
        tar = gzip.decompress(packed)
        if hashlib.sha256(tar).hexdigest() != self.sha256:
            raise ValueError(f"the archive of {self.name} {self.version} is not the pinned one")
        with tarfile.open(fileobj=BytesIO(tar)) as archive:
            archive.extractall(directory, filter="data")
        [root] = directory.iterdir()
        return root

    def _cached(self) -> bytes:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        file = cache / "gcrypt_channels" / "foreign" / f"{self.name}-{self.version}.tar.gz"
        if not file.exists():
            try:
                packed = self._downloaded() if self.origin == "sdist" else self._fetched()
            except (OSError, subprocess.SubprocessError) as error:
                raise NotAvailableError(f"neither {file} nor {self.origin}: {error}") from error
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(packed)
        return file.read_bytes()

    def _fetched(self) -> bytes:
        with urlopen(self.origin, timeout=FETCH_TIMEOUT) as response:
            packed: bytes = response.read()
            return packed

    def _downloaded(self) -> bytes:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        with TemporaryDirectory() as directory:
            subprocess.run(
                [*pip, "--no-binary=:all:", f"--dest={directory}", f"{self.name}=={self.version}"],
                check=True,
                timeout=PIP_TIMEOUT,
            )
            [file] = Path(directory).iterdir()
            return file.read_bytes()


SUITES = {each["name"]: Suite(**each) for each in json.loads((HERE / "suites.json").read_text())}
