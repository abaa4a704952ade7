"""A file read as a message: its bytes, what they say, and the marks that a baseline keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from syncd.files import Version
from syncd.markdown import Place, legacy_view, parse
from syncd.message import Fingerprints, Message, fingerprints, mailbox_at
from syncd.reconcile import FileState

_FIRST_SECOND = int(datetime.min.replace(tzinfo=UTC).timestamp())
_LAST_SECOND = int(datetime.max.replace(tzinfo=UTC).timestamp())

Marks = tuple[Fingerprints, bytes]
"""The fingerprints of a message's fields, and the digest of what the old client sees of it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file as read; ``marks`` are those of its message, where they are known already."""

    path: str
    version: Version
    state: FileState
    marks: Marks | None = None


def place_of(path: str, project: str, written_ns: int) -> Place:
    """Return what a file's surroundings say where its front matter is silent."""
    seconds = max(_FIRST_SECOND, min(written_ns // 1_000_000_000, _LAST_SECOND))
    moment = datetime.fromtimestamp(seconds, UTC)
    return Place(path, mailbox_at(path), project, moment.isoformat())


def as_found(path: str, version: Version, project: str) -> Found:
    """Read a version of a file as a message; raises `MessageError` when it is none."""
    place = place_of(path, project, version.stamp.mtime_ns)
    parsed = parse(version.data, place)
    return Found(
        path,
        version,
        FileState(place.mailbox, parsed.message, parsed.said, parsed.status_said),
    )


def marks_of(message: Message) -> Marks:
    """Return the marks that a baseline keeps of a message."""
    return fingerprints(message), legacy_view(message)
