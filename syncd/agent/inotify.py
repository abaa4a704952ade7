"""File events on Linux: one inotify(7) descriptor and one thread for all projects.

watchdog's observer has a thread, a queue and a grouper of moves for each watch, and every event
goes through three threads. Here its reader of the descriptor calls back at once. What that leaves
to do is little: a project has a few folders, whose names are known, and no move needs its two ends
brought together but that of syncd's own exchange of a file.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from syncd.agent.wakes import Happening, Kind, Wake, WakeCallback, wake_for
from syncd.core.message import FOLDERS
from syncd.files.folders import inodes_of_folders
from syncd.names import CLAUDE_DIR, TEMP_PREFIX

_MANY, _WINDOW_S, _REST_S = 64, 0.01, 0.005
_BUFFER_BYTES = 256 * 1024
_HEADER = struct.Struct("iIII")  # of a struct inotify_event; its name follows
_MASK = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
)
_HAPPENINGS = (
    (InotifyConstants.IN_CLOSE_WRITE, Happening.CLOSED),
    (InotifyConstants.IN_MODIFY, Happening.WRITTEN),
    (InotifyConstants.IN_CREATE, Happening.APPEARED),
    (InotifyConstants.IN_MOVED_TO, Happening.ARRIVED),
    (InotifyConstants.IN_MOVED_FROM, Happening.LEFT),
    (InotifyConstants.IN_DELETE, Happening.LEFT),
    (InotifyConstants.IN_ATTRIB, Happening.CHANGED_RIGHTS),
)
_CAME = InotifyConstants.IN_CREATE | InotifyConstants.IN_MOVED_TO
_WENT = InotifyConstants.IN_DELETE | InotifyConstants.IN_MOVED_FROM
_LEFT = InotifyConstants.IN_DELETE_SELF | InotifyConstants.IN_MOVE_SELF
_MOVED = InotifyConstants.IN_MOVED_FROM | InotifyConstants.IN_MOVED_TO
_OF_A_FILE = InotifyConstants.IN_MOVED_FROM | InotifyConstants.IN_ISDIR
_DRAFT = TEMP_PREFIX.encode()
_MOST_MOVES = 64


class InotifyWatcher:
    """Watches the mailbox folders of many projects, and the folders of their databases.

    Raises `OSError` where the system has no inotify instance left.
    """

    def __init__(self, on_wake: WakeCallback, on_loss: Callable[[], None]) -> None:
        self._on_wake = on_wake
        self._on_loss = on_loss
        self._reader = _Reader()
        self._watches: dict[Path, _Watch] = {}

    def start(self) -> None:
        self._reader.start()

    def stop(self) -> None:
        """Stop watching, and wait for the thread."""
        self._reader.stop()
        self._reader.join(timeout=10)

    def add(self, project: Path) -> None:
        """Watch a project, anew where it was watched; raises `OSError` when that is not possible.

        A folder inside that cannot be watched is left out; `unwatched` tells of it.
        """
        self.remove(project)
        watch = _Watch(self._reader, project, self._on_wake, self._on_loss)
        watch.add("")
        self._watches[project] = watch

    def remove(self, project: Path) -> None:
        """Stop watching a project."""
        watch = self._watches.pop(project, None)
        if watch is not None:
            watch.remove("")

    def unwatched(self) -> set[Path]:
        """Return the projects of which a folder that is there has no watch, or another had."""
        watches = list(self._watches.items())  # others may watch anew meanwhile
        return {project for project, watch in watches if not watch.is_whole()}


class _Reader(InotifyFD):
    """Reads events; many at a time where many come.

    Whoever makes thousands of files makes several events for each, and this thread, woken for
    every one, would take the interpreter from the thread that makes them. Where that is syncd
    itself, events that would be passed over are not made objects.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mailboxes: set[WatchDescriptor] = set()
        self._since = 0.0
        self._heard = 0

    def read_events(self, *, event_buffer_size: int = _BUFFER_BYTES) -> list[InotifyEvent]:
        now = time.monotonic()
        if now - self._since > _WINDOW_S:
            self._since, self._heard = now, 0
        elif self._heard > _MANY:
            time.sleep(_REST_S)
        buffer = self._read_event_buffer(event_buffer_size)
        events = []
        at = 0
        while at < len(buffer):
            wd, mask, cookie, length = _HEADER.unpack_from(buffer, at)
            name_at, at = at + _HEADER.size, at + _HEADER.size + length
            self._heard += 1
            if buffer.startswith(_DRAFT, name_at):
                if not mask & _MOVED:
                    continue  # nobody is to read it yet
                if wd in self.mailboxes and mask & _OF_A_FILE == InotifyConstants.IN_MOVED_FROM:
                    arrival = _arrival_at(buffer, at, wd, cookie)
                    if arrival is not None:
                        at = arrival
                        continue
            if wd != -1 or mask & InotifyConstants.IN_Q_OVERFLOW:
                name = buffer[name_at:at].rstrip(b"\0")
                events.append(InotifyEvent(wd, mask, cookie, name))
        return events


def _arrival_at(buffer: bytes, at: int, wd: WatchDescriptor, cookie: int) -> int | None:
    """Return where the event at ``at`` ends, if it is the other end of this move in one folder."""
    if at == len(buffer):
        return None
    to, mask, same, length = _HEADER.unpack_from(buffer, at)
    is_arrival = mask & InotifyConstants.IN_MOVED_TO and (to, same) == (wd, cookie)
    return at + _HEADER.size + length if is_arrival else None


class _Watch(WatchCallback):
    """The watches of one project's folders.

    A callback that raises would end the reader's thread.
    """

    def __init__(
        self, reader: _Reader, project: Path, on_wake: WakeCallback, on_loss: Callable[[], None]
    ) -> None:
        self._reader = reader
        self._project = project
        self._base = str(project / CLAUDE_DIR)
        self._on_wake = on_wake
        self._on_loss = on_loss
        self._id = CallbackId(id(self))
        self._folders: dict[WatchDescriptor, str] = {}
        self._inodes: dict[str, int] = {}
        self._moving: dict[int, str] = {}

    def add(self, folder: str) -> None:
        """Watch a folder and those in it; raises `OSError` when it cannot be watched itself."""
        if folder in self._inodes:
            self.remove(folder)
        path = f"{self._base}/{folder}" if folder else self._base
        descriptor = self._reader.add_callback(os.fsencode(path), _MASK, self, self._id)
        if descriptor < 0:  # which watchdog does not raise for a folder that may not be read
            raise PermissionError(0, "permission denied", path)
        self._folders[descriptor] = folder
        self._inodes[folder] = os.stat(path, follow_symlinks=False).st_ino
        if folder:
            self._reader.mailboxes.add(descriptor)
        for other in FOLDERS:
            if other.rpartition("/")[0] == folder:
                with suppress(OSError):
                    self.add(other)

    def remove(self, folder: str) -> None:
        """Stop watching a folder and those in it."""
        for descriptor, other in list(self._folders.items()):
            if not folder or other == folder or other.startswith(f"{folder}/"):
                self._folders.pop(descriptor, None)
                self._inodes.pop(other, None)
                self._reader.mailboxes.discard(descriptor)
                with suppress(OSError):
                    self._reader.remove_callbacks([(descriptor, self._id)])

    def is_whole(self) -> bool:
        """Tell whether the folders that are there are those that are watched."""
        there = inodes_of_folders(self._base)
        return all(self._inodes.get(folder) == inode for folder, inode in there)

    # From the reader's thread

    def on_event(self, event: InotifyEvent) -> None:
        folder = self._folders.get(event.wd)
        if folder is None:
            return
        if not event.name:  # the folder itself went, was moved, or has other rights
            self._wake(Wake(Kind.FOLDER_GONE if event.mask & _LEFT else Kind.FULL))
            return
        name = os.fsdecode(event.name)
        if event.mask & InotifyConstants.IN_ISDIR:
            self._note_folder(folder, name, event.mask)
            return
        if event.mask & InotifyConstants.IN_MOVED_FROM:
            self._note_departure(folder, name, event.cookie)
        elif event.mask & InotifyConstants.IN_MOVED_TO:
            is_own = self._is_own_move(name, event.cookie)
            if is_own and folder:
                return
        for bit, what in _HAPPENINGS:
            if event.mask & bit:
                self._note(folder, name, what)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        folder = self._folders.pop(wd, None)
        if folder is not None:
            self._inodes.pop(folder, None)
            self._reader.mailboxes.discard(wd)
            self._wake(Wake(Kind.FOLDER_GONE))

    def on_queue_overflow(self) -> None:
        self._on_loss()

    def _note_folder(self, parent: str, name: str, mask: int) -> None:
        path = f"{parent}/{name}" if parent else name
        if path not in FOLDERS:
            if mask & (_WENT | _CAME):  # a person is told of one with a message's name
                self._note(parent, name, Happening.LEFT if mask & _WENT else Happening.ARRIVED)
            return
        if mask & _WENT:
            self.remove(path)
        if mask & _CAME:
            with suppress(OSError):
                self.add(path)
        self._wake(Wake(Kind.FOLDER_CAME if mask & _CAME else Kind.FOLDER_GONE))

    def _note(self, folder: str, name: str, what: Happening) -> None:
        wake = wake_for(folder, name, what)
        if wake is not None:
            self._wake(wake)

    def _note_departure(self, folder: str, name: str, cookie: int) -> None:
        if len(self._moving) >= _MOST_MOVES:
            self._moving.clear()  # they went elsewhere: nobody asks for them any more
        self._moving[cookie] = f"{folder}/{name}"

    def _is_own_move(self, name: str, cookie: int) -> bool:
        """Tell whether a move has a temporary name at one end: a change that is recorded already.

        An exchange is two moves; the one that takes a file away from its name says that the name
        vanished, which it did not.
        """
        source = self._moving.pop(cookie, "")
        if source.rpartition("/")[2].startswith(TEMP_PREFIX):
            return True
        if not name.startswith(TEMP_PREFIX):
            return False
        if source:
            self._wake(Wake(Kind.KEPT, source))
        return True

    def _wake(self, wake: Wake) -> None:
        self._on_wake(self._project, wake)
