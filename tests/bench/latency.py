"""``file-to-row`` and ``row-to-file``: one change, from the end of its writing to the other side.

Two projects of the same size stand side by side, one with an agent and one with a floor, and get
their changes by turns: both feel the same weather.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from tests.bench import children
from tests.bench.bulk import migrated
from tests.bench.children import companion, last_word, wait_until
from tests.bench.corpus import INBOX, Letter, canonical, letters, write
from tests.bench.figures import Result, Samples, Target, require
from tests.bench.workshop import Workshop, count_files, count_rows, database_of, insert, keep_rows
from tests.clients import row_of

LOOK_S = 0.00005
"""Between two looks of the one who waits for a change."""

PATIENCE_S = 20.0
SAME = 1.25
"""Two sizes count as the same up to this ratio of their medians."""

_FLOORS = {
    "file-to-row": "watchdog event + read + one insert committed with fsync",
    "row-to-file": "event on the WAL + select + write, fsync, rename",
}
_WORDS = {"file-to-row": "file → row", "row-to-file": "row → file"}

Change = Callable[[Path, Letter], float]


def file_to_row(workshop: Workshop) -> Iterator[Result]:
    """Measure how long a new file takes to be a row."""
    return _at_each_size(workshop, "file-to-row")


def row_to_file(workshop: Workshop) -> Iterator[Result]:
    """Measure how long a new row takes to be a file."""
    return _at_each_size(workshop, "row-to-file")


def _at_each_size(workshop: Workshop, name: str) -> Iterator[Result]:
    former: Result | None = None
    for messages in workshop.scale.change_sizes:
        result = _measured(workshop, name, messages)
        if former is not None:
            ratio = result.ours.median / former.ours.median
            what = f"the same as with {workshop.scale.change_sizes[0]:,} (≤ {SAME} ×)"
            result.targets.append(Target(what, ratio, SAME, "×"))
        former = result
        yield result


def _measured(workshop: Workshop, name: str, messages: int) -> Result:
    changes = workshop.scale.changes
    ours, floor = _pair(workshop, messages)
    seed = f"{name} {messages}"
    rng = random.Random(seed)
    news = list(letters(ours, changes + 1, seed=rng.getrandbits(32), folders=(INBOX,)))
    before = {project: _stock(project) for project in (ours, floor)}
    times: dict[Path, list[float]] = {ours: [], floor: []}
    with ExitStack() as stack:
        stack.enter_context(children.agent(workshop.home, ours))
        child = stack.enter_context(companion(workshop.home, "floors", name, floor))
        change = stack.enter_context(closing(_Changes(ours, floor)))
        take = change.file_to_row if name == "file-to-row" else change.row_to_file
        for number, letter in enumerate(news):
            for project in (ours, floor) if number % 2 else (floor, ours):
                took_s = take(project, letter)
                if number:  # the first one warms both up
                    times[project].append(took_s * 1_000)
                time.sleep(rng.uniform(0.02, 0.05))
        (done,) = last_word(child).values()
        wait_until(lambda: _stock(ours) == _more(before[ours], len(news)), "balance", every_s=0.02)
    expected = _more(before[floor], len(news))
    require(_stock(floor) == expected, f"The floor has {_stock(floor)}, not {expected}.")
    result = Result(
        name=name,
        what=f"{_WORDS[name]}, one change among {messages:,} messages",
        ours=Samples.of(times[ours], "ms", tail=True),
        floor=Samples.of(times[floor], "ms", tail=True),
        floor_is=_FLOORS[name],
        did={"ours": len(news), "floor": done},
    )
    result.limit_ratio(2.5)
    result.targets.append(Target("p50 ≤ 5 ms", result.ours.median, 5, "ms"))
    result.targets.append(Target("p99 ≤ 25 ms", result.ours.p99, 25, "ms"))
    return result


def _pair(workshop: Workshop, messages: int) -> tuple[Path, Path]:
    """Return two projects with the same messages on both sides, for the agent and the floor."""

    def make_ours(project: Path) -> None:
        write(project / ".claude-mpm", letters(project, messages))
        migrated(workshop, project, messages)

    def make_floor(project: Path) -> None:
        write(project / ".claude-mpm", letters(project, messages))
        source = keep_rows(ours, workshop.folder / "rows.db")
        children.floor(workshop.home, "read-and-insert", project, source, database_of(project))

    ours = workshop.once(f"watched-{messages}", make_ours)
    return ours, workshop.once(f"watched-floor-{messages}", make_floor)


def _stock(project: Path) -> tuple[int, int]:
    return count_files(project), count_rows(database_of(project))


def _more(stock: tuple[int, int], number: int) -> tuple[int, int]:
    return stock[0] + number, stock[1] + number


class _Changes:
    """Makes changes in two projects and waits for what comes of them, over kept connections."""

    def __init__(self, *projects: Path) -> None:
        self._connections = {
            project: sqlite3.connect(database_of(project), timeout=1.0) for project in projects
        }

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def file_to_row(self, project: Path, letter: Letter) -> float:
        """Write a file as the old client does; return the seconds until its row can be read."""
        connection = self._connections[project]
        key = (letter.message.id,)
        data = canonical(letter.message).encode()
        with open(project / ".claude-mpm" / letter.path, "wb") as file:
            file.write(data)
        written = time.perf_counter()
        query = "SELECT 1 FROM messages WHERE id = ?"
        seen = wait_until(
            lambda: connection.execute(query, key).fetchone(),
            f"row {key[0]}",
            every_s=LOOK_S,
            timeout_s=PATIENCE_S,
        )
        return seen - written

    def row_to_file(self, project: Path, letter: Letter) -> float:
        """Insert a row; return the seconds from its commit until its file is there."""
        connection = self._connections[project]
        path = f"{project}/.claude-mpm/{letter.path}"
        insert(connection, [row_of(letter.message)])
        committed = time.perf_counter()
        seen = wait_until(
            lambda: os.path.exists(path), f"file {path}", every_s=LOOK_S, timeout_s=PATIENCE_S
        )
        return seen - committed
