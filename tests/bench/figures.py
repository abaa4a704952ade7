"""What was measured, what it was to be, and whether it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


class BenchError(Exception):
    """A measurement went wrong: its numbers would not mean what they say."""


def require(condition: object, sentence: str) -> None:
    """Raise `BenchError` with a sentence unless ``condition`` holds."""
    if not condition:
        raise BenchError(sentence)


def short(value: float) -> str:
    """Write a number with three digits that count, thousands apart."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


@dataclass(frozen=True, slots=True)
class Samples:
    """One number for each repetition, or for each change of many.

    The median stands for all. The spread is the lowest and the highest, or with ``tail`` the 99th
    percentile (by nearest rank).
    """

    values: tuple[float, ...]
    unit: str
    tail: bool = False

    @classmethod
    def of(cls, values: Iterable[float], unit: str, *, tail: bool = False) -> Samples:
        found = tuple(values)
        require(found, "Nothing was measured.")
        return cls(found, unit, tail)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def p99(self) -> float:
        return sorted(self.values)[math.ceil(0.99 * len(self.values)) - 1]

    def __str__(self) -> str:
        said = f"{short(self.median)} {self.unit}"
        if self.tail:
            return f"{said} (p99 {short(self.p99)})"
        if len(self.values) > 1:
            return f"{said} ({short(min(self.values))}–{short(max(self.values))})"
        return said

    def as_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "median": self.median,
            "lowest": min(self.values),
            "highest": max(self.values),
            "p99": self.p99,
            "values": [round(value, 6) for value in self.values],
        }


@dataclass(frozen=True, slots=True)
class Target:
    """A limit, and what was measured. ``what`` says it in words with the limit in it."""

    what: str
    measured: float
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "measured": self.measured,
            "limit": self.limit,
            "is_met": self.is_met,
        }


@dataclass(slots=True)
class Result:
    """One row of the bench's table.

    ``did`` counts what ours and the floor did (rows, files, ...): unless both did the same, their
    times say nothing. ``facts`` are further numbers, for the JSON only. Where more is better, as
    for operations a second, ``more_is_better`` turns the ratio round.
    """

    name: str
    what: str
    ours: Samples
    floor: Samples | None = None
    floor_is: str = "–"
    did: dict[str, int] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    more_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        """Ours in terms of the floor, by their medians."""
        if self.floor is None or self.floor.median == 0:
            return None
        return self.ours.median / self.floor.median

    def limit_ratio(self, limit: float, floor: str = "the floor") -> None:
        """Add the target that ours takes at most ``limit`` times what the floor takes."""
        require(self.ratio is not None, f"{self.what}: there is no floor to compare with.")
        self.targets.append(Target(f"≤ {limit:g} × {floor}", self.ratio or 0.0, limit, "×"))

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "ours": self.ours.as_json(),
            "floor": self.floor.as_json() if self.floor else None,
            "floor_is": self.floor_is,
            "ratio": self.ratio,
            "more_is_better": self.more_is_better,
            "did": self.did,
            "targets": [target.as_json() for target in self.targets],
            "facts": self.facts,
        }
