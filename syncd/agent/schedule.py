"""When a project of the agent is to be looked at, and where: wakes in, orders for cycles out.

A schedule collects wakes while a cycle runs, hands them to the next one together, and arranges for
what a cycle left for later: second looks, retries, the next full compare.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from syncd.agent.wakes import Kind, Wake
from syncd.config import Config
from syncd.cycle.orders import Orders
from syncd.cycle.report import Report
from syncd.names import is_row_key

LONGEST_RETRY_S = 30.0
_BUSY_REST_S = 1.0
HALT_LOOK_S = 5.0
_SHORTEST_REST_S = 1.0
_LISTEN_S, _COMMIT_S = 5.0, 0.25
_LATE_S = 0.05
_LONGEST_LATE_S = 5.0


class Reason(Enum):
    """Why it is time for a cycle.

    There is ``WORK``: something is to be looked at. All else is about commits of others: the
    ``BELL`` has just told of one, which may not be seen yet; there may be ``NEWS``; or it is only
    ``LISTENING`` on, for which a closed database is not opened.
    """

    WORK = auto()
    BELL = auto()
    NEWS = auto()
    LISTENING = auto()


class Occasion(NamedTuple):
    """The orders for a cycle, and why it is time for one.

    One that ``is_periodic`` no wake asked for: what it finds, the watch is deaf to.
    """

    orders: Orders
    reason: Reason = Reason.WORK
    is_periodic: bool = False


@dataclass(slots=True)
class Schedule:
    """What is to be looked at, and when. Times are of the monotonic clock.

    ``paths`` are to be looked at now, ``quiet_at`` when nobody has written to them until then,
    ``vanished`` a second time (since when they are gone), ``fresh`` at the next full compare in any
    case. ``late`` has strays that somebody has open, and how long they are left to that. ``full``
    tells that all is to be compared now, and ``full_due`` when that is next (0: not at all).
    ``is_deaf`` tells that a compare found what the watch had not told of.

    ``bell`` tells that somebody may have committed; from then on, until ``listen_until``, it is
    looked for news again when that is ``due``, at longer and longer intervals (``listened`` times
    so far, and ``is_listening`` up to the last). Rows that a cycle left, and folders that went, are
    come back to at ``again_at``. After an error, and while another project may be on its way to its
    place, there is rest until ``rest_until``, longer after each of ``retries``. While files cannot
    be written, all is compared again, later after each of ``failures``. Where there are no file
    events, the project is ``polled``.

    ``lock`` guards all of it: wakes come from other threads than cycles.
    """

    config: Config
    lock: threading.Lock = field(default_factory=threading.Lock)
    paths: set[str] = field(default_factory=set)
    quiet_at: dict[str, float] = field(default_factory=dict)
    vanished: dict[str, float] = field(default_factory=dict)
    late: dict[str, float] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    bell: bool = False
    listen_until: float = 0.0
    listened: int = 0
    is_listening: bool = False
    full: bool = True
    due: float | None = None
    again_at: float | None = None
    full_due: float = 0.0
    retries: int = 0
    failures: int = 0
    rest_until: float = 0.0
    polled: bool = False
    is_deaf: bool = False

    # Wakes

    def hear(self, wake: Wake, *, is_open: bool, ends_rest: bool) -> float | None:
        """Note a wake; return when it is due, None for at once. The database may be open here.

        One that ``ends_rest`` has a project that rests after an error tried again soon.
        """
        with self.lock:
            if ends_rest:
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
                case Kind.BELL | Kind.DATABASE_CAME:
                    self.bell = True
                    self.listen_until = time.monotonic() + _LISTEN_S
                    self.listened = 0
                case Kind.RELEASED:
                    self.bell = self.bell or is_open
                case Kind.FOLDER_CAME | Kind.FOLDER_GONE:
                    # If a folder's files are there again, no event tells so: what was gone with it
                    # must not count as the first look at another absence.
                    self.vanished.clear()
                    if wake.kind is Kind.FOLDER_GONE:
                        # RACE: who removes a project must not find a -wal made meanwhile in what
                        # he has just emptied.
                        due = time.monotonic() + self.config.gone_s
                        self.again_at = min(self.again_at or due, due)
                        return self.again_at
                    self.full = True
                case Kind.FULL:
                    self.full = True
            return None

    def want_full(self) -> None:
        """Have all compared."""
        with self.lock:
            self.full = True

    def rest(self, seconds: float) -> None:
        """Have nothing looked at for a while, and then all compared."""
        with self.lock:
            self.rest_until = time.monotonic() + seconds
            self.full, self.full_due = True, 0.0

    def want_full_in(self, seconds: float) -> None:
        """Have all compared after a while, and not as late as was planned."""
        with self.lock:
            self.full_due = time.monotonic() + seconds

    def want_full_within(self, seconds: float) -> None:
        """Have all compared after a while, or as soon as was planned."""
        due = time.monotonic() + seconds
        with self.lock:
            self.full_due = min(self.full_due or due, due)

    def cancel(self) -> None:
        """Have nothing compared until somebody wants it."""
        with self.lock:
            self.full, self.full_due = False, 0.0

    def listen_on(self, *, is_open: bool) -> None:
        """Arrange to look for news once more, and later again.

        RACE: the event comes when a commit is written to the -wal, and others see it only when it
        is synced and entered in the shared memory, of which no event tells. If that was while we
        closed the database, the last look finds it, which opens it in any case.
        """
        now = time.monotonic()
        with self.lock:
            if now < self.listen_until:
                self.due = now + 0.001 * 2 ** min(self.listened, 8)
                self.listened += 1
                self.is_listening = True
            elif self.is_listening:
                self.is_listening = False
                if not is_open:
                    self.due = now

    def has_just_rung(self, now: float) -> bool:
        """Tell whether the bell rang so lately that the commit may not be visible yet."""
        return now < self.listen_until - _LISTEN_S + _COMMIT_S

    # Occasions

    def next_due(self, now: float) -> float | None:
        """Return when there is something to do; None when nothing is known to come."""
        with self.lock:
            if now < self.rest_until:
                return self.rest_until
            times = [*self.quiet_at.values(), self.due, self.again_at, self.full_due or None]
            if self.vanished:
                times.append(self._gone_due())
            if self.full or self.bell or self.paths:
                times.append(now)
            return min((time_s for time_s in times if time_s is not None), default=None)

    def _gone_due(self) -> float:
        # Deletions are taken together: the guard must see all of an `rm` at once.
        wait = self.config.gone_s
        return min(max(self.vanished.values()) + wait, min(self.vanished.values()) + 5 * wait)

    def take(self, now: float) -> Occasion | None:
        """Return the next occasion and clear what it covers; None while there is nothing to do."""
        with self.lock:
            if now < self.rest_until:
                return None
            # A full compare that no wake asked for must find nothing that a wake would have told.
            is_told = self.full or self.failures > 0 or self._has_heard()
            full = self.is_full_due(now)
            paths, gone = self._take_paths(now), self._take_vanished(now)
            is_again = self.again_at is not None and self.again_at <= now
            if is_again:
                self.again_at = None
            reason = self._take_news(now)
            if paths or gone or full or is_again:
                reason = Reason.WORK
            elif reason is None:
                return None
            if full:
                self.full = False
                orders = Orders(gone=gone, fresh=frozenset(self.fresh), wait=False)
                return Occasion(orders, is_periodic=not is_told)
            paths |= {path for path in gone if not is_row_key(path)}
            return Occasion(Orders(paths=frozenset(paths), gone=gone, wait=False), reason)

    def _take_paths(self, now: float) -> set[str]:
        quiet = {path for path, due in self.quiet_at.items() if due <= now}
        for path in quiet:
            del self.quiet_at[path]
        paths, self.paths = self.paths | quiet, set()
        return paths

    def _take_vanished(self, now: float) -> frozenset[str]:
        if not self.vanished or now < self._gone_due():
            return frozenset()
        gone = frozenset(self.vanished)
        self.vanished.clear()
        return gone

    def _take_news(self, now: float) -> Reason | None:
        """Return why there may be news from the database; None where there is no reason to look."""
        rang, self.bell = self.bell, False
        is_due = self.due is not None and self.due <= now
        if is_due:
            self.due = None
        if rang:
            return Reason.BELL if self.listened == 0 else Reason.NEWS
        if is_due:  # the last time it looks in any case (see `listen_on`)
            return Reason.LISTENING if self.is_listening else Reason.NEWS
        return None

    def _has_heard(self) -> bool:
        """Tell whether wakes wait; a stray that somebody has open is looked at without one."""
        quiet = self.quiet_at.keys() - self.late.keys()
        return bool(self.paths or self.bell or self.vanished or quiet)

    def is_full_due(self, now: float) -> bool:
        """Tell whether all is to be compared now."""
        return self.full or 0 < self.full_due <= now

    def has_work(self, now: float) -> bool:
        """Tell whether wakes came that the next cycle can take at once."""
        with self.lock:
            return now >= self.rest_until and bool(self.paths or self.bell or self.full)

    # What a cycle left

    def note_compared(self) -> None:
        """Arrange for the next full compare after one that went well."""
        # Projects that began together are not compared at the same time forever.
        self.want_full_in(self.config.full_compare_s * random.uniform(0.9, 1.1))

    def heed(self, occasion: Occasion, report: Report, began: float) -> None:
        """Arrange for what a cycle that ``began`` then left for later."""
        orders, now = occasion.orders, time.monotonic()
        with self.lock:
            heard = self._has_heard()  # while it ran
            if orders.paths is None:
                stood = {path for path, since in self.vanished.items() if since < began}
                for path in stood - report.vanished:
                    del self.vanished[path]
            for path in report.vanished:
                self.vanished.setdefault(path, now)
            if report.error is None and report.halt is None:
                self.fresh -= orders.fresh
            self.fresh |= report.fresh
            if report.hinders_all:
                self.retries = min(self.retries + 1, 10)
                # Nobody tells when a lock is free again, where what was done under it is undone.
                later = min(0.5 * 2**self.retries, LONGEST_RETRY_S)
                self.rest_until = now + (_BUSY_REST_S if report.busy else later)
                self.full = True
                return
            self._retry_failed(orders, report, now)
            is_unheard = occasion.is_periodic and report.counts.changes() > 0 and not heard
            self.is_deaf = is_unheard and not self.polled
            self._retry(report.unsettled, now)
            if report.halt is not None:
                self.full_due = now + HALT_LOOK_S
            self._leave_open(orders.paths, report.late, now)

    def _retry_failed(self, orders: Orders, report: Report, now: float) -> None:
        """Come back to files that could not be written, ever later; all else goes on meanwhile."""
        if orders.paths is None:
            self.failures = min(self.failures + 1, 10) if report.error is not None else 0
        if report.error is not None:
            due = now + min(0.5 * 2**self.failures, LONGEST_RETRY_S)
            is_later = orders.paths is None or self.full_due == 0
            self.full_due = due if is_later else min(self.full_due, due)

    def _retry(self, unsettled: Collection[str], now: float) -> None:
        """Come back to what a cycle could not settle, the later the more often it could not."""
        if not unsettled:
            self.retries = 0
            return
        self.retries = min(self.retries + 1, 10)
        later = now + min(0.05 * 2**self.retries, 1.0)
        for path in unsettled:
            if is_row_key(path):
                self.again_at = later
            else:
                self.quiet_at.setdefault(path, later)

    def _leave_open(
        self, looked_at: Collection[str] | None, late: Collection[str], now: float
    ) -> None:
        """Come back to strays that somebody has open, each ever less often."""
        for path in set(self.late if looked_at is None else looked_at) - set(late):
            self.late.pop(path, None)
        for path in late:
            wait = self.late[path] = min(2 * self.late.get(path, _LATE_S / 2), _LONGEST_LATE_S)
            self.quiet_at[path] = now + wait
