"""Finding projects: the one around a folder, the one that a person names, all below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from syncd.errors import ClosedFolder, UsageError
from syncd.names import CLAUDE_DIR, user_home

SKIPPED = frozenset({".git", "node_modules", ".venv", "__pycache__", CLAUDE_DIR})


def home() -> Path:
    """Return the home folder as projects are named: by its own path, also where HOME is a link."""
    return Path(os.path.realpath(user_home()))


def is_project(folder: Path) -> bool:
    """Tell whether a folder is a project."""
    return os.path.isdir(folder / CLAUDE_DIR)  # which raises nothing, whatever is in its way


def is_link_to_nothing(path: Path) -> bool:
    """Tell whether a link stands there, and nothing where it leads."""
    return path.is_symlink() and not os.path.exists(path)


def project_around(folder: Path, *, of_many: bool = False) -> Path:
    """Return the project that a folder lies in, itself included; raises `UsageError` for none.

    ``of_many`` tells that whoever asks can also take all projects below a folder.
    """
    folder = folder.resolve()
    for candidate in (folder, *folder.parents):
        if is_project(candidate) and (candidate != home() or candidate == folder):
            return candidate
    raise UsageError(
        f"{folder} is in no project: neither it nor a folder above has {CLAUDE_DIR}",
        hint=f"Name a project{', or a folder of projects with --recursive' if of_many else ''}.",
    )


def current_folder() -> Path:
    """Return the folder that a person is in; raises `UsageError` when it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UsageError(
            "the current folder was deleted", hint="Go to one that exists, or name the project."
        ) from error


def named_project(path: Path, *, of_many: bool = False) -> Path:
    """Return the project that a person named; raises `UsageError` when it is none.

    ``of_many`` is as `project_around` has it.
    """
    try:
        os.stat(path / CLAUDE_DIR)
    except PermissionError as error:
        raise ClosedFolder(path) from error
    except OSError:
        pass  # as below
    if not os.path.lexists(path):
        raise UsageError(f"{path} does not exist")
    if not os.path.isdir(path):
        raise UsageError(f"{path} is not a folder", hint="Name the folder of a project.")
    if is_link_to_nothing(path / CLAUDE_DIR):
        raise UsageError(
            f"{path / CLAUDE_DIR} is a link to nothing, and links are not followed",
            hint="Move the folder that it led to into its place.",
        )
    if not is_project(path):
        from syncd.shell import quoted  # nearly all name a project

        made = quoted(path / CLAUDE_DIR)
        raise UsageError(
            f"{path} is no project: it has no folder {CLAUDE_DIR}",
            hint=f"Add --recursive for projects below it, or begin one: mkdir {made}"
            if of_many
            else f"Name a project, or begin one: mkdir {made}",
        )
    return path.resolve()


def find_projects(root: Path) -> Iterator[Path]:
    """Yield every project at or below ``root``, in order of path.

    Links are not followed, and `SKIPPED` folders not entered. The home folder counts only when it
    is ``root`` itself. Folders that may not be read are passed over. A project's folder that is a
    link to nothing makes one too: what it led to may not be mounted now.
    """
    root = root.resolve()
    apart = home()
    for folder, names, others in os.walk(root):
        here = Path(folder)
        is_one = CLAUDE_DIR in names
        if CLAUDE_DIR in others:
            is_one = is_link_to_nothing(here / CLAUDE_DIR)
        if is_one and (here != apart or here == root):
            yield here
        names[:] = sorted(name for name in names if name not in SKIPPED)
