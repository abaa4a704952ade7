"""Taking turns: waiting for a lock that somebody else holds, and leaving it free for others.

A thread that waits does nothing. Who has few threads for much work, as the agent has, is told when
one of them waits, and may begin something else meanwhile.
"""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_MOMENT_S = 0.05
_OFTEN_S = 0.2
_SHORTEST_REST_S = 0.001
_SERIES_S = 0.1
_here = threading.local()


@contextmanager
def patience(longest_s: float, look_s: float) -> Iterator[Callable[[], bool]]:
    """Give a function that waits until the next look is due; it returns False when time is over.

    After a fifth of a second it looks a tenth as often: then somebody holds it, and many may be
    waiting. Time is over at once where the thread is needed elsewhere (`tell_of_waits`).
    """
    tell: Callable[[bool], None] | None = getattr(_here, "tell", None)
    is_needed: Callable[[], bool] | None = getattr(_here, "is_needed", None)
    began = time.monotonic()
    is_told = False

    def wait() -> bool:
        nonlocal is_told
        waited = time.monotonic() - began
        if waited >= longest_s:
            return False
        if waited > _MOMENT_S and tell is not None and not is_told:
            is_told = True
            tell(True)
        if is_told and is_needed is not None and is_needed():
            return False
        time.sleep(look_s if waited < _OFTEN_S else 10 * look_s)
        return True

    try:
        yield wait
    finally:
        if is_told and tell is not None:
            tell(False)


def lock(fd: int, longest_s: float, look_s: float) -> bool:
    """Lock an open file or folder against others that do (flock(2)); False when it is not free.

    The system drops the lock when the file is closed, also with the process.
    """
    with patience(longest_s, look_s) as wait:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if not wait():
                    return False


def tell_of_waits(
    tell: Callable[[bool], None], is_needed: Callable[[], bool] | None = None
) -> None:
    """Have this thread ``tell`` when it begins to wait (True), and when that is over.

    It waits no longer when it ``is_needed``.
    """
    _here.tell, _here.is_needed = tell, is_needed


class Courtesy:
    """How one connection's transactions follow each other."""

    def __init__(self) -> None:
        self._seen_version: int | None = None
        self._free_at = 0.0
        self._held_s = 0.0
        self._series_began = 0.0
        self._series_held_s = 0.0

    def note_held(self, held_s: float) -> None:
        """Note that the lock, which is free now, was held so long."""
        self._free_at = time.monotonic()
        self._held_s = held_s
        self._series_held_s += held_s

    def give_way(self, version: int) -> None:
        """Leave the lock free for twice as long as it was held last, where others write too.

        That shows in the ``version`` of the data, which only their commits move. Who waits for a
        lock looks for it now and then, at most ten times a second: it has to be free more often
        than not. Of who never got it nothing shows, so in a long series of transactions it is left
        free for a third of the time in any case.
        """
        now = time.monotonic()
        if version != self._seen_version:
            rest_s = self._free_at + 2 * self._held_s - now
        elif self._series_held_s > _SERIES_S:
            rest_s = self._series_began + 1.5 * self._series_held_s - now
        else:
            rest_s = 0.0
        if rest_s > _SHORTEST_REST_S:
            time.sleep(rest_s)
        now = time.monotonic()
        if version != self._seen_version or now - self._free_at > _SERIES_S:
            self._series_began, self._series_held_s = now, 0.0
        # Where it was free for long, that is no credit for later.
        self._series_began = max(self._series_began, now - 1.5 * self._series_held_s - _SERIES_S)
        self._seen_version = version
