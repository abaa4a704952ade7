"""PURE: edits of a file's bytes that touch only the spans of the values that change.

What an edit made is parsed again, and refused (`MessageError`) unless it reads as the message
that was meant. The YAML parser is imported only for files that need it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from syncd.core import canonical, markdown
from syncd.core.canonical import Canonical
from syncd.core.legacy import legacy_problem
from syncd.core.markdown import BREAK, Layout, ParsedFile, Parts, Place
from syncd.core.message import (
    FIELDS,
    REQUIRED_KEYS,
    Message,
    attachment_names,
    normal_timestamp,
    status_in,
)
from syncd.errors import MessageError

if TYPE_CHECKING:
    from syncd.core.front_matter import FrontMatter

_IN_TEXT = frozenset({"subject", "body", "attachments"})


def edit(
    data: bytes, message: Message, place: Place, *, status_said: str | None, says_date: bool = False
) -> bytes:
    """Return ``data`` with ``message`` in it, changing only the spans of the values that differ.

    ``place`` is where the file will stand; ``status_said`` what the front matter is to say, None
    to leave its word alone. A date that it does not state is left out, unless with ``says_date``.
    Everything else, comments, order, quoting, line ends, stays byte for byte. Raises `MessageError`
    when that cannot be proven by reading the result back, or when the old client could read the
    file before and could not afterwards.
    """
    text = markdown.decode(data)
    head = canonical.read(text)
    if head is not None:
        edited = _edited_canonically(text, head, message, place, status_said)
        if edited is not None:
            return edited
    return edit_with_yaml(data, text, message, place, status_said, says_date=says_date)


def _edited_canonically(
    text: str, head: Canonical, message: Message, place: Place, status_said: str | None
) -> bytes | None:
    """Edit a file with canonical front matter as `edit_with_yaml` does, without a YAML parser.

    None for a change of the metadata, and for what the legacy form cannot carry.
    """
    current = markdown.read_canonical(text, head, place)
    wanted, changed = _difference(current, message, place, status_said, says_date=True)
    layout = markdown.layout_of(wanted) if changed & _IN_TEXT else None
    if "metadata" in changed or (layout is not None and layout.has_keys):
        return None
    values = _plain_values(current, wanted, changed, status_said, place)
    rest = text[head.text_start :]
    if layout is not None:
        parts = markdown.cut(text, head.text_start, None, keyed=False)
        rest = _refitted(parts, wanted, changed, layout, "\n").join()
    scalars = {key: markdown.scalar_of(key, value) for key, value in values.items()}
    try:
        edited = markdown.proven(canonical.replaced(text, scalars) + rest, wanted, place)
    except MessageError:
        return None
    return edited if legacy_problem(edited) is None else None


def edit_with_yaml(
    data: bytes,
    text: str,
    message: Message,
    place: Place,
    status_said: str | None,
    *,
    says_date: bool = False,
) -> bytes:
    """Edit any file (see `edit`), whose text is ``text``."""
    from syncd.core import front_matter

    head = front_matter.read(text)
    current = markdown.read_text(text, head, place)
    wanted, changed = _difference(current, message, place, status_said, says_date=says_date)
    values = _plain_values(current, wanted, changed, status_said, place)
    if "metadata" in changed:
        values["metadata"] = json.loads(wanted.metadata) if wanted.metadata else None
    rest = text[head.text_start :]
    if not changed & _IN_TEXT:
        return _proven(data, _joined(text, head, values, rest), wanted, place)
    keyed = markdown.attachments_value(head) is not None
    parts = markdown.cut(text, head.text_start, head.text_of("subject"), keyed=keyed)
    problem = MessageError("it cannot be edited safely")
    for layout in _layouts(current.message, wanted, changed, head, parts):
        keys = _layout_keys(head, layout)
        new_rest = _refitted(parts, wanted, changed, layout, _line_end(text)).join()
        try:
            return _proven(data, _joined(text, head, values | keys, new_rest), wanted, place)
        except MessageError as error:
            problem = error
    raise problem


def _difference(
    current: ParsedFile,
    message: Message,
    place: Place,
    status_said: str | None,
    *,
    says_date: bool,
) -> tuple[Message, set[str]]:
    """Return ``message`` as the file is to read, and the fields that change, status aside."""
    said = current.status_said if status_said is None else status_said
    values = {"status": status_in(place.mailbox, said)}
    if not (says_date or "created_at" in current.said):
        # Nobody states it here, and what stands in for it moves with the file's mtime.
        values["created_at"] = current.message.created_at
    wanted = message._replace(**values)
    pairs = zip(FIELDS, current.message[1:], wanted[1:], strict=True)
    return wanted, {name for name, old, new in pairs if old != new and name != "status"}


def repair(data: bytes, place: Place, *, created_at: str | None = None) -> bytes:
    """Return a file's bytes so that the old client can read it too, with the same message in it.

    Mends, value by value, what people leave: blanks behind a ``---``, missing keys, a date without
    quotes or in another form, a value that ends a line with ``---``, tabs between values. A date
    that the file does not state becomes ``created_at``. Raises `MessageError` when that is not
    enough.
    """
    from syncd.core import front_matter, spans
    from syncd.core.nodes import compose

    text = markdown.decode(data)
    head = front_matter.read(text)
    parsed = markdown.read_text(text, head, place)
    message = parsed.message
    if created_at is not None and "created_at" not in parsed.said:
        message = message._replace(created_at=created_at)
    values: dict[str, Any] = {
        key: getattr(message, key)
        for key in REQUIRED_KEYS
        if head.text_of(key) is None or "---" in (head.text_of(key) or "")
    }
    created = head.entries.get("created_at")
    if created is None or created.tag != "tag:yaml.org,2002:str" or not _is_iso(created.value):
        values["created_at"] = message.created_at
    source = spans.edit_mapping(head.source, head.root, values, _line_end(head.source or text))
    if "\t" in source:
        source = spans.without_tabs(source, compose(source))
    opening = text[: head.start].rstrip(" \t\r\n") + _line_end(text)
    closing = f"---{_line_end(text)}"
    repaired = markdown.proven(
        f"{opening}{source}{closing}{text[head.text_start :]}", message, place
    )
    problem = legacy_problem(repaired)
    if problem is not None:
        raise problem
    return repaired


def _is_iso(text: str) -> bool:
    try:
        normal_timestamp(text)
    except ValueError:
        return False
    return not text.isdigit()


def _proven(before: bytes, text: str, message: Message, place: Place) -> bytes:
    try:
        after = markdown.proven(text, message, place)
    except MessageError as error:
        raise MessageError(f"it cannot be edited safely: afterwards, {error.sentence}") from error
    if legacy_problem(before) is None:
        problem = legacy_problem(after)
        if problem is not None:
            raise MessageError(f"the old client could not read the edited file: {problem}")
    return after


def _joined(text: str, head: FrontMatter, values: Mapping[str, Any], rest: str) -> str:
    from syncd.core import spans

    source = spans.edit_mapping(head.source, head.root, values, _line_end(head.source or text))
    return f"{text[: head.start]}{source}{text[head.end : head.text_start]}{rest}"


def _plain_values(
    current: ParsedFile,
    message: Message,
    changed: set[str],
    status_said: str | None,
    place: Place,
) -> dict[str, Any]:
    """Return the texts to write into the front matter for the changed fields that live there."""
    values: dict[str, Any] = {
        name: getattr(message, name) for name in changed - _IN_TEXT - {"metadata"}
    }
    if "id" not in current.said and place.stem != message.id:
        values["id"] = message.id
    if status_said is not None and current.status_said != status_said:
        values["status"] = status_said
    return values


def _layouts(
    current: Message, message: Message, changed: set[str], head: FrontMatter, parts: Parts
) -> list[Layout]:
    """Return the layouts to try: the file's own habits first, the canonical one last.

    Before its own comes one that shows the old client what changes, and what it could not see: a
    key goes of which the legacy form had need, and has none any more.
    """
    needed, best = markdown.layout_of(current), markdown.layout_of(message)
    subject_key = message.subject if head.text_of("subject") is not None else None
    attachments_key = None
    if markdown.attachments_value(head) is not None:
        attachments_key = json.loads(message.attachments or "[]")
    own = Layout(
        heading=best.heading if parts.heading or subject_key is None else "",
        items=(attachment_names(message.attachments) or []) if attachments_key is None else [],
        subject_key=subject_key,
        attachments_key=attachments_key,
    )
    seen = own
    if needed.subject_key is not None or ("subject" in changed and not parts.heading):
        seen = seen._replace(heading=best.heading, subject_key=best.subject_key)
    keyed = {"items": best.items, "attachments_key": best.attachments_key}
    if needed.attachments_key is not None or "attachments" in changed:
        seen = seen._replace(**keyed)
    layouts = (seen, seen._replace(**keyed), own, own._replace(**keyed), best)
    return list({repr(layout): layout for layout in layouts}.values())


def _layout_keys(head: FrontMatter, layout: Layout) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if layout.subject_key != head.text_of("subject"):
        keys["subject"] = layout.subject_key
    if layout.attachments_key != markdown.attachments_value(head):
        keys["attachments"] = layout.attachments_key
    return keys


def _line_end(text: str) -> str:
    found = BREAK.search(text)
    return found.group() if found else "\n"


def _refitted(
    parts: Parts, message: Message, changed: set[str], layout: Layout, line_end: str
) -> Parts:
    """Return ``parts`` with the changed ones replaced, and white space where new ones meet."""
    blank = line_end * 2
    if "subject" in changed or bool(layout.heading) != bool(parts.heading):
        parts = parts._replace(heading=_reheaded(parts.heading, layout.heading))
    if "body" in changed:
        parts = parts._replace(body=message.body.replace("\n", line_end))
    if "attachments" in changed or bool(layout.items) != bool(parts.section):
        parts = parts._replace(section=layout.section.replace("\n", line_end))
    gap, section_gap = parts.gap, parts.section_gap
    if not parts.heading:
        gap = ""
    elif (parts.body or parts.section) and not BREAK.search(gap):
        gap = blank
    if not parts.section:
        section_gap = ""
    elif not BREAK.search(section_gap):
        section_gap = blank
    return parts._replace(gap=gap, section_gap=section_gap)


def _reheaded(old: str, new: str) -> str:
    """Return the new heading with the white space that the old one has around its text."""
    text = old[2:].strip()
    if not (text and new):
        return new
    start = old.index(text, 2)
    return f"{old[:start]}{new[2:]}{old[start + len(text) :]}"
