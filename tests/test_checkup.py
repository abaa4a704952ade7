"""The checks that need no project: each is shown a machine that is well and one that is not."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from watchdog.observers import Observer

from syncd.checkup.agents import watches
from syncd.checkup.check import Check, Verdict, good, some, worst
from syncd.checkup.disk import Room, file_system, file_system_of, permissions, space
from syncd.checkup.machine import (
    Inotify,
    clock,
    examine_inotify,
    inotify,
    seconds_ahead,
    sqlite_version,
)
from syncd.errors import ExitCode
from tests.projects import Project

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
24 22 0:40 / /home rw,nosuid - btrfs /dev/sdb rw
25 24 0:50 / /home/me/far rw - nfs4 server:/export rw
26 24 0:51 / /home/me/my\040cloud rw - fuse.sshfs me@server: rw
27 22 0:52 / /mnt/c rw - 9p C: rw
28 22 0:53 / /tmp rw - tmpfs tmpfs rw
29 28 0:54 / /tmp/disk rw - ext3 /dev/loop0 rw
30 24 0:55 / /home/me/twice rw - cifs //server/share rw
31 24 0:56 / /home/me/twice rw master:3 propagate_from:2 - xfs /dev/sdc rw
"""


@pytest.mark.parametrize(
    ("folder", "kind", "verdict"),
    [
        ("/srv/shop/.claude-mpm", "ext4", Verdict.GOOD),
        ("/home/me/shop", "btrfs", Verdict.GOOD),
        ("/home/me/far/shop", "nfs4", Verdict.PROBLEM),
        ("/home/me/far", "nfs4", Verdict.PROBLEM),
        ("/home/me/farther", "btrfs", Verdict.GOOD),
        ("/home/me/my cloud/shop", "fuse.sshfs", Verdict.PROBLEM),
        ("/mnt/c/shop", "9p", Verdict.PROBLEM),
        ("/tmp/shop", "tmpfs", Verdict.NOTE),
        ("/tmp/disk/shop", "ext3", Verdict.GOOD),
        ("/home/me/twice/shop", "xfs", Verdict.GOOD),
    ],
)
def test_a_file_system_over_a_network_is_a_problem(
    folder: str, kind: str, verdict: Verdict
) -> None:
    check = file_system(Path(folder), MOUNTS)
    assert (kind, verdict) == (file_system_of(Path(folder), MOUNTS)[0], check.verdict)
    assert kind in check.found
    assert (verdict is Verdict.GOOD) == (check.mend == "")


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ((3, 40, 1), Verdict.NOTE),
        ((3, 44, 5), Verdict.NOTE),
        ((3, 44, 6), Verdict.GOOD),
        ((3, 45, 0), Verdict.NOTE),
        ((3, 50, 6), Verdict.NOTE),
        ((3, 50, 7), Verdict.GOOD),
        ((3, 51, 2), Verdict.NOTE),
        ((3, 51, 3), Verdict.GOOD),
        ((3, 53, 0), Verdict.GOOD),
        ((4, 0, 0), Verdict.GOOD),
    ],
)
def test_an_sqlite_with_the_wal_reset_race_is_noted(
    version: tuple[int, ...], verdict: Verdict
) -> None:
    check = sqlite_version(version)
    assert verdict is check.verdict
    assert ".".join(map(str, version)) in check.found


@pytest.mark.parametrize(
    ("used", "needed", "verdict", "what"),
    [
        (Inotify(100, 3), Inotify(50, 1), Verdict.GOOD, ""),
        (Inotify(700, 3), Inotify(200, 1), Verdict.NOTE, "max_user_watches=524288"),
        (Inotify(700, 3), Inotify(301, 1), Verdict.WARNING, "max_user_watches=524288"),
        (Inotify(1000, 3), Inotify(0, 0), Verdict.NOTE, "max_user_watches=524288"),
        (Inotify(10, 10), Inotify(5, 1), Verdict.WARNING, "max_user_instances=1024"),
        (Inotify(10, 9), Inotify(5, 0), Verdict.NOTE, "max_user_instances=1024"),
    ],
)
def test_too_few_watches_are_told_with_the_command_that_gives_more(
    used: Inotify, needed: Inotify, verdict: Verdict, what: str
) -> None:
    check = inotify(Inotify(1000, 10), used, needed)
    assert (verdict, True) == (check.verdict, what in check.mend)


def test_the_watches_of_this_machine_are_counted(tmp_path: Path) -> None:
    def in_use() -> int:
        return int(examine_inotify([], agent_works=True).found.split(" ")[0].replace(",", ""))

    if not Path("/proc/sys/fs/inotify").is_dir():
        pytest.skip("this system has no inotify")
    for name in "abcdefgh":
        (tmp_path / name).mkdir()
    observer = Observer()
    observer.start()
    try:
        for name in "abcdefgh":
            observer.schedule(_NOTHING, str(tmp_path / name))
        assert in_use() >= 8
    finally:
        observer.stop()
        observer.join()


class _Nothing:
    def dispatch(self, event: object) -> None:
        pass


_NOTHING = _Nothing()


def test_folders_that_a_process_does_not_watch_are_named(tmp_path: Path) -> None:
    if not Path("/proc/self/fdinfo").is_dir():
        pytest.skip("this system does not tell what is watched")
    project = Project(tmp_path / "shop")
    project.file("inbox").mkdir()
    observer = Observer()
    observer.start()
    try:
        observer.schedule(_NOTHING, str(project.base))
        check = watches(project.path, os.getpid())
        assert (Verdict.WARNING, True) == (check.verdict, "in inbox, and polls" in check.found)
        observer.schedule(_NOTHING, str(project.file("inbox")))
        assert Verdict.GOOD is watches(project.path, os.getpid()).verdict
    finally:
        observer.stop()
        observer.join()


def test_a_clock_that_stands_in_the_past_is_noticed() -> None:
    assert Verdict.WARNING is clock(datetime(1970, 1, 1, tzinfo=UTC)).verdict
    assert Verdict.GOOD is clock(datetime.now(UTC)).verdict


def test_a_time_ahead_of_the_clock_is_told_from_one_behind_and_from_none() -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    assert 60 == seconds_ahead("2026-03-01T12:01:00+00:00", now)
    assert 60 == seconds_ahead("2026-03-01T14:01:00.000+02:00", now)
    assert 0 == seconds_ahead("2026-03-01T11:59:00Z", now)
    assert [0, 0, 0] == [seconds_ahead(text, now) for text in ("", "soon", "0001-01-01")]


@pytest.mark.parametrize(
    ("room", "needed", "verdict"),
    [
        (Room(2**40, 10**6), 0, Verdict.GOOD),
        (Room(2**40, None), 0, Verdict.GOOD),
        (Room(2**25, 10**6), 0, Verdict.WARNING),
        (Room(2**30, 10**6), 2**31, Verdict.WARNING),
        (Room(2**40, 10), 0, Verdict.WARNING),
        (Room(2**20, 10**6), 0, Verdict.PROBLEM),
        (Room(2**40, 0), 0, Verdict.PROBLEM),
    ],
)
def test_little_room_is_told_in_bytes_and_inodes(
    room: Room, needed: int, verdict: Verdict, tmp_path: Path
) -> None:
    check = space(tmp_path, room, needed=needed)
    assert verdict is check.verdict
    assert (verdict is Verdict.GOOD) == (str(tmp_path) not in check.mend)


def test_what_may_be_used_is_good(tmp_path: Path) -> None:
    project = Project(tmp_path / "shop")
    project.receive(1)
    assert Verdict.GOOD is permissions(project.path).verdict


def test_the_worst_verdict_counts_and_long_lists_are_cut() -> None:
    checks = [good("a", "b"), Check("c", Verdict.WARNING, "d"), Check("e", Verdict.NOTE, "f")]
    assert (Verdict.WARNING, Verdict.GOOD) == (worst(checks), worst([]))
    assert [ExitCode.IN_SYNC, ExitCode.ATTENTION, ExitCode.IN_SYNC] == [
        check.exit_code for check in checks
    ]
    assert ("1", "2", "3", "4", "5", "… and 2 more") == some(list("1234567"))
