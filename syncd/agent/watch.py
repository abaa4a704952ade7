"""Watching the folders of many projects: file events become wakes, as each system tells them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from syncd.agent.wakes import Happening, Kind, Wake, WakeCallback, wake_for
from syncd.core.message import FOLDERS
from syncd.files.folders import inodes_of_folders
from syncd.files.syscalls import watched_inodes
from syncd.names import CLAUDE_DIR, TEMP_PREFIX

log = logging.getLogger("syncd.agent")


class Watcher(Protocol):
    """Watches the ``.claude-mpm`` folders of many projects."""

    def start(self) -> None: ...

    def stop(self) -> None:
        """Stop watching, and wait for the threads."""

    def add(self, project: Path) -> None:
        """Watch a project, anew where it was watched; raises `OSError` when it cannot be."""

    def remove(self, project: Path) -> None:
        """Stop watching a project."""

    def unwatched(self) -> set[Path]:
        """Return the projects of which a folder that is there has no watch."""


def watcher(on_wake: WakeCallback, on_loss: Callable[[], None]) -> Watcher:
    """Return the watcher for this system; raises `OSError` where there are no file events.

    ``on_loss`` is told when events were lost.
    """
    if sys.platform.startswith("linux"):
        try:
            from syncd.agent.inotify import InotifyWatcher
        except ImportError as error:  # another watchdog, with another inside
            log.info("file events come through watchdog's observer: %s", error)
        else:
            return InotifyWatcher(on_wake, on_loss)
    return ObserverWatcher(on_wake, on_loss)


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
_HAPPENINGS: dict[type[events.FileSystemEvent], Happening] = {
    events.FileClosedEvent: Happening.CLOSED,
    events.FileCreatedEvent: Happening.APPEARED,
    events.FileDeletedEvent: Happening.LEFT,
    events.FileModifiedEvent: Happening.WRITTEN,
    events.FileAttribEvent: Happening.CHANGED_RIGHTS,
}
_OF_FOLDERS: dict[type[events.FileSystemEvent], Kind] = {
    events.DirDeletedEvent: Kind.FOLDER_GONE,
    events.DirAttribEvent: Kind.FULL,
}


class ObserverWatcher:
    """Watches through watchdog's observer, on any system that it knows."""

    def __init__(self, on_wake: WakeCallback, on_loss: Callable[[], None]) -> None:
        self._on_wake = on_wake
        self._observer: BaseObserver = Observer()
        self._watches: dict[Path, ObservedWatch] = {}
        self._losses = _LossListener(on_loss)
        logging.getLogger("watchdog").addHandler(self._losses)

    def start(self) -> None:
        self._observer.start()

    def stop(self) -> None:
        logging.getLogger("watchdog").removeHandler(self._losses)
        self._observer.stop()
        self._observer.join(timeout=10)

    def add(self, project: Path) -> None:
        self.remove(project)
        self._watches[project] = self._observer.schedule(
            _Handler(project, self._on_wake),
            str(project / CLAUDE_DIR),
            recursive=True,
            event_filter=_FILTER,
        )

    def remove(self, project: Path) -> None:
        watch = self._watches.pop(project, None)
        if watch is not None:
            try:
                self._observer.unschedule(watch)
            except (KeyError, OSError):
                log.debug("the watch of %s was gone already", project)

    def unwatched(self) -> set[Path]:
        """Return the projects with a folder that the kernel does not know as watched.

        watchdog does not say so. Empty where the system has no such list.
        """
        instances = watched_inodes()
        if not instances:
            return set()
        seen = set[int]().union(*instances)
        return {
            project
            for project in list(self._watches)
            for _, inode in inodes_of_folders(str(project / CLAUDE_DIR))
            if inode not in seen
        }


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
                kind = _OF_FOLDERS.get(type(event), Kind.FOLDER_CAME)
                self._on_wake(self._project, Wake(kind))
            else:
                is_new = isinstance(event, events.DirCreatedEvent)
                self._note(source, Happening.ARRIVED if is_new else Happening.LEFT)
                self._note(target, Happening.ARRIVED)
        elif isinstance(event, events.FileMovedEvent):
            # Our own changes come as a rename from or to a temporary name, recorded already.
            is_own = TEMP_PREFIX in (source or "") or TEMP_PREFIX in (target or "")
            if not is_own or "/" not in (target or source or ""):
                self._note(source, Happening.LEFT)
                self._note(target, Happening.ARRIVED)
        else:
            self._note(source, _HAPPENINGS[type(event)])

    def _relative(self, path: bytes | str) -> str | None:
        text = os.fsdecode(path)
        if text == self._base[:-1]:
            return ""
        return text.removeprefix(self._base) if text.startswith(self._base) else None

    def _note(self, path: str | None, what: Happening) -> None:
        if path:
            folder, _, name = path.rpartition("/")
            wake = wake_for(folder, name, what)
            if wake is not None:
                self._on_wake(self._project, wake)


class _LossListener(logging.Handler):
    """Hears of lost events, which watchdog announces in its log only."""

    def __init__(self, on_loss: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._on_loss = on_loss

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage():
            self._on_loss()
