"""What ``syncd message`` takes: the options that its commands share, and what they mean."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from syncd.errors import MessageError, SyncdError, UsageError

if TYPE_CHECKING:
    from syncd.messaging.service import MessageService

_MOST_CANDIDATES = 8

Subject = Annotated[str, typer.Option("--subject", help="The subject.")]
Body = Annotated[str | None, typer.Option("--body", help="The text of the message.")]
BodyFile = Annotated[
    Path | None,
    typer.Option(
        "--body-file",
        metavar="F|-",
        help="A file with the text of the message; - is standard input.",
    ),
]
Attach = Annotated[
    list[Path] | None,
    typer.Option(
        "--attach",
        metavar="F",
        help="A file that the message names, by its full path; repeat it for several.",
    ),
]
Kind = Annotated[
    Literal["task", "request", "notification", "reply"],
    typer.Option("--type", metavar="task|request|notification|reply", help="What it is."),
]
Priority = Annotated[
    Literal["low", "normal", "high", "urgent"],
    typer.Option("--priority", metavar="low|normal|high|urgent", help="How pressing it is."),
]
FromAgent = Annotated[str, typer.Option("--from-agent", help="The agent that sends.")]


def body_text(body: str | None, body_file: Path | None) -> str:
    """Return the body as given; of a file, the text without a byte order mark."""
    if body is not None and body_file is not None:
        raise UsageError("a message has one body: --body and --body-file exclude each other")
    if body_file is None:
        return body or ""
    if str(body_file) != "-":
        data, name = body_file.read_bytes(), str(body_file)
    elif sys.stdin is None:
        raise SyncdError("standard input is closed, so the body cannot be read from it")
    else:
        data, name = sys.stdin.buffer.read(), "standard input"
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MessageError(f"{name} is not UTF-8 text: see line {line}") from error


def attachment(path: Path) -> str:
    """Return the full path of a file: the recipient works in another folder."""
    if not path.exists():
        raise SyncdError(f"{path} does not exist, so it cannot be attached")
    return os.path.abspath(path)


def meant(service: MessageService, given: str) -> tuple[str, str]:
    """Return the id that is meant, and the message's status.

    An id that is given in full is meant, also when others begin with it.
    """
    from syncd.messaging.connection import explained

    database = service.messaging_db
    sql = "SELECT id, status FROM messages WHERE substr(id, 1, ?) = ? ORDER BY id"
    with explained(database.db_path), database.get_connection() as connection:
        rows = connection.execute(sql, (len(given), given)).fetchall()
    found = {str(key): str(status) for key, status in rows}
    if given in found:
        return given, found[given]
    if not given or not found:  # nothing begins every id: a script's empty variable
        raise no_message(given)
    if len(found) == 1:
        return found.popitem()
    names = list(found)
    more = len(names) - _MOST_CANDIDATES
    if more > 0:
        names[_MOST_CANDIDATES:] = [f"{more:,} more"]
    raise SyncdError(
        f"{len(found):,} messages begin with {given!r}: {', '.join(names[:-1])} and {names[-1]}",
        hint="Write more of the id.",
    )


def no_message(given: str) -> SyncdError:
    return SyncdError(
        f"there is no message {given!r} in this project",
        hint="'syncd message list' lists the messages with their ids.",
    )
