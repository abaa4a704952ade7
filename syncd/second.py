"""A second process: how it comes to be, is told what to do, answers, waits for more, and ends.

It is a copy of this process, which is ready at once, or where there are other threads, whose locks
a copy would lack, a new one of the same Python. That takes a tenth of a second, so an agent has one
wait, for a while, where another burst is to be expected.
"""

from __future__ import annotations

import gc
import marshal
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO, Self

_PIPE_BYTES = 1024 * 1024
_SIZE_BYTES = 4
_TOLD, _ANSWERS = 0, 3


class SecondProcess:
    """A process that is told things and answers; both are what `marshal` takes.

    It ends when this one does.
    """

    def __init__(self, pid: int, told: BinaryIO | None, answers: BinaryIO) -> None:
        self.pid = pid
        self.waiting_since = 0.0
        self._told = told
        self._answers = answers

    @classmethod
    def copied(cls, do: Callable[[BinaryIO], None]) -> Self:
        """Return a copy of this process, which does one thing, with where its answers go."""
        answers, into = _pipe()
        try:
            pid = os.fork()
        except BaseException:
            os.close(answers)
            os.close(into)
            raise
        if pid:
            os.close(into)
            return cls(pid, None, open(answers, "rb"))
        try:
            # It must hold open nothing of what this process locks or waits for.
            os.dup2(into, _ANSWERS)
            os.closerange(_ANSWERS + 1, os.sysconf("SC_OPEN_MAX"))
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            gc.disable()
            with open(_ANSWERS, "wb") as out:
                do(out)
        finally:
            os._exit(0)

    @classmethod
    def started(cls, module: str) -> Self:
        """Return a new process that runs a module, which is to call `serve`."""
        with ExitStack() as ours, ExitStack() as its:
            told, tell = _pipe()
            ours.callback(os.close, tell)
            its.callback(os.close, told)
            answers, into = _pipe()
            ours.callback(os.close, answers)
            its.callback(os.close, into)
            # What a start of Python may print, a `sitecustomize` say, must not get among answers.
            files = [
                (os.POSIX_SPAWN_DUP2, told, _TOLD),
                (os.POSIX_SPAWN_DUP2, into, _ANSWERS),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ]
            command = [sys.executable, "-P", "-m", module]
            pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=files)
            ours.pop_all()
        return cls(pid, open(tell, "wb"), open(answers, "rb"))

    def tell(self, what: Any) -> None:
        """Tell it what to do; raises `OSError` where it is dead. A copy knows from the start."""
        if self._told is not None:
            send(self._told, what)

    def answer(self) -> Any:
        """Wait for its next answer and return it; raises `EOFError` where it is dead."""
        return receive(self._answers)

    def can_wait(self) -> bool:
        """Tell whether it can be told something else when it is done."""
        return self._told is not None

    def end(self) -> None:
        """End it; what it did ahead is forgotten."""
        with suppress(ProcessLookupError, ChildProcessError):  # who ignores SIGCHLD has none
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self._answers.close()
        if self._told is not None:
            with suppress(OSError):  # what it never read
                self._told.close()


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return ends


def send(into: BinaryIO, what: Any) -> None:
    """Write something that `receive` can read in two calls.

    From a pipe, `marshal.load` fetches each value with a call of its own.
    """
    data = marshal.dumps(what, 2)
    into.write(len(data).to_bytes(_SIZE_BYTES, "little") + data)
    into.flush()


def receive(source: BinaryIO) -> Any:
    """Read what `send` wrote; raises `EOFError` where nobody writes any more."""
    size = int.from_bytes(source.read(_SIZE_BYTES), "little")
    data = source.read(size)
    if not data:
        raise EOFError
    return marshal.loads(data)


def serve(do: Callable[[Any, BinaryIO], None]) -> None:
    """In the second process: do what is told, one after another, while the first one lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, and ends this one
    gc.disable()
    # Not `sys.stdin` and `sys.stdout`: unbuffered, as they may be, a write may be cut short.
    with (
        suppress(EOFError, BrokenPipeError),
        open(_TOLD, "rb") as told,
        open(_ANSWERS, "wb") as out,
    ):
        while True:
            do(receive(told), out)
            gc.collect()


# One that waits ---------------------------------------------------------------------------------

_lock = threading.Lock()
_may_wait = False
_waiting: list[SecondProcess] = []


def have_one_wait(allowed: bool) -> None:
    """Allow that one process waits for work, or end it and allow that no more."""
    global _may_wait
    _may_wait = allowed
    if not allowed:
        dismiss(0.0)


def stand_by(module: str) -> None:
    """Have a process wait, where that is allowed and none does."""
    if _may_wait and not _waiting:  # two at the same time start two, of which one waits
        with suppress(OSError):
            keep(SecondProcess.started(module))


def keep(process: SecondProcess) -> None:
    """Have a process wait that is done, if that is allowed, or else end it."""
    process.waiting_since = time.monotonic()
    with _lock:
        if _may_wait and not _waiting and process.can_wait():
            _waiting.append(process)
            return
    process.end()


def at_hand() -> SecondProcess | None:
    """Return the process that waits, if one does: it waits no more."""
    with _lock:
        return _waiting.pop() if _waiting else None


def dismiss(longest_s: float) -> None:
    """End the process that waits, if it does for so long."""
    with _lock:
        idle = [one for one in _waiting if time.monotonic() - one.waiting_since >= longest_s]
        if idle:
            _waiting.clear()
    for process in idle:
        process.end()
