"""Which projects an agent keeps: found, watched or polled, gone, made again.

All of it runs on the agent's main thread, but `suspect`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from syncd import config as settings
from syncd.agent.job import Job
from syncd.agent.schedule import Schedule
from syncd.agent.watch import Watcher
from syncd.database.database import identity_of
from syncd.errors import ConfigError
from syncd.find import find_projects, home, is_project, named_project
from syncd.names import session_registry

log = logging.getLogger("syncd.agent")

_CHECKED_AT_ONCE, _CHECKING_S = 100, 0.0005
_SEARCH_SHARE, _HASTY_SHARE = 400, 20


class Roster:
    """The projects at or below ``roots``; ``on_news`` is told of each that has become due."""

    def __init__(
        self,
        roots: list[Path],
        *,
        recursive: bool,
        flags: dict[str, Any],
        on_news: Callable[[Job], None],
    ) -> None:
        self._roots = [root if recursive else named_project(root, of_many=True) for root in roots]
        self._recursive = recursive
        self._flags = flags
        self._on_news = on_news
        self.config = settings.load(flags=flags)
        self.jobs: dict[Path, Job] = {}
        self.watcher: Watcher | None = None
        self._round: deque[Job] = deque()
        self._suspects: deque[Job] = deque()
        self._gone: dict[Path, float] = {}
        self._next_search = self._soonest_search = 0.0
        self._ways: dict[str, Path] = {}
        self._costs: dict[Path, float] = {}
        self._has_searched = False

    # Finding

    def search(self) -> None:
        """Find new projects, below the roots and through the session registry."""
        began = time.monotonic()
        for root in self._roots:
            found: Iterable[Path] = find_projects(root) if self._recursive else [root]
            for project in found:
                if project not in self.jobs and is_project(project):
                    self._add(project)
        if self._recursive:
            roots, apart = [root.resolve() for root in self._roots], home()
            for text in _registered_projects():
                project = self._resolved(text)
                inside = any(root == project or root in project.parents for root in roots)
                is_meant = inside and (project != apart or project in roots)
                if is_meant and project not in self.jobs and is_project(project):
                    self._add(project)
        self._has_searched = True
        lately = began - self.config.discover_s
        self._gone = {project: since for project, since in self._gone.items() if since > lately}
        took = time.monotonic() - began
        # A large tree is walked less often: searching takes a small part of the time at most.
        self._next_search = began + max(self.config.discover_s, _SEARCH_SHARE * took)
        self._soonest_search = began + _HASTY_SHARE * took

    def _resolved(self, text: str) -> Path:
        """Return where a registered path leads, by ".." or a link; it is looked at once."""
        if text not in self._ways:
            self._ways[text] = Path(text)
            with suppress(OSError, RuntimeError, ValueError):
                self._ways[text] = Path(text).resolve()
        return self._ways[text]

    def _add(self, project: Path) -> None:
        # Its settings are read in its first cycle, which tells of a wrong one, as any other does.
        job = Job(project, Schedule(self.config), self._flags, self._costs, is_configured=False)
        job.identity = identity_of(job.folder)
        self.jobs[project] = job
        self._watch(job)
        if self._has_searched:
            job.schedule.rest(self.config.gone_s)  # it may take a while to be all there
        self._on_news(job)
        log.debug("watching %s", project)

    def reread_settings(self) -> None:
        """Read all settings again; what has a mistake in it stays as it was, and that is told."""
        try:
            self.config = settings.load(flags=self._flags)
        except ConfigError as error:
            log.error("settings stay as they were: %s → %s", error.sentence, error.hint)
            return
        for job in self.jobs.values():
            try:
                job.configure()
            except ConfigError as error:
                log.error(
                    "%s: its settings stay as they were: %s → %s",
                    job.project,
                    error.sentence,
                    error.hint,
                )
        self.compare_all()
        self._next_search = 0.0
        log.info("settings reread")

    def compare_all(self) -> None:
        """Have every project compared in full."""
        for job in self.jobs.values():
            job.schedule.want_full()
            self._on_news(job)

    # Keeping

    def suspect(self, job: Job) -> None:
        """Have a project checked at the next call of `check_suspects`; from any thread."""
        self._suspects.append(job)

    def look_after(self, now: float) -> None:
        """Check some of the projects and those that went lately, and search when it is time."""
        until = time.monotonic() + _CHECKING_S
        for _ in range(min(_CHECKED_AT_ONCE, len(self.jobs))):
            if not self._round:
                self._round.extend(self.jobs.values())
            self._check(self._round.popleft())
            if time.monotonic() >= until:
                break
        for project in [project for project in self._gone if is_project(project)]:
            del self._gone[project]
            if project not in self.jobs:
                self._add(project)
        if now >= self._next_search:
            self.search()
            began = time.monotonic()
            self._check_watches()
            self._next_search += _SEARCH_SHARE * (time.monotonic() - began)

    def check_suspects(self) -> None:
        """Check the projects that gave a reason to."""
        for _ in range(len(self._suspects)):
            job = self._suspects.popleft()
            if job.schedule.is_deaf:
                self._watch_anew(job)
            if not self._check(job):
                self._suspects.append(job)

    def _check(self, job: Job) -> bool:
        """Notice a project that vanished, or whose folder was made again unseen by the watch.

        Tells whether that could be said: not while a cycle runs.
        """
        identity = identity_of(job.folder)
        if job.is_dropped or (identity == job.identity and identity is not None):
            return True
        if not job.claim():
            return False
        try:
            job.close()
            if identity is None:
                self._note_gone(job)
            else:
                log.info("%s was made again", job.project)
                job.identity = identity
                self._watch(job)
                job.schedule.rest(job.config.gone_s)  # it may take a while to be all there
        finally:
            job.release()
        self._on_news(job)
        return True

    def _note_gone(self, job: Job) -> None:
        if self.watcher is not None:
            self.watcher.remove(job.project)
        if job.project in self._roots or _is_below_missing(job.project):
            if job.identity is not None:
                log.warning("%s is gone: waiting for it to come back", job.project)
            job.identity = None
            job.schedule.cancel()
        else:
            log.warning("%s is gone", job.project)
            job.is_dropped = True
            del self.jobs[job.project]
            self._costs.pop(job.project, None)
            # It may have another name now; or be back sooner than all is searched again.
            self._next_search = self._soonest_search
            self._gone[job.project] = time.monotonic()

    # Watching

    def _watch(self, job: Job) -> None:
        """Watch a project anew, or have it polled where that is not possible."""
        job.schedule.polled = True
        if self.watcher is not None:
            try:
                self.watcher.add(job.project)
                job.schedule.polled = False
                self._costs.pop(job.project, None)
            except OSError as error:
                reason = error.strerror or error
                log.warning("%s cannot be watched (%s): it is polled", job.project, reason)

    def _watch_anew(self, job: Job) -> None:
        """Replace a watch that let changes pass: it is judged by its results."""
        job.schedule.is_deaf = False
        if self.watcher is not None:
            log.warning("%s: changes came without an event: it is watched anew", job.project)
            self._watch(job)

    def _check_watches(self) -> None:
        if self.watcher is None:
            return
        found = [self.jobs.get(project) for project in self.watcher.unwatched()]
        deaf = [job for job in found if job is not None and not job.schedule.polled]
        for job in deaf:
            self._watch(job)
        still = self.watcher.unwatched() if deaf else set()
        for job in deaf:
            if job.project in still:
                log.warning(
                    "%s is polled: there are too few inotify watches "
                    "(raise fs.inotify.max_user_watches)",
                    job.project,
                )
                job.schedule.polled = True
            job.schedule.want_full()
            self._on_news(job)


def _is_below_missing(project: Path) -> bool:
    """Tell whether the folder above a project is gone too: then it may be an unmounted disk."""
    return not os.path.isdir(project.parent)


def _registered_projects() -> list[str]:
    """Return the projects that sessions were registered for; none when there is no registry."""
    path = session_registry()
    if not os.path.isfile(path):
        return []
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2)) as opened:
            rows = opened.execute("SELECT DISTINCT project_path FROM sessions").fetchall()
    except sqlite3.Error:
        return []
    return [text for (text,) in rows if isinstance(text, str) and os.path.isabs(text)]
