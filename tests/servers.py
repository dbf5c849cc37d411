"""Real servers for the tests: daphne, uvicorn, hypercorn, granian and redis-server, each on a port
of its own.

    with Daphne("demo_project.asgi:application", Site(tmp_path)) as server:
        requests to server.url, sockets to server.websocket_url

Every server is a process of its own which listens on 127.0.0.1. `start` returns once the process
has said that it listens, so nothing here sleeps; what it prints is collected in `log`. The port is
reserved from the making of the object to its end: nobody else gets it before the server binds it
or while the server is down, and clients find the server again after a `restart`.

The bit-flipping proxy between a client and a server is in `tests.proxy`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 60.0  # seconds; generous, since a loaded machine is not a failure
STOP_TIMEOUT = 15.0
END_TIMEOUT = 30.0  # seconds for a process to end by itself; as generous


class ServerError(AssertionError):
    """A server did not start, or did not say in time what a test waits for."""


@dataclass
class Site:
    """A Django project with files of its own, used by any number of server processes.

    `directory` holds the SQLite file (and whatever else the settings module keeps in the
    directory that the environment variable `DEMO_DATA` names). `env` goes to every process.
    """

    directory: Path
    settings: str = "demo_project.settings"
    env: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": self.settings,
            "DEMO_DATA": str(self.directory),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            **self.env,
        }

    def manage(self, *arguments: str) -> str:
        """Run a management command; return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerError(f"manage.py {' '.join(arguments)} failed:\n{done.stdout}")
        return done.stdout


def demo_site(directory: Path, **env: str) -> Site:
    """The demo project with a database of its own, in which alice and bob exist.

    The front page has no stage, which would make more users and sockets, unless `DEMO` is "1".
    """
    site = Site(directory, env={"DEMO": "0", **env})
    site.manage("migrate", "--verbosity", "0")
    site.manage("demo_users")
    return site


def reserve_port(port: int = 0) -> socket.socket:
    """Keep a TCP port of 127.0.0.1 (0: any) from everybody else until the socket is closed.

    The socket is bound and never listens, so the kernel gives its port to nobody and refuses all
    connections. Both sides set SO_REUSEADDR, as every server here does: with it, Linux lets a
    server bind the same port and listen on it.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", port))
    return reserved


class ServerProcess:
    """A process that listens on one TCP port of 127.0.0.1 (0: any)."""

    LISTENING: ClassVar[re.Pattern[str]]  # printed once it listens

    def __init__(self, *, env: dict[str, str], port: int = 0) -> None:
        self.env = env
        reserved = reserve_port(port)
        weakref.finalize(self, reserved.close)
        self.port: int = reserved.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._ended = False  # no further line will come
        self._printed = threading.Condition()

    def command(self) -> list[str]:
        """The command line, with which the process listens on `self.port`."""
        raise NotImplementedError

    def start(self) -> Self:
        self.launch()
        return self.wait_until_it_listens()

    def launch(self) -> None:
        """Start the process; `wait_until_it_listens` is to follow."""
        if self._process is not None:
            raise ServerError("the server runs already")
        with self._printed:
            self._lines.clear()
            self._ended = False
        self._process = subprocess.Popen(
            self.command(),
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._collect, args=(self._process,), daemon=True)
        self._reader.start()

    def wait_until_it_listens(self) -> Self:
        try:
            self.wait_for_log(self.LISTENING)
        except ServerError:
            self.kill()
            raise
        return self

    def terminate(self, *, everybody: bool = False) -> None:
        """Send SIGTERM, to all processes of the server if it is for everybody, and go on."""
        if everybody:
            os.killpg(self.pid, signal.SIGTERM)
        else:
            self._send(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until the process has ended by itself; return its exit status."""
        if self._process is None:
            raise ServerError("the server does not run")
        try:
            return self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise ServerError(f"{type(self).__name__} does not end:\n{self.log}") from None

    def stop(self) -> None:
        """End the process as an operator does: SIGTERM, and SIGKILL when that does not help."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9`, for its workers as well: no goodbye to anyone."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """Keep the process from running: it hangs, with all its connections open."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended process run again."""
        self._send(signal.SIGCONT)

    def restart(self, **env: str) -> Self:
        """Stop and start on the same port, with `env` added to the environment."""
        self.stop()
        self.env = {**self.env, **env}
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError("the server does not run")
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything printed (stdout and stderr) since the last start."""
        with self._printed:
            return "".join(self._lines)

    def wait_for_log(
        self, pattern: str | re.Pattern[str], timeout: float = START_TIMEOUT
    ) -> re.Match[str]:
        """Wait until the process has printed `pattern`; return the first match in the log."""
        found: re.Match[str] | None = None

        def look() -> bool:
            nonlocal found
            found = re.search(pattern, "".join(self._lines))
            return found is not None or self._ended

        with self._printed:
            self._printed.wait_for(look, timeout)
        if found is None:
            raise ServerError(f"{type(self).__name__} never printed {pattern!r}:\n{self.log}")
        return found

    def _collect(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for line in stream:
                with self._printed:
                    self._lines.append(line)
                    self._printed.notify_all()
        with self._printed:
            self._ended = True
            self._printed.notify_all()

    def _end(self, with_signal: signal.Signals) -> None:
        self._send(with_signal)
        self._reap()

    def _send(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        if number == signal.SIGKILL:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._reader.join(STOP_TIMEOUT)


@contextmanager
def side_by_side(*processes: ServerProcess) -> Iterator[None]:
    """Start all and stop all, without waiting for one before the next."""
    try:
        for process in processes:
            process.launch()
        for process in processes:
            process.wait_until_it_listens()
        yield
    finally:
        for process in processes:
            process._send(signal.SIGTERM)
        for process in processes:
            process._reap()


class WebServer(ServerProcess):
    """An ASGI server with one application; `options` are further command line arguments."""

    def __init__(self, application: str, site: Site, *options: str, port: int = 0) -> None:
        super().__init__(env=site.environment(), port=port)
        self.application = application
        self.options = options

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def wait_for_port(self) -> Self:
        """Wait for a server that prints its line in a moment before it listens."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and not self._ended:
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            time.sleep(0.01)
        raise ServerError(f"{type(self).__name__} does not listen:\n{self.log}")


class Daphne(WebServer):
    LISTENING = re.compile(r"Listening on TCP address")

    def command(self) -> list[str]:
        address = ["-b", "127.0.0.1", "-p", str(self.port)]
        return [sys.executable, "-m", "daphne", *address, *self.options, self.application]


class Uvicorn(WebServer):
    LISTENING = re.compile(r"Uvicorn running on")

    def command(self) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        return [sys.executable, "-m", "uvicorn", *address, *self.options, self.application]


class Hypercorn(WebServer):
    LISTENING = re.compile(r"Running on http")

    def command(self) -> list[str]:
        address = ["--bind", f"127.0.0.1:{self.port}", "--workers", "0"]  # 0: in this process
        return [sys.executable, "-m", "hypercorn", *address, *self.options, self.application]


class Granian(WebServer):
    LISTENING = re.compile(r"Started worker-1")

    def wait_until_it_listens(self) -> Self:
        super().wait_until_it_listens()
        return self.wait_for_port()

    def command(self) -> list[str]:
        address = ["--interface", "asgi", "--host", "127.0.0.1", "--port", str(self.port)]
        return [sys.executable, "-m", "granian", *address, *self.options, self.application]


ASGI_SERVERS: list[type[WebServer]] = [Daphne, Uvicorn, Hypercorn, Granian]


class Redis(ServerProcess):
    """A redis-server that keeps nothing on disk."""

    LISTENING = re.compile(r"Ready to accept connections")

    def __init__(self, *options: str) -> None:
        super().__init__(env=dict(os.environ))
        self.options = options

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        program = shutil.which("redis-server")
        if program is None:
            raise ServerError("redis-server is not installed")
        address = ["--bind", "127.0.0.1", "--port", str(self.port)]
        return [program, *address, "--save", "", "--appendonly", "no", *self.options]
