"""The plots of the report's page: SVG whose colours are the page's, for light and dark.

matplotlib draws with colours that stand for the page's own; they are replaced by CSS variables in
what it wrote. Only numbers and dates are drawn, never a text of a message.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from syncd.cli.findings import number_of
from syncd.core.sides import Side

_INK, _LINE = "#010101", "#020202"
_OF = {Side.FILE: "#030303", Side.DB: "#040404"}
_COLOURS = {
    _INK: "var(--ink-soft)",
    _LINE: "var(--line)",
    _OF[Side.FILE]: "var(--files)",
    _OF[Side.DB]: "var(--sql)",
}
_SIZES = {"wide": (9.6, 2.7), "narrow": (4.2, 2.6)}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.edgecolor": _LINE,
    "grid.color": _LINE,
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """One day, or several, with a number for each origin."""

    first: date
    last: date
    numbers: dict[Side, int]

    @property
    def days(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


def buckets(dates: Sequence[date], series: dict[Side, list[int]], *, by_sum: bool) -> list[Bucket]:
    """Return what is drawn as one: days, or where there are many, weeks or months of 30 days.

    Of several days the sum counts, or else the most.
    """
    length = 1 if len(dates) <= 100 else 7 if len(dates) <= 700 else 30
    found = []
    for end in range(len(dates), 0, -length):
        run = slice(max(0, end - length), end)
        numbers = {
            side: sum(values[run]) if by_sum else max(values[run])
            for side, values in series.items()
        }
        found.append(Bucket(dates[run][0], dates[run][-1], numbers))
    return found[::-1]


def stacked_bars(name: str, found: Sequence[Bucket], noun: str) -> str:
    """Return bars, those of files below those of SQL, once for wide windows and once for narrow."""

    def draw(axes: Axes, plot: str) -> Marks:
        base = [0] * len(found)
        for side in Side:
            for place, one in enumerate(found):
                number = one.numbers[side]
                if number:
                    bars = axes.bar(place, number, 0.78, bottom=base[place], color=_OF[side])
                    base[place] += number
                    bars[0].set_gid(f"{plot}-{side}-{place}")
                    yield f"{plot}-{side}-{place}", _mark(one, side, noun)

    return _in_each_size(name, found, draw)


def two_lines(name: str, found: Sequence[Bucket], noun: str) -> str:
    """Return a line for each origin, once for wide windows and once for narrow ones."""

    def draw(axes: Axes, plot: str) -> Marks:
        for side in reversed(Side):
            numbers = [one.numbers[side] for one in found]
            axes.plot(numbers, color=_OF[side], linewidth=2, solid_joinstyle="round")
            for place, one in enumerate(found):
                key = f"{plot}-{side}-{place}"
                (dot,) = axes.plot(place, numbers[place], "o", color=_OF[side], clip_on=False)
                dot.set(markersize=4, gid=key)
                yield key, _mark(one, side, noun)

    return _in_each_size(name, found, draw)


Marks = Iterator[tuple[str, str]]
"""What stands for single numbers in a plot: the id of its group, and the tag to put in place."""


def _mark(one: Bucket, side: Side, noun: str) -> str:
    """Return the tag of a mark's group, with its value for the pointer and for programs."""
    number = one.numbers[side]
    origin = "from files" if side is Side.FILE else "by SQL"
    return (
        f'<g data-day="{one.first}" data-origin="{side}" data-number="{number}">'
        f"<title>{one.days}: {number_of(number, noun)} {origin}</title>"
    )


def _in_each_size(name: str, found: Sequence[Bucket], draw: Callable[[Axes, str], Marks]) -> str:
    plots = []
    for width, size in _SIZES.items():
        plot = f"{name}-{width}"
        # The salt keeps the ids of one plot apart from those of another on the same page.
        with rc_context(_SETTINGS | {"svg.hashsalt": plot}):
            figure = Figure(figsize=size, layout="constrained")
            axes = figure.add_subplot()
            marks = dict(draw(axes, plot))
            _dress(axes, found, most_labels=10 if width == "wide" else 5)
            file = io.StringIO()
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(file, format="svg", transparent=True, metadata=nothing)
        plots.append(_for_the_page(file.getvalue(), width, marks))
    return "".join(plots)


def _for_the_page(text: str, width: str, marks: Mapping[str, str]) -> str:
    """Return the element ``svg`` of what matplotlib wrote, with the page's colours and fonts."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;]*; ", "", text)
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height|xmlns:xlink|xmlns|version)="[^"]*"', "", head)
    text = f'{head} class="plot {width}" aria-hidden="true">{rest}'.replace("xlink:href", "href")
    for key, mark in marks.items():
        text = text.replace(f'<g id="{key}">', mark, 1)
    used = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    for colour, variable in _COLOURS.items():
        text = text.replace(colour, variable)
    return text


def _dress(axes: Axes, found: Sequence[Bucket], most_labels: int) -> None:
    step = max(1, -(-len(found) // most_labels))
    places = range((len(found) - 1) % step, len(found), step)
    axes.set_xticks(list(places), [_day(found[place].first) for place in places])
    axes.set_xlim(-0.6, len(found) - 0.4)
    axes.set_ylim(bottom=0)
    if axes.get_ylim()[1] < 1:
        axes.set_ylim(top=1)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "left", "right"]].set_visible(False)


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"
