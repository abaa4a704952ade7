"""``syncd conflicts`` and ``resolve``: fields that both sides changed, seen and settled."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from syncd.cli import output
from syncd.cli.acts import (
    SIDES,
    act,
    call,
    code_of,
    opened,
    print_state,
    project_and_settings,
    where_now,
)
from syncd.cli.findings import local_time, number_of
from syncd.cli.options import Command, Json, OfProject, OnePath
from syncd.cli.output import Tone
from syncd.conflicts import CURRENT, Resolved, lost_value, resolve_all, standing_value
from syncd.core.sides import Side
from syncd.cycle.report import Report
from syncd.database.chronicle import OpenConflict
from syncd.database.store import Store
from syncd.errors import ExitCode, MessageError, SyncdError, UsageError
from syncd.history import choose

app = typer.Typer()

_WIDTH = 72


@dataclass(frozen=True, slots=True)
class _Values:
    """A conflict with the values of both sides; one that is not known has the reason in place."""

    conflict: OpenConflict
    values: dict[Side, str | None]
    unknown: dict[Side, str]

    @property
    def is_past(self) -> bool:
        """Whether the message is gone: there is nothing to put either value into."""
        return Side(self.conflict.winner) in self.unknown

    def as_json(self, project: Path) -> dict[str, Any]:
        conflict = self.conflict
        takes = [CURRENT] if self.is_past else [*map(str, Side), CURRENT]
        return {
            "id": conflict.id,
            "field": conflict.field,
            "at": conflict.at,
            "winner": conflict.winner,
            "loser_number": conflict.version,
            "file": self.values.get(Side.FILE),
            "db": self.values.get(Side.DB),
            "unknown": self.unknown.get(Side.FILE) or self.unknown.get(Side.DB),
            "resolve": [call(project, "resolve", conflict.id, "--take", take) for take in takes],
        }


@app.command(cls=Command, epilog="Example: syncd conflicts ~/work/shop")
def conflicts(path: OnePath = None, json: Json = False) -> int:
    """List the conflicts that nobody has settled yet, with the values of both sides."""
    project, _ = project_and_settings(path)
    with opened(project) as store, store.reading():
        found = [_values(project, store, conflict) for conflict in store.chronicle.conflicts()]
    if json:
        entries = [one.as_json(project) for one in found]
        output.print_json(project=str(project), conflicts=entries)
    else:
        _print(project, found)
    return ExitCode.ATTENTION if found else ExitCode.IN_SYNC


def _by_id(conflicts: Iterable[OpenConflict]) -> dict[str, list[OpenConflict]]:
    found: dict[str, list[OpenConflict]] = {}
    for conflict in conflicts:
        found.setdefault(conflict.id, []).append(conflict)
    return found


def _values(project: Path, store: Store, conflict: OpenConflict) -> _Values:
    result = _Values(conflict, {}, {})
    winner, loser = Side(conflict.winner), conflict.loser
    try:
        result.values[winner] = standing_value(store, conflict)
    except MessageError as error:
        result.unknown[winner] = error.sentence
    try:
        result.values[loser] = lost_value(project, store, conflict)
    except MessageError as error:
        result.unknown[loser] = error.sentence
    return result


def _print(project: Path, found: list[_Values]) -> None:
    if not found:
        output.say(f"{project}: no open conflicts", Tone.GOOD)
        return
    values = {one.conflict: one for one in found}
    by_id = _by_id(values)
    output.say(f"{project}: {number_of(len(found), 'open conflict')}", Tone.ATTENTION)
    for key, of_one in by_id.items():
        for conflict in of_one:
            _print_one(values[conflict])
        if any(values[conflict].is_past for conflict in of_one):
            _print_ways_back(project, key)
        else:
            _print_ways(project, key, {Side(conflict.winner) for conflict in of_one})
    if len(by_id) > 1:
        way = call(project, "resolve", None, "--all", "--take", CURRENT)
        output.say(f"  → To keep what stands now in all of them: {way}", Tone.HINT)


def _print_one(one: _Values) -> None:
    conflict = one.conflict
    winner, loser = Side(conflict.winner), conflict.loser
    output.say(
        f"  {conflict.id}, {conflict.field}, {local_time(conflict.at)}: "
        f"the {SIDES[winner]}'s value won",
        Tone.ATTENTION,
    )
    texts = {side: value or "" for side, value in one.values.items()}
    start = _start(texts.values())
    for side, what in ((winner, "stands now"), (loser, f"version {conflict.version}")):
        unknown = one.unknown.get(side)
        where = SIDES[side] if unknown else f"{SIDES[side]} ({what})"
        output.say(f"    {where}: {unknown or _shortened(texts[side], start)}")


def _start(texts: Collection[str]) -> int:
    """Return where to begin to show texts so that their first difference is seen."""
    places = zip(*texts, strict=False)
    same = next((at for at, found in enumerate(places) if len(set(found)) > 1), 0)
    return same - 20 if same > _WIDTH - 30 else 0


def _shortened(text: str, start: int) -> str:
    if not text:
        return "(empty)"
    before = "…" if start else ""
    rest = " ".join(text[start : start + 2 * _WIDTH].split())
    if len(rest) > _WIDTH or len(text) > start + 2 * _WIDTH:
        rest = f"{rest[:_WIDTH]}…"
    return before + rest


def _print_ways(project: Path, key: str, winners: set[Side]) -> None:
    keep = call(project, "resolve", key, "--take", CURRENT)
    output.say(f"    → To keep what stands now: {keep}", Tone.HINT)
    for side in Side:
        if winners != {side}:
            take = call(project, "resolve", key, "--take", side)
            output.say(f"    → To take the {SIDES[side]}'s value instead: {take}", Tone.HINT)


def _print_ways_back(project: Path, key: str) -> None:
    leave = call(project, "resolve", key, "--take", CURRENT)
    output.say(f"    → To leave it at that: {leave}", Tone.HINT)
    output.say(f"    → To bring the message back: {call(project, 'restore', key)}", Tone.HINT)


@app.command(cls=Command, epilog="Example: syncd resolve msg-20260220-201500 --take db")
def resolve(
    take: Annotated[
        Literal["file", "db", "current"],
        typer.Option(
            "--take",
            metavar="file|db|current",
            help="The side whose values are taken; current keeps what stands now.",
        ),
    ],
    message_id: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="A message's id, or as much of its beginning as no other conflict has.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Settle all open conflicts.")] = False,
    of_project: OfProject = None,
    json: Json = False,
) -> int:
    """Settle conflicts. What stood before goes to the history, so that this can be undone."""
    if everything == (message_id is not None):
        raise UsageError(
            "resolve takes an id, or --all for all open conflicts",
            hint="'syncd conflicts' lists them.",
        )
    project, settings = project_and_settings(of_project)
    with opened(project) as store, store.reading():
        seen = store.chronicle.conflicts()
    if message_id is not None:
        key = choose(
            message_id,
            {conflict.id for conflict in seen},
            none=f"there is no open conflict in a message {message_id!r}",
            hint="'syncd conflicts' lists the open ones.",
        )
        seen = [conflict for conflict in seen if conflict.id == key]
    settled: list[Resolved] = []
    failed: list[tuple[str, SyncdError]] = []

    def settle(store: Store) -> None:
        # Conflicts that came up only now were not meant: nobody has seen them.
        known = frozenset(seen)
        still_open = [conflict for conflict in store.chronicle.conflicts() if conflict in known]
        done, left = resolve_all(project, store, _by_id(still_open), take)
        settled.extend(done)
        failed.extend(left)

    report = act(project, settings, settle) if seen else Report(str(project))
    if json:
        output.print_json(
            project=str(project),
            take=take,
            resolved=[_resolved_json(project, one) for one in settled],
            failed=[
                {"id": key, "error": error.sentence, "hint": error.hint} for key, error in failed
            ],
            cycle=report.as_json(),
        )
    else:
        _print_resolved(project, settled, take)
        for _, error in failed:
            output.complain(f"syncd: {error.sentence}", error.hint)
        if not (seen or report.conflicts):
            output.say(f"{project}: no open conflicts", Tone.GOOD)
        print_state(report, done=report.halt is None)
    return code_of(report)


def _undo_of(project: Path, one: Resolved) -> str | None:
    if one.before is None:
        return None
    return call(project, "restore", one.id, "--version", str(one.before))


def _resolved_json(project: Path, one: Resolved) -> dict[str, Any]:
    return {
        "id": one.id,
        "fields": list(one.fields),
        "kept_number": one.before,
        "undo": _undo_of(project, one),
    }


def _print_resolved(project: Path, settled: list[Resolved], take: str) -> None:
    where = where_now(project, [one.id for one in settled])
    for one in settled:
        fields = ", ".join(one.fields)
        undo = _undo_of(project, one)
        if undo is None:
            output.say(f"{one.id}, {fields}: settled, what stands now stays", Tone.GOOD)
            continue
        value = f"the {SIDES[take]}'s value"
        output.say(f"{one.id}, {fields}: settled with {value}, {where[one.id]}", Tone.GOOD)
        output.say(f"  → To undo: {undo}", Tone.HINT)
