"""``idle-agent``: what an agent over many projects costs while nobody writes anything."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import children
from tests.bench.corpus import letters, write
from tests.bench.figures import Result, Samples, Target, require
from tests.bench.workshop import Workshop

_TICKS = os.sysconf("SC_CLK_TCK")


def idle_agent(workshop: Workshop) -> Iterator[Result]:
    """Measure an agent that was started again over many projects: ready, memory, CPU, writes."""
    scale = workshop.scale
    root = workshop.once("tree", lambda folder: _make(workshop, folder))
    with children.agent(workshop.home, root, options=("--recursive",)):
        pass  # whatever a first run has to do is done
    os.sync()
    started = time.perf_counter()
    with children.agent(workshop.home, root, options=("--recursive",)) as agent:
        ready_s = time.perf_counter() - started
        first_cpu_s = _used(Path("/proc") / str(agent.process.pid))["cpu_s"]
        # What was opened for the first cycles is closed again: from then on it is idle.
        time.sleep(min(10.0, scale.idle_s))
        process = Path("/proc") / str(agent.process.pid)
        before, files = _used(process), _mtimes(root)
        began = time.perf_counter()
        time.sleep(scale.idle_s)
        after = _used(process)
        seconds = time.perf_counter() - began
        files_now = _mtimes(root)
    cpu = 100 * (after["cpu_s"] - before["cpu_s"]) / seconds
    written = after["write_bytes"] - before["write_bytes"]
    changed = sum(files.get(path) != stamp for path, stamp in files_now.items())
    result = Result(
        name="idle-agent",
        what=f"idle agent over {scale.projects:,} projects of {scale.each:,}, {seconds:.0f} s",
        ours=Samples.of([cpu], "% of a core"),
        did={"ours": scale.projects},
        targets=[
            Target("no file changed", changed, 0, "files"),
            Target("no byte written", written, 0, "bytes"),
            Target("≤ 0.5 % of a core", cpu, 0.5, "%"),
            Target("≤ 80 MB", after["rss_mb"], 80, "MB"),
            Target("ready in ≤ 10 s", ready_s, 10, "s"),
        ],
        # A full compare of all comes every ten minutes, and is not in the time that was measured.
        facts={
            "cpu_s_until_ready": first_cpu_s,
            "peak_mb": after["peak_mb"],
            "characters": after["wchar"] - before["wchar"],
        },
    )
    require("Traceback" not in agent.log, f"The agent had a defect: {agent.log[-2_000:]}")
    yield result


def _make(workshop: Workshop, root: Path) -> None:
    scale = workshop.scale
    for number in range(scale.projects):
        project = root / f"team-{number // 40}" / f"project-{number}"
        write(project / ".claude-mpm", letters(project, scale.each, seed=number))
    children.syncd(workshop.home, "migrate", root, "--recursive")


def _used(process: Path) -> dict[str, float]:
    """Return CPU time, memory and bytes written of a process (proc(5))."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    status = _numbers(process / "status")
    written = _numbers(process / "io")
    return {
        "cpu_s": (int(fields[11]) + int(fields[12])) / _TICKS,
        "rss_mb": status["VmRSS"] * 1024 / 1e6,
        "peak_mb": status["VmHWM"] * 1024 / 1e6,
        "write_bytes": written["write_bytes"],
        "wchar": written["wchar"],
    }


def _numbers(path: Path) -> dict[str, int]:
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            found[name] = int(words[0])
    return found


def _mtimes(root: Path) -> dict[str, int]:
    found = {}
    for folder, _, names in os.walk(root):
        for path in (folder, *(f"{folder}/{name}" for name in names)):
            found[path] = os.stat(path, follow_symlinks=False).st_mtime_ns
    return found
