"""``indexers``: mu and notmuch over the same bodies, where they are installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from email.utils import format_datetime
from pathlib import Path

from tests.bench.bulk import in_turn, migrated
from tests.bench.children import finish
from tests.bench.corpus import Letter, letters
from tests.bench.figures import Result, Samples, require
from tests.bench.workshop import Workshop


def indexers(workshop: Workshop) -> Iterator[Result]:
    """Measure how many messages a second mu and notmuch index, and how many we import."""
    messages = workshop.scale.small
    found = [name for name in _INDEXERS if shutil.which(name)]
    if not found:
        return
    project = workshop.corpus(messages)
    maildir = workshop.once(
        f"maildir-{messages}", lambda folder: _write_mails(folder, letters(project, messages))
    )
    for name in found:
        theirs, ours = in_turn(
            workshop.scale.repeat_long,
            lambda: _INDEXERS[name](workshop, maildir, messages),  # noqa: B023
            lambda: migrated(workshop, project, messages).seconds,
        )
        yield Result(
            name="indexers",
            what=f"{messages:,} messages, imported or indexed a second, {name}",
            ours=Samples.of((messages / seconds for seconds in ours), "/s"),
            floor=Samples.of((messages / seconds for seconds in theirs), "/s"),
            floor_is=f"{name} over the same texts as mails",
            did={"ours": messages, "floor": messages},
            more_is_better=True,
        )


def _write_mails(maildir: Path, written: Iterator[Letter]) -> None:
    for folder in ("cur", "new", "tmp"):
        (maildir / folder).mkdir(parents=True)
    for letter in written:
        message = letter.message
        text = (
            f"From: {message.from_agent}@from.example\nTo: {message.to_agent}@to.example\n"
            f"Subject: {message.subject}\nDate: {format_datetime(message.created_at)}\n"
            f"Message-ID: <{message.id}@from.example>\nMIME-Version: 1.0\n"
            f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
            f"{message.body}\n"
        )
        (maildir / "cur" / f"{message.id}:2,S").write_bytes(text.encode())


def _mu(workshop: Workshop, maildir: Path, messages: int) -> float:
    store = workshop.folder / "mu"
    shutil.rmtree(store, ignore_errors=True)
    home = f"--muhome={store}"
    finish(["mu", "init", "--quiet", home, f"--maildir={maildir}"], workshop.home)
    seconds = finish(["mu", "index", "--quiet", home], workshop.home).seconds
    _count(workshop, ["mu", "find", home, "--fields=i", "maildir:/"], messages)
    return seconds


def _notmuch(workshop: Workshop, maildir: Path, messages: int) -> float:
    shutil.rmtree(maildir / ".notmuch", ignore_errors=True)
    settings = workshop.folder / "notmuch-config"
    settings.write_text(
        f"[database]\npath={maildir}\n[user]\nname=a\nprimary_email=a@from.example\n"
    )
    notmuch = ["notmuch", f"--config={settings}"]
    seconds = finish([*notmuch, "new", "--quiet"], workshop.home).seconds
    _count(workshop, [*notmuch, "search", "--output=messages", "*"], messages)
    return seconds


def _count(workshop: Workshop, command: Sequence[object], messages: int) -> None:
    found = len(finish(command, workshop.home).output.splitlines())
    require(found == messages, f"{command[0]} found {found} of {messages} messages.")


_INDEXERS: dict[str, Callable[[Workshop, Path, int], float]] = {"mu": _mu, "notmuch": _notmuch}
