"""Conflicts, settled by a person: what stands, what lost, and which of them is to stand now.

What is taken is written into the row, with what it replaces in the history; the next cycle carries
it to the file. So that can itself be undone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from syncd.database.chronicle import OpenConflict
from syncd.database.store import Store
from syncd.errors import LostTransaction, MessageError, SyncdError, UsageError
from syncd.history import message_of, set_row

CURRENT = "current"

_SHORT_S, _AT_ONCE = 0.02, 50
_BEFORE_RESOLVE = "before a conflict was resolved"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A message whose conflicts are settled; ``before`` is the version kept of what it was."""

    id: str
    fields: tuple[str, ...]
    before: int | None


def standing_value(store: Store, conflict: OpenConflict) -> str | None:
    """Return a conflict's field as it stands now; raises `MessageError` when that is not known."""
    row = store.rows.of([conflict.id]).get(conflict.id)
    if row is None:
        raise MessageError(f"the row of {conflict.id!r} is gone")
    value: str | None = getattr(row.message(), conflict.field)
    return value


def lost_value(project: Path, store: Store, conflict: OpenConflict) -> str | None:
    """Return the value that lost a conflict; raises `MessageError` when that is not known."""
    kept = store.chronicle.kept(conflict.version)
    if kept is None or kept.id != conflict.id:
        raise MessageError(f"the history has no version {conflict.version} any more")
    value: str | None = getattr(message_of(kept, project), conflict.field)
    return value


def resolve_all(
    project: Path, store: Store, conflicts: Mapping[str, list[OpenConflict]], take: str
) -> tuple[list[Resolved], list[tuple[str, SyncdError]]]:
    """Settle open conflicts, by message, by taking a side's values, or what stands now.

    Returns what was settled, and what was not and why. Several messages share a transaction, as
    many as their values are found for in a moment. The caller, who holds the project's lock, then
    runs a cycle.
    """
    settled: list[Resolved] = []
    failed: list[tuple[str, SyncdError]] = []
    left = deque(conflicts.items())
    while left:
        portion: list[_Settling] = []
        ends = time.monotonic() + _SHORT_S
        while left and len(portion) < _AT_ONCE and (not portion or time.monotonic() < ends):
            key, of_one = left.popleft()
            try:
                portion.append(_Settling(key, of_one, _values_of(project, store, of_one, take)))
            except UsageError as error:
                failed.append((key, error))
        settled += _settle(store, portion, failed)
    return settled, failed


class _Settling(NamedTuple):
    """A message whose conflicts are to be settled, and the values that its row is given."""

    id: str
    conflicts: list[OpenConflict]
    values: dict[str, str | None]


def _values_of(
    project: Path, store: Store, conflicts: list[OpenConflict], take: str
) -> dict[str, str | None]:
    lost = [conflict for conflict in conflicts if take not in (CURRENT, conflict.winner)]
    try:
        return {item.field: lost_value(project, store, item) for item in lost}
    except MessageError as error:
        raise UsageError(
            f"the value that lost in {conflicts[0].id!r} cannot be taken: {error.sentence}",
            hint="Keep what stands now: --take current",
        ) from error


def _settle(
    store: Store, portion: list[_Settling], failed: list[tuple[str, SyncdError]]
) -> list[Resolved]:
    """Settle some in one transaction, or each in its own where a host's trigger undoes that."""
    now: list[Resolved] = []
    refused: list[tuple[str, SyncdError]] = []
    try:
        with store.writing():
            for one in portion:
                try:
                    with store.all_or_nothing():
                        now.append(_settle_one(store, one))
                except LostTransaction:
                    raise
                except (UsageError, MessageError) as error:
                    refused.append((one.id, error))
    except LostTransaction as error:
        if len(portion) == 1:
            failed.append((portion[0].id, error))
            return []
        return [done for one in portion for done in _settle(store, [one], failed)]
    failed += refused
    return now


def _settle_one(store: Store, one: _Settling) -> Resolved:
    before = None
    if one.values:
        row = store.rows.of([one.id]).get(one.id)
        if row is None:
            raise UsageError(
                f"{one.id!r} stands nowhere any more",
                hint="'syncd restore' brings it back; '--take current' closes the conflict.",
            )
        message = row.message()._replace(**one.values)  # type: ignore[arg-type]
        _, before = set_row(store, message, one.values, _BEFORE_RESOLVE)
    for conflict in one.conflicts:
        store.chronicle.forget_conflict(one.id, conflict.field)
    return Resolved(one.id, tuple(conflict.field for conflict in one.conflicts), before)
