"""File events become wakes, the same ones whichever way the system tells of them."""

from __future__ import annotations

import os
import shutil
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.agent.job import Job
from syncd.agent.schedule import Schedule
from syncd.agent.wakes import Kind, Wake
from syncd.agent.watch import ObserverWatcher, Watcher
from syncd.config import Config
from syncd.cycle.retirement import Retirement, save
from syncd.database.store import Store
from syncd.files.replica import FileReplica
from syncd.names import TEMP_PREFIX
from tests.running import wait_for

if sys.platform.startswith("linux"):
    from watchdog.observers.inotify_c import InotifyConstants, WatchDescriptor

    from syncd.agent.inotify import InotifyWatcher

    WATCHERS = [ObserverWatcher, InotifyWatcher]
else:
    WATCHERS = [ObserverWatcher]

PATH = "inbox/a.md"


def inotify_event(wd: int, mask: int, name: bytes, cookie: int = 0) -> bytes:
    """Return an event as inotify(7) tells it."""
    padded = name.ljust(len(name) // 16 * 16 + 16, b"\0")
    return struct.pack("iIII", wd, mask, cookie, len(padded)) + padded


class Heard:
    """A watcher on one project, the wakes that came, and the job that heard them."""

    def __init__(self, kind: type[Watcher], project: Path) -> None:
        self.project = project
        self.base = project / ".claude-mpm"
        for folder in ("inbox/.archive", "outbox"):
            (self.base / folder).mkdir(parents=True)
        self.job = Job(project, Schedule(Config()))
        self.job.schedule.take(0.0)  # the first full compare
        self.wakes: list[Wake] = []
        self.watcher = kind(self._hear, lambda: None)  # type: ignore[call-arg]
        self.watcher.start()
        self.watcher.add(project)

    def _hear(self, project: Path, wake: Wake) -> None:
        assert project == self.project
        self.job.hear(wake)
        self.wakes.append(wake)

    def wait_for(self, kind: Kind, path: str = "") -> None:
        wait_for(lambda: Wake(kind, path) in self.wakes)

    def drain(self) -> None:
        """Wait until all events up to now were heard, and forget them."""
        (self.base / "outbox" / "last.md").write_text("x")
        self.wait_for(Kind.CLOSED, "outbox/last.md")
        self.job.schedule.take(0.0)
        self.job.schedule.quiet_at.clear()
        self.wakes.clear()


@pytest.fixture(params=WATCHERS, ids=lambda kind: kind.__name__)
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Heard]:
    found = Heard(request.param, tmp_path / "here")
    yield found
    found.watcher.stop()
    assert not [thread for thread in threading.enumerate() if "Inotify" in type(thread).__name__]


def test_a_written_file_is_complete_when_it_is_closed(heard: Heard) -> None:
    (heard.base / PATH).write_text("x")
    heard.wait_for(Kind.CLOSED, PATH)
    assert ({PATH}, {}) == (heard.job.schedule.paths, heard.job.schedule.quiet_at)


def test_a_move_is_a_path_that_vanished_and_one_that_is_complete(heard: Heard) -> None:
    (heard.base / PATH).write_text("x")
    heard.drain()
    (heard.base / PATH).rename(heard.base / "inbox/.archive/a.md")
    heard.wait_for(Kind.GONE, PATH)
    heard.wait_for(Kind.CLOSED, "inbox/.archive/a.md")
    assert [PATH] == list(heard.job.schedule.vanished)


def test_a_file_from_elsewhere_and_a_deleted_one_are_noticed(heard: Heard) -> None:
    (heard.project / "draft").write_text("x")
    (heard.project / "draft").rename(heard.base / PATH)
    wait_for(lambda: {wake.path for wake in heard.wakes} == {PATH})
    (heard.base / PATH).unlink()
    heard.wait_for(Kind.GONE, PATH)


def test_a_folder_with_the_name_of_a_message_is_looked_at(heard: Heard) -> None:
    folder = heard.base / "inbox" / "folder.md"
    folder.mkdir()
    heard.wait_for(Kind.CLOSED, "inbox/folder.md")
    folder.rename(heard.base / "outbox" / "moved.md")
    heard.wait_for(Kind.GONE, "inbox/folder.md")
    heard.wait_for(Kind.CLOSED, "outbox/moved.md")
    (heard.base / "outbox" / "moved.md").rmdir()
    heard.wait_for(Kind.GONE, "outbox/moved.md")


def test_what_is_no_message_and_what_is_only_read_wakes_nobody(heard: Heard) -> None:
    (heard.base / PATH).write_text("x")
    heard.drain()
    (heard.base / "inbox" / "notes.txt").write_text("x")
    (heard.base / "syncd.toml").write_text("")
    (heard.base / PATH).read_text()
    (heard.base / "outbox" / "end.md").write_text("x")
    heard.wait_for(Kind.CLOSED, "outbox/end.md")
    assert {"outbox/end.md"} == {wake.path for wake in heard.wakes}


def test_syncds_own_changes_of_a_file_leave_nothing_to_look_at(heard: Heard) -> None:
    (heard.base / PATH).write_text("x")
    heard.drain()
    with FileReplica(heard.project) as files:
        files.replace(PATH, b"y", seen=files.read(PATH))
        files.create("outbox/b.md", b"z")
        files.delete("outbox/b.md", seen=files.read("outbox/b.md"))
        files.settle()
    (heard.base / "outbox" / "end.md").write_text("x")
    heard.wait_for(Kind.CLOSED, "outbox/end.md")
    assert {"outbox/end.md"} == heard.job.schedule.paths
    assert ({}, {}) == (heard.job.schedule.vanished, heard.job.schedule.quiet_at)


def test_an_exchange_takes_no_earlier_reason_to_look_away(heard: Heard) -> None:
    (heard.base / PATH).write_text("x")
    heard.wait_for(Kind.CLOSED, PATH)
    with FileReplica(heard.project) as files:
        files.replace(PATH, b"y", seen=files.read(PATH))
    (heard.base / "outbox" / "end.md").write_text("x")
    heard.wait_for(Kind.CLOSED, "outbox/end.md")
    assert PATH in heard.job.schedule.paths


def test_a_commit_rings_the_bell_and_opening_a_database_does_not(heard: Heard) -> None:
    path = heard.base / "messaging.db"
    with Store.open(path) as store:
        store.prepare()
        heard.wait_for(Kind.BELL)
        heard.drain()
        with Store.open(path) as other:
            assert 0 == other.rows.count()
        (heard.base / PATH).write_text("x")
        heard.wait_for(Kind.CLOSED, PATH)
        assert Wake(Kind.BELL) not in heard.wakes
        with store.writing():
            store.set_state("halt", None)
        heard.wait_for(Kind.BELL)


def test_a_retirement_begins_with_a_look_at_all(heard: Heard) -> None:
    retired = Retirement("2026-02-20T00:00:00+00:00", "archive.tar", "00")
    save(heard.project, retired)
    heard.wait_for(Kind.FULL)


def test_closing_the_database_is_no_reason_to_open_it_again(heard: Heard) -> None:
    with Store.open(heard.base / "messaging.db") as store:
        store.prepare()
    heard.job.store = Store.open(heard.base / "messaging.db")
    heard.job.store.rows.count()
    heard.drain()
    assert not heard.job.schedule.bell
    heard.job.close()
    heard.wait_for(Kind.RELEASED)
    assert not heard.job.schedule.bell


# watchdog watches the inner of two folders that are made at once from both of their events, and
# says so in a warning, which must not end its thread.
@pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")
def test_a_folder_that_is_made_later_is_watched_too(heard: Heard) -> None:
    shutil.rmtree(heard.base / "inbox")
    heard.wait_for(Kind.FOLDER_GONE)
    (heard.base / "inbox" / ".archive").mkdir(parents=True)
    wait_for(lambda: not heard.watcher.unwatched())
    wait_for(lambda: _is_heard(heard, "inbox/.archive/c.md"))
    wait_for(lambda: _is_heard(heard, PATH))


def _is_heard(heard: Heard, path: str) -> bool:
    (heard.base / path).write_text("x")
    return any(wake.path == path for wake in heard.wakes)


def test_a_folder_that_was_moved_away_is_listened_to_no_more(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only one's own inotify watches can be told apart")
    heard = Heard(InotifyWatcher, tmp_path / "here")
    try:
        away = tmp_path / "away"
        (heard.base / "inbox").rename(away)
        heard.wait_for(Kind.FOLDER_GONE)
        (away / "a.md").write_text("x")
        (away / ".archive" / "a.md").write_text("x")
        heard.drain()
        assert set() == heard.job.schedule.paths
        (heard.base / "archive").mkdir()
        heard.wait_for(Kind.FOLDER_CAME)
        wait_for(lambda: not heard.watcher.unwatched())
        wait_for(lambda: _is_heard(heard, "archive/c.md"))
    finally:
        heard.watcher.stop()


def test_a_folder_without_a_watch_is_told(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("watchdog does not tell")
    heard = Heard(InotifyWatcher, tmp_path / "here")
    try:
        (heard.base / "archive").symlink_to(heard.base / "inbox")  # which is no mailbox
        assert set() == heard.watcher.unwatched()
        (heard.project / "stage").mkdir()
        os.rename(heard.project, tmp_path / "aside")  # of a folder above there is no event
        for folder in ("inbox/.archive", "outbox"):
            (heard.base / folder).mkdir(parents=True)
        assert {heard.project} == heard.watcher.unwatched()
        heard.watcher.add(heard.project)
        assert set() == heard.watcher.unwatched()
        wait_for(lambda: _is_heard(heard, PATH))
    finally:
        heard.watcher.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify")
def test_many_events_are_waited_for_and_few_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from syncd.agent import inotify

    rests: list[float] = []
    now = 100.0
    monkeypatch.setattr("time.sleep", rests.append)
    monkeypatch.setattr("time.monotonic", lambda: now)
    reader = inotify._Reader()
    told = inotify_event(1, InotifyConstants.IN_MODIFY, b"x.md") * 50
    monkeypatch.setattr(inotify._Reader, "_read_event_buffer", lambda self, size: told)
    for _ in range(2):
        assert 50 == len(reader.read_events())
    assert [] == rests
    reader.read_events()
    assert 1 == len(rests)
    now += 1.0
    reader.read_events()
    assert 1 == len(rests), "what comes alone is heard at once"
    reader.close()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify")
def test_of_syncds_own_new_files_no_event_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from syncd.agent import inotify

    reader = inotify._Reader()
    reader.mailboxes.add(WatchDescriptor(1))
    draft, created = f"{TEMP_PREFIX}x.tmp".encode(), InotifyConstants.IN_CREATE
    left, came = InotifyConstants.IN_MOVED_FROM, InotifyConstants.IN_MOVED_TO
    own = (
        inotify_event(1, created, draft),
        inotify_event(1, InotifyConstants.IN_CLOSE_WRITE, draft),
        inotify_event(1, left, draft, 7),
        inotify_event(1, came, b"own.md", 7),
    )
    others = (
        (1, created, b"new.md", 0),
        (1, left, draft, 8),  # into another folder
        (2, came, b"moved.md", 8),
        (2, left, draft, 9),  # the database's folder, where a file put in place is news
        (2, came, b"messaging.db", 9),
        (1, left, b"old.md", 10),  # the other half of an exchange
        (1, came, draft, 10),
        (1, left | InotifyConstants.IN_ISDIR, draft, 12),  # a folder
        (1, came | InotifyConstants.IN_ISDIR, b".archive", 12),
        (1, left, draft, 11),  # the next read brings where it went
    )
    told = b"".join((*own, *own, *(inotify_event(*other) for other in others)))
    monkeypatch.setattr(reader, "_read_event_buffer", lambda size: told)
    heard = [(event.wd, event.mask, event.name, event.cookie) for event in reader.read_events()]
    assert list(others) == heard
    reader.close()
