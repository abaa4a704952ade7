"""Seeing what happened and undoing it: conflicts, history, restore and repair, as a person does.

Most calls run in this process; where exit codes, pipes, terminals or a running agent matter it is
``python -m syncd``.
"""

from __future__ import annotations

import json
import os
import shlex
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fixtures.make_world import WORLD
from syncd import conflicts, history
from syncd.cli import main
from syncd.database.store import Store
from syncd.files.folders import MAX_BYTES
from syncd.files.replica import FileReplica
from tests.calls import Call, Result, on_a_terminal
from tests.clients import parse_legacy
from tests.projects import Project, a_row, assert_in_step, assert_quiet, insert, nothing_written
from tests.running import RunningAgent, syncd, wait_for

pytestmark = pytest.mark.usefixtures("home")

COMMANDS = ["conflicts", "resolve", "history", "show", "restore", "repair"]
COMMENTED = """---
# Written by hand.
id: by-hand
from_agent: pm
from_project: /p/other
to_agent: pm
to_project: /p/shop
type: task            # task, request, notification or reply
priority: high
created_at: '2026-02-20T20:15:00+00:00'
owner: Mira
---

# By hand

Run it twice.
"""


def type_in(call: Call, output: str, words: str) -> Result:
    """Run the command that stands behind these words in an output, as it stands there."""
    (line,) = (line for line in output.splitlines() if words in line)
    command = shlex.split(line[line.index(": syncd ") + 2 :])
    return call(*command[1:])


def in_conflict(project: Project) -> str:
    """Receive a message and change its body on both sides between two cycles; return its id."""
    (key,) = in_conflicts(project, 1)
    return key


def in_conflicts(project: Project, *numbers: int) -> list[str]:
    """Do the same with several messages."""
    keys = [project.receive(number) for number in numbers]
    project.sync()
    for number, key in zip(numbers, keys, strict=True):
        project.edit(f"inbox/{key}.md", f"Body {number}.", "The file says.")
        project.sql("UPDATE messages SET body = 'The row says.' WHERE id = ?", key)
    project.sync()
    return keys


def bodies(project: Project, key: str) -> tuple[str, str]:
    """Return what file and row say."""
    return project.messages_in_files()[key].body, project.messages_in_rows()[key].body


BOTH_FILE = ("The file says.", "The file says.")
BOTH_ROW = ("The row says.", "The row says.")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(call: Call, command: str) -> None:
    result = call(command, "--help")

    assert (0, "") == (result.code, result.err)
    assert f"Example: syncd {command}" in result.out


# conflicts and resolve


def test_g3_a_conflict_is_listed_with_both_values_and_the_ways_to_settle_it(
    call: Call, shop: Project
) -> None:
    key = in_conflict(shop)

    result = call("conflicts")

    lines = result.out.splitlines()
    assert (3, "") == (result.code, result.err)
    assert f"{shop.path}: 1 open conflict" == lines[0]
    assert lines[1].startswith(f"  {key}, body, 20")
    assert lines[1].endswith(": the file's value won")
    assert "    file (stands now): The file says." == lines[2]
    assert "    row (version 2): The row says." == lines[3]
    assert f"    → To keep what stands now: syncd resolve {key} --take current" == lines[4]
    assert f"    → To take the row's value instead: syncd resolve {key} --take db" == lines[5]


def test_a_conflict_in_a_message_that_went_names_the_ways_that_work(
    call: Call, shop: Project
) -> None:
    key = in_conflict(shop)
    shop.file(f"inbox/{key}.md").unlink()
    shop.sync()
    lines = call("conflicts").out.splitlines()
    assert f"    file: the row of '{key}' is gone" == lines[2]
    assert f"    → To leave it at that: syncd resolve {key} --take current" == lines[4]
    assert f"    → To bring the message back: syncd restore {key}" == lines[5]
    assert 6 == len(lines)
    (conflict,) = call("conflicts", "--json").json["conflicts"]
    assert [f"syncd resolve {key} --take current"] == conflict["resolve"]
    assert 3 == call("restore", key).code  # it is in conflict still
    assert f"inbox/{key}.md" in shop.files()


def test_no_conflicts_end_with_0_and_open_ones_with_3(home: Path, shop: Project) -> None:
    none = syncd(home, "conflicts", shop.path, gone_s=0)
    in_conflict(shop)
    some = syncd(home, "conflicts", shop.path, "--json", gone_s=0)

    assert (0, f"{shop.path}: no open conflicts\n") == (none.returncode, none.stdout)
    assert (3, 1) == (some.returncode, len(json.loads(some.stdout)["conflicts"]))


def test_conflicts_in_json_have_the_whole_values(call: Call, shop: Project) -> None:
    key = shop.receive()
    shop.sync()
    alike = "The same words. " * 40
    shop.edit(f"inbox/{key}.md", "Body 1.", f"{alike}In the file.")
    shop.sql("UPDATE messages SET body = ? WHERE id = ?", f"{alike}In the row.", key)
    shop.sync()

    text = call("conflicts").out
    found = call("conflicts", "--json").json

    (conflict,) = found["conflicts"]
    assert (1, str(shop.path)) == (found["version"], found["project"])
    assert (key, "body", "file") == tuple(conflict[name] for name in ("id", "field", "winner"))
    assert (f"{alike}In the file.", f"{alike}In the row.") == (conflict["file"], conflict["db"])
    assert f"syncd resolve {key} --take db" in conflict["resolve"]
    assert "same words. In the file.\n" in text
    assert max(map(len, text.splitlines())) < 120


@pytest.mark.parametrize("prefer", ["file", "db"])
@pytest.mark.parametrize("take", ["file", "db", "current"])
def test_a_conflict_is_resolved_either_way_on_both_sides_and_that_is_undone(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefer: str, take: str
) -> None:
    shop = Project(tmp_path / "shop", prefer=prefer)
    monkeypatch.setenv("SYNCD_PREFER", prefer)
    key = in_conflict(shop)
    stood = BOTH_FILE if prefer == "file" else BOTH_ROW
    assert stood == bodies(shop, key)

    result = call("resolve", key, "--take", take, "--project", shop.path)

    assert (0, "") == (result.code, result.err)
    assert {"file": BOTH_FILE, "db": BOTH_ROW, "current": stood}[take] == bodies(shop, key)
    assert 0 == call("conflicts", shop.path).code
    assert_quiet(shop)
    if take in (prefer, "current"):
        assert f"{key}, body: settled, what stands now stays\n" == result.out
    else:
        side = {"file": "file", "db": "row"}[take]
        assert f"{key}, body: settled with the {side}'s value, on both sides\n" in result.out
        undone = type_in(call, result.out, "To undo")
        assert (0, "") == (undone.code, undone.err)
        assert stood == bodies(shop, key)
        assert_quiet(shop)


def test_a_version_of_a_row_whose_id_nobody_can_type_is_shown_by_its_number(
    call: Call, shop: Project
) -> None:
    shop.sync()
    names = "(id, from_project, to_project, subject, body, created_at)"
    shop.sql(
        f"INSERT INTO messages {names} VALUES (x'00ff', 'a', 'b', 'S', 'Words.', '2026-02-20')"
    )
    shop.sync()
    shop.sql("DELETE FROM messages WHERE id = x'00ff'")
    (number,) = [one["number"] for one in call("history", "--json").json["history"]]
    shown = call("show", "--version", number)
    assert (0, True) == (shown.code, shown.out.endswith("\nWords."))
    assert "Words." == call("show", "--version", number, "--json").json["row"]["body"]
    assert 2 == call("show", "--version", number + 1).code
    assert 2 == call("show").code


def test_all_conflicts_are_resolved_at_once(call: Call, shop: Project) -> None:
    keys = in_conflicts(shop, 1, 2, 3)

    result = call("resolve", "--all", "--take", "db", "--json")

    found = result.json
    assert 0 == result.code
    assert keys == [one["id"] for one in found["resolved"]]
    assert ["body"] == found["resolved"][0]["fields"]
    assert 3 == found["cycle"]["counts"]["files_updated"]
    assert [BOTH_ROW] * 3 == [bodies(shop, key) for key in keys]
    undone = call(*shlex.split(found["resolved"][1]["undo"])[1:])
    assert 0 == undone.code
    assert [BOTH_ROW, BOTH_FILE, BOTH_ROW] == [bodies(shop, key) for key in keys]
    assert f"{shop.path}: no open conflicts\n" == call("resolve", "--all", "--take", "file").out


def test_g9_conflicts_share_transactions_and_one_that_the_database_refuses_stays_alone(
    call: Call, shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = in_conflicts(shop, 1, 2, 3, 4)
    shop.sql(
        "CREATE TRIGGER no BEFORE UPDATE ON messages WHEN NEW.id LIKE '%-000002-%' "
        "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    )
    begun: list[dict[str, bool]] = []
    writing = Store.writing
    monkeypatch.setattr(conflicts, "_SHORT_S", 9.0)

    def noted(store: Store, **options: bool) -> AbstractContextManager[None]:
        begun.append(options)
        return writing(store, **options)

    monkeypatch.setattr(Store, "writing", noted)

    result = call("resolve", "--all", "--take", "db", "--json")

    refused = [key for key in keys if "-000002-" in key]
    assert (3, refused) == (result.code, [one["id"] for one in result.json["failed"]])
    assert "not this one" in result.json["failed"][0]["error"]
    assert 1 == begun.count({})
    assert [BOTH_FILE if key in refused else BOTH_ROW for key in keys] == [
        bodies(shop, key) for key in keys
    ]


def test_a_trigger_that_rolls_all_back_costs_only_its_own_conflict(
    call: Call, shop: Project
) -> None:
    keys = in_conflicts(shop, 1, 2, 3, 4)
    shop.sql(
        "CREATE TRIGGER no BEFORE UPDATE ON messages WHEN NEW.id LIKE '%-000002-%' "
        "BEGIN SELECT RAISE(ROLLBACK, 'all of it'); END"
    )
    result = call("resolve", "--all", "--take", "db", "--json")
    refused = [key for key in keys if "-000002-" in key]
    assert (refused, [key for key in keys if key not in refused]) == (
        [one["id"] for one in result.json["failed"]],
        [one["id"] for one in result.json["resolved"]],
    )
    assert [BOTH_FILE if key in refused else BOTH_ROW for key in keys] == [
        bodies(shop, key) for key in keys
    ]


def test_a_conflict_that_nobody_has_seen_yet_is_not_resolved(call: Call, shop: Project) -> None:
    seen, unseen = in_conflict(shop), shop.receive(2)
    shop.sync()
    shop.edit(f"inbox/{unseen}.md", "Body 2.", "The file says.")
    shop.sql("UPDATE messages SET body = 'The row says.' WHERE id = ?", unseen)

    result = call("resolve", "--all", "--take", "db")

    assert 3 == result.code
    assert (BOTH_ROW, BOTH_FILE) == (bodies(shop, seen), bodies(shop, unseen))
    assert [unseen] == [one["id"] for one in call("conflicts", "--json").json["conflicts"]]


def test_an_edit_that_no_cycle_has_seen_is_not_lost_by_resolving(call: Call, shop: Project) -> None:
    key = in_conflict(shop)
    shop.edit(f"inbox/{key}.md", "# Subject 1", "# Another subject")
    shop.edit(f"inbox/{key}.md", "The file says.", "And says more.")

    result = call("resolve", key, "--take", "db")

    assert 0 == result.code
    assert BOTH_ROW == bodies(shop, key)
    assert "Another subject" == shop.row(key)["subject"]
    assert 0 == type_in(call, result.out, "To undo").code
    assert ("And says more.", "And says more.") == bodies(shop, key)


def test_the_conflict_of_a_message_that_is_gone_can_be_closed(call: Call, shop: Project) -> None:
    key = in_conflict(shop)
    shop.file(f"inbox/{key}.md").unlink()
    shop.sync()

    refused = call("resolve", key, "--take", "db")
    closed = call("resolve", key, "--take", "current")

    assert 3 == refused.code
    assert "stands nowhere any more" in refused.err
    assert "'syncd restore' brings it back" in refused.err
    assert 0 == closed.code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resolve", "--take", "db"], "resolve takes an id, or --all"),
        (["resolve", "msg", "--all", "--take", "db"], "resolve takes an id, or --all"),
        (["resolve", "msg"], "Missing option '--take'. Choose from: file, db, current"),
        (["resolve", "msg", "--take", "row"], "'row' is not one of 'file', 'db', 'current'"),
        (["resolve", "nothing", "--take", "db"], "no open conflict in a message 'nothing'"),
        (["resolve", "msg", "--take", "db"], "2 messages begin with 'msg': msg-"),
        (["resolve", "", "--take", "db"], "no open conflict in a message ''"),
        (["show", "nothing"], "no message 'nothing' is known here"),
        (["show", "msg"], "3 messages begin with 'msg': msg-"),
        (["show", "\udcff"], "is known here"),
        (["show", "msg-20260220-000001", "--version", "99"], "has no version 99"),
        (["show", "msg-20260220-000001", "--version", "9" * 30], "has no version 999"),
        (["history", "nothing"], "no message 'nothing' is known here"),
        (["restore", "nothing"], "no message 'nothing' is known here"),
        (["restore", "msg-20260220-000001", "--version", "2"], "has no version 2 of"),
        (["restore", "msg-20260220-000003"], "the history has nothing of"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_wrong_call_gets_a_sentence(
    call: Call, shop: Project, arguments: list[str], words: str
) -> None:
    shop.receive(3)
    in_conflicts(shop, 1, 2)

    result = call(*arguments)

    assert (2, "") == (result.code, result.out)
    assert words in result.err


# history, show and restore


@pytest.mark.parametrize("gone_by", ["sql", "file"])
def test_g2_a_deleted_message_is_restored(call: Call, shop: Project, gone_by: str) -> None:
    shop.write("inbox/a note.md", COMMENTED)
    shop.sync()
    shop.sql("UPDATE messages SET read_at = '2026-03-01', task_injected = 1")
    row = shop.row("by-hand")
    if gone_by == "sql":
        shop.sql("DELETE FROM messages")
    else:
        shop.file("inbox/a note.md").unlink()
    shop.sync()
    assert ([], {}) == (shop.names("inbox"), shop.rows())

    result = call("restore", "by-hand")

    assert (0, "") == (result.code, result.err)
    assert "stands again on both sides\n  → To undo, delete its file or its row" in result.out
    assert row == shop.row("by-hand")
    if gone_by == "sql":
        assert COMMENTED == shop.text("inbox/a note.md")
    assert_in_step(shop)
    assert_quiet(shop)


def test_a_deletion_that_no_cycle_has_seen_yet_is_restored_too(call: Call, shop: Project) -> None:
    key = shop.receive()
    shop.sync()
    shop.file(f"inbox/{key}.md").unlink()

    assert 0 == call("restore", key[:-1]).code

    assert ("Body 1.", "Body 1.") == bodies(shop, key)
    assert_quiet(shop)


def test_a_restored_file_does_not_take_the_name_of_another(call: Call, shop: Project) -> None:
    shop.write("inbox/a note.md", COMMENTED)
    shop.sync()
    shop.sql("DELETE FROM messages")
    shop.sync()
    other = COMMENTED.replace("by-hand", "other")
    shop.write("inbox/a note.md", other)

    assert 0 == call("restore", "by-hand").code

    assert ["a note.md", "by-hand.md"] == shop.names("inbox")
    assert other == shop.text("inbox/a note.md")
    assert_in_step(shop)


def test_the_date_of_a_file_that_states_none_survives_its_restore(
    call: Call, shop: Project
) -> None:
    path = shop.write("inbox/old.md", "---\nid: old\n---\n\n# Old\n")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    shop.sync()
    shop.sql("DELETE FROM messages")
    shop.sync()

    assert 0 == call("restore", "old").code

    assert "2020-09-13T12:26:40+00:00" == shop.row("old")["created_at"]
    assert_quiet(shop)


def test_a_file_that_is_larger_than_most_are_allowed_to_be_comes_back_as_it_was(
    call: Call, shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = COMMENTED + "x" * MAX_BYTES
    monkeypatch.setenv("SYNCD_MAX_BYTES", str(2 * MAX_BYTES))
    for text in (large, large.replace("# Written", "# Edited")):
        shop.write("inbox/a note.md", text)
        assert 0 == call("sync").code
        if text is large:
            shop.sql("DELETE FROM messages")
            assert 0 == call("sync").code

    assert 0 == call("restore", "by-hand").code

    assert large == shop.text("inbox/a note.md")


def test_a_restore_can_be_undone_and_that_too(call: Call, shop: Project) -> None:
    shop.write("inbox/a note.md", COMMENTED)
    shop.sync()
    edited = COMMENTED.replace("Run it twice.", "Run it once.").replace("# Written", "# Edited")
    shop.write("inbox/a note.md", edited)
    shop.sync()
    shop.sql("UPDATE messages SET body = 'Never run it.'")
    shop.sync()

    first = call("restore", "by-hand")
    assert edited == shop.text("inbox/a note.md")
    assert ("Run it once.", "Run it once.") == bodies(shop, "by-hand")
    undone = type_in(call, first.out, "To undo")
    assert edited.replace("Run it once.", "Never run it.") == shop.text("inbox/a note.md")
    assert ("Never run it.", "Never run it.") == bodies(shop, "by-hand")
    again = type_in(call, undone.out, "To undo")
    assert edited == shop.text("inbox/a note.md")
    assert (0, 0, 0) == (first.code, undone.code, again.code)
    assert_quiet(shop)


def test_a_file_that_is_saved_just_before_a_restore_is_not_overwritten(shop: Project) -> None:
    key = shop.receive()
    path = f"inbox/{key}.md"
    shop.sync()
    shop.new.update(key, body="By SQL.")
    shop.sync()
    shop.edit(path, "By SQL.", "By hand.")
    with Store.open(shop.new.database) as store, FileReplica(shop.path) as files:
        (first,) = (kept for kept in history.each_version(store, key) if kept.data is not None)
        history.restore(shop.path, store, files, first)
    assert ("Body 1.", True) == (shop.row(key)["body"], "By hand." in shop.text(path))
    assert 1 == len(shop.sync().conflicts)
    assert_in_step(shop)


@pytest.mark.parametrize("options", [[], ["--version", "1"]], ids=["latest", "named"])
def test_a_version_whose_time_is_up_is_restored_as_long_as_it_is_listed(
    call: Call, shop: Project, options: list[str]
) -> None:
    key = shop.receive()
    shop.sync()
    shop.sql("DELETE FROM messages")
    shop.sync()
    shop.sql("UPDATE syncd_history SET at = '2020-01-01T00:00:00+00:00'")

    assert 0 == call("restore", key, *options).code

    assert ("Body 1.", "Body 1.") == bodies(shop, key)


def test_a_version_that_stands_already_changes_nothing(call: Call, shop: Project) -> None:
    shop.write("inbox/a note.md", COMMENTED)
    shop.sync()
    shop.sql("UPDATE messages SET body = 'Another.'")
    shop.sync()
    shop.sql("UPDATE messages SET body = 'Run it twice.'")
    shop.sync()
    before = shop.files()

    result = call("restore", "by-hand", "--version", 1)

    assert 0 == result.code
    assert "version 1 of by-hand is what stands already: nothing to do\n" == result.out
    assert before == shop.files()


def test_restoring_moves_the_file_back_to_its_mailbox(call: Call, shop: Project) -> None:
    key = in_conflict(shop)
    shop.old.archive(key)
    shop.sync()

    result = call("restore", key, "--version", 1)

    assert 3 == result.code  # the conflict is still open
    assert ([f"{key}.md"], []) == (shop.names("inbox"), shop.names("inbox/.archive"))
    assert ("Body 1.", "unread") == (shop.row(key)["body"], shop.row(key)["status"])
    type_in(call, result.out, "To undo")
    assert ([], [f"{key}.md"]) == (shop.names("inbox"), shop.names("inbox/.archive"))
    assert BOTH_FILE == bodies(shop, key)


def test_the_history_lists_also_messages_that_are_gone(call: Call, shop: Project) -> None:
    shop.write("inbox/a note.md", COMMENTED)
    key = shop.receive()
    shop.sync()
    shop.sql("UPDATE messages SET body = 'Changed.' WHERE id = ?", key)
    shop.sql("DELETE FROM messages WHERE id = 'by-hand'")
    shop.sync()

    of_one, of_all = call("history", "by-hand"), call("history")
    entries = call("history", "--json").json["history"]

    assert [1, 2, 3, 4] == [entry["number"] for entry in entries]
    assert {(key, "db", "changed by SQL"), (key, "file", "replaced")} == {
        (entry["id"], entry["side"], entry["reason"]) for entry in entries if entry["id"] == key
    }
    deleted = [entry for entry in entries if entry["id"] == "by-hand"][-1]
    assert {
        "number": deleted["number"],
        "id": "by-hand",
        "at": deleted["at"],
        "side": "file",
        "reason": "deleted",
        "path": "inbox/a note.md",
        "subject": "By hand",
    } == deleted
    assert (0, 2, 4) == (of_one.code, len(of_one.out.splitlines()), len(of_all.out.splitlines()))
    assert of_one.out.splitlines()[-1].endswith(
        "by-hand  file, deleted        inbox/a note.md  By hand · Run it twice."
    )
    assert "2 versions of by-hand, kept for 30 days\n" in of_one.err
    assert 0 == type_in(call, of_one.err, "To bring one back").code
    assert COMMENTED == shop.text("inbox/a note.md")


def test_show_prints_the_bytes_that_stand_now_and_those_of_a_version(
    capfdbinary: pytest.CaptureFixture[bytes], home: Path, shop: Project
) -> None:
    odd = COMMENTED.replace("\n", "\r\n").encode() + b"\x1b[31m \xe2\x80\xae\tend"
    shop.write("inbox/odd.md", odd)
    shop.sync()
    shop.sql("UPDATE messages SET body = 'Changed.'")
    shop.sync()
    number = str(shop.history("by-hand")[-1]["version"])

    assert 0 == main(["show", "by-hand"])
    now = capfdbinary.readouterr()
    assert 0 == main(["show", "by-hand", "--version", number])
    then = capfdbinary.readouterr()
    assert 0 == main(["show", "by-hand", "--version", "1"])
    row = capfdbinary.readouterr()

    assert shop.file("inbox/odd.md").read_bytes() == now.out
    assert b"by-hand stands in inbox/odd.md\n" == now.err
    assert odd == then.out
    head, _, body = row.out.decode().partition("\n\n")
    assert shop.history("by-hand")[0]["body"] == body
    assert 'subject: "By hand"\nstatus: "unread"' in head
    with_escapes = on_a_terminal(
        home, "show", "by-hand", "--version", number, "--project", shop.path
    )
    assert "\\x1b[31m \\u202e\tend" in with_escapes
    assert "Run it twice.\\r\r\n" in with_escapes


def test_show_without_a_file_shows_the_row_and_in_json_both(call: Call, shop: Project) -> None:
    shop.write("inbox/a note.md", COMMENTED)
    shop.sync()
    both = call("show", "by-hand", "--json").json
    shop.file("inbox/a note.md").unlink()
    row_only = call("show", "by-hand")
    shop.sql("UPDATE messages SET body = x'ff00'")
    odd = call("show", "by-hand", "--json").json

    assert {"path": "inbox/a note.md", "text": COMMENTED, "base64": None} == both["file"]
    assert ("by-hand", "Run it twice.", 0) == (
        both["id"],
        both["row"]["body"],
        both["row"]["task_injected"],
    )
    assert "by-hand stands in a row and has no file\n" == row_only.err
    assert row_only.out.endswith("attachments: null\n\nRun it twice.")
    assert (None, {"base64": "/wA="}) == (odd["file"], odd["row"]["body"])


def test_g2_a_version_comes_back_over_a_row_whose_text_is_not_utf_8(
    shop: Project, call: Call
) -> None:
    key = shop.receive(body="First.")
    shop.sync()
    shop.edit(f"inbox/{key}.md", "First.", "Second.")
    shop.sync()
    shop.sql("UPDATE messages SET body = CAST(x'ff41' AS TEXT) WHERE id = ?", key)
    assert 3 == call("sync").code
    assert 0 == call("restore", key, "--version", 1).code
    assert ("First.", "First.") == (shop.row(key)["body"], shop.message_at(f"inbox/{key}.md").body)
    assert [(b"\xffA",)] == shop.sql(
        "SELECT CAST(body AS BLOB) FROM syncd_history WHERE hex(body) = 'FF41'"
    )
    assert 0 == call("sync").code
    assert_quiet(shop)


def test_show_finds_a_file_that_was_moved_and_one_that_cannot_be_read(
    call: Call, shop: Project
) -> None:
    shop.write("inbox/a note.md", COMMENTED)
    shop.sync()
    shop.move("inbox/a note.md", "inbox/.archive/moved.md")
    moved = call("show", "by-hand")
    shop.sync()
    shop.write("inbox/.archive/moved.md", "no front matter")
    broken = call("show", "by-hand")

    assert (COMMENTED, "by-hand stands in inbox/.archive/moved.md\n") == (moved.out, moved.err)
    assert (0, "no front matter") == (broken.code, broken.out)


def test_looking_changes_nothing(call: Call, shop: Project) -> None:
    key = in_conflict(shop)

    with nothing_written(shop):
        for command in (["conflicts"], ["history"], ["show", key], ["show", key, "--version", "1"]):
            call(*command)
            call(*command, "--json")
        call("repair", "--dry-run")


def test_g14_a_version_from_anybody_leads_nowhere_outside(call: Call, shop: Project) -> None:
    key = shop.receive()
    shop.sync()
    evil = COMMENTED.replace("by-hand", "evil").encode()
    for path in ("../../evil.md", "/evil.md", "inbox/a\0.md", 7, b"inbox/\xff.md", None):
        shop.sql(
            "INSERT INTO syncd_history (id, at, side, reason, path, data) "
            "VALUES ('evil', ?, 'file', '\x1b[2J', ?, ?)",
            *(datetime.now(UTC).isoformat(), path, evil),
        )
        shop.sql("INSERT INTO syncd_history (id, path) VALUES (NULL, ?), (x'ff', ?)", path, path)

    listed = call("history")
    numbers = [row["version"] for row in shop.history("evil")]
    for number in numbers:
        assert 0 == call("restore", "evil", "--version", number).code
        shop.sql("DELETE FROM messages WHERE id = 'evil'")
        shop.sync()
    assert 0 == call("restore", "evil", "--version", numbers[0]).code

    assert (0, 18) == (listed.code, len(listed.out.splitlines()))
    assert 0 == call("history", "--json").code
    assert "\x1b" not in listed.out + listed.err
    assert ["evil.md", f"{key}.md"] == shop.names("inbox")
    assert [] == list(shop.path.parent.glob("**/evil.md"))[1:]


def test_an_id_that_looks_like_an_option_is_restored_by_the_printed_command(
    call: Call, shop: Project, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write("inbox/odd.md", COMMENTED.replace("by-hand", "'--all of; it'"))
    shop.sync()
    shop.sql("UPDATE messages SET body = 'Changed.'")
    shop.sync()
    monkeypatch.chdir(home)

    listed = call("history", "--project", shop.path, "--", "--all")

    assert f"--project {shop.path} -- '--all of; it'" in listed.err
    result = type_in(call, listed.err, "To bring one back")
    assert 0 == result.code
    assert "Run it twice." == shop.row("--all of; it")["body"]


def test_a_halted_project_is_not_acted_on(call: Call, shop: Project) -> None:
    key = in_conflict(shop)
    shop.receive(2)
    shop.sync()
    for name in shop.names("inbox"):
        shop.file(f"inbox/{name}").unlink()
    before = shop.rows()

    restored = call("restore", key)
    resolved = call("resolve", key, "--take", "db", "--json")

    assert (4, 4) == (restored.code, resolved.code)
    assert f"{shop.path}: nothing was done\n  halted, nothing is applied" in restored.out
    assert [] == resolved.json["resolved"]
    assert before == shop.rows()


def test_a_busy_project_ends_with_75(
    call: Call, shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from syncd.cycle.project import turn

    key = in_conflict(shop)
    monkeypatch.setenv("SYNCD_BUSY_WAIT_S", "0")
    with turn(shop.path, 0):
        codes = [
            call(*command).code
            for command in (["restore", key], ["resolve", key, "--take", "db"], ["repair"])
        ]

    assert [75, 75, 75] == codes
    assert BOTH_FILE == bodies(shop, key)


def test_a_restore_that_the_file_cannot_take_says_so(call: Call, shop: Project) -> None:
    key = in_conflict(shop)
    shop.write(f"inbox/{key}.md", "no front matter")
    shop.sync()

    result = call("restore", key, "--version", 1)

    assert 3 == result.code
    assert "stands again in the row only\n" in result.out
    assert f"  inbox/{key}.md:1: there is no front matter" in result.out


def test_it_all_works_beside_an_agent(call: Call, home: Path, shop: Project) -> None:
    shop.write("inbox/a note.md", COMMENTED)
    with RunningAgent(home, shop.path, gone_s=0, retry_s=0):
        shop.sql("DELETE FROM messages")
        wait_for(lambda: not shop.names("inbox"))
        restored = call("restore", "by-hand")
        assert (0, "") == (restored.code, restored.err)
        assert COMMENTED == shop.text("inbox/a note.md")
        shop.edit("inbox/a note.md", "twice", "thrice")
        wait_for(lambda: shop.row("by-hand")["body"] == "Run it thrice.")
        assert (0, f"{shop.path}: nothing to repair\n", "") == call("repair")
    assert_quiet(shop)


def test_a_message_whose_id_is_the_empty_text_is_meant_by_that_alone(
    call: Call, shop: Project
) -> None:
    assert 2 == call("show", "").code
    insert(shop, a_row(shop, ""))
    shop.receive()
    shop.sync()
    for command in ("show", "history", "log"):
        assert 0 == call(command, "").code
    shop.sql("UPDATE messages SET body = 'Other.' WHERE id = ''")
    shop.sync()
    assert 0 == call("restore", "").code
    assert "From a row." == shop.row("")["body"]
    assert 0 == call("message", "read", "").code
    assert "read" == shop.row("")["status"]


def test_what_others_wrote_among_the_conflicts_is_passed_over(call: Call, shop: Project) -> None:
    first = in_conflict(shop)
    odd = ("'x', 'body', '', NULL, 1", "NULL, NULL, NULL, 'db', 'x'", "'x', 'no', '', 'db', 1")
    for values in odd:
        shop.sql(f"INSERT INTO syncd_conflicts VALUES ({values})")
    listed = call("conflicts", "--json").json
    assert [first] == [one["id"] for one in listed["conflicts"]]
    assert 3 == call("status").code


# repair


def test_repair_makes_the_documented_example_readable_for_the_old_client(
    call: Call, shop: Project
) -> None:
    example = (WORLD / "apex/.claude-mpm/inbox/from-a-person.md").read_bytes()
    blanks = COMMENTED.replace("---\n", "--- \t\n", 1).replace("\n---\n", "\n---  \n")
    shop.write("inbox/from-a-person.md", example)
    shop.write("inbox/blanks.md", blanks)
    fine = shop.receive()
    shop.sync()
    before, rows = shop.files(), shop.rows()

    with nothing_written(shop):
        dry = call("repair", "--dry-run")
    real = call("repair", shop.path)

    assert (0, 0, "") == (dry.code, real.code, real.err)
    assert [
        "  inbox/blanks.md: there is no front matter",
        "  inbox/from-a-person.md: created_at is not a quoted ISO 8601 timestamp",
    ] == dry.out.splitlines()[:2]
    assert f"{shop.path}: would repair 2 files" == dry.out.splitlines()[2]
    assert dry.out.replace("would repair", "repaired") == real.out
    for name in ("blanks.md", "from-a-person.md"):
        message = parse_legacy(shop.file(f"inbox/{name}").read_bytes())
        assert rows[message.id]["body"] == message.body
        assert rows[message.id]["created_at"] == message.created_at.isoformat()
    assert COMMENTED == shop.text("inbox/blanks.md")
    mended = example.replace(b"2026-02-20T20:15:00Z", b"'2026-02-20T20:15:00+00:00'")
    assert mended == shop.file("inbox/from-a-person.md").read_bytes()
    assert before[f"inbox/{fine}.md"] == shop.files()[f"inbox/{fine}.md"]
    assert rows == shop.rows()
    assert_quiet(shop)
    assert f"{shop.path}: nothing to repair\n" == call("repair").out


def test_a_repair_is_undone_by_restoring_the_version_before(call: Call, shop: Project) -> None:
    unquoted = COMMENTED.replace("'", "")
    shop.write("inbox/a note.md", unquoted)

    repaired = call("repair", "--json").json
    restored = call("restore", "by-hand")

    assert [
        {
            "path": "inbox/a note.md",
            "problem": "created_at is not a quoted ISO 8601 timestamp",
            "failure": None,
        }
    ] == repaired["files"]
    assert (False, 1) == (repaired["dry_run"], repaired["cycle"]["counts"]["rows_inserted"])
    assert 0 == restored.code
    assert unquoted == shop.text("inbox/a note.md")
    assert 0 == type_in(call, restored.out, "To undo").code
    parse_legacy(shop.file("inbox/a note.md").read_bytes())
    assert_quiet(shop)


def test_g6_nothing_is_repaired_in_a_halted_project(call: Call, shop: Project) -> None:
    shop.receive()
    shop.write("outbox/unquoted.md", COMMENTED.replace("'", ""))
    shop.sync()
    shop.file("inbox").rename(shop.file("away"))
    files = shop.files()
    result = call("repair")
    assert (4, f"{shop.path}: nothing was done") == (result.code, result.out.splitlines()[0])
    assert files == shop.files()


def test_repair_tells_which_files_it_cannot_repair_and_why(home: Path, shop: Project) -> None:
    hopeless = COMMENTED.replace("owner: Mira\n", "owner: |\n  a\n  b---\n  c\n")
    hopeless = hopeless.replace("created_at: '2026-02-20T20:15:00+00:00'\n", "")
    shop.write("inbox/hopeless.md", hopeless)
    shop.write("inbox/no-message.md", "no front matter")

    result = syncd(home, "repair", shop.path, gone_s=0, retry_s=0)

    lines = result.stdout.splitlines()
    assert (3, "") == (result.returncode, result.stderr)
    assert lines[0].startswith("  inbox/hopeless.md: ")
    assert "; it stays: " in lines[0]
    assert f"{shop.path}: 1 file cannot be repaired, 1 row inserted" == lines[1]
    assert lines[2].startswith("  inbox/no-message.md:1: there is no front matter")
    assert hopeless == shop.text("inbox/hopeless.md")
