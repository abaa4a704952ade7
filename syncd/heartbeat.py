"""The agent's sign of life: one file an agent, locked while it lives, touched while it works.

The files stand in the user's state folder (``$XDG_STATE_HOME/syncd/agents``), so that commands
can tell which agent covers a project without a port and without asking the agent.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from syncd import __version__
from syncd.config import state_folder
from syncd.errors import ReplicaError, UsageError

BEAT_S = 10.0
STALE_S = 60.0


class AgentInfo(NamedTuple):
    """An agent as its file tells; ``alive`` is False for one that died or hangs.

    ``held`` tells whether its process still lives, ``version`` which syncd it is of.
    ``last_full_compare`` has times by project, ``troubles`` an error and its hint for each project
    that the agent cannot work on at the moment.
    """

    pid: int
    since: str
    heartbeat: str
    alive: bool
    held: bool
    roots: tuple[str, ...]
    recursive: bool
    last_full_compare: Mapping[str, str]
    troubles: Mapping[str, tuple[str, str]]
    version: str

    @property
    def state(self) -> str:
        """Return ``running``, ``stale`` for one that lives and shows no sign of it, or ``dead``."""
        if self.alive:
            return "running"
        return "stale" if self.held else "dead"

    def covers(self, project: Path) -> bool:
        """Tell whether the agent is meant to keep this project in step."""
        folders = {str(project)}
        if self.recursive:
            folders |= {str(folder) for folder in project.parents}
        return not folders.isdisjoint(self.roots)


def agents() -> list[AgentInfo]:
    """Return all agents that run, or that ended without a word."""
    folder = state_folder() / "agents"
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        with suppress(OSError, ValueError, KeyError, TypeError):
            found.append(_read(path))
    return found


def agent_for(project: Path, among: list[AgentInfo] | None = None) -> AgentInfo | None:
    """Return the agent that covers a project, a living one first; None when there is none.

    ``among`` are the agents, where somebody has looked already.
    """
    found = agents() if among is None else among
    covering = [agent for agent in found if agent.covers(project)]
    return max(covering, key=lambda agent: (agent.alive, agent.heartbeat), default=None)


def _read(path: Path) -> AgentInfo:
    with path.open() as file:
        data = _load(file)
        beat = os.fstat(file.fileno()).st_mtime
        held = not _is_free(file)
    return AgentInfo(
        pid=int(data["pid"]),
        since=str(data["since"]),
        heartbeat=datetime.fromtimestamp(beat, UTC).isoformat(),
        held=held,
        alive=held and time.time() - beat < STALE_S,
        roots=tuple(data["roots"]),
        recursive=bool(data["recursive"]),
        last_full_compare=dict(data["last_full_compare"]),
        troubles={path: tuple(found) for path, found in data["troubles"].items()},
        version=str(data.get("version", "")),
    )


def _load(file: IO[str]) -> Any:
    """Read the file's object, again where its agent was just writing it."""
    for _ in range(20):
        file.seek(0)
        try:
            # What stands behind the object is the end of a longer one that was there before.
            return json.JSONDecoder().raw_decode(file.read())[0]
        except ValueError:
            time.sleep(0.005)
    raise ValueError("no JSON")


def _is_free(file: IO[Any]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Heartbeat:
    """This agent's own file, held for its life."""

    def __init__(self, file: IO[str], path: Path, data: dict[str, Any]) -> None:
        self._file = file
        self._path = path
        self._data = data

    def beat(
        self, last_full_compare: Mapping[str, str], troubles: Mapping[str, tuple[str, str]]
    ) -> None:
        """Say that the agent is at work, and what has changed since it last said so."""
        news = {
            "last_full_compare": dict(last_full_compare),
            "troubles": {path: list(found) for path, found in troubles.items()},
        }
        if self._data | news != self._data:
            self._data |= news
            _write(self._file, self._data)
        else:
            os.utime(self._file.fileno())


@contextmanager
def alive(roots: list[Path], *, recursive: bool) -> Iterator[Heartbeat]:
    """Hold the roots for this agent; raises `UsageError`, with the pid, when another has one."""
    folder = state_folder() / "agents"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        door = (folder / "door.lock").open("a")
    except OSError as error:
        raise ReplicaError(
            f"{folder} cannot be written: {(error.strerror or '').lower()}",
            hint="Set XDG_STATE_HOME to a folder that can.",
        ) from error
    with door:
        fcntl.flock(door, fcntl.LOCK_EX)
        _refuse_second(roots, recursive)
        from syncd.digest import blake2b

        names = sorted(map(str, roots))
        digest = blake2b("\n".join(names).encode(), digest_size=8).hexdigest()
        path = folder / f"{digest}.json"
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+")
        fcntl.flock(file, fcntl.LOCK_EX)  # held against us by readers only, for a moment
        data = {
            "pid": os.getpid(),
            "version": __version__,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "roots": names,
            "recursive": recursive,
            "last_full_compare": {},
            "troubles": {},
        }
        _write(file, data)
    with file:
        try:
            yield Heartbeat(file, path, data)
        finally:
            path.unlink(missing_ok=True)


def _refuse_second(roots: list[Path], recursive: bool) -> None:
    for agent in agents():
        if not agent.alive:
            continue
        for root in roots:
            inside = recursive and any(root in Path(other).parents for other in agent.roots)
            if agent.covers(root) or inside:
                raise UsageError(
                    f"an agent runs on {root} already: pid {agent.pid}, since {agent.since}",
                    hint=f"Stop it first: kill {agent.pid}",
                )


def _write(file: IO[str], data: Mapping[str, Any]) -> None:
    text = json.dumps(data).encode()
    os.pwrite(file.fileno(), text, 0)
    os.ftruncate(file.fileno(), len(text))
