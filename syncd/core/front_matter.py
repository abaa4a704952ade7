"""PURE: the YAML between the two ``---`` lines: finding it, reading it, writing values.

PyYAML's YAML 1.1 rules are the contract's, because the old client reads and writes with PyYAML.
Nothing here builds an object before `syncd.core.nodes` knows it to be small.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

import yaml
from frontmatter.default_handlers import BaseHandler

from syncd.core import canonical
from syncd.core.message import REQUIRED_KEYS, normal_timestamp
from syncd.core.nodes import NULL, PARSING_ERRORS, compose, inside, line_at, problem_of, yaml_error
from syncd.errors import MessageError

MERGE = "tag:yaml.org,2002:merge"

_EPOCH_DIGITS = 11  # what is longer is a date without its marks, or counts in milliseconds

_READING_ERRORS = (
    *PARSING_ERRORS,
    *(TypeError, ArithmeticError, LookupError, AttributeError, RecursionError),
)

_LEGACY_MARK = re.compile(r"---(?:\r\n|\r|\n)")
_OPENING = re.compile(r"\ufeff?\s*---[ \t]*(?:\r\n|\r|\n)")
_CLOSING = re.compile(r"(?:\A|(?<=[\r\n]))---[ \t]*(\r\n|\r|\n|\Z)")


@dataclass(frozen=True)
class FrontMatter:
    """A file's front matter: its source, where it stands in the text, and its nodes.

    ``start`` and ``end`` bound the source in the file's text, ``text_start`` is where the rest
    begins; all count characters. Node marks count from ``start``. ``line`` is that of its first
    character in the file, from 1.
    """

    source: str
    start: int
    end: int
    text_start: int
    root: yaml.MappingNode
    line: int

    @cached_property
    def entries(self) -> dict[str, yaml.Node]:
        """Value nodes by key; of a key that stands twice the last one, as PyYAML has it."""
        pairs = self.root.value
        if any(key.tag == MERGE for key, _ in pairs):
            pairs = _flattened(self.root, self.source, self.line)
        return {key.value: node for key, node in pairs if isinstance(key, yaml.ScalarNode)}

    def text_of(self, key: str) -> str | None:
        """Return a value as text as written; None when the key is missing or its value null.

        A list or a mapping is JSON of such texts: however it is laid out, it is the same.
        """
        node = self.entries.get(key)
        if node is None or node.tag == NULL:
            return None
        written = as_written(node)
        return written if isinstance(written, str) else json.dumps(written, ensure_ascii=False)

    def value_of(self, key: str) -> Any:
        """Return a value as plain JSON data (see `plain_data`); None when the key is missing."""
        node = self.entries.get(key)
        if node is None:
            return None
        try:
            return plain_data(MessageHandler.construct(node))
        except MessageError as error:
            sentence = f"{key}: {error.sentence}"
            line = line_at(self.source, _innermost_odd(node).start_mark.index) + self.line - 1
            raise MessageError(sentence, line=line, hint=error.hint) from error.__cause__

    def line_of(self, key: str, text: str) -> int | None:
        """Return the line in ``text`` (from 1) on which the key's value starts."""
        node = self.entries.get(key)
        if node is None:
            return None
        return line_at(text, self.start + node.start_mark.index)


def as_written(node: yaml.Node) -> Any:
    """Return a value with the texts of its scalars, whatever their types; of null, None."""
    if isinstance(node, yaml.MappingNode):
        return {str(as_written(key)): as_written(item) for key, item in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [as_written(item) for item in node.value]
    return None if node.tag == NULL else _PAIR.sub(_as_one, str(node.value))


_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def _as_one(pair: re.Match[str]) -> str:
    # JSON escapes what is beyond the first 65,536 characters as two; YAML reads each for itself.
    return pair.group().encode("utf-16", "surrogatepass").decode("utf-16")


class _Constructor(yaml.constructor.SafeConstructor):
    """Notes the nodes into which PyYAML puts what they merge: edits go by them as read."""

    def __init__(self) -> None:
        super().__init__()
        self.as_read: list[tuple[yaml.MappingNode, list[Any]]] = []

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == MERGE for key, _ in node.value):
            self.as_read.append((node, list(node.value)))
        super().flatten_mapping(node)


@contextmanager
def _constructor() -> Iterator[_Constructor]:
    constructor = _Constructor()
    try:
        yield constructor
    finally:
        for node, value in reversed(constructor.as_read):
            node.value = value


class MessageHandler(BaseHandler):
    """The door to the YAML: split, load and export as the legacy contract has them."""

    FM_BOUNDARY = _LEGACY_MARK
    START_DELIMITER = END_DELIMITER = "---"

    def detect(self, text: str) -> bool:
        """Tell whether the old client finds front matter in ``text``."""
        return len(_LEGACY_MARK.findall(text)) >= 2

    def split(self, text: str) -> tuple[str, str]:
        """Split ``text`` as the old client does: where ``---`` ends a line, the first two times."""
        marks = _legacy_marks(text)
        if marks is None:
            raise MessageError("there is no front matter")
        return text[marks[0].end() : marks[1].start()], text[marks[1].end() :]

    def load(self, fm: str) -> dict[str, Any]:
        """Return the front matter's values; raises `MessageError` for what is no plain mapping."""
        value = self.construct(compose(fm))
        return dict(value)

    def export(self, metadata: object, **kwargs: object) -> str:
        """Return YAML as the old client writes it; no line of it ends in ``---``."""
        return dump(metadata)

    @staticmethod
    def construct(node: yaml.Node) -> Any:
        """Build the plain Python value of a node that `compose` let pass."""
        try:
            with _constructor() as constructor:
                return constructor.construct_document(node)
        except _READING_ERRORS as error:
            is_said = isinstance(error, (yaml.YAMLError, ValueError))
            reason = problem_of(error) if is_said else "it is not what its tag says"
            raise MessageError(
                f"a value cannot be read: {reason}",
                line=node.start_mark.line + 1,
                hint="Put it between quotes, to have it as text.",
            ) from error


def read(text: str) -> FrontMatter:
    """Find and read the front matter of a file's text.

    What the old client can read is read as it reads it, wherever its two marks stand. Any other
    file has its front matter at the very start, between lines that hold only ``---``. Raises
    `MessageError`, with a line, for a file without front matter or with YAML that cannot be read.
    """
    legacy: FrontMatter | None = None
    marks = _legacy_marks(text)
    if marks is not None:
        with suppress(MessageError):
            legacy = _read_span(text, (marks[0].end(), marks[1].start(), marks[1].end()))
            if legacy.entries.keys() >= REQUIRED_KEYS:
                return legacy
    span = _standard_span(text)
    if legacy is not None and span == (legacy.start, legacy.end, legacy.text_start):
        return legacy
    return _read_span(text, span)


def _legacy_marks(text: str) -> tuple[re.Match[str], re.Match[str]] | None:
    """Return the two ends of the front matter as the old client finds them."""
    matches = _LEGACY_MARK.finditer(text)
    first = next(matches, None)
    second = next(matches, None)
    return (first, second) if first and second else None


def _standard_span(text: str) -> tuple[int, int, int]:
    opening = _OPENING.match(text)
    if opening is None:
        raise MessageError(
            "there is no front matter: the first line is not '---'",
            line=1,
            hint="Start the file with a line '---', the keys (id, from_agent, ...), a line '---'.",
        )
    closing = _CLOSING.search(text, opening.end())
    if closing is None:
        raise MessageError(
            "the front matter is not closed by a line '---'",
            line=line_at(text, opening.end()) - 1,
            hint="Add a line '---' behind the last key.",
        )
    if not closing.group(1):
        raise MessageError(
            "the file ends in the '---' that closes the front matter, as if cut off there",
            line=line_at(text, closing.start()),
            hint="Add a line break behind the closing '---'.",
        )
    return opening.end(), closing.start(), closing.end()


def _read_span(text: str, span: tuple[int, int, int]) -> FrontMatter:
    start, end, text_start = span
    line = line_at(text, start)
    try:
        root = compose(text[start:end])
    except MessageError as error:
        error.line = line - 1 + (error.line or 1)
        raise
    return FrontMatter(text[start:end], start, end, text_start, root, line)


def _innermost_odd(node: yaml.Node) -> yaml.Node:
    """Return the value in a node that keeps it from being read: itself, or one inside."""
    for inner in inside(node):
        try:
            MessageHandler.construct(inner)
        except MessageError:
            return _innermost_odd(inner)
    return node


def _flattened(root: yaml.MappingNode, text: str, line: int) -> list[tuple[yaml.Node, yaml.Node]]:
    copy = yaml.MappingNode(root.tag, list(root.value), root.start_mark, root.end_mark)
    try:
        with _constructor() as constructor:
            constructor.flatten_mapping(copy)
            pairs: list[tuple[yaml.Node, yaml.Node]] = copy.value
            return pairs
    except yaml.YAMLError as error:
        refusal = yaml_error(error, text)
        refusal.line = line - 1 + (refusal.line or 1)
        raise refusal from error


def plain_data(value: Any) -> Any:
    """Return a YAML value as JSON has it (design, section 2.3).

    Dates become ISO text, sets and tuples lists, binary base64, NaN and infinities null, and keys
    text.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value - value == 0 else None
        case datetime() | date():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case dict():
            return {_key_text(key): plain_data(item) for key, item in value.items()}
        case set():
            return sorted((plain_data(item) for item in value), key=str)
        case _:
            return [plain_data(item) for item in value]


def _key_text(key: Any) -> str:
    match plain_data(key):
        case str(text):
            return text
        case None:
            return "null"
        case True | False as flag:
            return str(flag).lower()
        case other:
            return str(other)


def timestamp(text: str) -> str:
    """Return a front matter's timestamp in normal form.

    Accepted are what `datetime.fromisoformat` takes, YAML timestamps, and whole epoch seconds.
    Raises `MessageError` for anything else.
    """
    try:
        if text.isascii() and text.isdigit() and len(text) != 8 and len(text) <= _EPOCH_DIGITS:
            return datetime.fromtimestamp(int(text), UTC).isoformat()
        return normal_timestamp(text)
    except (ValueError, OverflowError, OSError):
        pass
    if yaml.constructor.SafeConstructor.timestamp_regexp.match(text):
        node = yaml.ScalarNode("tag:yaml.org,2002:timestamp", text)
        try:
            moment = yaml.constructor.SafeConstructor().construct_yaml_timestamp(node)
        except (ValueError, OverflowError):
            pass
        else:
            if not isinstance(moment, datetime):
                moment = datetime(moment.year, moment.month, moment.day)
            return moment.isoformat()
    raise MessageError(
        f"created_at is {text[:60]!r}, which is no date",
        hint="Write it like '2026-02-20T20:15:00+00:00', between quotes.",
    )


# Writing ----------------------------------------------------------------------------------------

_ONE_LINE = 2**31 - 1
_BREAKS = re.compile(r"[\n\r\x85\u2028\u2029]|---")


def _represent_text(dumper: Any, text: str) -> yaml.ScalarNode:
    # The old client splits a file where "---" ends a line. Double quotes keep it off the end of
    # a line: a break inside them is written as a backslash, and the last character is the quote.
    style = '"' if "---" in text else None
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style)
    return node


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


class _PureDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(str, _represent_text)
_PureDumper.add_representer(str, _represent_text)


def dump(value: object, *, width: int = 80) -> str:
    """Return block-style YAML with sorted keys and ASCII escapes, ending in a line break."""
    return _dumped(value, default_flow_style=False, width=width)


def _dumped(value: object, **options: Any) -> str:
    try:
        try:
            text: str = yaml.dump(value, Dumper=_Dumper, **options)
        except UnicodeEncodeError:  # a lone surrogate: only the pure emitter escapes it
            text = yaml.dump(value, Dumper=_PureDumper, **options)
    except RecursionError:
        raise MessageError("a value nests too deeply to be written as YAML") from None
    return text


def scalar(value: str) -> str:
    """Return a text as a one-line YAML scalar that reads back as that text."""
    if _BREAKS.search(value):
        return quoted(value)
    return dump(value, width=_ONE_LINE).removesuffix("\n...\n").removesuffix("\n")


def quoted(value: str) -> str:
    """Return a text as a YAML scalar between quotes, on one line."""
    easy = canonical.quoted(value)
    if easy is not None:
        return easy
    return _dumped(value, default_style='"', width=_ONE_LINE).removesuffix("\n")


def pairs(root: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Yield text and node of each key of a mapping with its value, in the file's order."""
    for key, node in root.value:
        if isinstance(key, yaml.ScalarNode):
            yield str(key.value), key, node
