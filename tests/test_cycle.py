"""Whole cycles over real files and a real database; tests of a guarantee bear its number."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.cli import status as status_page
from syncd.core.sides import Side
from syncd.cycle.report import State
from tests.clients import NewClient
from tests.projects import (
    ARCHIVED,
    AT_ONE,
    BY_HAND,
    NO_DATE,
    ONE,
    SENT,
    THREE,
    TWO,
    Project,
    a_day_later,
    a_row,
    assert_in_step,
    assert_quiet,
    drop_ours,
    insert,
    nothing_written,
    path_of,
)

# What arrives where ------------------------------------------------------------------------------


def test_files_become_rows_that_the_new_client_lists(project: Project) -> None:
    key = project.receive(1, metadata={"n": 1}, attachments=["a.txt"], priority="high")
    project.old.send(project.other, "Out", "Going out.")
    report = project.sync()
    assert (2, 0) == (report.counts.rows_inserted, report.counts.files_created)
    listed = {message.id: message for message in project.new.list()}
    received = listed[key]
    assert ({"n": 1}, ["a.txt"], "high", "unread") == (
        received.metadata,
        received.attachments,
        received.priority,
        received.status,
    )
    assert ["sent", "unread"] == sorted(message.status for message in listed.values())
    assert_quiet(project)


def test_rows_become_files_that_the_old_client_lists(project: Project) -> None:
    sender = NewClient(project.other)
    key = sender.send(project.path, "Subject", "Body.", metadata={"n": [1]}, attachments=["a"])
    sent = project.new.send(project.other, "Out", "Going out.")
    report = project.sync()
    assert (0, 2) == (report.counts.rows_inserted, report.counts.files_created)
    assert [key] == [message.id for message in project.old.list()]
    (received,) = project.old.list()
    assert ("Subject", "Body.", {"n": [1]}, ["a"]) == (
        received.subject,
        received.body,
        received.metadata,
        received.attachments,
    )
    assert [f"{sent}.md"] == project.names("outbox")
    assert_quiet(project)


def test_a_subject_changed_by_sql_stands_in_the_file_and_nothing_else_moved(
    synced: Project,
) -> None:
    before = synced.text(AT_ONE)
    synced.new.update(ONE, subject="Better")
    assert 1 == synced.sync().counts.files_updated
    assert before.replace("# Subject 1", "# Better") == synced.text(AT_ONE)
    assert_quiet(synced)


@pytest.mark.parametrize("empty", [None, ""])
def test_reading_by_the_old_client_sets_read_at(synced: Project, empty: str | None) -> None:
    synced.new.update(ONE, read_at=empty)
    synced.old.read(ONE)
    assert 1 == synced.sync().counts.rows_updated
    row = synced.row(ONE)
    assert "read" == row["status"]
    assert row["read_at"]
    assert_quiet(synced)


def test_reading_leaves_a_read_at_that_is_there(synced: Project) -> None:
    synced.new.update(ONE, read_at="2026-01-01T00:00:00+00:00", task_injected=1)
    synced.old.read(ONE)
    synced.sync()
    row = synced.row(ONE)
    assert ("read", "2026-01-01T00:00:00+00:00", 1) == (
        row["status"],
        row["read_at"],
        row["task_injected"],
    )


def test_reading_by_the_new_client_is_a_word_in_the_file(synced: Project) -> None:
    before = synced.text(AT_ONE)
    synced.new.read(ONE)
    synced.sync()
    assert before.replace("status: unread", "status: read") == synced.text(AT_ONE)
    assert_quiet(synced)


def test_a_row_that_only_spells_a_value_differently_changes_nothing(synced: Project) -> None:
    before = synced.files()
    synced.new.update(ONE, body="  Body 1.\r\n", metadata="{}", attachments="[ ]")
    row = synced.row(ONE)
    assert 0 == synced.sync().counts.changes()
    assert (before, row) == (synced.files(), synced.row(ONE))
    assert_quiet(synced)


def test_a_deleted_file_deletes_the_row_and_the_history_keeps_it(synced: Project) -> None:
    synced.file(AT_ONE).unlink()
    assert 1 == synced.sync().counts.rows_deleted
    assert ONE not in synced.rows()
    assert "Body 1." in synced.kept_texts(ONE)
    assert_in_step(synced)
    assert_quiet(synced)


def test_a_deleted_row_deletes_the_file_and_the_history_keeps_its_bytes(synced: Project) -> None:
    data = synced.file(AT_ONE).read_bytes()
    synced.new.delete(ONE)
    assert 1 == synced.sync().counts.files_deleted
    assert data in [row["data"] for row in synced.history(ONE)]
    assert_in_step(synced)
    assert_quiet(synced)


def test_a_file_that_was_on_its_way_to_another_folder_at_the_first_look_is_no_delete(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.sql("UPDATE messages SET task_injected = 1 WHERE id = ?", ONE)
    synced.sync()
    on_its_way = synced.path / "on its way"
    synced.file(AT_ONE).rename(on_its_way)

    def arrive(_: float) -> None:
        on_its_way.rename(synced.file(f"inbox/.archive/{ONE}.md"))

    monkeypatch.setattr("syncd.cycle.absence.time.sleep", arrive)
    report = synced.sync()
    assert 0 == report.counts.rows_deleted
    assert ("archived", 1) == (synced.row(ONE)["status"], synced.row(ONE)["task_injected"])
    assert_in_step(synced)


def test_an_edit_of_the_row_wins_over_a_deleted_file(synced: Project) -> None:
    synced.file(AT_ONE).unlink()
    synced.new.update(ONE, body="Still needed.")
    assert 1 == synced.sync().counts.files_created
    assert "Still needed." == synced.message_at(AT_ONE).body
    assert_quiet(synced)


def test_an_edit_of_the_file_wins_over_a_deleted_row(synced: Project) -> None:
    synced.new.delete(ONE)
    synced.edit(AT_ONE, "Body 1.", "Still needed.")
    assert 1 == synced.sync().counts.rows_inserted
    assert "Still needed." == synced.row(ONE)["body"]
    assert_quiet(synced)


def test_what_both_sides_deleted_is_forgotten(synced: Project) -> None:
    synced.file(AT_ONE).unlink()
    synced.new.delete(ONE)
    assert 0 == synced.sync().counts.changes()
    assert ONE not in {values[0].decode() for values in synced.tables()["syncd_baseline"]}
    assert_quiet(synced)


def test_the_counts_say_how_many_messages_stayed_as_they_were(synced: Project) -> None:
    assert 5 == synced.sync().counts.unchanged
    synced.receive(6)
    assert (1, 5) == (
        (counts := synced.sync().counts).rows_inserted,
        counts.unchanged,
    )
    synced.new.delete(ONE)
    assert (1, 5) == ((counts := synced.sync().counts).files_deleted, counts.unchanged)
    synced.edit(f"inbox/{TWO}.md", "Body 2.", "Other.")
    assert (1, 4) == ((counts := synced.sync().counts).rows_updated, counts.unchanged)


# G1: what cannot be read changes nothing ---------------------------------------------------------

BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "white space": lambda data: b" \n\n",
    "cut in the front matter": lambda data: data[:60],
    "cut before the closing line ends": lambda data: data[: data.index(b"---\n\n") + 3],
    "without front matter": lambda data: data.split(b"---\n")[2],
    "not UTF-8": lambda data: data + b"\xff\xfe",
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "bad YAML": lambda data: data.replace(b"id: ", b"id: [", 1),
    "front matter that is a list": lambda data: b"---\n- a\n---\n\n# S\n",
    "a date that is none": lambda data: data.replace(b"created_at: '2026", b"created_at: 'x2026"),
    "zeros": lambda data: b"\0" * len(data),
    "zeros at the end": lambda data: data[:-3] + b"\0\0\xff",
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_g1_a_broken_file_changes_no_row_and_is_reported(
    synced: Project, damage: Callable[[bytes], bytes]
) -> None:
    rows = synced.rows()
    good = synced.file(AT_ONE).read_bytes()
    synced.write(AT_ONE, damage(good))
    report = synced.sync()
    assert rows == synced.rows()
    assert damage(good) == synced.file(AT_ONE).read_bytes()
    assert State.ATTENTION is report.state
    assert [AT_ONE] == [entry.path for entry in report.quarantined]
    assert report.quarantined[0].problem.reason
    assert_quiet(synced)
    synced.write(AT_ONE, good)
    report = synced.sync()
    assert (State.IN_SYNC, 0) == (report.state, report.counts.changes())
    assert_quiet(synced)


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_g1_a_new_broken_file_makes_no_row(
    project: Project, damage: Callable[[bytes], bytes]
) -> None:
    key = project.receive(1)
    path = f"inbox/{key}.md"
    project.write(path, damage(project.file(path).read_bytes()))
    report = project.sync()
    assert {} == project.rows()
    assert [path] == [entry.path for entry in report.quarantined]
    assert_quiet(project)


def test_g1_a_row_changes_beside_a_broken_file_and_arrives_when_it_is_mended(
    synced: Project,
) -> None:
    good = synced.text(AT_ONE)
    synced.write(AT_ONE, "")
    synced.sync()
    synced.new.update(ONE, subject="Meanwhile")
    synced.sync()
    assert "" == synced.text(AT_ONE)
    assert "Meanwhile" == synced.row(ONE)["subject"]
    synced.write(AT_ONE, good.replace("Body 1.", "By hand."))
    synced.sync()
    assert ("Meanwhile", "By hand.") == (
        synced.message_at(AT_ONE).subject,
        synced.row(ONE)["body"],
    )
    assert_in_step(synced)
    assert_quiet(synced)


def test_g1_a_row_deleted_beside_a_broken_file_leaves_the_file(synced: Project) -> None:
    synced.write(AT_ONE, "---\nid: x")
    synced.new.delete(ONE)
    synced.sync()
    assert "---\nid: x" == synced.text(AT_ONE)
    assert_quiet(synced)


def test_g1_a_broken_file_that_was_archived_keeps_its_row(synced: Project) -> None:
    rows = synced.rows()
    synced.write(AT_ONE, "")
    synced.sync()
    synced.move(AT_ONE, f"inbox/.archive/{ONE}.md")
    synced.sync()
    assert rows == synced.rows()
    assert_quiet(synced)


def test_g1_a_broken_file_that_was_renamed_keeps_its_row(synced: Project) -> None:
    rows = synced.rows()
    synced.write(AT_ONE, "")
    synced.sync()
    synced.move(AT_ONE, "inbox/notes.md")
    synced.sync()
    assert rows == synced.rows()


def test_g1_a_file_that_was_given_a_name_that_is_not_utf8_keeps_its_row(synced: Project) -> None:
    synced.new.update(ONE, read_at="2026-02-20T00:00:00+00:00", task_injected=1)
    synced.sync()
    rows = synced.rows()
    odd = os.fsencode(synced.file("inbox")) + b"/gr\xf6\xdfe.md"
    os.rename(synced.file(AT_ONE), odd)
    for _ in range(2):
        assert ["inbox/gr\\xf6\\xdfe.md"] == [one.path for one in synced.sync().quarantined]
        assert rows == synced.rows()
        assert 0 == status_page.look(synced.path, []).pending
    synced.new.update(ONE, body="By SQL.")
    synced.sync()
    os.rename(odd, synced.file(AT_ONE))
    synced.sync()
    assert "By SQL." == synced.message_at(AT_ONE).body
    assert rows[ONE]["read_at"] == synced.row(ONE)["read_at"]
    assert_in_step(synced)
    assert_quiet(synced)


def test_g1_a_broken_file_that_was_saved_by_rename_and_then_renamed_keeps_its_row(
    synced: Project,
) -> None:
    rows = synced.rows()
    synced.write("inbox/draft", "")  # its inode is none that the baseline knows
    synced.move("inbox/draft", AT_ONE)
    synced.sync()
    synced.move(AT_ONE, "inbox/notes.md")
    synced.sync()
    assert rows == synced.rows()


def test_g1_a_broken_file_that_was_copied_to_the_archive_keeps_its_row(synced: Project) -> None:
    rows = synced.rows()
    synced.write(AT_ONE, "")
    synced.sync()
    shutil.copy2(synced.file(AT_ONE), synced.file(f"inbox/.archive/{ONE}.md"))
    synced.write("inbox/takes the inode.md", BY_HAND)
    synced.file(AT_ONE).unlink()
    synced.sync()
    assert rows == {key: row for key, row in synced.rows().items() if key != "by-hand"}
    assert_quiet(synced)


def test_a_quarantined_file_that_is_deleted_is_a_deleted_message(synced: Project) -> None:
    synced.write(AT_ONE, "")
    synced.sync()
    synced.file(AT_ONE).unlink()
    report = synced.sync()
    assert (State.IN_SYNC, 1) == (report.state, report.counts.rows_deleted)
    assert_quiet(synced)


def test_a_quarantined_file_that_is_deleted_is_reported_no_longer_by_a_scoped_cycle(
    synced: Project,
) -> None:
    synced.write(AT_ONE, "")
    synced.scoped(AT_ONE)
    synced.file(AT_ONE).unlink()
    report = synced.scoped(gone=[AT_ONE])
    assert ([], 1) == (report.quarantined, report.counts.rows_deleted)
    assert_quiet(synced)


def test_g6_a_row_that_went_unheard_is_given_two_looks_also_where_its_file_was_written(
    synced: Project,
) -> None:
    synced.sql("DROP TRIGGER syncd_delete")
    synced.sql("DELETE FROM messages WHERE id = ?", ONE)
    report = synced.scoped(AT_ONE)
    assert ({f"messaging.db#{ONE}"}, 0) == (report.vanished, report.counts.files_deleted)
    assert synced.file(AT_ONE).exists()
    report = synced.scoped(AT_ONE, gone=report.vanished)
    assert (set(), 1) == (report.vanished, report.counts.files_deleted)
    assert_quiet(synced)


# G3, G4: both sides changed ----------------------------------------------------------------------


@pytest.mark.parametrize("prefer", Side)
def test_g3_the_same_field_changed_on_both_sides_keeps_both_and_lists_the_conflict(
    tmp_path: Path, prefer: Side
) -> None:
    project = Project(tmp_path / "p", prefer=prefer)
    key = project.receive(1)
    project.sync()
    project.edit(AT_ONE, "Body 1.", "By hand.")
    project.new.update(key, body="By SQL.")
    report = project.sync()
    winner = "By hand." if prefer is Side.FILE else "By SQL."
    loser = "By SQL." if prefer is Side.FILE else "By hand."
    assert winner == project.row(key)["body"]
    assert_in_step(project)
    assert loser in project.kept_texts(key)
    assert "Body 1." in project.kept_texts(key)
    (conflict,) = report.conflicts
    assert (key, "body", prefer) == (conflict.id, conflict.field, conflict.winner)
    assert loser in str(
        next(row for row in project.history(key) if row["version"] == conflict.version)
    )
    assert State.ATTENTION is report.state
    assert_quiet(project)
    assert report.conflicts == project.sync().conflicts


def test_g3_what_lost_a_conflict_is_kept_while_the_message_is_in_conflict(project: Project) -> None:
    key = project.receive(1)
    project.sync()
    for number, said in ((1, "Body 1."), (2, "By hand 1.")):
        project.edit(AT_ONE, said, f"By hand {number}.")
        project.new.update(key, body=f"By SQL {number}.")
        project.sync()
    project.sql("UPDATE syncd_history SET at = '2001-01-01T00:00:00+00:00'")
    project.sync()
    assert {"By SQL 1.", "By SQL 2."} <= {row["body"] for row in project.history(key)}
    project.sql("DELETE FROM syncd_conflicts")
    project.sync()
    a_day_later(project)
    project.sync()
    assert [] == project.history(key)


def test_g3_several_fields_in_conflict_have_one_winner_each(synced: Project) -> None:
    synced.edit(AT_ONE, "# Subject 1", "# By hand")
    synced.edit(AT_ONE, "priority: normal", "priority: high")
    synced.new.update(ONE, subject="By SQL", priority="low", body="Only by SQL.")
    report = synced.sync()
    assert [(ONE, "priority"), (ONE, "subject")] == [(c.id, c.field) for c in report.conflicts]
    row = synced.row(ONE)
    assert ("By hand", "high", "Only by SQL.") == (row["subject"], row["priority"], row["body"])
    assert_in_step(synced)
    assert_quiet(synced)


def test_g4_different_fields_changed_on_both_sides_arrive_on_both(synced: Project) -> None:
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.edit(AT_ONE, "to_agent: pm", "to_agent: qa  # for once")
    synced.new.update(ONE, subject="By SQL", metadata='{"n": 1}', status="read")
    report = synced.sync()
    assert [] == report.conflicts
    row = synced.row(ONE)
    assert ("By hand.", "qa", "By SQL", "read") == (
        row["body"],
        row["to_agent"],
        row["subject"],
        row["status"],
    )
    assert "to_agent: qa  # for once\n" in synced.text(AT_ONE)
    assert_in_step(synced)
    assert_quiet(synced)


def test_g4_a_file_moved_while_its_row_is_edited_keeps_both(synced: Project) -> None:
    synced.old.archive(ONE)
    synced.new.update(ONE, body="By SQL.")
    report = synced.sync()
    assert [] == report.conflicts
    assert ("archived", "By SQL.") == (synced.row(ONE)["status"], synced.row(ONE)["body"])
    assert "By SQL." == synced.message_at(f"inbox/.archive/{ONE}.md").body
    assert_in_step(synced)
    assert_quiet(synced)


def test_g4_a_row_archived_while_its_file_is_edited_keeps_both(synced: Project) -> None:
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.new.archive(ONE)
    report = synced.sync()
    assert [] == report.conflicts
    assert ("archived", "By hand.") == (synced.row(ONE)["status"], synced.row(ONE)["body"])
    assert f"inbox/.archive/{ONE}.md" == path_of(synced, ONE)
    assert_in_step(synced)
    assert_quiet(synced)


# G5: first syncs ---------------------------------------------------------------------------------


def test_g5_a_first_sync_is_the_union_of_both_sides(project: Project) -> None:
    only_file = project.receive(1)
    both = project.receive(2)
    insert(project, a_row(project, both, subject="Subject 2", body="Other body."))
    insert(project, a_row(project, "only-row"))
    report = project.sync()
    assert {only_file, both, "only-row"} == project.rows().keys()
    assert (0, 0) == (report.counts.rows_deleted, report.counts.files_deleted)
    assert "Other body." in project.kept_texts(both)
    assert_in_step(project)
    assert_quiet(project)


@pytest.mark.parametrize("lost", ["database", "baseline", "all of syncd's tables"])
def test_g5_a_lost_baseline_deletes_nothing(synced: Project, lost: str) -> None:
    gone_file, gone_row = ONE, TWO
    synced.file(f"inbox/{gone_file}.md").unlink()
    synced.new.delete(gone_row)
    if lost == "database":
        for path in synced.base.glob("messaging.db*"):
            path.unlink()
    elif lost == "baseline":
        synced.sql("DELETE FROM syncd_baseline")
    else:
        drop_ours(synced)
    report = synced.sync()
    assert (0, 0) == (report.counts.rows_deleted, report.counts.files_deleted)
    expected = {ONE, TWO, THREE, ARCHIVED, SENT} - ({ONE} if lost == "database" else set())
    assert expected == synced.rows().keys()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g5_files_that_vanished_before_the_first_sync_are_made_from_the_rows(
    project: Project,
) -> None:
    insert(project, a_row(project, "a"))
    project.sync()
    assert ["a.md"] == project.names("inbox")


# G10, G13: nothing is written that need not be ---------------------------------------------------


def test_g10_after_a_busy_time_further_cycles_write_nothing(synced: Project) -> None:
    synced.receive(10, "Täglich 📬", "# heading\n\n---\nid: x\n---\n", metadata={"d": "2026-01-01"})
    insert(synced, a_row(synced, "../../etc/passwd", subject="a\nb", attachments='["`x`"]'))
    insert(synced, a_row(synced, "odd", metadata='{"b": NaN, "a": [1, {}]}', attachments="[]"))
    synced.old.read(ONE)
    synced.old.archive(TWO)
    synced.new.archive(THREE)
    synced.move(f"inbox/.archive/{ARCHIVED}.md", "inbox/back again.md")
    synced.write("inbox/broken.md", "---")
    synced.write("inbox/copy.md", synced.text(AT_ONE))
    synced.sync()
    for _ in range(3):
        assert_quiet(synced)


def test_g10_a_forced_compare_of_everything_writes_nothing(synced: Project) -> None:
    with nothing_written(synced):
        assert 0 == synced.sync(trust_stamps=False).counts.changes()


def test_rows_known_by_another_digest_are_known_again_after_one_cycle(synced: Project) -> None:
    # As a version left it that made the digests of rows in another way.
    synced.sql("UPDATE syncd_baseline SET row_digest = zeroblob(16)")
    rows, files = synced.rows(), synced.files()
    assert 0 == synced.sync().counts.changes()
    assert (rows, files) == (synced.rows(), synced.files())
    assert_quiet(synced)


def test_g10_a_file_that_was_only_touched_changes_no_row(synced: Project) -> None:
    rows, files = synced.rows(), synced.files()
    os.utime(synced.file(AT_ONE), ns=(1, 1))
    assert 0 == synced.sync().counts.changes()
    assert rows == synced.rows()
    assert (files[AT_ONE][0], 1) == synced.files()[AT_ONE]
    assert_quiet(synced)


def test_g13_a_file_made_by_hand_is_imported_and_stays_as_it_is(project: Project) -> None:
    project.write("inbox/whatever name.md", BY_HAND)
    before = project.files()
    project.sync()
    assert before == project.files()
    row = project.row("by-hand")
    assert ("A title", "Words.", "2026-02-20T20:15:00+00:00", "unread", None) == (
        row["subject"],
        row["body"],
        row["created_at"],
        row["status"],
        row["replied_to"],
    )


@pytest.mark.parametrize(
    ("column", "value", "old", "new"),
    [
        ("subject", "Another", "A title", "Another"),
        ("body", "Other words.", "Words.", "Other words."),
        ("from_agent", "qa", '"pm"', "qa"),
        ("priority", "low", "priority: high", "priority: low"),
        ("message_type", "request", "type: task", "type: request"),
    ],
)
def test_g13_an_edit_by_sql_touches_only_its_own_value(
    project: Project, column: str, value: str, old: str, new: str
) -> None:
    project.write("inbox/whatever name.md", BY_HAND)
    project.sync()
    project.new.update("by-hand", **{column: value})
    project.sync()
    found = project.text("inbox/whatever name.md")
    assert BY_HAND.replace(old, new) == found.replace(f'"{value}"', value)
    assert_in_step(project)


def test_g13_an_edit_of_the_subject_leaves_the_white_space_around_it(project: Project) -> None:
    text = BY_HAND.replace("# A title", "#   A title  ")
    project.write("inbox/a.md", text)
    project.sync()
    project.new.update("by-hand", subject="Another")
    project.sync()
    assert text.replace("A title", "Another") == project.text("inbox/a.md")


def test_g13_a_move_by_sql_keeps_every_byte_and_the_name(project: Project) -> None:
    project.write("inbox/whatever name.md", BY_HAND)
    project.sync()
    project.new.archive("by-hand")
    report = project.sync()
    assert (1, 0) == (report.counts.files_moved, report.counts.files_updated)
    assert BY_HAND == project.text("inbox/.archive/whatever name.md")
    assert [] == project.names("inbox")
    assert_quiet(project)


@pytest.mark.parametrize("by", ["hand", "sql"])
@pytest.mark.parametrize(
    ("folder", "left_out", "to", "status"),
    [
        ("inbox", "to_project", "outbox", "sent"),
        ("inbox", "from_project", "outbox", "sent"),
        ("outbox", "from_project", "inbox/.archive", "archived"),
        ("outbox", "to_project", "inbox", "unread"),
    ],
)
def test_g10_what_a_file_does_not_state_stays_when_it_comes_to_where_something_else_is_meant(
    project: Project, by: str, folder: str, left_out: str, to: str, status: str
) -> None:
    line = {"from_project": "from_project: /p/a\n", "to_project": "to_project: /p/b\n"}[left_out]
    project.write(f"{folder}/a.md", BY_HAND.replace(line, ""))
    project.sync()
    meant = project.row("by-hand")[left_out]
    if by == "sql":
        project.new.update("by-hand", status=status)
    else:
        project.move(f"{folder}/a.md", f"{to}/a.md")
    project.sync()
    assert (meant, status) == (project.row("by-hand")[left_out], project.row("by-hand")["status"])
    assert f"{left_out}: {meant}\n" in project.text(f"{to}/a.md")
    assert_in_step(project)
    assert_quiet(project)


def test_a_move_by_hand_and_another_project_by_sql_arrive_both(project: Project) -> None:
    project.write("inbox/a.md", BY_HAND.replace("to_project: /p/b\n", ""))
    project.sync()
    project.move("inbox/a.md", "outbox/a.md")
    project.new.update("by-hand", to_project="/p/c")
    report = project.sync()
    assert [] == report.conflicts
    row = project.row("by-hand")
    assert ("sent", "/p/c") == (row["status"], row["to_project"])
    assert_in_step(project)
    assert_quiet(project)


def test_a_date_that_sql_sets_is_written_into_a_file_that_stated_none(project: Project) -> None:
    project.write("inbox/a.md", NO_DATE)
    project.sync()
    project.new.update("by-hand", created_at="2026-01-02T03:04:05+00:00")
    project.sync()
    assert "2026-01-02T03:04:05+00:00" == project.message_at("inbox/a.md").created_at
    assert_in_step(project)
    assert_quiet(project)


def test_a_date_taken_from_the_mtime_does_not_move_with_it(project: Project) -> None:
    path = project.write("inbox/a.md", NO_DATE)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    project.sync()
    created_at = project.row("by-hand")["created_at"]
    assert "2023-11-14T22:13:20+00:00" == created_at
    os.utime(path, (1_750_000_000, 1_750_000_000))
    assert 0 == project.sync().counts.changes()
    project.edit("inbox/a.md", "Words.", "Other words.")
    assert 1 == project.sync().counts.rows_updated
    assert (created_at, "Other words.") == (
        project.row("by-hand")["created_at"],
        project.row("by-hand")["body"],
    )
    assert_quiet(project)


def test_a_date_that_is_missing_is_taken_from_the_id_where_that_has_one(project: Project) -> None:
    key = "msg-20250102-030405-abcd1234"
    project.write("inbox/a.md", NO_DATE.replace("by-hand", key))
    project.sync()
    assert "2025-01-02T03:04:05+00:00" == project.row(key)["created_at"]
    assert_quiet(project)


def test_g13_an_edit_by_sql_of_a_file_without_a_date_touches_only_its_own_value(
    project: Project,
) -> None:
    path = project.write("inbox/a.md", NO_DATE)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    project.sync()
    os.utime(path, (1_750_000_000, 1_750_000_000))
    project.sync()
    created_at = project.row("by-hand")["created_at"]
    project.new.update("by-hand", subject="Another")
    project.sync()
    assert NO_DATE.replace("A title", "Another") == project.text("inbox/a.md")
    assert created_at == project.row("by-hand")["created_at"]
    assert_quiet(project)


def test_what_a_file_leaves_unsaid_is_not_changed_by_a_later_edit(project: Project) -> None:
    project.write("inbox/a.md", BY_HAND.replace("to_agent: 'engineer'\n", ""))
    insert(project, a_row(project, "by-hand", to_agent="qa"))
    project.sync()
    assert "qa" == project.row("by-hand")["to_agent"]
    project.edit("inbox/a.md", "Words.", "Other words.")
    project.sync()
    assert "qa" == project.row("by-hand")["to_agent"]
