r"""PURE: front matter exactly as the old client writes it, without a YAML parser or printer.

Most files are never touched by a person, and a YAML parser spends on each of them several times
what all the rest costs. The old client always writes the same keys, by the alphabet, in PyYAML's
block style and in ASCII. `read` knows that form and nothing else: it returns what `front_matter`
would have read, or None, and then the YAML parser decides. So it may refuse what it likes, but
must never read a text in another way; a property test compares the two.

What makes that safe is that each rule admits only texts that have one meaning in YAML 1.1:

- Only printable ASCII, spaces and ``\n``: no tabs, other breaks, comments, anchors, tags, merge
  keys, block scalars, or flow collections but ``[]`` and ``{}``.
- A value without quotes starts with a letter, a digit, ``/``, ``_`` or ``(`` (or is a number),
  ends in neither space nor colon, and holds neither ``": "`` nor ``" #"``.
- In ``metadata``, where types count, it is text only when no pattern for numbers, dates, booleans
  and null can match it, and a number only in the shape in which PyYAML prints numbers.
- Each line of ``metadata`` stands in the very column in which PyYAML puts it.
- No line but the last ends in ``---``, which is where the old client looks for the end.

`written` goes the other way, and prints less than `read` takes: words of ASCII letters, digits and
``/_.-`` that begin with a letter or ``/``, which can only be text and stand bare; what YAML 1.1
takes for a date, between quotes; and no line so long that PyYAML would fold it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from syncd.core.message import Message, json_text, normal_timestamp

_MAX_CHARS = 32 * 1024
_MAX_COLUMN = 40

# Scalars on one line. Repeats of characters are possessive (++, *+): what was taken is not given
# back, so that a match takes linear time. Those of groups must not be: up to Python 3.11.4 such a
# one keeps what its last, failed turn had taken (gh-106052). Each turn begins as no other can.
_WORDS = r"[!-9;-~]*+(?:(?::(?![ \n])|\ ++(?![\n#]))[!-9;-~]*+)*"
_PLAIN = rf"[A-Za-z0-9/_(]{_WORDS}"
_SINGLE = r"'(?:[ -&(-~]++|'')*'"
_DOUBLE = r'"(?:[ !#-\[\]-~]++|\\[ -~])*"'

# Outside `metadata` a value is the text that is written, whatever its type; only null is none.
# The parser refuses numbers beyond a thousand digits: what may be a long one is left to it.
_TEXT = rf"(?!(?:null|Null|NULL|[0-9][^\n]{{99,}})\n)(?:{_PLAIN}|{_SINGLE}|{_DOUBLE})"

_FRONT_MATTER = re.compile(
    rf"""
    ---\n
    created_at:\ (?P<created_at>'[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9:.+-]++')\n
    from_agent:\ (?P<from_agent>{_TEXT})\n
    from_project:\ (?P<from_project>{_TEXT})\n
    id:\ (?P<id>{_TEXT})\n
    (?:metadata:\n((?:(?:\ [^\n]*+)?\n)+))?
    priority:\ (?P<priority>{_TEXT})\n
    reply_to:\ (?P<reply_to>null|{_TEXT})\n
    status:\ (?P<status>{_TEXT})\n
    to_agent:\ (?P<to_agent>{_TEXT})\n
    to_project:\ (?P<to_project>{_TEXT})\n
    type:\ (?P<type>{_TEXT})\n
    ---\n
    """,
    re.VERBOSE,
)


class Canonical(NamedTuple):
    """What a canonical front matter says, and where the text behind it begins.

    ``metadata`` is JSON text in normal form; the other values are texts.
    """

    created_at: str
    from_agent: str
    from_project: str
    id: str
    metadata: str | None
    priority: str
    reply_to: str | None
    status: str
    to_agent: str
    to_project: str
    type: str
    text_start: int


class _NotCanonical(Exception):
    """What is read here may mean something else to a YAML parser."""


def read(text: str) -> Canonical | None:
    """Read the front matter of a file's text; None unless it is canonical beyond doubt."""
    found = _FRONT_MATTER.match(text, 0, _MAX_CHARS)
    if found is None or text.find("---\n", 4) + 4 != found.end():
        return None
    created, from_agent, from_project, message_id, block, *rest = found.groups()
    priority, reply_to, status, to_agent, to_project, type_ = rest
    try:
        return Canonical(
            normal_timestamp(created[1:-1]),
            _text(from_agent),
            _text(from_project),
            _text(message_id),
            None if block is None else json_text(_metadata(block)),
            _text(priority),
            None if reply_to == "null" else _text(reply_to),
            _text(status),
            _text(to_agent),
            _text(to_project),
            _text(type_),
            found.end(),
        )
    except (_NotCanonical, ValueError):
        return None


def replaced(text: str, scalars: Mapping[str, str]) -> str:
    """Return the canonical front matter at the start of ``text`` with some scalars replaced.

    The text behind it is left out; the scalars are of the ten keys beside ``metadata``.
    """
    found = _FRONT_MATTER.match(text)
    assert found is not None
    head = found.group()
    for key in sorted(scalars, key=found.start, reverse=True):
        start, stop = found.span(key)
        head = head[:start] + scalars[key] + head[stop:]
    return head


# Writing ----------------------------------------------------------------------------------------

_NO_TYPE = r"(?!(?i:yes|no|true|false|on|off|null|y|n)(?:\n|\Z))"
_BARE_WORD = rf"{_NO_TYPE}[A-Za-z/][A-Za-z0-9/_.]*+(?:-[A-Za-z0-9/_.]++)*"
_BARE = re.compile(_BARE_WORD)
_NINE_BARE = re.compile(rf"(?:{_BARE_WORD}\n){{9}}")
_BARE_WORDS = re.compile(rf"{_NO_TYPE}[A-Za-z/][A-Za-z0-9/_.]*+(?:[- ][A-Za-z0-9/_.]++)*")
_BARE_FLOAT = re.compile(r"-?[0-9]+\.[0-9]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\+00:00)?)?")
_WIDTH = 80  # PyYAML folds what is longer


def written(message: Message) -> str | None:
    """Return the front matter of a message, as the old client writes it, or None.

    Like reading, it is done without a YAML printer where the values are plain beyond doubt. Subject
    and attachments are not in it.
    """
    created_at = quoted(message.created_at)
    reply_to, metadata = message.reply_to, ""
    texts = (
        *(message.from_agent, message.from_project, message.id, message.priority),
        *("none" if reply_to is None else reply_to, message.status),
        *(message.to_agent, message.to_project, message.type, ""),
    )
    # A break inside a value makes ten lines of the nine.
    if created_at is None or not _NINE_BARE.fullmatch("\n".join(texts)):
        return None
    if message.metadata is not None:
        try:
            value = json.loads(message.metadata)
            if type(value) is not dict:
                return None
            metadata = f"metadata:\n{_lines(value, '  ')}"
        except (_NotCanonical, RecursionError):
            return None
    return (
        f"---\ncreated_at: {created_at}\nfrom_agent: {message.from_agent}\n"
        f"from_project: {message.from_project}\nid: {message.id}\n{metadata}"
        f"priority: {message.priority}\nreply_to: {'null' if reply_to is None else reply_to}\n"
        f"status: {message.status}\nto_agent: {message.to_agent}\n"
        f"to_project: {message.to_project}\ntype: {message.type}\n---\n"
    )


def scalar(value: str) -> str | None:
    """Return a text as a YAML scalar where no parser need be asked how; else None."""
    return value if _BARE.fullmatch(value) else None


def quoted(value: str) -> str | None:
    """Return a text between quotes, on one line, where no parser need be asked how; else None."""
    if value.isascii() and value.isprintable() and "'" not in value and "---" not in value:
        return f"'{value}'"
    return None


def _lines(value: Any, indent: str) -> str:
    """Return a mapping or a list, neither of them empty, in PyYAML's block style."""
    if len(indent) > _MAX_COLUMN:
        raise _NotCanonical
    if type(value) is list:
        return "".join([_line(f"{indent}-", item, indent, has_key=False) for item in value])
    if not all(map(_BARE.fullmatch, value)):
        raise _NotCanonical
    return "".join(
        [_line(f"{indent}{key}:", value[key], indent, has_key=True) for key in sorted(value)]
    )


def _line(start: str, value: Any, indent: str, *, has_key: bool) -> str:
    """Return the line that begins with ``start``, a key or a dash, and all that stands below it.

    Of a mapping or a list, the first line stands behind a dash, and below a key.
    """
    kind = type(value)
    if value and (kind is dict or kind is list):
        inner = indent if kind is list and has_key else f"{indent}  "
        lines = _lines(value, inner)
        line, below = (f"{start}\n", lines) if has_key else (f"{start} ", lines[len(inner) :])
    else:
        line, below = f"{start} {_printed(value)}\n", ""
    if len(line) > _WIDTH:
        raise _NotCanonical
    return line + below


def _printed(value: Any) -> str:
    """Return a scalar, or an empty mapping or list, as PyYAML prints it."""
    if type(value) is str:
        if _BARE_WORDS.fullmatch(value):
            return value
        if value == "" or _DATE.fullmatch(value):
            return f"'{value}'"
        raise _NotCanonical
    if type(value) is float and not _BARE_FLOAT.fullmatch(repr(value)):
        raise _NotCanonical
    return json.dumps(value)  # of what is left, JSON and YAML have the same spelling


# Scalars ----------------------------------------------------------------------------------------

_FOLD = re.compile(r"\ *+\n[ \n]*+")
_ESCAPE = re.compile(
    r"""
    \\ (?: (\n\ *+)(?!\n) | x([0-9A-F]{2}) | u([0-9A-F]{4}) | U([0-9A-F]{8}) | ([\n -~]) )
    | (\ *+\n[ \n]*+)
    """,
    re.VERBOSE,
)
_ESCAPES = dict(
    zip('0abtnvfre "\\N_LP', '\0\a\b\t\n\v\f\r\x1b "\\\x85\xa0\u2028\u2029', strict=True)
)


def _text(raw: str) -> str:
    if raw[0] == "'":
        inner = raw[1:-1]
        if "\n" in inner:
            inner = _FOLD.sub(_unfolded, inner)
        return inner.replace("''", "'")
    if raw[0] == '"':
        return _ESCAPE.sub(_unescaped, raw[1:-1])
    return raw


def _unfolded(fold: re.Match[str]) -> str:
    """Return what a fold stands for: one break is a space, of several breaks the first is none."""
    breaks = fold.group().count("\n")
    return "\n" * (breaks - 1) if breaks > 1 else " "


def _unescaped(found: re.Match[str]) -> str:
    broken_line, x, u, long_u, letter, fold = found.groups()
    if fold:
        return _unfolded(found)
    if broken_line:
        return ""
    if letter:
        if letter not in _ESCAPES:
            raise _NotCanonical
        return _ESCAPES[letter]
    code = int(x or u or long_u, 16)
    if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
        raise _NotCanonical
    return chr(code)


_CONSTANTS: dict[str, Any] = {"null": None, "true": True, "false": False}
_TYPED_WORDS = frozenset({*_CONSTANTS, "yes", "no", "on", "off"})
_INT = re.compile(r"0|-?[1-9][0-9]{0,17}")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,20}(?:e[-+][0-9]{2})?")
# Of what starts with a digit, all that YAML 1.1 takes for a number or a date, and more.
_NUMBER_OR_DATE = re.compile(
    r"""
    0b[01_]*+
    | 0x[0-9A-Fa-f_]*+
    | [0-9][0-9_]*+ (?::[0-9]++)* (?:\.[0-9_]*+)? (?:[Ee][-+][0-9]++)?
    | [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}[ -~]*+
    """,
    re.VERBOSE,
)


def _value(raw: str) -> Any:
    """Return the value of a scalar, or of ``[]`` and ``{}``, as YAML 1.1 types it."""
    first = raw[0]
    if first in "'\"":
        return _text(raw)
    if first.isalpha():
        if raw.lower() not in _TYPED_WORDS:
            return raw
        if raw not in _CONSTANTS:
            raise _NotCanonical
        return _CONSTANTS[raw]
    if first in "/_(":
        return raw
    if raw == "[]":
        return []
    if raw == "{}":
        return {}
    if _INT.fullmatch(raw):
        return int(raw)
    if _FLOAT.fullmatch(raw):
        return float(raw)
    if first == "-" or _NUMBER_OR_DATE.fullmatch(raw):
        raise _NotCanonical
    return raw


# Metadata ---------------------------------------------------------------------------------------

_KEY = r"[A-Za-z/_][A-Za-z0-9/_.\ -]{0,99}+(?<!\ )"
_LINE = re.compile(
    rf"""(
    (?P<indent>\ *+) ((?:-\ )*)
    (?: ({_KEY}) : (?:\ (?!\n)|(?=\n)) )?
    (
        {_PLAIN} (?: \n(?P=indent)\ \ ++(?![-?:][\ \n]|[\#\n]){_WORDS}(?=\n) )*
        | '(?:[ -&(-~\n]++|'')*'
        | "(?:[ !#-\[\]-~\n]++|\\[ -~\n])*"
        | \[\] | \{{\}} | -[0-9][0-9.e+-]*+
    )?
    \n)""",
    re.VERBOSE,
)
_FOLD_OF_PLAIN = re.compile(r"\n(\ *+)")


def _metadata(block: str) -> dict[str, Any]:
    """Return the mapping that the lines below ``metadata:`` hold.

    ``stack`` holds the mappings and lists that a line may still add to, each with the column in
    which its keys or dashes stand. A list stands in the column of its key, as PyYAML puts it.
    """
    # Not by `findall`: behind a line that is none, it would search at each later character anew.
    lines = []
    end = 0
    while end < len(block):
        line = _LINE.match(block, end)
        if line is None:
            raise _NotCanonical
        lines.append(line.groups(""))
        end = line.end()
    metadata: dict[str, Any] = {}
    stack: list[tuple[int, Any]] = [(2, metadata)]
    open_key = ""
    for _, indent, dashes, key, raw in lines:
        column = len(indent)
        if column < 2 or column + len(dashes) > _MAX_COLUMN or key.lower() in _TYPED_WORDS:
            raise _NotCanonical
        if open_key:
            above, mapping = stack[-1]
            mapping[open_key] = [] if dashes else {}
            stack.append((above if dashes else above + 2, mapping[open_key]))
        else:
            while stack[-1][0] > column:
                stack.pop()
            if not dashes and type(stack[-1][1]) is list:
                stack.pop()
        above, container = stack[-1]
        if above != column or type(container) is not (list if dashes else dict):
            raise _NotCanonical
        if dashes:
            container = _opened_in(stack, dashes, key)
            column += len(dashes)
        if "\n" in raw and raw[0] not in "'\"":
            raw = _on_one_line(raw, column + 2)
        if not key:
            if not (raw and dashes):
                raise _NotCanonical
            container.append(_value(raw))
        elif raw:
            container[key] = _value(raw)
        open_key = "" if raw else key
    if open_key:
        raise _NotCanonical
    return metadata


def _opened_in(stack: list[tuple[int, Any]], dashes: str, key: str) -> Any:
    """Open the lists behind a line's first dash and the mapping of its key; return the last."""
    column, container = stack[-1]
    inner: list[Any] = [[] for _ in range(len(dashes) // 2 - 1)]
    for new in [*inner, {}] if key else inner:
        container.append(new)
        column += 2
        stack.append((column, new))
        container = new
    return container


def _on_one_line(plain: str, column: int) -> str:
    if any(len(spaces) != column for spaces in _FOLD_OF_PLAIN.findall(plain)):
        raise _NotCanonical
    return _FOLD_OF_PLAIN.sub(" ", plain)
