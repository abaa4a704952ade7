"""Reading many files or rows ahead in a second process, while the first compares and writes.

To read and parse is half of the work of an import, so a second core halves the time; so it is
with rows that become files. Two processes divide the paths or ids among them, portion by portion:
what the other side is to hold of each, if it knows nothing of the message (`Arrival`, `Departure`),
the second one tells as far ahead as a pipe holds, and the first one finds out itself when it would
have to wait. What is no plain success (what is large, cannot be read, or is just being written) is
left to the usual way, and so is everything where a second process cannot be had. In an agent it may
wait afterwards, and serve other projects (`syncd.cycle.second_process`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from syncd.cycle import second_process
from syncd.cycle.departure import departures_of
from syncd.cycle.divided import Answering, Answers, Divided, answer_lots, in_portions
from syncd.cycle.found import arrival_of, as_found, each
from syncd.cycle.second_process import Draw, SecondProcess
from syncd.database.store import Store
from syncd.errors import ReplicaError, StaleReplica
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Version
from syncd.names import database_of, in_utf8

FEWEST = 2000
"""How many are worth a second process, which may take a tenth of a second to start."""

FEWEST_IF_WAITING = 250
"""How many are worth one that waits. Where none does, so many have one wait for the next."""

_AT_ONCE = 100
_MOST_READY = 2000  # some megabytes, where the second process is slow with an early portion
_LARGEST = 32 * 1024  # bytes of a file; a whole batch of them stands in memory
_LARGEST_ROWS = 8 * 1024 * 1024
_MODULE = "syncd.cycle.ahead"

Work = tuple[Any, ...]
"""What the second process does, and what it does it with, as `marshal` takes it."""

Told = tuple[Work, list[list[str]]]


def by_two_processes(
    work: Work, keys: Sequence[str], here: Answering, waiting: SecondProcess | None = None
) -> Divided:
    """Have two processes work on these paths or ids; raises `OSError` without a second one."""
    portions = in_portions(keys, _AT_ONCE)
    told, lots = (work, portions), len(portions)
    if waiting is not None and _has_heard(waiting, told, lots):
        process = waiting
    # A copy has this process's connections to the database too, with which SQLite gets confused:
    # what reads rows starts anew.
    elif work[0] == _FILES and threading.active_count() == 1:
        process = SecondProcess.copied(partial(_answer, told), lots)
    else:
        process = SecondProcess.started(_MODULE)
        if not _has_heard(process, told, lots):
            raise ChildProcessError(f"{sys.executable} cannot run {_MODULE}")
    return Divided(process, portions, here, _MOST_READY)


def _has_heard(process: SecondProcess, told: Told, lots: int) -> bool:
    """Tell a process what to do, and whether it lives; one that does not is ended."""
    try:
        process.tell(told, lots)
    except OSError:
        process.end()
        return False
    except BaseException:
        process.end()
        raise
    return True


def reading_ahead(
    project: Path, files: FileReplica, paths: Sequence[str], max_bytes: int
) -> AbstractContextManager[Divided | None]:
    """Have these files read ahead, as an `Arrival` each; None where there are not enough."""
    here = partial(_arrivals, files, in_utf8(str(project)))
    return _ahead((_FILES, str(project), max_bytes, files.database), paths, here)


def rendering_ahead(
    project: Path, store: Store, ids: Sequence[str]
) -> AbstractContextManager[Divided | None]:
    """Have those of these rows rendered ahead of which ``store`` knows nothing; None likewise.

    What is told of each is a `Departure`.
    """
    known = store.known(ids) if len(ids) >= FEWEST_IF_WAITING else set()
    told = [key for key in ids if key not in known]
    here = partial(_departures, store, in_utf8(str(project)))
    return _ahead((_ROWS, str(project), store.identity), told, here)


@contextmanager
def _ahead(work: Work, keys: Sequence[str], here: Answering) -> Iterator[Divided | None]:
    ahead = None
    if len(keys) >= FEWEST_IF_WAITING and (os.cpu_count() or 1) > 1 and sys.executable:
        waiting = second_process.at_hand()
        if waiting is not None or len(keys) >= FEWEST:
            with suppress(OSError):
                ahead = by_two_processes(work, keys, here, waiting)
        else:
            second_process.stand_by(_MODULE)
    try:
        yield ahead
    finally:
        if ahead is not None:
            ahead.close()


# The second process -----------------------------------------------------------------------------


def _answer(told: Told, draw: Draw, out: BinaryIO) -> None:
    """Answer for those portions of the keys whose lots are drawn here."""
    (what, *arguments), portions = told
    with _WORKS[what](*arguments) as answers_of:
        answer_lots(portions, answers_of, draw, out)


@contextmanager
def _reading(
    project: str, max_bytes: int, database: tuple[int, int] | None = None
) -> Iterator[Answering]:
    own = in_utf8(project)
    with FileReplica(Path(project), max_bytes=max_bytes, database=database) as files:
        yield partial(_arrivals, files, own)


def _arrivals(files: FileReplica, project: str, paths: Sequence[str]) -> Answers:
    """Read files as new messages; None for what is left to the usual way."""
    versions = each(partial(_plain_version, files), paths)
    founds = each(lambda path, version: as_found(path, version, project), paths, versions)
    arrivals = each(arrival_of, founds)
    return [(path, _flat(arrival)) for path, arrival in zip(paths, arrivals, strict=True)]


def _plain_version(files: FileReplica, path: str) -> Version | None:
    try:
        version = files.read(path)
    except (ReplicaError, StaleReplica, OSError):
        return None
    return None if path in files.fresh or len(version.data) > _LARGEST else version


@contextmanager
def _rendering(project: str, identity: tuple[int, int]) -> Iterator[Answering]:
    own = in_utf8(project)
    with Store.open_readonly(database_of(Path(project))) as store:
        if store.identity == identity:  # else another stands there by now
            yield partial(_departures, store, own)
        else:
            yield lambda ids: [(key, None) for key in ids]


def _departures(store: Store, project: str, ids: Sequence[str]) -> Answers:
    """Render rows as new files; None for what is left to the usual way."""
    answers: dict[str, tuple[Any, ...] | None] = dict.fromkeys(ids)
    for portion in store.rows.in_portions(ids, _LARGEST_ROWS):
        rows = store.rows.of(portion)
        departures = departures_of(list(rows.values()), project)
        for key, departure in zip(rows, departures, strict=True):
            if departure is not None and len(departure.data) <= _LARGEST:
                answers[key] = _flat(departure)
    return list(answers.items())


def _flat(found: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    return tuple(found) if found is not None else None  # which `marshal` takes


_FILES, _ROWS = "files", "rows"
_WORKS: dict[str, Callable[..., AbstractContextManager[Answering]]] = {
    _FILES: _reading,
    _ROWS: _rendering,
}


if __name__ == "__main__":
    second_process.serve(_answer)
