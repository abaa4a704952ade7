"""What keeps a database from being used, as sentences with a way out."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncd.errors import LIMIT_HINT, BusyError, ReplicaError, limit_hint
from syncd.files.attributes import MOUNT_WRITABLE, is_read_only

BUSY_TIMEOUT_S = 5.0
_FILES_OF_ONE = 4  # itself, -wal, -shm, and one to spare
_LONGEST_PATH = 504  # bytes, with room for "-journal" in the 512 of SQLite's os_unix.c
_OURS = "syncd_"


def refuse_link(folder: Path) -> None:
    """Raise `ReplicaError` where a project's folder is a link: it may lead anywhere."""
    if folder.is_symlink():
        raise ReplicaError(
            f"{folder} is a symbolic link, and links are not followed",
            hint="Move the folder that it leads to into its place.",
        )


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, with the database's path and a way out."""
    try:
        yield
    except sqlite3.Error as error:
        raise _error_for(path, error) from error


def _error_for(path: Path, error: sqlite3.Error) -> BusyError | ReplicaError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return BusyError(
            f"another program holds the lock of {path} for more than {BUSY_TIMEOUT_S:.0f} s",
            hint="Try again when it has finished.",
        )
    if name.startswith("SQLITE_READONLY"):
        return unwritable(path)
    if name.startswith("SQLITE_CANTOPEN") and (known := _why_not_opened(path)) is not None:
        return known
    if f"no such table: {_OURS}" in str(error):
        return BusyError(
            f"{path} has just lost a table of syncd's: {error}",
            hint="Try again: if the project was being retired, that is done by then.",
        )
    for prefix, (sentence, hint) in _PROBLEMS.items():
        if name.startswith(prefix):
            return ReplicaError(f"{path} {sentence}", hint=hint)
    return ReplicaError(f"{path}: {error}")


def _why_not_opened(path: Path) -> ReplicaError | None:
    """Return what SQLite does not say of a database that it cannot open."""
    length = len(os.fsencode(path.absolute()))
    if length > _LONGEST_PATH:
        return ReplicaError(
            f"{path} cannot be opened: its path has {length} bytes, and SQLite takes "
            f"{_LONGEST_PATH} at most",
            hint="Move the project to where its path is shorter.",
        )
    if not path.exists() and is_read_only(path):
        return unwritable(path)
    if _are_too_many_open(path.parent):
        return ReplicaError(f"{path} cannot be opened: too many files are open", hint=LIMIT_HINT)
    return None


def _are_too_many_open(folder: Path) -> bool:
    """Tell whether this process may not open what a database takes; SQLite does not say that."""
    opened = []
    try:
        for _ in range(_FILES_OF_ONE):
            opened.append(os.open(folder, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return limit_hint(error) is not None
    finally:
        for fd in opened:
            os.close(fd)
    return False


def unwritable(path: Path) -> ReplicaError:
    """Return the error of a database that may not be written."""
    hint = "Give syncd's user the right to write it and its folder."
    if is_read_only(path):
        hint = MOUNT_WRITABLE
    return ReplicaError(f"{path} cannot be written", hint=hint)


_PROBLEMS = {
    "SQLITE_CORRUPT": (
        "is damaged",
        "If it was just put in another's place, remove the -wal and -shm, which are still the "
        "other's. Else move it and its -wal file away and restore a backup; without one, "
        "'syncd migrate' builds a new database from the files.",
    ),
    "SQLITE_NOTADB": (
        "is not a SQLite database",
        "Move it away; 'syncd migrate' builds a new one from the files.",
    ),
    "SQLITE_FULL": (
        "cannot grow: the disk is full",
        "Free some space, and try again; an agent does by itself.",
    ),
    "SQLITE_CANTOPEN": ("cannot be opened", "Look whether it exists and who may read it."),
    "SQLITE_IOERR": ("cannot be read or written", "Look at the disk and its free space."),
}
