"""The wheel: all of the package, nothing else, and it works where there is no repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import chdir
from email.parser import Parser
from pathlib import Path

import pytest
from hatchling.build import build_wheel

import syncd
from fixtures.make_world import WORLD
from tests.running import environment

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the wheel of this source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    with chdir(ROOT):
        yield folder / build_wheel(str(folder))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the wheel is installed into, without its dependencies."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    options = ["--no-index", "--no-deps", "--no-compile", "--target", str(target), str(wheel)]
    subprocess.run([*pip, *options], check=True, timeout=50)
    return target


def call(installed: Path, home: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """Run something with the installed copy in place of this tree."""
    surroundings = environment(home) | {"PYTHONPATH": str(installed)}
    return subprocess.run(
        list(map(str, command)),
        env=surroundings,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    folder = f"syncd-{syncd.__version__}.dist-info"
    package = {name for name in names if not name.startswith(f"{folder}/")}
    source = ROOT / "syncd"
    wanted = {str(path.relative_to(ROOT)) for path in source.rglob("*.py")} | {"syncd/py.typed"}
    assert wanted <= package
    assert all(name.startswith("syncd/") for name in package)
    assert not any("__pycache__" in name for name in package)


def test_the_wheel_says_what_it_is_and_what_it_needs(wheel: Path) -> None:
    folder = f"syncd-{syncd.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        told = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        entry_points = archive.read(f"{folder}/entry_points.txt").decode()

    assert ("syncd", syncd.__version__) == (told["Name"], told["Version"])
    assert ">=3.11" == told["Requires-Python"]
    needs = {line.partition(";")[0] for line in told.get_all("Requires-Dist", [])}
    assert any(need.startswith("watchdog") for need in needs)
    assert told.get_payload().startswith("# syncd\n")  # type: ignore[union-attr]
    assert "[console_scripts]\nsyncd = syncd.cli:main\n" in entry_points


def test_the_installed_command_works_without_the_repository(
    installed: Path, tmp_path: Path
) -> None:
    command = installed / "bin" / "syncd"
    world = Path(shutil.copytree(WORLD, tmp_path / "world"))
    home = tmp_path / "home"
    where = "import syncd, syncd.messaging; print(syncd.__file__, syncd.messaging.__file__)"

    modules = call(installed, home, sys.executable, "-c", where)
    version = call(installed, home, command, "--version")
    migrated = call(installed, home, command, "migrate", world, "--recursive")
    status = call(installed, home, command, "status", world / "apex")
    service = call(installed, home, command, "service", "show", world, "--recursive")

    files = modules.stdout.split()
    assert [str(installed / "syncd"), str(installed / "syncd/messaging")] == [
        os.path.dirname(file) for file in files
    ]
    assert (f"syncd {syncd.__version__}\n", "") == (version.stdout, version.stderr)
    assert (3, "") == (migrated.returncode, migrated.stderr)
    assert "4 projects: 61 rows inserted; 1 to look at" in migrated.stdout
    assert status.stdout.startswith(f"{world / 'apex'}: in sync, 16 messages")
    if shutil.which("systemctl"):
        assert f"ExecStart={command} run {world} --recursive\n" in service.stdout
