"""A fuzzer for the file parser: mutated real files, YAML tricks, random bytes, and floods.

What `parse` may do with any bytes: return a message, or raise `MessageError`, soon and within
little memory. What it accepts must survive every way on from there: render, row, edit. And what
the old client reads, syncd reads too, with the same values.

`scripts/fuzz` runs more of the same, with other seeds and stricter limits.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from syncd.core.edit import edit
from syncd.core.markdown import ParsedFile, Place, parse, render
from syncd.core.message import (
    Mailbox,
    Message,
    mailbox_of,
    message_from_row,
    status_in,
)
from syncd.errors import MessageError
from tests.clients import LegacyMessage, parse_legacy
from tests.running import ROOT

FIXTURES = ROOT / "fixtures"
LONGEST_S = 0.1
"""CPU time that `parse` may take for one input, of up to 64 KiB."""

MOST_MB = 300
LONGEST_FLOOD_S = 10
"""CPU time, in whole seconds, after which a file of 16 MiB counts as one that blocks the agent."""

MIB = 1024 * 1024

TRICKS = tuple(
    trick.encode("utf-8", "surrogatepass")
    for trick in (
        *("---", "---\n", "\n---\n", "--- ", "...\n", "# ", "# x", "#", "\n## Attachments\n"),
        *(
            "\n\n## Attachments\n\n- `a.txt`",
            "- `b`",
            "- ",
            "? ",
            ": ",
            "::",
            ",",
            "\n",
            "\r",
            "\r\n",
        ),
        *(
            "'",
            '"',
            "`",
            "\\",
            "|\n",
            "|2-\n  x\n",
            ">-\n x\n",
            "\t",
            " ",
            "  ",
            "\0",
            "\x1b",
            "\x7f",
        ),
        *("\x85", "\u2028", "\ufeff", "\ufffe", "\U0001f4ec", "e\u0301", "\x1c", "\ud800", "\xff"),
        *(
            '"\\ud800"',
            '"\\udc00x"',
            '"\\x00"',
            '"\\U0010ffff"',
            '"\\UFFFFFFFF"',
            '"\\q"',
            "'it''s'",
        ),
        *(
            "~",
            "null",
            "no",
            "Yes",
            "0123",
            "0o17",
            "0x_f",
            "0b",
            "1e3",
            "1_000",
            "1:30",
            "1:2:3.5",
        ),
        *(
            ".inf",
            "-.inf",
            ".nan",
            "=",
            "<<",
            "9" * 400,
            "-0",
            "+1",
            "1e999",
            "2026-02-20",
            "2026-2-3",
        ),
        *(
            "2026-02-20 01:02:03",
            "2026-13-45",
            "2026-02-20T01:02:03+99:99",
            "0000-01-01",
            "20260220",
        ),
        *("1771549200", "99999999999999999999", "2026-02-20T24:00:00Z", "2026-W08-5"),
        *(
            "[",
            "]",
            "{",
            "}",
            "[a, b]",
            "{a: b}",
            "{a: {b: [c]}}",
            "[[[[]]]]",
            "&a ",
            "*a",
            "&a [*a]",
        ),
        *("<<: *a", "<<: {id: x}", "<<: [{a: b}, {a: c}]", "!", "!x ", "!!", "!!str ", "!!null x"),
        *(
            "!!bool x",
            "!!int x",
            "!!int ''",
            "!!float x",
            "!!float ''",
            "!!timestamp x",
            "!!binary é",
        ),
        *("!!binary aGk=", "!!set {a, b}", "!!omap [a: b]", "!!pairs [a: b]", "!!seq x", "!!map x"),
        *(
            "!!python/name:os.system ''",
            "!!python/object/apply:os.system [x]",
            "!<tag:yaml.org,2002:int> 7",
        ),
        *("%YAML 1.2\n", "%TAG ! x\n", "? [a]\n: b\n", "? {a: b}\n: c\n", "metadata:\n  - a: 1\n"),
        *(
            "metadata: {1: a, null: b, true: c, 1.5: d, 2026-02-20: e}\n",
            "metadata: [&b {c: *b}]\n",
        ),
        *(
            "subject: x\n",
            "subject: ''\n",
            "attachments: []\n",
            "attachments: x\n",
            "attachments: {a: b}\n",
        ),
        *(
            "status: archived\n",
            "status: sent\n",
            "status:\n",
            "reply_to: ''\n",
            "id:\n",
            "id: [a]\n",
        ),
    )
)


def corpus() -> list[bytes]:
    """Return the bytes of every real file, in a fixed order."""
    return [path.read_bytes() for path in sorted(FIXTURES.rglob("*.md"))]


class Fuzzer:
    """Makes inputs, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.corpus = corpus()

    def inputs(self, count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield self.one()

    def one(self) -> bytes:
        if self.rng.random() < 0.03:
            return self.rng.randbytes(self.rng.randrange(200))
        data = self.rng.choice(self.corpus)
        for _ in range(self.rng.choice((1, 1, 1, 2, 3, 6))):
            data = self.rng.choice(self.MUTATIONS)(self, data)
        return data

    def _at(self, data: bytes) -> int:
        return self.rng.randrange(len(data) + 1)

    def _slice(self, data: bytes) -> slice:
        start = self._at(data)
        length = self.rng.choice((1, 4, 16, 64, 400))
        return slice(start, start + self.rng.randint(0, length))

    def _head(self, data: bytes) -> int:
        """Return a place in or near the front matter."""
        return self.rng.randrange(max(1, min(len(data), data.find(b"---", 3) + 8)))

    def flip(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self.rng.randint(1, 4) if data else 0):
            changed[self.rng.randrange(len(changed))] ^= 1 << self.rng.randrange(8)
        return bytes(changed)

    def cut_out(self, data: bytes) -> bytes:
        gone = self._slice(data)
        return data[: gone.start] + data[gone.stop :]

    def truncate(self, data: bytes) -> bytes:
        return data[: self._at(data)]

    def duplicate(self, data: bytes) -> bytes:
        piece, at = data[self._slice(data)], self._at(data)
        return data[:at] + piece * self.rng.choice((1, 1, 2, 50)) + data[at:]

    def splice(self, data: bytes) -> bytes:
        other = self.rng.choice(self.corpus)
        at, place = self._at(data), self._slice(other)
        return data[:at] + other[place] + data[at:]

    def join(self, data: bytes) -> bytes:
        other = self.rng.choice(self.corpus)
        return data[: self._at(data)] + other[self._at(other) :]

    def insert_trick(self, data: bytes) -> bytes:
        at = self._head(data) if self.rng.random() < 0.7 else self._at(data)
        return data[:at] + self.rng.choice(TRICKS) + data[at:]

    def insert_line(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        lines.insert(self.rng.randrange(len(lines) + 1), self.rng.choice(TRICKS))
        return b"\n".join(lines)

    def replace_value(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        number = self.rng.randrange(min(len(lines), 16))
        key, colon, _ = lines[number].partition(b":")
        tricks = b" ".join(self.rng.choices(TRICKS, k=self.rng.choice((1, 1, 2))))
        lines[number] = key + colon + b" " + tricks
        return b"\n".join(lines)

    def swap_lines(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        one, two = (self.rng.randrange(len(lines)) for _ in range(2))
        lines[one], lines[two] = lines[two], lines[one]
        return b"\n".join(lines)

    def line_ends(self, data: bytes) -> bytes:
        return data.replace(b"\n", self.rng.choice((b"\r\n", b"\r", b"\n\n", "\x85".encode())))

    def indent(self, data: bytes) -> bytes:
        start = self._head(data)
        return data[:start] + data[start:].replace(b"\n", b"\n ", self.rng.randint(1, 6))

    def flood(self, data: bytes) -> bytes:
        trick = self.rng.choice(TRICKS)
        at = self._head(data) if self.rng.random() < 0.5 else self._at(data)
        times = min(self.rng.choice((20, 300, 5000)), 60_000 // max(1, len(trick)))
        return (data[:at] + trick * times + data[at:])[: 64 * 1024]

    MUTATIONS: tuple[Callable[[Fuzzer, bytes], bytes], ...] = (
        *(flip, cut_out, truncate, duplicate, splice, join, insert_trick, insert_trick),
        *(insert_line, replace_value, replace_value, swap_lines, line_ends, indent, flood),
    )


# What must hold ---------------------------------------------------------------------------------


def place_in(mailbox: Mailbox) -> Place:
    return Place(f"{mailbox}/x.md", mailbox, "/p/own", "2026-01-01T00:00:00+00:00")


def check(data: bytes, number: int = 0, *, old_client: bool = True) -> tuple[bool, float]:
    """Check all that must hold for one input.

    Returns whether it was accepted and how many seconds of CPU time `parse` took. ``number``
    chooses the mailbox and the changes that are tried. Without ``old_client`` it is not asked what
    it reads, which takes most of the time.
    """
    place = place_in(list(Mailbox)[number % 3])
    legacy = _legacy(data) if old_client else None
    parsed, problem, took = _timed(data, place)
    if problem is not None:
        assert problem.sentence
        assert problem.line is None or problem.line >= 1
        if not any(limit in problem.sentence for limit in _LIMITS):
            assert legacy is None, f"the old client reads it; syncd says: {problem.sentence}"
        return False, took
    assert parsed is not None
    _check_row(parsed.message)
    rendered = _check_render(parsed.message)
    edits = _check_edits(data, parsed, place, number)
    if old_client:
        assert _legacy(rendered) is not None, "the old client cannot read what syncd writes"
    if legacy is not None:
        _check_same(data, parsed.message, legacy)
        for edited in edits[:1]:
            assert _legacy(edited) is not None, f"the old client cannot read {edited!r}"
    return True, took


def _timed(data: bytes, place: Place) -> tuple[ParsedFile | None, MessageError | None, float]:
    before = time.process_time()
    try:
        parsed = parse(data, place)
    except MessageError as error:
        return None, error, time.process_time() - before
    return parsed, None, time.process_time() - before


def _check_row(message: Message) -> None:
    """A row of the message is one that the new client reads, and it is the same message."""
    row = tuple(message)
    for value in row:
        assert value is None or isinstance(value, str)
        if value is not None:
            value.encode()  # as SQLite stores it
    assert message == message_from_row(row)
    datetime.fromisoformat(message.created_at)
    assert isinstance(json.loads(message.metadata or "{}"), dict | list | str | int | float | bool)
    assert isinstance(json.loads(message.attachments or "[]"), list | dict)


def _check_render(message: Message) -> bytes:
    """A new file of the message reads back as it; return its bytes."""
    place = place_in(mailbox_of(message.status))
    data = render(message, place)
    assert message == parse(data, place).message
    return data


_CHANGES: tuple[dict[str, str | None], ...] = (
    {"status": "waiting"},
    {"status": "no"},
    {"status": "two words: here"},
    {"body": "Other words."},
    {"body": ""},
    {"body": "# Not a subject\n\n---\n\n## Attachments\n\n- `x`"},
    {"subject": "Another"},
    {"subject": ""},
    {"subject": " two\nlines "},
    {"priority": "urgent", "reply_to": "msg-1"},
    {"reply_to": None, "metadata": None},
    {"metadata": '{"a": [1, null, "x"]}', "attachments": '["a.txt"]'},
    {"attachments": None, "body": "Words."},
    {"created_at": "2026-03-01T00:00:00+00:00", "from_agent": "null"},
)


def _check_edits(data: bytes, parsed: ParsedFile, place: Place, number: int) -> list[bytes]:
    """An edit reads back as what was meant, or is refused; return what came of some."""
    message = parsed.message
    assert data == edit(data, message, place, status_said=None), "an edit of nothing edits"
    edits = []
    for step in range(2):
        changes = _CHANGES[(number + step * 5) % len(_CHANGES)]
        said = changes.get("status")
        wanted = message._replace(**changes)
        if said is not None:
            wanted = wanted._replace(status=status_in(place.mailbox, said))
        if "created_at" not in parsed.said:  # then no edit writes it: the mtime stands for it
            wanted = wanted._replace(created_at=message.created_at)
        with suppress(MessageError):
            edits.append(edit(data, wanted, place, status_said=said))
            assert wanted == parse(edits[-1], place).message
    return edits


_OLD_CLIENT_FAILS = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    yaml.YAMLError,
    RecursionError,
)
_OLD_CLIENT_FAILS += (IndexError, ArithmeticError)


def _legacy(data: bytes) -> LegacyMessage | None:
    """Return what the old client reads; None when it cannot read the file as a message."""
    try:
        legacy = parse_legacy(data)
    except _OLD_CLIENT_FAILS:
        return None
    texts = (legacy.id, legacy.from_project, legacy.to_project)
    return legacy if all(isinstance(text, str) for text in texts) else None


_LIMITS = ("contains itself", "half a surrogate", "too deeply", "too many values", "16 MiB")
"""Why syncd may refuse what the old client reads: no row, or no memory, can hold it."""


def _check_same(data: bytes, message: Message, legacy: LegacyMessage) -> None:
    """What the old client reads as text, syncd reads as the same text."""
    for name in ("id", "from_project", "from_agent", "to_project", "to_agent", "type", "priority"):
        seen = getattr(legacy, name)
        if isinstance(seen, str):
            assert seen == getattr(message, name), name
    assert legacy.created_at == datetime.fromisoformat(message.created_at)
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read().split("---\n", 2)[2]
    front = yaml.safe_load(
        io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read().split("---\n", 2)[1]
    )
    if "## Attachments" not in text and not {"subject", "attachments"} & front.keys():
        assert legacy.subject == message.subject
        assert legacy.body == message.body
        assert [] == json.loads(message.attachments or "[]")
    if isinstance(legacy.metadata, dict) and _is_json(legacy.metadata):
        assert legacy.metadata == json.loads(message.metadata or "{}")


def _is_json(value: Any) -> bool:
    match value:
        case None | bool() | int() | str():
            return True
        case float():
            return value - value == 0
        case list():
            return all(map(_is_json, value))
        case dict():
            return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
        case _:
            return False


@dataclasses.dataclass(slots=True)
class Tally:
    """What a run of the fuzzer found."""

    inputs: int = 0
    accepted: int = 0
    slowest_s: float = 0.0
    slowest: bytes = b""
    failures: list[tuple[bytes, BaseException]] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.inputs:,} inputs, {self.accepted:,} accepted, "
            f"slowest {self.slowest_s * 1000:.1f} ms, {len(self.failures)} failed"
        )


def fuzz(
    seed: int,
    count: int,
    *,
    old_client_every: int = 1,
    on_input: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Check ``count`` inputs; failures are collected, not raised."""
    tally = Tally()
    for number, data in enumerate(Fuzzer(seed).inputs(count)):
        tally.inputs += 1
        try:
            accepted, took = check(data, number, old_client=number % old_client_every == 0)
        except Exception as error:  # noqa: BLE001 - any other exception is what is looked for
            tally.failures.append((data, error))
            continue
        tally.accepted += accepted
        if took > tally.slowest_s:
            tally.slowest, tally.slowest_s = data, min(took, _time_again(data, number))
        on_input(tally)
    return tally


def _time_again(data: bytes, number: int) -> float:
    """Return the shortest of some runs: what the input costs, not what else went on."""
    place = place_in(list(Mailbox)[number % 3])
    return min(_timed(data, place)[2] for _ in range(3))


def test_g1_g14_any_bytes_are_read_or_refused_and_what_is_read_stays_the_same() -> None:
    tally = fuzz(seed=20260220, count=3000, old_client_every=6)
    for data, error in tally.failures:
        raise AssertionError(f"{error!r} for {data!r}") from error
    print(f"\n{tally}")
    assert tally.accepted > 700, "the mutations leave too little to be accepted"
    assert tally.slowest_s < 1.0, tally.slowest


def test_the_same_seed_makes_the_same_inputs() -> None:
    assert list(Fuzzer(7).inputs(50)) == list(Fuzzer(7).inputs(50))
    assert list(Fuzzer(7).inputs(50)) != list(Fuzzer(8).inputs(50))


# Floods: the largest file that is read, in the shapes that cost most ---------------------------


def _front(piece: str, close: str = "") -> bytes:
    """Return a file of 16 MiB whose front matter is made of ``piece``."""
    room = 16 * MIB - 200 - len(close)
    times = room // len(piece.encode())
    return f"---\nid: x\n{piece * times}{close}\n---\n\n# S\n\nB".encode()


def _body(piece: str) -> bytes:
    body = piece * ((16 * MIB - 200) // len(piece.encode()))
    return f"---\nid: x\nfrom_agent: pm\n---\n\n# S\n\n{body}".encode()


def _value(piece: str, open_: str, close: str = "") -> bytes:
    value = piece * ((16 * MIB - 200) // len(piece.encode()))
    return f"---\nid: x\nmetadata: {open_}{value}{close}\n---\n\n# S\n\nB".encode()


def _aliases(line: str, first: str) -> bytes:
    lines = [f"a0: &a0 {first}"]
    lines += [line.format(n, ", ".join([f"*a{n - 1}"] * 10)) for n in range(1, 12)]
    return "\n".join(["---", "id: x", *lines, "metadata: *a11", "---", "", "# S", "", "B"]).encode()


FLOODS: dict[str, Callable[[], bytes]] = {
    "keys": lambda: _front("a: b\n"),
    "numbered keys": lambda: (
        b"---\nid: x\n" + b"".join(b"k%d: v\n" % n for n in range(1_200_000)) + b"---\n\nB"
    ),
    "comments": lambda: _front("# a comment\n"),
    "blank lines": lambda: _front("\n"),
    "tabs": lambda: _front("\t"),
    "directives": lambda: _front("%YAML 1.1\n"),
    "documents": lambda: _front("--- a\n"),
    "ends": lambda: _front("...\n"),
    "marks": lambda: _front("x---\n"),
    "anchors": lambda: _front("&a"),
    "tags": lambda: _front("!!str "),
    "questions": lambda: _front("? "),
    "dashes": lambda: _value("- ", "\n  "),
    "brackets": lambda: _value("[", ""),
    "braces": lambda: _value("{", ""),
    "closed brackets": lambda: _value("[]", "[", "]"),
    "list items": lambda: _value("a, ", "[", "a]"),
    "5,000 brackets": lambda: b"---\nid: x\nmetadata: " + b"[" * 5000 + b"]" * 5000 + b"\n---\n\nB",
    "5,000 open brackets": lambda: b"---\nid: x\nmetadata: " + b"[" * 5000 + b"\n---\n\nB",
    "5,000 dashes": lambda: b"---\nid: x\nmetadata:\n  " + b"- " * 5000 + b"x\n---\n\nB",
    "pairs in flow": lambda: _value("a: b, ", "{", "a: b}"),
    "plain scalar": lambda: _value("word ", ""),
    "quoted scalar": lambda: _value("word ", "'", "'"),
    "escaped scalar": lambda: _value("\\x41", '"', '"'),
    "astral escapes": lambda: _value("\\U0001F4EC", '"', '"'),
    "astral scalar": lambda: _value("\U0001f4ec", '"', '"'),
    "one astral character": lambda: _value("word ", "'\U0001f4ec", "'"),
    "block scalar": lambda: _value("  word\n", "|\n"),
    "open quote": lambda: _value("a\n", '"'),
    "binary": lambda: _value("QUJD", "!!binary "),
    "digits": lambda: _value("9", ""),
    "sexagesimal": lambda: _value(":1", "1"),
    "hexadecimal": lambda: _value("f", "0x"),
    "date": lambda: f"---\nid: x\ncreated_at: {'1' * (16 * MIB - 200)}\n---\n\nB".encode(),
    "long id": lambda: f"---\nid: {'x' * (16 * MIB - 200)}\n---\n\nB".encode(),
    "aliases of lists": lambda: _aliases("a{0}: &a{0} [{1}]", "[x]"),
    "aliases of maps": lambda: _aliases("a{0}: &a{0} {{k: [{1}]}}", "{k: x}"),
    "aliases of merges": lambda: _aliases("a{0}: &a{0} {{<<: [{1}]}}", "{k: x}"),
    "aliases of text": lambda: _aliases("a{0}: &a{0} [{1}]", "x" * 100_000),
    "itself": lambda: b"---\nid: x\nmetadata: &a [*a, *a]\n---\n\nB",
    "merge keys": lambda: b"---\nid: &b {k: v}\n" + b"<<: *b\n" * 40_000 + b"---\n\nB",
    "body": lambda: _body("word "),
    "body with one astral character": lambda: _body("word ") + "\U0001f4ec".encode(),
    "body of headings": lambda: _body("\n## Attachments\n"),
    "body of items": lambda: (
        _body("\n## Attachments\n\n")[: 8 * MIB] + b"\n## Attachments\n" + b"\n- `a`" * 1_000_000
    ),
    "body of attachments": lambda: (
        b"---\nid: x\n---\n\nB\n\n## Attachments\n" + b"\n- `a`" * 2_600_000
    ),
    "body of subjects": lambda: _body("# "),
    "body of carriage returns": lambda: _body("\r"),
    "body of white space": lambda: _body(" "),
    "no front matter": lambda: b"word " * (3 * MIB),
    "never closed": lambda: b"---\n" + b"a: b\n" * (3 * MIB),
    "zeros": lambda: bytes(16 * MIB),
    "noise": lambda: random.Random(1).randbytes(16 * MIB),
}


WORST = (
    *("documents", "one astral character", "binary", "sexagesimal", "aliases of merges"),
    *("body with one astral character", "body of items", "body of attachments", "5,000 brackets"),
)
"""Those that found something, or came close to a limit."""


def flood(name: str) -> tuple[float, float, str]:
    """Parse a flood in a child; return its peak memory in MB, its CPU time, and what came of it."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_FLOOD_S, LONGEST_FLOOD_S))
        try:
            data = FLOODS[name]()
            assert len(data) <= 16 * MIB
            start = time.process_time()
            try:
                parse(data, place_in(Mailbox.INBOX))
                outcome = "accepted"
            except MessageError as error:
                outcome = error.sentence
            took = time.process_time() - start
            os.write(write_end, json.dumps([took, outcome[:200]]).encode())
            status = 0
        except BaseException as error:  # noqa: BLE001 - all of it is to be told to the parent
            os.write(write_end, json.dumps([0.0, f"FAILED: {error!r}"[:300]]).encode())
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    took, outcome = json.loads(said) if said else (0.0, f"FAILED: it died of {status}")
    return usage.ru_maxrss / 1024, took, outcome


def test_g14_no_flood_of_16_mib_takes_more_than_300_mb() -> None:
    # In a process of its own: what pytest holds is none of the parser's.
    call = [sys.executable, "-m", "tests.test_fuzz", "--floods", "--worst", "--json"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
    assert 0 == done.returncode, done.stderr
    results = json.loads(done.stdout)
    assert results.keys() == set(WORST)
    too_large = {name: mb for name, (mb, _, _) in results.items() if mb > MOST_MB}
    failed = {name: outcome for name, (*_, outcome) in results.items() if "FAILED" in outcome}
    assert {} == failed
    assert {} == too_large


def test_g14_what_only_begins_as_canonical_metadata_is_given_up_at_once() -> None:
    data = (
        b"---\ncreated_at: '2026-02-20T01:02:03.456789+00:00'\nfrom_agent: pm\nfrom_project: /p/a\n"
        b"id: x\nmetadata:\n  k: v\n " + b"!x " * 10_000 + b"\npriority: normal\nreply_to: null\n"
        b"status: unread\nto_agent: pm\nto_project: /p/b\ntype: task\n---\n\n# S\n\nB"
    )
    parsed, problem, took = _timed(data, place_in(Mailbox.INBOX))
    assert (None, True) == (parsed, "not YAML" in str(problem))
    assert took < 1.0  # it took 4 s when each character was tried as the start of a line


# scripts/fuzz -----------------------------------------------------------------------------------


def _run_floods(names: Iterable[str] = FLOODS, *, as_json: bool = False) -> int:
    results = {}
    for name in names:
        results[name] = mb, took, outcome = flood(name)
        if not as_json:
            mark = "!" if mb > MOST_MB or "FAILED" in outcome else " "
            print(f"{mark} {mb:6.0f} MB {took * 1000:7.0f} ms  {name}: {outcome[:70]}", flush=True)
    if as_json:
        print(json.dumps(results))
        return 0
    bad = [
        name for name, (mb, _, outcome) in results.items() if mb > MOST_MB or "FAILED" in outcome
    ]
    print(f"{len(results)} floods, {len(bad)} failed")
    return 1 if bad else 0


def _run_fuzz(count: int, seed: int) -> int:
    print(f"{count:,} inputs from seed {seed}", flush=True)
    tally = fuzz(seed, count, on_input=_show_progress)
    seen: dict[str, bytes] = {}
    for data, error in tally.failures:
        where = traceback.extract_tb(error.__traceback__)
        own = [f"{frame.name}:{frame.lineno}" for frame in where if frame.filename == __file__]
        what = f"{type(error).__name__}: {str(error)[:200]} ({' '.join(own[1:])})"
        if what not in seen or len(data) < len(seen[what]):
            seen[what] = data
    if seen:
        folder = Path(tempfile.mkdtemp(prefix="syncd-fuzz-"))
    for number, (what, data) in enumerate(seen.items()):
        print(f"! {what}\n    {data[:600]!r}")
        (folder / f"{number}.md").write_bytes(data)
        print(f"    kept as {folder / f'{number}.md'}")
    print(tally)
    if tally.slowest_s > LONGEST_S:
        print(f"! parse took {tally.slowest_s * 1000:.0f} ms for {tally.slowest[:600]!r}")
    return 1 if tally.failures or tally.slowest_s > LONGEST_S else 0


def _show_progress(tally: Tally) -> None:
    if tally.inputs % 10_000 == 0:
        print(tally, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Fuzz the file parser.")
    parser.add_argument("count", nargs="?", type=int, default=50_000, help="inputs (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--floods", action="store_true", help="only the files of 16 MiB")
    parser.add_argument("--worst", action="store_true", help="only those that cost most")
    parser.add_argument("--json", action="store_true", help="print the floods' results as JSON")
    arguments = parser.parse_args()
    if arguments.floods:
        return _run_floods(WORST if arguments.worst else FLOODS, as_json=arguments.json)
    failed = _run_fuzz(arguments.count, arguments.seed)
    return failed or _run_floods()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
