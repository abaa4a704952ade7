"""``syncd doctor`` over real projects: each check is shown what it is for, then the mend."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import syncd
from fixtures.make_world import WORLD
from syncd.agent.heartbeat import alive
from syncd.names import DATABASE
from tests.calls import Call
from tests.clients import SCHEMA
from tests.projects import ONE, Project, nothing_written
from tests.running import RunningAgent, as_anybody, environment, wait_for

PATH = f"inbox/{ONE}.md"
TABLES = ("syncd_feed", "syncd_baseline")


@pytest.fixture
def project(home: Path, shop: Project) -> Project:
    """Return a project in step, with three messages in its inbox; the current folder is in it."""
    for number in (1, 2, 3):
        shop.receive(number)
    shop.sync()
    return shop


class Examined:
    """What the doctor says of one project, and of the machine."""

    def __init__(self, call: Call, *paths: Path) -> None:
        self.code, out, self.err = call("doctor", *paths, "--json")
        self.answer = json.loads(out)
        self.checks: list[dict[str, Any]] = self.answer["checks"]

    def __getitem__(self, name: str) -> dict[str, Any]:
        """Return the first check of the project of that name."""
        return next(
            check for check in self.checks if check["name"] == name and check["project"] is not None
        )

    def of_machine(self, name: str) -> dict[str, Any]:
        return next(
            check for check in self.checks if check["name"] == name and check["project"] is None
        )

    @property
    def bad(self) -> dict[str, str]:
        """Return the verdicts of all that is not good, what every machine may have left out."""
        return {
            check["name"]: check["verdict"]
            for check in self.checks
            if check["verdict"] != "good"
            and check["name"] not in ("sqlite", "inotify", "file-system")
            and (check["name"], check["found"]) != ("agent", "no agent keeps it in step")
            and not (check["name"] == "settings" and check["verdict"] == "note")
        }


def run_mend(check: dict[str, Any]) -> None:
    """Run the command that a mend names, as a person would who copies it."""
    command = check["mend"].partition(" (")[0].replace("syncd ", f"{sys.executable} -m syncd ", 1)
    subprocess.run(["sh", "-c", command], check=True, capture_output=True, timeout=60)


def sql(project: Project, script: str) -> None:
    with project.connection() as connection:
        connection.executescript(script)


# All together


def test_a_project_in_step_wants_nobody_and_nothing_is_changed(
    project: Project, call: Call
) -> None:
    project.sql("SELECT 1")
    with nothing_written(project):
        found = Examined(call)
    assert (0, "", {}) == (found.code, found.err, found.bad)
    assert ["version", "seconds", "checks"] == list(found.answer)
    assert ["project", "name", "verdict", "found", "mend", "details"] == list(found.checks[0])
    assert {None, str(project.path)} == {check["project"] for check in found.checks}
    assert "3 messages the same on both" == found["sides"]["found"]
    assert [f"{DATABASE}"] == sorted(
        path.name for path in project.base.iterdir() if path.name.startswith(DATABASE)
    )


def test_a_person_reads_a_line_for_each_check_and_its_mend(project: Project, call: Call) -> None:
    project.write("inbox/note.md", "a note\n")
    code, out, err = call("doctor")
    lines = out.splitlines()
    assert (3, "") == (code, err)
    assert ("this machine", 1) == (lines[0], lines.count(str(project.path)))
    assert "  good     triggers       all stand as this version makes them" in lines
    at = lines.index("  warning  files          1 file not readable as a message")
    assert lines[at + 1].startswith("           inbox/note.md:1: there is no front matter")
    assert lines[at + 2].startswith("           → inbox/note.md: Start the file with a line '---'")
    assert lines[-1].endswith("1 to look at")
    assert "\x1b" not in out


def test_on_a_terminal_the_lines_are_coloured(project: Project, home: Path) -> None:
    mine, theirs = pty.openpty()
    try:
        surroundings = {k: v for k, v in environment(home).items() if k != "NO_COLOR"}
        subprocess.run(
            [sys.executable, "-m", "syncd", "doctor"],
            env=surroundings | {"TERM": "xterm"},
            cwd=project.path,
            stdout=theirs,
            timeout=30,
            check=True,
        )
        assert "\x1b[32m  good     triggers" in os.read(mine, 65536).decode()
    finally:
        os.close(mine)
        os.close(theirs)


def test_over_several_projects_what_is_good_is_said_briefly(
    tmp_path: Path, home: Path, call: Call
) -> None:
    world = shutil.copytree(WORLD, tmp_path / "world")
    assert 3 == call("sync", world, "--recursive").code
    code, out, _ = call("doctor", world, "--recursive")
    assert 3 == code
    section = out[out.index(str(world / "harbor")) : out.index(str(world / "lumen"))]
    assert "space, permissions, journal-mode, integrity, schema, triggers, state, " in section
    assert "warning  files" in section
    assert "warning  old-client     1 file not readable by the old client" in out
    found = Examined(call, world / "apex", world / "lumen")
    assert {None, str(world / "apex"), str(world / "lumen")} == {
        check["project"] for check in found.checks
    }


def test_without_a_database_none_is_made(home: Path, shop: Project, call: Call) -> None:
    found = Examined(call)
    assert (0, "note") == (found.code, found["database"]["verdict"])
    assert f"syncd migrate {shop.path}" == found["database"]["mend"]
    assert [".claude-mpm"] == shop.listing()


def test_before_the_first_sync_that_is_what_is_missing(
    home: Path, shop: Project, call: Call
) -> None:
    shop.new.send(shop.path, "To me", "By SQL.")
    found = Examined(call)
    assert {"triggers": "note", "sides": "warning"} == found.bad
    run_mend(found["triggers"])
    assert {} == Examined(call).bad


def test_a_check_that_cannot_be_made_is_an_error(project: Project, call: Call) -> None:
    (project.base / DATABASE).write_text("this is no database, whatever its name says")
    found = Examined(call)
    assert (1, "problem") == (found.code, found["database"]["verdict"])
    assert "is not a SQLite database" in found["database"]["found"]
    assert "syncd migrate" in found["database"]["mend"]


def test_a_retired_project_is_not_told_to_sync(project: Project, call: Call) -> None:
    assert 0 == call("retire", project.path).code
    found = Examined(call, project.path)
    assert (0, {}) == (found.code, found.bad)
    assert found["retirement"]["found"].startswith("it was retired on ")
    project.receive(4)
    found = Examined(call, project.path)
    assert (3, {"retirement": "warning"}) == (found.code, found.bad)
    assert ["inbox/msg-20260220-000004-00000000.md"] == found["retirement"]["details"]
    assert "syncd retire --undo " in found["retirement"]["mend"]


# Settings and permissions


def test_a_wrong_setting_ends_with_the_code_for_it(project: Project, call: Call) -> None:
    (project.base / "syncd.toml").write_text("prefers = 'db'\n")
    found = Examined(call)
    assert (78, "problem") == (found.code, found["settings"]["verdict"])
    assert "'prefers'" in found["settings"]["found"]
    assert "'prefer'" in found["settings"]["mend"]
    assert "note" == found.of_machine("settings")["verdict"]


def test_an_unwise_setting_is_noted(project: Project, call: Call) -> None:
    (project.base / "syncd.toml").write_text("history_days = 0.5\n")
    found = Examined(call)["settings"]
    assert "note" == found["verdict"]
    assert any(line.startswith("history_days = 0.5") for line in found["details"])


def test_what_this_user_may_not_do_is_named_with_the_chmod(project: Project, home: Path) -> None:
    def examined() -> dict[str, Any]:
        done = subprocess.run(
            as_anybody([sys.executable, "-m", "syncd", "doctor", str(project.path), "--json"]),
            env=environment(home),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        checks = json.loads(done.stdout)["checks"]
        return next(check for check in checks if check["name"] == "permissions")

    project.file(PATH).chmod(0)
    project.file("outbox").mkdir(mode=0o500)
    found = examined()
    assert ("problem", [f"{PATH} cannot be read", "outbox cannot be written"]) == (
        found["verdict"],
        found["details"],
    )
    assert f"chmod u+r {project.file(PATH)}" == found["mend"].partition(" (")[0]
    run_mend(found)
    project.file("outbox").chmod(0o700)
    assert "good" == examined()["verdict"]


# The database


def test_another_journal_mode_is_found_and_mended(project: Project, call: Call) -> None:
    sql(project, "PRAGMA journal_mode = DELETE")
    found = Examined(call)["journal-mode"]
    assert ("warning", True) == (found["verdict"], "journal mode delete" in found["found"])
    assert shlex.split(found["mend"])[:3] == [
        "sqlite3",
        str(project.base / DATABASE),
        "PRAGMA journal_mode = WAL",
    ]
    sql(project, "PRAGMA journal_mode = WAL")
    assert {} == Examined(call).bad


def test_the_archive_of_a_retired_project_is_read(project: Project, call: Call) -> None:
    project.retire()
    assert "good" == Examined(call, project.path)["retirement"]["verdict"]
    data = project.archive.read_bytes()
    project.archive.write_bytes(data[:-1] + b"?")
    damaged = Examined(call, project.path)
    assert (3, "problem") == (damaged.code, damaged["retirement"]["verdict"])
    project.archive.unlink()
    assert "is not here" in Examined(call, project.path)["retirement"]["found"]


def test_the_registry_of_sessions_is_looked_at_too(
    project: Project, home: Path, call: Call
) -> None:
    registry = home / ".claude-mpm" / "session-registry.db"
    registry.parent.mkdir()
    connection = sqlite3.connect(registry)
    connection.execute("CREATE TABLE sessions (session_id TEXT)")
    assert "note" == Examined(call).of_machine("registry")["verdict"]
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert "good" == Examined(call).of_machine("registry")["verdict"]


def test_damage_is_found(project: Project, call: Call) -> None:
    with project.connection() as connection:
        sql = "SELECT rootpage FROM sqlite_master WHERE name = 'idx_messages_priority'"
        (page,) = connection.execute(sql).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with (project.base / DATABASE).open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 64)
    found = Examined(call)
    assert ("problem", True) == (
        found["integrity"]["verdict"],
        "restore a backup" in found["integrity"]["mend"],
    )
    assert found["integrity"]["details"]


def test_a_table_that_is_not_the_contracts_is_told_by_column_and_index(
    project: Project, call: Call
) -> None:
    sql(project, "DROP INDEX idx_messages_status")
    found = Examined(call)["schema"]
    assert ("note", True) == (found["verdict"], "idx_messages_status" in found["found"])
    sql(project, f"DROP TABLE messages; {SCHEMA[0].replace('body TEXT', 'body STRING')}")
    found = Examined(call)["schema"]
    assert ("note", "body:") == (found["verdict"], found["found"].partition(" ")[0])
    sql(
        project,
        "CREATE TABLE other (id); DROP TABLE messages; ALTER TABLE other RENAME TO messages",
    )
    found = Examined(call)
    assert (1, "problem") == (found.code, found["schema"]["verdict"])
    assert "ALTER TABLE messages RENAME COLUMN … TO from_project" in found["schema"]["mend"]


def test_columns_that_a_table_lacks_before_any_sync_are_added_as_the_contract_has_them(
    tmp_path: Path, call: Call
) -> None:
    project = Project(tmp_path / "new")
    project.file("inbox").mkdir(parents=True, exist_ok=True)
    lacking = "CREATE TABLE messages (id TEXT PRIMARY KEY, body TEXT NOT NULL, created_at TEXT)"
    with closing(sqlite3.connect(project.new.database)) as connection, connection:
        connection.execute(lacking)
        connection.execute("INSERT INTO messages VALUES ('m', 'Words.', '2026-02-20T00:00:00')")
    mend = Examined(call, project.path)["schema"]["mend"]
    program, database, statements = shlex.split(mend)
    assert ("sqlite3", str(project.new.database)) == (program, database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript(statements)
    project.sync()
    assert ("unread", "normal", 0) == tuple(
        project.row("m")[name] for name in ("status", "priority", "task_injected")
    )
    assert ["m"] == [message.id for message in project.new.list()]


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("DROP TRIGGER syncd_update", "the trigger syncd_update is missing"),
        (
            "DROP TRIGGER syncd_delete; CREATE TRIGGER syncd_delete AFTER DELETE ON messages "
            "BEGIN SELECT 1; END",
            "the trigger syncd_delete is another than this version makes",
        ),
        ("DROP TABLE syncd_twins", "the table syncd_twins is missing"),
    ],
)
def test_triggers_that_are_not_as_they_should_be_are_found_and_mended(
    project: Project, call: Call, script: str, detail: str
) -> None:
    sql(project, script)
    found = Examined(call)
    assert ({"triggers": "warning"}, [detail]) == (found.bad, found["triggers"]["details"])
    run_mend({"mend": found["triggers"]["mend"].partition(",")[0]})
    assert {} == Examined(call).bad


def test_a_database_of_a_newer_syncd_is_left_to_it(project: Project, call: Call) -> None:
    sql(project, "UPDATE syncd_state SET value = '99' WHERE key = 'version'")
    found = Examined(call)
    assert (1, "problem") == (found.code, found["triggers"]["verdict"])
    assert "pip install --upgrade syncd" in found["triggers"]["mend"]


def test_a_halt_is_told_with_its_ways_out(project: Project, call: Call) -> None:
    shutil.rmtree(project.file("inbox"))
    assert project.cycle().halt is not None
    found = Examined(call)
    assert (3, "problem") == (found.code, found["state"]["verdict"])
    ways = " ".join([found["state"]["mend"], *found["state"]["details"]])
    assert "syncd resume" in ways
    assert "--restore" in ways


def test_open_conflicts_are_told(project: Project, call: Call) -> None:
    project.edit(PATH, "Body 1.", "By hand.")
    project.sql("UPDATE messages SET body = 'By SQL.' WHERE id = ?", ONE)
    project.sync()
    found = Examined(call)
    assert {"state": "warning"} == found.bad
    assert [f"{ONE}, body"] == found["state"]["details"]


def test_a_clock_behind_what_was_noted_is_told(project: Project, call: Call) -> None:
    sql(project, "INSERT INTO syncd_journal (at, id) VALUES ('2199-01-01T00:00:00+00:00', 'x')")
    found = Examined(call)
    assert {"clock": "warning"} == found.bad
    assert "2199-01-01 00:00:0" in found["clock"]["found"]


def test_what_waits_in_the_feed_is_noted_where_no_agent_is(project: Project, call: Call) -> None:
    project.sql("UPDATE messages SET priority = 'high' WHERE id = ?", ONE)
    found = Examined(call)
    assert {"feed": "note", "sides": "warning"} == found.bad
    run_mend(found["feed"])
    assert {} == Examined(call).bad


def test_a_baseline_without_its_row_or_file_is_told(project: Project, call: Call) -> None:
    project.sql("DELETE FROM messages WHERE id = ?", ONE)
    project.file("inbox/msg-20260220-000002-00000000.md").unlink()
    found = Examined(call)
    assert {"baseline": "note", "feed": "note", "sides": "warning"} == found.bad
    assert "of 3 messages: 1 without a row, 1 without a file" == found["baseline"]["found"]
    assert f"{ONE}: no row" in found["baseline"]["details"]


def test_what_a_cut_off_cycle_left_is_told(project: Project, call: Call) -> None:
    stray = project.write("inbox/.syncd-1-1-abcdef.tmp", "late words")
    assert "good" == Examined(call)["leftovers"]["verdict"]
    os.utime(stray, (1, 1))
    sql(
        project,
        "INSERT INTO syncd_versions (at, intent, id, path) VALUES (1, 1, 'x', 'inbox/x.md')",
    )
    found = Examined(call)["leftovers"]
    assert ("note", True) == (
        found["verdict"],
        found["found"].endswith("1 temporary file and 1 unfinished write"),
    )
    run_mend({"mend": found["mend"].partition(",")[0]})
    assert "good" == Examined(call)["leftovers"]["verdict"]


def test_triggers_that_are_muted_for_good_are_a_problem(project: Project, call: Call) -> None:
    sql(project, "INSERT INTO syncd_mute VALUES (NULL)")
    found = Examined(call)
    assert {"leftovers": "problem"} == found.bad
    assert shlex.split(found["leftovers"]["mend"])[2] == "DELETE FROM syncd_mute"
    sql(project, "DELETE FROM syncd_mute")
    assert {} == Examined(call).bad


def test_quarantine_that_stands_no_more_is_noted(project: Project, call: Call) -> None:
    note = project.write("inbox/note.md", "a note\n")
    project.sync()
    assert {"files": "warning"} == Examined(call).bad
    note.unlink()
    found = Examined(call)
    assert ({"quarantine": "note"}, ["inbox/note.md"]) == (
        found.bad,
        found["quarantine"]["details"],
    )
    project.sync()
    assert {} == Examined(call).bad


def test_a_message_that_no_cycle_can_carry_over_is_told(project: Project, call: Call) -> None:
    sql(
        project,
        "CREATE TRIGGER theirs BEFORE INSERT ON messages WHEN NEW.priority = 'never' "
        "BEGIN SELECT RAISE(ABORT, 'we take no such priority'); END",
    )
    path = f"inbox/{project.receive(4, priority='never')}.md"
    project.sync()
    found = Examined(call)
    assert {"quarantine": "warning", "sides": "warning"} == found.bad
    (told,) = found["quarantine"]["details"]
    assert told.startswith(f"{path}: the database refuses the row: we take no such priority. ")


# The messages


def test_a_row_that_breaks_every_listing_is_told(project: Project, call: Call) -> None:
    project.sql("UPDATE messages SET created_at = 'yesterday' WHERE id = ?", ONE)
    found = Examined(call)
    assert "warning" == found["rows"]["verdict"]
    assert [f"{DATABASE}#{ONE}: created_at is 'yesterday', which is no ISO 8601 timestamp"] == (
        found["rows"]["details"]
    )


def test_an_id_that_two_files_have_is_told(project: Project, call: Call) -> None:
    project.write("inbox/copy.md", project.text(PATH).replace("Body 1.", "Another."))
    found = Examined(call)
    assert {"ids": "warning"} == found.bad
    assert [f"inbox/copy.md: its id '{ONE}' is taken by {PATH}"] == found["ids"]["details"]


def test_a_file_that_the_old_client_cannot_read_is_told_and_repaired(
    project: Project, call: Call
) -> None:
    text = project.text(PATH)
    line = next(line for line in text.splitlines() if line.startswith("created_at"))
    project.write(PATH, text.replace(line, line.replace("'", "")))
    project.sync()
    found = Examined(call)
    assert {"old-client": "warning"} == found.bad
    assert found["old-client"]["details"][0].startswith(f"{PATH}: created_at is not a quoted")
    run_mend(found["old-client"])
    assert {} == Examined(call).bad


@pytest.mark.parametrize("second", [4_000_000_000, 10_413_792_000])  # 2096 and 2300
def test_what_is_dated_in_the_future_is_noted(project: Project, call: Call, second: int) -> None:
    os.utime(project.file(PATH), (second, second))
    other = "msg-20260220-000002-00000000"
    project.sql("UPDATE messages SET created_at = '2099-01-01T00:00:00Z' WHERE id = ?", other)
    project.sync()
    found = Examined(call)
    assert {"dates": "note"} == found.bad
    assert "1 file and 1 row dated in the future" == found["dates"]["found"]
    assert f"touch {project.file(PATH)}" in found["dates"]["mend"]


# Agents


@contextmanager
def heartbeat_of(home: Path, name: str, **changes: object) -> Iterator[Path]:
    """Hold a heartbeat as another agent's process would, here as one of another program."""
    folder = home / "state" / "syncd" / "agents"
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "pid": os.getpid(),
        "since": "2026-02-20T00:00:00+00:00",
        "recursive": False,
        "last_full_compare": {},
        "troubles": {},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(data | changes))
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path
    path.unlink()


def test_an_agent_at_work_is_good_and_its_watches_are_looked_at(
    project: Project, home: Path, call: Call
) -> None:
    with RunningAgent(home, project.path) as agent:
        found = Examined(call)
        assert (0, {}) == (found.code, found.bad)
        assert f"pid {agent.process.pid} is at work" in found["agent"]["found"]
        assert f"pid {agent.process.pid} hears of every folder" == found["watches"]["found"]


def test_an_agent_that_polls_is_noted(project: Project, home: Path, call: Call) -> None:
    with RunningAgent(home, project.path, options=("--poll",)):
        assert {"watches": "note"} == Examined(call).bad


def test_an_agent_that_ended_without_a_word_is_a_problem(
    project: Project, home: Path, call: Call
) -> None:
    with RunningAgent(home, project.path) as agent:
        agent.stop(signal.SIGKILL)
    found = Examined(call)
    assert (3, {"agent": "problem"}) == (found.code, found.bad)
    assert f"Start it again: syncd run {project.path}" == found["agent"]["mend"]


def test_an_agent_that_hangs_is_a_problem_and_what_waits_for_it_is_told(
    project: Project, home: Path, call: Call
) -> None:
    with RunningAgent(home, project.path) as agent:
        agent.process.send_signal(signal.SIGSTOP)
        try:
            project.sql("UPDATE messages SET priority = 'high' WHERE id = ?", ONE)
            found = Examined(call)
            assert {"feed": "warning", "sides": "warning"} == found.bad
            (path,) = (home / "state" / "syncd" / "agents").glob("*.json")
            long_ago = time.time() - 100
            os.utime(path, (long_ago, long_ago))
            found = Examined(call)
            assert ("problem", True) == (
                found["agent"]["verdict"],
                found["agent"]["mend"].startswith(f"kill {agent.process.pid} "),
            )
        finally:
            agent.process.send_signal(signal.SIGCONT)
        wait_for(lambda: "priority: high" in project.text(PATH))


def test_what_the_agent_reports_of_a_project_is_told(
    project: Project, home: Path, call: Call
) -> None:
    troubles = {str(project.path): ["the disk is full", "Free some space."]}
    held = heartbeat_of(home, "a", roots=[str(project.path)], troubles=troubles)
    with held:
        found = [check for check in Examined(call).checks if check["name"] == "agent"]
    assert ["good", "problem"] == [check["verdict"] for check in found]
    assert ("the agent reports: the disk is full", "Free some space.") == (
        found[1]["found"],
        found[1]["mend"],
    )


def test_two_agents_over_one_project_are_told_apart(
    project: Project, home: Path, call: Call
) -> None:
    with (
        RunningAgent(home, project.path) as agent,
        heartbeat_of(home, "b", roots=[str(project.path.parent)], recursive=True),
    ):
        found = Examined(call)["agent"]
    assert ("warning", f"Stop all but one: kill {agent.process.pid}") == (
        found["verdict"],
        found["mend"],
    )


def test_an_agent_with_another_state_folder_is_found_by_what_it_watches(
    project: Project, home: Path, tmp_path: Path, call: Call
) -> None:
    if not Path("/proc/self/fdinfo").is_dir():
        pytest.skip("this system does not tell what is watched")
    with RunningAgent(tmp_path / "elsewhere", project.path) as stranger:
        found = Examined(call)["agent"]
        assert ("note", True) == (found["verdict"], str(stranger.process.pid) in found["found"])
        with RunningAgent(home, project.path) as agent:
            found = Examined(call)["agent"]
            assert ("warning", f"kill {stranger.process.pid}") == (
                found["verdict"],
                found["mend"].removeprefix("Stop all but one: "),
            )
            assert str(agent.process.pid) in found["found"]


def test_an_agent_of_another_version_is_to_be_restarted(
    project: Project, home: Path, call: Call
) -> None:
    with alive([project.path], recursive=False):
        (path,) = (home / "state" / "syncd" / "agents").glob("*.json")
        assert syncd.__version__ == json.loads(path.read_text())["version"]
        assert {"watches": "note"} == Examined(call).bad
    for version, words in ({"version": "0.0.9"}, "version 0.0.9"), ({}, "an older version"):
        with heartbeat_of(home, "old", roots=[str(project.path)], **version):
            found = Examined(call)["agent-version"]
        assert ("warning", True) == (found["verdict"], f"is of {words};" in found["found"])
        assert f"syncd run {project.path}" in found["mend"]
