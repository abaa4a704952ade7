"""``syncd verify``: both sides read in full, and proved equal."""

from __future__ import annotations

import json as encoder
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from syncd import config
from syncd.agent.heartbeat import agent_for
from syncd.cli import output
from syncd.cli.acts import opened
from syncd.cli.findings import Line, number_of, quarantined, retired
from syncd.cli.options import Command, Json, Paths, Recursive
from syncd.cli.output import Tone
from syncd.cli.projects import chosen_projects, done_for_each, worst
from syncd.cycle.report import State
from syncd.cycle.retirement import Retirement, retirement
from syncd.database.sqlite_errors import translated
from syncd.errors import ExitCode, SyncdError, trouble_of
from syncd.names import database_of
from syncd.verify import Difference, Verification, patience_beside
from syncd.verify import verify as verify_project

app = typer.Typer()


@dataclass(frozen=True, slots=True)
class _Result:
    """One project: what was found, or (``error``) why it could not be read."""

    project: Path
    found: Verification | None = None
    error: str | None = None
    hint: str = ""
    code: ExitCode = ExitCode.ERROR
    retired: Retirement | None = None

    @property
    def state(self) -> State:
        if self.retired is not None:
            return State.RETIRED
        if self.found is None:
            return State.ERROR
        return State.IN_SYNC if self.found.is_equal else State.ATTENTION

    def as_json(self) -> dict[str, Any]:
        found = self.found
        entry: dict[str, Any] = {"path": str(self.project), "state": str(self.state)}
        if found is not None:
            entry |= {
                "files": found.files,
                "rows": found.rows,
                "equal": found.equal,
                "differences": [_as_json(one) for one in found.differences],
                "quarantined": [
                    {
                        "path": one.path,
                        "line": one.problem.line,
                        "reason": one.problem.reason,
                        "mend": one.problem.hint,
                    }
                    for one in found.quarantined
                ],
                "twins": list(found.twins),
                "strays": list(found.strays),
            }
        return entry | {"error": self.error}


@app.command(cls=Command, epilog="Example: syncd verify ~/work --recursive")
def verify(paths: Paths = None, recursive: Recursive = False, json: Json = False) -> int:
    """Read every file and every row in full and tell where they differ. Changes nothing.

    Neither stamps nor what earlier cycles noted are trusted. A change that an agent is just
    carrying over is no difference: what differs is looked at again until it stands still.
    """
    projects = chosen_projects(paths, recursive=recursive)
    results = []
    with done_for_each(projects, _verify) as verified:
        for one in verified:
            results.append(one)
            if not json:
                _print(one)
    if json:
        entries = [one.as_json() for one in results]
        output.print_json(projects=entries)
    return worst(one.code for one in results)


def _verify(project: Path) -> _Result:
    try:
        known = retirement(project)
        if known is not None:
            return _Result(project, code=ExitCode.IN_SYNC, retired=known)
        settings = config.load(project)
        agent = agent_for(project)
        works = agent is not None and agent.alive
        wait_s = patience_beside(settings, agent_works=works)
        with translated(database_of(project)), opened(project) as store:
            store.check_contract()
            found = verify_project(project, store, max_bytes=settings.max_bytes, patience_s=wait_s)
    except (SyncdError, OSError) as error:
        return _Result(project, None, *trouble_of(error))
    return _Result(project, found, code=ExitCode.IN_SYNC if found.is_equal else ExitCode.ATTENTION)


def _as_json(one: Difference) -> dict[str, Any]:
    return {
        "id": one.id,
        "field": one.field,
        "file": one.file,
        "row": one.row,
        "path": one.path,
        "what": one.what,
        "moving": one.is_moving,
        "mend": one.hint,
    }


def _print(one: _Result) -> None:
    if one.retired is not None:
        output.say(f"{one.project}: {retired(one.retired)}; there is nothing to compare")
        return
    if one.found is None:
        output.complain(f"{one.project}: {one.error}", one.hint)
        return
    tone = Tone.GOOD if one.found.is_equal else Tone.ATTENTION
    output.say(f"{one.project}: {', '.join(_headline(one.found))}", tone)
    for text, tone in _lines(one.found):
        output.say(text, tone)


def _headline(found: Verification) -> Iterator[str]:
    yield "equal" if found.is_equal else "not equal" if found.differences else "equal otherwise"
    yield f"{number_of(found.files, 'file')} and {number_of(found.rows, 'row')} read"
    if not found.is_equal:
        yield f"{number_of(found.equal, 'message')} equal"
    if found.differences:
        yield number_of(len(found.differences), "difference")
    if found.quarantined:
        yield f"{len(found.quarantined):,} quarantined"
    if found.twins:
        yield number_of(len(found.twins), "twin")


def _lines(found: Verification) -> Iterator[Line]:
    for one in found.differences:
        yield f"  {_difference(one)}", Tone.ATTENTION
    for hint in dict.fromkeys(one.hint for one in found.differences):
        yield f"  → {hint}", Tone.HINT
    for entry in found.quarantined:
        yield f"  {quarantined(entry)}", Tone.ATTENTION
    for path in found.strays:
        told = f"  {path}: a temporary file of syncd's own → The next cycle takes it in."
        yield told, Tone.ATTENTION


def _difference(one: Difference) -> str:
    moving = " (it is still changing)" if one.is_moving else ""
    where = f", {one.path}" if one.path is not None else ""
    if one.field is None:
        return f"{one.id}{where}: {one.what}{moving}"
    values = f"file {_value(one.file)}, row {_value(one.row)}"
    return f"{one.id}{where}: {one.what}{moving}: {values}"


def _value(value: str | None) -> str:
    return "nothing" if value is None else encoder.dumps(value, ensure_ascii=False)
