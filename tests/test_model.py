"""Random work on both sides beside a model that knows every text that ever stood there.

Old clients, people with editors, and SQL clients act at random; cycles, full and scoped, run
between. At each quiet point both sides are equal, every text that stood on a side at a cycle is
live or in the history (G2), and a further cycle writes nothing (G10). ``SYNCD_MODEL_SEEDS`` sets
the number of seeds; ``pytest -k 'seed 17'`` replays one.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from syncd.core.markdown import Place, parse
from syncd.core.message import (
    FOLDERS,
    TEXT_FIELDS,
    Message,
    mailbox_at,
    message_from_row,
)
from syncd.cycle.report import Report
from syncd.errors import MessageError
from tests.clients import (
    ATTACHMENTS,
    PARAGRAPHS,
    WORDS,
    LegacyMessage,
    NewClient,
    OldClient,
    parse_legacy,
    random_message,
    render_legacy,
)
from tests.projects import Project, nothing_written
from tests.strategies import TRICKY

SEEDS = int(os.environ.get("SYNCD_MODEL_SEEDS", "12"))
INTERVALS = 21
"""How many times some work and then a cycle or two are done, for each seed."""

Text = tuple[str, str | None]
"""Field and value of a text that stood on a side; an id may change, and the text goes with it."""

UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError)
"""What the old client may raise for a file that a person wrote."""


class World:
    """One project, those who work on it, and the model of all that ever stood there.

    ``touched`` are the paths that changed since they were last looked at, ``unseen`` those whose
    events were lost, so that only a full cycle looks at them. ``may_remove`` tells whether a
    message may still be removed without alarming the guard.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.project = Project(path)
        self.touched: set[str] = set()
        self.unseen: set[str] = set()
        self.may_remove = True
        self.known: set[Text] = set()
        self.in_memory: list[tuple[str, LegacyMessage]] = []
        self.torn: dict[str, bytes] = {}
        self.done: list[str] = []
        self.clock = datetime(2026, 2, 20, tzinfo=UTC)

    # Choosing

    def words(self) -> str:
        return " ".join(self.rng.choices(WORDS, k=self.rng.randint(1, 5)))

    def any_text(self) -> str:
        """Return a text as odd as the database can hold it."""
        parts = self.rng.choices((*TRICKY, *PARAGRAPHS, *WORDS, "\n"), k=self.rng.randint(0, 4))
        return "".join(parts)

    def paths(self, *folders: str) -> list[str]:
        return [
            f"{folder}/{name}"
            for folder in (folders or FOLDERS)
            for name in self.project.names(folder)
        ]

    def a_path(self, *folders: str) -> str | None:
        paths = self.paths(*folders)
        return self.rng.choice(paths) if paths else None

    def an_id(self) -> str | None:
        ids = sorted(self.project.rows())
        return self.rng.choice(ids) if ids else None

    def new_message(self) -> LegacyMessage:
        self.clock += timedelta(seconds=1)
        number = f"{self.rng.getrandbits(32):08x}"
        return replace(
            random_message(self.rng),
            id=f"msg-{self.clock:%Y%m%d-%H%M%S}-{number}",
            created_at=self.clock,
            from_project=str(self.project.other),
            to_project=str(self.project.path),
        )

    def removal(self) -> bool:
        """Tell whether a message may be removed now, and use that up."""
        allowed, self.may_remove = self.may_remove, False
        return allowed

    # Old clients

    def old_receives(self) -> None:
        message = self.new_message()
        path = f"inbox/{message.id}.md"
        self.save(path, render_legacy(message).encode())

    def old_sends(self) -> None:
        message = replace(self.new_message(), status="sent")
        message = replace(message, from_project=message.to_project, to_project=message.from_project)
        self.save(f"outbox/{message.id}.md", render_legacy(message).encode())

    def old_sends_to_itself(self) -> None:
        message = replace(self.new_message(), from_project=str(self.project.path))
        self.save(
            f"outbox/{message.id}.md", render_legacy(replace(message, status="sent")).encode()
        )
        self.save(f"inbox/{message.id}.md", render_legacy(message).encode())

    def old_reads(self) -> None:
        path = self.a_path("inbox")
        message = self.seen_by_the_old_client(path)
        if path is not None and message is not None:
            self.save(path, render_legacy(replace(message, status="read")).encode())

    def old_archives(self) -> None:
        path = self.a_path("inbox")
        if path is not None:
            self.rename(path, f"inbox/.archive/{path.rpartition('/')[2]}")

    def old_remembers(self) -> None:
        path = self.a_path("inbox")
        message = self.seen_by_the_old_client(path)
        if path is not None and message is not None:
            self.in_memory.append((path, message))

    def old_writes_back_what_it_remembers(self) -> None:
        if self.in_memory:
            path, message = self.in_memory.pop(0)
            if self.project.file(path).exists() and path not in self.torn:
                self.save(path, render_legacy(replace(message, status="read")).encode())

    def old_is_cut_off(self) -> None:
        path = self.a_path("inbox")
        if path is not None and path not in self.torn:
            data = self.project.file(path).read_bytes()
            self.torn[path] = data
            self.save(path, data[: self.rng.choice((0, 0, 3, 20))])

    def old_writes_the_rest(self) -> None:
        if self.torn:
            path, data = self.torn.popitem()
            if self.project.file(path).exists():
                self.save(path, data)

    def seen_by_the_old_client(self, path: str | None) -> LegacyMessage | None:
        if path is None:
            return None
        try:
            return parse_legacy(self.project.file(path).read_bytes())
        except UNREADABLE:
            return None

    # People

    def person_writes_a_note(self) -> None:
        name = f"note {self.rng.getrandbits(16)}"
        head = f"from_agent: pm  # {self.words()!r}\nto_agent: qa\npriority: high\n"
        if self.rng.random() < 0.5:
            head += "created_at: 2026-02-20T20:15:00Z\n"
        if self.rng.random() < 0.5:
            head = f"id: {name.replace(' ', '-')}\nowner: me\n{head}"
        self.save(f"inbox/{name}.md", f"---\n{head}---\n\n# {name}\n\n{self.words()}\n".encode())

    def person_adds_a_paragraph(self) -> None:
        addition = f"\n\n{self.rng.choice(PARAGRAPHS)}\n\n{self.words()}\n"
        self.edit(lambda text: text + addition)

    def person_changes_the_heading(self) -> None:
        heading = f"# {self.words()}".replace("\\", "/")
        self.edit(lambda text: re.sub(r"(?m)^# .*$", heading, text, count=1))

    def person_changes_a_key(self) -> None:
        key = self.rng.choice(("priority", "to_agent", "type", "status"))
        value = self.rng.choice(("read", "waiting", "'no'", "low   # soon", "qa", "archived"))
        self.edit(lambda text: re.sub(rf"(?m)^{key}: .*$", f"{key}: {value}", text, count=1))

    def person_adds_metadata(self) -> None:
        if self.rng.random() < 0.5:
            added = f"metadata: {{n: {self.rng.randint(0, 9)}}}\n"
        else:
            added = f"metadata:\n  due: 2026-03-01\n  n: {self.rng.randint(0, 9)}  # why\n"
        self.edit(lambda text: text.replace("---\n", f"---\n{added}", 1))

    def person_adds_a_comment(self) -> None:
        self.edit(lambda text: text.replace("---\n", "---\n# a comment\n", 1))

    def person_changes_line_ends(self) -> None:
        self.edit(lambda text: text.replace("\r\n", "\n").replace("\n", "\r\n"))

    def person_adds_a_mark(self) -> None:
        self.edit(lambda text: "\ufeff" + text.removeprefix("\ufeff") + "\n\n")

    def person_renames(self) -> None:
        path = self.a_path()
        if path is not None:
            folder = path.rpartition("/")[0]
            self.rename(path, f"{folder}/renamed {self.rng.getrandbits(16)}.md")

    def person_moves(self) -> None:
        path = self.a_path("inbox", "inbox/.archive", "archive")
        if path is not None:
            folder = self.rng.choice(("inbox", "inbox/.archive", "archive"))
            self.rename(path, f"{folder}/{path.rpartition('/')[2]}")

    def person_swaps_names(self) -> None:
        paths = [path for path in self.paths("inbox") if path not in self.torn]
        if len(paths) > 1:
            one, other = self.rng.sample(paths, 2)
            if all(b"\nid: " in self.project.file(path).read_bytes() for path in (one, other)):
                aside = "inbox/aside"
                self.project.move(one, aside)
                self.project.move(other, one)
                self.project.move(aside, other)
                self.touched |= {one, other}

    def person_copies(self) -> None:
        path = self.a_path("inbox")
        if path is not None and path not in self.torn:
            copy = f"inbox/copy {self.rng.getrandbits(16)}.md"
            shutil.copy2(self.project.file(path), self.project.file(copy))
            if self.rng.random() < 0.6:
                text = self.project.text(copy)
                text = re.sub(r"(?m)^id: .*$", f"id: copy-{self.rng.getrandbits(16)}", text)
                self.project.write(copy, text)
            self.touched.add(copy)

    def person_changes_an_id(self) -> None:
        if self.removal():
            new = f"id: changed-{self.rng.getrandbits(16)}"
            self.edit(lambda text: re.sub(r"(?m)^id: .*$", new, text, count=1))

    def person_deletes(self) -> None:
        path = self.a_path()
        if path is not None and self.removal():
            self.project.file(path).unlink()
            self.torn.pop(path, None)
            self.touched.add(path)

    def person_deletes_and_makes_again(self) -> None:
        path = self.a_path()
        if path is not None:
            data = self.project.file(path).read_bytes()
            self.project.file(path).unlink()
            self.save(path, data)

    def edit(self, change: Callable[[str], str]) -> None:
        """Change a file's text as an editor does, in place or by a rename."""
        path = self.a_path()
        if path is None or path in self.torn:
            return
        try:
            text = change(self.project.text(path))
        except UnicodeDecodeError:
            return
        if self.rng.random() < 0.5:
            self.save(path, text.encode())
        else:
            self.project.write(f"{path}~", text)
            self.project.move(f"{path}~", path)
            self.touched.add(path)

    # SQL clients

    def sql_receives(self) -> None:
        message = self.new_message()
        NewClient(self.project.other).send(
            self.project.path,
            self.any_text(),
            self.any_text(),
            id=message.id,
            created_at=message.created_at,
            metadata=message.metadata,
            attachments=self.rng.choice(([], list(ATTACHMENTS[:2]), ["- `odd`", "a\nb"])),
        )

    def sql_sends(self) -> None:
        message = self.new_message()
        self.project.new.send(
            self.rng.choice((self.project.other, self.project.path)),
            self.any_text(),
            self.any_text(),
            id=message.id,
            created_at=message.created_at,
        )

    def sql_updates(self) -> None:
        key = self.an_id()
        if key is None:
            return
        columns: dict[str, Callable[[], object]] = {
            "subject": self.any_text,
            "body": self.any_text,
            "metadata": lambda: json.dumps({self.words(): self.any_text(), "n": [1, {}]}),
            "attachments": lambda: json.dumps([self.any_text() for _ in range(2)]),
            "priority": self.words,
            "to_agent": self.any_text,
            "replied_to": lambda: self.rng.choice((None, "msg-0", "")),
            "created_at": lambda: self.clock.isoformat(),
        }
        chosen = self.rng.sample(sorted(columns), self.rng.randint(1, 3))
        self.project.new.update(key, **{column: columns[column]() for column in chosen})

    def sql_sets_the_status(self) -> None:
        key = self.an_id()
        if key is not None:
            words = ("unread", "read", "waiting", "archived", "archived")
            self.project.new.update(key, status=self.rng.choice(words))

    def sql_reads(self) -> None:
        key = self.an_id()
        if key is not None:
            self.project.new.read(key)

    def sql_replaces(self) -> None:
        key = self.an_id()
        if key is not None:
            row = self.project.row(key) | {"subject": self.words(), "body": self.any_text()}
            self.project.new.replace(row)

    def sql_deletes(self) -> None:
        key = self.an_id()
        if key is not None and self.removal():
            self.project.new.delete(key)

    def sql_changes_an_id(self) -> None:
        key = self.an_id()
        if key is not None and self.removal():
            self.project.new.update(key, id=f"sql/{self.rng.getrandbits(16)}")

    # Files

    def save(self, path: str, data: bytes) -> None:
        self.project.write(path, data)
        self.touched.add(path)

    def rename(self, path: str, to: str) -> None:
        """Rename a file, never over another one."""
        if path != to and not self.project.file(to).exists() and path not in self.torn:
            self.project.move(path, to)
            self.touched |= {path, to}

    # Cycles, and what the model learns from them

    def work(self) -> None:
        """Do something at random; arrivals are as frequent as all kinds of removals together."""
        arrivals = (self.old_receives, self.sql_receives)
        act = (
            self.rng.choice(ACTS)
            if self.rng.random() < 0.85
            else self.rng.choice(arrivals).__func__
        )
        self.done.append(act.__name__)
        act(self)

    def cycle(self) -> None:
        """Run a cycle: full, over what was touched, in two parts as wakes come, or half blind."""
        kind = self.rng.choice(("full", "scoped", "scoped", "in two parts", "events lost"))
        self.done.append(f"--- {kind}")
        before = self.texts_in_files()
        touched = sorted(self.touched)
        self.rng.shuffle(touched)
        cut = self.rng.randint(0, len(touched)) if kind in ("in two parts", "events lost") else 0
        if kind == "full":
            self.unseen.clear()
            report = self.check(self.project.cycle())
        else:
            if kind == "events lost":
                self.unseen |= set(touched[:cut])
            elif cut:
                self.check(self.project.heed(*touched[:cut]))
            self.unseen -= set(touched[cut:])
            report = self.check(self.project.heed(*touched[cut:]))
        self.learn(before, report)
        self.touched.clear()
        self.may_remove = not self.unseen

    def check(self, report: Report) -> Report:
        assert (None, None) == (report.error, report.halt), self.done
        return report

    def learn(self, before: dict[str, Message], report: Report) -> None:
        """Note the texts that stood in files and rows at this cycle, quarantined ones left out."""
        apart = {entry.path for entry in report.quarantined} | self.twins() | self.unseen
        for path, message in (*before.items(), *self.texts_in_files().items()):
            if path not in apart:
                self.known |= texts_of(message)
        for message in self.project.messages_in_rows().values():
            self.known |= texts_of(message)

    def texts_in_files(self) -> dict[str, Message]:
        found = {}
        for path in self.paths():
            try:
                found[path] = self.project.message_at(path)
            except MessageError:
                continue
        return found

    def twins(self) -> set[str]:
        sql = "SELECT path FROM syncd_twins WHERE path NOT IN (SELECT path FROM syncd_baseline)"
        return {path for (path,) in self.project.sql(sql)}

    def perhaps_at(self, paths: set[str]) -> set[str]:
        """Return the ids of messages that may stand in files that cannot be read.

        Their own file was at one of these paths, or one of these has its inode or its name now.
        """
        inodes = {self.project.file(path).stat().st_ino for path in paths}
        names = {path.rpartition("/")[2] for path in paths}
        known = self.project.sql("SELECT id, path, inode FROM syncd_baseline")
        return {
            key
            for key, path, inode in known
            if path in paths or inode in inodes or path.rpartition("/")[2] in names
        }

    def history(self) -> set[Text]:
        """Return every text in the history, of files as well as of rows."""
        found: set[Text] = set()
        columns = (
            "id, from_project, from_agent, to_project, to_agent, message_type, priority, subject, "
            "body, status, created_at, replied_to, metadata, attachments"
        )
        with closing(sqlite3.connect(self.project.new.database)) as connection:
            rows = connection.execute(f"SELECT path, data, {columns} FROM syncd_history")
            for path, data, *row in rows:
                if data is None:
                    found |= texts_of(message_from_row(row))
                    continue
                place = Place(path, mailbox_at(path), str(self.project.path), "2026-01-01T00:00:00")
                try:
                    found |= texts_of(parse(data, place).message)
                except MessageError:
                    continue
        return found

    def assert_quiet(self) -> None:
        """Check all that has to hold after a full cycle, and that this is the end of it."""
        while self.torn and self.rng.random() < 0.7:
            self.old_writes_the_rest()
        before = self.texts_in_files()
        self.unseen.clear()
        report = self.check(self.project.cycle())
        self.learn(before, report)
        self.touched.clear()
        apart = {entry.path for entry in report.quarantined}
        aside = {entry.id for entry in report.quarantined} | self.perhaps_at(apart)
        twins = self.twins()
        files = {
            path: message
            for path, message in self.texts_in_files().items()
            if path not in apart and path not in twins
        }
        rows = self.project.messages_in_rows()
        twice = [key for key, n in Counter(m.id for m in files.values()).items() if n > 1]
        assert [] == twice, self.done
        by_id = {message.id: message for message in files.values()}
        for key in sorted((rows.keys() | by_id.keys()) - aside):
            assert self.dated(rows.get(key)) == self.dated(by_id.get(key)), self.done
        live = {text for message in (*rows.values(), *by_id.values()) for text in texts_of(message)}
        assert set() == self.known - live - self.history(), self.done
        with nothing_written(self.project):
            again = self.check(self.project.cycle())
            assert 0 == again.counts.changes(), (again.counts, self.done)
            again = self.check(self.project.heed(*self.paths()))
            assert 0 == again.counts.changes(), (again.counts, self.done)

    def dated(self, message: Message | None) -> Message | None:
        """Return a message without the date that a file may leave to its mtime."""
        return message._replace(created_at="") if message is not None else None


def texts_of(message: Message) -> set[Text]:
    return {(name, getattr(message, name)) for name in TEXT_FIELDS}


ACTS = [act for name, act in vars(World).items() if name.startswith(("old_", "person_", "sql_"))]


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed {seed}")
def test_g2_g10_random_work_on_both_sides_ends_in_step_with_nothing_lost(
    tmp_path: Path, seed: int
) -> None:
    world = World(tmp_path / "p", seed)
    for _ in range(4):
        world.old_receives()
        world.sql_receives()
    for interval in range(INTERVALS):
        for _ in range(world.rng.choice((1, 1, 2, 4, 8))):
            world.work()
        world.cycle()
        if interval % 7 == 6:
            world.assert_quiet()
    OldClient(world.project.path).list()
    world.project.new.list()
