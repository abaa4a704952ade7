"""A project on disk with both neighbours and the engine in hand, and what tests ask of it."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from syncd import config
from syncd.config import Config
from syncd.core.markdown import Place, parse
from syncd.core.message import FIELDS, FOLDERS, Message, mailbox_at, message_from_row
from syncd.cycle.orders import Orders
from syncd.cycle.project import run_pass
from syncd.cycle.report import Report
from syncd.names import DATABASE
from syncd.retire.retire import Retiring, retire
from tests.clients import NewClient, OldClient, Row

ONE, TWO, THREE, ARCHIVED = (f"msg-20260220-{number:06d}-00000000" for number in (1, 2, 3, 4))
SENT = "msg-20260220-000005-00000000"
"""What the fixture `synced` has in the inbox, the archive and the outbox."""
AT_ONE = f"inbox/{ONE}.md"

BY_HAND = """\
\ufeff---
# from the stand-up
id: by-hand
from_agent: "pm"   # me
to_agent: 'engineer'
owner: somebody
type: task
from_project: /p/a
to_project: /p/b
created_at: 2026-02-20T20:15:00Z
priority: high
---
# A title\r
\r
Words.\r


"""
NO_DATE = BY_HAND.replace("created_at: 2026-02-20T20:15:00Z\n", "")

ODD_IDS = [
    *("../../escape", "/etc/escape", "..", ".", "", " ", ".hidden", "a/b", "a\\b", "-rf", "~"),
    *("nul", "CON", "com1.txt", "a\0b", "a\nb", "tab\t", "x" * 5000, "📬" * 100, "null", "0123"),
    *("a.md", "%2e%2e", "é", "e\u0301", "MSG-1", "msg-1", "no", "- a", "#", "'", '"', "a: b"),
    *(".syncd-1-1-abc.tmp", "\x7f", "\u202e", "a" * 199 + "é"),
]
"""Ids that lead elsewhere, that no file can be called by, or that YAML reads as no text."""

Files = dict[str, tuple[bytes, int]]
Tables = dict[str, list[tuple[Any, ...]]]


def settings(**flags: object) -> Config:
    """Return settings under which nothing waits, whatever the user's own ones are."""
    return config.load(
        flags={"gone_s": 0.0, "retry_s": 0.0} | flags,
        environment={"XDG_CONFIG_HOME": "/nonexistent"},
    )


class Project:
    """One project: its two replicas, its neighbours, and syncd.

    Paths of files are those that syncd uses: below ``.claude-mpm``, as ``inbox/x.md``.
    """

    def __init__(self, path: Path, **flags: object) -> None:
        self.path = path
        self.base = path / ".claude-mpm"
        self.base.mkdir(parents=True, exist_ok=True)
        self.other = path.parent / f"{path.name}-other"
        self.old = OldClient(path)
        self.new = NewClient(path)
        self.config = settings(**flags)

    # syncd

    def cycle(self, **orders: Any) -> Report:
        """Run one cycle."""
        return run_pass(self.path, self.config, Orders(**orders))

    def sync(self, **orders: Any) -> Report:
        """Run one cycle that is expected to end without error and without a halt."""
        report = self.cycle(**orders)
        assert (None, None) == (report.error, report.halt)
        return report

    def scoped(self, *paths: str, gone: Iterable[str] = (), **orders: Any) -> Report:
        """Run a cycle over these paths and the feed, as the agent does.

        ``gone`` are paths, and rows as ``messaging.db#id``, that were gone at an earlier look.
        """
        gone = frozenset(gone)
        files = frozenset(path for path in gone if not path.startswith(DATABASE))
        return self.cycle(paths=files | set(paths), gone=gone, wait=False, **orders)

    def heed(self, *paths: str) -> Report:
        """Run scoped cycles as the agent does: what vanished is looked at a second time."""
        report = self.scoped(*paths)
        looks = 0
        while report.vanished and report.halt is None and report.error is None:
            report = self.scoped(gone=report.vanished)
            assert (looks := looks + 1) < 9, f"looked at again and again: {report.vanished}"
        return report

    def retire(self) -> Retiring:
        """Retire the project, which is expected to be possible."""
        done = retire(self.path, self.config)
        assert [] == done.reasons
        return done

    @property
    def archive(self) -> Path:
        """The archive that the project was retired into last."""
        return max(self.base.glob("*.tar.xz"), key=lambda path: (len(path.name), path.name))

    # The files

    def file(self, path: str) -> Path:
        return self.base / path

    def text(self, path: str) -> str:
        return self.file(path).read_bytes().decode()

    def write(self, path: str, content: str | bytes) -> Path:
        """Write a file, making its folder."""
        target = self.file(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return target

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that stands in a file exactly once, as an editor does."""
        text = self.text(path)
        assert 1 == text.count(old), f"{old!r} stands {text.count(old)} times in {path}"
        self.write(path, text.replace(old, new))

    def move(self, path: str, to: str) -> None:
        self.file(to).parent.mkdir(parents=True, exist_ok=True)
        self.file(path).rename(self.file(to))

    def receive(self, number: int = 1, subject: str = "", body: str = "", **options: Any) -> str:
        """Put a message from another project into the inbox, as the old client does; return its id.

        Ids and times are the same on every run.
        """
        key = f"msg-20260220-{number:06d}-00000000"
        written = {"id": key, "created_at": moment(number)} | options
        OldClient(self.other).send(
            self.path, subject or f"Subject {number}", body or f"Body {number}.", **written
        )
        return str(written["id"])

    def names(self, folder: str) -> list[str]:
        """List the messages of a mailbox folder."""
        where = self.file(folder)
        return sorted(path.name for path in where.glob("*.md")) if where.is_dir() else []

    def files(self) -> Files:
        """Return bytes and mtime of every file, syncd's and SQLite's own ones left out."""
        found = {}
        for path in sorted(self.base.rglob("*")):
            name = str(path.relative_to(self.base))
            if path.is_file() and not path.is_symlink() and not name.startswith("messaging.db"):
                found[name] = (path.read_bytes(), path.stat().st_mtime_ns)
        return found

    def listing(self) -> list[str]:
        """Return the path of everything that stands in the project, whatever it is."""
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*"))

    def messages_in_files(self) -> dict[str, Message]:
        """Parse every file, of which all have to be messages; the first of an id counts."""
        found: dict[str, Message] = {}
        for folder in FOLDERS:
            for name in self.names(folder):
                path = f"{folder}/{name}"
                message = self.message_at(path)
                found.setdefault(message.id, message)
        return found

    def message_at(self, path: str) -> Message:
        """Parse a file with its own eyes: as on a first look, without a baseline."""
        target = self.file(path)
        seconds = target.stat().st_mtime_ns // 1_000_000_000
        written_at = datetime.fromtimestamp(seconds, UTC).isoformat()
        place = Place(path, mailbox_at(path), str(self.path), written_at)
        return parse(target.read_bytes(), place).message

    # The rows

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Open the database as a foreign program would; commit at the end."""
        with closing(sqlite3.connect(self.new.database, timeout=1.0)) as opened, opened:
            yield opened

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement as a foreign program would."""
        with self.connection() as connection:
            return connection.execute(statement, values).fetchall()

    def rows(self) -> dict[str, Row]:
        """Return the raw rows by id; none where there is no database."""
        found = self.new.rows() if self.new.database.exists() else {}
        return {key: {name.lower(): row[name] for name in row} for key, row in found.items()}

    def row(self, message_id: str) -> Row:
        return self.rows()[message_id]

    def messages_in_rows(self) -> dict[str, Message]:
        columns = [{"type": "message_type", "reply_to": "replied_to"}.get(n, n) for n in FIELDS]
        return {
            key: message_from_row([key, *(row[column] for column in columns)])
            for key, row in self.rows().items()
        }

    def tables(self) -> Tables:
        """Return every row of every table of the database, ours included."""
        return dump(self.new.database)

    def history(self, message_id: str) -> list[Row]:
        """Return what the history keeps of a message, oldest first."""
        with self.connection() as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute(
                "SELECT * FROM syncd_history WHERE id = ? ORDER BY version", (message_id,)
            )
            return [dict(row) for row in found]

    def kept_texts(self, message_id: str) -> str:
        """Return all that the history keeps of a message as one text to look into."""
        return "\n".join(
            (row["data"] or b"").decode("utf-8", "replace")
            + "\n".join(str(row[name]) for name in ("subject", "body", "metadata", "attachments"))
            for row in self.history(message_id)
        )


def a_row(project: Project, message_id: str, **columns: object) -> Row:
    """Return a row as new clients insert it."""
    row: Row = {
        "id": message_id,
        "from_project": str(project.other),
        "from_agent": "pm",
        "to_project": str(project.path),
        "to_agent": "pm",
        "message_type": "task",
        "priority": "normal",
        "subject": "By SQL",
        "body": "From a row.",
        "status": "unread",
        "created_at": "2026-02-20T00:00:00+00:00",
    }
    return row | columns


def insert(project: Project, row: Row) -> None:
    """Insert a row, also where there is no database yet."""
    if not project.new.database.exists():
        project.new.list()
    marks = ", ".join("?" * len(row))
    project.sql(f"INSERT INTO messages ({', '.join(row)}) VALUES ({marks})", *row.values())


def path_of(project: Project, message_id: str) -> str:
    """Return the path of the one file of a message."""
    found = [
        f"{folder}/{name}"
        for folder in FOLDERS
        for name in project.names(folder)
        if project.message_at(f"{folder}/{name}").id == message_id
    ]
    assert 1 == len(found), found
    return found[0]


def execute(path: Path, statement: str, *values: object) -> None:
    """Run a statement as another program would."""
    with closing(sqlite3.connect(path, timeout=1.0)) as connection, connection:
        connection.execute(statement, values)


def drop_ours(project: Project, *, triggers_only: bool = False) -> None:
    """Remove what syncd put into the database, as a tool that rebuilds it may."""
    sql = "SELECT name FROM sqlite_master WHERE name LIKE 'syncd%' AND type = ?"
    for kind in ("trigger",) if triggers_only else ("trigger", "table"):
        for (name,) in project.sql(sql, kind):
            project.sql(f"DROP {kind} {name}")


def everything(project: Project) -> dict[str, tuple[object, ...]]:
    """Return all that stands in the project, but for SQLite's own files beside the database."""
    found: dict[str, tuple[object, ...]] = {}
    for path in project.path.rglob("*"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and not path.name.startswith("messaging.db-"):
            found[str(path)] = (path.read_bytes(), status.st_mtime_ns, status.st_ino)
        elif stat.S_ISDIR(status.st_mode):
            found[str(path)] = (status.st_ino, status.st_mode)
    return found


def moment(number: int) -> datetime:
    """Return the time that goes with a message's number."""
    return datetime(2026, 2, 20, 0, 0, number % 60, 123456, tzinfo=UTC)


def dump(database: Path) -> Tables:
    """Return every row of every table of a database."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        tables = [name.decode() for (name,) in names]
        return {
            name: sorted(connection.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)
            for name in sorted(tables)
        }


def assert_in_step(project: Project) -> None:
    """Assert that every file reads as its row, and that neither side has a message more."""
    assert project.messages_in_rows() == project.messages_in_files()


@contextmanager
def nothing_written(project: Project) -> Iterator[None]:
    """Assert that no file and no table changes, and that nothing at all is committed."""
    with closing(sqlite3.connect(project.new.database)) as watch:
        before = project.files(), project.tables(), _version(watch)
        yield
        after = project.files(), project.tables(), _version(watch)
    assert before[0] == after[0]
    tables = {*before[1], *after[1]}
    pairs = {name: (before[1].get(name), after[1].get(name)) for name in tables}
    assert {} == {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    assert before[2] == after[2]


def _version(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return found


def a_day_later(project: Project) -> None:
    """Have it be a day ago that something was found to be past its time."""
    project.sql(
        "UPDATE syncd_state SET value = CAST(value - 90000.0 AS TEXT) WHERE key LIKE '%_expired'"
    )


def assert_quiet(project: Project) -> None:
    """Assert that a further cycle, full or scoped, writes nothing on either side (G10)."""
    with nothing_written(project):
        assert 0 == project.sync().counts.changes()
        paths = [
            path
            for path in project.files()
            if path.rpartition("/")[0] in FOLDERS and path.endswith(".md")
        ]
        report = project.scoped(*paths)
        assert (None, None, 0) == (report.error, report.halt, report.counts.changes())
