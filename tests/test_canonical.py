"""Front matter read without a YAML parser is read as the YAML parser reads it, or not at all."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fixtures.make_world import HANDMADE, WORLD
from syncd.core import canonical, front_matter
from syncd.core.edit import edit, edit_with_yaml
from syncd.core.markdown import (
    ParsedFile,
    Place,
    decode,
    layout_of,
    parse,
    read_text,
    render,
    written_with_yaml,
)
from syncd.core.message import FIELDS, Mailbox, Message, json_text
from syncd.errors import MessageError
from tests.clients import WORDS, LegacyMessage, NewClient, OldClient, random_message, render_legacy
from tests.strategies import TRICKY, messages

FILES = sorted((Path(__file__).parent.parent / "fixtures").rglob("*.md"))
PLACE = Place("inbox/x.md", Mailbox.INBOX, "/p/own", "2026-01-01T00:00:00+00:00")

FRONT_MATTER = """\
---
created_at: '2026-02-20T01:02:03.456789+00:00'
from_agent: {agent}
from_project: /p/a
id: msg-20260220-010203-abcd1234
{metadata}priority: normal
reply_to: {reply_to}
status: unread
to_agent: pm
to_project: /p/b
type: task
---

# Subject

Body"""

PLAIN = parse(FRONT_MATTER.format(agent="pm", reply_to="null", metadata="").encode(), PLACE).message

Outcome = ParsedFile | tuple[str, int | None, str]


def outcome_of(data: bytes, *, with_yaml: bool) -> Outcome:
    try:
        if not with_yaml:
            return parse(data, PLACE)
        text = decode(data)
        return read_text(text, front_matter.read(text), PLACE)
    except MessageError as error:
        return error.sentence, error.line, error.hint


def assert_read_alike(data: bytes) -> None:
    if data.strip():
        assert outcome_of(data, with_yaml=True) == outcome_of(data, with_yaml=False)


def metadata_of(lines: str) -> str | None:
    """Return what is read without YAML below ``metadata:``; "not canonical" if nothing is."""
    text = FRONT_MATTER.format(agent="pm", reply_to="null", metadata=f"metadata:\n{lines}")
    assert_read_alike(text.encode())
    head = canonical.read(text)
    return "not canonical" if head is None else head.metadata


PIECES = (
    *(
        " ",
        "  ",
        "\n",
        "\n  ",
        "\n    ",
        "\n\n    ",
        "\\\n",
        "\t",
        "\r",
        "\x85",
        "\u2028",
        "\ufeff",
    ),
    *(":", ": ", "-", "- ", "?", "? ", "#", " #", ",", "[", "]", "{", "}", "[]", "{}", "&", "*"),
    *("!", "|", ">", "%", "@", "`", "=", "<<", "~", "'", "''", '"', "\\", "---", "---\n", "..."),
    *("\\n", "\\x41", "\\u00e4", "\\U0001F4EC", "\\uD800", "\\ ", "\\/", "\\q", "é", "😀", "\0"),
    *("0", "1", "9", "12", "-5", "+1", "1.5", "1.0e+20", "1e3", "1_000", "0x1f", "0b1", "0o7"),
    *("0123", ".inf", ".nan", "12:30:00", "2026-02-20", "T", "Z", "1.2.3", "e", "E", "a", "x"),
    *("no", "yes", "on", "null", "Null", "true", "TRUE", "y", "word", "two words", "(", "/", "_"),
)
raw_texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
raw_values = st.one_of(raw_texts, raw_texts.map("'{}'".format), raw_texts.map('"{}"'.format))


@settings(max_examples=600)
@given(raw_values)
def test_a_value_in_the_metadata_is_read_alike(raw: str) -> None:
    metadata_of(f"  key: {raw}\n")
    metadata_of(f"  key:\n  - {raw}\n  - k: {raw}\n    z: {raw}\n")


@settings(max_examples=300)
@given(raw_values)
def test_a_key_in_the_metadata_is_read_alike(raw: str) -> None:
    metadata_of(f"  {raw}: value\n  key: value\n")


@settings(max_examples=300)
@given(raw_values, raw_values)
def test_a_value_of_the_top_level_is_read_alike(one: str, two: str) -> None:
    text = FRONT_MATTER.format(agent=one, reply_to=two, metadata="")
    assert_read_alike(text.encode("utf-8", "surrogatepass"))


trees: st.SearchStrategy[object] = st.recursive(
    st.sampled_from(
        ["x", "y z", 1, None, True, "no", "", "it's\n\nso", "w " * 50, "ü " * 50, {}, []]
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.dictionaries(st.sampled_from(["a", "b c", "no", "1"]), inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(["a", "b", "c/d"]), trees, min_size=1), st.data())
def test_the_structure_of_the_metadata_is_read_alike(tree: object, data: st.DataObject) -> None:
    lines = yaml.safe_dump({"metadata": tree}, default_flow_style=False).splitlines(keepends=True)
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(1, len(lines)))
        piece = data.draw(st.sampled_from(["  ", " ", "- ", "", "q: ", "\n"]))
        for number in range(at, min(len(lines), at + data.draw(st.integers(0, 2)))):
            line = lines[number]
            lines[number] = line.removeprefix(piece) if data.draw(st.booleans()) else piece + line
        other = data.draw(st.integers(1, len(lines)))
        lines[at:at] = lines[other : other + data.draw(st.integers(0, 1))]
    metadata_of("".join(lines[1:]))


def mutated(data: bytes, draw: st.DrawFn) -> bytes:
    """Return ``data`` with some pieces put in, cut out or doubled, mostly in the front matter."""
    text = decode(data)
    for _ in range(draw(st.integers(0, 3))):
        end = max(8, text.find("---\n", 4) + 8)
        start = draw(st.integers(0, min(len(text), draw(st.sampled_from([end, end, len(text)])))))
        stop = start + draw(st.integers(0, 12))
        new = draw(st.sampled_from(["", text[start:stop] * 2, *PIECES, *TRICKY]))
        text = text[:start] + new + text[stop:]
    for one, two in (("\n", "\r\n"), ("\n", "\n\n"), (": ", ":  "), ("  ", "   ")):
        if draw(st.integers(0, 20)) == 20:
            text = text.replace(one, two)
    return text.encode()


@st.composite
def legacy_messages(draw: st.DrawFn) -> LegacyMessage:
    return random_message(random.Random(draw(st.integers(0, 2**32))))


@settings(max_examples=400)
@given(
    st.one_of(legacy_messages().map(render_legacy).map(str.encode), st.sampled_from(FILES)),
    st.data(),
)
def test_a_mutated_file_is_read_alike(source: bytes | Path, data: st.DataObject) -> None:
    file = source if isinstance(source, bytes) else source.read_bytes()
    try:
        decode(file)
    except MessageError:
        return
    assert_read_alike(data.draw(st.composite(lambda draw: mutated(file, draw))()))


@given(messages(Mailbox.INBOX), st.data())
def test_a_file_that_syncd_writes_is_read_alike(message: Message, data: st.DataObject) -> None:
    file = render(message, PLACE)
    assert_read_alike(data.draw(st.composite(lambda draw: mutated(file, draw))()))


def rendered(message: Message) -> str:
    return render(message, PLACE).decode()


@settings(max_examples=200)
@given(
    st.one_of(legacy_messages().map(render_legacy), messages(Mailbox.INBOX).map(rendered)),
    messages(Mailbox.INBOX),
    st.sets(st.sampled_from(FIELDS), max_size=3),
    st.booleans(),
)
def test_an_edit_without_yaml_is_the_edit_with_it(
    text: str, new: Message, fields: set[str], is_said: bool
) -> None:
    data = text.encode()
    old = parse(data, PLACE).message
    wanted = old._replace(**{name: getattr(new, name) for name in fields})
    said = wanted.status if is_said else None
    assert edited_by(edit_with_yaml, data, text, wanted, PLACE, said) == edited_by(
        partial(edit, status_said=said), data, wanted, PLACE
    )


def edited_by(how: Callable[..., bytes], *args: object) -> bytes | str:
    try:
        return how(*args)
    except MessageError as error:
        return error.sentence


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_every_fixture_is_read_alike(line_end: str) -> None:
    for path in FILES:
        data = path.read_bytes()
        assert_read_alike(data.replace(b"\n", line_end.encode()))
        assert_read_alike(b"\xef\xbb\xbf" + data)


def test_what_the_old_client_wrote_needs_no_yaml_parser() -> None:
    for path in sorted(WORLD.rglob("*.md")):
        if str(path.relative_to(WORLD)) not in HANDMADE:
            assert canonical.read(path.read_text()) is not None, path


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("word", '"word"'),
        ("1", "1"),
        ("-5", "-5"),
        ("1.5", "1.5"),
        ("1.0e+20", "1e+20"),
        ("true", "true"),
        ("null", "null"),
        ("[]", "[]"),
        ("{}", "{}"),
        ("C# and a:b", '"C# and a:b"'),
        ("1.2.3", '"1.2.3"'),
        ("0bc163c8", '"0bc163c8"'),
        ("12ab34", '"12ab34"'),
        ("1e3", '"1e3"'),
        ("3 of 4", '"3 of 4"'),
        ("'no'", '"no"'),
        ("'it''s'", '"it\'s"'),
        (r'"gr\xFC\xDF\u2028\U0001F4EC\ \e"', r'"gr\u00fc\u00df\u2028\ud83d\udcec \u001b"'),
        ("one\n    two - three\n    *four", '"one two - three *four"'),
        ("'one\n    two\n\n\n    three'", r'"one two\n\nthree"'),
        ('"one\\\n    \\ two\n    three"', '"one two three"'),
    ],
)
def test_what_pyyaml_writes_is_read_without_it(raw: str, expected: str) -> None:
    assert f'{{"key": {expected}}}' == metadata_of(f"  key: {raw}\n")


@pytest.mark.parametrize(
    "raw",
    [
        *("no", "Yes", "NULL", "tRuE", "~", "", "=", "<<", ".inf", "-.inf", ".nan", "+1", "-0"),
        *("0123", "0_7", "1_000", "0x1f", "0b101", "12:30:00", "1.", "9" * 19, "1.0e+400"),
        *("2026-02-20", "2026-02-20 01:02:03", "2026-02-20T01:02:03Z", "1:2:3.5"),
        *("a: b", "a #b", "a #", "a:", "a ", "#a", "&a b", "*a", "!a b"),
        *("|", ">", "%a", "@a", "`a`"),
        *("[a]", "{a: b}", "- a", "? a", "-", "---", "a---", "a\tb", "é", "a\x85b", "'a' #b"),
        *("'a''", "'a'b", '"a"b', '"\\q"', '"\\uD83D\\uDCEC"', '"\\U00110000"', '"\\x4"'),
        *("a\n  b", "a\n   b", "a\n     b", "a\n\n    b", "a\n    # b", "a\n    b: c", "a\n    "),
    ],
)
def test_what_is_not_plain_beyond_doubt_is_left_to_the_yaml_parser(raw: str) -> None:
    assert "not canonical" == metadata_of(f"  key: {raw}\n")


@pytest.mark.parametrize("agent", ["pm #", "pm # of b", "pm ", "pm:", "pm :", "'pm' #", '"pm" '])
def test_what_ends_a_plain_value_is_no_part_of_it(agent: str) -> None:
    text = FRONT_MATTER.format(agent=agent, reply_to="null", metadata="")
    assert_read_alike(text.encode())
    assert canonical.read(text) is None


def test_nested_metadata_is_read_in_the_columns_of_pyyaml_alone() -> None:
    nested = "  a:\n    b:\n    - - x\n      - y\n    - c: 1\n      d:\n      - 2\n  e: z\n"
    expected = '{"a": {"b": [["x", "y"], {"c": 1, "d": [2]}]}, "e": "z"}'
    assert expected == metadata_of(nested)
    for number in range(nested.count("\n")):
        pieces = nested.splitlines(keepends=True)
        pieces[number] = f" {pieces[number]}"
        assert metadata_of("".join(pieces)) in ("not canonical", expected)
    assert "not canonical" == metadata_of(nested.replace("  ", "   "))


def test_a_canonical_file_costs_no_parser_whatever_words_stand_in_it() -> None:
    for word in sorted({*WORDS} - {"<!-- c -->"}):
        message = LegacyMessage(
            id=word,
            from_project="/p/größe",
            to_project="/p/with space",
            created_at=random_message(random.Random(1)).created_at,
            from_agent=word,
            subject=word,
            body=word,
            metadata={"note": f"{word} {'of many words ' * 9}", "list": [word, {"deep": word}]},
        )
        text = render_legacy(message)
        head = canonical.read(text)
        assert_read_alike(text.encode())
        assert head is not None, word


def test_a_sync_of_files_as_the_old_client_writes_them_imports_no_yaml(tmp_path: Path) -> None:
    project = tmp_path / "project"
    message_id = OldClient(project).send(project.parent / "other", "Subject", "Body")
    script = (
        "import sys; from syncd.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'yaml', 'frontmatter'} & sys.modules.keys()))"
    )
    for _ in range(2):
        command = [sys.executable, "-c", script, "sync", str(project)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={"HOME": str(tmp_path)}
        )
        assert "[]" in done.stdout, done
        assert NewClient(project).update(message_id, priority="high")
    path = project / ".claude-mpm" / "outbox" / f"{message_id}.md"
    assert "priority: high\n" in path.read_text()


# Writing


def assert_written_alike(message: Message) -> str | None:
    """Compare what is written without a YAML printer with what the printer writes; return it."""
    written = canonical.written(message)
    layout = layout_of(message)._replace(subject_key=None, attachments_key=None)
    assert written in (None, written_with_yaml(message, layout))
    return written


@settings(max_examples=300)
@given(messages())
def test_a_message_is_written_alike(message: Message) -> None:
    assert_written_alike(message)


@settings(max_examples=600)
@example("one\ntwo", "from_agent")
@given(raw_values, st.sampled_from(["from_agent", "id", "reply_to", "status", "type"]))
def test_a_value_of_the_top_level_is_written_alike(text: str, field: str) -> None:
    assert_written_alike(PLAIN._replace(**{field: text}))


words: st.SearchStrategy[object] = st.one_of(
    raw_values,
    st.sampled_from(["x", "two words", "no", "", "a-b", "2026-02-20", "w " * 39 + "w", "w" * 90]),
    st.from_regex(r"\A[A-Za-z0-9/_.-]{1,6}( [A-Za-z0-9/_.-]{1,6}){0,2}\Z"),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([None, True, False, {}, []]),
)
written_trees = st.recursive(
    words,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.dictionaries(
            st.one_of(
                st.sampled_from(["a", "b-c", "no", "1", "k" * 90, "k" * 129, "k" * 1030]), raw_texts
            ),
            inner,
            min_size=1,
            max_size=3,
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=1000)
@example([1, 2])
@example({"a": {"k" * 129: ["x"], "k" * 1030: {"y": 1}}})
@given(
    st.one_of(
        st.dictionaries(
            st.sampled_from(["a", "b_c", "Z/1"]), written_trees, min_size=1, max_size=3
        ),
        written_trees,
    )
)
def test_metadata_is_written_alike(value: object) -> None:
    assert_written_alike(PLAIN._replace(metadata=json_text(value)))


def test_plain_values_cost_no_yaml_printer() -> None:
    metadata = {
        "branch": "feature/retry-9",
        "labels": ["api", "ui"],
        "nested": [["a", "b"], {"c": 1, "d": [2.5, -3]}, {}],
        "review": {"by": "qa", "passed": True, "owner": None, "files": []},
        "since": "2026-02-20",
        "why": "Fix the index and tell the team",
    }
    assert assert_written_alike(PLAIN._replace(metadata=json_text(metadata))) is not None
    assert assert_written_alike(PLAIN._replace(reply_to="msg-20260220-010203-abcd1234"))
