"""The table of ``syncd report`` on a terminal, with a line of bars for each origin."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise

from rich.table import Table
from rich.text import Text

from syncd.cli import progress_words as words
from syncd.cli.findings import number_of
from syncd.cli.output import BARS, STYLES, console, shown
from syncd.core.sides import Side
from syncd.progress import Progress, Survey

_NOTHING = "·"
_ORIGINS = ((Side.FILE, "files", "yellow"), (Side.DB, "SQL", "cyan"))


def print_table(survey: Survey) -> None:
    """Print a table of all projects to stdout, as wide as the terminal."""
    out = console(sys.stdout)
    width = min(survey.window.days, max(10, out.width // 3 - 10))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("project", overflow="fold", ratio=1)
    table.add_column(f"the last {number_of(survey.window.days, 'day')}", no_wrap=True)
    table.add_column("last change from a file", overflow="fold", ratio=1)
    table.expand = True
    for one in survey.projects:
        table.add_row(_name(one, survey), _bars(one, width), _last(one, survey))
    out.print(table)


def _name(one: Progress, survey: Survey) -> Text:
    text = Text(f"{shown(str(one.project))}\n")
    text.append(words.stage_words(one), style=STYLES[words.stage_tone(one)])
    why = words.explanation(one, survey.window)
    if why:
        text.append(f": {shown(why)}", style="dim")
    return text


def _bars(one: Progress, width: int) -> Text:
    if one.since is None:
        return Text()
    series = {origin: in_parts(one.figures.series(origin), width) for origin in Side}
    top = max(max(numbers) for numbers in series.values())
    lines = Text()
    for origin, name, style in _ORIGINS:
        lines.append(f"{name:5} ", style="dim")
        lines.append(sparkline(series[origin], top), style=style)
        lines.append(f" {one.figures.total(origin):,}" + ("\n" if origin is Side.FILE else ""))
    return lines


def _last(one: Progress, survey: Survey) -> Text:
    last = one.figures.last.get(Side.FILE)
    if last is None:
        begin = f" since {one.since[:10]}" if one.since else ""
        return Text(shown(f"none known{begin}") if one.error is None else "", style="dim")
    age = words.day_and_age(last.at, survey.window)
    return Text(f"{shown(age)}\n{shown(words.whose(last))}")


def in_parts(numbers: Sequence[int], parts: int) -> list[int]:
    """Return the sums of ``parts`` runs of numbers, as even as they can be."""
    ends = [len(numbers) * part // parts for part in range(parts + 1)]
    return [sum(numbers[start:end]) for start, end in pairwise(ends)]


def sparkline(numbers: Sequence[int], top: int) -> str:
    """Return one bar for each number, in eighths of ``top``; nothing is a dot, not a bar."""
    steps = len(BARS)
    return "".join(
        BARS[min(steps, -(-number * steps // top)) - 1] if number > 0 else _NOTHING
        for number in numbers
    )
