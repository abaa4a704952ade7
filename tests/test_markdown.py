"""Files and messages: what is read, what is written, and that nothing is lost between."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from syncd.core.edit import edit, repair
from syncd.core.legacy import legacy_problem, legacy_view, view_beside_fields
from syncd.core.markdown import Place, parse, render
from syncd.core.message import (
    FIELDS,
    Mailbox,
    Message,
    attachment_names,
    fingerprint,
    fingerprints,
    json_text,
    mailbox_of,
    normal_json,
    status_in,
)
from syncd.errors import MessageError
from tests.clients import parse_legacy, render_legacy
from tests.strategies import messages

QUIRKS = Path(__file__).parent.parent / "fixtures" / "quirks"


def place_of(message_or_mailbox: Message | Mailbox, stem: str = "x") -> Place:
    mailbox = (
        message_or_mailbox
        if isinstance(message_or_mailbox, Mailbox)
        else mailbox_of(message_or_mailbox.status)
    )
    return Place(f"{mailbox}/{stem}.md", mailbox, "/p/own", "2026-01-01T00:00:00+00:00")


@given(messages())
def test_row_to_file_to_row_loses_nothing(message: Message) -> None:
    place = place_of(message)
    data = render(message, place)
    assert message == parse(data, place).message


@given(messages())
def test_the_old_client_reads_what_syncd_writes(message: Message) -> None:
    place = place_of(message)
    data = render(message, place)
    assert legacy_problem(data) is None
    legacy = parse_legacy(data)
    for name in ("id", "from_project", "from_agent", "to_project", "to_agent"):
        assert getattr(message, name) == getattr(legacy, name)
    assert message.type == legacy.type
    assert message.status == legacy.status
    assert message.reply_to == legacy.reply_to
    assert json.loads(message.metadata or "{}") == (legacy.metadata or {})
    head = data.decode().partition("\n---\n")[0]
    subject_fits = "\nsubject:" not in head
    if subject_fits:
        assert message.subject == legacy.subject
    if subject_fits and "\nattachments:" not in head and "\n## Attachments" not in message.body:
        assert message.body == legacy.body
        assert (attachment_names(message.attachments) or []) == legacy.attachments


def _plain(body: str) -> Message:
    return Message(
        *("id", "/a", "pm", "/b", "pm", "task", "normal", "Subject", body, "unread"),
        *("2026-02-20T00:00:00+00:00", None, None, None),
    )


@example(_plain("# x\x850")._replace(subject=""))
@given(messages(Mailbox.INBOX))
def test_a_rewrite_by_the_old_client_has_the_view_of_what_it_read(message: Message) -> None:
    # The old client itself breaks a file by writing a value that ends a line in "---".
    assume(not any("---" in value for value in message[1:] if value))
    assume("---" not in message.id)
    place = place_of(Mailbox.INBOX)
    data = render(message, place)
    rewrite = render_legacy(replace(parse_legacy(data), status="read")).encode()
    rewritten = parse(rewrite, place).message
    assert legacy_view(data, message) == legacy_view(rewrite, rewritten)
    if not view_beside_fields(data, message):
        assert message._replace(status="") == rewritten._replace(status="")


_EDGES = st.tuples(
    st.sampled_from(["", "S", " p ", "a\nb", "# h"]),
    st.sampled_from(
        ["", "B", "# H\n\nB", "B\n\n## Attachments\n\n- `x`", "B\n## Attachments\nfoo"]
    ),
    st.sampled_from([None, '["a"]', '["`"]']),
)


@example(("S", "", '["a"]'), ("S", "B", '["a"]'))
@example(("", "# H\n\nB", None), ("Real", "# H\n\nB", None))
@given(_EDGES, _EDGES)
def test_an_edited_file_is_to_the_old_client_what_a_new_one_would_be(
    before: tuple[str, str, str | None], after: tuple[str, str, str | None]
) -> None:
    names = ("subject", "body", "attachments")
    first, then = (
        _plain("")._replace(**dict(zip(names, values, strict=True))) for values in (before, after)
    )
    place = place_of(Mailbox.INBOX)
    data = edit(render(first, place), then, place, status_said=None)
    seen = parse_legacy(data)
    assert parse_legacy(render(then, place)) == seen
    rewrite = render_legacy(replace(seen, status="read")).encode()
    assert legacy_view(data, then) == legacy_view(rewrite, parse(rewrite, place).message)


WRITTEN = render(
    Message(
        *("m", "/p/a", "pm", "/p/b", "pm", "task", "normal", "S", "B", "unread"),
        *("2026-02-20T20:15:00+00:00", None, None, None),
    ),
    place_of(Mailbox.INBOX),
)
_DATE = b"'2026-02-20T20:15:00+00:00'"


@pytest.mark.parametrize(
    ("line", "odd", "repaired"),
    [
        (b"priority: normal", b"priority: normal\t# why\tnot", b"priority: normal # why\tnot"),
        (b"from_agent: pm", b"from_agent:\t'p\tm'\t", b"from_agent: 'p\tm' "),
        (b"type: task", b"tags: [a,\tb]\ntype: task", b"tags: [a, b]\ntype: task"),
        (_DATE, b"'2026-2-20 20:15:00 Z'", _DATE),
        (_DATE, b"|\n  2026-02-20T20:15:00+00:00", _DATE),
        (_DATE, b"2026-02-20T20:15:00Z", _DATE),
    ],
)
def test_what_only_the_old_client_cannot_read_is_repaired(
    line: bytes, odd: bytes, repaired: bytes
) -> None:
    data, place = WRITTEN.replace(line, odd), place_of(Mailbox.INBOX)
    parse(data, place)
    with pytest.raises((ValueError, TypeError, yaml.YAMLError)):
        parse_legacy(data)
    assert legacy_problem(data) is not None
    assert WRITTEN.replace(line, repaired) == repair(data, place)
    parse_legacy(repair(data, place))


@pytest.mark.parametrize("odd", [b"to_agent: |# c\n  pm", b"x: !=!a pm\nto_agent: pm", b"x: [2?]"])
def test_what_the_old_clients_parser_refuses_is_told(odd: bytes) -> None:
    data = WRITTEN.replace(b"to_agent: pm", odd)
    with pytest.raises(yaml.YAMLError):
        parse_legacy(data)
    assert legacy_problem(data) is not None


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "body",
    [
        "x\r\n## Attachments" + "\r\n" * 5_000 + "- `a` and `b`",
        "x\r\n## Attachments" + "\r\n- `a`" * 5_000 + "\r\n- `a` and `b`",
        "x ## Attachments " * 100_000 + "`",
    ],
    ids=["blank lines", "items", "headings inside a line"],
)
def test_what_is_nearly_a_section_takes_no_time(body: str) -> None:
    head = render(_plain("x"), place_of(Mailbox.INBOX)).decode().partition("\n---\n")[0]
    data = f"{head}\n---\n\n{body}".encode()
    assert parse(data, place_of(Mailbox.INBOX)).message.attachments is None


def test_a_section_may_have_line_ends_of_two_characters() -> None:
    text = render(_plain("words"), place_of(Mailbox.INBOX)).decode()
    data = f"{text}\n\n## Attachments\n\n- `a`\n- `b`\n".replace("\n", "\r\n").encode()
    assert parse(data, place_of(Mailbox.INBOX)).message.attachments == '["a", "b"]'


def test_a_number_beyond_all_floats_counts_as_nothing() -> None:
    assert normal_json("1e999") is None


@given(messages())
def test_the_fingerprints_are_those_of_the_single_values(message: Message) -> None:
    assert tuple(map(fingerprint, message[1:])) == fingerprints(message)


@given(
    messages(Mailbox.INBOX),
    messages(Mailbox.INBOX),
    st.sets(st.sampled_from(FIELDS)),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_an_edit_reads_back_and_leaves_the_rest(
    old: Message, new: Message, fields: set[str], line_end: str
) -> None:
    place = place_of(Mailbox.INBOX)
    data = render(old, place).replace(b"\r", b" ").replace(b"\n", line_end.encode())
    data = data.replace(f"---{line_end}".encode(), f"---{line_end}# note{line_end}".encode(), 1)
    before = parse(data, place).message
    values = {name: getattr(new if name in fields else before, name) for name in FIELDS}
    wanted = Message(id=before.id, **values)
    said = wanted.status if wanted.status != before.status else None
    edited = edit(data, wanted, place, status_said=said)
    assert wanted == parse(edited, place).message
    assert edited.startswith(f"---{line_end}# note{line_end}".encode())
    if wanted == before:
        assert data == edited


@pytest.mark.parametrize("path", sorted(QUIRKS.glob("*.md")), ids=lambda path: path.stem)
def test_a_quirk_ends_as_the_old_client_has_it_or_is_refused(path: Path) -> None:
    if path.stem == "README":
        return
    expected = json.loads((QUIRKS / "old_client.json").read_text())[path.stem]
    place = place_of(Mailbox.INBOX, path.stem)
    if not expected["ok"] and path.stem not in IMPORTED_BEYOND:
        with pytest.raises(MessageError) as caught:
            parse(path.read_bytes(), place)
        assert caught.value.sentence
        return
    message = parse(path.read_bytes(), place).message
    if not expected["ok"]:
        assert IMPORTED_BEYOND[path.stem] == message.created_at
        return
    assert expected["subject"] == message.subject
    assert expected["created_at"] == message.created_at
    assert expected["id"] == repr(message.id)
    body, names = LOSSLESS.get(path.stem, (expected["body"], expected["attachments"]))
    assert body == message.body
    assert names == (attachment_names(message.attachments) or [])


IMPORTED_BEYOND = {
    "created_unq_space": "2026-02-20T01:02:03",
    "missing_created": "2026-01-01T00:00:00+00:00",
    "open_trailing_space": "2026-02-20T01:02:03.456789+00:00",
}
"""Files that the old client cannot read and the design says how to read, with their time."""

LOSSLESS: dict[str, tuple[str, list[str]]] = {
    "att_in_codeblock": ("```\nx\n## Attachments\n- `z`\n```\nmore", []),
    "att_prose": ("B\n\n## Attachments\n\nsee the folder", []),
    "att_trailing_section": ("B\n\n## Attachments\n\n- `a.txt`\n\n## Next\n\nmore text", []),
}
"""Where the old client cuts text off and syncd keeps it."""


def test_metadata_becomes_json_with_dates_as_text_and_keys_as_text() -> None:
    data = (QUIRKS / "metadata_nonstrkey.md").read_bytes()
    assert '{"1": "b", "null": "c"}' == parse(data, place_of(Mailbox.INBOX)).message.metadata
    data = (QUIRKS / "metadata_dt.md").read_bytes()
    assert (
        '{"due": "2026-03-01T00:00:00+00:00"}'
        == parse(data, place_of(Mailbox.INBOX)).message.metadata
    )
    data = (QUIRKS / "metadata_bin.md").read_bytes()
    assert '{"b": "aGVsbG8="}' == parse(data, place_of(Mailbox.INBOX)).message.metadata


def message_with(line: str) -> Message:
    """Return the message of a file that people wrote, with this line in its front matter."""
    return parse(f"---\nid: x\n{line}\n---\n\n# S\n".encode(), place_of(Mailbox.INBOX)).message


@pytest.mark.parametrize(
    ("written", "json"),
    [
        ("{a: !!set {e, d, c, b, a}}", '{"a": ["a", "b", "c", "d", "e"]}'),
        ("{a: .nan, b: .inf, c: -.inf, d: 1.5}", '{"a": null, "b": null, "c": null, "d": 1.5}'),
        ("{true: a, 2026-02-20: b, 1.5: c}", '{"1.5": "c", "2026-02-20": "b", "true": "a"}'),
        ("{a: 2026-02-20, b: yes, c: 010}", '{"a": "2026-02-20", "b": true, "c": 8}'),
    ],
)
def test_metadata_of_any_yaml_type_become_json(written: str, json: str) -> None:
    assert json == message_with(f"metadata: {written}").metadata


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("2026-02-20", "2026-02-20T00:00:00"),
        ("20260220", "2026-02-20T00:00:00"),
        ("1771574400", "2026-02-20T08:00:00+00:00"),
        ("0", "1970-01-01T00:00:00+00:00"),
        ("2026-2-3", "2026-02-03T00:00:00"),
        ("2026-02-20 1:02:03 -5", "2026-02-20T01:02:03-05:00"),
        ("2026-02-20 20:15:00.5 Z", "2026-02-20T20:15:00.500000+00:00"),
    ],
)
def test_a_date_may_be_iso_8601_a_yaml_timestamp_or_whole_epoch_seconds(
    written: str, text: str
) -> None:
    assert text == message_with(f"created_at: {written}").created_at


def test_the_front_matter_of_a_new_file_is_ascii_as_the_old_client_writes_it() -> None:
    message = message_with("from_agent: é\nreply_to: ß\nmetadata: {ä: [—, 📬], z: ü}")
    head = render(message, place_of(message)).split(b"---\n")[1]
    assert head.isascii()


def test_an_edit_of_the_status_changes_only_that_word() -> None:
    for path in sorted(QUIRKS.glob("*.md")):
        place = place_of(Mailbox.INBOX, path.stem)
        data = path.read_bytes()
        try:
            message = parse(data, place).message
        except MessageError:
            continue
        if path.stem in ("status_int", "dup_keys"):
            continue
        edited = edit(data, message, place, status_said="waiting")
        assert data.replace(b"status: unread", b"status: waiting") == edited, path.stem


def test_an_edit_of_a_key_that_stands_twice_changes_the_one_that_counts() -> None:
    data = (QUIRKS / "dup_keys.md").read_bytes()
    place = place_of(Mailbox.INBOX)
    edited = edit(data, parse(data, place).message, place, status_said="done")
    assert data.replace(b"status: read\n", b"status: done\n") == edited


def test_a_key_that_stands_twice_is_removed_wherever_it_stands() -> None:
    twice = HAND_MADE.replace(b"created_at", b"metadata: {b: 2}\ncreated_at")
    once = HAND_MADE.replace(b"metadata:\n  due: 2026-03-01  # soon\n  tags: [a, b]\n", b"")
    assert once == edited(twice, metadata=None)


@pytest.mark.parametrize("date", ["202602202015", "20260220201533", "1771618500000"])
def test_a_date_without_its_marks_is_not_taken_for_seconds(date: str) -> None:
    data = HAND_MADE.replace(b"2026-02-20T20:15:00Z", date.encode())
    with pytest.raises(MessageError, match="which is no date"):
        parse(data, place_of(Mailbox.INBOX))


HAND_MADE = b"""\
---
# who sent it
id: msg-1
from_agent: pm   # the boss
to_agent: &me engineer
priority: "high"
owner: *me
metadata:
  due: 2026-03-01  # soon
  tags: [a, b]
created_at: 2026-02-20T20:15:00Z
---
# Title

Words.
"""


def edited(data: bytes, **changes: str | None) -> bytes:
    place = place_of(Mailbox.INBOX)
    message = parse(data, place).message
    values = {name: changes.get(name, getattr(message, name)) for name in FIELDS}
    said = changes.get("status")
    return edit(data, Message(id=message.id, **values), place, status_said=said)  # type: ignore[arg-type]


def test_an_edit_keeps_comments_order_and_quoting() -> None:
    assert HAND_MADE.replace(b"pm   #", b"qa   #") == edited(HAND_MADE, from_agent="qa")
    assert HAND_MADE.replace(b'"high"', b"low") == edited(HAND_MADE, priority="low")
    assert HAND_MADE.replace(b"Words.", b"Other\nwords.") == edited(HAND_MADE, body="Other\nwords.")
    assert HAND_MADE.replace(b"# Title", b"# New") == edited(HAND_MADE, subject="New")
    changed = '{"due": "2026-03-01", "tags": ["c"]}'
    assert HAND_MADE.replace(b"[a, b]", b"\n  - c").replace(b"tags: \n", b"tags:\n") == edited(
        HAND_MADE, metadata=changed
    ) or HAND_MADE.replace(b"[a, b]", b"['c']") == edited(HAND_MADE, metadata=changed)


_METADATA = {
    "more": (
        b"metadata:\n  # who asked\n  owner: ann  # not bob\n  due: 2026-03-01\n",
        {"owner": "ann", "due": "2026-03-01", "sprint": 7, "two words": ["a", {"b": None}]},
        (b"-01\n", b"-01\n  sprint: 7\n  two words:\n  - a\n  - b: null\n"),
    ),
    "less": (
        b"metadata:\n  # who asked\n  owner: ann  # not bob\n  due: 2026-03-01\n",
        {"due": "2026-03-01"},
        (b"  owner: ann  # not bob\n", b""),
    ),
    "deep": (
        b"metadata:\n  a:\n    d: 1\n    # why\n    e: 2\n  b: 1\n",
        {"a": {"d": 1, "f": 3}, "b": True},
        (b"e: 2\n  b: 1", b"f: 3\n  b: true"),
    ),
    "in braces": (
        b"metadata: {a: 1, b: [x]}  # keep\n",
        {"a": 1, "b": ["x"], "c": "d"},
        (b"{a", b"{c: d, a"),
    ),
    "less in braces": (
        b"metadata: {a: 1, b: [x]}  # keep\n",
        {"a": 1},
        (b", b: [x]", b""),
    ),
    "two of three in braces": (
        b"metadata:\n  # why\n  a: {by: pm, ok: x, at: noon}  # ask\n  b: 'x'\n",
        {"a": {"by": "pm"}, "b": "x"},
        (b"{by: pm, ok: x, at: noon}", b"{by: pm, }"),
    ),
    "all in braces": (
        b"metadata:\n  # why\n  a: {by: pm, ok: x}  # ask\n  b: 'x'\n",
        {"a": {}, "b": "x"},
        (b"{by: pm, ok: x}", b"{}"),
    ),
    "an anchor": (
        b"metadata: {a: &a 1, b: *a}  # keep\n",
        {"a": 2, "b": 1},
        (b"a: &a 1, b: *a", b"'a': 2, 'b': 1"),
    ),
}


@pytest.mark.parametrize("what", _METADATA)
def test_g13_an_edit_of_metadata_leaves_the_other_keys_and_the_comments(what: str) -> None:
    block, wanted, (old, new) = _METADATA[what]
    data = HAND_MADE.replace(b"owner: *me\n", b"").replace(
        b"metadata:\n  due: 2026-03-01  # soon\n  tags: [a, b]\n", block
    )
    assert data.replace(old, new) == edited(data, metadata=json_text(wanted))


def test_a_pair_of_surrogates_that_json_escapes_is_one_character() -> None:
    who = b'from_agent: "bot \\ud83e\\udd16"\n'
    data = b"---\nid: one\n" + who + b'subject: "\\ud83d\\udcec"\nto_agent: pm\n---\n\nBody\n'
    place = place_of(Mailbox.INBOX)
    message = parse(data, place).message
    assert ("bot \U0001f916", "\U0001f4ec") == (message.from_agent, message.subject)
    assert data.replace(b"to_agent: pm", b"to_agent: qa") == edited(data, to_agent="qa")
    with pytest.raises(MessageError, match="half a surrogate pair"):
        parse(data.replace(b"\\udd16", b""), place)


def test_g13_an_edit_beside_what_metadata_merge_touches_its_own_value() -> None:
    block = b"metadata:\n  base: &base {a: 1, b: 2}\n  job:\n    <<: *base\n    b: 3\n"
    data = b"---\nid: one\nto_agent: pm\n" + block + b"---\nBody\n"
    assert data.replace(b"to_agent: pm", b"to_agent: qa") == edited(data, to_agent="qa")
    base = {"a": 1, "b": 2}
    for job, written in {
        (1, 4): b"b: 4\n",
        (5, 3): b"a: 5\n    b: 3\n",
        (1, 3, 6): b"b: 3\n    c: 6\n",
    }.items():
        metadata = json_text({"base": base, "job": dict(zip("abc", job, strict=False))})
        assert data.replace(b"b: 3\n", written) == edited(data, metadata=metadata)
    changed = edited(data, metadata=json_text({"base": base, "job": {"b": 4}}))
    assert data[: data.index(block)] == changed[: data.index(block)]


def test_a_key_that_is_missing_is_added_behind_the_others() -> None:
    assert HAND_MADE.replace(b":00Z\n", b":00Z\nstatus: read\n") == edited(HAND_MADE, status="read")


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
@pytest.mark.parametrize(
    "changes", [{"attachments": '["a`b"]'}, {"body": "New.\n\n## Attachments\n\n- `x`"}]
)
def test_an_edit_that_takes_a_key_leaves_a_heading_alone_that_no_new_file_would_have(
    separator: str, changes: dict[str, str]
) -> None:
    heading = f"# One{separator}two".encode()
    data = HAND_MADE.replace(b"# Title", heading)
    after = edited(data, **changes)
    assert heading + b"\n" in after
    assert data[: data.index(b"---", 5)] == after[: data.index(b"---", 5)]


def test_a_heading_of_attachments_with_blanks_behind_is_none_as_for_the_old_client() -> None:
    data = render(_plain("Words."), place_of(Mailbox.INBOX)) + b"\n\n## Attachments \n\n- `a b`"
    read, old = parse(data, place_of(Mailbox.INBOX)).message, parse_legacy(data)
    assert (old.body, None) == (read.body, read.attachments)
    assert [] == old.attachments


def test_a_key_that_hides_a_value_from_the_old_client_goes_when_that_value_changes() -> None:
    keyed = HAND_MADE.replace(b"owner: *me\n", b"subject: Mine  # by hand\n")
    unheaded = keyed.replace(b"# Title\n\n", b"")
    assert unheaded.replace(b"Words", b"Others") == edited(unheaded, body="Others.")
    plain = unheaded.replace(b"subject: Mine  # by hand\n", b"")
    assert plain.replace(b"---\nWords", b"---\n# Ours\n\nWords") == edited(unheaded, subject="Ours")
    both = keyed.replace(b"Title", b"Mine")
    ours = both.replace(b": Mine", b": 'Ours'").replace(b"# Mine", b"# Ours")
    assert ours == edited(both, subject="Ours")


@pytest.mark.parametrize(
    ("changes", "plain"),
    [
        ({"subject": "Two\nlines"}, {"subject": "Plain"}),
        ({"subject": "", "body": "# No heading"}, {"body": "Plain."}),
        ({"attachments": '["a`b"]'}, {"attachments": '["a"]'}),
        ({"body": "Words.\n\n## Attachments\n\n- `x`"}, {"body": "Plain."}),
    ],
)
def test_a_key_goes_when_no_value_needs_it_any_more(
    changes: dict[str, str], plain: dict[str, str]
) -> None:
    keyed = edited(HAND_MADE, **changes)
    assert parse(keyed, place_of(Mailbox.INBOX)).is_keyed
    after = edited(keyed, **plain)
    assert HAND_MADE[: HAND_MADE.rindex(b"---\n")] == after[: after.rindex(b"---\n")]


@pytest.mark.parametrize(
    "last", ["? reviewed", "tags: !!set\n  ? x\n  ? y  # why", "z: &z 1\nzz: *z"]
)
def test_a_key_is_added_on_a_line_of_its_own_whatever_the_last_one_is(last: str) -> None:
    data = HAND_MADE.replace(b":00Z\n", f":00Z\n{last}\n".encode())
    after = data.replace(b"\n---\n#", b"\nstatus: read\n---\n#")
    assert after == edited(data, status="read")


@pytest.mark.parametrize(
    "last", [b"  ? b\n", b"  b: !!set\n    ? x\n    ? y\n", b"  b:\n  - ? x\n"]
)
@pytest.mark.parametrize("notes", [b"notes: my own words\n", b"# why\n\nnotes: |+\n  my\n\n\n"])
@pytest.mark.parametrize("metadata", ['{"a": 1}', '{"a": 2, "b": 3, "c": 4}', None])
def test_g13_an_edit_of_metadata_leaves_what_stands_behind_a_key_without_a_value(
    last: bytes, notes: bytes, metadata: str | None
) -> None:
    block = b"metadata:\n  a: 1\n" + last
    data = HAND_MADE.replace(b"created_at", block + notes + b"created_at").replace(
        b"metadata:\n  due: 2026-03-01  # soon\n  tags: [a, b]\n", b""
    )
    after = edited(data, metadata=metadata)
    assert notes + b"created_at" in after
    assert data[: data.index(b"metadata")] == after[: data.index(b"metadata")]


@pytest.mark.timeout(20)
def test_g14_a_comment_behind_a_key_without_a_value_takes_no_time() -> None:
    data = HAND_MADE.replace(b":00Z\n", b":00Z\n? z\n" + b"# " * 40 + b"\n" + b" # x: y\n" * 40)
    after = data.replace(b"? z\n", b"? z\nstatus: read\n")
    assert after == edited(data, status="read")


def test_a_key_is_added_behind_an_alias_whose_anchor_is_a_block() -> None:
    keys = b"created_at: '2026-02-20'\nid: a\nmetadata:\n  x: &x |\n    text\n  y: 1\nnote: *x\n"
    data = b"---\n" + keys + b"w: 1\n---\nText."
    assert data.replace(b"\nw: 1", b"\nstatus: read\nw: 1") == edited(data, status="read")


def test_g13_a_key_is_added_behind_the_breaks_that_the_last_one_keeps() -> None:
    data = HAND_MADE.replace(b":00Z\n", b":00Z\nsummary: |+\n  keep\n\n\n")
    after = data.replace(b"keep\n\n\n", b"keep\n\n\nstatus: read\n")
    assert after == edited(data, status="read")


def test_a_key_is_added_in_its_place_by_the_alphabet_also_behind_an_alias() -> None:
    keys = b"created_at: '2026-02-20'\nid: &i a\nmetadata: {x: *i, y: 1}\nnote: *i\nw: 1\n"
    data = b"---\n" + keys + b"---\nText."
    assert data.replace(b"\nw: 1", b"\nstatus: read\nw: 1") == edited(data, status="read")


def test_an_edit_that_would_change_an_alias_too_is_refused() -> None:
    data = HAND_MADE.replace(b"owner: *me", b"from_project: *me")
    with pytest.raises(MessageError):
        edited(data, to_agent="qa")


_TEN = """\
created_at: '2026-02-20T01:02:03+00:00'
from_agent: pm
from_project: /p/a
id: m
priority: normal
reply_to: null
status: unread
to_agent: pm
to_project: /p/b
type: task
"""


_MANY = "".join(f"k{number}: v\n" for number in range(3_000))  # too many for the slow parser


@pytest.mark.parametrize(
    ("header", "line", "word"),
    [
        (f"{_TEN}note: \x1b[31mred\n", 12, "Take that character out"),
        (f'title: "über 日本"\n{_TEN}note: a\x0cb\n', 13, "Take that character out"),
        (
            f"{_TEN}{'k: v:' * 0}{''.join(f'k{n}: v' + chr(10) for n in range(3_000))}é: \x1b\n",
            3012,
            "out",
        ),
        (f"{_TEN}just words\n", 12, "begin the line with '#'"),
        (_TEN.replace("priority", "just words\npriority"), 6, "begin the line with '#'"),
        (f"{_TEN}tags: [a, b\n", 12, "Close the bracket"),
        (_TEN.replace("priority", 'title: "open\npriority'), 6, "Close the quotes"),
        (f'title: "a\u2028b\u2028c"\n{_TEN}bad: a: b\n', 13, "between quotes"),
        (f"{_TEN}tags:\n\t- a\n", 13, "Indent with spaces"),
        (f"<<<<<<< HEAD\n{_TEN}=======\n", 2, "Settle the conflict"),
        (f"{_TEN}metadata: 2026-13-45\n", 12, "between quotes"),
        (f"{_TEN}metadata:\n  a: 1\n  b: 2026-13-45\n", 14, "between quotes"),
        (f"{_TEN}metadata:\n  a: 1\n  b: !odd x\n", 14, "Take the tag out"),
        (f"{_TEN}metadata: {{{{ template }}}}\n", 12, "between quotes"),
    ],
)
def test_what_is_wrong_with_a_front_matter_is_told_with_its_line_and_the_way_out(
    header: str, line: int, word: str
) -> None:
    for blanks in (0, 3):
        with pytest.raises(MessageError) as told:
            parse(f"{chr(10) * blanks}---\n{header}---\n\n# T\n".encode(), place_of(Mailbox.INBOX))
        assert line + blanks == told.value.line, told.value.sentence
        assert word in told.value.hint


def test_folder_and_front_matter_speak_of_the_status() -> None:
    assert "sent" == status_in(Mailbox.OUTBOX, "read")
    assert "archived" == status_in(Mailbox.ARCHIVE, None)
    assert "read" == status_in(Mailbox.INBOX, "archived")
    assert "unread" == status_in(Mailbox.INBOX, None)
    assert "waiting" == status_in(Mailbox.INBOX, "waiting")


@pytest.mark.parametrize(
    "data",
    [
        b"---\nmetadata: " + b"[" * 5000 + b"\n---\n",
        b"---\nmetadata: " + b"[" * 5000 + b"]" * 5000 + b"\n---\n",
        b"---\nmetadata:\n  " + b"- " * 5000 + b"x\n---\n",
        b"---\n"
        + b"".join(
            b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 10) if n else b"x")
            for n in range(12)
        )
        + b"metadata: *a11\n---\n",
        b"---\nmetadata: &x [*x]\n---\n",
        b"---\nid: !!python/name:os.system ''\n---\n",
    ],
    ids=["open", "nested", "sequences", "aliases", "recursion", "tag"],
)
def test_front_matter_that_is_an_attack_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        parse(data, place_of(Mailbox.INBOX))
    assert caught.value.line is not None
