"""The agent that covers a project: whether there is one, one only, alive, and of this version."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from syncd import __version__
from syncd.agent.heartbeat import AgentInfo
from syncd.checkup.check import Check, good, note, problem, warning
from syncd.files.folders import inodes_of_folders
from syncd.files.syscalls import watched_inodes
from syncd.names import CLAUDE_DIR
from syncd.shell import quoted

_FDINFO = Path("/proc/self/fdinfo")
"""Where a system tells what its processes watch."""


def agent_checks(project: Path, agents: Sequence[AgentInfo]) -> Iterator[Check]:
    """Make the checks of the agents that cover a project, of all that have a heartbeat."""
    covering = sorted(
        (agent for agent in agents if agent.covers(project)), key=lambda agent: agent.since
    )
    living = [agent for agent in covering if agent.held]
    strangers = _strangers(project, [agent.pid for agent in covering])
    if not covering and not strangers:
        yield note(
            "agent",
            "no agent keeps it in step",
            f"Start one: syncd run {quoted(project)}, or have it started: "
            f"syncd service install {quoted(project)}",
        )
        return
    if len(living) + len(strangers) > 1:
        pids = [agent.pid for agent in living] + strangers
        yield warning(
            "agent",
            f"{len(pids)} agents work on it, pids {', '.join(map(str, pids))}: they take turns, "
            "and do each other's work again",
            f"Stop all but one: kill {' '.join(map(str, pids[1:]))}",
        )
    elif strangers:
        yield note(
            "agent",
            f"an agent with another state folder works on it, pid {strangers[0]}: "
            "'syncd status' does not see it",
            "Run both with the same XDG_STATE_HOME.",
        )
    elif not living:
        yield _dead(covering[-1])
    else:
        yield _at_work(living[0])
    for agent in living:
        if agent.version != __version__:
            yield _other_version(agent)
        if str(project) in agent.troubles:
            sentence, hint = agent.troubles[str(project)]
            yield problem("agent", f"the agent reports: {sentence}", hint)
    if len(living) == 1 and _FDINFO.is_dir():
        yield watches(project, living[0].pid)


def _dead(agent: AgentInfo) -> Check:
    return problem(
        "agent",
        f"the agent, pid {agent.pid}, ended without a word; it was last alive {agent.heartbeat}",
        f"Start it again: {agent.call}",
    )


def _at_work(agent: AgentInfo) -> Check:
    if agent.alive:
        return good("agent", f"pid {agent.pid} is at work since {agent.since}")
    return problem(
        "agent",
        f"the agent, pid {agent.pid}, hangs: it runs, and last showed itself {agent.heartbeat}",
        f"kill {agent.pid} (kill -9 where that does nothing), then {agent.call}",
    )


def _other_version(agent: AgentInfo) -> Check:
    version = f"version {agent.version}" if agent.version else "an older version"
    return warning(
        "agent-version",
        f"the agent, pid {agent.pid}, is of {version}; this is {__version__}",
        f"Restart it: kill {agent.pid} && {agent.call} (a service: systemctl --user restart syncd)",
    )


def watches(project: Path, pid: int) -> Check:
    """Tell whether a process watches every mailbox folder of a project."""
    instances = watched_inodes(str(pid))
    if not instances:
        return note("watches", f"pid {pid} has no file events: all is polled")
    watched = set[int]().union(*instances)
    there = inodes_of_folders(str(project / CLAUDE_DIR))
    deaf = [folder or CLAUDE_DIR for folder, inode in there if inode not in watched]
    if not deaf:
        return good("watches", f"pid {pid} hears of every folder")
    return warning(
        "watches",
        f"pid {pid} does not hear of changes in {', '.join(deaf)}, and polls",
        "Raise fs.inotify.max_user_watches (see the check 'inotify'), then restart the agent.",
    )


def _strangers(project: Path, known: Sequence[int]) -> list[int]:
    """Return processes that watch a project as an agent does, and have no heartbeat here."""
    found = []
    with suppress(OSError):
        inode = os.stat(project / CLAUDE_DIR).st_ino
        for process in Path("/proc").glob("[0-9]*"):
            pid = int(process.name)
            if pid in known or not any(inode in seen for seen in watched_inodes(process.name)):
                continue
            with suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if b"run" in words and any(b"syncd" in word for word in words):
                    found.append(pid)
    return sorted(found)
