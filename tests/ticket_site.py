"""The projects of `docs/tickets.md`, put together from the page and served by real servers."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from tests.documents import ROOT, Block, blocks
from tests.servers import Site

PAGE = ROOT / "docs" / "tickets.md"
_TEXT = PAGE.read_text("utf-8")

SETTINGS = """
from pathlib import Path

from tests.settings import *

INSTALLED_APPS = [each for each in INSTALLED_APPS if each not in ("rest_framework", "knox")]
INSTALLED_APPS.remove("rest_framework.authtoken")
ROOT_URLCONF = "ticketed.urls"
DEBUG = False
PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
DATABASES["default"]["NAME"] = Path(__file__).with_name("db.sqlite3")
{shown}
"""
URLS = """
from django.urls import path

urlpatterns = []
{shown}
"""
ASGI = """
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

http = get_asgi_application()

from gcrypt_channels import EncryptedJsonConsumer, GcryptMiddleware


class Counter(EncryptedJsonConsumer, AsyncJsonWebsocketConsumer):
    async def receive_json(self, content, **kwargs):
        await self.send_json({{"id": content["id"] + 1, "user": self.scope["user"].username}})


websocket_urlpatterns = [path("ws/counter/", Counter.as_asgi())]
{shown}
application = ProtocolTypeRouter({{"http": http, "websocket": websocket}})
"""


def shown(section: str, *languages: str) -> list[Block]:
    """The code in one section of the page."""
    begin = _TEXT.index(f"\n## {section}\n")
    end = _TEXT.find("\n## ", begin + 1)
    return [each for each in blocks(PAGE, *languages) if begin < _TEXT.index(each.text) < end]


def ticket_site(directory: Path, section: str, **replaced: str) -> Site:
    """A migrated site of one section, with alice; `replaced` are hosts of the page."""
    project = directory / "ticketed"
    project.mkdir(parents=True)
    code = {each.title: each.text for each in shown(section, "python")}
    for name, template in (("settings.py", SETTINGS), ("urls.py", URLS), ("asgi.py", ASGI)):
        text = template.format(shown=code[name])
        for before, after in replaced.items():
            text = text.replace(f"https://{before}", after)
        (project / name).write_text(textwrap.dedent(text), "utf-8")
    paths = os.pathsep.join([str(directory), str(ROOT)])
    env = {"PYTHONPATH": paths, "DJANGO_SUPERUSER_PASSWORD": "alices password"}
    site = Site(directory, settings="ticketed.settings", env=env)
    site.manage("migrate", "--verbosity", "0")
    site.manage("createsuperuser", "--noinput", "--username", "alice", "--email", "a@example.org")
    return site
