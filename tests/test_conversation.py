"""Two projects talk across both formats: a program that uses the API, an agent, old clients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from syncd import Message, MessageService
from tests.clients import LegacyMessage, OldClient, parse_legacy
from tests.projects import Project, assert_in_step, assert_quiet
from tests.running import RunningAgent, wait_for

SUBJECT = "Rounding: 'per line' or \"per invoice\"? 📬"
BODY = "We see totals that differ by a cent.\n\n# Example\n\n- 3 × 0.335\n\nWhich rule is yours?"


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    return Project(tmp_path / "shop")


@pytest.fixture
def billing(tmp_path: Path) -> Project:
    return Project(tmp_path / "billing")


@pytest.fixture
def agent(tmp_path: Path, shop: Project, billing: Project) -> Iterator[RunningAgent]:
    with RunningAgent(tmp_path / "home", shop.path, billing.path) as running:
        yield running


def service(project: Project) -> MessageService:
    """Return the API of a project, with a registry that is not the user's own."""
    return MessageService(project.path, registry_path=project.path / "registry.db")


def file_at(project: Project, path: str) -> LegacyMessage | None:
    """Return what the old client reads at a path; None where there is no file."""
    file = project.file(path)
    return parse_legacy(file.read_bytes()) if file.exists() else None


def status_at(project: Project, path: str) -> str | None:
    found = file_at(project, path)
    return found.status if found else None


def assert_same(message: Message, file: LegacyMessage | None) -> None:
    """Assert that a message says the same in the API and to the old client, status aside."""
    assert file is not None
    for name in (
        *("id", "from_project", "from_agent", "to_project", "to_agent", "type", "priority"),
        *("created_at", "reply_to", "subject", "body", "attachments", "metadata"),
    ):
        assert getattr(message, name) == getattr(file, name), name


def assert_settled(*projects: Project) -> None:
    """Assert that both halves of each project agree, and that nothing is left to do (G10)."""
    for project in projects:
        assert_in_step(project)
        assert_quiet(project)


def test_the_api_talks_and_old_clients_see_every_step(
    agent: RunningAgent, shop: Project, billing: Project
) -> None:
    with service(shop) as here, service(billing) as there:
        asked = here.send_message(
            billing.path,
            "engineer",
            "request",
            SUBJECT,
            BODY,
            priority="high",
            attachments=["src/totals.py", "docs/rules.md"],
            metadata={"ticket": 4711, "tags": ["money"]},
        )
        inbox, outbox = f"inbox/{asked.id}.md", f"outbox/{asked.id}.md"
        wait_for(lambda: status_at(billing, inbox) == "unread")
        wait_for(lambda: status_at(shop, outbox) == "sent")
        assert_same(asked, file_at(billing, inbox))
        assert_same(asked, file_at(shop, outbox))
        assert [asked.id] == [message.id for message in billing.old.list()]
        assert [] == shop.old.list()

        (listed,) = there.list_messages(status="unread", agent="engineer")
        assert_same(listed, file_at(billing, inbox))
        read = there.read_message(listed.id)
        assert read is not None
        assert "read" == read.status
        wait_for(lambda: status_at(billing, inbox) == "read")
        assert "sent" == status_at(shop, outbox)

        answer = there.reply_to_message(asked.id, "", "Per line.", from_agent="engineer")
        assert answer is not None
        assert f"Re: {SUBJECT}" == answer.subject
        reply_in, reply_out = f"inbox/{answer.id}.md", f"outbox/{answer.id}.md"
        wait_for(lambda: status_at(shop, reply_in) == "unread")
        wait_for(lambda: status_at(billing, reply_out) == "sent")
        assert_same(answer, file_at(shop, reply_in))
        assert_same(answer, file_at(billing, reply_out))
        assert [(answer.id, {"reply_to": asked.id})] == [
            (message.id, message.metadata) for message in shop.old.list()
        ]

        assert there.archive_message(asked.id)
        assert here.archive_message(answer.id)
        wait_for(lambda: file_at(billing, f"inbox/.archive/{asked.id}.md"))
        wait_for(lambda: file_at(shop, f"inbox/.archive/{answer.id}.md"))
        assert ([], []) == (shop.old.list(), billing.old.list())
        assert_same(asked, file_at(billing, f"inbox/.archive/{asked.id}.md"))

    assert 0 == agent.stop()
    assert "ERROR" not in agent.log
    assert_settled(shop, billing)


def test_old_clients_talk_and_the_api_sees_every_step(
    agent: RunningAgent, shop: Project, billing: Project
) -> None:
    with service(shop) as here, service(billing) as there:
        asked = shop.old.send(
            billing.path, SUBJECT, BODY, priority="urgent", attachments=["src/totals.py"]
        )
        wait_for(lambda: there.get_unread_count() == 1)
        (listed,) = there.list_messages()
        assert_same(listed, file_at(billing, f"inbox/{asked}.md"))
        assert [listed] == there.get_high_priority_messages()
        assert [] == here.list_messages()

        billing.old.read(asked)
        wait_for(lambda: there.get_unread_count() == 0)
        answer = _answered_by_old_client(billing.old, asked)
        wait_for(lambda: here.get_unread_count() == 1)
        (heard,) = here.list_messages()
        assert (answer, "reply", {"reply_to": asked}) == (heard.id, heard.type, heard.metadata)
        assert_same(heard, file_at(shop, f"inbox/{answer}.md"))

        billing.old.archive(asked)
        wait_for(lambda: [asked] == [one.id for one in there.list_messages(status="archived")])
        assert [] == there.list_messages(status="read")

        thanks = here.reply_to_message(answer, "", "Thanks.")
        assert thanks is not None
        assert f"Re: {SUBJECT}" == thanks.subject
        wait_for(lambda: [thanks.id] == [message.id for message in billing.old.list()])
        assert_same(thanks, file_at(billing, f"inbox/{thanks.id}.md"))
        wait_for(lambda: status_at(shop, f"inbox/{answer}.md") == "read")

        wait_for(lambda: status_at(shop, f"outbox/{thanks.id}.md") == "sent")

    assert 0 == agent.stop()
    assert "ERROR" not in agent.log
    assert_settled(shop, billing)


def _answered_by_old_client(client: OldClient, asked: str) -> str:
    """Answer as the old client does: by metadata, with the subject that it was asked under."""
    (original,) = (message for message in client.list() if message.id == asked)
    return client.send(
        Path(original.from_project),
        f"Re: {original.subject}",
        "Per line.",
        type="reply",
        metadata={"reply_to": asked},
    )


def test_one_side_on_files_and_one_on_the_api_take_turns(
    agent: RunningAgent, shop: Project, billing: Project
) -> None:
    """The shop has an old client only, billing the API only; six messages go back and forth."""
    with service(billing) as there:
        last = shop.old.send(billing.path, "Round 0", "Words of round 0")
        for number in range(1, 6, 2):
            wait_for(lambda: there.get_unread_count() == 1)
            (question,) = there.list_messages(status="unread")
            assert last == question.id
            reply = there.reply_to_message(last, f"Round {number}", f"Words of round {number}")
            assert reply is not None
            wait_for(partial(_lists, shop.old, reply.id))
            assert f"Words of round {number}" == shop.old.read(reply.id).body
            shop.old.archive(reply.id)
            if number < 5:
                metadata = {"reply_to": reply.id}
                text = f"Round {number + 1}"
                last = shop.old.send(billing.path, text, text, type="reply", metadata=metadata)
        assert 3 == len(there.list_messages())
        wait_for(lambda: len(billing.names("outbox")) == 3)
        statuses = {"archived": 3, "sent": 3}
        wait_for(lambda: statuses == _counted(shop))

    assert 0 == agent.stop()
    assert "ERROR" not in agent.log
    assert_settled(shop, billing)


def _lists(client: OldClient, message_id: str) -> bool:
    return message_id in {message.id for message in client.list()}


def _counted(project: Project) -> dict[str, int]:
    found = [row["status"] for row in project.rows().values()]
    return {status: found.count(status) for status in found}
