"""`MessagingDatabase`: real files, real threads, real processes."""

from __future__ import annotations

import gc
import json
import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import syncd.errors
from syncd.errors import BusyError, MessageError, ReplicaError, StaleReplica, UsageError
from syncd.messaging import MessagingDatabase, TaskInjector
from syncd.messaging.connection import _switch_to_wal
from syncd.messaging.rows import instant_of, parse_instant
from tests.projects import execute
from tests.running import finish, start_script

ROOT = Path(syncd.errors.__file__).parents[1]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def message(message_id: str, **values: Any) -> dict[str, Any]:
    return {
        "id": message_id,
        "from_project": "/p/a",
        "to_project": "/p/b",
        "subject": "Subject",
        "body": "Body",
        **values,
    }


def ids(messages: list[dict[str, Any]]) -> list[str]:
    return [found["id"] for found in messages]


def open_files(path: Path) -> int:
    """Count the descriptors of this process that are open on the file."""
    found = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{entry}") == str(path)
        except OSError:
            continue
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "project" / ".claude-mpm" / "messaging.db"


@pytest.fixture
def database(path: Path) -> Iterator[MessagingDatabase]:
    database = MessagingDatabase(path)
    yield database
    database.close()


# What a message becomes


def test_the_folder_and_the_file_are_made_in_wal_mode(
    database: MessagingDatabase, path: Path
) -> None:
    with database.get_connection() as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    assert path.is_file()
    assert mode == "wal"


def test_a_message_comes_back_with_every_value(database: MessagingDatabase) -> None:
    full = message(
        "m1",
        from_agent="qa",
        to_agent="engineer",
        type="task",
        priority="urgent",
        status="sent",
        created_at="2026-02-20T01:02:03.456789+00:00",
        reply_to="m0",
        metadata={"k": [1, None, "ü"]},
        attachments=["/p/b c.py"],
    )
    assert database.insert_message(full) == "m1"
    expected = {**full, "read_at": None, "task_injected": False}
    assert expected == database.get_message("m1")


def test_what_a_message_lacks_gets_the_defaults_of_the_contract(
    database: MessagingDatabase,
) -> None:
    before = datetime.now(UTC)
    database.insert_message(message("m1"))
    found = database.get_message("m1")
    assert found is not None
    expected: tuple[Any, ...] = ("pm", "pm", "notification", "normal", "unread", None, {}, [])
    keys = (
        "from_agent",
        "to_agent",
        "type",
        "priority",
        "status",
        "reply_to",
        "metadata",
        "attachments",
    )
    assert expected == tuple(found[key] for key in keys)
    assert before <= datetime.fromisoformat(found["created_at"]) <= datetime.now(UTC)
    assert found["created_at"].endswith("+00:00")


def test_a_taken_id_is_an_integrity_error_and_a_missing_message_is_none(
    database: MessagingDatabase,
) -> None:
    database.insert_message(message("m1"))
    with pytest.raises(sqlite3.IntegrityError):
        database.insert_message(message("m1"))
    assert database.get_message("m2") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": None},
        {"subject": None},
        {"body": 7},
        {"created_at": "yesterday"},
        {"metadata": {"at": LONG_AGO}},
        {"metadata": {"x": float("nan")}},
        {"metadata": {"x": json.loads("[" * 199 + "]" * 199)}},
        {"metadata": "text"},
        {"attachments": "one.txt"},
        {"body": "half a pair: \ud800"},
    ],
)
def test_what_no_reader_could_read_is_refused_with_a_sentence(
    database: MessagingDatabase, wrong: dict[str, Any]
) -> None:
    with pytest.raises(MessageError) as raised:
        database.insert_message(message("m1", **wrong))
    assert raised.value.hint
    assert [] == database.list_messages()


def test_seconds_since_1970_and_datetimes_are_stored_as_iso_text(
    database: MessagingDatabase,
) -> None:
    database.insert_message(message("m1", created_at="1700000000"))
    database.insert_message(message("m2", created_at=LONG_AGO))
    found = [database.get_message(name) for name in ("m1", "m2")]
    expected = ["2023-11-14T22:13:20+00:00", "2020-01-01T00:00:00+00:00"]
    assert expected == [row and row["created_at"] for row in found]


def test_many_messages_are_inserted_all_or_none(database: MessagingDatabase) -> None:
    assert ["m1", "m2"] == database.insert_messages(message(f"m{n}") for n in (1, 2))
    with pytest.raises(sqlite3.IntegrityError):
        database.insert_messages([message("m3"), message("m1")])
    assert {"m1", "m2"} == set(ids(database.list_messages()))


# Lists


def test_lists_are_newest_first_and_filtered_and_limited(database: MessagingDatabase) -> None:
    for n in range(4):
        database.insert_message(
            message(
                f"m{n}",
                created_at=f"2026-01-0{n + 1}T00:00:00+00:00",
                to_agent=("pm", "qa")[n % 2],
                status=("unread", "sent")[n == 3],
            )
        )
    assert ["m3", "m2", "m1", "m0"] == ids(database.list_messages())
    assert ["m3", "m2"] == ids(database.list_messages(limit=2))
    assert 4 == len(database.list_messages(limit=10**30))
    assert ["m2", "m1", "m0"] == ids(database.list_messages("unread"))
    assert ["m3", "m1"] == ids(database.get_messages_for_agent("qa"))
    assert ["m1"] == ids(database.get_messages_for_agent("qa", "unread"))
    assert ["m1"] == ids(database.get_messages_for_agent("qa", received=True))
    assert (3, 1) == (database.get_unread_count(), database.get_unread_count("qa"))
    with pytest.raises(UsageError):
        database.list_messages(limit=-1)


def test_messages_of_the_same_time_are_listed_last_inserted_first(
    database: MessagingDatabase,
) -> None:
    database.insert_messages(message(f"m{n}", created_at=LONG_AGO) for n in range(3))
    assert ["m2", "m1", "m0"] == ids(database.list_messages())


def test_urgent_messages_come_before_newer_high_ones(database: MessagingDatabase) -> None:
    for n, priority in enumerate(["urgent", "high", "normal", "urgent", "high", "odd"]):
        database.insert_message(
            message(f"m{n}", priority=priority, created_at=f"2026-01-0{n + 1}T00:00:00Z")
        )
    database.update_message_status("m3", "read")
    assert ["m0", "m4", "m1"] == ids(database.get_high_priority_messages())
    assert ["m5", "m2"] == ids(database.get_high_priority_messages(["normal", "odd"]))
    assert [] == database.get_high_priority_messages([])


def test_rows_that_cannot_be_read_whole_are_listed_with_a_warning(
    database: MessagingDatabase, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    insert = (
        "INSERT INTO messages (id, from_project, to_project, subject, body, created_at, metadata,"
        " attachments) VALUES (?, 'a', 'b', ?, 'B', ?, ?, ?)"
    )
    good = "2026-01-01T00:00:00+00:00"
    execute(path, insert, "json", "S", good, "{not json", "[1")
    execute(path, insert, "kind", "S", good, "[1]", '{"a": 1}')
    execute(path, insert, "deep", "S", good, "[" * 100_000, None)
    execute(path, insert, "date", "S", "soon", None, None)
    execute(path, insert, "blob", b"S\xff", good, None, None)
    execute(path, insert.replace("'B'", "CAST(x'ff42' AS TEXT)"), "utf8", "S", good, None, None)
    execute(path, insert, None, "S", good, None, None)
    execute(path, insert, "good", "S", good, '{"a": 1}', '["x"]')
    with caplog.at_level(logging.WARNING, "syncd.messaging"):
        found = {row["id"]: row for row in database.list_messages()}
    assert {"json", "kind", "deep", "date", "blob", "utf8", "", "good"} == set(found)
    assert ({}, []) == (found["json"]["metadata"], found["json"]["attachments"])
    assert ({}, []) == (found["kind"]["metadata"], found["kind"]["attachments"])
    assert "soon" == found["date"]["created_at"]
    assert "S\ufffd" == found["blob"]["subject"]
    assert "\ufffdB" == found["utf8"]["body"]
    assert ({"a": 1}, ["x"]) == (found["good"]["metadata"], found["good"]["attachments"])
    for name in ("'json'", "'kind'", "'deep'", "'date'", "UTF-8"):
        assert name in caplog.text
    assert "'good'" not in caplog.text


def test_what_is_null_or_a_number_in_a_table_that_somebody_rebuilt_is_text(
    database: MessagingDatabase, path: Path
) -> None:
    execute(path, "CREATE TABLE rebuilt AS SELECT * FROM messages")
    execute(path, "DROP TABLE messages")
    execute(path, "ALTER TABLE rebuilt RENAME TO messages")
    execute(path, "INSERT INTO messages (id, subject, status) VALUES ('x', NULL, 'unread')")
    execute(path, "INSERT INTO messages (id, subject, status) VALUES (7, 5.5, 'unread')")
    found = {row["id"]: row for row in database.list_messages()}
    assert ("", "") == (found["x"]["subject"], found["x"]["from_project"])
    assert "5.5" == found["7"]["subject"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-02-20T20:15:00Z", datetime(2026, 2, 20, 20, 15, tzinfo=UTC)),
        ("2026-02-20T20:15:00", datetime(2026, 2, 20, 20, 15, tzinfo=UTC)),
        ("1700000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("9" * 30, None),
        ("soon", None),
        ("", None),
        (None, None),
        (b"2026-02-20", None),
    ],
)
def test_an_instant_always_has_an_offset_or_is_none(
    text: object, expected: datetime | None
) -> None:
    assert expected == parse_instant(text)


def test_a_date_that_cannot_be_read_is_taken_from_the_id() -> None:
    expected = datetime(2026, 2, 20, 1, 2, 3, tzinfo=UTC)
    assert expected == instant_of("soon", "msg-20260220-010203-abcd1234")
    assert datetime(1970, 1, 1, tzinfo=UTC) == instant_of("soon", "msg-20269920-010203-x")
    assert datetime(1970, 1, 1, tzinfo=UTC) == instant_of("soon", None)


# Status


def test_read_at_is_set_by_the_first_read_only(database: MessagingDatabase) -> None:
    database.insert_message(message("m1"))
    seen = []
    for status in ("read", "unread", "read"):
        assert database.update_message_status("m1", status)
        found = database.get_message("m1")
        assert found is not None
        assert status == found["status"]
        seen.append(found["read_at"])
    assert seen[0] is not None
    assert [seen[0]] * 3 == seen
    assert not database.update_message_status("m2", "read")


def test_a_status_that_is_no_longer_the_expected_one_stays(database: MessagingDatabase) -> None:
    database.insert_message(message("m1", status="archived"))
    assert not database.update_message_status("m1", "read", only_from="unread")
    found = database.get_message("m1")
    assert found is not None
    assert ("archived", None) == (found["status"], found["read_at"])


def test_a_task_is_noted_on_its_message(database: MessagingDatabase) -> None:
    database.insert_message(message("m1"))
    assert database.mark_task_injected("m1")
    assert not database.mark_task_injected("m2")
    found = database.get_message("m1")
    assert found is not None
    assert found["task_injected"] is True


def test_only_archived_messages_whose_date_is_old_and_readable_are_deleted(
    database: MessagingDatabase, path: Path
) -> None:
    database.insert_messages(
        message(f"old{n}", status="archived", created_at=LONG_AGO) for n in range(1200)
    )
    database.insert_message(message("read", status="read", created_at=LONG_AGO))
    database.insert_message(message("late", status="archived", created_at="2026-01-01T23:00-05:00"))
    database.insert_message(message("odd", status="archived"))
    execute(path, "UPDATE messages SET created_at = '0 odd' WHERE id = 'odd'")
    assert 1200 == database.delete_archived_messages(datetime(2026, 1, 2, tzinfo=UTC))
    assert {"read", "late", "odd"} == set(ids(database.list_messages()))


def test_a_message_that_is_taken_out_of_the_archive_meanwhile_is_not_deleted(
    database: MessagingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken_out(text: object) -> datetime | None:
        database.update_message_status("m", "read")
        return parse_instant(text)

    database.insert_message(message("m", status="archived", created_at=LONG_AGO))
    monkeypatch.setattr("syncd.messaging.database.parse_instant", taken_out)
    assert 0 == database.delete_archived_messages(datetime(2026, 1, 2, tzinfo=UTC))
    assert ["m"] == ids(database.list_messages("read"))


# Connections


def test_a_thread_keeps_its_connection_and_shares_it_with_none(
    database: MessagingDatabase,
) -> None:
    def connection_id() -> int:
        with database.get_connection() as connection:
            return id(connection)

    assert connection_id() == connection_id()
    with database.get_connection() as mine, ThreadPoolExecutor(1) as other:
        assert id(mine) != other.submit(connection_id).result()


def test_the_connection_of_a_thread_is_closed_with_the_thread(
    database: MessagingDatabase,
) -> None:
    seen: list[sqlite3.Connection] = []

    def use() -> None:
        with database.get_connection() as connection:
            seen.append(connection)
        seen[0].execute("SELECT 1")

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        seen[0].execute("SELECT 1")
    assert [] == database.list_messages()


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_a_database_that_nobody_refers_to_leaves_nothing_open(path: Path) -> None:
    database = MessagingDatabase(path)
    database.insert_message(message("m1"))
    del database
    gc.collect()
    assert 0 == open_files(path)


def test_a_block_commits_at_its_end_and_rolls_back_on_an_error(
    database: MessagingDatabase,
) -> None:
    database.insert_message(message("m1"))
    with database.get_connection() as connection:
        connection.execute("UPDATE messages SET subject = 'kept'")

    def fail() -> None:
        with database.get_connection() as connection:
            connection.execute("UPDATE messages SET subject = 'lost'")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    found = database.get_message("m1")
    assert found is not None
    assert "kept" == found["subject"]


def test_an_inner_block_that_fails_undoes_only_its_own_work(database: MessagingDatabase) -> None:
    with database.get_connection() as connection:
        connection.execute("DELETE FROM messages")
        database.insert_message(message("m1"))
        with pytest.raises(sqlite3.IntegrityError):
            database.insert_messages([message("m2"), message("m1")])
        database.insert_message(message("m3"))
    assert {"m1", "m3"} == set(ids(database.list_messages()))


def test_a_cursor_left_half_read_neither_hides_later_rows_nor_blocks_writes(
    database: MessagingDatabase, path: Path
) -> None:
    database.insert_messages([message("m1"), message("m2")])
    with database.get_connection() as connection:
        cursor = connection.execute("SELECT id FROM messages")
        cursor.fetchone()
    execute(path, "UPDATE messages SET subject = 'new'")
    assert ["new", "new"] == [row["subject"] for row in database.list_messages()]
    database.insert_message(message("m3"))
    with pytest.raises(sqlite3.ProgrammingError):
        cursor.fetchone()


def test_a_connection_that_the_caller_closed_is_replaced(database: MessagingDatabase) -> None:
    with pytest.raises(sqlite3.ProgrammingError), database.get_connection() as connection:
        connection.close()
    assert [] == database.list_messages()


def test_a_replaced_file_is_the_one_that_is_read_and_written(
    database: MessagingDatabase, path: Path
) -> None:
    database.insert_message(message("old"))
    other = MessagingDatabase(path.with_name("other.db"))
    other.insert_message(message("restored"))
    other.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    os.replace(other.db_path, path)
    neighbour = start_script(
        "import sys; from syncd.messaging import MessagingDatabase\n"
        "database = MessagingDatabase(sys.argv[1]); database.insert_message(dict(id='neighbour',"
        " from_project='a', to_project='b', subject='', body=''))\n"
        "print('ready', flush=True); sys.stdin.readline(); print(len(database.list_messages()))",
        path,
    )
    assert neighbour.stdout is not None
    assert "ready\n" == neighbour.stdout.readline()
    # The neighbour's row is in the write-ahead log only; closing the old connection, which
    # happens now, must not take that away.
    database.insert_message(message("new"))
    assert (0, "3", "") == finish(neighbour)
    assert {"restored", "neighbour", "new"} == set(ids(database.list_messages()))


def test_a_deleted_file_is_made_anew(database: MessagingDatabase, path: Path) -> None:
    database.insert_message(message("gone"))
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    database.insert_message(message("new"))
    assert ["new"] == ids(MessagingDatabase(path).list_messages())


def test_a_write_that_went_to_a_replaced_file_says_so(
    database: MessagingDatabase, path: Path
) -> None:
    def write() -> None:
        with database.get_connection() as connection:
            connection.execute("DELETE FROM messages")
            path.rename(path.with_name("moved.db"))

    with pytest.raises(StaleReplica, match="may be lost"):
        write()


def test_a_closed_database_says_so_and_closes_again(database: MessagingDatabase) -> None:
    with database.get_connection() as connection:
        database.close()
        connection.execute("SELECT 1")  # one in use is closed when it is given back
    database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")
    with pytest.raises(UsageError, match="closed"):
        database.list_messages()


FORK = """
import os, sys, threading
from syncd.errors import UsageError
from syncd.messaging import MessagingDatabase
path = sys.argv[1]
database = MessagingDatabase(path)
def insert(name):
    database.insert_message(dict(id=name, from_project="a", to_project="b", subject="", body=""))
insert("before")
"""


def test_a_forked_child_and_its_parent_both_go_on(path: Path) -> None:
    script = """
with database.get_connection() as mine:
    pass
child = os.fork()
if child == 0:
    for n in range(100):
        insert(f"child {n}")
    sys.exit(0)
for n in range(100):
    insert(f"parent {n}")
database.close()  # the child's connections must hold locks of their own by now
assert os.waitpid(child, 0)[1] == 0
print(MessagingDatabase(path).get_unread_count())
"""
    assert (0, "201", "") == finish(start_script(FORK + script, path))


def test_a_fork_amid_a_transaction_leaves_it_to_the_parent(path: Path) -> None:
    script = """
with database.get_connection() as connection:
    connection.execute("UPDATE messages SET subject = 'parent'")
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
if child == 0:
    for refused in (lambda: insert("child"), lambda: MessagingDatabase(path)):
        try:
            refused()
        except UsageError as error:
            assert error.hint
        else:
            sys.exit("the child used what its parent was using")
    MessagingDatabase(path + ".other").close()
    sys.exit(0)
print([(m["id"], m["subject"]) for m in database.list_messages()])
"""
    assert (0, "[('before', 'parent')]", "") == finish(start_script(FORK + script, path))


def test_a_fork_waits_for_what_other_threads_are_at(path: Path) -> None:
    """SQLite's library is a lock in the child for ever, where a thread was in it at that moment."""
    script = """
def query():
    with database.get_connection() as connection:
        is_at_it.set()
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 60000) "
            "SELECT max(i) FROM n"
        ).fetchone()
for n in range(3):
    is_at_it = threading.Event()
    thread = threading.Thread(target=query)
    thread.start()
    is_at_it.wait()
    child = os.fork()
    if child == 0:
        insert(f"child {n}")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
print(database.get_unread_count())
"""
    assert (0, "4", "") == finish(start_script(FORK + script, path))


def test_a_lock_that_stays_held_is_a_busy_error(path: Path) -> None:
    database = MessagingDatabase(path, busy_timeout_s=0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError) as raised:
            database.insert_message(message("m1"))
        assert raised.value.hint
        assert [] == database.list_messages()
    finally:
        holder.close()
        database.close()


@pytest.mark.parametrize("kind", ["garbage", "folder", "pipe", "blocked"])
def test_a_file_that_is_no_database_is_an_error_with_a_sentence(path: Path, kind: str) -> None:
    if kind == "blocked":
        path.parent.parent.mkdir()
        path.parent.write_text("a file where the folder should be")
    else:
        path.parent.mkdir(parents=True)
        match kind:
            case "garbage":
                path.write_bytes(b"not a database, certainly" * 100)
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
    with pytest.raises(ReplicaError):
        MessagingDatabase(path)


# Processes


def test_wal_mode_is_asked_for_again_where_another_process_makes_the_file_too(path: Path) -> None:
    asked: list[str] = []

    def execute(sql: str) -> SimpleNamespace:
        asked.append(sql)
        if len(asked) < 3:
            busy = sqlite3.OperationalError("database is locked")
            busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise busy
        return SimpleNamespace(fetchone=lambda: ("wal",))

    _switch_to_wal(cast(Any, SimpleNamespace(execute=execute)), path, 5.0)
    assert 3 == len(asked)


def test_processes_that_create_the_file_at_once_all_succeed(path: Path) -> None:
    script = (
        "import sys; from syncd.messaging import MessagingDatabase\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "MessagingDatabase(sys.argv[1]).insert_message(dict(id=sys.argv[2], from_project='a',"
        " to_project='b', subject='', body=''))"
    )
    processes = [start_script(script, path, n) for n in range(6)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    with ThreadPoolExecutor(len(processes)) as threads:
        assert [(0, "", "")] * 6 == list(threads.map(finish, processes))
    assert 6 == MessagingDatabase(path).get_unread_count()


def test_a_reader_sees_a_bulk_insert_whole_or_not_at_all(
    database: MessagingDatabase, path: Path
) -> None:
    script = """
import json, sys
from syncd.messaging import MessagingDatabase
database = MessagingDatabase(sys.argv[1])
seen = [database.get_unread_count()]
print("ready", flush=True)
while seen[-1] < 20_000:
    count = database.get_unread_count()
    if count != seen[-1]:
        seen.append(count)
print(json.dumps(seen))
"""
    reader = start_script(script, path)
    assert reader.stdout is not None
    assert "ready\n" == reader.stdout.readline()
    database.insert_messages(message(f"a{n}") for n in range(10_000))
    database.insert_messages(message(f"b{n}") for n in range(10_000))
    code, out, err = finish(reader)
    assert (0, "") == (code, err)
    assert set(json.loads(out)) <= {0, 10_000, 20_000}


# Sessions


def test_a_session_is_registered_kept_alive_and_ended(database: MessagingDatabase) -> None:
    database.register_session("s1", "/p/a", pid=7)
    (session,) = database.list_active_sessions()
    assert ("s1", "/p/a", "a", "active", 7) == tuple(
        session[key] for key in ("session_id", "project_path", "project_name", "status", "pid")
    )
    assert database.update_heartbeat("s1")
    (later,) = database.list_active_sessions()
    assert session["started_at"] == later["started_at"]
    assert session["last_active"] < later["last_active"]
    assert database.deregister_session("s1")
    assert [] == database.list_active_sessions()
    assert ["inactive"] == [found["status"] for found in database.list_all_sessions()]
    assert not database.update_heartbeat("s2")
    assert not database.deregister_session("s2")


def test_a_session_without_a_heartbeat_becomes_stale_until_its_next_one(
    database: MessagingDatabase, path: Path
) -> None:
    for name, age_minutes in (("old", 61), ("young", 59)):
        database.register_session(name, "/p/a")
        at = datetime.now(UTC) - timedelta(minutes=age_minutes)
        execute(
            path, "UPDATE sessions SET last_active = ? WHERE session_id = ?", at.isoformat(), name
        )
    database.register_session("odd", "/p/a")
    execute(path, "UPDATE sessions SET last_active = 'soon' WHERE session_id = 'odd'")
    assert 1 == database.cleanup_stale_sessions()
    statuses = {found["session_id"]: found["status"] for found in database.list_all_sessions()}
    assert {"old": "stale", "young": "active", "odd": "active"} == statuses
    database.update_heartbeat("old")
    assert 3 == len(database.list_active_sessions())


def test_no_session_is_stale_that_had_a_heartbeat_within_all_of_time(
    database: MessagingDatabase,
) -> None:
    database.register_session("one", "/p")
    assert 0 == database.cleanup_stale_sessions(1e12)


@pytest.mark.parametrize("minutes", [-1, -1e12, float("nan")])
def test_less_than_no_time_is_refused(database: MessagingDatabase, minutes: float) -> None:
    database.register_session("one", "/p")
    with pytest.raises(UsageError, match="minutes are no time"):
        database.cleanup_stale_sessions(minutes)
    assert 1 == len(database.list_active_sessions())


def test_what_can_be_no_path_is_an_error_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for make in (MessagingDatabase, TaskInjector):
        with pytest.raises(ReplicaError, match="null byte"):
            make("a\0b")
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        with pytest.raises(ReplicaError, match="was deleted") as told:
            make("a")
        assert told.value.hint


@pytest.mark.parametrize("reaped", [True, False])
def test_the_session_of_a_killed_process_is_stale_when_pids_are_checked(
    database: MessagingDatabase, path: Path, reaped: bool
) -> None:
    script = (
        "import sys; from syncd.messaging import MessagingDatabase\n"
        "MessagingDatabase(sys.argv[1]).register_session('killed', '/p/a')\n"
        "print('ready', flush=True); sys.stdin.readline()"
    )
    process = start_script(script, path)
    assert process.stdout is not None
    assert "ready\n" == process.stdout.readline()
    database.register_session("mine", "/p/b")
    database.register_session("huge", "/p/b", pid=2**62)
    assert 0 == database.cleanup_stale_sessions(check_pids=True)
    process.kill()
    if not reaped:  # it is dead, but still has its id
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert 1 == database.cleanup_stale_sessions(check_pids=True)
    process.communicate()
    if reaped:
        assert 0 == database.cleanup_stale_sessions()
        assert 1 == database.cleanup_stale_sessions(check_pids=True)
    statuses = {found["session_id"]: found["status"] for found in database.list_all_sessions()}
    assert {"killed": "stale", "mine": "active", "huge": "active"} == statuses
