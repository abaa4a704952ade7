"""Which projects a call means, and the exit code over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from syncd.errors import ExitCode, UsageError
from syncd.find import current_folder, find_projects, named_project, project_around
from syncd.names import CLAUDE_DIR

T = TypeVar("T")

FEWEST_SHARED = 16
"""How many projects are worth a second process."""

_WORST_FIRST = (ExitCode.ERROR, ExitCode.CONFIG, ExitCode.HALTED, ExitCode.ATTENTION, ExitCode.BUSY)


def chosen_project(path: Path | None) -> Path:
    """Return the project that a person named, or the one around the current folder.

    Raises `UsageError` for what does not exist, or is no project.
    """
    return named_project(path) if path is not None else project_around(current_folder())


def chosen_roots(paths: list[Path] | None, *, recursive: bool) -> list[Path]:
    """Return the projects, or with ``recursive`` the folders, that a person named; each once.

    Raises `UsageError` for what does not exist, or is no project.
    """
    if not paths:
        here = current_folder()
        return [here if recursive else project_around(here, of_many=True)]
    found = [_folder(path) if recursive else named_project(path, of_many=True) for path in paths]
    return list(dict.fromkeys(found))


def _folder(path: Path) -> Path:
    if not path.exists():
        raise UsageError(f"{path} does not exist")
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder", hint="Name a folder of projects.")
    return path.resolve()


def chosen_projects(paths: list[Path] | None, *, recursive: bool) -> list[Path]:
    """Return the projects that a person named or that stand below what was named; each once.

    Raises `UsageError` when there is none.
    """
    roots = chosen_roots(paths, recursive=recursive)
    if not recursive:
        return roots
    found = list(dict.fromkeys(project for root in roots for project in find_projects(root)))
    if not found:
        raise UsageError(
            f"there is no project at or below {', '.join(map(str, roots))}",
            hint=f"A project is a folder that has a folder {CLAUDE_DIR}.",
        )
    return found


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit code over several projects."""
    found = set(codes)
    return next((code for code in _WORST_FIRST if code in found), ExitCode.IN_SYNC)


@contextmanager
def done_for_each(projects: Sequence[Path], do: Callable[[Path], T]) -> Iterator[Iterator[T]]:
    """Yield what ``do`` returns for each project, in their order; many are done by two processes.

    `pickle` must take what is returned.
    """
    if len(projects) < FEWEST_SHARED:
        yield map(do, projects)
        return
    from syncd.cli.crew import side_by_side

    with side_by_side(projects, do) as results:
        yield results
