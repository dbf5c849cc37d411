"""What a type checker finds in a project's own code."""

from __future__ import annotations

import pytest

from tests.documents import ROOT

pytestmark = pytest.mark.tools

CALLS = {
    "GcryptMiddleware": "GcryptMiddleware(app, profiles=[{}])",
    "connect": "connect('ws://localhost/', profile={})",
    "DjangoSession.connect": "DjangoSession('http://localhost/').connect('/', profile={})",
    "EncryptedWebsocketCommunicator": "EncryptedWebsocketCommunicator(app, '/', profile={})",
}

SCRIPT = """
from typing import Any

from gcrypt_channels import GcryptMiddleware
from gcrypt_channels.client import DjangoSession, connect
from gcrypt_channels.testing import EncryptedWebsocketCommunicator

app: Any = None
"""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy says about a script that names a good and a wrong profile in every call."""
    from mypy import api  # which the environments of tox lack

    script = tmp_path_factory.mktemp("project") / "script.py"
    lines = [
        call.format(name) for call in CALLS.values() for name in ("'gcrypt.v2'", "'gcrypt.v9'")
    ]
    script.write_text(SCRIPT + "\n".join(lines))
    configuration = str(ROOT / "pyproject.toml")
    report, errors, _ = api.run(["--config-file", configuration, str(script)])
    assert not errors
    return report


@pytest.mark.parametrize("number", range(len(CALLS)), ids=list(CALLS))
def test_a_profile_that_does_not_exist_is_found(complaints: str, number: int) -> None:
    first = SCRIPT.count("\n") + 1 + 2 * number
    assert f"script.py:{first}:" not in complaints
    assert f"script.py:{first + 1}: error:" in complaints
    assert "gcrypt.v9" in complaints
