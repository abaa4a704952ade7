"""Names: the database, files that can be messages, rows, and what is syncd's own for a moment."""

from __future__ import annotations

import os
from functools import cache
from itertools import count
from pathlib import Path

CLAUDE_DIR = ".claude-mpm"
DATABASE = "messaging.db"
TEMP_PREFIX = ".syncd-"
TEMP_SUFFIX = ".tmp"
_NO_HOME = "/dev/null"  # which is there, so that not even root makes a folder below it
_ROW, _ODD_ROW = f"{DATABASE}#", f"{DATABASE}["
_numbers = count()


def user_home() -> Path:
    """Return the home folder; for who has none, one that cannot be one.

    An empty HOME counts as none, where `Path.home` has "/" for it.
    """
    found = os.environ.get("HOME")
    if not found:
        from pwd import getpwuid  # nearly all have one

        try:
            found = getpwuid(os.getuid()).pw_dir
        except KeyError:
            found = _NO_HOME
    return Path(found)


def session_registry() -> Path:
    """Return where the new clients' registry of sessions stands."""
    return user_home() / CLAUDE_DIR / "session-registry.db"


def database_of(project: Path) -> Path:
    """Return where a project's database stands."""
    return project / CLAUDE_DIR / DATABASE


def is_message_name(name: str) -> bool:
    """Tell whether a file of that name in a mailbox folder can be a message."""
    return name.endswith(".md")


def row_key(message_id: object) -> str:
    """Return the name of a row, beside the paths of files: ``messaging.db#id``.

    An id that is no text, or not UTF-8, stands in brackets: no text names the same row.
    """
    plain = isinstance(message_id, str) and is_utf8(message_id)
    return f"{_ROW}{message_id}" if plain else f"{_ODD_ROW}{message_id!r}]"


def is_row_key(name: str) -> bool:
    """Tell whether a name is that of a row, and not a file's path."""
    return name.startswith((_ROW, _ODD_ROW))


def id_in_row_key(name: str) -> str | None:
    """Return the id in the name of a row; None for a file's path, and for an id that is no text."""
    return name.removeprefix(_ROW) if name.startswith(_ROW) else None


def is_hidden(path: str) -> bool:
    """Tell whether a file's name begins with a dot, as those of editors and file managers do."""
    return path.rpartition("/")[2].startswith(".")


def is_stray(path: str) -> bool:
    """Tell whether a path is that of a temporary file of syncd's own."""
    name = path.rpartition("/")[2]
    return name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)


def is_utf8(name: str) -> bool:
    """Tell whether a file's name is UTF-8: Python spells other bytes as half surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def in_utf8(name: str) -> str:
    """Return a file's name with bytes that are not UTF-8 written as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def temporary_name() -> str:
    """Return a name that no other process and no other call uses."""
    return f"{TEMP_PREFIX}{_token(os.getpid())}-{next(_numbers)}{TEMP_SUFFIX}"


@cache
def _token(pid: int) -> str:
    """Return what tells a process from others, also from one that had its number before."""
    return f"{pid}-{os.urandom(3).hex()}"
