"""PURE: a file's bytes ⇄ a message, with the text behind the front matter cut up and laid out.

Nothing is written that was not read back first: `render` parses what it made and refuses
(`MessageError`) when it is not the message that was meant.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from syncd.core import canonical
from syncd.core.canonical import Canonical
from syncd.core.message import (
    DEFAULTS,
    FIELDS,
    UNKNOWN_PROJECT,
    Mailbox,
    Message,
    attachment_names,
    json_text,
    normal_body,
    status_in,
    time_in_id,
)
from syncd.errors import MessageError

if TYPE_CHECKING:
    from syncd.core.front_matter import FrontMatter

BREAK = re.compile(r"\r\n|\r|\n")
_BREAK_START = re.compile(r"[\r\n]")
_NO_SPACE = re.compile(r"\S")
_MAX_ITEMS = 10_000
# A break of two characters is also two breaks, and nothing may try both for each: hence `?+`.
_SECTION = re.compile(
    r"(?:\r\n?+|\n)## Attachments(?=[\r\n])"  # with blanks behind it is none to the old client
    r"(?:(?:[ \t]*+(?:\r\n?+|\n))+- `[^`\r\n]++`)+[ \t]*+\Z"
)
SECTION_HEADING = "## Attachments"
_ITEM = re.compile(r"- `([^`\r\n]+)`")

TEXT_KEYS = ("from_project", "from_agent", "to_project", "to_agent", "type", "priority")


class Place(NamedTuple):
    """What a file's surroundings say where its front matter is silent.

    ``path`` is the file's path below ``.claude-mpm``, ``project`` the project's own path, and
    ``written_at`` the file's mtime as ISO 8601 text.
    """

    path: str
    mailbox: Mailbox
    project: str
    written_at: str

    @property
    def stem(self) -> str:
        return self.path.rpartition("/")[2].removesuffix(".md")


class ParsedFile(NamedTuple):
    """A file read as a message: ``said`` are the fields that it states itself.

    ``message.status`` is what folder and front matter say without a baseline; ``status_said`` is
    the front matter's own word, or None. ``is_keyed`` tells that subject or attachments stand in
    the front matter, where the old client does not see them.
    """

    message: Message
    said: frozenset[str]
    status_said: str | None
    is_keyed: bool = False


class Parts(NamedTuple):
    """The text behind the front matter, cut up; joined again they are that text.

    ``heading`` is the line ``# …`` or empty, ``section`` runs from ``## Attachments`` to the last
    item or is empty, the ``gap``s are the white space between.
    """

    lead: str
    heading: str
    gap: str
    body: str
    section_gap: str
    section: str
    trail: str

    def join(self) -> str:
        return "".join(self)


def decode(data: bytes) -> str:
    """Return a file's text; raises `MessageError` for what is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            sentence = "the file is UTF-16, not UTF-8"
        else:
            sentence = f"the file is not UTF-8: byte 0x{data[error.start]:02x}"
        line = len(BREAK.findall(data[: error.start].decode("utf-8", "replace"))) + 1
        raise MessageError(sentence, line=line, hint="Save it as UTF-8.") from error


def parse(data: bytes, place: Place) -> ParsedFile:
    """Read a file's bytes as a message; raises `MessageError` with the line where that fails."""
    if not data or data.isspace():
        raise MessageError("the file is empty", hint="Delete it, or write a message into it.")
    text = decode(data)
    head = canonical.read(text)
    if head is not None:
        return read_canonical(text, head, place)
    from syncd.core import front_matter

    return read_text(text, front_matter.read(text), place)


_ALL_SAID = frozenset(("id", *FIELDS))


def read_canonical(text: str, head: Canonical, place: Place) -> ParsedFile:
    """Read a file's text, whose front matter is canonical: `read_text` says the same of it."""
    _, heading, _, body, _, section, _ = _pieces(text, head.text_start, None, keyed=False)
    message = Message(
        id=head.id,
        from_project=head.from_project,
        from_agent=head.from_agent,
        to_project=head.to_project,
        to_agent=head.to_agent,
        type=head.type,
        priority=head.priority,
        subject=heading[2:].strip(),
        body=normal_body(body),
        status=status_in(place.mailbox, head.status),
        created_at=head.created_at,
        reply_to=head.reply_to or None,
        metadata=head.metadata,
        attachments=json_text(_ITEM.findall(section)) if section else None,
    )
    return ParsedFile(message, _ALL_SAID, head.status)


def read_text(text: str, head: FrontMatter, place: Place) -> ParsedFile:
    """Read a file's text, whose front matter is ``head``, as a message."""
    from syncd.core import front_matter

    texts = {key: head.text_of(key) for key in TEXT_KEYS}
    said = {key for key in TEXT_KEYS if texts[key] is not None}
    message_id = head.text_of("id")
    if message_id is None:
        message_id = place.stem
    else:
        said.add("id")
    own = place.project
    unsaid = DEFAULTS | {
        "from_project": own if place.mailbox is Mailbox.OUTBOX else UNKNOWN_PROJECT,
        "to_project": UNKNOWN_PROJECT if place.mailbox is Mailbox.OUTBOX else own,
    }
    values = {key: unsaid[key] if value is None else value for key, value in texts.items()}
    created = head.text_of("created_at")
    if created is None:
        created_at = time_in_id(message_id) or place.written_at
    else:
        said.add("created_at")
        try:
            created_at = front_matter.timestamp(created)
        except MessageError as error:
            error.line = head.line_of("created_at", text)
            raise
    subject_key = head.text_of("subject")
    attachments_key = attachments_value(head)
    parts = cut(text, head.text_start, subject_key, keyed=attachments_key is not None)
    status_said = head.text_of("status")
    message = Message(
        id=message_id,
        subject=parts.heading[2:].strip() if subject_key is None else subject_key,
        body=normal_body(parts.body),
        status=status_in(place.mailbox, status_said),
        created_at=created_at,
        reply_to=head.text_of("reply_to") or None,
        metadata=json_text(head.value_of("metadata")),
        attachments=json_text(
            _ITEM.findall(parts.section) if attachments_key is None else attachments_key
        ),
        **values,
    )
    if "\\" in head.source:
        _check_utf8(message)
    said |= {"subject", "body", "reply_to", "metadata", "attachments", "status"}
    is_keyed = subject_key is not None or attachments_key is not None
    return ParsedFile(message, frozenset(said), status_said, is_keyed)


def _check_utf8(message: Message) -> None:
    """Refuse half a surrogate pair, which an escape can smuggle in and no database takes."""
    for name in ("id", *FIELDS):
        value = getattr(message, name)
        try:
            (value or "").encode()
        except UnicodeEncodeError:
            raise MessageError(f"{name} holds half a surrogate pair, which UTF-8 lacks") from None


def attachments_value(head: FrontMatter) -> Any:
    value = head.value_of("attachments")
    if value is None or isinstance(value, list | dict):
        return value
    return [head.text_of("attachments")]


def rendition(subject: str) -> str:
    """Return a subject that no heading can carry as the heading that comes closest."""
    return " ".join(subject.split())


def cut(text: str, start: int, subject_key: str | None, *, keyed: bool) -> Parts:
    """Cut the text behind the front matter, which ends at ``start``, into its parts.

    ``subject_key`` is the front matter's ``subject``: a heading is then only what repeats it.
    With ``keyed`` attachments stand in the front matter, and no section is looked for. A text may
    be large: no more of it is copied than the parts.
    """
    return Parts(*_pieces(text, start, subject_key, keyed=keyed))


def _pieces(
    text: str, start: int, subject_key: str | None, *, keyed: bool
) -> tuple[str, str, str, str, str, str, str]:
    """Return what `cut` does, as a tuple: reading needs no more."""
    last = len(text)
    first = _first_inside(text, start, last)
    while first < last and text[last - 1].isspace():
        last -= 1
    heading_end = first
    if text.startswith("# ", first, last):
        end = _BREAK_START.search(text, first, last)
        line_end = end.start() if end else last
        if subject_key is None or (
            text[first + 2 : line_end].strip() == rendition(subject_key) != ""
        ):
            heading_end = line_end
    body_start = _first_inside(text, heading_end, last)
    body, section_gap, section = text[body_start:last], "", ""
    if not keyed and body.endswith("`"):
        found = _last_section(body)
        if found is not None:
            at = body.index(SECTION_HEADING, found.start())
            section = body[at:]
            before = body[: found.start()].rstrip()
            section_gap = body[len(before) : at]
            body = before
    return (
        text[start:first],
        text[first:heading_end],
        text[heading_end:body_start],
        body,
        section_gap,
        section,
        text[last:],
    )


def _first_inside(text: str, start: int, end: int) -> int:
    """Return where the first character that is no white space stands, or ``end``."""
    found = _NO_SPACE.search(text, start, end)
    return found.start() if found else end


def _last_section(body: str) -> re.Match[str] | None:
    at = max(body.rfind(f"\n{SECTION_HEADING}"), body.rfind(f"\r{SECTION_HEADING}"))
    if at < 0 or body.count("- `", at) > _MAX_ITEMS:
        return None  # to match so many items would take more memory than the file
    return _SECTION.match(body, at - 1 if body[at - 1 : at + 1] == "\r\n" else at)


# Writing ----------------------------------------------------------------------------------------


class Layout(NamedTuple):
    """How subject, body and attachments are laid out; a key of None is not written."""

    heading: str
    items: list[str]
    subject_key: str | None
    attachments_key: Any

    @property
    def has_keys(self) -> bool:
        """Whether the legacy form alone cannot carry the values."""
        return self.subject_key is not None or self.attachments_key is not None

    @property
    def section(self) -> str:
        if not self.items:
            return ""
        return "\n".join([SECTION_HEADING, "", *(f"- `{item}`" for item in self.items)])


def layout_of(message: Message) -> Layout:
    """Choose the legacy form where it can carry the values, and extra keys where it cannot."""
    subject, body = message.subject, message.body
    fits = subject == subject.strip() and len(subject.splitlines()) <= 1
    heading = f"# {subject if fits else rendition(subject)}" if subject.strip() else ""
    lost = not fits or (not subject and body.startswith("# "))
    names = attachment_names(message.attachments)
    if names is not None and body and all(map(_is_plain_name, names)):
        keyed = not names and _last_section(body) is not None
        return Layout(heading, names, subject if lost else None, [] if keyed else None)
    value = json.loads(message.attachments) if message.attachments is not None else None
    return Layout(heading, [], subject if lost else None, value)


def _is_plain_name(name: str) -> bool:
    # The old client strips these characters from both ends of an item, the name's own too.
    return "`" not in name and name == name.strip("- ").strip() and len(name.splitlines()) == 1


def render(message: Message, place: Place) -> bytes:
    """Return the bytes of a new file, as the old client writes it.

    Raises `MessageError` when what was written does not read back as ``message``.
    """
    return proven(laid_out(message), message, place)


def laid_out(message: Message) -> str:
    """Return the text of a new file, as the old client writes it, yet to be `proven`.

    Values that the legacy form cannot carry stand in extra front matter keys.
    """
    layout = layout_of(message)
    head = None if layout.has_keys else canonical.written(message)
    if head is None:
        head = written_with_yaml(message, layout)
    pieces = [piece for piece in (layout.heading, message.body, layout.section) if piece]
    return f"{head}\n" + "\n\n".join(pieces)


def written_with_yaml(message: Message, layout: Layout) -> str:
    """Return a message's front matter; `canonical.written` gives the same, where it gives one."""
    lines = {
        key: f"{key}: {scalar_of(key, getattr(message, key))}\n"
        for key in ("created_at", "id", *TEXT_KEYS, "reply_to", "status")
    }
    if message.metadata is not None:
        lines["metadata"] = _block({"metadata": json.loads(message.metadata)})
    if layout.subject_key is not None:
        lines["subject"] = f"subject: {scalar_of('subject', layout.subject_key)}\n"
    if layout.attachments_key is not None:
        lines["attachments"] = _block({"attachments": layout.attachments_key})
    return f"---\n{''.join(lines[key] for key in sorted(lines))}---\n"


def scalar_of(key: str, value: str | None) -> str:
    """Return a value as the YAML scalar, on one line, that is written behind ``key:``."""
    if value is None:
        return "null"
    is_quoted = key in ("created_at", "subject")
    easy = canonical.quoted(value) if is_quoted else canonical.scalar(value)
    if easy is not None:
        return easy
    from syncd.core import front_matter

    return front_matter.quoted(value) if is_quoted else front_matter.scalar(value)


def _block(value: object) -> str:
    from syncd.core import front_matter

    return front_matter.dump(value)


def proven(text: str, message: Message, place: Place) -> bytes:
    """Return ``text`` as bytes when both clients read ``message`` from it, else raise."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise MessageError("a value holds half a surrogate pair, which UTF-8 lacks") from error
    parsed = parse(data, place)
    if parsed.message != message:
        wrong = [
            name
            for name in ("id", *FIELDS)
            if getattr(parsed.message, name) != getattr(message, name)
        ]
        raise MessageError(f"{', '.join(wrong)} would not read back")
    return data
