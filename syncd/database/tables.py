"""syncd's own tables and triggers in ``messaging.db``, and the steps from one version to the next.

The triggers use built-in SQL only and write into tables without constraints, so that they cannot
fail a host's write. They are silent inside syncd's own transactions: `syncd_mute` has a row only
there. Where hosts have triggers too, ours are silent only about the version of a row that syncd
itself replaces: what those change beside what syncd writes is a host's change. `drop` removes them
before any table that they name.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from syncd.core.message import FIELDS
from syncd.errors import ReplicaError
from syncd.messaging.schema import (
    MESSAGE_COLUMNS,
    MESSAGES_DDL,
    column_definition,
    create_contract,
    create_indexes,
)

VERSION = 2
NUMBERS_HINT = "Make the table messages anew, with TEXT as that column's type."

_COLUMN_OF = {"type": "message_type", "reply_to": "replied_to"}
COLUMNS = ("id", *(_COLUMN_OF.get(name, name) for name in FIELDS))
"""The columns that are kept in step: ``id``, and then that of each of `FIELDS`."""

_ROW_COLUMNS = MESSAGE_COLUMNS[1:]
_OTHER_COLUMNS = ", ".join(_ROW_COLUMNS)

_TABLES = (
    # What the agent knows of the project as a whole: identities of folders, times, the halt.
    "CREATE TABLE IF NOT EXISTS syncd_state (key TEXT PRIMARY KEY, value)",
    # The last state of each message on which both sides agreed.
    """CREATE TABLE IF NOT EXISTS syncd_baseline (
        id TEXT PRIMARY KEY, path TEXT NOT NULL, size INTEGER, mtime_ns INTEGER, inode INTEGER,
        digest BLOB, status_said TEXT, status TEXT, fields TEXT, row_digest BLOB, view BLOB)""",
    "CREATE INDEX IF NOT EXISTS syncd_baseline_path ON syncd_baseline(path)",
    # Baselines of file versions that syncd replaced lately, which a late writer may start from, and
    # (`intent`) of those that it is about to write: a crash may leave the file without a baseline.
    """CREATE TABLE IF NOT EXISTS syncd_versions (
        seq INTEGER PRIMARY KEY, at REAL, intent INTEGER, id TEXT, path TEXT, size INTEGER,
        mtime_ns INTEGER, inode INTEGER, digest BLOB, status_said TEXT, status TEXT, fields TEXT,
        row_digest BLOB, view BLOB, seen BLOB)""",
    # A message that is changed all the time has thousands.
    "CREATE INDEX IF NOT EXISTS syncd_versions_seen ON syncd_versions(id, seen)",
    "CREATE INDEX IF NOT EXISTS syncd_versions_intent ON syncd_versions(id) WHERE intent",
    # Outbox copies of messages to oneself.
    """CREATE TABLE IF NOT EXISTS syncd_twins (
        path TEXT PRIMARY KEY, id TEXT, size INTEGER, mtime_ns INTEGER, inode INTEGER)""",
    # Ids that a host's statements touched; `was` is the status of a deleted row.
    "CREATE TABLE IF NOT EXISTS syncd_feed (seq INTEGER PRIMARY KEY, id, was)",
    "CREATE TABLE IF NOT EXISTS syncd_mute (muted)",
    # Versions that were replaced or removed: a file's bytes in `data`, or a row in its columns.
    f"""CREATE TABLE IF NOT EXISTS syncd_history (
        version INTEGER PRIMARY KEY, id, at TEXT, side TEXT, reason TEXT, path TEXT, data BLOB,
        {_OTHER_COLUMNS})""",
    "CREATE INDEX IF NOT EXISTS syncd_history_id ON syncd_history(id)",
    "CREATE INDEX IF NOT EXISTS syncd_history_at ON syncd_history(at)",
    # Fields that changed on both sides; `version` is the loser's in the history.
    """CREATE TABLE IF NOT EXISTS syncd_conflicts (
        id TEXT, field TEXT, at TEXT, winner TEXT, version INTEGER, PRIMARY KEY (id, field))""",
    # Files (and rows, as messaging.db#id) left alone, with the stamp that they were read at.
    """CREATE TABLE IF NOT EXISTS syncd_quarantine (
        path TEXT PRIMARY KEY, id TEXT, line INTEGER, reason TEXT, hint TEXT, since TEXT,
        size INTEGER, mtime_ns INTEGER, inode INTEGER)""",
    # What was done to which message: `side` is the side that was written.
    """CREATE TABLE IF NOT EXISTS syncd_journal (
        seq INTEGER PRIMARY KEY, at TEXT, id TEXT, side TEXT, step TEXT, fields TEXT, why TEXT,
        path TEXT, agent TEXT, project TEXT)""",
)


def _is_table(ddl: str) -> bool:
    return ddl.startswith("CREATE TABLE")


def _name(ddl: str) -> str:
    return ddl.split("EXISTS ")[1].split()[0]


_OUR_TABLES = {_name(ddl): ddl for ddl in _TABLES if _is_table(ddl)}

_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
# In `syncd_mute`, NULL mutes all our triggers; an id mutes those that keep versions of its row.
_IS_FED = "NOT EXISTS (SELECT 1 FROM syncd_mute WHERE muted IS NULL)"
_IS_KEPT = "NOT EXISTS (SELECT 1 FROM syncd_mute WHERE coalesce(muted, OLD.id) IS OLD.id)"


_WORDS = ("subject", "body", "metadata", "attachments")


def _words_differ(old: str) -> str:
    # A host's column may take what differs in case for the same.
    return " OR ".join(f"{old}{column} IS NOT NEW.{column} COLLATE BINARY" for column in _WORDS)


def _keep(reason: str, prefix: str, tail: str = "") -> str:
    values = ", ".join(f"{prefix}{column}" for column in _ROW_COLUMNS)
    return (
        f"INSERT INTO syncd_history (id, at, side, reason, {_OTHER_COLUMNS}) "
        f"SELECT {prefix}id, {_NOW}, 'db', '{reason}', {values} {tail};"
    )


# REPLACE deletes the old row without firing DELETE triggers, so what it overwrites is kept before.
# What a statement will do with the row that it meets, nothing tells: it may leave or update it, and
# meet it again and again. A version that is the last one kept already is kept as of now.
_MET = f"FROM messages WHERE id = NEW.id AND ({_words_differ('')})"
_SAME = " AND ".join(
    f"messages.{column} IS syncd_history.{column} COLLATE BINARY" for column in _WORDS
)
_LAST = "version = (SELECT max(version) FROM syncd_history WHERE id = NEW.id)"
_KEPT = f"EXISTS (SELECT 1 FROM syncd_history WHERE {_LAST} AND {_SAME})"
_KEEP_MET = (
    f"UPDATE syncd_history SET at = {_NOW} WHERE {_LAST} AND EXISTS (SELECT 1 {_MET} AND {_SAME}); "
    + _keep("replaced by SQL", "", f"{_MET} AND NOT {_KEPT}")
)

_TRIGGERS = {
    "syncd_insert": f"AFTER INSERT ON messages WHEN {_IS_FED} BEGIN "
    "INSERT INTO syncd_feed (id) VALUES (NEW.id); END",
    "syncd_update": f"AFTER UPDATE ON messages WHEN {_IS_FED} BEGIN "
    "INSERT INTO syncd_feed (id) VALUES (NEW.id); "
    "INSERT INTO syncd_feed (id) SELECT OLD.id WHERE OLD.id IS NOT NEW.id COLLATE BINARY; END",
    "syncd_delete": f"AFTER DELETE ON messages WHEN {_IS_FED} BEGIN "
    "INSERT INTO syncd_feed (id, was) VALUES (OLD.id, OLD.status); "
    f"{_keep('deleted by SQL', 'OLD.', f'WHERE {_IS_KEPT}')} END",
    "syncd_keep_update": f"AFTER UPDATE OF subject, body, metadata, attachments ON messages "
    f"WHEN {_IS_KEPT} AND ({_words_differ('OLD.')}) BEGIN {_keep('changed by SQL', 'OLD.')} END",
    "syncd_keep_replace": f"BEFORE INSERT ON messages WHEN {_IS_FED} AND EXISTS "
    f"(SELECT 1 FROM messages WHERE id = NEW.id) BEGIN {_KEEP_MET} END",
}


def is_ready(connection: sqlite3.Connection) -> bool:
    """Tell whether all tables and triggers stand as this version makes them. Writes nothing.

    Raises `ReplicaError` where a newer version made them.
    """
    standing = _standing(connection)
    if "messages" not in standing or "syncd_state" not in standing:
        return False
    columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(syncd_state)")}
    if not {"key", "value"} <= columns:
        return False  # somebody else made it anew
    found = connection.execute("SELECT value FROM syncd_state WHERE key = 'version'").fetchone()
    if found is not None and not str(found[0]).isdecimal():
        return False  # somebody else wrote there
    if found is not None and int(found[0]) > VERSION:
        raise ReplicaError(
            f"the database was set up by a newer syncd (version {found[0]} of its tables, "
            f"this one knows {VERSION})",
            hint="Use the newer syncd here too: pip install --upgrade syncd",
        )
    return found is not None and not _lacking(standing)


def lacking(connection: sqlite3.Connection) -> list[str]:
    """Return the tables and triggers of ours that are not as this version makes them, in words."""
    return _lacking(_standing(connection))


def _standing(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the SQL of every table and trigger in the database, by name."""
    sql = "SELECT lower(name), sql FROM sqlite_master WHERE type IN ('table', 'trigger')"
    return dict(connection.execute(sql).fetchall())


def _lacking(found: dict[str, str]) -> list[str]:
    missing = [f"the table {name} is missing" for name in _OUR_TABLES if name not in found]
    missing += [f"the table {name} is another than this version makes" for name in _altered(found)]
    for name, body in _TRIGGERS.items():
        if name not in found:
            missing.append(f"the trigger {name} is missing")
        elif found[name] != f"CREATE TRIGGER {name} {body}":
            missing.append(f"the trigger {name} is another than this version makes")
    return missing


def _altered(found: dict[str, str]) -> list[str]:
    """Return our tables that somebody made anew otherwise, as without their keys."""
    return [
        name
        for name, ddl in _OUR_TABLES.items()
        if name in found and found[name].partition("(")[2] != ddl.partition("(")[2]
    ]


def _make_anew(connection: sqlite3.Connection, name: str) -> None:
    """Make one of our tables as it should be, with what it holds; of two with one key the last.

    What lacks a value that there has to be is left out: without it, it says nothing.
    """
    connection.execute(f"CREATE TEMP TABLE was AS SELECT * FROM {name}")
    connection.execute(f"DROP TABLE {name}")
    connection.execute(_OUR_TABLES[name])
    had = {column for _, column, *_ in connection.execute("PRAGMA table_info(was)")}
    wanted = connection.execute(f"PRAGMA table_info({name})").fetchall()
    needed = {column for _, column, _, is_needed, *_ in wanted if is_needed}
    columns = ", ".join(column for _, column, *_ in wanted if column in had)
    if columns and needed <= had:
        is_whole = " AND ".join(f"{column} IS NOT NULL" for column in sorted(needed)) or "1"
        copied = f"SELECT {columns} FROM was WHERE {is_whole}"
        connection.execute(f"INSERT OR REPLACE INTO {name} ({columns}) {copied}")
    connection.execute("DROP TABLE was")


def has_host_triggers(connection: sqlite3.Connection) -> bool:
    """Tell whether a host has triggers of its own, which may change what we write."""
    sql = (
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'trigger' "
        "AND tbl_name LIKE 'messages' AND name NOT LIKE 'syncd\\_%' ESCAPE '\\')"
    )
    return bool(connection.execute(sql).fetchone()[0])


def _knows_messages(connection: sqlite3.Connection) -> bool:
    """Tell whether the baseline stands, and knows of any message."""
    sql = "SELECT EXISTS (SELECT 1 FROM syncd_baseline)"
    return "syncd_baseline" in names(connection) and bool(connection.execute(sql).fetchone()[0])


def way_back(connection: sqlite3.Connection, missing: Sequence[str]) -> str | None:
    """Return how missing columns come back with what they held; None where they held nothing.

    A column that is added empty to rows of which the baseline knows more would count as an edit.
    """
    if "id" in missing:
        return (
            "Give the table another name, and every program of the family makes it as it should "
            "be: ALTER TABLE messages RENAME TO messages_before"
        )
    every = connection.execute("PRAGMA table_xinfo(messages)").fetchall()
    computed = {name.lower() for _, name, *_, hidden in every if hidden}.intersection(missing)
    if computed:
        return (
            f"SQLite computes the {min(computed)} there, and nobody can write it: make the table "
            "anew, with that as a plain column."
        )
    lost = next((column for column in missing if column in COLUMNS), None)
    if lost is None or not _knows_messages(connection):
        return None
    return (
        "Bring it back with what it held, from a backup or by its former name: "
        f"ALTER TABLE messages RENAME COLUMN … TO {lost}"
    )


def adding(missing: Sequence[str]) -> str:
    """Return the SQL that adds columns to the table messages, as the contract has them."""
    definitions = map(column_definition, missing)
    return "; ".join(f"ALTER TABLE messages ADD COLUMN {one}" for one in definitions)


def missing_columns(connection: sqlite3.Connection) -> list[str]:
    """Return the columns of the contract that the table messages lacks."""
    found = connection.execute("PRAGMA table_info(messages)").fetchall()
    columns = {name.lower() for _, name, *_ in found}
    return [column for column in MESSAGE_COLUMNS if column not in columns]


def resolves_conflicts(connection: sqlite3.Connection) -> bool:
    """Tell whether a constraint of ``messages`` says itself what becomes of rows in conflict.

    With REPLACE, one that is written would remove another. To have a statement of ours say
    otherwise in any case would also overrule what statements in hosts' triggers say.
    """
    sql = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name LIKE 'messages'"
    found = connection.execute(sql).fetchone()
    return bool(found and re.search(r"\bON\s+CONFLICT\b", found[0], re.I))


def number_columns(connection: sqlite3.Connection) -> dict[str, str]:
    """Return those of `COLUMNS` in which SQLite makes a number of a text that looks like one.

    With each comes the type to which it is cast then. SQLite goes by the declared type, of which
    STRING is such a one (https://sqlite.org/datatype3.html, 3.1).
    """
    types = {
        name.lower(): kind.upper()
        for _, name, kind, *_ in connection.execute("PRAGMA table_info(messages)")
    }
    casts = {column: _number_type(types.get(column, "")) for column in COLUMNS}
    return {column: cast for column, cast in casts.items() if cast is not None}


def _number_type(kind: str) -> str | None:
    if "INT" in kind:
        return "NUMERIC"
    if not kind or any(word in kind for word in ("CHAR", "CLOB", "TEXT", "BLOB")):
        return None
    return "REAL" if any(word in kind for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def check_contract(connection: sqlite3.Connection, *, anew: bool = False) -> None:
    """Raise `ReplicaError` where ``messages`` is there and not the contract's, or was and is gone.

    Triggers on columns that it lacks would fail a host's writes. One that is gone while the
    baseline still knows messages may be on its way back, from a program that rebuilds it: it is
    not made ``anew`` unless that is asked for.
    """
    sql = (
        "SELECT CASE WHEN sql LIKE 'CREATE VIRTUAL%' THEN 'virtual table' ELSE type END "
        "FROM sqlite_master "
        "WHERE name LIKE 'messages' AND type IN ('table', 'view')"  # names know no case
    )
    found = connection.execute(sql).fetchone()
    if found is None:
        if not anew and _knows_messages(connection):
            raise ReplicaError(
                "the table messages is gone from the database",
                hint="Bring it back, and syncd goes on by itself; or have it made again from the "
                f"files: syncd resume {_project_of(connection)} --restore",
            )
    elif found[0] != "table":
        raise ReplicaError(
            f"messages is a {found[0]} of the database, not a plain table",
            hint="Give the table that name, and the view another.",
        )
    elif missing := missing_columns(connection):
        raise ReplicaError(
            f"the table messages lacks the column {missing[0]!r}",
            hint=way_back(connection, missing) or f"Add it: {adding(missing)}",
        )


def refuse_taken(connection: sqlite3.Connection) -> None:
    """Raise `ReplicaError` where something else than a table has the name of one of ours.

    `CREATE TABLE IF NOT EXISTS` passes over a view, and our triggers would fail on it.
    """
    sql = "SELECT lower(name), type FROM sqlite_master WHERE type IN ('view', 'index')"
    for name, kind in connection.execute(sql):
        if name in _OUR_TABLES:
            raise ReplicaError(
                f"{name} is {'a view' if kind == 'view' else 'an index'} of the database, and "
                "syncd needs that name for a table",
                hint=f"Make it anew by another one: DROP {kind.upper()} {name}",
            )


def _project_of(connection: sqlite3.Connection) -> str:
    """Return the folder of the project whose database is open, as a shell reads it."""
    from syncd.shell import quoted  # needed by few

    return quoted(Path(connection.execute("PRAGMA database_list").fetchone()[2]).parents[1])


def create(connection: sqlite3.Connection, *, anew: bool = False) -> None:
    """Create the contract's schema, our tables and our triggers where they are missing.

    Runs inside the caller's transaction. Raises `ReplicaError` as `check_contract` does.
    """
    check_contract(connection, anew=anew)
    create_contract(connection)
    drop_triggers(connection)
    for name in _altered(_standing(connection)):
        _make_anew(connection, name)
    for ddl in _OUR_TABLES.values():
        connection.execute(ddl)
    create_indexes(connection, (ddl for ddl in _TABLES if not _is_table(ddl)))
    for name, body in _TRIGGERS.items():
        connection.execute(f"CREATE TRIGGER {name} {body}")
    connection.execute("INSERT OR REPLACE INTO syncd_state VALUES ('version', ?)", (str(VERSION),))


def create_temporary(connection: sqlite3.Connection) -> None:
    """Create what is missing as temporary tables, for a look at a database that is not ours yet.

    Nothing is written into the database; the connection may be read-only.
    """
    standing = _standing(connection)
    for ddl in (MESSAGES_DDL, *filter(_is_table, _TABLES)):
        if _name(ddl) not in standing:
            connection.execute(ddl.replace("CREATE TABLE IF NOT EXISTS", "CREATE TEMP TABLE", 1))


def names(connection: sqlite3.Connection) -> list[str]:
    """Return the names of our tables that stand in the database."""
    standing = _standing(connection)
    return [name for name in _OUR_TABLES if name in standing]


def drop_triggers(connection: sqlite3.Connection) -> None:
    """Remove every trigger of ours. Runs inside the caller's transaction."""
    for name in _TRIGGERS:
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")


def drop(connection: sqlite3.Connection) -> None:
    """Remove every trigger of ours, then every table. Runs inside the caller's transaction."""
    drop_triggers(connection)
    for name in names(connection):
        connection.execute(f'DROP TABLE "{name}"')
