"""What the project began as stays true, whatever has come since.

Two more of these promises have tests of their own: one user's frames are worth nothing on another's
connection (``test_isolation.py``), and a page with g-crypt 1.1.0 works unchanged
(``browser/test_classic.py``).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .documents import ROOT, read

SETTINGS = """
INSTALLED_APPS.append("gcrypt_channels")
GCRYPT_PASSPHRASE = "what manage.py gcrypt_keygen would have printed"
"""
APPLICATION = """
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware


class Consumer(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def receive_json(self, content, **kwargs):
        await self.send_json({"id": content["id"] + 1})


sockets = URLRouter([path("ws/", Consumer.as_asgi())])
application = ProtocolTypeRouter({
    "http": application,
    "websocket": AuthMiddlewareStack(GcryptMiddleware(sockets)),
})
"""
VISIT = """
import asyncio
import json

from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User

from gcrypt_channels.testing import EncryptedWebsocketCommunicator
from project.asgi import application

frames = []


async def watched(scope, receive, send):
    async def watched_receive():
        frames.append(await receive())
        return frames[-1]

    async def watched_send(event):
        frames.append(event)
        await send(event)

    await application(scope, watched_receive, watched_send)


async def visit(user):
    socket = EncryptedWebsocketCommunicator(watched, "/ws/", user=user)
    assert await socket.connect() == (True, None)
    await socket.send_json_to({"id": 41})
    assert await socket.receive_json_from() == {"id": 42}
    await socket.disconnect()

    plain = WebsocketCommunicator(application, "/ws/")
    assert (await plain.connect())[0]
    assert (await plain.receive_output())["code"] == 4406


asyncio.run(visit(User.objects.create_user("alice")))
carried = [frame for frame in frames if "text" in frame or "bytes" in frame]
assert len(carried) == 6  # HELLO, REPLY, the accept, two messages, the close
assert not any(frame.get("text") for frame in carried)
assert not any(b'"id"' in frame["bytes"] for frame in carried)
print("encrypted")
"""


def run(directory: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_app_middleware_mixin_and_passphrase_encrypt_a_project(tmp_path: Path) -> None:
    run(tmp_path, "-m", "django", "startproject", "project", ".")
    for name, text in (("settings.py", SETTINGS), ("asgi.py", APPLICATION)):
        with (tmp_path / "project" / name).open("a", encoding="utf-8") as file:
            file.write(text)
    run(tmp_path, "manage.py", "migrate", "--verbosity", "0")
    out = run(tmp_path, "manage.py", "shell", "--no-imports", "--command", VISIT)
    assert out.splitlines()[-1] == "encrypted"


@pytest.mark.parametrize(
    "name",
    ["manage.py", "gcrypt_channels", "demo_project", "tests", "requirements.txt", "tox.ini"],
)
def test_the_top_level_holds(name: str) -> None:
    assert (ROOT / name).exists()


def test_the_requirements_name_what_the_project_stands_on() -> None:
    names = set(re.findall(r"^[A-Za-z_-]+", read("requirements.txt"), re.MULTILINE))
    assert {"Django", "channels", "daphne", "pycryptodome"} <= names


def test_the_classic_profile_has_its_aes_cbc_from_pycryptodome(tmp_path: Path) -> None:
    """With pycryptodome alone it works, and without it nothing else takes its place."""
    seal = "from gcrypt_channels import Crypt; print(Crypt('a long passphrase').encrypt(1)[:6])"
    hide = "import sys; sys.modules['Crypto.Cipher'] = None"
    assert run(tmp_path, "-c", seal) == '{"ct":\n'
    hidden = f"""{hide}
try:
    {seal}
except ImportError as error:
    print(error.name)
"""
    assert run(tmp_path, "-c", hidden) == "Crypto.Cipher\n"
