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
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from syncd.errors import MessageError, ReplicaError, StaleReplica
from syncd.files import FileReplica
from syncd.found import Arrival, arrival_of, as_found
from syncd.names import in_utf8

FEWEST = 2000
"""How many files are worth a second process, which takes as long to start as a tenth of them."""

_OWN_FIRST = 500
_OWN_SHARE = 4
# The first files are read here while the second process starts, and every fourth after that: then
# neither of the two waits for the other.
_AT_ONCE = 100
_LARGEST = 32 * 1024  # bytes of a file; a whole batch of them stands in memory
_PIPE_BYTES = 1024 * 1024


class Ahead:
    """What a second process reads of these paths; asked for in their order."""

    def __init__(self, project: Path, paths: Sequence[str], max_bytes: int) -> None:
        self._left = set(paths)
        self._ready: dict[str, Any] = {}
        with tempfile.TemporaryFile() as told:
            marshal.dump(list(paths), told)
            told.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "syncd.ahead", str(project), str(max_bytes)],
                stdin=told,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        assert self._process.stdout is not None
        self._answers = self._process.stdout
        _widen(self._answers.fileno())

    def has(self, path: str) -> bool:
        """Tell whether a file is to come, or has come and was not taken yet."""
        return path in self._left or path in self._ready

    def take(self, path: str) -> Arrival | None:
        """Return what a file was read as, once; None when it has to be read here."""
        while path in self._left:
            try:
                answers = marshal.load(self._answers)
            except (EOFError, ValueError, TypeError, OSError):
                self._left.clear()  # it died, or never lived
                break
            self._ready.update(answers)
            self._left.difference_update(found for found, _ in answers)
        flat = self._ready.pop(path, None)
        return Arrival(*flat) if flat is not None else None

    def close(self) -> None:
        """End the process; what it read ahead is forgotten."""
        self._process.kill()
        self._process.wait()
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


# The second process -----------------------------------------------------------------------------


def main() -> None:
    """Answer for the paths on stdin with what is new in each, in batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, and ends this one
    gc.disable()
    project, max_bytes = Path(sys.argv[1]), int(sys.argv[2])
    own = in_utf8(str(project))
    paths = marshal.load(sys.stdin.buffer)
    with FileReplica(project, max_bytes=max_bytes) as files, suppress(BrokenPipeError):
        for start in range(0, len(paths), _AT_ONCE):
            answers = [
                (path, _arrival(files, path, own)) for path in paths[start : start + _AT_ONCE]
            ]
            marshal.dump(answers, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def _arrival(files: FileReplica, path: str, project: str) -> tuple[Any, ...] | None:
    """Read a file as a new message; None for one that is left to the first process."""
    try:
        version = files.read(path)
        if path in files.fresh or len(version.data) > _LARGEST:
            return None
        arrival = arrival_of(as_found(path, version, project))
    except (MessageError, ReplicaError, StaleReplica, OSError):
        return None
    return tuple(arrival) if arrival is not None else None


if __name__ == "__main__":
    main()
