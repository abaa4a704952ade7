"""G11: cycles that look at some paths only end as cycles over all."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncd.database import database
from syncd.database.chronicle import Chronicle
from syncd.database.records import TwinRecords
from syncd.files import snapshot
from syncd.files.snapshot import COARSE_TICK_S, TICK_S
from tests.projects import (
    ARCHIVED,
    AT_ONE,
    ONE,
    SENT,
    THREE,
    TWO,
    Project,
    a_row,
    assert_in_step,
    assert_quiet,
    insert,
    moment,
)


def test_a_row_is_heard_also_when_another_file_has_the_name_that_its_own_could_have(
    project: Project,
) -> None:
    project.receive(1)
    project.move(AT_ONE, "inbox/by another name.md")
    project.sync()
    project.write(AT_ONE, "garbage")
    project.new.update(ONE, subject="By SQL")
    project.scoped(AT_ONE)
    assert "By SQL" == project.message_at("inbox/by another name.md").subject
    assert_quiet(project)


# Scoped cycles -----------------------------------------------------------------------------------

Deed = Callable[[Project], tuple[set[str], set[str]]]
"""Does something to the files; returns the paths that then stand, and those that are gone."""


def deed_new_file(project: Project) -> tuple[set[str], set[str]]:
    return {f"inbox/{project.receive(30)}.md"}, set()


def deed_edit(project: Project) -> tuple[set[str], set[str]]:
    project.edit(AT_ONE, "Body 1.", "By hand.")
    return {AT_ONE}, set()


def deed_edit_and_row(project: Project) -> tuple[set[str], set[str]]:
    project.edit(AT_ONE, "Body 1.", "By hand.")
    project.new.update(ONE, subject="By SQL", body="Conflict.")
    return {AT_ONE}, set()


def deed_delete(project: Project) -> tuple[set[str], set[str]]:
    project.file(AT_ONE).unlink()
    return set(), {AT_ONE}


def deed_rename(project: Project) -> tuple[set[str], set[str]]:
    project.move(AT_ONE, "inbox/renamed.md")
    return {"inbox/renamed.md"}, {AT_ONE}


def deed_archive(project: Project) -> tuple[set[str], set[str]]:
    project.old.archive(ONE)
    return {f"inbox/.archive/{ONE}.md"}, {AT_ONE}


def deed_archive_and_edit(project: Project) -> tuple[set[str], set[str]]:
    project.old.archive(ONE)
    project.edit(f"inbox/.archive/{ONE}.md", "Body 1.", "By hand.")
    project.new.update(ONE, subject="By SQL")
    return {f"inbox/.archive/{ONE}.md"}, {AT_ONE}


def deed_chain_of_renames(project: Project) -> tuple[set[str], set[str]]:
    at_two = f"inbox/{TWO}.md"
    project.move(at_two, "inbox/zzz.md")
    project.move(AT_ONE, at_two)
    return {at_two, "inbox/zzz.md"}, {AT_ONE}


def deed_swap_of_names(project: Project) -> tuple[set[str], set[str]]:
    at_two = f"inbox/{TWO}.md"
    project.move(at_two, "inbox/aside")
    project.move(AT_ONE, at_two)
    project.move("inbox/aside", AT_ONE)
    return {AT_ONE, at_two}, set()


def deed_swap_of_names_and_edited_rows(project: Project) -> tuple[set[str], set[str]]:
    project.new.update(ONE, subject="By SQL")
    project.new.archive(TWO)
    return deed_swap_of_names(project)


def deed_chain_of_renames_and_edited_rows(project: Project) -> tuple[set[str], set[str]]:
    project.new.update(ONE, subject="By SQL")
    project.new.update(TWO, body="By SQL.")
    return deed_chain_of_renames(project)


def deed_id_of_another_and_edited_rows(project: Project) -> tuple[set[str], set[str]]:
    project.new.update(ONE, subject="By SQL")
    project.new.update(TWO, body="By SQL.")
    return deed_id_of_another(project)


def deed_new_id_and_edited_row(project: Project) -> tuple[set[str], set[str]]:
    project.new.update(ONE, subject="By SQL")
    return deed_new_id(project)


def deed_copy_and_edited_row(project: Project) -> tuple[set[str], set[str]]:
    project.new.archive(ONE)
    return deed_copy(project)


def deed_broken_and_moved_and_edited_row(project: Project) -> tuple[set[str], set[str]]:
    project.new.update(ONE, subject="By SQL")
    project.write(AT_ONE, "")
    project.move(AT_ONE, "inbox/.archive/broken.md")
    return {"inbox/.archive/broken.md"}, {AT_ONE}


def deed_swap_of_ids(project: Project) -> tuple[set[str], set[str]]:
    at_two = f"inbox/{TWO}.md"
    project.edit(AT_ONE, f"id: {ONE}", "id: aside")
    project.edit(at_two, f"id: {TWO}", f"id: {ONE}")
    project.edit(AT_ONE, "id: aside", f"id: {TWO}")
    return {AT_ONE, at_two}, set()


def deed_copy(project: Project) -> tuple[set[str], set[str]]:
    shutil.copy2(project.file(AT_ONE), project.file("inbox/copy.md"))
    return {"inbox/copy.md"}, set()


def deed_copy_and_delete(project: Project) -> tuple[set[str], set[str]]:
    shutil.copy2(project.file(AT_ONE), project.file("inbox/copy.md"))
    project.file(AT_ONE).unlink()
    return {"inbox/copy.md"}, {AT_ONE}


def deed_new_id(project: Project) -> tuple[set[str], set[str]]:
    project.edit(AT_ONE, f"id: {ONE}", "id: another")
    return {AT_ONE}, set()


def deed_id_of_another(project: Project) -> tuple[set[str], set[str]]:
    project.edit(AT_ONE, f"id: {ONE}", f"id: {TWO}")
    return {AT_ONE}, set()


def deed_save_by_rename(project: Project) -> tuple[set[str], set[str]]:
    text = project.text(AT_ONE).replace("Body 1.", "By an editor.")
    project.write("inbox/.x.swp", text)
    project.move("inbox/.x.swp", AT_ONE)
    return {AT_ONE}, set()


def deed_broken(project: Project) -> tuple[set[str], set[str]]:
    project.write(AT_ONE, "")
    return {AT_ONE}, set()


def deed_rows_only(project: Project) -> tuple[set[str], set[str]]:
    project.new.delete(ONE)
    project.new.archive(TWO)
    insert(project, a_row(project, "new-row"))
    project.sql("UPDATE messages SET id = 'renamed-row' WHERE id = ?", THREE)
    return set(), set()


def deed_delete_against_an_edit(project: Project) -> tuple[set[str], set[str]]:
    project.file(AT_ONE).unlink()
    project.new.update(ONE, subject="By SQL")
    return set(), {AT_ONE}


def deed_back_from_the_archive(project: Project) -> tuple[set[str], set[str]]:
    was = f"inbox/.archive/{ARCHIVED}.md"
    project.move(was, f"inbox/{ARCHIVED}.md")
    return {f"inbox/{ARCHIVED}.md"}, {was}


DEEDS = {
    name.removeprefix("deed_").replace("_", " "): deed
    for name, deed in list(globals().items())
    if name.startswith("deed_")
}


@pytest.fixture(params=DEEDS.values(), ids=DEEDS.keys())
def deed(request: pytest.FixtureRequest) -> Deed:
    done: Deed = request.param
    return done


def end_state(project: Project) -> object:
    """Return what stands on both sides, without what differs between two runs of the same."""
    rows = [
        {name: value for name, value in row.items() if name != "read_at"} | {"read": row["read_at"]}
        for row in project.rows().values()
    ]
    report = project.sync()
    files = {path: data for path, (data, _) in project.files().items()}
    quarantined = [(entry.path, entry.problem) for entry in report.quarantined]
    conflicts = [(conflict.id, conflict.field) for conflict in report.conflicts]
    text = repr((sorted(rows, key=repr), files, quarantined, conflicts))
    return text.replace(str(project.path.parent), "/here")


def twin_projects(tmp_path: Path, deed: Deed) -> Iterator[tuple[Project, set[str], set[str]]]:
    """Make the same project twice, each with the deed done to it after a first sync."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        project = Project(tmp_path / name / "p")
        for number in (1, 2, 3):
            project.receive(number)
        project.old.archive(project.receive(4))
        project.old.send(project.other, "Out", "Going out.", id=SENT, created_at=moment(5))
        project.sync()
        # Only a row that is still the same one has these.
        project.sql("UPDATE messages SET read_at = 'at ' || id, task_injected = 1")
        project.sync()
        yield project, *deed(project)


def test_g11_a_scoped_cycle_ends_as_a_full_one(tmp_path: Path, deed: Deed) -> None:
    (full, _, _), (scoped, stand, gone) = twin_projects(tmp_path, deed)
    full.sync()
    report = scoped.heed(*stand, *gone)
    assert (None, None) == (report.error, report.halt)
    assert end_state(full) == end_state(scoped)
    assert_quiet(scoped)


def test_g11_events_in_any_order_end_as_a_full_cycle(tmp_path: Path, deed: Deed) -> None:
    (full, _, _), (scoped, stand, gone) = twin_projects(tmp_path, deed)
    full.sync()
    for path in sorted(gone):
        scoped.heed(path)
    for path in sorted(stand, reverse=True):
        scoped.heed(path)
    assert end_state(full) == end_state(scoped)
    assert_quiet(scoped)


def test_g11_events_one_by_one_end_as_a_full_cycle(tmp_path: Path, deed: Deed) -> None:
    (full, _, _), (scoped, stand, gone) = twin_projects(tmp_path, deed)
    full.sync()
    vanished = set()
    for path in sorted(stand | gone):
        vanished |= scoped.scoped(path).vanished
    scoped.scoped(gone=vanished)
    assert end_state(full) == end_state(scoped)
    assert_quiet(scoped)


def test_g11_a_cycle_that_knows_nothing_of_the_files_ends_as_a_full_one(
    tmp_path: Path, deed: Deed
) -> None:
    """All file events lost: first the feed alone, then a full compare."""
    (full, _, _), (scoped, _, _) = twin_projects(tmp_path, deed)
    full.sync()
    scoped.heed()
    scoped.sync()
    assert end_state(full) == end_state(scoped)
    assert_quiet(scoped)


def test_g11_a_change_within_the_same_tick_of_the_clock_is_found_without_its_event(
    synced: Project,
) -> None:
    path = synced.write(AT_ONE, synced.text(AT_ONE).replace("Subject 1", "Version 1"))
    second = int(time.time())  # of a file system that keeps times in whole seconds
    os.utime(path, (second, second))
    seen = synced.scoped(AT_ONE)
    assert {AT_ONE} == seen.fresh
    synced.edit(AT_ONE, "Version 1", "Version 2")
    os.utime(path, (second, second))
    assert 1 == synced.sync(fresh=frozenset(seen.fresh)).counts.rows_updated
    assert "Version 2" == synced.row(ONE)["subject"]
    assert_quiet(synced)


@pytest.mark.parametrize(
    ("columns", "path"),
    [({"subject": "By SQL"}, AT_ONE), ({"status": "archived"}, f"inbox/.archive/{ONE}.md")],
    ids=["replaced", "moved"],
)
def test_g11_a_change_within_the_tick_of_what_syncd_did_itself_is_found_without_its_event(
    synced: Project, monkeypatch: pytest.MonkeyPatch, columns: dict[str, str], path: str
) -> None:
    if path == AT_ONE:  # else it is the time at which the file was read that does not vouch for it
        os.utime(synced.file(AT_ONE), (1_000_000_000.5, 1_000_000_000.5))
        synced.sync()
    monkeypatch.setattr(snapshot, "TICK_S", 60.0)
    synced.new.update(ONE, **columns)
    done = synced.scoped()
    assert path in done.fresh
    written = synced.file(path).stat()
    synced.edit(path, "Body 1.", "Body 2.")
    os.utime(synced.file(path), ns=(written.st_atime_ns, written.st_mtime_ns))
    assert 1 == synced.sync(fresh=frozenset(done.fresh)).counts.rows_updated
    assert "Body 2." == synced.row(ONE)["body"]


def test_g11_a_change_within_the_tick_of_a_new_file_of_syncds_is_found_without_its_event(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "TICK_S", 60.0)
    insert(synced, a_row(synced, "new"))
    done = synced.scoped()
    assert {"inbox/new.md"} == done.fresh
    path = synced.file("inbox/new.md")
    written = path.stat()
    synced.edit("inbox/new.md", "From a row.", "From a pen.")
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert 1 == synced.sync(fresh=frozenset(done.fresh)).counts.rows_updated
    assert "From a pen." == synced.row("new")["body"]


def test_a_command_waits_for_coarse_times_once_and_not_for_each_file(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    now = time.monotonic
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic", lambda: now() + sum(slept))
    for key in (ONE, TWO, THREE):
        path = synced.file(f"inbox/{key}.md")
        path.write_text(path.read_text().replace("Body", "Text"))
        os.utime(path, (int(time.time()) + 2,) * 2)
    assert 3 == synced.sync().counts.rows_updated
    assert COARSE_TICK_S <= sum(slept) < COARSE_TICK_S + 1


def test_g11_a_command_waits_until_a_later_change_of_what_it_read_would_show(
    synced: Project,
) -> None:
    synced.edit(AT_ONE, "Subject 1", "Version 1")
    assert set() == synced.sync().fresh
    assert time.time() - synced.file(AT_ONE).stat().st_mtime > TICK_S
    second = int(time.time())  # of a file system that keeps times in whole seconds
    os.utime(synced.file(AT_ONE), (second, second))
    assert set() == synced.sync().fresh
    assert time.time() - second >= COARSE_TICK_S


def test_a_vanished_file_is_not_gone_at_the_first_look(synced: Project) -> None:
    synced.file(AT_ONE).unlink()
    report = synced.scoped(AT_ONE)
    assert ({AT_ONE}, 0) == (report.vanished, report.counts.changes())
    assert ONE in synced.rows()
    report = synced.scoped(gone=[AT_ONE])
    assert 1 == report.counts.rows_deleted


@pytest.mark.parametrize("first", ["file", "row"])
def test_a_message_that_went_on_both_sides_one_after_the_other_is_forgotten(
    synced: Project, first: str
) -> None:
    as_row = f"messaging.db#{ONE}"
    if first == "file":
        synced.file(AT_ONE).unlink()
        assert {AT_ONE} <= synced.scoped(AT_ONE).vanished
        synced.new.delete(ONE)
        report = synced.scoped(gone=[AT_ONE])
    else:
        synced.new.delete(ONE)
        assert {as_row} <= synced.scoped().vanished
        synced.file(AT_ONE).unlink()
        report = synced.scoped(gone=[as_row])
    looks = 0
    while report.vanished:
        report = synced.scoped(gone=report.vanished)
        assert (looks := looks + 1) < 3
    assert ONE not in {values[0].decode() for values in synced.tables()["syncd_baseline"]}
    assert_in_step(synced)
    assert_quiet(synced)


def test_a_file_that_came_back_before_the_second_look_was_never_gone(synced: Project) -> None:
    data = synced.file(AT_ONE).read_bytes()
    synced.file(AT_ONE).unlink()
    synced.scoped(AT_ONE)
    synced.write(AT_ONE, data)
    assert 0 == synced.scoped(gone=[AT_ONE]).counts.changes()
    assert_quiet(synced)


@pytest.mark.parametrize("folder", ["inbox", "inbox/.archive"])
def test_g13_a_row_that_is_deleted_and_soon_inserted_again_costs_its_file_nothing(
    synced: Project, folder: str
) -> None:
    synced.write(f"{folder}/my note.md", "---\nid: mine # own\nx_key: kept\n---\n\nMy words.\n")
    synced.sync()
    before = synced.files()
    row = synced.row("mine")
    synced.new.delete("mine")
    report = synced.scoped()
    assert (0, {"messaging.db#mine"}) == (report.counts.changes(), report.vanished)
    insert(synced, row)
    assert 0 == synced.scoped(gone=report.vanished).counts.changes()
    assert before == synced.files()
    assert_quiet(synced)


def test_a_command_looks_for_a_vanished_file_a_second_time(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", gone_s=0.5)
    key = project.receive(1)
    project.receive(2)
    project.sync()
    aside = project.file("editor's")
    project.file(f"inbox/{key}.md").rename(aside)
    saved = threading.Timer(0.1, aside.rename, [project.file(f"inbox/{key}.md")])
    saved.start()
    assert 0 == project.sync().counts.changes()
    saved.join()
    assert_in_step(project)


def test_the_cost_of_a_change_does_not_grow_with_the_messages_to_oneself(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: TwinRecords) -> None:
        raise AssertionError("all are read")

    monkeypatch.setattr(TwinRecords, "all", refuse)
    synced.edit(AT_ONE, "Body 1.", "By a person.")
    assert 1 == synced.scoped(AT_ONE).counts.rows_updated


def test_the_cost_of_a_change_does_not_grow_with_what_waits_for_a_person(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Chronicle) -> None:
        raise AssertionError("all are read")

    broken = synced.file("inbox/broken.md")
    for name in ("broken.md", "other.md"):
        synced.file(f"inbox/{name}").write_text("no front matter")
    assert 2 == len(synced.sync().quarantined)
    with monkeypatch.context() as patches:
        patches.setattr(Chronicle, "quarantine", refuse)
        patches.setattr(Chronicle, "conflicts", refuse)
        synced.edit(AT_ONE, "Body 1.", "By a person.")
        report = synced.scoped(AT_ONE)
        assert (1, []) == (report.counts.rows_updated, report.quarantined)
        broken.write_bytes(b"\xff")
        report = synced.scoped("inbox/broken.md")
        assert ["inbox/broken.md"] == [entry.path for entry in report.quarantined]
        broken.unlink()
        assert {"inbox/broken.md"} == synced.scoped("inbox/broken.md").released
    assert ["inbox/other.md"] == [entry.path for entry in synced.sync().quarantined]


@pytest.mark.parametrize("status", ["read", "unread"])
def test_the_cost_of_a_change_does_not_grow_with_the_changes_before(
    synced: Project, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """A log that is appended to all day has thousands of versions in the minutes that count."""
    connect, steps = database._connect, [0]

    def counting(path: Path, mode: str) -> sqlite3.Connection:
        def count() -> None:
            steps[0] += 1

        connection = connect(path, mode)
        connection.set_progress_handler(count, 100)
        return connection

    def cost(number: int) -> int:
        """Return the hundreds of steps that SQLite takes for a change of either side."""
        steps[0] = 0
        synced.new.update(ONE, subject=f"Subject {number}")
        assert 1 == synced.scoped().counts.files_updated
        synced.write(AT_ONE, synced.text(AT_ONE).replace("Body", f"{number} Body"))
        assert 1 == synced.scoped(AT_ONE).counts.rows_updated
        return steps[0]

    monkeypatch.setattr(database, "_connect", counting)
    synced.edit(AT_ONE, "status: unread", f"status: {status}")
    synced.scoped(AT_ONE)
    few = max(cost(number) for number in range(3))
    columns = "at, intent, id, path, digest, status_said, status, fields, view, seen"
    synced.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
        f"INSERT INTO syncd_versions ({columns}) "
        "SELECT at, intent, id, path, digest, status_said, status, fields, view, randomblob(16) "
        "FROM syncd_versions, n WHERE seq = (SELECT max(seq) FROM syncd_versions)"
    )
    assert cost(9) < 2 * few


@pytest.mark.parametrize("what", ["edited", "deleted", "moved"])
def test_g12_what_befell_a_file_while_its_row_could_not_be_read_is_not_forgotten(
    synced: Project, what: str
) -> None:
    date = synced.row(ONE)["created_at"]
    synced.new.update(ONE, created_at="garbage")
    assert 1 == len(synced.scoped().quarantined)
    if what == "edited":
        synced.edit(AT_ONE, "Body 1.", "By a person.")
    elif what == "deleted":
        synced.file(AT_ONE).unlink()
    else:
        synced.move(AT_ONE, f"inbox/.archive/{ONE}.md")
    synced.heed(AT_ONE, f"inbox/.archive/{ONE}.md")
    synced.new.update(ONE, created_at=date)
    assert [] == synced.heed().quarantined
    assert what == "deleted" or what != "edited" or "By a person." == synced.row(ONE)["body"]
    assert (what != "deleted") == (ONE in synced.rows())
    assert_in_step(synced)
    assert_quiet(synced)


def test_a_file_is_released_when_its_row_is_mended(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", max_bytes=2000)
    key = project.receive(1)
    project.sync()
    project.new.update(key, body="x" * 2001)
    (entry,) = project.scoped().quarantined
    assert f"inbox/{key}.md" == entry.path
    project.new.update(key, body="short")
    assert {f"inbox/{key}.md"} == project.scoped().released
    assert_in_step(project)
    assert_quiet(project)


@pytest.mark.parametrize("is_scoped", [True, False])
@pytest.mark.parametrize(
    "change", ["DELETE FROM messages", "UPDATE messages SET id = id || '-new'"]
)
def test_g12_a_file_whose_id_was_taken_is_imported_when_sql_frees_the_id(
    synced: Project, is_scoped: bool, change: str
) -> None:
    second = f"outbox/{ONE}.md"
    text = synced.text(AT_ONE).replace("Body 1.", "The second.")
    synced.write(second, text)
    assert [second] == [entry.path for entry in synced.sync().quarantined]
    synced.sql(f"{change} WHERE id = ?", ONE)
    os.utime(synced.file(AT_ONE))
    foretold = synced.cycle(dry_run=True)
    report = synced.heed() if is_scoped else synced.sync()
    assert [] == foretold.quarantined == report.quarantined
    assert (1, 1) == (foretold.counts.rows_inserted, foretold.counts.files_deleted)
    assert ("The second.", "sent") == (synced.row(ONE)["body"], synced.row(ONE)["status"])
    assert_in_step(synced)
    assert_quiet(synced)


def test_the_feed_alone_brings_rows_to_files(synced: Project) -> None:
    synced.new.update(ONE, subject="By SQL")
    synced.new.archive(TWO)
    synced.new.delete(THREE)
    report = synced.scoped()
    counts = report.counts
    assert (1, 1, 0) == (counts.files_updated, counts.files_moved, counts.files_deleted)
    assert 1 == synced.scoped(gone=report.vanished).counts.files_deleted
    assert_in_step(synced)
    assert_quiet(synced)
