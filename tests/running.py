"""A real agent in a real process, for tests and campaigns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent

_WITHOUT_ROOTS_RIGHTS = """
import ctypes, os, sys
for capability in (1, 2):
    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def environment(home: Path, **settings: object) -> dict[str, str]:
    """Return an environment whose home and state stand below ``home``, with these settings."""
    home.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNCD_")}
    kept |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    kept |= {
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_RUNTIME_DIR": str(home / "run"),  # there is none, unless a test makes it
    }
    return kept | {f"SYNCD_{name.upper()}": str(value) for name, value in settings.items()}


def syncd(home: Path, *arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "syncd", *map(str, arguments)],
        env=environment(home, **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def start_script(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python process that can import syncd and talks through its pipes."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Let a script go on, and return its exit code and what it printed to stdout and stderr."""
    with process:
        try:
            out, err = process.communicate("\n", timeout=100)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, out.strip(), err.strip()


def wait_for(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """Wait until ``condition`` holds, looking often; raises `AssertionError` when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def as_anybody(command: list[str]) -> list[str]:
    """Return a command whose access is checked like an ordinary user's, also when root runs it."""
    if os.geteuid() != 0:
        return command
    return [sys.executable, "-c", _WITHOUT_ROOTS_RIGHTS, *command]


class RunningAgent:
    """``syncd run`` as a child, started and ready (a context manager that stops it)."""

    def __init__(
        self,
        home: Path,
        *roots: Path,
        options: tuple[str, ...] = (),
        ready_s: float = 30.0,
        **settings: object,
    ) -> None:
        self._ready_s = ready_s
        settings = {"gone_s": 0.1, "retry_s": 0.1, "discover_s": 0.3} | settings
        self._command = [sys.executable, "-m", "syncd", "run", *map(str, roots), *options]
        self._environment = environment(home, **settings)
        self.lines: list[str] = []

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        self.process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        self.start()
        try:
            wait_for(lambda: self.is_ready or self.process.poll() is not None, self._ready_s)
            assert self.is_ready, self.log
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        return self

    @property
    def is_ready(self) -> bool:
        return any("ready: watching" in line for line in self.lines)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=20)
        self._reader.join(timeout=5)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None or not self.process.stderr.closed:  # type: ignore[union-attr]
            self.stop(signal.SIGKILL if kind else signal.SIGTERM)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
