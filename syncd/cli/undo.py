"""``syncd history``, ``show`` and ``restore``: what stood before, seen and brought back."""

from __future__ import annotations

import base64
import json as encoder
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from syncd import history as past
from syncd.cli import output
from syncd.cli.acts import (
    SIDES,
    AnyMessageId,
    VersionNumber,
    act,
    call,
    code_of,
    opened,
    print_state,
    project_and_settings,
    where_now,
)
from syncd.cli.findings import local_time, number_of
from syncd.cli.options import Command, Json, MessageId, OfProject
from syncd.cli.output import Tone
from syncd.database.chronicle import HistoryEntry
from syncd.database.store import Store
from syncd.errors import MessageError, UsageError
from syncd.files.replica import FileReplica
from syncd.history import Restored

app = typer.Typer()

_MOST_WORDS, _WIDTH = 1000, 60


class _Line(NamedTuple):
    """A version in the history, with no more of what it holds than its first words."""

    number: int
    id: object
    at: str
    side: str
    reason: str
    path: str | None
    subject: str
    words: str

    def as_json(self) -> dict[str, Any]:
        entry = self._asdict() | {"id": _plain(self.id)}
        del entry["words"]
        return entry


# history


@app.command(cls=Command, epilog="Example: syncd history msg-20260220-201500")
def history(
    message_id: AnyMessageId = None, of_project: OfProject = None, json: Json = False
) -> int:
    """List the versions that the history keeps, the newest last."""
    project, settings = project_and_settings(of_project)
    with opened(project) as store, store.reading():
        key = past.find(store, message_id) if message_id is not None else None
        lines = [_line_of(kept, project) for kept in past.each_version(store, key)]
    if json:
        entries = [line.as_json() for line in lines]
        output.print_json(project=str(project), history=entries)
        return 0
    _print_lines(lines)
    what = f"{number_of(len(lines), 'version')} of {key or 'all messages'}"
    output.tell(f"{what}, kept for {settings.history_days:g} days")
    if lines and key is not None:
        number = str(lines[-1].number)
        output.tell(f"  → To see one: {call(project, 'show', key, '--version', number)}", Tone.HINT)
        way = call(project, "restore", key, "--version", number)
        output.tell(f"  → To bring one back: {way}", Tone.HINT)
    return 0


def _line_of(kept: HistoryEntry, project: Path) -> _Line:
    try:
        message = past.message_of(kept, project)
        subject, body = message.subject, message.body
    except MessageError:
        subject, body = "", (past.bytes_of(kept) or b"").decode("utf-8", "replace")
    words = _excerpt(f"{subject} · {body[:_MOST_WORDS]}" if subject and body else subject or body)
    subject = subject or _excerpt(body)
    at, side, reason = map(str, (kept.at, kept.side, kept.reason))
    path = str(kept.path) if kept.path is not None else None
    return _Line(kept.version, kept.id, at, side, reason, path, subject, words)


def _excerpt(text: str) -> str:
    """Return the first words of a text, on one line."""
    line = " ".join(text[: 4 * _WIDTH].split())
    fits = len(line) <= _WIDTH and len(text) <= 4 * _WIDTH
    return line if fits else f"{line[: _WIDTH - 1]}…"


def _print_lines(lines: list[_Line]) -> None:
    output.say_columns(
        (
            str(line.number),
            local_time(line.at),
            line.id if isinstance(line.id, str) else repr(line.id),
            f"{SIDES.get(line.side, line.side)}, {line.reason}",
            line.path or "-",
            line.words,
        )
        for line in lines
    )


# show


@app.command(cls=Command, epilog="Example: syncd show msg-20260220-201500 --version 12")
def show(
    message_id: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="A message's id, or as much of its beginning as no other has; not needed for a "
            "version.",
        ),
    ] = None,
    version: VersionNumber = None,
    of_project: OfProject = None,
    json: Json = False,
) -> int:
    """Show a message as it stands now, or (--version) as it stood: the file's bytes, or the row."""
    if message_id is None and version is None:
        raise UsageError(
            "show takes an id, or the number of a version", hint="'syncd history' lists both."
        )
    project, settings = project_and_settings(of_project)
    with opened(project) as store, store.reading():
        key = past.find(store, message_id) if message_id is not None else None
        if key is not None and version is None:
            with FileReplica(project, max_bytes=settings.max_bytes) as files:
                shown = _standing(project, store, files, key)
        else:
            shown = _version(store, past.version_of(store, key, version))
    if json:
        output.print_json(project=str(project), **shown.as_json())
        return 0
    output.tell(shown.title)
    if shown.data is not None:
        output.write(shown.data)
    elif shown.row is not None:
        output.write(_row_text(shown.row))
    return 0


@dataclass(frozen=True, slots=True)
class _Shown:
    """What `show` shows of a message: a file and its row as they stand, or one version of either.

    ``about`` has what is known of the version.
    """

    id: str
    title: str
    path: str | None
    data: bytes | None
    row: dict[str, Any] | None
    about: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        file = None
        if self.data is not None:
            file = {"path": self.path} | _text_or_base64(self.data)
        row = self.row
        if row is not None:
            row = {name: _plain(value) for name, value in row.items()}
        return {"id": _plain(self.id), **self.about, "file": file, "row": row}


def _standing(project: Path, store: Store, files: FileReplica, key: str) -> _Shown:
    row = past.row_now(store, key)
    problem = ""
    try:
        file = past.file_now(project, store, files, key)
    except MessageError as error:
        file, problem = None, error.sentence
    if row is None and file is None and not problem:
        raise UsageError(
            f"{key!r} stands on neither side any more",
            hint=f"Its versions: {call(project, 'history', key)}",
        )
    if file is not None:
        title = f"{key} stands in {file[0]}" + ("" if row is not None else " and has no row")
        return _Shown(key, title, *file, row, {})
    title = f"{key} stands in a row and has no file" if not problem else f"{key}: {problem}"
    return _Shown(key, title, None, None, row, {})


def _version(store: Store, kept: HistoryEntry) -> _Shown:
    data = past.bytes_of(kept)
    side = "file" if data is not None else "row"
    where = f", from {kept.path}" if kept.path else ""
    title = (
        f"version {kept.version} of {kept.id}: the {side}, "
        f"{kept.reason}, {local_time(kept.at)}{where}"
    )
    row = past.row_then(store, kept.version) if data is None else None
    about = {"at": kept.at, "side": kept.side, "reason": kept.reason}
    plain = {name: _plain(value) for name, value in about.items()}
    path = str(kept.path) if kept.path is not None else None
    return _Shown(kept.id, title, path, data, row, {"number": kept.version, **plain})


def _row_text(row: dict[str, Any]) -> bytes:
    """Return a row exactly: a line of JSON a column, and last the body as it is."""
    body = row["body"]
    lines = [
        f"{name}: {encoder.dumps(_plain(value), ensure_ascii=False)}"
        for name, value in row.items()
        if name != "body" or not isinstance(body, str)
    ]
    text = "\n".join(lines) + "\n"
    if isinstance(body, str):
        text += f"\n{body}"
    return text.encode("utf-8", "surrogateescape")


def _text_or_base64(data: bytes) -> dict[str, str | None]:
    try:
        return {"text": data.decode("utf-8"), "base64": None}
    except UnicodeDecodeError:
        return {"text": None, "base64": base64.b64encode(data).decode("ascii")}


def _plain(value: object) -> object:
    """Return a column's value as JSON has it; a BLOB as an object with its base64."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    return value


# restore


@app.command(cls=Command, epilog="Example: syncd restore msg-20260220-201500 --version 12")
def restore(
    message_id: MessageId,
    version: VersionNumber = None,
    of_project: OfProject = None,
    json: Json = False,
) -> int:
    """Bring a version back on both sides, by default the latest one.

    What stood before goes to the history, so that this can be undone.
    """
    project, settings = project_and_settings(of_project)
    with opened(project) as store, store.reading():
        key = past.find(store, message_id)
        # Held from here on: the cycle that comes first may find that its time in the history is up.
        held = _held(store, key, version)
    restored: list[Restored] = []

    def bring_back(store: Store) -> None:
        latest = _held(store, key, None) if version is None else None
        kept = latest or held or past.version_of(store, key, version)
        with FileReplica(project, max_bytes=settings.max_bytes) as files:
            restored.append(past.restore(project, store, files, kept))

    report = act(project, settings, bring_back)
    done = restored[0] if restored else None
    undo = None
    if done is not None and done.before is not None:
        undo = call(project, "restore", key, "--version", str(done.before))
    if json:
        output.print_json(
            project=str(project),
            id=key,
            number=done.kept.version if done else None,
            changed=done is not None and (undo is not None or not done.existed),
            kept_number=done.before if done else None,
            undo=undo,
            cycle=report.as_json(),
        )
        return code_of(report)
    if done is not None:
        _print_restored(project, done, undo)
    print_state(report, done=done is not None)
    return code_of(report)


def _held(store: Store, key: str, version: int | None) -> HistoryEntry | None:
    """Return the version that a person named, or else the latest, which there may not be yet."""
    try:
        return past.version_of(store, key, version)
    except UsageError:
        if version is not None:
            raise
        return None


def _print_restored(project: Path, done: Restored, undo: str | None) -> None:
    kept = done.kept
    what = f"version {kept.version} of {kept.id}"
    if undo is None and done.existed:
        output.say(f"{what} is what stands already: nothing to do", Tone.GOOD)
        return
    where = where_now(project, [kept.id])[kept.id]
    output.say(f"{what} ({kept.reason}, {local_time(kept.at)}) stands again {where}", Tone.GOOD)
    if undo is not None:
        output.say(f"  → To undo: {undo}", Tone.HINT)
    else:
        output.say("  → To undo, delete its file or its row again.", Tone.HINT)
