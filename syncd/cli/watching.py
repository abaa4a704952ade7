"""``syncd status --watch``: how projects stand, again and again, and what is done to them.

On a terminal one frame is redrawn; elsewhere there is a line for each change. Only databases and
heartbeats are looked at, and a project's database only when it was written to: many projects that
rest cost a few system calls a second each.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from syncd.agent.heartbeat import AgentInfo, agent_for, agents
from syncd.cli import output
from syncd.cli.findings import by_local_clock
from syncd.cli.log import line_of
from syncd.cli.projects import chosen_projects, worst
from syncd.cli.status import Status, look, print_status
from syncd.core.journal import JournalEntry
from syncd.cycle.retirement import MARKER
from syncd.database.store import Store
from syncd.errors import ExitCode, UsageError
from syncd.names import DATABASE, database_of

EVERY_S = 1.0
MINUTES = 10
_LOOK_AGAIN_S = 60.0
_SEARCH_S = 15.0
_SAME_TICK_NS = 50_000_000
_FIRST, _MOST = 50, 5_000

Mark = tuple[object, ...]


class Watched:
    """One project: how it stood at the last look, and how much was done to it lately."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.path = database_of(project)
        self.status: Status | None = None
        self.news: list[JournalEntry] = []
        self._per_minute: Counter[int] = Counter()
        self._mark: Mark | None = None
        self._looked = -_LOOK_AGAIN_S
        self._inode = 0
        self._seq: int | None = None
        self._until = ""

    def refresh(self, running: list[AgentInfo]) -> None:
        """Look again where there is a reason to; ``news`` is then what was done since."""
        self.news = []
        agent = agent_for(self.project, running)
        mark = self._mark_now(agent)
        now = time.monotonic()
        is_due = now - self._looked >= _LOOK_AGAIN_S
        if self.status is None or mark is None or mark != self._mark or is_due:
            self.status = look(self.project, running, self._read_journal)
            self._looked = now
            self._mark = mark if self.status.found.error is None else None
        else:
            self.status.agent = agent

    def per_minute(self) -> list[int]:
        """Return how many changes there were in each of the last minutes, this one last."""
        this = int(time.time() // 60)
        for minute in [minute for minute in self._per_minute if minute <= this - MINUTES]:
            del self._per_minute[minute]
        return [self._per_minute[minute] for minute in range(this - MINUTES + 1, this + 1)]

    def _mark_now(self, agent: AgentInfo | None) -> Mark | None:
        """Return what changes when the project does; None when it may change unseen."""
        marks: list[object] = []
        latest = 0
        for name in (DATABASE, f"{DATABASE}-wal", MARKER):
            with suppress(OSError):
                found = os.stat(self.path.with_name(name))
                marks.append((name, found.st_ino, found.st_mtime_ns, found.st_size))
                latest = max(latest, found.st_mtime_ns)
        if time.time_ns() - latest < _SAME_TICK_NS:
            return None  # RACE: another write in this tick of the clock would leave no trace
        if agent is not None:
            marks += (agent.pid, agent.state, agent.troubles.get(str(self.project)))
        return tuple(marks)

    def _read_journal(self, store: Store) -> None:
        inode = store.identity[1] if store.identity else 0
        if self._seq is None:
            found = store.chronicle.journal(last=_FIRST)
            earliest = time.time() - MINUTES * 60
            first = by_local_clock(found[0].at) if len(found) == _FIRST else None
            if first is not None and first.timestamp() > earliest:
                found = store.chronicle.journal(last=_MOST)
            entries: Iterable[JournalEntry] = found
            self._seq = 0
        else:
            if inode != self._inode:  # another database stands there now
                self._seq = store.chronicle.last_entry_until(self._until)
            entries = store.chronicle.each_entry(after=self._seq)
        self._inode = inode
        for entry in entries:
            self._seq = entry.seq
            self._until = max(self._until, str(entry.at))
            self.news.append(entry)
            moment = by_local_clock(entry.at)
            if moment is not None and entry.side is not None:
                self._per_minute[int(moment.timestamp() // 60)] += 1


class Watch:
    """All projects that are watched, those that come later too."""

    def __init__(self, projects: list[Path], paths: list[Path] | None, *, recursive: bool) -> None:
        self.of = {project: Watched(project) for project in projects}
        self.latest: deque[tuple[Path, JournalEntry]] = deque(maxlen=20)
        self.running: list[AgentInfo] = []
        self._paths = paths
        self._recursive = recursive
        self._next_search = time.monotonic() + _SEARCH_S

    def refresh(self) -> None:
        if self._recursive and time.monotonic() >= self._next_search:
            self._search()
        self.running = agents()
        news = []
        for project, watched in list(self.of.items()):
            watched.refresh(self.running)
            news += [(project, entry) for entry in watched.news]
        # Each project's own order is right; among projects, their clocks are one.
        self.latest.extend(sorted(news, key=lambda one: str(one[1].at)))

    def _search(self) -> None:
        started = time.monotonic()
        with suppress(UsageError, OSError):
            found = chosen_projects(self._paths, recursive=True)
            self.of = {project: self.of.get(project) or Watched(project) for project in found}
        took = time.monotonic() - started
        self._next_search = time.monotonic() + max(_SEARCH_S, 100 * took)

    def statuses(self) -> list[Status]:
        return [watched.status for watched in self.of.values() if watched.status is not None]

    def code(self) -> ExitCode:
        return worst(status.code for status in self.statuses())


def go_on(projects: list[Path], paths: list[Path] | None, *, recursive: bool) -> int:
    """Show how projects stand until interrupted; return the exit code of how they stood last."""
    watch = Watch(projects, paths, recursive=recursive)
    with suppress(ValueError):  # only a main thread may; elsewhere nobody needs it
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):  # the way to end it
        if output.on_terminal(sys.stdout):
            from syncd.cli.frames import redraw

            redraw(watch)
        else:
            _print_changes(watch)
    return watch.code()


def _print_changes(watch: Watch) -> None:
    told: dict[Path, tuple[object, ...]] = {}
    is_first = True
    while True:
        watch.refresh()
        for project, watched in watch.of.items():
            if not is_first:
                for entry in watched.news:
                    output.say(*line_of(entry, str(project)))
            status = watched.status
            if status is not None and told.get(project) != (known := _standing(status)):
                told[project] = known
                print_status(status)
        is_first = False
        sys.stdout.flush()
        output.pause(EVERY_S)


def _standing(status: Status) -> tuple[object, ...]:
    """Return what makes a project's standing another one, without what only counts or ticks."""
    found, agent = status.found, status.agent
    return (
        status.state,
        found.error,
        found.halt,
        tuple(entry.path for entry in found.quarantined),
        tuple((conflict.id, conflict.field) for conflict in found.conflicts),
        (agent.pid, agent.state) if agent else None,
    )
