"""What is believed without a compare, and every way in which that must not happen."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd import config
from syncd.cli import status
from syncd.cycle import seen
from syncd.cycle.seen import Seen
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Scan
from syncd.names import DATABASE
from tests.projects import ONE, Project

FILE = f"inbox/{ONE}.md"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project of three messages that two passes left with nothing to do."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(seen, "FEWEST", 1)
    made = Project(tmp_path / "p")
    for number in (1, 2, 3):
        made.receive(number)
    for _ in range(2):
        time.sleep(0.05)  # what was written in the last tick is not believed
        made.sync()
    return made


def is_known(project: Project) -> bool:
    """Tell whether a pass that began now would compare nothing."""
    with FileReplica(project.path) as files:
        return Seen(project.path, project.config).knows(files.scan())


def test_what_has_its_time_in_whole_seconds_is_not_believed_before_a_change_would_show(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.edit(FILE, "Body 1.", "Other.")
    project.sync()
    second = int(time.time()) + 1
    time.sleep(second + 0.05 - time.time())
    with monkeypatch.context() as patched:
        patched.setattr(Scan, "newest_ns", second * 1_000_000_000)
        project.sync()
    assert not is_known(project)
    project.sync()
    assert is_known(project)


def by_sql(*statements: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        with closing(sqlite3.connect(project.base / DATABASE)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return change


def behind_the_triggers(project: Project) -> None:
    """Change a row where no trigger tells, and leave all triggers as they were."""
    by_sql(
        "INSERT INTO syncd_mute VALUES (NULL)",
        f"UPDATE messages SET body = 'Unheard' WHERE id = '{ONE}'",
        "DELETE FROM syncd_mute",
    )(project)


def beside_a_connection_that_stays_open(project: Project) -> None:
    """Commit into the -wal only: the database file itself stays as it was."""
    reader = sqlite3.connect(project.base / DATABASE)
    reader.execute("SELECT count(*) FROM messages").fetchone()
    project.open_connections = [reader]  # type: ignore[attr-defined]
    behind_the_triggers(project)


def a_file_edited(project: Project) -> None:
    project.edit(FILE, "Body 1.", "Word 1.")


def by_a_copy_put_in_place(project: Project) -> None:
    copy = project.path / "copy.db"
    shutil.copy2(project.base / DATABASE, copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("INSERT INTO syncd_mute VALUES (NULL)")
        connection.execute(f"UPDATE messages SET body = 'From a copy' WHERE id = '{ONE}'")
        connection.execute("DELETE FROM syncd_mute")
        connection.commit()
    copy.replace(project.base / DATABASE)


CHANGES: dict[str, tuple[Callable[[Project], None], str]] = {
    "a row by SQL": (by_sql(f"UPDATE messages SET body = 'Heard' WHERE id = '{ONE}'"), "Heard"),
    "a row behind the triggers": (behind_the_triggers, "Unheard"),
    "a row in the -wal": (beside_a_connection_that_stays_open, "Unheard"),
    "a file": (a_file_edited, "Word 1."),
    "another database": (by_a_copy_put_in_place, "From a copy"),
}


def test_a_project_with_nothing_to_do_is_known_the_next_time(project: Project) -> None:
    assert is_known(project)
    report = project.sync()
    assert (0, 3) == (report.counts.changes(), report.counts.unchanged)


@pytest.mark.parametrize("what", CHANGES)
def test_g12_whatever_changed_is_compared(project: Project, what: str) -> None:
    change, words = CHANGES[what]
    change(project)
    assert not is_known(project)
    project.sync()
    assert words == project.new.rows()[ONE]["body"]
    assert words in project.text(FILE)
    for connection in getattr(project, "open_connections", []):
        connection.close()


def test_status_compares_nothing_where_nothing_was_written(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("files are compared")

    monkeypatch.setattr("syncd.cycle.look._compare_files", refuse)
    monkeypatch.setattr(config, "load", lambda _: project.config)
    assert 0 == status.look(project.path, []).pending
    project.edit(FILE, "Body 1.", "Word 1.")
    with pytest.raises(AssertionError, match="compared"):
        status.look(project.path, [])


@pytest.mark.parametrize("what", CHANGES)
def test_g12_whatever_changed_is_pending(
    project: Project, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "load", lambda _: project.config)
    CHANGES[what][0](project)
    assert 1 == status.look(project.path, []).pending
    for connection in getattr(project, "open_connections", []):
        connection.close()


def test_a_look_by_another_program_changes_nothing(project: Project) -> None:
    assert 3 == len(project.new.rows())
    with closing(sqlite3.connect(project.base / DATABASE)) as connection:
        connection.execute("SELECT count(*) FROM messages").fetchone()
    assert is_known(project)


def test_what_a_one_way_pass_left_is_not_taken_for_done(project: Project) -> None:
    columns = "id, from_project, to_project, subject, body, created_at"
    values = "'only-a-row', '/p', '/q', 'S', 'B', '2026-02-20T00:00:00+00:00'"
    project.sql(f"INSERT INTO messages ({columns}) VALUES ({values})")
    project.sync(one_way=True)
    project.sync(one_way=True)
    assert not is_known(project)
    project.sync()
    assert project.file("inbox/only-a-row.md").exists()


def test_a_file_written_just_now_is_not_believed(project: Project) -> None:
    project.receive(4)
    project.sync()
    project.edit("inbox/msg-20260220-000004-00000000.md", "Body 4.", "Word 4.")
    project.sync()
    assert "Word 4." == project.new.rows()["msg-20260220-000004-00000000"]["body"]


def test_a_look_within_a_tick_of_the_last_write_is_not_remembered(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.file(FILE).touch()
    with monkeypatch.context() as patched:
        patched.setattr(seen, "_TICK_S", 3600.0)
        for _ in range(2):
            project.sync()
        assert not is_known(project)
    time.sleep(0.05)
    project.sync()
    assert is_known(project)


def test_other_settings_are_another_look(project: Project) -> None:
    project.config = Project(project.path, prefer="db").config
    assert not is_known(project)


def test_a_missing_state_folder_costs_only_time(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert not is_known(project)
    project.sync()
