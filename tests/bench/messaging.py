"""``messaging``: the API over SQLite against the same operations over the old client's files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from syncd import MessageService
from tests.bench.corpus import INBOX, letters, write
from tests.bench.figures import Result, Samples, require
from tests.bench.floors import connect
from tests.bench.workshop import Workshop, count_files, count_rows, database_of, insert
from tests.clients import OldClient, parse_legacy, row_of

Act = Callable[[str], object]


def messaging(workshop: Workshop) -> Iterator[Result]:
    """Measure sends, reads and lists a second with inboxes of two sizes."""
    for size in workshop.scale.inboxes:
        old, new = workshop.fresh("talk-old"), workshop.fresh("talk-new")
        here = [
            replace(letter, message=replace(letter.message, status="unread"))
            for letter in letters(old, size, folders=(INBOX,))
        ]
        write(old / ".claude-mpm", here)
        with closing(connect(str(database_of(new)))) as connection:
            insert(connection, [row_of(letter.message) for letter in here])
        yield from _compared(workshop, old, new, [letter.message.id for letter in here])


def _compared(workshop: Workshop, old: Path, new: Path, keys: list[str]) -> Iterator[Result]:
    body = "Please look at it before tomorrow.\n\n" * 8
    to_old, to_new = workshop.fresh("talk-old-to"), workshop.fresh("talk-new-to")
    client = OldClient(old)
    with MessageService(new, registry_path=workshop.folder / "registry.db") as service:
        database = service.messaging_db

        def all_unread() -> None:
            with database.get_connection() as connection:
                connection.execute("UPDATE messages SET status = 'unread', read_at = NULL")

        operations: dict[str, tuple[Act, Act]] = {
            "lists of the inbox": (lambda _: service.list_messages(), lambda _: client.list()),
            "lists of 50 unread": (
                lambda _: database.list_messages("unread", 50),
                lambda _: [one for one in client.list() if one.status == "unread"][:50],
            ),
            "gets of one message": (
                database.get_message,
                lambda key: parse_legacy((client.inbox / f"{key}.md").read_bytes()),
            ),
            "reads that mark one as read": (service.read_message, client.read),
            "sends": (
                lambda _: service.send_message(to_new, "pm", "task", "Hello", body),
                lambda _: client.send(to_old, "Hello", body),
            ),
        }
        for name, (ours, theirs) in operations.items():
            # What is read already is not marked again: each slice starts with unread ones.
            before = all_unread if "mark" in name else lambda: None
            what = f"{name} a second, {len(keys):,} in the inbox"
            yield _result(workshop, what, keys, ours, theirs, before)
    sent = count_rows(database_of(to_new)), count_files(to_old)
    require(all(sent), "Messages that were sent did not arrive.")


def _result(
    workshop: Workshop,
    what: str,
    keys: list[str],
    ours: Act,
    theirs: Act,
    before: Callable[[], None],
) -> Result:
    """Compare by turns, a slice of the time each: both feel the same weather."""
    speeds: dict[str, list[float]] = {"ours": [], "floor": []}
    did = {"ours": 0, "floor": 0}
    for _ in range(workshop.scale.repeat):
        for name, act in (("floor", theirs), ("ours", ours)):
            before()
            number, seconds = _as_often_as_fits(act, keys, workshop.scale.budget_s / 5)
            speeds[name].append(number / seconds)
            did[name] += number
    return Result(
        name="messaging",
        what=what,
        ours=Samples.of(speeds["ours"], "/s"),
        floor=Samples.of(speeds["floor"], "/s"),
        floor_is="the old client over its files, which it does not sync to the disk",
        did=did,
        more_is_better=True,
    )


def _as_often_as_fits(act: Act, keys: list[str], budget_s: float) -> tuple[int, float]:
    """Act on one message after the other, each once, for as long as there is time."""
    started = time.perf_counter()
    number, seconds = 0, 0.0
    for key in keys:
        act(key)
        number += 1
        seconds = time.perf_counter() - started
        if seconds >= budget_s:
            break
    return number, seconds
