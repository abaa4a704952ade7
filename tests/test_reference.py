"""Every command explains itself, by an example too, and the README has it all as it is."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import reference
from tests.running import environment

COMMANDS = dict(reference.commands())


def test_the_readme_has_the_reference_as_the_commands_have_it() -> None:
    found = reference.in_readme(reference.README.read_text())

    assert reference.text() == found, "scripts/make-reference writes it anew"


def test_the_reference_has_every_command_and_option() -> None:
    entries = reference.text().split("\n\n")

    assert len(COMMANDS) == len(entries)
    for (name, command), entry in zip(COMMANDS.items(), entries, strict=True):
        assert entry.startswith(name)
        for parameter in command.params:
            for option in [] if reference.is_argument(parameter) else parameter.opts:
                assert re.search(rf"^    (-\w, )?{option}\b", entry, re.MULTILINE), option


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_all_that_it_takes_is_explained(name: str) -> None:
    command = COMMANDS[name]

    assert command.help.strip()
    for parameter in reference.parameters(command):
        assert parameter.help, f"{name} {parameter.name}"
        assert parameter.help.endswith((".", ")")), f"{name} {parameter.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_example_is_a_call_of_it(name: str) -> None:
    command: Any = COMMANDS[name]
    example = command.epilog.removeprefix("Example: ")
    words = shlex.split(example)
    length = len(name.split())

    assert name == " ".join(words[:length])
    command.make_context(name, words[length:])  # parses, and calls nothing


@pytest.mark.parametrize(
    ("variables", "has_colours"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_help_has_colours_on_terminals_that_want_them(
    tmp_path: Path, variables: dict[str, str], has_colours: bool
) -> None:
    surroundings = environment(tmp_path) | {"TERM": "xterm"}
    surroundings.pop("NO_COLOR")
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "syncd", "sync", "--help"],
        env=surroundings | variables,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # so a terminal ends
        while some := os.read(mine, 65536):
            shown += some
    assert 0 == process.wait(timeout=20)
    os.close(mine)

    assert b"Take every project" in shown
    assert has_colours == bool(re.search(rb"\x1b\[[0-9;]*3[0-7]m", shown))
