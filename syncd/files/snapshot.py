"""What a look at the files holds: stamps of files, and what all mailbox folders list."""

from __future__ import annotations

import errno
import os
import stat
import time
from functools import cached_property
from typing import NamedTuple

from syncd.core.sides import Quarantined
from syncd.digest import digest_of_values
from syncd.names import TEMP_SUFFIX, in_utf8, is_stray, is_utf8

TICK_S = 0.01
COARSE_TICK_S = 2.0

_FIRST_NS = -(2**61)  # no file system has times before 1901


class Stamp(NamedTuple):
    """What a file system says of a version of a file; equal stamps mean the same bytes.

    A tuple, as a look makes and compares one for every file.
    """

    size: int
    mtime_ns: int
    inode: int

    def is_fresh(self) -> bool:
        """Tell whether the file may change once more and still have this stamp.

        RACE: file systems take the time from a clock that ticks every 1 to 10 ms (older ones: in
        whole seconds), so a change of the same size within the tick goes unseen. Git calls such a
        file "racily clean" (its Documentation/technical/racy-git).
        """
        return abs(time.time() - self.mtime_ns / 1e9) < tick_s(self.mtime_ns)


def time_ns(mtime_ns: int) -> int:
    """Return a stamp's time as the file has it: a stamp's 64 bits end in the year 2262."""
    return mtime_ns + 2**64 if mtime_ns < _FIRST_NS else mtime_ns


def tick_s(written_ns: int) -> float:
    """Return how long the clock that a file's time is from may have stood still, in seconds."""
    return TICK_S if written_ns % 1_000_000_000 else COARSE_TICK_S


NO_STAMP = Stamp(-1, 0, 0)
"""The stamp of a file that is yet to be written."""


class Version(NamedTuple):
    """A file's bytes as read, with their stamp and digest.

    One that ``is_held`` somebody had open for writing, and had left alone for a while.
    """

    data: bytes
    stamp: Stamp
    digest: bytes
    is_held: bool = False


MISSING = "is missing"


class FolderState(NamedTuple):
    """A mailbox folder as found: its identity, or (``trouble``) why it cannot be used."""

    identity: tuple[int, int] | None
    trouble: str = ""

    @property
    def is_closed(self) -> bool:
        """Whether something stands there, of which nobody can tell what files it holds."""
        return self.identity is None and self.trouble != MISSING


Listed = tuple[str, int, int, int, int, int]


class Scan:
    """What all mailbox folders hold: their entries as listed, and what follows from them.

    ``listed`` has name, mode, size, mtime, inode and ctime of each entry that may concern us, by
    folder; ``folders`` whether each could be listed. Paths count from ``.claude-mpm``.
    """

    def __init__(self) -> None:
        self.folders: dict[str, FolderState] = {}
        self.listed: dict[str, list[Listed]] = {}

    @cached_property
    def digest(self) -> str:
        """A digest of all that was listed: the same one means the same files, unchanged.

        It goes by the order of the listing too, which no file system changes without a reason.
        """
        states = [(folder, *state) for folder, state in self.folders.items()]
        return digest_of_values((self.listed, states)).hex()

    @cached_property
    def newest_ns(self) -> int:
        """The latest time at which any of it was written, made or renamed, in ns of the epoch."""
        return max((entry[5] for entries in self.listed.values() for entry in entries), default=0)

    @cached_property
    def stamps(self) -> dict[str, Stamp]:
        """The stamp of every regular file that can be a message."""
        return {
            f"{folder}/{name}": Stamp(size, _in_64_bits(mtime_ns), _in_64_bits(inode))
            if size >= 0
            else NO_STAMP
            for folder, entries in self.listed.items()
            for name, mode, size, mtime_ns, inode, _ in entries
            if name.endswith(".md") and stat.S_ISREG(mode) and (name.isascii() or is_utf8(name))
        }

    @cached_property
    def misnamed(self) -> dict[str, Stamp]:
        """The stamp of every regular file whose name is not UTF-8, by that name in UTF-8."""
        return {
            f"{folder}/{in_utf8(name)}": Stamp(size, _in_64_bits(mtime_ns), _in_64_bits(inode))
            for folder, entries in self.listed.items()
            for name, mode, size, mtime_ns, inode, _ in entries
            if stat.S_ISREG(mode) and size >= 0 and not (name.isascii() or is_utf8(name))
        }

    @cached_property
    def odd(self) -> dict[str, Quarantined]:
        """Why an entry that is named like a message cannot be one, and a mailbox is closed."""
        found = {
            folder: Quarantined(f"it {state.trouble}", hint=_FOLDER_HINT)
            for folder, state in self.folders.items()
            if state.is_closed
        }
        for folder, entries in self.listed.items():
            for name, mode, _, _, _, _ in entries:
                if name.endswith(TEMP_SUFFIX):
                    continue
                if not (name.isascii() or is_utf8(name)):
                    found[f"{folder}/{in_utf8(name)}"] = odd_file("its name is not UTF-8")
                elif not stat.S_ISREG(mode) and not name.startswith("."):
                    found[f"{folder}/{name}"] = odd_file(not_regular(mode) if mode else UNSEEN)
        return found  # an editor's lock is a hidden link, and no concern of ours

    @cached_property
    def strays(self) -> list[str]:
        """Temporary files of an earlier pass."""
        return [
            f"{folder}/{name}"
            for folder, entries in self.listed.items()
            for name, mode, _, _, _, _ in entries
            if name.endswith(TEMP_SUFFIX) and stat.S_ISREG(mode)
        ]


UNSEEN = "it cannot be looked at"
_OF_ONE_FILE = {errno.EIO, errno.ESTALE, errno.EBADMSG, getattr(errno, "EUCLEAN", 0)}
_FOLDER_HINT = "Put a folder there that syncd's user may read."


def is_of_one_file(error: OSError) -> bool:
    """Tell whether others can be seen: the cause is a bad sector, or a stale handle."""
    return error.errno in _OF_ONE_FILE


def odd_file(reason: str) -> Quarantined:
    """Return what is said of an entry that is named like a message and cannot be one."""
    if reason == UNSEEN:
        return Quarantined(
            reason, hint="See to the disk that it is on; an agent tries again by itself."
        )
    return Quarantined(reason, hint="Put a plain file with a plain name there.")


_MOST = 2**63 - 1


def _in_64_bits(number: int) -> int:
    """Return a time or an inode as the database holds it, which has 64 bits with a sign.

    Inodes have none: file systems that make them up (FUSE, CIFS, GlusterFS) use all 64 bits.
    """
    return number if -_MOST <= number <= _MOST else (number + _MOST + 1) % 2**64 - _MOST - 1


def stamp_of(found: os.stat_result) -> Stamp:
    """Return a file's stamp."""
    return Stamp(found.st_size, _in_64_bits(found.st_mtime_ns), _in_64_bits(found.st_ino))


def list_folder(fd: int, listed: list[Listed], *, stamped: bool) -> None:
    """Add a folder's entries that may concern us, one by one: what was listed by then counts.

    Regular files but the first have `NO_STAMP` unless ``stamped``: a folder whose names can be
    listed need not be one that can be entered.
    """
    with os.scandir(fd) as entries:
        for entry in entries:
            name = entry.name
            if name.endswith(".md") or is_stray(name):
                if listed and not stamped and entry.is_file(follow_symlinks=False):
                    listed.append((name, stat.S_IFREG, *NO_STAMP, 0))
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if not is_of_one_file(error):
                        raise
                    listed.append((name, 0, *NO_STAMP, 0))
                    continue
                listed.append(
                    (
                        name,
                        found.st_mode,
                        found.st_size,
                        found.st_mtime_ns,
                        found.st_ino,
                        found.st_ctime_ns,
                    )
                )


def not_regular(mode: int) -> str:
    """Return in words what an entry is that is no regular file."""
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return f"it is {kinds.get(stat.S_IFMT(mode), 'a special file')}, not a regular file"
