"""A project as it stands on the disk: its two sides, read without syncd's help but for parsing."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from syncd.core.markdown import Place, parse
from syncd.core.message import FOLDERS, Message, mailbox_at, message_from_row
from syncd.database.tables import COLUMNS
from tests.clients import NewClient


def project(folder: Path) -> Path:
    for name in ("inbox/.archive", "outbox"):
        (folder / ".claude-mpm" / name).mkdir(parents=True)
    return folder


def files_of(folder: Path) -> dict[str, tuple[str, Message]]:
    """Return path and message of each file, by id; twins left out."""
    found: dict[str, tuple[str, Message]] = {}
    base = folder / ".claude-mpm"
    for name in FOLDERS:
        for path in sorted((base / name).glob("*.md")) if (base / name).is_dir() else []:
            relative = str(path.relative_to(base))
            place = Place(relative, mailbox_at(relative), str(folder), "2026-01-01T00:00:00")
            with suppress(FileNotFoundError):  # of one that is just being deleted
                message = parse(path.read_bytes(), place).message
                found.setdefault(message.id, (relative, message))
    return found


def rows_of(folder: Path) -> dict[str, Message]:
    with closing(sqlite3.connect(folder / ".claude-mpm" / "messaging.db")) as opened:
        rows = opened.execute(f"SELECT {', '.join(COLUMNS)} FROM messages").fetchall()
    return {row[0]: message_from_row(row) for row in rows}


def both_equal(folder: Path) -> bool:
    files = {key: message[1:] for key, (_, message) in files_of(folder).items()}
    return files == {key: message[1:] for key, message in rows_of(folder).items()}


def fingerprint_of(folder: Path) -> tuple[object, ...]:
    base = folder / ".claude-mpm"
    files = sorted(
        (str(path), path.stat().st_mtime_ns, path.stat().st_ino) for path in base.rglob("*.md")
    )
    with closing(sqlite3.connect(base / "messaging.db")) as opened:
        return (files, "\n".join(opened.iterdump()))


def body_in_sql(folder: Path, key: str) -> str | None:
    row = NewClient(folder).rows().get(key)
    return row["body"] if row else None


def rebuild(where: Path, *statements: str) -> None:
    """Run statements on a project's database in one transaction, as a program that rebuilds it."""
    with closing(sqlite3.connect(where / ".claude-mpm/messaging.db", timeout=1.0)) as opened:
        opened.executescript(f"BEGIN IMMEDIATE; {'; '.join(statements)}; COMMIT")
