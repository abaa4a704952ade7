"""The floors: the least work that could do the same, each as a process with no syncd in it.

``python -m tests.bench.floors NAME ARGUMENT…``. One that ends prints one JSON object; one that
stays prints ``ready``, ends with its standard input, and prints the object then.
"""

from __future__ import annotations

import ctypes
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.bench.corpus import FOLDERS

Answer = dict[str, Any]

_SYNCED_TOGETHER = 250
_OFTEN_S, _SOON_S = 0.005, 0.0001
_PATIENCE_S, _LATER_S = 2.0, 0.001
"""How long the watcher of the log looks how often, at first and then."""


def _files(project: Path) -> list[str]:
    found = []
    for folder in FOLDERS:
        with os.scandir(project / ".claude-mpm" / folder) as entries:
            found += [entry.path for entry in entries if entry.name.endswith(".md")]
    return found


def connect(path: str) -> sqlite3.Connection:
    """Open a database with the contract's tables, in WAL, synced at each commit."""
    from tests.clients import SCHEMA

    connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.commit()
    return connection


def read_and_insert(project: str, source: str, target: str) -> Answer:
    """Read every file, and insert the rows of ``source`` into a new database at once."""
    with closing(sqlite3.connect(source)) as kept:
        rows = kept.execute("SELECT * FROM messages").fetchall()
    started = time.perf_counter()
    size = 0
    for path in _files(Path(project)):
        with open(path, "rb") as file:
            size += len(file.read())
    with closing(connect(target)) as connection, connection:
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO messages VALUES ({marks})", rows)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "files_bytes": size, "rows": len(rows)}


def scan(project: str) -> Answer:
    """List every mailbox and stat every file in it."""
    started = time.perf_counter()
    files = 0
    for folder in FOLDERS:
        with os.scandir(f"{project}/.claude-mpm/{folder}") as entries:
            for entry in entries:
                if entry.name.endswith(".md"):
                    entry.stat(follow_symlinks=False)
                    files += 1
    return {"seconds": time.perf_counter() - started, "files": files}


def make_files(source: str, project: str) -> Answer:
    """Write the inbox of ``source`` as new files, of which a reader sees nothing or all."""
    inbox = f"{project}/.claude-mpm/inbox"
    texts = {os.path.basename(path): Path(path).read_bytes() for path in _files(Path(source))}
    names = list(texts)
    started = time.perf_counter()
    for first in range(0, len(names), _SYNCED_TOGETHER):
        some = names[first : first + _SYNCED_TOGETHER]
        for name in some:
            with open(f"{inbox}/.{name}.tmp", "wb", 0) as file:
                file.write(texts[name])
        _sync(inbox)
        for name in some:
            os.rename(f"{inbox}/.{name}.tmp", f"{inbox}/{name}")
    _sync(inbox)
    return {"seconds": time.perf_counter() - started, "files": len(names)}


def _sync(folder: str) -> None:
    """Make all that was written to a folder's file system durable."""
    if not sys.platform.startswith("linux"):
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY)
    ctypes.CDLL(None).syncfs(descriptor)
    os.close(descriptor)


def file_to_row(project: str) -> Answer:
    """Watch the inbox; read each file that was written and insert one row, synced."""
    from watchdog.events import FileClosedEvent, FileSystemEvent

    connection = connect(f"{project}/.claude-mpm/messaging.db")
    done = 0

    def on_file(event: FileSystemEvent) -> None:
        nonlocal done
        path = os.fsdecode(event.src_path)
        with open(path, "rb") as file:
            text = file.read().decode()
        connection.execute(
            "INSERT INTO messages (id, from_project, to_project, subject, body, created_at)"
            " VALUES (?, '/p/a', '/p/b', '', ?, '2026-02-20T00:00:00+00:00')",
            (Path(path).stem, text),
        )
        connection.commit()
        done += 1

    _watch(f"{project}/.claude-mpm/inbox", FileClosedEvent, on_file)
    connection.close()
    return {"rows": done}


def row_to_file(project: str) -> Answer:
    """Watch the write-ahead log; write each new row to a temporary file, sync it, rename it."""
    from watchdog.events import FileModifiedEvent, FileSystemEvent

    folder = f"{project}/.claude-mpm"
    connection = connect(f"{folder}/messaging.db")
    (last,) = connection.execute("SELECT max(rowid) FROM messages").fetchone()
    rung, is_over = threading.Event(), threading.Event()
    done = 0

    def on_log(event: FileSystemEvent) -> None:
        if os.fsdecode(event.src_path).endswith("-wal"):
            rung.set()

    def write_files() -> None:
        nonlocal last, done
        while not is_over.is_set():
            rung.wait()
            # The log is written before the commit can be seen, by as long as its sync takes: look
            # until it can.
            now = heard = time.perf_counter()
            while now < heard + _PATIENCE_S and not is_over.is_set():
                if rung.is_set():
                    rung.clear()
                    heard = now
                rows = connection.execute(
                    "SELECT rowid, id, subject, body FROM messages WHERE rowid > ?", (last or 0,)
                ).fetchall()
                for number, key, subject, body in rows:
                    text = f"---\nid: {key}\n---\n\n# {subject}\n\n{body}"
                    _replace(f"{folder}/inbox/{key}.md", text.encode())
                    last, done = number, done + 1
                if rows:
                    break
                rung.wait(_SOON_S if now < heard + _OFTEN_S else _LATER_S)
                now = time.perf_counter()

    worker = threading.Thread(target=write_files)
    worker.start()
    _watch(folder, FileModifiedEvent, on_log)
    is_over.set()
    rung.set()
    worker.join()
    connection.close()
    return {"files": done}


def _replace(path: str, data: bytes) -> None:
    with open(f"{path}.tmp", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.tmp", path)


def _watch(folder: str, kind: type[Any], on_event: Callable[[Any], None]) -> None:
    """Call ``on_event`` for events of one kind directly in a folder until the input ends."""
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event: Any) -> None:
            on_event(event)

    observer = Observer()
    observer.schedule(Handler(), folder, event_filter=[kind])
    observer.start()
    print("ready", flush=True)
    sys.stdin.read()
    observer.stop()
    observer.join()


FLOORS: dict[str, Callable[..., Answer]] = {
    "read-and-insert": read_and_insert,
    "scan": scan,
    "make-files": make_files,
    "file-to-row": file_to_row,
    "row-to-file": row_to_file,
}

if __name__ == "__main__":
    print(json.dumps(FLOORS[sys.argv[1]](*sys.argv[2:])))
