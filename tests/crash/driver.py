"""Interrupts a command at a call, starts again, and judges what came of it.

A driver runs under the preloaded shim (`shim.c`), which counts nothing yet. Each command runs in a
fork of it, so that a start costs milliseconds where Python's own would cost most of a second; what
runs there is the command line, whole. Questions come as JSON lines on stdin, answers go to stdout.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import tarfile
import traceback
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncd.cli import main
from syncd.core.markdown import Place, parse
from syncd.core.message import FOLDERS, TEXT_FIELDS, Message, mailbox_at, message_from_row
from syncd.cycle.retirement import MARKER, ROOTS, aside
from syncd.database.tables import COLUMNS
from syncd.errors import ExitCode, MessageError
from syncd.retire.archive import SUFFIX
from tests.clients import Row
from tests.crash.scenarios import RETIRE, SCENARIOS, SYNC, Scenario
from tests.projects import Project

# What the command line imports only when a command is asked for: once here, not in every fork.
import syncd.cli.cycles  # isort: skip
import syncd.cli.retire  # noqa: F401  # isort: skip

DEADLY = ("kill", "after", "partial")
FAILING = ("eio", "enospc")
WRITES = ("write", "pwrite")
_STARTS = 4
_COMMAND_S = 30
_CALM = {ExitCode.IN_SYNC, ExitCode.ATTENTION}
_WITH_ERROR = _CALM | {ExitCode.ERROR, ExitCode.HALTED, ExitCode.BUSY}

Text = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended: its exit code (below 0: the signal), its JSON, and its calls."""

    code: int
    report: dict[str, Any] | None
    said: str
    calls: list[str]

    @property
    def changes(self) -> int:
        """How many steps it took, as far as it says."""
        counts = self.report["counts"] if self.report else {}
        return sum(number for name, number in counts.items() if name != "unchanged")


@dataclass(frozen=True, slots=True)
class End:
    """All that a reader of either side, or of what syncd lists, can see."""

    files: dict[str, bytes]
    rows: dict[str, Row]
    conflicts: frozenset[tuple[str, str, str]]
    quarantined: frozenset[tuple[str, str]]
    twins: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reference:
    """How a scenario's command ends when nothing interrupts it, and by which calls."""

    calls: list[str]
    end: End


class Wrong(AssertionError):
    """Something is not as the design says."""


class Driver:
    """Runs scenarios in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._shim = ctypes.CDLL(None)
        self._references: dict[str, Reference] = {}

    # Questions

    def reference(self, name: str) -> Reference:
        """Run a scenario's command to its end; raises `Wrong` when it is not as described."""
        if name not in self._references:
            self._references[name] = self._uninterrupted(SCENARIOS[name])
        return self._references[name]

    def _uninterrupted(self, scenario: Scenario) -> Reference:
        project = self._prepared(scenario)
        before = texts(project)
        read_at = read_times(project)
        ran = self._run(project, scenario.command, log=True)
        check(ran.code in _CALM, f"the command ended with {ran.code}: {ran.said}")
        if scenario.meanwhile is not None:
            scenario.meanwhile(project)
        self._conclude(project, scenario)
        if scenario.counts is not None:
            check_equal("steps", scenario.counts, counts_of(ran))
        check_equal("steps of a further sync", 0, self._run(project, scenario.again).changes)
        end = self._judge(project, scenario, before, read_at)
        check_equal("rows", scenario.rows, len(end.rows))
        check_equal(
            "conflicts", sorted(scenario.conflicts), sorted(field for _, field, _ in end.conflicts)
        )
        check_equal("quarantined files", scenario.quarantined, len(end.quarantined))
        if scenario.in_step:
            rows, files = project.messages_in_rows(), project.messages_in_files()
            check_equal("the files beside the rows", rows, files)
        return Reference(ran.calls, end)

    def attempt(self, name: str, at: int, mode: str) -> None:
        """Interrupt a scenario's command at a call, start again; raises `Wrong` by what differs."""
        reference, scenario = self.reference(name), SCENARIOS[name]
        project = self._prepared(scenario)
        before, read_at, old = texts(project), read_times(project), project.files()
        packed = {data for archive in archives(project) for _, data in files_in(archive)}
        ran = self._run(project, scenario.command, at=at, mode=mode, log=True)
        check_equal("the call", reference.calls[:at], ran.calls[:at])
        if mode in DEADLY:
            check(ran.code == -signal.SIGKILL, f"it was not killed, but ended with {ran.code}")
            check_equal("the last call", at, len(ran.calls))
        else:
            check(ran.code in _WITH_ERROR, f"it ended with {ran.code}: {ran.said}")
            check("Traceback" not in ran.said, ran.said)
        whole = {data for data, _ in old.values()} | set(reference.end.files.values()) | packed
        for path, (data, _) in project.files().items():
            unpacked = path.startswith(".syncd-restoring/")
            known = is_own(path) or unpacked or is_of_retirement(path) or data in whole
            check(known, f"{path} was half written: {data!r}")
        if scenario.meanwhile is not None:
            scenario.meanwhile(project)
        self._start_again(project, scenario)
        self._conclude(project, scenario)
        end = self._judge(project, scenario, before, read_at)
        for part in ("files", "rows", "conflicts", "quarantined", "twins"):
            check_equal(part, getattr(reference.end, part), getattr(end, part))

    # Steps

    def _conclude(self, project: Project, scenario: Scenario) -> None:
        if scenario.then:
            ran = self._run(project, scenario.then)
            check(ran.code in _CALM, f"the last command ended with {ran.code}: {ran.said}")

    def _prepared(self, scenario: Scenario) -> Project:
        where = self.folder / "project"
        shutil.rmtree(where, ignore_errors=True)
        project = Project(where)
        scenario.prepare(project)
        return project

    def _start_again(self, project: Project, scenario: Scenario) -> None:
        for _ in range(_STARTS):
            ran = self._run(project, scenario.again)
            if ran.code == ExitCode.HALTED and scenario.command != scenario.again:
                ran = self._run(project, scenario.command)
                check(
                    ran.code in _CALM, f"the command given again ended with {ran.code}: {ran.said}"
                )
                continue
            if ran.code == ExitCode.ATTENTION and scenario.again == RETIRE:
                ran = self._run(project, SYNC)
                check(ran.code in _CALM, f"a sync in between ended with {ran.code}: {ran.said}")
                continue
            check(ran.code in _CALM, f"starting again ended with {ran.code}: {ran.said}")
            # Without a wait for late writers, a stray may take one more start than its message.
            if ran.changes == 0 and not any(map(is_own, project.files())):
                return
        raise Wrong(f"still not at rest after {_STARTS} starts: {ran.said}")

    def _judge(
        self, project: Project, scenario: Scenario, before: set[Text], read_at: dict[str, str]
    ) -> End:
        """Return the end state; raises `Wrong` for what no end state may have."""
        tables, files = project.tables(), project.files()
        ran = self._run(project, scenario.again)
        check_equal("steps of one more sync", 0, ran.changes)
        check_equal("the files after one more sync", files, project.files())
        check_equal("the tables after one more sync", tables, project.tables())
        check_equal("left over", [], [path for path in files if is_own(path)])
        check_equal("integrity", [("ok",)], project.sql("PRAGMA integrity_check"))
        lost = before - texts(project)
        check(not lost, f"lost: {sorted(lost, key=repr)[:3]}")
        return end_of(project, ran, read_at)

    def _run(
        self,
        project: Project,
        command: Iterable[str],
        *,
        at: int = 0,
        mode: str = "",
        log: bool = False,
    ) -> Ran:
        """Run a command to its end in a fork, interrupted at call ``at`` as ``mode`` says."""
        said, calls = self.folder / "said", self.folder / "calls"
        calls.unlink(missing_ok=True)
        name, *flags = (str(project.archive) if word == "ARCHIVE" else word for word in command)
        arguments = [name, *flags, *(() if name == "resume" else ("--json",)), str(project.path)]
        child = os.fork()
        if child == 0:
            code = 70
            try:
                signal.alarm(_COMMAND_S)
                into = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(into, 1)
                os.dup2(into, 2)
                if log:
                    os.environ |= {
                        "CRASH_ROOT": str(project.path),
                        "CRASH_AT": str(at),
                        "CRASH_MODE": mode,
                        "CRASH_LOG": str(calls),
                    }
                    self._shim.crash_arm()
                code = main(arguments)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:  # noqa: BLE001 - a fork never returns into its parent's code
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        text = said.read_text(errors="replace")
        return Ran(os.waitstatus_to_exitcode(status), report_in(text), text, calls_in(calls))


def report_in(said: str) -> dict[str, Any] | None:
    """Return the project's entry of the JSON object in what a command printed."""
    start = said.find("{")
    try:
        report, _ = json.JSONDecoder().raw_decode(said[start:]) if start >= 0 else (None, 0)
    except json.JSONDecodeError:
        return None
    return report["projects"][0] if report and "projects" in report else None


def counts_of(ran: Ran) -> dict[str, int]:
    """Return the steps that a command took, those that it did not take left out."""
    counts = ran.report["counts"] if ran.report else {}
    return {name: number for name, number in counts.items() if number and name != "unchanged"}


def calls_in(log: Path) -> list[str]:
    """Return the calls in a log, each as its name and paths; temporary names made equal."""
    if not log.exists():
        return []
    lines = log.read_text("utf-8", "surrogateescape").splitlines()
    calls = [line.partition(" ")[2] for line in lines]
    calls = [re.sub(r"#\d+ \(deleted\)", "(unnamed)", call) for call in calls]
    return [re.sub(r"\.syncd-[^ ]*\.tmp", ".syncd-*.tmp", call) for call in calls]


def is_own(path: str) -> bool:
    """Tell whether a path is that of a temporary file of syncd's."""
    return path.rpartition("/")[2].startswith(".syncd-")


def is_of_retirement(path: str) -> bool:
    """Tell whether a path is that of the archive or the marker of a retired project."""
    return path == MARKER or path.endswith(SUFFIX)


# What stands there -------------------------------------------------------------------------------


def end_of(project: Project, ran: Ran, read_at: dict[str, str]) -> End:
    """Return what stands on both sides, and what a command lists.

    A ``read_at`` that nobody had written before is syncd's, and only its being there counts.
    """
    rows, files = project.rows(), project.files()
    for key, row in rows.items():
        if row["read_at"] is not None and row["read_at"] != read_at.get(key):
            row["read_at"] = "set by syncd"
    report = ran.report or {"conflicts": [], "quarantined": []}
    is_synced = "syncd_twins" in project.tables()
    return End(
        {path: b"" if is_of_retirement(path) else data for path, (data, _) in files.items()},
        rows,
        frozenset((found["id"], found["field"], found["winner"]) for found in report["conflicts"]),
        frozenset((found["path"], found["reason"]) for found in report["quarantined"]),
        frozenset(project.sql("SELECT path, id FROM syncd_twins") if is_synced else ()),
    )


def read_times(project: Project) -> dict[str, str]:
    return {key: row["read_at"] for key, row in project.rows().items() if row["read_at"]}


def texts(project: Project) -> set[Text]:
    """Return every text, with its message and field, that is live or in the history.

    Of what is no message, the bytes.
    """
    found: set[Text] = set()
    for path, (data, _) in project.files().items():
        if not (is_of_retirement(path) or is_own(path)):
            found |= texts_in_file(project, path.replace(aside(""), ""), data)
    for archive in archives(project):
        found |= texts_in_archive(project, archive)
    for row in project.messages_in_rows().values():
        found |= texts_of(row)
    if project.new.database.exists():
        with closing(sqlite3.connect(project.new.database)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if "syncd_history" in tables:
                sql = f"SELECT path, data, {', '.join(COLUMNS)} FROM syncd_history"
                for path, data, *values in connection.execute(sql):
                    if data is not None:
                        found |= texts_in_file(project, path, data)
                    else:
                        found |= texts_of(message_from_row(values))
    return found


def texts_in_archive(project: Project, archive: Path) -> set[Text]:
    """Return every text in the files and the history that an archive holds."""
    found: set[Text] = set()
    for name, data in files_in(archive):
        if name.endswith("tables.jsonl"):
            for table, row in map(json.loads, data.splitlines()):
                if table == "syncd_history" and row["data"] is not None:
                    version = b64decode(row["data"]["base64"])
                    found |= texts_in_file(project, row["path"], version)
                elif table == "syncd_history":
                    found |= texts_of(message_from_row([row[column] for column in COLUMNS]))
        elif name.partition("/")[0] in ROOTS:
            found |= texts_in_file(project, name, data)
    return found


def archives(project: Project) -> list[Path]:
    return sorted(project.base.glob(f"*{SUFFIX}"))


def files_in(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of each file in an archive, syncd's own among them."""
    with tarfile.open(archive) as whole:
        for member in whole:
            file = whole.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()


def texts_in_file(project: Project, path: str, data: bytes) -> set[Text]:
    if path.rpartition("/")[0] not in FOLDERS:
        return {("", "bytes", data.decode("latin-1"))} if data else set()
    place = Place(path, mailbox_at(path), str(project.path), "2026-02-20T00:00:00+00:00")
    try:
        return texts_of(parse(data, place).message)
    except MessageError:
        return {("", "bytes", data.decode("latin-1"))} if data else set()


def texts_of(message: Message) -> set[Text]:
    values = {(message.id, name, getattr(message, name)) for name in TEXT_FIELDS}
    return {text for text in values if text[2]}


# Judging -----------------------------------------------------------------------------------------


def check(holds: bool, sentence: str) -> None:
    if not holds:
        raise Wrong(sentence)


def check_equal(what: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise Wrong(f"{what}: {difference(expected, actual)}")


def difference(expected: object, actual: object) -> str:
    """Say where two values differ, as briefly as helps."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in sorted(expected.keys() | actual.keys(), key=repr):
            if key not in actual:
                return f"{key!r} is missing: {shortened(expected[key])}"
            if key not in expected:
                return f"{key!r} is too many: {shortened(actual[key])}"
            if expected[key] != actual[key]:
                return f"at {key!r}: {difference(expected[key], actual[key])}"
    if isinstance(expected, set | frozenset) and isinstance(actual, set | frozenset):
        missing, more = expected - actual, actual - expected
        return f"missing {sorted(missing, key=repr)}, too many {sorted(more, key=repr)}"
    if isinstance(expected, bytes) and isinstance(actual, bytes):
        return difference(expected.splitlines(keepends=True), actual.splitlines(keepends=True))
    if isinstance(expected, list) and isinstance(actual, list):
        for one, other in zip(expected, actual, strict=False):
            if one != other:
                return difference(one, other) if isinstance(one, dict) else _expected(one, other)
    return _expected(expected, actual)


def _expected(expected: object, actual: object) -> str:
    return f"expected {shortened(expected)}, found {shortened(actual)}"


def shortened(value: object, most: int = 600) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


# Questions and answers ---------------------------------------------------------------------------


def answer(driver: Driver, name: str, at: int, mode: str) -> dict[str, Any]:
    """Answer one question: without a mode for a scenario's calls, else how the attempt ended."""
    try:
        if mode:
            driver.attempt(name, at, mode)
            return {"problem": None}
        return {"problem": None, "calls": driver.reference(name).calls}
    except Wrong as wrong:
        return {"problem": str(wrong), "calls": []}
    except Exception:  # noqa: BLE001 - the campaign lists it and goes on
        return {"problem": traceback.format_exc(), "calls": []}


def serve(folder: Path) -> None:
    driver = Driver(folder)
    for line in sys.stdin:
        print(json.dumps(answer(driver, *json.loads(line))), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
