"""The distributions as a user gets them: built, looked into, run in a bare project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import gcrypt_channels
from scripts.metadata import absolute, repository
from scripts.release_check import address_of

pytestmark = pytest.mark.network

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gcrypt_channels"
BARE_PROJECT = ROOT / "tests" / "bare_project"

SETTINGS = """
import os

INSTALLED_APPS = ["daphne", *INSTALLED_APPS, "channels", "gcrypt_channels"]
ASGI_APPLICATION = "site_project.asgi.application"
GCRYPT_PASSPHRASE = os.environ["GCRYPT_PASSPHRASE"]
"""


def run(*command: str | Path, cwd: Path, **env: str) -> CompletedProcess[str]:
    """Run a command to its end, and fail with all that it said if it failed."""
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
    return done


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
        "gcrypt_channels/static/gcrypt_channels/gcrypt.js.map",
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
    assert metadata.get_all("Provides-Extra") == ["client", "daphne", "drf", "prometheus", "redis"]
    required = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {line.partition(">=")[0] for line in required} == {
        "channels",
        "cryptography",
        "django",
        "pycryptodome",
    }


@pytest.mark.parametrize("target", ["wheel", "sdist"])
def test_a_distribution_built_twice_has_the_same_bytes(target: str, tmp_path: Path) -> None:
    first, second = (build(target, ROOT, tmp_path / name) for name in ("first", "second"))

    assert first.read_bytes() == second.read_bytes()


def test_the_readme_and_the_links_of_a_release_lead_to_its_tag(tmp_path: Path) -> None:
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    run("tar", "-xf", sdist, cwd=tmp_path)
    source = tmp_path / sdist.name.removesuffix(".tar.gz")
    described = json.loads((source / "package.json").read_text())
    described["repository"] = {"type": "git", "url": "git+https://example.org/some/where.git"}
    (source / "package.json").write_text(json.dumps(described))

    released = build("wheel", source, tmp_path / "released")

    with zipfile.ZipFile(released) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    tag = f"v{gcrypt_channels.__version__}"
    readme = metadata.get_payload()
    assert "Source, https://example.org/some/where" in metadata.get_all("Project-URL", [])
    assert f"](https://example.org/some/where/blob/{tag}/docs/security.md)" in readme
    assert not re.findall(r"""(?:\]\(|(?:src|srcset|href)=")(?!https?:|#)[^)\s"]+""", str(readme))


def test_links_elsewhere_and_within_the_page_stay_as_they_are() -> None:
    text = "[a](https://example.com/) [b](#here) ![c](docs/images/c.png)"

    made = absolute(text, "https://example.org/o/n", "1.2.3")

    assert made == (
        "[a](https://example.com/) [b](#here) "
        "![c](https://example.org/o/n/raw/v1.2.3/docs/images/c.png)"
    )


def test_a_release_without_a_repository_address_fails_its_check(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("{}")

    assert not repository(tmp_path)
    with pytest.raises(SystemExit, match="repository address"):
        address_of(tmp_path)


def test_the_npm_package_has_the_same_version() -> None:
    described = json.loads((ROOT / "package.json").read_text())

    assert described["version"] == gcrypt_channels.__version__


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    run("tar", "-xf", sdist, cwd=tmp_path)
    source = tmp_path / sdist.name.removesuffix(".tar.gz")

    rebuilt = build("wheel", source, tmp_path / "rebuilt")

    assert set(zipfile.ZipFile(rebuilt).namelist()) == set(zipfile.ZipFile(wheel).namelist())
    for name in ("js/build.js", "js/src/index.js", "package-lock.json", "tsconfig.json"):
        assert (source / name).is_file()


def test_the_wheel_runs_in_a_bare_project(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[daphne]", cwd=tmp_path)
    run(python, "-m", "django", "startproject", "site_project", cwd=tmp_path)
    site = tmp_path / "site_project"
    with (site / "site_project" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    for name in ("asgi.py", "urls.py"):
        shutil.copy(BARE_PROJECT / name, site / "site_project" / name)

    def manage(*arguments: str, passphrase: str = "") -> CompletedProcess[str]:
        return run(python, "manage.py", *arguments, cwd=site, GCRYPT_PASSPHRASE=passphrase)

    passphrase = manage("gcrypt_keygen").stdout.strip()
    checked = manage("check", passphrase=passphrase).stderr
    assert set(re.findall(r"gcrypt_channels\.\w+", checked)) == {"gcrypt_channels.W006"}  # no layer
    manage("migrate", "--verbosity", "0", passphrase=passphrase)
    smoke = (BARE_PROJECT / "smoke.py").read_text()
    counted = manage("shell", "--no-imports", "--command", smoke, passphrase=passphrase)
    assert counted.stdout.strip() == "counted to 42"


EXTRAS = {
    "client": ["gcrypt_channels.client"],
    "daphne": ["daphne.server"],
    "drf": ["rest_framework"],
    "prometheus": ["gcrypt_channels.contrib.prometheus"],
    "redis": ["channels_redis.core"],
}


def test_every_extra_is_tried(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())

    assert set(metadata.get_all("Provides-Extra", [])) == set(EXTRAS)


@pytest.mark.campaign
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_alone_brings_what_its_modules_import(
    extra: str, wheel: Path, tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[{extra}]", cwd=tmp_path)

    run(python, "-c", f"import {', '.join(EXTRAS[extra])}", cwd=tmp_path)


TYPED = """
from gcrypt_channels import Crypt, broadcast

crypt: Crypt = Crypt("passphrase")
reveal_type(broadcast)
wrong: int = crypt
"""


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_type_checker_reads_the_annotations_of_the_wheel(
    checker: str, wheel: Path, tmp_path: Path
) -> None:
    # Installed: only a package with py.typed is read there.
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    python = str(tmp_path / "venv" / "bin" / "python")
    (tmp_path / "typed.py").write_text(TYPED)
    (tmp_path / "pyrightconfig.json").write_text('{"useLibraryCodeForTypes": false}')
    arguments = {
        "mypy": ["--config-file=", "--python-executable", python, "typed.py"],
        "pyright": ["--pythonpath", python, "typed.py"],
    }[checker]

    done = subprocess.run(
        [Path(sys.executable).parent / checker, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    errors = [line for line in done.stdout.splitlines() if "error" in line and "typed.py:" in line]
    assert len(errors) == 1, done.stdout
    assert "Crypt" in errors[0]
    assert "int" in errors[0]
