"""System calls that Python lacks, or has without the flags that make them safe.

Leases tell who has a file open; renames with flags exchange two names, or refuse to overwrite one.
Where a system has neither, the nearest that it has is done, and the docstrings say what is lost.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from syncd.names import temporary_name

# Linux: renameat2(2). macOS: rename(2), in <sys/stdio.h>.
_RENAMES = {"linux": ("renameat2", 1, 2), "darwin": ("renameatx_np", 4, 2)}
_RENAME, _NO_REPLACE, _EXCHANGE = _RENAMES.get(sys.platform, ("", 0, 0))
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


def give_back_memory() -> None:
    """Give the system what malloc keeps of freed memory, where there is such a call (glibc's)."""
    trim = _libc_function("malloc_trim")
    if trim is not None:
        trim(0)


def is_open_nowhere_else(fd: int) -> bool:
    """Tell whether no other descriptor has the file open, as far as the system can say."""
    return _grants(fd, getattr(fcntl, "F_WRLCK", 1))


def is_being_written(fd: int) -> bool:
    """Tell whether anybody has the file open for writing, as far as the system can say."""
    return not _grants(fd, getattr(fcntl, "F_RDLCK", 0))


def _grants(fd: int, lease: int) -> bool:
    """Tell whether a lease is granted; yes where there are none (fcntl(2), "Leases").

    A read lease is granted when nobody has the file open for writing, a write lease when nobody
    else has it open at all. Without leases, as on NFS and SMB, a writer that opened the file before
    it was displaced goes unnoticed.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return True
    try:
        # RACE: an open in the moment between the two calls waits for the second, and the system
        # signals us: not with SIGIO, which kills, but with a signal that is ignored by default.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, lease)
    except OSError as error:
        return error.errno != errno.EAGAIN or _is_on_network(fd)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


_NETWORKS = {0x6969, 0xFF534D42, 0xFE534D42}  # NFS, CIFS, SMB2, as statfs(2) numbers them


def _is_on_network(fd: int) -> bool:
    """Tell whether a server has the file: it may refuse every lease, with EAGAIN too."""
    call = _libc_function("fstatfs")
    if call is None:
        return False
    import ctypes

    found = ctypes.create_string_buffer(256)  # more than a struct statfs; its type comes first
    return call(fd, found) == 0 and ctypes.c_long.from_buffer(found).value % 2**32 in _NETWORKS


def sync_file_system(fd: int) -> bool:
    """Make all that was written to a file system durable (syncfs(2)); False where it cannot be.

    One call for many files costs what an fsync of a few of them does.
    """
    call = _libc_function("syncfs")
    return call is not None and call(fd) == 0


def sync_names(folder: int) -> None:
    """Make the names in an open folder durable, where its file system can."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # as some network file systems say
            raise


@cache
def _libc_function(name: str) -> Any:
    if sys.platform not in _RENAMES:
        return None
    import ctypes

    return getattr(ctypes.CDLL(None, use_errno=True), name, None)


def _rename_flags(fd: int, name: str, to_fd: int, to: str, flags: int) -> bool:
    """Rename with a flag; False where the system or the file system does not have it."""
    call = _libc_function(_RENAME)
    if call is None:
        return False
    import ctypes

    if call(fd, os.fsencode(name), to_fd, os.fsencode(to), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), name)


def rename_new(fd: int, name: str, to_fd: int, to: str) -> None:
    """Rename without overwriting; by links where the system cannot.

    Then both names stand for a moment. A file that is put at the old one meanwhile stays: there, or
    beside it under a temporary name where yet another came.
    """
    if _rename_flags(fd, name, to_fd, to, _NO_REPLACE):
        return
    os.link(name, to, src_dir_fd=fd, dst_dir_fd=to_fd, follow_symlinks=False)
    aside = temporary_name()
    os.rename(name, aside, src_dir_fd=fd, dst_dir_fd=fd)
    linked = os.stat(to, dir_fd=to_fd, follow_symlinks=False)
    if not os.path.samestat(os.stat(aside, dir_fd=fd, follow_symlinks=False), linked):
        with suppress(FileExistsError):
            os.link(aside, name, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
            os.unlink(aside, dir_fd=fd)
        return
    os.unlink(aside, dir_fd=fd)


def exchange(fd: int, name: str, other: str) -> None:
    """Exchange two names atomically; by two renames where the system cannot.

    RACE: without the exchange, what is written under ``other`` between the two renames is lost
    to the rename. That is some 20 µs, on file systems without RENAME_EXCHANGE only.
    """
    if not _rename_flags(fd, name, fd, other, _EXCHANGE):
        aside = temporary_name()
        os.link(other, aside, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
        os.rename(name, other, src_dir_fd=fd, dst_dir_fd=fd)
        os.rename(aside, name, src_dir_fd=fd, dst_dir_fd=fd)


_SHARED_FIRST = 0x40000002
_SHARED_SIZE = 510
"""The bytes by which SQLite's readers lock a database (its file format, "Locking")."""


@contextmanager
def no_checkpoint(path: Path) -> Iterator[None]:
    """Keep a connection that closes inside from checkpointing into the database at ``path``.

    The last connection to close moves its WAL into the file, for which it needs all locks; a
    lock of our own on the readers' bytes denies it that. Does nothing where there are no locks of
    open file descriptions (fcntl(2)), or no such file.
    """
    if not hasattr(fcntl, "F_OFD_SETLK"):
        yield
        return
    try:
        # Whatever stands there by now, a FIFO say, must not block.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
        yield
    finally:
        # Closing it drops SQLite's own locks on the file in this process: only after that close.
        os.close(fd)


def watched_inodes(process: str = "self") -> list[set[int]]:
    """Return the inodes that each inotify instance of a process watches (proc(5), fdinfo).

    Empty where there is no such list, or the process is not ours to look into.
    """
    found = []
    folder = Path("/proc") / process
    with suppress(OSError):
        for fd in os.listdir(folder / "fd"):
            with suppress(OSError):
                if "inotify" in os.readlink(folder / "fd" / fd):
                    lines = (folder / "fdinfo" / fd).read_text().splitlines()
                    found.append({_inode_in(line) for line in lines if line.startswith("inotify ")})
    return found


def _inode_in(line: str) -> int:
    fields = dict(item.split(":", 1) for item in line.split()[1:] if ":" in item)
    return int(fields["ino"], 16)
