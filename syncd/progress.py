"""How far the migration is: who still changes files, who changes rows, and when last.

The figures are those of the journal, which has every step that a cycle took because of a client or
a person. What it cannot know is said and not guessed: a first sync and commands are nobody's
change, an edit that changes no field (a comment in a file) is in no journal, and a change bears
the time of the cycle that took it in, which is later than it was made when no agent ran.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from syncd.config import Config
from syncd.core.journal import JournalCount
from syncd.core.sides import Side
from syncd.cycle.found import is_no_message
from syncd.cycle.look import look_fully
from syncd.cycle.report import number_of
from syncd.cycle.retirement import retirement
from syncd.database.store import Store
from syncd.files.replica import FileReplica
from syncd.names import is_hidden


class Stage(StrEnum):
    """How far a project is."""

    FILES = "files"  # clients changed files lately
    SQL_ONLY = "sql-only"  # for long enough, all that changed was changed by SQL
    QUIET = "quiet"  # for as long, nothing was changed at all
    TOO_EARLY = "too-early"  # no file was changed, but the journal does not reach far enough back
    NEVER_SYNCED = "never-synced"
    RETIRED = "retired"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Window:
    """The days that are told apart, the last of them that of ``now``, and the days that a project
    has to be SQL-only to be ready. Days are local ones."""

    now: datetime
    days: int
    ready_after: int

    @property
    def dates(self) -> list[date]:
        today = self.now.astimezone().date()
        return [today - timedelta(days=back) for back in range(self.days - 1, -1, -1)]

    @property
    def first_moment(self) -> str:
        """Return where the first day begins, as the journal writes times."""
        first = self.dates[0]
        return datetime(first.year, first.month, first.day).astimezone(UTC).isoformat()

    @property
    def horizon(self) -> str:
        """Return the time since when a project that is ready has been SQL-only."""
        return (self.now.astimezone(UTC) - timedelta(days=self.ready_after)).isoformat()

    def is_late(self, writer: Writer) -> bool:
        """Tell whether an agent still changes files, which stands in the way of being ready."""
        return writer.last.get(Side.FILE, "") >= self.horizon


@dataclass(frozen=True, slots=True)
class Change:
    """A client's or person's change: when, of which message, and whose it was as far as known."""

    at: str
    id: str | None
    agent: str | None
    project: str | None


@dataclass(slots=True)
class Writer:
    """An agent of a project: how often it changed either side in the window, and when last."""

    agent: str
    project: str
    counts: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    last: dict[Side, str] = field(default_factory=dict)


@dataclass(slots=True)
class Figures:
    """Changes by origin: per day of the window, the last of each, and by agent.

    A step of a conflict, or of a change against a delete, counts for both origins: somebody
    changed either side.
    """

    days: dict[str, dict[Side, int]]
    last: dict[Side, Change] = field(default_factory=dict)
    writers: dict[tuple[str, str], Writer] = field(default_factory=dict)

    @classmethod
    def empty(cls, window: Window) -> Figures:
        return cls({day.isoformat(): dict.fromkeys(Side, 0) for day in window.dates})

    def count(self, found: JournalCount) -> None:
        """Count entries of the journal that are alike."""
        for origin in found.origins:
            self._take(origin, Change(found.last_at, found.last_id, found.agent, found.project))
            in_window = found.day in self.days
            if found.day is not None and in_window:
                self.days[found.day][origin] += found.number
            if found.agent is not None and found.project is not None:
                writer = self._writer(found.agent, found.project)
                writer.counts[origin] += found.number if in_window else 0
                writer.last[origin] = max(writer.last.get(origin, ""), found.last_at)

    def add(self, other: Figures) -> None:
        """Add the figures of another project, over the same window."""
        for day, counts in other.days.items():
            for origin, number in counts.items():
                self.days[day][origin] += number
        for origin, change in other.last.items():
            self._take(origin, change)
        for one in other.writers.values():
            writer = self._writer(one.agent, one.project)
            for origin, number in one.counts.items():
                writer.counts[origin] += number
            for origin, at in one.last.items():
                writer.last[origin] = max(writer.last.get(origin, ""), at)

    def total(self, origin: Side) -> int:
        return sum(counts[origin] for counts in self.days.values())

    def series(self, origin: Side) -> list[int]:
        """Return the number of changes of each day, the first day first."""
        return [counts[origin] for counts in self.days.values()]

    def last_at(self, origin: Side) -> str | None:
        return self.last[origin].at if origin in self.last else None

    def by_last_file(self) -> list[Writer]:
        """Return the agents, those that changed a file most lately first."""
        return sorted(
            self.writers.values(),
            key=lambda one: (one.last.get(Side.FILE, ""), one.last.get(Side.DB, "")),
            reverse=True,
        )

    def _take(self, origin: Side, change: Change) -> None:
        known = self.last.get(origin)
        if known is None or change.at > known.at:
            self.last[origin] = change

    def _writer(self, agent: str, project: str) -> Writer:
        return self.writers.setdefault((agent, project), Writer(agent, project))


@dataclass(slots=True)
class Progress:
    """How far one project is. ``since`` is from when on its journal is whole.

    ``reasons`` say why it is not ready although no file changes, or why that cannot be told.
    The files themselves are looked at only where the journal knows of no change.
    """

    project: Path
    figures: Figures
    stage: Stage = Stage.ERROR
    since: str | None = None
    reasons: list[str] = field(default_factory=list)
    error: str | None = None
    hint: str = ""

    @property
    def is_ready(self) -> bool:
        """Tell whether the project can be retired as far as a report can tell."""
        return self.stage is Stage.SQL_ONLY and not self.reasons

    def days_without_files(self, window: Window) -> int | None:
        """Return for how many whole days no file has changed; None when that is not known."""
        start = max(self.figures.last_at(Side.FILE) or "", self.since or "")
        try:
            return max(0, (window.now - datetime.fromisoformat(start)).days)
        except (ValueError, TypeError):
            return None


@dataclass(slots=True)
class Survey:
    """The progress of several projects over one window, and their figures together."""

    window: Window
    projects: list[Progress]
    total: Figures

    @classmethod
    def of(cls, window: Window, projects: list[Progress]) -> Survey:
        total = Figures.empty(window)
        for one in projects:
            total.add(one.figures)
        return cls(window, projects, total)

    @property
    def ready(self) -> list[Progress]:
        return [one for one in self.projects if one.is_ready]

    @property
    def file_writers(self) -> list[Writer]:
        """Return the agents that changed files lately, the latest first."""
        return [one for one in self.total.by_last_file() if self.window.is_late(one)]

    def stages(self) -> dict[Stage, int]:
        """Return how many projects are at each stage."""
        found = Counter(one.stage for one in self.projects)
        return {stage: found[stage] for stage in Stage}

    def active_projects(self, origin: Side) -> list[int]:
        """Return of each day in how many projects something was changed from this origin."""
        series = [one.figures.series(origin) for one in self.projects]
        return [sum(map(bool, day)) for day in zip(*series, strict=True)] or [0] * self.window.days


def progress_of(project: Path, store: Store, window: Window, config: Config) -> Progress:
    """Return how far a project is. Reads its database, and looks at its files where the
    journal knows of no change in them."""
    result = Progress(project, Figures.empty(window))
    known = retirement(project)
    if known is not None:
        result.stage, result.reasons = Stage.RETIRED, [f"since {known.at[:10]}"]
        return result
    with store.reading():
        for found in store.chronicle.journal_counts(window.first_moment):
            result.figures.count(found)
        result.since = store.chronicle.journal_since()
        result.stage = _stage(result, window, is_new=not store.was_synced())
        obstacles = list(_obstacles(store))
    if result.stage is Stage.TOO_EARLY:
        result.reasons = [_too_early(result, window, config)]
    elif result.stage is Stage.SQL_ONLY:
        result.reasons = [*obstacles, *_untaken(project, store, config)]
    elif result.stage is Stage.QUIET:
        result.reasons = list(_untaken(project, store, config))
    return result


def _stage(found: Progress, window: Window, *, is_new: bool) -> Stage:
    last_file, last_row = (found.figures.last_at(origin) for origin in (Side.FILE, Side.DB))
    if is_new:
        return Stage.NEVER_SYNCED
    if last_file is not None and last_file >= window.horizon:
        return Stage.FILES
    if found.since is None or found.since > window.horizon:
        return Stage.TOO_EARLY
    if last_row is not None and last_row >= window.horizon:
        return Stage.SQL_ONLY
    return Stage.QUIET


def _too_early(found: Progress, window: Window, config: Config) -> str:
    if found.since is None:
        return "the journal is empty"
    if config.journal_days < window.ready_after:
        return (
            f"the journal is kept for {config.journal_days:g} days (journal_days), so "
            f"{window.ready_after} days cannot be told"
        )
    try:
        start = datetime.fromisoformat(found.since).astimezone()
        end = start + timedelta(days=window.ready_after)
    except (ValueError, OverflowError):
        return f"the journal's first time, {found.since!r}, is none"
    return (
        f"the journal begins on {start.date()}: {window.ready_after} days can be told from "
        f"{end.date()} on"
    )


def _obstacles(store: Store) -> Iterator[str]:
    """Yield what a person has to decide before the files can go."""
    if store.halt() is not None:
        yield "it is halted"
    conflicts, odd = len(store.chronicle.conflicts()), len(store.chronicle.quarantine())
    if conflicts:
        yield f"it has {number_of(conflicts, 'open conflict')}"
    if odd:
        yield f"{odd:,} {'are' if odd > 1 else 'is'} quarantined"


def _untaken(project: Path, store: Store, config: Config) -> Iterator[str]:
    """Yield what has changed since the last cycle, of which the journal cannot know."""
    with FileReplica(project, max_bytes=config.max_bytes) as files:
        look = look_fully(store, files)
        hidden = {path for path in look.paths if is_hidden(path) and is_no_message(files, path)}
    quarantine = store.chronicle.quarantine()
    paths = {*look.paths, *look.vanished.values()} - quarantine.keys() - hidden
    ids = look.ids - {entry.id for entry in quarantine.values()}
    numbers = ((len(paths), "file"), (len(ids), "row"))
    words = [number_of(number, noun) for number, noun in numbers if number]
    if words:
        yield f"not in step: {' and '.join(words)} changed since the last cycle"
