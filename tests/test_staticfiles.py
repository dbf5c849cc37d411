"""The browser client under Django's storage that puts a hash into each file's name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.files.storage import FileSystemStorage

import gcrypt_channels

STATIC = Path(gcrypt_channels.__file__).parent / "static"


def test_the_client_is_served_with_its_source_map(tmp_path: Path) -> None:
    shutil.copytree(STATIC, tmp_path, dirs_exist_ok=True)
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")]
    storage = ManifestStaticFilesStorage(tmp_path, base_url="/static/")
    source = FileSystemStorage(STATIC)

    processed = list(storage.post_process({file: (source, file) for file in files}))

    assert [error for _, _, error in processed if isinstance(error, Exception)] == []
    module = tmp_path / storage.stored_name("gcrypt_channels/gcrypt.js")
    comment = re.search(r"^//# sourceMappingURL=(.+)$", module.read_text(), re.MULTILINE)
    assert comment is not None
    assert comment[1] != "gcrypt.js.map"
    assert (module.parent / comment[1]).is_file()
