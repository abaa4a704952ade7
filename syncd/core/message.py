"""PURE: the message, its fields in normal form, and the rules that need nothing else.

A `Message` holds values after normalising, so two of them compare with ``==``: body stripped and
with ``\\n`` line ends, timestamps as `datetime.isoformat` writes them, JSON with sorted keys and
nothing for what is empty. How a side spells a value stays on that side.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from syncd.digest import digest_of
from syncd.errors import MessageError

FIELDS = (
    "from_project",
    "from_agent",
    "to_project",
    "to_agent",
    "type",
    "priority",
    "subject",
    "body",
    "status",
    "created_at",
    "reply_to",
    "metadata",
    "attachments",
)
"""The fields that are kept in step, in the order of the database's columns; ``id`` joins them."""

TEXT_FIELDS = frozenset({"subject", "body", "metadata", "attachments"})
"""The fields that hold a person's words: none of their versions may be lost (G2)."""

DEFAULTS = {
    "from_agent": "pm",
    "to_agent": "pm",
    "type": "notification",
    "priority": "normal",
    "subject": "",
    "body": "",
    "status": "unread",
}
"""What the contract's schema puts where a value is missing."""

REQUIRED_KEYS = frozenset(
    {"id", "from_project", "from_agent", "to_project", "to_agent", "type", "priority", "created_at"}
)
"""The keys without which the old client cannot read a file."""

UNKNOWN_PROJECT = "unknown"


class Mailbox(StrEnum):
    """The three kinds of folder; the value is the folder's path below ``.claude-mpm``."""

    INBOX = "inbox"
    ARCHIVE = "inbox/.archive"
    OUTBOX = "outbox"


FOLDERS = {
    "inbox": Mailbox.INBOX,
    "inbox/.archive": Mailbox.ARCHIVE,
    "archive": Mailbox.ARCHIVE,
    "outbox": Mailbox.OUTBOX,
}
"""Every folder that is read, and the mailbox that it belongs to, in the order of reading.

The outbox last: of the two copies of a message to oneself the first read is the message.
"""

_ORDER = {folder: number for number, folder in enumerate(FOLDERS)}


def in_order(paths: Iterable[str]) -> list[str]:
    """Return paths in the order in which their files are read."""
    # Sorted twice, which takes half of the time of once by pairs.
    return sorted(sorted(paths), key=lambda path: _ORDER[path.rpartition("/")[0]])


class Message(NamedTuple):
    """One message in normal form; ``metadata`` and ``attachments`` are JSON text or None.

    A tuple, as an import makes one for every file; ``message[1:]`` are the values of `FIELDS`.
    """

    id: str
    from_project: str
    from_agent: str
    to_project: str
    to_agent: str
    type: str
    priority: str
    subject: str
    body: str
    status: str
    created_at: str
    reply_to: str | None
    metadata: str | None
    attachments: str | None


def mailbox_of(status: str) -> Mailbox:
    """Return the mailbox in which a row of this project stands.

    The one place that decides it: a shared database of several projects would ask here too.
    """
    if status == "archived":
        return Mailbox.ARCHIVE
    return Mailbox.OUTBOX if status == "sent" else Mailbox.INBOX


def mailbox_at(path: str) -> Mailbox:
    """Return the mailbox of a file's path below ``.claude-mpm``."""
    return FOLDERS[path.rpartition("/")[0]]


def status_in(mailbox: Mailbox, said: str | None) -> str:
    """Return the status of a file that stands in ``mailbox`` and says ``said``: the folder wins."""
    if mailbox is Mailbox.OUTBOX:
        return "sent"
    if mailbox is Mailbox.ARCHIVE:
        return "archived"
    if said is None or said == "sent":
        return "unread"
    return "read" if said == "archived" else said


_PROGRESS = {"unread": 0, "read": 1, "archived": 3}


def progress(status: str) -> int:
    """Rank a status: unread < read < any other word < archived."""
    return _PROGRESS.get(status, 2)


def normal_body(text: str) -> str:
    """Return the body without surrounding white space and with ``\\n`` line ends."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.strip()


# Most timestamps, as the clients write them; to print these again takes longer than to know them.
_PRINTED_SO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.(?!000000)[0-9]{6})?\+00:00"
)


def normal_timestamp(text: str) -> str:
    """Return ``text`` as `datetime.isoformat` writes it; `ValueError` for what is no timestamp."""
    moment = datetime.fromisoformat(text)
    return text if _PRINTED_SO.fullmatch(text) else moment.isoformat()


_encode = json.JSONEncoder(sort_keys=True, separators=(", ", ": "), allow_nan=False).encode
_decode = json.JSONDecoder(parse_constant=lambda _: None).decode


def json_text(value: Any) -> str | None:
    """Return a JSON value as text in normal form; None for null and for empty containers.

    Infinities and NaN, which JSON lacks, become null. Raises `MessageError` for what nests too
    deeply or holds a number too long to print.
    """
    if value is None or value == {} or value == []:
        return None
    try:
        return _encode(value)
    except ValueError:
        pass  # a NaN or an infinity; those are rare enough to look for only now
    except RecursionError:
        raise MessageError("a JSON value nests too deeply") from None
    try:
        return json_text(_decode(json.dumps(value)))
    except (ValueError, RecursionError) as error:
        raise MessageError(f"a value cannot be written as JSON: {error}") from error


_NO_JSON = frozenset({"", "{}", "[]", "null"})
MAX_DEPTH = 200
"""How many levels a front matter may have: the old client's parser gives up at about this depth."""

_MOST_LEVELS = 500
"""How deeply a row's JSON may nest: below that, whoever reads it next meets Python's own limit."""


def normal_json(text: str | None) -> str | None:
    """Return JSON text in normal form; raises `MessageError` when it is broken."""
    if text is None or text in _NO_JSON:
        return None
    try:
        value = _decode(text)
    except RecursionError:
        raise MessageError("a JSON value nests too deeply") from None
    except json.JSONDecodeError as error:
        raise MessageError(f"broken JSON: {error}") from None
    except ValueError:  # of Python's limit for the digits of an integer
        raise MessageError("a JSON number has too many digits") from None
    if text.count("[") + text.count("{") > _MOST_LEVELS and nests_deeper(value, _MOST_LEVELS):
        raise MessageError("a JSON value nests too deeply")
    return json_text(value)


def nests_deeper(value: Any, levels: int) -> bool:
    """Tell whether a JSON value has more levels of objects and lists than these."""
    level = [value]
    for _ in range(levels):
        if not level:
            return False
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return any(isinstance(one, dict | list) for one in level)


def attachment_names(attachments: str | None) -> list[str] | None:
    """Return the attachments as plain names; None when they are not a list of non-empty text."""
    value = json.loads(attachments) if attachments is not None else []
    if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
        return value
    return None


_ID_TIME = re.compile(r"msg-(\d{8})-(\d{6})-")


def time_in_id(message_id: str) -> str | None:
    """Return the creation time that an id of the form ``msg-YYYYMMDD-HHMMSS-…`` carries (UTC)."""
    found = _ID_TIME.match(message_id)
    if found is None:
        return None
    try:
        moment = datetime.strptime("".join(found.groups()), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC).isoformat()


def message_from_row(row: Sequence[object]) -> Message:
    """Return the message that a row holds.

    ``row`` has ``id`` and then the columns of `FIELDS`. Raises `MessageError` for a row that a
    client could not read either (a BLOB where text belongs, broken JSON, an odd date, no id).
    """
    texts: Sequence[Any] = row
    try:
        "".join([text for text in texts if text is not None]).encode()
    except (TypeError, UnicodeEncodeError):
        texts = list(map(_column_text, _COLUMNS, row))
    if texts[0] is None:
        raise MessageError("the id is NULL")
    if None in texts[:_NULLABLE]:
        texts = [
            DEFAULTS.get(column, "") if value is None and at < _NULLABLE else value
            for at, (column, value) in enumerate(zip(_COLUMNS, texts, strict=True))
        ]
    *values, body, status, created_at, reply_to, metadata, attachments = texts
    names = normal_json(attachments)
    if names is not None and names[0] not in "[{":
        raise MessageError("attachments hold neither a list nor an object")
    created_at, metadata = _row_timestamp(created_at), normal_json(metadata)
    body, reply_to = normal_body(body), reply_to or None
    return Message._make((*values, body, status, created_at, reply_to, metadata, names))


_COLUMNS = ("id", *FIELDS)
_NULLABLE = _COLUMNS.index("created_at")  # and all behind it have a meaning where they are NULL


def lost_field(row: Sequence[object], agreed: Fingerprints) -> str | None:
    """Return a field that is NULL in a row where the contract forbids that, and held something.

    A column that was dropped and added again has lost what it held; nobody made that empty. What
    held its default may have been NULL before, and says the same.
    """
    for name, value, was in zip(FIELDS, row[1:_NULLABLE], agreed, strict=False):
        if value is None and was not in (None, DEFAULTS.get(name, "")):
            return name
    return None


def _column_text(column: str, value: object) -> str | None:
    """Return a column's value as text; raises `MessageError` for what is none and not a number."""
    if value is None:
        return None
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        kind = "a BLOB" if isinstance(value, bytes) else "a number"
        raise MessageError(f"column {column} holds {kind} where text belongs")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MessageError(f"column {column} holds bytes that are not UTF-8") from None
    return value


def _row_timestamp(text: str | None) -> str:
    try:
        return normal_timestamp(text or "")
    except ValueError:
        raise MessageError(f"created_at is {text!r}, which is no ISO 8601 timestamp") from None


_SHORT = 48


def fingerprint(value: str | None) -> str | None:
    """Return what stands for ``value`` in the baseline: itself when short, else a digest."""
    if value is None or (len(value) <= _SHORT and value[:1] != "\0"):
        return value
    return _long_fingerprint(value)


def _long_fingerprint(value: str) -> str:
    return "\0" + digest_of(value.encode("utf-8", "surrogatepass")).hex()


Fingerprints = tuple[str | None, ...]
"""One fingerprint a field, in the order of `FIELDS`."""


def fingerprints(values: Sequence[str | None]) -> Fingerprints:
    """Return the fingerprint of every field of a message, or of a row with ``id`` in front."""
    # `fingerprint`, without a call for each of the short values.
    return tuple(
        [
            value
            if value is None or (len(value) <= _SHORT and (value >= "\1" or not value))
            else _long_fingerprint(value)
            for value in values[1:]
        ]
    )


def same_texts(agreed: Fingerprints, message: Message) -> bool:
    """Tell whether a message's texts (`TEXT_FIELDS`) are those of these fingerprints."""
    return all(
        fingerprint(getattr(message, name)) == agreed[FIELDS.index(name)] for name in TEXT_FIELDS
    )


_PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_LONGEST_STEM = 200


def file_name(message_id: str) -> str:
    """Return the name of a file that is created for ``message_id``.

    A plain id is its own name. Every other byte is percent-encoded, so that no id names a path
    outside its folder, hides the file, or is a device on some system; an over-long name is cut
    and ends in a digest. The id itself is read from the front matter, never from this name.
    """
    if _PLAIN_ID.fullmatch(message_id) and not _RESERVED.match(message_id):
        stem = message_id
    else:
        stem = "".join(
            chr(byte)
            if (chr(byte).isalnum() and byte < 128) or byte in b"_-" or (byte == 46 and at > 0)
            else f"%{byte:02X}"
            for at, byte in enumerate(message_id.encode("utf-8", "surrogatepass"))
        )
        if not stem or _RESERVED.match(stem):
            stem = f"%{ord(stem[0]):02X}{stem[1:]}" if stem else "%"
    if len(stem) > _LONGEST_STEM:
        digest = digest_of(message_id.encode("utf-8", "surrogatepass"))
        stem = f"{stem[: _LONGEST_STEM - 34]}%_{digest.hex()}"
    return f"{stem}.md"
