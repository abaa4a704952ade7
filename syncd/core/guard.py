"""PURE: when a cycle may not act: emptied, missing or replaced folders, and mass deletes.

A halt is decided before the first action of a cycle, in both directions, from what is known of the
folders and from counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from syncd.core.sides import Side
from syncd.names import CLAUDE_DIR
from syncd.shell import joined, quoted

FREE_DELETES = 20
FREE_SHARE = 0.25
_THINGS = {Side.FILE: "files", Side.DB: "rows"}


class Gone(NamedTuple):
    """What one side lost in one mailbox since the baseline.

    ``expected`` counts the messages that the baseline has there, ``gone`` those of them that now
    stand nowhere on that side. ``trouble`` says in words why a ``folder`` of the mailbox is suspect
    as a whole ("is missing", "cannot be read", "was replaced"), or is empty. Of one that
    ``is_closed`` nobody can tell what files it holds.
    """

    side: Side
    mailbox: str
    expected: int
    gone: int
    trouble: str = ""
    folder: str = ""
    is_closed: bool = False


class Halt(NamedTuple):
    """Why nothing is applied in a project until a person decides or the cause goes away.

    While there is a ``closed_folder``, nobody can decide.
    """

    cause: str
    side: Side
    gone: int
    expected: int
    closed_folder: str = ""

    def as_json(self, project: str) -> dict[str, Any]:
        """Return the halt as ``--json`` prints it, with the ways out."""
        return {
            "cause": self.cause,
            "side": str(self.side),
            "gone": self.gone,
            "expected": self.expected,
            "ways_out": list(self.ways_out(project)),
        }

    def ways_out(self, project: str) -> tuple[str, ...]:
        """Return a sentence with the exact command for each way out."""
        if self.closed_folder:
            both = self.closed_folder.partition("/")[0], self.closed_folder
            folders = dict.fromkeys(f"{project}/{CLAUDE_DIR}/{folder}" for folder in both)
            # Rights for what stands there instead of a folder mend nothing: a link leads anywhere.
            command = f" (chmod u+rwx {joined(folders)})" if "be read" in self.cause else ""
            return (
                f"See to it that {self.closed_folder} is a folder that syncd's user may read and "
                f"write{command}: syncd goes on by itself.",
            )
        here = f"the {_THINGS[self.side]}"
        there = "the database" if self.side is Side.FILE else "the files"
        name = quoted(project)
        return (
            f"If {here} are only away for now, bring them back: syncd goes on by itself.",
            f"To bring {here} back from {there}: syncd resume {name} --restore",
            f"To delete these messages on the other side too (the history keeps them): "
            f"syncd resume {name} --accept-deletes",
        )


def _lost_in(losses: Iterable[Gone]) -> int:
    return sum(loss.gone for loss in losses)


def _on(side: Side, losses: Iterable[Gone]) -> tuple[int, int]:
    """Return how many messages are gone on a side, and how many were expected there."""
    of_side = [loss for loss in losses if loss.side is side]
    return _lost_in(of_side), sum(loss.expected for loss in of_side)


def guard(losses: Iterable[Gone]) -> Halt | None:
    """Return the halt that these losses call for; None when the cycle may go on."""
    losses = list(losses)
    troubled = [loss for loss in losses if loss.gone and loss.trouble]
    if troubled:
        where = ", ".join(f"{loss.folder or loss.mailbox} {loss.trouble}" for loss in troubled)
        gone, expected = _lost_in(troubled), sum(loss.expected for loss in troubled)
        cause = f"{where}: {_count(gone)} of the baseline gone{_also(losses, gone)}"
        closed = next((loss.folder for loss in troubled if loss.is_closed), "")
        return Halt(cause, troubled[0].side, gone, expected, closed)
    for side in Side:
        gone, expected = _on(side, losses)
        if gone > max(FREE_DELETES, FREE_SHARE * expected):
            cause = f"{gone} of {expected} {_THINGS[side]} are gone at once{_also(losses, gone)}"
            return Halt(cause, side, gone, expected)
    emptied = [loss for loss in losses if loss.gone == loss.expected >= 2]
    if emptied:
        where = " and ".join(
            f"all {loss.expected} {_THINGS[loss.side]} of {loss.mailbox}" for loss in emptied
        )
        gone = _lost_in(emptied)
        return Halt(f"{where} are gone at once{_also(losses, gone)}", emptied[0].side, gone, gone)
    return None


def still_gone(losses: Iterable[Gone], side: Side) -> Halt | None:
    """Return the halt of a project that is halted for a side: it ends when nothing is gone there.

    What comes back bit by bit would else be taken, at some point, for a few deletions.
    """
    gone, expected = _on(side, losses)
    if not gone:
        return None
    cause = f"{gone} of {expected} {_THINGS[side]} are still gone{_also(losses, gone)}"
    return Halt(cause, side, gone, expected)


def _also(losses: Iterable[Gone], told: int) -> str:
    """Return the end of a cause, for what is gone beside what it tells: a decision concerns all."""
    more = _lost_in(losses) - told
    return f", and {more} more" if more else ""


def _count(number: int) -> str:
    return "1 message" if number == 1 else f"{number} messages"
