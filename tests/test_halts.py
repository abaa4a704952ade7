"""G6, G16: cycles that do not act: halts, and dry runs that tell what would be done."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from syncd.core.sides import Side
from syncd.cycle import cycle
from syncd.cycle.apply import Applier
from syncd.cycle.bulk import Bulk
from syncd.cycle.look import Look, look_fully
from syncd.cycle.report import State
from syncd.database.store import Store
from syncd.errors import BusyError, ReplicaError
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Stamp, Version
from syncd.names import DATABASE
from tests.projects import (
    ARCHIVED,
    AT_ONE,
    ONE,
    THREE,
    TWO,
    Project,
    a_row,
    assert_in_step,
    assert_quiet,
    drop_ours,
    everything,
    insert,
    nothing_written,
)

# G6: halts ---------------------------------------------------------------------------------------


@pytest.fixture
def crowd(project: Project) -> Project:
    """A project with 40 messages in the inbox and 10 in the archive, in step."""
    for number in range(1, 51):
        key = project.receive(number)
        if number > 40:
            project.old.archive(key)
    project.sync()
    return project


def inbox_files(project: Project) -> list[Path]:
    return sorted(project.file("inbox").glob("*.md"))


def empty_inbox(project: Project) -> Path:
    """Move all files of the inbox into a folder outside; return that."""
    aside = project.path.parent / "aside"
    aside.mkdir()
    for path in inbox_files(project):
        path.rename(aside / path.name)
    return aside


def assert_halted(project: Project, word: str, **orders: object) -> None:
    """Assert that a cycle halts, saying ``word``, and changes nothing that stands on a side."""
    files, rows = project.files(), project.rows()
    report = project.cycle(**orders)
    assert State.HALTED is report.state
    assert report.halt is not None
    assert word in report.halt.cause
    assert 0 == report.counts.changes()
    assert (files, rows) == (project.files(), project.rows())


def test_g6_an_emptied_folder_halts_and_its_return_resumes(crowd: Project) -> None:
    aside = empty_inbox(crowd)
    assert_halted(crowd, "40")
    assert_halted(crowd, "40")
    for path in aside.iterdir():
        path.rename(crowd.file("inbox") / path.name)
    report = crowd.sync()
    assert (State.IN_SYNC, 0) == (report.state, report.counts.changes())
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_a_missing_folder_halts_and_its_return_resumes(crowd: Project) -> None:
    crowd.file("inbox").rename(crowd.base / "away")
    assert_halted(crowd, "inbox is missing")
    assert not crowd.file("inbox").exists()
    crowd.file("away").rename(crowd.file("inbox"))
    assert 0 == crowd.sync().counts.changes()
    assert_quiet(crowd)


def test_g6_a_missing_folder_halts_even_for_one_message(project: Project) -> None:
    project.old.send(project.other, "Out", "Going out.")
    project.receive(1)
    project.sync()
    project.file("outbox").rename(project.base / "away")
    assert_halted(project, "outbox is missing")


def test_g6_a_folder_that_was_made_anew_halts(crowd: Project) -> None:
    aside = crowd.base / "aside"
    crowd.file("inbox").rename(aside)
    crowd.file("inbox").mkdir()
    (aside / ".archive").rename(crowd.file("inbox/.archive"))
    for path in sorted(aside.glob("*.md"))[1:]:
        shutil.copy2(path, crowd.file("inbox") / path.name)
    assert_halted(crowd, "inbox was replaced: 1 message")


def test_a_folder_that_was_made_anew_with_all_that_was_in_it_is_no_halt(crowd: Project) -> None:
    shutil.copytree(crowd.file("inbox"), crowd.base / "copy")
    shutil.rmtree(crowd.file("inbox"))
    crowd.file("copy").rename(crowd.file("inbox"))
    assert 0 == crowd.sync().counts.changes()
    assert_quiet(crowd)
    inbox_files(crowd)[0].unlink()
    assert 1 == crowd.sync().counts.rows_deleted


def test_g6_a_missing_folder_can_be_made_again_from_the_rows(crowd: Project) -> None:
    before = crowd.messages_in_rows()
    shutil.rmtree(crowd.file("inbox"))
    assert_halted(crowd, "is missing")
    assert 50 == crowd.sync(restore=True).counts.files_created
    assert before == crowd.messages_in_files()
    assert_quiet(crowd)


def test_g6_a_missing_folder_can_be_given_up(crowd: Project) -> None:
    shutil.rmtree(crowd.file("inbox"))
    assert_halted(crowd, "is missing")
    assert 50 == crowd.sync(accept_deletes=True).counts.rows_deleted
    assert_quiet(crowd)
    insert(crowd, a_row(crowd, "new-row"))
    assert None is crowd.heed().halt
    assert ["new-row.md"] == crowd.names("inbox")
    assert_quiet(crowd)


@pytest.mark.parametrize("instead", ["a file", "a link to the folder", "a link to nowhere"])
def test_g6_a_folder_that_is_no_folder_any_more_halts(crowd: Project, instead: str) -> None:
    inbox, aside = crowd.file("inbox"), crowd.path.parent / "aside"
    inbox.rename(aside)
    if instead == "a file":
        inbox.write_text("no folder")
    else:
        inbox.symlink_to(aside if instead == "a link to the folder" else "nowhere")
    rows = crowd.rows()
    report = crowd.cycle()
    assert State.HALTED is report.state
    assert rows == crowd.rows()
    with Store.open(crowd.base / DATABASE) as store:
        assert report.halt == store.halt()
    if instead != "a link to nowhere":
        # Of what is in it nothing can be told, so nobody can give it up.
        for decision in ({"accept_deletes": True}, {"restore": True}):
            report = crowd.cycle(**decision)
            assert State.HALTED is report.state
            assert "before that is mended" in report.halt.cause
            (way,) = report.halt.ways_out("/p")
            assert "is a folder that" in way
            assert "chmod" not in way  # a link may lead anywhere
            assert rows == crowd.rows()
    inbox.unlink()
    aside.rename(inbox)
    assert 0 == crowd.sync().counts.changes()


@pytest.mark.parametrize("status", ["unread", "archived"], ids=["a delete", "a clean-up"])
def test_g6_a_halt_ends_with_its_cause_also_where_a_host_deleted_a_row_meanwhile(
    crowd: Project, status: str
) -> None:
    aside = crowd.path.parent / "aside"
    crowd.file("inbox").rename(aside)
    assert_halted(crowd, "is missing")
    (key,) = crowd.sql("SELECT id FROM messages WHERE status = ? LIMIT 1", status)[0]
    crowd.sql("DELETE FROM messages WHERE id = ?", key)
    assert_halted(crowd, "is missing")
    aside.rename(crowd.file("inbox"))
    assert 1 == crowd.sync().counts.files_deleted
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_a_halt_for_a_folder_ends_with_its_cause_also_where_a_host_cleaned_up_meanwhile(
    crowd: Project,
) -> None:
    aside = crowd.path.parent / "aside"
    crowd.file("inbox").rename(aside)
    assert_halted(crowd, "is missing")
    aside.rename(crowd.file("inbox"))
    crowd.sql("DELETE FROM messages WHERE status = 'archived'")
    assert 10 == crowd.sync().counts.files_deleted
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_what_comes_back_bit_by_bit_is_no_few_deletions(crowd: Project) -> None:
    paths = inbox_files(crowd)
    aside = {path: path.read_bytes() for path in paths[:21]}
    for path in aside:
        path.unlink()
    assert_halted(crowd, "21 of 50 files")
    for path in paths[:20]:
        path.write_bytes(aside[path])
    assert_halted(crowd, "1 of 50 files are still gone")
    paths[20].write_bytes(aside[paths[20]])
    assert 0 == crowd.sync().counts.changes()


def test_g6_a_mass_delete_of_files_halts_and_can_be_accepted(crowd: Project) -> None:
    for path in inbox_files(crowd)[:21]:
        path.unlink()
    assert_halted(crowd, "21 of 50 files")
    assert 21 == crowd.sync(accept_deletes=True).counts.rows_deleted
    assert 29 == len(crowd.rows())
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_a_mass_delete_of_rows_halts_and_can_be_accepted(crowd: Project) -> None:
    crowd.sql("DELETE FROM messages WHERE rowid IN (SELECT rowid FROM messages LIMIT 21)")
    assert_halted(crowd, "21 of 50 rows")
    assert 21 == crowd.sync(accept_deletes=True).counts.files_deleted
    assert_in_step(crowd)
    assert_quiet(crowd)


@pytest.mark.parametrize("side", Side)
def test_g6_a_mass_delete_can_be_undone(crowd: Project, side: Side) -> None:
    before = crowd.messages_in_rows()
    if side is Side.FILE:
        for path in inbox_files(crowd):
            path.unlink()
    else:
        crowd.sql("DELETE FROM messages")
    assert_halted(crowd, "40" if side is Side.FILE else "50")
    report = crowd.sync(restore=True)
    restored = report.counts.files_created if side is Side.FILE else report.counts.rows_inserted
    assert (40 if side is Side.FILE else 50) == restored
    assert before == crowd.messages_in_rows()
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_rows_that_come_back_end_the_halt(crowd: Project) -> None:
    crowd.sql("CREATE TABLE aside AS SELECT * FROM messages")
    crowd.sql("DELETE FROM messages")
    assert_halted(crowd, "50")
    crowd.sql("INSERT INTO messages SELECT * FROM aside")
    assert 0 == crowd.sync().counts.changes()
    assert_quiet(crowd)


def test_twenty_deletes_are_no_halt(crowd: Project) -> None:
    for path in inbox_files(crowd)[:20]:
        path.unlink()
    assert 20 == crowd.sync().counts.rows_deleted
    assert_quiet(crowd)


def test_g6_the_clean_up_of_archived_rows_is_no_halt(crowd: Project) -> None:
    for number in range(60, 90):
        crowd.old.archive(crowd.receive(number))
    crowd.sync()
    assert 40 == crowd.sql("SELECT count(*) FROM messages WHERE status = 'archived'")[0][0]
    crowd.sql("DELETE FROM messages WHERE status = 'archived'")
    report = crowd.sync()
    assert 40 == report.counts.files_deleted
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_rows_that_are_archived_only_to_be_deleted_are_a_mass_delete(crowd: Project) -> None:
    crowd.sql("UPDATE messages SET status = 'archived'")
    crowd.sql("DELETE FROM messages WHERE status = 'archived'")
    assert_halted(crowd, "50 of 50 rows")


def test_g6_rows_taken_out_of_the_archive_and_then_deleted_are_a_mass_delete(
    crowd: Project,
) -> None:
    crowd.sql("UPDATE messages SET status = 'read' WHERE status = 'archived'")
    crowd.sql("DELETE FROM messages WHERE status = 'read'")
    assert_halted(crowd, "all 10 rows of inbox/.archive")


def test_g6_archived_rows_that_nobody_saw_deleted_are_a_mass_delete(crowd: Project) -> None:
    drop_ours(crowd, triggers_only=True)
    crowd.sql("DELETE FROM messages WHERE status = 'archived'")
    assert_halted(crowd, "10")


def test_messages_gone_on_both_sides_do_not_count(crowd: Project) -> None:
    for path in inbox_files(crowd):
        path.unlink()
    crowd.sql("DELETE FROM messages WHERE status != 'archived'")
    assert 0 == crowd.sync().counts.changes()
    assert 10 == len(crowd.rows())
    assert_quiet(crowd)


def test_archiving_the_whole_inbox_is_no_halt(crowd: Project) -> None:
    for path in inbox_files(crowd):
        path.rename(crowd.file("inbox/.archive") / path.name)
    assert 40 == crowd.sync().counts.rows_updated
    assert {"archived"} == {row["status"] for row in crowd.rows().values()}
    assert_quiet(crowd)


def test_g6_an_id_rewritten_in_many_files_is_a_mass_delete(crowd: Project) -> None:
    for path in inbox_files(crowd)[:30]:
        path.write_bytes(path.read_bytes().replace(b"id: msg-", b"id: renamed-", 1))
    assert_halted(crowd, "30 of 50 files")


def test_g6_an_id_rewritten_in_many_rows_is_a_mass_delete(crowd: Project) -> None:
    crowd.sql("UPDATE messages SET id = 'x' || id WHERE status != 'archived'")
    assert_halted(crowd, "40 of 50 rows")


def test_g6_all_of_an_archive_in_two_folders_gone_halts(project: Project) -> None:
    first, second = project.receive(1), project.receive(2)
    project.receive(3)
    project.move(f"inbox/{first}.md", f"inbox/.archive/{first}.md")
    project.move(f"inbox/{second}.md", f"archive/{second}.md")
    project.sync()
    project.file(f"inbox/.archive/{first}.md").unlink()
    project.file(f"archive/{second}.md").unlink()
    assert_halted(project, "all 2 files")


def test_g6_a_scoped_cycle_in_a_halted_project_changes_nothing(crowd: Project) -> None:
    for path in inbox_files(crowd)[:25]:
        path.unlink()
    assert State.HALTED is crowd.cycle().state
    new = crowd.receive(99)
    crowd.new.update(ARCHIVED, subject="Meanwhile")
    insert(crowd, a_row(crowd, "new-row"))
    files = crowd.files()
    report = crowd.scoped(f"inbox/{new}.md")
    assert State.HALTED is report.state
    assert new not in crowd.rows()
    assert files == crowd.files()
    crowd.sync(restore=True)
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_a_halt_stays_while_files_come_back_one_by_one(crowd: Project) -> None:
    aside = empty_inbox(crowd)
    assert_halted(crowd, "40")
    for number, path in enumerate(sorted(aside.iterdir())):
        path.rename(crowd.file("inbox") / path.name)
        report = crowd.scoped(f"inbox/{path.name}") if number % 2 else crowd.cycle()
        assert (number < 39) == (report.halt is not None), number
        assert 0 == report.counts.changes()
    assert State.IN_SYNC is crowd.sync().state
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_a_halt_stays_while_rows_come_back_one_by_one(crowd: Project) -> None:
    crowd.sql("CREATE TABLE aside AS SELECT * FROM messages")
    crowd.sql("DELETE FROM messages")
    assert_halted(crowd, "50")
    for number, key in enumerate(sorted(row[0] for row in crowd.sql("SELECT id FROM aside"))):
        crowd.sql("INSERT INTO messages SELECT * FROM aside WHERE id = ?", key)
        report = crowd.scoped() if number % 2 else crowd.cycle()
        assert (number < 49) == (report.halt is not None), number
        assert 0 == report.counts.changes()
    assert State.IN_SYNC is crowd.sync().state
    assert_in_step(crowd)
    assert_quiet(crowd)


@pytest.mark.parametrize("decision", ["accept_deletes", "restore"])
@pytest.mark.parametrize(
    "value", ["metadata = '{'", "body = 3000 || replace(hex(zeroblob(1500)), '0', 'w')"]
)
def test_g15_what_no_decision_can_concern_halts_nothing_after_one(
    tmp_path: Path, decision: str, value: str
) -> None:
    project = Project(tmp_path / "p", max_bytes=2000)
    keys = [project.receive(number) for number in (1, 2, 3)]
    project.old.send(project.other, "Out", "Going out.")
    project.sync()
    project.sql(f"UPDATE messages SET {value} WHERE id IN (?, ?)", *keys[:2])
    project.sync()
    for path in inbox_files(project):
        path.unlink()
    assert_halted(project, "all 3 files of inbox")
    project.sync(**{decision: True})
    assert (decision == "restore") == (keys[2] in project.rows())
    project.sql("UPDATE messages SET body = 'By SQL' WHERE status = 'sent'")
    report = project.sync()
    assert (1, 2) == (report.counts.files_updated, len(report.quarantined))
    project.sql(
        "UPDATE messages SET metadata = NULL, body = 'Mended' WHERE id IN (?, ?)", *keys[:2]
    )
    assert 2 == project.sync().counts.files_created
    assert_in_step(project)
    assert_quiet(project)


@pytest.mark.parametrize("is_agent", [True, False])
@pytest.mark.parametrize("source", ["archive", "outbox"])
def test_a_folder_that_goes_when_all_in_it_stands_in_another_mailbox_is_no_halt(
    project: Project, source: str, is_agent: bool
) -> None:
    for number in (1, 2, 3):
        key = project.receive(number)
        project.move(f"inbox/{key}.md", f"{source}/{key}.md")
    project.receive(4)
    project.sync()
    moved = project.names(source)
    for name in moved:
        project.move(f"{source}/{name}", f"inbox/.archive/{name}")
    project.file(source).rmdir()
    paths = [f"{folder}/{name}" for folder in (source, "inbox/.archive") for name in moved]
    report = project.heed(*paths) if is_agent else project.cycle()
    assert (None, None) == (report.error, report.halt)
    assert {"archived"} == {project.row(name.removesuffix(".md"))["status"] for name in moved}
    project.sync()
    assert_in_step(project)
    assert_quiet(project)


def test_g6_a_halt_names_the_folder_that_is_missing(project: Project) -> None:
    for number, folder in enumerate(("archive", "inbox/.archive"), 1):
        key = project.receive(number)
        project.move(f"inbox/{key}.md", f"{folder}/{key}.md")
    project.sync()
    shutil.rmtree(project.file("archive"))
    assert_halted(project, "archive is missing: 1 message of the baseline gone")
    report = project.cycle()
    assert report.halt is not None
    assert report.halt.cause.startswith("archive is missing")


@pytest.mark.parametrize("side", Side)
def test_g6_an_import_into_a_halted_project_applies_nothing(crowd: Project, side: Side) -> None:
    aside = crowd.file("aside")
    if side is Side.FILE:
        crowd.file("inbox").rename(aside)
    else:
        crowd.sql("CREATE TABLE aside AS SELECT * FROM messages")
        crowd.sql("DELETE FROM messages")
    assert_halted(crowd, "missing" if side is Side.FILE else "50")
    new = crowd.old.send(crowd.other, "Out", "Written while the project is halted.")
    assert_halted(crowd, "missing" if side is Side.FILE else "50", one_way=True)
    assert new not in crowd.rows()
    if side is Side.FILE:
        aside.rename(crowd.file("inbox"))
    else:
        crowd.sql("INSERT INTO messages SELECT * FROM aside")
    assert 1 == crowd.cycle(one_way=True).counts.rows_inserted
    assert new in crowd.rows()
    assert 0 == crowd.sync().counts.changes()
    assert_quiet(crowd)


@pytest.fixture
def unwritable_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every change to a file of the archive refused."""

    def refusing(method: str) -> None:
        do = getattr(FileReplica, method)

        def refuse(self: FileReplica, path: str, *arguments: Any, **options: Any) -> Any:
            if path.startswith("inbox/.archive/"):
                raise ReplicaError(f"cannot {method} {path}: permission denied")
            return do(self, path, *arguments, **options)

        monkeypatch.setattr(FileReplica, method, refuse)

    for method in ("create", "replace", "delete"):
        refusing(method)


@pytest.mark.usefixtures("unwritable_archive")
def test_g6_that_deletes_were_accepted_ends_with_the_cycle_also_where_that_had_an_error(
    crowd: Project,
) -> None:
    paths = inbox_files(crowd)
    for path in paths[:30]:
        path.unlink()
    assert_halted(crowd, "30")
    crowd.sql("UPDATE messages SET subject = 'New' WHERE status = 'archived'")
    report = crowd.cycle(accept_deletes=True)
    assert "permission denied" in (report.error or "")
    assert 30 == report.counts.rows_deleted
    assert [(None,)] == crowd.sql("SELECT value FROM syncd_state WHERE key = 'halt'")
    crowd.file("inbox").rename(crowd.base / "away")
    report = crowd.cycle()
    assert (0, "is missing") == (
        report.counts.rows_deleted,
        report.halt and report.halt.cause[6:16],
    )


@pytest.mark.usefixtures("unwritable_archive")
def test_g6_what_could_not_be_brought_back_is_not_deleted_by_the_next_cycle(
    crowd: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = crowd.messages_in_rows()
    name = crowd.names("inbox/.archive")[0]
    crowd.file(f"inbox/.archive/{name}").unlink()
    crowd.file(f"inbox/{crowd.names('inbox')[0]}").unlink()
    report = crowd.cycle(restore=True)
    assert ("permission denied" in (report.error or ""), 1) == (True, report.counts.files_created)
    (halt,) = crowd.sql("SELECT value FROM syncd_state WHERE key = 'halt'")[0]
    assert ["what is gone could not all be brought back", "file", 1, 50, ""] == json.loads(halt)
    assert_halted(crowd, "1 of 50 files are still gone")
    monkeypatch.undo()
    assert 1 == crowd.sync(restore=True).counts.files_created
    assert before == crowd.messages_in_rows()
    assert_in_step(crowd)
    assert_quiet(crowd)


@pytest.mark.usefixtures("unwritable_archive")
def test_g6_what_could_not_be_deleted_needs_a_decision_again(
    crowd: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd.sql("DELETE FROM messages")
    assert_halted(crowd, "50 of 50 rows")
    report = crowd.cycle(accept_deletes=True)
    assert ("permission denied" in (report.error or ""), 40) == (True, report.counts.files_deleted)
    monkeypatch.undo()
    assert_halted(crowd, "10 rows")
    assert 10 == crowd.sync(accept_deletes=True).counts.files_deleted
    assert {} == crowd.rows()
    assert_quiet(crowd)


@pytest.mark.parametrize("decision", ["accept-deletes", "restore"])
def test_g16_a_dry_run_heeds_a_decision_that_a_crash_cut_off(crowd: Project, decision: str) -> None:
    for path in inbox_files(crowd):
        path.unlink()
    assert_halted(crowd, "40")
    sql = "INSERT OR REPLACE INTO syncd_state VALUES (?, ?)"
    crowd.sql(sql, "decision", json.dumps(decision))
    with nothing_written(crowd):
        told = crowd.cycle(dry_run=True)
    assert (told.halt, 40) == (None, told.counts.changes())
    done = crowd.sync()
    assert told.counts == done.counts
    assert [] == crowd.sql("SELECT 1 FROM syncd_state WHERE key = 'decision' AND value NOT NULL")


@pytest.mark.parametrize("decision", ["accept-deletes", "restore"])
def test_g6_an_import_leaves_a_decision_that_a_crash_cut_off_to_a_sync(
    crowd: Project, decision: str
) -> None:
    for path in inbox_files(crowd):
        path.unlink()
    assert_halted(crowd, "40")
    sql = "INSERT OR REPLACE INTO syncd_state VALUES (?, ?)"
    crowd.sql(sql, "decision", json.dumps(decision))
    assert_halted(crowd, "40", one_way=True)
    assert 40 == crowd.sync().counts.changes()


@pytest.mark.parametrize("decision", ["accept_deletes", "restore"])
def test_g6_before_a_decision_is_carried_out_files_are_looked_for_again(
    tmp_path: Path, decision: str
) -> None:
    project = Project(tmp_path / "p", gone_s=0.5)
    for number in range(1, 41):
        project.receive(number)
    project.sync()
    gone, saved = inbox_files(project)[:30], inbox_files(project)[30]
    for path in gone:
        path.unlink()
    assert_halted(project, "30 of 40")
    data = saved.read_bytes()
    saved.unlink()
    editor = threading.Timer(0.1, saved.write_bytes, [data])
    editor.start()
    counts = project.cycle(**{decision: True}).counts
    editor.join()
    assert 30 == counts.rows_deleted + counts.files_created


@pytest.mark.parametrize("decision", ["accept_deletes", "restore"])
def test_g6_a_decision_that_failed_is_none_about_what_goes_later(
    crowd: Project, monkeypatch: pytest.MonkeyPatch, decision: str
) -> None:
    aside = [path.rename(crowd.path / path.name) for path in inbox_files(crowd)]
    assert_halted(crowd, "40")

    def locked(*_: object) -> None:
        raise BusyError("another program holds the lock")

    with monkeypatch.context() as patched:
        patched.setattr(Applier, "apply", locked)
        patched.setattr(Bulk, "send", locked)
        assert "holds the lock" in (crowd.cycle(**{decision: True}).error or "")
    assert 50 == len(crowd.rows())
    for path in aside:
        path.rename(crowd.file(f"inbox/{path.name}"))
    crowd.file("inbox").rename(crowd.path / "unmounted")
    assert_halted(crowd, "inbox is missing, inbox/.archive is missing: 50 messages")


def test_g6_deletes_are_accepted_for_no_more_than_the_halt_told_of(crowd: Project) -> None:
    for path in inbox_files(crowd):
        path.unlink()
    assert_halted(crowd, "40")
    archive = crowd.file("inbox/.archive").rename(crowd.path / "unmounted")
    assert_halted(
        crowd,
        "inbox/.archive is missing: 10 messages of the baseline gone, and 40 more",
        accept_deletes=True,
    )
    archive.rename(crowd.file("inbox/.archive"))
    assert 40 == crowd.cycle(accept_deletes=True).counts.rows_deleted
    assert_quiet(crowd)


def test_g6_deletes_that_no_halt_told_of_are_not_accepted(crowd: Project) -> None:
    inbox = inbox_files(crowd)
    aside = [path.rename(crowd.path / path.name) for path in inbox[:25]]
    assert_halted(crowd, "25 of 50", accept_deletes=True)
    for path in aside:
        path.rename(crowd.file(f"inbox/{path.name}"))
    for path in inbox[-25:]:
        path.unlink()
    assert_halted(crowd, "25 of 50", accept_deletes=True)
    assert 25 == crowd.cycle(accept_deletes=True).counts.rows_deleted
    assert {path.stem for path in inbox[:-25]} < crowd.rows().keys()


def test_g6_what_seemed_to_be_a_clean_up_counts_as_soon_as_the_project_halts(
    crowd: Project,
) -> None:
    crowd.sql("DELETE FROM messages")
    assert_halted(crowd, "50 of 50 rows")
    assert 50 == crowd.cycle(accept_deletes=True).counts.files_deleted


def test_g6_a_decision_that_is_interrupted_is_dropped(
    crowd: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in inbox_files(crowd):
        path.unlink()
    assert_halted(crowd, "40")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Applier, "apply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            crowd.cycle(accept_deletes=True)
    assert_halted(crowd, "40")


def test_g6_a_decision_that_a_crash_cut_off_is_for_no_more_than_was_gone_then(
    crowd: Project,
) -> None:
    inbox = inbox_files(crowd)
    for path in inbox:
        path.unlink()
    assert_halted(crowd, "40")
    ids = [path.stem for path in inbox][1:]
    sql = "INSERT OR REPLACE INTO syncd_state VALUES (?, ?)"
    crowd.sql(sql, "lost", json.dumps(ids))
    crowd.sql(sql, "decision", json.dumps("accept-deletes"))
    assert_halted(crowd, "40")
    assert 40 == crowd.cycle(accept_deletes=True).counts.rows_deleted


def test_a_folder_that_went_while_it_was_empty_is_missed_no_more(
    crowd: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = crowd.file("outbox")
    outbox.mkdir(exist_ok=True)
    crowd.sync()
    full_looks = []

    def looking(*arguments: Any, **options: Any) -> Look:
        full_looks.append(True)
        return look_fully(*arguments, **options)

    monkeypatch.setattr(cycle, "look_fully", looking)
    outbox.rmdir()
    crowd.scoped()
    assert [True] == full_looks
    crowd.scoped()
    assert [True] == full_looks
    crowd.file("inbox/.archive").rename(crowd.base / "away")
    assert "is missing" in crowd.scoped().halt.cause


def test_g6_the_return_of_a_folder_resumes_with_any_cycle(crowd: Project) -> None:
    crowd.file("inbox").rename(crowd.base / "away")
    assert State.HALTED is crowd.cycle().state
    crowd.file("away").rename(crowd.file("inbox"))
    assert State.IN_SYNC is crowd.scoped().state
    assert_quiet(crowd)


def test_g6_a_scoped_cycle_writes_nothing_into_a_project_whose_folder_is_away(
    crowd: Project,
) -> None:
    crowd.file("inbox").rename(crowd.base / "away")
    insert(crowd, a_row(crowd, "new-row"))
    report = crowd.scoped()
    assert not crowd.file("inbox").exists()
    assert State.HALTED is report.state
    crowd.file("away").rename(crowd.file("inbox"))
    crowd.sync()
    assert "new-row.md" in crowd.names("inbox")
    assert_in_step(crowd)


def test_g6_a_mass_delete_seen_by_a_scoped_cycle_halts(crowd: Project) -> None:
    names = [f"inbox/{path.name}" for path in inbox_files(crowd)]
    for path in inbox_files(crowd):
        path.unlink()
    assert_halted(crowd, "40 of 50 files", paths=frozenset(names), gone=frozenset(names))


def test_g6_a_folder_that_was_accepted_as_it_is_now_halts_no_more(crowd: Project) -> None:
    crowd.file("inbox").rename(crowd.base / "aside")
    crowd.receive(60)
    crowd.receive(61)
    crowd.move("aside/.archive", "inbox/.archive")
    assert_halted(crowd, "inbox was replaced")
    crowd.sync(accept_deletes=True)
    assert_in_step(crowd)
    gone = inbox_files(crowd)[0]
    gone.unlink()
    report = crowd.scoped(gone=[f"inbox/{gone.name}"])
    assert (None, 1) == (report.halt, report.counts.rows_deleted)


def test_g6_a_halt_in_one_project_leaves_others_alone(crowd: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "q")
    other.receive(1)
    crowd.file("inbox").rename(crowd.base / "away")
    assert State.HALTED is crowd.cycle().state
    assert 1 == other.sync().counts.rows_inserted


# G16: dry runs -----------------------------------------------------------------------------------


def assert_dry_run_tells(project: Project, **orders: object) -> None:
    before = everything(project)
    dry = project.cycle(dry_run=True, **orders)
    assert before == everything(project)
    real = project.cycle(**orders)
    assert real.as_json() == dry.as_json()


def test_g16_a_dry_run_without_a_database_changes_nothing_and_tells_what_comes(
    project: Project,
) -> None:
    for number in range(1, 5):
        project.receive(number)
    project.write("inbox/bad.md", "x")
    project.write("inbox/copy.md", project.text(AT_ONE))
    assert_dry_run_tells(project)


def test_g16_a_dry_run_on_a_hosts_database_changes_nothing_and_tells_what_comes(
    project: Project,
) -> None:
    insert(project, a_row(project, "only-row"))
    insert(project, a_row(project, ONE, body="Other."))
    insert(project, a_row(project, "odd", created_at="never"))
    project.receive(1)
    project.receive(2)
    assert_dry_run_tells(project)


def test_g6_a_folder_that_is_replaced_while_files_are_read_gets_the_new_files(
    crowd: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd.receive(1000)
    keys = [crowd.new.send(crowd.path, "Note", "To myself.", id=f"row-{n}") for n in range(5)]
    read = FileReplica.read

    def read_and_replace(files: FileReplica, path: str) -> Version:
        monkeypatch.undo()
        found = read(files, path)
        shutil.copytree(crowd.file("inbox"), crowd.file("new"), copy_function=shutil.copy2)
        crowd.file("inbox").rename(crowd.base / "former")
        crowd.file("new").rename(crowd.file("inbox"))
        return found

    monkeypatch.setattr(FileReplica, "read", read_and_replace)
    crowd.cycle()
    assert {f"{key}.md" for key in keys} < set(crowd.names("inbox"))
    for _ in range(2):
        crowd.cycle()
    assert set(keys) < crowd.rows().keys()


def test_g15_a_row_whose_name_is_taken_in_the_last_moment_is_heard_again(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = synced.new.send(synced.other, "Out", "New.")
    create = FileReplica.create

    def create_late(files: FileReplica, path: str, data: bytes) -> Stamp:
        synced.write(path, synced.file(AT_ONE).read_bytes().replace(ONE.encode(), b"another"))
        return create(files, path, data)

    with monkeypatch.context() as patched:
        patched.setattr(FileReplica, "create", create_late)
        report = synced.scoped()
    assert (None, 0) == (report.error, report.counts.files_created)
    assert 1 == synced.scoped().counts.files_created
    synced.sync()
    assert "New." in "".join(synced.text(f"outbox/{name}") for name in synced.names("outbox"))
    assert {key, "another"} < synced.rows().keys()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g16_a_dry_run_changes_nothing_and_tells_what_comes(synced: Project) -> None:
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.new.update(ONE, body="By SQL.", subject="By SQL")
    synced.file(f"inbox/{TWO}.md").unlink()
    synced.new.delete(ARCHIVED)
    synced.old.archive(THREE)
    synced.receive(10)
    synced.new.send(synced.other, "Out", "New.")
    synced.write("inbox/bad.md", "x")
    assert_dry_run_tells(synced)


def test_g16_a_dry_run_of_a_halt_tells_it(crowd: Project) -> None:
    crowd.sql("DELETE FROM messages")
    assert_dry_run_tells(crowd)


def test_g16_a_dry_run_of_a_halt_leaves_the_feed_as_it_is(crowd: Project) -> None:
    crowd.file("inbox").rename(crowd.path / "unmounted")
    for _ in range(2):
        crowd.sql("UPDATE messages SET task_injected = task_injected + 1")
    with nothing_written(crowd):
        report = crowd.cycle(dry_run=True)
    assert (State.HALTED, None) == (report.state, report.error)


def test_g16_a_dry_run_of_a_migration_changes_nothing_and_tells_what_comes(
    project: Project,
) -> None:
    insert(project, a_row(project, ONE, subject="By SQL"))
    project.receive(1)
    project.receive(2)
    assert_dry_run_tells(project, one_way=True)


def test_g16_a_dry_run_in_step_has_nothing_to_tell(synced: Project) -> None:
    assert_dry_run_tells(synced)
