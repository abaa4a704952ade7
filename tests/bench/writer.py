"""A neighbour that writes small transactions all the while: ``python -m tests.bench.writer DB``.

It is as the new clients are: a connection for each call, WAL, and a wait of 1 s at most.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

TIMEOUT_S = 1.0
PAUSE_S = 0.005


def write(path: str, number: int) -> tuple[float, float]:
    """Keep a session's heartbeat, or send a message for every tenth; return wait and call, in s."""
    now = datetime.now(UTC).isoformat()
    name = f"neighbour-{os.getpid()}"
    began = time.perf_counter()
    with closing(sqlite3.connect(path, timeout=TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        asked = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        waited_s = time.perf_counter() - asked
        if number % 10:
            connection.execute(
                "INSERT OR REPLACE INTO sessions (session_id, project_path, project_name,"
                " started_at, last_active) VALUES (?, '/p/a', 'a', ?, ?)",
                (name, now, now),
            )
        else:
            connection.execute(
                "INSERT INTO messages (id, from_project, to_project, to_agent, subject, body,"
                " created_at) VALUES (?, '/p/a', '/p/b', 'neighbour', 'Hello', 'Words', ?)",
                (f"{name}-{number}", now),
            )
        connection.execute("COMMIT")
    return waited_s, time.perf_counter() - began


def main(path: str) -> None:
    """Write until the standard input ends, then print waits in ms, and errors."""
    stopped = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        stopped.set()

    threading.Thread(target=listen, daemon=True).start()
    waits, calls, errors = [], [], []
    print("ready", flush=True)
    number = 0
    while not stopped.wait(PAUSE_S):
        number += 1
        try:
            waited_s, called_s = write(path, number)
        except sqlite3.Error as error:
            errors.append(str(error))
        else:
            waits.append(waited_s * 1_000)
            calls.append(called_s * 1_000)
    print(json.dumps({"waits": waits, "calls": calls, "errors": errors}))


if __name__ == "__main__":
    main(sys.argv[1])
