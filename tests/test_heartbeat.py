"""The agent's sign of life: where it stands, and who finds it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.agent.heartbeat import agent_for, agents, alive
from syncd.config import runtime_folder
from syncd.errors import UsageError
from tests.projects import Project
from tests.running import RunningAgent, as_anybody, environment, syncd, wait_for

LONG_AGO = 1_000_000_000


def signs(home: Path) -> list[str]:
    """Return where below a home signs of life stand."""
    return sorted(str(path.parent.relative_to(home)) for path in home.rglob("*.json"))


def test_an_agent_shows_itself_in_memory_where_there_is_a_folder_for_it(
    shop: Project, home: Path
) -> None:
    (home / "run").mkdir()
    with RunningAgent(home, shop.path) as agent:
        where = signs(home)
        (found,) = json.loads(syncd(home, "status", shop.path, "--json").stdout)["projects"]
        agent.stop()

    assert ["run/syncd/agents"] == where
    assert (agent.process.pid, "running") == (found["agent"]["pid"], found["agent"]["state"])
    assert [] == signs(home)


def test_an_agent_that_knows_no_folder_in_memory_is_found_by_one_that_does(
    shop: Project, home: Path
) -> None:
    with alive([shop.path], recursive=False):
        (home / "run").mkdir()
        (found,) = agents()
        where = signs(home)
        with (
            pytest.raises(UsageError, match="an agent runs on"),
            alive([shop.path], recursive=True),
        ):
            pass

    assert (True, True) == (found.alive, found.covers(shop.path))
    assert ["state/syncd/agents"] == where


def test_a_folder_that_goes_with_the_last_session_takes_no_agent_along(
    shop: Project, home: Path
) -> None:
    (home / "run").mkdir()
    with alive([shop.path], recursive=False) as heartbeat:
        shutil.rmtree(home / "run")
        lost = agents()
        heartbeat.beat({str(shop.path): "2026-02-20T00:00:00+00:00"}, {})
        (found,) = agents()
        where = signs(home)

    assert [] == lost
    assert ["state/syncd/agents"] == where
    assert (True, [str(shop.path)]) == (found.alive, list(found.last_full_compare))
    assert [] == signs(home)


@pytest.mark.parametrize(("in_memory", "is_touched"), [(True, True), (False, False)])
def test_a_beat_without_news_is_written_in_memory_and_seldom_on_a_disk(
    shop: Project, home: Path, in_memory: bool, is_touched: bool
) -> None:
    if in_memory:
        (home / "run").mkdir()
    with alive([shop.path], recursive=False) as heartbeat:
        heartbeat.beat({}, {})
        (path,) = home.rglob("*.json")
        os.utime(path, (LONG_AGO, LONG_AGO))
        heartbeat.beat({}, {})
        without_news = path.stat().st_mtime
        heartbeat.beat({}, {str(shop.path): ("the disk is full", "")})
        with_news = path.stat().st_mtime

    assert is_touched == (without_news != LONG_AGO)
    assert with_news != LONG_AGO


def test_what_a_dead_agent_left_on_the_disk_goes_with_the_next_one_in_memory(
    shop: Project, home: Path
) -> None:
    with RunningAgent(home, shop.path) as agent:
        agent.stop(signal.SIGKILL)
    left = signs(home)
    (home / "run").mkdir()
    with alive([shop.path], recursive=False):
        now = signs(home)

    assert (["state/syncd/agents"], ["run/syncd/agents"]) == (left, now)


def test_an_agent_beside_one_that_hangs_does_not_start_and_does_not_wait(
    shop: Project, home: Path
) -> None:
    with alive([shop.path], recursive=False):
        (path,) = home.rglob("*.json")
        os.utime(path, (LONG_AGO, LONG_AGO))
        second = syncd(home, "run", shop.path)

    assert 2 == second.returncode
    assert f"  → Stop it first: kill -9 {os.getpid()}\n" in second.stderr


@pytest.mark.parametrize(
    ("is_recursive", "second_is_recursive"), [(False, True), (True, True), (True, False)]
)
def test_no_two_agents_have_one_project_whichever_of_them_has_the_folder_around_it(
    shop: Project, home: Path, is_recursive: bool, second_is_recursive: bool
) -> None:
    around = shop.path.parent
    first, second = (around, shop.path) if is_recursive else (shop.path, around)
    with (
        alive([first], recursive=is_recursive),
        pytest.raises(UsageError, match=f"an agent runs on {shop.path} already"),
        alive([second], recursive=second_is_recursive),
    ):
        pass
    with alive([second], recursive=second_is_recursive):
        assert [(str(second),)] == [agent.roots for agent in agents()]


def test_where_nobody_may_look_for_agents_none_is_known(
    shop: Project, tmp_path: Path, home: Path
) -> None:
    shop.sync()
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    elsewhere = {"XDG_STATE_HOME": str(closed / "state")}
    for command in ("status", "message list", "message send . --subject Once --body Once"):
        done = subprocess.run(
            as_anybody([sys.executable, "-m", "syncd", *command.split()]),
            cwd=shop.path,
            env=environment(home) | elsewhere,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (0, True) == (done.returncode, "denied" not in done.stderr), done.stderr


def test_an_agent_works_on_where_its_log_cannot_be_written(shop: Project, home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        agent = subprocess.Popen(
            [sys.executable, "-m", "syncd", "run", str(shop.path)],
            env=environment(home),
            stderr=full,
        )
        try:
            shop.write("inbox/broken.md", "no message")  # which the log tells
            key = shop.receive()
            wait_for(lambda: key in shop.rows())
            wait_for(lambda: "inbox/broken.md" in syncd(home, "status", shop.path).stdout)
            assert agent.poll() is None
        finally:
            agent.terminate()
            assert 0 == agent.wait(20)


def test_what_is_no_file_among_the_signs_of_life_is_passed_over(shop: Project, home: Path) -> None:
    with alive([shop.path], recursive=False):
        (path,) = home.rglob("*.json")
        os.mkfifo(path.with_name("pipe.json"))
        assert [os.getpid()] == [agent.pid for agent in agents()]


def test_only_an_absolute_folder_of_ones_own_counts_as_the_one_in_memory(tmp_path: Path) -> None:
    for base in ("run", str(tmp_path / "none"), "/proc/1" if os.geteuid() else "relative"):
        assert runtime_folder({"XDG_RUNTIME_DIR": base}) is None
    assert tmp_path / "syncd" == runtime_folder({"XDG_RUNTIME_DIR": str(tmp_path)})


@pytest.mark.parametrize("skipped", ["node_modules", ".venv", ".git", ".claude-mpm"])
def test_g18_no_agent_is_said_to_keep_a_project_that_its_search_passes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skipped: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    root = tmp_path / "root"
    inside, named = root / skipped / "p", root / skipped / "named"
    with alive([root, named], recursive=True) as heartbeat:
        assert agent_for(root / "p") is not None
        assert agent_for(named / "p") is not None
        assert None is agent_for(inside)
        heartbeat.beat({str(inside): "2026-02-20T00:00:00+00:00"}, {})
        assert agent_for(inside) is not None, "a session made it look there"
