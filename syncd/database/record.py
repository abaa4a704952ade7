"""A message's baseline, with the file and row that it was agreed on, as the database holds it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from syncd.core.message import (
    FIELDS,
    Fingerprints,
    Message,
    fingerprints,
    mailbox_at,
    message_from_row,
)
from syncd.core.sides import Baseline
from syncd.digest import digest_of_values
from syncd.errors import DamagedBaseline, MessageError
from syncd.files.snapshot import Stamp

_STATUS = FIELDS.index("status")

RowValues = tuple[Any, ...]
"""A row as it stands: ``id`` and then the columns of `FIELDS`."""


class Row(NamedTuple):
    """A row as read, with what a compare-and-set needs to recognise it."""

    values: RowValues
    read_at: str | None = None
    is_one_of_many: bool = False
    """Whether there are more rows of this id: no host's key forbids it any more."""

    @property
    def digest(self) -> bytes:
        return row_digest(self.values)

    def message(self) -> Message:
        """Return the message that it holds; raises `MessageError` where that cannot be said."""
        if self.is_one_of_many:
            raise MessageError(
                "several rows have this id", hint="Delete all but one, or give them other ids."
            )
        return message_from_row(self.values)

    def is_readable(self) -> bool:
        """Tell whether it can be understood as a message."""
        try:
            self.message()
        except MessageError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Record:
    """A message's baseline with the file and the row that it was agreed on.

    ``view`` is a digest of what the old client sees in the file, status aside; it is empty where
    the fields' fingerprints tell as much.
    """

    id: str
    path: str
    stamp: Stamp
    digest: bytes
    baseline: Baseline
    row_digest: bytes
    view: bytes

    @property
    def seen(self) -> bytes:
        """A digest of what the old client sees in the file, status aside."""
        return self.view or sight_of(self.baseline.fields)


def sight_of(fields: Fingerprints) -> bytes:
    """Return the digest of what the fingerprints of a message's fields tell, status aside."""
    return digest_of_values(but_status(fields))


def but_status(fields: Fingerprints) -> Fingerprints:
    """Return the fingerprints of all fields but the status."""
    return fields[:_STATUS] + fields[_STATUS + 1 :]


RECORD_COLUMNS = (
    *("id", "path", "size", "mtime_ns", "inode", "digest", "status_said", "status", "fields"),
    *("row_digest", "view"),
)
RecordValues = tuple[Any, ...]
"""A record as the database holds it, in the order of `RECORD_COLUMNS`."""


def row_digest(values: RowValues) -> bytes:
    """Return the digest by which the baseline knows a row as spelled."""
    try:
        return digest_of_prints(fingerprints(values))
    except (TypeError, AttributeError):  # a BLOB or a number, where a host put one
        return digest_of_values(values)


def digest_of_prints(prints: Fingerprints) -> bytes:
    """Return the digest of a row whose values have these fingerprints (`row_digest`)."""
    return digest_of_values(prints)


def record_values(record: Record) -> RecordValues:
    """Return a record as the database holds it."""
    baseline = record.baseline
    return (
        *(record.id, record.path, *record.stamp, record.digest),
        *(baseline.status_said, baseline.status, fields_text(baseline.fields)),
        *(record.row_digest, record.view),
    )


def fields_text(fields: Fingerprints) -> str:
    """Return the fingerprints of a message's fields as the database holds them."""
    # As `json.dumps` prints them, in half of its time.
    items = ["null" if value is None else encode_basestring_ascii(value) for value in fields]
    return f"[{', '.join(items)}]"


def record_from(values: Sequence[Any]) -> Record:
    """Return the record that the database holds as these values; raises `DamagedBaseline`."""
    key, path, size, mtime_ns, inode, digest, status_said, status, fields, known, view = values
    try:
        agreed = tuple(json.loads(fields))
        baseline = Baseline(mailbox_at(path), status_said, status, agreed)
        if len(agreed) != len(FIELDS) or not isinstance(status, str):
            raise ValueError
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedBaseline(
            f"the baseline of {key!r} makes no sense: somebody else wrote there"
        ) from error
    return Record(key, path, Stamp(size, mtime_ns, inode), digest, baseline, known, view)
