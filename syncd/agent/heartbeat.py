"""The agent's sign of life: one file an agent, locked while it lives, touched while it works.

Commands tell by it which agent covers a project, without a port and without asking the agent. The
files stand in memory where the system has a folder for that (``$XDG_RUNTIME_DIR/syncd/agents``): an
agent that has nothing to do shall not keep a disk from its sleep. Else, or when that folder goes
with the user's last session, they stand in the state folder (``$XDG_STATE_HOME/syncd/agents``);
whoever looks for agents looks in both.
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
from syncd.config import runtime_folder, state_folder
from syncd.errors import ReplicaError, UsageError, reason_of
from syncd.find import SKIPPED

BEAT_S = 10.0
STALE_S = 60.0
_DISK_BEAT_S = 30.0
"""A file on a disk is touched less often: its lock tells of an agent that died, and a time of one
that hangs."""


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

    @property
    def call(self) -> str:
        """Return the command that starts it, as a shell reads it."""
        from syncd.shell import joined  # most calls only ask whether there is an agent

        recursive = ["--recursive"] if self.recursive else []
        return joined(["syncd", "run", *self.roots, *recursive])

    def covers(self, project: Path) -> bool:
        """Tell whether the agent is meant to keep this project in step.

        Below its roots that is what a search finds, or what a session made it look at.
        """
        if str(project) in self.roots or str(project) in self.last_full_compare:
            return True
        around = [root for root in self.roots if self.recursive and Path(root) in project.parents]
        return any(SKIPPED.isdisjoint(project.relative_to(root).parts) for root in around)


def agents() -> list[AgentInfo]:
    """Return all agents that run, or that ended without a word."""
    found = []
    for folder in _folders():
        with suppress(OSError):  # of a home that nobody may enter no agent is known
            for path in sorted(folder.glob("*.json")):
                with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                    if path.is_file():
                        found.append(_read(path))
    return found


def _folders() -> list[Path]:
    """Return the folders in which an agent may show itself, the first choice first."""
    in_memory = runtime_folder()
    return [place / "agents" for place in (in_memory, state_folder()) if place is not None]


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

    def __init__(self, name: str, data: dict[str, Any]) -> None:
        self._name = name
        self._data = data
        self._stand()

    def _stand(self) -> None:
        """Make the file, in the first folder that takes it; raises `OSError` when none does."""
        *better, last = _folders()
        for folder in better:
            with suppress(OSError):
                self._stand_in(folder, touch_s=0.0)
                return
        self._stand_in(last, touch_s=_DISK_BEAT_S)

    def _stand_in(self, folder: Path, *, touch_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self._name
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # held against us by readers only, for a moment
            self._write(file)
        except BaseException:
            file.close()
            raise
        self._file, self._path, self._touch_s = file, path, touch_s

    def _write(self, file: IO[str]) -> None:
        text = json.dumps(self._data).encode()
        os.pwrite(file.fileno(), text, 0)
        os.ftruncate(file.fileno(), len(text))
        self._told, self._touched = dict(self._data), time.time()

    def beat(
        self, last_full_compare: Mapping[str, str], troubles: Mapping[str, tuple[str, str]]
    ) -> None:
        """Say that the agent is at work, and what has changed since it last said so.

        What cannot be said, as on a full disk, is left to the next beat.
        """
        self._data |= {
            "last_full_compare": dict(last_full_compare),
            "troubles": {path: list(found) for path, found in troubles.items()},
        }
        with suppress(OSError):
            if not self._is_there():
                self._file.close()
                self._stand()
            elif self._data != self._told:
                self._write(self._file)
            elif abs(time.time() - self._touched) >= self._touch_s:
                os.utime(self._file.fileno())
                self._touched = time.time()

    def _is_there(self) -> bool:
        """Tell whether others find the file: its folder goes when the user's last session ends."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except (OSError, ValueError):  # the latter of a file that was closed and not made again
            return False

    def end(self) -> None:
        """Take the file away."""
        if self._is_there():
            self._path.unlink(missing_ok=True)
        self._file.close()


@contextmanager
def alive(roots: list[Path], *, recursive: bool) -> Iterator[Heartbeat]:
    """Hold the roots for this agent; raises `UsageError`, with the pid, when another has one."""
    # Not in memory: all agents have to come through one door, also one that knows no such folder.
    folder = state_folder() / "agents"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        door = (folder / "door.lock").open("a")
        with door:
            fcntl.flock(door, fcntl.LOCK_EX)
            _refuse_second(roots, recursive)
            heartbeat = _begin(sorted(map(str, roots)), recursive)
    except OSError as error:
        raise ReplicaError(
            f"{folder} cannot be written: {reason_of(error)}",
            hint="Set XDG_STATE_HOME to a folder that can.",
        ) from error
    try:
        yield heartbeat
    finally:
        heartbeat.end()


def _begin(roots: list[str], recursive: bool) -> Heartbeat:
    from syncd.digest import blake2b  # only an agent of one's own has a file to name

    digest = blake2b(os.fsencode("\n".join(roots)), digest_size=8).hexdigest()
    name = f"{digest}.json"
    for folder in _folders():
        # Left by one that died, maybe in the folder that is not ours now.
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)
    data = {
        "pid": os.getpid(),
        "version": __version__,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "roots": roots,
        "recursive": recursive,
        "last_full_compare": {},
        "troubles": {},
    }
    return Heartbeat(name, data)


def _refuse_second(roots: list[Path], recursive: bool) -> None:
    for agent in agents():
        if not agent.held:
            continue
        for root in roots:
            inside = [other for other in agent.roots if recursive and root in Path(other).parents]
            if agent.covers(root) or inside:
                kill = f"kill {agent.pid}" if agent.alive else f"kill -9 {agent.pid}"
                where = root if agent.covers(root) else inside[0]
                raise UsageError(
                    f"an agent runs on {where} already: pid {agent.pid}, since {agent.since}",
                    hint=f"Stop it first: {kill}",
                )
