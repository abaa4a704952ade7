"""One project of the agent: its cycles, and its database while that is open."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from syncd import config as settings
from syncd.agent.schedule import HALT_LOOK_S, LONGEST_RETRY_S, Occasion, Reason, Schedule
from syncd.agent.told import Told
from syncd.agent.wakes import Kind, Wake
from syncd.config import Config
from syncd.core.message import FOLDERS
from syncd.cycle.orders import Orders
from syncd.cycle.project import note_retirement, run_pass
from syncd.cycle.report import Report
from syncd.cycle.retirement import ROOTS
from syncd.cycle.seen import is_done, look_of_files
from syncd.database.database import state_of
from syncd.database.store import Store
from syncd.errors import ReplicaError, SyncdError
from syncd.files.snapshot import COARSE_TICK_S
from syncd.names import CLAUDE_DIR, DATABASE

Marks = list[tuple[int, int, int] | int | None]
"""Identity and time of each mailbox folder, or why it cannot be looked at."""

_COMMIT_S, _COMMIT_LOOKS = 0.0001, 15
_POLLING_SHARE = 0.5


@dataclass(slots=True)
class Job:
    """One project: its schedule, its open database, and what was ``told`` of it.

    ``planned`` is when the agent comes to it next. ``costs`` has what a look at each of the agent's
    projects that are polled takes of a processor, in seconds. All but these and ``running`` is for
    the thread that claimed the project; others only read whether the database is open, and the
    trouble. ``halted_as`` tells how the folders looked at a halt, which saves compares until
    ``halted_until``, ``polled_as`` how all files did when there was nothing to do. One that
    ``is_dropped`` is no project of the agent any more.
    """

    project: Path
    schedule: Schedule
    flags: Mapping[str, Any] = field(default_factory=dict)
    costs: dict[Path, float] = field(default_factory=dict)
    is_configured: bool = True
    folder: str = field(init=False)
    told: Told = field(init=False)
    running: bool = False
    started: float = 0.0
    database_gone_at: float | None = None
    is_retired: bool = False
    is_dropped: bool = False
    identity: tuple[int, int] | None = None
    is_new: bool = True
    store: Store | None = None
    versions: tuple[int, int | None] | None = None
    closed_as: tuple[object, ...] = ()
    used: float = 0.0
    worked: float = 0.0
    halted_as: Marks | None = None
    halted_until: float = 0.0
    polled_as: str | None = None
    compared: str = ""
    planned: float = math.inf
    _claiming: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.folder = str(self.project / CLAUDE_DIR)
        self.told = Told(str(self.project))

    @property
    def _database(self) -> str:
        return f"{self.folder}/{DATABASE}"

    @property
    def trouble(self) -> tuple[str, str] | None:
        """What keeps the project from being in step, and the way out."""
        return self.told.trouble

    @property
    def config(self) -> Config:
        return self.schedule.config

    def configure(self) -> None:
        """Read the project's settings; raises `ConfigError`, and they stay as they were then."""
        self.schedule.config = settings.load(self.project, flags=self.flags)
        self.is_configured = True

    def claim(self) -> bool:
        """Take the project for one thread, as a cycle does; tell whether it was to be had."""
        with self._claiming:
            if self.running or self.is_dropped:
                return False
            self.running = True
            self.started = time.monotonic()
            return True

    def next_due(self, now: float) -> float | None:
        """Return when there is something to do; None for nothing, and while it runs."""
        return None if self.running or self.is_dropped else self.schedule.next_due(now)

    def release(self) -> None:
        """Give back what was claimed."""
        with self._claiming:
            self.running = False

    def hear(self, wake: Wake) -> float | None:
        """Note a wake, from any thread; return when it is due, None for at once.

        While the project rests after an error, a change to a file or to the database is a reason to
        try again; the bell alone is none, as every try to open a database may ring it.
        """
        rings = wake.kind in (Kind.BELL, Kind.DATABASE_CAME)
        is_news = rings and self.store is None and self.closed_as != state_of(self._database)
        ends_rest = self.trouble is not None and (bool(wake.path) or is_news)
        if wake.kind is Kind.DATABASE_CAME and is_news and self.versions is not None:
            # What belongs to another database comes after it (`_make_way`).
            self.schedule.rest(self.config.gone_s)
        return self.schedule.hear(wake, is_open=self.store is not None, ends_rest=ends_rest)

    def listen_on(self) -> None:
        """Arrange to look for news once more, and later again."""
        self.schedule.listen_on(is_open=self.store is not None)

    def close(self) -> None:
        """Close the database, if it is open."""
        # RACE: closing rings the bell, which nobody is to hear as a reason to open it again.
        store, self.store = self.store, None
        if store is not None:
            store.close()
            self.closed_as = state_of(self._database)

    def _await_news(self, store: Store, schema: int) -> bool:
        """Wait for a commit of which the bell told, but not long; tell whether one came.

        A commit is a matter of a millisecond after its bell. To leave it to the main thread to come
        back then would take longer. One that changes the schema, or comes with another database,
        is for a cycle over all.
        """
        came = self.has_news()
        for _ in range(_COMMIT_LOOKS):
            if came or self.schedule.paths or self.schedule.full:
                break
            time.sleep(_COMMIT_S)
            came = self.has_news()
        if not came:
            return False
        if store.is_current() and store.schema_version() == schema:
            return True
        self.schedule.want_full()
        return False

    def has_news(self) -> bool:
        """Tell whether anybody else committed since our last cycle (our own commits ring too)."""
        if self.store is None or self.versions is None or not self.store.is_current():
            return True
        try:
            return self.versions != (self.store.data_version(), self.store.schema_version())
        except SyncdError:
            return True

    def has_reason(self, reason: Reason) -> bool:
        """Tell whether there is a reason for a cycle; what can be told without it opens nothing."""
        if reason is Reason.WORK:
            return True
        if reason is Reason.LISTENING and self.store is None and self.versions is not None:
            return self.closed_as != state_of(self._database)
        return self.has_news()

    def cycle(self, occasion: Occasion) -> Report | None:
        """Run one cycle, in full where the database is another than before; report, never raise.

        None where only a commit was a reason for it, and there was none, or where the database was
        replaced meanwhile: it is looked at anew.
        """
        # A commit is heard of before it can be seen. All is made ready meanwhile.
        self.worked = time.thread_time()
        if occasion.is_periodic and self._is_still_halted():
            self.schedule.want_full_in(HALT_LOOK_S)
            return None
        polled_as = self._look_of_polled(occasion)
        if polled_as is not None and polled_as == self.polled_as:
            self.schedule.note_compared()
            self._poll_again(is_look=True)
            return None
        is_early = occasion.reason is Reason.BELL and None not in (self.store, self.versions)
        if not is_early and not self.has_reason(occasion.reason):
            return None
        used, self.used = self.used, time.monotonic()
        report, orders = Report(str(self.project)), occasion.orders
        try:
            if not self.is_configured:
                self.configure()
            # Else the pass looks, with the project's lock held.
            if self.store is None and note_retirement(self.project, report) is not None:
                self._leave_alone()
                return report
            if self.is_retired:
                self.is_retired = False
                orders = Orders(gone=orders.gone, wait=False)
            if self._database_is_just_gone():
                return report
            if self.store is not None and not self.store.is_current():
                self._make_way()
                return None
            self._refuse_emptied()
            if self.store is None:
                self.store = self._opened()
            if self.store is None:
                return report
            done = self._pass(self.store, orders, is_early=is_early)
        except (SyncdError, OSError) as error:
            report.note_error(error)
            return report
        if done is None:
            self.used = used
        is_quiet = done is not None and is_done(done) and not done.counts.changes()
        self.polled_as = polled_as if is_quiet else None
        return done

    def _is_still_halted(self) -> bool:
        """Tell whether a compare would find what it found when the project was halted.

        Folders are known by their times. A compare of all that is gone takes seconds where that is
        much, and nobody may decide for days.
        """
        return (
            time.monotonic() < self.halted_until
            and self.halted_as == _marks(self.folder)
            and not self.has_reason(Reason.LISTENING)
        )

    def _look_of_polled(self, occasion: Occasion) -> str | None:
        """Return how the files look of a project that is polled, where its database is closed.

        To open that makes files in the project's folder, and many are not kept open. None where
        there is a reason to open it in any case, or a file was written too lately to tell.
        """
        orders = occasion.orders
        is_look = self.schedule.polled and occasion.is_periodic and self.store is None
        if not is_look or orders.gone or orders.fresh or self.has_reason(Reason.LISTENING):
            return None
        return look_of_files(self.project)

    def _opened(self) -> Store | None:
        """Open the database; None where one that is known vanished just now."""
        is_known = self.versions is not None and self.database_gone_at is None
        try:
            return Store.open(Path(self._database), create=not is_known)
        except SyncdError:
            if not (is_known and self._database_is_just_gone()):
                raise
            return None

    def _pass(self, store: Store, orders: Orders, *, is_early: bool) -> Report | None:
        """Run a pass with the open database; None where no commit came, or another database did.

        Where ``is_early``, nothing but the bell was heard, and a commit is waited for.
        """
        schema = store.schema_version()
        if self.versions is not None and self.versions[1] != schema:
            orders = orders._replace(paths=None)
        marks = _marks(self.folder) if orders.paths is None else None
        if is_early and orders.paths is not None:
            report, data = self._pass_at_bell(store, orders, schema)
            if report is None:
                return None
        else:
            # Read before the look: a commit during the cycle must count as news afterwards.
            data = store.data_version()
            report = run_pass(self.project, self.config, orders, store=store)
        if report.retired is not None:
            self._leave_alone()
            return report
        if report.error is not None and not store.is_current():
            self._make_way()
            return None
        # No event tells of what happened while the database was being opened, and no feed of a
        # table that was made anew before the triggers were. What came after is news.
        is_other = orders.paths is not None and store.ready_schema != schema
        if is_other or not store.is_current():
            self.schedule.want_full()
        self.versions = (data, store.ready_schema)
        self.halted_until = 0.0
        if report.halt is not None and marks is not None:
            self.halted_as = marks
            self.halted_until = time.monotonic() + self.config.full_compare_s
        if orders.paths is None and report.error is None:
            self.compared = datetime.now(UTC).isoformat(timespec="seconds")
            self.schedule.note_compared()
        return report

    def _pass_at_bell(self, store: Store, orders: Orders, schema: int) -> tuple[Report | None, int]:
        """Run a pass that awaits a commit once all is ready; None where none came.

        Returns also the ``data_version`` that it looked at.
        """
        data, came = store.data_version(), False

        def has_news() -> bool:
            nonlocal data, came
            came = self._await_news(store, schema)
            data = store.data_version()
            return came

        hasty = self.config._replace(busy_wait_s=0.0)
        report = run_pass(self.project, hasty, orders, store=store, has_news=has_news)
        has_come = came or (report.error is not None and not report.busy)
        return (report if has_come else None), data

    def _make_way(self) -> None:
        """Close a database in whose place another one is being put, which takes several steps.

        RACE: who opened it between them would make a -wal of the old one beside the new one, which
        SQLite then reads as its own, and that damages it.
        """
        self.close()
        self.schedule.rest(self.config.gone_s)

    def _leave_alone(self) -> None:
        """Close the database of a retired project, and come back in case that is undone."""
        self.close()
        self.versions = None
        self.is_retired = True
        self.schedule.want_full_in(self.config.full_compare_s)

    def _database_is_just_gone(self) -> bool:
        """Tell whether the database vanished so lately that it may be on its way back.

        Nor is a new one made in a folder that somebody is about to remove. It is come back to.
        """
        known = self.versions is not None or self.database_gone_at is not None
        if not known or os.path.exists(self._database):
            self.database_gone_at = None
            return False
        self.close()
        now = time.monotonic()
        if self.database_gone_at is None:
            self.database_gone_at = now
        if now - self.database_gone_at >= self.config.gone_s and os.path.lexists(self.folder):
            return False
        self.schedule.want_full_in(self.config.gone_s)
        return True

    def _refuse_emptied(self) -> None:
        """Raise `ReplicaError` where the database is gone and the mailboxes with it.

        That is what a place looks like at which nothing is mounted now. A database that is made
        there is in the way of nobody, but it says that there are no messages.
        """
        if self.database_gone_at is None or not os.path.isdir(self.folder):
            return
        if not any(os.path.lexists(f"{self.folder}/{root}") for root in ROOTS):
            raise ReplicaError(
                f"{self.folder} is empty: the database is gone, and the mailboxes with it",
                hint="Mount it again, or put back what was there; to begin anew, make a folder "
                "'inbox' in it.",
            )

    def heed(self, occasion: Occasion, report: Report) -> None:
        """Log what a cycle did, and arrange for what it left for later."""
        self.told.tell(occasion.orders, report)
        if report.hinders_all:
            self._give_up()
        self.schedule.heed(occasion, report, self.used)
        if self.schedule.polled and not report.hinders_all:
            self._poll_again(is_look=not report.counts.changes())

    def _poll_again(self, *, is_look: bool) -> None:
        """Arrange for the next look; with those at all other projects they leave time for more."""
        if is_look:
            self.costs[self.project] = time.thread_time() - self.worked
        round_s = sum(tuple(self.costs.values())) / _POLLING_SHARE
        self.schedule.want_full_within(max(self.config.poll_s, round_s))

    def note_defect(self) -> None:
        """Note that a cycle ended with a defect: all is to be compared after a while."""
        self._give_up()
        self.schedule.rest(LONGEST_RETRY_S)  # what the cycle that failed was to do is not known
        self.told.tell_of_defect()

    def _give_up(self) -> None:
        """Close the database, and forget what was seen of it; how it looks then tells news."""
        self.close()
        self.versions = None
        self.closed_as = state_of(self._database)


def _marks(folder: str) -> Marks | None:
    """Return what tells of each mailbox folder whether anything came, went or was let in there.

    None where that was so lately that its time may not show what comes next.
    """
    marks: Marks = []
    for name in FOLDERS:
        try:
            found = os.stat(f"{folder}/{name}", follow_symlinks=False)
        except OSError as error:
            marks.append(error.errno)
            continue
        if time.time() - found.st_ctime < COARSE_TICK_S:
            return None
        marks.append((found.st_dev, found.st_ino, found.st_ctime_ns))
    return marks
