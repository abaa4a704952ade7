"""PURE: the two sides of a message, and what can be known of one.

These few are apart from `reconcile` because settings and records need them where nothing is
reconciled: a command that only looks does not pay for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncd.core.message import Fingerprints, Mailbox


class Side(StrEnum):
    """A replica, by what it is made of."""

    FILE = "file"
    DB = "db"

    @property
    def other(self) -> Side:
        return Side.DB if self is Side.FILE else Side.FILE


@dataclass(frozen=True, slots=True)
class Baseline:
    """The last state of a message on which both sides agreed.

    ``status_said`` is the front matter's word then, ``status`` the agreed one, ``fields`` one
    fingerprint a field.
    """

    mailbox: Mailbox
    status_said: str | None
    status: str
    fields: Fingerprints


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A side that cannot be understood; ``line`` counts from 1 where one can be named.

    ``in_bytes`` is False where the cause lies around the file, and can go without a change to it.
    """

    reason: str
    line: int | None = None
    hint: str = ""
    in_bytes: bool = field(default=True, compare=False)
