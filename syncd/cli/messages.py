"""``syncd message``: send, list, read, archive and answer messages, over the messaging API.

Old clients are served too: what they wrote is imported before messages are looked for, and after a
change the projects that it concerns are brought in step. Where an agent runs, that is its work.

Everything heavy is imported when it is needed: `check` is made for a shell's prompt.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli import message_pages as pages
from syncd.cli import output
from syncd.cli.message_arguments import (
    Attach,
    Body,
    BodyFile,
    FromAgent,
    Kind,
    Priority,
    Subject,
    attachment,
    body_text,
    meant,
    no_message,
)
from syncd.cli.message_cycles import bring_in_step, taken_in
from syncd.cli.options import Command, Group, Json, MessageId, OfProject
from syncd.cli.output import Tone
from syncd.cli.projects import chosen_project
from syncd.errors import SyncdError, UsageError
from syncd.find import is_project
from syncd.names import database_of, session_registry

if TYPE_CHECKING:
    from syncd.messaging.service import Message, MessageService

_commands = typer.Typer()
app = typer.Typer()
app.add_typer(_commands, name="message", cls=Group, epilog="Example: syncd message list")


@_commands.callback()
def _message(context: typer.Context) -> None:
    """Send, list, read, archive and answer messages between projects."""
    context.with_resource(_warnings_told())


@_commands.command(
    cls=Command, epilog="Example: syncd message send ../billing --subject Totals --body 'Done.'"
)
def send(
    to: Annotated[Path, typer.Argument(metavar="TO", help="The folder of the project.")],
    subject: Subject = "",
    body: Body = None,
    body_file: BodyFile = None,
    to_agent: Annotated[str, typer.Option("--to-agent", help="The agent that receives.")] = "pm",
    from_agent: FromAgent = "pm",
    kind: Kind = "notification",
    priority: Priority = "normal",
    attach: Attach = None,
    project: OfProject = None,
    json: Json = False,
) -> int:
    """Send a message to a project."""
    text = body_text(body, body_file)
    if not (subject.strip() or text.strip()):
        raise UsageError(
            "a message needs a subject or a body", hint="Add --subject, --body or --body-file."
        )
    sender = chosen_project(project)
    attachments = [attachment(path) for path in attach or ()]
    is_new = to.is_dir() and not is_project(to)
    with _service(sender) as service:
        sent = service.send_message(
            to, to_agent, kind, subject, text, priority, from_agent, attachments
        )
    if is_new:
        output.tell(f"{sent.to_project} was no project before: its mailbox was made", Tone.HINT)
    _tell_sent(sent, json=json)
    bring_in_step(Path(sent.to_project), sender)
    return 0


@_commands.command("list", cls=Command, epilog="Example: syncd message list --status unread")
def list_(
    status: Annotated[
        str | None,
        typer.Option(
            "--status",
            help="Only those: unread, read, archived, any other status; or sent, for what the "
            "project sent itself.",
        ),
    ] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="Only those to this agent.")] = None,
    project: OfProject = None,
    json: Json = False,
) -> int:
    """List the messages that the project received, the newest first."""
    where = taken_in(project)
    with _service(where) as service:
        if status == "sent":
            messages = _sent(service, agent)
        else:
            messages = service.list_messages(status, agent)
    if json:
        output.print_object(messages=pages.as_json(messages))
    elif messages:
        pages.print_list(messages)
    else:
        output.tell("no such messages" if status or agent else "no messages")
    return 0


@_commands.command(cls=Command, epilog="Example: syncd message read msg-20260220-0102")
def read(message_id: MessageId, project: OfProject = None, json: Json = False) -> int:
    """Show a message. If it was unread, it is read from now on."""
    where = taken_in(project)
    with _service(where) as service:
        key, status = meant(service, message_id)
        message = service.read_message(key)
    if message is None:
        raise no_message(message_id)
    if status == "unread":
        bring_in_step(where)  # before the text: a pager may be left before its end
    if json:
        output.print_object(messages=pages.as_json([message]))
    else:
        pages.print_message(message)
    return 0


@_commands.command(cls=Command, epilog="Example: syncd message archive msg-20260220-0102")
def archive(message_id: MessageId, project: OfProject = None, json: Json = False) -> int:
    """Archive a message that the project received."""
    where = taken_in(project)
    with _service(where) as service:
        key, status = meant(service, message_id)
        if status == "sent":
            raise SyncdError(
                f"{key} is a message that this project sent; only received ones can be archived"
            )
        if not service.archive_message(key):
            raise no_message(message_id)
        row = service.messaging_db.get_message(key) if json else None
    if row is not None:
        output.print_object(messages=pages.rows_as_json([row]))
    else:
        output.say(f"{key} archived")
    if status != "archived":
        bring_in_step(where)
    return 0


@_commands.command(cls=Command, epilog="Example: syncd message reply msg-20260220-0102 --body Yes.")
def reply(
    message_id: MessageId,
    subject: Subject = "",
    body: Body = None,
    body_file: BodyFile = None,
    from_agent: FromAgent = "pm",
    project: OfProject = None,
    json: Json = False,
) -> int:
    """Answer a message. If it was unread, it is read from now on.

    Without --subject, the answer has the message's own, with "Re: " in front.
    """
    text = body_text(body, body_file)
    if not text.strip():
        raise UsageError("a reply needs a body", hint="Add --body or --body-file.")
    where = taken_in(project)
    with _service(where) as service:
        key, _ = meant(service, message_id)
        sent = service.reply_to_message(key, subject, text, from_agent)
    if sent is None:
        raise no_message(message_id)
    _tell_sent(sent, json=json)
    bring_in_step(Path(sent.to_project), where)
    return 0


@_commands.command(cls=Command, epilog="Example: syncd message check --project ~/work/shop")
def check(project: OfProject = None, json: Json = False) -> int:
    """Tell how many messages are unread, and which of them are urgent or high."""
    # Not by a service: its session in the registry would cost more than the answer.
    from syncd.messaging.database import MessagingDatabase

    where = taken_in(project)
    with closing(MessagingDatabase(database_of(where))) as database:
        unread = database.get_unread_count()
        pressing = database.get_high_priority_messages(None, None) if unread else []
    if json:
        output.print_object(unread=unread, messages=pages.rows_as_json(pressing))
        return 0
    output.say(f"{unread:,} unread message{'' if unread == 1 else 's'}")
    for row in pressing:
        pages.print_pressing(row)
    return 0


@_commands.command(cls=Command, epilog="Example: syncd message sessions --all")
def sessions(
    ended: Annotated[
        bool, typer.Option("--all", help="Also those that ended or died, not only active ones.")
    ] = False,
    json: Json = False,
) -> int:
    """List the programs that use the messaging API, in all projects, the last active first."""
    from syncd.messaging.database import MessagingDatabase

    registry = session_registry()
    found = []
    if registry.exists():
        with closing(MessagingDatabase(registry)) as database:
            database.cleanup_stale_sessions(check_pids=True)
            found = database.list_all_sessions() if ended else database.list_active_sessions()
    if json:
        output.print_object(sessions=found)
    elif found:
        pages.print_sessions(found)
    else:
        output.tell("no sessions" if ended else "no active sessions")
    return 0


@contextmanager
def _service(project: Path) -> Iterator[MessageService]:
    """Open a project's messages. One command is no session: the registry keeps none of it."""
    from syncd.messaging.service import MessageService

    with MessageService(project) as service:
        try:
            yield service
        finally:
            with (
                suppress(SyncdError, sqlite3.Error),
                service.global_registry.get_connection() as registry,
            ):
                registry.execute("DELETE FROM sessions WHERE session_id = ?", (service.session_id,))


def _sent(service: MessageService, agent: str | None) -> list[Message]:
    from syncd.messaging.service import Message

    database = service.messaging_db
    if agent is None:
        rows = database.list_messages("sent", None)
    else:
        rows = database.get_messages_for_agent(agent, "sent", None)
    return [Message.from_row(row) for row in rows]


def _tell_sent(sent: Message, *, json: bool) -> None:
    if json:
        output.print_object(messages=pages.as_json([sent]))
    else:
        output.say(f"{sent.id} sent to {sent.to_agent} in {sent.to_project}")


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Have what the API logs printed as all else is; a command sets up no logging of its own."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = _tell_record  # type: ignore[method-assign]
    log = logging.getLogger("syncd")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _tell_record(record: logging.LogRecord) -> None:
    output.tell(f"syncd: {record.getMessage()}", Tone.ATTENTION)
