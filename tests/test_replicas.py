"""What each replica refuses, alone: a target that is no longer as it was seen stays as it is."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from syncd import patience
from syncd.core.message import FIELDS, fingerprint, message_from_row
from syncd.database import database
from syncd.database.database import identity_of
from syncd.database.record import row_digest
from syncd.database.store import Store
from syncd.errors import ReplicaError, StaleReplica
from syncd.files import syscalls
from syncd.files.replica import FileReplica
from syncd.files.snapshot import NO_STAMP, Scan, Stamp, Version, stamp_of
from tests.projects import Project, a_row, assert_in_step, assert_quiet, insert, moment

PATH = "inbox/x.md"


@pytest.fixture
def files(project: Project) -> Iterator[FileReplica]:
    """The files of a project with one, that says "old"."""
    project.write(PATH, "old")
    with FileReplica(project.path) as opened:
        yield opened


# Files -------------------------------------------------------------------------------------------


def test_g8_a_file_that_changed_since_it_was_read_is_put_back(
    project: Project, files: FileReplica
) -> None:
    seen = files.read(PATH)
    project.write(PATH, "NEW")
    with pytest.raises(StaleReplica):
        files.replace(PATH, b"ours", seen=seen)
    assert "NEW" == project.text(PATH)
    with pytest.raises(StaleReplica):
        files.delete(PATH, seen=seen)
    assert "NEW" == project.text(PATH)
    assert [] == files.settle()
    assert [PATH] == list(project.files())


def test_g8_a_new_file_never_takes_the_place_of_another(
    project: Project, files: FileReplica
) -> None:
    with pytest.raises(StaleReplica):
        files.create(PATH, b"ours")
    project.write("outbox/x.md", "other")
    with pytest.raises(StaleReplica):
        files.move(PATH, "outbox/x.md", seen=files.read(PATH).stamp)
    assert ("old", "other") == (project.text(PATH), project.text("outbox/x.md"))
    assert [PATH, "outbox/x.md"] == list(project.files())


def test_g1_a_name_that_cannot_be_looked_up_is_not_taken_for_free(
    files: FileReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.standing("x.md") == PATH
    assert files.standing("y.md") is None
    look_up = os.stat

    def refuse(name: str, **options: object) -> os.stat_result:
        if name == "x.md":
            raise PermissionError(13, "Permission denied")
        return look_up(name, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(ReplicaError, match="permission denied"):
        files.standing("x.md")


def test_a_listing_without_stamps_has_all_that_one_with_stamps_has(
    project: Project, files: FileReplica
) -> None:
    project.write("outbox/.syncd-1-2-3.tmp", "a draft")
    project.write("inbox/.hidden.md", "an editor's")
    project.file("archive").mkdir()
    project.file("archive/folder.md").mkdir()
    project.file("archive/link.md").symlink_to(project.file(PATH))
    project.file("archive/dangling.md").symlink_to("nowhere")
    os.mkfifo(project.file("archive/fifo.md"))
    Path(os.fsdecode(bytes(project.base) + b"/archive/\xff.md")).touch()
    stamped, unstamped = files.scan(), files.scan(stamped=False)
    assert stamped.stamps.keys() == unstamped.stamps.keys() == {PATH, "inbox/.hidden.md"}
    assert 1 == len(set(unstamped.stamps.values()) - {NO_STAMP}), "the first tells of the folder"
    assert 5 == len(stamped.odd)
    assert stamped.odd == unstamped.odd
    assert stamped.strays == unstamped.strays == ["outbox/.syncd-1-2-3.tmp"]
    assert stamped.folders == unstamped.folders


def test_g1_a_file_that_is_open_for_writing_is_not_read(
    project: Project, files: FileReplica
) -> None:
    with project.file(PATH).open("r+"), pytest.raises(StaleReplica):
        files.read(PATH)
    assert b"old" == files.read(PATH).data


def test_g8_what_a_late_writer_left_in_a_displaced_file_stays(
    project: Project, files: FileReplica
) -> None:
    seen = files.read(PATH)
    with project.file(PATH).open("r+") as late:
        files.replace(PATH, b"ours", seen=seen)
        late.write("LATE")
    (left,) = files.settle()
    assert ("ours", "LATE") == (project.text(PATH), project.text(left))


def test_g8_words_written_into_a_file_that_stood_there_for_a_moment_stay(
    project: Project, files: FileReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = files.read(PATH)
    project.write(PATH, "theirs")
    is_version = FileReplica._is_version

    def second_writer(*arguments: Any) -> bool:
        with project.file(PATH).open("r+") as ours:
            ours.write("LATE")
        return is_version(*arguments)

    monkeypatch.setattr(FileReplica, "_is_version", second_writer)
    with pytest.raises(StaleReplica):
        files.replace(PATH, b"ours, longer", seen=seen)
    assert "theirs" == project.text(PATH)
    (left,) = files.scan().strays
    assert "LATE, longer" == project.text(left)
    assert [left] == files.settle()  # so that it is looked at again soon


def test_g8_what_a_save_into_the_place_of_a_file_displaces_is_looked_at_soon(
    project: Project, files: FileReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = files.read(PATH)
    project.write(PATH, "theirs")
    is_version = FileReplica._is_version

    def save_by_rename(*arguments: Any) -> bool:
        project.write("inbox/draft", "newest").rename(project.file(PATH))
        return is_version(*arguments)

    monkeypatch.setattr(FileReplica, "_is_version", save_by_rename)
    with pytest.raises(StaleReplica):
        files.replace(PATH, b"ours", seen=seen)
    (left,) = files.settle()
    assert ("newest", "theirs") == (project.text(PATH), project.text(left))


@pytest.mark.parametrize("comes_back", [False, True])
def test_g8_a_save_over_a_name_that_is_just_moved_stays_where_renames_have_no_flags(
    project: Project, files: FileReplica, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    seen = files.read(PATH).stamp
    rename = os.rename

    def then_save(call: Callable[..., None], words: list[str]) -> Callable[..., None]:
        def do(*names: Any, **options: Any) -> None:
            call(*names, **options)
            if words:
                rename(project.write("inbox/draft", words.pop()), project.file(PATH))

        return do

    with monkeypatch.context() as patched:
        patched.setattr(syscalls, "_rename_flags", lambda *_: False)
        patched.setattr(os, "link", then_save(os.link, ["by a person"]))
        patched.setattr(os, "rename", then_save(rename, ["once more"] if comes_back else []))
        files.move(PATH, "inbox/.archive/x.md", seen=seen)
    texts = {path.read_text() for path in project.base.rglob("*") if path.is_file()}
    assert {"old", "by a person", *(["once more"] if comes_back else [])} == texts
    assert ("once more" if comes_back else "by a person") == project.text(PATH)


@pytest.fixture
def far_archive(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the archive on another file system, as far as renames can tell."""
    rename_new = syscalls.rename_new

    def refuse(fd: int, name: str, to_fd: int, to: str) -> None:
        if not os.path.sameopenfile(fd, to_fd):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename_new(fd, name, to_fd, to)

    monkeypatch.setattr("syncd.files.replica.rename_new", refuse)


@pytest.mark.usefixtures("far_archive")
def test_a_file_moves_to_another_file_system_too(project: Project) -> None:
    key = project.receive(1)
    project.sync()
    data = project.file(f"inbox/{key}.md").read_bytes()
    project.file(f"inbox/{key}.md").chmod(0o640)
    project.new.archive(key)
    assert 1 == project.sync().counts.files_moved
    moved = project.file(f"inbox/.archive/{key}.md")
    assert (data, 0o640) == (moved.read_bytes(), stat.S_IMODE(moved.stat().st_mode))
    assert ([], []) == (project.names("inbox"), FileReplica(project.path).scan().strays)
    assert_in_step(project)
    assert_quiet(project)


@pytest.mark.usefixtures("far_archive")
def test_g8_a_file_that_changes_while_it_is_copied_stays_where_it_is(
    project: Project, files: FileReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete, seen = FileReplica.delete, files.look(PATH)
    assert isinstance(seen, Stamp)

    def saved_before(self: FileReplica, path: str, *, seen: Version) -> None:
        project.write(path, "by a person")
        delete(self, path, seen=seen)

    monkeypatch.setattr(FileReplica, "delete", saved_before)
    with pytest.raises(StaleReplica):
        files.move(PATH, "inbox/.archive/x.md", seen=seen)
    assert "by a person" == project.text(PATH)
    assert [] == project.names("inbox/.archive")


@pytest.mark.usefixtures("far_archive")
def test_g4_what_was_written_into_a_file_before_it_is_copied_is_still_to_be_heard(
    project: Project, files: FileReplica
) -> None:
    seen = files.read(PATH).stamp
    project.write(PATH, "by a person")
    assert NO_STAMP == files.move(PATH, "inbox/.archive/x.md", seen=seen)
    assert "by a person" == project.text("inbox/.archive/x.md")
    seen = files.read("inbox/.archive/x.md").stamp
    moved = files.move("inbox/.archive/x.md", PATH, seen=seen)
    assert (files.look(PATH), []) == (moved, files.settle())
    assert [PATH] == list(project.files())


def test_g7_a_move_by_link_that_was_cut_off_before_its_unlink_is_finished(
    project: Project, files: FileReplica
) -> None:
    seen = files.read(PATH).stamp
    project.file("inbox/.archive").mkdir()
    os.link(project.file(PATH), project.file("inbox/.archive/x.md"))
    files.move(PATH, "inbox/.archive/x.md", seen=seen)
    assert ["inbox/.archive/x.md"] == list(project.files())


@contextmanager
def no_more_files() -> Iterator[None]:
    """Have the system open no further file in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_cannot_be_looked_at_for_want_of_descriptors_is_not_taken_for_free(
    project: Project, files: FileReplica
) -> None:
    assert PATH == files.standing("x.md")
    files.reopen()
    with no_more_files(), pytest.raises(ReplicaError, match="too many open files"):
        files.standing("x.md")
    assert PATH == files.standing("x.md")


@pytest.mark.parametrize(("number", "is_told"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_folder_whose_renames_cannot_be_made_durable_is_no_error(
    files: FileReplica, monkeypatch: pytest.MonkeyPatch, number: int, is_told: bool
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    files.create("inbox/new.md", b"new")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ReplicaError) if is_told else nullcontext():
        files.settle()


def test_g18_where_too_many_files_are_open_that_is_said(project: Project) -> None:
    project.sync()
    with no_more_files(), pytest.raises(ReplicaError, match="too many files are open") as told:
        Store.open(project.new.database)
    assert "ulimit" in told.value.hint


def test_g9_a_series_of_transactions_leaves_the_lock_free_also_for_who_never_got_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.sync()
    now = [1_000.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    with Store.open(project.new.database) as store:
        monkeypatch.setattr(database, "time", clock)
        monkeypatch.setattr(patience, "time", clock)
        for _ in range(100):
            with store.writing(mute=False):
                now[0] += 0.001
            now[0] += 0.04  # for which there is no credit
        began = now[0]
        for _ in range(50):
            with store.writing(mute=False):
                now[0] += 0.02
    assert 50 * 0.02 * 1.3 < now[0] - began < 50 * 0.02 * 1.6


def test_g9_where_others_write_too_the_lock_is_left_free_for_twice_as_long_as_it_was_held(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.sync()
    now = [1_000.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        now[0] += seconds
        slept.append(round(seconds, 6))

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    with Store.open(project.new.database) as store:
        monkeypatch.setattr(database, "time", clock)
        monkeypatch.setattr(patience, "time", clock)
        for number in range(4):
            with store.writing(mute=False):
                now[0] += 0.02
            if number > 1:  # else nobody waits for it
                insert(project, a_row(project, f"row-{number}"))
    assert [0.04] == slept


def test_g1_a_file_that_is_half_written_is_given_time(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", retry_s=5.0)
    key = project.receive()
    path = project.file(f"inbox/{key}.md")
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    done = threading.Timer(0.1, path.write_bytes, [whole])
    done.start()
    report = project.sync()
    done.join()
    assert ([], [key]) == (report.quarantined, list(project.rows()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there are no leases")
@pytest.mark.parametrize("is_network", [True, False])
def test_where_a_server_refuses_every_lease_files_are_read_all_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch, is_network: bool
) -> None:
    really = fcntl.fcntl

    def refuse(fd: int, command: int, *argument: int) -> Any:
        if command == fcntl.F_SETLEASE:
            raise BlockingIOError(errno.EAGAIN, "no lease")
        return really(fd, command, *argument)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    command = ["stat", "--file-system", "--format=%t", str(project.path)]
    kind = int(subprocess.check_output(command, text=True), 16)
    monkeypatch.setattr(syscalls, "_NETWORKS", {kind} if is_network else {kind + 1})
    key = project.receive()
    project.cycle()
    assert is_network is (key in project.rows())


@pytest.mark.parametrize("inode", [1, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("mtime_ns", [0, -1, 2**63, 10**28])
def test_g15_numbers_of_more_bits_than_the_database_has_are_known_again(
    inode: int, mtime_ns: int
) -> None:
    found: Any = SimpleNamespace(st_size=9, st_mtime_ns=mtime_ns, st_ino=inode)
    scan = Scan()
    scan.listed["inbox"] = [("x.md", stat.S_IFREG, 9, mtime_ns, inode, 0)]
    stamp = stamp_of(found)
    assert {"inbox/x.md": stamp} == scan.stamps
    with closing(sqlite3.connect(":memory:")) as connection:
        assert stamp == connection.execute("SELECT ?, ?, ?", stamp).fetchone()
    found.st_ino ^= 1
    assert stamp != stamp_of(found)


# The database ------------------------------------------------------------------------------------


def test_the_digest_of_a_row_tells_values_apart_that_only_look_alike() -> None:
    words = "a long text " * 9
    bodies = ["5", 5, 5.0, b"5", None, "", b"", words, words.encode(), fingerprint(words)]
    rows = [("id", *[body if name == "body" else name for name in FIELDS]) for body in bodies]
    assert len(rows) == len(set(map(row_digest, rows)))


def test_g4_a_row_that_changed_since_it_was_read_stays(project: Project) -> None:
    key = project.receive()
    project.sync()
    with Store.open(project.new.database) as store:
        seen = store.rows.of([key])[key]
        project.new.update(key, priority="urgent")
        with pytest.raises(StaleReplica), store.writing():
            store.rows.update(seen, message_from_row(seen.values), ["body"])
        with pytest.raises(StaleReplica), store.writing():
            store.rows.delete(seen)
    assert "urgent" == project.row(key)["priority"]


def test_g12_a_table_of_syncds_that_went_meanwhile_is_no_fault_of_a_row(project: Project) -> None:
    key = project.receive()
    project.sync()
    with Store.open(project.new.database) as store:
        seen = store.rows.of([key])[key]
        project.sql("DROP TABLE syncd_feed")
        with pytest.raises(ReplicaError), store.writing():
            store.rows.delete(seen)
    assert key in project.rows()
    project.sync()
    assert_quiet(project)


def test_g15_a_full_disk_is_no_fault_of_a_row(project: Project) -> None:
    key = project.receive()
    project.sync()
    with Store.open(project.new.database) as store:
        seen = store.rows.of([key])[key]
        longer = message_from_row(seen.values)._replace(body="x" * 1_000_000)
        store.connection.execute("PRAGMA max_page_count = 1")  # no more than there are
        with pytest.raises(ReplicaError, match="full"), store.writing():
            store.rows.update(seen, longer, ["body"])
        with pytest.raises(ReplicaError, match="full"), store.writing():
            store.rows.insert(longer._replace(id="another"))
    assert "Body 1." == project.row(key)["body"]


def test_g12_a_database_that_was_renamed_over_is_another(project: Project) -> None:
    project.receive()
    project.sync()
    backup = project.base / "backup.db"
    project.sql(f"VACUUM INTO '{backup}'")
    with Store.open(project.new.database) as store:
        assert store.is_current()
        # Its -wal stays, so that nothing but the file itself tells.
        backup.rename(project.new.database)
        assert not store.is_current()
        with pytest.raises(StaleReplica), store.writing():
            pass


def test_g12_a_database_that_was_copied_over_is_another_and_keeps_every_byte(
    project: Project,
) -> None:
    key = project.receive()
    project.sync()
    backup = project.path.parent / "backup.db"
    project.sql(f"VACUUM INTO '{backup}'")
    with Store.open(project.new.database) as store:
        with store.writing():
            for number in range(200):
                store.chronicle.keep_file(f"id-{number}", PATH, b"x" * 1_000, "to fill the -wal")
        # By other processes: to close the file here would drop SQLite's locks.
        subprocess.run(["cp", backup, project.new.database], check=True)
        subprocess.run(["rm", f"{project.new.database}-wal", f"{project.new.database}-shm"])
        assert not store.is_current()
    assert backup.read_bytes() == project.new.database.read_bytes()
    assert [("ok",)] == project.sql("PRAGMA integrity_check")
    assert [key] == list(project.rows())


# What is kept, and for how long ------------------------------------------------------------------


def test_g3_what_lost_a_conflict_stays_while_that_is_open_however_old_it_is(
    project: Project,
) -> None:
    key = project.receive(body="Words.")
    project.sync()
    project.edit(f"inbox/{key}.md", "Words.", "Of the file.")
    project.new.update(key, body="Of the row.")
    project.sync()
    old = moment(0).isoformat()
    project.sql("UPDATE syncd_history SET at = ?", old)
    project.receive(2)
    project.sync()
    kept = project.sql("SELECT body FROM syncd_history WHERE at = ? ORDER BY version", old)
    assert [("Words.",), ("Of the row.",)] == kept


def test_g6_that_deletes_were_accepted_once_is_not_for_ever(project: Project) -> None:
    for first in (1, 11):
        keys = [project.receive(first + number) for number in range(3)]
        project.sync()
        for key in keys:
            project.file(f"inbox/{key}.md").unlink()
        assert project.cycle().halt is not None
        assert 3 == project.sync(accept_deletes=True).counts.rows_deleted


def test_g8_a_late_rewrite_under_the_old_name_is_kept(project: Project) -> None:
    key = project.receive()
    project.sync()
    path = project.file(f"inbox/{key}.md")
    late = path.read_bytes().replace(b"unread", b"read")
    project.new.archive(key)
    project.sync()
    path.write_bytes(late)
    os.utime(path, (time.time() - 60, time.time() - 60))
    project.sync()
    assert not path.exists()
    assert [(late,)] == project.sql("SELECT data FROM syncd_history WHERE data IS NOT NULL")


# Our own tables, as somebody else left them ------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE syncd_state SET value = '{nope'",
        "UPDATE syncd_state SET value = x'ff'",
        "UPDATE syncd_journal SET at = x'ff'",
        "UPDATE syncd_baseline SET fields = 'nope'",
        "UPDATE syncd_baseline SET fields = '[]', status = NULL",
        "UPDATE syncd_baseline SET path = '../../outside.md'",
        "UPDATE syncd_baseline SET path = x'ff'",
    ],
)
def test_g14_nonsense_in_our_own_tables_counts_as_nothing_known(project: Project, sql: str) -> None:
    outside = project.path.parent / "outside.md"
    keys = [project.receive(number) for number in (1, 2)]
    project.sync()
    outside.write_bytes(project.file(f"inbox/{keys[0]}.md").read_bytes())
    project.sql(sql)
    project.edit(f"inbox/{keys[0]}.md", "Body 1.", "Other words.")
    project.new.update(keys[1], priority="urgent")

    project.sync()

    assert sorted(keys) == sorted(project.rows())
    assert "Other words." == project.row(keys[0])["body"]
    assert_in_step(project)
    assert_quiet(project)
    assert b"Body 1." in outside.read_bytes()


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks into /proc")


@needs_proc
@pytest.mark.parametrize("name", ["", "-wal", "-shm"])
def test_g14_a_link_that_stands_in_a_project_s_place_for_a_moment_leads_sqlite_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mine, other = Project(tmp_path / "mine"), Project(tmp_path / "other")
    mine.sync()
    other.sync()
    base, real = mine.file("messaging.db").parent, tmp_path / "aside"

    def swap() -> None:
        base.rename(real)
        base.symlink_to(other.file("messaging.db").parent)

    def swap_back() -> None:
        base.unlink()
        real.rename(base)

    connect, make_ready = database._connect, database._make_ready

    def connect_elsewhere(path: Path, mode: str) -> sqlite3.Connection:
        if name:
            return connect(path, mode)
        swap()
        try:
            return connect(path, mode)
        finally:
            swap_back()

    def make_ready_elsewhere(connection: sqlite3.Connection) -> None:
        if name:  # SQLite opens both of them when it first reads
            swap()
        make_ready(connection)
        if name:
            swap_back()

    monkeypatch.setattr(database, "_connect", connect_elsewhere)
    monkeypatch.setattr(database, "_make_ready", make_ready_elsewhere)
    with pytest.raises(StaleReplica, match="was replaced meanwhile"):
        Store.open(mine.new.database)
    monkeypatch.undo()
    Store.open(mine.new.database).close()


@needs_proc
def test_g14_the_wal_of_another_database_never_comes_into_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = Project(tmp_path / "mine"), Project(tmp_path / "other")
    mine.sync()
    other.sync()
    with closing(sqlite3.connect(other.new.database)) as host:
        host.execute("SELECT 1 FROM messages").fetchall()
        insert(other, a_row(other, "theirs"))
        shutil.copytree(other.new.database.parent, tmp_path / "cut off")
    assert (tmp_path / "cut off" / "messaging.db-wal").stat().st_size > 0
    base, before = mine.new.database.parent, mine.new.database.read_bytes()
    make_ready = database._make_ready

    def make_ready_elsewhere(connection: sqlite3.Connection) -> None:
        base.rename(tmp_path / "aside")
        base.symlink_to(tmp_path / "cut off")
        try:
            make_ready(connection)
        finally:
            base.unlink()
            (tmp_path / "aside").rename(base)

    monkeypatch.setattr(database, "_make_ready", make_ready_elsewhere)
    with pytest.raises(StaleReplica, match="was replaced meanwhile"):
        Store.open(mine.new.database)
    assert before == mine.new.database.read_bytes()


def test_g14_the_files_of_another_project_never_come_to_a_database(
    tmp_path: Path, project: Project
) -> None:
    other = Project(tmp_path / "other")
    other.receive(1)
    other.sync()
    project.receive(1)
    project.sync()
    with Store.open(project.new.database) as store:
        project.path.rename(tmp_path / "aside")
        project.path.symlink_to(other.path)
        with (
            FileReplica(project.path, database=store.identity) as files,
            pytest.raises(StaleReplica, match="was replaced meanwhile"),
        ):
            files.scan()
        with FileReplica(other.path, database=identity_of(other.new.database)) as files:
            assert 1 == len(files.scan().listed["inbox"])
        project.path.unlink()
        (tmp_path / "aside").rename(project.path)
        other.new.database.unlink()
        with (
            FileReplica(other.path, database=store.identity) as files,
            pytest.raises(StaleReplica, match="was replaced meanwhile"),
        ):
            files.scan()
