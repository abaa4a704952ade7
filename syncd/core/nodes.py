"""PURE: a YAML text as a tree of nodes, within bounds, and what is wrong with one that is none.

libyaml does the work where it can; what it refuses is tried with the slower pure parser, which is
the one that the old client uses. Nothing here builds a value: depth, number of nodes and what
aliases add are known before. A mistake is told with the line at which a person should look.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from syncd.core.message import MAX_DEPTH
from syncd.errors import MessageError

MAX_NODES = 50_000
MAX_EXPANDED_CHARS = 256 * 1024  # what aliases may add to a text; without them values add less
_OF_A_VALUE = 4  # characters, as JSON, beside its own
MAX_PURE_CHARS = 32 * 1024  # the pure parser reads some 500 characters a millisecond,
MAX_PURE_MARKS = 2_500  # and where many are marks that begin a value, no more than 50 of those

_SAFE_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in (
        *("null", "bool", "int", "float", "binary", "timestamp", "str", "seq", "map", "set"),
        *("omap", "pairs", "merge", "value"),
    )
)
_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
NULL = "tag:yaml.org,2002:null"

_NUMBER = re.compile(r"[-+]?[0-9][0-9_:.]*")
_MAX_NUMBER_CHARS = 1_000  # PyYAML reads numbers to base 60 in quadratic time

# PyYAML answers a text that does not fit its explicit tag, or an escape beyond Unicode, with
# whatever its own code runs into.
PARSING_ERRORS = (yaml.YAMLError, ValueError, OverflowError)

_ANY_BREAK = re.compile(r"\r\n|\r|\n")


def line_at(text: str, index: int) -> int:
    """Return the number of the line (from 1) in which a character stands."""
    return sum(1 for _ in _ANY_BREAK.finditer(text, 0, index)) + 1


def compose(text: str) -> yaml.MappingNode:
    """Return the node tree of a front matter; raises `MessageError` unless it is a safe mapping.

    Nesting, number of nodes and expansion of aliases are bounded before anything is built, since
    libyaml's composer recurses without a limit of its own. An error's line counts within ``text``.
    """
    _check_size(text)
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except PARSING_ERRORS as error:
        if not is_for_the_pure_parser(text):
            raise yaml_error(error, text) from error
        root = compose_purely(text)
    if root is None:
        raise MessageError("the front matter is empty", line=1, hint="Write at least the id.")
    if not isinstance(root, yaml.MappingNode):
        raise MessageError(
            "the front matter is not made of 'key: value' lines",
            line=line_at(text, root.start_mark.index),
            hint="Write one 'key: value' a line between the two '---' lines.",
        )
    _check_tree(root, text)
    return root


def inside(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield the nodes in a list or mapping, keys among them; none for a scalar."""
    if isinstance(node, yaml.CollectionNode):
        for item in node.value:
            yield from item if isinstance(item, tuple) else (item,)


def is_for_the_pure_parser(text: str) -> bool:
    """Tell whether the pure parser is done with a text in a moment."""
    marks = sum(map(text.count, ":,-?[{"))
    return len(text) <= MAX_PURE_CHARS and marks <= MAX_PURE_MARKS


def compose_purely(text: str) -> yaml.Node | None:
    """Return the nodes of a text as the pure parser has them; raises `MessageError` likewise."""
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise MessageError("the front matter nests too deeply") from None
    except PARSING_ERRORS as error:
        raise yaml_error(error, text) from error
    return root


_HINTS = {
    "could not find expected ':'": "Write it as 'key: value', or begin the line with '#'.",
    "characters are not allowed": "Take that character out; not every editor shows it.",
    "expected ',' or": "Close the bracket that begins there, or put the value between quotes.",
    "unexpected end of stream": "Close the quotes that begin there.",
    "cannot start any token": "Indent with spaces, and put such a value between quotes.",
}
"""What to do about a problem, by words in which both parsers name it."""


_CONFLICT_MARK = re.compile(r"(?m)^(?:<{7}|={7}|>{7})(?=\s|\Z)")


def yaml_error(error: Exception, text: str) -> MessageError:
    """Return a parser's refusal of a text as ours, with its line in ``text`` and the way out."""
    problem = problem_of(error)
    if problem.endswith("maximum nesting depth"):
        return MessageError("the front matter nests too deeply")
    conflict = _CONFLICT_MARK.search(text)
    if conflict is not None:
        return MessageError(
            f"a merge left its mark {conflict.group()!r} in the front matter",
            line=line_at(text, conflict.start()),
            hint="Settle the conflict, and take all three marks out.",
        )
    index = _index_of(error, text)
    usual = "Put a value with ': ', '#' or brackets in it between quotes."
    return MessageError(
        f"the front matter is not YAML: {problem}",
        line=line_at(text, index) if index is not None else None,
        hint=next((hint for words, hint in _HINTS.items() if words in problem), usual),
    )


_BEGUN = ("simple key", "quoted scalar", "flow sequence", "flow mapping")


def _index_of(error: Exception, text: str) -> int | None:
    """Return the character at which a person should look; None where the parser does not say."""
    if isinstance(error, yaml.reader.ReaderError):
        if error.encoding == "unicode":
            return int(error.position)
        # libyaml counts bytes.
        return len(
            text.encode("utf-8", "surrogatepass")[: error.position].decode("utf-8", "ignore")
        )
    mark = getattr(error, "problem_mark", None)
    context = getattr(error, "context", None) or ""
    if context.endswith(_BEGUN):  # what is not ended is noticed only where something else begins
        mark = getattr(error, "context_mark", None) or mark
    return mark.index if mark is not None else None


def problem_of(error: BaseException) -> str:
    """Return in a few words what a parser met, without the place."""
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return (str(said).splitlines() or [type(error).__name__])[0]


_BLOCK_NESTING = re.compile(r"(?m)^(?:[-?:] *| )+")


def _check_size(text: str) -> None:
    """Bound depth and number of nodes from the parser's events where the text could exceed them."""
    depth = text.count("[") + text.count("{")
    if depth <= MAX_DEPTH and len(text) <= MAX_NODES:
        depth += max((len(m.group()) for m in _BLOCK_NESTING.finditer(text)), default=0)
        if depth <= MAX_DEPTH:
            return
    depth = nodes = 0
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                nodes += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.NodeEvent):
                nodes += 1
                _check_number(event, text)
            if depth > MAX_DEPTH or nodes > MAX_NODES:
                what = "nests too deeply" if depth > MAX_DEPTH else "has too many values"
                raise MessageError(
                    f"the front matter {what} (at most {MAX_DEPTH} levels, {MAX_NODES} values)",
                    line=line_at(text, event.start_mark.index if event.start_mark else 0),
                )
    except PARSING_ERRORS as error:
        raise yaml_error(error, text) from error


def _check_number(event: yaml.Event, text: str) -> None:
    """Refuse a number so long that PyYAML's patterns for numbers eat the memory."""
    if not isinstance(event, yaml.ScalarEvent) or len(event.value) <= _MAX_NUMBER_CHARS:
        return
    if _NUMBER.fullmatch(event.value):
        line = line_at(text, event.start_mark.index if event.start_mark else 0)
        raise MessageError(f"a number has more than {_MAX_NUMBER_CHARS} digits", line=line)


def _check_tree(root: yaml.Node, text: str) -> None:
    """Refuse tags that name objects, aliases that contain themselves, and endless expansion.

    Through aliases a value can nest deeper than its text does.
    """
    try:
        _check_values(root, len(text) + MAX_EXPANDED_CHARS)
    except _OddValue as odd:
        line = line_at(text, odd.index)
        raise MessageError(odd.sentence, line=line, hint=odd.hint) from None


class _OddValue(Exception):
    """What is wrong with a value, and the character at which it starts."""

    def __init__(self, node: yaml.Node, sentence: str, hint: str = "") -> None:
        self.index, self.sentence, self.hint = node.start_mark.index, sentence, hint


def _check_values(root: yaml.Node, most: int) -> None:
    # `measure` refers to itself: what it sees would live on. The text, which is large, it does not.
    known: dict[int, tuple[int, int]] = {}
    open_nodes: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        """Return how large a value is, and how many levels it has."""
        if id(node) in known:
            return known[id(node)]
        if node.tag not in _SAFE_TAGS:
            hint = "Take the tag out, or put all of the value between quotes."
            raise _OddValue(node, f"the tag {node.tag!r} names no plain value", hint)
        if id(node) in open_nodes:
            raise _OddValue(node, "an alias contains itself")
        size, levels = _OF_A_VALUE, 0
        if isinstance(node, yaml.ScalarNode):
            size += len(node.value)
            if size > _MAX_NUMBER_CHARS and node.tag in _NUMBERS:
                raise _OddValue(node, f"a number has more than {_MAX_NUMBER_CHARS} digits")
        else:
            open_nodes.add(id(node))
            for inner in inside(node):
                inner_size, inner_levels = measure(inner)
                size += inner_size
                levels = max(levels, inner_levels)
            levels += 1
            open_nodes.discard(id(node))
        if size > most:
            raise _OddValue(node, f"the aliases add more than {MAX_EXPANDED_CHARS // 1024} KiB")
        if levels > MAX_DEPTH:
            sentence = f"with its aliases, a value nests deeper than {MAX_DEPTH} levels"
            raise _OddValue(node, sentence)
        known[id(node)] = size, levels
        return size, levels

    measure(root)
