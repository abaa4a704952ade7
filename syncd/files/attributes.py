"""What a file has beside its bytes: permissions, owner, extended attributes, access lists.

A replaced file is a new one under the old name, so all of this is carried over by hand, as far as
the system permits. Only what a person can have set is: the system's own marks of a file's bytes
(``security.ima`` and the like) would be wrong on other bytes.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MOUNT_WRITABLE = "The file system is read-only; mount it writable."

_LABEL = "security.selinux"


class Attributes(NamedTuple):
    """What a file has beside its bytes; ``extended`` has access lists too."""

    mode: int
    uid: int
    gid: int
    extended: tuple[tuple[str, bytes], ...]


def attributes_of(dir_fd: int, name: str) -> Attributes:
    """Return a file's attributes; one more system call than a stat when it has no extended ones."""
    found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    # Not S_ISUID and its kin: they would be ours then, on bytes that others wrote.
    return Attributes(found.st_mode & 0o777, found.st_uid, found.st_gid, _extended(dir_fd, name))


def _extended(dir_fd: int, name: str) -> tuple[tuple[str, bytes], ...]:
    if not hasattr(os, "listxattr"):
        return ()
    path = f"/proc/self/fd/{dir_fd}/{name}"  # there is no call that takes a folder's descriptor
    with suppress(OSError):
        return tuple(
            (key, os.getxattr(path, key, follow_symlinks=False))
            for key in os.listxattr(path, follow_symlinks=False)
            if key == _LABEL or not key.startswith("security.")
        )
    return ()


def give(fd: int, wanted: Attributes) -> None:
    """Give an open file these attributes, as far as this process may."""
    mode = wanted.mode
    if (wanted.uid, wanted.gid) != (os.geteuid(), os.getegid()) and not _chown(fd, wanted):
        # Rights of a group that cannot be kept are not for the group that it has instead.
        mode = mode & ~0o070 | (mode & 0o007) << 3
    os.fchmod(fd, mode)
    for key, value in wanted.extended:
        with suppress(OSError):
            os.setxattr(fd, key, value)


def _chown(fd: int, wanted: Attributes) -> bool:
    """Set owner and group, or else the group alone; tell whether the group is the wanted one."""
    found = os.fstat(fd)
    if (found.st_uid, found.st_gid) == (wanted.uid, wanted.gid):
        return True
    for uid in (wanted.uid, -1):
        with suppress(OSError):
            os.fchown(fd, uid, wanted.gid)
            return True
    return found.st_gid == wanted.gid


def give_to_owner_of(folder: int | Path, new: int | Path) -> None:
    """Make what is new (a path or a descriptor) that of its folder's owner, where we are root.

    Else the owner's programs could not write to it.
    """
    if os.geteuid() == 0:
        owner = os.stat(folder)
        if (owner.st_uid, owner.st_gid) != (0, 0):
            with suppress(OSError):
                os.chown(new, owner.st_uid, owner.st_gid)


def is_read_only(path: Path) -> bool:
    """Tell whether a file system is, where this stands on it or is to stand."""
    with suppress(OSError):
        return bool(os.statvfs(path if path.exists() else path.parent).f_flag & os.ST_RDONLY)
    return False


def way_to_rights(letters: str, path: Path) -> str:
    """Return how syncd's user gets these rights (``rwx``) to a file or folder: mostly a command."""
    from syncd.shell import quoted  # every command that only looks would pay for it

    if "w" in letters and is_read_only(path):
        return MOUNT_WRITABLE
    user = owner = os.geteuid()
    with suppress(OSError):
        owner = os.stat(path, follow_symlinks=False).st_uid
    if owner != user:
        return f"sudo chown {user} {quoted(path)}"
    return f"chmod u+{letters} {quoted(path)}"
