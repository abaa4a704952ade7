"""The API of the new clients: messages between projects, over the contract's SQLite schema.

    service    MessageService, Message: what one project sends, receives, reads and answers
    delivery   one message into two databases, in the order that a crash cannot make a lie
    session    a running program's entry in the session registry
    tasks      TaskInjector: messages as files of a task list
    database   MessagingDatabase: the messages and sessions of one file
    pool       one connection per thread, sound after a fork and after the file was replaced
    connection one connection, ready to use, and SQLite's errors as sentences
    paths      one spelling for one project folder
    rows       PURE: rows and dicts, dates and JSON; lenient in reading, strict in writing
    schema     PURE: the contract's tables and indexes

Each module imports only from those below it, from what all of syncd shares (`errors`, `names`,
`message`, `patience`) and from the standard library; nothing here knows of the sync engine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncd.messaging.database import MessagingDatabase
    from syncd.messaging.service import Message, MessageService
    from syncd.messaging.tasks import PRIORITY_MAP, TaskInjector

__all__ = ["PRIORITY_MAP", "Message", "MessageService", "MessagingDatabase", "TaskInjector"]

_MODULES = {
    "MessagingDatabase": "database",
    "Message": "service",
    "MessageService": "service",
    "PRIORITY_MAP": "tasks",
    "TaskInjector": "tasks",
}


def __getattr__(name: str) -> Any:
    # The engine wants the schema only, and does not pay for the rest.
    if name in _MODULES:
        return getattr(import_module(f"syncd.messaging.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'syncd.messaging' has no attribute {name!r}")
