"""PURE: what a row of the contract's tables says, and how a caller's dict becomes one.

Reading is lenient, since any program may have written the row: what cannot be read is left out,
with a warning. Writing is strict, since one row with a bad date or bad JSON breaks the whole
listing of the contract's other clients.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from syncd.core.message import MAX_DEPTH, nests_deeper, time_in_id
from syncd.errors import MessageError
from syncd.messaging.schema import MESSAGE_COLUMNS

PRIORITIES = ("low", "normal", "high", "urgent")
"""The contract's priorities, the least first. Any other word counts as normal."""

_KEYS = (
    *("id", "from_project", "from_agent", "to_project", "to_agent", "type", "priority", "subject"),
    *("body", "status", "created_at", "reply_to", "metadata", "attachments"),
)
"""The keys of a message, in the order of what `row_values` returns."""

_COLUMNS = [{"type": "message_type", "reply_to": "replied_to"}.get(key, key) for key in _KEYS]

INSERT = f"INSERT INTO messages ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_KEYS))})"
"""Takes what `row_values` returns."""

SELECT = f"SELECT {', '.join(MESSAGE_COLUMNS)} FROM messages"
"""Gives what `message_dict` takes."""

_TEXTS = frozenset(MESSAGE_COLUMNS) - {
    *("read_at", "replied_to", "task_injected", "metadata", "attachments")
}
"""The columns that hold text; in a table that somebody rebuilt they may hold anything."""

_EPOCH = datetime.fromtimestamp(0, UTC)

_log = logging.getLogger("syncd.messaging")


def rank(priority: str) -> int:
    """Return how pressing a priority is; an unknown word is as pressing as normal."""
    return PRIORITIES.index(priority if priority in PRIORITIES else "normal")


def now_text() -> str:
    """Return the present time as all clients write it: ISO 8601 in UTC, with ``+00:00``."""
    return datetime.now(UTC).isoformat()


def parse_instant(text: object) -> datetime | None:
    """Return the time that ``text`` says, or None where it says none.

    Understood are what `datetime.fromisoformat` takes (UTC where no offset is given) and whole
    seconds since 1970. The result always has an offset, so any two can be compared.
    """
    if not isinstance(text, str):
        return None
    try:
        if text.isascii() and text.isdecimal() and len(text) > 8:
            return datetime.fromtimestamp(int(text), UTC)
        instant = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def instant_of(created_at: object, message_id: object) -> datetime:
    """Return when a message was made: what it says, else the time in its id, else 1970."""
    instant = parse_instant(created_at) or parse_instant(time_in_id(str(message_id)))
    return instant or _EPOCH


def message_dict(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row of `SELECT` as the dict that `MessagingDatabase` hands out.

    ``created_at`` is the row's own text, whatever it says. A text that is NULL is empty. Metadata
    that is not a JSON object is ``{}``, attachments that are not a JSON list are ``[]``; each such
    case is logged as a warning.
    """
    message = dict(zip(MESSAGE_COLUMNS, row, strict=True))
    for column, value in message.items():
        if isinstance(value, bytes):
            message[column] = value.decode("utf-8", "replace")
        elif column in _TEXTS and not isinstance(value, str):
            message[column] = "" if value is None else str(value)
    # A TEXT PRIMARY KEY may be NULL in SQLite; nothing can ask for such a message by its id.
    message_id = message["id"]
    message["type"] = message.pop("message_type")
    message["reply_to"] = message.pop("replied_to")
    message["task_injected"] = bool(message["task_injected"])
    message["metadata"] = _decoded(message["metadata"], "metadata", dict, message_id)
    message["attachments"] = _decoded(message["attachments"], "attachments", list, message_id)
    if parse_instant(message["created_at"]) is None:
        _log.warning("message %r: created_at %r is no date", message_id, message["created_at"])
    return message


def row_values(message: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values that `INSERT` takes, with defaults for what ``message`` lacks.

    Raises `MessageError` when one of ``id``, ``from_project``, ``to_project``, ``subject`` and
    ``body`` is missing, a text is no text, the date is none, or a value has no JSON form.
    """
    message_id = _text(message, "id")
    return (
        message_id,
        _text(message, "from_project"),
        _text(message, "from_agent", "pm"),
        _text(message, "to_project"),
        _text(message, "to_agent", "pm"),
        _text(message, "type", "notification"),
        _text(message, "priority", "normal"),
        _text(message, "subject"),
        _text(message, "body"),
        _text(message, "status", "unread"),
        _created_at(message),
        None if message.get("reply_to") is None else _text(message, "reply_to"),
        _encoded(message, "metadata", dict),
        _encoded(message, "attachments", list),
    )


def as_stored(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return what clients will read of a message's row; raises what `row_values` raises."""
    stored = dict(zip(_KEYS, row_values(message), strict=True))
    return stored | {key: json.loads(stored[key]) for key in ("metadata", "attachments")}


def _text(message: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = message.get(key)
    if value is None:
        value = default
    if not isinstance(value, str):
        what = "lacks" if value is None else "needs text as"
        raise MessageError(
            f"the message {message.get('id', '')!r} {what} {key!r}",
            hint="Every message needs id, from_project, to_project, subject and body.",
        )
    return value


def _created_at(message: Mapping[str, Any]) -> str:
    value = message.get("created_at")
    if value is None:
        return now_text()
    if isinstance(value, datetime):
        value = value.isoformat()
    instant = parse_instant(value)
    if instant is None:
        raise MessageError(
            f"the message {message['id']!r} has {value!r} as its date, which is none",
            hint="Write it as 2026-02-20T20:15:00+00:00, or leave created_at out.",
        )
    # Whole seconds since 1970 are understood here, but other clients would stumble over them.
    return instant.isoformat() if str(value).isdecimal() else str(value)


def _encoded(message: Mapping[str, Any], key: str, kind: type[dict[Any, Any] | list[Any]]) -> str:
    value = message.get(key)
    if value is None:
        value = kind()
    if kind is list and isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, kind):
        raise MessageError(
            f"the {key} of the message {message['id']!r} must be a {kind.__name__}",
            hint=f"It is a {type(value).__name__} now.",
        )
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(
            f"the {key} of the message {message['id']!r} cannot be written as JSON: {error}",
            hint="Use text, numbers, true, false, null, lists and objects only.",
        ) from error
    if nests_deeper(value, MAX_DEPTH - 1):  # as a value of a file's front matter
        raise MessageError(
            f"the {key} of the message {message['id']!r} nests too deeply",
            hint=f"No file can hold more than {MAX_DEPTH - 1} levels.",
        )
    return text


def _decoded(text: Any, key: str, kind: type[Any], message_id: object) -> Any:
    if text is None or text in ("", "{}", "[]"):
        return kind()
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        _log.warning("message %r: its %s cannot be read: %s", message_id, key, error)
        return kind()
    if value is None:
        return kind()
    if not isinstance(value, kind):
        _log.warning("message %r: its %s is no %s", message_id, key, kind.__name__)
        return kind()
    return value
