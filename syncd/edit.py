"""PURE: edits of a file's bytes that touch only the spans of the values that change.

The marks of PyYAML's nodes say where a value of the front matter stands. What an edit made is
parsed again, and refused (`MessageError`) unless it reads as the message that was meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from syncd import front_matter, markdown
from syncd.errors import MessageError
from syncd.front_matter import NULL, FrontMatter, MessageHandler
from syncd.markdown import BREAK, Layout, Parts, Place
from syncd.message import FIELDS, Message, attachment_names, status_in

_IN_TEXT = frozenset({"subject", "body", "attachments"})


def edit(data: bytes, message: Message, place: Place, *, status_said: str | None) -> bytes:
    """Return ``data`` with ``message`` in it, changing only the spans of the values that differ.

    ``place`` is where the file will stand; ``status_said`` what the front matter is to say, None
    to leave its word alone. Everything else, comments, order, quoting, line ends, stays byte for
    byte. Raises `MessageError` when that cannot be proven by reading the result back, or when the
    old client could read the file before and could not afterwards.
    """
    text = markdown.decode(data)
    head = front_matter.read(text)
    current = markdown.read_text(text, head, place)
    if "created_at" not in current.said:
        # Nobody states it here, and what stands in for it moves with the file's mtime.
        message = replace(message, created_at=current.message.created_at)
    said = current.status_said if status_said is None else status_said
    wanted = replace(message, status=status_in(place.mailbox, said))
    changed = {name for name in FIELDS if getattr(current.message, name) != getattr(wanted, name)}
    changed.discard("status")
    values = _plain_values(head, wanted, changed, status_said, place)
    rest = text[head.text_start :]
    if not changed & _IN_TEXT:
        return _proven(data, _joined(text, head, values, rest), wanted, place)
    keyed = markdown.attachments_value(head) is not None
    parts = markdown.cut(text, head.text_start, head.text_of("subject"), keyed=keyed)
    problem = MessageError("it cannot be edited safely")
    for layout in _layouts(wanted, head, parts):
        keys = _layout_keys(head, layout)
        new_rest = _refitted(parts, wanted, changed, layout, _line_end(text)).join()
        try:
            return _proven(data, _joined(text, head, values | keys, new_rest), wanted, place)
        except MessageError as error:
            problem = error
    raise problem


def repair(data: bytes, place: Place, *, created_at: str | None = None) -> bytes:
    """Return a file's bytes so that the old client can read it too, with the same message in it.

    Mends, value by value, what people leave: blanks behind a ``---``, missing keys, a date without
    quotes, a value that ends a line with ``---``. A date that the file does not state becomes
    ``created_at``. Raises `MessageError` when that is not enough.
    """
    text = markdown.decode(data)
    head = front_matter.read(text)
    parsed = markdown.read_text(text, head, place)
    message = parsed.message
    if created_at is not None and "created_at" not in parsed.said:
        message = replace(message, created_at=created_at)
    values: dict[str, Any] = {
        key: getattr(message, key)
        for key in front_matter.REQUIRED_KEYS
        if head.text_of(key) is None or "---" in (head.text_of(key) or "")
    }
    created = head.entries.get("created_at")
    if created is None or created.tag != "tag:yaml.org,2002:str" or created.value.isdigit():
        values["created_at"] = message.created_at
    source = _edit_mapping(head.source, head.root, values, _line_end(head.source or text))
    opening = text[: head.start].rstrip(" \t\r\n") + _line_end(text)
    closing = f"---{_line_end(text)}"
    repaired = markdown.proven(
        f"{opening}{source}{closing}{text[head.text_start :]}", message, place
    )
    problem = markdown.legacy_problem(repaired)
    if problem is not None:
        raise problem
    return repaired


def _proven(before: bytes, text: str, message: Message, place: Place) -> bytes:
    after = markdown.proven(text, message, place)
    if markdown.legacy_problem(before) is None:
        problem = markdown.legacy_problem(after)
        if problem is not None:
            raise MessageError(f"the old client could not read the edited file: {problem}")
    return after


def _joined(text: str, head: FrontMatter, values: Mapping[str, Any], rest: str) -> str:
    source = _edit_mapping(head.source, head.root, values, _line_end(head.source or text))
    return f"{text[: head.start]}{source}{text[head.end : head.text_start]}{rest}"


def _plain_values(
    head: FrontMatter,
    message: Message,
    changed: set[str],
    status_said: str | None,
    place: Place,
) -> dict[str, Any]:
    """Return the front matter values to write for the changed fields that live there."""
    values: dict[str, Any] = {
        name: getattr(message, name) for name in changed - _IN_TEXT - {"metadata"}
    }
    if head.text_of("id") is None and place.stem != message.id:
        values["id"] = message.id
    if status_said is not None and head.text_of("status") != status_said:
        values["status"] = status_said
    if "metadata" in changed:
        values["metadata"] = json.loads(message.metadata) if message.metadata else None
    return values


def _layouts(message: Message, head: FrontMatter, parts: Parts) -> list[Layout]:
    """Return the layouts to try: the file's own habits first, the canonical one second."""
    best = markdown.layout_of(message)
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
    return [own] if own == best else [own, best]


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
        parts = replace(parts, heading=_reheaded(parts.heading, layout.heading))
    if "body" in changed:
        parts = replace(parts, body=message.body.replace("\n", line_end))
    if "attachments" in changed or bool(layout.items) != bool(parts.section):
        parts = replace(parts, section=layout.section.replace("\n", line_end))
    gap, section_gap = parts.gap, parts.section_gap
    if not parts.heading:
        gap = ""
    elif (parts.body or parts.section) and not BREAK.search(gap):
        gap = blank
    if not parts.section:
        section_gap = ""
    elif not BREAK.search(section_gap):
        section_gap = blank
    return replace(parts, gap=gap, section_gap=section_gap)


def _reheaded(old: str, new: str) -> str:
    """Return the new heading with the white space that the old one has around its text."""
    text = old[2:].strip()
    if not (text and new):
        return new
    start = old.index(text, 2)
    return f"{old[:start]}{new[2:]}{old[start + len(text) :]}"


# Edits of a YAML mapping by span ----------------------------------------------------------------


def _edit_mapping(text: str, root: yaml.MappingNode, values: Mapping[str, Any], end: str) -> str:
    """Return ``text`` with the values of some top-level keys replaced, added, or (None) removed.

    A key that stands twice is edited where it counts, the last time. A ``reply_to`` of None is
    written as null where the key stands, since the old client writes it so.
    """
    pieces: list[tuple[int, int, str]] = []
    keys = {key: (key_node, node) for key, key_node, node in front_matter.pairs(root)}
    # Of several additions at one place the last made stands first.
    for key in sorted(values, reverse=True):
        value = values[key]
        if key in keys:
            key_node, node = keys[key]
            if value is None and key != "reply_to":
                stop = _span(text, key_node, node)[1]
                pieces.append(_removal(text, key_node, stop, flow=bool(root.flow_style)))
            else:
                pieces.extend(_replacement(text, key, key_node, node, value, end))
        elif value is not None and value != {}:
            pieces.append(_insertion(text, root, key, value, end))
    for start, stop, new in sorted(pieces, key=lambda piece: piece[:2], reverse=True):
        text = text[:start] + new + text[stop:]
    return text


def _value_text(key: str, value: Any) -> str:
    if key == "created_at" or key == "subject":
        return front_matter.quoted(value)
    if value is None or isinstance(value, str):
        return front_matter.scalar(value)
    return _flow(value)


def _flow(value: Any) -> str:
    """Return a JSON value as YAML on one line."""
    match value:
        case dict():
            inner = ", ".join(f"{_flow_key(key)}: {_flow(item)}" for key, item in value.items())
            return f"{{{inner}}}"
        case list():
            return f"[{', '.join(map(_flow, value))}]"
        case str():
            return front_matter.quoted(value)
        case _:
            return front_matter.dump(value).removesuffix("\n").removesuffix("\n...")


def _flow_key(key: str) -> str:
    text = front_matter.quoted(key)
    return f"? {text} " if len(text) > 1000 else text  # YAML's limit for a simple key is 1024


_ALIAS = re.compile(r"\s*:\s*(\*[^\s,\]}]+)")


def _span(text: str, key_node: yaml.Node | None, node: yaml.Node) -> tuple[int, int]:
    """Return where a value stands, without the white space and comments that follow it."""
    start, stop = node.start_mark.index, node.end_mark.index
    if key_node is not None and start < key_node.end_mark.index:
        # An alias is the very node of its anchor, with the anchor's marks.
        found = _ALIAS.match(text, key_node.end_mark.index)
        if found is None:
            raise MessageError("an alias cannot be edited in place")
        return found.span(1)
    if _is_block(node) and node.value:
        # A block collection's end mark stands at the next key; its own end is its last leaf's.
        last = node.value[-1]
        key, value = last if isinstance(last, tuple) else (None, last)
        return start, _span(text, key, value)[1]
    return start, start + len(text[start:stop].rstrip())


def _is_block(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and not node.flow_style


def _replacement(
    text: str, key: str, key_node: yaml.Node, node: yaml.Node, value: Any, end: str
) -> list[tuple[int, int, str]]:
    start, stop = _span(text, key_node, node)
    if isinstance(value, dict) and isinstance(node, yaml.MappingNode) and _is_block(node):
        nested = _nested(text, node, value, end)
        if nested is not None:
            return nested
    if isinstance(value, dict | list) and value and (_is_block(node) or node.tag == NULL):
        block = _block(key, value, key_node.start_mark.column, end)
        return [(key_node.start_mark.index, stop, block)]
    new = _value_text(key, value)
    if _is_block(node):
        start = text.index(":", key_node.end_mark.index) + 1
    if not text[:start].endswith((" ", "\t")):
        new = f" {new}"
    return [(start, stop, new)]


def _nested(
    text: str, node: yaml.MappingNode, value: dict[str, Any], end: str
) -> list[tuple[int, int, str]] | None:
    """Return the edits inside a block mapping that change only some of its keys, if that is all."""
    old = front_matter.plain_data(MessageHandler.construct(node))
    keys = {key: (key_node, item) for key, key_node, item in front_matter.pairs(node)}
    if not old.keys() == keys.keys() == value.keys():
        return None
    pieces: list[tuple[int, int, str]] = []
    for key, item in value.items():
        if item != old[key]:
            key_node, item_node = keys[key]
            pieces.extend(_replacement(text, key, key_node, item_node, item, end))
    return pieces


def _block(key: str, value: Any, column: int, end: str) -> str:
    lines = front_matter.dump({key: value}).rstrip("\n").split("\n")
    return (end + " " * column).join(lines)


def _removal(text: str, key_node: yaml.Node, stop: int, *, flow: bool) -> tuple[int, int, str]:
    start = key_node.start_mark.index
    if flow:
        after = re.compile(r"\s*,\s*").match(text, stop)
        before = re.compile(r",\s*\Z").search(text[:start])
        if after:
            return start, after.end(), ""
        return (before.start() if before else start), stop, ""
    line_end = BREAK.search(text, stop)
    return start, line_end.end() if line_end else len(text), ""


def _insertion(
    text: str, root: yaml.MappingNode, key: str, value: Any, end: str
) -> tuple[int, int, str]:
    """Return the edit that adds a key: by the alphabet where the file keeps to it, else last."""
    names = [name for name, _, _ in front_matter.pairs(root)]
    if root.flow_style:
        at = root.value[0][0].start_mark.index if root.value else root.start_mark.index + 1
        return at, at, f"{key}: {_value_text(key, value)}, "
    column = root.start_mark.column
    pad = " " * column
    if isinstance(value, dict | list) and value:
        line = pad + _block(key, value, column, end) + end
    else:
        line = f"{pad}{key}: {_value_text(key, value)}{end}"
    before = None
    if names == sorted(names):
        smaller = [node for (name, _, node) in front_matter.pairs(root) if name < key]
        if not smaller:
            at = root.start_mark.index - column
            return at, at, line
        before = smaller[-1]
    stop = _span(text, None, before or root)[1]
    line_end = BREAK.search(text, stop)
    if line_end is None:
        return len(text), len(text), end + line.removesuffix(end)
    return line_end.end(), line_end.end(), line
