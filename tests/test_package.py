"""The distributions as a user gets them: built, looked into, run in a bare project."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import gcrypt_channels

pytestmark = pytest.mark.network

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gcrypt_channels"

SETTINGS = """
import os

INSTALLED_APPS = ["daphne", *INSTALLED_APPS, "channels", "gcrypt_channels"]
ASGI_APPLICATION = "site_project.asgi.application"
GCRYPT_PASSPHRASE = os.environ["GCRYPT_PASSPHRASE"]
"""

URLS = """
from django.http import HttpResponse
from django.template import engines
from django.urls import include, path


def page(request):
    template = engines["django"].from_string("{% load gcrypt %}{% gcrypt_script %}")
    return HttpResponse(template.render({}, request))


urlpatterns = [path("", page), path("gcrypt/", include("gcrypt_channels.urls"))]
"""

ASGI = """
import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_project.settings")
django_application = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware


class CounterConsumer(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def receive_json(self, content):
        await self.send_json({"id": content["id"] + 1})


routes = URLRouter([path("ws/counter/", CounterConsumer.as_asgi())])
application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(GcryptMiddleware(routes))),
    }
)
"""

# Run by `manage.py shell`: a user logs in, fetches the key, and counts over an encrypted socket.
SMOKE = """
import asyncio
import base64
import json

from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client

from gcrypt_channels.protocol.events import Accepted, HelloReceived, Text
from gcrypt_channels.protocol.secure import SecureSession
from site_project.asgi import application

browser = Client(enforce_csrf_checks=True)
browser.force_login(User.objects.create_user("alice"))
page = browser.get("/").content.decode()
assert "gcrypt_channels/gcrypt.js" in page, page
token = browser.cookies["csrftoken"].value
answer = browser.post("/gcrypt/key/", headers={"X-CSRFToken": token})
assert answer.status_code == 200, answer
key = answer.json()["gcrypt.v2"]
psk = base64.urlsafe_b64decode(key["psk"] + "=")
headers = [
    (b"host", b"localhost"),
    (b"origin", b"http://localhost"),
    (b"cookie", f"sessionid={browser.cookies['sessionid'].value}".encode()),
]


async def count():
    socket = WebsocketCommunicator(application, "/ws/counter/", headers, ["gcrypt.v2"])
    connected, subprotocol = await socket.connect(timeout=30)
    assert (connected, subprotocol) == (True, "gcrypt.v2"), (connected, subprotocol)
    session = SecureSession(role="client")
    hello = session.receive(await socket.receive_from(timeout=30))
    assert isinstance(hello, HelloReceived) and hello.kid.hex() == key["kid"], hello
    await socket.send_to(bytes_data=session.reply(psk))
    accepted = session.receive(await socket.receive_from(timeout=30))
    assert isinstance(accepted, Accepted), accepted
    for frame in session.seal(json.dumps({"id": 41})):
        await socket.send_to(bytes_data=frame)
    counted = session.receive(await socket.receive_from(timeout=30))
    assert isinstance(counted, Text) and json.loads(counted.data) == {"id": 42}, counted
    await socket.disconnect(timeout=30)


asyncio.run(count())
print("counted to 42")
"""


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command to its end; return what it printed, or fail with all that it said."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}
    outside.pop("PYTHONPATH", None)
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**outside, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(target: str, source: Path, directory: Path) -> Path:
    """Build a distribution with the project's backend; return its path."""
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", directory, cwd=source)
    (built,) = directory.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def package_files() -> set[str]:
    """The package's files as they should be shipped, relative to the root of the repository."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    shipped = {name for name in names if ".dist-info/" not in name}
    assert shipped == package_files()
    assert {
        "gcrypt_channels/py.typed",
        "gcrypt_channels/static/gcrypt_channels/gcrypt.js",
        "gcrypt_channels/static/gcrypt_channels/gcrypt.d.ts",
        "gcrypt_channels/templatetags/gcrypt.py",
    } <= shipped
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_says_its_version_and_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())

    assert metadata["Version"] == gcrypt_channels.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("Provides-Extra") == ["client", "daphne", "prometheus", "redis"]
    required = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {line.partition(">=")[0] for line in required} == {
        "channels",
        "cryptography",
        "django",
        "pycryptodome",
    }


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    run("tar", "-xf", sdist, cwd=tmp_path)
    source = tmp_path / sdist.name.removesuffix(".tar.gz")

    rebuilt = build("wheel", source, tmp_path / "rebuilt")

    assert set(zipfile.ZipFile(rebuilt).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_runs_in_a_bare_project(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[daphne]", cwd=tmp_path)
    run(python, "-m", "django", "startproject", "site_project", cwd=tmp_path)
    site = tmp_path / "site_project"
    with (site / "site_project" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    (site / "site_project" / "urls.py").write_text(URLS)
    (site / "site_project" / "asgi.py").write_text(ASGI)

    def manage(*arguments: str, passphrase: str) -> str:
        return run(python, "manage.py", *arguments, cwd=site, GCRYPT_PASSPHRASE=passphrase)

    passphrase = manage("gcrypt_keygen", passphrase="").strip()
    assert "no issues" in manage("check", "--fail-level", "ERROR", passphrase=passphrase)
    manage("migrate", "--verbosity", "0", passphrase=passphrase)
    assert "counted to 42" in manage("shell", "--command", SMOKE, passphrase=passphrase)
