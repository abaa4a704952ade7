"""What a check says: its verdict, what was found, and how it is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from syncd.database.sqlite_errors import translated
from syncd.errors import ExitCode, SyncdError, trouble_of

_MOST_DETAILS = 5


class Verdict(StrEnum):
    """How bad it is; a note wants nobody, a warning and a problem want a person."""

    GOOD = "good"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


_SEVERITY = list(Verdict)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    ``found`` is a sentence, ``mend`` what to do about it, with the exact command where there is
    one; ``details`` are some of the files or messages concerned. ``code`` is what a check that
    could not be made ends with.
    """

    name: str
    verdict: Verdict
    found: str
    mend: str = ""
    details: tuple[str, ...] = ()
    code: ExitCode | None = None

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with if this is the worst."""
        if self.code is not None:
            return self.code
        wants_nobody = self.verdict in (Verdict.GOOD, Verdict.NOTE)
        return ExitCode.IN_SYNC if wants_nobody else ExitCode.ATTENTION


def good(name: str, found: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name, Verdict.GOOD, found)


def note(name: str, found: str, mend: str = "", details: tuple[str, ...] = ()) -> Check:
    """Return a check of which nobody has to do anything."""
    return Check(name, Verdict.NOTE, found, mend, details)


def warning(name: str, found: str, mend: str = "", details: tuple[str, ...] = ()) -> Check:
    """Return a check that wants a person."""
    return Check(name, Verdict.WARNING, found, mend, details)


def problem(name: str, found: str, mend: str = "", details: tuple[str, ...] = ()) -> Check:
    """Return a check that wants a person, and soon."""
    return Check(name, Verdict.PROBLEM, found, mend, details)


def worst(checks: Iterable[Check]) -> Verdict:
    """Return the worst verdict of these checks."""
    return max((check.verdict for check in checks), key=_SEVERITY.index, default=Verdict.GOOD)


def some(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the first of these lines, and how many more there are."""
    if len(lines) <= _MOST_DETAILS:
        return tuple(lines)
    return (*lines[:_MOST_DETAILS], f"… and {len(lines) - _MOST_DETAILS:,} more")


def made(name: str, check: Callable[[], Check], database: Path | None = None) -> Check:
    """Make a check; one that cannot be made is a problem, and stops no other."""
    try:
        with translated(database) if database is not None else nullcontext():
            return check()
    except (SyncdError, OSError) as error:
        return failed(name, error)


def failed(name: str, error: SyncdError | OSError) -> Check:
    """Return what an error makes of a check."""
    found, mend, code = trouble_of(error)
    return Check(name, Verdict.PROBLEM, found, mend, code=code)
