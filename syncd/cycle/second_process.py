"""A second process: how it comes to be, shares work with the first one, waits for more, and ends.

It is a copy of this process, which is ready at once, or where there are other threads, whose locks
a copy would lack, a new one of the same Python. That takes a tenth of a second, so an agent has one
wait, for a while, where another burst is to be expected.

Work for both is divided by lots: numbers in a pipe, of which each of the two draws the next when it
has time. So neither has to wait for the other, however busy the machine keeps one of them.
"""

from __future__ import annotations

import fcntl
import gc
import marshal
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, BinaryIO, Self

_PIPE_BYTES = 1024 * 1024
_SIZE_BYTES = 4
_TOLD, _ANSWERS, _LOTS = 0, 3, 4
_ABOVE_THEM = 10
_PATIENCE_S = 30.0
_LOT_BYTES = 2
MOST_LOTS = 4096 // _LOT_BYTES  # the least that a pipe holds (pipe(7), "PIPE_BUF")

Draw = Callable[[], int | None]
"""Returns the next lot, or None when all are drawn."""


class SecondProcess:
    """A process that is told things and answers; both are what `marshal` takes.

    It ends when this one does.
    """

    def __init__(
        self, pid: int, told: int | None, answers: BinaryIO, lots: tuple[int, int]
    ) -> None:
        self.pid = pid
        self.patience_s: float | None = _PATIENCE_S
        self.waiting_since = 0.0
        self._told = told
        self._answers = answers
        self._lots, self._into_lots = lots
        self._answered = select.poll()
        self._answered.register(answers, select.POLLIN)

    @classmethod
    def copied(cls, do: Callable[[Draw, BinaryIO], None], lots: int) -> Self:
        """Return a copy of this process, which does one thing with so many lots."""
        with ExitStack() as ours, ExitStack() as its:
            answers, into = _pipe(reads=ours, writes=its)
            drawn, put = _pipe_of_lots(ours)
            _put(put, lots)
            pid = os.fork()
            if pid:
                ours.pop_all()
                return cls(pid, None, open(answers, "rb", 0), (drawn, put))
            try:
                # It must hold open nothing of what this process locks or waits for.
                os.dup2(into, _ANSWERS)
                os.dup2(drawn, _LOTS)
                os.closerange(_LOTS + 1, os.sysconf("SC_OPEN_MAX"))
                if answers < _ANSWERS:  # of a process without standard streams
                    os.close(answers)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                gc.disable()
                with open(_ANSWERS, "wb") as out:
                    do(_draw, out)
            finally:
                os._exit(0)

    @classmethod
    def started(cls, module: str) -> Self:
        """Return a new process that runs a module, which is to call `serve`."""
        with ExitStack() as ours, ExitStack() as its:
            told, tell = _pipe(reads=its, writes=ours)
            answers, into = _pipe(reads=ours, writes=its)
            drawn, put = _pipe_of_lots(ours)
            # What a start of Python may print, a `sitecustomize` say, must not get among answers.
            files = [
                (os.POSIX_SPAWN_DUP2, told, _TOLD),
                (os.POSIX_SPAWN_DUP2, into, _ANSWERS),
                (os.POSIX_SPAWN_DUP2, drawn, _LOTS),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ]
            command = [sys.executable, "-P", "-m", module]
            os.set_blocking(tell, False)
            pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=files)
            ours.pop_all()
        return cls(pid, tell, open(answers, "rb", 0), (drawn, put))

    def tell(self, what: Any, lots: int) -> None:
        """Tell it what to do with so many lots. A copy knows from the start.

        Raises `OSError` where it is dead, or takes nothing of it for ``patience_s``.
        """
        if self._told is None:
            return
        _put(self._into_lots, lots)
        taken = select.poll()
        taken.register(self._told, select.POLLOUT)
        data = memoryview(_packed(what))
        while data:
            self._wait(taken)
            data = data[os.write(self._told, data) :]

    def draw(self) -> int | None:
        """Draw the next lot, which is then not for the second process; None when none is left."""
        return _draw(self._lots)

    def has_answered(self) -> bool:
        """Tell whether `answer` has something to return or to raise now."""
        return bool(self._answered.poll(0))

    def answer(self) -> Any:
        """Wait for its next answer and return it.

        Raises `EOFError` where it is dead, `TimeoutError` where nothing is heard of it for
        ``patience_s``.
        """
        return receive(self._answers, lambda: self._wait(self._answered))

    def _wait(self, pipe: select.poll) -> None:
        if not pipe.poll(None if self.patience_s is None else self.patience_s * 1000):
            raise TimeoutError(f"nothing is heard of process {self.pid}: it may be stopped")

    def can_wait(self) -> bool:
        """Tell whether it can be told something else when it is done."""
        return self._told is not None

    def end(self) -> None:
        """End it; what it did ahead is forgotten."""
        with suppress(ProcessLookupError, ChildProcessError):  # who ignores SIGCHLD has none
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self._answers.close()
        os.close(self._lots)
        os.close(self._into_lots)
        if self._told is not None:
            os.close(self._told)


def _pipe(*, reads: ExitStack, writes: ExitStack) -> tuple[int, int]:
    """Return the two ends of a large pipe, and have each stack close the one that it names."""
    ends = os.pipe()
    reads.callback(os.close, ends[0])
    writes.callback(os.close, ends[1])
    with suppress(AttributeError, OSError):
        fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return ends


def _pipe_of_lots(owner: ExitStack) -> tuple[int, int]:
    """Return the two ends of a pipe; the one that both processes draw from never has them wait."""
    ends = os.pipe()
    owner.callback(os.close, ends[1])
    try:
        # What takes its place in the second process before must not be put over it.
        drawn = fcntl.fcntl(ends[0], fcntl.F_DUPFD_CLOEXEC, _ABOVE_THEM)
    finally:
        os.close(ends[0])
    owner.callback(os.close, drawn)
    os.set_blocking(drawn, False)
    return drawn, ends[1]


def _put(put: int, lots: int) -> None:
    os.write(put, b"".join([lot.to_bytes(_LOT_BYTES, "little") for lot in range(lots)]))


def _draw(lots: int = _LOTS) -> int | None:
    try:
        lot = os.read(lots, _LOT_BYTES)
    except BlockingIOError:
        return None
    return int.from_bytes(lot, "little") if lot else None  # nobody is there to put any more


def send(into: BinaryIO, what: Any) -> None:
    """Write something that `receive` can read."""
    into.write(_packed(what))
    into.flush()


def _packed(what: Any) -> bytes:
    """Return something in a form that can be read from a pipe in a few calls.

    From there, `marshal.load` fetches each value with a call of its own.
    """
    data = marshal.dumps(what, 2)
    return len(data).to_bytes(_SIZE_BYTES, "little") + data


def receive(source: BinaryIO, wait: Callable[[], None] = lambda: None) -> Any:
    """Read what `send` wrote, with ``wait`` before each call of the system.

    Raises `EOFError` where nobody writes any more.
    """
    size = int.from_bytes(_read(source, _SIZE_BYTES, wait), "little")
    return marshal.loads(_read(source, size, wait))


def _read(source: BinaryIO, size: int, wait: Callable[[], None]) -> bytes:
    data = b""
    while len(data) < size:
        wait()
        more = source.read(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def serve(do: Callable[[Any, Draw, BinaryIO], None]) -> None:
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
            do(receive(told), _draw, out)
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
