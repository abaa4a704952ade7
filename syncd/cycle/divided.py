"""Work that two processes divide among them, portion by portion, as each has time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from syncd.cycle import second_process
from syncd.cycle.second_process import Draw, SecondProcess

Answers = list[tuple[str, Any]]
"""What becomes of keys, each as `marshal` takes it; None where that is to be found out as usual."""

Answering = Callable[[Sequence[str]], Answers]


class Divided:
    """What two processes make of keys; asked for in their order.

    ``here`` answers in this process as the other one does, while no more than ``most_ready``
    answers wait to be taken.
    """

    def __init__(
        self,
        process: SecondProcess,
        portions: Sequence[Sequence[str]],
        here: Answering,
        most_ready: int = sys.maxsize,
    ) -> None:
        self.process = process
        self._portions = portions
        self._here = here
        self._most_ready = most_ready
        self._left = {key for portion in portions for key in portion}
        self._ready: dict[str, Any] = {}
        self._is_alive = True
        self._is_done = False

    def take(self, key: str) -> Any:
        """Return what became of a key, once; None when that has to be found out as usual."""
        while key in self._left:
            if not (self._is_alive and self.process.has_answered()) and self._answer_here():
                continue
            self._hear()
        return self._ready.pop(key, None)

    def _answer_here(self) -> bool:
        """Find out an answer, where none is there; tell whether there was one to find."""
        if self._is_alive and len(self._ready) >= self._most_ready:
            return False
        lot = self.process.draw()
        if lot is None:
            return False
        self._note(self._here(self._portions[lot]))
        return True

    def _hear(self) -> None:
        """Wait for an answer of the other process, if it lives and has not answered all."""
        answers: Answers | None = None
        if self._is_alive and not self._is_done:
            with suppress(EOFError, ValueError, TypeError, OSError):
                answers = self.process.answer()
        if answers is None:
            self.give_up()  # it died, or never lived
        elif answers:
            self._note(answers)
        else:
            self._is_done = True

    def _note(self, answers: Answers) -> None:
        self._ready.update(answers)
        self._left.difference_update(found for found, _ in answers)

    def give_up(self) -> None:
        """Leave all that is not answered yet to the usual way."""
        self._is_alive = False
        self._left.clear()

    def close(self) -> None:
        """Let go of the process, which may have other work then; what it did ahead is forgotten."""
        # RACE: it draws once more after its last answer. A lot of the next work that it drew then
        # would be answered as one of this: it says itself when it is through with all.
        while self.process.can_wait() and self._is_alive and not (self._left or self._is_done):
            self._hear()
        if self._is_alive and self._is_done and not self._left:
            second_process.keep(self.process)
        else:
            self.process.end()


def in_portions(keys: Sequence[str], size: int) -> list[list[str]]:
    """Return keys in portions of this size, or larger ones where there are not lots enough."""
    size = max(size, -(-len(keys) // second_process.MOST_LOTS))
    return [list(keys[start : start + size]) for start in range(0, len(keys), size)]


def answer_lots(
    portions: Sequence[Sequence[str]], answers_of: Answering, draw: Draw, out: BinaryIO
) -> None:
    """In the second process: answer for those portions whose lots are drawn here.

    No answers at all mean that none is left.
    """
    while (lot := draw()) is not None:
        second_process.send(out, answers_of(portions[lot]))
    second_process.send(out, [])
