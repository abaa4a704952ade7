"""Reading many files or rows ahead in a second process, while the first compares and writes.

To read and parse is half of the work of an import, so a second core halves the time; so it is
with rows that become files. The process is told the paths or ids, and answers in their order, as
far ahead as a pipe holds, what the other side is to hold of each if it knows nothing of the message
(`Arrival`, `Departure`). What is no plain success there (what is large, cannot be read, or is just
being written) is left to the first process, and so is everything when the second cannot be had, or
dies.
"""

from __future__ import annotations

import gc
import marshal
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from syncd.departure import departure_of
from syncd.errors import MessageError, ReplicaError, StaleReplica
from syncd.files import FileReplica
from syncd.found import Arrival, arrival_of, as_found
from syncd.names import CLAUDE_DIR, in_utf8
from syncd.store import DATABASE, Store

FEWEST = 2000
"""How many are worth a second process: where it starts anew, it takes as long as a tenth."""

_OWN_FIRST = 500
_OWN_SHARE = 4
# The first ones are done here while the second process starts, and after that every fourth file:
# then neither of the two waits for the other. Of rows there are none, as files are written here.
_AT_ONCE = 100
_LARGEST = 32 * 1024  # bytes of a file; a whole batch of them stands in memory
_LARGEST_ROWS = 8 * 1024 * 1024
_PIPE_BYTES = 1024 * 1024
_SIZE_BYTES = 4
_ANSWERS = 3

Work = tuple[Any, ...]
"""What the second process does, and what it does it with, as `marshal` takes it."""

Answers = list[tuple[str, tuple[Any, ...] | None]]
Answering = Callable[[Sequence[str]], Answers]


class Ahead:
    """What a second process makes of these paths or ids (keys); asked for in their order."""

    def __init__(self, work: Work, keys: Sequence[str]) -> None:
        self._left = set(keys)
        self._ready: dict[str, Any] = {}
        answers, into = os.pipe()
        _widen(answers)
        self._answers = open(answers, "rb")  # noqa: SIM115
        try:
            # A copy has this process's connections to the database too, with which SQLite gets
            # confused: what reads rows starts anew.
            is_copy = work[0] == _FILES and threading.active_count() == 1
            self._pid = (_copied if is_copy else _started)(work, keys, into)
        except BaseException:
            self._answers.close()
            raise
        finally:
            os.close(into)

    def has(self, key: str) -> bool:
        """Tell whether an answer is to come, or has come and was not taken yet."""
        return key in self._left or key in self._ready

    def take(self, key: str) -> tuple[Any, ...] | None:
        """Return what became of a key, once; None when that has to be found out here."""
        while key in self._left:
            try:
                # Not by `marshal.load`: from a pipe, it fetches each value with a call of its own.
                size = int.from_bytes(self._answers.read(_SIZE_BYTES), "little")
                answers: Answers = marshal.loads(self._answers.read(size))
            except (EOFError, ValueError, TypeError, OSError):
                self._left.clear()  # it died, or never lived
                break
            self._ready.update(answers)
            self._left.difference_update(found for found, _ in answers)
        found: tuple[Any, ...] | None = self._ready.pop(key, None)
        return found

    def close(self) -> None:
        """End the process; what it did ahead is forgotten."""
        with suppress(ProcessLookupError, ChildProcessError):  # who ignores SIGCHLD has none
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._answers.close()


def reading_ahead(
    project: Path, paths: Sequence[str], max_bytes: int
) -> AbstractContextManager[Ahead | None]:
    """Have these files read ahead, as an `Arrival` each; None where there are not enough."""
    told = [path for n, path in enumerate(paths) if n >= _OWN_FIRST and n % _OWN_SHARE]
    return _ahead((_FILES, str(project), max_bytes), told, len(paths))


def rendering_ahead(
    project: Path, store: Store, ids: Sequence[str]
) -> AbstractContextManager[Ahead | None]:
    """Have those of these rows rendered ahead of which ``store`` knows nothing; None likewise.

    What is told of each is a `Departure`.
    """
    known = store.known(ids) if len(ids) >= FEWEST else set()
    told = [key for key in ids[_OWN_FIRST:] if key not in known]
    return _ahead((_ROWS, str(project), store.identity), told, len(ids) - len(known))


@contextmanager
def _ahead(work: Work, keys: Sequence[str], number: int) -> Iterator[Ahead | None]:
    ahead = None
    if number >= FEWEST and (os.cpu_count() or 1) > 1 and sys.executable:
        with suppress(OSError):
            ahead = Ahead(work, keys)
    try:
        yield ahead
    finally:
        if ahead is not None:
            ahead.close()


def _widen(fd: int) -> None:
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _copied(work: Work, keys: Sequence[str], into: int) -> int:
    """Start the second process as a copy of this one, which is ready at once; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        # It must hold open nothing of what this process locks or waits for.
        os.dup2(into, _ANSWERS)
        os.closerange(_ANSWERS + 1, os.sysconf("SC_OPEN_MAX"))
        _answer(work, keys, _ANSWERS)
    finally:
        os._exit(0)


def _started(work: Work, keys: Sequence[str], into: int) -> int:
    """Start the second process anew, as a copy lacks the locks of other threads; return its pid."""
    import tempfile  # commands mostly have one thread only

    with tempfile.TemporaryFile() as told:
        marshal.dump((work, list(keys)), told)
        told.seek(0)
        command = [sys.executable, "-P", "-m", "syncd.ahead"]
        files = [
            (os.POSIX_SPAWN_DUP2, told.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, into, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        return os.posix_spawn(sys.executable, command, os.environ, file_actions=files)


# The second process -----------------------------------------------------------------------------


def _answer(work: Work, keys: Sequence[str], into: int) -> None:
    """Answer for these keys, in batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, and ends this one
    gc.disable()
    what, *arguments = work
    with open(into, "wb") as out, _WORKS[what](*arguments) as answers_of:
        for start in range(0, len(keys), _AT_ONCE):
            told = marshal.dumps(answers_of(keys[start : start + _AT_ONCE]), 2)
            out.write(len(told).to_bytes(_SIZE_BYTES, "little") + told)
            out.flush()


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
    _work, _keys = marshal.load(sys.stdin.buffer)
    with suppress(BrokenPipeError):
        _answer(_work, _keys, sys.stdout.fileno())
