"""Finds every abort point of every scenario, has drivers try them, and prints what came of it.

An abort point is one system call by which the command changes something in the project. It is
tried in each *mode*: death right before it or after it, death half-way through a write, an I/O
error once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from tests.crash.driver import DEADLY, FAILING, WRITES
from tests.crash.scenarios import SCENARIOS
from tests.running import ROOT, environment

MODES = (*DEADLY, *FAILING)
USUAL_MODES = ("kill", "partial", "eio", "enospc")
LEAST_POINTS = 2_000
"""The scenarios have more abort points than this in all; fewer means that calls went uncounted."""

_SHIM = Path(__file__).with_name("shim.c")
_MEMORY = Path("/dev/shm")


class NoCompiler(Exception):
    """There is no C compiler for the shim."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One abort point of a scenario, and what is to happen there. ``at`` counts from 1."""

    name: str
    at: int
    mode: str


@dataclass(slots=True)
class Result:
    """What came of one scenario. ``failures`` are attempts (None: the uninterrupted run)."""

    name: str
    calls: list[str] = field(default_factory=list)
    tried: int = 0
    failures: list[tuple[Attempt | None, str]] = field(default_factory=list)

    @property
    def recovered(self) -> int:
        return self.tried - len(self.failures)


def compiled_shim(folder: Path) -> Path:
    """Compile the shim into a folder; raises `NoCompiler` when there is nothing to do it with."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("There is no C compiler (cc or gcc), and the crash tests need one.")
    target = folder / "shim.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(_SHIM)],
        check=True,
        cwd=folder,
    )
    return target


def place_to_work() -> str | None:
    """Return a folder in memory where there is one: the calls are the same, and syncs are quick."""
    return str(_MEMORY) if os.access(_MEMORY, os.W_OK) else None


def shim_environment(home: Path, shim: Path, *, plain: bool = False) -> dict[str, str]:
    """Return the environment under which syncd runs with the shim, and the same on every run."""
    variables = environment(home, gone_s=0, retry_s=0)
    variables |= {"LD_PRELOAD": str(shim), "PYTHONHASHSEED": "0"}
    return variables | ({"CRASH_PLAIN": "1"} if plain else {})


class Crew:
    """Drivers that answer questions side by side, each in a folder of its own."""

    def __init__(self, folder: Path, jobs: int, *, plain: bool = False) -> None:
        shim = compiled_shim(folder)
        self._drivers = []
        for number in range(jobs):
            own = folder / f"driver-{number}"
            own.mkdir()
            self._drivers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.crash.driver", str(own)],
                    env=shim_environment(own / "home", shim, plain=plain),
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )

    def ask(
        self, questions: Sequence[Attempt], heard: Callable[[Attempt, dict[str, Any]], None]
    ) -> None:
        """Have all questions answered; ``heard`` gets each answer, in no certain order."""
        waiting: SimpleQueue[Attempt] = SimpleQueue()
        for question in questions:
            waiting.put(question)
        answers: SimpleQueue[tuple[Attempt, dict[str, Any]] | None] = SimpleQueue()
        threads = [
            threading.Thread(target=self._serve, args=(driver, waiting, answers), daemon=True)
            for driver in self._drivers
        ]
        for thread in threads:
            thread.start()
        for _ in questions:
            answer = answers.get()
            if answer is None:
                raise RuntimeError("a driver ended before its time; see what it said above")
            heard(*answer)
        for thread in threads:
            thread.join()

    @staticmethod
    def _serve(
        driver: subprocess.Popen[str],
        waiting: SimpleQueue[Attempt],
        answers: SimpleQueue[tuple[Attempt, dict[str, Any]] | None],
    ) -> None:
        assert driver.stdin is not None
        assert driver.stdout is not None
        while True:
            try:
                question = waiting.get_nowait()
            except Empty:
                return
            try:
                driver.stdin.write(json.dumps([question.name, question.at, question.mode]) + "\n")
                driver.stdin.flush()
                line = driver.stdout.readline()
            except BrokenPipeError:
                line = ""
            answers.put((question, json.loads(line)) if line else None)
            if not line:
                return

    def dismiss(self) -> None:
        for driver in self._drivers:
            assert driver.stdin is not None
            assert driver.stdout is not None
            driver.stdin.close()
            driver.wait(timeout=60)
            driver.stdout.close()


@contextmanager
def crew(jobs: int, *, plain: bool = False) -> Iterator[Crew]:
    """Have drivers ready while the block runs."""
    with tempfile.TemporaryDirectory(prefix="syncd-crash-", dir=place_to_work()) as name:
        drivers = Crew(Path(name), jobs, plain=plain)
        try:
            yield drivers
        finally:
            drivers.dismiss()


def enumerated(drivers: Crew, names: Sequence[str]) -> dict[str, Result]:
    """Run each scenario to its end, uninterrupted; return its calls, or what was wrong."""
    results = {name: Result(name) for name in names}

    def heard(question: Attempt, answer: dict[str, Any]) -> None:
        results[question.name].calls = answer["calls"]
        if answer["problem"]:
            results[question.name].failures.append((None, answer["problem"]))

    drivers.ask([Attempt(name, 0, "") for name in names], heard)
    return results


def attempts_at(result: Result, modes: Sequence[str]) -> list[Attempt]:
    """Return all that there is to try in a scenario, in order."""
    return [
        Attempt(result.name, at, mode)
        for at, call in enumerate(result.calls, start=1)
        for mode in modes
        if mode != "partial" or call.partition(" ")[0] in WRITES
    ]


def sampled(results: Sequence[Result], modes: Sequence[str], size: int, seed: int) -> list[Attempt]:
    """Return a sample of attempts, from all scenarios in turn, the same for a seed."""
    rng = random.Random(seed)
    pools = [attempts_at(result, modes) for result in results if result.calls]
    for pool in pools:
        rng.shuffle(pool)
    rng.shuffle(pools)
    longest = max(map(len, pools), default=0)
    in_turn = [pool[turn] for turn in range(longest) for pool in pools if turn < len(pool)]
    return in_turn[:size]


def tried(
    drivers: Crew, results: dict[str, Result], attempts: Sequence[Attempt], *, told: bool = False
) -> None:
    """Try them all; what came of each is noted in its scenario's result."""
    done = 0

    def heard(attempt: Attempt, answer: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        result = results[attempt.name]
        result.tried += 1
        if answer["problem"]:
            result.failures.append((attempt, answer["problem"]))
        if told and (done % 50 == 0 or done == len(attempts)):
            end = "\n" if done == len(attempts) else ""
            print(f"\r{done:,} of {len(attempts):,}", end=end, file=sys.stderr, flush=True)

    drivers.ask(attempts, heard)


# The command -------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 when anything is not as it should be."""
    options = _options(arguments)
    names = options.only or list(SCENARIOS)
    modes = options.mode or list(USUAL_MODES)
    started = time.monotonic()
    try:
        with crew(options.jobs, plain=options.plain) as drivers:
            results = enumerated(drivers, names)
            if options.calls:
                return _print_calls(results)
            found = list(results.values())
            attempts = [attempt for result in found for attempt in attempts_at(result, modes)]
            if options.at is not None:
                attempts = [attempt for attempt in attempts if attempt.at == options.at]
            elif options.sample is not None:
                attempts = sampled(found, modes, options.sample, options.seed)
            tried(drivers, results, attempts, told=sys.stderr.isatty())
    except NoCompiler as missing:
        print(missing, file=sys.stderr)
        return 1
    _print_table(found, time.monotonic() - started)
    problems = _problems(found, everything=not options.only)
    _print_failures(found, plain=options.plain)
    for problem in problems:
        print(problem)
    return 1 if problems or any(result.failures for result in found) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/crashtest",
        description="Interrupt syncd at every system call that changes anything, start it again, "
        "and compare the end with that of an uninterrupted run.",
    )
    add = parser.add_argument
    add("--only", metavar="NAME", action="append", choices=list(SCENARIOS), help="this scenario")
    add("--at", metavar="N", type=int, help="this call alone, counted from 1")
    add("--mode", action="append", choices=MODES, help=f"default: {', '.join(USUAL_MODES)}")
    add("--sample", metavar="K", type=int, help="try K attempts only, from all scenarios in turn")
    add("--seed", type=int, default=0, help="of the sample; default: 0")
    add("--jobs", type=int, default=2, help="how many at a time; default: 2")
    add("--plain", action="store_true", help="as on a file system whose renames have no flags")
    add("--calls", action="store_true", help="only list the calls of each scenario")
    return parser.parse_args(arguments)


def _print_calls(results: dict[str, Result]) -> int:
    for result in results.values():
        print(result.name)
        for at, call in enumerate(result.calls, start=1):
            print(f"{at:5} {call}")
        for _, problem in result.failures:
            print(f"      {problem}")
    return 1 if any(result.failures for result in results.values()) else 0


def _print_table(results: Sequence[Result], seconds: float) -> None:
    width = max(len(result.name) for result in results)
    line = f"{{:<{width}}}  {{:>12}}  {{:>8}}  {{:>9}}  {{:>8}}"
    print(line.format("scenario", "abort points", "attempts", "recovered", "failures"))
    rows = [
        (len(result.calls), result.tried, result.recovered, len(result.failures))
        for result in results
    ]
    for result, row in zip(results, rows, strict=True):
        print(line.format(result.name, *(f"{number:,}" for number in row)))
    totals = [sum(column) for column in zip(*rows, strict=True)]
    print(line.format("total", *(f"{number:,}" for number in totals)))
    print(f"{seconds:.0f} s")


def _problems(results: Sequence[Result], *, everything: bool) -> list[str]:
    """Return what is wrong with the numbers of abort points."""
    found = [f"{result.name}: no abort points" for result in results if not result.calls]
    points = sum(len(result.calls) for result in results)
    if everything and points < LEAST_POINTS:
        found.append(f"{points:,} abort points in all; there should be {LEAST_POINTS:,} or more")
    return found


def _print_failures(results: Sequence[Result], *, plain: bool) -> None:
    for result in results:
        for attempt, problem in sorted(result.failures, key=_place):
            if attempt is None:
                print(f"\n{result.name}, uninterrupted: {problem}")
                continue
            call = result.calls[attempt.at - 1]
            print(f"\n{result.name}, {attempt.mode} at {attempt.at} ({call}):\n  {problem}")
            replay = f"--only {result.name} --at {attempt.at} --mode {attempt.mode}"
            print(f"  scripts/crashtest {replay}{' --plain' if plain else ''}")


def _place(failure: tuple[Attempt | None, str]) -> tuple[int, str]:
    attempt = failure[0]
    return (attempt.at, attempt.mode) if attempt is not None else (0, "")


if __name__ == "__main__":
    sys.exit(main())
