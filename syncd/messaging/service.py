"""Messages between projects: what one project sends, receives, reads and answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

from syncd.errors import ReplicaError, UsageError, reason_of
from syncd.messaging.database import MessagingDatabase
from syncd.messaging.delivery import Courier
from syncd.messaging.paths import resolve_project
from syncd.messaging.rows import PRIORITIES, instant_of, rank
from syncd.messaging.session import Session
from syncd.messaging.tasks import TaskInjector
from syncd.names import database_of, session_registry

REGISTRY_TIMEOUT_S = 1.0
"""How long the session registry is waited for: no message depends on it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as a project sees it. ``created_at`` always has an offset.

    Where a row's date cannot be read, ``created_at`` is the time in the id, else 1970.
    """

    id: str
    from_project: str
    from_agent: str
    to_project: str
    to_agent: str
    type: str
    priority: str
    created_at: datetime
    status: str = "unread"
    reply_to: str | None = None
    subject: str = ""
    body: str = ""
    attachments: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Message:
        """Make a message of what `MessagingDatabase` returns; any row can become one."""
        values = {one.name: row[one.name] for one in fields(cls)}
        values["created_at"] = instant_of(row["created_at"], row["id"])
        values["attachments"] = [str(item) for item in row["attachments"]]
        return cls(**values)


class MessageService:
    """The messages of the project at ``project_root``, which is made if it does not exist.

    Its rows stand in ``.claude-mpm/messaging.db`` below it, or in ``messaging_db_path``; its
    session in ``~/.claude-mpm/session-registry.db``, or in ``registry_path``. The session ends
    with `close`, when the service is no longer referenced, or at exit; while the service is used it
    has a heartbeat. A registry that cannot be used is logged and harms no message.

    Safe to use from several threads; after a fork, the child has a session of its own. All methods
    raise what `MessagingDatabase` raises.
    """

    def __init__(
        self,
        project_root: Path | str,
        registry_path: Path | str | None = None,
        messaging_db_path: Path | str | None = None,
    ) -> None:
        try:
            Path(project_root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ReplicaError(
                f"the project folder {project_root} cannot be made: {reason_of(error)}",
                hint="Check its name and who may write there.",
            ) from error
        self.project_root = resolve_project(project_root)
        self.messaging_db = MessagingDatabase(messaging_db_path or database_of(self.project_root))
        self.global_registry = MessagingDatabase(
            registry_path or session_registry(),
            busy_timeout_s=REGISTRY_TIMEOUT_S,
            lazily=True,
        )
        self._courier = Courier(self.project_root, self.messaging_db)
        self._session = Session(self.global_registry, self.project_root)

    @property
    def session_id(self) -> str:
        """The id of this process's session in the registry."""
        return self._session.id

    def __enter__(self) -> MessageService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session and close the databases. Safe to repeat; other calls fail afterwards."""
        self._session.end()
        self._courier.close()
        self.messaging_db.close()
        self.global_registry.close()

    def send_message(
        self,
        to_project: Path | str,
        to_agent: str,
        message_type: str,
        subject: str,
        body: str,
        priority: str = "normal",
        from_agent: str = "pm",
        attachments: Sequence[str | Path] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Message:
        """Send a message to a project and return it as it stands here.

        It is committed to the recipient's database first (``unread``) and to this one second
        (``sent``), so that a crash never leaves a message that seems sent but did not arrive;
        `syncd.messaging.delivery` says why, and what other failures leave.

        To oneself there is one ``unread`` row. Raises `ReplicaError`, and creates nothing, when the
        recipient's folder does not exist.
        """
        if isinstance(attachments, str):
            raise UsageError("attachments are a list, not one text", hint=f"[{attachments!r}]")
        self._keep_session()
        content = {
            "to_agent": to_agent,
            "type": message_type,
            "subject": subject,
            "body": body,
            "priority": priority,
            "from_agent": from_agent,
            "attachments": [str(item) for item in attachments or ()],
            "metadata": dict(metadata or {}),
            "reply_to": None,
        }
        return Message.from_row(self._courier.send(resolve_project(to_project), content))

    def list_messages(self, status: str | None = None, agent: str | None = None) -> list[Message]:
        """Return all that this project received, the newest first; what it sent is left out."""
        self._keep_session()
        if agent is None:
            rows = self.messaging_db.list_messages(status, None, received=True)
        else:
            rows = self.messaging_db.get_messages_for_agent(agent, status, None, received=True)
        # The database sorts by text; the order in time differs where offsets do.
        return sorted(map(Message.from_row, rows), key=attrgetter("created_at"), reverse=True)

    def read_message(self, message_id: str) -> Message | None:
        """Return a message, None if there is none; one that was unread is read from now on."""
        self._keep_session()
        self.messaging_db.update_message_status(message_id, "read", only_from="unread")
        row = self.messaging_db.get_message(message_id)
        return Message.from_row(row) if row else None

    def archive_message(self, message_id: str) -> bool:
        """Archive a message and say whether this project received such a one."""
        self._keep_session()
        row = self.messaging_db.get_message(message_id)
        if row is None or row["status"] == "sent":
            return False
        return self.messaging_db.update_message_status(message_id, "archived")

    def get_unread_count(self, agent: str | None = None) -> int:
        """Return how many messages are unread, to one agent or to all."""
        self._keep_session()
        return self.messaging_db.get_unread_count(agent)

    def reply_to_message(
        self, original_message_id: str, subject: str, body: str, from_agent: str = "pm"
    ) -> Message | None:
        """Answer a message and return the reply; None if there is no such message.

        The subject is used as given, with ``Re: `` in front where it lacks it; an empty one takes
        the original's. The reply goes to the sender, or once more to the recipient of a message
        that this project sent; the original counts as read when the reply is on its way.
        """
        self._keep_session()
        row = self.messaging_db.get_message(original_message_id)
        if row is None:
            return None
        side = "to" if row["status"] == "sent" else "from"
        project = row[f"{side}_project"]
        # A relative path in a row would depend on the folder that this program was started in.
        if not os.path.isabs(project):
            raise ReplicaError(
                f"The message {original_message_id} does not say which project to reply to:"
                f" {project!r} is no absolute path.",
                hint="Send a message to the project's path instead.",
            )
        wanted = subject if subject.strip() else row["subject"]
        content = {
            "to_agent": row[f"{side}_agent"],
            "type": "reply",
            "subject": wanted if wanted.lower().startswith("re:") else f"Re: {wanted}",
            "body": body,
            "priority": "normal",
            "from_agent": from_agent,
            "reply_to": original_message_id,
            "attachments": [],
            "metadata": {"reply_to": original_message_id},
        }
        reply = Message.from_row(self._courier.send(resolve_project(project), content))
        self.messaging_db.update_message_status(original_message_id, "read", only_from="unread")
        return reply

    def get_high_priority_messages(self) -> list[Message]:
        """Return the unread messages that are urgent or high, urgent ones first."""
        self._keep_session()
        rows = self.messaging_db.get_high_priority_messages(None, None)
        return list(map(Message.from_row, rows))

    def inject_tasks(
        self, min_priority: str = "high", *, injector: TaskInjector | None = None
    ) -> list[Path]:
        """Make tasks of the unread messages of at least that priority; return the new files.

        A message becomes a task once, however many programs make tasks at the same time: a task
        that stands there already, because a crash came between writing and noting it, is left as it
        is and noted. Raises `UsageError` for a priority that there is not, and `BusyError` or
        `ReplicaError` midway: what was made until then stands, and the next call makes the rest.
        """
        if min_priority not in PRIORITIES:
            raise UsageError(
                f"there is no priority {min_priority!r}", hint=f"Use {', '.join(PRIORITIES)}."
            )
        self._keep_session()
        injector = injector or TaskInjector()
        written = []
        for row in self.messaging_db.list_messages("unread", None):
            key = row["id"]
            if row["task_injected"] or rank(row["priority"]) < rank(min_priority):
                continue
            with injector.turn():
                now = self.messaging_db.get_message(key)
                if now is not None and (now["task_injected"] or now["status"] != "unread"):
                    continue  # somebody else was faster, or has read it meanwhile
                if not injector.task_exists(key):
                    names = ("from_project", "subject", "body", "priority", "from_agent")
                    task = {name: row[name] for name in names}
                    written.append(
                        injector.inject_message_task(key, message_type=row["type"], **task)
                    )
                self.messaging_db.mark_task_injected(key)
        return written

    def cleanup_old_messages(self, days_to_keep: int = 30) -> int:
        """Delete archived messages made more than that many days ago; return how many."""
        if days_to_keep < 0:
            raise UsageError(f"{days_to_keep} days cannot be kept", hint="Use 0 or more.")
        self._keep_session()
        try:
            oldest = datetime.now(UTC) - timedelta(days=days_to_keep)
        except OverflowError:
            return 0
        return self.messaging_db.delete_archived_messages(oldest)

    def _keep_session(self) -> None:
        if self._session.keep():
            # Another thread of the parent may have held a lock of it; it does not exist here.
            self._courier = Courier(self.project_root, self.messaging_db)
