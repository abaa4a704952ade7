"""What a replaced file keeps beside its bytes, and whose a new one is."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

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
