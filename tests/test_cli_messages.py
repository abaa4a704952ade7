"""``syncd message``: what it prints, what it changes in both projects, and what it ends with.

Most calls run in this process, those where exit codes, streams or terminals matter as
``python -m syncd``.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from syncd import MessageService
from syncd.cli import main
from syncd.core.message import file_name
from syncd.cycle.project import turn
from tests import running
from tests.clients import NewClient, OldClient, parse_legacy
from tests.projects import Project, assert_in_step
from tests.running import RunningAgent, environment, wait_for

COMMANDS = ["send", "list", "read", "archive", "reply", "check", "sessions"]
EVIL = "[red]x[/red] :boom: \x1b[2J\x07\r\u202eend"
SEEN = r"[red]x[/red] :boom: \x1b[2J\x07\r\u202eend"
NO_WAITS = {"gone_s": 0, "retry_s": 0}


class Result(NamedTuple):
    """What a call ended with."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[dict[str, Any]]:
        found = json.loads(self.out)
        assert 1 == found["version"]
        messages: list[dict[str, Any]] = found["messages"]
        return messages

    @property
    def id(self) -> str:
        """Return the first word: commands that make or change a message begin with its id."""
        return self.out.split()[0]


Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own settings, sessions and agents away, and let nothing wait."""
    folder = tmp_path / "home"
    for name in [name for name in os.environ if name.startswith(("SYNCD_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in environment(folder, **NO_WAITS).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    return Project(tmp_path / "shop")


@pytest.fixture
def billing(tmp_path: Path) -> Project:
    return Project(tmp_path / "billing")


@pytest.fixture
def message(capfd: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs ``syncd message`` in this process."""

    def call(*arguments: str | Path, project: Project | None = None) -> Result:
        capfd.readouterr()
        where = ["--project", str(project.path)] if project else []
        code = main(["message", *map(str, arguments), *where])
        return Result(code, *capfd.readouterr())

    return call


def process(home: Path, *arguments: str | Path, project: Project | None = None) -> Result:
    """Run ``python -m syncd message`` to its end."""
    where = ["--project", project.path] if project else []
    done = running.syncd(home, "message", *arguments, *where, **NO_WAITS)
    return Result(done.returncode, done.stdout, done.stderr)


def on_terminal(*arguments: str | Path, **variables: str) -> str:
    """Run ``python -m syncd message`` with a terminal for its output; return what that got."""
    mine, theirs = pty.openpty()
    surroundings = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    found = b""
    command = [sys.executable, "-m", "syncd", "message", *map(str, arguments)]
    with subprocess.Popen(command, stdout=theirs, env=surroundings | variables):
        os.close(theirs)
        with suppress(OSError):  # Linux ends with an error when nobody has the other end open
            while data := os.read(mine, 65536):
                found += data
    os.close(mine)
    return found.decode()


# The commands as such


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_every_help_has_an_example(message: Call, command: list[str]) -> None:
    result = message(*command, "--help")

    assert (0, "") == (result.code, result.err)
    assert f"Example: syncd message {' '.join(command)}" in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing command"),
        (["sned"], "No such command 'sned'"),
        (["send"], "Missing argument 'TO'"),
        (["send", ".", "--body", "x", "--priority", "hihg"], "'hihg' is not one of 'low', "),
        (["send", ".", "--body", "x", "--type", "tsk"], "'tsk' is not one of 'task', "),
        (["send", "."], "a message needs a subject or a body"),
        (["send", ".", "--body", "x", "--body-file", "y"], "exclude each other"),
        (["reply", "x", "--body", " "], "a reply needs a body"),
        (["list"], "is in no project"),
        (["list", "--project", "/no/such/place"], "/no/such/place does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_gets_a_sentence(message: Call, arguments: list[str], words: str) -> None:
    result = message(*arguments)

    assert (2, "") == (result.code, result.out)
    assert words in result.err


def test_errors_of_the_process_are_a_sentence_and_exit_1(
    home: Path, tmp_path: Path, shop: Project
) -> None:
    nowhere = tmp_path / "nowhere"

    assert (
        1,
        "",
        "syncd: there is no message 'msg-1' in this project\n"
        "  → 'syncd message list' lists the messages with their ids.\n",
    ) == process(home, "read", "msg-1", project=shop)
    sent = process(home, "send", nowhere, "--body", "x", project=shop)
    assert (1, "") == (sent.code, sent.out)
    assert sent.err.startswith(f"syncd: there is no project folder '{nowhere}'\n")
    assert not nowhere.exists()
    assert {} == shop.rows()


# Sending


def test_send_reaches_both_halves_of_both_projects(
    message: Call, shop: Project, billing: Project, tmp_path: Path
) -> None:
    (tmp_path / "totals.csv").write_text("1;2")
    options = {
        "--subject": "Totals",
        "--body": "Line one\nline two",
        "--to-agent": "engineer",
        "--from-agent": "qa",
        "--type": "request",
        "--priority": "high",
        "--attach": "../totals.csv",
    }
    arguments = [text for pair in options.items() for text in pair]

    result = message("send", billing.path, *arguments, project=shop)

    key = result.id
    assert (0, f"{key} sent to engineer in {billing.path}\n", "") == result
    (received,) = billing.old.list()
    expected = {
        "id": key,
        "from_project": str(shop.path),
        "from_agent": "qa",
        "to_project": str(billing.path),
        "to_agent": "engineer",
        "type": "request",
        "priority": "high",
        "status": "unread",
        "subject": "Totals",
        "body": "Line one\nline two",
        "attachments": [str(tmp_path / "totals.csv")],
    }
    assert expected == {name: getattr(received, name) for name in expected}
    sent = parse_legacy(shop.file(f"outbox/{key}.md").read_bytes())
    assert ("sent", "Totals") == (sent.status, sent.subject)
    assert_in_step(shop)
    assert_in_step(billing)


def test_send_in_json_prints_the_message(message: Call, shop: Project, billing: Project) -> None:
    result = message("send", billing.path, "--body", "x", "--json", project=shop)

    (sent,) = result.messages
    assert ["version", "messages"] == list(json.loads(result.out))
    assert ("sent", "notification", "normal", "pm", "x", [], {}) == tuple(
        sent[name]
        for name in ("status", "type", "priority", "to_agent", "body", "attachments", "metadata")
    )
    assert sent["id"] in billing.rows()
    assert datetime.fromisoformat(sent["created_at"]) <= datetime.now(UTC)


def test_the_body_can_come_from_a_file(message: Call, shop: Project, tmp_path: Path) -> None:
    file = tmp_path / "body.txt"
    file.write_bytes(b"\xef\xbb\xbfh\xc3\xb6her\n")

    key = message("send", shop.path, "--body-file", file, project=shop).id

    assert "höher\n" == shop.row(key)["body"]


def test_the_body_can_come_from_standard_input(home: Path, shop: Project) -> None:
    command = [sys.executable, "-m", "syncd", "message", "send", ".", "--body-file", "-"]
    done = subprocess.run(
        command,
        cwd=shop.path,
        env=environment(home, **NO_WAITS),
        input="from a pipe",
        capture_output=True,
        text=True,
        check=True,
    )

    assert "from a pipe" == shop.row(done.stdout.split()[0])["body"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file or directory"),
        (b"one\ntwo \xff", "body.txt is not UTF-8 text: see line 2"),
    ],
)
def test_a_body_that_cannot_be_read_is_not_sent(
    message: Call, shop: Project, tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "body.txt").write_bytes(content)

    result = message("send", shop.path, "--body-file", tmp_path / "body.txt", project=shop)

    assert (1, "") == (result.code, result.out)
    assert words in result.err
    assert {} == shop.rows()


def test_a_file_that_is_not_there_is_not_attached(message: Call, shop: Project) -> None:
    result = message("send", shop.path, "--body", "x", "--attach", "no.txt", project=shop)

    assert (1, "syncd: no.txt does not exist, so it cannot be attached\n") == (
        result.code,
        result.err,
    )
    assert {} == shop.rows()


def test_sending_to_a_folder_that_was_no_project_says_so(
    message: Call, shop: Project, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()

    result = message("send", tmp_path / "new", "--body", "x", project=shop)

    assert (0, f"{tmp_path / 'new'} was no project before: its mailbox was made\n") == (
        result.code,
        result.err,
    )
    assert [result.id] == [received.id for received in OldClient(tmp_path / "new").list()]


def test_the_project_around_the_current_folder_is_the_default(
    message: Call, shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop.path / "src").mkdir()
    monkeypatch.chdir(shop.path / "src")

    key = message("send", "..", "--subject", "Note to self").id

    assert "unread" == shop.row(key)["status"]
    assert [key] == [received.id for received in shop.old.list()]


# Listing and reading


def test_list_prints_a_line_a_message_the_newest_first(message: Call, shop: Project) -> None:
    shop.receive(1, "First", priority="urgent")
    shop.receive(2, "The second", from_agent="qa")
    when = datetime(2026, 2, 20, 0, 0, tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M")

    result = message("list", project=shop)

    assert (
        0,
        f"msg-20260220-000002-00000000  unread  normal  {when}  qa in shop-other  The second\n"
        f"msg-20260220-000001-00000000  unread  urgent  {when}  pm in shop-other  First\n",
        "",
    ) == result


def test_list_can_be_narrowed(message: Call, shop: Project, billing: Project) -> None:
    one, two = shop.receive(1), shop.receive(2, to_agent="qa")
    message("read", one, project=shop)
    sent = message("send", billing.path, "--body", "x", "--to-agent", "qa", project=shop).id

    def ids(*arguments: str) -> list[str]:
        return [one["id"] for one in message("list", "--json", *arguments, project=shop).messages]

    assert [two, one] == ids()
    assert [two] == ids("--status", "unread")
    assert [one] == ids("--agent", "pm")
    assert [] == ids("--status", "read", "--agent", "qa")
    assert [sent] == ids("--status", "sent")
    assert [sent] == ids("--status", "sent", "--agent", "qa")
    assert [] == ids("--status", "sent", "--agent", "pm")
    assert f"to qa in {billing.path.name}" in message("list", "--status=sent", project=shop).out


def test_an_empty_list_prints_nothing_where_the_answer_goes(message: Call, shop: Project) -> None:
    assert (0, "", "no messages\n") == message("list", project=shop)
    assert (0, "", "no such messages\n") == message("list", "--status", "x", project=shop)
    assert {"version": 1, "messages": []} == json.loads(message("list", "--json", project=shop).out)


def test_numbers_that_json_lacks_are_printed_as_null(message: Call, shop: Project) -> None:
    key = shop.new.send(shop.path, "Odd", "Words")
    shop.sql("UPDATE messages SET metadata = ? WHERE id = ?", '{"a": [NaN, 1e999, 1]}', key)

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    (found,) = json.loads(message("list", "--json", project=shop).out, parse_constant=refuse)[
        "messages"
    ]
    assert {"a": [None, None, 1]} == found["metadata"]


def test_read_prints_the_whole_message_and_marks_it_on_both_sides(
    message: Call, shop: Project
) -> None:
    key = shop.receive(
        1,
        "Subject",
        "One\n\n\tindented\n[b]bold[/b]",
        metadata={"reply_to": "msg-0", "ticket": 7},
        attachments=["src/a.py", "b"],
    )
    when = datetime(2026, 2, 20, 0, 0, 1, tzinfo=UTC).astimezone().isoformat(" ", "seconds")

    result = message("read", key, project=shop)

    assert (
        0,
        "Subject: Subject\n"
        f"From: pm in {shop.other}\n"
        f"To: pm in {shop.path}\n"
        f"Date: {when}\n"
        "Type: task\n"
        "Priority: normal\n"
        "Status: read\n"
        f"Id: {key}\n"
        "In reply to: msg-0\n"
        'Metadata: {"ticket": 7}\n'
        "Attachment: src/a.py\n"
        "Attachment: b\n"
        "\nOne\n\n        indented\n[b]bold[/b]\n",
        "",
    ) == result
    assert ("read", "read") == (shop.row(key)["status"], shop.old.list()[0].status)
    assert [("read", 7)] == [
        (one["status"], one["metadata"]["ticket"])
        for one in message("read", key, "--json", project=shop).messages
    ]


def test_any_unambiguous_beginning_of_an_id_is_enough(message: Call, shop: Project) -> None:
    one, two = shop.receive(1), shop.receive(2)
    shop.receive(3, id="msg")

    unclear = message("archive", "msg-2026", project=shop)

    assert (1, "") == (unclear.code, unclear.out)
    assert (
        f"syncd: 2 messages begin with 'msg-2026': {one} and {two}\n  → Write more of the id.\n"
    ) == unclear.err
    assert (0, f"{two} archived\n", "") == message("archive", "msg-20260220-000002", project=shop)
    assert (0, "msg archived\n", "") == message("archive", "msg", project=shop)
    assert "unread" == shop.row(one)["status"]


def test_many_candidates_are_counted(message: Call, shop: Project) -> None:
    keys = [shop.receive(number) for number in range(1, 12)]

    result = message("read", "m", project=shop)

    assert 1 == result.code
    assert f": {', '.join(keys[:8])} and 3 more\n" in result.err


@pytest.mark.parametrize("given", ["", "%", "MSG", "\udcff"])
def test_what_begins_no_id_is_no_message(message: Call, shop: Project, given: str) -> None:
    key = shop.receive()

    result = message("archive", given, project=shop)

    assert (1, "") == (result.code, result.out)
    assert result.err.startswith("syncd: ")
    assert "unread" == shop.row(key)["status"]


# Archiving and answering


def test_archive_moves_the_file_too(message: Call, shop: Project) -> None:
    key = shop.receive()

    result = message("archive", key, "--json", project=shop)

    assert [(key, "archived")] == [(one["id"], one["status"]) for one in result.messages]
    assert ([], [f"{key}.md"]) == (shop.names("inbox"), shop.names("inbox/.archive"))
    assert (0, f"{key} archived\n", "") == message("archive", key, project=shop)


def test_a_message_that_was_sent_cannot_be_archived(
    message: Call, shop: Project, billing: Project
) -> None:
    key = message("send", billing.path, "--body", "x", project=shop).id

    result = message("archive", key, project=shop)

    assert (1, "") == (result.code, result.out)
    assert "only received ones can be archived" in result.err
    assert "sent" == shop.row(key)["status"]


def test_reply_goes_back_to_who_asked(message: Call, shop: Project, billing: Project) -> None:
    asked = billing.old.send(shop.path, "Question", "Well?", from_agent="qa")

    result = message("reply", asked, "--body", "Yes.", "--from-agent", "engineer", project=shop)

    assert (0, f"{result.id} sent to qa in {billing.path}\n", "") == result
    (answer,) = billing.old.list()
    assert (result.id, "Re: Question", "Yes.", "reply", "engineer", {"reply_to": asked}) == (
        answer.id,
        answer.subject,
        answer.body,
        answer.type,
        answer.from_agent,
        answer.metadata,
    )
    assert "read" == shop.old.list()[0].status
    assert_in_step(shop)
    assert_in_step(billing)


def test_a_reply_can_have_a_subject_of_its_own(
    message: Call, shop: Project, billing: Project
) -> None:
    asked = billing.old.send(shop.path, "Question", "Well?")

    arguments = ["reply", asked, "--subject", "Other", "--body", "x", "--json"]
    (sent,) = message(*arguments, project=shop).messages

    assert ("Re: Other", asked) == (sent["subject"], sent["reply_to"])


def test_a_reply_to_a_project_that_is_gone_gets_a_sentence(message: Call, shop: Project) -> None:
    shop.write("inbox/asked.md", "---\nfrom_project: /no/such/project\n---\n\n# Question\n")

    result = message("reply", "asked", "--body", "x", project=shop)

    assert (1, "") == (result.code, result.out)
    assert "there is no project folder '/no/such/project'" in result.err
    assert "unread" == shop.row("asked")["status"]


# check and sessions


def test_check_counts_and_names_what_should_not_wait(message: Call, shop: Project) -> None:
    assert (0, "0 unread messages\n", "") == message("check", project=shop)
    shop.receive(1)
    high = shop.receive(2, "High", priority="high")
    urgent = shop.receive(3, "Urgent", priority="urgent")

    assert (
        0,
        "3 unread messages\n"
        f"  urgent  {urgent}  pm in shop-other: Urgent\n"
        f"  high    {high}  pm in shop-other: High\n",
        "",
    ) == message("check", project=shop)
    found = json.loads(message("check", "--json", project=shop).out)
    assert (3, [urgent, high]) == (found["unread"], [one["id"] for one in found["messages"]])


def test_check_leaves_no_trace_in_the_registry(message: Call, home: Path, shop: Project) -> None:
    message("check", project=shop)

    assert not (home / ".claude-mpm").exists()


def test_check_beside_an_agent_imports_neither_engine_nor_rich(home: Path, shop: Project) -> None:
    code = (
        "import sys; from syncd.cli import main; code = main(['message', 'check']); "
        "print(code, *{'rich', 'yaml', 'pydantic', 'syncd.cycle.cycle', 'syncd.messaging.service'}"
        " & sys.modules.keys())"
    )
    with RunningAgent(home, shop.path):
        wait_for(lambda: shop.new.database.exists() and "syncd_state" in shop.tables())
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=shop.path,
            env=environment(home),
            capture_output=True,
            text=True,
            check=True,
        )

    assert "0 unread messages\n0\n" == done.stdout


def test_sessions_are_those_of_programs_not_of_commands(
    message: Call, home: Path, shop: Project
) -> None:
    assert (0, "", "no active sessions\n") == message("sessions")
    message("list", project=shop)
    assert (0, "", "no sessions\n") == message("sessions", "--all")
    with MessageService(shop.path) as service:
        active = message("sessions")
        assert (0, "") == (active.code, active.err)
        assert active.out.startswith(f"{service.session_id}  active  20")
        assert active.out.endswith(f"  {os.getpid()}  {shop.path}\n")

    assert "" == message("sessions").out
    assert f"{service.session_id}  inactive  " in message("sessions", "--all").out
    found = json.loads(message("sessions", "--all", "--json").out)
    assert (1, service.session_id) == (found["version"], found["sessions"][0]["session_id"])


def test_a_session_whose_program_was_killed_is_not_active(message: Call, shop: Project) -> None:
    code = (
        "import os, sys; from syncd import MessageService; "
        "service = MessageService(sys.argv[1]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(shop.path)], check=False)

    assert (0, "", "no active sessions\n") == message("sessions")
    assert "  stale  " in message("sessions", "--all").out


# Files only, with an agent and without


def test_a_project_that_has_only_files_works_at_once(
    home: Path, shop: Project, billing: Project
) -> None:
    asked = billing.old.send(shop.path, "Question", "Well?", priority="high")
    assert not shop.new.database.exists()

    listed = process(home, "list", "--json", project=shop)
    checked = process(home, "check", project=shop)
    answered = process(home, "reply", asked, "--body", "Yes.", project=shop)

    assert [(asked, "unread", "Question")] == [
        (one["id"], one["status"], one["subject"]) for one in listed.messages
    ]
    assert (0, f"1 unread message\n  high    {asked}  pm in billing: Question\n", "") == checked
    assert (0, "") == (answered.code, answered.err)
    assert [answered.id] == [one.id for one in billing.old.list()]


def test_without_an_agent_each_command_sees_what_old_clients_did(
    message: Call, shop: Project
) -> None:
    one = shop.receive(1)
    message("list", project=shop)
    two = shop.receive(2)
    shop.old.read(one)

    found = message("list", "--json", project=shop).messages

    assert [(two, "unread"), (one, "read")] == [(each["id"], each["status"]) for each in found]


def test_a_look_changes_no_file(message: Call, shop: Project) -> None:
    shop.receive(1)
    shop.write("inbox/bad.md", "no front matter")
    before = shop.files()

    message("list", project=shop)
    message("check", project=shop)

    assert before == shop.files()


def test_with_an_agent_the_files_are_the_agents_work(
    message: Call, home: Path, shop: Project, billing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunningAgent(home, shop.path, billing.path):
        wait_for(lambda: shop.new.database.exists() and billing.new.database.exists())
        # A cycle of the command's own would find the project taken, and say so.
        monkeypatch.setenv("SYNCD_BUSY_WAIT_S", "0")
        with turn(shop.path, 10), turn(billing.path, 10):
            sent = message("send", billing.path, "--body", "x", project=shop)
            assert (0, "") == (sent.code, sent.err)
            assert [] == billing.old.list()
        wait_for(lambda: [sent.id] == [one.id for one in billing.old.list()])
        wait_for(lambda: shop.file(f"outbox/{sent.id}.md").exists())
        assert (0, f"{sent.id} archived\n", "") == message("archive", sent.id, project=billing)
        wait_for(lambda: billing.names("inbox/.archive") == [f"{sent.id}.md"])


def test_what_keeps_old_clients_from_seeing_it_is_told(
    message: Call, shop: Project, billing: Project
) -> None:
    keys = [billing.receive(number) for number in (1, 2)]
    message("list", project=billing)
    billing.sync()
    for key in keys:
        billing.file(f"inbox/{key}.md").unlink()

    result = message("send", billing.path, "--body", "x", project=shop)

    assert (0, f"{result.id} sent to pm in {billing.path}\n") == (result.code, result.out)
    assert f"syncd: old clients do not see it yet in {billing.path}: " in result.err
    assert "  → 'syncd status' tells the ways out.\n" in result.err
    assert "unread" == billing.row(result.id)["status"]
    assert 4 == main(["status", str(billing.path)])
    listed = message("list", project=billing)
    assert 0 == listed.code
    assert f"what old clients write in {billing.path} is not imported: all 2 files" in listed.err
    assert "  → 'syncd status' tells the ways out.\n" in listed.err


def test_a_wrong_setting_of_the_recipient_does_not_make_a_sent_message_an_error(
    message: Call, shop: Project, billing: Project
) -> None:
    billing.write("syncd.toml", "prefer = 3\n")

    result = message("send", billing.path, "--body", "x", project=shop)

    assert 0 == result.code
    assert f"old clients do not see it yet in {billing.path}: the setting 'prefer'" in result.err


def test_a_project_that_another_syncd_works_on_is_busy(
    message: Call, shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.receive()
    monkeypatch.setenv("SYNCD_BUSY_WAIT_S", "0")

    with turn(shop.path, 0):
        result = message("list", project=shop)

    assert (75, "") == (result.code, result.out)
    assert "another syncd is working on" in result.err


# What nobody may do through a message


@pytest.fixture
def evil(shop: Project) -> str:
    """Put a message into the inbox of which every text would like to drive the terminal."""
    NewClient(shop.path).send(
        shop.path,
        EVIL,
        f"First\n{EVIL}\nlast",
        id=f"msg-{EVIL}",
        priority="urgent",
        from_agent=EVIL,
        metadata={"k": EVIL},
        attachments=[EVIL],
    )
    return f"msg-{EVIL}"


@pytest.mark.parametrize("command", ["list", "check", "read"])
def test_no_text_of_a_message_drives_what_it_is_printed_on(
    message: Call, shop: Project, evil: str, command: str
) -> None:
    arguments = [command, evil] if command == "read" else [command]

    result = message(*arguments, project=shop)

    assert (0, "") == (result.code, result.err)
    assert SEEN in result.out
    assert [] == [text for text in result.out if text != "\n" and not text.isprintable()]


@pytest.mark.parametrize("command", ["list", "read"])
def test_on_a_terminal_no_text_is_markup_either(shop: Project, evil: str, command: str) -> None:
    arguments = [command, evil] if command == "read" else [command]

    seen = on_terminal(*arguments, "--project", shop.path, NO_COLOR="1", COLUMNS="200")

    assert f" {SEEN} " in seen
    assert [] == [text for text in seen if text not in "\r\n" and not text.isprintable()]


def test_on_a_terminal_there_are_tables_and_panels_with_whole_ids(
    message: Call, shop: Project, billing: Project
) -> None:
    long = "msg-of-a-program-with-a-taste-for-long-names-20260220"
    key = billing.old.send(shop.path, "A subject " * 20, "The body.", priority="urgent")
    billing.old.send(shop.path, "Other", "Text", id=long)

    listed = on_terminal("list", "--project", shop.path, COLUMNS="80", TERM="xterm")
    read = on_terminal("read", key, "--project", shop.path, COLUMNS="80", TERM="xterm")

    assert key in listed
    assert long[:40] in listed
    assert "\x1b[31murgent\x1b[0m" in listed
    assert 20 == read.count("subject")
    assert key in read
    assert "│ The body. " in read
    assert all(len(line) <= 80 for line in _plain(listed + read).splitlines())


def _plain(text: str) -> str:
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[36m"):
        text = text.replace(code, "")
    return text


def test_a_row_that_cannot_be_read_in_full_is_listed_with_a_warning(
    message: Call, shop: Project
) -> None:
    key = NewClient(shop.path).send(shop.path, "Subject", "Body")
    NewClient(shop.path).update(key, metadata="{broken")

    result = message("list", project=shop)

    assert 0 == result.code
    assert result.out.startswith(key)
    assert result.err.startswith(f"syncd: message '{key}': its metadata cannot be read: ")


def test_odd_ids_name_the_same_message_on_both_sides(message: Call, shop: Project) -> None:
    NewClient(shop.path).send(shop.path, "Subject", "Body", id="../odd id")

    result = message("archive", "../o", project=shop)

    assert (0, "../odd id archived\n", "") == result
    assert [file_name("../odd id")] == shop.names("inbox/.archive")
