"""The scratch folder of a run, its sizes, and projects that are made once for all."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from tests.bench.corpus import FOLDERS, letters, write
from tests.bench.figures import require
from tests.clients import Row


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. ``repeat`` is for what is short, ``repeat_long`` for what is not."""

    small: int = 10_000
    large: int = 100_000
    repeat: int = 5
    repeat_long: int = 3
    changes: int = 200
    change_sizes: tuple[int, ...] = (1_000, 100_000)
    projects: int = 1_000
    each: int = 100
    idle_s: float = 30.0
    starts: int = 25
    inboxes: tuple[int, ...] = (100, 5_000)
    budget_s: float = 2.0
    sizes: tuple[int, ...] = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)

    def with_messages(self, number: int) -> Self:
        """Scale to ``number`` messages at most."""
        return replace(
            self,
            small=max(1, number // 10),
            large=number,
            change_sizes=(max(1, number // 100), number),
            projects=max(1, number // self.each),
            sizes=tuple(size for size in self.sizes if size <= 3 * number) or (number,),
        )


TINY = Scale(
    small=20,
    large=40,
    repeat=1,
    repeat_long=1,
    changes=3,
    change_sizes=(5,),
    projects=3,
    each=4,
    idle_s=0.3,
    starts=1,
    inboxes=(6,),
    budget_s=0.02,
    sizes=(5, 10),
)
"""Enough to see that the harness works; its times mean nothing."""


class Workshop:
    """A scratch folder with a home, and the projects in it."""

    def __init__(self, folder: Path, scale: Scale, plot: Path | None = None) -> None:
        self.folder = folder
        self.scale = scale
        self.plot = plot
        self.home = folder / "home"
        self._ready: dict[str, Path] = {}
        self._made: Counter[str] = Counter()

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return the project of this name, made by ``make`` when it is asked for first."""
        if name not in self._ready:
            project = self.folder / name
            make(project)
            # What was just written must not have its way to the disk while others are timed.
            os.sync()
            self._ready[name] = project
        return self._ready[name]

    def corpus(self, messages: int) -> Path:
        """Return a project with that many messages as files; only its database may change."""
        return self.once(
            f"corpus-{messages}",
            lambda project: write(project / ".claude-mpm", letters(project, messages)),
        )

    def fresh(self, name: str) -> Path:
        """Return an empty project, with mailboxes, another one at each call.

        A former one stays: ext4 makes no use of what was freed in the last seconds, and to make
        10,000 files just after as many were removed takes it several times as long.
        """
        self._made[name] += 1
        project = self.newest(name)
        for folder in FOLDERS:
            (project / ".claude-mpm" / folder).mkdir(parents=True)
        return project

    def newest(self, name: str) -> Path:
        """Return the project that `fresh` made last of this name."""
        return self.folder / f"{name}-{self._made[name]}"


def database_of(project: Path) -> Path:
    return project / ".claude-mpm" / "messaging.db"


def remove_database(path: Path) -> None:
    """Remove a database that nobody has open."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def count_rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    return int(number)


def count_files(project: Path) -> int:
    base = project / ".claude-mpm"
    found = 0
    for folder in FOLDERS:
        with os.scandir(base / folder) as entries:
            found += sum(entry.name.endswith(".md") for entry in entries)
    return found


def insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert rows that have the same columns, in one transaction."""
    names, marks = ", ".join(rows[0]), ", ".join("?" * len(rows[0]))
    with connection:
        connection.executemany(
            f"INSERT INTO messages ({names}) VALUES ({marks})",
            [tuple(row.values()) for row in rows],
        )


def keep_rows(project: Path, target: Path) -> Path:
    """Copy the messages of a project's database, and nothing else, for floors to take rows from."""
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(database_of(project))) as connection:
        connection.execute("ATTACH ? AS kept", (str(target),))
        connection.execute("CREATE TABLE kept.messages AS SELECT * FROM main.messages")
        connection.commit()
    require(target.exists(), f"The rows of {project} could not be kept.")
    return target
