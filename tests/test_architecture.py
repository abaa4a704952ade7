"""The shape of the code: arrows point down, and the core stays pure."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import syncd

PACKAGE = Path(syncd.__file__).parent
MAP = re.findall(r"^    (\w+) +\S", syncd.__doc__ or "", re.MULTILINE)
PURE = {
    *("guard", "reconcile", "sides", "edit", "markdown", "front_matter", "canonical"),
    *("spans", "message", "digest", "errors"),
}
EFFECTS = {
    *("os", "io", "time", "logging", "sqlite3", "pathlib", "subprocess", "threading", "socket"),
    *("random", "tempfile", "shutil", "fcntl", "select", "signal", "sys", "watchdog"),
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")


def room_of(path: Path) -> str:
    """Return the module or subpackage that a file belongs to, as the map names it."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms_used_by(path: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports_of(path) if name.startswith("syncd.")}
    return {name for name in names if name in MAP} - {room_of(path)}


def test_the_map_names_every_module() -> None:
    rooms = {room_of(path) for path in MODULES} - {"__init__"}
    assert rooms == set(MAP)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    below = set(MAP[MAP.index(room) + 1 :])
    assert set() == rooms_used_by(path) - below


@pytest.mark.parametrize("room", sorted(PURE))
def test_the_core_is_pure(room: str) -> None:
    path = PACKAGE / f"{room}.py"
    top = {name.split(".")[0] for name in imports_of(path)}
    assert set() == top & EFFECTS
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "exec", "eval"}
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"now", "utcnow", "today"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    if room_of(path) == "cli":
        return
    top = {name.split(".")[0] for name in imports_of(path)}
    assert set() == top & {"typer", "rich"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("sys", "exit")
