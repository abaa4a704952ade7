"""The contract's schema: the tables and indexes that all clients of the database share.

It stands here once. The clients of `syncd.messaging` and the sync engine both create it
through `create_contract`, and any other program of the family may have created it first:
every statement tolerates what exists already, and columns or tables beyond these are theirs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

MESSAGES_DDL = """\
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY,
    from_project TEXT NOT NULL,
    from_agent TEXT NOT NULL DEFAULT 'pm',
    to_project TEXT NOT NULL,
    to_agent TEXT NOT NULL DEFAULT 'pm',
    message_type TEXT NOT NULL DEFAULT 'notification',
    priority TEXT NOT NULL DEFAULT 'normal',
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'unread',
    created_at TEXT NOT NULL,
    read_at TEXT,
    replied_to TEXT,
    task_injected INTEGER NOT NULL DEFAULT 0,
    metadata TEXT,
    attachments TEXT
)"""

SESSIONS_DDL = """\
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY,
    project_path TEXT NOT NULL,
    project_name TEXT NOT NULL,
    started_at TEXT NOT NULL,
    last_active TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'active',
    pid INTEGER
)"""

INDEXES_DDL = (
    "CREATE INDEX IF NOT EXISTS idx_messages_status ON messages(status)",
    "CREATE INDEX IF NOT EXISTS idx_messages_to_project ON messages(to_project)",
    "CREATE INDEX IF NOT EXISTS idx_messages_priority ON messages(priority)",
    "CREATE INDEX IF NOT EXISTS idx_messages_created_at ON messages(created_at)",
    "CREATE INDEX IF NOT EXISTS idx_sessions_status ON sessions(status)",
    "CREATE INDEX IF NOT EXISTS idx_sessions_last_active ON sessions(last_active)",
)

CONTRACT_DDL = (MESSAGES_DDL, SESSIONS_DDL, *INDEXES_DDL)

MESSAGE_COLUMNS = tuple(line.split()[0] for line in MESSAGES_DDL.splitlines()[1:-1])


def column_definition(name: str) -> str:
    """Return a column of ``messages`` as it is added to a table that lacks it.

    One that may not be NULL has to have something to stand in the rows that are there.
    """
    lines = map(str.strip, MESSAGES_DDL.splitlines())
    definition = next(line for line in lines if line.split()[0] == name).removesuffix(",")
    if "NOT NULL" not in definition or "DEFAULT" in definition:
        return definition
    value = "1970-01-01T00:00:00+00:00" if name == "created_at" else ""
    return f"{definition} DEFAULT '{value}'"


def create_contract(connection: sqlite3.Connection) -> None:
    """Create what is missing of the contract's tables and indexes.

    Runs inside the caller's transaction where one is open.
    """
    connection.execute(MESSAGES_DDL)
    connection.execute(SESSIONS_DDL)
    create_indexes(connection, INDEXES_DDL)


def create_indexes(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    """Create indexes, but for those that something else is in the way of.

    Its name may be taken, or that of its table by a view or a table without the column. An index
    only makes queries faster.
    """
    for statement in statements:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
