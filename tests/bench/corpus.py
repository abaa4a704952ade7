"""Messages from a seed, as the old client writes them: what one reads after a year of use.

A fifth has a `metadata` block, a tenth attachments, bodies go from a line to pages, and they stand
in all three mailboxes. The same seed gives the same messages, and fewer are the first of more.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from tests.clients import LegacyMessage, new_id

SEED = 20260216
INBOX, ARCHIVE, OUTBOX = "inbox", "inbox/.archive", "outbox"
FOLDERS = (INBOX, ARCHIVE, OUTBOX)

_FIRST_SENT_AT = datetime(2025, 9, 1, 8, 0, tzinfo=UTC)
_WORDS = [
    "the",
    "build",
    "is",
    "green",
    "again",
    "please",
    "look",
    "at",
    "parser",
    "before",
    "tomorrow",
    "release",
    "branch",
    "token",
    "cache",
    "retry",
    "timeout",
    "upload",
    "session",
    "index",
    "query",
    "schema",
    "worker",
    "queue",
    "deploy",
    "rollback",
    "staging",
    "metrics",
    "test",
    "fails",
    "only",
    "when",
    "two",
    "run",
    "at",
    "once",
    "and",
    "we",
    "see",
    "an",
    "empty",
    "file",
    "sometimes",
    "after",
    "restart",
    "of",
    "service",
    "config",
    "default",
    "review",
    "comment",
    "rename",
    "endpoint",
    "mobile",
    "client",
    "answers",
    "slowly",
    "naïve",
    "größe",
    "café",
    "данные",
    "設定",
    "—",
    "it",
    "works",
    "here",
    "so",
    "check",
    "your",
    "version",
    "first",
    "then",
    "tell",
    "me",
    "what",
    "you",
    "find",
]
_PARAGRAPHS = (
    "- first reproduce it\n- then write the test\n- then mend it\n  - and tell `qa`",
    "```yaml\nretries: 3\n---\ntimeout_s: 10\n```",
    "```python\ndef settle(path: Path) -> bool:\n    return path.exists()\n```",
    "## What I tried\n\n1. a clean checkout\n2. the old version\n3. another machine",
    "> could this wait until Monday?\n\nNo, the release waits for it.",
    "| run | seconds |\n|---|---|\n| 1 | 3.2 |\n| 2 | 3.4 |",
)
_VERBS = ("Mend", "Review", "Rename", "Deploy", "Measure", "Explain", "Remove", "Document")
_NOUNS = ("the upload", "the token cache", "a flaky test", "the index", "session clean-up", "retry")
_AGENTS = ("pm", "pm", "pm", "engineer", "qa", "research", "ops")
_PATHS = ("src/upload/session.py", "docs/retry.md", "logs/2026-02-20.log", "tests/test_index.py")


@dataclass(frozen=True, slots=True)
class Letter:
    """One message and the mailbox folder that it stands in."""

    folder: str
    message: LegacyMessage

    @property
    def path(self) -> str:
        """Its file, from ``.claude-mpm`` on."""
        return f"{self.folder}/{self.message.id}.md"


def letters(
    project: Path, number: int, *, seed: int = SEED, folders: tuple[str, ...] = FOLDERS
) -> Iterator[Letter]:
    """Make ``number`` messages of a project, in the order in which they were sent."""
    return islice(_letters(str(project), random.Random(seed), folders), number)


def _letters(project: str, rng: random.Random, folders: tuple[str, ...]) -> Iterator[Letter]:
    weights = [{INBOX: 6, ARCHIVE: 3, OUTBOX: 2}[folder] for folder in folders]
    paragraphs = [*_PARAGRAPHS, *(_paragraph(rng) for _ in range(300))]
    others = [f"{project}-{name}" for name in ("harbor", "lumen", "orchid")]
    sent_at = _FIRST_SENT_AT
    while True:
        sent_at += timedelta(microseconds=rng.randrange(1, 200_000_000))
        (folder,) = rng.choices(folders, weights)
        other = rng.choice(others)
        sender, recipient = (project, other) if folder == OUTBOX else (other, project)
        status = "sent" if folder == OUTBOX else "read" if folder == ARCHIVE else "unread"
        message = LegacyMessage(
            id=new_id(sent_at, f"{rng.getrandbits(32):08x}"),
            from_project=sender,
            to_project=recipient,
            created_at=sent_at,
            from_agent=rng.choice(_AGENTS),
            to_agent=rng.choice(_AGENTS),
            type=rng.choice(("task", "task", "request", "notification", "reply")),
            priority=rng.choice(("low", "normal", "normal", "normal", "high", "urgent")),
            status=rng.choice(("unread", "read", "read")) if folder == INBOX else status,
            metadata=_metadata(rng) if rng.random() < 0.2 else {},
            subject=f"{rng.choice(_VERBS)} {rng.choice(_NOUNS)} (#{rng.randrange(10_000)})",
            body=_body(rng, paragraphs),
            attachments=rng.sample(_PATHS, rng.randint(1, 3)) if rng.random() < 0.1 else [],
        )
        yield Letter(folder, message)


def _paragraph(rng: random.Random) -> str:
    words = rng.choices(_WORDS, k=rng.randint(8, 90))
    return f"{' '.join(words).capitalize()}."


def _body(rng: random.Random, paragraphs: list[str]) -> str:
    (length,) = rng.choices((0, 1, 2, 3, 6, 12, 30), (20, 30, 25, 14, 8, 2.5, 0.5))
    first = f"Run {rng.getrandbits(40):010x} shows it, {rng.choice(_WORDS)} {rng.choice(_WORDS)}."
    return "\n\n".join([first, *rng.choices(paragraphs, k=length)])


def _metadata(rng: random.Random) -> dict[str, Any]:
    branch = f"feature/{rng.choice(('retry', 'index', 'upload'))}-{rng.randrange(10_000)}"
    answered = new_id(_FIRST_SENT_AT, f"{rng.getrandbits(32):08x}")
    kinds: tuple[dict[str, Any], ...] = (
        {"reply_to": answered},
        {"branch": branch, "attempt": rng.randrange(9), "passed": rng.random() < 0.7},
        {"branch": branch, "labels": rng.sample(("api", "ui", "urgent", "v2"), 2), "owner": None},
        {
            "review": {"by": rng.choice(_AGENTS), "files": rng.randrange(1, 40), "score": 0.5},
            "since": f"2026-02-{rng.randrange(10, 28)}",
            "why": f"{rng.choice(_VERBS)} {rng.choice(_NOUNS)} and tell the team",
        },
    )
    return rng.choice(kinds)


def canonical(message: LegacyMessage) -> str:
    """Write a message of this corpus as the old client does, forty times faster than with YAML."""
    metadata = f"metadata:\n{_block(message.metadata, '  ')}" if message.metadata else ""
    text = (
        f"---\ncreated_at: '{message.created_at.isoformat()}'\nfrom_agent: {message.from_agent}\n"
        f"from_project: {message.from_project}\nid: {message.id}\n{metadata}"
        f"priority: {message.priority}\nreply_to: {_scalar(message.reply_to)}\n"
        f"status: {message.status}\nto_agent: {message.to_agent}\n"
        f"to_project: {message.to_project}\ntype: {message.type}\n"
        f"---\n\n# {message.subject}\n\n{message.body}"
    )
    if message.attachments:
        items = "\n".join(f"- `{path}`" for path in message.attachments)
        text += f"\n\n## Attachments\n\n{items}"
    return text


def _block(mapping: dict[str, Any], indent: str) -> str:
    lines = []
    for key in sorted(mapping):
        value = mapping[key]
        if isinstance(value, dict):
            lines.append(f"{indent}{key}:\n{_block(value, indent + '  ')}")
        elif isinstance(value, list):
            lines.append(f"{indent}{key}:\n" + "".join(f"{indent}- {item}\n" for item in value))
        else:
            lines.append(f"{indent}{key}: {_scalar(value)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}'" if value[0].isdigit() else value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def write(base: Path, written: Iterable[Letter]) -> int:
    """Write messages as files below a ``.claude-mpm`` folder; return how many they were."""
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    number = 0
    for letter in written:
        with open(f"{base}/{letter.path}", "wb") as file:
            file.write(canonical(letter.message).encode())
        number += 1
    return number
