"""G7: syncd dies or fails at any system call, is started again, and ends as if nothing had been.

Here is a sample; `scripts/crashtest` tries every abort point.
"""

from __future__ import annotations

import errno
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from syncd.cycle.retirement import MARKER
from syncd.retire.archive import SUFFIX
from tests.crash.campaign import (
    LEAST_POINTS,
    USUAL_MODES,
    compiled_shim,
    crew,
    enumerated,
    sampled,
    shim_environment,
    tried,
)
from tests.crash.driver import calls_in
from tests.crash.scenarios import SCENARIOS
from tests.projects import AT_ONE, ONE, Project, a_row, assert_in_step, insert
from tests.running import ROOT

JOBS = 2

WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
try:
    os.write(fd, b"12345678")
except OSError as error:
    sys.exit(error.errno)
os.rename(sys.argv[1], sys.argv[2])
"""
"""Three calls below the folder: open, write, rename; an error of the write is the exit code."""


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    folder = tmp_path / "shim"
    folder.mkdir()
    return compiled_shim(folder)


def run(shim: Path, root: Path, *command: object, **variables: object) -> tuple[int, list[str]]:
    """Run a command under the shim; return its exit code and the calls that were counted."""
    log = root.parent / "calls"
    named = {f"CRASH_{name.upper()}": str(value) for name, value in variables.items()}
    ran = subprocess.run(
        [sys.executable, *map(str, command)],
        env=shim_environment(root.parent / "home", shim)
        | {"CRASH_ROOT": str(root), "CRASH_LOG": str(log)}
        | named,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return ran.returncode, calls_in(log)


def write(shim: Path, tmp_path: Path, **variables: object) -> tuple[int, dict[str, bytes]]:
    """Run the writer under the shim; return its exit code and what it left."""
    root = tmp_path / "root"
    root.mkdir()
    code, _ = run(shim, root, "-c", WRITER, root / "a", root / "b", **variables)
    return code, {path.name: path.read_bytes() for path in root.iterdir()}


@pytest.mark.timeout(180)  # some 10 s on two idle cores
@pytest.mark.parametrize(
    ("plain", "size"),
    [(False, 72), (True, 36)],
    ids=["here", "on a file system whose renames have no flags"],
)
def test_g7_a_sample_of_abort_points_in_every_scenario_recovers(plain: bool, size: int) -> None:
    with crew(JOBS, plain=plain) as drivers:
        results = enumerated(drivers, list(SCENARIOS))
        found = list(results.values())
        attempts = sampled(found, USUAL_MODES, size, seed=0)
        tried(drivers, results, attempts)
    failures = [failure for result in found for failure in result.failures]
    assert [] == failures
    assert all(result.calls for result in found)
    assert LEAST_POINTS <= sum(len(result.calls) for result in found)
    assert (size, size) == (len(attempts), sum(result.recovered for result in found))
    assert set(SCENARIOS) == {attempt.name for attempt in attempts}
    assert set(USUAL_MODES) == {attempt.mode for attempt in attempts}


def test_g7_a_process_of_its_own_makes_the_calls_that_the_campaign_counts(
    shim: Path, tmp_path: Path
) -> None:
    name = "several-at-once"
    with crew(1) as drivers:
        counted = enumerated(drivers, [name])[name]
    project = Project(tmp_path / "project")
    SCENARIOS[name].prepare(project)
    code, calls = run(shim, project.path, "-m", "syncd", "sync", project.path)
    assert (3, []) == (code, counted.failures)
    assert counted.calls == calls


@pytest.mark.parametrize(
    ("at", "mode", "code", "left"),
    [
        (0, "kill", 0, {"b": b"12345678"}),
        (1, "kill", -signal.SIGKILL, {}),
        (1, "after", -signal.SIGKILL, {"a": b""}),
        (2, "kill", -signal.SIGKILL, {"a": b""}),
        (2, "partial", -signal.SIGKILL, {"a": b"1234"}),
        (2, "after", -signal.SIGKILL, {"a": b"12345678"}),
        (2, "eio", errno.EIO, {"a": b""}),
        (2, "enospc", errno.ENOSPC, {"a": b""}),
        (3, "kill", -signal.SIGKILL, {"a": b"12345678"}),
        (3, "after", -signal.SIGKILL, {"b": b"12345678"}),
        (4, "kill", 0, {"b": b"12345678"}),
    ],
)
def test_g7_the_shim_stops_exactly_where_and_how_it_is_told(
    shim: Path, tmp_path: Path, at: int, mode: str, code: int, left: dict[str, bytes]
) -> None:
    assert (code, left) == write(shim, tmp_path, at=at, mode=mode)


# What has to be on the disk before --------------------------------------------------------------

WAL = ".claude-mpm/messaging.db-wal"
SYNCED, WRITTEN = f"fdatasync {WAL}", f"pwrite {WAL}"
OWN = ".claude-mpm/inbox/.syncd-*.tmp"
STANDING = f".claude-mpm/{AT_ONE}"

Change = Callable[[Project], object]


def delete_row(project: Project) -> None:
    project.sql("DELETE FROM messages WHERE id = ?", ONE)


def edit_row(project: Project) -> None:
    project.sql("UPDATE messages SET body = 'By SQL.' WHERE id = ?", ONE)


def add_rows(project: Project, number: int) -> None:
    for one in range(number):
        insert(project, a_row(project, f"a{one:03d}"))


def synced_under_the_shim(shim: Path, project: Project, change: Change) -> list[str]:
    """Return the calls of a sync after a change, beside a client that has written and stays.

    So no -wal begins, and none is moved into the database: either syncs it in any case.
    """
    project.receive(1)
    project.sync()
    with closing(sqlite3.connect(project.new.database)) as client:
        client.execute("INSERT INTO sessions VALUES ('s', '/p', 'p', '', '', 'active', NULL)")
        client.commit()
        change(project)
        code, calls = run(shim, project.path, "-m", "syncd", "sync", project.path)
    assert 0 == code
    assert_in_step(project)
    return calls


def is_synced(calls: list[str]) -> bool:
    """Tell whether the last commit among these calls is one that a power cut leaves."""
    return SYNCED == [call for call in calls if call in (SYNCED, WRITTEN)][-1]


@pytest.mark.parametrize(
    ("change", "goes"),
    [
        (delete_row, f"rename {STANDING} {OWN}"),
        (edit_row, f"exchange {OWN} {STANDING}"),
        # What is new in rows comes first, with commits that a power cut may take.
        (lambda project: [add_rows(project, 260), delete_row(project)], f"rename {STANDING} {OWN}"),
    ],
    ids=["deleted", "edited", "deleted after many that are new"],
)
def test_g2_what_a_step_destroys_is_on_the_disk_in_the_history_before(
    shim: Path, project: Project, change: Change, goes: str
) -> None:
    calls = synced_under_the_shim(shim, project, change)
    assert is_synced(calls[: calls.index(goes)])


@pytest.mark.parametrize(
    "change",
    [
        lambda project: project.edit(AT_ONE, "Body 1.", "By hand."),
        lambda project: project.file(AT_ONE).unlink(),
        lambda project: project.receive(2),
        lambda project: project.move(AT_ONE, f"inbox/.archive/{ONE}.md"),
    ],
    ids=["edited", "deleted", "new", "archived"],
)
def test_g2_what_a_person_did_to_a_file_is_on_the_disk_in_the_row(
    shim: Path, project: Project, change: Change
) -> None:
    assert SYNCED in synced_under_the_shim(shim, project, change)


@pytest.mark.parametrize(
    ("change", "stands", "syncs"),
    [
        (edit_row, f"exchange {OWN} {STANDING}", f"fsync {OWN}"),
        (lambda project: add_rows(project, 1), f"rename {OWN} .claude-mpm/inbox/", f"fsync {OWN}"),
        (
            lambda project: add_rows(project, 20),
            f"rename {OWN} .claude-mpm/inbox/",
            "syncfs .claude-mpm/inbox",
        ),
        (
            lambda project: [edit_row(project), project.file(AT_ONE).unlink()],
            f"rename {OWN} {STANDING}",
            f"fsync {OWN}",
        ),
    ],
    ids=["edited", "new", "many new ones", "written again"],
)
def test_g2_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_baseline(
    shim: Path, project: Project, change: Change, stands: str, syncs: str
) -> None:
    calls = synced_under_the_shim(shim, project, change)
    named = [at for at, call in enumerate(calls) if call.startswith(stands)]
    written = [at for at, call in enumerate(calls[: named[0]]) if call == f"write {OWN}"]
    assert syncs in calls[written[-1] : named[0]]
    recorded = calls.index(WRITTEN, named[-1])
    assert "fsync .claude-mpm/inbox" in calls[named[-1] : recorded]


def test_a_moved_file_has_its_new_name_on_the_disk_before_the_baseline(
    shim: Path, project: Project
) -> None:
    calls = synced_under_the_shim(shim, project, lambda project: project.new.archive(ONE))
    moved = calls.index(f"rename {STANDING} .claude-mpm/inbox/.archive/{ONE}.md")
    recorded = calls.index(WRITTEN, moved)
    folders = {"fsync .claude-mpm/inbox", "fsync .claude-mpm/inbox/.archive"}
    assert folders <= set(calls[moved:recorded])


def test_a_deleted_file_is_gone_from_the_disk_before_the_baseline_is(
    shim: Path, project: Project
) -> None:
    calls = synced_under_the_shim(shim, project, delete_row)
    gone = calls.index(f"rename {STANDING} {OWN}")
    assert "fsync .claude-mpm/inbox" in calls[gone : calls.index(WRITTEN, gone)]


def test_g17_the_archive_and_the_marker_are_on_the_disk_before_the_first_file_goes(
    shim: Path, project: Project
) -> None:
    project.receive(1)
    project.sync()
    code, calls = run(shim, project.path, "-m", "syncd", "retire", project.path)
    own = ".claude-mpm/.syncd-*.tmp"
    syncs = [f"fsync {own}", "fsync .claude-mpm"]
    marker = calls.index(f"rename {own} .claude-mpm/{MARKER}")
    archive = next(
        at for at, call in enumerate(calls) if call.startswith(f"rename {own} ") and SUFFIX in call
    )
    gone = calls.index(f"unlink .claude-mpm/.syncd-retiring-inbox/{ONE}.md")
    assert 0 == code
    triggers = calls.index(SYNCED)
    assert syncs[0] in calls[:triggers]  # the archive, before a trigger goes
    assert syncs[0] in calls[triggers:marker]
    assert syncs[1] in calls[marker:archive]
    assert syncs[1] in calls[archive:gone]
