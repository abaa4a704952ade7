"""PURE: what the old client makes of a file's bytes: whether it reads them, and what it sees there.

The old client splits a file where ``---`` ends a line, wants its keys and a date between quotes,
and knows nothing of the keys in which values stand that the legacy form cannot carry. What it reads
it writes back, so what it sees tells its rewrite of a version from a person's edit.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING

from syncd.core import canonical
from syncd.core.canonical import Canonical
from syncd.core.markdown import (
    BREAK,
    SECTION_HEADING,
    TEXT_KEYS,
    attachments_value,
    decode,
    rendition,
)
from syncd.core.message import REQUIRED_KEYS, Message, normal_timestamp
from syncd.digest import digest_of_values
from syncd.errors import MessageError

if TYPE_CHECKING:
    from syncd.core.front_matter import FrontMatter


_READ_APART = re.compile(r"[\t!?\ufeff]|[|>][-+0-9]*#")
"""Where libyaml takes what the pure parser, which is the old client's, refuses."""


def legacy_problem(data: bytes) -> MessageError | None:
    """Return why the old client cannot read a file; None when it can."""
    try:
        text = decode(data)
        if canonical.read(text) is not None:
            return None
        from syncd.core.front_matter import MessageHandler
        from syncd.core.nodes import compose_purely, is_for_the_pure_parser

        source = MessageHandler().split(BREAK.sub("\n", text))[0]
        head = MessageHandler().load(source)
        if _READ_APART.search(source) and is_for_the_pure_parser(source):
            compose_purely(source)
    except MessageError as error:
        return error
    missing = sorted(REQUIRED_KEYS - head.keys())
    if missing:
        return MessageError(f"the front matter lacks {', '.join(missing)}")
    try:
        normal_timestamp(head["created_at"])
    except (TypeError, ValueError):
        return MessageError("created_at is not a quoted ISO 8601 timestamp")
    return None


def legacy_view(data: bytes, message: Message) -> bytes:
    """Return a digest of what the old client sees in a message's file, its status aside.

    The old client writes back what it sees, so a file of the same view with ``status: read`` is
    its rewrite of that version, and nobody's edit of the text.
    """
    text = decode(data)
    return _view(text, _head_of(text).text_start, message)


def view_beside_fields(data: bytes, message: Message, *, is_keyed: bool = False) -> bytes:
    """Return `legacy_view` where the fields do not tell as much; nothing where they do.

    Unless it ``is_keyed``, or was before an edit, the file has no keys that such a message can do
    without.
    """
    seen_as_it_is = _is_seen_as_it_is(message)
    if seen_as_it_is and not is_keyed:
        return b""
    text = decode(data)
    head = _head_of(text)
    if seen_as_it_is and not _has_keys(head):
        return b""
    return _view(text, head.text_start, message)


def _head_of(text: str) -> Canonical | FrontMatter:
    head = canonical.read(text)
    if head is not None:
        return head
    from syncd.core import front_matter

    return front_matter.read(text)


def _has_keys(head: Canonical | FrontMatter) -> bool:
    """Tell whether subject or attachments stand in a front matter."""
    return not isinstance(head, Canonical) and (
        head.text_of("subject") is not None or attachments_value(head) is not None
    )


def _view(text: str, start: int, message: Message) -> bytes:
    subject, body, names = _as_the_old_client_reads(BREAK.sub("\n", text[start:]))
    # A heading may hold separators that a new file would not have: then its view is as coarse.
    seen = [*_seen_as_they_are(message), rendition(subject), body, *names]
    return digest_of_values(seen)


def _is_seen_as_it_is(message: Message) -> bool:
    """Tell whether the old client reads just what we do from a file that carries all its way."""
    names, body = message.attachments, message.body
    return (
        (names is None or (body != "" and _PLAIN_NAMES.fullmatch(names) is not None))
        and _is_plain_subject(message.subject)
        and SECTION_HEADING not in body
    )


# Attachments that stand in a section word for word, as JSON in normal form; most are such.
_PLAIN_NAME = r'"[A-Za-z0-9/_.]++(?:[- ][A-Za-z0-9/_.]++)*"'
_PLAIN_NAMES = re.compile(rf"\[{_PLAIN_NAME}(?:, {_PLAIN_NAME})*\]")

_seen_as_they_are = attrgetter("id", *TEXT_KEYS, "created_at", "reply_to", "metadata")


def _is_plain_subject(subject: str) -> bool:
    """Tell whether a subject is not empty and stands in a heading as it is."""
    return subject != "" and subject == subject.strip() and len(subject.splitlines()) == 1


def _as_the_old_client_reads(text: str) -> tuple[str, str, list[str]]:
    """Return subject, body and attachments as the old client finds them in a file's text."""
    text, subject = text.strip(), ""
    if text.startswith("# "):
        subject, _, text = text[2:].partition("\n")
    body, _, section = text.strip().partition(f"\n{SECTION_HEADING}\n")
    items = [line.strip("- `") for line in section.split("\n") if line.strip().startswith("- `")]
    return subject.strip(), body.strip(), items
