"""``scripts/bench``: chooses what is measured, and tells it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import (
    bulk,
    drop_in,
    idle,
    indexers,
    latency,
    messaging,
    neighbours,
    readme,
    sizes,
    start,
)
from tests.bench import table as tables
from tests.bench.figures import BenchError, Result
from tests.bench.workshop import TINY, Scale, Workshop

BENCHES: dict[str, Callable[[Workshop], Iterator[Result]]] = {
    "start": start.start,
    "migrate": bulk.migrate,
    "idle-sync": bulk.idle_sync,
    "file-to-row": latency.file_to_row,
    "row-to-file": latency.row_to_file,
    "drop-in": drop_in.drop_in,
    "neighbours": neighbours.neighbours,
    "idle-agent": idle.idle_agent,
    "messaging": messaging.messaging,
    "indexers": indexers.indexers,
    "sizes": sizes.sizes,
}

_IN_MEMORY = "/dev/shm"
"""Where a session's folder for what is short-lived stands, as systemd makes it for users."""

MISHAPS = (BenchError, AssertionError, OSError, sqlite3.Error, subprocess.SubprocessError)
"""What fails one bench and lets the others go on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benches that were asked for; 1 when one failed, whatever the times are."""
    options = _options(arguments)
    scale = TINY if options.tiny else Scale()
    if options.messages:
        scale = scale.with_messages(options.messages)
    signal.signal(signal.SIGTERM, _interrupt)
    about = _about()
    results, failures = _measured(options.names or list(BENCHES), scale, options.plot)
    about |= {"load_after": os.getloadavg(), "failures": failures}
    if options.json:
        options.json.write_text(json.dumps(tables.as_json(results, about), indent=1))
    words = tables.in_words(results, about)
    as_table = tables.as_markdown if options.markdown else tables.as_text
    print(f"{as_table(results)}\n\n{words}")
    if options.readme and not failures:
        # Its sizes are in the plot.
        shown = [result for result in results if result.name != "sizes"]
        figures = f"{tables.as_markdown(shown)}\n\n{readme.PICTURE}\n\n{words}"
        readme.update(readme.README, figures)
    return 1 if failures else 0


def _measured(
    names: Sequence[str], scale: Scale, plot: Path | None
) -> tuple[list[Result], dict[str, str]]:
    """Run benches in a scratch folder that is gone afterwards; return results and failures."""
    failures: dict[str, str] = {}
    results: list[Result] = []
    with _as_users_have_it(), _scratch() as folder, _scratch(_IN_MEMORY) as memory:
        workshop = Workshop(Path(folder).resolve(), scale, plot)
        workshop.home.mkdir()
        (workshop.home / "run").symlink_to(memory)
        for name in names:
            began = time.monotonic()
            try:
                for result in BENCHES[name](workshop):
                    results.append(result)
                    _tell(f"{result.name}: {result.what}: {result.ours}, floor {result.floor}")
            except MISHAPS as error:
                failures[name] = f"{type(error).__name__}: {error}"
            except KeyboardInterrupt:  # what was measured so far is told all the same
                failures[name] = "interrupted"
                break
            _tell(f"{name} {'failed' if name in failures else 'is done'} {_since(began)}")
    return results, failures


def _scratch(where: str | None = None) -> tempfile.TemporaryDirectory[str]:
    usable = where is not None and os.access(where, os.W_OK)
    return tempfile.TemporaryDirectory(prefix="syncd-bench.", dir=where if usable else None)


@contextmanager
def _as_users_have_it() -> Iterator[None]:
    """Let processes keep their compiled modules, whatever the one who measures has set."""
    name = "PYTHONDONTWRITEBYTECODE"
    former = os.environ.pop(name, None)
    try:
        yield
    finally:
        if former is not None:
            os.environ[name] = former


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure syncd against floors, in turn, in the same run.",
        epilog="Names: " + ", ".join(BENCHES),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (all)")
    parser.add_argument("--json", type=Path, metavar="F", help="write everything to a file")
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown")
    parser.add_argument(
        "--readme", action="store_true", help="measure all, and renew the README's figures"
    )
    parser.add_argument("--plot", type=Path, metavar="F", help="where 'sizes' writes its SVG")
    parser.add_argument("--messages", type=int, metavar="N", help="the largest size (100000)")
    parser.add_argument("--tiny", action="store_true", help="check the harness; times mean nothing")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in BENCHES:
            parser.error(f"there is no bench '{name}'; there are {', '.join(BENCHES)}")
    for file in (options.json, options.plot):
        if file and not file.resolve().parent.is_dir():
            parser.error(f"{file}: there is no such folder")
    if options.messages is not None and options.messages < 1:
        parser.error("--messages: at least 1")
    if options.plot and options.names and "sizes" not in options.names:
        parser.error("--plot draws what 'sizes' measures: name that too")
    if options.readme:
        if options.names or options.tiny or options.messages:
            parser.error("--readme measures everything, at full size")
        options.plot = options.plot or readme.PLOT
    return options


def _about() -> dict[str, Any]:
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_before": os.getloadavg(),
    }


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # cleaning up takes a while
    raise KeyboardInterrupt


def _since(began: float) -> str:
    return f"({time.monotonic() - began:.0f} s)"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
