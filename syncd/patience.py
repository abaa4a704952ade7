"""Waiting for a lock that somebody else holds: how often to look, and who is told of it.

A thread that waits does nothing. Who has few threads for much work, as the agent has, is told when
one of them waits, and may begin something else meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_MOMENT_S = 0.05
_OFTEN_S = 1.0
_here = threading.local()


@contextmanager
def patience(longest_s: float, look_s: float) -> Iterator[Callable[[], bool]]:
    """Give a function that waits until the next look is due; it returns False when time is over.

    Looks come less often after a second: then somebody holds it, and many may be waiting.
    """
    tell: Callable[[bool], None] | None = getattr(_here, "tell", None)
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
        time.sleep(look_s if waited < _OFTEN_S else 5 * look_s)
        return True

    try:
        yield wait
    finally:
        if is_told and tell is not None:
            tell(False)


def tell_of_waits(tell: Callable[[bool], None]) -> None:
    """Have this thread ``tell`` when it begins to wait (True), and when that is over."""
    _here.tell = tell
