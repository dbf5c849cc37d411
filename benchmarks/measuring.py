"""What the scenarios measure with: servers, the load generator, CPU time and memory.

CPU time is that of the server's process and its children, from ``/proc``; it says nearly the same
on a busy machine as on an idle one, which the time on the clock does not.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, Literal, cast

from tests.servers import ROOT, Daphne, Redis, ServerProcess, Site, Uvicorn, WebServer

HERE = Path(__file__).resolve().parent
TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LOAD_TIMEOUT = 300.0  # seconds for the load generator to end
NO_PINGS = "86400"  # seconds
WATCH_LAG_MS = "500"  # between two broadcasts while the event loop is watched
PACKAGES = (
    *("Django", "channels", "channels_redis", "daphne", "uvicorn", "websockets"),
    *("cryptography", "pycryptodome", "msgspec"),
)

Sample = dict[str, float]
"""What one run gave: figures by name."""


def cpu_time(pid: int) -> float:
    """Seconds of CPU that a process and its descendants have used."""
    family, ticks = [pid], 0
    for each in family:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            family += map(int, children.read_text().split())
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * TICK


def resident(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def machine() -> dict[str, str]:
    """What the figures depend on."""
    processors = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)
    return {
        "processors": f"{len(processors)} x {processors[0]}" if processors else "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "Node": node.stdout.strip().removeprefix("v"),
        **{name: version(name) for name in PACKAGES},
    }


@dataclass(frozen=True)
class Contestant:
    """A way to do the work: what the client speaks, and which path of the site it asks for."""

    name: str
    profile: Literal["plain", "v1", "v2"]
    path: str


class Node(ServerProcess):
    """The echo of a g-crypt application in Node."""

    LISTENING = re.compile("Listening")

    def __init__(self, passphrase: str) -> None:
        super().__init__(env={**os.environ, "NODE_ENV": "production"})
        self.passphrase = passphrase

    def command(self) -> list[str]:
        return ["node", str(HERE / "gcrypt_server.cjs"), self.passphrase, str(self.port)]


class Load:
    """One run of ``load.c``, in its three steps."""

    def __init__(self, command: list[object], env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._commands = cast(IO[str], self._process.stdin)
        self._answers = cast(IO[str], self._process.stdout)

    def ready(self) -> None:
        """Wait until all sockets are open."""
        self._answer()

    def work(self) -> Sample:
        """Let it work, and wait for the result."""
        self._commands.write("\n")
        self._commands.flush()
        return self._answer()

    def end(self) -> None:
        """Close the sockets."""
        self._process.communicate(timeout=LOAD_TIMEOUT)

    def _answer(self) -> Sample:
        line = self._answers.readline()
        if not line:
            raise RuntimeError(f"the load generator ended with {self._process.wait()}")
        answer: Sample = json.loads(line)
        return answer


@dataclass
class Bench:
    """Where everything runs: the directory of the run, and the servers that it has started."""

    directory: Path
    login: dict[str, str] = field(default_factory=dict)
    _servers: dict[tuple[str, ...], ServerProcess] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.program = self.directory / "load"
        self.site = Site(self.directory, settings="", env={"DATABASE": str(self.directory / "db")})
        subprocess.run(
            [
                *(os.environ.get("CC", "cc"), "-O2", "-Wno-deprecated-declarations"),
                *("-o", self.program, HERE / "load.c", "-lcrypto"),
            ],
            check=True,
        )
        self.login = json.loads(self.python("benchmarks.login"))

    def python(self, module: str, *arguments: str) -> str:
        """Run a module of the benchmarks in a process of its own; return what it prints."""
        command = [sys.executable, "-m", module, *arguments]
        # From compiled modules, as an installed package is imported.
        cache = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self.directory / "pyc")}
        environment = {**self.site.environment(), **cache}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    def web_server(self, name: str, layer: str, *options: str) -> WebServer:
        """A server of the suite's site, not started: no pings, no compression, no access log."""
        env = dict(self.site.env)
        if layer == "redis":
            env["REDIS_URL"] = cast(Redis, self._started(("redis",), Redis)).url
        site = Site(self.directory, settings="", env=env)
        application = "benchmarks.site:application"
        if name == "daphne":
            return Daphne(application, site, "--ping-interval", NO_PINGS, "-v", "1", *options)
        quiet = ("--ws-per-message-deflate", "false", "--ws-ping-interval", NO_PINGS)
        return Uvicorn(application, site, *quiet, "--no-access-log", *options)

    def server(self, name: str, layer: str, *options: str) -> ServerProcess:
        """The one running server of a kind, which all contestants share."""
        if name == "node":
            return self._started((name,), lambda: Node(self.login["PASSPHRASE"]))
        kind = (name, layer, *options)
        return self._started(kind, lambda: self.web_server(name, layer, *options))

    def _started(self, kind: tuple[str, ...], make: Callable[[], ServerProcess]) -> ServerProcess:
        if kind not in self._servers:
            self._servers[kind] = make().start()
        return self._servers[kind]

    def stop(self) -> None:
        """Stop all servers."""
        while self._servers:
            self._servers.popitem()[1].stop()

    def load(
        self,
        mode: str,
        contestant: Contestant,
        server: ServerProcess,
        connections: int,
        amount: float,
        message: str,
        *,
        watched: bool = False,
    ) -> Load:
        """Start the load generator; see ``load.c`` for its arguments and its environment."""
        path, file = contestant.path, self.directory / "message"
        file.write_text(message)
        command = [self.program, mode, contestant.profile, server.port, path, connections, amount]
        env = {**self.login, "MESSAGE": str(file)}
        if path.endswith("-login/"):
            env |= {"KID": env["LOGIN_KID"], "PSK": env["LOGIN_PSK"]}
        else:
            env["COOKIE"] = ""
        group = path.strip("/").replace("-member", "")
        env["TRIGGER"] = f"held {group}" if watched else group
        env["LAG_MS"] = WATCH_LAG_MS if watched else "0"
        return Load(command, env)
