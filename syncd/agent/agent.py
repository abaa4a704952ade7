"""The agent: many projects, wakes, timers, signals.

The main thread waits for timers and signals; the watcher's thread brings wakes; a few workers run
cycles, at most one a project at a time. Whatever comes for a project while its cycle runs is taken
together by the next one. What is done for one project costs the same however many there are: the
main thread goes by a heap of times, not through all of them.
"""

from __future__ import annotations

import heapq
import logging
import math
import os
import resource
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from syncd.agent.heartbeat import BEAT_S, Heartbeat, alive
from syncd.agent.job import Job
from syncd.agent.roster import Roster
from syncd.agent.wakes import Kind, Wake
from syncd.agent.watch import watcher
from syncd.agent.workers import Workers
from syncd.cycle import second_process
from syncd.files.syscalls import give_back_memory

log = logging.getLogger("syncd.agent")

WORKERS = 4
_MOST_WORKERS = 64
OPEN_STORES, MAX_OPEN_STORES = 32, 128
_FILES_OF_A_STORE, _FILES_OF_A_CYCLE, _FILES_OF_ALL_ELSE = 4, 12, 48
_TICK_S = 1.0
_LONG_S = 0.1
_WAIT_S = 3.0
_STUCK_S = 600.0
_FIRST_S = 10.0


class Agent:
    """Keeps the projects at or below ``roots`` in step until it is told to stop."""

    def __init__(
        self,
        roots: list[Path],
        *,
        recursive: bool,
        poll: bool,
        flags: dict[str, Any],
        on_ready: Callable[[int], None],
    ) -> None:
        self._on_ready = on_ready
        self._poll = poll
        self._news: deque[Job] = deque()
        self._roster = Roster(roots, recursive=recursive, flags=flags, on_news=self._news.append)
        self._jobs = self._roster.jobs
        self._plan: list[tuple[float, int, Job]] = []
        self._order = count()
        self._open: set[Path] = set()
        most_workers, self._most_open = _limits()
        self._usual_open = min(OPEN_STORES, self._most_open)
        self._workers = Workers(self._work, self._poke, at_once=WORKERS, most=most_workers)
        self._stopping = False
        self._ends_with_terminal = False
        self._reload = False
        self._lost_events = False
        self._next_tick = 0.0
        self._beat_at = 0.0
        self._new: dict[Path, Job] = {}
        self._beginning: list[Job] = []
        self._next_first = 0.0
        self._is_ready = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)

    def run(self, heartbeat: Heartbeat) -> None:
        """Work until SIGTERM or SIGINT, or until the terminal that it was started on is closed.

        The cycles in hand are finished.
        """
        former = self._set_signals()
        try:
            second_process.have_one_wait(True)
            if not self._poll:
                self._start_watcher()
            self._roster.search()
            self._loop(heartbeat)
        finally:
            _notify("STOPPING=1")
            self._stopping = True
            if self._roster.watcher is not None:
                self._roster.watcher.stop()
            self._workers.stop()
            second_process.have_one_wait(False)
            for job in self._jobs.values():
                job.close()
            for number, handler in former.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)
            os.close(self._wake_read)
            os.close(self._wake_write)

    # The main thread

    def _start_watcher(self) -> None:
        try:
            found = watcher(self._on_wake, self._on_loss)
            found.start()
        except OSError as error:
            log.warning("there are no file events (%s): all is polled", error.strerror or error)
        else:
            self._roster.watcher = found

    def _set_signals(self) -> dict[int, Any]:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        handlers = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGHUP: self._on_hangup,
        }
        is_to_outlive = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as of nohup
        self._ends_with_terminal = has_terminal() and not is_to_outlive
        return {number: signal.signal(number, handler) for number, handler in handlers.items()}

    def _on_stop(self, *_: object) -> None:
        self._stopping = True

    def _on_hangup(self, *_: object) -> None:
        if self._ends_with_terminal and not has_terminal():
            self._stopping = True
        else:
            self._reload = True

    def _poke(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def _sleep(self, seconds: float) -> None:
        ready, _, _ = select.select([self._wake_read], [], [], max(0.0, seconds))
        if ready:
            with suppress(BlockingIOError):
                os.read(self._wake_read, 4096)

    def _loop(self, heartbeat: Heartbeat) -> None:
        while not self._stopping:
            now = time.monotonic()
            # By the clock that goes on while the machine sleeps, as whoever reads it compares it.
            if abs(time.time() - self._beat_at) >= BEAT_S:
                self._beat(heartbeat)
            self._roster.check_suspects()
            if now >= self._next_tick:
                self._next_tick = now + _TICK_S
                self._tick(now)
            self._plan_news(now)
            next_first = self._begin_new(now)
            self._submit_due(now)
            next_due = self._plan[0][0] if self._plan else math.inf
            until = min(self._next_tick, next_first, next_due)
            if not self._news:
                self._sleep(until - time.monotonic())

    def _attend(self, job: Job) -> None:
        """Have the main thread see when a job is due; from any thread."""
        self._news.append(job)
        self._poke()

    def _plan_news(self, now: float) -> None:
        while self._news:
            job = self._news.popleft()
            due = job.next_due(now)
            if job.is_new and due is not None and due <= now:
                self._new[job.project] = job
                continue
            # A job stands in the heap with the first of its times; what is later is found out when
            # that comes.
            if due is not None and due < job.planned:
                job.planned = due
                heapq.heappush(self._plan, (due, next(self._order), job))

    def _begin_new(self, now: float) -> float:
        """Have new projects' first cycles run: one after another, and beside any that takes long.

        Cycles of small projects wait for the interpreter more than for the disk, and four at once
        take up to twice the time of one after another. Returns when the next one may begin.
        """
        running = [job for job in self._beginning if job.is_new and job.running]
        at_work = sum(not self._workers.is_waiting(job) for job in running)
        while self._new and (not at_work or (now >= self._next_first and at_work < WORKERS)):
            job = self._new.pop(next(iter(self._new)))
            if not job.is_new:
                continue
            self._submit(job)
            self._next_first = now + _LONG_S
            if job.running:
                running.append(job)
                at_work += 1
        self._beginning = running
        if not (self._is_ready or self._new) and all(
            now - job.started > _FIRST_S for job in running
        ):
            self._is_ready = True
            self._beat_at = 0.0  # `status` is to know of the first compares at once
            self._on_ready(len(self._jobs))
            _notify(f"READY=1\nSTATUS=watching {len(self._jobs)} projects")
        return self._next_first if self._new and at_work < WORKERS else math.inf

    def _submit_due(self, now: float) -> None:
        while self._plan and self._plan[0][0] <= now:
            planned, _, job = heapq.heappop(self._plan)
            if planned != job.planned:
                continue  # one that came sooner took its place
            job.planned = math.inf
            due = job.next_due(now)
            if due is not None and (due > now or job.is_new):
                self._news.append(job)
            elif due is not None:
                self._submit(job)

    def _tick(self, now: float) -> None:
        if self._reload:
            self._reload = False
            self._roster.reread_settings()
        if self._lost_events:
            self._lost_events = False
            log.warning("file events were lost: comparing everything")
            self._roster.compare_all()
        self._roster.look_after(now)
        self._close_idle_stores(now)
        second_process.dismiss(_WAIT_S)

    def _beat(self, heartbeat: Heartbeat) -> None:
        now = time.monotonic()
        self._beat_at = time.time()  # before the look: whoever has news then sets it again
        jobs = list(self._jobs.values())
        troubles = {str(job.project): trouble for job in jobs if (trouble := job.trouble)}
        compares = {str(job.project): job.compared for job in jobs if job.compared}
        heartbeat.beat(compares, troubles)
        if not any(job.running and now - job.started > _STUCK_S for job in jobs):
            _notify("WATCHDOG=1")

    def _close_idle_stores(self, now: float) -> None:
        closed = False
        for project in list(self._open):
            # RACE: a worker may open it meanwhile. It notes that before it lets go of the job.
            self._open.discard(project)
            job = self._jobs.get(project)
            if job is None or not (job.running or job.store is not None):
                continue
            self._open.add(project)
            if now - job.used > job.config.idle_close_s:
                closed |= self._close_store(job)
        if closed:
            give_back_memory()

    def _close_store(self, job: Job) -> bool:
        """Close a database, but where a cycle is at it, or somebody has just committed there."""
        if not job.claim():
            return False
        has_news = job.store is not None and job.has_news()
        if has_news:  # a commit that its closing would count as seen
            job.hear(Wake(Kind.BELL))
        else:
            job.close()
        job.release()
        self._attend(job)
        return not has_news

    # Wakes, from the watcher's thread

    def _on_wake(self, project: Path, wake: Wake) -> None:
        try:
            self._heed_wake(project, wake)
        except Exception:
            # It would end the watcher's thread, and the agent be deaf.
            log.exception("%s: a defect in hearing of a change", project)
            self._on_loss()

    def _heed_wake(self, project: Path, wake: Wake) -> None:
        job = self._jobs.get(project)
        if job is None:
            return
        if wake.kind in (Kind.FULL, Kind.FOLDER_CAME, Kind.FOLDER_GONE):
            self._roster.suspect(job)
            self._poke()
        due = job.hear(wake)
        if due is None:
            self._submit(job)
        elif due < job.planned:
            self._attend(job)

    def _on_loss(self) -> None:
        self._lost_events = True
        self._poke()

    # Cycles, in the pool

    def _submit(self, job: Job, *, has_just_worked: bool = False) -> None:
        if not self._stopping and job.claim():
            is_patient = has_just_worked or job.schedule.is_full_due(time.monotonic())
            self._workers.submit(job, is_patient=is_patient)

    def _work(self, job: Job) -> None:
        try:
            self._run_cycles(job)
        except Exception:
            # The one place that catches everything: a defect in one project's cycle must not
            # end the agent for the others. It is reported, and the project tried again later.
            log.exception("%s: a defect; the project is tried again in 30 s", job.project)
            job.note_defect()
        finally:
            self._note_open(job)
            job.is_new = False
            job.release()
            if job.schedule.has_work(time.monotonic()) and not self._stopping:
                self._submit(job, has_just_worked=True)
            else:
                self._attend(job)

    def _note_open(self, job: Job) -> None:
        """Note that a job that has just worked may be open; of too many, close those used long ago.

        RACE: the commit of which a bell told may be visible only a while later. What was closed by
        then would be looked at again when the bell is forgotten.
        """
        self._open.add(job.project)
        if len(self._open) <= self._usual_open:
            return
        now = time.monotonic()
        jobs = [found for project in list(self._open) if (found := self._jobs.get(project))]
        for other in sorted(jobs, key=lambda one: one.used):
            if len(self._open) <= self._usual_open:
                return
            is_awaited = other.schedule.has_just_rung(now) and len(self._open) <= self._most_open
            if other is not job and not is_awaited and self._close_store(other):
                self._open.discard(other.project)

    def _run_cycles(self, job: Job) -> None:
        occasion = job.schedule.take(time.monotonic())
        while occasion is not None:
            trouble = job.trouble
            report = job.cycle(occasion)
            if report is not None:
                job.heed(occasion, report)
                if job.schedule.is_deaf:
                    self._roster.suspect(job)
                    self._poke()
                if trouble != job.trouble:
                    self._beat_at = 0.0  # status shall find it at once
                    self._poke()
                if report.hinders_all or report.halt is not None:
                    return
            job.listen_on()
            # One that is written to all the time has its next turn behind those who wait.
            if self._stopping or self._workers.others_wait():
                return
            occasion = job.schedule.take(time.monotonic())


def _limits() -> tuple[int, int]:
    """Return how many cycles may be under way, and databases open, where a process has few files.

    More than `WORKERS` cycles are under way only where others hold locks.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _MOST_WORKERS, MAX_OPEN_STORES
    left = files - _FILES_OF_ALL_ELSE
    spare = left - OPEN_STORES * _FILES_OF_A_STORE
    more = max(0, min(_MOST_WORKERS - WORKERS, spare // (_FILES_OF_A_CYCLE + _FILES_OF_A_STORE)))
    stores = (left - more * _FILES_OF_A_CYCLE) // _FILES_OF_A_STORE
    return WORKERS + more, max(1, min(MAX_OPEN_STORES, stores))


def has_terminal() -> bool:
    """Tell whether this process has a terminal that it is controlled by."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _notify(text: str) -> None:
    """Tell the service manager (sd_notify(3)); nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(text.encode(), address)


def run(
    roots: list[Path],
    *,
    recursive: bool = False,
    poll: bool = False,
    flags: dict[str, Any] | None = None,
    on_ready: Callable[[int], None] = lambda _: None,
) -> None:
    """Run the agent in the foreground until it is stopped.

    ``on_ready`` is told the number of projects when all have had their first cycle, but those whose
    takes longer than 10 s.
    Raises `SyncdError` when it cannot start: a wrong setting, no such project, a second agent.
    """
    resolved = [root.resolve() for root in roots]
    agent = Agent(resolved, recursive=recursive, poll=poll, flags=flags or {}, on_ready=on_ready)
    with alive(resolved, recursive=recursive) as heartbeat:
        agent.run(heartbeat)
