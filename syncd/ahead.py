"""Reading many files or rows ahead in a second process, while the first compares and writes.

To read and parse is half of the work of an import, so a second core halves the time; so it is
with rows that become files. The process is told the paths or ids, and answers in their order, as
far ahead as a pipe holds, what the other side is to hold of each if it knows nothing of the message
(`Arrival`, `Departure`). What is no plain success there (what is large, cannot be read, or is just
being written) is left to the first process, and so is everything when the second cannot be had, or
dies. In an agent it may wait afterwards, and serve other projects (`syncd.second`).
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

from syncd import second
from syncd.departure import departure_of
from syncd.errors import MessageError, ReplicaError, StaleReplica
from syncd.files import FileReplica
from syncd.found import Arrival, arrival_of, as_found
from syncd.names import CLAUDE_DIR, in_utf8
from syncd.second import SecondProcess
from syncd.store import DATABASE, Store

FEWEST = 2000
"""How many are worth a second process, which may take a tenth of a second to start."""

FEWEST_IF_WAITING = 250
"""How many are worth one that waits. Where none does, so many have one wait for the next."""

_OWN_FIRST = 500
_OWN_SHARE = 4
# The first ones are done here while the second process starts, and after that every fourth file:
# then neither of the two waits for the other. Of rows there are none, as files are written here.
_AT_ONCE = 100
_LARGEST = 32 * 1024  # bytes of a file; a whole batch of them stands in memory
_LARGEST_ROWS = 8 * 1024 * 1024
_MODULE = "syncd.ahead"

Work = tuple[Any, ...]
"""What the second process does, and what it does it with, as `marshal` takes it."""

Answers = list[tuple[str, tuple[Any, ...] | None]]
Answering = Callable[[Sequence[str]], Answers]


class Ahead:
    """What a second process makes of these paths or ids (keys); asked for in their order."""

    def __init__(
        self, work: Work, keys: Sequence[str], waiting: SecondProcess | None = None
    ) -> None:
        self._left = set(keys)
        self._ready: dict[str, Any] = {}
        self._is_alive = True
        told = (work, list(keys))
        if waiting is not None and _has_heard(waiting, told):
            self.process = waiting
        # A copy has this process's connections to the database too, with which SQLite gets
        # confused: what reads rows starts anew.
        elif work[0] == _FILES and threading.active_count() == 1:
            self.process = SecondProcess.copied(partial(_answer, told))
        else:
            self.process = SecondProcess.started(_MODULE)
            if not _has_heard(self.process, told):
                raise ChildProcessError(f"{sys.executable} cannot run {_MODULE}")

    def has(self, key: str) -> bool:
        """Tell whether an answer is to come, or has come and was not taken yet."""
        return key in self._left or key in self._ready

    def take(self, key: str) -> tuple[Any, ...] | None:
        """Return what became of a key, once; None when that has to be found out here."""
        while key in self._left:
            try:
                answers: Answers = self.process.answer()
            except (EOFError, ValueError, TypeError, OSError):
                self._is_alive = False  # it died, or never lived
                self._left.clear()
                break
            self._ready.update(answers)
            self._left.difference_update(found for found, _ in answers)
        found: tuple[Any, ...] | None = self._ready.pop(key, None)
        return found

    def close(self) -> None:
        """Let go of the process, which may have other work then; what it did ahead is forgotten."""
        if self._is_alive and not self._left:
            second.keep(self.process)
        else:
            self.process.end()


def _has_heard(process: SecondProcess, told: tuple[Work, list[str]]) -> bool:
    """Tell a process what to do, and whether it lives; one that does not is ended."""
    try:
        process.tell(told)
    except OSError:
        process.end()
        return False
    except BaseException:
        process.end()
        raise
    return True


def reading_ahead(
    project: Path, paths: Sequence[str], max_bytes: int
) -> AbstractContextManager[Ahead | None]:
    """Have these files read ahead, as an `Arrival` each; None where there are not enough."""
    waiting = _waiting_for(len(paths))
    first = 0 if waiting else _OWN_FIRST
    told = [path for n, path in enumerate(paths) if n >= first and n % _OWN_SHARE]
    return _ahead((_FILES, str(project), max_bytes), told, len(paths), waiting)


def rendering_ahead(
    project: Path, store: Store, ids: Sequence[str]
) -> AbstractContextManager[Ahead | None]:
    """Have those of these rows rendered ahead of which ``store`` knows nothing; None likewise.

    What is told of each is a `Departure`.
    """
    known = store.known(ids) if len(ids) >= FEWEST_IF_WAITING else set()
    number = len(ids) - len(known)
    waiting = _waiting_for(number)
    told = [key for key in ids[0 if waiting else _OWN_FIRST :] if key not in known]
    return _ahead((_ROWS, str(project), store.identity), told, number, waiting)


def _waiting_for(number: int) -> SecondProcess | None:
    return second.at_hand() if number >= FEWEST_IF_WAITING else None


@contextmanager
def _ahead(
    work: Work, keys: Sequence[str], number: int, waiting: SecondProcess | None
) -> Iterator[Ahead | None]:
    ahead = None
    if number >= FEWEST_IF_WAITING and (os.cpu_count() or 1) > 1 and sys.executable:
        if waiting is not None or number >= FEWEST:
            with suppress(OSError):
                ahead = Ahead(work, keys, waiting)
        else:
            second.stand_by(_MODULE)
    try:
        yield ahead
    finally:
        if ahead is not None:
            ahead.close()


# The second process -----------------------------------------------------------------------------


def _answer(told: tuple[Work, list[str]], out: BinaryIO) -> None:
    """Answer for keys, in batches."""
    (what, *arguments), keys = told
    with _WORKS[what](*arguments) as answers_of:
        for start in range(0, len(keys), _AT_ONCE):
            second.send(out, answers_of(keys[start : start + _AT_ONCE]))


@contextmanager
def _reading(project: str, max_bytes: int) -> Iterator[Answering]:
    own = in_utf8(project)
    with FileReplica(Path(project), max_bytes=max_bytes) as files:
        yield lambda paths: [(path, _flat(arrival_at(files, path, own))) for path in paths]


def arrival_at(files: FileReplica, path: str, project: str) -> Arrival | None:
    """Read a file as a new message; None for one that takes more than that, or some patience."""
    try:
        version = files.read(path)
        if path in files.fresh or len(version.data) > _LARGEST:
            return None
        return arrival_of(as_found(path, version, project))
    except (MessageError, ReplicaError, StaleReplica, OSError):
        return None


@contextmanager
def _rendering(project: str, identity: tuple[int, int]) -> Iterator[Answering]:
    own = in_utf8(project)
    with Store.open_readonly(Path(project) / CLAUDE_DIR / DATABASE) as store:
        if store.identity == identity:  # else another stands there by now
            yield lambda ids: _departures(store, ids, own)
        else:
            yield lambda ids: [(key, None) for key in ids]


def _departures(store: Store, ids: Sequence[str], project: str) -> Answers:
    """Render rows as new files; None for what is left to the first process."""
    answers: dict[str, tuple[Any, ...] | None] = dict.fromkeys(ids)
    for portion in store.in_portions(ids, _LARGEST_ROWS):
        for key, row in store.rows(portion).items():
            departure = departure_of(row, project)
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
    second.serve(_answer)
