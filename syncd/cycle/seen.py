"""What a large project looked like when a pass last left nothing to do.

As a file is known by its stamp, a whole project is known by the stamps of its files and of its
database: while all of them are the same, nothing was written, and there is nothing to compare.
SQLite commits into the ``-wal`` or, at a checkpoint, into the file itself, and either moves its
times. What is remembered is a cache in the user's state folder: without it, or where anything
differs, the full compare decides.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from syncd.config import Config, state_folder
from syncd.cycle.report import Report
from syncd.database.database import state_of
from syncd.database.tables import VERSION
from syncd.digest import digest_of
from syncd.errors import ReplicaError
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Scan, tick_s
from syncd.names import database_of, in_utf8

FEWEST = 1000
"""A project of fewer files is compared in some milliseconds, and nothing is kept of it."""

# RACE: a write within one tick of the file system's clock (4 ms on most systems) of our look leaves
# the times as they are. So nothing is remembered that was written less than this before the look.
_TICK_S = 0.02


class Seen:
    """What is remembered of one project, for the length of one pass."""

    def __init__(self, project: Path, config: Config) -> None:
        self._database = database_of(project)
        self._settings = repr((VERSION, tuple(config)))
        name = digest_of(os.fsencode(project)).hex()
        self._path = state_folder() / "seen" / name
        self._before = state_of(self._database)
        self._scan: Scan | None = None
        self._looked_at_ns = 0
        self._known = False

    def knows(self, scan: Scan) -> bool:
        """Tell whether nothing was written since a pass left nothing to do here."""
        self._looked_at_ns = time.time_ns()
        self._scan = scan
        with suppress(OSError, UnicodeDecodeError):
            self._known = self._path.read_text("ascii") == self._token(scan, self._before)
        return self._known

    def remember(self, report: Report) -> None:
        """Note how things look, after a pass that found nothing to do, with the database closed."""
        scan = self._scan
        if scan is None or self._known or not is_done(report):
            return
        if sum(map(len, scan.listed.values())) < FEWEST:
            return
        written_ns = max([scan.newest_ns, *(one[-1] for one in self._before if one is not None)])
        still_s = max(_TICK_S, tick_s(written_ns))  # whole seconds may be of a coarse clock
        if not 0 <= written_ns < self._looked_at_ns - still_s * 1e9:
            return
        if self._before != state_of(self._database):
            return  # the next pass will see whether this one, or somebody beside it, left anything
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(f".{os.getpid()}")
            draft.write_text(self._token(scan, self._before), "ascii")
            draft.replace(self._path)

    def _token(self, scan: Scan, database: tuple[object, ...]) -> str:
        whole = repr((scan.digest, database, self._settings, in_utf8(str(self._database))))
        return digest_of(whole.encode()).hex()


def look_of_files(project: Path) -> str | None:
    """Return a digest of how all files of a project look; None where that cannot be told now."""
    now_ns = time.time_ns()
    try:
        with FileReplica(project) as files:
            scan = files.scan()
    except ReplicaError:
        return None
    still_s = max(_TICK_S, tick_s(scan.newest_ns))
    return scan.digest if 0 <= scan.newest_ns < now_ns - still_s * 1e9 else None


def is_done(report: Report) -> bool:
    """Tell whether a pass left nothing to come back to."""
    looked_at_again = any(entry.stamp is None for entry in report.quarantined)
    trouble = report.error is not None or report.halt is not None
    left = report.unsettled or report.vanished or report.late or report.is_partial
    return not (looked_at_again or trouble or left or report.fresh)
