"""The reference of all commands as the README has it: ``python -m tests.reference`` writes it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from syncd.cli.app import app

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- The reference: scripts/make-reference writes it. -->\n"
END = "<!-- The end of the reference. -->\n"
_WIDTH = 100
_TEXT_AT = 26


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name, in the order of the help; groups are passed over."""
    yield from _below(get_command(app), "syncd")


def _below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word in command.list_commands(None):
        yield from _below(command.get_command(None, word), f"{name} {word}")


def parameters(command: Any) -> list[Any]:
    """Return a command's arguments and options, in their order, ``--help`` left out."""
    return [one for one in command.params if not getattr(one, "hidden", False)]


def is_argument(parameter: Any) -> bool:
    return str(parameter.param_type_name) == "argument"


def text() -> str:
    """Return the reference."""
    return "\n".join(_entry(name, command) for name, command in commands())


def _entry(name: str, command: Any) -> str:
    usage = [name, *(_usage(one) for one in parameters(command))]
    lines = textwrap.wrap(
        " ".join(word.replace(" ", "\0") for word in usage),
        _WIDTH,
        subsequent_indent=" " * 8,
        break_on_hyphens=False,
        break_long_words=False,
    )
    lines = [line.replace("\0", " ") for line in lines]
    lines += _wrapped(" ".join(command.help.split()), 4)
    lines += [line for one in parameters(command) for line in _explained(one)]
    lines.append(f"    {command.epilog}")
    return "\n".join(lines) + "\n"


def _usage(parameter: Any) -> str:
    many = "..." if parameter.nargs == -1 or getattr(parameter, "multiple", False) else ""
    names = _names(parameter)
    word = names[0] if is_argument(parameter) else max(names, key=len) + _value(parameter)
    return f"{word}{many}" if parameter.required else f"[{word}]{many}"


def _names(parameter: Any) -> list[str]:
    if is_argument(parameter):
        return [parameter.metavar or parameter.name.upper()]
    return [*parameter.opts, *parameter.secondary_opts]


def _value(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False) or getattr(parameter, "count", False):
        return ""
    return f" {parameter.metavar or parameter.name.upper()}"


def _explained(parameter: Any) -> list[str]:
    names = ", ".join(sorted(_names(parameter), key=len))
    if not is_argument(parameter):
        names += _value(parameter)
    lines = _wrapped(" ".join((parameter.help or "").split()), _TEXT_AT)
    head = f"    {names}"
    if len(head) > _TEXT_AT - 2:
        return [head, *lines]
    return [head + lines[0][len(head) :], *lines[1:]]


def _wrapped(sentences: str, indent: int) -> list[str]:
    blank = " " * indent
    return textwrap.wrap(
        sentences,
        _WIDTH,
        initial_indent=blank,
        subsequent_indent=blank,
        break_on_hyphens=False,
    )


def in_readme(readme: str) -> str:
    """Return the reference that a README has; raises `ValueError` where it has none."""
    found = readme.split(BEGIN)[1].split(END)[0]
    return found.split("```\n")[1]


def main() -> None:
    readme = README.read_text()
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n```\n{text()}```\n\n{END}{after}")


if __name__ == "__main__":
    main()
