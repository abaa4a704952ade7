"""The mailbox folders of a project: listing, looking, reading.

All access goes through descriptors of the folders, opened without following links, so that no
name, however it is spelled or swapped, leads outside the project.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from syncd.core.message import FOLDERS
from syncd.digest import digest_of
from syncd.errors import (
    MessageError,
    ReplicaError,
    StaleReplica,
    limit_hint,
    reason_of,
    replaced,
)
from syncd.files.attributes import MOUNT_WRITABLE, give_to_owner_of, way_to_rights
from syncd.files.snapshot import (
    MISSING,
    UNSEEN,
    FolderState,
    Scan,
    Stamp,
    Version,
    is_of_one_file,
    list_folder,
    not_regular,
    odd_file,
    stamp_of,
)
from syncd.files.syscalls import is_being_written
from syncd.names import CLAUDE_DIR, DATABASE

MAX_BYTES = 16 * 1024 * 1024
STILL_S = 10.0
"""How long a file that somebody has open for writing is left to that after the last change."""

_OWN_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # which tell nothing of a file
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


class Folders:
    """The mailbox folders of one project, for the length of one pass (a context manager).

    ``database`` is the identity of the one that they have to stand beside, if any has to.
    """

    def __init__(
        self,
        project: Path,
        *,
        max_bytes: int = MAX_BYTES,
        database: tuple[int, int] | None = None,
    ) -> None:
        self._base = project / CLAUDE_DIR
        self.max_bytes = max_bytes
        self.database = database
        self._fds: dict[str, int] = {}
        self._usable: list[str] = []
        self.fresh: set[str] = set()
        """Paths whose stamps do not vouch for their bytes: they were looked at too early."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    # Looking

    def scan(self, *, stamped: bool = True) -> Scan:
        """List all mailbox folders. Reads no file; raises nothing for a folder in trouble.

        Files have no stamps unless ``stamped``, which takes most of the time.
        """
        result = Scan()
        for folder in FOLDERS:
            self._forget(folder)
            entries = result.listed[folder] = []
            try:
                fd = self._folder(folder)
                found = os.fstat(fd)
                result.folders[folder] = FolderState((found.st_dev, found.st_ino))
                list_folder(fd, entries, stamped=stamped)
            except OSError as error:
                if error.errno in _OWN_LIMITS:
                    raise replica_error(error, "look at", self._base / folder) from error
                result.folders[folder] = FolderState(None, self._folder_trouble(folder, error))
        return result

    def look(self, path: str) -> Stamp | str | None:
        """Return a path's stamp, why it is no message file, or None when it is not there."""
        folder, name = split_path(path)
        try:
            found = os.stat(name, dir_fd=self._folder(folder), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            if self._fds.get(folder) is not None and is_of_one_file(error):
                return UNSEEN
            raise replica_error(error, "look at", self._base / path) from error
        if not stat.S_ISREG(found.st_mode):
            return None if name.startswith(".") else not_regular(found.st_mode)
        return stamp_of(found)

    def standing(self, name: str) -> str | None:
        """Return the path of what stands under this name in any folder, for less than a `look`."""
        for folder in self._usable or self._open_all():
            try:
                os.stat(name, dir_fd=self._fds[folder], follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise replica_error(error, "look at", self._base / folder / name) from error
            return f"{folder}/{name}"
        return None

    def listed(self, paths: Iterable[str]) -> set[str]:
        """Return those of these paths that their folders list; none where that cannot be told.

        Where case does not count, a `look` finds a file under names that it does not have.
        """
        names: dict[str, set[str]] = {}
        found = set()
        for path in paths:
            folder, name = split_path(path)
            if folder not in names:
                names[folder] = set()
                with suppress(OSError):
                    names[folder].update(os.listdir(self._folder(folder)))
            if name in names[folder]:
                found.add(path)
        return found

    def reopen(self) -> None:
        """Have all folders opened anew, as others may stand in their places by now."""
        for folder in list(self._fds):
            self._forget(folder)

    def folder_state(self, folder: str) -> FolderState:
        """Return a mailbox folder's identity, or why it cannot be used."""
        self._forget(folder)
        try:
            found = os.fstat(self._folder(folder))
        except OSError as error:
            return FolderState(None, self._folder_trouble(folder, error))
        return FolderState((found.st_dev, found.st_ino))

    def read(self, path: str) -> Version:
        """Return a file's bytes, read between two equal looks at it.

        Raises `FileNotFoundError` when it is gone, `MessageError` for what is no regular file, too
        large, or not to be read, and `StaleReplica` when it changes while it is read, or somebody
        who wrote to it within `STILL_S` has it open.
        """
        folder, name = split_path(path)
        try:
            fd = os.open(name, READ, dir_fd=self._folder(folder))
            try:
                return self._stable(fd, path)
            finally:
                os.close(fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                found = os.stat(name, dir_fd=self._folder(folder), follow_symlinks=False)
                raise _not_a_file(found.st_mode) from error
            if error.errno in _OWN_LIMITS:
                raise replica_error(error, "read", self._base / path) from error
            # Whatever is wrong with one file, also a bad sector, must not hold up the others.
            hint = "See to the disk that it is on; an agent tries again by itself."
            if error.errno in (errno.EACCES, errno.EPERM):
                hint = way_to_rights("r", self._base / path)
            said = f"it cannot be read: {reason_of(error)}"
            raise MessageError(said, hint=hint, in_bytes=False) from error

    def _stable(self, fd: int, path: str) -> Version:
        before = os.fstat(fd)
        for _ in range(3):
            if not stat.S_ISREG(before.st_mode):
                raise _not_a_file(before.st_mode)
            if before.st_size > self.max_bytes:
                raise MessageError(
                    f"it has {before.st_size:,} bytes; the limit is {self.max_bytes:,}",
                    hint="Raise max_bytes in syncd.toml, or shorten the file.",
                    in_bytes=False,  # the limit may change too
                )
            data = os.pread(fd, before.st_size + 1, 0)
            after = os.fstat(fd)
            is_held = is_being_written(fd)
            if is_held and time.time() - after.st_ctime < STILL_S:
                break
            same_time = after.st_mtime_ns == before.st_mtime_ns
            if same_time and len(data) == after.st_size == before.st_size:
                stamp = stamp_of(after)
                if stamp.is_fresh():
                    self.fresh.add(path)
                return Version(data, stamp, digest_of(data), is_held)
            before = after
        raise StaleReplica(f"{self._base / path} is being written")

    # Folders

    def _folder(self, folder: str, *, make: bool = False) -> int:
        fd = self._fds.get(folder)
        if fd is None:
            if folder not in FOLDERS:  # whatever a baseline says that somebody else wrote
                raise FileNotFoundError(errno.ENOENT, "no mailbox", folder)
            try:
                fd = self._open_folder(folder)
            except FileNotFoundError:
                if not make:
                    raise
                self._make(folder)
                fd = self._open_folder(folder)
            self._fds[folder] = fd
        return fd

    def _open_folder(self, folder: str) -> int:
        fd = os.open(self._base, _FOLDER)
        try:
            self._refuse_other(fd)
        except BaseException:
            os.close(fd)
            raise
        for part in folder.split("/"):
            try:
                inner = os.open(part, _FOLDER, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _refuse_other(self, base: int) -> None:
        """Raise `StaleReplica` where the database does not stand in this folder.

        RACE: a link to somebody else's project may stand in place of this one, or of a folder above
        it, for just as long as one of the two is opened: the words of one would go to the other.
        """
        if self.database is None:
            return
        path = self._base / DATABASE
        try:
            found = os.stat(DATABASE, dir_fd=base, follow_symlinks=False)
        except FileNotFoundError as error:
            raise replaced(path) from error
        if (found.st_dev, found.st_ino) != self.database:
            raise replaced(path)

    def _make(self, folder: str) -> None:
        parent = self._base
        for part in folder.split("/"):
            parent = parent / part
            with suppress(FileExistsError):
                os.mkdir(parent)
                give_to_owner_of(parent.parent, parent)

    def _open_all(self) -> list[str]:
        for folder in FOLDERS:
            try:
                self._folder(folder)
            except OSError as error:
                if error.errno in _OWN_LIMITS:  # what stands in there is not known
                    self._usable = []
                    raise replica_error(error, "look at", self._base / folder) from error
            else:
                self._usable.append(folder)
        return self._usable

    def _forget(self, folder: str) -> None:
        self._usable = []
        fd = self._fds.pop(folder, None)
        if fd is not None:
            os.close(fd)

    def _folder_trouble(self, folder: str, error: OSError) -> str:
        """Return in words why a mailbox folder cannot be opened."""
        if error.errno == errno.ENOENT:
            return MISSING
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            return f"cannot be read ({os.strerror(error.errno or 0)})"
        path = self._base / folder
        if not os.path.islink(path):
            outer = folder.rpartition("/")[0]
            is_inside_none = outer and (os.path.islink(path.parent) or not path.parent.is_dir())
            return MISSING if is_inside_none else "is not a folder"
        others = {os.path.realpath(self._base / other) for other in FOLDERS if other != folder}
        # What a link to another mailbox shows is read there.
        return MISSING if os.path.realpath(path) in others else "is a symbolic link"


def inodes_of_folders(base: str) -> Iterator[tuple[str, int]]:
    """Yield the folders that are there below ``.claude-mpm``, and itself as "", with the inodes."""
    seen: set[str] = set()
    for folder in ("", *FOLDERS):
        outer = folder.rpartition("/")[0]
        if outer and outer not in seen:
            continue  # it would be looked for behind a link
        with suppress(OSError):
            found = os.stat(f"{base}/{folder}" if folder else base, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                seen.add(folder)
                yield folder, found.st_ino


def split_path(path: str) -> tuple[str, str]:
    """Return the mailbox folder and the name in a path below ``.claude-mpm``."""
    folder, _, name = path.rpartition("/")
    return folder, name


def _not_a_file(mode: int) -> MessageError:
    odd = odd_file(not_regular(mode))
    return MessageError(odd.reason, hint=odd.hint)


def replica_error(error: OSError, verb: str, path: Path) -> ReplicaError:
    """Return the system's error as ours, with the path that it concerns and a way out."""
    hints = {
        errno.ENOSPC: "Free some space, and try again; an agent does by itself.",
        errno.EDQUOT: "Free some space, and try again; an agent does by itself.",
        errno.EBUSY: "Something is mounted there; unmount it.",
        errno.EROFS: MOUNT_WRITABLE,
        errno.EACCES: "Give syncd's user the right to write there (chmod, chown).",
        errno.EPERM: "Let syncd's user change it: see its owner and attributes (ls -l, lsattr).",
    }
    return ReplicaError(
        f"cannot {verb} {path}: {reason_of(error)}",
        hint=limit_hint(error) or hints.get(error.errno or 0, ""),
    )


@contextmanager
def changing(verb: str, path: Path) -> Iterator[None]:
    """Turn the system's errors into ours, with the path that they concern and a way out."""
    try:
        yield
    except OSError as error:
        raise replica_error(error, verb, path) from error
