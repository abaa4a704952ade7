"""What may have changed where, and which reasons to look that gives.

A wake says *where to look*; what happens then depends only on what is there. So a wake that is
lost costs time (until the next full compare), never correctness.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from syncd.core.message import FOLDERS
from syncd.cycle.retirement import MARKER
from syncd.names import DATABASE, is_message_name, is_utf8

_WAL = f"{DATABASE}-wal"


class Kind(Enum):
    """What a wake is about."""

    CLOSED = auto()  # a file is complete: closed after writing, or moved into place
    TOUCHED = auto()  # a file is being written, or appeared: look when it is quiet
    GONE = auto()  # a path vanished: look twice
    KEPT = auto()  # a path vanished for syncd's own exchange of its file only: it is there
    BELL = auto()  # somebody is committing to the database
    DATABASE_CAME = auto()  # a database was made, or put there: more may belong to it
    RELEASED = auto()  # somebody closed the database or took its -wal away: it may have been us
    FULL = auto()  # a folder has other rights; a retirement began or ended
    FOLDER_CAME = auto()  # a folder came, of whose files no event tells
    FOLDER_GONE = auto()  # a folder went: the project may be about to go as a whole


class Wake(NamedTuple):
    """A reason to look; ``path`` counts from ``.claude-mpm`` where it concerns one file."""

    kind: Kind
    path: str = ""


WakeCallback = Callable[[Path, Wake], None]
"""Is told of each wake, with its project; may be called from any thread."""


class Happening(Enum):
    """What a system tells of a file."""

    APPEARED = auto()
    WRITTEN = auto()
    CLOSED = auto()  # after writing
    ARRIVED = auto()  # moved here
    LEFT = auto()  # deleted, or moved away
    CHANGED_RIGHTS = auto()


_OF_MESSAGES = {
    Happening.APPEARED: Kind.TOUCHED,
    Happening.WRITTEN: Kind.TOUCHED,
    Happening.CLOSED: Kind.CLOSED,
    Happening.ARRIVED: Kind.CLOSED,
    Happening.LEFT: Kind.GONE,
    Happening.CHANGED_RIGHTS: Kind.TOUCHED,
}


def wake_for(folder: str, name: str, what: Happening) -> Wake | None:
    """Return the wake for a file of that name below ``.claude-mpm``; None when it is no reason."""
    if not folder:
        return _of_database(name, what)
    if folder not in FOLDERS or not is_message_name(name):
        return None
    return Wake(_OF_MESSAGES[what], f"{folder}/{name}") if is_utf8(name) else Wake(Kind.FULL)


def _of_database(name: str, what: Happening) -> Wake | None:
    """Ring the bell for a commit, or for a database that came, went or was replaced.

    Opening and closing a database makes and removes its -wal and sets its rights: that must not be
    a reason to open it again. Where a retirement begins or ends, all is looked at.
    """
    match what:
        case Happening.CHANGED_RIGHTS:
            return None
        case Happening.CLOSED:
            return Wake(Kind.RELEASED) if name == _WAL else None
        case Happening.LEFT if name == _WAL:
            # Under an open database that is as if it were replaced: others are locked out by it.
            return Wake(Kind.RELEASED)
        case Happening.WRITTEN if name == _WAL:
            return Wake(Kind.BELL)
    if name == MARKER:
        return Wake(Kind.FULL)
    if name != DATABASE:
        return None
    came = what in (Happening.APPEARED, Happening.ARRIVED)
    return Wake(Kind.DATABASE_CAME if came else Kind.BELL)
