"""The two neighbours of syncd, written anew from their contracts: they share no code with it.

- `OldClient` reads and writes markdown files; `parse_legacy` and `render_legacy` are its format.
- `NewClient` reads and writes SQLite, one short connection a call.

Both know a message as `LegacyMessage`, so that what one lists can be compared with what the
other does. They are as careless as the real ones: no locks, no atomic writes, no validation.
"""

from __future__ import annotations

import io
import json
import random
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LegacyMessage:
    """A message as the clients hold it in memory.

    The types are those of a message that a client wrote. Of one that a person wrote, the front
    matter's values are whatever YAML makes of them: ``to_agent: no`` is False.
    """

    id: str
    from_project: str
    to_project: str
    created_at: datetime
    from_agent: str = "pm"
    to_agent: str = "pm"
    type: str = "task"
    priority: str = "normal"
    status: str = "unread"
    reply_to: str | None = None
    metadata: Row = field(default_factory=dict)
    subject: str = ""
    body: str = ""
    attachments: list[str] = field(default_factory=list)


# Aliases, because the clients' methods named `list` hide the builtin inside their classes.
Messages = list[LegacyMessage]


def parse_legacy(data: bytes) -> LegacyMessage:
    """Read a file's bytes exactly as the old client does, and raise whatever it raises."""
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()
    sections = text.split("---\n", 2)
    if len(sections) < 3:
        raise ValueError("Invalid message format: missing frontmatter")
    front = yaml.safe_load(sections[1])
    subject, body = _split_subject(sections[2].strip())
    body, attachments = _split_attachments(body)
    return LegacyMessage(
        id=front["id"],
        from_project=front["from_project"],
        from_agent=front["from_agent"],
        to_project=front["to_project"],
        to_agent=front["to_agent"],
        type=front["type"],
        priority=front["priority"],
        created_at=datetime.fromisoformat(front["created_at"]),
        status=front.get("status", "unread"),
        reply_to=front.get("reply_to"),
        metadata=front.get("metadata", {}),
        subject=subject,
        body=body,
        attachments=attachments,
    )


def _split_subject(text: str) -> tuple[str, str]:
    if not text.startswith("# "):
        return "", text
    heading, _, rest = text.partition("\n")
    return heading[2:].strip(), rest.strip()


def _split_attachments(text: str) -> tuple[str, list[str]]:
    body, heading, section = text.partition("\n## Attachments\n")
    if not heading:
        return text, []
    items = [line for line in section.split("\n") if line.strip().startswith("- `")]
    # The old client strips these characters from both ends, also those that belong to a name.
    return body.strip(), [item.strip("- `") for item in items]


def render_legacy(message: LegacyMessage) -> str:
    """Write a message as the old client does: sorted keys, ASCII escapes, no final newline."""
    front: Row = {
        "id": message.id,
        "from_project": message.from_project,
        "from_agent": message.from_agent,
        "to_project": message.to_project,
        "to_agent": message.to_agent,
        "type": message.type,
        "priority": message.priority,
        "created_at": message.created_at.isoformat(),
        "status": message.status,
        "reply_to": message.reply_to,
    }
    if message.metadata:
        front["metadata"] = message.metadata
    heading = f"# {message.subject}\n\n" if message.subject else ""
    text = f"---\n{yaml.safe_dump(front, default_flow_style=False)}---\n\n{heading}{message.body}"
    if message.attachments:
        items = "\n".join(f"- `{path}`" for path in message.attachments)
        text += f"\n\n## Attachments\n\n{items}"
    return text


def row_of(message: LegacyMessage) -> Row:
    """Say a message as a row of the new client's table."""
    return {
        "id": message.id,
        "from_project": message.from_project,
        "from_agent": message.from_agent,
        "to_project": message.to_project,
        "to_agent": message.to_agent,
        "message_type": message.type,
        "priority": message.priority,
        "subject": message.subject,
        "body": message.body,
        "status": message.status,
        "created_at": message.created_at.isoformat(),
        "replied_to": message.reply_to,
        "metadata": json.dumps(message.metadata),
        "attachments": json.dumps(message.attachments),
    }


def new_id(now: datetime, suffix: str) -> str:
    """Make a message id from its time and eight hexadecimal digits."""
    return f"msg-{now:%Y%m%d-%H%M%S}-{suffix}"


def _compose(sender: Path, recipient: Path, subject: str, body: str, options: Row) -> LegacyMessage:
    now = datetime.now(UTC)
    generated: Row = {"id": new_id(now, uuid.uuid4().hex[:8]), "created_at": now}
    return LegacyMessage(
        from_project=str(sender),
        to_project=str(recipient),
        subject=subject,
        body=body,
        **(generated | options),
    )


class OldClient:
    """The file client of one project."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.inbox = project / ".claude-mpm" / "inbox"
        self.archived = self.inbox / ".archive"
        self.outbox = project / ".claude-mpm" / "outbox"

    def send(self, to: Path, subject: str, body: str, **options: Any) -> str:
        """Write the message to the own outbox, then to the inbox of ``to``; return its id.

        ``options`` are further fields of `LegacyMessage`, such as ``priority`` or ``metadata``.
        """
        message = _compose(self.project, to, subject, body, options)
        name = f"{message.id}.md"
        self._write(self.outbox / name, replace(message, status="sent"))
        self._write(OldClient(to).inbox / name, replace(message, status="unread"))
        return message.id

    def list(self) -> Messages:
        """Read the inbox in order of file names; what cannot be parsed is left out."""
        return [message for _, message in self._scan()]

    def read(self, message_id: str) -> LegacyMessage:
        """Mark a message as read: its whole file is emptied and written again, in place."""
        path = self._find(message_id)
        message = replace(parse_legacy(path.read_bytes()), status="read")
        self._write(path, message)
        return message

    def archive(self, message_id: str) -> Path:
        """Move a message's file to the archive, its bytes and status unchanged."""
        path = self._find(message_id)
        self.archived.mkdir(parents=True, exist_ok=True)
        return path.rename(self.archived / path.name)

    def _find(self, message_id: str) -> Path:
        usual = self.inbox / f"{message_id}.md"
        if usual.is_file():
            return usual
        for path, message in self._scan():
            if message.id == message_id:
                return path
        raise FileNotFoundError(f"No message {message_id} in {self.inbox}.")

    def _scan(self) -> Iterator[tuple[Path, LegacyMessage]]:
        for path in sorted(self.inbox.glob("*.md")):
            try:
                yield path, parse_legacy(path.read_bytes())
            except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
                continue

    def _write(self, path: Path, message: LegacyMessage) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opening empties the file before the text arrives: readers may see the gap.
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(render_legacy(message))


SCHEMA = (
    """CREATE TABLE IF NOT EXISTS messages (
        id TEXT PRIMARY KEY, from_project TEXT NOT NULL, from_agent TEXT NOT NULL DEFAULT 'pm',
        to_project TEXT NOT NULL, to_agent TEXT NOT NULL DEFAULT 'pm',
        message_type TEXT NOT NULL DEFAULT 'notification',
        priority TEXT NOT NULL DEFAULT 'normal', subject TEXT NOT NULL, body TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'unread', created_at TEXT NOT NULL, read_at TEXT,
        replied_to TEXT, task_injected INTEGER NOT NULL DEFAULT 0, metadata TEXT, attachments TEXT
    )""",
    """CREATE TABLE IF NOT EXISTS sessions (
        session_id TEXT PRIMARY KEY, project_path TEXT NOT NULL, project_name TEXT NOT NULL,
        started_at TEXT NOT NULL, last_active TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'active', pid INTEGER
    )""",
    *(
        f"CREATE INDEX IF NOT EXISTS idx_{table}_{column} ON {table}({column})"
        for table, column in (
            ("messages", "status"),
            ("messages", "to_project"),
            ("messages", "priority"),
            ("messages", "created_at"),
            ("sessions", "status"),
            ("sessions", "last_active"),
        )
    ),
)


class NewClient:
    """The SQLite client of one project.

    Each call raises `sqlite3.OperationalError` when it waits for a lock for more than a second.
    """

    def __init__(self, project: Path) -> None:
        self.project = project
        self.database = project / ".claude-mpm" / "messaging.db"

    def send(self, to: Path, subject: str, body: str, **options: Any) -> str:
        """Insert the message here as sent and in the database of ``to`` as unread; return its id.

        A message to oneself is one row, unread. ``options`` are as for `OldClient.send`.
        """
        message = _compose(self.project, to, subject, body, options)
        if to != self.project:
            self._write("INSERT", row_of(replace(message, status="sent")))
        NewClient(to)._write("INSERT", row_of(replace(message, status="unread")))
        return message.id

    def list(self, status: str | None = None) -> Messages:
        """Read all messages, newest first, or those of one status; one bad row raises."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT * FROM messages WHERE :status IS NULL OR status = :status"
                " ORDER BY created_at DESC",
                {"status": status},
            ).fetchall()
        return [_message_of(row) for row in rows]

    def read(self, message_id: str) -> Row:
        """Return a row, marked as read if it was unread."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE messages SET status = 'read', read_at = ?"
                " WHERE id = ? AND status = 'unread'",
                (datetime.now(UTC).isoformat(), message_id),
            )
        return self.rows()[message_id]

    def archive(self, message_id: str) -> bool:
        """Set a row's status to archived; False says that there is none."""
        return self.update(message_id, status="archived")

    def update(self, message_id: str, **columns: Any) -> bool:
        """Set columns of one row, also to values that break other clients."""
        assignments = ", ".join(f"{column} = ?" for column in columns)
        with self._connection() as connection:
            cursor = connection.execute(
                f"UPDATE messages SET {assignments} WHERE id = ?", (*columns.values(), message_id)
            )
            return cursor.rowcount > 0

    def replace(self, row: Row) -> None:
        """Put a row in place of the one with its id; columns that it lacks get their defaults."""
        self._write("INSERT OR REPLACE", row)

    def delete(self, message_id: str) -> bool:
        """Delete a row; False says that there was none."""
        with self._connection() as connection:
            cursor = connection.execute("DELETE FROM messages WHERE id = ?", (message_id,))
            return cursor.rowcount > 0

    def cleanup(self, days: int = 30) -> list[str]:
        """Delete the archived rows of messages older than ``days``; return their ids."""
        oldest = datetime.now(UTC) - timedelta(days=days)
        with self._connection() as connection:
            where = "FROM messages WHERE status = 'archived' AND created_at < ?"
            connection.execute("BEGIN IMMEDIATE")
            found = connection.execute(f"SELECT id {where}", (oldest.isoformat(),)).fetchall()
            connection.execute(f"DELETE {where}", (oldest.isoformat(),))
            return [row["id"] for row in found]

    def rows(self) -> dict[str, Row]:
        """Read the raw rows by id, whether or not they can be understood."""
        with self._connection() as connection:
            return {row["id"]: dict(row) for row in connection.execute("SELECT * FROM messages")}

    def _write(self, verb: str, row: Row) -> None:
        marks = ", ".join("?" * len(row))
        with self._connection() as connection:
            connection.execute(
                f"{verb} INTO messages ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
            )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        self.database.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.database, timeout=1.0)) as connection, connection:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            for statement in SCHEMA:
                connection.execute(statement)
            yield connection


def _message_of(row: sqlite3.Row) -> LegacyMessage:
    return LegacyMessage(
        id=row["id"],
        from_project=row["from_project"],
        from_agent=row["from_agent"],
        to_project=row["to_project"],
        to_agent=row["to_agent"],
        type=row["message_type"],
        priority=row["priority"],
        subject=row["subject"],
        body=row["body"],
        status=row["status"],
        created_at=datetime.fromisoformat(row["created_at"]),
        reply_to=row["replied_to"],
        metadata=json.loads(row["metadata"] or "{}"),
        attachments=json.loads(row["attachments"] or "[]"),
    )


WORDS = (
    *("the build", "is green", "again,", "please", "look at", "parser", "tomorrow", "no", "yes"),
    *(
        "null",
        "~",
        "1e3",
        "0123",
        "2026-02-20",
        "key: value",
        "#1",
        "- item",
        "'quoted'",
        '"',
        "&x",
    ),
    *(
        "*y",
        "!tag",
        "%",
        "@",
        "`code`",
        "naïve",
        "cafe\u0301",
        "Ölstand",
        "Привет",
        "日本語",
        "שלום",
    ),
    *("📬", "👩‍🚀", "a\u2028b", "c\u0085d", "tab\tstop", "back\\slash", "<!-- c -->"),
)
PARAGRAPHS = (
    "# A heading in the body",
    "## Attachments are below",
    "- one\n- two\n  - three",
    "```yaml\nid: not-me\n---\nstatus: read\n```",
    "---",
    "> quoted\n> twice",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "    indented code",
)
ATTACHMENTS = ("a.txt", "/p/b c.py", "docs/Übersicht.md", "logs/2026-02-20.log", "x: y", "📎.png")


def random_message(rng: random.Random) -> LegacyMessage:
    """Make a message that the legacy form can carry without loss: parsing its text gives it back.

    Left out is what that form loses: white space at either end, carriage returns, an attachments
    section inside the body, an empty subject or body where the rest would be mistaken for it.
    """

    def phrase(most_words: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, most_words)))

    def value(depth: int = 2) -> Any:
        scalars = (phrase(12), rng.randint(-9, 10**12), rng.random() * 1e6, True, False, None)
        if depth == 0 or rng.random() < 0.7:
            return rng.choice(scalars)
        if rng.random() < 0.5:
            return [value(depth - 1) for _ in range(rng.randint(0, 3))]
        return mapping(depth - 1)

    def mapping(depth: int) -> Row:
        return {phrase(2): value(depth) for _ in range(rng.randint(0, 3))}

    def paragraph() -> str:
        return rng.choice(PARAGRAPHS) if rng.random() < 0.3 else phrase(40)

    subject = phrase(8).strip() if rng.random() < 0.95 else ""
    body = "\n\n".join(paragraph() for _ in range(rng.randint(0, 6))).strip()
    if not subject and (not body or body.startswith("# ")):
        body = f"Without a subject. {body}".strip()
    created_at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10**7))
    if rng.random() < 0.9:
        created_at += timedelta(microseconds=rng.randrange(10**6))
    return LegacyMessage(
        id=new_id(created_at, f"{rng.getrandbits(32):08x}"),
        from_project=rng.choice(("/p/a", "/p/with space", "/p/größe")),
        from_agent=rng.choice(("pm", "qa", "no", "007")),
        to_project="/p/b",
        to_agent=rng.choice(("pm", "engineer", "research")),
        type=rng.choice(("task", "request", "notification", "reply")),
        priority=rng.choice(("low", "normal", "high", "urgent")),
        status=rng.choice(("unread", "read")),
        reply_to=rng.choice((None, None, None, "msg-20260101-000000-00000000")),
        created_at=created_at,
        metadata=mapping(2) if rng.random() < 0.5 else {},
        subject=subject,
        body=body,
        attachments=rng.sample(ATTACHMENTS, rng.randint(0, 3)) if body else [],
    )


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
