"""``syncd log``: the journal as people and programs read it, and as it grows."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.when import moment
from syncd.core.journal import JournalEntry, origins_of
from syncd.core.sides import Side
from syncd.database import tables
from syncd.database.chronicle import Chronicle
from syncd.errors import UsageError
from syncd.follow import follow
from tests.calls import Call, on_a_terminal
from tests.projects import ONE, Project, nothing_written
from tests.running import RunningAgent, environment, wait_for

pytestmark = pytest.mark.usefixtures("home")

TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d  ", re.MULTILINE)


def lines(text: str) -> list[str]:
    """Return the lines of a log without their times, each of which has to have one."""
    assert len(text.splitlines()) == len(TIME.findall(text))
    return [" ".join(line.split()) for line in TIME.sub("", text).splitlines()]


@pytest.fixture
def edited(shop: Project) -> Project:
    """Return a project with one message of a first sync, edited on both sides since."""
    key = shop.receive(1)
    shop.sync()
    shop.edit(f"inbox/{key}.md", "# Subject 1", "# Object")
    shop.sync()
    shop.new.update(key, priority="urgent", body="Other words")
    shop.sync()
    return shop


def test_the_log_tells_what_was_done_in_which_direction_and_why(
    call: Call, edited: Project
) -> None:
    with nothing_written(edited):
        result = call("log")
    assert 0 == result.code
    assert [
        f"file → row {ONE} created: first sync, pm in {edited.other}",
        f"file → row {ONE} updated subject: the file changed, pm in {edited.path}",
        f"row → file {ONE} updated priority, body: the row changed, pm in {edited.path}",
    ] == lines(result.out)
    assert "3 entries of all messages, kept for 365 days\n" == result.err


def test_the_log_in_json_has_every_part(call: Call, edited: Project) -> None:
    result = call("log", "--json")
    *_, last = result.json["journal"]
    at = datetime.fromisoformat(last.pop("at"))
    assert timedelta(0) <= datetime.now(UTC) - at < timedelta(minutes=5)
    assert {
        "number": 3,
        "id": ONE,
        "side": "file",
        "step": "update",
        "fields": ["priority", "body"],
        "why": "the row changed",
        "path": f"inbox/{ONE}.md",
        "origins": ["db"],
        "by": {"agent": "pm", "project": str(edited.path)},
    } == last
    assert (0, "", 1, str(edited.path)) == (
        result.code,
        result.err,
        result.json["version"],
        result.json["project"],
    )


def test_the_log_of_one_message_is_found_by_the_beginning_of_its_id(
    call: Call, edited: Project
) -> None:
    two = edited.receive(2)
    edited.sync()
    edited.file(f"inbox/{two}.md").unlink()
    edited.sync()
    edited.sql("DELETE FROM syncd_history")
    result = call("log", two[:20], "--project", edited.path)
    assert [
        f"file → row {two} created: new file, pm in {edited.other}",
        f"file → row {two} deleted: the file was deleted, pm in {edited.path}",
    ] == lines(result.out)
    assert f"2 entries of {two}, kept for 365 days\n" == result.err
    for odd in ("msg-2026", "nobody", ""):
        assert 2 == call("log", odd).code


def test_the_log_since_a_moment_leaves_out_what_is_older(call: Call, edited: Project) -> None:
    old = (datetime.now(UTC) - timedelta(days=4)).isoformat()
    edited.sql("UPDATE syncd_journal SET at = ? WHERE seq < 3", old)
    assert 3 == len(call("log", "--json", "--since", "1w").json["journal"])
    (left,) = call("log", "--json", "--since", "3d").json["journal"]
    assert 3 == left["number"]
    wrong = call("log", "--since", "soon")
    assert (2, "") == (wrong.code, wrong.out)
    assert "'soon' is no time" in wrong.err


def test_quarantine_halts_and_their_ends_are_told_with_the_reason(
    call: Call, edited: Project
) -> None:
    odd = edited.write("inbox/odd.md", "no message")
    edited.sync()
    odd.unlink()
    edited.sync()
    edited.file("inbox").rename(edited.path / "away")
    halt = edited.cycle().halt
    assert halt is not None
    (edited.path / "away").rename(edited.file("inbox"))
    edited.sync()
    entered, left, halted, resumed = lines(call("log").out)[3:]
    assert entered.startswith("quarantine inbox/odd.md there is no front matter")
    assert "release inbox/odd.md" == left
    assert f"halt {halt.cause}" == halted
    assert "resume" == resumed


def test_what_a_command_did_is_told_as_such(call: Call, edited: Project) -> None:
    assert 0 == call("restore", ONE, "--version", 2).code
    told = lines(call("log").out)[3:]
    assert ["command → row", "command → file"] == sorted(
        (" ".join(line.split()[:3]) for line in told), reverse=True
    )
    assert all(": by a command" in line for line in told)
    assert [[], []] == [entry["origins"] for entry in call("log", "--json").json["journal"][3:]]


def test_hostile_ids_and_agents_cannot_drive_a_terminal(
    call: Call, home: Path, shop: Project
) -> None:
    key = f"\x1b[31m\u202e{'x' * 300}"
    shop.sync()
    shop.sql(
        "INSERT INTO messages (id, from_agent, from_project, to_project, subject, body, created_at)"
        " VALUES (?, ?, '/p', '/q', 's', 'b', '2026-02-20T00:00:00+00:00')",
        key,
        "p\x1b]0;m\x07\n",
    )
    shop.sync()
    shop.sql("UPDATE messages SET status = 'archived'")
    shop.sync()
    shown = on_a_terminal(home, "log", "--project", shop.path)
    assert f"\\x1b[31m\\u202e{'x' * 300}" in shown
    assert 2 == shown.count("\n")
    assert "created" in shown
    assert "p\\x1b]0;m\\x07\\n in /p" in shown
    assert "\x1b" not in shown
    assert [key, key] == [entry["id"] for entry in call("log", "--json").json["journal"]]


def test_an_empty_project_and_one_that_was_never_synced_have_an_empty_log(
    call: Call, shop: Project
) -> None:
    never = call("log")
    shop.sync()
    empty = call("log", "--json")
    assert (0, "", "0 entries of all messages, kept for 365 days\n") == never
    assert (0, []) == (empty.code, empty.json["journal"])


def test_a_database_that_cannot_be_read_is_an_error(call: Call, shop: Project) -> None:
    shop.write("messaging.db", "no database" * 100)
    result = call("log")
    assert (1, "") == (result.code, result.out)
    assert "is not a SQLite database" in result.err


def test_a_journal_that_cannot_be_read_is_an_error(call: Call, edited: Project) -> None:
    ((page,),) = edited.sql("SELECT rootpage FROM sqlite_master WHERE name = 'syncd_journal'")
    ((size,),) = edited.sql("PRAGMA page_size")
    edited.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    with edited.file("messaging.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x33" * size)
    result = call("log")
    assert 1 == result.code
    assert "is damaged" in result.err


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_no_clock_has_is_told_as_it_is(call: Call, edited: Project, at: str) -> None:
    edited.sql("UPDATE syncd_journal SET at = ?", at)
    edited.sql("INSERT OR REPLACE INTO syncd_state VALUES ('last_cycle', json_quote(?))", at)
    assert at in call("log").out
    assert at in call("status").out
    assert " clock " in call("doctor").out


@pytest.mark.parametrize("column", ["fields", "why", "path", "agent"])
def test_a_blob_that_somebody_put_into_the_journal_is_told_as_text(
    call: Call, edited: Project, column: str
) -> None:
    before = call("log"), call("log", "--json").json["journal"]
    edited.sql(f"UPDATE syncd_journal SET {column} = CAST({column} AS BLOB)")
    assert before == (call("log"), call("log", "--json").json["journal"])


def test_a_long_log_is_read_in_parts(
    call: Call, edited: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[int] = []
    read = Chronicle.journal

    def noted(chronicle: Chronicle, **options: Any) -> list[JournalEntry]:
        found = read(chronicle, **options)
        parts.append(len(found))
        return found

    monkeypatch.setattr(Chronicle, "journal", noted)
    with edited.connection() as connection:
        connection.executemany(
            "INSERT INTO syncd_journal (at, id, side, step, why) "
            "VALUES ('2026-01-01T00:00:00+00:00', ?, 'db', 'update', 'the file changed')",
            ((f"m{number}",) for number in range(2500)),
        )
    numbers = [entry["number"] for entry in call("log", "--json").json["journal"]]
    assert list(range(1, 2504)) == numbers
    assert [1000, 1000, 503] == parts


# --follow


class Followed:
    """``syncd log --follow --json`` as a child, and what it printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out, self._err = out, err

    @property
    def entries(self) -> list[dict[str, Any]]:
        whole = self._out.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def err(self) -> str:
        return self._err.read_text()

    def ids(self) -> list[str]:
        return [entry["id"] for entry in self.entries]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=20)


@contextmanager
def following(home: Path, project: Project, *arguments: str) -> Iterator[Followed]:
    out, err = home / "followed.out", home / "followed.err"
    command = [sys.executable, "-m", "syncd", "log", "--follow", "--json", *arguments]
    with (
        out.open("wb") as to,
        err.open("wb") as errors,
        subprocess.Popen(
            [*command, "--project", str(project.path)],
            env=environment(home),
            stdout=to,
            stderr=errors,
        ) as process,
    ):
        try:
            yield Followed(process, out, err)
        finally:
            process.kill()


def test_follow_ends_as_soon_as_nobody_reads_it(home: Path, edited: Project) -> None:
    command = [sys.executable, "-m", "syncd", "log", "--follow", "--project", str(edited.path)]
    with subprocess.Popen(
        command, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        try:
            process.wait(timeout=20)
            assert process.stderr is not None
            assert b"" == process.stderr.read()
        finally:
            process.kill()


def test_follow_prints_what_a_running_agent_does_and_ends_with_ctrl_c(
    home: Path, shop: Project
) -> None:
    # Begun before there is a database, whose tables then come from somebody else.
    with following(home, shop) as log, RunningAgent(home, shop.path):
        one = shop.receive(1)
        wait_for(lambda: [one] == log.ids())
        shop.new.update(one, priority="urgent")
        wait_for(lambda: [one, one] == log.ids())
        assert 0 == log.stop()
    first, second = log.entries
    assert ("db", "file", 1) == (first["side"], second["side"], second["version"])
    assert "" == log.err


@pytest.mark.parametrize("has_database", [True, False])
def test_follow_hears_of_tables_that_come_while_it_opens_the_database(
    shop: Project, monkeypatch: pytest.MonkeyPatch, has_database: bool
) -> None:
    if has_database:
        shop.new.list()
    key = shop.receive(1)
    create, pauses = tables.create_temporary, iter(range(9))

    def create_beside_an_agent(connection: sqlite3.Connection) -> None:
        create(connection)
        monkeypatch.setattr(tables, "create_temporary", create)
        shop.sync()

    def pause(_: float) -> None:
        assert next(pauses, None) is not None, "waited in vain"

    monkeypatch.setattr(tables, "create_temporary", create_beside_an_agent)
    assert key == next(follow(shop.new.database, pause=pause)).id


def test_follow_goes_on_over_a_database_that_is_removed_or_restored(
    home: Path, edited: Project, tmp_path: Path
) -> None:
    database = edited.new.database
    edited.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    backup = tmp_path / "backup.db"
    shutil.copyfile(database, backup)
    with following(home, edited) as log:
        wait_for(lambda: [1, 2, 3] == [entry["number"] for entry in log.entries])
        for path in edited.base.glob("messaging.db*"):
            path.unlink()
        edited.sync()
        wait_for(lambda: 4 == len(log.entries))
        shutil.copyfile(backup, tmp_path / "copy.db")
        for path in edited.base.glob("messaging.db?*"):
            path.unlink()
        os.replace(tmp_path / "copy.db", database)
        edited.new.update(ONE, priority="low")
        edited.sync()
        wait_for(lambda: len(log.entries) >= 5 and log.entries[-1]["number"] >= 4)
        assert 0 == log.stop()
    assert [1, 2, 3, 1] == [entry["number"] for entry in log.entries[:4]]
    assert {"first sync", "the row changed", "conflict: priority"} >= {
        entry["why"] for entry in log.entries[3:]
    }


def test_follow_waits_for_a_database_that_cannot_be_read(home: Path, edited: Project) -> None:
    with following(home, edited, "--since", "1h", ONE[:12]) as log:
        wait_for(lambda: 3 == len(log.entries))
        edited.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        kept = edited.new.database.rename(edited.path / "kept.db")
        edited.write("messaging.db", "no database" * 100)
        wait_for(lambda: "is not a SQLite database; waiting for it" in log.err)
        edited.file("messaging.db").unlink()
        kept.rename(edited.new.database)
        edited.new.update(ONE, priority="low")
        edited.sync()
        wait_for(lambda: 4 == len(log.entries))
        assert 0 == log.stop()
    assert 1 == log.err.count("\n")


# Moments and origins


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2h", timedelta(hours=2)),
        ("90m", timedelta(minutes=90)),
        ("1.5 d", timedelta(days=1.5)),
        (" 3W ", timedelta(weeks=3)),
        ("45s", timedelta(seconds=45)),
    ],
)
def test_a_moment_may_be_told_as_how_long_ago(text: str, meant: timedelta) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert now - meant == moment(text, now)


def test_days_begin_at_local_midnight_and_offsets_are_heard() -> None:
    now = datetime(2026, 3, 1, 12).astimezone()
    assert datetime(2026, 3, 1).astimezone() == moment("today", now)
    assert datetime(2026, 2, 28).astimezone() == moment("Yesterday", now)
    assert datetime(2026, 2, 20).astimezone() == moment("2026-02-20")
    assert datetime(2026, 2, 20, 18, 15, tzinfo=UTC) == moment("2026-02-20T20:15+02:00")
    assert UTC == moment("2026-02-20T20:15").tzinfo


@pytest.mark.parametrize(
    "text", ["", "soon", "3", "-2h", "2y", "999999999w", "0001-01-01T00:00+14:00", "٣d", "1e3d"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        moment(text)


@pytest.mark.parametrize(
    ("side", "why", "origins"),
    [
        ("db", "the file changed", (Side.FILE,)),
        ("file", "new row", (Side.DB,)),
        ("db", "conflict: body", (Side.FILE, Side.DB)),
        ("file", "the row changed, the file was gone", (Side.FILE, Side.DB)),
        ("db", "first sync", ()),
        ("db", "restored", ()),
        ("file", "by a command", ()),
        (None, "there is no front matter", ()),
    ],
)
def test_origins_are_the_sides_where_somebody_changed_something(
    side: str | None, why: str, origins: tuple[Side, ...]
) -> None:
    assert origins == origins_of(side, why)
