"""The archive of a retired project: its legacy folders, and what syncd's tables held.

A compressed tar file. First stands a manifest with path, size, mode, time, SHA-256 and id of each
file, then syncd's own tables (`syncd.database.dump`), then the folders under their own names, so
that ``tar xf ARCHIVE inbox`` brings one back without syncd too. The order is that of the paths: the
same files make the same archive.

An archive is not trusted: `checked` reads all of it, and accepts only plain files and folders below
the legacy folders, each exactly as the manifest says.
"""

from __future__ import annotations

import json
import lzma
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

from syncd.cycle.retirement import ROOTS
from syncd.database import dump
from syncd.errors import ReplicaError, StaleReplica
from syncd.files.syscalls import sync_names
from syncd.names import in_utf8
from syncd.retire.trees import Node, digest, digest_of_stream, opened, opened_folder

SUFFIX = ".tar.xz"
VERSION = 1
_MANIFEST = "syncd/manifest.json"
_TABLES = "syncd/tables.jsonl"
_CHUNK = 1 << 20
_PRESET: Final = 1  # of xz: ten times as fast as its usual 6, for a third more bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One packed file or folder. ``id`` is that of the message, where it is known."""

    path: str
    folder: bool
    mode: int
    mtime_ns: int
    size: int = 0
    sha256: str = ""
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds. ``tables`` has the number of rows of each of syncd's own tables."""

    project: str
    at: str
    entries: tuple[Entry, ...]
    tables: dict[str, int]
    tables_size: int
    tables_sha256: str

    @property
    def files(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.folder]

    @property
    def bytes(self) -> int:
        """How many bytes the files have."""
        return sum(entry.size for entry in self.entries)

    def as_json(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}


def survey(base: Path, nodes: dict[str, Node], ids: dict[str, str]) -> tuple[Entry, ...]:
    """Read all that is to be packed; ``nodes`` are regular files and folders by path.

    Raises `StaleReplica` for a file that is being written, or is gone.
    """
    found = []
    for path, node in nodes.items():
        mode = stat.S_IMODE(node.mode)
        if node.is_folder:
            found.append(Entry(path, True, mode, node.mtime_ns))
        else:
            summed = digest(base / path)
            found.append(Entry(path, False, mode, node.mtime_ns, node.size, summed, ids.get(path)))
    return tuple(found)


class _Measured:
    """A file read to its known end, whose digest is known by then."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._summed = sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise StaleReplica("a file became shorter while it was packed")
        self._summed.update(data)
        return data

    @property
    def sha256(self) -> str:
        return self._summed.hexdigest()


def pack(base: Path, manifest: Manifest, tables: IO[bytes], into: IO[bytes]) -> None:
    """Write an archive; raises `StaleReplica` where a file is no longer as the manifest says."""
    text = json.dumps(manifest.as_json(), indent=1).encode()
    with tarfile.open(
        fileobj=into, mode="w:xz", format=tarfile.PAX_FORMAT, preset=_PRESET
    ) as archive:
        archive.addfile(_member(_MANIFEST, size=len(text)), BytesIO(text))
        archive.addfile(_member(_TABLES, size=manifest.tables_size), tables)
        for entry in manifest.entries:
            seconds = entry.mtime_ns // 1_000_000_000
            if entry.folder:
                archive.addfile(_member(entry.path, entry.mode, seconds, kind=tarfile.DIRTYPE))
                continue
            with opened(base / entry.path) as file:
                measured = _Measured(file)
                member = _member(entry.path, entry.mode, seconds, entry.size)
                archive.addfile(member, measured)
                if measured.sha256 != entry.sha256:
                    raise StaleReplica(f"{base / entry.path} changed while it was packed")


def _member(
    path: str, mode: int = 0o644, seconds: int = 0, size: int = 0, *, kind: bytes = tarfile.REGTYPE
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mode, info.mtime, info.size, info.type = mode, seconds, size, kind
    return info


def checked(archive: Path) -> Manifest:
    """Read a whole archive, and return its manifest.

    Raises `ReplicaError` where anything in it is not as the manifest says, or the manifest names
    what a mailbox cannot hold: a path that leads outside, a link, a device.
    """
    with tables_of(archive) as lines:
        dump.check(lines)
    with _reading(archive) as (manifest, members):
        left = {entry.path: entry for entry in manifest.entries}
        for entry, file in members:
            found = digest_of_stream(file.read) if file is not None else ""
            if found != entry.sha256:
                raise ValueError(f"{in_utf8(entry.path)} is not as it was packed")
            del left[entry.path]
        if left:
            raise ValueError(f"{in_utf8(min(left))} is missing")
        return manifest


@contextmanager
def _reading(archive: Path) -> Iterator[tuple[Manifest, Iterator[tuple[Entry, IO[bytes] | None]]]]:
    """Open an archive; give its manifest, and each packed folder or file as it comes by."""
    with _opened(archive) as whole:
        manifest = _manifest(whole, archive)
        tables = _next(whole, _TABLES)
        if digest_of_stream(tables.read) != manifest.tables_sha256:
            raise ValueError(f"{_TABLES} is not as it was packed")
        yield manifest, _members(whole, {entry.path: entry for entry in manifest.entries})


_MANIFEST_BYTES, _MOST_TIMES = 64 * 1024 * 1024, 1000  # nothing that is packed compresses so well

# What is made of JSON is whatever somebody wrote there.
_NOT_OURS = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:xz") as whole:
            yield whole
    except (*_NOT_OURS, tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise ReplicaError(
            f"{archive} is damaged, or no archive of syncd's: {error}",
            hint="Nothing was changed. Another copy of the archive may be whole.",
        ) from error


def _members(
    whole: tarfile.TarFile, wanted: dict[str, Entry]
) -> Iterator[tuple[Entry, IO[bytes] | None]]:
    seen = set()
    while (info := whole.next()) is not None:
        entry = wanted.get(info.name)
        if entry is None or info.name in seen:
            raise ValueError(f"{in_utf8(info.name)} is not in its manifest, or twice in it")
        seen.add(info.name)
        if entry.folder:
            if info.type != tarfile.DIRTYPE:
                raise ValueError(f"{in_utf8(info.name)} is not a folder")
            yield entry, None
        else:
            yield entry, _file(whole, info, entry.size)


def _next(whole: tarfile.TarFile, path: str) -> IO[bytes]:
    info = whole.next()
    if info is None or info.name != path:
        raise ValueError(f"{path} is missing")
    return _file(whole, info, info.size)


def _file(whole: tarfile.TarFile, info: tarfile.TarInfo, size: int) -> IO[bytes]:
    file = whole.extractfile(info) if info.type == tarfile.REGTYPE else None
    if file is None or info.size != size:
        raise ValueError(f"{in_utf8(info.name)} is not a file of {size:,} bytes")
    return file


def _manifest(whole: tarfile.TarFile, archive: Path) -> Manifest:
    member = _next(whole, _MANIFEST)
    most = max(_MANIFEST_BYTES, _MOST_TIMES * archive.stat().st_size)
    said = member.read(most + 1)
    if len(said) > most:
        raise ValueError(f"{_MANIFEST} is larger than such an archive can have it")
    found = json.loads(said)
    if found.pop("version") != VERSION:
        raise ValueError("it was packed by another version of syncd")
    manifest = Manifest(**found | {"entries": tuple(Entry(**entry) for entry in found["entries"])})
    folders: set[str] = set()
    for entry in manifest.entries:
        parent, _, name = entry.path.rpartition("/")
        rooted = parent in folders if parent else entry.folder and name in ROOTS
        if not rooted or name in ("", ".", "..") or "\0" in name or entry.path in folders:
            raise ValueError(f"{in_utf8(entry.path)} leads out of the legacy folders")
        if not (isinstance(entry.mode, int) and abs(entry.mtime_ns) < 2**65):
            raise ValueError(f"mode and time of {in_utf8(entry.path)} are none")
        if entry.folder:
            folders.add(entry.path)
    return manifest


def manifest_of(archive: Path) -> Manifest:
    """Return an archive's manifest, without reading the rest."""
    with _opened(archive) as whole:
        return _manifest(whole, archive)


@contextmanager
def tables_of(archive: Path) -> Iterator[IO[bytes]]:
    """Give what an archive holds of syncd's tables, as lines."""
    with _opened(archive) as whole:
        _manifest(whole, archive)
        yield _next(whole, _TABLES)


def unpack(archive: Path, into: Path) -> None:
    """Write an archive's folders into ``into``, which is empty; raises as `checked` does.

    Files get their mode and time; the folders only when all stands where it belongs
    (`dress_folders`).
    """
    with _reading(archive) as (_, members):
        for entry, file in members:
            path = into / entry.path
            if file is None:
                path.mkdir(mode=0o700)
                continue
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            summed = sha256()
            with open(os.open(path, flags, 0o600), "wb") as target:
                while chunk := file.read(_CHUNK):
                    summed.update(chunk)
                    target.write(chunk)
                target.flush()
                os.fchmod(target.fileno(), entry.mode & 0o777)
                os.utime(target.fileno(), ns=(entry.mtime_ns, entry.mtime_ns))
                os.fsync(target.fileno())
            if summed.hexdigest() != entry.sha256:
                raise ValueError(f"{in_utf8(entry.path)} is not as it was packed")


def dress_folders(base: Path, manifest: Manifest) -> None:
    """Give the folders of a manifest that stand below ``base`` their modes and times."""
    for entry in reversed(manifest.entries):
        if entry.folder:
            with opened_folder(base / entry.path) as fd:
                os.fchmod(fd, entry.mode & 0o777)
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
                sync_names(fd)
