"""``syncd run``: the agent in the foreground, and its log."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
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
    from syncd.agent import agent

    roots = chosen_roots(paths, recursive=recursive)

    def say_ready(projects: int) -> None:
        words = f"ready: watching {number_of(projects, 'project')}"
        if log_json:
            logging.getLogger("syncd.agent").info(words)
            return
        with suppress(OSError):  # a log that cannot be written, on a full disk, ends no agent
            output.tell(words)

    with _logged(_JsonFormatter() if log_json else _LineFormatter()):
        flags = {"prefer": prefer}
        agent.run(roots, recursive=recursive, poll=poll, flags=flags, on_ready=say_ready)
    return 0


@contextmanager
def _logged(formatter: logging.Formatter) -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    log = logging.getLogger()  # what libraries tell goes into the same lines
    log.addHandler(handler)
    logging.getLogger("syncd").setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _LineFormatter(logging.Formatter):
    """A line each. Names of files are in them, which anybody may have made (`output.shown`)."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return output.shown(super().formatMessage(record))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)
