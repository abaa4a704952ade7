"""Trees of folders: listing them, comparing files, moving one tree into another.

No link is followed, and no name that stands somewhere is ever overwritten.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from syncd.errors import StaleReplica
from syncd.files.folders import READ
from syncd.files.snapshot import stamp_of
from syncd.files.syscalls import is_being_written, is_open_nowhere_else, rename_new

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENOENT)


@dataclass(frozen=True, slots=True)
class Node:
    """One file or folder as it stands; equal nodes of a file mean the same bytes.

    ``mode`` is that of stat(2), with the kind. Of a folder, size and time say nothing about what
    is in it.
    """

    mode: int
    size: int
    mtime_ns: int
    inode: int
    device: int

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


def listing(base: Path, roots: Iterable[str]) -> dict[str, Node]:
    """Return all that stands in these folders of ``base``, themselves included, in order of path.

    Raises `OSError` for a folder that cannot be read.
    """
    found: dict[str, Node] = {}
    for root in sorted(roots):
        node = look(base / root)
        if node is None:
            continue
        found[root] = node
        if node.is_folder:
            for folder, names, files, fd in os.fwalk(base / root, onerror=_refuse):
                where = os.path.relpath(folder, base)
                for name in (*names, *files):
                    with suppress(FileNotFoundError):
                        seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
                        found[f"{where}/{name}"] = _node(seen)
    return dict(sorted(found.items()))


def look(path: Path) -> Node | None:
    """Return what stands at a path; None for nothing."""
    try:
        return _node(os.stat(path, follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _node(seen: os.stat_result) -> Node:
    stamp = stamp_of(seen)
    return Node(seen.st_mode, stamp.size, seen.st_mtime_ns, stamp.inode, seen.st_dev)


def _refuse(error: OSError) -> None:
    raise error


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file for reading; raises `StaleReplica` for what is none, or is written to."""
    try:
        fd = os.open(path, READ)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise StaleReplica(f"{path} is gone, or no regular file any more") from error
        raise
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StaleReplica(f"{path} is no regular file any more")
        if is_being_written(fd):
            raise StaleReplica(f"{path} is being written")
        yield file


@contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """Give a folder's descriptor; raises `OSError` for a link."""
    fd = os.open(path, _FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file; raises as `opened` does."""
    with opened(path) as file:
        return digest_of_stream(file.read)


def digest_of_stream(read: Callable[[int], bytes]) -> str:
    """Return the SHA-256 of all that ``read`` gives."""
    summed = sha256()
    while chunk := read(_CHUNK):
        summed.update(chunk)
    return summed.hexdigest()


def unlink_if(path: Path, wanted: str) -> None:
    """Unlink a file that has this SHA-256 and is open nowhere else."""
    try:
        fd = os.open(path, READ)
    except OSError as error:
        if error.errno in _NO_FILE:
            return
        raise
    with open(fd, "rb") as file:
        is_idle = stat.S_ISREG(os.fstat(fd).st_mode) and is_open_nowhere_else(fd)
        if is_idle and digest_of_stream(file.read) == wanted:
            os.unlink(path)


def merge(source: Path, target: Path) -> list[Path]:
    """Move all that stands at ``source`` to ``target``; return what stays behind.

    What is there already is not overwritten: a file of the same bytes is one too many and goes,
    any other stays at the source. May be cut off at any point, and done again.
    """
    node = look(source)
    if node is None:
        return []
    try:
        _rename_new(source, target)
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        pass
    else:
        return []
    there = look(target)
    if not node.is_folder or there is None or not there.is_folder:
        if node.is_file and there is not None and there.is_file and _are_equal(source, target):
            source.unlink()
            return []
        return [source]
    behind = []
    for name in sorted(os.listdir(source)):
        behind += merge(source / name, target / name)
    if not behind:
        with suppress(FileNotFoundError):
            source.rmdir()
    return behind


def _are_equal(one: Path, other: Path) -> bool:
    try:
        return digest(one) == digest(other)
    except StaleReplica:
        return False


def _rename_new(source: Path, target: Path) -> None:
    """Rename without overwriting, a folder too."""
    with opened_folder(source.parent) as fd, opened_folder(target.parent) as to_fd:
        try:
            rename_new(fd, source.name, to_fd, target.name)
        except PermissionError:
            # A folder cannot be linked. Where renames have no flags, a plain one can overwrite
            # only an empty folder, and that holds nothing.
            if not source.is_dir():
                raise
            if look(target) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
            os.rename(source, target)
