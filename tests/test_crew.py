"""Many projects by two processes: in order, all of them, and none cut off by those who leave."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.projects import FEWEST_SHARED, done_for_each
from syncd.cycle import second_process
from tests.projects import Project
from tests.running import syncd, wait_for

PROJECTS = [Path(f"/p/{number}") for number in range(40)]


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have two processors, and no other thread."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("threading.active_count", lambda: 1)


def assert_no_child_is_left() -> None:
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_all_projects_are_done_once_each_in_order_by_two_processes(tmp_path: Path) -> None:
    def do(project: Path) -> tuple[Path, int]:
        with (tmp_path / project.name).open("x") as noted:
            noted.write(str(os.getpid()))
        if project == PROJECTS[0]:  # whose turn it is until the other one has had one too
            wait_for(lambda: len(os.listdir(tmp_path)) > 2)
        return project, os.getpid()

    with done_for_each(PROJECTS, do) as results:
        found = list(results)
    assert PROJECTS == [project for project, _ in found]
    assert 2 == len({pid for _, pid in found})
    assert_no_child_is_left()


def test_few_projects_or_one_processor_take_no_second_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def do(_: Path) -> int:
        return os.getpid()

    with done_for_each(PROJECTS[: FEWEST_SHARED - 1], do) as results:
        assert {os.getpid()} == set(results)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    with done_for_each(PROJECTS, do) as results:
        assert {os.getpid()} == set(results)
    assert_no_child_is_left()


def test_what_a_second_process_had_in_hand_when_it_died_is_done_here() -> None:
    first = os.getpid()

    def do(project: Path) -> Path:
        if os.getpid() != first:
            os.kill(os.getpid(), signal.SIGKILL)
        return project

    with done_for_each(PROJECTS, do) as results:
        assert PROJECTS == list(results)
    assert_no_child_is_left()


def test_a_project_that_takes_long_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_process, "_PATIENCE_S", 0.01)
    first = os.getpid()

    def do(project: Path) -> Path:
        (tmp_path / project.name).touch(exist_ok=False)
        if os.getpid() != first:
            time.sleep(0.3)
        return project

    with done_for_each(PROJECTS, do) as results:
        assert PROJECTS == list(results)


def test_who_is_interrupted_lets_the_other_one_end_its_project(tmp_path: Path) -> None:
    first = os.getpid()

    def do(project: Path) -> Path:
        if os.getpid() == first:
            wait_for(lambda: list(tmp_path.glob("*.begun")))
            raise KeyboardInterrupt
        (tmp_path / f"{project.name}.begun").touch()
        time.sleep(0.2)
        (tmp_path / f"{project.name}.done").touch()
        return project

    with pytest.raises(KeyboardInterrupt), done_for_each(PROJECTS, do) as results:
        list(results)
    assert 1 == len(list(tmp_path.glob("*.begun")))
    assert 1 == len(list(tmp_path.glob("*.done")))
    assert_no_child_is_left()


def test_reports_of_all_kinds_come_from_the_second_process_as_they_are(tmp_path: Path) -> None:
    paths = [tmp_path / f"p{number:02}" for number in range(FEWEST_SHARED)]
    for number, path in enumerate(paths):
        project = Project(path)
        project.receive(number)
        match number % 4:
            case 1:
                project.write("inbox/bad.md", "no message")
            case 2:
                project.sync()
                project.file("inbox").rename(tmp_path / f"away-{number}")
            case 3:
                project.write("messaging.db", "no database" * 100)

    def entries(command: str, *paths: Path) -> list[dict[str, Any]]:
        arguments = [*command.split(), *paths, "--json"]
        called = syncd(tmp_path / "home", *arguments, gone_s=0, retry_s=0)
        found: dict[str, list[dict[str, Any]]] = json.loads(called.stdout)
        return found["checks" if command == "doctor" else "projects"]

    states = ["in-sync", "attention", "halted", "error"]
    assert states * 4 == [entry["state"] for entry in entries("sync --dry-run", *paths)]
    few = paths[:4]  # which are done by one process
    for command in ("sync --dry-run", "status", "verify", "doctor"):
        together, alone = entries(command, *paths), entries(command, *few)
        if command == "doctor":  # whose other words tell how much space is free just now
            of_few = [one for one in together if one["project"] in map(str, few)]
            mine = [one for one in alone if one["project"] is not None]
            assert [one["name"] for one in mine] == [one["name"] for one in of_few]
            assert [one["verdict"] for one in mine] == [one["verdict"] for one in of_few]
        else:
            assert alone == together[:4]
