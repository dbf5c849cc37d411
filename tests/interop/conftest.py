from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxy import Proxy
from tests.servers import ASGI_SERVERS, Site, WebServer

WIRE_SITE = "tests.interop.wire_site:application"


def wire_site(directory: pytest.TempPathFactory, **env: str) -> Site:
    return Site(directory.mktemp("wire"), settings="", env=env)


@pytest.fixture(
    scope="session", params=ASGI_SERVERS, ids=[each.__name__.lower() for each in ASGI_SERVERS]
)
def wired(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    """Each of the servers, with the consumers of `wire_site`."""
    with request.param(WIRE_SITE, wire_site(tmp_path_factory)) as server:
        yield server


@pytest.fixture
def proxy(wired: WebServer) -> Iterator[Proxy]:
    """A hostile wire in front of it."""
    with Proxy(wired.port) as proxy:
        yield proxy
