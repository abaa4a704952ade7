"""The agent: many projects, wakes, timers, signals.

The main thread waits for timers and signals; watchdog's threads bring wakes; a small pool of
workers runs cycles, at most one a project at a time. Whatever comes for a project while its cycle
runs is taken together by the next one.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from syncd import config as settings
from syncd.errors import SyncdError
from syncd.find import find_projects, is_project, named_project
from syncd.heartbeat import BEAT_S, Heartbeat, alive
from syncd.job import LONGEST_RETRY_S, Job
from syncd.names import CLAUDE_DIR
from syncd.watch import Wake, Watcher

log = logging.getLogger("syncd.agent")

WORKERS = 4
MAX_OPEN_STORES = 64
_TICK_S = 1.0
_STUCK_S = 600.0


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
        self._roots = [root if recursive else named_project(root) for root in roots]
        self._recursive = recursive
        self._poll = poll
        self._flags = flags
        self._config = settings.load(flags=flags)
        self._jobs: dict[Path, Job] = {}
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="cycle")
        self._watcher: Watcher | None = None
        self._stopping = False
        self._reload = False
        self._lost_events = False
        self._next_search = 0.0
        self._next_beat = 0.0
        self._first_cycles = threading.Semaphore(0)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)

    def run(self, heartbeat: Heartbeat) -> None:
        """Work until SIGTERM or SIGINT; the cycles in hand are finished."""
        former = self._set_signals()
        try:
            if not self._poll:
                self._start_watcher()
            self._search()
            for job in list(self._jobs.values()):
                self._submit(job)
            self._await_first_cycles(heartbeat)
            self._on_ready(len(self._jobs))
            _notify(f"READY=1\nSTATUS=watching {len(self._jobs)} projects")
            self._loop(heartbeat)
        finally:
            _notify("STOPPING=1")
            self._stopping = True
            if self._watcher is not None:
                self._watcher.stop()
            self._pool.shutdown(wait=True)
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
            watcher = Watcher(self._on_wake, self._on_loss)
            watcher.start()
        except OSError as error:
            log.warning("there are no file events (%s): all is polled", error.strerror or error)
        else:
            self._watcher = watcher

    def _set_signals(self) -> dict[int, Any]:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        handlers = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGHUP: self._on_hangup,
        }
        return {number: signal.signal(number, handler) for number, handler in handlers.items()}

    def _on_stop(self, *_: object) -> None:
        self._stopping = True

    def _on_hangup(self, *_: object) -> None:
        self._reload = True

    def _poke(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def _sleep(self, seconds: float) -> None:
        ready, _, _ = select.select([self._wake_read], [], [], max(0.0, seconds))
        if ready:
            with suppress(BlockingIOError):
                os.read(self._wake_read, 4096)

    def _await_first_cycles(self, heartbeat: Heartbeat) -> None:
        waiting = len(self._jobs)
        while waiting and not self._stopping:
            if self._first_cycles.acquire(timeout=0.1):
                waiting -= 1
            else:
                self._beat(heartbeat)

    def _loop(self, heartbeat: Heartbeat) -> None:
        next_tick = 0.0
        while not self._stopping:
            now = time.monotonic()
            if now >= self._next_beat:
                self._beat(heartbeat)
            if now >= next_tick:
                self._tick(heartbeat, now)
                next_tick = now + _TICK_S
            wait = next_tick - now
            for job in list(self._jobs.values()):
                due = None if job.running else job.next_due(now)
                if due is not None:
                    if due <= now:
                        self._submit(job)
                    else:
                        wait = min(wait, due - now)
            self._sleep(wait)

    def _tick(self, heartbeat: Heartbeat, now: float) -> None:
        if self._reload:
            self._reload = False
            self._reread_settings()
        if self._lost_events:
            self._lost_events = False
            log.warning("file events were lost: comparing everything")
            for job in self._jobs.values():
                job.full = True
        for job in list(self._jobs.values()):
            self._check(job, now)
        if now >= self._next_search:
            self._search()
            took = time.monotonic() - now
            # A large tree is walked less often: searching takes a hundredth of the time at most.
            self._next_search = now + max(self._config.discover_s, 100 * took)
            self._check_watches()
        self._close_idle_stores(now)

    def _beat(self, heartbeat: Heartbeat) -> None:
        now = time.monotonic()
        jobs = list(self._jobs.values())
        troubles = {str(job.project): job.trouble for job in jobs if job.trouble}
        self._next_beat = now + BEAT_S
        compares = {str(job.project): job.compared for job in jobs if job.compared}
        heartbeat.beat(compares, troubles)
        stuck = [job for job in self._jobs.values() if job.running and now - job.started > _STUCK_S]
        if not stuck:
            _notify("WATCHDOG=1")

    def _reread_settings(self) -> None:
        try:
            self._config = settings.load(flags=self._flags)
            for job in self._jobs.values():
                job.config = settings.load(job.project, flags=self._flags)
                job.full = True
        except SyncdError as error:
            log.error("settings stay as they were: %s %s", error.sentence, error.hint)
            return
        self._next_search = 0.0
        log.info("settings reread")

    def _search(self) -> None:
        """Find new projects, below the roots and through the session registry."""
        for root in self._roots:
            found: Iterable[Path] = find_projects(root) if self._recursive else [root]
            for project in found:
                if project not in self._jobs and is_project(project):
                    self._add(project)
        if self._recursive:
            for project in _registered_projects():
                inside = any(root == project or root in project.parents for root in self._roots)
                if inside and project not in self._jobs and is_project(project):
                    self._add(project)

    def _add(self, project: Path) -> None:
        try:
            config = settings.load(project, flags=self._flags)
        except SyncdError as error:
            log.error("%s: %s %s", project, error.sentence, error.hint)
            config = self._config
        job = Job(project, config)
        job.identity = _identity(project)
        job.polled = self._watcher is None or not self._watcher.add(project)
        self._jobs[project] = job
        log.debug("watching %s", project)

    def _check(self, job: Job, now: float) -> None:
        """Notice a project that vanished, or whose folder was made again unseen by the watch."""
        identity = _identity(job.project)
        if identity == job.identity and identity is not None:
            return
        if job.running:
            return
        job.close()
        if identity is None:
            if self._watcher is not None:
                self._watcher.remove(job.project)
            if job.project in self._roots or _is_below_missing(job.project):
                if job.identity is not None:
                    log.warning("%s is gone: waiting for it to come back", job.project)
                job.identity = None
                job.full_due = 0.0
                job.full = False
                return
            log.warning("%s is gone", job.project)
            del self._jobs[job.project]
            return
        log.info("%s was made again", job.project)
        job.identity = identity
        job.polled = self._watcher is None or not self._watcher.add(job.project)
        job.full = True

    def _check_watches(self) -> None:
        if self._watcher is None:
            return
        for project in self._watcher.unwatched():
            job = self._jobs.get(project)
            if job is not None and not job.polled:
                if self._watcher.add(project) and project not in self._watcher.unwatched():
                    job.full = True
                    continue
                log.warning(
                    "%s is polled: there are too few inotify watches "
                    "(raise fs.inotify.max_user_watches)",
                    project,
                )
                job.polled = True

    def _watch_anew(self, job: Job) -> None:
        """Replace a watch that let changes pass: it is judged by its results."""
        job.is_deaf = False
        if self._watcher is not None:
            log.warning("%s: changes came without an event: it is watched anew", job.project)
            job.polled = not self._watcher.add(job.project)

    def _close_idle_stores(self, now: float) -> None:
        stores = [job for job in self._jobs.values() if job.store is not None and not job.running]
        stores.sort(key=lambda job: job.used)
        surplus = len(stores) - MAX_OPEN_STORES
        for number, job in enumerate(stores):
            if number < surplus or now - job.used > job.config.idle_close_s:
                with job.lock:
                    if not job.running:
                        job.close()

    # Wakes, from watchdog's threads

    def _on_wake(self, project: Path, wake: Wake) -> None:
        job = self._jobs.get(project)
        if job is None:
            return
        later = job.hear(wake)
        if later:
            self._poke()
        else:
            self._submit(job)

    def _on_loss(self) -> None:
        self._lost_events = True
        self._poke()

    # Cycles, in the pool

    def _submit(self, job: Job) -> None:
        with job.lock:
            if job.running or self._stopping:
                return
            job.running = True
            job.started = time.monotonic()
        self._pool.submit(self._work, job)

    def _work(self, job: Job) -> None:
        first = job.versions is None and job.store is None and not job.last_state
        try:
            self._run_cycles(job)
        except Exception:
            # The one place that catches everything: a defect in one project's cycle must not
            # end the agent for the others. It is reported, and the project tried again later.
            log.exception("%s: a defect; the project is tried again in 30 s", job.project)
            with job.lock:
                job.due, job.full = time.monotonic() + LONGEST_RETRY_S, False
                job.last_state = job.last_state or "defect"
        finally:
            with job.lock:
                job.running = False
            open_stores = sum(other.store is not None for other in list(self._jobs.values()))
            if open_stores > MAX_OPEN_STORES:
                with job.lock:
                    if not job.running:
                        job.close()
            if first:
                self._first_cycles.release()
            if job.has_work(time.monotonic()) and not self._stopping:
                self._submit(job)
            else:
                self._poke()

    def _run_cycles(self, job: Job) -> None:
        now = time.monotonic()
        orders = job.take(now)
        while orders is not None:
            if orders.paths is None or orders.paths or orders.gone or job.has_news():
                report = job.cycle(orders)
                trouble = job.trouble
                job.heed(orders, report)
                if job.is_deaf:
                    self._watch_anew(job)
                if trouble != job.trouble:
                    self._next_beat = 0.0  # status shall find it at once
                    self._poke()
                if report.error is not None or report.halt is not None:
                    return
            job.listen_on()
            if self._stopping:
                return
            orders = job.take(time.monotonic())


def _identity(project: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(project / CLAUDE_DIR)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_below_missing(project: Path) -> bool:
    """Tell whether the folder above a project is gone too: then it may be an unmounted disk."""
    return not project.parent.is_dir()


def _registered_projects() -> list[Path]:
    """Return the projects that sessions were registered for; none when there is no registry."""
    path = Path.home() / CLAUDE_DIR / "session-registry.db"
    if not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2)) as opened:
            rows = opened.execute("SELECT DISTINCT project_path FROM sessions").fetchall()
    except sqlite3.Error:
        return []
    return [Path(row[0]) for row in rows if isinstance(row[0], str)]


def _notify(text: str) -> None:
    """Tell the service manager (sd_notify(3)); nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(text.encode(), address)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def run(
    roots: list[Path],
    *,
    recursive: bool = False,
    poll: bool = False,
    log_json: bool = False,
    flags: dict[str, Any] | None = None,
    on_ready: Callable[[int], None] = lambda _: None,
) -> int:
    """Run the agent in the foreground until it is stopped; return the exit code.

    ``on_ready`` is told the number of projects when all have had their first cycle.
    Raises `SyncdError` when it cannot start: a wrong setting, no such project, a second agent.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter() if log_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    root_log = logging.getLogger("syncd")
    root_log.addHandler(handler)
    root_log.setLevel(logging.INFO)
    try:
        resolved = [root.resolve() for root in roots]
        agent = Agent(
            resolved, recursive=recursive, poll=poll, flags=flags or {}, on_ready=on_ready
        )
        with alive(resolved, recursive=recursive) as heartbeat:
            agent.run(heartbeat)
    finally:
        root_log.removeHandler(handler)
    return 0
