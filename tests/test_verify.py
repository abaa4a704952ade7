"""Verifying: what a full reading of both sides finds, and what is no difference to it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fixtures.make_world import WORLD
from syncd.core.message import FIELDS
from syncd.cycle.report import State
from syncd.database.store import Store
from syncd.database.tables import COLUMNS
from syncd.errors import StaleReplica
from syncd.names import DATABASE
from syncd.verify import Verification, verify
from tests.projects import ONE, Project, a_row, insert, nothing_written
from tests.running import RunningAgent, as_anybody, environment, syncd, wait_for

PATH = f"inbox/{ONE}.md"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project in step, with three messages in its inbox."""
    project = Project(tmp_path / "shop")
    for number in (1, 2, 3):
        project.receive(number)
    project.sync()
    return project


def found(project: Project, patience_s: float = 0.0) -> Verification:
    """Verify a project, without waiting where nobody is at work."""
    with Store.open_readonly(project.base / DATABASE) as store:
        return verify(
            project.path, store, max_bytes=project.config.max_bytes, patience_s=patience_s
        )


def differing(result: Verification) -> list[tuple[str, str | None]]:
    return [(one.id, one.field) for one in result.differences]


@contextmanager
def soon(action: Callable[[], object]) -> Iterator[None]:
    """Do something a moment after what stands inside has begun."""
    timer = threading.Timer(0.15, action)
    timer.start()
    yield
    timer.join()


def test_sides_in_step_are_equal(project: Project) -> None:
    result = found(project)
    assert result.is_equal
    assert (3, 3, 3) == (result.files, result.rows, result.equal)


def test_what_stands_in_a_files_place_is_named(project: Project) -> None:
    project.file(PATH).unlink()
    project.file(PATH).mkdir()
    (one,) = found(project).differences
    assert ("the row has no file", True) == (
        one.what,
        one.hint.startswith(f"At {PATH}, where its file stood, it is a folder"),
    )


def test_nothing_is_changed(project: Project) -> None:
    project.sql("UPDATE messages SET priority = 'urgent' WHERE id = ?", ONE)
    with nothing_written(project):
        assert not found(project).is_equal
    assert not (project.base / f"{DATABASE}-wal").exists()


def test_what_a_file_leaves_out_is_another_in_a_project_that_moved(tmp_path: Path) -> None:
    before = Project(tmp_path / "before")
    before.write("inbox/short.md", "---\nid: short\n---\n\nWords.\n")
    before.sync()
    project = Project(Path(shutil.move(before.path, tmp_path / "after")))
    assert State.IN_SYNC is project.sync().state
    (one,) = found(project).differences
    assert "to_project" == one.field
    assert "leaves out to_project" in one.hint
    project.file("inbox/short.md").touch()
    project.sync()
    assert found(project).is_equal


def test_all_fixtures_are_equal_after_a_cycle_but_for_the_note_and_with_their_twins(
    tmp_path: Path,
) -> None:
    for name, twins in (("apex", 1), ("harbor", 1)):
        project = Project(Path(shutil.copytree(WORLD / name, tmp_path / name)))
        project.sync()
        result = found(project)
        assert () == result.differences
        assert twins == len(result.twins)
        assert (["inbox/notes.md"] if name == "harbor" else []) == [
            entry.path for entry in result.quarantined
        ]


@pytest.mark.parametrize(("name", "column"), list(zip(FIELDS, COLUMNS[1:], strict=True)))
def test_each_field_is_compared(project: Project, name: str, column: str) -> None:
    values = {"created_at": "2020-01-01T00:00:00+00:00", "metadata": '{"a": 1}'}
    value = values.get(name, '["x"]')
    project.sql(f"UPDATE messages SET {column} = ? WHERE id = ?", value, ONE)
    result = found(project)
    assert [(ONE, name)] == differing(result)
    assert value == result.differences[0].row
    assert PATH == result.differences[0].path
    assert 2 == result.equal


def test_two_spellings_of_a_value_are_equal(project: Project) -> None:
    project.sql(
        "UPDATE messages SET body = ? || body || ?, created_at = ?, metadata = ' {} '",
        *("\r\n\n", "  \n", "2026-02-20 00:00:01.123456Z"),
    )
    assert [] == [one for one in differing(found(project)) if one[0] == ONE]


def test_the_baseline_is_not_asked(project: Project) -> None:
    with project.connection() as connection:
        connection.execute("DELETE FROM syncd_baseline")
    assert found(project).is_equal
    project.sync()
    with project.connection() as connection:  # a baseline that says all is as it was
        connection.execute("UPDATE messages SET body = 'other' WHERE id = ?", (ONE,))
        connection.execute("DELETE FROM syncd_feed")
    assert [(ONE, "body")] == differing(found(project))


def test_a_file_that_changed_under_its_stamp_is_found_and_the_hint_mends_it(
    project: Project,
) -> None:
    before = project.file(PATH).stat()
    project.edit(PATH, "Body 1.", "Body 9.")
    os.utime(project.file(PATH), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert 0 == project.sync().counts.changes()
    (one,) = found(project).differences
    assert ("body", "Body 9.", "Body 1.") == (one.field, one.file, one.row)
    assert f"touch {project.file(PATH)} && syncd sync" in one.hint
    os.utime(project.file(PATH))
    project.sync()
    assert found(project).is_equal


def test_long_values_are_cut_to_where_they_part(project: Project) -> None:
    project.write(PATH, project.text(PATH).replace("Body 1.", "a" * 500 + "FILE" + "b" * 500))
    project.sql("UPDATE messages SET body = ? WHERE id = ?", "a" * 500 + "ROW", ONE)
    (one,) = found(project).differences
    assert f"…{'a' * 20}FILE{'b' * 36}…" == one.file
    assert f"…{'a' * 20}ROW" == one.row


def test_a_message_on_one_side_only_is_a_difference(project: Project) -> None:
    project.file(PATH).unlink()
    new = project.receive(4)
    result = found(project)
    assert {(ONE, "the row has no file"), (new, "the file has no row")} == {
        (one.id, one.what) for one in result.differences
    }
    assert all("syncd sync" in one.hint for one in result.differences)


def test_without_a_database_every_file_lacks_its_row(tmp_path: Path) -> None:
    project = Project(tmp_path / "new")
    project.receive(1)
    assert ["the file has no row"] == [one.what for one in found(project).differences]
    assert not (project.base / DATABASE).exists()


def test_a_date_that_the_file_does_not_state_is_the_rows_alone(project: Project) -> None:
    text = project.text(PATH)
    line = next(line for line in text.splitlines() if line.startswith("created_at"))
    project.write("inbox/undated.md", text.replace(f"{line}\n", "").replace(ONE, "undated"))
    project.sync()
    os.utime(project.file("inbox/undated.md"), (1, 1))
    assert found(project).is_equal
    project.sql("UPDATE messages SET created_at = '2020-01-01T00:00:00' WHERE id = 'undated'")
    assert found(project).is_equal
    project.sql("UPDATE messages SET subject = 'other' WHERE id = 'undated'")
    assert [("undated", "subject")] == differing(found(project))


def test_what_no_message_can_be_read_from_is_quarantined(project: Project) -> None:
    project.write("inbox/note.md", "a note\n")
    project.file("inbox/link.md").symlink_to(project.file(PATH))
    project.sql("UPDATE messages SET metadata = '{' WHERE id = ?", ONE)
    project.sql(
        "INSERT INTO messages (from_project, to_project, subject, body, created_at) "
        "VALUES ('a', 'b', 's', 'b', '2026-02-20T00:00:00')"
    )
    result = found(project)
    reasons = {entry.path: entry.problem.reason for entry in result.quarantined}
    assert {
        "inbox/note.md": "there is no front matter: the first line is not '---'",
        "inbox/link.md": "it is a symbolic link, not a regular file",
        f"{DATABASE}[None]": "the id is no text",
    } == {path: reason for path, reason in reasons.items() if ONE not in path}
    assert reasons[f"{DATABASE}#{ONE}"].startswith("broken JSON")
    assert () == result.differences
    assert all(entry.problem.hint for entry in result.quarantined)


def test_an_editors_own_file_is_none_of_ours(project: Project) -> None:
    project.write("inbox/.note.md", "a note\n")
    assert found(project).is_equal


def test_a_row_whose_file_cannot_be_read_is_told_which_file_that_is(project: Project) -> None:
    project.write(PATH, "broken\n")
    result = found(project)
    assert [PATH] == [entry.path for entry in result.quarantined]
    (one,) = result.differences
    assert ("the row has no file", True) == (one.what, PATH in one.hint)


def test_a_second_file_with_a_taken_id_is_told_from_the_one_that_the_row_equals(
    project: Project,
) -> None:
    text = project.text(PATH)
    project.write("inbox/a-copy.md", text.replace("Body 1.", "Body of the copy."))
    result = found(project)
    assert () == result.differences
    assert [("inbox/a-copy.md", f"its id '{ONE}' is taken by {PATH}")] == [
        (entry.path, entry.problem.reason) for entry in result.quarantined
    ]


def test_of_two_files_in_different_mailboxes_the_second_is_the_one_that_a_cycle_sets_aside(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / "shop")
    project.receive(1)
    text = project.text(PATH)
    project.file(PATH).unlink()
    project.write("archive/one.md", text)
    project.write("outbox/other.md", text + " Another.")
    before = [entry.path for entry in found(project).seconds]
    assert before == [entry.path for entry in project.sync().quarantined] == ["outbox/other.md"]


def test_a_new_row_whose_file_may_be_one_that_cannot_be_read_is_told_with_that(
    project: Project,
) -> None:
    project.write("inbox/new.md", "no message")
    project.sync()
    insert(project, a_row(project, "new"))
    project.sync()
    (one,) = found(project).differences
    assert "Its file may be inbox/new.md, which cannot be read: mend that one." == one.hint


@pytest.mark.parametrize("path", [PATH, "outbox/elsewhere.md"])
def test_a_row_whose_file_cannot_be_read_is_told_with_that_file(
    project: Project, path: str
) -> None:
    project.write(PATH, "---\nid: [\n---\n")
    project.sync()
    if path != PATH:
        project.move(PATH, path)
        project.sync()
    (one,) = found(project).differences
    assert f"Its file may be {path}, which cannot be read: mend that one." in one.hint


def test_one_file_under_two_names_is_told_so(project: Project) -> None:
    os.link(project.file(PATH), project.file("inbox/z.md"))
    (entry,) = found(project).quarantined
    assert ("inbox/z.md", f"it is {PATH} under another name") == (
        entry.path,
        entry.problem.reason,
    )


def test_the_copies_of_a_message_to_oneself_are_twins(project: Project) -> None:
    key = project.old.send(project.path, "To me", "Do not forget.")
    project.sync()
    project.old.read(key)
    project.sync()
    result = found(project)
    assert (True, (f"outbox/{key}.md",)) == (result.is_equal, result.twins)
    project.file(f"inbox/{key}.md").unlink()
    assert ["the row has no file"] == [one.what for one in found(project).differences]
    project.sync()
    result = found(project)  # the copy is nobody's message now, and left alone
    assert (True, (f"outbox/{key}.md",)) == (result.is_equal, result.twins)


def test_a_copy_that_a_cycle_left_alone_stays_a_twin_also_when_it_is_edited(
    project: Project,
) -> None:
    key = project.old.send(project.path, "To me", "Do not forget.")
    twin = f"outbox/{key}.md"
    project.sync()
    project.edit(twin, f"to_project: {project.path}", "to_project: /somebody/else")
    assert (0, []) == (project.sync().counts.changes(), project.sync().quarantined)
    assert (True, (twin,)) == (found(project).is_equal, found(project).twins)


def test_an_outbox_copy_that_no_cycle_left_alone_is_a_message(project: Project) -> None:
    key = project.old.send(project.path, "To me", "Do not forget.")
    project.file(f"inbox/{key}.md").unlink()
    assert [(key, None)] == differing(found(project))


def test_of_two_equal_files_the_one_that_the_message_stood_in_is_not_the_second(
    project: Project,
) -> None:
    shutil.copy2(project.file(PATH), project.file("inbox/a-copy.md"))
    project.sync()
    assert ["inbox/a-copy.md"] == [entry.path for entry in found(project).seconds]


def test_a_stray_is_reported(project: Project) -> None:
    project.write("inbox/.syncd-1-1-abcdef.tmp", "late words")
    result = found(project)
    assert (False, ("inbox/.syncd-1-1-abcdef.tmp",)) == (result.is_equal, result.strays)


def test_a_folder_that_is_named_like_a_temporary_file_is_none_of_ours(project: Project) -> None:
    project.file("inbox/.syncd-1-1-abcdef.tmp").mkdir()
    assert State.IN_SYNC is project.sync().state
    assert found(project).is_equal


def test_a_folder_that_cannot_be_looked_into_is_no_proof(project: Project) -> None:
    project.file("inbox").rename(project.file("elsewhere"))
    project.file("inbox").symlink_to("elsewhere")
    result = found(project)
    assert ["it is a symbolic link"] == [
        entry.problem.reason for entry in result.quarantined if entry.path == "inbox"
    ]
    assert 3 == len(result.differences)


def test_a_halt_is_named_as_the_thing_to_mend(project: Project) -> None:
    shutil.rmtree(project.file("inbox"))
    assert project.cycle().halt is not None
    assert {f"The project is halted; the ways out: syncd status {project.path}"} == {
        one.hint for one in found(project).differences
    }


def test_a_change_that_is_carried_over_meanwhile_is_no_difference(project: Project) -> None:
    project.sql("UPDATE messages SET priority = 'urgent' WHERE id = ?", ONE)
    with soon(lambda: project.edit(PATH, "priority: normal", "priority: urgent")):
        assert found(project, patience_s=10).is_equal


def test_a_file_that_moves_meanwhile_is_found_where_it_is(project: Project) -> None:
    away = project.path / "away.md"
    project.file(PATH).rename(away)
    with soon(lambda: away.rename(project.file("inbox/other-name.md"))):
        assert found(project, patience_s=10).is_equal


def test_a_file_that_is_half_written_is_read_again(project: Project) -> None:
    text = project.text(PATH)
    project.write(PATH, text[:40])
    with soon(lambda: project.write(PATH, text)):
        assert found(project, patience_s=10).is_equal


def test_a_message_that_goes_on_both_sides_meanwhile_is_no_difference(project: Project) -> None:
    project.file(PATH).unlink()
    with soon(lambda: project.sql("DELETE FROM messages WHERE id = ?", ONE)):
        assert found(project, patience_s=10).is_equal


def test_what_never_stands_still_is_marked(project: Project) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.01):
            number += 1
            project.sql("UPDATE messages SET subject = ? WHERE id = ?", str(number), ONE)

    writer = threading.Thread(target=write)
    project.sql("UPDATE messages SET subject = '0' WHERE id = ?", ONE)
    writer.start()
    try:
        # The writer has no time to stand still for so long, on a busy machine either.
        (one,) = found(project, patience_s=0.3).differences
    finally:
        stop.set()
        writer.join()
    assert ("subject", True) == (one.field, one.is_moving)


def test_a_database_that_is_replaced_meanwhile_proves_nothing(project: Project) -> None:
    project.receive(4)
    copy = project.path / "copy.db"
    with closing(sqlite3.connect(copy)) as target, project.connection() as source:
        source.backup(target)
    with soon(lambda: copy.replace(project.base / DATABASE)), pytest.raises(StaleReplica):
        found(project, patience_s=1.0)


# The command


def test_a_database_that_may_only_be_read_is_read(project: Project, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (project.base / DATABASE).chmod(0o400)
    project.base.chmod(0o500)
    try:
        ended = subprocess.run(
            as_anybody([sys.executable, "-m", "syncd", "verify", str(project.path)]),
            env=environment(home),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        project.base.chmod(0o700)
    assert (0, f"{project.path}: equal, 3 files and 3 rows read\n", "") == (
        ended.returncode,
        ended.stdout,
        ended.stderr,
    )


def test_the_command_tells_what_differs_and_how_to_mend_it(
    project: Project, tmp_path: Path
) -> None:
    project.sql("UPDATE messages SET priority = 'urgent' WHERE id = ?", ONE)
    project.receive(4)
    ended = syncd(tmp_path / "home", "verify", project.path)
    assert (3, "") == (ended.returncode, ended.stderr)
    assert [
        f"{project.path}: not equal, 4 files and 3 rows read, 2 messages equal, 2 differences",
        f'  {ONE}, {PATH}: priority differs: file "normal", row "urgent"',
        "  msg-20260220-000004-00000000, inbox/msg-20260220-000004-00000000.md: "
        "the file has no row",
        f"  → See what a cycle would do: syncd sync {project.path} --dry-run; "
        f"then do it: syncd sync {project.path}",
    ] == ended.stdout.splitlines()
    assert 0 == syncd(tmp_path / "home", "sync", project.path).returncode
    ended = syncd(tmp_path / "home", "verify", project.path)
    assert (0, f"{project.path}: equal, 4 files and 4 rows read\n") == (
        ended.returncode,
        ended.stdout,
    )


def test_the_command_answers_in_json_over_several_projects(
    project: Project, tmp_path: Path
) -> None:
    other = Project(tmp_path / "other")
    other.write("inbox/note.md", "a note\n")
    broken = Project(tmp_path / "broken")
    (broken.base / DATABASE).write_text("this is no database, whatever its name says")
    project.sql("UPDATE messages SET subject = 'a' WHERE id = ?", ONE)
    paths = (project.path, other.path, broken.path)
    ended = syncd(tmp_path / "home", "verify", *paths, "--json")
    answer = json.loads(ended.stdout)
    assert (1, 1) == (ended.returncode, answer["version"])
    first, second, third = answer["projects"]
    assert ("attention", 3, 3, 2) == tuple(
        first[key] for key in ("state", "files", "rows", "equal")
    )
    assert [
        {
            "id": ONE,
            "field": "subject",
            "file": "Subject 1",
            "row": "a",
            "path": PATH,
            "what": "subject differs",
            "moving": False,
        }
    ] == [{key: one[key] for key in one if key != "mend"} for one in first["differences"]]
    assert ["inbox/note.md"] == [entry["path"] for entry in second["quarantined"]]
    assert ("error", True) == (third["state"], "is not a SQLite database" in third["error"])


def test_beside_a_working_agent_changes_under_way_are_no_differences(
    project: Project, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            if number % 2:
                project.sql("UPDATE messages SET subject = ? WHERE id = ?", str(number), ONE)
            else:
                project.new.send(project.path, "To me", f"Number {number}.")

    writer = threading.Thread(target=write)
    with RunningAgent(home, project.path):
        writer.start()
        try:
            wait_for(lambda: len(project.names("inbox")) > 5)
            ended = syncd(home, "verify", project.path, gone_s=0.1)
        finally:
            stop.set()
            writer.join()
    assert (0, "") == (ended.returncode, ended.stderr), ended.stdout
