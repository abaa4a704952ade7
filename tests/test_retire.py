"""The end of a migration: what is packed, what is refused, what comes back, and G17."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import pytest

from syncd.cycle.project import turn
from syncd.cycle.retirement import MARKER, ROOTS, Stage, retirement, save
from syncd.database import tables
from syncd.database.database import Database
from syncd.database.sqlite_errors import translated
from syncd.database.store import Store
from syncd.errors import BusyError, ReplicaError, UsageError
from syncd.retire import retire as retire_module
from syncd.retire.archive import Manifest, checked, pack, unpack
from syncd.retire.reinstate import reinstate
from syncd.retire.retire import retire
from tests.calls import Call
from tests.clients import OldClient, row_of
from tests.crash.campaign import compiled_shim, crew, enumerated, sampled, tried
from tests.crash.driver import calls_in, texts
from tests.crash.scenarios import host_writes, key_of, letter, path_of, with_a_past
from tests.projects import Project, assert_in_step, assert_quiet
from tests.running import RunningAgent, syncd, wait_for

JOBS = 2
MTIME_NS = 1_771_574_400_123_456_789


pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project in step, with versions in the history and what is no message beside them."""
    project = Project(tmp_path / "shop")
    with_a_past(project)
    project.write(".hidden", "Beside the folders, and none of them.\n")
    odd = project.write("inbox/by hand/.odd name", b"\0\xff")
    os.utime(odd, ns=(MTIME_NS, MTIME_NS))
    odd.chmod(0o640)
    project.file("outbox/empty").chmod(0o750)
    return project


Tree = dict[str, tuple[int, int, bytes]]


def tree(project: Project) -> Tree:
    """Return mode, time and bytes of all that stands in the legacy folders, of folders the mode."""
    found: Tree = {}
    for root in ROOTS:
        for path in [project.file(root), *project.file(root).rglob("*")]:
            if path.exists():
                seen, name = path.stat(), str(path.relative_to(project.base))
                data = path.read_bytes() if path.is_file() else b""
                found[name] = (seen.st_mode, seen.st_mtime_ns, data)
    return found


def state(project: Project) -> tuple[object, ...]:
    return project.listing(), project.files(), project.tables()


# What is packed, and what remains -----------------------------------------------------------------


def test_a_file_system_that_cannot_sync_folders_keeps_nobody_from_the_end(
    project: Project, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refuse_folders(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(fd)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    files = tree(project)
    assert 0 == call("retire", project.path).code
    assert {} == tree(project)
    assert 0 == call("retire", "--undo", project.archive).code
    assert files == tree(project)


def test_a_retired_project_keeps_its_rows_and_nothing_of_syncd(
    project: Project, call: Call
) -> None:
    project.sql("CREATE TABLE syncd_backup AS SELECT * FROM messages")  # a person's
    rows, files = project.rows(), tree(project)
    done = call("retire", project.path)
    assert 0 == done.code
    assert rows == project.rows()
    assert {"messages", "sessions", "syncd_backup"} == set(project.tables())
    assert rows.keys() == {key for (key,) in project.sql("SELECT id FROM syncd_backup")}
    assert [] == project.sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    assert {} == tree(project)
    left = {".hidden", "messaging.db", project.archive.name, MARKER}
    assert left == {path.name for path in project.base.iterdir()}
    manifest = checked(project.archive)
    packed = {entry.path: (entry.mode, entry.mtime_ns) for entry in manifest.entries}
    assert {name: (mode & 0o7777, at) for name, (mode, at, _) in files.items()} == packed
    assert key_of(1) == {one.path: one.id for one in manifest.entries}[path_of(1)]


def test_retiring_tells_what_it_did_and_the_way_back(project: Project, call: Call) -> None:
    size = sum(len(data) for _, _, data in tree(project).values())
    done = call("retire", project.path)
    archive = project.archive
    assert (
        f"{project.path}: retired\n"
        f"  packed 8 files ({size:,} bytes) into {archive} ({archive.stat().st_size:,} bytes)\n"
        "  removed syncd's tables and triggers; the archive has their 3 versions, 7 journal "
        "entries\n"
        f"  → Bring it all back: syncd retire --undo {archive}\n"
    ) == done.out


def test_g16_a_dry_run_tells_what_retiring_does_and_changes_nothing(
    project: Project, call: Call
) -> None:
    before = state(project)
    dry = call("retire", project.path, "-n", "--json").json
    assert before == state(project)
    assert None is dry["retired"]
    assert call("retire", project.path, "-n").out.startswith(
        f"{project.path}: would be retired\n  would pack 8 files"
    )
    real = call("retire", project.path, "--json").json
    for name in ("project", "files", "bytes", "tables", "archive", "reasons", "left"):
        assert dry[name] == real[name]
    assert "retired" == real["retired"]["stage"]
    assert project.archive.stat().st_size == real["archive_bytes"]


def test_an_archive_can_be_unpacked_without_syncd(project: Project, tmp_path: Path) -> None:
    files = tree(project)
    project.retire()
    subprocess.run(["tar", "xf", project.archive, "-C", tmp_path, "inbox"], check=True)
    (odd,) = (tmp_path / "inbox").glob("by hand/*")
    mode, _, data = files["inbox/by hand/.odd name"]
    assert (mode, data) == (odd.stat().st_mode, odd.read_bytes())
    assert files[path_of(3)][2] == (tmp_path / path_of(3)).read_bytes()


def test_an_archive_is_readable_for_whom_the_database_is(project: Project) -> None:
    project.new.database.chmod(0o600)
    project.retire()
    assert 0o600 == project.archive.stat().st_mode & 0o777


# What every other command makes of it -------------------------------------------------------------


def test_no_command_makes_anything_in_a_retired_project(project: Project, call: Call) -> None:
    project.retire()
    before = state(project)
    told = f"retired on {retirement(project.path).at[:10]}, archive {project.archive.name}"  # type: ignore[union-attr]
    for command in ("sync", "migrate", "status", "verify"):
        done = call(command, project.path)
        assert (0, True) == (done.code, done.out.startswith(f"{project.path}: {told}")), done
    assert "retired" == call("status", project.path, "--json").json["projects"][0]["state"]
    assert before == state(project)
    sent = call("message", "send", project.path, "--project", project.path, "--subject", "New")
    assert (0, "") == (sent.code, sent.err)
    assert before[0] == project.listing()
    assert {"messages", "sessions"} == set(project.tables())


@pytest.mark.parametrize(
    "command",
    [
        ("history", "--project"),
        ("conflicts",),
        ("restore", key_of(1), "--project"),
        ("resume", "--restore"),
        ("repair",),
        ("log", "--project"),
    ],
    ids=lambda command: str(command[0]),
)
def test_what_is_in_the_archive_is_not_denied(
    project: Project, call: Call, command: tuple[str, ...]
) -> None:
    project.retire()
    done = call(*command, project.path)
    assert 1 == done.code
    assert "is retired: its files, its history and its journal are in an archive" in done.err
    assert f"syncd retire --undo {project.archive}" in done.err


def test_g18_a_retired_project_whose_database_is_gone_is_told(project: Project, call: Call) -> None:
    project.retire()
    (project.base / "messaging.db").unlink()
    done = call("status", project.path)
    assert (1, True) == (done.code, "messaging.db is gone" in done.out)


def test_a_file_of_an_old_client_in_a_retired_project_is_told(project: Project, call: Call) -> None:
    project.retire()
    late = project.receive(9)
    for command in ("status", "sync"):
        done = call(command, project.path)
        assert 3 == done.code
        assert f"inbox/{late}.md stands there, and no new client sees it" in done.out
        assert f"syncd retire --undo {project.archive}" in done.out
    again = call("retire", project.path)
    assert (3, True) == (
        again.code,
        f"inbox/{late}.md stays: it is not in the archive" in again.out,
    )
    assert [f"{late}.md"] == project.names("inbox")
    assert 0 == call("retire", "--undo", project.archive).code
    assert 0 == call("sync", project.path).code
    assert late in project.rows()
    assert_in_step(project)


def test_a_file_that_is_open_somewhere_stays_until_it_is_not(project: Project, call: Call) -> None:
    with project.file(path_of(1)).open("rb"):
        done = call("retire", project.path)
    assert (3, [f"{key_of(1)}.md"]) == (done.code, project.names("inbox"))
    assert f"{path_of(1)} stays: it is not in the archive, or open somewhere" in done.out
    assert f"→ If it was only open somewhere, remove it: syncd retire {project.path}" in (
        call("status", project.path).out
    )
    assert (0, []) == (call("retire", project.path).code, project.names("inbox"))


def test_a_report_knows_a_retired_project(project: Project, call: Call) -> None:
    project.retire()
    assert f"{project.path}: retired: since " in call("report", project.path).out


def test_a_marker_that_cannot_be_read_keeps_all_away(project: Project, call: Call) -> None:
    project.retire()
    project.write(MARKER, "{")
    before = state(project)
    for command in ("sync", "status", "retire", "doctor"):
        done = call(command, project.path)
        assert f"{MARKER} cannot be read: it is damaged" in done.out + done.err
        assert done.code != 0
    assert before == state(project)


# What stands in the way ---------------------------------------------------------------------------


def unsynced(project: Project) -> None:
    project.edit(path_of(1), "Subject 1", "Another subject")


def unequal_behind_its_stamp(project: Project) -> None:
    project.sync()
    path = project.file(path_of(1))
    seen = path.stat()
    path.write_bytes(path.read_bytes().replace(b"Subject 1", b"Subject 9"))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def in_conflict(project: Project) -> None:
    project.edit(path_of(1), "Subject 1", "Subject A")
    project.new.update(key_of(1), subject="Subject B")
    project.sync()


def quarantined(project: Project) -> None:
    project.write("inbox/broken.md", "No front matter.\n")
    project.sync()


def refused_by_a_host(project: Project) -> None:
    project.sql(
        "CREATE TRIGGER keeps BEFORE DELETE ON messages BEGIN SELECT RAISE(ABORT, 'kept'); END"
    )
    project.file(path_of(1)).unlink()
    project.sync()


def halted(project: Project) -> None:
    for number in (1, 2, 3):
        project.file(path_of(number)).unlink()
    assert project.cycle().halt is not None


def linked(project: Project) -> None:
    project.file("inbox/link").symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("prepare", "code", "reason"),
    [
        (unsynced, 3, "both sides differ; a sync has yet to do: 1 row updated"),
        (unequal_behind_its_stamp, 3, f"{key_of(1)}: subject differs"),
        (in_conflict, 3, f"there is a conflict in {key_of(1)}, subject"),
        (quarantined, 3, "inbox/broken.md is quarantined: there is no front matter"),
        (refused_by_a_host, 3, f"messaging.db#{key_of(1)} is quarantined: the database refuses"),
        (halted, 4, "it is halted: "),
        (linked, 3, "inbox/link is neither a file nor a folder"),
    ],
)
def test_retiring_is_refused_with_the_reason(
    project: Project, call: Call, prepare: Callable[[Project], None], code: int, reason: str
) -> None:
    prepare(project)
    before = state(project)
    done = call("retire", project.path)
    assert code == done.code
    assert f"{project.path}: cannot be retired, nothing was done\n  {reason}" in done.out
    assert "→" in done.out
    found = call("retire", project.path, "--json").json
    assert (None, True) == (found["retired"], found["reasons"][0]["text"].startswith(reason))
    assert before == state(project)


def test_a_project_that_was_never_synced_is_not_retired(tmp_path: Path, call: Call) -> None:
    project = Project(tmp_path / "new")
    project.receive(1)
    done = call("retire", project.path)
    assert (3, True) == (done.code, "it was never synced" in done.out)
    assert not project.new.database.exists()


def test_a_project_without_a_mailbox_folder_is_retired_too(tmp_path: Path, call: Call) -> None:
    project = Project(tmp_path / "rows only")
    shutil.rmtree(project.base)
    project.base.mkdir()
    assert {} == project.new.rows()
    project.sync()
    assert 0 == call("retire", project.path).code


def test_what_differs_only_because_a_host_writes_just_now_is_busy(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven, written = retire_module.verify, []

    def beside_a_host(*arguments: Any, **options: Any) -> Any:
        project.sql("UPDATE messages SET body = body || ?", f"{len(written)}.")
        written.append(1)
        return proven(*arguments, **options)

    monkeypatch.setattr(retire_module, "verify", beside_a_host)
    with pytest.raises(BusyError, match="changes while it is packed"):
        retire(project.path, project.config)
    monkeypatch.undo()
    project.sync()
    project.retire()


def test_g17_an_archive_that_does_not_read_back_ends_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def packed_badly(base: Path, manifest: Manifest, rows: IO[bytes], into: IO[bytes]) -> None:
        pack(base, manifest, rows, into)
        into.seek(-200, os.SEEK_END)  # as a disk does that is failing
        into.write(bytes(100))

    before = state(project)
    monkeypatch.setattr(retire_module, "pack", packed_badly)
    with pytest.raises(ReplicaError, match="is damaged, or no archive of syncd's"):
        retire(project.path, project.config)
    assert before == state(project)


def test_retiring_waits_for_a_cycle_under_way(
    project: Project, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCD_BUSY_WAIT_S", "0.1")
    with turn(project.path, 0):
        done = call("retire", project.path)
    assert (75, f"syncd: another syncd is working on {project.path}") == (
        done.code,
        done.err.splitlines()[0],
    )


# Undoing it ---------------------------------------------------------------------------------------


def test_undoing_brings_back_every_byte_mode_time_and_version(project: Project, call: Call) -> None:
    for number, second in ((1, -1_000_000_000), (2, 10_413_792_000)):  # 1938 and 2300
        os.utime(project.file(path_of(number)), (second, second))
    project.sync()
    files, tables = tree(project), project.tables()
    project.retire()
    done = call("retire", "--undo", project.archive)
    assert 0 == done.code
    assert f"{project.path}: 8 files brought back from {project.archive}\n" in done.out
    assert files == tree(project)
    assert None is retirement(project.path)
    for name in ("syncd_history", "syncd_journal", "syncd_baseline"):
        assert tables[name] == project.tables()[name]
    assert 0 == project.sync().counts.changes()
    assert_in_step(project)
    assert_quiet(project)
    assert "there is nothing to undo" in call("retire", "--undo", project.archive).out


def test_what_changed_in_the_rows_since_goes_to_the_files(project: Project, call: Call) -> None:
    project.retire()
    project.new.update(key_of(1), body="Changed when all was retired.")
    project.new.replace(row_of(letter(8)))
    project.new.delete(key_of(2))
    call("retire", "--undo", project.archive, project.path)
    report = project.sync()
    counts = report.counts
    assert (1, 1, 1) == (counts.files_updated, counts.files_created, counts.files_deleted)
    assert [] == report.conflicts
    assert "Changed when all was retired." in project.text(path_of(1))
    assert_in_step(project)


def test_an_undo_tells_what_it_would_do(project: Project, call: Call) -> None:
    project.retire()
    before = state(project)
    done = call("retire", "--undo", project.archive, "-n", "--json").json
    assert (8, False, []) == (done["files"], done["restored"], done["reasons"])
    assert before == state(project)


def test_an_undo_overwrites_nothing(project: Project, call: Call) -> None:
    project.retire()
    project.write(path_of(1), "Something else.\n")
    before = state(project)
    done = call("retire", "--undo", project.archive)
    assert (3, before) == (done.code, state(project))
    assert f"{path_of(1)} is in the way, and is not what the archive has" in done.out


def test_another_archive_than_its_own_brings_nothing_back(
    project: Project, call: Call, tmp_path: Path
) -> None:
    other = Project(tmp_path / "other")
    other.receive(9)
    other.sync()
    other.retire()
    project.retire()
    before = state(project)
    done = call("retire", project.path, "--undo", other.archive)
    assert (2, True) == (done.code, f"was retired into {project.archive.name}" in done.err)
    assert before == state(project)
    assert 0 == call(*shlex.split(done.err.partition("with: ")[2])[1:]).code
    # Without a marker, whose archive it is shows in what it holds.
    project.file(MARKER).unlink(missing_ok=True)
    project.retire()
    project.file(MARKER).unlink()
    done = call("retire", project.path, "--undo", other.archive)
    assert (2, True) == (done.code, f"{other.archive} is of {other.path}" in done.err)


def test_a_damaged_marker_s_way_out_brings_all_back(project: Project, call: Call) -> None:
    files = tree(project)
    project.retire()
    archive = project.archive
    project.write(MARKER, "[" * 50_000)
    told = call("sync", project.path).err + call("sync", project.path).out
    way = told.partition("before any sync: ")[2].splitlines()[0]
    remove, undo = (shlex.split(part) for part in way.split(" && "))
    assert ["rm", str(project.file(MARKER))] == remove
    project.file(MARKER).unlink()
    assert 0 == call(*undo[1:-1], archive).code
    assert files == tree(project)


def test_a_retirement_that_was_cut_off_when_the_triggers_were_gone_is_finished(
    project: Project, call: Call
) -> None:
    with project.connection() as connection:
        tables.drop_triggers(connection)
    assert (0, True) == (call("retire", project.path).code, project.archive.exists())
    assert {"messages", "sessions"} == set(project.tables())


def test_g17_a_backup_put_back_into_a_retired_project_loses_its_triggers_with_its_tables(
    project: Project, call: Call, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    with closing(sqlite3.connect(backup)) as into, project.connection() as source:
        source.backup(into)
    project.retire()
    backup.replace(project.new.database)
    assert 0 == call("retire", project.path).code
    assert {"messages", "sessions"} == set(project.tables())
    project.sql("UPDATE messages SET status = 'read'")


def test_an_undo_that_was_cut_off_goes_on_with_its_own_archive_only(
    project: Project, tmp_path: Path
) -> None:
    files = tree(project)
    project.retire()
    other = Project(tmp_path / "other")
    other.receive(99)
    other.sync()
    other.retire()
    known = retirement(project.path)
    assert known is not None
    save(project.path, known._replace(stage=Stage.RESTORING))
    with pytest.raises(UsageError, match="is being restored from"):
        reinstate(project.path, other.archive, project.config)
    save(project.path, known)
    reinstate(project.path, project.archive, project.config)
    assert files == tree(project)


def test_the_folders_that_an_undo_makes_are_none_in_the_place_of_others(project: Project) -> None:
    project.retire()
    reinstate(project.path, project.archive, project.config)
    project.file(path_of(1)).unlink()
    assert 1 == project.sync().counts.rows_deleted


def test_another_archive_under_the_name_of_its_own_removes_nothing(
    project: Project, tmp_path: Path
) -> None:
    project.retire()
    other = Project(tmp_path / "other")
    late = f"inbox/{other.receive(99)}.md"
    other.sync()
    words = other.text(late)
    other.retire()
    shutil.copy(other.archive, project.archive)
    project.write(late, words)
    with pytest.raises(ReplicaError, match="is not the archive that the project was retired into"):
        retire(project.path, project.config)
    assert words == project.text(late)


def test_an_archive_that_was_moved_away_is_undone_by_naming_the_project(
    project: Project, call: Call, tmp_path: Path
) -> None:
    files = tree(project)
    project.retire()
    archive = project.archive.rename(tmp_path / "kept.tar.xz")
    assert 0 == call("retire", project.path, "--undo", archive).code
    assert files == tree(project)


def test_g9_large_tables_are_removed_in_short_transactions(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 950)"
    project.sql(f"INSERT INTO syncd_journal (at, id) {numbers} SELECT '2026-01-01', i FROM n")
    monkeypatch.setattr("syncd.database.database.DROPPING_S", 0.0)
    begun = []
    immediate = Database._immediate

    def counted(database: Database) -> AbstractContextManager[None]:
        begun.append(database)
        return immediate(database)

    monkeypatch.setattr(Database, "_immediate", counted)
    project.retire()
    assert len(begun) > 10 + 2 * 9
    assert {"messages", "sessions"} == set(project.tables())


def test_an_undo_from_elsewhere_that_was_cut_off_names_no_archive_that_is_not_there(
    project: Project, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tree(project)
    project.retire()
    archive = project.archive.rename(tmp_path / "kept.tar.xz")

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("syncd.retire.reinstate._place", cut_off)
    with pytest.raises(KeyboardInterrupt):
        reinstate(project.path, archive, project.config)
    monkeypatch.undo()
    way = f"syncd retire {project.path} --undo FOLDER/kept.tar.xz"
    assert f"→ Finish it: {way}" in call("status", project.path).out
    assert way in call("retire", project.path).err
    assert 0 == call(*way.replace("FOLDER", str(tmp_path)).split()[1:]).code
    assert files == tree(project)


def test_a_damaged_archive_changes_nothing(project: Project, call: Call) -> None:
    project.retire()
    data = bytearray(project.archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    project.archive.write_bytes(data)
    before = state(project)
    done = call("retire", "--undo", project.archive)
    assert (1, before) == (done.code, state(project))
    assert f"{project.archive} is damaged, or no archive of syncd's" in done.err


def test_what_is_no_file_is_no_archive(project: Project, call: Call) -> None:
    for what, words in ((project.path, "no regular file"), (project.path / "no", "no such file")):
        done = call("retire", "--undo", what)
        assert (2, True, True) == (done.code, words in done.err, "syncd status" in done.err)


def test_g15_who_reads_while_a_project_is_being_retired_is_told_to_try_again(
    project: Project,
) -> None:
    with Store.open(project.new.database) as store:
        project.retire()
        with (
            pytest.raises(BusyError, match="has just lost a table of syncd's") as told,
            translated(store.path),
        ):
            store.records.of(["any"])
    assert "being retired" in told.value.hint


def repacked(
    archive: Path, change: Callable[[dict[str, Any], tarfile.TarInfo], tarfile.TarInfo | None]
) -> None:
    """Write an archive anew, each member and the manifest as ``change`` has them."""
    with tarfile.open(archive) as whole:
        members = [(info, whole.extractfile(info)) for info in whole.getmembers()]
        parts = [(info, file.read() if file else b"") for info, file in members]
    manifest = json.loads(parts[0][1])
    changed = [(change(manifest, info), data) for info, data in parts[1:]]
    text = json.dumps(manifest).encode()
    parts[0][0].size = len(text)
    with tarfile.open(archive, "w:xz") as whole:
        for info, data in [(parts[0][0], text), *changed]:
            if info is not None:
                whole.addfile(info, io.BytesIO(data))


Change = Callable[[dict[str, Any], tarfile.TarInfo], tarfile.TarInfo | None]


def renamed_to(path: str) -> Change:
    """Return a change by which one file has another path, in the manifest too."""

    def change(manifest: dict[str, Any], info: tarfile.TarInfo) -> tarfile.TarInfo:
        if info.name == "inbox/notes.txt":
            for entry in manifest["entries"]:
                entry["path"] = path if entry["path"] == info.name else entry["path"]
            info.name = path
        return info

    return change


def as_link(manifest: dict[str, Any], info: tarfile.TarInfo) -> tarfile.TarInfo:
    if info.name == "inbox/notes.txt":
        info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0
    return info


def as_folder_link(manifest: dict[str, Any], info: tarfile.TarInfo) -> tarfile.TarInfo:
    if info.name == "inbox/by hand":
        info.type, info.linkname = tarfile.SYMTYPE, "/tmp"
    return info


def left_out(manifest: dict[str, Any], info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if info.name == "inbox/notes.txt" else info


def unlisted(manifest: dict[str, Any], info: tarfile.TarInfo) -> tarfile.TarInfo:
    if info.name == "inbox/notes.txt":
        manifest["entries"] = [one for one in manifest["entries"] if one["path"] != info.name]
    return info


@pytest.mark.parametrize(
    "change",
    [
        *map(renamed_to, ("../out", "/tmp/out", "inbox/../../out", "inbox/new/out", "outbox//out")),
        *map(renamed_to, ("messaging.db", "syncd.toml", "inbox", "inbox/.")),
        *(as_link, as_folder_link, left_out, unlisted),
    ],
)
def test_an_archive_that_leads_outside_is_refused(project: Project, change: Change) -> None:
    project.retire()
    repacked(project.archive, lambda _, info: info)
    checked(project.archive)
    repacked(project.archive, change)
    with pytest.raises(ReplicaError, match="is damaged, or no archive of syncd's"):
        checked(project.archive)


BAD_TABLES = [
    b"no JSON",
    b'["syncd_state", [1]]',
    b'["syncd_state", {"value": [1]}]',
    b'["syncd_state", {"value": 99999999999999999999}]',
]


@pytest.mark.parametrize("line", BAD_TABLES)
def test_an_archive_whose_tables_are_none_changes_nothing(
    project: Project, call: Call, line: bytes
) -> None:
    project.retire()
    with tarfile.open(project.archive) as whole:
        parts = [
            (info, file.read() if (file := whole.extractfile(info)) else b"") for info in whole
        ]
    manifest = json.loads(parts[0][1])
    manifest |= {"tables_size": len(line), "tables_sha256": sha256(line).hexdigest()}
    parts[:2] = [(parts[0][0], json.dumps(manifest).encode()), (parts[1][0], line)]
    with tarfile.open(project.archive, "w:xz") as whole:
        for info, data in parts:
            info.size = len(data)
            whole.addfile(info, io.BytesIO(data))
    project.file(MARKER).unlink()
    before = state(project)
    done = call("retire", project.path, "--undo", project.archive)
    assert (1, before) == (done.code, state(project))
    assert f"{project.archive} is damaged, or no archive of syncd's" in done.err


def with_entry(**parts: Any) -> Change:
    def change(manifest: dict[str, Any], info: tarfile.TarInfo) -> tarfile.TarInfo:
        manifest["entries"][0] |= parts
        return info

    return change


@pytest.mark.parametrize("parts", [{"path": 5}, {"mode": "x"}, {"mtime_ns": 10**40}])
def test_an_archive_whose_manifest_makes_no_sense_is_refused(
    project: Project, parts: dict[str, Any]
) -> None:
    project.retire()
    repacked(project.archive, with_entry(**parts))
    with pytest.raises(ReplicaError, match="is damaged, or no archive of syncd's"):
        checked(project.archive)


def test_g14_a_manifest_that_unpacks_without_end_is_not_read_to_the_end(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.retire()
    repacked(project.archive, with_entry(sha256="0" * 20_000_000))
    monkeypatch.setattr("syncd.retire.archive._MANIFEST_BYTES", 0)
    with pytest.raises(ReplicaError, match="is larger than such an archive can have it"):
        checked(project.archive)


def test_g7_all_that_is_unpacked_is_durable_before_the_marker_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.retire()
    durable: set[str] = set()
    fsync = os.fsync

    def note(fd: int) -> None:
        fsync(fd)
        known = retirement(project.path)
        if known is not None and known.is_done:
            durable.add(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr(os, "fsync", note)
    manifest = reinstate(project.path, project.archive, project.config).manifest
    aside = project.file(".syncd-restoring")
    assert durable >= {str(aside / entry.path) for entry in manifest.entries}


@pytest.mark.parametrize(
    "read", [lambda archive, _: checked(archive), unpack], ids=["checked", "unpacked"]
)
def test_a_file_that_is_not_as_it_was_packed_is_refused(
    project: Project, tmp_path: Path, read: Callable[..., object]
) -> None:
    def with_another_digest(manifest: dict[str, Any], info: tarfile.TarInfo) -> tarfile.TarInfo:
        for entry in manifest["entries"]:
            entry["sha256"] = 64 * "0" if entry["path"] == "inbox/notes.txt" else entry["sha256"]
        return info

    project.retire()
    repacked(project.archive, with_another_digest)
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ReplicaError, match=r"inbox/notes\.txt is not as it was packed"):
        read(project.archive, into)


# G17: cut off anywhere ----------------------------------------------------------------------------


@pytest.mark.timeout(180)  # some 5 s on two idle cores
def test_g17_a_retirement_killed_anywhere_never_fails_a_host_and_loses_no_word() -> None:
    """A sample; each attempt has a host write after the kill, and then runs to the end."""
    names = ["retire", "retire-undone"]
    with crew(JOBS) as drivers:
        results = enumerated(drivers, names)
        found = list(results.values())
        attempts = [
            attempt
            for attempt in sampled(found, ["kill"], 10_000, seed=17)
            if "-shm" not in results[attempt.name].calls[attempt.at - 1]
        ][:12]
        tried(drivers, results, attempts)
    assert [] == [failure for result in found for failure in result.failures]
    assert 12 == sum(result.recovered for result in found)
    assert set(names) == {attempt.name for attempt in attempts}


def retire_under(shim: Path, project: Project, *, at: int) -> list[str]:
    """Have a process retire a project, and die before that call (0: none); return the calls."""
    log = project.path.parent / f"{project.path.name}-calls"
    variables = {"CRASH_ROOT": project.path, "CRASH_LOG": log, "CRASH_AT": at, "CRASH_MODE": "kill"}
    subprocess.run(
        [sys.executable, "-m", "syncd", "retire", project.path],
        env=os.environ
        | {name: str(value) for name, value in variables.items()}
        | {"LD_PRELOAD": str(shim)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return calls_in(log)


def test_g17_what_an_old_client_writes_after_the_packing_stays(tmp_path: Path, call: Call) -> None:
    """The process dies when all is packed; an old client goes on; the next call ends it."""
    shim = compiled_shim(tmp_path)
    whole, project = Project(tmp_path / "whole"), Project(tmp_path / "shop")
    with_a_past(whole)
    with_a_past(project)
    calls = retire_under(shim, whole, at=0)
    (aside,) = [at for at, one in enumerate(calls, 1) if "rename .claude-mpm/inbox " in one]
    assert aside == len(retire_under(shim, project, at=aside))
    found = call("status", project.path)
    assert (3, True) == (found.code, f"→ Finish it: syncd retire {project.path}" in found.out)
    assert 3 == call("sync", project.path).code
    host_writes(project)
    project.old.read(key_of(1))
    late = project.receive(9)
    before = texts(project)
    done = call("retire", project.path, "--json")
    assert (3, [path_of(1), f"inbox/{late}.md"]) == (done.code, done.json["left"])
    assert {f"{key_of(1)}.md", f"{late}.md"} == set(project.names("inbox"))
    assert [] == project.names("outbox")
    assert b"status: read" in project.file(path_of(1)).read_bytes()
    assert set() == before - texts(project)
    assert {"messages", "sessions"} == set(project.tables())


def test_g17_a_retirement_that_was_cut_off_can_be_undone(tmp_path: Path) -> None:
    shim = compiled_shim(tmp_path)
    whole, project = Project(tmp_path / "whole"), Project(tmp_path / "shop")
    with_a_past(whole)
    with_a_past(project)
    files = tree(project)
    calls = retire_under(shim, whole, at=0)
    (aside,) = [at for at, one in enumerate(calls, 1) if "rename .claude-mpm/inbox " in one]
    retire_under(shim, project, at=aside + 1)
    assert not project.file("inbox").exists()
    reinstate(project.path, project.archive, project.config)
    assert (None, files) == (retirement(project.path), tree(project))
    assert [] == list(project.base.glob(".syncd-*"))


def change_a_row(project: Project) -> None:
    project.new.update(key_of(1), body="The last word.")


def change_a_file(project: Project) -> None:
    project.old.read(key_of(1))


TRIGGERS = "SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name"


@pytest.mark.parametrize("change", [change_a_row, change_a_file])
def test_g17_a_change_in_the_last_moment_before_the_end_keeps_a_project_from_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, change: Callable[[Project], None]
) -> None:
    changes = [change]

    def checked_then_changed(archive: Path) -> Manifest:
        found = checked(archive)
        if changes:
            changes.pop()(project)
        return found

    triggers = project.sql(TRIGGERS)
    monkeypatch.setattr(retire_module, "checked", checked_then_changed)
    with pytest.raises(BusyError, match="changes while it is packed"):
        retire(project.path, project.config)
    (reason,) = retire(project.path, project.config).reasons
    assert "both sides differ; a sync has yet to do: 1 " in reason.text
    assert (None, triggers) == (retirement(project.path), project.sql(TRIGGERS))
    project.scoped(path_of(1))
    assert_in_step(project)


def test_g17_a_project_that_changes_all_the_time_is_left_as_it_was(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked_then_changed(archive: Path) -> Manifest:
        found = checked(archive)
        project.write("inbox/notes.txt", project.text("inbox/notes.txt") + "Once more.\n")
        return found

    project.write("inbox/notes.txt", "Beside the messages.\n")
    before = project.listing(), project.sql(TRIGGERS)
    monkeypatch.setattr(retire_module, "checked", checked_then_changed)
    with pytest.raises(BusyError, match="changes while it is packed"):
        retire(project.path, project.config)
    assert before == (project.listing(), project.sql(TRIGGERS))


def test_g17_an_old_client_that_writes_all_the_time_loses_nothing(project: Project) -> None:
    sent: list[str] = []
    stop = threading.Event()

    def send() -> None:
        client = OldClient(project.other)
        while not stop.wait(0.002 * 1.15 ** len(sent)):  # ever more slowly: once it fits between
            key = f"msg-20260301-000000-{len(sent):08x}"
            try:
                client.send(project.path, "Late", f"Words of {key}.", id=key)
            except FileNotFoundError:  # its folder went between making and using it
                continue
            sent.append(key)

    client = threading.Thread(target=send)
    client.start()
    try:
        while retirement(project.path) is None:
            project.cycle()
            with suppress(BusyError):
                retire(project.path, project.config)
        wait_for(lambda: project.names("inbox"))
    finally:
        stop.set()
        client.join()
    kept = {text[0] for text in texts(project)}
    assert set(sent) <= kept
    assert retirement(project.path) is not None
    reinstate(project.path, project.archive, project.config)
    project.sync()
    assert set(sent) <= set(project.rows())


def test_g17_a_running_agent_leaves_a_retired_project_alone(
    project: Project, tmp_path: Path
) -> None:
    home = tmp_path / "agent"
    with RunningAgent(home, project.path) as agent:
        wait_for(lambda: syncd(home, "retire", project.path).returncode == 0)
        host_writes(project)
        late = project.receive(9)
        wait_for(lambda: f"inbox/{late}.md stands there all the same" in agent.log)
        assert "retired on" in agent.log
        assert {"messages", "sessions"} == set(project.tables())
        assert [f"{late}.md"] == project.names("inbox")
        assert not project.file("outbox").exists()
        done = syncd(home, "retire", "--undo", project.archive)
        assert 0 == done.returncode, done.stderr
        wait_for(lambda: late in project.rows())
        wait_for(lambda: "Changed with SQL meanwhile." in project.text(path_of(1)))
        wait_for(lambda: not project.file(path_of(2)).exists())
        wait_for(lambda: f"{key_of(7)}.md" in project.names("inbox"))
        assert "Traceback" not in agent.log
    assert_in_step(project)
