"""Messages as odd as the database can hold them, for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from syncd.core.message import Mailbox, Message, json_text, mailbox_of, normal_body

TRICKY = (
    "# x",
    "# ",
    "#",
    "---",
    "a---",
    "---\n",
    "## Attachments",
    "B\n\n## Attachments\n\n- `a`",
    "B\n## Attachments\n- `a`\n- `b`",
    "## Attachments\n\n- `a`",
    "- `a`",
    "no",
    "null",
    "~",
    "0123",
    "1e3",
    "2026-02-20",
    "key: value",
    "a # b",
    "'",
    '"',
    "\ufeff",
    "\x85",
    "\u2028",
    "\0",
    "\x1c",
    "😀",
    "é",
    "a\r\nb",
    "`",
    " ",
    "\\",
)

chars = st.characters(exclude_categories=["Cs"])
words = st.one_of(st.sampled_from(TRICKY), st.text(chars, max_size=6))
texts = st.lists(st.one_of(words, st.just("\n")), max_size=4).map("".join)
lines = words
file_names = st.text("ab/_.- 7`", max_size=6)

json_values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    texts,
    st.lists(words, max_size=2),
    st.dictionaries(words, st.lists(texts, max_size=2), max_size=2),
)


@st.composite
def messages(draw: st.DrawFn, mailbox: Mailbox | None = None) -> Message:
    """Any message in normal form; with ``mailbox`` one whose status belongs there."""
    status = draw(st.one_of(st.sampled_from(["unread", "read", "archived", "sent"]), texts))
    if mailbox is not None and mailbox_of(status) is not mailbox:
        status = {"outbox": "sent", "inbox/.archive": "archived"}.get(mailbox, "read")
    attachments = draw(
        st.one_of(
            *(st.lists(names, max_size=2) for names in (lines, file_names)),
            st.lists(json_values, max_size=1),
        )
    )
    metadata = draw(st.dictionaries(words, json_values, max_size=2))
    moment = draw(st.datetimes())
    return Message(
        id=draw(lines),
        from_project=draw(lines),
        from_agent=draw(lines),
        to_project=draw(lines),
        to_agent=draw(lines),
        type=draw(lines),
        priority=draw(lines),
        subject=draw(texts),
        body=normal_body(draw(texts)),
        status=status,
        created_at=moment.isoformat() + draw(st.sampled_from(["", "+00:00", "-07:30"])),
        reply_to=draw(st.one_of(st.none(), lines)) or None,
        metadata=json_text(metadata),
        attachments=json_text(attachments),
    )
