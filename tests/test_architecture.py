"""The shape of the code: arrows point down, and the core stays pure."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import syncd

PACKAGE = Path(syncd.__file__).parent
MAP = re.findall(r"^    (\w+) +\S", syncd.__doc__ or "", re.MULTILINE)
PURE = {
    *("guard", "reconcile", "sides", "edit", "markdown", "front_matter", "canonical"),
    *("spans", "nodes", "legacy", "message", "digest", "errors", "shell", "journal"),
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


def test_the_map_says_what_is_pure() -> None:
    assert PURE == set(re.findall(r"^    (\w+) +PURE: ", syncd.__doc__ or "", re.MULTILINE))


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


def repeats_a_group_possessively(parsed: Any) -> bool:
    """Tell whether a parsed pattern repeats more than a character with ``++``, ``*+`` or ``?+``."""
    for operation, argument in parsed:
        parts = argument if isinstance(argument, (tuple, list)) else [argument]
        inner = [part for part in parts if hasattr(part, "getwidth")]
        if operation.name == "BRANCH":
            inner = argument[1]
        if operation.name == "POSSESSIVE_REPEAT" and argument[2].getwidth()[1] != 1:
            return True
        if any(map(repeats_a_group_possessively, inner)):
            return True
    return False


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        *((r"a++[bc]*+(?:.?+)x", False), (r"(?:ab)*", False), (r"(?>ab)", False)),
        *((r"(?:ab)*+", True), (r"x|(a(?:b++c)?+)", True), (r"(?=(?:a|bc)++)", True)),
    ],
)
def test_a_group_that_is_repeated_possessively_is_found(pattern: str, expected: bool) -> None:
    parser = import_module("re._parser")
    assert expected is repeats_a_group_possessively(parser.parse(pattern))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_pattern_repeats_a_group_possessively(path: Path) -> None:
    # Up to Python 3.11.4 it keeps what its last, failed turn had taken (CPython's gh-106052).
    parser = import_module("re._parser")
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for value in vars(import_module(name.removesuffix(".__init__"))).values():
        if isinstance(value, re.Pattern):
            assert not repeats_a_group_possessively(parser.parse(value.pattern, value.flags))
