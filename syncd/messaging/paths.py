"""How a project's path is spelled: one folder, one text.

Rows name projects by path, and two spellings of one folder would look like two projects. So every
path is made absolute, symbolic links are followed, and each part gets the spelling that its folder
lists: on a file system that takes ``apex`` for ``Apex``, asking for either gives ``Apex``. On one
that tells them apart, they are two folders and stay two.
"""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from syncd.errors import ReplicaError


def resolve_project(path: Path | str) -> Path:
    """Return the path of an existing folder as the file system spells it.

    A relative path is taken from the current folder. Raises `ReplicaError`, and creates nothing,
    where no folder stands.
    """
    try:
        resolved = Path(path).resolve(strict=True)
        found = resolved.is_dir() and path != ""  # which `Path` takes for the current folder
    except (OSError, ValueError, RuntimeError):  # missing, a null byte, a loop of links
        found = False
    if not found:
        raise ReplicaError(
            f"there is no project folder {str(path)!r}",
            hint="Check the path; the folder of the project must exist.",
        )
    return _as_listed(resolved)


def full_path(path: Path | str) -> Path:
    """Return a path in full, whether or not something stands there.

    Raises `ReplicaError` for a null byte in it, and for one in a current folder that was deleted.
    """
    try:
        if "\0" not in str(path):
            return Path(os.path.abspath(path))
        reason = "no path has a null byte"
    except OSError:
        reason = "the current folder was deleted"
    raise ReplicaError(f"{str(path)!r} cannot be found: {reason}", hint="Name it in full.")


def spelling(name: str, listed: Iterable[str]) -> str:
    """Return the entry of a folder that ``name`` means, which may be written otherwise.

    The entry of that very name wins; next comes one that differs in case or in Unicode form only.
    The caller knows that the file system finds something under ``name``.
    """
    folded = _folded(name)
    other = name
    for entry in listed:
        if entry == name:
            return name
        if _folded(entry) == folded:
            other = entry
    return other


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _as_listed(path: Path) -> Path:
    result = Path(path.anchor)
    for name in path.parts[1:]:
        if _may_differ(result / name):
            # In a folder that may be entered but not listed, the name stays as given.
            with contextlib.suppress(OSError):
                name = spelling(name, os.listdir(result))
        result /= name
    return result


def _may_differ(path: Path) -> bool:
    """Say whether the file system finds this file under another case too; that is rarely so.

    It spares listing the folder. A name that is not ASCII may differ in Unicode form as well.
    """
    if not path.name.isascii():
        return True
    try:
        return path.name != path.name.swapcase() and os.path.samefile(
            path, path.with_name(path.name.swapcase())
        )
    except OSError:
        return False
