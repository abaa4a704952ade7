"""The replica of files: changing the files of a project's mailbox folders safely.

A reader of a file sees the old bytes or the new, never a mix; a version that a change displaces is
unlinked only when its bytes are what the plan was made from and nobody has it open any more.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from syncd.digest import digest_of
from syncd.errors import MessageError, StaleReplica
from syncd.files.attributes import Attributes, attributes_of, give, give_to_owner_of
from syncd.files.folders import MAX_BYTES, READ, Folders, replica_error, split_path
from syncd.files.snapshot import NO_STAMP, Stamp, Version, stamp_of
from syncd.files.syscalls import (
    exchange,
    is_open_nowhere_else,
    rename_new,
    sync_file_system,
    sync_names,
)
from syncd.names import temporary_name

_WORTH_STAGING = 8
_UNKNOWN = b""  # the digest of no version


class FileReplica(Folders):
    """The mailbox folders of one project, with what may be done to the files in them."""

    def __init__(
        self,
        project: Path,
        *,
        max_bytes: int = MAX_BYTES,
        database: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(project, max_bytes=max_bytes, database=database)
        self._dirty: set[str] = set()
        self._displaced: list[tuple[str, str, bytes]] = []
        self._staged: dict[str, tuple[bytes, str, Stamp]] = {}
        self.taken_back: dict[str, Stamp] = {}
        """Versions of ours that somebody wrote into before `replace` took them back, by path."""

    def __exit__(self, *_: object) -> None:
        self._unstage()
        super().__exit__()

    def stage(self, contents: Sequence[tuple[str, bytes, bool]]) -> None:
        """Write what `create` and `replace` (the flag) are about to put at these paths.

        The files have temporary names until then, and are made durable together. A few are not
        worth it; and what cannot be written is left to the call that wants it, to say why.
        """
        if len(contents) < _WORTH_STAGING:
            return
        with suppress(OSError):
            for path, data, replaces in contents:
                folder, name = split_path(path)
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
                os.unlink(temp, dir_fd=self._folder(split_path(path)[0]))
        self._staged.clear()

    def _ready(self, path: str, fd: int, data: bytes, *, replaces: bool) -> tuple[str, Stamp]:
        """Return name and stamp of the temporary file that holds what is to stand at a path."""
        staged = self._staged.get(path)
        if staged is not None and staged[0] is data:
            del self._staged[path]
            return staged[1:]
        like = attributes_of(fd, split_path(path)[1]) if replaces else None
        return self._temporary(fd, data, like=like)

    def create(self, path: str, data: bytes) -> Stamp:
        """Write a new file; raises `StaleReplica` when the name is taken, and leaves it then."""
        with self._changing("write", path):
            fd = self._folder(split_path(path)[0], make=True)
            temp, stamp = self._ready(path, fd, data, replaces=False)
            self._put(temp, stamp, path)
            return stamp

    def _put(self, temp: str, stamp: Stamp, path: str) -> None:
        """Give a temporary file its name; where that is taken, it goes, with `StaleReplica`."""
        folder, name = split_path(path)
        fd = self._folder(folder)
        try:
            rename_new(fd, temp, fd, name)
        except OSError as error:
            os.unlink(temp, dir_fd=fd)
            if isinstance(error, FileExistsError):
                raise StaleReplica(f"{self._base / path} exists already") from error
            raise
        self._dirty.add(folder)
        if stamp.is_fresh():
            self.fresh.add(path)

    def replace(self, path: str, data: bytes, *, seen: Version) -> Stamp:
        """Replace a file's bytes; a reader sees the old bytes or the new, never a mix.

        ``seen`` is the version that ``data`` was made from. If another one stands there by the
        time of the exchange it is put back, and `StaleReplica` is raised: the next cycle
        reconciles with what is there then.
        """
        # RACE: an editor that opened the old file before the exchange still writes to it
        # afterwards. The displaced file is therefore kept until nobody has it open (`settle`).
        folder, name = split_path(path)
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
                # stays behind as a stray, which is then taken into the history.
                exchange(fd, temp, name)
                self._displaced.append((folder, temp, _UNKNOWN))
            elif not self._unlink_if_idle(folder, temp, digest_of(data)):
                # Someone has written into ours while it stood there, or is about to.
                self.taken_back[path] = stamp
                self._displaced.append((folder, temp, digest_of(data)))
            raise StaleReplica(f"{self._base / path} changed meanwhile")

    def move(self, path: str, to: str, *, seen: Stamp) -> Stamp:
        """Rename a file into another mailbox, bytes untouched; never over an existing file.

        Returns the stamp of the version that was ``seen``; where another one was moved, `NO_STAMP`:
        its words stand at their place, and are still to be read.
        """
        folder, name = split_path(path)
        to_folder, to_name = split_path(to)
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
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                return self._move_across(path, to, seen)
            if path in self.fresh:
                self.fresh.add(to)
            self._dirty |= {folder, to_folder}
            moved = stamp_of(os.stat(to_name, dir_fd=to_fd, follow_symlinks=False))
            return moved if moved == seen else NO_STAMP

    def _move_across(self, path: str, to: str, seen: Stamp) -> Stamp:
        """Move a file onto another file system, to which no rename leads: copy it, and delete it.

        A crash between the two leaves two files of one id, of which a cycle sets the copy aside.
        """
        (folder, name), (to_folder, to_name) = split_path(path), split_path(to)
        try:
            version = self.read(path)
        except MessageError as error:
            raise StaleReplica(f"{self._base / path} cannot be moved: {error.sentence}") from error
        like = attributes_of(self._folder(folder), name)
        temp, stamp = self._temporary(self._folder(to_folder), version.data, like=like)
        self._put(temp, stamp, to)
        try:
            self.delete(path, seen=version)
        except StaleReplica:
            self._unlink_if_idle(to_folder, to_name, version.digest)
            raise
        return stamp if version.stamp == seen else NO_STAMP

    def is_closed(self, folder: str) -> bool:
        """Tell whether no file can be put into a mailbox folder now, or taken out of it."""
        try:
            fd = self._folder(folder, make=True)
            temp, _ = self._temporary(fd, b"", like=None, durable=False)
            os.unlink(temp, dir_fd=fd)
        except OSError:
            return True
        return False

    def delete(self, path: str, *, seen: Version) -> None:
        """Delete a file whose bytes the history holds; `StaleReplica` when they are others now."""
        folder, name = split_path(path)
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
                sync_names(self._folder(folder))
        self._dirty.clear()
        return late

    def unlink_stray(self, path: str, digest: bytes) -> bool:
        """Unlink a stray if it still has these bytes and nobody has it open; tell whether."""
        folder, name = split_path(path)
        return self._unlink_if_idle(folder, name, digest)

    def _unlink_if_idle(self, folder: str, name: str, digest: bytes) -> bool:
        with self._changing("unlink", f"{folder}/{name}"):
            dir_fd = self._folder(folder)
            try:
                with _opened(name, READ, dir_fd) as fd:
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
            with _opened(name, READ, dir_fd) as fd:
                found = os.fstat(fd)
                return (
                    found.st_size == len(seen.data)
                    and digest_of(_read_all(fd, found.st_size + 1)) == seen.digest
                )
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                return False
            raise

    def _temporary(
        self, dir_fd: int, data: bytes, *, like: Attributes | None, durable: bool = True
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

    @contextmanager
    def _changing(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StaleReplica(f"{self._base / path} is gone") from error
        except OSError as error:
            raise replica_error(error, verb, self._base / path) from error


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
