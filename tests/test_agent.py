"""The agent as its users run it: a real process beside real clients."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import signal
import socket
import sqlite3
import statistics
import sys
import time
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import pytest

from syncd.agent.agent import WORKERS
from syncd.config import load
from syncd.cycle.orders import Orders
from syncd.cycle.project import run_pass, turn
from syncd.errors import BusyError
from tests.clients import SCHEMA, NewClient, OldClient, random_message
from tests.on_disk import (
    body_in_sql,
    both_equal,
    files_of,
    fingerprint_of,
    project,
    rebuild,
    rows_of,
)
from tests.running import RunningAgent, environment, syncd, wait_for

CONFIG = load(flags={"gone_s": 0.0, "retry_s": 0.0}, environment={})


def test_a_file_becomes_a_row_and_sql_edits_the_file_in_place(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    with RunningAgent(tmp_path / "home", tmp_path, options=("--recursive",)):
        key = OldClient(there).send(here, "Hello", "First words")
        wait_for(lambda: body_in_sql(here, key) == "First words")
        path = here / ".claude-mpm" / "inbox" / f"{key}.md"
        text = path.read_text().replace("id: ", "# a note\nowner: me\nid: ", 1)
        path.write_text(text)
        NewClient(here).update(key, body="Words from SQL")
        expected = text.replace("First words", "Words from SQL")
        wait_for(lambda: path.read_text() == expected)
        OldClient(here).archive(key)
        wait_for(lambda: NewClient(here).rows()[key]["status"] == "archived")
        NewClient(here).update(key, status="read")
        wait_for(lambda: path.exists() and "status: read" in path.read_text())
        NewClient(here).archive(key)
        wait_for(lambda: (path.parent / ".archive" / path.name).exists())
        NewClient(there).send(here, "From SQL", "To files")
        wait_for(lambda: len(OldClient(there).list()) == 0 and len(files_of(there)) == 2)


def test_g4_g9_g10_two_real_clients_work_beside_the_agent(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    rng = random.Random(20260220)
    old_here, old_there = OldClient(here), OldClient(there)
    new_here, new_there = NewClient(here), NewClient(there)
    sent: set[str] = set()
    with RunningAgent(tmp_path / "home", here, there, gone_s=0.2) as agent:
        for _ in range(1000):
            draft = random_message(rng)
            choice = rng.random()
            if choice < 0.2 or not sent:
                key = old_there.send(here, draft.subject, draft.body, priority=draft.priority)
                sent.add(key)
            elif choice < 0.4:
                sent.add(new_there.send(here, draft.subject, draft.body))
            else:
                key = rng.choice(sorted(sent))
                with_files = (here / ".claude-mpm" / "inbox" / f"{key}.md").exists()
                if choice < 0.55 and with_files:
                    _tolerating_moves(old_here.read, key)
                elif choice < 0.6 and with_files:
                    _tolerating_moves(old_here.archive, key)
                elif choice < 0.8:
                    new_here.update(key, priority=rng.choice(["low", "high", "urgent"]))
                elif choice < 0.9:
                    new_here.update(key, body=draft.body)
                elif key in new_here.rows():
                    new_here.read(key)
        wait_for(lambda: both_equal(here) and both_equal(there), 30)
        assert "ERROR" not in agent.log
    assert sent == rows_of(here).keys()
    for folder in (here, there):
        run_pass(folder, CONFIG, Orders())
        before = fingerprint_of(folder)
        assert 0 == run_pass(folder, CONFIG, Orders()).counts.changes()
        assert before == fingerprint_of(folder)


def _tolerating_moves(action: object, key: str) -> None:
    # The agent archives a file between the old client's listing and its act: the old client has
    # no locks, and says so with the same error when another old client does it.
    try:
        action(key)  # type: ignore[operator]
    except FileNotFoundError:
        return


def test_latency_from_file_to_row_and_back_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    to_row, to_file = [], []
    sql = "SELECT 1 FROM messages WHERE id = ?"
    with (
        RunningAgent(tmp_path / "home", here),
        closing(sqlite3.connect(here / ".claude-mpm" / "messaging.db")) as reader,
    ):
        for number in range(30):
            key = OldClient(there).send(here, f"Number {number}", "Body")
            start = time.perf_counter()
            while not reader.execute(sql, (key,)).fetchone():
                time.sleep(0.0005)
            to_row.append(time.perf_counter() - start)
            path = here / ".claude-mpm" / "inbox" / f"{key}.md"
            NewClient(here).update(key, subject="Changed")
            start = time.perf_counter()
            while b"# Changed" not in path.read_bytes():
                time.sleep(0.0005)
            to_file.append(time.perf_counter() - start)
    with capsys.disabled():
        print(
            f"\nlatency at the median: file to row {statistics.median(to_row) * 1000:.1f} ms, "
            f"row to file {statistics.median(to_file) * 1000:.1f} ms"
        )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_agent_with_exit_code_0(tmp_path: Path, how: signal.Signals) -> None:
    here = project(tmp_path / "here")
    with RunningAgent(tmp_path / "home", here) as agent:
        assert 0 == agent.stop(how)
    assert not list((tmp_path / "home" / "state").rglob("*.json"))


def test_the_name_of_a_file_cannot_drive_the_terminal_on_which_the_agent_logs(
    tmp_path: Path,
) -> None:
    here = project(tmp_path / "here")
    inbox = here / ".claude-mpm/inbox"
    inbox.mkdir(exist_ok=True)
    (inbox / "a\x1b[2J\nWARNING b.md").write_text("no front matter")
    with RunningAgent(tmp_path / "home", here) as agent:
        wait_for(lambda: "there is no front matter" in agent.log)
        assert "inbox/a\\x1b[2J\\nWARNING b.md:1: there is no front matter" in agent.log
        assert "\x1b" not in agent.log


def test_a_second_agent_on_the_same_root_is_refused_by_pid(tmp_path: Path) -> None:
    here = project(tmp_path / "here")
    with RunningAgent(tmp_path / "home", tmp_path, options=("--recursive",)) as agent:
        done = syncd(tmp_path / "home", "run", here)
        assert 2 == done.returncode
        assert f"pid {agent.process.pid}" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_command_works_beside_the_agent(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    with RunningAgent(tmp_path / "home", here):
        OldClient(there).send(here, "Hello", "Words")
        done = syncd(tmp_path / "home", "sync", here, "--json", gone_s=0, retry_s=0)
        assert 0 == done.returncode, done.stderr
        assert "in-sync" == json.loads(done.stdout)["projects"][0]["state"]
        wait_for(lambda: both_equal(here))


def test_a_project_that_appears_is_found(tmp_path: Path) -> None:
    project(tmp_path / "tree" / "first")
    with RunningAgent(tmp_path / "home", tmp_path / "tree", options=("--recursive",)):
        late = project(tmp_path / "tree" / "deep" / "late")
        key = OldClient(tmp_path / "tree" / "first").send(late, "Hello", "Words")
        wait_for(lambda: (late / ".claude-mpm" / "messaging.db").exists())
        wait_for(lambda: body_in_sql(late, key) == "Words")


def test_a_project_that_vanishes_and_comes_back_is_kept_in_step(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    with RunningAgent(tmp_path / "home", here) as agent:
        key = OldClient(there).send(here, "Hello", "Words")
        wait_for(lambda: body_in_sql(here, key) == "Words")
        os.rename(here / ".claude-mpm", tmp_path / "away")
        wait_for(lambda: "waiting for it to come back" in agent.log)
        shutil.rmtree(here)
        project(here)
        key = OldClient(there).send(here, "Again", "More words")
        wait_for(lambda: (here / ".claude-mpm" / "messaging.db").exists())
        wait_for(lambda: body_in_sql(here, key) == "More words")


@pytest.mark.parametrize(("ignored", "ends"), [(False, True), (True, False)])
def test_an_agent_ends_with_its_terminal_unless_it_is_to_outlive_that(
    tmp_path: Path, *, ignored: bool, ends: bool
) -> None:
    here = project(tmp_path / "p")
    home = tmp_path / "home"
    command = [sys.executable, "-m", "syncd", "run", str(here)]
    surroundings = environment(home)
    pid, terminal = pty.fork()
    if pid == 0:
        if ignored:  # as nohup has it
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execve(sys.executable, command, surroundings)
    try:
        said = b""
        while b"ready" not in said:
            said += os.read(terminal, 4096)
        os.close(terminal)
        if ends:
            wait_for(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)
        else:
            time.sleep(0.5)
            key = NewClient(tmp_path / "there").send(here, "Subject", "Still at work")
            wait_for((here / ".claude-mpm" / "inbox" / f"{key}.md").exists)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def test_a_project_that_is_deleted_is_let_go_and_kept_once_when_it_is_made_again(
    tmp_path: Path,
) -> None:
    here, there = project(tmp_path / "tree" / "here"), project(tmp_path / "there")
    options = ("--recursive",)
    with RunningAgent(
        tmp_path / "home", tmp_path / "tree", options=options, full_compare_s=0.3
    ) as agent:
        key = OldClient(there).send(here, "Hello", "Words")
        wait_for(lambda: body_in_sql(here, key) == "Words")
        shutil.rmtree(here)
        wait_for(lambda: "is gone" in agent.log)
        time.sleep(1.0)  # in which it would be compared three times
        project(here)
        key = OldClient(there).send(here, "Again", "More words")
        wait_for((here / ".claude-mpm" / "messaging.db").exists)
        wait_for(lambda: body_in_sql(here, key) == "More words")
        if sys.platform.startswith("linux"):
            fds = Path(f"/proc/{agent.process.pid}/fd")
            opened = [os.readlink(fd) for fd in fds.iterdir() if fd.is_symlink()]
            assert 1 == opened.count(str(here / ".claude-mpm" / "messaging.db"))
    assert "ERROR" not in agent.log


def test_an_mpm_folder_made_again_at_once_is_watched_again(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    with RunningAgent(tmp_path / "home", here) as agent:
        (tmp_path / "aside").mkdir()
        os.rename(here / ".claude-mpm", tmp_path / "aside" / "old")
        for name in ("inbox/.archive", "outbox"):
            (here / ".claude-mpm" / name).mkdir(parents=True)
        wait_for(lambda: "made again" in agent.log)
        key = OldClient(there).send(here, "Hello", "Words")
        wait_for(lambda: (here / ".claude-mpm" / "messaging.db").exists())
        wait_for(lambda: body_in_sql(here, key) == "Words")


def test_g12_triggers_whose_tables_somebody_dropped_soon_fail_no_write_any_more(
    tmp_path: Path,
) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    key = NewClient(there).send(here, "Hello", "Words")
    with RunningAgent(tmp_path / "home", here):
        path = here / ".claude-mpm" / "inbox" / f"{key}.md"
        for table in ("syncd_feed", "syncd_mute", "syncd_history"):
            with closing(sqlite3.connect(here / ".claude-mpm" / "messaging.db")) as opened:
                opened.execute(f"DROP TABLE {table}")
            words = f"Written after {table} was dropped"
            wait_for(partial(updated, here, key, words))
            wait_for(lambda words=words: words in path.read_text())


def test_g14_a_fifo_in_place_of_the_open_database_does_not_block_the_agent(
    tmp_path: Path,
) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    key = OldClient(there).send(here, "Hello", "Words")
    database = here / ".claude-mpm" / "messaging.db"
    with RunningAgent(tmp_path / "home", here) as agent:
        for path in sorted(database.parent.glob("messaging.db*")):
            path.unlink()
        os.mkfifo(database)
        wait_for(lambda: "is no regular file" in agent.log)
        database.unlink()
        wait_for(lambda: database.exists() and imported(here, key) == "Words")


def imported(folder: Path, key: str) -> str | None:
    with suppress(sqlite3.OperationalError):  # its table is being made
        return body_in_sql(folder, key)
    return None


def updated(folder: Path, key: str, body: str) -> bool:
    with suppress(sqlite3.OperationalError):
        return NewClient(folder).update(key, body=body)
    return False


def test_g11_without_any_event_the_end_state_is_the_same(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    options = ("--poll",)
    with RunningAgent(tmp_path / "home", here, options=options, poll_s=0.1):
        first = OldClient(there).send(here, "Hello", "Words")
        wait_for(lambda: body_in_sql(here, first) == "Words")
        NewClient(here).update(first, body="Other words")
        second = NewClient(there).send(here, "From SQL", "More")
        wait_for(lambda: len(files_of(here)) == 2 and both_equal(here))
        OldClient(here).read(second)
        OldClient(here).archive(first)
        wait_for(lambda: both_equal(here))
        assert "archived" == rows_of(here)[first].status
        assert "read" == rows_of(here)[second].status


def test_g6_an_emptied_inbox_halts_and_the_agent_resumes_by_itself(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    other = project(tmp_path / "other")
    with RunningAgent(tmp_path / "home", here, other, gone_s=0.1) as agent:
        for number in range(5):
            OldClient(there).send(here, f"Number {number}", "Words")
        wait_for(lambda: len(rows_of(here)) == 5 and both_equal(here))
        os.rename(here / ".claude-mpm" / "inbox", tmp_path / "inbox-away")
        wait_for(lambda: "halted" in agent.log)
        assert 5 == len(rows_of(here))
        key = OldClient(there).send(other, "Still here", "Words")
        wait_for(lambda: body_in_sql(other, key) == "Words")
        done = syncd(tmp_path / "home", "status", here, "--json")
        assert 4 == done.returncode
        assert "--restore" in json.loads(done.stdout)["projects"][0]["halt"]["ways_out"][1]
        os.rename(tmp_path / "inbox-away", here / ".claude-mpm" / "inbox")
        NewClient(there).send(here, "After", "Words")
        wait_for(lambda: len(rows_of(here)) == 6 and both_equal(here))
        wait_for(lambda: f"{here}: goes on" in agent.log)


def test_an_rm_of_many_files_halts_before_the_first_row_is_deleted(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    with RunningAgent(tmp_path / "home", here, gone_s=0.3) as agent:
        keys = [OldClient(there).send(here, f"Number {number}", "Words") for number in range(60)]
        wait_for(lambda: len(rows_of(here)) == 60)
        for key in keys[:40]:
            (here / ".claude-mpm" / "inbox" / f"{key}.md").unlink()
            time.sleep(0.005)
        wait_for(lambda: "halted" in agent.log)
        assert 60 == len(rows_of(here))


def test_g15_a_first_cycle_that_has_to_wait_holds_up_no_other_project(tmp_path: Path) -> None:
    here, stuck = project(tmp_path / "tree" / "a"), project(tmp_path / "tree" / "b")
    key = OldClient(stuck).send(here, "Hello", "Words")
    agent = RunningAgent(tmp_path / "home", tmp_path / "tree", options=("--recursive",))
    try:
        with turn(stuck, 0.0):
            agent.start()
            wait_for((here / ".claude-mpm" / "messaging.db").exists)
            wait_for(lambda: body_in_sql(here, key) == "Words")
            (here / ".claude-mpm" / "inbox" / f"{key}.md").unlink()
            wait_for(lambda: body_in_sql(here, key) is None, 5.0)  # the second look came
            agent.process.terminate()
    finally:
        agent.stop()
    assert not agent.is_ready


def is_being_worked_on(folder: Path) -> bool:
    try:
        with turn(folder, 0.0):
            return False
    except BusyError:
        return True


def test_g15_projects_that_wait_for_a_lock_hold_up_no_other(tmp_path: Path) -> None:
    tree, there = tmp_path / "tree", project(tmp_path / "there")
    stuck = [project(tree / f"a{number}") for number in range(2 * WORKERS)]
    here = project(tree / "z")
    for folder in stuck:
        NewClient(folder).send(there, "From SQL", "Words")
    locked = "another program holds the lock"
    agent = RunningAgent(tmp_path / "home", tree, options=("--recursive",))
    with ExitStack() as locks:

        def lock_all() -> None:
            for folder in stuck:
                database = folder / ".claude-mpm" / "messaging.db"
                host = locks.enter_context(closing(sqlite3.connect(database, timeout=10.0)))
                host.execute("BEGIN IMMEDIATE")

        lock_all()
        key = OldClient(there).send(here, "Hello", "Words")
        agent.start()
        try:
            wait_for((here / ".claude-mpm" / "messaging.db").exists)
            wait_for(lambda: body_in_sql(here, key) == "Words")
            assert locked not in agent.log
            locks.close()
            wait_for(lambda: agent.is_ready and all(map(both_equal, stuck)), 60)
            lock_all()
            before = len(agent.log)
            for folder in stuck:
                OldClient(there).send(folder, "Hello", "Words")
            wait_for(lambda: all(map(is_being_worked_on, stuck)))
            key = OldClient(there).send(here, "Hello", "More words")
            wait_for(lambda: body_in_sql(here, key) == "More words")
            assert locked not in agent.log[before:]
        finally:
            locks.close()
            agent.stop()


def test_the_service_manager_hears_of_ready_and_stopping(tmp_path: Path) -> None:
    here = project(tmp_path / "here")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(10)
        agent = RunningAgent(tmp_path / "home", here)
        agent._environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        with agent:
            agent.stop()
        heard = b""
        while b"STOPPING=1" not in heard:
            heard += channel.recv(4096) + b"\n"
    assert b"READY=1" in heard
    assert b"WATCHDOG=1" in heard


def test_the_log_in_json_has_one_object_a_line(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    with RunningAgent(tmp_path / "home", here, options=("--log-json",)) as agent:
        OldClient(there).send(here, "Hello", "Words")
        wait_for(lambda: "row inserted" in agent.log)
    said = [json.loads(line)["message"] for line in agent.lines]
    assert {f"{here}: 1 row inserted", "ready: watching 1 project"} <= {*said}


def test_g15_a_project_with_wrong_settings_rests_until_they_are_mended(tmp_path: Path) -> None:
    wrong, other = project(tmp_path / "all/wrong"), project(tmp_path / "all/other")
    key = OldClient(other).send(wrong, "Subject", "Words")
    settings = wrong / ".claude-mpm/syncd.toml"
    settings.write_text("perfer = 'db'\n")
    agent = RunningAgent(tmp_path / "home", tmp_path / "all", options=("--recursive",))
    with agent:
        assert not (wrong / ".claude-mpm/messaging.db").exists()
        assert "Words" == body_in_sql(other, key)
        assert "unknown setting 'perfer'" in agent.log
        done = syncd(tmp_path / "home", "status", wrong)
        assert (78, True) == (done.returncode, "perfer" in done.stderr + done.stdout)
        settings.write_text("prefer = 'db'\n")
        wait_for(lambda: body_in_sql(wrong, key) == "Words")
        settings.write_text("perfer = 'db'\n")
        agent.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "wrong: its settings stay as they were" in agent.log)
        wait_for(lambda: "settings reread" in agent.log)
        NewClient(wrong).send(other, "Subject", "In step all the same")
        wait_for(lambda: both_equal(wrong))


def test_g12_a_row_that_a_rebuilt_table_lacks_is_gone_though_no_feed_tells(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    keys = [OldClient(there).send(here, f"Subject {n}", "Words") for n in range(5)]
    with RunningAgent(tmp_path / "home", here):
        rebuild(
            here,
            SCHEMA[0].replace("messages", "rebuilt"),
            f"INSERT INTO rebuilt SELECT * FROM messages WHERE id <> '{keys[2]}'",
            "DROP TABLE messages",
            "ALTER TABLE rebuilt RENAME TO messages",
        )
        wait_for(lambda: len(files_of(here)) == 4)
        assert set(keys) - {keys[2]} == set(files_of(here)) == set(rows_of(here))


def test_g6_g12_without_its_table_a_project_rests_and_goes_on_when_that_is_back(
    tmp_path: Path,
) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    keys = [OldClient(there).send(here, f"Subject {n}", "Words") for n in range(5)]
    with RunningAgent(tmp_path / "home", here) as agent:
        keys.append(OldClient(there).send(here, "Just before", "Words"))
        wait_for(lambda: len(rows_of(here)) == 6)
        rebuild(here, "ALTER TABLE messages RENAME TO away")
        wait_for(lambda: "the table messages is gone" in agent.log)
        keys.append(OldClient(there).send(here, "Meanwhile", "Words"))
        time.sleep(0.5)
        done = syncd(tmp_path / "home", "status", here)
        assert (1, True) == (done.returncode, f"syncd resume {here} --restore" in done.stdout)
        rebuild(here, "ALTER TABLE away RENAME TO messages")
        wait_for(lambda: len(rows_of(here)) == 7 and both_equal(here))
        rebuild(here, "DROP TABLE messages", *SCHEMA)
        wait_for(lambda: "all 7 rows of inbox are gone at once" in agent.log)
    assert set(keys) == set(files_of(here))
    rebuild(here, "DROP TABLE messages")
    assert 1 == syncd(tmp_path / "home", "sync", here).returncode
    assert 0 == syncd(tmp_path / "home", "resume", here, "--restore").returncode
    assert set(keys) == set(rows_of(here))
    assert both_equal(here)


def test_g9_nobody_is_locked_out_by_a_wal_that_is_taken_away_from_under_the_agent(
    tmp_path: Path,
) -> None:
    here = project(tmp_path / "here")
    OldClient(tmp_path / "there").send(here, "Subject", "Words")
    database = here / ".claude-mpm/messaging.db"
    with RunningAgent(tmp_path / "home", here):
        for number, pause in enumerate((0.0, 0.001, 0.002, 0.004, 0.006, 0.02)):
            with (
                closing(sqlite3.connect(database)) as old,
                closing(sqlite3.connect(tmp_path / "new.db")) as new,
            ):
                new.executescript("\n".join(old.iterdump()))
            os.replace(tmp_path / "new.db", database)
            time.sleep(pause)
            for name in ("-wal", "-shm"):
                Path(f"{database}{name}").unlink(missing_ok=True)
            try:
                with closing(sqlite3.connect(database, timeout=1.0)) as client, client:
                    client.execute("UPDATE messages SET body = ?", (f"Words {number}",))
            except sqlite3.DatabaseError as error:
                # Who takes them away may damage it, in the moment between the two.
                if error.sqlite_errorcode != sqlite3.SQLITE_CORRUPT:
                    raise
                return
            wait_for(lambda: both_equal(here))


def test_sighup_rereads_the_settings(tmp_path: Path) -> None:
    here = project(tmp_path / "here")
    with RunningAgent(tmp_path / "home", here) as agent:
        (here / ".claude-mpm" / "syncd.toml").write_text("prefer = 'db'\n")
        agent.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "settings reread" in agent.log)
        (here / ".claude-mpm" / "syncd.toml").write_text("perfer = 'db'\n")
        agent.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "'prefer'" in agent.log)
