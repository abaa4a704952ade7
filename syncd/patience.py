"""Waiting for a lock that somebody else holds: how often to look, and who is told of it.

A thread that waits does nothing. Who has few threads for much work, as the agent has, is told when
one of them waits, and may begin something else meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

_MOMENT_S = 0.05
_OFTEN_S = 1.0
_here = threading.local()


class Patience:
    """Waits for something, for so many seconds in all, with looks at it.

    They come less often after a second: then somebody holds it, and many may be waiting.
    """

    def __init__(self, longest_s: float, look_s: float) -> None:
        self._longest_s = longest_s
        self._look_s = look_s
        self._began = time.monotonic()
        self._is_told = False
        self._told = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._told.close()

    def wait(self) -> bool:
        """Wait until the next look is due; False when the time is over."""
        waited = time.monotonic() - self._began
        if waited >= self._longest_s:
            return False
        if waited > _MOMENT_S and not self._is_told:
            self._is_told = True
            self._told.enter_context(waiting())
        time.sleep(self._look_s if waited < _OFTEN_S else 5 * self._look_s)
        return True


@contextmanager
def waiting() -> Iterator[None]:
    """Tell that this thread may do nothing but wait inside."""
    tell: Callable[[bool], None] | None = getattr(_here, "tell", None)
    if tell is None:
        yield
        return
    tell(True)
    try:
        yield
    finally:
        tell(False)


def tell_of_waits(tell: Callable[[bool], None]) -> None:
    """Have this thread ``tell`` when it begins to wait (True), and when that is over."""
    _here.tell = tell
