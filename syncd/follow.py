"""The journal as it grows, beside whoever writes it, also when the database is replaced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from syncd.core.journal import JournalEntry
from syncd.database.sqlite_errors import translated
from syncd.database.store import Store
from syncd.errors import SyncdError

POLL_S = 0.2


def follow(
    path: Path,
    *,
    message_id: str | None = None,
    since: str = "",
    on_trouble: Callable[[SyncdError], None] = lambda error: None,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[JournalEntry]:
    """Yield the journal of the database at ``path``, oldest first, and then what is added; endless.

    A database that is gone, or cannot be read for a time, is waited for; ``on_trouble`` hears why,
    once a cause. In one that took the place of another, only what is later than the last entry
    that was yielded is new. In between, ``pause`` is called, with seconds.
    """
    seen_until = ""
    told = ""
    while True:
        try:
            with Store.open_readonly(path) as store, translated(path):
                after = store.chronicle.last_entry_until(seen_until) if seen_until else 0
                for entry in _entries(store, message_id, since, after, pause):
                    told, seen_until = "", max(seen_until, str(entry.at))
                    yield entry
        except SyncdError as error:
            if error.sentence != told:
                told = error.sentence
                on_trouble(error)
        pause(POLL_S)


def _entries(
    store: Store, message_id: str | None, since: str, after: int, pause: Callable[[float], None]
) -> Iterator[JournalEntry]:
    """Yield entries for as long as this is the database that stands at its path."""
    # For tables that are missing, temporary ones stand in, which would hide those that somebody
    # creates later; so a changed schema is a reason to open anew.
    version = -1
    while store.is_current() and store.schema_version() == store.opened_schema:
        if version != (version := store.data_version()):
            for entry in store.chronicle.each_entry(
                message_id=message_id, since=since, after=after
            ):
                after = entry.seq
                yield entry
        pause(POLL_S)
