"""``syncd status``: what a project's database, its files and the agent's heartbeat say.

Everything here reads only, needs no agent, and works beside one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from syncd import config
from syncd.agent.heartbeat import AgentInfo, agent_for, agents
from syncd.cli import output
from syncd.cli.findings import Line, ago, local_time, number_of, problems, retired
from syncd.cli.options import Command, Json, Paths, Recursive
from syncd.cli.output import Tone
from syncd.cli.projects import chosen_projects, done_for_each, worst
from syncd.cycle.look import look_fully, pending
from syncd.cycle.report import Report, State
from syncd.cycle.retirement import left_files, retirement
from syncd.cycle.seen import Seen
from syncd.database.sqlite_errors import translated
from syncd.database.store import Store
from syncd.errors import ExitCode, ReplicaError, SyncdError, UsageError, trouble_of
from syncd.files.replica import FileReplica
from syncd.names import database_of

app = typer.Typer()

_OF_AGENT = ("pid", "state", "since", "heartbeat", "alive")


@dataclass(slots=True)
class Status:
    """One project as found. ``found`` has its conflicts, quarantine, halt and error.

    ``messages`` are the rows; ``pending`` are messages that a cycle would look at. Both are None
    where they could not be counted.
    """

    project: Path
    found: Report
    agent: AgentInfo | None = None
    messages: int | None = None
    pending: int | None = None
    last_cycle: str | None = None
    never_synced: bool = False
    failure: ExitCode | None = None

    @property
    def code(self) -> ExitCode:
        """The exit code; ``failure`` is that of an error which has one of its own."""
        return self.state.exit_code if self.failure is None else self.failure

    @property
    def is_new(self) -> bool:
        """Tell whether no cycle ever ran here, and no agent is about to run the first."""
        return self.never_synced and self.agent is None and self.found.error is None

    @property
    def is_waiting(self) -> bool:
        """Tell whether there is something to do, nothing in its way, and nobody who will."""
        return bool(self.pending) and self.agent is None and self.found.halt is None

    @property
    def has_lost_its_agent(self) -> bool:
        return self.agent is not None and not self.agent.alive

    @property
    def word(self) -> str:
        """What it is, in a word or two."""
        if self.is_new:
            return "never synced"
        is_behind = self.state is State.IN_SYNC and self.pending
        return "catching up" if is_behind else _WORDS[self.state]

    @property
    def state(self) -> State:
        needs_a_person = self.is_new or self.is_waiting or self.has_lost_its_agent
        if self.found.state is State.IN_SYNC and needs_a_person:
            return State.ATTENTION
        return self.found.state

    def as_json(self) -> dict[str, Any]:
        agent = self.agent
        return self.found.as_json() | {
            "state": str(self.state),
            "messages": self.messages,
            "pending": self.pending,
            "last_cycle": self.last_cycle,
            "last_full_compare": self.last_full_compare,
            "agent": {name: getattr(agent, name) for name in _OF_AGENT} if agent else None,
        }

    @property
    def last_full_compare(self) -> str | None:
        return self.agent.last_full_compare.get(str(self.project)) if self.agent else None


@app.command(cls=Command, epilog="Example: syncd status ~/work --recursive")
def status(
    paths: Paths = None,
    recursive: Recursive = False,
    json: Json = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="Go on showing it, and what is changed, until Ctrl-C."),
    ] = False,
) -> int:
    """Tell how projects stand. Changes nothing; exits with 0 only when nothing needs a person."""
    projects = chosen_projects(paths, recursive=recursive)
    config.load()  # a wrong setting that concerns all is said once
    if watch:
        if json:
            raise UsageError(
                "--watch and --json do not go together",
                hint="'syncd log --follow --json' prints one object for each change.",
            )
        from syncd.cli.watching import go_on

        return go_on(projects, paths, recursive=recursive)
    found = []
    running = agents()
    with done_for_each(projects, partial(look, running=running)) as looked:
        for one in looked:
            found.append(one)
            if not json:
                print_status(one)
    if json:
        entries = [one.as_json() for one in found]
        output.print_json(projects=entries)
    return worst(one.code for one in found)


def look(
    project: Path, running: list[AgentInfo], also: Callable[[Store], None] | None = None
) -> Status:
    """Return how a project stands, with these agents about.

    With ``also``, which is handed the open database, files are not looked at, and ``pending`` has
    only what is to come from the rows.
    """
    result = Status(project, Report(str(project)), agent_for(project, running))
    try:
        result.found.retired = retirement(project)
        if result.found.retired is not None:
            _read_retired(result)
            return result
        settings = config.load(project)
        seen = Seen(project, settings)  # how the database stands before it is opened
        database = database_of(project)
        with translated(database), Store.open_readonly(database) as store:
            store.check_contract()
            _read(result, store)
            if also is None:
                with FileReplica(project, max_bytes=settings.max_bytes) as files:
                    looked = look_fully(store, files, is_known=seen.knows)
                    result.pending = len(pending(looked, store, files))
            else:
                result.pending = len({entry.id for entry in store.feed()})
                also(store)
        trouble = result.agent.troubles.get(str(project)) if result.agent else None
        if trouble is not None:
            result.found.error, result.found.hint = trouble
    except (SyncdError, OSError) as error:
        result.found.error, result.found.hint, result.failure = trouble_of(error)
    return result


def _read_retired(result: Status) -> None:
    """Look at a retired project: of syncd's nothing stands in its database any more."""
    result.found.left = left_files(result.project)
    database = database_of(result.project)
    if not database.exists():
        raise ReplicaError(
            f"{database} is gone, and with it the messages of a retired project",
            hint="Bring it back from a backup; its archive has only what stood in files then.",
        )
    with translated(database), Store.open_readonly(database) as store:
        result.messages = store.rows.count()


def _read(result: Status, store: Store) -> None:
    found = result.found
    found.quarantined = list(store.chronicle.quarantine().values())
    found.conflicts = store.chronicle.conflicts()
    found.halt = store.halt()
    result.never_synced = not store.was_synced()
    result.last_cycle = store.state("last_cycle")
    result.messages = store.rows.count()


def print_status(one: Status) -> None:
    """Print how a project stands, and what in it needs a person."""
    output.say(f"{one.found.path}: {', '.join(_headline(one))}", TONES[one.state])
    for text, tone in needs(one):
        output.say(text, tone)


def needs(one: Status) -> Iterator[Line]:
    """Yield what in a project needs a person, each with a way out."""
    if one.found.error is not None:
        yield f"  {one.found.error}", Tone.BAD
        if one.found.hint:
            yield f"  → {one.found.hint}", Tone.HINT
    if one.found.retired is None:
        yield from _calls(one)
    yield from problems(one.found)


TONES = {
    State.IN_SYNC: Tone.GOOD,
    State.ATTENTION: Tone.ATTENTION,
    State.HALTED: Tone.BAD,
    State.ERROR: Tone.BAD,
    State.RETIRED: Tone.PLAIN,
}

_WORDS = {
    State.IN_SYNC: "in sync",
    State.ATTENTION: "needs attention",
    State.HALTED: "halted",
    State.ERROR: "in trouble",
    State.RETIRED: "retired",
}


def _headline(one: Status) -> Iterator[str]:
    known = one.found.retired
    yield one.word if known is None else retired(known)
    if one.messages is not None:
        yield number_of(one.messages, "message")
    if one.pending:
        yield f"{one.pending:,} pending"
    if one.last_cycle:
        yield f"last change {ago(one.last_cycle)}"
    if one.last_full_compare:
        yield f"last full compare {ago(one.last_full_compare)}"
    if known is not None:
        return
    if one.agent is None:
        yield "no agent"
    else:
        yield from agent_in_words(one.agent)


def agent_in_words(agent: AgentInfo) -> Iterator[str]:
    """Yield how an agent is, in parts of a line."""
    if agent.alive:
        yield f"agent {agent.pid} since {local_time(agent.since)}"
    else:
        yield f"agent {agent.pid} {'hangs' if agent.held else 'died'}"
    yield f"heartbeat {ago(agent.heartbeat)}"


def _calls(one: Status) -> Iterator[Line]:
    """Yield what needs a person beside conflicts, quarantine and the halt, each with a way out."""
    if not (one.is_new or one.is_waiting or one.has_lost_its_agent):
        return
    from syncd.shell import quoted  # nearly every status ends above

    agent = one.agent
    project = quoted(one.project)
    if agent is not None and not agent.alive:
        what = "hangs" if agent.held else "died"
        kill = f"kill -9 {agent.pid}; " if agent.held else ""
        yield (
            f"  the agent (pid {agent.pid}) {what}: its last heartbeat was at "
            f"{local_time(agent.heartbeat)}",
            Tone.BAD,
        )
        yield f"  → Start it again: {kill}{agent.call}", Tone.HINT
    if one.is_new:
        yield (
            f"  → See what a first sync would do: syncd sync {project} --dry-run; "
            f"then do it: syncd sync {project}",
            Tone.HINT,
        )
    elif one.is_waiting:
        yield (
            f"  → No agent runs to take what is pending: syncd sync {project}, or start one: "
            f"syncd run {project}",
            Tone.HINT,
        )
