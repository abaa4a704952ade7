"""``start``: how long commands take that have next to nothing to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tests.bench import children
from tests.bench.children import SYNCD, finish
from tests.bench.figures import Result, Samples, require
from tests.bench.workshop import Workshop

_PROJECT = 100
"""Messages of the project whose status is asked for."""


def start(workshop: Workshop) -> Iterator[Result]:
    """Measure two commands and the import that every command line of this kind pays for."""
    project = workshop.corpus(min(_PROJECT, workshop.scale.small))
    children.syncd(workshop.home, "sync", project)
    commands: dict[str, list[object]] = {
        "floor": [sys.executable, "-c", "import typer; print(typer)"],
        "syncd --version": [*SYNCD, "--version"],
        "syncd status of one project": [*SYNCD, "status", project],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    said = {}
    for number in range(workshop.scale.starts + 1):
        for name, command in commands.items():
            ended = finish(command, workshop.home)
            said[name] = ended.output
            if number:  # the first round warms up
                times[name].append(ended.seconds * 1_000)
    for name, word in (("syncd --version", "syncd "), ("syncd status of one project", "in sync")):
        require(word in said[name], f"'{name}' says: {said[name]}")
        result = Result(
            name="start",
            what=f"start of `{name}`" if name.endswith("version") else "start of `syncd status`",
            ours=Samples.of(times[name], "ms"),
            floor=Samples.of(times["floor"], "ms"),
            floor_is='`python -c "import typer"`',
            did={"ours": len(times[name]), "floor": len(times["floor"])},
        )
        result.limit_ratio(1.3)
        yield result
