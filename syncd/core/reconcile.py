"""PURE: what a message's baseline, file and row together ask for.

`reconcile` is a total function of three values: no I/O, no clock, no logger. A side is a state, a
`Quarantined` (unreadable, which is never "gone"), or None (not there). The answer is one
`Outcome`: the message that both sides hold afterwards, the step for each side, the conflicts, and
the versions that a step would destroy and that the history keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from syncd.core.message import (
    FIELDS,
    TEXT_FIELDS,
    Mailbox,
    Message,
    fingerprint,
    mailbox_of,
    progress,
    status_in,
)
from syncd.core.sides import Baseline, Quarantined, Side


class Step(StrEnum):
    """What is done to one side of a message."""

    NONE = "none"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class FileState(NamedTuple):
    """A file as read: ``message.status`` is what folder and front matter say without a baseline.

    ``said``, ``status_said`` and ``is_keyed`` are those of `syncd.core.markdown.ParsedFile`.
    """

    mailbox: Mailbox
    message: Message
    said: frozenset[str]
    status_said: str | None
    is_keyed: bool = False


class Conflict(NamedTuple):
    """One field that changed on both sides to different values."""

    field: str
    winner: Side
    file_value: str | None
    db_value: str | None


class Kept(NamedTuple):
    """A side's version that goes to the history before a step destroys it."""

    side: Side
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happens to one message.

    ``message`` is what both sides hold afterwards (None: nothing is left, or nothing is done).
    ``row_fields`` and ``file_fields`` name what an update changes. ``status_said`` is the word
    that the front matter is to say, None to leave it. ``heard`` is what a file that stands was
    taken for, None for one that says nothing new but a status. ``forget`` drops the baseline.
    """

    message: Message | None
    row: Step = Step.NONE
    file: Step = Step.NONE
    row_fields: frozenset[str] = frozenset()
    file_fields: frozenset[str] = frozenset()
    status_said: str | None = None
    conflicts: tuple[Conflict, ...] = ()
    kept: tuple[Kept, ...] = ()
    heard: Message | None = field(default=None, compare=False)
    forget: bool = False

    @property
    def mailbox(self) -> Mailbox | None:
        """The mailbox in which the file stands afterwards."""
        return mailbox_of(self.message.status) if self.message is not None else None


NOTHING = Outcome(None)


def reconcile(
    baseline: Baseline | None,
    file: FileState | Quarantined | None,
    row: Message | Quarantined | None,
    *,
    prefer: Side = Side.FILE,
    restore: bool = False,
    rewrite_of: Baseline | None = None,
) -> Outcome:
    """Return the outcome for one message (the table of the design's section 4).

    ``prefer`` names the side that wins a conflict. With ``restore`` nothing is deleted: what is
    gone on one side only is written there again. ``rewrite_of`` is the version, this or an earlier
    one, of which the file is an old client's rewrite: only the status is then news.
    """
    if isinstance(file, Quarantined) or isinstance(row, Quarantined):
        return NOTHING
    if file is None and row is None:
        return Outcome(None, forget=True) if baseline is not None else NOTHING
    if file is None:
        assert row is not None
        if baseline is None or restore or fingerprints_differ(baseline, row):
            return Outcome(row, file=Step.CREATE)
        return Outcome(None, row=Step.DELETE, kept=(Kept(Side.DB, "deleted"),), forget=True)
    heard = _heard(baseline, file)
    if row is None:
        if baseline is None or restore or fingerprints_differ(baseline, heard):
            return _settled(heard, file, None, (), ())
        return Outcome(None, file=Step.DELETE, kept=(Kept(Side.FILE, "deleted"),), forget=True)
    if rewrite_of is not None:
        status = _heard(rewrite_of, file).status
        rewrite = row._replace(status=status)
        return replace(_merged(rewrite_of, file, rewrite, row, prefer), heard=None)
    unsaid = FIELDS if baseline is None else _moved_defaults(baseline.mailbox, file)
    heard = heard._replace(**{name: getattr(row, name) for name in unsaid if name not in file.said})
    return _merged(baseline, file, heard, row, prefer)


def is_insert(file: FileState) -> bool:
    """Tell whether a file of whose message nothing is known becomes a row, and stays as it is."""
    return file.mailbox is mailbox_of(file.message.status)


def reconcile_late(
    ancestor: Baseline,
    late: FileState,
    baseline: Baseline,
    file: FileState,
    row: Message,
    *,
    prefer: Side,
    is_rewrite: bool,
) -> Outcome:
    """Return the outcome when ``late`` was written to a file that ``file`` had replaced by then.

    The late writer started from ``ancestor``; what it changed is merged with the row, and the
    file that stands now (of ``baseline``) takes the result. Of an old client's rewrite only the
    status is news.
    """
    heard = _heard(ancestor, late)
    if is_rewrite:
        heard = row._replace(status=heard.status)
    merged = _merged(ancestor, late, heard, row, prefer)
    assert merged.message is not None
    standing = _heard(baseline, file)
    return _settled(merged.message, file, row, merged.conflicts, merged.kept, standing)


def fingerprints_differ(baseline: Baseline, message: Message) -> bool:
    """Tell whether any field of ``message`` differs from the baseline."""
    return any(
        fingerprint(value) != agreed
        for value, agreed in zip(message[1:], baseline.fields, strict=True)
    )


def _heard(baseline: Baseline | None, file: FileState) -> Message:
    """Return the file's message with the status that counts, and an unsaid date left as it was.

    Folder and front matter both speak of the status: whichever changed against the baseline is
    heard; the folder where both did, or where there is no baseline.
    """
    message = file.message
    if baseline is None:
        return message
    if "created_at" not in file.said:
        # The date was made up from the id or the mtime, and the mtime moves with every edit.
        agreed = baseline.fields[FIELDS.index("created_at")]
        message = message._replace(created_at=agreed or message.created_at)
    if file.mailbox is not baseline.mailbox:
        return message._replace(status=status_in(file.mailbox, file.status_said))
    if file.status_said == baseline.status_said:
        return message._replace(status=baseline.status)
    if file.status_said is not None:
        return message._replace(status=file.status_said)
    return message


def _moved_defaults(mailbox: Mailbox, file: FileState) -> tuple[str, ...]:
    """Return the fields whose default is another in ``mailbox`` than where the file stands.

    Who moves a file that does not state them says nothing of them.
    """
    crossed = (mailbox is Mailbox.OUTBOX) is not (file.mailbox is Mailbox.OUTBOX)
    return ("from_project", "to_project") if crossed else ()


def _merged(
    baseline: Baseline | None, file: FileState, heard: Message, row: Message, prefer: Side
) -> Outcome:
    values: dict[str, str | None] = {}
    conflicts: list[Conflict] = []
    fields = baseline.fields if baseline is not None else (None,) * len(FIELDS)
    pairs = zip(FIELDS, heard[1:], row[1:], fields, strict=True)
    for name, file_value, row_value, agreed in pairs:
        if file_value == row_value or (baseline and fingerprint(row_value) == agreed):
            values[name] = file_value
        elif baseline and fingerprint(file_value) == agreed:
            values[name] = row_value
        elif name == "status" and progress(file_value or "") != progress(row_value or ""):
            values[name] = max(file_value or "", row_value or "", key=progress)
        else:
            conflicts.append(Conflict(name, prefer, file_value, row_value))
            values[name] = file_value if prefer is Side.FILE else row_value
    message = Message(id=heard.id, **values)  # type: ignore[arg-type]
    kept = (Kept(prefer.other, "conflict"),) if conflicts else ()
    return _settled(message, file, row, tuple(conflicts), kept, heard)


def _settled(
    message: Message,
    file: FileState,
    row: Message | None,
    conflicts: tuple[Conflict, ...],
    kept: tuple[Kept, ...],
    heard: Message | None = None,
) -> Outcome:
    """Return the outcome that brings ``message`` to both sides, of which the file is there.

    ``heard`` is what the file was taken for, if not for this very message. A date that the file
    does not state need not be written into it while that is how it was taken, nor need a project,
    unless the file comes to stand where another is the default.
    """
    heard = heard or message
    file_fields = _differing(file.message, message) - {"status"}
    if "created_at" not in file.said and heard.created_at == message.created_at:
        file_fields -= {"created_at"}
    mailbox = mailbox_of(message.status)
    if file.mailbox is not mailbox or heard.status != message.status:
        file_fields |= {"status"}
    file_fields |= {name for name in _moved_defaults(mailbox, file) if name not in file.said}
    row_fields = _differing(row, message) if row is not None else _NO_FIELDS
    kept_sides = {keep.side for keep in kept}
    for side, fields in ((Side.FILE, file_fields), (Side.DB, row_fields)):
        if fields & TEXT_FIELDS and side not in kept_sides:
            kept = (*kept, Kept(side, "replaced"))
    return Outcome(
        message,
        row=Step.CREATE if row is None else Step.UPDATE if row_fields else Step.NONE,
        file=Step.UPDATE if file_fields else Step.NONE,
        row_fields=row_fields,
        file_fields=file_fields,
        status_said=_status_to_say(file, message) if "status" in file_fields else None,
        conflicts=conflicts,
        kept=kept,
        heard=heard,
    )


_NO_FIELDS: frozenset[str] = frozenset()


def _differing(message: Message, other: Message) -> frozenset[str]:
    values, others = message[1:], other[1:]
    if values == others:
        return _NO_FIELDS
    pairs = zip(FIELDS, values, others, strict=True)
    return frozenset(name for name, value, other_value in pairs if value != other_value)


def _status_to_say(file: FileState, message: Message) -> str | None:
    """Return the word to write into the front matter, None where a move alone says enough.

    In the inbox the old client sees that very word, whatever the file was before.
    """
    mailbox = mailbox_of(message.status)
    said = status_in(mailbox, file.status_said)
    if mailbox is Mailbox.INBOX and file.status_said is not None:
        said = file.status_said
    return message.status if said != message.status else None
