"""Watching: file events and the database's bell become wakes.

A wake says *where to look*; what happens then depends only on what is there. So a wake that is
lost costs time (until the next full compare), never correctness.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from syncd.message import FOLDERS
from syncd.names import CLAUDE_DIR, TEMP_PREFIX, is_message_name, is_utf8
from syncd.retirement import MARKER
from syncd.store import DATABASE
from syncd.syscalls import watched_inodes

log = logging.getLogger("syncd.watch")


class Kind(Enum):
    """What a wake is about."""

    CLOSED = auto()  # a file is complete: closed after writing, or moved into place
    TOUCHED = auto()  # a file is being written, or appeared: look when it is quiet
    GONE = auto()  # a path vanished: look twice
    BELL = auto()  # somebody is committing to the database
    RELEASED = auto()  # somebody who had written closed the database: it may have been us
    FULL = auto()  # a folder or the database itself came, went, or was replaced


@dataclass(frozen=True, slots=True)
class Wake:
    """A reason to look; ``path`` counts from ``.claude-mpm`` where it concerns one file."""

    kind: Kind
    path: str = ""


WakeCallback = Callable[[Path, Wake], None]

# Opening and reading a file causes events too: ours would wake us.
_FILTER: list[type[events.FileSystemEvent]] = [
    events.FileClosedEvent,
    events.FileCreatedEvent,
    events.FileDeletedEvent,
    events.FileModifiedEvent,
    events.FileMovedEvent,
    events.FileAttribEvent,
    events.DirAttribEvent,
    events.DirCreatedEvent,
    events.DirDeletedEvent,
    events.DirMovedEvent,
]


class _Handler(events.FileSystemEventHandler):
    """Turns one project's events into wakes. A handler that raises would end its thread."""

    def __init__(self, project: Path, on_wake: WakeCallback) -> None:
        self._project = project
        self._base = f"{project / CLAUDE_DIR}/"
        self._on_wake = on_wake

    def on_any_event(self, event: events.FileSystemEvent) -> None:
        source = self._relative(event.src_path)
        target = self._relative(event.dest_path) if event.dest_path else None
        if event.is_directory:
            if source in FOLDERS or target in FOLDERS or source == "":
                self._wake(Kind.FULL)
            return
        if "/" not in (target or source or "/"):
            self._note_database(event, target or source or "")
            return
        match event:
            case events.FileMovedEvent():
                # Our own changes come as a rename from or to a temporary name, recorded already.
                if TEMP_PREFIX in (source or "") or TEMP_PREFIX in (target or ""):
                    return
                self._note(source, Kind.GONE)
                self._note(target, Kind.CLOSED)
            case events.FileDeletedEvent():
                self._note(source, Kind.GONE)
            case events.FileClosedEvent():
                self._note(source, Kind.CLOSED)
            case _:
                self._note(source, Kind.TOUCHED)

    def _note_database(self, event: events.FileSystemEvent, name: str) -> None:
        """Ring the bell for a commit, or for a database that came, went or was replaced.

        Where a retirement begins or ends, all is looked at.

        Opening and closing one makes and removes its -wal and sets its rights: that must not be a
        reason to open it again.
        """
        match event:
            case events.FileAttribEvent():
                return
            case events.FileClosedEvent() if name == f"{DATABASE}-wal":
                self._wake(Kind.RELEASED)
            case events.FileModifiedEvent() if name == f"{DATABASE}-wal":
                self._wake(Kind.BELL)
            case events.FileClosedEvent():
                return
            case _ if name == DATABASE:
                self._wake(Kind.BELL)
            case _ if name == MARKER:
                self._wake(Kind.FULL)

    def _relative(self, path: bytes | str) -> str | None:
        text = os.fsdecode(path)
        if text == self._base[:-1]:
            return ""
        return text.removeprefix(self._base) if text.startswith(self._base) else None

    def _note(self, path: str | None, kind: Kind) -> None:
        if path is None:
            return
        folder, _, name = path.rpartition("/")
        if folder in FOLDERS and is_message_name(name) and not is_utf8(name):
            self._wake(Kind.FULL)
        elif folder in FOLDERS and is_message_name(name):
            self._on_wake(self._project, Wake(kind, path))

    def _wake(self, kind: Kind) -> None:
        self._on_wake(self._project, Wake(kind))


class Watcher:
    """Watches the ``.claude-mpm`` folders of many projects through one observer."""

    def __init__(self, on_wake: WakeCallback, on_loss: Callable[[], None]) -> None:
        self._on_wake = on_wake
        self._observer: BaseObserver = Observer()
        self._watches: dict[Path, ObservedWatch] = {}
        self._losses = _LossListener(on_loss)
        logging.getLogger("watchdog").addHandler(self._losses)

    def start(self) -> None:
        self._observer.start()

    def stop(self) -> None:
        """Stop watching, and wait for the observer's threads."""
        logging.getLogger("watchdog").removeHandler(self._losses)
        self._observer.stop()
        self._observer.join(timeout=10)

    def add(self, project: Path) -> bool:
        """Watch a project; False when the system has no more watches, or the folder is gone."""
        self.remove(project)
        try:
            self._watches[project] = self._observer.schedule(
                _Handler(project, self._on_wake),
                str(project / CLAUDE_DIR),
                recursive=True,
                event_filter=_FILTER,
            )
        except OSError as error:
            log.warning("%s cannot be watched (%s): it is polled", project, error.strerror or error)
            return False
        return True

    def remove(self, project: Path) -> None:
        """Stop watching a project."""
        watch = self._watches.pop(project, None)
        if watch is not None:
            try:
                self._observer.unschedule(watch)
            except (KeyError, OSError):
                log.debug("the watch of %s was gone already", project)

    def is_alive(self) -> bool:
        return self._observer.is_alive()

    def unwatched(self) -> set[Path]:
        """Return the projects of which a mailbox folder has no watch, for want of watches.

        watchdog does not say so; the kernel does (proc(5), /proc/pid/fdinfo). Empty where the
        system has no such list.
        """
        instances = watched_inodes()
        if not instances:
            return set()
        seen = set[int]().union(*instances)
        deaf = set()
        for project in self._watches:
            for folder in ("", *FOLDERS):
                try:
                    found = os.stat(project / CLAUDE_DIR / folder, follow_symlinks=False)
                except OSError:
                    continue
                if found.st_ino not in seen:
                    deaf.add(project)
        return deaf


class _LossListener(logging.Handler):
    """Hears of lost events, which watchdog announces in its log only."""

    def __init__(self, on_loss: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._on_loss = on_loss

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage():
            self._on_loss()
