"""Projects as the documents make them: files copied, diffs applied, the server started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import Page

from tests.documents import ROOT, Block, blocks
from tests.servers import Site, WebServer

if TYPE_CHECKING:
    from typing_extensions import Self

RUNSERVER = "python manage.py runserver"


def write(directory: Path, document: Path) -> None:
    """Copy the files of a document; those that exist are replaced, or added to."""
    for block in blocks(document, "python", "html"):
        if block.title:
            file = directory / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            adds = "add at its end" in block.text.partition("\n")[0]
            before = file.read_text("utf-8") if adds else ""
            file.write_text(before + block.text, "utf-8")


def apply(directory: Path, diff: Block) -> int:
    """Change a file as a diff says, which has to fit once; return how many lines it adds."""
    file, lines = directory / diff.title, diff.text.splitlines(keepends=True)[1:]
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    text = file.read_text("utf-8")
    if before:
        assert text.count(before) == 1, diff.text
        text = text.replace(before, after)
    else:
        text += after
    file.write_text(text, "utf-8")
    return sum(line[0] == "+" for line in lines)


def environment() -> dict[str, str]:
    """A shell in which the virtual environment of the tests is active, and no project chosen."""
    outside = {name: value for name, value in os.environ.items() if "DJANGO" not in name}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    users = {"DJANGO_SUPERUSER_PASSWORD": "a-demo", "DJANGO_SUPERUSER_EMAIL": "a@b.example"}
    more = {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **users}
    return {**outside, **more}


def run(directory: Path, *commands: str) -> str:
    """Run commands in a shell, and fail if one of them does; return what they print."""
    done = subprocess.run(
        ["bash", "-ec", "\n".join(commands)],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


class RunServer(WebServer):
    """The commands that a reader types in the project, the last of which is `runserver`.

    `createsuperuser` makes alice and bob without asking, and the port is one of the test's own.
    """

    LISTENING = re.compile(r"Quit the server with CONTROL-C")

    def __init__(self, directory: Path, *commands: str) -> None:
        super().__init__("", Site(directory))
        self.env = environment()
        self.directory = directory
        *self.commands, runserver = commands
        assert runserver == RUNSERVER

    def wait_until_it_listens(self) -> Self:
        super().wait_until_it_listens()
        return self.wait_for_port()

    def command(self) -> list[str]:
        ask = "python manage.py createsuperuser"
        make = "\n".join(f"{ask} --noinput --username {user}" for user in ("alice", "bob"))
        typed = "\n".join(self.commands).replace(ask, make)
        serve = f"exec {RUNSERVER} --noreload 127.0.0.1:{self.port}"
        return ["bash", "-ec", f"cd {self.directory}\n{typed}\n{serve}"]


def log_in(page: Page, url: str, path: str, user: str) -> None:
    """Log in to the admin site by hand, and go to `path`."""
    page.goto(f"{url}/admin/login/?next={path}")
    page.fill("[name=username]", user)
    page.fill("[name=password]", "a-demo")
    page.press("[name=password]", "Enter")
    page.wait_for_url(f"{url}{path}")
