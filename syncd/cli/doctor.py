"""``syncd doctor``: checks, each with what was found and how it is mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from syncd.checkup.check import Check, Verdict
from syncd.checkup.examine import examine, examine_machine
from syncd.cli import output
from syncd.cli.options import Command, Json, Paths, Recursive
from syncd.cli.output import Tone
from syncd.cli.projects import chosen_projects, done_for_each, worst

app = typer.Typer()

_WIDTH = 13  # of the longest name

_TONES = {
    Verdict.GOOD: Tone.GOOD,
    Verdict.NOTE: Tone.PLAIN,
    Verdict.WARNING: Tone.ATTENTION,
    Verdict.PROBLEM: Tone.BAD,
}
_WORDS = {
    Verdict.GOOD: "good",
    Verdict.NOTE: "noted",
    Verdict.WARNING: "to look at",
    Verdict.PROBLEM: "to mend",
}


@app.command(cls=Command, epilog="Example: syncd doctor ~/work --recursive")
def doctor(paths: Paths = None, recursive: Recursive = False, json: Json = False) -> int:
    """Check the machine and the projects, and say how to mend what is wrong. Changes nothing.

    Both sides are read in full. Ends with 0 when all is good or only noted, with 3 when something
    wants a person.
    """
    projects = chosen_projects(paths, recursive=recursive)
    sections: list[tuple[Path | None, list[Check]]] = []
    briefly = len(projects) > 1
    with done_for_each(projects, _examined if briefly else examine) as examined:
        for project in (None, *projects):
            made = iter(examine_machine(projects) if project is None else next(examined))
            if not json:
                output.say(str(project or "this machine"))
                made = _printed(made, briefly=briefly and project is not None)
            sections.append((project, list(made)))
    checks = [check for _, found in sections for check in found]
    if json:
        entries = [_as_json(project, check) for project, found in sections for check in found]
        output.print_json(checks=entries)
    else:
        numbers = Counter(check.verdict for check in checks)
        told = [
            f"{numbers[verdict]:,} {_WORDS[verdict]}" for verdict in Verdict if numbers[verdict]
        ]
        output.say(f"{len(checks):,} checks: {', '.join(told)}")
    return worst(check.exit_code for check in checks)


def _examined(project: Path) -> Iterable[Check]:
    return list(examine(project))


def _as_json(project: Path | None, check: Check) -> dict[str, Any]:
    return {
        "project": str(project) if project is not None else None,
        "name": check.name,
        "verdict": str(check.verdict),
        "found": check.found,
        "mend": check.mend,
        "details": list(check.details),
    }


def _printed(checks: Iterator[Check], *, briefly: bool) -> Iterator[Check]:
    """Yield the checks, each printed as it is made; with ``briefly`` the good ones by name only."""
    fine = []
    for check in checks:
        if briefly and check.verdict is Verdict.GOOD:
            fine.append(check.name)
        else:
            _print(check)
        yield check
    if fine:
        output.say(f"  {Verdict.GOOD:<8} {', '.join(fine)}", Tone.GOOD)


def _print(check: Check) -> None:
    tone = _TONES[check.verdict]
    output.say(f"  {check.verdict:<8} {check.name:<{_WIDTH}}  {check.found}", tone)
    for detail in check.details:
        output.say(f"           {detail}", tone)
    if check.mend:
        output.say(f"           → {check.mend}", Tone.HINT)
