"""The frames of ``syncd status --watch`` on a terminal: a table of projects, what needs a person,
and the last changes, as much of each as the terminal has lines for.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from syncd.cli import output
from syncd.cli.findings import Line, ago, number_of
from syncd.cli.log import line_of
from syncd.cli.output import BARS, STYLES, Tone
from syncd.cli.status import TONES, Status, agent_in_words, needs
from syncd.cli.watching import EVERY_S, MINUTES, Watch, Watched
from syncd.cycle.report import State

_LEAST_TABLE = 2
_WORST_FIRST = [State.ERROR, State.HALTED, State.ATTENTION, State.IN_SYNC, State.RETIRED]


def redraw(watch: Watch) -> None:
    """Draw frame after frame until interrupted; the last one stays on the terminal."""
    console = Console(
        file=sys.stdout, no_color=not output.in_colour(sys.stdout), markup=False, highlight=False
    )
    picture: RenderableType = ""
    try:
        with Live(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as live:
            while True:
                watch.refresh()
                picture = frame(watch, width=console.width, height=console.height)
                live.update(picture, refresh=True)
                time.sleep(EVERY_S)
    finally:
        console.print(picture)


def frame(watch: Watch, *, width: int, height: int) -> RenderableType:
    """Return one frame of at most ``height`` lines of ``width`` characters."""
    statuses = watch.statuses()
    head = list(_head(watch, statuses))
    room = height - 1 - len(head) - _LEAST_TABLE
    worst_first = sorted(statuses, key=lambda one: _WORST_FIRST.index(one.state))
    calls = _some([line for one in worst_first for line in _told(one)], room // 2 - 1)
    room -= len(calls) + 1 if calls else 0
    latest = list(watch.latest)[::-1][: max(0, min(room - 2, height // 4))]
    room -= len(latest) + 2 if latest else 0
    parts: list[RenderableType] = [*head, _table(watch, width, max(1, room + 1))]
    if calls:
        parts += [Text(), *(_line(line) for line in calls)]
    if latest:
        base = _base(watch)
        parts += [Text(), Text("last changes", style="bold")]
        parts += [_line(line_of(entry, _name(str(project), base))) for project, entry in latest]
    return Group(*parts)


def _head(watch: Watch, statuses: list[Status]) -> Iterator[Text]:
    states = Counter(one.word for one in statuses)
    words = ", ".join(f"{number:,} {word}" for word, number in states.most_common())
    rate = sum(watched.per_minute()[-1] for watched in watch.of.values())
    about = number_of(len(statuses), "project") + (f": {words}" if len(statuses) > 1 else "")
    yield _cut(Text(f"{about}; {number_of(rate, 'change')} this minute", style="bold"))
    pids = {one.agent.pid for one in statuses if one.agent is not None}
    for agent in watch.running:
        if agent.pid in pids:
            tone = Tone.PLAIN if agent.alive else Tone.BAD
            yield _line((", ".join(agent_in_words(agent)), tone))
    if not pids:
        yield Text("no agent")
    base = _base(watch)
    if base:
        yield _line((f"below {base}", Tone.PLAIN))
    yield Text()


_PROJECT, _CHANGES = "project", f"changes in {MINUTES} min"
_NUMBERS = ("messages", "pending", "conflicts", "left alone")
_COLUMNS = (_PROJECT, "state", *_NUMBERS, _CHANGES, "last change")
_GIVING_WAY = (*_NUMBERS[1:], _CHANGES, "last change", "messages")
"""The columns that are left out where it is narrow, in this order; the first ones if empty."""

_GAP = 2
_LEAST_NAME, _SHORTEST_NAME = 20, 8


def _table(watch: Watch, width: int, most: int) -> Table:
    base = _base(watch)
    shown = [watched for watched in watch.of.values() if watched.status is not None]
    left_out = len(shown) - most
    if left_out > 0:
        shown.sort(key=_importance)
        shown = shown[: max(1, most - 1)]
    rows = [dict(zip(_COLUMNS, _row(watched, base), strict=True)) for watched in shown]
    columns = _fitting(rows, width)
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold", show_edge=False)
    for name in columns:
        justify: JustifyMethod = "right" if name in _NUMBERS else "left"
        least = _SHORTEST_NAME if name == _PROJECT else None
        table.add_column(name, justify=justify, no_wrap=name != _PROJECT, min_width=least)
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    if left_out > 0 and most > 1:
        table.add_row(Text(f"… and {left_out + 1:,} more"))
    return table


def _fitting(rows: list[dict[str, Text]], width: int) -> list[str]:
    """Return the columns that fit beside one another, with room for the projects' names."""
    widths = {
        name: _GAP + max(len(name), *(row[name].cell_len for row in rows), 0) for name in _COLUMNS
    }
    widths[_PROJECT] = min(widths[_PROJECT], _GAP + _LEAST_NAME)
    for name in _GIVING_WAY:
        is_told = name in _NUMBERS[1:] and any(row[name] for row in rows)
        if sum(widths.values()) > width and not is_told:
            del widths[name]
    return list(widths)


def _row(watched: Watched, base: str) -> Iterator[Text]:
    """Yield what stands in each of the columns."""
    one = watched.status
    assert one is not None
    yield _cut(Text(output.shown(_name(str(watched.project), base))))
    yield Text(one.word, style=STYLES[TONES[one.state]])
    yield Text("" if one.messages is None else f"{one.messages:,}")
    for number in (one.pending, len(one.found.conflicts), len(one.found.quarantined)):
        yield Text(f"{number:,}" if number else "")
    rates = watched.per_minute()
    yield Text(f"{_bars(rates)} {sum(rates):,}" if any(rates) else "")
    yield Text(ago(one.last_cycle) if one.last_cycle else "")


def _bars(numbers: list[int]) -> str:
    most = max(numbers) or 1
    return "".join(BARS[-(-number * (len(BARS) - 1) // most)] for number in numbers)


def _importance(watched: Watched) -> tuple[int, float]:
    one = watched.status
    assert one is not None
    return _WORST_FIRST.index(one.state), -sum(watched.per_minute())


def _told(one: Status) -> list[Line]:
    lines = list(needs(one))
    return [(str(one.project), TONES[one.state]), *lines] if lines else []


def _some(lines: list[Line], most: int) -> list[Line]:
    if len(lines) <= most:
        return lines
    if most < 2:
        return []
    return [*lines[: most - 1], ("… more: syncd status", Tone.HINT)]


def _line(line: Line) -> Text:
    text, tone = line
    return _cut(Text(output.shown(text), style=STYLES[tone]))


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _base(watch: Watch) -> str:
    """Return the folder that all projects stand below; nothing where that is the root."""
    if not watch.of:
        return ""
    found = os.path.commonpath([str(project.parent) for project in watch.of])
    return "" if found == "/" else found


def _name(project: str, base: str) -> str:
    return os.path.relpath(project, base) if base else project
