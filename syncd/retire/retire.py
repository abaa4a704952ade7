"""The end of a migration: packing the legacy folders away, and syncd with them.

The order makes it safe to break off at any point, and to run again to the end:

1. Both sides are proven equal, and nothing waits for a person.
2. The folders and syncd's own tables are packed under a temporary name, and the archive is read
   back and compared with its manifest. Whatever goes wrong up to here leaves the project as it was.
3. The triggers go, in the transaction that sees that no host wrote since; and the files are seen
   to stand as they were packed. A crash here costs a full compare: the next cycle makes the
   triggers again.
4. The marker is written (`syncd.cycle.retirement`). From here on the project is retired, no cycle
   runs in it, and every later call of `retire` goes on with what is left:
5. the archive gets its name; the folders are renamed aside, and what is in them is removed file
   by file, where its bytes are those in the archive. Any other file goes back where it was.
6. Tables that no trigger names any more are removed; and the marker says that all is done.

No trigger ever names a table that is gone, so a host's write never fails (G17).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from syncd.config import Config
from syncd.cycle import cycle
from syncd.cycle.orders import Orders
from syncd.cycle.project import turn
from syncd.cycle.report import Report
from syncd.cycle.retirement import (
    ROOTS,
    Retirement,
    Stage,
    aside,
    left_files,
    retirement,
    save,
    sync_folder,
    unfinished,
)
from syncd.database import dump, tables
from syncd.database.chronicle import QuarantineEntry, now_text
from syncd.database.database import Database
from syncd.database.sqlite_errors import translated
from syncd.database.store import Store
from syncd.errors import BusyError, ReplicaError, StaleReplica
from syncd.files.attributes import way_to_rights
from syncd.files.folders import changing
from syncd.names import CLAUDE_DIR, DATABASE, TEMP_PREFIX, database_of, in_utf8
from syncd.retire.archive import SUFFIX, Entry, Manifest, checked, manifest_of, pack, survey
from syncd.retire.trees import Node, digest, digest_of_stream, listing, look, merge, unlink_if
from syncd.shell import quoted
from syncd.verify import verify

_TEMPORARY = f"{TEMP_PREFIX}retire.tmp"
_TRIES = 3
_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a project cannot be retired as it stands, and the way out of that."""

    text: str
    hint: str = ""


@dataclass(slots=True)
class Retiring:
    """What a call of `retire` did, or would do.

    ``known`` is the project's retirement afterwards, None where nothing was done; ``left`` are
    files that an old client wrote when all was packed, and that stand where they stood.
    """

    project: Path
    archive: str = ""
    archive_bytes: int | None = None
    manifest: Manifest | None = None
    known: Retirement | None = None
    was_retired: bool = False
    reasons: list[Reason] = field(default_factory=list)
    halted: bool = False
    left: list[str] = field(default_factory=list)


def retire(project: Path, config: Config, *, dry_run: bool = False) -> Retiring:
    """Retire a project, or go on with what an earlier call left; tell what was done.

    Nothing is done where there are ``reasons``. Raises `BusyError` when another syncd works on the
    project, or files and rows change all the time; `ReplicaError` when a side cannot be used.
    """
    with turn(project, config.busy_wait_s):
        known = retirement(project)
        if known is not None and known.stage is Stage.RESTORING:
            raise unfinished(project, known)
        result = Retiring(project)
        if known is None:
            _begin(project, config, result, dry_run=dry_run)
            known = retirement(project)
        else:
            result.was_retired = known.stage is Stage.RETIRED
            result.archive = known.archive
        if known is not None and not dry_run:
            finish(project, known)
        result.known = retirement(project)
        if result.known is not None:
            _tell_of(project, result)
        return result


def _tell_of(project: Path, result: Retiring) -> None:
    archive = project / CLAUDE_DIR / result.archive
    result.left = left_files(project)
    if archive.exists():
        result.archive_bytes = archive.stat().st_size
        result.manifest = manifest_of(archive)


# Before the marker ---------------------------------------------------------------------------


def _begin(project: Path, config: Config, result: Retiring, *, dry_run: bool) -> None:
    """Prove, pack and check; then write the marker, unless there are reasons not to."""
    changed: StaleReplica | None = None
    for _ in range(_TRIES):
        try:
            _try(project, config, result, dry_run=dry_run)
        except StaleReplica as error:
            changed = error
        else:
            if changed is None or not result.reasons:
                return
            break  # what changed meanwhile is not synced yet
        finally:
            if retirement(project) is None and not dry_run:
                with suppress(OSError):  # as on a file system that is read-only
                    (project / CLAUDE_DIR / _TEMPORARY).unlink()
    raise BusyError(
        f"{project} changes while it is packed: {changed}",
        hint="Nothing was done. Try again when its clients are idle.",
    ) from changed


def _try(project: Path, config: Config, result: Retiring, *, dry_run: bool) -> None:
    base = project / CLAUDE_DIR
    database = base / DATABASE
    result.reasons, result.halted = [], False
    with changing("read", base):
        nodes = listing(base, ROOTS)
        for path, node in nodes.items():
            result.reasons += _reasons_of_node(base, path, node)
    if not database.exists() or not _was_synced(database):
        result.reasons.append(Reason("it was never synced", _sync(project)))
        return
    if not dry_run and not result.reasons:
        with Store.open(database, create=False) as store:
            store.prepare()  # a call that was cut off may have removed the triggers
    seen = _marks(database)
    _prove_equal(project, config, result)
    if result.reasons:
        with changing("read", base):
            stands_still = _marks(database) == seen and listing(base, ROOTS) == nodes
        if not stands_still:
            raise StaleReplica("rows or files changed")  # which may be all that is wrong
        return
    result.archive = _free_name(base)
    with (
        changing("pack", base),
        TemporaryFile(dir=None if dry_run else base, buffering=_BUFFER) as rows,
    ):
        result.manifest = _manifest(project, nodes, rows)
        if dry_run:
            return
        known = _packed(base, result.manifest, rows, result.archive)
    _mark(project, known, nodes, seen)


def _packed(base: Path, manifest: Manifest, rows: IO[bytes], name: str) -> Retirement:
    """Write an archive and read it back; return what the marker is to say of it."""
    path = base / _TEMPORARY
    with _written(path, like=base / DATABASE) as into:
        rows.seek(0)
        pack(base, manifest, rows, into)
    if checked(path) != manifest:
        raise ReplicaError(f"{path} does not read back as it was written")
    return Retirement(manifest.at, name, digest(path), Stage.RETIRING)


def _mark(
    project: Path, known: Retirement, nodes: dict[str, Node], seen: tuple[object, ...]
) -> None:
    """Remove the triggers and write the marker, if files and rows are as they were packed."""
    base = project / CLAUDE_DIR
    with Store.open(base / DATABASE, create=False) as store:
        try:
            with store.transaction():
                if dump.marks(store) != seen:
                    raise StaleReplica("rows changed")
                tables.drop_triggers(store.connection)
            with changing("write", base):
                if listing(base, ROOTS) != nodes:
                    raise StaleReplica("files changed")
                save(project, known)
        except BaseException:
            with suppress(BusyError, ReplicaError, StaleReplica):
                if retirement(project) is None:
                    store.prepare()
            raise


def _reasons_of_node(base: Path, path: str, node: Node) -> Iterator[Reason]:
    """Yield why a file or folder cannot be packed, or not be removed afterwards."""
    shown = in_utf8(path)
    if not (node.is_file or node.is_folder):
        yield Reason(f"{shown} is neither a file nor a folder", "Move it away.")
    elif node.device != os.stat(base).st_dev:
        yield Reason(f"{shown} lies on another disk than {base}", "Unmount it, or move it here.")
    elif node.is_folder and not os.access(base / path, os.R_OK | os.W_OK | os.X_OK):
        yield Reason(f"{shown} may not be changed", way_to_rights("rwx", base / path))
    elif node.is_file and not os.access(base / path, os.R_OK):
        yield Reason(f"{shown} may not be read", way_to_rights("r", base / path))


def _was_synced(database: Path) -> bool:
    with translated(database), Database.open_readonly(database) as opened:
        return bool(tables.names(opened.connection))


def _marks(database: Path) -> tuple[object, ...]:
    with Database.open_readonly(database) as opened:
        return dump.marks(opened)


def _prove_equal(project: Path, config: Config, result: Retiring) -> None:
    """Note what is unsynced or waits for a person; then compare both sides in full."""
    with Store.open_readonly(database_of(project)) as store, translated(store.path):
        store.check_contract()
        report = cycle.run(project, store, config, Orders(dry_run=True, wait=False))
        result.halted = report.halt is not None
        result.reasons += _reasons_of_report(project, report)
        if result.reasons:
            return
        found = verify(project, store, max_bytes=config.max_bytes, patience_s=0)
        result.reasons += [Reason(f"{one.id}: {one.what}", one.hint) for one in found.differences]
        result.reasons += _reasons_of_entries(found.quarantined)
        result.reasons += [
            Reason(f"{path} is a replaced file that somebody may still write to", _sync(project))
            for path in found.strays
        ]


def _reasons_of_report(project: Path, report: Report) -> Iterator[Reason]:
    if report.halt is not None:
        ways = f"The ways out: syncd status {quoted(project)}"
        yield Reason(f"it is halted: {report.halt.cause}", ways)
        return
    if report.counts.changes():
        yield Reason(f"both sides differ; a sync has yet to do: {report.counts}", _sync(project))
    if not report.quarantined:  # else that may be why, and a sync does not help
        for path in sorted(report.unsettled | report.vanished):
            yield Reason(f"{path} is changing, or just gone", _sync(project))
    for conflict in report.conflicts:
        yield Reason(
            f"there is a conflict in {conflict.id}, {conflict.field}",
            f"See both values, and the ways to settle it: syncd conflicts {quoted(project)}",
        )
    yield from _reasons_of_entries(report.quarantined)


def _reasons_of_entries(entries: Iterable[QuarantineEntry]) -> Iterator[Reason]:
    for entry in entries:
        yield Reason(f"{entry.path} is quarantined: {entry.problem.reason}", entry.problem.hint)


def _sync(project: Path) -> str:
    return f"Bring both sides in step: syncd sync {quoted(project)}"


def _free_name(base: Path) -> str:
    """Return a name for the archive that nothing has yet."""
    day = datetime.now(UTC).date().isoformat()
    names = (
        f"syncd-archive-{day}{f'-{number}' if number > 1 else ''}{SUFFIX}" for number in count(1)
    )
    return next(name for name in names if look(base / name) is None)


def _manifest(project: Path, nodes: dict[str, Node], rows: IO[bytes]) -> Manifest:
    """Read files and tables; return what is to be packed. The tables' rows go into ``rows``."""
    base = project / CLAUDE_DIR
    with Store.open_readonly(base / DATABASE) as store:
        counts = dump.write_tables(store, rows)
        ids = {path: key for path, key, _ in store.records.stamps()}
        ids |= {path: key for path, (key, _) in store.twins.all().items()}
    size = rows.tell()
    rows.seek(0)
    summed = digest_of_stream(rows.read)
    entries = survey(base, nodes, ids)
    return Manifest(str(project), now_text(), entries, counts, size, summed)


@contextmanager
def _written(path: Path, *, like: Path) -> Iterator[IO[bytes]]:
    """Write a file of our own anew, durably, for those who may read ``like``."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb", buffering=_BUFFER) as file:
        os.fchmod(file.fileno(), like.stat().st_mode & 0o666)
        yield file
        file.flush()
        os.fsync(file.fileno())


# After the marker ----------------------------------------------------------------------------


def finish(project: Path, known: Retirement) -> None:
    """Go on from the marker to the end, however far an earlier call came; the turn is held."""
    base = project / CLAUDE_DIR
    archive = base / known.archive
    with changing("write", archive):
        _give_name(base / _TEMPORARY, archive, known)
        manifest = manifest_of(archive)
        packed = {entry.path: entry for entry in manifest.entries}
        for root in ROOTS:
            _clear(base, root, packed)
        sync_folder(base)
    if (base / DATABASE).exists():
        with Database.open(base / DATABASE, create=False) as database, translated(database.path):
            _drop_tables(database)
    if not known.is_done:
        with changing("write", base):
            save(project, known._replace(stage=Stage.RETIRED))


def _give_name(temporary: Path, archive: Path, known: Retirement) -> None:
    """Have the archive that was checked stand under its name; raises `ReplicaError` otherwise."""
    if look(archive) is None and look(temporary) and digest(temporary) == known.sha256:
        merge(temporary, archive)
        sync_folder(archive.parent)
    if look(archive) is None or digest(archive) != known.sha256:
        raise ReplicaError(
            f"{archive} is not the archive that the project was retired into",
            hint="Put it back there: what it holds is not removed without it.",
        )
    # Where renames have no flags, a crash between link and unlink leaves the archive both names.
    temporary.unlink(missing_ok=True)


def _clear(base: Path, root: str, packed: dict[str, Entry]) -> None:
    """Remove of a legacy folder what is in the archive; all else stays where it is.

    Only what was renamed aside is removed: nobody opens it by its name any more.
    """
    # RACE: a program that has a file open writes to it when it is aside, too. A file that is open
    # somewhere, or changed, is therefore put back (`unlink_if`), and so is a new one.
    there, waiting = base / root, base / aside(root)
    if look(waiting) is None:
        standing = listing(base, [root])
        if root not in standing or not any(
            path in packed and (node.is_folder or packed[path].size == node.size)
            for path, node in standing.items()
        ):
            return
        os.rename(there, waiting)
        sync_folder(base)
    for path, entry in reversed(packed.items()):
        if path == root or path.startswith(f"{root}/"):
            here = base / (aside(root) + path[len(root) :])
            if entry.folder:
                with suppress(OSError):
                    here.rmdir()
            else:
                unlink_if(here, entry.sha256)
    merge(waiting, there)


def _drop_tables(database: Database) -> None:
    """Remove the triggers, and then the tables, in transactions as short as can be."""
    with database.transaction():
        tables.drop_triggers(database.connection)
    for name in tables.names(database.connection):
        database.drop_rows(name)  # with many, to drop the table would hold the lock for long
        with database.transaction():
            database.connection.execute(f'DROP TABLE "{name}"')
