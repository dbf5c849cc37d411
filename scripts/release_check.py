"""Builds both packages into dist/ and checks what a release needs: `make release-check`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import gcrypt_channels
from scripts.metadata import absolute, repository

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command; end this program if it fails."""
    print("===", *command, flush=True)
    if subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, check=False).returncode:
        sys.exit(f"release check: failed: {command[0]}")


def build(directory: Path) -> None:
    """Build the three distributions into an empty directory."""
    shutil.rmtree(directory, ignore_errors=True)
    run(sys.executable, "-m", "hatchling", "build", "-d", directory)
    stage = ROOT / "build" / "npm"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    described = json.loads((ROOT / "package.json").read_text("utf-8"))
    for name in [*described["files"], "package.json", "LICENSE"]:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, stage / name)
    readme = (ROOT / "README.md").read_text("utf-8")
    address, version = repository(ROOT), gcrypt_channels.__version__
    (stage / "README.md").write_text(absolute(readme, address, version), "utf-8")
    run("npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", directory, cwd=stage)


def contents(directory: Path) -> dict[str, bytes]:
    """The bytes of each file in a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def address_of(root: Path) -> str:
    """The repository's address; end this program where no release has set it."""
    address = repository(root)
    if not address.startswith("https://"):
        sys.exit(
            "release check: package.json has no repository address that begins with https://: "
            "RELEASING.md says how to set it"
        )
    return address


def main() -> int:
    address = address_of(ROOT)
    again = ROOT / "build" / "again"
    for directory in (DIST, again):
        build(directory)
    if contents(DIST) != contents(again):
        print("release check: two builds of the same source differ", file=sys.stderr)
        return 1
    (wheel,) = DIST.glob("*.whl")
    (sdist,) = DIST.glob("*.tar.gz")
    (package,) = DIST.glob("*.tgz")
    tools = Path(sys.executable).parent
    run(tools / "twine", "check", "--strict", wheel, sdist)
    run(tools / "check-wheel-contents", wheel)
    run("npx", "--no", "publint", "run", "--strict", package)
    run("npx", "--no", "attw", package, "--profile", "esm-only")
    run(sys.executable, "-m", "pytest", "-q", "-m", "campaign", "tests/test_package.py")
    print(f"release check: dist/ holds version {gcrypt_channels.__version__} for {address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
