"""What a report says of a project, in the same words on a terminal, in lines and on a page."""

from __future__ import annotations

from syncd.cli.findings import by_local_clock, number_of
from syncd.cli.output import Tone
from syncd.core.sides import Side
from syncd.progress import Change, Progress, Stage, Survey, Window
from syncd.shell import joined

STAGES = {
    Stage.FILES: "files in use",
    Stage.SQL_ONLY: "SQL-only",
    Stage.QUIET: "quiet",
    Stage.TOO_EARLY: "too early to tell",
    Stage.NEVER_SYNCED: "never synced",
    Stage.RETIRED: "retired",
    Stage.ERROR: "cannot be read",
}
READY = "ready to retire"

_TONES = {Stage.FILES: Tone.ATTENTION, Stage.ERROR: Tone.BAD, Stage.NEVER_SYNCED: Tone.ATTENTION}


def stage_words(one: Progress) -> str:
    """Return a project's stage in a word or two."""
    return READY if one.is_ready else STAGES[one.stage]


def stage_tone(one: Progress) -> Tone:
    return Tone.GOOD if one.is_ready else _TONES.get(one.stage, Tone.PLAIN)


def explanation(one: Progress, window: Window) -> str:
    """Return what the stage rests on, and what is in the way of being ready."""
    if one.error is not None:
        return one.error
    if one.stage is Stage.QUIET:
        known = f"no change on either side for {number_of(window.ready_after, 'day')}"
        return ", but ".join([known, *one.reasons])
    days = one.days_without_files(window)
    since = [f"no file changed for {number_of(days, 'day')}"] if days is not None else []
    if one.stage is Stage.SQL_ONLY:
        return ", but ".join([*since, *(["; ".join(one.reasons)] if one.reasons else [])])
    return "; ".join(one.reasons)


def retire_call(one: Progress) -> str:
    """Return the command that retires a project."""
    return joined(["syncd", "retire", str(one.project)])


def whose(change: Change) -> str:
    """Return by whom a change was, as far as the message tells."""
    if change.agent is None or change.project is None:
        return "by whom is not known"
    return f"{change.agent} in {change.project}"


def day_and_age(moment: str, window: Window) -> str:
    """Return the local day of a time, and how long ago that was."""
    found = by_local_clock(moment)
    if found is None:
        return moment
    day = found.date()
    days = (window.now.astimezone().date() - day).days
    age = {0: "today", 1: "yesterday"}.get(days, f"{days:,} days ago")
    return f"{day} ({age})" if days >= 0 else str(day)


def groups(survey: Survey) -> list[tuple[str, Stage, int]]:
    """Return how many projects there are of each kind, the ready ones first, none that is empty."""
    ready = len(survey.ready)
    found = [(READY, Stage.SQL_ONLY, ready)]
    for stage, number in survey.stages().items():
        number -= ready if stage is Stage.SQL_ONLY else 0
        found.append((_OF_SEVERAL.get(stage, STAGES[stage]), stage, number))
    return [group for group in found if group[2]]


_OF_SEVERAL = {
    Stage.FILES: "with files in use",
    Stage.SQL_ONLY: "SQL-only but not ready",
    Stage.ERROR: "unreadable",
}


def summary(survey: Survey) -> str:
    """Return how far all projects are, in one line."""
    parts = [f"{number:,} {words}" for words, _, number in groups(survey)]
    return f"{number_of(len(survey.projects), 'project')}: {', '.join(parts)}"


def changes(files: int, rows: int, window: Window) -> str:
    """Return the number of changes by origin."""
    days = number_of(window.days, "day")
    return f"{number_of(files, 'change')} from files and {rows:,} by SQL in {days}"


def writers(survey: Survey) -> str:
    """Return who still changes files, in one line."""
    late = survey.file_writers
    lately = number_of(survey.window.ready_after, "day")
    if not late:
        return f"no agent is known to have changed a file within {lately}"
    return f"{number_of(len(late), 'agent')} changed files within {lately}"


LIMITS = (
    "A first sync is nobody's change, nor is what a syncd command did.",
    "A change bears the time of the cycle that took it in: later than it was made, where no agent "
    "ran.",
    "Whose a change was is read from the message: a new one is its sender's, and what was received "
    "is changed by the one it is for.",
    "An edit that changes no field of a message, such as a comment in a file, is not counted.",
    "Where both sides were changed at once, both origins count.",
    "Of a quiet project it cannot be told whether its clients have moved on.",
)
"""What the figures do not tell."""


def as_of(survey: Survey) -> str:
    return survey.window.now.astimezone().isoformat(" ", "seconds")


def counts_of(one: Progress) -> tuple[int, int]:
    """Return the numbers of changes from files and by SQL."""
    return one.figures.total(Side.FILE), one.figures.total(Side.DB)
