"""The demo as it is deployed on more than one process: Redis, three workers and nginx in front.

with Cluster(demo_site(tmp_path)) as cluster:
    browse cluster.url, or reach one worker alone by cluster.workers[1].url
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.servers import Daphne, Redis, ServerError, ServerProcess, side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self

    from tests.servers import Site, WebServer

WORKERS = 3

CONFIGURATION = """\
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr notice;

events {{
    worker_connections 4096;
}}

http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;

    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' close;
    }}

    upstream workers {{
{upstreams}
    }}

    server {{
        listen 127.0.0.1:{port};
        add_header X-Worker $upstream_addr always;
{locations}
    }}
}}
"""

LOCATION = """
        location {path} {{
            proxy_pass http://workers{uri};
            proxy_http_version 1.1;
            {header}
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            # A worker that drains answers 503; uvicorn answers 500 in the midst of a handshake.
            proxy_next_upstream error timeout http_500 http_503;
            proxy_read_timeout 1h;  # a quiet WebSocket is not a dead one
        }}
"""


def location(path: str, *, uri: str = "", header: str = "Host $http_host") -> str:
    """One `location` of nginx; `uri` replaces the path in what is passed on."""
    return LOCATION.format(path=path, uri=uri, header=f"proxy_set_header {header};")


class Nginx(ServerProcess):
    """nginx, which shares HTTP requests and WebSockets out among `ports` of 127.0.0.1.

    `locations` are made by `location`.
    """

    LISTENING = re.compile(r"start worker process \d+")

    def __init__(
        self,
        directory: Path,
        ports: Sequence[int],
        *,
        port: int = 0,
        locations: Sequence[str] = (location("/"),),
    ) -> None:
        super().__init__(env=dict(os.environ), port=port)
        self.directory = directory
        self.ports = ports
        self.locations = locations

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if program is None:
            raise ServerError("nginx is not installed")
        self.directory.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                # nginx started by root would serve as nobody, who may not enter the directory
                user="user root;" if os.geteuid() == 0 else "",
                directory=self.directory,
                upstreams="\n".join(
                    f"        server 127.0.0.1:{port} max_fails=0;" for port in self.ports
                ),
                port=self.port,
                locations="".join(self.locations),
            )
        )
        return [program, "-p", str(self.directory), "-c", str(configuration)]


class Cluster:
    """One Redis, `WORKERS` workers of the demo and one nginx; each may be stopped on its own.

    `server` makes a worker (`Daphne` or `Uvicorn`), `port` is nginx's (0: any).
    """

    def __init__(self, site: Site, *, server: type[WebServer] = Daphne, port: int = 0) -> None:
        self.redis = Redis()
        site = replace(site, env={**site.env, "REDIS_URL": self.redis.url})
        self.workers = [server("demo_project.asgi:application", site) for _ in range(WORKERS)]
        ports = [worker.port for worker in self.workers]
        self.nginx = Nginx(site.directory / "nginx", ports, port=port)
        self._running = ExitStack()

    @property
    def url(self) -> str:
        return self.nginx.url

    @property
    def websocket_url(self) -> str:
        return self.nginx.websocket_url

    def __enter__(self) -> Self:
        self._running.enter_context(side_by_side(self.redis, *self.workers, self.nginx))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()
