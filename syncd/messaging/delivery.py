"""From one project's database into another's: two rows, one message.

No transaction spans two databases in WAL mode, so a crash between the two commits is possible,
and their order decides what it leaves. The recipient's ``unread`` row comes first, the sender's
``sent`` row second: a crash leaves at worst a message that arrived and of which the sender has no
copy, never a ``sent`` row that nobody received. The other order would need a status of its own for
"not yet", which the contract's other readers do not know, and a program to finish the work.
`Courier.send` returns when both rows are committed, so a sender that does not see it return knows
that it does not know.

Failures short of a crash leave both rows or neither. That the sender's database can be written is
tried before anything is delivered; if its row fails nevertheless, the delivered one is taken back,
unless somebody read it by then. The error says so in that case.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from syncd.errors import ReplicaError, StaleReplica, SyncdError, reason_of
from syncd.messaging.database import MessagingDatabase
from syncd.messaging.rows import as_stored
from syncd.names import database_of

_OPEN_RECIPIENTS = 16
_ID_ATTEMPTS = 5


class Courier:
    """Sends the messages of the project ``sender``, whose own database is ``own``.

    The databases of the last few recipients stay open. Safe to use from several threads, but not
    in a forked child, which makes a courier of its own.
    """

    def __init__(self, sender: Path, own: MessagingDatabase) -> None:
        self._sender = sender
        self._own = own
        self._recipients: OrderedDict[Path, MessagingDatabase] = OrderedDict()
        self._lock = threading.Lock()

    def send(self, project: Path, content: Mapping[str, Any]) -> dict[str, Any]:
        """Send ``content`` to an existing project and return the message as it stands here.

        To oneself there is one ``unread`` row. The id is ``msg-``, the second in UTC and eight
        random hexadecimal digits; one that is taken is drawn again. Raises `ReplicaError` when
        nothing can be delivered there, and whatever `MessagingDatabase.insert_message` raises.
        """
        recipient = self._recipient(project)
        for _ in range(_ID_ATTEMPTS):
            now = datetime.now(UTC)
            message = as_stored(
                {
                    **content,
                    "id": f"msg-{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}",
                    "from_project": str(self._sender),
                    "to_project": str(project),
                    "created_at": now.isoformat(),
                    "status": "unread",
                }
            )
            try:
                if recipient is self._own:
                    recipient.insert_message(message)
                else:
                    self._deliver(recipient, message)
                    message["status"] = "sent"
            except sqlite3.IntegrityError as error:
                if error.sqlite_errorname == "SQLITE_CONSTRAINT_PRIMARYKEY":
                    continue
                raise ReplicaError(
                    f"a database refused the message to {project}: {error}",
                    hint="Look for a trigger or a constraint that is not the contract's.",
                ) from error
            return message
        raise ReplicaError(
            f"no free id was found for a message to {project}",
            hint="Send it again; if that fails too, look at the messages in both databases.",
        )

    def close(self) -> None:
        """Close the recipients' databases."""
        with self._lock:
            recipients = list(self._recipients.values())
            self._recipients.clear()
        for database in recipients:
            database.close()

    def _deliver(self, recipient: MessagingDatabase, message: Mapping[str, Any]) -> None:
        self._own.check_writable()
        recipient.insert_message(message)
        try:
            self._own.insert_message({**message, "status": "sent"})
        except (SyncdError, sqlite3.Error) as error:
            if _taken_back(recipient, message["id"], error):
                raise
            raise ReplicaError(
                f"The message {message['id']} was delivered to {message['to_project']}, but this"
                f" project may have no copy of it: {error}",
                hint="Do not send it again.",
            ) from error

    def _recipient(self, project: Path) -> MessagingDatabase:
        path = database_of(project)
        if project == self._sender or _is_same_file(path, self._own.db_path):
            return self._own
        with self._lock:
            database = self._recipients.pop(path, None)
        if database is None or not path.exists():
            try:
                # Not with its parents: a project that vanished by now is not made again.
                path.parent.mkdir(exist_ok=True)
            except OSError as error:
                raise ReplicaError(
                    f"nothing can be delivered to {project}: {reason_of(error)}",
                    hint="Check that the project is still there and who may write to it.",
                ) from error
        if database is None:
            database = MessagingDatabase(path)
        with self._lock:
            self._recipients[path] = database
            # One that drops out is not closed here, since another thread may be using it: it
            # closes when nobody refers to it any more.
            while len(self._recipients) > _OPEN_RECIPIENTS:
                self._recipients.popitem(last=False)
        return database


def _is_same_file(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _taken_back(recipient: MessagingDatabase, message_id: str, cause: Exception) -> bool:
    """Take a delivered message back after ``cause`` kept the sender's row from being written.

    Not where the sender's row may have been committed to a file that was replaced just then: if
    that row is there, the message must be.
    """
    if isinstance(cause, StaleReplica):
        return False
    try:
        return recipient.delete_message(message_id, only_from="unread")
    except SyncdError:
        return False
