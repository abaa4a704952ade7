"""Processes that are timed, bounded, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tests.bench.figures import BenchError, require
from tests.running import ROOT, RunningAgent, environment

LONGEST_S = 300.0
"""No process of the bench may take longer: it is killed, and the measurement fails."""

_SCRIPT = Path(sys.executable).with_name("syncd")
SYNCD = (str(_SCRIPT),) if _SCRIPT.exists() else (sys.executable, "-m", "syncd")


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that ended well: wall time, CPU time with its children's, peak memory, output.

    ``peak_mb`` is the resident size of its largest process (getrusage(2)).
    """

    seconds: float
    cpu_s: float
    peak_mb: float
    output: str


def finish(command: Sequence[object], home: Path, timeout_s: float = LONGEST_S) -> Ended:
    """Run a command to its end; raises `BenchError` when it fails or takes too long."""
    words = [str(word) for word in command]
    with TemporaryFile() as out, TemporaryFile() as errors:
        variables = environment(home)
        started = time.perf_counter()
        child = subprocess.Popen(
            words, env=variables, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=errors
        )
        # Not child.kill: it looks first whether the child ended, and would take its end from us.
        timer = threading.Timer(timeout_s, os.kill, (child.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        finally:
            timer.cancel()
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        said = errors.read().decode(errors="replace")[-500:]
        require(
            child.returncode == 0,
            f"'{' '.join(words)}' ended with {child.returncode} after {seconds:.0f} s: {said}",
        )
        # ru_maxrss is in KiB on Linux and in bytes on macOS.
        unit = 2**20 if sys.platform == "darwin" else 2**10
        peak_mb = usage.ru_maxrss * unit / 1e6
        cpu_s = usage.ru_utime + usage.ru_stime
        return Ended(seconds, cpu_s, peak_mb, out.read().decode())


def syncd(home: Path, *arguments: object) -> Ended:
    """Run one command of syncd to its end."""
    return finish([*SYNCD, *arguments], home)


def floor(home: Path, name: str, *arguments: object) -> dict[str, Any]:
    """Run a floor in a process of its own and return what it says of itself."""
    ended = finish([sys.executable, "-m", "tests.bench.floors", name, *arguments], home)
    answer: dict[str, Any] = json.loads(ended.output)
    return answer


@contextmanager
def companion(home: Path, module: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a module of the bench beside the block, from its word ``ready`` on.

    It ends when its standard input does; what it says afterwards can be read with `last_word`.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)],
        env=environment(home),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        require(child.stdout.readline() == "ready\n", f"The bench's '{module}' did not start.")
        yield child
        if child.returncode is None:
            last_word(child)
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()


def last_word(child: subprocess.Popen[str]) -> Any:
    """Ask a companion to end, and return what it says then."""
    try:
        said, _ = child.communicate(timeout=30)
        return json.loads(said)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise BenchError(f"A companion ended without its last word: {error}.") from error


@contextmanager
def agent(home: Path, *roots: Path, options: tuple[str, ...] = ()) -> Iterator[RunningAgent]:
    """Run an agent beside the block, with the settings that users have, not those of tests."""
    usual = {"gone_s": 2.0, "retry_s": 1.0, "discover_s": 15.0}
    with RunningAgent(home, *roots, options=options, ready_s=LONGEST_S, **usual) as running:
        try:
            yield running
        except BenchError as error:
            raise BenchError(f"{error} The agent said last: {running.log[-500:]}") from error


def wait_until(
    condition: Callable[[], object], what: str, *, every_s: float, timeout_s: float = LONGEST_S
) -> float:
    """Look again and again until ``condition`` holds; return the time of the look that saw it."""
    deadline = time.perf_counter() + timeout_s
    while not condition():
        if time.perf_counter() > deadline:
            raise BenchError(f"After {timeout_s:.0f} s there was still no {what}.")
        time.sleep(every_s)
    return time.perf_counter()
