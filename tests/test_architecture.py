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


def map_of(text: str) -> list[tuple[str, str]]:
    """Return the modules and packages of a map with what it says of each, in order, as paths."""
    found: list[tuple[str, str]] = []
    room = ""
    for indent, name, what in re.findall(r"^( {4}| {8})(\w+) +(\S.*)$", text, re.MULTILINE):
        room = room if len(indent) == 8 else name
        found.append((f"{room}/{name}" if len(indent) == 8 else name, what))
    return found


SAID = dict(map_of(syncd.__doc__ or ""))
MAP = list(SAID)
ROOMS = {place.partition("/")[0] for place in MAP if "/" in place}
PURE = {
    *("core", "errors", "shell", "digest", "core/guard", "core/reconcile", "core/sides"),
    *("core/edit", "core/markdown", "core/front_matter", "core/canonical", "core/spans"),
    *("core/nodes", "core/legacy", "core/message", "core/journal"),
}
EFFECTS = {
    *("os", "io", "time", "logging", "sqlite3", "pathlib", "subprocess", "threading", "socket"),
    *("random", "tempfile", "shutil", "fcntl", "select", "signal", "sys", "watchdog"),
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")


def place_of(*names: str) -> str:
    """Return where the map has a module: by itself, or with the package that it is in."""
    return "/".join(names[: 2 if names[0] in ROOMS else 1])


def place_of_file(path: Path) -> str:
    """Return the same of a file; nothing for that of the whole package."""
    names = path.relative_to(PACKAGE).with_suffix("").parts
    names = names[:-1] if names[-1] == "__init__" else names
    return place_of(*names) if names else ""


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def places_used_by(path: Path) -> set[str]:
    used = {name for name in imports_of(path) if name.startswith("syncd.")}
    found = {place_of(*name.split(".")[1:]) for name in used}
    return (found & set(MAP)) - {place_of_file(path)}


def test_the_map_names_every_module() -> None:
    assert {place_of_file(path) for path in MODULES} - {""} == set(MAP)


def test_the_map_says_what_is_pure() -> None:
    said = {place for place, what in SAID.items() if what.startswith("PURE: ")}
    assert PURE == said | {place for place in MAP if place.partition("/")[0] in said}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down(path: Path) -> None:
    place = place_of_file(path)
    if not place:
        return
    below = set(MAP[MAP.index(place) + 1 :])
    assert set() == places_used_by(path) - below


@pytest.mark.parametrize("place", sorted(PURE))
def test_the_core_is_pure(place: str) -> None:
    path = PACKAGE / place / "__init__.py" if place == "core" else PACKAGE / f"{place}.py"
    top = {name.split(".")[0] for name in imports_of(path)}
    assert set() == top & EFFECTS
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "exec", "eval"}
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"now", "utcnow", "today"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    if place_of_file(path) == "cli":
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
