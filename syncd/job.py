"""One project of the agent: what is to be looked at and when, and its cycles.

A job collects wakes while its cycle runs, hands them to the next one together, and arranges for
what a cycle left for later: second looks, retries, the next full compare.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from syncd.config import Config
from syncd.cycle import Orders
from syncd.errors import SyncdError
from syncd.names import CLAUDE_DIR
from syncd.project import note_retirement, run_pass
from syncd.report import Report, State
from syncd.store import DATABASE, Store
from syncd.wakes import Kind, Wake

log = logging.getLogger("syncd.agent")

LONGEST_RETRY_S = 30.0
_HALT_LOOK_S = 5.0
_SHORTEST_REST_S = 1.0
_LISTEN_S = 5.0
_COMMIT_S = (0.0001,) * 15
_DEFECT_HINT = "The agent's log has the whole of it; the project is tried again by itself."


@dataclass(slots=True)
class Job:
    """One project: what is to be looked at, when, and the open database.

    Times are of the monotonic clock; ``planned`` is when the agent comes to it next. ``lock``
    guards all but ``store`` and ``is_new``, which only the thread that claimed the project touches
    (``running``).
    """

    project: Path
    config: Config
    folder: str = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)
    paths: set[str] = field(default_factory=set)
    quiet_at: dict[str, float] = field(default_factory=dict)
    vanished: dict[str, float] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    bell: bool = False
    listen_until: float = 0.0
    listened: int = 0
    is_listening: bool = False
    only_listening: bool = False
    full: bool = True
    due: float | None = None
    again_at: float | None = None
    is_again: bool = False
    full_due: float = 0.0
    running: bool = False
    started: float = 0.0
    retries: int = 0
    rest_until: float = 0.0
    database_gone_at: float | None = None
    polled: bool = False
    periodic: bool = False
    is_deaf: bool = False
    is_retired: bool = False
    identity: tuple[int, int] | None = None
    is_new: bool = True
    store: Store | None = None
    versions: tuple[int, int] | None = None
    closed_as: tuple[object, ...] = ()
    used: float = 0.0
    last_state: str = ""
    compared: str = ""
    trouble: tuple[str, str] | None = None
    planned: float = math.inf

    def __post_init__(self) -> None:
        self.folder = str(self.project / CLAUDE_DIR)

    def claim(self) -> bool:
        """Take the project for one thread, as a cycle does; tell whether it was free."""
        with self.lock:
            if self.running:
                return False
            self.running = True
            self.started = time.monotonic()
            return True

    def release(self) -> None:
        """Give back what was claimed."""
        with self.lock:
            self.running = False

    def next_due(self, now: float) -> float | None:
        """Return when there is something to do; None when nothing is known to come."""
        with self.lock:
            if now < self.rest_until:
                return self.rest_until
            times = [*self.quiet_at.values()]
            if self.vanished:
                times.append(self._gone_due())
            if self.due is not None:
                times.append(self.due)
            if self.again_at is not None:
                times.append(self.again_at)
            if self.full_due:
                times.append(self.full_due)
            if self.full or self.bell or self.paths:
                times.append(now)
            return min(times, default=None)

    def _gone_due(self) -> float:
        # Deletions are taken together: the guard must see all of an `rm` at once.
        wait = self.config.gone_s
        return min(max(self.vanished.values()) + wait, min(self.vanished.values()) + 5 * wait)

    def take(self, now: float) -> Orders | None:
        """Return the orders for the next cycle and clear what they cover; None for nothing."""
        with self.lock:
            if now < self.rest_until:
                return None
            paths, gone = set(self.paths), frozenset[str]()
            self.paths.clear()
            for path, due in list(self.quiet_at.items()):
                if due <= now:
                    del self.quiet_at[path]
                    paths.add(path)
            if self.vanished and self._gone_due() <= now:
                gone = frozenset(self.vanished)
                self.vanished.clear()
            full = self.full or (self.full_due != 0 and self.full_due <= now)
            due = self.due is not None and self.due <= now
            self.is_again = self.again_at is not None and self.again_at <= now
            if not (paths or gone or full or self.bell or due or self.is_again):
                return None
            # A full compare that no wake asked for must find nothing that a wake would have told.
            self.periodic = full and not (self.full or self.bell or paths or gone or self.polled)
            self.only_listening = due and self.is_listening and not (paths or gone or self.bell)
            self.bell = self.full = False
            if due:
                self.due = None
            if self.is_again:
                self.again_at = None
            if full:
                return Orders(gone=gone, fresh=frozenset(self.fresh), wait=False)
            paths |= {path for path in gone if not path.startswith(DATABASE)}
            return Orders(paths=frozenset(paths), gone=gone, wait=False)

    def has_work(self, now: float) -> bool:
        """Tell whether wakes came that the next cycle can take at once."""
        with self.lock:
            return now >= self.rest_until and bool(self.paths or self.bell or self.full)

    def hear(self, wake: Wake) -> float | None:
        """Note a wake; return when it is due, None for at once.

        While a project rests after an error, a change to a file shortens the rest; the bell does
        not, since every try to open a database may ring it.
        """
        with self.lock:
            if wake.path:
                self.rest_until = min(self.rest_until, time.monotonic() + _SHORTEST_REST_S)
            match wake.kind:
                case Kind.CLOSED:
                    self.paths.add(wake.path)
                    self.quiet_at.pop(wake.path, None)
                    self.vanished.pop(wake.path, None)
                case Kind.TOUCHED:
                    self.vanished.pop(wake.path, None)
                    if wake.path in self.paths:
                        return math.inf
                    due = time.monotonic() + self.config.quiet_s
                    self.quiet_at[wake.path] = due
                    return due
                case Kind.GONE:
                    self.vanished.setdefault(wake.path, time.monotonic())
                    return self._gone_due()
                case Kind.KEPT:
                    self.vanished.pop(wake.path, None)
                    return math.inf
                case Kind.BELL:
                    self.bell = True
                    self.listen_until = time.monotonic() + _LISTEN_S
                    self.listened = 0
                case Kind.RELEASED:
                    self.bell = self.bell or self.store is not None
                case Kind.FULL:
                    # A folder came or went. If its files are there again, no event tells so: what
                    # was gone with it must not count as the first look at another absence.
                    self.vanished.clear()
                    self.full = True
            return None

    def close(self) -> None:
        """Close the database, if it is open."""
        # RACE: closing rings the bell, which nobody is to hear as a reason to open it again.
        store, self.store = self.store, None
        if store is not None:
            store.close()
            self.closed_as = self._database_as_it_is()

    def _database_as_it_is(self) -> tuple[object, ...]:
        """Return what tells the database's files from what they were before a write."""
        return tuple(_state_of(f"{self.folder}/{DATABASE}{suffix}") for suffix in ("", "-wal"))

    def listen_on(self) -> None:
        """Arrange to look for news once more, and later again.

        RACE: the event comes when a commit is written to the -wal, and others see it only when it
        is synced and entered in the shared memory, of which no event tells. If that was while we
        closed the database, the last look finds it, which opens it in any case.
        """
        now = time.monotonic()
        with self.lock:
            if now < self.listen_until:
                self.due = now + min(0.001 * 2**self.listened, 0.25)
                self.listened += 1
                self.is_listening = True
            elif self.is_listening:
                self.is_listening = False
                if self.store is None:
                    self.due = now

    def _await_news(self, store: Store, schema: int) -> bool:
        """Wait for a commit of which the bell told, but not long; tell whether one came.

        A commit is a matter of a millisecond after its bell. To leave it to the main thread to come
        back then would take longer. One that changes the schema, or comes with another database,
        is for a cycle over all.
        """
        came = self.has_news()
        for pause in _COMMIT_S:
            if came or self.paths or self.full:
                break
            time.sleep(pause)
            came = self.has_news()
        if not came:
            return False
        if store.is_current() and store.schema_version() == schema:
            return True
        with self.lock:
            self.full = True
        return False

    def has_news(self) -> bool:
        """Tell whether anybody else committed since our last cycle (our own commits ring too)."""
        if self.versions is None:
            return True
        if self.store is None:
            # While it only listens on, it is not opened again for what can be told without that.
            return not self.only_listening or self.closed_as != self._database_as_it_is()
        if not self.store.is_current():
            return True
        try:
            return self.versions != (self.store.data_version(), self.store.schema_version())
        except SyncdError:
            return True

    def cycle(self, orders: Orders) -> Report | None:
        """Run one cycle, in full where the database is another than before; report, never raise.

        None where only a commit was a reason for it, and there was none.
        """
        is_early = False
        has_reason = orders.paths is None or orders.paths or orders.gone or self.is_again
        if not has_reason:
            # A commit is heard of before it can be seen. All is made ready meanwhile.
            is_early = self.listened == 0 and self.store is not None and self.versions is not None
            if not is_early and not self.has_news():
                return None
        used, self.used = self.used, time.monotonic()
        report = Report(str(self.project))
        if self.store is None and self._is_retired(report):  # else it is seen to below
            return report
        if self.is_retired:
            self.is_retired = False
            orders = Orders(gone=orders.gone, wait=False)
        if self._database_is_just_gone():
            self.full_due = time.monotonic() + self.config.gone_s
            return report
        try:
            if self.store is not None and not self.store.is_current():
                self.close()
                orders = orders._replace(paths=None)
            if self.store is None:
                self.store = Store.open(self.project / CLAUDE_DIR / DATABASE)
            store, schema = self.store, self.store.schema_version()
            if self.versions is not None and self.versions[1] != schema:
                orders = orders._replace(paths=None)
            # Read before the look: a commit during the cycle must count as news afterwards.
            data = store.data_version()
            if is_early and orders.paths is not None:
                came = False

                def has_news() -> bool:
                    nonlocal data, came
                    came = self._await_news(store, schema)
                    data = store.data_version()
                    return came

                hasty = self.config._replace(busy_wait_s=0.0)
                report = run_pass(self.project, hasty, orders, store=store, has_news=has_news)
                if not came and (report.error is None or report.busy):
                    self.used = used
                    return None
            else:
                report = run_pass(self.project, self.config, orders, store=store)
            if self._is_retired(report):
                return report
            self.versions = (data, store.schema_version())
        except SyncdError as error:
            report.note_error(error)
        if orders.paths is None and report.error is None:
            self.compared = datetime.now(UTC).isoformat(timespec="seconds")
            jitter = random.uniform(0.9, 1.1)
            self.full_due = time.monotonic() + self.config.full_compare_s * jitter
        return report

    def _is_retired(self, report: Report) -> bool:
        """Tell whether the project is retired: then not even its database is opened."""
        try:
            if note_retirement(self.project, report) is None:
                return False
        except SyncdError as error:
            report.note_error(error)
        self.close()
        self.versions = None
        self.is_retired = True
        self.full_due = time.monotonic() + self.config.full_compare_s
        return True

    def _database_is_just_gone(self) -> bool:
        """Tell whether the database vanished so lately that it may be on its way back.

        Nor is a new one made in a folder that somebody is about to remove.
        """
        known = self.versions is not None or self.database_gone_at is not None
        if not known or os.path.exists(f"{self.folder}/{DATABASE}"):
            self.database_gone_at = None
            return False
        self.close()
        now = time.monotonic()
        if self.database_gone_at is None:
            self.database_gone_at = now
        return now - self.database_gone_at < self.config.gone_s

    def heed(self, orders: Orders, report: Report) -> None:
        """Log what a cycle did, and arrange for what it left for later."""
        now = time.monotonic()
        if report.counts.changes():
            log.info("%s: %s", self.project, report.counts)
        self._log_state(orders, report)
        with self.lock:
            if orders.paths is None:
                stood = {path for path, since in self.vanished.items() if since < self.used}
                for path in stood - report.vanished:
                    del self.vanished[path]
            for path in report.vanished:
                self.vanished.setdefault(path, now)
            if report.error is None and report.halt is None:
                self.fresh -= orders.fresh
            self.fresh |= report.fresh
            if report.error is not None:
                self.close()
                self.versions = None
                self.retries = min(self.retries + 1, 10)
                self.rest_until = now + min(0.5 * 2**self.retries, LONGEST_RETRY_S)
                self.full = True
                return
            if self.trouble is not None and orders.paths is not None:
                return
            self.is_deaf = self.periodic and report.counts.changes() > 0
            if report.unsettled:
                self.retries = min(self.retries + 1, 10)
                later = now + min(0.05 * 2**self.retries, 1.0)
                for path in report.unsettled:
                    if "#" in path and path.startswith(DATABASE):
                        self.again_at = later
                    else:
                        self.quiet_at.setdefault(path, later)
            else:
                self.retries = 0
            if report.halt is not None:
                self.full_due = now + _HALT_LOOK_S
            for path in report.late:
                self.quiet_at[path] = now + 0.05
            if self.polled:
                self.full_due = now + self.config.poll_s

    def note_defect(self) -> None:
        """Have all compared after a while: what the cycle that failed was to do is not known."""
        self.versions = None
        self.close()
        with self.lock:
            self.full, self.full_due = True, 0.0
            self.rest_until = time.monotonic() + LONGEST_RETRY_S
            self.last_state = "defect"
            self.trouble = ("a cycle ended with a defect of syncd", _DEFECT_HINT)

    def _log_state(self, orders: Orders, report: Report) -> None:
        if self.trouble is not None and report.error is None and orders.paths is not None:
            return  # an error stands until a full cycle went well
        state = f"{report.state}:{report.error}:{report.halt and report.halt.cause}"
        if state == self.last_state:
            return
        self.last_state = state
        self.trouble = (report.error, report.hint) if report.error is not None else None
        if report.state is State.ERROR:
            log.error("%s: %s %s", self.project, report.error, report.hint)
        elif report.halt is not None:
            ways = " ".join(report.halt.ways_out(str(self.project)))
            log.error("%s: halted: %s. %s", self.project, report.halt.cause, ways)
        elif report.retired is not None:
            log.info("%s: retired on %s: it is left alone", self.project, report.retired.at)
            for path in report.left:
                log.warning("%s: %s stands there all the same", self.project, path)
        for entry in report.quarantined:
            log.warning(
                "%s: %s:%s: %s",
                self.project,
                entry.path,
                entry.problem.line or 1,
                entry.problem.reason,
            )


def _state_of(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
