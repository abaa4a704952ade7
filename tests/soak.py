"""A soak: people, old clients, SQL clients, other tools and misfortune around a real agent.

`scripts/soak [MINUTES] [--seed N]` runs it. Everything that is done comes from the seed, operation
by operation; only the agent's own timing is not repeatable. In rounds, some dozen operations are
followed by a quiet point, at which the model asks:

- convergence: both sides hold the same messages, no stray is left, and nothing is quarantined but
  what has to be;
- G2: every text that stood at an earlier quiet point, everything that SQL ever wrote, and the last
  text that anybody left in a file is in a file, in a row, or in the history;
- G4, G8: a field that one side alone wrote has that value on both sides, also beside an old
  client's stale rewrite;
- G13: a message that nobody touched has the same bytes at the same path, and the same row;
- G10: nothing is written any more, on either side;
- G9: no SQL client, each with a timeout of 1 s, ever had an error;
- the database is sound;
- the agent lives, and logged neither an error nor a defect that was not brought about.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from syncd.core.markdown import Place, parse
from syncd.core.message import FOLDERS, Message, mailbox_at
from syncd.errors import MessageError
from tests.clients import SCHEMA, NewClient, OldClient, parse_legacy, render_legacy
from tests.on_disk import project, rebuild, rows_of
from tests.running import RunningAgent

TOKEN = re.compile(r"T\d{6}")
FIELDS = ("subject", "body", "metadata", "attachments")
CALM_S = 0.3
"""How long nothing may be written before a point counts as quiet."""

SETTLE_S = 20.0
FEWEST, MOST = 24, 60
_OUR_TRIGGERS = "FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'syncd%'"
UNREADABLE = (OSError, ValueError, TypeError, KeyError, yaml.YAMLError)

Operation = Callable[["Soak", random.Random], str]
OPERATIONS: list[tuple[int, str, Operation]] = []


class Failure(AssertionError):
    """Something that must hold does not."""


def operation(weight: int) -> Callable[[Operation], Operation]:
    """Make a method one of the things that happen, with the weight of its chance."""

    def register(method: Operation) -> Operation:
        OPERATIONS.append((weight, method.__name__.replace("_", " "), method))
        return method

    return register


def tokens_in(text: str | None) -> set[str]:
    return set(TOKEN.findall(text or ""))


@dataclass(slots=True)
class Known:
    """A message as it stood at the last quiet point."""

    path: str
    data: bytes
    row: dict[str, Any]


@dataclass(slots=True)
class Round:
    """What was done since the last quiet point.

    ``deeds`` has what was done to a message, ``writes`` the values of its fields by side and
    ``in_file`` the texts that the last writer left in its file.
    """

    deeds: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    writes: dict[tuple[str, str], list[tuple[str, str]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    in_file: dict[str, set[str]] = field(default_factory=dict)
    file_deletes: int = 0
    row_deletes: int = 0


class Soak:
    """One project under a running agent, its neighbours, and what is known of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.here = project(folder / "here")
        self.there = project(folder / "there")
        self.base = self.here / ".claude-mpm"
        self.inbox, self.outbox = self.base / "inbox", self.base / "outbox"
        self.archive = self.inbox / ".archive"
        self.old, self.new = OldClient(self.here), NewClient(self.here)
        self.agent: RunningAgent | None = None
        self.known: dict[str, Known] = {}
        self.kept: set[str] = set()
        self.round = Round()
        self.done: deque[str] = deque(maxlen=60)
        self.later: list[tuple[int, str, Callable[[], str]]] = []
        self.numbers = itertools.count(1)
        self.step = self.rounds = self.kills = self.halts = 0
        self.log_read = 0
        self.began = time.monotonic()

    # The agent

    def start(self) -> None:
        self.agent = RunningAgent(
            self.folder / "home", self.here, gone_s=0.15, retry_s=0.15, history_days=30
        )
        self.log_read = 0
        self.agent.__enter__()

    def stop(self, how: signal.Signals) -> None:
        assert self.agent is not None
        self.read_log()
        self.agent.stop(how)
        self.agent = None

    def read_log(self, *, announced: str = "") -> None:
        """Look through what the agent logged since the last time."""
        assert self.agent is not None
        lines = self.agent.lines[self.log_read :]
        self.log_read += len(lines)
        for number, line in enumerate(lines):
            wrong = " ERROR " in line or "Traceback" in line or "Exception" in line
            if wrong and not (announced and announced in line):
                raise Failure("the agent logged: " + "".join(lines[number : number + 30]))

    # Rounds

    def run(self, minutes: float) -> None:
        """Run rounds until the time is over; raises `Failure`."""
        until = time.monotonic() + 60 * minutes
        self.start()
        try:
            for _ in range(FEWEST + 6):
                self.do(
                    random.Random(f"{self.seed}/{self.step}"),
                    "old client sends",
                    Soak.old_client_sends,
                )
            self.quiet_point()
            while time.monotonic() < until:
                for _ in range(random.Random(f"{self.seed}/{self.step}/round").randint(6, 60)):
                    self.next_operation()
                self.finish_later()
                if self.agent is None:
                    self.start()
                self.quiet_point()
                self.tidy()
        finally:
            if self.agent is not None:
                self.agent.stop(signal.SIGKILL)

    def next_operation(self) -> None:
        rng = random.Random(f"{self.seed}/{self.step}")
        weights = [weight for weight, _, _ in OPERATIONS]
        _, name, method = rng.choices(OPERATIONS, weights)[0]
        self.do(rng, name, method)
        for due in [entry for entry in self.later if entry[0] <= self.step]:
            self.later.remove(due)
            self.note(due[1], due[2]())
        time.sleep(rng.choice((0, 0, 0, 0.001, 0.005, 0.02, 0.1)))

    def do(self, rng: random.Random, name: str, method: Operation) -> None:
        self.step += 1
        try:
            self.note(name, method(self, rng))
        except sqlite3.Error as error:
            raise Failure(f"a SQL client met: {error!r} in {name!r}") from error

    def finish_later(self) -> None:
        for _, name, act in self.later:
            self.note(name, act())
        self.later.clear()

    def note(self, name: str, what: str) -> None:
        self.done.append(f"{time.monotonic() - self.began:8.3f} {self.step:5d} {name}: {what}")

    # What there is

    def files(self) -> Iterator[Path]:
        for folder in FOLDERS:
            where = self.base / folder
            if where.is_dir():
                yield from sorted(where.glob("*.md"))

    def relative(self, path: Path) -> str:
        return str(path.relative_to(self.base))

    def read(self, path: Path) -> tuple[str, Message] | None:
        """Return a file's text and message; None when it is gone or cannot be read just now."""
        relative = self.relative(path)
        place = Place(relative, mailbox_at(relative), str(self.here), "2026-01-01T00:00:00+00:00")
        try:
            data = path.read_bytes()
            return data.decode(), parse(data, place).message
        except (OSError, MessageError, UnicodeDecodeError):
            return None

    def file_of(self, message_id: str) -> Path | None:
        """Return where a message's file stands now; None when it has none."""
        usual = self.known.get(message_id)
        if usual is not None:
            found = self.read(self.base / usual.path)
            if found is not None and found[1].id == message_id:
                return self.base / usual.path
        for path in self.files():
            found = self.read(path)
            if found is not None and found[1].id == message_id:
                return path
        return None

    def pick(self, rng: random.Random) -> str | None:
        """Choose a message, more often than not one of a few, so that writers meet."""
        keys = sorted(self.known.keys() | self.round.deeds.keys())
        few = random.Random(f"{self.seed}/{self.rounds}/few").sample(keys, min(4, len(keys)))
        return rng.choice(few if rng.random() < 0.6 else keys) if keys else None

    def picked_file(self, rng: random.Random) -> tuple[str, Path, str, Message] | None:
        key = self.pick(rng)
        path = self.file_of(key) if key is not None else None
        found = self.read(path) if path is not None else None
        return (key, path, *found) if key and path and found else None

    # What is written

    def text(self, words: str) -> str:
        """Make a text with a token in it that nothing else has."""
        return f"{words} T{next(self.numbers):06d}"

    def values(self, rng: random.Random, *, how_many: int = 0) -> dict[str, Any]:
        """Make new values for some of the fields that hold texts."""
        chosen = rng.sample(FIELDS, how_many or rng.choice((1, 1, 1, 2, 4)))
        return {name: self.value(rng, name) for name in sorted(chosen)}

    def value(self, rng: random.Random, name: str) -> Any:
        match name:
            case "metadata":
                return {"note": self.text(rng.choice(("a: b", "no", "# x"))), "n": rng.random()}
            case "attachments":
                return [self.text("docs/file") + ".txt" for _ in range(rng.randint(1, 2))]
            case "subject":
                return self.text(rng.choice(("Re: build", "Über alles", "no", "1e3", "'quoted'")))
            case _:
                paragraphs = [
                    self.text(rng.choice(("Words.", "- item", "> said", "```\n---\n```", "📬 ja")))
                    for _ in range(rng.choice((1, 1, 2, 5)))
                ]
                return "\n\n".join(paragraphs) + "\n\nend" + "." * rng.choice((1, 1, 3, 3000))

    def moment(self, rng: random.Random) -> datetime:
        days = 60 if rng.random() < 0.3 else 1
        return datetime.now(UTC).replace(microsecond=rng.randrange(10**6)) - timedelta(days=days)

    def new_id(self, rng: random.Random) -> str:
        return f"msg-20260220-{next(self.numbers):06d}-{rng.getrandbits(32):08x}"

    def wrote_row(self, key: str, values: dict[str, Any], deed: str) -> None:
        """Note what SQL wrote; the triggers keep all of that, whoever comes next."""
        self.round.deeds[key].add(deed)
        for name, value in values.items():
            text = value if isinstance(value, str) else json.dumps(value)
            self.round.writes[key, name].append(("row", text))
            self.kept |= tokens_in(text)

    def wrote_file(self, key: str, text: str, values: dict[str, Any], deed: str) -> None:
        """Note what stands in a file now, of which ``values`` are new."""
        self.round.deeds[key].add(deed)
        self.round.in_file[key] = tokens_in(text)
        for name, value in values.items():
            self.round.writes[key, name].append(
                ("file", value if isinstance(value, str) else json.dumps(value))
            )

    # Old clients

    @operation(6)
    def old_client_sends(self, rng: random.Random) -> str:
        values = self.values(rng, how_many=4)
        sender, recipient = rng.choice(
            [
                (self.there, self.here),
                (self.there, self.here),
                (self.here, self.there),
                (self.here, self.here),
            ]
        )
        key = OldClient(sender).send(
            recipient,
            values["subject"],
            values["body"],
            id=self.new_id(rng),
            created_at=self.moment(rng),
            metadata=values["metadata"],
            attachments=values["attachments"],
        )
        path = self.file_of(key)
        self.wrote_file(key, str(values), {}, "new")
        return f"{key} to {path and self.relative(path)}"

    @operation(8)
    def old_client_reads(self, rng: random.Random) -> str:
        """Rewrite a file as read, at once or some operations after it was looked at."""
        found = self.picked_file(rng)
        if found is None or found[1].parent != self.inbox:
            return "-"
        key, path, _, _ = found
        try:
            seen = parse_legacy(path.read_bytes())
        except UNREADABLE:
            return "-"
        if rng.random() < 0.3:
            return self._rewrite(key, path, seen, rng)
        if rng.random() < 0.5:
            values = {"body": self.value(rng, "body")}
            if self.new.update(key, **values):
                self.wrote_row(key, values, "updated")
        self.later.append(
            (
                self.step + rng.randint(1, 6),
                "old client's stale rewrite",
                lambda: self._rewrite(key, path, seen, rng),
            )
        )
        return f"{key}, to be written later"

    def _rewrite(self, key: str, path: Path, seen: Any, rng: random.Random) -> str:
        text = render_legacy(replace(seen, status="read"))
        if not path.parent.is_dir():
            return "-"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            if rng.random() < 0.3:
                time.sleep(0.01)
            half = rng.randrange(len(text))
            file.write(text[:half])
            if rng.random() < 0.3:
                file.flush()
                time.sleep(0.01)
            file.write(text[half:])
        self.wrote_file(key, text, {}, "rewrite")
        return f"{key} at {self.relative(path)}"

    @operation(5)
    def old_client_archives(self, rng: random.Random) -> str:
        found = self.picked_file(rng)
        if found is None or found[1].parent != self.inbox:
            return "-"
        key, path, *_ = found
        with suppress(FileNotFoundError):
            path.rename(self.archive / path.name)
            self.round.deeds[key].add("moved")
            return f"{key} from {self.relative(path)}"
        return "-"

    # People

    @operation(4)
    def person_creates(self, rng: random.Random) -> str:
        key = self.new_id(rng)
        subject, body = self.value(rng, "subject"), self.value(rng, "body")
        lines = ["---", f"id: {key}", "from_agent: pm   # by hand", "to_agent: engineer"]
        lines += rng.choice(([], ["priority: high"], ["created_at: 2026-02-20T20:15:00Z", "x: 1"]))
        text = "\n".join([*lines, "---", f"# {subject}", "", body, ""])
        path = self.inbox / f"note-{key[-8:]}.md"
        path.write_text(text)
        self.wrote_file(key, text, {}, "new")
        return f"{key} at {self.relative(path)}"

    @operation(16)
    def person_edits(self, rng: random.Random) -> str:
        found = self.picked_file(rng)
        if found is None:
            return "-"
        key, path, text, message = found
        edited, values = self._edited(rng, text, message)
        how = rng.choice((_in_place, _in_place, _by_rename, _by_rename, _by_delete_and_create))
        if not how(path, edited, rng):
            return "-"
        self.wrote_file(key, edited, values, "edit")
        return f"{key} at {self.relative(path)} {how.__name__} {sorted(values)}"

    def _edited(
        self, rng: random.Random, text: str, message: Message
    ) -> tuple[str, dict[str, Any]]:
        """Return a file's text with one thing changed, and the new values of fields."""
        head, mark, rest = text[3:].partition("\n---\n")
        match rng.randrange(5):
            case 0 if f"# {message.subject}" in rest and message.subject:
                value = self.value(rng, "subject").strip()
                rest = rest.replace(f"# {message.subject}", f"# {value}", 1)
                return f"---{head}{mark}{rest}", {"subject": value}
            case 1:
                return f"---{head}\n# noted {rng.random()}{mark}{rest}", {}
            case 2 if re.search(r"^priority: \w+$", head, re.M):
                word = rng.choice(("low", "normal", "high", "urgent"))
                head = re.sub(r"^priority: \w+$", f"priority: {word}", head, flags=re.M)
                return f"---{head}{mark}{rest}", {}
            case 3 if re.search(r"^status: \w+$", head, re.M):
                word = rng.choice(("unread", "read", "waiting", "done"))
                head = re.sub(r"^status: \w+$", f"status: {word}", head, flags=re.M)
                return f"---{head}{mark}{rest}", {}
            case _:
                if not message.body or message.body not in rest:
                    return f"---{head}\nowner: me{mark}{rest}", {}
                value = self.value(rng, "body")
                return f"---{head}{mark}{rest.replace(message.body, value, 1)}", {"body": value}

    @operation(4)
    def person_renames(self, rng: random.Random) -> str:
        found = self.picked_file(rng)
        if found is None:
            return "-"
        key, path, *_ = found
        to = path.with_name(f"renamed-{next(self.numbers)}.md")
        with suppress(FileNotFoundError):
            path.rename(to)
            self.round.deeds[key].add("moved")
            return f"{key} to {self.relative(to)}"
        return "-"

    @operation(5)
    def person_moves(self, rng: random.Random) -> str:
        found = self.picked_file(rng)
        if found is None or found[1].parent == self.outbox:
            return "-"
        key, path, *_ = found
        to = (self.archive if path.parent == self.inbox else self.inbox) / path.name
        if to.exists():
            return "-"
        with suppress(FileNotFoundError):
            path.rename(to)
            self.round.deeds[key].add("moved")
            return f"{key} to {self.relative(to)}"
        return "-"

    @operation(4)
    def person_deletes(self, rng: random.Random) -> str:
        found = self.picked_file(rng)
        if found is None or self.round.file_deletes >= 3 or not self._may_go(found[0]):
            return "-"
        key, path, *_ = found
        path.unlink(missing_ok=True)
        self.round.file_deletes += 1
        self.round.deeds[key].add("file deleted")
        self.round.in_file.pop(key, None)
        return f"{key} at {self.relative(path)}"

    def _may_go(self, key: str) -> bool:
        """Tell whether a message may be deleted without a mailbox looking as if emptied."""
        known = self.known.get(key)
        if known is None or len(self.known) < FEWEST:
            return False
        folder = known.path.rpartition("/")[0]
        return sum(item.path.rpartition("/")[0] == folder for item in self.known.values()) > 8

    @operation(2)
    def person_copies(self, rng: random.Random) -> str:
        found = self.picked_file(rng)
        if found is None:
            return "-"
        key, path, text, _ = found
        copy = path.with_name(f"copy-{next(self.numbers)}.md")
        if rng.random() < 0.5:
            copy.write_text(text)
            self.round.deeds[key].add("copied")
            return f"{key} to {self.relative(copy)}"
        fresh = self.new_id(rng)
        other = re.sub(r"^id: .*$", f"id: {fresh}", text, count=1, flags=re.M)
        copy.write_text(other)
        self.wrote_file(fresh, other, {}, "new")
        return f"{key} as {fresh} to {self.relative(copy)}"

    @operation(3)
    def somebody_sets_a_files_time(self, rng: random.Random) -> str:
        found = self.picked_file(rng)
        if found is None:
            return "-"
        key, path, *_ = found
        moment = rng.choice((0, 1, time.time() + 86_400 * 365, time.time() - 7200, 2**31 + 5))
        with suppress(FileNotFoundError):
            os.utime(path, (moment, moment))
        self.round.deeds[key].add("touched")
        return f"{key} to {moment:.0f}"

    # SQL clients

    @operation(5)
    def sql_client_sends(self, rng: random.Random) -> str:
        values = self.values(rng, how_many=4)
        sender, recipient = rng.choice(
            [
                (self.there, self.here),
                (self.there, self.here),
                (self.here, self.there),
                (self.here, self.here),
            ]
        )
        key = NewClient(sender).send(
            recipient,
            values["subject"],
            values["body"],
            id=self.new_id(rng),
            created_at=self.moment(rng),
            metadata=values["metadata"],
            attachments=values["attachments"],
        )
        self.wrote_row(key, values, "new")
        return key

    @operation(18)
    def sql_client_updates(self, rng: random.Random) -> str:
        key = self.pick(rng)
        values = self.values(rng)
        columns = {
            name: json.dumps(value) if not isinstance(value, str) else value
            for name, value in values.items()
        }
        if rng.random() < 0.3:
            columns["priority"] = rng.choice(("low", "normal", "high", "urgent"))
        if key is None or not self.new.update(key, **columns):
            return "-"
        self.wrote_row(key, values, "updated")
        return f"{key} {sorted(columns)}"

    @operation(7)
    def sql_client_sets_the_status(self, rng: random.Random) -> str:
        key = self.pick(rng)
        row = self.new.rows().get(key or "")
        if key is None or row is None or row["status"] == "sent":
            return "-"
        word = rng.choice(("read", "read", "archived", "unread", "waiting"))
        if word == "read" and rng.random() < 0.5:
            with suppress(KeyError):  # syncd took it away meanwhile
                self.new.read(key)
        else:
            self.new.update(key, status=word)
        self.round.deeds[key].add("status")
        return f"{key} {word}"

    @operation(4)
    def sql_client_replaces(self, rng: random.Random) -> str:
        key = self.pick(rng)
        row = self.new.rows().get(key or "")
        if key is None or row is None:
            return "-"
        body = self.value(rng, "body")
        self.new.replace(row | {"body": body})
        self.wrote_row(key, {"body": body}, "replaced")
        return key

    @operation(3)
    def sql_client_deletes(self, rng: random.Random) -> str:
        key = self.pick(rng)
        if key is None or self.round.row_deletes >= 3 or not self._may_go(key):
            return "-"
        if not self.new.delete(key):
            return "-"
        self.round.row_deletes += 1
        self.round.deeds[key].add("row deleted")
        return key

    @operation(1)
    def sql_client_cleans_up(self, rng: random.Random) -> str:
        gone = self.new.cleanup()
        for key in gone:
            self.round.deeds[key].add("row deleted")
        return f"{len(gone)} rows"

    # Other tools at work on the database

    @operation(1)
    def a_tool_rebuilds_the_table(self, rng: random.Random) -> str:
        """Copy all rows into a new table, which has our triggers only when they are made again."""
        return self._take_triggers_away(
            SCHEMA[0].replace("messages", "rebuilt"),
            "INSERT INTO rebuilt SELECT * FROM messages",
            "DROP TABLE messages",
            "ALTER TABLE rebuilt RENAME TO messages",
            *SCHEMA[1:],
        )

    @operation(1)
    def a_tool_drops_foreign_triggers(self, rng: random.Random) -> str:
        names = self.query(f"SELECT name {_OUR_TRIGGERS}")
        return self._take_triggers_away(*(f"DROP TRIGGER {name}" for (name,) in names))

    def _take_triggers_away(self, *statements: str) -> str:
        """Run statements in one transaction, and wait until our triggers stand again.

        What SQL overwrites until then is kept by nobody.
        """
        if self.agent is None:
            return "-"
        rebuild(self.here, *statements)
        deadline = time.monotonic() + SETTLE_S
        while not self.query(f"SELECT 1 {_OUR_TRIGGERS}"):
            if time.monotonic() > deadline:
                raise Failure("the triggers are not made again")
            time.sleep(0.002)
        return ""

    @operation(1)
    def a_tool_packs_the_database(self, rng: random.Random) -> str:
        statement = rng.choice(("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)", "REINDEX", "ANALYZE"))
        with closing(sqlite3.connect(self.new.database, timeout=1.0)) as opened:
            opened.execute(statement)
        return statement

    @operation(1)
    def a_backup_is_brought_back(self, rng: random.Random) -> str:
        """Put a copy in the database's place, as one does with it: without the -wal and -shm."""
        self.finish_later()
        if self.agent is not None:
            self.wait_until_still()  # what is written meanwhile would be lost with the original
        backup = self.folder / "backup.db"
        with (
            closing(sqlite3.connect(self.new.database, timeout=1.0)) as opened,
            closing(sqlite3.connect(backup)) as copy,
        ):
            opened.backup(copy)
        for suffix in ("-wal", "-shm"):
            Path(f"{self.new.database}{suffix}").unlink(missing_ok=True)
        time.sleep(rng.choice((0, 0.001, 0.01)))
        backup.replace(self.new.database)
        return ""

    # Misfortune

    @operation(3)
    def the_agent_is_killed(self, rng: random.Random) -> str:
        if self.agent is None:
            self.start()
            return "no: it is started again"
        time.sleep(rng.choice((0, 0.001, 0.003, 0.01, 0.03)))
        self.stop(rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
        self.kills += 1
        if rng.random() < 0.7:
            self.start()
        return "" if self.agent is not None else "and stays away for a while"

    @operation(1)
    def the_agent_is_stopped_for_a_moment(self, rng: random.Random) -> str:
        if self.agent is None:
            return "-"
        self.agent.process.send_signal(signal.SIGSTOP)
        time.sleep(rng.choice((0.01, 0.1, 0.3)))
        self.agent.process.send_signal(signal.SIGCONT)
        return ""

    @operation(1)
    def the_inbox_is_moved_away_and_back(self, rng: random.Random) -> str:
        """Move the inbox away until the agent halts, change rows meanwhile, and move it back."""
        if self.agent is None or self.halts > self.rounds / 3:
            return "-"
        self.finish_later()
        self.wait_until_still()
        away = self.here / "away"
        self.inbox.rename(away)
        self._wait_for_halt(True)
        for _ in range(rng.randint(0, 4)):
            self.note("  meanwhile", rng.choice(_WHILE_AWAY)(self, rng))
        away.rename(self.inbox)
        self._wait_for_halt(False)
        self.read_log(announced="halted")
        self.halts += 1
        return ""

    def _wait_for_halt(self, halted: bool) -> None:
        deadline = time.monotonic() + SETTLE_S
        while (self.halt() is not None) != halted:
            if time.monotonic() > deadline:
                what = "does not halt" if halted else f"does not resume from {self.halt()}"
                raise Failure(f"with its inbox moved the project {what}")
            time.sleep(0.02)

    def halt(self) -> str | None:
        found = self.query("SELECT value FROM syncd_state WHERE key = 'halt'")
        return found[0][0] if found else None

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.new.database, timeout=5)) as opened:
            return opened.execute(sql).fetchall()

    # The quiet point

    def stamps(self) -> dict[str, tuple[int, int, int]]:
        found = {}
        for folder in FOLDERS:
            where = self.base / folder
            for path in where.iterdir() if where.is_dir() else ():
                with suppress(FileNotFoundError):
                    stat = path.stat()
                    found[self.relative(path)] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        return found

    def wait_until_still(self) -> None:
        """Wait until nothing was written for a moment; raises `Failure` when that never comes."""
        deadline = time.monotonic() + SETTLE_S
        with closing(sqlite3.connect(self.new.database, isolation_level=None)) as watch:
            seen, since = None, time.monotonic()
            while time.monotonic() - since < CALM_S:
                now = (watch.execute("PRAGMA data_version").fetchone(), self.stamps())
                if now != seen:
                    seen, since = now, time.monotonic()
                if time.monotonic() > deadline:
                    raise Failure("G10: it never comes to rest")
                time.sleep(0.02)

    def quiet_point(self) -> None:
        """Wait until all is quiet, and check everything that must hold."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            self.wait_until_still()
            problem = self.differences()
            if problem is None:
                break
            if time.monotonic() > deadline:
                raise Failure(f"it does not converge: {problem}")
        self.rounds += 1
        assert self.agent is not None
        self.read_log()
        if self.agent.process.poll() is not None:
            raise Failure("the agent ended")
        if self.halt() is not None:
            raise Failure(f"it halted: {self.halt()}")
        damage = self.query("PRAGMA integrity_check")
        if damage != [("ok",)]:
            raise Failure(f"the database is damaged: {damage}")
        state = self.state()
        self.check_texts()
        self.check_messages(state)
        before = (self.stamps(), self.query("SELECT * FROM syncd_history ORDER BY version")[-1:])
        self.wait_until_still()
        after = (self.stamps(), self.query("SELECT * FROM syncd_history ORDER BY version")[-1:])
        if before != after:
            raise Failure("G10: something was written after the quiet point")
        self.known = state
        for item in state.values():
            self.kept |= tokens_in(item.data.decode())
        self.round = Round()

    def quarantined(self) -> dict[str, str]:
        return dict(self.query("SELECT path, reason FROM syncd_quarantine"))

    def twins(self) -> set[str]:
        return {path for (path,) in self.query("SELECT path FROM syncd_twins")}

    def own_files(self) -> dict[str, tuple[str, bytes, Message]]:
        """Return path, bytes and message of each file that stands for its message, by id."""
        aside = self.quarantined().keys() | self.twins()
        found: dict[str, tuple[str, bytes, Message]] = {}
        for path in self.files():
            relative = self.relative(path)
            if relative in aside:
                continue
            seen = self.read(path)
            if seen is None:
                raise Failure(f"{relative} cannot be read and is not quarantined")
            if seen[1].id in found:
                raise Failure(f"{relative} and {found[seen[1].id][0]} have one id")
            found[seen[1].id] = (relative, seen[0].encode(), seen[1])
        return found

    def differences(self) -> str | None:
        """Return how the two sides differ; None when they do not."""
        try:
            files = self.own_files()
        except Failure as failure:
            return str(failure)
        rows = rows_of(self.here)
        strays = [path.name for path in self.base.rglob(".syncd-*")]
        if strays:
            return f"strays are left: {strays}"
        waiting = self.query("SELECT id FROM syncd_feed")
        if waiting:
            return f"the feed is not heard: {waiting}"
        for key in sorted(files.keys() ^ rows.keys()):
            return f"{key} is only in the {'files' if key in files else 'database'}"
        for key, (path, _, message) in sorted(files.items()):
            message = message._replace(created_at=rows[key].created_at)
            if message[1:] != rows[key][1:]:
                return f"{key} at {path}: {message} is not {rows[key]}"
        return None

    def state(self) -> dict[str, Known]:
        rows = self.new.rows()
        return {
            key: Known(path, data, rows[key]) for key, (path, data, _) in self.own_files().items()
        }

    def check_texts(self) -> None:
        """G2: what stood at a quiet point, what SQL wrote, what was left in a file: all is held."""
        held = "\0".join(path.read_text() for path in self.files())
        columns = ", ".join(FIELDS)
        for source in (
            f"SELECT {columns}, NULL FROM messages",
            f"SELECT {columns}, CAST(data AS TEXT) FROM syncd_history",
        ):
            for values in self.query(source):
                held += "\0".join(value or "" for value in (*values, ""))
        there = tokens_in(held)
        lost = self.kept - there
        if lost:
            raise Failure(f"G2: texts are lost: {sorted(lost)[:10]}")
        for key, tokens in self.round.in_file.items():
            if tokens - there:
                raise Failure(f"G2: of the file of {key} is lost: {sorted(tokens - there)[:10]}")

    def check_messages(self, state: dict[str, Known]) -> None:
        for key, item in self.known.items():
            if key not in self.round.deeds:
                now = state.get(key)
                if now is None:
                    raise Failure(f"{key} is gone, and nobody touched it")
                if (item.path, item.data) != (now.path, now.data):
                    raise Failure(f"G13: the file of {key} changed, and nobody touched it")
                if item.row != now.row:
                    raise Failure(f"G13: the row of {key} changed: {item.row} to {now.row}")
        for key in state.keys() - self.known.keys() - self.round.deeds.keys():
            raise Failure(f"{key} came from nowhere")
        rows = rows_of(self.here)
        for key, deeds in self.round.deeds.items():
            deleted = deeds & {"file deleted", "row deleted"}
            if deleted and deeds <= deleted | {"touched"}:
                if key in state:
                    raise Failure(f"{key} was deleted ({deeds}), and is there")
            elif not deleted and key not in state:
                raise Failure(f"{key} is gone after {sorted(deeds)}")
            if key in rows:
                self.check_fields(key, deeds, rows[key])
        for path, reason in self.quarantined().items():
            if "is taken by" not in reason:
                raise Failure(f"{path} is quarantined: {reason}")

    def check_fields(self, key: str, deeds: set[str], message: Message) -> None:
        """G4, G8: what one side alone wrote into a field is its value."""
        if deeds & {"copied", "file deleted", "row deleted"}:
            return
        for name in FIELDS:
            writes = self.round.writes.get((key, name), [])
            if not writes:
                continue
            # Who reads and writes the whole brings back, of the other fields, what it read.
            sides = {side for side, _ in writes}
            whole_file, whole_row = "edit" in deeds, "replaced" in deeds
            if (whole_file and "row" in sides) or (whole_row and "file" in sides):
                continue
            if ("rewrite" in deeds and "file" in sides) or len(sides) > 1:
                continue
            want = tokens_in(writes[-1][1])
            if want - tokens_in(getattr(message, name)):
                raise Failure(f"G4: {name} of {key} is not what {writes[-1]} made it: {message}")

    def tidy(self) -> None:
        """Be the person who deletes what was quarantined as a second file."""
        for path in self.quarantined():
            self.note("tidied", path)
            (self.base / path).unlink(missing_ok=True)
        if len(self.known) > MOST:
            rng = random.Random(f"{self.seed}/{self.step}/tidy")
            for key in rng.sample(sorted(self.known), 4):
                if self._may_go(key) and self.new.delete(key):
                    self.round.deeds[key].add("row deleted")
                    self.note("tidied", key)


def _in_place(path: Path, text: str, rng: random.Random) -> bool:
    """Save as a simple editor does: empty the file, then write it."""
    try:
        with path.open("r+", encoding="utf-8", newline="") as file:
            file.truncate(0)
            if rng.random() < 0.3:
                time.sleep(0.01)
            file.write(text)
    except FileNotFoundError:
        return False
    return True


def _by_rename(path: Path, text: str, rng: random.Random) -> bool:
    """Save as most editors do: write a new file beside the old one, and rename it over that."""
    swap = path.with_name(f".{path.name}.swp")
    swap.write_text(text, newline="")
    if rng.random() < 0.3:
        time.sleep(0.01)
    if not path.exists():
        swap.unlink()
        return False
    os.replace(swap, path)
    return True


def _by_delete_and_create(path: Path, text: str, rng: random.Random) -> bool:
    """Save as some editors do: rename the old file to a backup, and write a new one."""
    backup = path.with_name(f"{path.name}~")
    try:
        path.rename(backup)
    except FileNotFoundError:
        return False
    if rng.random() < 0.3:
        time.sleep(0.02)
    path.write_text(text, newline="")
    backup.unlink()
    return True


_WHILE_AWAY = (Soak.sql_client_updates, Soak.sql_client_sets_the_status, Soak.sql_client_sends)


def run(minutes: float, seed: int, folder: Path) -> Soak:
    """Run a soak in a folder; a failure has the last operations and the agent's log."""
    soak = Soak(folder, seed)
    try:
        soak.run(minutes)
    except Failure as failure:
        log = "".join(soak.agent.lines[-40:]) if soak.agent is not None else ""
        raise Failure(
            f"seed {seed}, round {soak.rounds}: {failure}\n\nThe last operations:\n"
            + "\n".join(soak.done)
            + f"\n\nThe agent's log:\n{log}"
        ) from failure
    return soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Soak the agent.")
    parser.add_argument("minutes", nargs="?", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="syncd-soak-"))
    print(f"seed {arguments.seed}, {arguments.minutes:g} minutes, in {folder}", flush=True)
    try:
        soak = run(arguments.minutes, arguments.seed, folder)
    except Failure as failure:
        print(f"FAILED: {failure}")
        print(f"\nReplay: scripts/soak --seed {arguments.seed}; this one stands in {folder}")
        return 1
    print(
        f"clean: {soak.step} operations, {soak.rounds} quiet points, {soak.kills} kills, "
        f"{soak.halts} halts, {len(soak.kept)} texts kept"
    )
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
