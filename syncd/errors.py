"""Everything that syncd raises on purpose.

    SyncdError                exit 1   a sentence, a hint for the next step, an exit code
    ├── UsageError            exit 2   the call does not make sense
    ├── BusyError             exit 75  someone else holds a lock; the same call may pass later
    ├── ConfigError           exit 78  a setting is wrong
    ├── ReplicaError          exit 1   a folder or the database cannot be used as it is
    │   ├── DamagedBaseline            somebody else wrote into the baseline
    │   └── ClosedFolder               its settings cannot be read either: a ConfigError too
    ├── StaleReplica          exit 75  a target changed between the look and the act
    └── MessageError          exit 1   a text that cannot be read as a message, or not be edited
        └── LostTransaction            a host's trigger rolled back all of a transaction

Pure code raises only `MessageError`; a cycle turns it into quarantine. Edges translate `OSError`
and `sqlite3.Error` into one of these with ``raise … from``.
"""

from __future__ import annotations

import errno
from enum import IntEnum


class ExitCode(IntEnum):
    """What the commands end with (design, section 6)."""

    IN_SYNC = 0
    ERROR = 1
    USAGE = 2
    ATTENTION = 3
    HALTED = 4
    BUSY = 75
    CONFIG = 78


class SyncdError(Exception):
    """Something a person can act on: what is wrong and where, and what to do about it."""

    exit_code = ExitCode.ERROR

    def __init__(self, sentence: str, *, hint: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint


class UsageError(SyncdError):
    exit_code = ExitCode.USAGE


class BusyError(SyncdError):
    exit_code = ExitCode.BUSY


class ConfigError(SyncdError):
    exit_code = ExitCode.CONFIG


class ReplicaError(SyncdError):
    """A mailbox folder or the database cannot be used as it is; the project rests until it can."""


class ClosedFolder(ConfigError, ReplicaError):
    """A folder cannot be entered: neither settings nor messages can be read."""

    exit_code = ExitCode.ERROR

    def __init__(self, folder: object) -> None:
        super().__init__(
            f"{folder} cannot be entered: permission denied",
            hint=f"Give syncd's user the right to read {folder} and what is in it.",
        )


class DamagedBaseline(ReplicaError):
    """A baseline makes no sense: somebody else wrote there. It can be done without."""

    def __init__(self, sentence: str) -> None:
        super().__init__(
            sentence, hint="'syncd sync' goes on without it, as in a first sync of that message."
        )


class StaleReplica(SyncdError):
    """A target is no longer what the plan was made from; the next cycle looks at it again."""

    exit_code = ExitCode.BUSY


def replaced(database: object) -> StaleReplica:
    """Return the error of a database that is not the one that was opened."""
    return StaleReplica(
        f"{database} was replaced meanwhile",
        hint="Try again: the next pass works with the new one.",
    )


class MessageError(SyncdError):
    """A text that cannot be understood as a message, with the line where that shows.

    ``in_bytes`` is False where the cause lies around the file, and can go without a change to it.
    """

    def __init__(
        self, sentence: str, *, line: int | None = None, hint: str = "", in_bytes: bool = True
    ) -> None:
        super().__init__(sentence, hint=hint)
        self.line = line
        self.in_bytes = in_bytes


class LostTransaction(MessageError):
    """A host's trigger refused a message, and rolled back all else of the transaction with it."""


LIMIT_HINT = "Raise the limit (ulimit -n, or LimitNOFILE of the service)."


def limit_hint(error: OSError) -> str | None:
    """Return the way out where a process may open no more files; None for another error."""
    return LIMIT_HINT if error.errno in (errno.EMFILE, errno.ENFILE) else None


def reason_of(error: OSError) -> str:
    """Return what the system said, as it stands within a sentence."""
    return (error.strerror or str(error)).lower()


def os_sentence(error: OSError) -> str:
    """Return what the system said as a sentence with the path that it concerns."""
    reason = reason_of(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def trouble_of(error: SyncdError | OSError) -> tuple[str, str, ExitCode]:
    """Return as a sentence what is wrong, the way out, and the exit code."""
    if isinstance(error, SyncdError):
        return error.sentence, error.hint, error.exit_code
    return os_sentence(error), "", ExitCode.ERROR
