"""PURE: edits of a YAML mapping's text by the spans of its values.

The marks of PyYAML's nodes say where a value stands; everything else stays character for
character.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from typing import Any

import yaml

from syncd.core import front_matter, markdown
from syncd.core.front_matter import MessageHandler, plain_data
from syncd.core.markdown import BREAK
from syncd.core.message import json_text
from syncd.core.nodes import NULL, compose, inside
from syncd.errors import MessageError


def edit_mapping(text: str, root: yaml.MappingNode, values: Mapping[str, Any], end: str) -> str:
    """Return ``text`` with the values of some top-level keys replaced, added, or (None) removed.

    A key that stands twice is edited where it counts, the last time, and removed wherever it
    stands. A ``reply_to`` of None is written as null where the key stands, since the old client
    writes it so. Raises `MessageError` where another key would not read as before.
    """
    pieces: list[tuple[int, int, str]] = []
    standing = list(front_matter.pairs(root))
    keys = {key: (key_node, node) for key, key_node, node in standing}
    # Of several additions at one place the last made stands first.
    for key in sorted(values, reverse=True):
        value = values[key]
        if key in keys:
            key_node, node = keys[key]
            if value is None and key != "reply_to":
                pieces += [
                    _removal(text, name_node, _span(text, name_node, item)[1], root)
                    for name, name_node, item in standing
                    if name == key
                ]
            else:
                new = _replacement(text, key, key_node, node, value, end)
                if isinstance(value, dict) and not _reads_back(_replaced(text, new), key, value):
                    new = _replacement(text, key, key_node, node, value, end, as_a_whole=True)
                pieces.extend(new)
        elif value is not None and value != {}:
            pieces.append(_insertion(text, root, key, value, end))
    edited = _replaced(text, pieces)
    if pieces:
        try:
            others = _others(compose(edited), values)
        except MessageError as error:
            sentence = f"it cannot be edited safely: afterwards, {error.sentence}"
            raise MessageError(sentence) from error
        if others != _others(root, values):
            raise MessageError("it cannot be edited safely: another key would not read as before")
    return edited


def _others(root: yaml.MappingNode, keys: Container[str]) -> dict[str, Any]:
    return {
        name: front_matter.as_written(node)
        for name, _, node in front_matter.pairs(root)
        if name not in keys
    }


def without_tabs(text: str, root: yaml.Node) -> str:
    """Return ``text`` with a blank for each tab that stands neither in a value nor in a comment."""
    pieces: list[str] = []
    at = 0
    for start, stop in sorted(_scalars(root)):
        if start >= at:
            pieces += [_NOT_IN_COMMENT.sub(_blank_for_tab, text[at:start]), text[start:stop]]
            at = stop
    return "".join([*pieces, _NOT_IN_COMMENT.sub(_blank_for_tab, text[at:])])


_NOT_IN_COMMENT = re.compile(r"#[^\r\n]*|\t")


def _blank_for_tab(found: re.Match[str]) -> str:
    return " " if found.group() == "\t" else found.group()


def _scalars(node: yaml.Node) -> Iterator[tuple[int, int]]:
    """Yield where the scalars in a node stand, keys among them."""
    if isinstance(node, yaml.ScalarNode):
        yield node.start_mark.index, node.end_mark.index
    else:
        for inner in inside(node):
            yield from _scalars(inner)


def _value_text(key: str, value: Any) -> str:
    if value is None or isinstance(value, str):
        return markdown.scalar_of(key, value)
    try:
        return _flow(value)
    except RecursionError:
        raise MessageError("a value nests too deeply to be written as YAML") from None


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


def _key_text(key: str) -> str:
    return markdown.scalar_of("", key)


def _flow_key(key: str) -> str:
    text = front_matter.quoted(key)
    return f"? {text} " if len(text) > 1000 else text  # YAML's limit for a simple key is 1024


# No mark may be tried in two ways: white space, and comments that begin behind it and end a line.
_COLON = re.compile(r"(?:\s++(?:#[^\r\n]*+[\r\n]\s*+)*)?:")
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
    if start == stop and key_node is not None and not _COLON.match(text, key_node.end_mark.index):
        # A '? key' alone: what it lacks is marked where the next token begins.
        return key_node.end_mark.index, key_node.end_mark.index
    if _is_block(node) and node.value:
        # A block collection's end mark stands at the next key; its own end is its last leaf's.
        last = node.value[-1]
        key, value = last if isinstance(last, tuple) else (None, last)
        return start, _span(text, key, value)[1]
    return start, start + len(text[start:stop].rstrip())


def _last_leaf(node: yaml.Node) -> yaml.Node:
    """Return the value in which a block ends."""
    while _is_block(node) and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node


def _is_block(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and not node.flow_style


def _replacement(
    text: str,
    key: str,
    key_node: yaml.Node,
    node: yaml.Node,
    value: Any,
    end: str,
    *,
    as_a_whole: bool = False,
) -> list[tuple[int, int, str]]:
    start, stop = _span(text, key_node, node)
    if isinstance(value, dict) and value and isinstance(node, yaml.MappingNode) and node.value:
        nested = None if as_a_whole else _nested(text, node, value, end)
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
    """Return edits inside a mapping that change only some of its keys, where that can be done.

    What comes of it is to be read back: much may stand in there, as merged keys or anchors.
    """
    old = plain_data(MessageHandler.construct(node))
    changed = {name for name in value if not (name in old and _is_same(value[name], old[name]))}
    standing = [one for one in front_matter.pairs(node) if one[1].tag != front_matter.MERGE]
    own = {name for name, _, _ in standing}
    pieces: list[tuple[int, int, str]] = []
    try:
        for name, key_node, item_node in standing:
            if name not in value:
                pieces.append(_removal(text, key_node, _span(text, key_node, item_node)[1], node))
            elif name in changed:
                pieces.extend(_replacement(text, name, key_node, item_node, value[name], end))
        for name in sorted(changed - own, reverse=True):  # what is merged stands elsewhere
            pieces.append(_insertion(text, node, name, value[name], end))
    except MessageError:
        return None
    return pieces


def _reads_back(text: str, key: str, value: dict[str, Any]) -> bool:
    try:
        found = {name: node for name, _, node in front_matter.pairs(compose(text))}.get(key)
        return found is not None and _is_same(plain_data(MessageHandler.construct(found)), value)
    except MessageError:
        return False


def _is_same(one: Any, other: Any) -> bool:
    return json_text(one) == json_text(other)  # to Python, 1 is True


def _replaced(text: str, pieces: list[tuple[int, int, str]]) -> str:
    end = len(text)  # of two neighbours that go, each takes the comma between them
    for start, stop, new in sorted(pieces, key=lambda piece: piece[:2], reverse=True):
        text = text[:start] + new + text[min(stop, end) :]
        end = start
    return text


def _block(key: str, value: Any, column: int, end: str) -> str:
    lines = front_matter.dump({key: value}).rstrip("\n").split("\n")
    return (end + " " * column).join(lines)


def _removal(
    text: str, key_node: yaml.Node, stop: int, root: yaml.MappingNode
) -> tuple[int, int, str]:
    start = key_node.start_mark.index
    if root.flow_style:
        after = re.compile(r"\s*,\s*").match(text, stop)
        before = re.compile(r",\s*\Z").search(text[:start])
        if after:
            return start, after.end(), ""
        return (before.start() if before else start), stop, ""
    line_end = BREAK.search(text, stop)
    start -= key_node.start_mark.column  # with what stands before it, which is white space
    return start, line_end.end() if line_end else len(text), ""


def _insertion(
    text: str, root: yaml.MappingNode, key: str, value: Any, end: str
) -> tuple[int, int, str]:
    """Return the edit that adds a key: by the alphabet where the file keeps to it, else last."""
    names = [name for name, _, _ in front_matter.pairs(root)]
    if root.flow_style:
        at = root.value[0][0].start_mark.index if root.value else root.start_mark.index + 1
        return at, at, f"{_key_text(key)}: {_value_text(key, value)}, "
    column = root.start_mark.column
    pad = " " * column
    if isinstance(value, dict | list) and value:
        line = pad + _block(key, value, column, end) + end
    else:
        line = f"{pad}{_key_text(key)}: {_value_text(key, value)}{end}"
    before: tuple[yaml.Node | None, yaml.Node] = None, root
    if names == sorted(names):
        smaller = [pair for name, *pair in front_matter.pairs(root) if name < key]
        if not smaller:
            at = root.start_mark.index - column
            return at, at, line
        before = smaller[-1][0], smaller[-1][1]
    leaf = _last_leaf(before[1])
    stop = _span(text, *before)[1]
    is_text = isinstance(leaf, yaml.ScalarNode) and leaf.style in ("|", ">")
    if is_text and leaf.end_mark.index > stop:  # else an alias stands there
        stop = leaf.end_mark.index  # with the breaks that it keeps
        if text[:stop].endswith(("\n", "\r")):
            return stop, stop, line
    line_end = BREAK.search(text, stop)
    if line_end is None:
        return len(text), len(text), end + line.removesuffix(end)
    return line_end.end(), line_end.end(), line
