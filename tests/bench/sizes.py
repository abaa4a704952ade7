"""``sizes``: what a message costs in ``migrate``, against how many they are, and a plot of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tests.bench.bulk import READ_AND_INSERT, floor_of_migrate, in_turn, migrated
from tests.bench.corpus import letters, write
from tests.bench.figures import Result, Samples
from tests.bench.workshop import Workshop, count_rows, database_of, keep_rows

_ONCE_FROM = 50_000
"""So many take long enough: they are measured once only."""


def sizes(workshop: Workshop) -> Iterator[Result]:
    """Measure one project as it grows; write the plot where the run was asked for one."""
    project = workshop.folder / "grows"
    written = letters(project, max(workshop.scale.sizes))
    results: dict[int, Result] = {}
    there = 0
    for messages in workshop.scale.sizes:
        write(project / ".claude-mpm", islice(written, messages - there))
        there = messages
        migrated(workshop, project, messages)
        source = keep_rows(project, workshop.folder / "rows.db")
        floors, ours = in_turn(
            1 if messages >= _ONCE_FROM else workshop.scale.repeat_long,
            lambda: floor_of_migrate(workshop, project, source),  # noqa: B023
            lambda: migrated(workshop, project, messages),  # noqa: B023
        )
        results[messages] = Result(
            name="sizes",
            what=f"a message in migrate of {messages:,}",
            ours=Samples.of((one.seconds / messages * 1e6 for one in ours), "µs"),
            floor=Samples.of((one["seconds"] / messages * 1e6 for one in floors), "µs"),
            floor_is=READ_AND_INSERT,
            did={"ours": count_rows(database_of(project)), "floor": floors[-1]["rows"]},
        )
        yield results[messages]
    if workshop.plot is not None:
        plot(results, workshop.plot)


def plot(results: dict[int, Result], target: Path) -> None:
    """Draw cost against size as SVG, the same bytes for the same numbers."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, ticker

    matplotlib.rcParams.update({"svg.hashsalt": "bench", "font.size": 11})
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    lines = {
        "syncd migrate (the whole command)": [one.ours for one in results.values()],
        "floor: read every file, insert the rows": [
            one.floor for one in results.values() if one.floor is not None
        ],
    }
    for (label, samples), marker in zip(lines.items(), "os", strict=True):
        axes.plot(list(results), [one.median for one in samples], marker=marker, label=label)
    axes.set_xscale("log")
    axes.set_xticks(list(results))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("messages in the project")
    axes.set_ylabel("microseconds a message")
    axes.set_title("What a message costs in syncd migrate")
    axes.grid(alpha=0.3)
    axes.legend()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, format="svg", metadata={"Date": None})
    pyplot.close(figure)
