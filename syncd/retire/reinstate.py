"""Undoing a retirement: the folders come back as they were packed, and syncd with them.

Nothing is overwritten, and nothing is believed of an archive that was not read in full before.
As with `syncd.retire.retire`, a call that was cut off is finished by the next one: all is unpacked
aside, then the marker says so, then everything is moved to its place, then the tables come back
with the baseline that the archive holds, and last the marker goes. With that baseline a sync knows
what changed in the rows since, and brings it to the files.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from syncd.config import Config
from syncd.core.message import FOLDERS
from syncd.cycle.project import turn
from syncd.cycle.retirement import (
    ROOTS,
    Retirement,
    Stage,
    remove,
    retirement,
    save,
    sync_folder,
    undoing,
    unfinished,
)
from syncd.database import dump, tables
from syncd.database.database import is_set_up
from syncd.database.sqlite_errors import translated
from syncd.database.store import Store
from syncd.errors import ReplicaError, StaleReplica, UsageError
from syncd.files.folders import changing
from syncd.files.replica import FileReplica
from syncd.names import CLAUDE_DIR, TEMP_PREFIX, database_of, in_utf8
from syncd.retire.archive import Entry, Manifest, checked, dress_folders, tables_of, unpack
from syncd.retire.retire import Reason, finish
from syncd.retire.trees import digest, look, merge

_ASIDE = f"{TEMP_PREFIX}restoring"


@dataclass(slots=True)
class Reinstating:
    """What a call of `reinstate` did, or would do; nothing where there are ``reasons``.

    ``was_undone`` tells that the project was not retired, and had nothing to be brought back.
    """

    project: Path
    archive: Path
    manifest: Manifest
    reasons: list[Reason] = field(default_factory=list)
    was_undone: bool = False


def reinstate(
    project: Path, archive: Path, config: Config, *, dry_run: bool = False
) -> Reinstating:
    """Bring a retired project back from its archive, or go on with what an earlier call left.

    Raises `ReplicaError` for an archive that is damaged or was made to lead outside, `BusyError`
    when another syncd works on the project.
    """
    with turn(project, config.busy_wait_s):
        known = retirement(project)
        with changing("read", archive):
            manifest = checked(archive)
            summed = digest(archive)
        result = Reinstating(project, archive, manifest)
        if known is None and is_set_up(database_of(project)):
            result.was_undone = True
            return result
        if known is None:
            _refuse_of_another(project, archive, manifest)
        elif known.sha256 != summed:
            raise _other_archive(project, archive, known)
        elif known.stage is Stage.RETIRING and not dry_run:
            finish(project, known)
        is_placing = known is not None and known.stage is Stage.RESTORING
        if not is_placing:
            result.reasons = _in_the_way(project, manifest)
        if result.reasons or dry_run:
            return result
        if not is_placing:
            _unpack_aside(project, archive, manifest)
            at = manifest.at if known is None else known.at
            with changing("write", project / CLAUDE_DIR):
                save(project, Retirement(at, archive.name, summed, Stage.RESTORING))
        _place(project, manifest)
        _restore_tables(project, archive)
        with changing("write", project / CLAUDE_DIR):
            remove(project)
        return result


def _refuse_of_another(project: Path, archive: Path, manifest: Manifest) -> None:
    """Raise `UsageError` for another project's archive: its path is, and so are all messages."""
    path = database_of(project)
    is_here = archive.parent == project / CLAUDE_DIR
    if is_here or manifest.project == in_utf8(str(project)) or not path.exists():
        return
    ids = [entry.id for entry in manifest.files if entry.id is not None]
    with Store.open_readonly(path) as store, translated(path):
        if store.rows.count() > 0 and not store.rows.of(ids):
            raise UsageError(
                f"{archive} is of {manifest.project}, and {project} has other messages",
                hint="Name the project that it is of: syncd retire PROJECT --undo ARCHIVE",
            )


def _other_archive(project: Path, archive: Path, known: Retirement) -> UsageError:
    """Return what is said where the project belongs to another archive than is given."""
    if known.stage is Stage.RESTORING:
        return unfinished(project, known)
    return UsageError(
        f"{project} was retired into {known.archive}, and {archive} is another archive",
        hint=f"Bring back what it was retired with: {undoing(project, known)}",
    )


def _in_the_way(project: Path, manifest: Manifest) -> list[Reason]:
    """Return what stands where something is to come back, and is something else."""
    base = project / CLAUDE_DIR
    return [
        Reason(
            f"{in_utf8(entry.path)} is in the way, and is not what the archive has",
            "Move it away, and when all is back, over what came back: the next sync takes it "
            "as an edit.",
        )
        for entry in manifest.entries
        if _is_in_the_way(base / entry.path, entry)
    ]


def _is_in_the_way(path: Path, entry: Entry) -> bool:
    there = look(path)
    if there is None:
        return False
    if entry.folder:
        return not there.is_folder
    if there.is_file and there.size == entry.size:
        with suppress(StaleReplica):
            return digest(path) != entry.sha256
    return True


def _unpack_aside(project: Path, archive: Path, manifest: Manifest) -> None:
    """Unpack into a folder of our own; what an earlier call left there is removed."""
    base = project / CLAUDE_DIR
    aside = base / _ASIDE
    with changing("unpack", aside):
        if look(aside) is not None:
            shutil.rmtree(aside)
        aside.mkdir(mode=0o700)
        unpack(archive, aside)
        for entry in manifest.entries:
            if entry.folder:
                sync_folder(aside / entry.path)
        sync_folder(aside)


def _place(project: Path, manifest: Manifest) -> None:
    """Move what was unpacked to its place; of an earlier call's work, what is left."""
    base = project / CLAUDE_DIR
    aside = base / _ASIDE
    with changing("restore", base):
        behind = [path for root in ROOTS for path in merge(aside / root, base / root)]
        if behind:
            name = behind[0].relative_to(aside)
            raise ReplicaError(
                f"{base / name} came in the way",
                hint="Move it away, and give the same command again.",
            )
        if look(aside) is not None:
            aside.rmdir()
        dress_folders(base, manifest)
        sync_folder(base)


def _restore_tables(project: Path, archive: Path) -> None:
    """Bring back what the archive holds of our tables, where there is a database to hold it.

    In a database that was made anew since, nothing is known, and a first sync takes in the files.
    """
    path = database_of(project)
    if not path.exists():
        return
    with Store.open(path, create=False) as store:
        if tables.is_ready(store.connection):
            return
        with tables_of(archive) as lines:
            dump.read_tables(store, lines)
        with FileReplica(project) as files, store.writing():
            found = {folder: files.folder_state(folder).identity for folder in FOLDERS}
            store.set_state("folders", {name: list(one) for name, one in found.items() if one})
