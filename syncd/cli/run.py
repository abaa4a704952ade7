"""``syncd run``: the agent in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from syncd.cli import output
from syncd.cli.findings import number_of
from syncd.cli.options import Command, Paths, Poll, Prefer, Recursive
from syncd.cli.projects import chosen_roots

app = typer.Typer()


@app.command(cls=Command, epilog="Example: syncd run ~/work --recursive")
def run(
    paths: Paths = None,
    recursive: Recursive = False,
    poll: Poll = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log one JSON object a line.")
    ] = False,
    prefer: Prefer = None,
) -> int:
    """Keep projects in step until stopped: the agent, in the foreground."""
    from syncd import agent

    return agent.run(
        chosen_roots(paths, recursive=recursive),
        recursive=recursive,
        poll=poll,
        log_json=log_json,
        flags={"prefer": prefer},
        on_ready=_say_ready,
    )


def _say_ready(projects: int) -> None:
    output.tell(f"ready: watching {number_of(projects, 'project')}")
