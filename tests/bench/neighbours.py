"""``neighbours``: how long other writers wait while syncd works hard on the same database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import children
from tests.bench.bulk import counts_in
from tests.bench.children import companion, last_word
from tests.bench.corpus import letters, write
from tests.bench.drop_in import dropped_files, dropped_rows
from tests.bench.figures import Result, Samples, Target, require
from tests.bench.workshop import Workshop, database_of
from tests.clients import NewClient

WRITERS = 3
_LEAST_S = 0.2


@dataclass(frozen=True, slots=True)
class Waits:
    """What the neighbours say afterwards: waits for the lock and whole calls, in ms."""

    waits: list[float]
    calls: list[float]
    errors: list[str]


def neighbours(workshop: Workshop) -> Iterator[Result]:
    """Measure the waits of three writers, alone and during everything that writes a lot."""
    messages = workshop.scale.small
    alone = _during(workshop, lambda _: time.sleep(3 * workshop.scale.budget_s))
    require(not alone.errors, f"The neighbours do not even get on alone: {alone.errors[:3]}")
    phases: dict[str, Callable[[Path], object]] = {
        f"migrate of {messages:,}": lambda project: _migrate(workshop, project, messages),
        f"{messages:,} files dropped in": lambda project: dropped_files(
            workshop, project, messages
        ),
        f"{messages:,} rows dropped in": lambda project: dropped_rows(workshop, project, messages),
    }
    for phase, act in phases.items():
        found = _during(workshop, act, with_agent="dropped" in phase)
        yield Result(
            name="neighbours",
            what=f"wait of {WRITERS} other writers during {phase}",
            ours=Samples.of(found.waits, "ms", tail=True),
            floor=Samples.of(alone.waits, "ms", tail=True),
            floor_is="the same writers without syncd",
            did={"ours": len(found.waits), "floor": len(alone.waits)},
            targets=[
                Target("no error", len(found.errors), 0, "errors"),
                Target("p99 ≤ 60 ms", Samples.of(found.waits, "ms").p99, 60, "ms"),
            ],
            facts={
                "errors": found.errors[:10],
                "longest_ms": max(found.waits),
                "call_ms": Samples.of(found.calls, "ms").as_json() | {"values": []},
            },
        )


def _during(
    workshop: Workshop, act: Callable[[Path], object], *, with_agent: bool = False
) -> Waits:
    project = workshop.fresh("dropped")
    NewClient(project).rows()  # the contract's tables are there before anybody starts
    with ExitStack() as stack:
        if with_agent:
            stack.enter_context(children.agent(workshop.home, project))
        writers = [
            stack.enter_context(companion(workshop.home, "writer", database_of(project)))
            for _ in range(WRITERS)
        ]
        time.sleep(_LEAST_S)
        act(project)
        said = [last_word(writer) for writer in writers]
    return Waits(
        *([item for one in said for item in one[name]] for name in ("waits", "calls", "errors"))
    )


def _migrate(workshop: Workshop, project: Path, messages: int) -> None:
    write(project / ".claude-mpm", letters(project, messages))
    ended = children.syncd(workshop.home, "migrate", project, "--json")
    inserted = counts_in(ended)["rows_inserted"]
    require(inserted == messages, f"{inserted} of {messages} messages were imported.")
