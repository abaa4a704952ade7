"""Reading many files ahead in a second process, while the first one compares and writes.

To read and parse is half of the work of an import, so a second core halves the time. The process
is told the paths, and answers in their order, as far ahead as a pipe holds, what the database is
to hold of each if it knows nothing of the message. What is no plain success there (a file that is
large, cannot be read, or is just being written) is left to the first process, and so is everything
when the second cannot be had, or dies.
"""

from __future__ import annotations

import gc
import marshal
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from syncd.errors import MessageError, ReplicaError, StaleReplica
from syncd.files import FileReplica
from syncd.found import Arrival, arrival_of, as_found
from syncd.names import in_utf8

FEWEST = 2000
"""How many files are worth a second process: where it starts anew, it takes as long as a tenth."""

_OWN_FIRST = 500
_OWN_SHARE = 4
# The first files are read here while the second process starts, and every fourth after that: then
# neither of the two waits for the other.
_AT_ONCE = 100
_LARGEST = 32 * 1024  # bytes of a file; a whole batch of them stands in memory
_PIPE_BYTES = 1024 * 1024
_SIZE_BYTES = 4
_ANSWERS = 3


class Ahead:
    """What a second process reads of these paths; asked for in their order."""

    def __init__(self, project: Path, paths: Sequence[str], max_bytes: int) -> None:
        self._left = set(paths)
        self._ready: dict[str, Any] = {}
        answers, into = os.pipe()
        _widen(answers)
        self._answers = open(answers, "rb")  # noqa: SIM115
        try:
            start = _copied if threading.active_count() == 1 else _started
            self._pid = start(project, paths, max_bytes, into)
        except BaseException:
            self._answers.close()
            raise
        finally:
            os.close(into)

    def has(self, path: str) -> bool:
        """Tell whether a file is to come, or has come and was not taken yet."""
        return path in self._left or path in self._ready

    def take(self, path: str) -> Arrival | None:
        """Return what a file was read as, once; None when it has to be read here."""
        while path in self._left:
            try:
                # Not by `marshal.load`: from a pipe, it fetches each value with a call of its own.
                size = int.from_bytes(self._answers.read(_SIZE_BYTES), "little")
                answers = marshal.loads(self._answers.read(size))
            except (EOFError, ValueError, TypeError, OSError):
                self._left.clear()  # it died, or never lived
                break
            self._ready.update(answers)
            self._left.difference_update(found for found, _ in answers)
        flat = self._ready.pop(path, None)
        return Arrival(*flat) if flat is not None else None

    def close(self) -> None:
        """End the process; what it read ahead is forgotten."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._answers.close()


@contextmanager
def reading_ahead(project: Path, paths: Sequence[str], max_bytes: int) -> Iterator[Ahead | None]:
    """Have these files read ahead where there are enough of them; None where there are not."""
    ahead = None
    if len(paths) >= FEWEST and (os.cpu_count() or 1) > 1 and sys.executable:
        with suppress(OSError):
            told = [path for n, path in enumerate(paths) if n >= _OWN_FIRST and n % _OWN_SHARE]
            ahead = Ahead(project, told, max_bytes)
    try:
        yield ahead
    finally:
        if ahead is not None:
            ahead.close()


def _widen(fd: int) -> None:
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _copied(project: Path, paths: Sequence[str], max_bytes: int, into: int) -> int:
    """Start the second process as a copy of this one, which is ready at once; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        # It must hold open nothing of what this process locks or waits for.
        os.dup2(into, _ANSWERS)
        os.closerange(_ANSWERS + 1, os.sysconf("SC_OPEN_MAX"))
        _answer(project, paths, max_bytes, _ANSWERS)
    finally:
        os._exit(0)


def _started(project: Path, paths: Sequence[str], max_bytes: int, into: int) -> int:
    """Start the second process anew, as a copy lacks the locks of other threads; return its pid."""
    import tempfile  # commands mostly have one thread only

    with tempfile.TemporaryFile() as told:
        marshal.dump((str(project), list(paths), max_bytes), told)
        told.seek(0)
        command = [sys.executable, "-P", "-m", "syncd.ahead"]
        files = [
            (os.POSIX_SPAWN_DUP2, told.fileno(), 0),
            (os.POSIX_SPAWN_DUP2, into, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        return os.posix_spawn(sys.executable, command, os.environ, file_actions=files)


# The second process -----------------------------------------------------------------------------


def _answer(project: Path, paths: Sequence[str], max_bytes: int, into: int) -> None:
    """Answer for these paths with what is new in each, in batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, and ends this one
    gc.disable()
    own = in_utf8(str(project))
    with open(into, "wb") as out, FileReplica(project, max_bytes=max_bytes) as files:
        for start in range(0, len(paths), _AT_ONCE):
            read = [
                (path, arrival_at(files, path, own)) for path in paths[start : start + _AT_ONCE]
            ]
            answers = [(path, tuple(one) if one is not None else None) for path, one in read]
            told = marshal.dumps(answers, 2)
            out.write(len(told).to_bytes(_SIZE_BYTES, "little") + told)
            out.flush()


def arrival_at(files: FileReplica, path: str, project: str) -> Arrival | None:
    """Read a file as a new message; None for one that takes more than that, or some patience."""
    try:
        version = files.read(path)
        if path in files.fresh or len(version.data) > _LARGEST:
            return None
        return arrival_of(as_found(path, version, project))
    except (MessageError, ReplicaError, StaleReplica, OSError):
        return None


if __name__ == "__main__":
    _project, _paths, _max_bytes = marshal.load(sys.stdin.buffer)
    with suppress(BrokenPipeError):
        _answer(Path(_project), _paths, _max_bytes, sys.stdout.fileno())
