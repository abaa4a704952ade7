"""Results for people, as markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.bench.figures import Result, short

HEADER = ("what", "floor", "syncd", "ratio", "target", "measured", "")
MET, MISSED = "met", "missed"


def cells(result: Result) -> Iterator[tuple[str, ...]]:
    """Yield the lines of one result: one for each target, at least one."""
    ratio = f"{short(result.ratio)} ×" if result.ratio is not None else "–"
    floor = str(result.floor) if result.floor is not None else "–"
    first = (result.what, floor, str(result.ours), ratio)
    if not result.targets:
        yield (*first, "", "", "")
    for number, target in enumerate(result.targets):
        measured = f"{short(target.measured)} {target.unit}".strip()
        verdict = MET if target.is_met else MISSED
        yield (*(first if number == 0 else ("",) * 4), target.what, measured, verdict)


def as_text(results: Sequence[Result]) -> str:
    """Lay all results out in columns."""
    lines = [HEADER, *(line for result in results for line in cells(result))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_markdown(results: Sequence[Result]) -> str:
    """Write all results as a table of a README."""
    rule = ("---",) * len(HEADER)
    lines = [HEADER, rule, *(line for result in results for line in cells(result))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def floors_in_words(results: Sequence[Result]) -> str:
    """Say once for each kind of result what its floor is."""
    said = {result.floor_is: result.name for result in results if result.floor is not None}
    return "\n".join(f"- {name}: {floor}" for floor, name in said.items())


def as_json(results: Sequence[Result], **about: Any) -> dict[str, Any]:
    """Return everything, with what is known about the run."""
    return {"version": 1} | about | {"results": [result.as_json() for result in results]}
