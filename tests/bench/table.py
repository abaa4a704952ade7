"""Results for people, as markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.bench.figures import Result, short

HEADER = ("what", "floor", "syncd", "ratio", "target", "measured", "")
COMPARED = ("what", "without", "with syncd", "ratio")
MET, MISSED = "met", "missed"


def lines_of(result: Result) -> Iterator[tuple[str, ...]]:
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
    lines = [HEADER, *(line for result in results for line in lines_of(result))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_markdown(results: Sequence[Result]) -> str:
    """Write a table of the results that have targets, and one of those that only compare."""
    aimed = [line for result in results if result.targets for line in lines_of(result)]
    compared = [
        line[: len(COMPARED)]
        for result in results
        if not result.targets
        for line in lines_of(result)
    ]
    tables = [_markdown(HEADER, aimed), _markdown(COMPARED, compared)]
    return "\n\n".join(table for table in tables if table)


def _markdown(header: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> str:
    if not lines:
        return ""
    rule = ("---",) * len(header)
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))


def in_words(results: Sequence[Result], about: Mapping[str, Any]) -> str:
    """Say what the floors are, how many targets are met, and where and when that was."""
    floors: dict[str, str] = {}
    for result in results:
        if result.floor is not None:
            floors.setdefault(result.floor_is, result.name)
    targets = [target for result in results for target in result.targets]
    met = sum(target.is_met for target in targets)
    before, after = about["load_before"][0], about["load_after"][0]
    said = [
        "Floors, or what is compared with:",
        "",
        *(f"- {name}: {floor}" for floor, name in floors.items()),
        "",
        f"{met} of {len(targets)} targets met. Medians of repetitions (lowest–highest), or of "
        f"single changes (99th percentile). {about['started']}, {about['cores']} cores, "
        f"{about['system']}, Python {about['python']}, SQLite {about['sqlite']}, "
        f"load {before:.1f} before and {after:.1f} after.",
    ]
    said += [f"{name} failed: {sentence}" for name, sentence in about["failures"].items()]
    return "\n".join(said)


def as_json(results: Sequence[Result], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything, with what is known about the run."""
    return {"version": 1, **about, "results": [result.as_json() for result in results]}
