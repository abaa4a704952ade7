"""The replica of files: looking at the mailbox folders, reading files, changing them safely.

All access goes through descriptors of the folders, opened without following links, so that no
name, however it is spelled or swapped, leads outside the project. A reader of a file sees the old
bytes or the new, never a mix; a version that a change displaces is unlinked only when its bytes
are what the plan was made from and nobody has it open any more.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from syncd.attributes import Attributes, attributes_of, give, give_to_owner_of
from syncd.errors import MessageError, ReplicaError, StaleReplica
from syncd.message import FOLDERS
from syncd.names import (
    CLAUDE_DIR,
    temporary_name,
)
from syncd.snapshot import (
    MISSING,
    NO_STAMP,
    FolderState,
    Scan,
    Stamp,
    Version,
    digest_of,
    list_folder,
    not_regular,
    stamp_of,
)
from syncd.syscalls import (
    exchange,
    is_being_written,
    is_open_nowhere_else,
    rename_new,
    sync_file_system,
)

MAX_BYTES = 16 * 1024 * 1024

_WORTH_STAGING = 8
_OWN_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # which tell nothing of a file
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


class FileReplica:
    """The mailbox folders of one project, for the length of one pass (a context manager)."""

    def __init__(self, project: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._base = project / CLAUDE_DIR
        self.max_bytes = max_bytes
        self._fds: dict[str, int] = {}
        self._usable: list[str] = []
        self.fresh: set[str] = set()
        """Paths whose stamps do not vouch for their bytes: they were looked at too early."""
        self._dirty: set[str] = set()
        self._displaced: list[tuple[str, str, bytes]] = []
        self._staged: dict[str, tuple[bytes, str, Stamp]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._unstage()
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
                    raise _replica_error(error, "look at", self._base / folder) from error
                result.folders[folder] = FolderState(None, self._folder_trouble(folder, error))
        return result

    def look(self, path: str) -> Stamp | str | None:
        """Return a path's stamp, why it is no message file, or None when it is not there."""
        folder, name = _split(path)
        try:
            found = os.stat(name, dir_fd=self._folder(folder), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise _replica_error(error, "look at", self._base / path) from error
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
                raise _replica_error(error, "look at", self._base / folder / name) from error
            return f"{folder}/{name}"
        return None

    def listed(self, paths: Iterable[str]) -> set[str]:
        """Return those of these paths that their folders list; none where that cannot be told.

        Where case does not count, a `look` finds a file under names that it does not have.
        """
        names: dict[str, set[str]] = {}
        found = set()
        for path in paths:
            folder, name = _split(path)
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
        large, or not to be read, and `StaleReplica` when it changes while it is read.
        """
        folder, name = _split(path)
        try:
            fd = os.open(name, _READ, dir_fd=self._folder(folder))
            try:
                return self._stable(fd, path)
            finally:
                os.close(fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise MessageError("it is not a regular file") from error
            if error.errno in _OWN_LIMITS:
                raise _replica_error(error, "read", self._base / path) from error
            # Whatever is wrong with one file, also a bad sector, must not hold up the others.
            hint = "See to the disk that it is on; syncd goes on by itself."
            if error.errno in (errno.EACCES, errno.EPERM):
                import shlex  # every command that only looks would pay for it

                hint = f"chmod u+r {shlex.quote(str(self._base / path))}"
            reason = (error.strerror or str(error)).lower()
            raise MessageError(f"it cannot be read: {reason}", hint=hint, in_bytes=False) from error

    def _stable(self, fd: int, path: str) -> Version:
        before = os.fstat(fd)
        for _ in range(3):
            if not stat.S_ISREG(before.st_mode):
                raise MessageError(not_regular(before.st_mode))
            if before.st_size > self.max_bytes:
                raise MessageError(
                    f"it has {before.st_size:,} bytes; the limit is {self.max_bytes:,}",
                    hint="Raise max_bytes in syncd.toml, or shorten the file.",
                )
            data = os.pread(fd, before.st_size + 1, 0)
            after = os.fstat(fd)
            if is_being_written(fd):
                break
            same_time = after.st_mtime_ns == before.st_mtime_ns
            if same_time and len(data) == after.st_size == before.st_size:
                stamp = stamp_of(after)
                if stamp.is_fresh():
                    self.fresh.add(path)
                return Version(data, stamp, digest_of(data))
            before = after
        raise StaleReplica(f"{self._base / path} is being written")

    # Changing

    def stage(self, contents: Sequence[tuple[str, bytes, bool]]) -> None:
        """Write what `create` and `replace` (the flag) are about to put at these paths.

        The files have temporary names until then, and are made durable together. A few are not
        worth it; and what cannot be written is left to the call that wants it, to say why.
        """
        if len(contents) < _WORTH_STAGING:
            return
        with suppress(OSError):
            for path, data, replaces in contents:
                folder, name = _split(path)
                fd = self._folder(folder, make=not replaces)
                like = attributes_of(fd, name) if replaces else None
                self._staged[path] = (data, *self._temporary(fd, data, like=like, durable=False))
            # They mostly are of one file system, and what is synced once is not synced again.
            of_each = {os.fstat(fd).st_dev: fd for fd in self._fds.values()}
            if all(map(sync_file_system, of_each.values())):
                return
        self._unstage()

    def _unstage(self) -> None:
        for path, (_, temp, _) in self._staged.items():
            with suppress(OSError):
                os.unlink(temp, dir_fd=self._folder(_split(path)[0]))
        self._staged.clear()

    def _ready(self, path: str, fd: int, data: bytes, *, replaces: bool) -> tuple[str, Stamp]:
        """Return name and stamp of the temporary file that holds what is to stand at a path."""
        staged = self._staged.get(path)
        if staged is not None and staged[0] is data:
            del self._staged[path]
            return staged[1:]
        like = attributes_of(fd, _split(path)[1]) if replaces else None
        return self._temporary(fd, data, like=like)

    def create(self, path: str, data: bytes) -> Stamp:
        """Write a new file; raises `StaleReplica` when the name is taken, and leaves it then."""
        folder, name = _split(path)
        with self._changing("write", path):
            fd = self._folder(folder, make=True)
            temp, stamp = self._ready(path, fd, data, replaces=False)
            try:
                rename_new(fd, temp, fd, name)
            except OSError as error:
                os.unlink(temp, dir_fd=fd)
                if isinstance(error, FileExistsError):
                    raise StaleReplica(f"{self._base / path} exists already") from error
                raise
            self._dirty.add(folder)
            return stamp

    def replace(self, path: str, data: bytes, *, seen: Version) -> Stamp:
        """Replace a file's bytes; a reader sees the old bytes or the new, never a mix.

        ``seen`` is the version that ``data`` was made from. If another one stands there by the
        time of the exchange it is put back, and `StaleReplica` is raised: the next cycle
        reconciles with what is there then.
        """
        # RACE: an editor that opened the old file before the exchange still writes to it
        # afterwards. The displaced file is therefore kept until nobody has it open (`settle`).
        folder, name = _split(path)
        with self._changing("replace", path):
            fd = self._folder(folder)
            temp, stamp = self._ready(path, fd, data, replaces=True)
            try:
                exchange(fd, temp, name)
            except OSError:
                os.unlink(temp, dir_fd=fd)
                raise
            self._dirty.add(folder)
            if self._is_version(fd, temp, seen):
                self._displaced.append((folder, temp, seen.digest))
                if stamp.is_fresh():
                    self.fresh.add(path)
                return stamp
            exchange(fd, temp, name)
            if stamp_of(os.stat(temp, dir_fd=fd, follow_symlinks=False)).inode != stamp.inode:
                # Someone replaced our file in between: theirs is the newest. What came out first
                # stays behind as a stray, which the next full cycle takes into the history.
                exchange(fd, temp, name)
            else:
                os.unlink(temp, dir_fd=fd)
            raise StaleReplica(f"{self._base / path} changed meanwhile")

    def move(self, path: str, to: str, *, seen: Stamp) -> Stamp:
        """Rename a file into another mailbox, bytes untouched; never over an existing file.

        Returns the stamp of the version that was ``seen``; where another one was moved, `NO_STAMP`:
        its words stand at their place, and are still to be read.
        """
        folder, name = _split(path)
        to_folder, to_name = _split(to)
        with self._changing("move", path):
            fd, to_fd = self._folder(folder), self._folder(to_folder, make=True)
            try:
                rename_new(fd, name, to_fd, to_name)
            except FileExistsError as error:
                mine = os.stat(name, dir_fd=fd, follow_symlinks=False)
                found = os.stat(to_name, dir_fd=to_fd, follow_symlinks=False)
                if not os.path.samestat(mine, found):
                    raise StaleReplica(f"{self._base / to} exists already") from error
                os.unlink(name, dir_fd=fd)  # a crash cut off a move by link and unlink
            if path in self.fresh:
                self.fresh.add(to)
            self._dirty |= {folder, to_folder}
            moved = stamp_of(os.stat(to_name, dir_fd=to_fd, follow_symlinks=False))
            return moved if moved == seen else NO_STAMP

    def delete(self, path: str, *, seen: Version) -> None:
        """Delete a file whose bytes the history holds; `StaleReplica` when they are others now."""
        folder, name = _split(path)
        with self._changing("delete", path):
            fd = self._folder(folder)
            temp = temporary_name()
            try:
                rename_new(fd, name, fd, temp)
            except FileNotFoundError:
                return
            self._dirty.add(folder)
            if self._is_version(fd, temp, seen):
                self._displaced.append((folder, temp, seen.digest))
                return
            with suppress(FileExistsError):  # else a new file stands there, and the stray is kept
                rename_new(fd, temp, fd, name)
            raise StaleReplica(f"{self._base / path} changed meanwhile")

    def settle(self) -> list[str]:
        """Unlink what was displaced and is open nowhere; make renames durable.

        Returns the paths of displaced files that somebody still has open or changed since; they
        stay where they are, as strays.
        """
        self._unstage()
        late = []
        for folder, temp, digest in self._displaced:
            if not self._unlink_if_idle(folder, temp, digest):
                late.append(f"{folder}/{temp}")
        self._displaced.clear()
        for folder in self._dirty:
            with self._changing("sync", folder):
                os.fsync(self._folder(folder))
        self._dirty.clear()
        return late

    def unlink_stray(self, path: str, digest: bytes) -> bool:
        """Unlink a stray if it still has these bytes and nobody has it open; tell whether."""
        folder, name = _split(path)
        return self._unlink_if_idle(folder, name, digest)

    def _unlink_if_idle(self, folder: str, name: str, digest: bytes) -> bool:
        with self._changing("unlink", f"{folder}/{name}"):
            dir_fd = self._folder(folder)
            try:
                with _opened(name, _READ, dir_fd) as fd:
                    if not is_open_nowhere_else(fd):
                        return False
                    if digest_of(_read_all(fd, self.max_bytes + 1)) != digest:
                        return False
                    os.unlink(name, dir_fd=dir_fd)
            except FileNotFoundError:
                pass
            return True

    def _is_version(self, dir_fd: int, name: str, seen: Version) -> bool:
        try:
            with _opened(name, _READ, dir_fd) as fd:
                found = os.fstat(fd)
                return found.st_size == len(seen.data) and digest_of(
                    _read_all(fd, found.st_size + 1)
                ) == (seen.digest)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                return False
            raise

    def _temporary(
        self, dir_fd: int, data: bytes, *, like: Attributes | None = None, durable: bool = True
    ) -> tuple[str, Stamp]:
        name = temporary_name()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with _opened(name, flags, dir_fd, 0o600 if like else 0o666) as fd:
                if like is not None:
                    give(fd, like)
                else:
                    give_to_owner_of(dir_fd, fd)
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                if durable:
                    os.fsync(fd)
                made = os.fstat(fd)
        except OSError:
            with suppress(OSError):
                os.unlink(name, dir_fd=dir_fd)
            raise
        return name, stamp_of(made)

    def _folder(self, folder: str, *, make: bool = False) -> int:
        fd = self._fds.get(folder)
        if fd is None:
            try:
                fd = self._open_folder(folder)
            except FileNotFoundError:
                if not make or folder not in FOLDERS:
                    raise
                self._make(folder)
                fd = self._open_folder(folder)
            self._fds[folder] = fd
        return fd

    def _open_folder(self, folder: str) -> int:
        if folder not in FOLDERS:  # whatever a baseline says that somebody else wrote
            raise FileNotFoundError(errno.ENOENT, "no mailbox", folder)
        fd = os.open(self._base, _FOLDER)
        for part in folder.split("/"):
            try:
                inner = os.open(part, _FOLDER, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _make(self, folder: str) -> None:
        parent = self._base
        for part in folder.split("/"):
            parent = parent / part
            with suppress(FileExistsError):
                os.mkdir(parent)
                give_to_owner_of(parent.parent, parent)

    def _open_all(self) -> list[str]:
        for folder in FOLDERS:
            with suppress(OSError):
                self._folder(folder)
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

    @contextmanager
    def _changing(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StaleReplica(f"{self._base / path} is gone") from error
        except OSError as error:
            raise _replica_error(error, verb, self._base / path) from error


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


@contextmanager
def _opened(name: str, flags: int, dir_fd: int, mode: int = 0o666) -> Iterator[int]:
    fd = os.open(name, flags, mode, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _read_all(fd: int, limit: int) -> bytes:
    chunks = []
    while limit > 0 and (chunk := os.read(fd, limit)):
        chunks.append(chunk)
        limit -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _replica_error(error: OSError, verb: str, path: Path) -> ReplicaError:
    hints = {
        errno.ENOSPC: "Free some space; syncd goes on by itself.",
        errno.EDQUOT: "Free some space; syncd goes on by itself.",
        errno.EROFS: "The file system is read-only; mount it writable.",
        errno.EACCES: "Give syncd's user the right to write there (chmod, chown).",
        errno.EPERM: "Give syncd's user the right to write there (chmod, chown).",
    }
    reason = os.strerror(error.errno) if error.errno else str(error)
    return ReplicaError(
        f"cannot {verb} {path}: {reason.lower()}", hint=hints.get(error.errno or 0, "")
    )


@contextmanager
def changing(verb: str, path: Path) -> Iterator[None]:
    """Turn the system's errors into ours, with the path that they concern and a way out."""
    try:
        yield
    except OSError as error:
        raise _replica_error(error, verb, path) from error
