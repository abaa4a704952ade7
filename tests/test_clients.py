"""The neighbours behave as their contracts say; else no test that relies on them means much."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.clients import (
    LegacyMessage,
    NewClient,
    OldClient,
    files_below,
    parse_legacy,
    random_message,
    render_legacy,
    row_of,
)

QUIRKS = Path(__file__).parent.parent / "fixtures" / "quirks"
READINGS = json.loads((QUIRKS / "old_client.json").read_text(encoding="utf-8"))

PLAIN = LegacyMessage(
    id="msg-20260220-010203-abcd1234",
    from_project="/p/a",
    to_project="/p/b",
    created_at=datetime(2026, 2, 20, 1, 2, 3, 456789, tzinfo=UTC),
    subject="Grüße",
    body="First.\n\nSecond.",
)


def test_every_quirk_has_a_reading() -> None:
    assert {path.stem for path in QUIRKS.glob("*.md")} == {*READINGS, "README"}


@pytest.mark.parametrize("name", sorted(READINGS))
def test_the_parser_reads_a_quirk_as_the_old_client_does(name: str) -> None:
    data = (QUIRKS / f"{name}.md").read_bytes()
    expected = READINGS[name]
    if not expected["ok"]:
        with pytest.raises(Exception) as raised:
            parse_legacy(data)
        first_line = str(raised.value).split("\n")[0]
        assert f"{raised.type.__name__}: {first_line}" == expected["error"]
        return
    message = parse_legacy(data)
    reading = {
        "ok": True,
        "id": repr(message.id),
        "created_at": message.created_at.isoformat(),
        "metadata": repr(message.metadata),
        "subject": message.subject,
        "body": message.body,
        "attachments": message.attachments,
    }
    assert reading == expected


def test_a_message_is_written_in_the_contracts_form() -> None:
    message = replace(PLAIN, metadata={"wer": "Zoë"}, attachments=["a.txt", "b c.py"])

    assert render_legacy(message) == (
        "---\n"
        "created_at: '2026-02-20T01:02:03.456789+00:00'\n"
        "from_agent: pm\n"
        "from_project: /p/a\n"
        "id: msg-20260220-010203-abcd1234\n"
        "metadata:\n"
        '  wer: "Zo\\xEB"\n'
        "priority: normal\n"
        "reply_to: null\n"
        "status: unread\n"
        "to_agent: pm\n"
        "to_project: /p/b\n"
        "type: task\n"
        "---\n"
        "\n"
        "# Grüße\n"
        "\n"
        "First.\n"
        "\n"
        "Second.\n"
        "\n"
        "## Attachments\n"
        "\n"
        "- `a.txt`\n"
        "- `b c.py`"
    )


def test_random_messages_survive_both_forms(tmp_path: Path) -> None:
    rng = random.Random(1)
    messages = {message.id: message for message in (random_message(rng) for _ in range(300))}
    new = NewClient(tmp_path)
    for message in messages.values():
        assert parse_legacy(render_legacy(message).encode()) == message
        new.replace(row_of(message))

    assert {message.id: message for message in new.list()} == messages


def test_random_messages_repeat_with_their_seed() -> None:
    assert random_message(random.Random(7)) == random_message(random.Random(7))


def test_the_old_client_sends_to_outbox_and_inbox_under_one_id(tmp_path: Path) -> None:
    sender, recipient = OldClient(tmp_path / "a"), OldClient(tmp_path / "b")

    message_id = sender.send(recipient.project, "S", "B", priority="high")

    sent = parse_legacy((sender.outbox / f"{message_id}.md").read_bytes())
    [received] = recipient.list()
    assert (sent.status, received.status) == ("sent", "unread")
    assert received == replace(sent, status="unread")
    assert (received.priority, received.from_project) == ("high", str(sender.project))


def test_reading_rewrites_the_same_file_and_loses_what_the_old_client_does_not_know(
    tmp_path: Path,
) -> None:
    client = OldClient(tmp_path)
    client.inbox.mkdir(parents=True)
    path = client.inbox / "named-by-hand.md"
    path.write_text(render_legacy(PLAIN).replace("type: task\n", "type: task # soon\nowner: bob\n"))
    inode = path.stat().st_ino

    client.read(PLAIN.id)

    assert path.read_text(encoding="utf-8") == render_legacy(replace(PLAIN, status="read"))
    assert path.stat().st_ino == inode


def test_archiving_moves_the_file_and_leaves_its_bytes(tmp_path: Path) -> None:
    client = OldClient(tmp_path)
    message_id = client.send(tmp_path, "S", "B")
    data = (client.inbox / f"{message_id}.md").read_bytes()

    client.archive(message_id)

    assert files_below(client.inbox) == {f".archive/{message_id}.md": data}


def test_the_old_client_lists_around_a_file_that_it_cannot_read(tmp_path: Path) -> None:
    client = OldClient(tmp_path)
    message_id = client.send(tmp_path, "S", "B")
    (client.inbox / "a.md").write_bytes(b"")

    assert [message.id for message in client.list()] == [message_id]
    with pytest.raises(FileNotFoundError):
        client.read("msg-none")


def test_the_new_client_sends_to_both_databases(tmp_path: Path) -> None:
    sender, recipient = NewClient(tmp_path / "a"), NewClient(tmp_path / "b")

    message_id = sender.send(recipient.project, "S", "B", metadata={"reply_to": "msg-1"})

    assert sender.rows()[message_id]["status"] == "sent"
    [received] = recipient.list("unread")
    assert (received.subject, received.body) == ("S", "B")
    assert received.metadata == {"reply_to": "msg-1"}


def test_the_new_client_reads_archives_and_cleans_up(tmp_path: Path) -> None:
    client = NewClient(tmp_path)
    old = client.send(tmp_path, "Old", "B", created_at=datetime.now(UTC) - timedelta(days=31))
    young = client.send(tmp_path, "Young", "B")

    assert client.read(young)["status"] == "read"
    read_at = client.rows()[young]["read_at"]
    assert client.archive(young)
    assert client.archive(old)
    assert client.read(young)["status"] == "archived"
    assert client.rows()[young]["read_at"] == read_at
    assert len(client.cleanup()) == 1
    assert set(client.rows()) == {young}
    assert client.delete(young)
    assert not client.delete(young)


@pytest.mark.parametrize("column", ["created_at", "metadata", "attachments"])
def test_one_bad_row_breaks_the_new_clients_listing(tmp_path: Path, column: str) -> None:
    client = NewClient(tmp_path)
    message_id = client.send(tmp_path, "S", "B")
    client.send(tmp_path, "Other", "B")

    client.update(message_id, **{column: "{bad"})

    assert client.rows()[message_id][column] == "{bad"
    with pytest.raises(ValueError):
        client.list()


def test_the_new_client_gives_up_on_a_lock_after_a_second(tmp_path: Path) -> None:
    client = NewClient(tmp_path)
    message_id = client.send(tmp_path, "S", "B")
    with closing(sqlite3.connect(client.database)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            client.delete(message_id)

    assert 0.9 < time.monotonic() - started < 5
    assert set(client.rows()) == {message_id}
