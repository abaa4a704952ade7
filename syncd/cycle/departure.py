"""What becomes of a message of which only a row is known: its file, and its first baseline.

The counterpart of `syncd.cycle.found.Arrival`: most messages are new on one side and unknown on the
other, and are taken over in bulk, with nothing to reconcile.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from syncd.core.legacy import view_beside_fields
from syncd.core.markdown import laid_out, proven
from syncd.core.message import Message, file_name, fingerprints, mailbox_of
from syncd.cycle.found import each, place_of
from syncd.database.record import RecordValues, Row, digest_of_prints, fields_text
from syncd.digest import digest_of
from syncd.files.snapshot import NO_STAMP, Stamp


class Departure(NamedTuple):
    """A file that is to be written for a row, and the baseline that both then have.

    The baseline has no stamp before the file is written.
    """

    data: bytes
    record: RecordValues

    @property
    def id(self) -> str:
        return str(self.record[0])

    @property
    def path(self) -> str:
        return str(self.record[1])

    def stamped(self, stamp: Stamp) -> Departure:
        """Return it with the stamp of its file, which is written by now."""
        key, path, _, _, _, *rest = self.record
        return self._replace(record=(key, path, *stamp, *rest))


def departures_of(rows: Sequence[Row], project: str) -> list[Departure | None]:
    """Return what becomes of rows; None for one that is odd, or that no file can carry."""
    messages = each(Row.message, rows)
    texts = each(laid_out, messages)
    files = each(partial(_proven, project), messages, texts)
    return each(_departure, rows, messages, files)


def _proven(project: str, message: Message, text: str) -> tuple[str, bytes]:
    """Return path and bytes of a message's new file."""
    path = f"{mailbox_of(message.status)}/{file_name(message.id)}"
    return path, proven(text, message, place_of(path, project, 0))


def _departure(row: Row, message: Message, file: tuple[str, bytes]) -> Departure:
    path, data = file
    prints = fingerprints(message)
    known = digest_of_prints(prints) if row.values == message else row.digest
    record = (
        *(message.id, path, *NO_STAMP, digest_of(data)),
        *(message.status, message.status, fields_text(prints)),
        *(known, view_beside_fields(data, message)),
    )
    return Departure(data, record)
