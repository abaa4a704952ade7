"""A file read as a message: its bytes, what they say, and what the database holds of a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from syncd.core.legacy import view_beside_fields
from syncd.core.markdown import Place, parse
from syncd.core.message import fingerprints, mailbox_at
from syncd.core.reconcile import FileState, is_insert
from syncd.database.record import RecordValues, RowValues, digest_of_prints, fields_text
from syncd.errors import MessageError, SyncdError
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Version, time_ns

T = TypeVar("T")

_FIRST_SECOND = int(datetime.min.replace(tzinfo=UTC).timestamp())
_LAST_SECOND = int(datetime.max.replace(tzinfo=UTC).timestamp())


class Arrival(NamedTuple):
    """What the database is to hold of a message of which it knows nothing: row and baseline."""

    row: RowValues
    record: RecordValues

    @property
    def id(self) -> str:
        return str(self.row[0])

    @property
    def path(self) -> str:
        return str(self.record[1])

    @property
    def size(self) -> int:
        return int(self.record[2])

    @property
    def row_digest(self) -> bytes:
        return bytes(self.record[9])


class Found(NamedTuple):
    """A file as read."""

    path: str
    version: Version
    state: FileState


def place_of(path: str, project: str, written_ns: int = 0) -> Place:
    """Return what a file's surroundings say where its front matter is silent."""
    return Place(path, mailbox_at(path), project, _moment(time_ns(written_ns) // 1_000_000_000))


@lru_cache(maxsize=64)  # files often come many a second
def _moment(second: int) -> str:
    return datetime.fromtimestamp(max(_FIRST_SECOND, min(second, _LAST_SECOND)), UTC).isoformat()


def as_found(path: str, version: Version, project: str) -> Found:
    """Read a version of a file as a message; raises `MessageError` when it is none."""
    place = place_of(path, project, version.stamp.mtime_ns)
    parsed = parse(version.data, place)
    return Found(path, version, FileState(place.mailbox, *parsed))


def is_no_message(files: FileReplica, path: str) -> bool:
    """Tell whether a hidden file is an editor's or file manager's own; nothing is kept of those."""
    try:
        as_found(path, files.read(path), "")
    except MessageError:
        return True
    except (SyncdError, OSError):
        pass  # what it is cannot be said now
    return False


def each(step: Callable[..., T | None], *columns: Sequence[Any]) -> list[T | None]:
    """Return what a step makes of each row of columns; None where one is None, or it refuses.

    What many messages go through is done step by step for all of them, not message by message: a
    step's code and the branches it takes are then still in the processor's caches for the next
    message, and all takes a fifth less time. A step refuses with `MessageError`.
    """
    made: list[T | None] = []
    for row in zip(*columns, strict=True):
        try:
            made.append(None if None in row else step(*row))
        except MessageError:
            made.append(None)
    return made


def arrival_of(found: Found) -> Arrival | None:
    """Return what becomes of a new message; None where that takes more than an insert."""
    state, version = found.state, found.version
    if not is_insert(state):
        return None
    message = state.message
    prints = fingerprints(message)
    record = (
        message.id,
        found.path,
        *version.stamp,
        version.digest,
        state.status_said,
        message.status,
        fields_text(prints),
        digest_of_prints(prints),
        view_beside_fields(version.data, message, is_keyed=state.is_keyed),
    )
    return Arrival(tuple(message), record)
