"""``drop-in``: many messages at once while the agent runs, against ``migrate`` of the same."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.bench import children
from tests.bench.bulk import in_turn, migrated
from tests.bench.children import wait_until
from tests.bench.corpus import INBOX, Letter, letters, write
from tests.bench.figures import Result, Samples
from tests.bench.workshop import Workshop, count_files, count_rows, database_of, insert
from tests.clients import row_of

_IN_ONE_TRANSACTION = 500


def drop_in(workshop: Workshop) -> Iterator[Result]:
    """Measure how long many new files take to be rows, and many new rows to be files."""
    messages = workshop.scale.small
    for what, drop in (("files", dropped_files), ("rows", dropped_rows)):
        floors, ours = in_turn(
            workshop.scale.repeat_long,
            lambda: _migrate_of_the_same(workshop, messages),
            lambda: _settled(workshop, messages, drop),  # noqa: B023
        )
        result = Result(
            name="drop-in",
            what=f"{messages:,} {what} dropped in while the agent runs",
            ours=Samples.of(ours, "s"),
            floor=Samples.of(floors, "s"),
            floor_is="`syncd migrate` of the same messages",
            did={"ours": _settled_number(workshop), "floor": messages},
        )
        result.limit_ratio(1.5, "migrate")
        yield result
    bare, ours = in_turn(
        workshop.scale.repeat_long,
        lambda: _made(workshop, messages),
        lambda: _settled(workshop, messages, dropped_rows),
    )
    yield Result(
        name="drop-in",
        what=f"{messages:,} rows dropped in, and the files alone",
        ours=Samples.of(ours, "s"),
        floor=Samples.of((one["seconds"] for one in bare), "s"),
        floor_is="the same files, each written under another name, synced by 250, and renamed",
        did={"ours": _settled_number(workshop), "floor": bare[-1]["files"]},
    )


def _settled_number(workshop: Workshop) -> int:
    """Return how many messages the newest project has on both sides."""
    project = workshop.newest("dropped")
    return min(count_files(project), count_rows(database_of(project)))


def _migrate_of_the_same(workshop: Workshop, messages: int) -> float:
    return migrated(workshop, _the_same(workshop, messages), messages).seconds


def _made(workshop: Workshop, messages: int) -> dict[str, Any]:
    source, target = _the_same(workshop, messages), workshop.fresh("bare")
    return children.floor(workshop.home, "make-files", source, target)


def _the_same(workshop: Workshop, messages: int) -> Path:
    """Return a project that has as files what is dropped into others."""
    return workshop.once(
        f"inbox-{messages}",
        lambda made: write(made / ".claude-mpm", _news(workshop, messages)),
    )


def _news(workshop: Workshop, messages: int) -> Iterator[Letter]:
    return letters(workshop.folder / "dropped", messages, seed=7, folders=(INBOX,))


def _settled(
    workshop: Workshop, messages: int, drop: Callable[[Workshop, Path, int], float]
) -> float:
    project = workshop.fresh("dropped")
    with children.agent(workshop.home, project):
        return drop(workshop, project, messages)


def dropped_files(workshop: Workshop, project: Path, messages: int) -> float:
    """Move files into the inbox of a watched project; return the seconds until all are rows."""
    staged = workshop.folder / "staged"
    shutil.rmtree(staged, ignore_errors=True)
    write(staged, _news(workshop, messages))
    os.sync()
    names = [name for name in os.listdir(staged / INBOX) if name.endswith(".md")]
    inbox = project / ".claude-mpm" / INBOX
    query = "SELECT 1 FROM messages WHERE id = ?"
    with closing(sqlite3.connect(database_of(project), timeout=1.0)) as reader:
        started = time.perf_counter()
        for name in names:
            os.rename(f"{staged}/{INBOX}/{name}", f"{inbox}/{name}")
        return _seen_all(
            [name.removesuffix(".md") for name in names],
            lambda key: reader.execute(query, (key,)).fetchone(),
            started,
        )


def dropped_rows(workshop: Workshop, project: Path, messages: int) -> float:
    """Insert rows into a watched project; return the seconds until all are files."""
    news = list(_news(workshop, messages))
    rows = [row_of(letter.message) for letter in news]
    started = time.perf_counter()
    with closing(sqlite3.connect(database_of(project), timeout=1.0)) as writer:
        for first in range(0, messages, _IN_ONE_TRANSACTION):
            insert(writer, rows[first : first + _IN_ONE_TRANSACTION])
    paths = [f"{project}/.claude-mpm/{letter.path}" for letter in news]
    return _seen_all(paths, os.path.exists, started)


def _seen_all(awaited: list[str], is_there: Callable[[str], object], started: float) -> float:
    """Return the seconds until all are there. Each is asked for again only while it is missing."""
    missing = list(awaited)

    def all_there() -> bool:
        while missing and is_there(missing[-1]):
            missing.pop()
        return not missing

    return wait_until(all_there, f"{len(awaited):,} messages", every_s=0.02) - started
