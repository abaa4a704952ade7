"""What a replaced file keeps beside its bytes, and whose a new one is."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from syncd.database.store import Store
from syncd.errors import ReplicaError
from syncd.files.attributes import way_to_rights
from tests.projects import Project

# Read and write for the owner, read for user 12345 and the group: acl(5), as the system keeps it.
ACCESS_LIST = struct.pack(
    "<I" + "HHI" * 5,
    2,
    *(0x01, 6, 0xFFFFFFFF),
    *(0x02, 4, 12345),
    *(0x04, 4, 0xFFFFFFFF),
    *(0x10, 4, 0xFFFFFFFF),
    *(0x20, 0, 0xFFFFFFFF),
)

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def edited_by_sql(project: Project, prepare: Callable[[Path], object]) -> Path:
    """Return the file of a message whose subject SQL changed; ``prepare`` is given it before."""
    key = project.receive()
    project.sync()
    path = project.file(f"inbox/{key}.md")
    prepare(path)
    project.new.update(key, subject="Better")
    project.sync()
    assert "# Better" in path.read_text()
    return path


@pytest.mark.parametrize(
    ("name", "value"),
    [("user.color", b"blue"), ("user.empty", b""), ("system.posix_acl_access", ACCESS_LIST)],
)
def test_g13_extended_attributes_and_access_lists_of_an_edited_file_stay(
    project: Project, name: str, value: bytes
) -> None:
    def prepare(path: Path) -> None:
        try:
            os.setxattr(path, name, value)
        except OSError:
            pytest.skip(f"this file system keeps no {name}")

    path = edited_by_sql(project, prepare)
    assert value == os.getxattr(path, name)


def test_g13_permissions_of_an_edited_file_stay_but_never_those_to_run_as_its_owner(
    project: Project,
) -> None:
    path = edited_by_sql(project, lambda path: path.chmod(0o4640))
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)


@only_root
def test_owner_and_group_of_a_file_that_root_edits_stay(project: Project) -> None:
    path = edited_by_sql(project, lambda path: os.chown(path, 12345, 23456))
    assert (12345, 23456) == (path.stat().st_uid, path.stat().st_gid)


def test_g13_permissions_stay_also_where_many_files_are_edited_at_once(project: Project) -> None:
    paths = [project.file(f"inbox/{project.receive(number)}.md") for number in range(1, 13)]
    project.sync()
    for path in paths:
        path.chmod(0o600)
    project.sql("UPDATE messages SET subject = 'Better'")
    project.sync()
    assert all("# Better" in path.read_text() for path in paths)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in paths}


def test_what_is_to_replace_a_file_is_at_no_moment_open_to_more_than_its_owner(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[int] = []
    fchmod = os.fchmod

    def noting(fd: int, mode: int) -> None:
        before.append(stat.S_IMODE(os.fstat(fd).st_mode))
        fchmod(fd, mode)

    monkeypatch.setattr(os, "fchmod", noting)
    path = edited_by_sql(project, lambda path: path.chmod(0o640))
    assert ([0o600], 0o640) == (before, stat.S_IMODE(path.stat().st_mode))


def only_with(*uids: int) -> Callable[[int, int, int], None]:
    """Return an fchown(2) that is refused but with one of these as the owner."""
    fchown = os.fchown

    def change(fd: int, uid: int, gid: int) -> None:
        if uid not in uids:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        fchown(fd, uid, gid)

    return change


@only_root
@pytest.mark.parametrize(
    ("uids", "group", "mode"),
    [((-1,), 23456, 0o664), ((), os.getegid(), 0o644)],
    ids=["its group can be kept", "nothing can be kept"],
)
def test_where_the_owner_cannot_be_kept_no_other_group_gets_the_rights_of_the_one_there_was(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    uids: tuple[int, ...],
    group: int,
    mode: int,
) -> None:
    def prepare(path: Path) -> None:
        os.chown(path, 12345, 23456)
        path.chmod(0o664)
        monkeypatch.setattr(os, "fchown", only_with(*uids))

    found = edited_by_sql(project, prepare).stat()
    assert (os.geteuid(), group, mode) == (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))


@only_root
def test_what_root_makes_is_its_folders_owners(project: Project) -> None:
    os.chown(project.base, 12345, 23456)
    project.receive()
    os.chown(project.file("inbox"), 12345, 23456)
    project.sync()
    key = project.new.send(project.other, "By SQL", "Body.")
    project.new.archive(key)
    project.sync()
    for name in ("messaging.db", "inbox/.archive", f"inbox/.archive/{key}.md"):
        found = project.file(name).stat()
        assert (12345, 23456) == (found.st_uid, found.st_gid), name


def test_the_way_to_rights_is_one_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a b.md"
    path.touch()
    assert f"chmod u+rw '{path}'" == way_to_rights("rw", path)
    monkeypatch.setattr("os.geteuid", lambda: 4321)
    assert f"sudo chown 4321 '{path}'" == way_to_rights("rw", path)


def test_g18_where_the_file_system_is_read_only_no_rights_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "no" / "messaging.db"
    seen: list[Path] = []

    def read_only(where: Path) -> SimpleNamespace:
        seen.append(where)
        return SimpleNamespace(f_flag=os.ST_RDONLY)

    monkeypatch.setattr(os, "statvfs", read_only)
    assert "mount it writable" in way_to_rights("rw", tmp_path)
    assert way_to_rights("r", tmp_path).startswith("chmod")
    with pytest.raises(ReplicaError, match="cannot be written") as told:
        Store.open(path)
    assert "mount it writable" in told.value.hint
    assert [tmp_path, path.parent, path.parent] == seen


def test_g18_a_path_that_is_too_long_for_sqlite_is_told(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["x" * 100] * 5)
    folder.mkdir(parents=True)
    with pytest.raises(ReplicaError, match="bytes, and SQLite takes 504 at most") as told:
        Store.open(folder / "messaging.db")
    assert "shorter" in told.value.hint
