"""The journal: what a cycle did to which message, in which direction, and why."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from syncd.core.journal import JournalEntry
from syncd.database import store as store_module
from syncd.database.chronicle import now_text
from syncd.database.store import Store
from syncd.names import DATABASE
from tests.projects import ONE, Project, a_day_later, assert_quiet, settings


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "p")
    made.receive(1)
    made.sync()
    return made


def database(project: Project) -> Path:
    return project.base / DATABASE


def told(project: Project, after: int = 1) -> list[tuple[str | None, str | None, str, str, str]]:
    """Return what the journal has after the first sync of the one message."""
    with Store.open_readonly(database(project)) as store:
        entries = store.chronicle.journal(after=after)
    return [(entry.id, entry.side, entry.step, entry.fields, entry.why) for entry in entries]


def test_a_first_sync_is_told_as_such_with_the_sender_as_origin(project: Project) -> None:
    with Store.open_readonly(database(project)) as store:
        (entry,) = store.chronicle.journal()
    assert (ONE, "db", "create", "first sync") == (entry.id, entry.side, entry.step, entry.why)
    assert (f"inbox/{ONE}.md", "pm", str(project.other)) == (
        entry.path,
        entry.agent,
        entry.project,
    )
    assert () == entry.origins


SENDERS = {f"many-{number:03}": f"agent{number % 3}" for number in range(120)}


def assert_each_is_told_of(project: Project, folder: str, side: str, why: str) -> None:
    with Store.open_readonly(database(project)) as store:
        entries = store.chronicle.journal(after=1)
    assert list(SENDERS.items()) == [(entry.id, entry.agent) for entry in entries]
    assert {(side, "create", "", why)} == {
        (entry.side, entry.step, entry.fields, entry.why) for entry in entries
    }
    assert [f"{folder}/{key}.md" for key in SENDERS] == [entry.path for entry in entries]


def test_many_new_files_are_each_told_of_with_their_own_sender(project: Project) -> None:
    for key, sender in SENDERS.items():
        project.write(f"inbox/{key}.md", f"---\nfrom_agent: {sender}\n---\n# Subject\n")
    project.sync()
    assert_each_is_told_of(project, "inbox", "db", "new file")


def test_many_new_rows_are_each_told_of_with_their_own_sender(project: Project) -> None:
    for key, sender in SENDERS.items():
        project.new.send(project.other, "Subject", "Body", id=key, from_agent=sender)
    project.sync()
    assert_each_is_told_of(project, "outbox", "file", "new row")


def test_a_files_change_is_told_as_a_write_into_the_database(project: Project) -> None:
    project.edit(f"inbox/{ONE}.md", "# Subject 1", "# Object")
    project.sync()
    assert [(ONE, "db", "update", "subject", "the file changed")] == told(project)


def test_a_rows_change_is_told_as_a_write_into_the_files(project: Project) -> None:
    project.new.update(ONE, priority="urgent", body="Other words")
    project.sync()
    assert [(ONE, "file", "update", "priority,body", "the row changed")] == told(project)


def test_a_conflict_is_told_with_its_fields(project: Project) -> None:
    project.edit(f"inbox/{ONE}.md", "# Subject 1", "# By file")
    project.new.update(ONE, subject="By SQL")
    project.sync()
    ((key, _, step, fields, why),) = told(project)
    assert (ONE, "update", "subject", "conflict: subject") == (key, step, fields, why)


def test_deletions_are_told_by_the_side_that_began(project: Project) -> None:
    two = project.receive(2)
    project.receive(3)
    project.sync()
    project.new.delete(ONE)
    project.file(f"inbox/{two}.md").unlink()
    project.sync()
    assert {
        (ONE, "file", "delete", "the row was deleted"),
        (two, "db", "delete", "the file was deleted"),
    } == {(key, side, step, why) for key, side, step, _, why in told(project, after=3)}


def test_a_deletion_is_told_with_the_path_and_as_its_mailboxes_owners(project: Project) -> None:
    key = project.old.send(project.other, "Subject", "Body", from_agent="ops", to_agent="qa")
    project.sync()
    project.file(f"outbox/{key}.md").unlink()
    project.file(f"inbox/{ONE}.md").unlink()
    project.sync(accept_deletes=True)
    with Store.open_readonly(database(project)) as store:
        entries = [entry for entry in store.chronicle.journal() if entry.step == "delete"]
    assert {
        (f"outbox/{key}.md", "ops", str(project.path)),
        (f"inbox/{ONE}.md", "pm", str(project.path)),
    } == {(entry.path, entry.agent, entry.project) for entry in entries}


def test_quarantine_and_release_are_told_with_the_reason(project: Project) -> None:
    path = project.base / "inbox" / "odd.md"
    path.write_bytes(b"---\nid: [\n---\n")
    project.sync()
    path.unlink()
    project.sync()
    (entered, reason), (left, _) = [(step, why) for _, _, step, _, why in told(project)]
    assert ("quarantine", "release") == (entered, left)
    assert reason


def test_a_halt_and_its_end_are_told(project: Project) -> None:
    inbox = project.base / "inbox"
    inbox.rename(project.path / "away")
    assert project.cycle().halt is not None
    (project.path / "away").rename(inbox)
    project.sync()
    assert ["halt", "resume"] == [step for _, _, step, _, _ in told(project)]


def test_a_cycle_without_work_tells_nothing(project: Project) -> None:
    project.sync()
    assert [] == told(project)


def test_pruning_keeps_the_last_word_on_each_side(project: Project) -> None:
    project.receive(2)
    project.sync()
    project.new.update(ONE, priority="urgent")
    project.sync()
    project.sql("UPDATE syncd_journal SET at = '2001-01-01T00:00:00+00:00'")
    project.sync()
    assert [("db", "new file"), ("file", "the row changed")] == [
        (side, why) for _, side, _, _, why in told(project)
    ]


def test_history_and_journal_are_kept_for_as_many_days_as_are_set(project: Project) -> None:
    project.config = settings(history_days=30.0, journal_days=365.0)
    project.sql("DELETE FROM syncd_journal")
    for table, days in (("history", 30), ("journal", 365)):
        for name, hours in (("old", 30), ("kept", -1)):
            at = (datetime.now(UTC) - timedelta(days=days, hours=hours)).isoformat()
            sql = f"INSERT INTO syncd_{table} (at, id, side) VALUES (?, ?, 'db')"
            project.sql(sql, at, name)
    project.sql("INSERT INTO syncd_journal (at, id, side) VALUES (?, 'last', 'db')", now_text())
    project.sync()
    a_day_later(project)
    project.sync()
    assert [("kept",)] == project.sql("SELECT id FROM syncd_history")
    assert [("kept",)] == project.sql("SELECT id FROM syncd_journal WHERE id IN ('old', 'kept')")


def test_a_version_that_is_kept_as_of_now_stops_no_pruning(project: Project) -> None:
    project.sync()
    project.sql("INSERT INTO syncd_history (at, id) VALUES (?, 'kept')", now_text())
    project.sql("INSERT INTO syncd_history (at, id) VALUES ('2001-01-01T00:00:00+00:00', 'old')")
    project.sync()
    a_day_later(project)
    project.sync()
    assert [("kept",)] == project.sql("SELECT id FROM syncd_history")


def test_one_entry_from_when_the_clock_was_wrong_stops_no_pruning(project: Project) -> None:
    project.sync()
    sql = "INSERT INTO syncd_history (at, id) VALUES (?, 'x')"
    for at in ("2999-01-01T00:00:00+00:00", "2001-01-01T00:00:00+00:00"):
        project.sql(sql, at)
    project.sync()
    a_day_later(project)
    project.sync()
    assert_quiet(project)
    assert [("2999-01-01T00:00:00+00:00",)] == project.sql("SELECT at FROM syncd_history")


def test_g2_one_pass_with_a_clock_that_is_ahead_takes_nothing_that_is_to_be_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before a clock is set after a start, or as a sleeping machine's goes on."""
    project.sync()
    project.edit(f"inbox/{ONE}.md", "Body 1.", "Edited.")
    project.sync()
    before = [project.sql(f"SELECT * FROM syncd_{table}") for table in ("history", "journal")]
    assert all(before)
    ahead = SimpleNamespace(time=lambda: time.time() + 3 * 365 * 86_400)
    for wrong in (True, False, True, True, False):
        with monkeypatch.context() as patched:
            if wrong:
                patched.setattr(store_module, "time", ahead)
            project.sync()
    after = [project.sql(f"SELECT * FROM syncd_{table}") for table in ("history", "journal")]
    assert before == after
    assert_quiet(project)


@pytest.mark.parametrize(("seconds", "portions"), [(9.0, 4 * 5), (0.0, 3 * 45)])
def test_g9_what_is_past_its_time_goes_in_portions_and_leaves_the_lock_free_in_between(
    project: Project, monkeypatch: pytest.MonkeyPatch, seconds: float, portions: int
) -> None:
    monkeypatch.setattr("syncd.database.database.DROPPED_AT_ONCE", 10)
    monkeypatch.setattr(store_module, "DROPPED_AT_ONCE", 10)
    monkeypatch.setattr("syncd.database.database.DROPPING_S", seconds)
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 45)"
    long_ago = "'2001-01-01T00:00:00+00:00'"
    for sql in (
        f"INSERT INTO syncd_journal (seq, at, side) {numbers} SELECT -i, {long_ago}, 'db' FROM n",
        f"INSERT INTO syncd_history (at, id) {numbers} SELECT {long_ago}, 'x' FROM n",
        f"INSERT INTO syncd_versions (at, id) {numbers} SELECT 1.0, 'x' FROM n",
        f"INSERT INTO syncd_baseline (id, path) {numbers} SELECT 'x' || i, 'x' FROM n",
    ):
        project.sql(sql)
    statements: list[str] = []
    with Store.open(database(project)) as store:
        store.connection.set_trace_callback(statements.append)
        store.prune(1.0, 1.0)
        a_day_later(project)
        store.prune(1.0, 1.0)
        store.forget_damaged()
        left = [
            store.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("syncd_history", "syncd_versions", "syncd_baseline")
        ]
    assert [0, 0, 1] == left
    assert portions <= sum(text.startswith("BEGIN") for text in statements)


def test_the_journal_can_be_asked_by_message_time_and_number(project: Project) -> None:
    with Store.open(database(project)) as store, store.writing():
        store.chronicle.add_to_journal(
            JournalEntry(f"2026-01-0{day}T00:00:00+00:00", f"m{day % 2}", "db", "update")
            for day in range(1, 7)
        )
    with Store.open_readonly(database(project)) as store:
        days = [
            entry.at[8:10] for entry in store.chronicle.journal(message_id="m1", since="2026-01-02")
        ]
        assert ["03", "05"] == days
        assert ["05", "06"] == [entry.at[8:10] for entry in store.chronicle.journal(last=2)]
        (last,) = store.chronicle.journal(last=1)
        assert [] == store.chronicle.journal(after=last.seq)
