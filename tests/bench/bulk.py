"""``migrate`` and ``idle-sync``: whole projects at once."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from tests.bench import children
from tests.bench.children import Ended
from tests.bench.corpus import FOLDERS
from tests.bench.figures import Result, Samples, Target, require
from tests.bench.workshop import Workshop, count_rows, database_of, keep_rows, remove_database

T = TypeVar("T")
S = TypeVar("S")

READ_AND_INSERT = "read every file + one bulk insert of the same rows with the same indexes"


def in_turn(times: int, floor: Callable[[], T], ours: Callable[[], S]) -> tuple[list[T], list[S]]:
    """Do both, again and again, each of the two being first in half of the rounds."""
    floors, others = [], []
    for number in range(times):
        if number % 2:
            others.append(ours())
            floors.append(floor())
        else:
            floors.append(floor())
            others.append(ours())
    return floors, others


def migrated(workshop: Workshop, project: Path, messages: int) -> Ended:
    """Run ``syncd migrate`` into a new database, and see that it took all messages."""
    remove_database(database_of(project))
    ended = children.syncd(workshop.home, "migrate", project, "--json")
    inserted = counts_in(ended)["rows_inserted"]
    require(inserted == messages, f"{inserted} of {messages} messages were imported.")
    return ended


def counts_in(ended: Ended) -> dict[str, int]:
    """Return the counts of a command's one project."""
    counts: dict[str, int] = json.loads(ended.output)["projects"][0]["counts"]
    return counts


def floor_of_migrate(workshop: Workshop, project: Path, source: Path) -> dict[str, Any]:
    """Run the floor into a new database, and see that it has all rows."""
    target = workshop.folder / "floor.db"
    remove_database(target)
    answer = children.floor(workshop.home, "read-and-insert", project, source, target)
    require(count_rows(target) == answer["rows"], "The floor's database lacks rows.")
    remove_database(target)
    return answer


def migrate(workshop: Workshop) -> Iterator[Result]:
    """Measure ``migrate`` at two sizes, and whether the larger one costs more for each message."""
    scale = workshop.scale
    costs = []
    for messages, repeat in ((scale.small, scale.repeat), (scale.large, scale.repeat_long)):
        project = workshop.corpus(messages)
        migrated(workshop, project, messages)  # all is read once and warm from here on
        source = keep_rows(project, workshop.folder / "rows.db")
        floors, ours = in_turn(
            repeat,
            lambda: floor_of_migrate(workshop, project, source),  # noqa: B023
            lambda: migrated(workshop, project, messages),  # noqa: B023
        )
        work_s = Samples.of((json.loads(one.output)["seconds"] for one in ours), "s")
        costs.append(work_s.median / messages)
        result = Result(
            name="migrate",
            what=f"migrate of {messages:,} messages",
            ours=Samples.of((one.seconds for one in ours), "s"),
            floor=Samples.of((one["seconds"] for one in floors), "s"),
            floor_is=READ_AND_INSERT,
            did={"ours": count_rows(database_of(project)), "floor": floors[-1]["rows"]},
            facts={
                "cpu_s": Samples.of((one.cpu_s for one in ours), "s").as_json(),
                "seconds_without_start": work_s.as_json(),
                "files_bytes": floors[-1]["files_bytes"],
            },
        )
        result.limit_ratio(2.5)
        speed = messages / result.ours.median
        peak_mb = max(one.peak_mb for one in ours)
        result.targets.append(
            Target("> 10,000 messages a second", speed, 10_000, "/s", at_least=True)
        )
        result.targets.append(Target("≤ 250 MB", peak_mb, 250, "MB"))
        if len(costs) == 2:
            # Without the start of the command, which would flatter the larger size.
            growth = costs[1] / costs[0]
            what = f"a message ≤ 1.15 × one of {scale.small:,}"
            result.targets.append(Target(what, growth, 1.15, "×"))
        yield result


def idle_sync(workshop: Workshop) -> Iterator[Result]:
    """Measure ``sync`` of a large project with nothing to do, and see that it writes nothing."""
    messages = workshop.scale.large
    project = workshop.corpus(messages)
    if not database_of(project).exists():
        migrated(workshop, project, messages)
    children.syncd(workshop.home, "sync", project)
    tables, files = table_digests(database_of(project)), file_stamps(project)
    floors, ours = in_turn(
        workshop.scale.repeat,
        lambda: children.floor(workshop.home, "scan", project),
        lambda: children.syncd(workshop.home, "sync", project, "--json"),
    )
    seen = counts_in(ours[-1])["unchanged"]
    tables_now, files_now = table_digests(database_of(project)), file_stamps(project)
    changed = {name for name in tables | tables_now if tables.get(name) != tables_now.get(name)}
    result = Result(
        name="idle-sync",
        what=f"sync with nothing to do, {messages:,} messages",
        ours=Samples.of((one.seconds for one in ours), "s"),
        floor=Samples.of((one["seconds"] for one in floors), "s"),
        floor_is="scandir + stat of every file",
        did={"ours": seen, "floor": floors[-1]["files"]},
        facts={"tables_written": sorted(changed), "peak_mb": max(one.peak_mb for one in ours)},
    )
    result.limit_ratio(2.5)
    result.targets.append(Target("no write to any table", len(changed), 0, "tables"))
    written = sum(stamp != files_now.get(path) for path, stamp in files.items())
    result.targets.append(Target("no write to any file", written, 0, "files"))
    yield result


def table_digests(path: Path) -> dict[str, str]:
    """Return a digest of the content of each table."""
    found = {}
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in names:
            digest = blake2b()
            for row in connection.execute(f'SELECT * FROM "{name}"'):
                digest.update(repr(row).encode("utf-8", "surrogatepass"))
            found[name] = digest.hexdigest()
    return found


def file_stamps(project: Path) -> dict[str, tuple[int, int, int]]:
    """Return size, mtime and inode of every message's file."""
    found = {}
    for folder in FOLDERS:
        with os.scandir(project / ".claude-mpm" / folder) as entries:
            for entry in entries:
                if not entry.name.endswith(".md"):
                    continue
                stat = entry.stat(follow_symlinks=False)
                found[entry.path] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return found
