"""`MessageService`: real projects, real databases, real processes, some of which are killed."""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import syncd.errors
from syncd.errors import BusyError, ReplicaError, UsageError
from syncd.messaging import Message, MessageService, MessagingDatabase, TaskInjector
from syncd.messaging.paths import resolve_project, spelling
from tests.projects import execute
from tests.running import finish, start_script

ROOT = Path(syncd.errors.__file__).parents[1]

Open = Callable[[str], MessageService]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Open]:
    """Make the service of a project with that name; all are closed at the end."""
    made: list[MessageService] = []

    def open_service(name: str) -> MessageService:
        (tmp_path / name).mkdir(exist_ok=True)
        made.append(MessageService(tmp_path / name))
        return made[-1]

    yield open_service
    for found in made:
        found.close()


def send(sender: MessageService, to: MessageService | Path, **values: Any) -> Message:
    to_project = to.project_root if isinstance(to, MessageService) else to
    content = {"to_agent": "pm", "message_type": "task", "subject": "Subject", "body": "Body"}
    return sender.send_message(to_project, **{**content, **values})


def rows(service: MessageService) -> list[tuple[str, str]]:
    return [(row["id"], row["status"]) for row in service.messaging_db.list_messages(limit=None)]


# Sending


def test_a_message_is_sent_here_and_unread_there(service: Open) -> None:
    alpha, beta = service("alpha"), service("beta")
    before = datetime.now(UTC)
    message = send(
        alpha,
        beta,
        priority="high",
        from_agent="qa",
        to_agent="engineer",
        attachments=["/p/x.py", Path("y")],
        metadata={"k": 1},
    )
    assert before <= message.created_at <= datetime.now(UTC)
    assert re.fullmatch(r"msg-\d{8}-\d{6}-[0-9a-f]{8}", message.id)
    assert f"{message.created_at:%Y%m%d-%H%M%S}" == message.id[4:19]
    expected = Message(
        id=message.id,
        from_project=str(alpha.project_root),
        from_agent="qa",
        to_project=str(beta.project_root),
        to_agent="engineer",
        type="task",
        priority="high",
        created_at=message.created_at,
        status="sent",
        subject="Subject",
        body="Body",
        attachments=["/p/x.py", "y"],
        metadata={"k": 1},
    )
    assert expected == message
    assert expected == Message.from_row(alpha.messaging_db.get_message(message.id) or {})
    (arrived,) = beta.list_messages()
    assert ("unread", message.created_at) == (arrived.status, arrived.created_at)
    assert [] == alpha.list_messages()
    with pytest.raises(FrozenInstanceError):
        message.subject = "other"  # type: ignore[misc]


def test_what_is_returned_of_a_sent_message_is_what_its_row_says(service: Open) -> None:
    alpha, beta = service("alpha"), service("beta")
    metadata = {1: (2, 3), "in": {None: True}}
    message = send(alpha, beta, to_agent=None, priority=None, metadata=metadata)
    assert ("pm", "normal") == (message.to_agent, message.priority)
    assert {"1": [2, 3], "in": {"null": True}} == message.metadata
    assert message == Message.from_row(alpha.messaging_db.get_message(message.id) or {})


def test_a_message_to_oneself_is_one_unread_row(service: Open) -> None:
    alpha = service("alpha")
    message = send(alpha, alpha.project_root / ".." / "alpha")
    assert [(message.id, "unread")] == rows(alpha)
    assert [message] == alpha.list_messages()


def test_a_message_to_a_project_with_the_same_database_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "beta" / ".claude-mpm").mkdir(parents=True)
    shared = tmp_path / "beta" / ".claude-mpm" / "messaging.db"
    with MessageService(tmp_path / "alpha", messaging_db_path=shared) as alpha:
        message = send(alpha, tmp_path / "beta")
        assert [(message.id, "unread")] == rows(alpha)


def test_a_recipient_that_does_not_exist_is_an_error_and_creates_nothing(
    service: Open, tmp_path: Path
) -> None:
    alpha = service("alpha")
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    for wrong in ("nowhere", "nowhere/below", "file", "null\0byte"):
        with pytest.raises(ReplicaError, match="no project folder") as raised:
            send(alpha, tmp_path / wrong)
        assert raised.value.hint
    assert before == sorted(tmp_path.rglob("*"))
    assert [] == rows(alpha)


def test_a_recipient_that_vanished_since_the_last_message_is_not_made_again(
    service: Open, tmp_path: Path
) -> None:
    alpha = service("alpha")
    (tmp_path / "beta").mkdir()
    send(alpha, tmp_path / "beta")
    (tmp_path / "beta").rename(tmp_path / "moved")
    with pytest.raises(ReplicaError):
        send(alpha, tmp_path / "beta")
    assert not (tmp_path / "beta").exists()
    (tmp_path / "beta").mkdir()
    message = send(alpha, tmp_path / "beta")
    assert [message.id] == [found.id for found in service("beta").list_messages()]
    assert 2 == len(rows(alpha))


def test_a_sender_killed_between_the_two_rows_has_delivered_and_not_sent(
    service: Open, tmp_path: Path
) -> None:
    alpha, beta = service("alpha"), service("beta")
    # The sender's row takes for ever, so the process can be killed amid it.
    with alpha.messaging_db.get_connection() as connection:
        connection.execute(
            "CREATE TRIGGER endless BEFORE INSERT ON messages BEGIN"
            " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
            " SELECT count(*) FROM n; END"
        )
    script = (
        "import sys; from syncd.messaging import MessageService\n"
        "MessageService(sys.argv[1]).send_message(sys.argv[2], 'pm', 'task', 'S', 'B')"
    )
    process = start_script(script, alpha.project_root, beta.project_root)
    while not beta.get_unread_count():
        assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    with alpha.messaging_db.get_connection() as connection:
        connection.execute("DROP TRIGGER endless")
    assert [] == rows(alpha)
    assert ["unread"] == [status for _, status in rows(beta)]


def test_whatever_was_sent_by_a_killed_process_has_arrived(service: Open) -> None:
    alpha, beta = service("alpha"), service("beta")
    script = """
import sys
from syncd.messaging import MessageService
service = MessageService(sys.argv[1])
while True:
    service.send_message(sys.argv[2], "pm", "task", "S", "B")
"""
    for round_ in range(1, 4):
        process = start_script(script, alpha.project_root, beta.project_root)
        while len(rows(alpha)) < 20 * round_:
            assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
        sent = {found for found, _ in rows(alpha)}
        arrived = {found for found, _ in rows(beta)}
        assert set() == sent - arrived
        assert len(arrived - sent) <= round_


def test_a_message_that_cannot_be_noted_here_is_taken_back(service: Open) -> None:
    alpha, beta = service("alpha"), service("beta")
    refuse = "CREATE TRIGGER refuse BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'no'); END"
    execute(alpha.messaging_db.db_path, refuse)
    with pytest.raises(ReplicaError, match="refused"):
        send(alpha, beta)
    assert ([], []) == (rows(alpha), rows(beta))


def test_a_delivered_message_that_cannot_be_taken_back_is_spoken_of(service: Open) -> None:
    alpha, beta = service("alpha"), service("beta")
    refuse = "CREATE TRIGGER refuse BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'no'); END"
    execute(alpha.messaging_db.db_path, refuse)
    # The recipient reads it at once.
    execute(
        beta.messaging_db.db_path,
        "CREATE TRIGGER quick AFTER INSERT ON messages BEGIN"
        " UPDATE messages SET status = 'read' WHERE id = NEW.id; END",
    )
    with pytest.raises(ReplicaError, match="was delivered") as raised:
        send(alpha, beta)
    assert "Do not send it again." == raised.value.hint
    assert ["read"] == [status for _, status in rows(beta)]


def test_a_sender_that_cannot_write_delivers_nothing(service: Open) -> None:
    alpha, beta = service("alpha"), service("beta")
    path = alpha.messaging_db.db_path
    broken = path.with_name("broken")
    broken.write_bytes(b"no database" * 1000)
    for suffix in ("-wal", "-shm"):  # from a log that is left, SQLite would restore the rest
        path.with_name(path.name + suffix).unlink()
    broken.replace(path)
    with closing(sqlite3.connect(beta.messaging_db.db_path)) as watch:
        before = watch.execute("PRAGMA data_version").fetchone()
        with pytest.raises(ReplicaError, match="not a database"):
            send(alpha, beta)
        # Nor was it taken back: in between somebody could have read it.
        assert before == watch.execute("PRAGMA data_version").fetchone()
    assert [] == rows(beta)


@pytest.mark.timeout(120)  # each of 2,000 commits waits for a disk, which may be a slow one
def test_four_processes_send_500_messages_each_and_none_is_lost(
    service: Open, tmp_path: Path
) -> None:
    target = service("target")
    script = """
import sys
from syncd.messaging import MessageService
with MessageService(sys.argv[1]) as service:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(500):
        service.send_message(sys.argv[2], "pm", "task", str(n), "Body")
"""
    senders = [tmp_path / f"sender{n}" for n in range(4)]
    processes = [start_script(script, sender, target.project_root) for sender in senders]
    for process in processes:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
    with ThreadPoolExecutor(4) as threads:
        assert [(0, "", "")] * 4 == list(threads.map(finish, processes))
    arrived = target.list_messages("unread")
    expected = sorted((str(sender), str(n)) for sender in senders for n in range(500))
    assert expected == sorted((found.from_project, found.subject) for found in arrived)
    assert 2000 == len({found.id for found in arrived})
    for sender in senders:
        with MessageService(sender) as other:
            assert {"sent"} == {status for _, status in rows(other)}
            assert 500 == len(rows(other))


def test_a_neighbour_that_waits_one_second_writes_amid_the_sends(service: Open) -> None:
    alpha, beta = service("alpha"), service("beta")
    done = threading.Event()

    def keep_sending() -> None:
        while not done.is_set():
            send(alpha, beta)

    with ThreadPoolExecutor(2) as threads:
        work = [threads.submit(keep_sending) for _ in range(2)]
        try:
            for n in range(100):
                execute(
                    beta.messaging_db.db_path,
                    "INSERT INTO messages (id, from_project, to_project, subject, body, created_at)"
                    " VALUES (?, 'a', 'b', '', '', '2026-01-01')",
                    f"neighbour{n}",
                )
        finally:
            done.set()
    for future in work:
        future.result()
    assert 100 == sum(found.startswith("neighbour") for found, _ in rows(beta))


# Receiving


def test_a_message_is_read_once_and_archived(service: Open) -> None:
    alpha, beta = service("alpha"), service("beta")
    message = send(alpha, beta, to_agent="qa")
    assert (1, 1, 0) == (
        beta.get_unread_count(),
        beta.get_unread_count("qa"),
        beta.get_unread_count("pm"),
    )
    read = beta.read_message(message.id)
    assert read is not None
    assert ("read", "Body") == (read.status, read.body)
    assert 0 == beta.get_unread_count()
    assert beta.archive_message(message.id)
    again = beta.read_message(message.id)
    assert again is not None
    assert "archived" == again.status
    assert [message.id] == [found.id for found in beta.list_messages("archived", "qa")]
    assert [] == beta.list_messages("archived", "pm")


def test_a_sent_message_can_be_looked_at_but_is_neither_read_nor_archived(
    service: Open,
) -> None:
    alpha, beta = service("alpha"), service("beta")
    message = send(alpha, beta)
    assert message == alpha.read_message(message.id)
    assert not alpha.archive_message(message.id)
    assert [(message.id, "sent")] == rows(alpha)
    assert [] == alpha.list_messages("sent")


def test_what_is_not_there_is_none_or_false(service: Open) -> None:
    alpha = service("alpha")
    assert alpha.read_message("m1") is None
    assert not alpha.archive_message("m1")
    assert alpha.reply_to_message("m1", "S", "B") is None


def test_a_listing_is_whole_and_newest_first_whatever_the_offsets(service: Open) -> None:
    alpha = service("alpha")
    base = {"from_project": "/p", "to_project": "/q", "subject": "", "body": ""}
    alpha.messaging_db.insert_messages(
        {**base, "id": f"bulk{n}", "created_at": datetime(2020, 1, 1, 0, n, tzinfo=UTC)}
        for n in range(60)
    )
    for name, created_at in (
        ("second", "2026-01-01T12:00:00+05:00"),
        ("first", "2026-01-01T09:00:00Z"),
        ("third", "2026-01-01T13:00:00+12:00"),
    ):
        alpha.messaging_db.insert_message({**base, "id": name, "created_at": created_at})
    found = [message.id for message in alpha.list_messages()]
    assert ["first", "second", "third", "bulk59"] == found[:4]
    assert 63 == len(found)


def test_rows_that_cannot_be_read_whole_are_listed(
    service: Open, caplog: pytest.LogCaptureFixture
) -> None:
    alpha = service("alpha")
    insert = (
        "INSERT INTO messages (id, from_project, to_project, subject, body, created_at, metadata,"
        " attachments, priority) VALUES (?, '/p', '/q', '', '', ?, ?, ?, 'high')"
    )
    path = alpha.messaging_db.db_path
    execute(path, insert, "msg-20260220-010203-abcd1234", "soon", "{", "[1, null]")
    execute(path, insert, "naive", "2026-02-21T00:00:00", "[]", "{}")
    found = alpha.list_messages()
    assert ["naive", "msg-20260220-010203-abcd1234"] == [message.id for message in found]
    assert datetime(2026, 2, 20, 1, 2, 3, tzinfo=UTC) == found[1].created_at
    assert ({}, ["1", "None"]) == (found[1].metadata, found[1].attachments)
    assert 2 == len(alpha.get_high_priority_messages())
    assert "'soon'" in caplog.text


# Replying


def test_a_reply_goes_back_and_says_to_what(service: Open) -> None:
    alpha, beta = service("alpha"), service("beta")
    question = send(alpha, beta, from_agent="qa", to_agent="engineer")
    reply = beta.reply_to_message(question.id, "", "Answer", from_agent="engineer")
    assert reply is not None
    (arrived,) = alpha.list_messages()
    assert reply.id == arrived.id
    expected = ("reply", "Re: Subject", "qa", "engineer", question.id, {"reply_to": question.id})
    assert expected == (
        arrived.type,
        arrived.subject,
        arrived.to_agent,
        arrived.from_agent,
        arrived.reply_to,
        arrived.metadata,
    )
    assert ["read"] == [found.status for found in beta.list_messages()]


@pytest.mark.parametrize(
    ("original", "given", "expected"),
    [
        ("Plan", "", "Re: Plan"),
        ("Plan", "  ", "Re: Plan"),
        ("Re: Plan", "", "Re: Plan"),
        ("Plan", "Other", "Re: Other"),
        ("Plan", "Re: Other", "Re: Other"),
        ("Plan", "RE: Other", "RE: Other"),
        ("Plan", "Regarding", "Re: Regarding"),
        ("", "", "Re: "),
    ],
)
def test_the_subject_of_a_reply_has_re_in_front_once(
    service: Open, original: str, given: str, expected: str
) -> None:
    alpha = service("alpha")
    message = send(alpha, alpha, subject=original)
    reply = alpha.reply_to_message(message.id, given, "B")
    assert reply is not None
    assert expected == reply.subject


def test_a_reply_to_what_one_sent_goes_to_the_same_recipient(service: Open) -> None:
    alpha, beta = service("alpha"), service("beta")
    message = send(alpha, beta, to_agent="qa")
    reply = alpha.reply_to_message(message.id, "", "One more thing")
    assert reply is not None
    assert (str(beta.project_root), "qa") == (reply.to_project, reply.to_agent)
    assert 2 == beta.get_unread_count("qa")


def test_a_reply_to_an_unknown_project_is_an_error_and_leaves_the_original_unread(
    service: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = service("alpha")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unknown").mkdir()
    for name in ("unknown", str(tmp_path / "nowhere")):
        alpha.messaging_db.insert_message(
            {"id": name, "from_project": name, "to_project": "/q", "subject": "", "body": ""}
        )
        with pytest.raises(ReplicaError):
            alpha.reply_to_message(name, "S", "B")
    assert 2 == alpha.get_unread_count()
    assert [] == os.listdir(tmp_path / "unknown")


# Tasks and cleaning up


def test_unread_messages_of_enough_priority_become_tasks_once(
    service: Open, tmp_path: Path
) -> None:
    alpha, beta = service("alpha"), service("beta")
    injector = TaskInjector(tmp_path / "tasks")
    by_priority = {
        priority: send(alpha, beta, priority=priority).id
        for priority in ("low", "normal", "high", "urgent", "odd")
    }
    beta.read_message(by_priority["urgent"])
    expected = [tmp_path / "tasks" / f"msg-{by_priority['high']}.json"]
    assert expected == beta.inject_tasks(injector=injector)
    assert [] == beta.inject_tasks(injector=injector)
    assert {by_priority["normal"], by_priority["odd"]} == {
        json.loads(path.read_text())["metadata"]["message_id"]
        for path in beta.inject_tasks("normal", injector=injector)
    }
    assert 1 == len(beta.inject_tasks("low", injector=injector))
    with pytest.raises(UsageError, match="no priority"):
        beta.inject_tasks("enormous", injector=injector)


class Overtaken(TaskInjector):
    """Does something before its first turn in the folder, as another program may."""

    def __init__(self, folder: Path, do: Callable[[], object]) -> None:
        super().__init__(folder)
        self._do: list[Callable[[], object]] = [do]

    def turn(self) -> AbstractContextManager[None]:
        while self._do:
            self._do.pop()()
        return super().turn()


def test_rows_of_another_make_become_tasks_too(service: Open, tmp_path: Path) -> None:
    alpha = service("alpha")
    path = alpha.messaging_db.db_path
    send(alpha, alpha, priority="urgent")
    execute(path, "ALTER TABLE messages RENAME TO before")
    execute(path, "CREATE TABLE messages AS SELECT * FROM before")
    execute(path, "UPDATE messages SET task_injected = NULL")
    execute(path, "INSERT INTO messages SELECT * FROM messages")
    execute(path, "UPDATE messages SET id = CAST(x'61ff' AS TEXT) WHERE rowid = 2")
    injector = TaskInjector(tmp_path / "tasks")
    assert 2 == len(alpha.inject_tasks(injector=injector))


def test_of_two_programs_that_make_tasks_one_makes_that_of_a_message(
    service: Open, tmp_path: Path
) -> None:
    here, there = service("alpha"), service("alpha")
    keys = [send(here, here, priority="urgent").id for _ in range(3)]
    tasks = TaskInjector(tmp_path / "tasks")

    def take_all_but_one() -> None:
        here.read_message(keys[0])
        for path in here.inject_tasks(injector=tasks):
            path.write_text('{"status": "done"}')
        assert 2 == tasks.cleanup_completed_tasks()

    assert [] == there.inject_tasks(injector=Overtaken(tmp_path / "tasks", take_all_but_one))
    assert [] == tasks.list_message_tasks()


def test_who_holds_the_turn_in_the_task_folder_is_waited_for_and_not_for_ever(
    service: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = service("alpha")
    send(here, here, priority="urgent")
    injector = TaskInjector(tmp_path / "tasks")
    monkeypatch.setattr("syncd.messaging.tasks._TURN_S", 0.05)
    with injector.turn(), pytest.raises(BusyError, match="making tasks"):
        here.inject_tasks(injector=injector)
    assert 1 == len(here.inject_tasks(injector=injector))


def test_a_task_that_was_begun_before_a_crash_is_not_written_again(
    service: Open, tmp_path: Path
) -> None:
    alpha = service("alpha")
    injector = TaskInjector(tmp_path / "tasks")
    message = send(alpha, alpha, priority="urgent")
    (path,) = alpha.inject_tasks(injector=injector)
    path.write_text('{"status": "in_progress"}')
    execute(alpha.messaging_db.db_path, "UPDATE messages SET task_injected = 0")
    assert [] == alpha.inject_tasks(injector=injector)
    assert '{"status": "in_progress"}' == path.read_text()
    row = alpha.messaging_db.get_message(message.id)
    assert row is not None
    assert row["task_injected"]


def test_archived_messages_are_deleted_when_they_are_old_enough(service: Open) -> None:
    alpha = service("alpha")
    for days, status in ((31, "archived"), (29, "archived"), (31, "read")):
        alpha.messaging_db.insert_message(
            {
                "id": f"{status}{days}",
                "from_project": "/p",
                "to_project": "/q",
                "subject": "",
                "body": "",
                "status": status,
                "created_at": datetime.now(UTC) - timedelta(days=days),
            }
        )
    assert 0 == alpha.cleanup_old_messages(10**9)
    assert 1 == alpha.cleanup_old_messages()
    assert {"archived29", "read31"} == {found for found, _ in rows(alpha)}
    assert 1 == alpha.cleanup_old_messages(days_to_keep=0)
    with pytest.raises(UsageError):
        alpha.cleanup_old_messages(-1)


# Projects and paths


def test_every_spelling_of_a_project_is_the_same_project(
    service: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = service("alpha")
    (tmp_path / "beta").mkdir()
    (tmp_path / "link").symlink_to("beta")
    monkeypatch.chdir(tmp_path)
    spellings = ["beta", "./beta/", "alpha/../beta", "link", str(tmp_path / "beta")]
    expected = {str(tmp_path / "beta")}
    assert expected == {send(alpha, Path(path)).to_project for path in spellings}
    assert expected == {send(service("link"), alpha).from_project}


def test_projects_whose_names_differ_in_case_are_two_where_the_file_system_says_so(
    service: Open, tmp_path: Path
) -> None:
    (tmp_path / "Apex").mkdir()
    if (tmp_path / "apex").exists():
        assert tmp_path / "Apex" == resolve_project(tmp_path / "apex")
        return
    (tmp_path / "apex").mkdir()
    upper, lower = service("Apex"), service("apex")
    message = send(upper, lower)
    assert str(tmp_path / "apex") == message.to_project
    assert ([(message.id, "sent")], [(message.id, "unread")]) == (rows(upper), rows(lower))


@pytest.mark.parametrize(
    ("name", "listed", "expected"),
    [
        ("apex", ["other", "Apex"], "Apex"),
        ("apex", ["Apex", "apex"], "apex"),
        ("apex", ["other"], "apex"),
        ("cafe\u0301", ["caf\u00e9"], "caf\u00e9"),
        ("STRASSE", ["straße"], "straße"),
    ],
)
def test_a_name_gets_the_spelling_that_its_folder_lists(
    name: str, listed: list[str], expected: str
) -> None:
    assert expected == spelling(name, listed)


# Sessions


def test_a_service_has_a_session_until_it_is_closed(service: Open, home: Path) -> None:
    alpha = service("alpha")
    assert home / ".claude-mpm" / "session-registry.db" == alpha.global_registry.db_path
    (session,) = alpha.global_registry.list_active_sessions()
    assert (alpha.session_id, str(alpha.project_root), "alpha", os.getpid()) == tuple(
        session[key] for key in ("session_id", "project_path", "project_name", "pid")
    )
    alpha.close()
    alpha.close()
    registry = MessagingDatabase(alpha.global_registry.db_path)
    assert ["inactive"] == [found["status"] for found in registry.list_all_sessions()]
    with pytest.raises(UsageError):
        alpha.list_messages()


def test_a_service_that_nobody_refers_to_is_freed_and_its_session_ends(tmp_path: Path) -> None:
    registry = MessagingDatabase(tmp_path / "registry.db")
    alpha = MessageService(tmp_path / "alpha", registry_path=tmp_path / "registry.db")
    gone = weakref.ref(alpha)
    del alpha
    gc.collect()
    assert gone() is None
    assert ["inactive"] == [found["status"] for found in registry.list_all_sessions()]
    registry.close()


@pytest.mark.parametrize("spoiled", ["", "registry gone", "registry no database"])
def test_a_program_that_never_closes_ends_its_session_at_exit_and_is_quiet(
    tmp_path: Path, spoiled: str
) -> None:
    script = """
import sys
from pathlib import Path
from syncd.messaging import MessageService
service = MessageService(sys.argv[1])
service.send_message(sys.argv[1], "pm", "task", "S", "B")
registry = service.global_registry.db_path
if sys.argv[2]:
    for suffix in ("-wal", "-shm", ""):
        Path(f"{registry}{suffix}").unlink()
if sys.argv[2] == "registry gone":
    registry.parent.rmdir()
elif sys.argv[2]:
    registry.write_bytes(b"no database" * 1000)
"""
    assert (0, "", "") == finish(start_script(script, tmp_path / "alpha", spoiled))
    if not spoiled:
        registry = MessagingDatabase(tmp_path / "home" / ".claude-mpm" / "session-registry.db")
        assert ["inactive"] == [found["status"] for found in registry.list_all_sessions()]


def test_a_killed_program_leaves_a_session_that_is_found_to_be_stale(
    service: Open, tmp_path: Path
) -> None:
    alpha = service("alpha")
    script = (
        "import sys; from syncd.messaging import MessageService\n"
        "service = MessageService(sys.argv[1])\n"
        "print(service.session_id, flush=True); sys.stdin.readline()"
    )
    process = start_script(script, tmp_path / "beta")
    assert process.stdout is not None
    killed = process.stdout.readline().strip()
    process.kill()
    process.communicate()
    assert 2 == len(alpha.global_registry.list_active_sessions())
    assert 1 == alpha.global_registry.cleanup_stale_sessions(check_pids=True)
    statuses = {
        found["session_id"]: found["status"] for found in alpha.global_registry.list_all_sessions()
    }
    assert {killed: "stale", alpha.session_id: "active"} == statuses


def test_use_keeps_the_session_alive_but_not_at_every_call(
    service: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = service("alpha")

    def heartbeat() -> str:
        (session,) = alpha.global_registry.list_all_sessions()
        return str(session["last_active"])

    first = heartbeat()
    alpha.list_messages()
    assert first == heartbeat()
    monkeypatch.setattr("syncd.messaging.session.HEARTBEAT_S", 0.0)
    alpha._session._enter()
    second = heartbeat()
    alpha.list_messages()
    assert first < second < heartbeat()


def test_a_text_is_no_list_of_attachments(service: Open) -> None:
    alpha = service("alpha")
    with pytest.raises(UsageError, match="attachments are a list"):
        send(alpha, alpha, attachments="report.pdf")
    assert [] == alpha.list_messages()


@pytest.mark.parametrize("spoiled", ["no folder", "no database", "locked"])
def test_a_registry_that_never_worked_harms_no_message_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoiled: str
) -> None:
    registry = tmp_path / "registry" / "registry.db"
    with ExitStack() as stack:
        if spoiled == "no folder":
            registry.parent.write_text("in the way")
        elif spoiled == "no database":
            registry.parent.mkdir()
            registry.write_bytes(b"no database" * 1000)
        else:
            registry.parent.mkdir()
            lock = stack.enter_context(closing(sqlite3.connect(registry, isolation_level=None)))
            lock.execute("BEGIN EXCLUSIVE")
        with MessageService(tmp_path / "alpha", registry_path=registry) as alpha:
            message = send(alpha, alpha)
            assert [message] == alpha.list_messages()
    assert "the session cannot be noted" in caplog.text


def test_a_registry_that_fails_harms_no_message(
    service: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alpha = service("alpha")
    monkeypatch.setattr("syncd.messaging.session.HEARTBEAT_S", 0.0)
    alpha._session._enter()
    for suffix in ("-wal", "-shm", ""):
        Path(f"{alpha.global_registry.db_path}{suffix}").unlink()
    alpha.global_registry.db_path.mkdir()
    with caplog.at_level(logging.WARNING, "syncd.messaging"):
        message = send(alpha, alpha)
    assert [message] == alpha.list_messages()
    assert "the session cannot be noted" in caplog.text
    alpha.global_registry.db_path.rmdir()
    alpha.list_messages()  # the registry is made anew, and the session is entered again
    assert [alpha.session_id] == [
        found["session_id"] for found in alpha.global_registry.list_active_sessions()
    ]


def test_a_forked_child_has_a_session_of_its_own(tmp_path: Path) -> None:
    script = """
import os, sys
from syncd.messaging import MessageService
service = MessageService(sys.argv[1])
parents = service.session_id
child = os.fork()
if child == 0:
    service.send_message(sys.argv[1], "pm", "task", "S", "B")
    sys.exit(service.session_id == parents)
assert os.waitpid(child, 0)[1] == 0
statuses = {s["session_id"]: s["status"] for s in service.global_registry.list_all_sessions()}
print(statuses.pop(parents), *statuses.values(), service.get_unread_count())
"""
    assert (0, "active inactive 1", "") == finish(start_script(script, tmp_path / "alpha"))


def test_a_service_works_in_many_threads_at_once(service: Open) -> None:
    alpha, beta = service("alpha"), service("beta")
    with ThreadPoolExecutor(8) as threads:
        sent = list(threads.map(lambda n: send(alpha, beta, subject=str(n)).id, range(80)))
        read = list(threads.map(beta.read_message, sent))
    assert ["read"] * 80 == [found and found.status for found in read]
    assert 0 == beta.get_unread_count()
