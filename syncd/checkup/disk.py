"""Where a project lies: its file system, free space, permissions, the database's header."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from syncd.checkup.check import Check, good, note, problem, some, warning
from syncd.core.message import FOLDERS
from syncd.files.attributes import way_to_rights
from syncd.names import CLAUDE_DIR, DATABASE
from syncd.shell import quoted

_MOUNTINFO = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "lustre", "gpfs"),
        *("glusterfs", "beegfs", "ocfs2", "gfs2", "davfs"),
        *("vboxsf", "virtiofs", "vmhgfs", "prl_fs"),
    }
)
_NETWORK_FUSE = re.compile(
    r"fuse\.(sshfs|rclone|s3fs|glusterfs|ceph|davfs2?|curlftpfs|gcsfuse|vmhgfs|juicefs|.*drive)"
)
_VOLATILE = frozenset({"tmpfs", "ramfs"})

_LEAST_BYTES = 64 * 1024 * 1024
_ALMOST_NONE_BYTES = 8 * 1024 * 1024
_LEAST_INODES = 1_000

_MAGIC = b"SQLite format 3\0"
_READ_VERSION = 19

_READ, _WRITE, _ENTER = os.R_OK, os.W_OK, os.X_OK


def disk_checks(project: Path) -> Iterator[Check]:
    """Make the checks of where a project lies; its database must not be open in this process."""
    base = project / CLAUDE_DIR
    try:
        text = _MOUNTINFO.read_text("utf-8", "surrogateescape")
    except OSError:
        yield note("file-system", "this system does not tell what it is")
    else:
        yield file_system(base, text)
    database = base / DATABASE
    size = database.stat().st_size if database.is_file() else 0
    yield space(base, _room_in(base), needed=size)
    yield permissions(project)
    if database.is_file() and not database.is_symlink() and os.access(database, os.R_OK):
        yield journal(database)


# The file system


def file_system(folder: Path, mountinfo: str) -> Check:
    """Tell whether a folder's file system is one on which SQLite's WAL works.

    ``mountinfo`` is the text of /proc/self/mountinfo (proc(5)). A WAL needs memory that all its
    programs share, which no network file system has; locks and file events fail there too.
    """
    kind, mount = file_system_of(folder, mountinfo)
    if kind in _NETWORK or _NETWORK_FUSE.fullmatch(kind):
        return problem(
            "file-system",
            f"{mount} is a network file system ({kind}): SQLite's WAL does not work across "
            "machines there, and no events tell of changes",
            "Move the project to a local disk, and let one machine alone keep it.",
        )
    if kind in _VOLATILE:
        return note(
            "file-system",
            f"{mount} is held in memory ({kind}): all of it is gone after a restart",
            "Move the project to a disk, if it is to last.",
        )
    return good("file-system", f"{mount} is local ({kind})")


def file_system_of(folder: Path, mountinfo: str) -> tuple[str, str]:
    """Return type and mount point of the file system that a folder lies on."""
    best = ("unknown", "/")
    path = os.path.realpath(folder)
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) < 10 or "-" not in fields:
            continue
        mount = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), fields[4])
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best[1]):  # of two at one place the later one counts
            best = (fields[fields.index("-") + 1], mount)
    return best


# Space


@dataclass(frozen=True, slots=True)
class Room:
    """What a file system has left for a user; ``inodes`` is None where it has no limit."""

    bytes: int
    inodes: int | None


def _room_in(folder: Path) -> Room:
    found = os.statvfs(folder)
    return Room(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


def space(folder: Path, room: Room, *, needed: int = 0) -> Check:
    """Tell whether there is room for what comes: as much again as the database has, at least."""
    mib = room.bytes / 2**20
    found = f"{mib:,.0f} MiB" + ("" if room.inodes is None else f" and {room.inodes:,} inodes")
    mend = f"Free some on the file system of {quoted(folder)}."
    if room.bytes < _ALMOST_NONE_BYTES or room.inodes == 0:
        return problem("space", f"hardly anything is free: {found}", mend)
    few = room.inodes is not None and room.inodes < _LEAST_INODES
    if room.bytes < max(_LEAST_BYTES, needed) or few:
        return warning("space", f"little is free: {found}", mend)
    return good("space", f"{found} are free")


# Permissions


def permissions(project: Path) -> Check:
    """Tell whether this user may do what an agent has to do, with every folder and file."""
    denied = list(_denied(project / CLAUDE_DIR))
    if not denied:
        return good("permissions", "all folders, files and databases can be used")
    fixes = dict.fromkeys(fix for _, fix in denied)
    more = "" if len(fixes) == 1 else f" (and the like for the other {len(fixes) - 1:,})"
    return problem(
        "permissions",
        f"{len(denied):,} of them cannot be used as they have to be",
        f"{next(iter(fixes))}{more}",
        some([what for what, _ in denied]),
    )


def _denied(base: Path) -> Iterator[tuple[str, str]]:
    """Yield in words what this user may not do, and the command that allows it."""
    yield from _lacking(base, "", _READ | _WRITE | _ENTER)
    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
        yield from _lacking(base / name, name, _READ | _WRITE)
    for folder in FOLDERS:
        path = base / folder
        if not path.is_dir() or path.is_symlink():
            continue
        yield from _lacking(path, folder, _READ | _WRITE | _ENTER)
        if os.access(path, _READ | _ENTER):
            with os.scandir(path) as entries:
                files = sorted(entry.name for entry in entries if _is_file(entry))
            for name in files:
                yield from _lacking(path / name, f"{folder}/{name}", _READ)


def _is_file(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(".md") and entry.is_file(follow_symlinks=False)


def _lacking(path: Path, name: str, modes: int) -> Iterator[tuple[str, str]]:
    effective = os.access in os.supports_effective_ids
    if os.access(path, modes, effective_ids=effective) or not os.path.lexists(path):
        return
    words = {_READ: ("read", "r"), _WRITE: ("written", "w"), _ENTER: ("entered", "x")}
    lacking = [
        words[mode]
        for mode in words
        if modes & mode and not os.access(path, mode, effective_ids=effective)
    ]
    what = " or ".join(word for word, _ in lacking)
    found = os.stat(path, follow_symlinks=False)
    may_by_mode = found.st_uid == os.geteuid() and found.st_mode & 0o200
    if may_by_mode and lacking == [words[_WRITE]]:
        fix = f"Mount the file system of {quoted(path)} so that it can be written."
    else:
        fix = way_to_rights("".join(letter for _, letter in lacking), path)
    yield f"{name or CLAUDE_DIR} cannot be {what}", fix


# The database's header


def journal(database: Path) -> Check:
    """Tell whether a database is in WAL mode, as the contract has it."""
    mode = journal_mode(database)
    if mode == "wal":
        return good("journal-mode", f"{DATABASE} is in WAL mode")
    if mode.startswith("none"):
        return note("journal-mode", f"the mode of {DATABASE} is {mode}")
    return warning(
        "journal-mode",
        f"{DATABASE} is in journal mode {mode}: readers and writers wait for each other",
        f"sqlite3 {quoted(database)} 'PRAGMA journal_mode = WAL' (a sync sets it too)",
    )


def journal_mode(path: Path) -> str:
    """Return a database's journal mode by its header (SQLite's file format, "The Database Header").

    To ask SQLite would not do: a database that may not be written it opens as if it had no WAL.
    Must not be called while this process has the database open: closing the file drops all of
    SQLite's locks on it.
    """
    with path.open("rb") as file:
        head = file.read(100)
    if not head:
        return "none: it is empty"
    if not head.startswith(_MAGIC):
        return "none: it is no database"
    return "wal" if head[_READ_VERSION] == 2 else "delete"
