"""Something done for each of many projects, by two processes where there are two processors.

A pass over a small project is a matter of milliseconds, half of them the interpreter's: threads
would wait for each other.
"""

from __future__ import annotations

import gc
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from syncd.cycle.divided import Answers, Divided, answer_lots, in_portions
from syncd.cycle.second_process import Draw, SecondProcess

T = TypeVar("T")


@contextmanager
def side_by_side(projects: Sequence[Path], do: Callable[[Path], T]) -> Iterator[Iterator[T]]:
    """Yield what ``do`` returns for each project, in their order; `pickle` must take it.

    One process does it alone where a second cannot be had. Whoever stops before the end waits until
    the second process is done with the project that it has in hand.
    """
    divided = _divided(projects, do)
    try:
        yield _results(projects, do, divided)
    except BaseException:
        if divided is not None:
            _call_back(divided.process)
        raise
    finally:
        if divided is not None:
            divided.close()


def _divided(projects: Sequence[Path], do: Callable[[Path], T]) -> Divided | None:
    if (os.cpu_count() or 1) == 1 or threading.active_count() > 1:  # whose locks a copy would lack
        return None

    def answers(keys: Sequence[str]) -> Answers:
        return [(key, pickle.dumps(do(projects[int(key)]))) for key in keys]

    portions = in_portions([str(number) for number in range(len(projects))], 1)
    with suppress(OSError):
        process = SecondProcess.copied(partial(_answer, portions, answers), len(portions))
        process.patience_s = None  # a pass takes as long as it takes
        return Divided(process, portions, answers)
    return None


def _answer(
    portions: Sequence[Sequence[str]],
    answers: Callable[[Sequence[str]], Answers],
    draw: Draw,
    out: BinaryIO,
) -> None:
    gc.enable()  # this process is not over with one project
    answer_lots(portions, answers, draw, out)


def _results(
    projects: Sequence[Path], do: Callable[[Path], T], divided: Divided | None
) -> Iterator[T]:
    for number, project in enumerate(projects):
        pickled = divided.take(str(number)) if divided is not None else None
        yield do(project) if pickled is None else pickle.loads(pickled)


def _call_back(process: SecondProcess) -> None:
    """Leave no further project to a process, and wait for the last one that it has begun."""
    while process.draw() is not None:
        pass
    with suppress(EOFError, OSError):
        while True:
            process.answer()
