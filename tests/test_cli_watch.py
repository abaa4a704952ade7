"""``syncd status``: an agent that is no more, and ``--watch``: what it shows, and what it costs."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from syncd.cli.frames import frame
from syncd.cli.watching import Watch
from tests.projects import ONE, Project
from tests.running import RunningAgent, environment, syncd, wait_for


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a scratch home, which this process uses too."""
    home = tmp_path / "home"
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    return home


@pytest.fixture
def project(tmp_path: Path, home: Path) -> Project:
    made = Project(tmp_path / "shop")
    made.receive(1)
    made.sync()
    return made


class Watching:
    """``syncd status --watch`` as a child whose output is read as it comes."""

    def __init__(self, home: Path, *arguments: object, to: int, frm: int, **env: str) -> None:
        self.text = ""
        command = [sys.executable, "-m", "syncd", "status", "--watch", *map(str, arguments)]
        surroundings = environment(home) | {"COLUMNS": "140", "LINES": "30", "TERM": "xterm"} | env
        if not env.get("NO_COLOR"):
            surroundings.pop("NO_COLOR")
        self.process = subprocess.Popen(
            command, stdout=to, stderr=subprocess.STDOUT, env=surroundings
        )
        os.close(to)
        self._from = frm
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def shows(self, *texts: str) -> Callable[[], bool]:
        return lambda: all(text in self.text for text in texts)

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        code = self.process.wait(timeout=20)
        self._reader.join(timeout=5)
        os.close(self._from)
        return code

    def _read(self) -> None:
        try:
            while found := os.read(self._from, 65536):
                self.text += found.decode()
        except OSError:
            return  # so a terminal ends


@contextmanager
def watching(home: Path, *arguments: object, **env: str) -> Iterator[Watching]:
    """Yield a watch whose output is a pipe."""
    frm, to = os.pipe()
    watch = Watching(home, *arguments, to=to, frm=frm, **env)
    try:
        yield watch
    finally:
        watch.process.kill()
        watch.process.wait()


@contextmanager
def watching_on_a_terminal(home: Path, *arguments: object, **env: str) -> Iterator[Watching]:
    frm, to = pty.openpty()
    watch = Watching(home, *arguments, to=to, frm=frm, **env)
    try:
        yield watch
    finally:
        watch.process.kill()
        watch.process.wait()


# The agent


def test_status_tells_an_agents_heartbeat_and_the_last_full_compare(
    home: Path, project: Project
) -> None:
    with RunningAgent(home, project.path) as agent:
        wait_for(lambda: "last full compare" in syncd(home, "status", project.path).stdout)
        text = syncd(home, "status", project.path)
        found = json.loads(syncd(home, "status", project.path, "--json").stdout)["projects"][0]

    assert 0 == text.returncode
    assert text.stdout.startswith(f"{project.path}: in sync, 1 message, last change ")
    assert f" s ago, agent {agent.process.pid} since 20" in text.stdout
    assert text.stdout.endswith(" s ago\n")
    assert ("running", True) == (found["agent"]["state"], found["agent"]["alive"])
    assert found["agent"]["heartbeat"].startswith("20")
    assert found["last_full_compare"].startswith("20")


def test_g18_an_agent_that_hangs_is_told_from_one_that_died(home: Path, project: Project) -> None:
    with RunningAgent(home, project.path) as agent:
        agent.process.send_signal(signal.SIGSTOP)
        (beat,) = (home / "state/syncd/agents").glob("*.json")
        os.utime(beat, (1, 1))
        stale = syncd(home, "status", project.path)
        stale_json = json.loads(syncd(home, "status", project.path, "--json").stdout)
        agent.stop(signal.SIGKILL)
        dead = syncd(home, "status", project.path)
        dead_json = json.loads(syncd(home, "status", project.path, "--json").stdout)

    pid = agent.process.pid
    assert (3, 3) == (stale.returncode, dead.returncode)
    assert f"  the agent (pid {pid}) hangs: its last heartbeat was at 1970" in stale.stdout
    assert f"  → Start it again: kill -9 {pid}; syncd run {project.path}\n" in stale.stdout
    assert f"  the agent (pid {pid}) died: its last heartbeat was at 1970" in dead.stdout
    assert f"  → Start it again: syncd run {project.path}\n" in dead.stdout
    told = stale_json["projects"][0]["agent"]
    assert ("stale", pid) == (told["state"], told["pid"])
    assert ("20", "1970") == (told["since"][:2], told["heartbeat"][:4])
    assert "dead" == dead_json["projects"][0]["agent"]["state"]
    assert "attention" == dead_json["projects"][0]["state"]


# Watching through a pipe


def test_a_watch_prints_the_standing_and_then_a_line_for_each_change(
    home: Path, project: Project
) -> None:
    with watching(home, project.path) as watch:
        wait_for(watch.shows("in sync, 1 message"))
        project.sql("UPDATE messages SET priority = 'high' WHERE id = ?", ONE)
        project.sync()
        wait_for(watch.shows("row → file"))
        project.write("inbox/bad.md", "no front matter")
        project.sync()
        wait_for(watch.shows("needs attention", "  inbox/bad.md:1: there is no front matter"))
        code = watch.end()

    lines = watch.text.splitlines()
    (change,) = [line for line in lines if "row → file" in line]
    assert f"  {project.path}  row → file      {ONE}  updated priority: the row changed" in change
    assert 1 == watch.text.count("in sync, 1 message")
    assert "\x1b" not in watch.text
    assert "Traceback" not in watch.text
    assert 3 == code  # how it stood at the end


def test_a_watch_ends_as_soon_as_nobody_reads_it(home: Path, project: Project) -> None:
    command = [sys.executable, "-m", "syncd", "status", "--watch", str(project.path)]
    with subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        try:
            process.wait(timeout=20)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_watch_ends_cleanly_when_it_is_terminated(
    home: Path, project: Project, number: signal.Signals
) -> None:
    with watching(home, project.path) as watch:
        wait_for(watch.shows("in sync"))

        assert 0 == watch.end(number)
    assert "Traceback" not in watch.text


def test_a_watch_is_not_for_json(home: Path, project: Project) -> None:
    result = syncd(home, "status", project.path, "--watch", "--json")

    assert (2, "") == (result.returncode, result.stdout)
    assert "--watch and --json do not go together" in result.stderr
    assert "syncd log --follow --json" in result.stderr


# Watching on a terminal


def test_a_watch_redraws_a_frame_and_leaves_the_last_one(home: Path, project: Project) -> None:
    with watching_on_a_terminal(home, project.path) as watch:
        wait_for(watch.shows("in sync"))
        project.sql("UPDATE messages SET priority = 'high' WHERE id = ?", ONE)
        project.sync()
        wait_for(watch.shows("row → file"))
        code = watch.end()

    after = watch.text.rpartition("\x1b[?1049l")[2]  # what stands once the other screen is left
    assert 0 == code
    assert "\x1b[?25h" in watch.text  # the cursor is back
    assert "\x1b[32min sync" in after
    assert "updated priority: the row changed" in after
    assert "Traceback" not in watch.text


def test_a_watch_obeys_no_color(home: Path, project: Project) -> None:
    with watching_on_a_terminal(home, project.path, NO_COLOR="1") as watch:
        wait_for(watch.shows("in sync"))
        watch.end()

    assert "\x1b[32m" not in watch.text


def test_a_terminal_that_is_dumb_gets_lines(home: Path, project: Project) -> None:
    with watching_on_a_terminal(home, project.path, TERM="dumb") as watch:
        wait_for(watch.shows("in sync, 1 message"))
        watch.end()

    assert "\x1b" not in watch.text


# What it costs, and what it takes note of


def drawn(watch: Watch, height: int, width: int = 120) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(frame(watch, width=width, height=height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_project_at_rest_is_not_opened_again(project: Project) -> None:
    watch = Watch([project.path], None, recursive=False)
    watched = watch.of[project.path]
    wait_for(lambda: watch.refresh() or watched._mark is not None)
    first = watched.status

    watch.refresh()
    assert first is watched.status

    project.sql("UPDATE messages SET priority = 'high' WHERE id = ?", ONE)
    watch.refresh()
    assert watched.status is not None
    assert (1, first is watched.status) == (watched.status.pending, False)


def test_changes_are_counted_by_the_minute(project: Project) -> None:
    for number in (2, 3, 4):
        project.receive(number)
    project.sync()
    watch = Watch([project.path], None, recursive=False)
    watch.refresh()
    project.receive(5)
    project.sync()
    watch.refresh()

    rates = watch.of[project.path].per_minute()
    assert (10, 5) == (len(rates), sum(rates))
    assert 5 == sum(rates[-2:])  # the minute may have turned
    assert [f"msg-20260220-00000{number}-00000000" for number in (1, 2, 3, 4, 5)] == [
        entry.id for _, entry in watch.latest
    ]


def test_a_database_that_was_replaced_is_read_on(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "other")
    for number in range(10, 15):
        other.receive(number)
    other.sync()
    watch = Watch([project.path], None, recursive=False)
    watch.refresh()
    database = project.base / "messaging.db"
    shutil.copy(other.base / "messaging.db", database.with_suffix(".new"))
    database.with_suffix(".new").rename(database)

    watch.refresh()

    status = watch.of[project.path].status
    assert status is not None
    assert 5 == status.messages
    assert 5 == len(watch.of[project.path].news)


def test_new_projects_are_found(project: Project, tmp_path: Path) -> None:
    watch = Watch([project.path], [tmp_path], recursive=True)
    watch.refresh()
    Project(tmp_path / "later")
    watch._next_search = 0.0

    watch.refresh()

    assert {"shop", "later"} <= {path.name for path in watch.of}


def test_a_frame_fits_the_terminal_and_shows_what_is_wrong(
    project: Project, tmp_path: Path
) -> None:
    others = [Project(tmp_path / f"other-{number:02}") for number in range(11)]
    others[7].write("inbox/bad.md", "no front matter")
    for other in others:
        other.sync()
    paths = [project.path, *(other.path for other in others)]
    watch = Watch(paths, None, recursive=False)
    watch.refresh()

    for height in (7, 8, 12, 24, 50):
        lines = drawn(watch, height)

        assert len(lines) <= height
        assert lines[0].startswith("12 projects: 11 in sync, 1 needs attention; ")
        assert any("other-07" in line and "needs attention" in line for line in lines)
    assert not any("more" in line for line in lines)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 200])
def test_a_frame_names_the_projects_however_narrow_the_terminal_is(
    project: Project, tmp_path: Path, width: int
) -> None:
    other = Project(tmp_path / "harbour")
    other.write("inbox/bad.md", "no front matter")
    for one in (project, other):
        one.receive(7)
        one.sync()
    watch = Watch([project.path, other.path], None, recursive=False)
    watch.refresh()

    lines = drawn(watch, 24, width)

    assert max(map(len, lines)) <= width
    row = next(line for line in lines if line.startswith("harbour"))
    assert row.split()[1].startswith("need")
    header = next(line for line in lines if line.startswith("project"))
    assert (width >= 40) is ("left alone" in header)
    assert (width >= 80) is ("last change" in header)
    assert (width >= 100) is ("pending" in header)


def test_a_project_is_seen_to_retire(home: Path, project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "other")
    other.sync()
    watch = Watch([project.path, other.path], None, recursive=False)
    watch.refresh()
    assert 0 == syncd(home, "retire", project.path).returncode

    watch.refresh()

    lines = drawn(watch, 30)
    assert lines[0].startswith("2 projects: ")
    assert "1 retired" in lines[0]
    assert any(line.startswith("shop ") and "retired" in line for line in lines)


def test_a_frame_names_the_folder_once(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "deep" / "other")
    other.sync()
    watch = Watch([project.path, other.path], None, recursive=False)
    watch.refresh()

    lines = drawn(watch, 30)

    assert f"below {tmp_path}" in lines
    assert any(line.startswith("shop  ") for line in lines)
    assert any(line.startswith("deep/other  ") for line in lines)
