"""Work that two processes divide among them, portion by portion, as each has time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from syncd import second
from syncd.second import Draw, SecondProcess

Answers = list[tuple[str, Any]]
"""What becomes of keys, each as `marshal` takes it; None where that is to be found out as usual."""

Answering = Callable[[Sequence[str]], Answers]


class Divided:
    """What two processes make of keys; asked for in their order.

    ``here`` answers in this process as the other one does.
    """

    def __init__(
        self, process: SecondProcess, portions: Sequence[Sequence[str]], here: Answering
    ) -> None:
        self.process = process
        self._portions = portions
        self._here = here
        self._left = {key for portion in portions for key in portion}
        self._ready: dict[str, Any] = {}
        self._is_alive = True

    def take(self, key: str) -> Any:
        """Return what became of a key, once; None when that has to be found out as usual."""
        while key in self._left:
            self._hear_or_answer()
        return self._ready.pop(key, None)

    def _hear_or_answer(self) -> None:
        """Take in an answer, or find one out where none is there; the last ones are waited for."""
        answers: Answers | None = None
        if not (self._is_alive and self.process.has_answered()):
            lot = self.process.draw()
            if lot is not None:
                answers = self._here(self._portions[lot])
        if answers is None:
            try:
                answers = self.process.answer()
            except (EOFError, ValueError, TypeError, OSError):
                self._is_alive = False  # it died, or never lived
                self._left.clear()
                return
        self._ready.update(answers)
        self._left.difference_update(found for found, _ in answers)

    def give_up(self) -> None:
        """Leave all that is not answered yet to the usual way."""
        self._is_alive = False
        self._left.clear()

    def close(self) -> None:
        """Let go of the process, which may have other work then; what it did ahead is forgotten."""
        if self._is_alive and not self._left:
            second.keep(self.process)
        else:
            self.process.end()


def in_portions(keys: Sequence[str], size: int) -> list[list[str]]:
    """Return keys in portions of this size, or larger ones where there are not lots enough."""
    size = max(size, -(-len(keys) // second.MOST_LOTS))
    return [list(keys[start : start + size]) for start in range(0, len(keys), size)]


def answer_lots(
    portions: Sequence[Sequence[str]], answers_of: Answering, draw: Draw, out: BinaryIO
) -> None:
    """In the second process: answer for those portions whose lots are drawn here."""
    while (lot := draw()) is not None:
        second.send(out, answers_of(portions[lot]))
