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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import bulk, drop_in, idle, indexers, latency, messaging, neighbours, sizes, start
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benches that were asked for; 1 when one failed, whatever the times are."""
    options = _options(arguments)
    scale = TINY if options.tiny else Scale()
    if options.messages:
        scale = scale.with_messages(options.messages)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    about = _about()
    failures: dict[str, str] = {}
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="syncd-bench.") as folder:
        workshop = Workshop(Path(folder).resolve(), scale, options.plot)
        for name in options.names or BENCHES:
            began = time.monotonic()
            try:
                for result in BENCHES[name](workshop):
                    results.append(result)
                    _tell(f"{result.name}: {result.what}: {result.ours}, floor {result.floor}")
            except (
                BenchError,
                AssertionError,
                OSError,
                sqlite3.Error,
                subprocess.SubprocessError,
            ) as error:
                failures[name] = f"{type(error).__name__}: {error}"
                _tell(f"{name} failed")
            _tell(f"{name} took {time.monotonic() - began:.0f} s in all")
    about |= {"load_after": os.getloadavg(), "failures": failures}
    if options.json:
        Path(options.json).write_text(json.dumps(tables.as_json(results, **about), indent=1))
    _print(results, about, markdown=options.markdown)
    return 1 if failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure syncd against floors, in turn, in the same run.",
        epilog="Names: " + ", ".join(BENCHES),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (all)")
    parser.add_argument("--json", type=Path, metavar="F", help="write everything to a file")
    parser.add_argument("--markdown", action="store_true", help="print the table as markdown")
    parser.add_argument("--plot", type=Path, metavar="F", help="where 'sizes' writes its SVG")
    parser.add_argument("--messages", type=int, metavar="N", help="the largest size (100000)")
    parser.add_argument("--tiny", action="store_true", help="check the harness; times mean nothing")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in BENCHES:
            parser.error(f"there is no bench '{name}'; there are {', '.join(BENCHES)}")
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


def _print(results: Sequence[Result], about: dict[str, Any], *, markdown: bool) -> None:
    targets = [target for result in results for target in result.targets]
    missed = sum(not target.is_met for target in targets)
    before, after = about["load_before"][0], about["load_after"][0]
    print(tables.as_markdown(results) if markdown else tables.as_text(results))
    print(f"\nFloors:\n{tables.floors_in_words(results)}")
    print(
        f"\n{len(targets) - missed} of {len(targets)} targets met. Medians of repetitions (lowest–"
        f"highest), or of single changes (99th percentile).\n{about['started']}, {about['cores']} "
        f"cores, {about['system']}, Python {about['python']}, SQLite {about['sqlite']}, "
        f"load {before:.1f} before and {after:.1f} after."
    )
    for name, sentence in about["failures"].items():
        print(f"{name} failed: {sentence}")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
