"""Messages as tasks: one JSON file each in the folder that the task list reads.

Any text may stand in a message's id, so the file's name is made from it in such a way that it can
only name a file directly in that folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shlex
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from syncd.errors import BusyError, ReplicaError, reason_of
from syncd.messaging.paths import full_path
from syncd.messaging.rows import now_text
from syncd.names import user_home
from syncd.patience import lock

PRIORITY_MAP = {"urgent": "high", "high": "high", "normal": "medium", "low": "low"}
"""A task's priority for each of a message's; any other word becomes medium."""

SOURCE = "mpm-messaging"

_LONGEST_ID = 180
"""In characters of the encoded id: with what is added, a name stays below 255 bytes."""

_TURN_S, _LOOK_S = 10.0, 0.001

_LARGEST_TASK_BYTES = 16 * 1024 * 1024

_log = logging.getLogger("syncd.messaging")


class TaskInjector:
    """Writes messages into the task folder ``tasks_dir`` (``~/.claude/tasks``), made if missing.

    All methods raise `ReplicaError` when the folder cannot be used.
    """

    def __init__(self, tasks_dir: Path | str | None = None) -> None:
        chosen = user_home() / ".claude" / "tasks" if tasks_dir is None else tasks_dir
        self.tasks_dir = full_path(chosen)
        with _explained(self.tasks_dir):
            self.tasks_dir.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Keep other programs from taking a turn in the task folder meanwhile.

        Raises `BusyError` where one takes longer than 10 s.
        """
        with _explained(self.tasks_dir):
            fd = os.open(self.tasks_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _explained(self.tasks_dir):
                is_locked = lock(fd, _TURN_S, _LOOK_S)
            if not is_locked:
                raise BusyError(
                    f"another program is making tasks in {self.tasks_dir}",
                    hint="Try again when it has finished.",
                )
            yield
        finally:
            os.close(fd)

    def inject_message_task(
        self,
        message_id: str,
        from_project: str,
        subject: str,
        body: str,
        priority: str = "normal",
        from_agent: str = "pm",
        message_type: str = "notification",
    ) -> Path:
        """Write the task of a message and return its file.

        A reader sees the whole file or none, also after a crash. A task that stands there already
        is replaced, with the state that it had: see `task_exists`.
        """
        project_name = Path(from_project).name or from_project
        shell_id = shlex.quote(message_id)
        task = {
            "id": f"msg-{message_id}",
            "title": f"Message from {project_name}: {subject}",
            "description": f"From: {from_agent} in {from_project}\n"
            f"Type: {message_type}\n"
            f"Priority: {priority}\n"
            f"Subject: {subject}\n"
            f"\n{body}\n\n"
            f"Read it: syncd message read {shell_id}\n"
            f"Reply when done: syncd message reply {shell_id}\n",
            "status": "pending",
            "priority": PRIORITY_MAP.get(priority, "medium"),
            "created_at": now_text(),
            "metadata": {
                "source": SOURCE,
                "message_id": message_id,
                "from_project": from_project,
                "message_type": message_type,
                "auto_generated": True,
            },
        }
        path = self.task_path(message_id)
        with _explained(path):
            _write_whole(path, json.dumps(task, indent=2).encode())
        return path

    def task_path(self, message_id: str) -> Path:
        """Return where the task of that message stands: always directly in the task folder.

        Whatever is not ``[A-Za-z0-9._-]`` is percent-encoded; an over-long id is cut, and told
        apart by its digest.
        """
        name = quote(message_id, safe="", errors="surrogatepass").replace("~", "%7E")
        if len(name) > _LONGEST_ID:
            digest = hashlib.sha256(name.encode()).hexdigest()
            name = f"{name[: _LONGEST_ID - len(digest) - 1]}-{digest}"
        return self.tasks_dir / f"msg-{name}.json"

    def task_exists(self, message_id: str) -> bool:
        """Say whether the message has a task, whatever its state."""
        return os.path.lexists(self.task_path(message_id))

    def remove_task(self, message_id: str) -> bool:
        """Remove the task of a message and say whether there was one."""
        return _remove(self.task_path(message_id))

    def cleanup_completed_tasks(self) -> int:
        """Remove the tasks of messages that are ``completed`` or ``done``; return how many."""
        removed = 0
        for path, task in self._tasks():
            if str(task.get("status", "")).lower() in ("completed", "done"):
                removed += _remove(path)
        return removed

    def list_message_tasks(self) -> list[dict[str, Any]]:
        """Return the tasks of messages, in the order of their file names.

        A file that cannot be read as a task is left out, with a warning in the log.
        """
        return [task for _, task in self._tasks()]

    def _tasks(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        with _explained(self.tasks_dir):
            names = sorted(os.listdir(self.tasks_dir))
        for name in names:
            if name.startswith("msg-") and name.endswith(".json"):
                path = self.tasks_dir / name
                if (task := _read(path)) is not None:
                    yield path, task


def _write_whole(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".msg-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    with contextlib.suppress(OSError):  # some systems do not open folders; the file is there
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> dict[str, Any] | None:
    """Read a task; None for anything else that may have such a name: a pipe would block."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_TASK_BYTES:
            raise ValueError("it is no file, or too large a one")
        task = json.loads(path.read_bytes())
        if not isinstance(task, dict):
            raise ValueError("it holds no JSON object")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("%s is no task: %s", path, error)
        return None
    return task


def _remove(path: Path) -> bool:
    with _explained(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
    return True


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReplicaError(
            f"the task folder cannot be used: {path}: {reason_of(error)}",
            hint="Check who may write there, and that the disk has room.",
        ) from error
