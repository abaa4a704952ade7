"""``syncd doctor``: checks, each with what was found and how it is mended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from syncd.checkup.check import Check, Verdict
from syncd.checkup.examine import examine, examine_machine
from syncd.cli import output
from syncd.cli.findings import Line
from syncd.cli.options import Command, Json, Paths, Recursive
from syncd.cli.output import Tone
from syncd.cli.projects import chosen_projects, worst

app = typer.Typer()

_TONES = {
    Verdict.GOOD: Tone.GOOD,
    Verdict.NOTE: Tone.PLAIN,
    Verdict.WARNING: Tone.ATTENTION,
    Verdict.PROBLEM: Tone.BAD,
}


@app.command(cls=Command, epilog="Example: syncd doctor ~/work --recursive")
def doctor(paths: Paths = None, recursive: Recursive = False, json: Json = False) -> int:
    """Check the machine and the projects, and say how to mend what is wrong. Changes nothing.

    Both sides are read in full. Ends with 0 when all is good or only noted, with 3 when something
    wants a person.
    """
    started = time.monotonic()
    projects = chosen_projects(paths, recursive=recursive)
    sections: list[tuple[Path | None, list[Check]]] = [(None, examine_machine(projects))]
    if not json:
        _print("this machine", sections[0][1], briefly=False)
    for project in projects:
        sections.append((project, list(examine(project))))
        if not json:
            _print(str(project), sections[-1][1], briefly=len(projects) > 1)
    checks = [check for _, found in sections for check in found]
    if json:
        entries = [_as_json(project, check) for project, found in sections for check in found]
        output.print_json(time.monotonic() - started, checks=entries)
    else:
        numbers = Counter(check.verdict for check in checks)
        told = [
            f"{numbers[verdict]:,} {_WORDS[verdict]}" for verdict in Verdict if numbers[verdict]
        ]
        output.say(f"{len(checks):,} checks: {', '.join(told)}")
    return worst(check.exit_code for check in checks)


_WORDS = {
    Verdict.GOOD: "good",
    Verdict.NOTE: "noted",
    Verdict.WARNING: "to look at",
    Verdict.PROBLEM: "to mend",
}


def _as_json(project: Path | None, check: Check) -> dict[str, Any]:
    return {
        "project": str(project) if project is not None else None,
        "name": check.name,
        "verdict": str(check.verdict),
        "found": check.found,
        "mend": check.mend,
        "details": list(check.details),
    }


def _print(title: str, checks: list[Check], *, briefly: bool) -> None:
    output.say(title)
    for text, tone in _lines(checks, briefly=briefly):
        output.say(text, tone)


def _lines(checks: list[Check], *, briefly: bool) -> Iterator[Line]:
    """Yield the lines of one section; with ``briefly`` what is good on one line, by name."""
    width = max(len(check.name) for check in checks)
    fine = [check.name for check in checks if check.verdict is Verdict.GOOD]
    if briefly and fine:
        yield f"  good     {', '.join(fine)}", Tone.GOOD
    for check in checks:
        if briefly and check.verdict is Verdict.GOOD:
            continue
        yield f"  {check.verdict:<8} {check.name:<{width}}  {check.found}", _TONES[check.verdict]
        for detail in check.details:
            yield f"           {detail}", _TONES[check.verdict]
        if check.mend:
            yield f"           → {check.mend}", Tone.HINT
