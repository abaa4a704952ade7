"""G12: what other programs do to the database, with statements that nobody foresaw."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.message import message_from_row
from syncd.cycle.apply import Applier
from syncd.cycle.report import State
from syncd.cycle.task import Task
from syncd.database import tables
from syncd.database.rows import Rows
from syncd.database.store import Store
from syncd.errors import ReplicaError, StaleReplica
from syncd.messaging import MessagingDatabase
from tests.clients import SCHEMA
from tests.projects import (
    ARCHIVED,
    AT_ONE,
    ONE,
    THREE,
    TWO,
    Project,
    a_row,
    assert_in_step,
    assert_quiet,
    drop_ours,
    insert,
)

# G12: foreign SQL --------------------------------------------------------------------------------


def foreign_replace(project: Project) -> None:
    project.new.replace(a_row(project, ONE, subject="Replaced", status="read"))


def foreign_id_change(project: Project) -> None:
    project.sql("UPDATE messages SET id = 'another' WHERE id = ?", ONE)


def foreign_id_swap(project: Project) -> None:
    with project.connection() as connection:
        for was, becomes in ((ONE, "aside"), (TWO, ONE), ("aside", TWO)):
            connection.execute("UPDATE messages SET id = ? WHERE id = ?", (becomes, was))


def foreign_id_taken_over(project: Project) -> None:
    project.sql("UPDATE OR REPLACE messages SET id = ? WHERE id = ?", ONE, TWO)


def foreign_bulk_delete(project: Project) -> None:
    project.sql("DELETE FROM messages WHERE id IN (?, ?)", ONE, ARCHIVED)


def foreign_bulk_update(project: Project) -> None:
    project.sql("UPDATE messages SET subject = upper(subject), status = 'read'")


def foreign_upsert(project: Project) -> None:
    project.sql(
        "INSERT INTO messages (id, from_project, to_project, subject, body, created_at) "
        "VALUES (?, 'a', 'b', 'Up', 'Sert', '2026-02-20') "
        "ON CONFLICT (id) DO UPDATE SET subject = excluded.subject",
        ONE,
    )


def foreign_column(project: Project) -> None:
    project.sql("ALTER TABLE messages ADD COLUMN labels TEXT NOT NULL DEFAULT 'x'")
    insert(project, a_row(project, "with-label", labels="y"))


def foreign_column_in_front(project: Project) -> None:
    rebuild(project, "labels TEXT DEFAULT 'x', ")
    project.sql("UPDATE messages SET subject = 'After' WHERE id = ?", ONE)


def foreign_rebuild(project: Project) -> None:
    rebuild(project)
    project.sql("DELETE FROM messages WHERE id = ?", ONE)
    project.sql("UPDATE messages SET subject = 'After' WHERE id = ?", TWO)


def foreign_rebuild_without_keys(project: Project) -> None:
    project.sql("CREATE TABLE fresh AS SELECT * FROM messages")
    project.sql("DROP TABLE messages")
    project.sql("ALTER TABLE fresh RENAME TO messages")
    insert(project, a_row(project, "fresh-row"))


def foreign_rebuild_of_all_tables_without_keys(project: Project) -> None:
    with project.connection() as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (name,) in found.fetchall():
            connection.execute(f"CREATE TABLE fresh AS SELECT * FROM {name}")
            connection.execute(f"DROP TABLE {name}")
            connection.execute(f"ALTER TABLE fresh RENAME TO {name}")
    project.sql("UPDATE messages SET status = 'archived' WHERE id = ?", ONE)
    insert(project, a_row(project, "fresh-row"))


def foreign_names_in_another_case(project: Project) -> None:
    project.sql("CREATE TABLE fresh AS SELECT * FROM messages")
    project.sql("DROP TABLE messages")
    project.sql("ALTER TABLE fresh RENAME COLUMN subject TO Subject")
    project.sql("ALTER TABLE fresh RENAME COLUMN id TO ID")
    project.sql("ALTER TABLE fresh RENAME TO Messages")
    project.sql("UPDATE messages SET subject = 'After' WHERE id = ?", ONE)


def foreign_case_that_does_not_count(project: Project) -> None:
    """A table that takes what differs in case for the same: an id, and words."""
    rebuild(project, collation=" COLLATE NOCASE")
    project.sync()
    project.sql("UPDATE messages SET id = upper(id) WHERE id = ?", ONE)
    project.sql("UPDATE messages SET body = upper(body), subject = upper(subject)")


def foreign_rename_and_back(project: Project) -> None:
    project.sql("ALTER TABLE messages RENAME TO elsewhere")
    project.sql("ALTER TABLE elsewhere RENAME TO messages")
    project.sql("UPDATE messages SET subject = 'After' WHERE id = ?", ONE)


def foreign_drop_of_triggers(project: Project) -> None:
    drop_ours(project, triggers_only=True)
    project.sql("DELETE FROM messages WHERE id = ?", ONE)
    insert(project, a_row(project, "unheard"))
    project.sql("UPDATE messages SET body = 'Unheard.' WHERE id = ?", TWO)


def foreign_unique_index(project: Project) -> None:
    project.sql("CREATE UNIQUE INDEX one_subject ON messages(subject)")
    project.new.replace(a_row(project, "replacing", subject="Subject 1"))


def foreign_vacuum(project: Project) -> None:
    project.sql("DELETE FROM messages WHERE id = ?", TWO)
    with closing(sqlite3.connect(project.new.database, isolation_level=None)) as connection:
        connection.execute("VACUUM")


def foreign_trigger(project: Project) -> None:
    project.sql("CREATE TABLE audit (id)")
    project.sql(
        "CREATE TRIGGER audit_update AFTER UPDATE ON messages BEGIN "
        "INSERT INTO audit VALUES (NEW.id); END"
    )
    project.new.read(ONE)


def foreign_rollback_journal(project: Project) -> None:
    with closing(sqlite3.connect(project.new.database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    project.sql("UPDATE messages SET subject = 'After' WHERE id = ?", ONE)


def rebuild(project: Project, extra: str = "", collation: str = "") -> None:
    """Rebuild the table as SQLite's manual has it: make, copy, drop, rename."""
    columns = "id, from_project, from_agent, to_project, to_agent, message_type, priority, "
    columns += "subject, body, status, created_at, read_at, replied_to, task_injected, metadata, "
    columns += "attachments"
    with project.connection() as connection:
        ddl = SCHEMA[0].replace("EXISTS messages (", f"EXISTS fresh ({extra}")
        ddl = ddl.replace(" TEXT", f" TEXT{collation}")
        connection.execute(ddl)
        connection.execute(f"INSERT INTO fresh ({columns}) SELECT {columns} FROM messages")
        connection.execute("DROP TABLE messages")
        connection.execute("ALTER TABLE fresh RENAME TO messages")


FOREIGN = {
    name.removeprefix("foreign_").replace("_", " "): function
    for name, function in list(globals().items())
    if name.startswith("foreign_")
}


@pytest.fixture(params=FOREIGN.values(), ids=FOREIGN.keys())
def foreign(request: pytest.FixtureRequest) -> Callable[[Project], None]:
    done: Callable[[Project], None] = request.param
    return done


def test_g12_after_foreign_sql_the_files_are_as_the_rows_say(
    synced: Project, foreign: Callable[[Project], None]
) -> None:
    foreign(synced)
    wanted = synced.messages_in_rows()
    report = synced.sync()
    assert [] == report.conflicts
    assert wanted == synced.messages_in_rows()
    assert_in_step(synced)
    assert_quiet(synced)
    synced.new.update(THREE, subject="Heard again")
    synced.scoped()
    assert_in_step(synced)


def test_g12_foreign_sql_seen_by_the_feed_ends_as_after_a_full_compare(
    synced: Project, foreign: Callable[[Project], None]
) -> None:
    """A scoped cycle may miss what escapes the triggers; the full one after it has to mend it."""
    foreign(synced)
    wanted = synced.messages_in_rows()
    synced.heed()
    assert wanted == synced.messages_in_rows()
    synced.sync()
    assert wanted == synced.messages_in_rows()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g12_what_foreign_sql_overwrites_is_kept(
    synced: Project, foreign: Callable[[Project], None]
) -> None:
    before = synced.messages_in_rows()
    foreign(synced)
    synced.sync()
    after = synced.messages_in_rows()
    for key, message in before.items():
        if key not in after or after[key].body != message.body:
            assert message.body in synced.kept_texts(key), key
        if key not in after or after[key].subject != message.subject:
            assert message.subject in synced.kept_texts(key), key


def test_g12_the_feed_alone_tells_of_both_ids_where_one_was_changed(synced: Project) -> None:
    foreign_id_change(synced)
    synced.heed()
    assert_in_step(synced)


def test_g12_the_feed_alone_tells_of_both_ids_also_where_case_does_not_count(
    synced: Project,
) -> None:
    rebuild(synced, collation=" COLLATE NOCASE")
    synced.sync()
    synced.sql("UPDATE messages SET id = upper(id) WHERE id = ?", ONE)
    synced.heed()
    assert_in_step(synced)


@pytest.mark.parametrize("column", ["subject", "body", "metadata", "attachments"])
@pytest.mark.parametrize("how", ["updated", "replaced", "deleted"])
def test_g2_what_sql_wrote_and_overwrote_before_any_cycle_is_kept(
    synced: Project, column: str, how: str
) -> None:
    first, second = '["first"]', '["second"]'
    if column == "metadata":
        first, second = '{"at": "first"}', '{"at": "second"}'
    synced.sql(f"UPDATE messages SET {column} = ? WHERE id = ?", first, ONE)
    if how == "updated":
        synced.sql(f"UPDATE messages SET {column} = ? WHERE id = ?", second, ONE)
    elif how == "replaced":
        synced.new.replace(synced.row(ONE) | {column: second})
    else:
        synced.sql("DELETE FROM messages WHERE id = ?", ONE)
    assert first in [version[column] for version in synced.history(ONE)]


def test_g2_what_is_met_again_and_again_is_kept_once_and_what_is_replaced_as_of_then(
    synced: Project,
) -> None:
    names = "(id, from_project, to_project, subject, body, created_at)"
    insert_other = f"messages {names} VALUES (?, 'a', 'b', 'Other', 'Other', '2026-02-20')"
    for _ in range(3):
        synced.sql(f"INSERT OR IGNORE INTO {insert_other}", ONE)
        synced.sql(
            f"INSERT INTO {insert_other} ON CONFLICT (id) DO UPDATE SET priority = 'low'", ONE
        )
    (kept,) = synced.history(ONE)
    assert "Body 1." == kept["body"]
    synced.sql("UPDATE syncd_history SET at = '2001-01-01T00:00:00+00:00'")
    synced.sql(f"REPLACE INTO {insert_other}", ONE)
    (replaced,) = synced.history(ONE)
    assert ("Body 1.", True) == (replaced["body"], replaced["at"] > "2026")
    synced.sql(f"REPLACE INTO {insert_other.replace('Other', 'Third')}", ONE)
    assert ["Body 1.", "Other"] == [version["body"] for version in synced.history(ONE)]


@pytest.mark.parametrize("key", ["x'00ff'", "NULL", "CAST(x'41ff' AS TEXT)"])
def test_g18_a_row_with_an_odd_id_that_is_gone_again_is_told_of_no_more(
    synced: Project, key: str
) -> None:
    names = "(id, from_project, to_project, subject, body, created_at)"
    for is_seen in (False, True):
        synced.sql(f"INSERT INTO messages {names} VALUES ({key}, 'a', 'b', 's', 'b', '2026-02-20')")
        if is_seen:
            assert State.ATTENTION is synced.scoped().state
        synced.sql(f"DELETE FROM messages WHERE id IS {key}")
        assert State.IN_SYNC is synced.scoped().state


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO syncd_quarantine (path, reason) VALUES (NULL, 'x'), (7, 'x')",
        "INSERT INTO syncd_twins (path) VALUES (NULL)",
        "INSERT OR REPLACE INTO syncd_state VALUES ('folders', '5'), ('halt', '[1]')",
        """INSERT OR REPLACE INTO syncd_state VALUES ('folders', '{"inbox": 3}')""",
        "INSERT OR REPLACE INTO syncd_state VALUES ('decision', '\"restore\"'), ('halt', '7')",
        "UPDATE syncd_versions SET at = 'x'",
        "UPDATE syncd_history SET at = NULL",
        "INSERT OR REPLACE INTO syncd_state VALUES ('halt', printf('%.*c', 100000, '['))",
        "UPDATE syncd_baseline SET fields = printf('%.*c', 100000, '[')",
    ],
)
def test_g12_what_others_write_into_syncds_own_tables_stops_no_cycle(
    synced: Project, sql: str
) -> None:
    synced.sql("UPDATE messages SET body = 'By SQL.'")
    synced.sync()
    synced.sql(sql)
    synced.file("inbox").joinpath("x.md").write_bytes(synced.file(AT_ONE).read_bytes())
    synced.edit(AT_ONE, "By SQL.", "By a person.")
    assert synced.cycle().error is None
    assert "By a person." == synced.row(ONE)["body"]


@pytest.mark.parametrize(
    "other",
    [
        "SELECT id, NULL AS path, digest FROM syncd_baseline",
        "SELECT id FROM syncd_baseline",
        "SELECT 1 AS x",
    ],
)
def test_g12_a_table_of_syncds_that_was_made_anew_without_sense_stops_no_cycle(
    synced: Project, other: str
) -> None:
    with synced.connection() as connection:
        connection.execute(f"CREATE TABLE fresh AS {other}")
        connection.execute("DROP TABLE syncd_baseline")
        connection.execute("ALTER TABLE fresh RENAME TO syncd_baseline")
    assert (None, 0) == (synced.sync().error, synced.sync().counts.changes())
    assert_in_step(synced)
    assert_quiet(synced)


def test_g12_syncds_tables_that_were_all_made_anew_without_sense_stop_no_cycle(
    synced: Project,
) -> None:
    drop_ours(synced, triggers_only=True)
    with synced.connection() as connection:
        for name in tables.names(connection):
            connection.execute(f"DROP TABLE {name}")
            connection.execute(f"CREATE TABLE {name} AS SELECT 1 AS x")
    report = synced.sync()
    assert (None, 0) == (report.error, report.counts.changes())
    assert_in_step(synced)
    assert_quiet(synced)


def test_g12_a_history_whose_times_are_none_stops_no_cycle(synced: Project) -> None:
    synced.sql("INSERT INTO syncd_history (id, at) VALUES ('x', x'00')")
    assert synced.cycle().error is None


def test_g12_a_restored_backup_is_merged_with_what_the_files_have_now(synced: Project) -> None:
    synced.new.send(synced.other, "Before", "Stood in the backup.", id="kept")
    synced.sync()
    backup = synced.base.parent / "backup.db"
    with closing(sqlite3.connect(synced.new.database)) as source:
        source.execute("VACUUM INTO ?", (str(backup),))
    later = synced.receive(20)
    synced.edit(AT_ONE, "Body 1.", "Edited later.")
    synced.file(f"inbox/{TWO}.md").unlink()
    synced.old.archive(THREE)
    synced.sync()
    files = synced.messages_in_files()
    for path in synced.base.glob("messaging.db*"):
        path.unlink()
    backup.rename(synced.new.database)
    synced.sync()
    assert files == synced.messages_in_rows()
    assert later in files
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize(
    ("taken", "is_synced"),
    [
        ("CREATE VIEW syncd_feed AS SELECT 1 AS seq, 2 AS id, 3 AS was", True),
        ("CREATE VIEW syncd_feed AS SELECT 1 AS seq, 2 AS id, 3 AS was", False),
        ("CREATE VIEW Syncd_Mute AS SELECT 1 AS muted", True),
        ("CREATE VIEW Syncd_Mute AS SELECT 1 AS muted", False),
    ],
)
def test_g17_a_name_that_syncd_needs_and_another_has_is_told_and_no_host_s_write_fails(
    tmp_path: Path, taken: str, is_synced: bool
) -> None:
    project = Project(tmp_path / "p")
    project.receive()
    if is_synced:
        project.sync()
    else:
        project.sql(SCHEMA[0])
    name = taken.split()[2].lower()
    if is_synced:
        project.sql(f"DROP TABLE {name}")
    project.sql(taken)
    report = project.cycle()
    assert f"{name} is a {taken.split()[1].lower()}" in str(report.error)
    assert name in report.hint
    key = project.new.send(project.other, "From SQL", "Words")
    assert project.cycle(dry_run=True).error == report.error
    project.sql(f"DROP {taken.split()[1]} {name}")
    project.sync()
    assert key in project.messages_in_files()
    assert_in_step(project)
    assert_quiet(project)


def test_g2_a_host_s_trigger_that_rolls_back_amid_a_race_takes_no_other_message_along(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before in the same transaction is not to count as written."""
    for number in range(1, 31):
        project.receive(number)
    project.sync()
    project.sql(
        "CREATE TRIGGER host BEFORE INSERT ON messages WHEN EXISTS "
        "(SELECT 1 FROM messages WHERE id = NEW.id) BEGIN SELECT RAISE(ROLLBACK, 'taken'); END"
    )
    news = [project.receive(number) for number in (31, 32, 33)]
    record = Applier._record

    def be_overtaken(applier: Applier, tasks: Sequence[Task]) -> None:
        if news[2] not in project.rows():
            insert(project, a_row(project, news[2], body="By SQL."))
        record(applier, tasks)

    def refuse(*_: object) -> None:
        raise StaleReplica("so that all go the long way")

    with monkeypatch.context() as patched:
        patched.setattr(Applier, "_record", be_overtaken)
        patched.setattr(Rows, "insert_all", refuse)
        assert project.sync().error is None
    assert set(news) <= project.rows().keys()
    project.sync()
    assert set(news) <= project.messages_in_files().keys()
    words = f"{project.kept_texts(news[2])} {project.row(news[2])['body']}"
    assert all(said in words for said in ("By SQL.", "Body 33."))
    assert_in_step(project)
    assert_quiet(project)


@pytest.mark.parametrize(
    "made",
    [
        "CREATE VIEW sessions AS SELECT 1 AS session_id",
        "CREATE TABLE sessions (whatever)",
        "CREATE TABLE idx_messages_status (whatever)",
        "CREATE TABLE syncd_history_at (whatever)",
    ],
)
def test_g15_sessions_of_another_make_are_no_reason_to_sync_no_messages(
    tmp_path: Path, made: str
) -> None:
    project = Project(tmp_path / "p")
    key = project.receive()
    project.sql(made)
    assert State.IN_SYNC is project.sync().state
    with closing(MessagingDatabase(project.new.database)) as api:
        assert [key] == [row["id"] for row in api.list_messages()]
    drop_ours(project, triggers_only=True)
    assert State.IN_SYNC is project.sync().state
    assert_quiet(project)


def test_g9_who_met_the_triggers_without_our_tables_goes_on_when_they_are_made_again(
    synced: Project,
) -> None:
    with closing(MessagingDatabase(synced.new.database)) as api:
        assert api.update_message_status(ONE, "read")
        for name in synced.sql("SELECT name FROM sqlite_master WHERE type = 'table'"):
            if name[0].startswith("syncd_"):
                synced.sql(f"DROP TABLE {name[0]}")
        with pytest.raises(ReplicaError):
            api.update_message_status(TWO, "read")
        synced.sync()
        assert api.update_message_status(TWO, "read")
    synced.sync()
    assert_in_step(synced)


def test_g12_a_missing_column_is_said_and_nothing_is_harmed(synced: Project) -> None:
    drop_ours(synced, triggers_only=True)
    synced.sql("ALTER TABLE messages RENAME COLUMN read_at TO seen_at")
    files = synced.files()
    report = synced.cycle()
    assert State.ERROR is report.state
    assert "read_at" in str(report.error)
    assert files == synced.files()
    synced.sql("UPDATE messages SET subject = 'Hosts still write' WHERE id = ?", ONE)
    synced.sql("ALTER TABLE messages RENAME COLUMN seen_at TO read_at")
    synced.sync()
    assert_in_step(synced)


def test_a_column_that_sqlite_computes_is_not_one_to_be_added(synced: Project) -> None:
    plain = synced.sql("SELECT sql FROM sqlite_master WHERE name = 'messages'")[0][0]
    computed = re.sub(r"priority TEXT[^,]*", "priority TEXT AS (lower(status))", plain)
    synced.sql("DROP TABLE messages")
    synced.sql(computed)
    report = synced.cycle()
    assert (report.error or "").endswith("lacks the column 'priority'")
    assert report.hint.startswith("SQLite computes the priority there")
    assert 0 == report.counts.changes()


@pytest.mark.parametrize("column", ["subject", "body", "from_agent", "message_type"])
def test_g12_a_column_that_was_dropped_and_added_again_empties_no_file(
    synced: Project, column: str
) -> None:
    synced.sql("UPDATE messages SET from_agent = 'lead', message_type = 'request'")
    synced.sync()
    files, words = synced.files(), synced.sql(f"SELECT {column}, id FROM messages")
    drop_ours(synced, triggers_only=True)
    for index in ("status", "to_project", "priority", "created_at"):
        synced.sql(f"DROP INDEX IF EXISTS idx_messages_{index}")
    synced.sql(f"ALTER TABLE messages DROP COLUMN {column}")
    assert "RENAME COLUMN" in synced.cycle().hint
    synced.sql(f"ALTER TABLE messages ADD COLUMN {column} TEXT")
    report = synced.sync()
    assert (0, 5) == (report.counts.changes(), len(report.quarantined))
    assert files == synced.files()
    for value, key in words:
        synced.sql(f"UPDATE messages SET {column} = ? WHERE id = ?", value, key)
    assert (0, []) == (synced.sync().counts.changes(), synced.sync().quarantined)
    assert_in_step(synced)


def test_g12_what_is_null_and_means_its_default_can_be_edited_on_both_sides(
    synced: Project,
) -> None:
    synced.sql("CREATE TABLE fresh AS SELECT * FROM messages")
    synced.sql("DROP TABLE messages")
    synced.sql("ALTER TABLE fresh RENAME TO messages")
    synced.sql("UPDATE messages SET from_agent = NULL, priority = NULL WHERE id = ?", ONE)
    synced.sync()
    synced.sql("UPDATE messages SET subject = 'By SQL' WHERE id = ?", ONE)
    synced.sync()
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.sync()
    row = synced.row(ONE)
    assert ("By SQL", "By hand.", None) == (row["subject"], row["body"], row["from_agent"])
    assert ("# By SQL" in synced.text(AT_ONE), "from_agent: pm" in synced.text(AT_ONE)) == (
        True,
        True,
    )
    assert_quiet(synced)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_g2_what_a_table_takes_for_the_same_is_kept_all_the_same(
    synced: Project, is_replaced: bool
) -> None:
    rebuild(synced, collation=" COLLATE NOCASE")
    synced.sync()
    for text in ("Words.", "WORDS.", "words."):
        if is_replaced:
            synced.new.replace(a_row(synced, ONE, body=text))
        else:
            synced.new.update(ONE, body=text)
    kept = {body for (body,) in synced.sql("SELECT body FROM syncd_history WHERE id = ?", ONE)}
    assert {"Body 1.", "Words.", "WORDS."} <= kept


def test_g2_a_row_whose_case_alone_changed_since_it_was_read_stays(synced: Project) -> None:
    rebuild(synced, collation=" COLLATE NOCASE")
    synced.sync()
    with Store.open(synced.new.database) as store:
        seen = store.rows.of([ONE])[ONE]
        synced.sql("UPDATE messages SET body = upper(body) WHERE id = ?", ONE)
        with pytest.raises(StaleReplica), store.writing():
            store.rows.update(seen, message_from_row(seen.values), ["body"])
        with pytest.raises(StaleReplica), store.writing():
            store.rows.delete(seen)
    assert "BODY 1." == synced.row(ONE)["body"]


@pytest.mark.parametrize(
    "does",
    [
        "UPDATE messages SET status = 'answered', body = 'Answered.' WHERE id = '%s'",
        "DELETE FROM messages WHERE id = '%s'",
        "INSERT INTO messages (id, from_project, to_project, subject, body, created_at) "
        "VALUES ('%s' || '-copy', 'a', 'b', 'Copy', 'Of it', '2026-02-20')",
    ],
    ids=["update", "delete", "insert"],
)
@pytest.mark.parametrize("what", ["an edit", "edits on both sides", "new files"])
def test_g12_what_a_hosts_trigger_does_elsewhere_in_syncds_own_write_is_heard_at_once(
    synced: Project, does: str, what: str
) -> None:
    if what == "edits on both sides":
        synced.sql("UPDATE messages SET body = 'By SQL.' WHERE id = ?", ONE)
    event = "INSERT" if what == "new files" else "UPDATE OF subject"
    synced.sql(f"CREATE TRIGGER host AFTER {event} ON messages BEGIN {does % THREE}; END")
    if what == "new files":
        synced.receive(61)
    else:
        synced.edit(AT_ONE, "# Subject 1", "# By hand")
    report = synced.cycle()
    assert any(THREE in name for name in report.unsettled)
    synced.sql("DROP TRIGGER host")
    synced.heed()
    assert_in_step(synced)
    assert_quiet(synced)
    assert [] == synced.sql("SELECT * FROM syncd_feed")


@pytest.mark.parametrize("does", ["UPDATE messages SET body = '!'", "DELETE FROM messages"])
@pytest.mark.parametrize("event", ["INSERT", "UPDATE OF subject", "DELETE"])
def test_g2_what_a_hosts_trigger_destroys_in_syncds_own_write_is_kept(
    synced: Project, does: str, event: str
) -> None:
    does += f" WHERE id = '{THREE}' AND id <> {'OLD' if event == 'DELETE' else 'NEW'}.id"
    synced.sql(f"CREATE TRIGGER host AFTER {event} ON messages BEGIN {does}; END")
    synced.sync()
    synced.sql("UPDATE messages SET body = 'Precious.' WHERE id = ?", THREE)
    if event == "INSERT":
        synced.receive(61)
    elif event == "DELETE":
        synced.file(AT_ONE).unlink()
    else:
        synced.edit(AT_ONE, "# Subject 1", "# By hand")
    synced.sync()
    kept = [row["body"] for row in synced.history(THREE)]
    assert 1 == kept.count("Precious.")


def test_g2_what_a_hosts_trigger_destroys_of_a_row_that_syncd_wrote_just_before_is_kept(
    synced: Project,
) -> None:
    synced.sql(
        f"CREATE TRIGGER host AFTER UPDATE OF subject ON messages WHEN NEW.id = '{TWO}' "
        f"BEGIN UPDATE messages SET body = '!' WHERE id = '{ONE}'; END"
    )
    synced.edit(AT_ONE, "Body 1.", "Precious.")
    synced.edit(f"inbox/{TWO}.md", "# Subject 2", "# By hand")
    synced.sync()
    assert "!" == synced.row(ONE)["body"]
    assert "Precious." in synced.kept_texts(ONE)


def test_g2_what_a_hosts_trigger_destroys_is_kept_also_where_the_table_has_a_capital(
    synced: Project,
) -> None:
    synced.sql("ALTER TABLE messages RENAME TO elsewhere")
    synced.sql("ALTER TABLE elsewhere RENAME TO Messages")
    synced.sql(
        "CREATE TRIGGER host AFTER UPDATE OF subject ON Messages "
        f"BEGIN UPDATE messages SET body = '!' WHERE id = '{THREE}'; END"
    )
    synced.sync()
    synced.sql("UPDATE messages SET body = 'Precious.' WHERE id = ?", THREE)
    synced.edit(AT_ONE, "# Subject 1", "# By hand")
    synced.sync()
    assert "Precious." in [row["body"] for row in synced.history(THREE)]


def test_g10_a_delete_of_syncds_own_is_heard_of_no_more_where_hosts_have_triggers(
    synced: Project,
) -> None:
    synced.sql("CREATE TABLE audit (id)")
    synced.sql(
        "CREATE TRIGGER audit_delete AFTER DELETE ON messages BEGIN "
        "INSERT INTO audit VALUES (OLD.id); END"
    )
    synced.file(AT_ONE).unlink()
    report = synced.sync()
    assert (1, set()) == (report.counts.rows_deleted, report.unsettled)
    assert [] == synced.sql("SELECT * FROM syncd_feed")


def test_g12_the_triggers_never_fail_a_hosts_write(synced: Project) -> None:
    synced.sql("UPDATE messages SET body = x'00ff', metadata = 1.5 WHERE id = ?", ONE)
    synced.sql("UPDATE messages SET id = NULL WHERE id = ?", TWO)
    synced.sql("INSERT OR REPLACE INTO messages SELECT * FROM messages")
    synced.sql("INSERT OR IGNORE INTO messages SELECT * FROM messages")
    synced.sql("DELETE FROM messages")
    insert(synced, a_row(synced, "one more"))
    assert 1 == synced.sql("SELECT count(*) FROM messages")[0][0]
