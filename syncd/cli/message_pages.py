"""Messages and sessions as lines, tables, panels and JSON.

On a terminal there are tables and panels, elsewhere lines. What a message says is data in all of
them: it is never markup, and no character of it drives the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from syncd.cli import output
from syncd.cli.output import Tone, shown

if TYPE_CHECKING:
    from rich.table import Table

    from syncd.messaging.service import Message

_STATUS_STYLES = {"unread": "bold", "archived": "dim", "active": "green"}
_PRIORITY_STYLES = {"urgent": "red", "high": "yellow"}
_PRIORITY_TONES = {"urgent": Tone.BAD, "high": Tone.ATTENTION}
_WIDEST_ID = 40

Styled = tuple[str, str]
"""A text and rich's name of a style for it."""


# JSON


def as_json(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return messages as JSON objects."""
    return [asdict(one) | {"created_at": one.created_at.isoformat()} for one in messages]


def rows_as_json(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what `MessagingDatabase` hands out as the same JSON objects."""
    from syncd.messaging.service import Message

    return as_json(map(Message.from_row, rows))


# Messages


def print_list(messages: Sequence[Message]) -> None:
    """Print messages, each with its whole id first."""
    if not sys.stdout.isatty():
        output.say_columns(
            (one.id, one.status, one.priority, _minute(one.created_at), _other(one), one.subject)
            for one in messages
        )
        return
    table = _table(("Message", "Status", "From and subject"), [one.id for one in messages])
    for one in messages:
        style = _STATUS_STYLES.get(one.status, "")
        priority = "" if one.priority == "normal" else one.priority
        _add_row(
            table,
            ((one.id, style), (_minute(one.created_at), "dim")),
            ((one.status, style), (priority, _PRIORITY_STYLES.get(one.priority, ""))),
            ((_other(one), "cyan"), (one.subject, style)),
        )
    output.console(sys.stdout).print(table)


def print_message(message: Message) -> None:
    """Print a message in full."""
    text = message.body.replace("\r\n", "\n").rstrip()
    body = [line.expandtabs() for line in text.split("\n")]
    if not sys.stdout.isatty():
        for name, value in _facts(message):
            output.say(f"{name}: {value}")
        for line in ("", *body):
            output.say(line)
        return
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    styles = {"Subject": "bold", "Priority": _PRIORITY_STYLES.get(message.priority, "")}
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(message):
        style = styles.get(name, "")
        facts.add_row(Text(name, "dim"), Text(shown(value), style, overflow="fold"))
    words = Text("\n".join(map(shown, body)), overflow="fold")
    output.console(sys.stdout).print(Group(Panel(facts), Panel(words)))


def _facts(message: Message) -> Iterator[tuple[str, str]]:
    yield "Subject", message.subject
    yield "From", f"{message.from_agent} in {message.from_project}"
    yield "To", f"{message.to_agent} in {message.to_project}"
    yield "Date", _local(message.created_at).isoformat(" ", "seconds")
    yield "Type", message.type
    yield "Priority", message.priority
    yield "Status", message.status
    yield "Id", message.id
    answered = message.reply_to or message.metadata.get("reply_to")
    if answered:
        yield "In reply to", str(answered)
    others = {key: value for key, value in message.metadata.items() if key != "reply_to"}
    if others:
        yield "Metadata", json.dumps(others, ensure_ascii=False)
    for path in message.attachments:
        yield "Attachment", path


def print_pressing(row: Mapping[str, Any]) -> None:
    """Print a message that should not wait, as `MessagingDatabase` hands it out, as one line."""
    sender = _agent_in(row["from_agent"], row["from_project"])
    output.say(
        f"  {row['priority']:<6}  {row['id']}  {sender}: {row['subject']}",
        _PRIORITY_TONES.get(row["priority"], Tone.PLAIN),
    )


def _other(message: Message) -> str:
    """Return who is on the other side."""
    if message.status == "sent":
        return f"to {_agent_in(message.to_agent, message.to_project)}"
    return _agent_in(message.from_agent, message.from_project)


def _agent_in(agent: str, project: str) -> str:
    return f"{agent} in {os.path.basename(project.rstrip('/')) or project}"


def _minute(moment: datetime) -> str:
    return _local(moment).strftime("%Y-%m-%d %H:%M")


def _local(moment: datetime) -> datetime:
    """Return a time as the clock here shows it, where that has a year for it."""
    try:
        return moment.astimezone()
    except (OverflowError, OSError):
        return moment


# Sessions


def print_sessions(sessions: Sequence[Mapping[str, Any]]) -> None:
    """Print sessions as the registry has them, each with its whole id first."""
    texts = [{name: str(value) for name, value in session.items()} for session in sessions]
    if not sys.stdout.isatty():
        output.say_columns(
            (one["session_id"], one["status"], one["last_active"], one["pid"], one["project_path"])
            for one in texts
        )
        return
    from syncd.cli.findings import local_time  # few commands list sessions

    table = _table(("Session", "Status", "Project"), [one["session_id"] for one in texts])
    for one in texts:
        style = _STATUS_STYLES.get(one["status"], "dim")
        _add_row(
            table,
            ((one["session_id"], ""), (f"pid {one['pid']}", "dim")),
            ((one["status"], style),),
            ((one["project_path"], ""), (f"active {local_time(one['last_active'])}", "dim")),
        )
    output.console(sys.stdout).print(table)


# Tables


def _table(names: Sequence[str], ids: Iterable[str]) -> Table:
    """Return a table whose first column shows these ids whole, an unusually long one in lines."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, leading=1)
    widest = max(len(shown(key)) for key in ids)
    table.add_column(names[0], min_width=min(widest, _WIDEST_ID), overflow="fold")
    for name in names[1:]:
        table.add_column(name, overflow="fold")
    return table


def _add_row(table: Table, *cells: Sequence[Styled]) -> None:
    """Add a row; the texts of a cell stand below each other."""
    from rich.text import Text

    table.add_row(
        *(
            Text("\n").join(Text(shown(text), style) for text, style in cell if text)
            for cell in cells
        )
    )
