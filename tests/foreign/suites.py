"""The releases whose tests are run, each a pinned archive outside of this repository.

None of their source distributions holds all that the tests need, so the archives are those of
their tags. They are kept in `~/.cache/gcrypt_channels/foreign/` (`XDG_CACHE_HOME` moves it) and
fetched from there on; one may as well be put there by hand.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
FETCH_TIMEOUT = 20.0  # seconds


class NotAvailableError(Exception):
    """The archive of a suite cannot be had here."""


@dataclass(frozen=True)
class Suite:
    """A release and how its tests are chosen.

    `sha256` is that of the tar file in the archive, since nobody promises that the same archive is
    always compressed to the same bytes. `arguments` are pytest's.
    """

    name: str
    version: str
    licence: str
    origin: str
    sha256: str
    arguments: list[str]

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
                with urlopen(self.origin, timeout=FETCH_TIMEOUT) as response:
                    packed: bytes = response.read()
            except OSError as error:
                raise NotAvailableError(f"neither {file} nor {self.origin}: {error}") from error
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(packed)
        return file.read_bytes()


SUITES = {each["name"]: Suite(**each) for each in json.loads((HERE / "suites.json").read_text())}
