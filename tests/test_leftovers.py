"""What crashes, readers, and closed folders leave behind, and large numbers of messages."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd.core.message import FIELDS, FOLDERS
from syncd.cycle import bulk, condition, cycle, intake
from syncd.cycle.report import State
from syncd.database.rows import Rows
from syncd.database.store import Store
from syncd.files import replica
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Stamp
from syncd.patience import tell_of_waits
from tests.clients import OldClient, parse_legacy
from tests.projects import (
    AT_ONE,
    ODD_IDS,
    ONE,
    Project,
    a_row,
    assert_in_step,
    assert_quiet,
    insert,
    settings,
)

# Leftovers, readers, and large numbers -----------------------------------------------------------


def test_g2_a_temporary_file_of_an_earlier_pass_is_taken_in(synced: Project) -> None:
    left = synced.text(AT_ONE).replace("Body 1.", "Of a late writer.")
    synced.write("inbox/.syncd-1-1-abcdef.tmp", left)
    synced.write("inbox/.syncd-1-2-abcdef.tmp", synced.text(AT_ONE))
    synced.sync()
    assert [] == list(synced.file("inbox").glob(".syncd-*"))
    everywhere = synced.kept_texts(ONE) + synced.row(ONE)["body"]
    assert "Of a late writer." in everywhere
    assert_in_step(synced)
    assert_quiet(synced)


def test_hidden_files_of_editors_are_not_messages(synced: Project) -> None:
    synced.write("inbox/.note.md.swp", "x")
    synced.write("inbox/._note.md", b"\0\5\x16\7")
    synced.file("inbox/.#note.md").symlink_to("me@host.123")
    synced.write("inbox/note.md~", "x")
    synced.write("inbox/4913", "")
    report = synced.sync()
    assert (State.IN_SYNC, 0) == (report.state, report.counts.changes())
    assert_quiet(synced)


def test_the_old_client_reads_every_file_and_the_new_one_every_row(synced: Project) -> None:
    for number, key in enumerate(ODD_IDS):
        insert(
            synced,
            a_row(
                synced,
                key,
                subject=["", "a\nb", "# x", "---"][number % 4],
                body=["", "# x", "a---\n---\nb", "B\n\n## Attachments\n\n- `a`"][number % 3],
                attachments=json.dumps([[], ["`"], ["a", "- b"]][number % 3]),
                metadata=json.dumps({"---": "---\n", "1e3": [1e3, "1e3", None]}),
                status=["unread", "archived", "sent", "no", "null"][number % 5],
            ),
        )
    synced.sync()
    for folder in FOLDERS:
        for name in synced.names(folder):
            parse_legacy(synced.file(f"{folder}/{name}").read_bytes())
    assert len(ODD_IDS) + 5 == len(synced.new.list())
    assert_in_step(synced)
    assert_quiet(synced)


def test_more_messages_than_one_batch(project: Project) -> None:
    for number in range(1, 131):
        project.receive(number)
    assert 130 == project.sync().counts.rows_inserted
    with project.connection() as connection:
        for number in range(131, 261):
            row = a_row(project, f"row-{number}")
            marks = ", ".join("?" * len(row))
            sql = f"INSERT INTO messages ({', '.join(row)}) VALUES ({marks})"
            connection.execute(sql, tuple(row.values()))
    assert 130 == project.sync().counts.files_created
    assert_in_step(project)
    names = project.names("inbox")
    for name in names:
        project.move(f"inbox/{name}", f"inbox/{name}.aside")
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        project.move(f"inbox/{name}.aside", f"inbox/{other}")
    project.sql("UPDATE messages SET subject = subject || '!'")
    rows = project.messages_in_rows()
    assert 260 == project.sync().counts.files_updated
    assert rows == project.messages_in_rows()
    assert_in_step(project)
    assert_quiet(project)


def _write_and_be_cut_off(synced: Project, *, is_new: bool) -> None:
    """Have a cycle write inbox/x.md from its row, and end before the baseline says so."""
    if is_new:
        insert(synced, a_row(synced, "x"))
    else:
        insert(synced, a_row(synced, "x", body="Before."))
        synced.sync()
        synced.new.update("x", body="From a row.")
    synced.sql(
        "CREATE TRIGGER cut BEFORE INSERT ON syncd_baseline "
        "BEGIN SELECT RAISE(ABORT, 'the baseline is not written'); END"
    )
    assert "the baseline is not written" in (synced.cycle().error or "")
    assert "From a row." in synced.text("inbox/x.md")
    synced.sql("DROP TRIGGER cut")


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "changed"])
@pytest.mark.parametrize("folder", ["inbox/.archive", "outbox"])
def test_g7_a_move_of_a_file_that_a_cut_off_cycle_wrote_is_not_undone(
    synced: Project, folder: str, is_new: bool
) -> None:
    _write_and_be_cut_off(synced, is_new=is_new)
    synced.move("inbox/x.md", f"{folder}/x.md")
    synced.sync()
    assert {"outbox": "sent"}.get(folder, "archived") == synced.row("x")["status"]
    assert synced.file(f"{folder}/x.md").exists()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g7_a_move_that_a_crash_kept_from_an_edited_file_is_still_done(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **_options: object) -> None:
        raise SystemExit

    synced.new.update(ONE, body="By SQL.", status="archived")
    with monkeypatch.context() as patched:
        patched.setattr(FileReplica, "move", crash)
        with pytest.raises(SystemExit):
            synced.sync()
    assert "By SQL." in synced.text(AT_ONE)
    assert [] == synced.sync().conflicts
    assert "archived" == synced.row(ONE)["status"]
    assert synced.file(f"inbox/.archive/{ONE}.md").exists()
    assert_in_step(synced)


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "changed"])
def test_g7_a_file_that_a_cut_off_cycle_wrote_is_no_edit_of_a_person(
    synced: Project, is_new: bool
) -> None:
    _write_and_be_cut_off(synced, is_new=is_new)
    synced.new.update("x", body="Newer words.")
    assert [] == synced.sync().conflicts
    assert "Newer words." in synced.text("inbox/x.md")
    assert_quiet(synced)


@pytest.mark.parametrize("is_written", [False, True], ids=["before its file", "behind its file"])
@pytest.mark.parametrize("is_scoped", [False, True])
@pytest.mark.parametrize("move", [False, True])
def test_g7_a_crash_before_a_new_files_baseline_undoes_no_delete_of_its_row(
    project: Project, monkeypatch: pytest.MonkeyPatch, is_written: bool, is_scoped: bool, move: bool
) -> None:
    def crash(*_: object, **_options: object) -> None:
        raise SystemExit

    project.receive()
    project.sync()
    insert(project, a_row(project, "row"))
    with monkeypatch.context() as patched:
        if is_written:
            patched.setattr(replica, "sync_names", crash)
        else:
            patched.setattr(FileReplica, "create", crash)
        with pytest.raises(SystemExit):
            project.sync()
    project.sql("DELETE FROM messages WHERE id = 'row'")
    path = project.file("inbox/row.md")
    assert is_written is path.exists()
    if move and is_written:
        path.rename(project.file("inbox/row-2.md"))
    project.heed() if is_scoped else project.sync()
    project.sync()
    assert [] == [name for name in project.names("inbox") if name.startswith("row")]
    assert "row" not in project.rows()
    assert [] == project.sql("SELECT * FROM syncd_versions WHERE intent")
    assert 0 == project.sql("SELECT count(*) FROM syncd_baseline WHERE id = 'row'")[0][0]
    assert_in_step(project)
    assert_quiet(project)


def test_g7_a_cut_off_cycles_file_that_cannot_be_read_now_undoes_no_delete_of_its_row(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise SystemExit

    project.receive()
    project.sync()
    insert(project, a_row(project, "row"))
    with monkeypatch.context() as patched:
        patched.setattr(replica, "sync_names", crash)
        with pytest.raises(SystemExit):
            project.sync()
    project.sql("DELETE FROM messages WHERE id = 'row'")
    project.move("inbox/row.md", "inbox/row-2.md")
    with project.file("inbox/row-2.md").open("r+b"):
        assert {"inbox/row-2.md"} == project.cycle().unsettled
    project.sync()
    project.sync()
    assert (1, 1) == (len(project.names("inbox")), len(project.rows()))
    assert_quiet(project)


def test_g7_a_deleted_row_takes_a_cut_off_cycles_file_along_without_a_full_look(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise SystemExit

    project.receive()
    project.sync()
    insert(project, a_row(project, "row"))
    with monkeypatch.context() as patched:
        patched.setattr(replica, "sync_names", crash)
        with pytest.raises(SystemExit):
            project.sync()
    project.sql("DELETE FROM messages WHERE id = 'row'")
    vanished = project.scoped("inbox/row.md").vanished
    project.scoped("inbox/row.md", gone=vanished)
    assert not project.file("inbox/row.md").exists()
    assert_in_step(project)


def test_g14_large_rows_are_taken_in_portions(project: Project) -> None:
    for number in (1, 2, 3):
        insert(project, a_row(project, f"row-{number}", body="w" * 4_000))
    ids = ["row-1", "none", "row-2", "row-3"]
    with Store.open(project.new.database) as store:
        store.prepare()
        assert [["row-1", "none"], ["row-2"], ["row-3"]] == list(store.rows.in_portions(ids, 5_000))
        assert [ids] == list(store.rows.in_portions(ids, 50_000))
    project.sync()
    project.sql("DELETE FROM messages")
    with Store.open(project.new.database) as store:
        assert [["row-1", "none"], ["row-2"], ["row-3"]] == list(store.rows.in_portions(ids, 5_000))


def test_g14_a_row_counts_as_many_bytes_as_it_has(project: Project) -> None:
    for number, body in enumerate(["\0" + "x" * 3_000, "\u20ac" * 1_000, "x"]):
        insert(project, a_row(project, f"row-{number}", body=body))
    ids = [f"row-{number}" for number in range(3)]
    with Store.open(project.new.database) as store:
        store.prepare()
        assert [ids[:1], ids[1:2], ids[2:]] == list(store.rows.in_portions(ids, 3_100))


def test_g9_all_that_a_cycle_heard_and_set_aside_is_recorded_in_portions(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.sync()
    for number in range(25):
        insert(project, a_row(project, f"row-{number}"))
        project.write(f"inbox/odd-{number}.md", "no front matter")
    monkeypatch.setattr(condition, "_AT_ONCE", 10)
    held: list[int] = []
    writing = Store.writing

    @contextmanager
    def counted(store: Store, **options: bool) -> Iterator[None]:
        before = store.connection.total_changes
        with writing(store, **options):
            yield
            held.append(store.connection.total_changes - before)

    def record_findings(*arguments: Any) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Store, "writing", counted)
            condition.record_findings(*arguments)

    monkeypatch.setattr(cycle, "record_findings", record_findings)
    report = project.sync()
    assert (25, 25) == (report.counts.files_created, len(report.quarantined))
    assert ([10] * 7, 5) == (held[:-1], held[-1])
    assert [(0, 25)] == project.sql(
        "SELECT (SELECT count(*) FROM syncd_feed), (SELECT count(*) FROM syncd_quarantine)"
    )


def test_g9_messages_that_are_new_in_files_are_inserted_in_portions(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        project.receive(number, body=600 * "w")
    monkeypatch.setattr(bulk, "_AT_ONCE_BYTES", 2_000)
    inserted: list[int] = []
    writing = Store.writing

    @contextmanager
    def counted(store: Store, **options: bool) -> Iterator[None]:
        before = store.rows.count()
        with writing(store, **options):
            yield
            inserted.append(store.rows.count() - before)

    monkeypatch.setattr(Store, "writing", counted)
    assert 5 == project.sync().counts.rows_inserted
    assert [2, 2, 1] == [number for number in inserted if number]


def test_g15_one_entry_that_cannot_be_looked_at_closes_no_mailbox(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self._entry, self.name = entry, entry.name

        def stat(self, **options: bool) -> os.stat_result:
            if self.name == f"{ONE}.md":
                raise OSError(errno.EIO, "Input/output error")
            return self._entry.stat(**options)

    @contextmanager
    def scandir(fd: int) -> Iterator[Iterator[Entry]]:
        with real(fd) as entries:
            yield map(Entry, entries)

    new = synced.receive(77)
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        report = synced.cycle()
    assert [(AT_ONE, "it cannot be looked at")] == [
        (entry.path, entry.problem.reason) for entry in report.quarantined
    ]
    assert {ONE, new} < synced.rows().keys()
    assert State.IN_SYNC is synced.sync().state


def test_g14_rows_are_read_in_portions_also_where_their_files_are_small(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_BATCH_BYTES", 1_000)
    asked: list[int] = []
    of = Rows.of

    def noted(rows: Rows, ids: Any) -> Any:
        found = of(rows, ids)
        asked.append(len(found))
        return found

    synced.sql("UPDATE messages SET body = body || hex(zeroblob(2000))")
    for path in list(synced.files()):
        synced.edit(path, "priority: ", "priority: 'urgent' #")
    monkeypatch.setattr(Rows, "of", noted)
    assert State.IN_SYNC is synced.sync().state
    assert {0, 1} >= set(asked)
    assert len(synced.rows()) == sum(row["priority"] == "urgent" for row in synced.rows().values())


def test_g6_a_message_that_went_from_where_it_was_quarantined_is_gone(synced: Project) -> None:
    synced.write(AT_ONE, "cut off")
    archived = f"inbox/.archive/{ONE}.md"
    assert State.ATTENTION is synced.cycle().state
    synced.move(AT_ONE, archived)
    assert State.ATTENTION is synced.cycle().state
    synced.file(archived).unlink()
    assert 1 == synced.sync().counts.rows_deleted


def test_the_feed_of_a_halted_project_does_not_grow_by_what_it_says_again(
    synced: Project,
) -> None:
    synced.file("inbox").rename(synced.path / "unmounted")
    for _ in range(5):
        synced.sql("UPDATE messages SET task_injected = task_injected + 1")
        assert State.HALTED is synced.cycle().state
    assert [(len(synced.rows()),)] == synced.sql("SELECT count(*) FROM syncd_feed")
    (synced.path / "unmounted").rename(synced.file("inbox"))
    synced.sync()
    assert_quiet(synced)


def test_a_file_that_cannot_be_replaced_is_kept_once_however_often_it_is_tried(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    synced.new.update(ONE, body="By SQL.")
    with monkeypatch.context() as patched:
        patched.setattr(replica, "exchange", refuse)
        for _ in range(3):
            assert "read-only" in (synced.cycle().error or "")
    (kept,) = [row for row in synced.history(ONE) if row["side"] == "file"]
    assert synced.file(AT_ONE).read_bytes() == kept["data"]
    assert 1 == synced.sync().counts.files_updated
    assert kept["version"] == max(row["version"] for row in synced.history(ONE))


def test_a_row_changed_by_sql_between_two_cycles_is_never_touched_in_other_columns(
    synced: Project,
) -> None:
    synced.sql("ALTER TABLE messages ADD COLUMN labels TEXT")
    synced.sql("UPDATE messages SET labels = 'mine', task_injected = 1, read_at = 'odd'")
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.sync()
    found = synced.sql("SELECT DISTINCT labels, task_injected, read_at FROM messages")
    assert [("mine", 1, "odd")] == found


def test_every_field_goes_both_ways(synced: Project) -> None:
    """One cycle for each field and side, so that no field is left out by accident."""
    text = {
        "from_project": ("from_project: ", "from_project: /p/hand # "),
        "from_agent": ("from_agent: pm", "from_agent: hand"),
        "to_project": ("to_project: ", "to_project: /p/hand # "),
        "to_agent": ("to_agent: pm", "to_agent: hand"),
        "type": ("type: task", "type: hand"),
        "priority": ("priority: normal", "priority: hand"),
        "subject": ("# Subject 1", "# hand"),
        "body": ("Body 1.", "hand"),
        "status": ("status: unread", "status: hand"),
        "created_at": ("created_at: '2026-02-20T", "created_at: '2027-02-20T"),
        "reply_to": ("reply_to: null", "reply_to: hand"),
        "metadata": ("priority: ", "metadata:\n  by: hand\npriority: "),
        "attachments": (None, "\n\n## Attachments\n\n- `hand`"),
    }
    assert set(FIELDS) == text.keys()
    values = {"created_at": "2028-01-01T00:00:00+00:00", "metadata": '{"by": "sql"}'}
    values |= {"attachments": '["sql"]'}
    columns = {"type": "message_type", "reply_to": "replied_to"}
    for name, (old, new) in text.items():
        if old is None:
            synced.write(AT_ONE, synced.text(AT_ONE) + new)
        else:
            synced.edit(AT_ONE, old, new)
        counts = synced.sync().counts
        assert (name, 1, 1) == (name, counts.rows_updated, counts.changes())
        assert_in_step(synced)
    for name in FIELDS:
        synced.new.update(ONE, **{columns.get(name, name): values.get(name, "sql")})
        counts = synced.sync().counts
        assert (name, 1, 1) == (name, counts.files_updated, counts.changes())
        assert_in_step(synced)
    assert_quiet(synced)


def test_a_lock_that_a_host_holds_for_a_moment_is_waited_for(synced: Project) -> None:
    synced.receive(7)
    with closing(sqlite3.connect(synced.new.database, isolation_level=None)) as host:
        host.execute("BEGIN IMMEDIATE")
        tell_of_waits(lambda waits: host.execute("COMMIT") if waits else None)
        try:
            assert 1 == synced.sync().counts.rows_inserted
        finally:
            tell_of_waits(lambda _: None)


def test_a_busy_project_is_said_to_be_busy(synced: Project) -> None:
    import fcntl

    busy = settings(busy_wait_s=0.0)
    synced.config = busy
    fd = os.open(synced.base, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        report = synced.cycle()
    finally:
        os.close(fd)
    assert report.busy
    assert str(synced.path) in str(report.error)


def test_two_projects_exchange_messages_by_both_kinds_of_clients(tmp_path: Path) -> None:
    """What an old client sends here, a new client over there reads, and the other way round."""
    here, there = Project(tmp_path / "here"), Project(tmp_path / "there")
    asked = OldClient(here.path).send(there.path, "Question", "How?")
    here.sync()
    there.sync()
    assert "How?" == there.new.read(asked)["body"]
    answered = there.new.send(here.path, "Answer", "So.", reply_to=asked)
    there.sync()
    here.sync()
    assert "So." == here.old.read(answered).body
    here.sync()
    there.sync()
    assert ("read", "sent") == (there.row(asked)["status"], here.row(asked)["status"])
    assert ("sent", "read") == (there.row(answered)["status"], here.row(answered)["status"])
    for project in (here, there):
        assert_in_step(project)
        assert_quiet(project)


@pytest.mark.parametrize("metadata", ["5", "0", "1.5", "true", '"abc"', '""', '"a b"', "[1, [2]]"])
def test_a_row_whose_metadata_is_no_mapping_becomes_a_file_as_any_other(
    tmp_path: Path, metadata: str
) -> None:
    project = Project(tmp_path / "p")
    project.sync()
    odd, plain = (project.new.send(project.other, "Subject", "Body") for _ in range(2))
    project.new.update(odd, metadata=metadata)
    assert 2 == project.sync().counts.files_created
    assert project.file(f"outbox/{plain}.md").exists()
    assert_in_step(project)
    assert_quiet(project)


def test_a_message_to_oneself_in_either_archive_is_archived(project: Project) -> None:
    for number, folder in enumerate(("archive", "inbox/.archive"), 1):
        key = project.receive(number)
        text = project.text(f"inbox/{key}.md").replace(str(project.other), str(project.path))
        project.file(f"inbox/{key}.md").unlink()
        for place in (folder, "outbox"):
            project.write(f"{place}/{key}.md", text)
    assert 2 == project.cycle(dry_run=True).counts.rows_inserted
    report = project.sync(one_way=True)
    assert (2, set()) == (report.counts.rows_inserted, report.unsettled)
    assert {"archived"} == {row["status"] for row in project.rows().values()}
    assert 0 == project.sync().counts.changes()
    assert_quiet(project)


def test_what_sql_takes_out_of_the_archive_is_so_for_the_old_client_too(project: Project) -> None:
    insert(project, a_row(project, "born-archived") | {"status": "archived"})
    project.sync()
    for status in ("read", "unread"):
        project.new.update("born-archived", status=status)
        project.sync()
        assert [status] == [message.status for message in project.old.list()]
        assert status == project.row("born-archived")["status"]
    assert_in_step(project)
    assert_quiet(project)


# Folders that cannot be written to ---------------------------------------------------------------


@contextmanager
def closed(folder: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have nothing go into a mailbox folder, as where its owner is somebody else."""
    write, rename = FileReplica._temporary, replica.rename_new

    def refuse(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(f"/.claude-mpm/{folder}"):
            raise PermissionError(errno.EACCES, "Permission denied")

    def refusing_write(self: FileReplica, fd: int, *rest: Any, **options: Any) -> tuple[str, Stamp]:
        refuse(fd)
        return write(self, fd, *rest, **options)

    def refusing_rename(fd: int, name: str, to_fd: int, to: str) -> None:
        refuse(to_fd)
        rename(fd, name, to_fd, to)

    with monkeypatch.context() as patched:
        patched.setattr(FileReplica, "_temporary", refusing_write)
        patched.setattr(replica, "rename_new", refusing_rename)
        patched.setattr(intake, "_BATCH", 10)
        yield


def versions(project: Project) -> int:
    return int(project.sql("SELECT count(*) FROM syncd_versions")[0][0])


def test_g15_a_folder_that_cannot_be_written_to_is_tried_with_a_few_and_holds_up_no_other(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [project.receive(number) for number in range(1, 41)]
    project.sync()
    before = versions(project)
    with closed("inbox/.archive", monkeypatch):
        for key in keys[:30]:
            project.new.archive(key)
        project.new.update(keys[35], subject="From SQL")
        project.edit(f"inbox/{keys[29]}.md", "Body", "Words of a person: Body")
        report = project.cycle()
        assert "cannot move " in (report.error or "")
        counts = report.counts
        assert (29, 0, 1) == (report.more_errors, counts.files_moved, counts.files_updated)
        assert "Words of a person" in project.row(keys[29])["body"], "what both sides are to get"
        assert versions(project) - before <= 24, "of the first ten, and of the two others"
        assert 30 == project.cycle().more_errors + 1
    assert 30 == project.sync().counts.files_moved
    assert_in_step(project)
    assert_quiet(project)


def test_g15_an_outbox_that_cannot_be_written_to_is_tried_with_a_few(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.receive(1)
    project.sync()
    for number in range(30):
        project.new.send(project.other, f"Subject {number}", "Words")
    with closed("outbox", monkeypatch):
        report = project.cycle()
        assert "cannot write " in (report.error or "")
        assert (29, 0) == (report.more_errors, report.counts.files_created)
        assert versions(project) <= 12, "of the first ten"
    assert 30 == project.sync().counts.files_created
    assert_in_step(project)
    assert_quiet(project)
