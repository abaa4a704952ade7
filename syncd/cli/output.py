"""Lines, colours, JSON and progress: all that syncd prints leaves through here.

Texts, ids and paths come from files that anybody may have written. No text is ever read as markup,
and what could drive a terminal or hide in it is printed as an escape (`shown`).
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

BARS = "▁▂▃▄▅▆▇█"

_VERSION_OF_JSON = 1
_Item = TypeVar("_Item")
_began = 0.0

# Controls, formats (direction overrides among them), lone surrogates, line and paragraph ends.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class Tone(Enum):
    """What a line is, as its colour on a terminal (an SGR code of ECMA-48)."""

    PLAIN = ""
    GOOD = "32"
    HINT = "36"
    ATTENTION = "33"
    BAD = "31"


STYLES = {
    Tone.PLAIN: "",
    Tone.GOOD: "green",
    Tone.HINT: "cyan",
    Tone.ATTENTION: "yellow",
    Tone.BAD: "red",
}
"""What rich calls these colours."""


def begin() -> None:
    """Note when a command begins its work: all is imported, and read what it was called with."""
    global _began
    _began = time.monotonic()


def prepare() -> None:
    """Make stdout and stderr able to print any text, whatever their encoding; also when closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - stands for the process's life
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def finish() -> None:
    """Send what stdout still holds, or drop it where nobody takes it.

    Else the interpreter would try again at its end, and fail with a traceback.
    """
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def shown(text: str) -> str:
    """Return a text with every character that is not seen as itself written as an escape."""
    if text.isprintable():
        return text
    import unicodedata  # nearly all that is printed has no need of it

    return "".join(
        _escaped(character) if unicodedata.category(character) in _UNSEEN else character
        for character in text
    )


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def on_terminal(stream: TextIO) -> bool:
    """Tell whether a stream goes to a terminal that can do more than lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def in_colour(stream: TextIO) -> bool:
    """Tell whether a stream takes colours: a terminal that can, and no NO_COLOR."""
    return not os.environ.get("NO_COLOR") and on_terminal(stream)


def say(text: str, tone: Tone = Tone.PLAIN) -> None:
    """Print one line of an answer."""
    _print(text, tone, sys.stdout)


def tell(text: str, tone: Tone = Tone.PLAIN) -> None:
    """Print one line that is no answer: a problem, a hint, progress."""
    with suppress(OSError):  # an answer is as good without
        _print(text, tone, sys.stderr)


def say_columns(rows: Iterable[Sequence[str]]) -> None:
    """Print rows as lines, all but the last column as wide as the widest of them."""
    lines = [[shown(text) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [text.ljust(width) for text, width in zip(line[:-1], widths, strict=False)]
        say("  ".join([*padded, line[-1]]).rstrip())


def write(data: bytes) -> None:
    """Write bytes of an answer exactly as they are; on a terminal, as lines of seen characters."""
    if not sys.stdout.isatty():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return
    text = data.decode("utf-8", "surrogateescape")
    lines = text.removesuffix("\n").split("\n")
    print("\n".join("\t".join(map(shown, line.split("\t"))) for line in lines))


def pause(seconds: float) -> None:
    """Wait; raises `BrokenPipeError` as soon as nobody reads what is printed any more."""
    import select  # few commands wait

    try:
        fd = sys.stdout.fileno()
    except (OSError, ValueError):  # of a stream that is no file
        time.sleep(seconds)
        return
    reader = select.poll()
    reader.register(fd, 0)
    if any(events & (select.POLLERR | select.POLLHUP) for _, events in reader.poll(seconds * 1000)):
        raise BrokenPipeError


def complain(sentence: str, hint: str | None = None, tone: Tone = Tone.BAD) -> None:
    """Say what is wrong, and what to do about it."""
    tell(sentence, tone)
    if hint:
        tell(f"  → {hint}", Tone.HINT)


def of_project(path: str, sentence: str) -> str:
    """Return a sentence with the project that it is of, unless that is its subject already."""
    return sentence if sentence.startswith(f"{path} ") else f"{path}: {sentence}"


def _print(text: str, tone: Tone, stream: TextIO) -> None:
    line = shown(text)
    if tone.value and in_colour(stream):
        line = f"\x1b[{tone.value}m{line}\x1b[0m"
    print(line, file=stream)


def print_json(**parts: Any) -> None:
    """Print the one JSON object of a command that was asked for it, with what its work took."""
    print_object(seconds=round(time.monotonic() - _began, 3), **parts)


def print_object(*, indent: int | None = 2, **parts: Any) -> None:
    """Print one JSON object; what JSON lacks becomes text, and a number that is none null."""
    import json

    whole = {"version": _VERSION_OF_JSON, **parts}
    try:
        text = json.dumps(whole, indent=indent, default=str, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(whole, default=str), parse_constant=lambda _: None)
        text = json.dumps(finite, indent=indent)
    print(text)


def console(stream: TextIO) -> Console:
    """Return rich's way to a stream; what is printed there is `shown` before."""
    from rich.console import Console  # few commands print more than lines

    colours: Literal["auto"] | None = "auto" if in_colour(stream) else None
    return Console(file=stream, color_system=colours, markup=False, emoji=False, highlight=False)


def with_progress(items: Iterable[_Item], total: int, label: str) -> Iterator[_Item]:
    """Yield the items, each as it is done; on a terminal a bar shows how far it is.

    Under a bar the items are kept until it is gone, also when it is interrupted: their lines and
    the bar would write over each other.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    done: list[_Item] = []
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(
            *columns,
            console=console(sys.stderr),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as bar:
            task = bar.add_task(label, total=total)
            for item in items:
                done.append(item)
                bar.advance(task)
    finally:
        yield from done
