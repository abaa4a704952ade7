"""The word that a project is retired: a small file that every command and the agent heed.

It stands in place of the tables, which are gone by then. While it stands, no cycle runs: no file is
written, no table made, no folder made again. It is also where a retirement begins to count, and it
tells a call that was cut off how far that came.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from syncd.core.message import FOLDERS
from syncd.errors import ClosedFolder, ReplicaError, UsageError
from syncd.files.syscalls import sync_names
from syncd.names import CLAUDE_DIR, TEMP_PREFIX

MARKER = "syncd-retired.json"
ROOTS = tuple(dict.fromkeys(folder.partition("/")[0] for folder in FOLDERS))
"""The legacy folders as they stand in ``.claude-mpm``: all else lies in one of them."""

_TEMPORARY = f"{TEMP_PREFIX}retired.tmp"
_MAX_BYTES = 65_536
_LISTED = 20


class Stage(StrEnum):
    """How far a retirement has come."""

    RETIRING = "retiring"  # all is packed, and not all of the rest is gone
    RETIRED = "retired"
    RESTORING = "restoring"  # being undone


class Retirement(NamedTuple):
    """What the marker says. ``archive`` is a name in ``.claude-mpm``, ``sha256`` of its bytes."""

    at: str
    archive: str
    sha256: str
    stage: Stage = Stage.RETIRED

    @property
    def is_done(self) -> bool:
        """Tell whether nothing of it is left to do, and it stands."""
        return self.stage is Stage.RETIRED

    def as_json(self) -> dict[str, Any]:
        return self._asdict()


def aside(root: str) -> str:
    """Return the name under which a legacy folder waits for its end."""
    return f"{TEMP_PREFIX}retiring-{root}"


def retirement(project: Path) -> Retirement | None:
    """Return a project's retirement; None for one that is not retired.

    Raises `ReplicaError` for a marker that cannot be read: a project of which that is not known
    is left alone.
    """
    path = project / CLAUDE_DIR / MARKER
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        if not os.access(path.parent, os.X_OK):
            raise ClosedFolder(path.parent) from error
        raise ReplicaError(
            f"{error.filename} cannot be read: permission denied",
            hint=f"Give syncd's user the right to read {path.parent} and what is in it.",
        ) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _damaged(path, "it is no regular file") from error
        from syncd.files.folders import replica_error  # needed by few

        raise replica_error(error, "read", path) from error
    import json

    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _damaged(path, "it is no regular file")
        found = json.loads(os.read(fd, _MAX_BYTES))
        known = Retirement(
            str(found["at"]), str(found["archive"]), str(found["sha256"]), Stage(found["stage"])
        )
        if "/" in known.archive or known.archive in ("", ".", ".."):
            raise ValueError("the archive's name is a path")
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise _damaged(path, "it is damaged") from error
    finally:
        os.close(fd)
    return known


def refusal(project: Path, known: Retirement) -> ReplicaError:
    """Return what is said to those who ask a retired project for what it has no more."""
    return ReplicaError(
        f"{project} is retired: its files, its history and its journal are in an archive",
        hint=f"Bring them back: {undoing(project, known)}",
    )


def unfinished(project: Path, known: Retirement) -> UsageError:
    """Return what is said where a project that is being restored is to be something else."""
    return UsageError(
        f"{project} is being restored from {known.archive}",
        hint=f"Finish that first: {undoing(project, known)}",
    )


def undoing(project: Path, known: Retirement) -> str:
    """Return the command that brings a project back from its archive, or goes on with that."""
    from syncd.shell import quoted  # few projects are retired

    archive = project / CLAUDE_DIR / known.archive
    if archive.exists():
        return f"syncd retire --undo {quoted(archive)}"
    # It was moved away, and may be undone from there.
    return f"syncd retire {quoted(project)} --undo FOLDER/{quoted(known.archive)}"


def _damaged(path: Path, reason: str) -> ReplicaError:
    from syncd.shell import quoted

    marker, project = quoted(path), quoted(path.parent.parent)
    return ReplicaError(
        f"{path} cannot be read: {reason}",
        hint="It says that the project is retired. To bring back all that is in its archive, "
        f"before any sync: rm {marker} && syncd retire {project} --undo ARCHIVE",
    )


def save(project: Path, known: Retirement) -> None:
    """Write the marker, durably and in one step; raises `OSError`."""
    import json

    base = project / CLAUDE_DIR
    temporary = base / _TEMPORARY
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o666)
    try:
        os.write(fd, (json.dumps(known.as_json(), indent=2) + "\n").encode())
        os.fsync(fd)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    os.rename(temporary, base / MARKER)
    sync_folder(base)


def remove(project: Path) -> None:
    """Remove the marker, durably: from now on the project is synced again; raises `OSError`."""
    base = project / CLAUDE_DIR
    with suppress(FileNotFoundError):
        os.unlink(base / MARKER)
    sync_folder(base)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_names(fd)
    finally:
        os.close(fd)


def left_files(project: Path) -> list[str]:
    """Return files that stand in legacy folders after all, the first few, counted from there.

    Hidden ones do not count, except those that a retirement left under its own names.
    """
    base = project / CLAUDE_DIR
    found: list[str] = []
    for root in (*ROOTS, *map(aside, ROOTS)):
        for folder, names, files in os.walk(base / root):
            names.sort()
            where = os.path.relpath(folder, base)
            hidden = not root.startswith(TEMP_PREFIX)
            found += [f"{where}/{one}" for one in sorted(files) if not (hidden and one[0] == ".")]
            if len(found) >= _LISTED:
                return found[:_LISTED]
    return found
