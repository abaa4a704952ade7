"""Reading files as messages, patiently: a writer may not be done yet."""

from __future__ import annotations

import time

from syncd.core.sides import Quarantined
from syncd.cycle.found import Found, as_found
from syncd.errors import MessageError, StaleReplica
from syncd.files.replica import FileReplica
from syncd.files.snapshot import COARSE_TICK_S, TICK_S, Stamp, Version

KEPT_AT_ONCE = 250
_LARGEST_KEPT = 64 * 1024


class Reader:
    """Reads the files of one cycle.

    A file that does not parse, or that somebody writes to, is read again while it is younger than
    ``retry_s``: here and now with ``wait``, else its path goes into ``unsettled``. ``project`` is
    the project's own path.
    """

    def __init__(
        self, files: FileReplica, project: str, unsettled: set[str], *, retry_s: float, wait: bool
    ) -> None:
        self._files = files
        self._project = project
        self._unsettled = unsettled
        self._retry_s = retry_s
        self._wait = wait
        self._kept: dict[str, Found | Quarantined | None] = {}
        self._coarse_until: float | None = None

    def read(self, path: str, *, keep: bool = False) -> Found | Quarantined | None:
        """Read a file as a message; None when it is gone or its writer is not done yet.

        With ``keep`` the next call gives the same answer, without reading again.
        """
        if path in self._kept:
            return self._kept[path] if keep else self._kept.pop(path)
        read = self._read_now(path)
        size = len(read.version.data) if isinstance(read, Found) else 0
        if keep and len(self._kept) < KEPT_AT_ONCE and size < _LARGEST_KEPT:
            self._kept[path] = read
        return read

    def _read_now(self, path: str) -> Found | Quarantined | None:
        """Read a file that does not parse, or that somebody writes to, again while it is young."""
        deadline = time.monotonic() + self._retry_s
        while True:
            problem: Quarantined | None = None
            try:
                version = self._read_settled(path)
                return as_found(path, version, self._project)
            except FileNotFoundError:
                return None
            except StaleReplica:
                pass
            except MessageError as error:
                problem = problem_of(error)
                if not self._is_young(path):
                    return problem
            if not self._wait or time.monotonic() >= deadline:
                self._unsettled.add(path)
                return None
            time.sleep(0.02)

    def _read_settled(self, path: str) -> Version:
        """Read a file, with ``wait`` so long after its last change that a later one will show."""
        version = self._files.read(path)
        while self._wait and path in self._files.fresh:
            time.sleep(TICK_S)
            self._files.fresh.discard(path)
            version = self._files.read(path)
            # Of all files together: some may have a time that is yet to come.
            if self._coarse_until is None:
                self._coarse_until = time.monotonic() + COARSE_TICK_S
            if time.monotonic() > self._coarse_until:
                break
        return version

    def _is_young(self, path: str) -> bool:
        """Tell whether a file was written so lately that its writer may not be done."""
        stamp = self._files.look(path)
        if not isinstance(stamp, Stamp):
            return False
        return 0 <= time.time() - stamp.mtime_ns / 1e9 < self._retry_s


def problem_of(error: MessageError) -> Quarantined:
    """Return why a file is set aside, always with a way out."""
    hint = error.hint or "Mend it in an editor; syncd looks at it again by itself."
    return Quarantined(error.sentence, error.line, hint, error.in_bytes)
