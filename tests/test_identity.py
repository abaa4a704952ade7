"""Which file is which message: moves, copies, ids, twins, and what one-way passes leave."""

from __future__ import annotations

import os
import shutil
from operator import itemgetter

import pytest

from syncd.cycle.report import State
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Stamp
from tests.clients import OldClient
from tests.projects import (
    AT_ONE,
    BY_HAND,
    NO_DATE,
    ONE,
    SENT,
    THREE,
    TWO,
    Project,
    a_row,
    assert_in_step,
    assert_quiet,
    everything,
    insert,
    moment,
    path_of,
)

# Moves, copies, ids ------------------------------------------------------------------------------


def test_archiving_by_rename_and_by_sql_are_the_same(synced: Project) -> None:
    synced.old.archive(ONE)
    synced.new.archive(TWO)
    synced.sync()
    assert {ONE: "archived", TWO: "archived", THREE: "unread"} == {
        key: synced.row(key)["status"] for key in (ONE, TWO, THREE)
    }
    assert [f"{THREE}.md"] == synced.names("inbox")
    assert 3 == len(synced.names("inbox/.archive"))
    assert_quiet(synced)


def test_a_move_keeps_what_only_the_row_has(synced: Project) -> None:
    synced.new.update(ONE, read_at="2026-01-01T00:00:00+00:00", task_injected=1)
    synced.old.archive(ONE)
    report = synced.sync()
    assert (1, 0, 0) == (
        report.counts.rows_updated,
        report.counts.rows_inserted,
        report.counts.rows_deleted,
    )
    row = synced.row(ONE)
    assert ("2026-01-01T00:00:00+00:00", 1) == (row["read_at"], row["task_injected"])


def test_a_file_moved_back_to_the_inbox_with_archived_in_it_is_read(project: Project) -> None:
    insert(project, a_row(project, "a", status="archived"))
    project.sync()
    assert "status: archived" in project.text("inbox/.archive/a.md")
    data = project.file("inbox/.archive/a.md").read_bytes()
    project.move("inbox/.archive/a.md", "inbox/a.md")
    project.sync()
    assert "read" == project.row("a")["status"]
    assert data == project.file("inbox/a.md").read_bytes()
    assert_quiet(project)


def test_g2_g11_words_that_are_saved_just_before_their_file_is_moved_arrive(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = FileReplica.move

    def edited_before(self: FileReplica, path: str, to: str, *, seen: Stamp) -> Stamp:
        synced.edit(path, "Body 1.", "Just saved.")
        return move(self, path, to, seen=seen)

    monkeypatch.setattr(FileReplica, "move", edited_before)
    synced.new.archive(ONE)
    report = synced.sync()
    assert (1, {f"inbox/.archive/{ONE}.md"}) == (report.counts.files_moved, report.unsettled)
    monkeypatch.undo()
    assert 1 == synced.sync().counts.rows_updated
    assert ("Just saved.", "archived") == itemgetter("body", "status")(synced.row(ONE))
    assert_in_step(synced)
    assert_quiet(synced)


def test_archived_written_by_hand_moves_the_file(synced: Project) -> None:
    synced.edit(AT_ONE, "status: unread", "status: archived")
    counts = synced.sync().counts
    assert (1, 1) == (counts.rows_updated, counts.files_moved)
    assert f"inbox/.archive/{ONE}.md" == path_of(synced, ONE)
    assert_quiet(synced)


def test_a_copy_from_an_outbox_that_is_put_into_the_inbox_is_unread_and_stays(
    synced: Project,
) -> None:
    sender = OldClient(synced.other)
    key = sender.send(synced.path, "Put there", "By hand.")
    copy = synced.file(f"inbox/{key}.md")
    shutil.copy(synced.other / f".claude-mpm/outbox/{key}.md", copy)
    assert "status: sent" in copy.read_text()
    assert 1 == synced.sync().counts.changes()
    assert "unread" == synced.row(key)["status"]
    assert_quiet(synced)


def test_a_file_in_the_other_archive_folder_stays_there(project: Project) -> None:
    key = project.receive(1)
    project.move(AT_ONE, f"archive/{key}.md")
    project.sync()
    assert "archived" == project.row(key)["status"]
    project.new.update(key, subject="By SQL")
    project.sync()
    assert "By SQL" == project.message_at(f"archive/{key}.md").subject
    assert_quiet(project)


def test_a_rename_within_the_inbox_is_no_change(synced: Project) -> None:
    rows = synced.rows()
    synced.move(AT_ONE, "inbox/read me first.md")
    assert 0 == synced.sync().counts.changes()
    assert rows == synced.rows()
    synced.new.update(ONE, subject="Found")
    synced.sync()
    assert "Found" == synced.message_at("inbox/read me first.md").subject
    assert not synced.file(AT_ONE).exists()
    assert_quiet(synced)


def test_a_copy_is_quarantined_and_takes_over_when_the_first_goes(synced: Project) -> None:
    synced.new.update(ONE, read_at="2026-01-01T00:00:00+00:00")
    synced.write("inbox/copy.md", synced.text(AT_ONE).replace("Body 1.", "Of the copy."))
    report = synced.sync()
    assert ["inbox/copy.md"] == [entry.path for entry in report.quarantined]
    assert AT_ONE in report.quarantined[0].problem.reason
    assert "Body 1." == synced.row(ONE)["body"]
    assert_quiet(synced)
    synced.file(AT_ONE).unlink()
    report = synced.sync()
    assert (State.IN_SYNC, 0) == (report.state, report.counts.rows_deleted)
    row = synced.row(ONE)
    assert ("Of the copy.", "2026-01-01T00:00:00+00:00") == (row["body"], row["read_at"])
    assert_quiet(synced)


def has_in_history(project: Project, *words: str) -> bool:
    found = project.sql("SELECT data FROM syncd_history WHERE data IS NOT NULL")
    return all(any(word.encode() in data for (data,) in found) for word in words)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("subject", "the first"), ("body", "the first")),
        *(("metadata", '{"a": "the first"}'), ("attachments", '["the first"]')),
    ],
)
def test_g2_what_a_person_overwrites_in_a_file_is_kept(
    synced: Project, column: str, value: str
) -> None:
    synced.new.update(ONE, **{column: value})
    synced.sync()
    synced.edit(AT_ONE, "the first", "the second")
    synced.sync()
    assert "the second" in synced.row(ONE)[column]
    assert "the first" in synced.kept_texts(ONE)


def test_g2_the_words_of_a_copy_that_is_set_aside_outlive_it(synced: Project) -> None:
    synced.write("inbox/copy.md", synced.text(AT_ONE))
    synced.sync()
    assert not synced.sql("SELECT 1 FROM syncd_history")
    for words in ("Other words.", "And others."):
        synced.write("inbox/copy.md", synced.text(AT_ONE).replace("Body 1.", words))
        synced.sync()
        assert_quiet(synced)
    synced.file("inbox/copy.md").unlink()
    synced.sync()
    assert has_in_history(synced, "Other words.", "And others.")


def test_g2_the_words_of_a_file_beside_an_odd_row_outlive_it(synced: Project) -> None:
    synced.new.update(ONE, created_at="yesterday")
    synced.sync()
    for old, new in (("Body 1.", "Other words."), ("Other words.", "And others.")):
        synced.edit(AT_ONE, old, new)
        synced.sync()
        assert_quiet(synced)
    synced.new.update(ONE, created_at=moment(1).isoformat())
    synced.sync()
    assert ("And others.", True) == (
        synced.row(ONE)["body"],
        has_in_history(synced, "Other words."),
    )


def test_a_copy_in_the_outbox_of_what_others_sent_is_no_message_to_oneself(
    synced: Project,
) -> None:
    synced.write("outbox/copy.md", synced.text(AT_ONE))
    report = synced.sync()
    assert ["outbox/copy.md"] == [entry.path for entry in report.quarantined]
    assert "unread" == synced.row(ONE)["status"]
    assert_quiet(synced)


def test_a_copy_in_the_inbox_of_what_was_sent_to_others_is_no_message_to_oneself(
    synced: Project,
) -> None:
    synced.write("inbox/copy.md", synced.text(f"outbox/{SENT}.md"))
    report = synced.sync()
    assert ["inbox/copy.md"] == [entry.path for entry in report.quarantined]
    assert "sent" == synced.row(SENT)["status"]
    assert_quiet(synced)


def test_g11_a_copy_takes_over_also_when_only_the_first_ones_end_was_seen(
    synced: Project,
) -> None:
    synced.new.update(ONE, read_at="2026-01-01T00:00:00+00:00")
    shutil.copy2(synced.file(AT_ONE), synced.file("inbox/copy.md"))
    synced.sync()
    synced.file(AT_ONE).unlink()
    synced.scoped(gone=[AT_ONE])
    report = synced.sync()
    assert State.IN_SYNC is report.state
    assert "2026-01-01T00:00:00+00:00" == synced.row(ONE)["read_at"]
    assert_quiet(synced)


def test_g11_a_message_whose_new_place_went_unseen_is_not_deleted(synced: Project) -> None:
    synced.new.update(ONE, read_at="2026-01-01T00:00:00+00:00")
    synced.move(AT_ONE, "inbox/.archive/elsewhere.md")
    synced.scoped(gone=[AT_ONE])
    synced.sync()
    assert "2026-01-01T00:00:00+00:00" == synced.row(ONE)["read_at"]
    assert "archived" == synced.row(ONE)["status"]


def test_a_copy_with_an_id_of_its_own_is_a_message_of_its_own(synced: Project) -> None:
    text = synced.text(AT_ONE).replace(f"id: {ONE}", "id: my-copy")
    synced.write("inbox/copy.md", text)
    report = synced.sync()
    assert (State.IN_SYNC, 1) == (report.state, report.counts.rows_inserted)
    assert_quiet(synced)


def test_an_id_edited_in_a_file_is_another_message(synced: Project) -> None:
    synced.edit(AT_ONE, f"id: {ONE}", "id: another")
    synced.sync()
    assert ONE not in synced.rows()
    assert "Body 1." == synced.row("another")["body"]
    assert "Body 1." in synced.kept_texts(ONE)
    assert_in_step(synced)
    assert_quiet(synced)


def test_an_id_that_was_never_written_is_the_files_stem(project: Project) -> None:
    project.write("inbox/note to all.md", BY_HAND.replace("id: by-hand\n", ""))
    project.sync()
    assert ["note to all"] == list(project.rows())
    project.new.update("note to all", subject="By SQL")
    project.sync()
    assert_in_step(project)
    assert_quiet(project)


# Messages to oneself -----------------------------------------------------------------------------


def test_a_message_to_oneself_is_one_row_and_its_outbox_copy_is_left_alone(
    project: Project,
) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    report = project.sync()
    assert (State.IN_SYNC, 1) == (report.state, report.counts.rows_inserted)
    assert "unread" == project.row(key)["status"]
    assert_quiet(project)
    twin = project.file(f"outbox/{key}.md").read_bytes()
    project.new.read(key)
    project.sync()
    project.new.archive(key)
    project.sync()
    assert twin == project.file(f"outbox/{key}.md").read_bytes()
    assert [f"{key}.md"] == project.names("inbox/.archive")
    assert_quiet(project)


def test_a_message_to_oneself_that_is_moved_onto_its_copy_is_sent(project: Project) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    project.sync()
    project.file(f"inbox/{key}.md").replace(project.file(f"outbox/{key}.md"))
    project.sync()
    assert "sent" == project.row(key)["status"]
    assert_in_step(project)
    assert_quiet(project)


def test_a_copy_that_becomes_a_hard_link_of_its_message_is_left_alone(project: Project) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    project.sync()
    twin = project.file(f"outbox/{key}.md")
    twin.unlink()
    twin.hardlink_to(project.file(f"inbox/{key}.md"))
    assert [] == project.sync().quarantined
    assert_quiet(project)


def test_a_message_to_oneself_seen_half_sent_ends_the_same(project: Project) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    inbox = project.file(f"inbox/{key}.md")
    data = inbox.read_bytes()
    inbox.unlink()
    project.sync()
    assert "sent" == project.row(key)["status"]
    inbox.write_bytes(data)
    report = project.scoped(f"inbox/{key}.md")
    assert State.IN_SYNC is report.state
    assert "unread" == project.row(key)["status"]
    assert [f"{key}.md"] == project.names("inbox") == project.names("outbox")
    assert_quiet(project)


def test_g4_a_late_inbox_copy_undoes_nothing_that_sql_did_to_the_outbox_copy(
    project: Project,
) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    inbox = project.file(f"inbox/{key}.md")
    data = inbox.read_bytes()
    inbox.unlink()
    project.sync()
    project.new.update(key, subject="By SQL", body="Changed meanwhile.")
    project.sync()
    inbox.write_bytes(data)
    report = project.scoped(f"inbox/{key}.md")
    assert State.IN_SYNC is report.state
    row = project.row(key)
    assert ("By SQL", "Changed meanwhile.", "unread") == (
        row["subject"],
        row["body"],
        row["status"],
    )
    assert "Changed meanwhile." in project.text(f"inbox/{key}.md")
    assert_quiet(project)


def test_a_twin_is_never_a_second_message(project: Project) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    project.sync()
    project.edit(f"outbox/{key}.md", "To myself.", "Edited in the outbox.")
    project.sync()
    assert "To myself." == project.row(key)["body"]
    project.file(f"inbox/{key}.md").unlink()
    project.sync()
    assert {} == project.rows()
    os.utime(project.file(f"outbox/{key}.md"))
    project.sync()
    assert {} == project.rows()
    project.file(f"outbox/{key}.md").unlink()
    assert State.IN_SYNC is project.sync().state
    assert_quiet(project)


def test_a_twin_that_went_is_forgotten_and_makes_none_of_what_comes_later(
    project: Project,
) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    project.sync()
    words = project.text(f"outbox/{key}.md")
    for folder in ("inbox", "outbox"):
        project.file(f"{folder}/{key}.md").unlink()
        project.sync()
    project.write(f"outbox/{key}.md", words)
    project.sync()
    assert "sent" == project.row(key)["status"]
    assert_quiet(project)


def test_a_twin_that_changes_as_the_message_goes_does_not_hold_it(project: Project) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    project.sync()
    project.file(f"inbox/{key}.md").unlink()
    os.utime(project.file(f"outbox/{key}.md"))
    project.sync()
    assert {} == project.rows()
    assert_quiet(project)


def test_g2_the_words_of_a_twin_outlive_it(project: Project) -> None:
    key = project.old.send(project.path, "To me", "Words.")
    project.sync()
    assert not project.sql("SELECT 1 FROM syncd_history")
    twin = f"outbox/{key}.md"
    project.edit(twin, "Words.", "Words of the twin.")
    project.sync()
    assert_quiet(project)
    project.edit(twin, "Words of the twin.", "Words.")
    project.sync()
    assert has_in_history(project, "Words of the twin.")


def test_a_row_to_oneself_makes_one_file(project: Project) -> None:
    key = project.new.send(project.path, "Note", "To myself.")
    project.sync()
    assert ([f"{key}.md"], []) == (project.names("inbox"), project.names("outbox"))
    assert_quiet(project)


# Migrating: one way ------------------------------------------------------------------------------


def test_migrating_touches_no_file_and_says_so_again_with_zero_changes(project: Project) -> None:
    for number in range(1, 6):
        project.receive(number)
    project.old.archive(ONE)
    project.old.send(project.other, "Out", "Going out.")
    project.write("inbox/by hand.md", NO_DATE)
    project.write("inbox/bad.md", "x")
    before = everything_but_the_database(project)
    report = project.sync(one_way=True)
    assert 7 == report.counts.rows_inserted
    assert before == everything_but_the_database(project)
    assert 0 == project.sync(one_way=True).counts.changes()
    assert 0 == project.sync(one_way=True, trust_stamps=False).counts.changes()
    assert before == everything_but_the_database(project)
    project.file("inbox/bad.md").unlink()
    assert 0 == project.sync().counts.changes()
    assert_in_step(project)


def everything_but_the_database(project: Project) -> dict[str, tuple[object, ...]]:
    found = everything(project)
    return {path: value for path, value in found.items() if "messaging.db" not in path}


def test_migrating_merges_with_a_database_that_exists(project: Project) -> None:
    insert(project, a_row(project, "only-row"))
    insert(project, a_row(project, ONE, subject="Subject 1", body="By SQL.", status="read"))
    insert(project, a_row(project, TWO, subject="Subject 2", body="Body 2.", status="archived"))
    for number in (1, 2, 3):
        project.receive(number)
    before = everything_but_the_database(project)
    project.sync(one_way=True)
    assert before == everything_but_the_database(project)
    assert {"only-row", ONE, TWO, THREE} == project.rows().keys()
    assert ("Body 1.", "read") == (project.row(ONE)["body"], project.row(ONE)["status"])
    assert "archived" == project.row(TWO)["status"]
    assert "By SQL." in project.kept_texts(ONE)
    rows = project.rows()
    assert 0 == project.sync(one_way=True).counts.changes()
    assert rows == project.rows()
    project.sync()
    assert_in_step(project)
    assert rows == project.rows()
    assert_quiet(project)


def test_migrating_again_brings_edits_and_deletes_nothing(project: Project) -> None:
    for number in (1, 2, 3):
        project.receive(number)
    project.sync(one_way=True)
    project.edit(AT_ONE, "Body 1.", "By hand.")
    project.file(f"inbox/{TWO}.md").unlink()
    report = project.sync(one_way=True)
    assert (1, 0) == (report.counts.rows_updated, report.counts.rows_deleted)
    assert {ONE, TWO, THREE} == project.rows().keys()
    assert "By hand." == project.row(ONE)["body"]


def test_a_migration_leaves_a_row_that_changed_while_its_file_went_to_a_sync(
    project: Project,
) -> None:
    project.receive(1)
    project.sync()
    project.file(AT_ONE).unlink()
    project.new.update(ONE, body="By SQL.")
    report = project.sync(one_way=True)
    assert (0, set(), True) == (report.counts.changes(), report.unsettled, report.is_partial)
    project.sync()
    assert "By SQL." == project.message_at(AT_ONE).body


def test_what_sql_changed_before_a_migration_is_heard_by_a_later_cycle(project: Project) -> None:
    project.receive(1)
    project.sync()
    project.new.update(ONE, subject="By SQL")
    assert 0 == project.sync(one_way=True).counts.changes()
    assert "Subject 1" == project.message_at(AT_ONE).subject
    project.scoped()
    assert "By SQL" == project.message_at(AT_ONE).subject
    assert_quiet(project)
