"""``syncd service``: the agent as a service of systemd or launchd."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from syncd import config, service
from syncd.cli import output
from syncd.cli.options import Command, Group, Json, Paths, Poll, Recursive
from syncd.cli.output import Tone
from syncd.cli.projects import chosen_roots
from syncd.errors import ReplicaError
from syncd.service import Kind, Service
from syncd.shell import joined

_NOT_STARTED = "not started"

_commands = typer.Typer()
app = typer.Typer()
app.add_typer(
    _commands, name="service", cls=Group, epilog="Example: syncd service install ~/work --recursive"
)


@_commands.callback()
def _service() -> None:
    """Have systemd (or launchd, on a Mac) keep an agent running for you."""


@_commands.command(cls=Command, epilog="Example: syncd service install ~/work --recursive")
def install(
    paths: Paths = None,
    recursive: Recursive = False,
    poll: Poll = False,
    later: Annotated[
        bool, typer.Option("--no-start", help="Only write the file; start nothing.")
    ] = False,
    json: Json = False,
) -> int:
    """Install the agent as a service of yours, and start it. Replaces an earlier one."""
    kind = service.kind_here()
    path = service.path_of(kind)
    text = service.text_of(kind, _wanted(paths, recursive=recursive, poll=poll))
    former = service.installed_text(path)
    if former != text:
        service.write(path, text)
    deed = "written" if former is None else "as it was" if former == text else "written anew"
    state, reason = _NOT_STARTED, ""
    if not later:
        state, reason = _started(kind, path, deed, anew=former != text)
    if json:
        output.print_json(path=str(path), file=deed, state=state, reason=reason)
        return 0
    output.say(f"{path}: {deed}")
    if reason:
        output.say(f"  {reason}", Tone.ATTENTION)
    if state == _NOT_STARTED:
        calls = service.calls_to_start(kind, path, anew=True)
        output.say(f"  → Start it: {' && '.join(map(joined, calls))}", Tone.HINT)
    else:
        words = "the service runs" if state == "running" else "the first look still goes on"
        output.say(f"  {words}; its log: {_log(kind)}", Tone.GOOD)
    if kind is Kind.SYSTEMD and not service.runs_without_a_session():
        output.say(
            "  → It runs while you are logged in; to have it run always: loginctl enable-linger",
            Tone.HINT,
        )
    return 0


def _started(kind: Kind, path: Path, deed: str, *, anew: bool) -> tuple[str, str]:
    """Start the service; return its state, and why it could not be started from here."""
    try:
        is_up = service.start(kind, path, anew=anew)
    except service.Unreachable as error:
        return _NOT_STARTED, error.sentence
    except ReplicaError as error:
        hint = f"Its log tells why: {_log(kind)}"
        raise ReplicaError(f"{path} is {deed}, but {error.sentence}", hint=hint) from error
    return ("running" if is_up else "starting"), ""


@_commands.command(cls=Command, epilog="Example: syncd service uninstall")
def uninstall(json: Json = False) -> int:
    """Stop the service and remove it. No project is touched; safe to repeat."""
    kind = service.kind_here()
    path = service.path_of(kind)
    reason = ""
    was_there = service.installed_text(path) is not None
    if was_there:
        try:
            service.stop(kind, path)
        except service.Unreachable as error:
            reason = error.sentence
        service.remove(path)
        service.forget(kind)
    if json:
        deed = "removed" if was_there else "not there"
        output.print_json(path=str(path), file=deed, reason=reason)
        return 0
    output.say(f"{path}: {'removed' if was_there else 'there is no such service'}")
    if reason:
        output.say(f"  {reason}", Tone.ATTENTION)
        call = joined(service.calls_to_stop(kind, path)[0])
        output.say(f"  → If its agent still runs, stop it in a session of yours: {call}", Tone.HINT)
    return 0


@_commands.command(cls=Command, epilog="Example: syncd service show ~/work --recursive")
def show(
    paths: Paths = None,
    recursive: Recursive = False,
    poll: Poll = False,
    whose: Annotated[
        Literal["systemd", "launchd"] | None,
        typer.Option(
            "--for",
            metavar="systemd|launchd",
            help="Whose service. Without it: that of this system.",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Print what 'install' would write. Changes nothing."""
    kind = Kind(whose) if whose else service.kind_here()
    path = service.path_of(kind)
    text = service.text_of(kind, _wanted(paths, recursive=recursive, poll=poll))
    if json:
        is_there = service.installed_text(path) == text
        output.print_json(path=str(path), text=text, installed=is_there)
        return 0
    output.write(text.encode())
    return 0


def _wanted(paths: list[Path] | None, *, recursive: bool, poll: bool) -> Service:
    config.load()  # a wrong setting is said here, not in a log that nobody reads
    roots = chosen_roots(paths, recursive=recursive)
    return service.service_for(roots, recursive=recursive, poll=poll, environment=os.environ)


def _log(kind: Kind) -> str:
    if kind is Kind.SYSTEMD:
        return f"journalctl --user -u {service.NAME}"
    return f"tail ~/Library/Logs/{service.NAME}.log"
