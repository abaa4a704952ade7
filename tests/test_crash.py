"""G7: syncd dies or fails at any system call, is started again, and ends as if nothing had been.

Here is a sample; `scripts/crashtest` tries every abort point.
"""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
from tests.projects import Project
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
