"""What concerns the machine as a whole: SQLite, file events, the clock, the user's settings."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from syncd import config
from syncd.checkup.check import Check, Verdict, good, made, note, warning
from syncd.checkup.disk import journal_mode
from syncd.errors import ConfigError
from syncd.files.syscalls import watched_inodes
from syncd.names import CLAUDE_DIR, session_registry
from syncd.shell import quoted

_INOTIFY = Path("/proc/sys/fs/inotify")
_PLENTY = 524_288
_NEARLY = 0.8
_NOT_BEFORE = datetime(2026, 1, 1, tzinfo=UTC)


def machine_checks(projects: Iterable[Path], *, agent_works: bool) -> list[Check]:
    """Make the checks that no single project is about; ``projects`` are those to be watched."""
    checks = [
        sqlite_version(sqlite3.sqlite_version_info),
        made("inotify", lambda: examine_inotify(projects, agent_works=agent_works)),
        clock(datetime.now(UTC)),
        settings(None),
    ]
    registry = session_registry()
    if registry.is_file():
        checks.append(made("registry", lambda: _registry(registry), registry))
    return checks


def sqlite_version(version: tuple[int, ...]) -> Check:
    """Tell whether this SQLite has the WAL-reset race (sqlite.org/wal.html#walresetbug)."""
    text = ".".join(map(str, version))
    is_backport = (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    if version >= (3, 51, 3) or is_backport:
        return good("sqlite", f"SQLite {text} is without the WAL-reset race")
    return note(
        "sqlite",
        f"SQLite {text} has the WAL-reset race: very rarely, two programs that checkpoint at the "
        "same time damage a database; syncd never forces a checkpoint",
        "Use a Python with SQLite 3.51.3 or newer (or 3.50.7, or 3.44.6), in all programs that "
        "open the databases.",
    )


@dataclass(frozen=True, slots=True)
class Inotify:
    """A number of inotify watches and instances: the limits of a user, or what is in use."""

    watches: int
    instances: int


def examine_inotify(projects: Iterable[Path], *, agent_works: bool) -> Check:
    """Compare this machine's limits with what is watched, and (no agent yet) what would be."""
    try:
        limits = Inotify(
            int((_INOTIFY / "max_user_watches").read_text()),
            int((_INOTIFY / "max_user_instances").read_text()),
        )
    except (FileNotFoundError, NotADirectoryError):
        return good("inotify", "this system has no such limits")
    needed = Inotify(0, 0) if agent_works else Inotify(sum(map(_count_folders, projects)), 1)
    return inotify(limits, _inotify_in_use(), needed)


def inotify(limits: Inotify, used: Inotify, needed: Inotify) -> Check:
    """Compare what is in use, and what an agent would need beside it, with the limits."""
    watches, instances = used.watches + needed.watches, used.instances + needed.instances
    found = (
        f"{used.watches:,} of {limits.watches:,} watches and {used.instances:,} of "
        f"{limits.instances:,} instances are in use"
    )
    if needed.instances:
        found += f"; an agent needs {needed.watches:,} more"
    for name, wanted, limit, plenty in (
        ("watches", watches, limits.watches, max(_PLENTY, 2 * watches)),
        ("instances", instances, limits.instances, max(1024, 2 * instances)),
    ):
        if wanted <= _NEARLY * limit:
            continue
        setting = f"fs.inotify.max_user_{name}"
        mend = (
            f"echo {setting}={plenty} | sudo tee /etc/sysctl.d/60-{setting}.conf "
            "&& sudo sysctl --system"
        )
        if wanted > limit:
            found += ": what gets none is polled, and noticed later"
            return warning("inotify", found, mend)
        return note("inotify", f"{found}: that is nearly all", mend)
    return good("inotify", found)


def _count_folders(project: Path) -> int:
    """Count the folders that are watched in a project: `.claude-mpm` and all below it."""
    return sum(1 for _ in os.walk(project / CLAUDE_DIR))


def _inotify_in_use() -> Inotify:
    """Count what this user's processes have, as far as the system shows them."""
    instances: list[set[int]] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == os.geteuid():
                instances += watched_inodes(process.name)
    return Inotify(sum(map(len, instances)), len(instances))


def clock(now: datetime) -> Check:
    """Tell whether the clock can be right at all: it is not before syncd was made."""
    if now >= _NOT_BEFORE:
        return good("clock", f"it is {now.isoformat(' ', 'seconds')}")
    return warning(
        "clock",
        f"the clock says {now.isoformat(' ', 'seconds')}, which is long past",
        "Set it: sudo timedatectl set-ntp true",
    )


def settings(project: Path | None) -> Check:
    """Tell whether the settings can be read, and those that are unwise."""
    try:
        found, origins = config.load_with_origins(project)
    except ConfigError as error:
        mend = error.hint or "See what there is: syncd config show"
        return Check("settings", Verdict.PROBLEM, error.sentence, mend, code=error.exit_code)
    unwise = {
        "gone_s": (found.gone_s < 0.5, "a save that deletes first looks like a delete"),
        "history_days": (found.history_days < 1, "what is replaced cannot be got back for long"),
        "full_compare_s": (found.full_compare_s > 86_400, "what no event told is found late"),
    }
    sources = {origin.name: origin.source for origin in origins}
    told = tuple(
        f"{name} = {getattr(found, name):g} ({sources[name]}): {why}"
        for name, (is_unwise, why) in unwise.items()
        if is_unwise
    )
    changed = sum(source != "default" for source in sources.values())
    number = f"{changed} of {len(sources)} settings are not the default"
    if told:
        mend = "Their meaning and where they come from: syncd config show"
        return note("settings", f"{number}; unwise among them", mend, told)
    return good("settings", number)


def _registry(path: Path) -> Check:
    mode = journal_mode(path)
    if mode == "wal":
        return good("registry", f"{path} is in WAL mode")
    return note(
        "registry",
        f"{path} is in journal mode {mode}: readers and writers wait for each other",
        f"sqlite3 {quoted(path)} 'PRAGMA journal_mode = WAL'",
    )


def seconds_ahead(moment: str, now: float | None = None) -> float:
    """Return how far an ISO 8601 time is ahead of the clock, in seconds; 0 where it is none.

    One without an offset counts as local time.
    """
    try:
        found = datetime.fromisoformat(moment)
        return max(0.0, found.timestamp() - (time.time() if now is None else now))
    except (ValueError, TypeError, OverflowError, OSError):
        return 0.0
