"""The lines of the README, added to a new Django project, and looked at in a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests.documents import ROOT, blocks
from tests.servers import Daphne, Site

README = ROOT / "README.md"
PYTHON = {block.title: block.text for block in blocks(README, "python")}

SETTINGS = """
from django.core.management.utils import get_random_secret_key as random_key

{readme}
ASGI_APPLICATION = "readme.asgi.application"
STATIC_URL = "/static/"
TEMPLATES[0]["DIRS"] = [BASE_DIR]
"""
URLS = """
from django.contrib.auth.decorators import login_required
from django.urls import include, path
from django.views.generic import TemplateView

urlpatterns += [
path("", login_required(TemplateView.as_view(template_name="page.html"))),
{readme}
]
"""
CONSUMERS = """
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from gcrypt_channels import EncryptedJsonConsumer

{readme}
"""
ASGI = """
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.urls import path

from gcrypt_channels import GcryptMiddleware
from readme.consumers import CounterConsumer

websocket_urlpatterns = [path("ws/counter/", CounterConsumer.as_asgi())]
application = ProtocolTypeRouter({{
"http": ASGIStaticFilesHandler(application),
{readme}
}})
"""


def append(file: Path, template: str, title: str) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(template.format(readme=PYTHON[title]))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """What ``django-admin startproject`` makes, and the README's lines."""
    directory = tmp_path_factory.mktemp("readme")
    start = [sys.executable, "-m", "django", "startproject", "readme", str(directory)]
    environment = {name: value for name, value in os.environ.items() if "DJANGO" not in name}
    subprocess.run(start, check=True, env=environment)
    package = directory / "readme"
    append(package / "settings.py", SETTINGS, "settings.py")
    settings = (package / "settings.py").read_text("utf-8")
    # What a project has already, and the reader's own way to read its environment.
    settings = settings.replace('"daphne", ...,', '"daphne", *INSTALLED_APPS,')
    settings = settings.replace('env("GCRYPT_PASSPHRASE")', "random_key()")
    (package / "settings.py").write_text(settings, "utf-8")
    append(package / "urls.py", URLS, "urls.py")
    append(package / "consumers.py", CONSUMERS, "consumers.py")
    append(package / "asgi.py", ASGI, "asgi.py")
    [page] = blocks(README, "html")
    (directory / "page.html").write_text(page.text, "utf-8")

    paths = os.pathsep.join([str(directory), str(ROOT)])
    site = Site(directory, "readme.settings", {"PYTHONPATH": paths})
    site.manage("migrate", "--verbosity", "0")
    site.manage("check", "--fail-level", "WARNING")
    return site


@pytest.fixture(scope="module")
def running(project: Site) -> Iterator[Daphne]:
    with Daphne("readme.asgi:application", project) as daphne:
        yield daphne


def test_the_readme_makes_a_page_that_counts(
    running: Daphne, project: Site, contexts: Callable[[], BrowserContext]
) -> None:
    project.env |= {"DJANGO_SUPERUSER_PASSWORD": "alice-demo"}
    project.manage("createsuperuser", "--noinput", "--username", "alice", "--email", "a@b.example")
    page = contexts().new_page()
    page.goto(f"{running.url}/admin/login/?next=/admin/password_change/")
    page.fill("[name=username]", "alice")
    page.fill("[name=password]", "alice-demo")
    page.press("[name=password]", "Enter")
    page.wait_for_url("**/password_change/")
    with page.expect_console_message() as message:
        page.goto(running.url)
    assert message.value.text == '{"id":2}'
