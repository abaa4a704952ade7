"""Adversity: full disks, missing rights, held locks, damage, odd clocks, deaf watches.

Each test brings the real thing about beside a running agent and shows three things: nothing is
lost, `syncd status` names what is wrong, and the agent goes on by itself once the cause is gone,
while another project never notices.

What needs mounts or limits of its own runs in a child with its own namespaces (unshare(1)), as
root and as anybody: whatever it mounts or starts ends with it.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any

import pytest

from syncd.errors import ExitCode
from syncd.names import CLAUDE_DIR
from tests.clients import NewClient, OldClient
from tests.on_disk import both_equal, project, rows_of
from tests.running import ROOT, RunningAgent, as_anybody, environment, syncd, wait_for

Test = Callable[[Path], None]

# What is in the way of everything that root may do: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
# (capabilities(7)). Without them root's access is checked like anybody's.
_SKIPPED = 77
_WITH_A_SHORT_TIMEOUT = """
import sys
import syncd.database.database
syncd.database.database.BUSY_TIMEOUT_S = 0.3
from syncd.cli import main
sys.exit(main())
"""


@cache
def own_namespaces() -> tuple[str, ...] | None:
    """Return the command that enters namespaces in which one may mount; None where nobody may."""
    for command in (("unshare", "--mount", "--user", "--map-root-user"), ("unshare", "--mount")):
        probe = [*command, "mount", "-t", "tmpfs", "none", "/mnt"]
        with suppress(OSError):
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return command
    return None


def in_namespaces(test: Test) -> Test:
    """Have a test run in a child that may mount, as root of namespaces of its own."""

    @wraps(test)
    def outside(tmp_path: Path) -> None:
        command = own_namespaces()
        if command is None:
            pytest.skip("this system lets nobody make a mount namespace (unshare)")
        call = [
            *command,
            sys.executable,
            "-m",
            "tests.test_adversity",
            test.__name__,
            str(tmp_path),
        ]
        with subprocess.Popen(
            call,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as child:
            try:
                said, _ = child.communicate(timeout=50)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
        if child.returncode == _SKIPPED:
            pytest.skip(said)
        assert 0 == child.returncode, said

    return outside


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def unmount(folder: Path) -> None:
    # "Lazy": the folder is gone at once, however long somebody holds a file on it open.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Ordinary(RunningAgent):
    """An agent whose access is checked like an ordinary user's, also when root starts it."""

    def __init__(self, home: Path, *roots: Path, **settings: object) -> None:
        super().__init__(home, *roots, **settings)  # type: ignore[arg-type]
        self._command = as_anybody(self._command)


class World:
    """A project in trouble and one that is none of it, what was written, and the agent's home."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.here = project(folder / "here")
        self.there = project(folder / "there")
        self.other = project(folder / "other")
        self.base = self.here / ".claude-mpm"
        self.inbox = self.base / "inbox"
        self.old, self.new = OldClient(self.here), NewClient(self.here)
        self.written: list[str] = []

    def text(self, words: str) -> str:
        """Make a text that nothing else has, and that must never be lost."""
        self.written.append(f"{words} ({len(self.written)})")
        return self.written[-1]

    def send(self, *, size: int = 0) -> str:
        """Send a message by file; return its id."""
        body = self.text("by file") + "\n" + "x" * size
        return OldClient(self.there).send(self.here, "Subject", body)

    def insert(self, *, size: int = 0) -> str:
        """Send a message by SQL; return its id."""
        body = self.text("by SQL") + "\n" + "x" * size
        return NewClient(self.there).send(self.here, "Subject", body)

    def fill(self, count: int = 3) -> list[str]:
        """Have some messages on both sides, in step; the agent runs."""
        keys = [self.send() for _ in range(count)]
        wait_for(self.is_in_step)
        return keys

    def prepare(self, count: int = 3, *, size: int = 0) -> None:
        """Have some messages on both sides, in step; no agent runs, and nobody has files open."""
        for _ in range(count):
            self.send(size=size)
        assert 0 == syncd(self.home, "sync", self.here).returncode
        assert self.is_in_step()

    def is_in_step(self) -> bool:
        """Tell whether both sides hold the same, and every message that was sent."""
        try:
            known = len(rows_of(self.here)) and both_equal(self.here)
        except (OSError, sqlite3.Error):
            return False
        return bool(known) and not self.missing()

    def missing(self) -> list[str]:
        """Return the texts that are neither in a file, nor in a row, nor in the history."""
        held = [path.read_text() for path in self.base.rglob("*.md")]
        with closing(sqlite3.connect(self.new.database, timeout=1)) as opened:
            held += [body for (body,) in opened.execute("SELECT body FROM messages")]
            columns = "body, CAST(data AS TEXT)"
            with suppress(sqlite3.OperationalError):  # no history yet
                for values in opened.execute(f"SELECT {columns} FROM syncd_history"):
                    held += [value for value in values if value is not None]
        whole = "\0".join(held)
        return [text for text in self.written if text not in whole]

    def status(self) -> dict[str, Any]:
        """Return what ``syncd status`` says of the project in trouble, with its exit code."""
        command = [sys.executable, "-m", "syncd", "status", str(self.here), "--json"]
        done = subprocess.run(
            as_anybody(command),
            env=environment(self.home),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)["projects"][0]
        return found | {"exit": done.returncode}

    def assert_status_names(self, *words: str) -> None:
        """Assert that ``syncd status`` is not content, and says one of these words."""
        found = self.status()
        reasons = [entry["reason"] for entry in found["quarantined"]]
        halt = (found["halt"] or {}).get("cause", "")
        said = " ".join([found["error"] or "", halt, *reasons]).lower()
        assert any(word in said for word in words), found
        assert found["state"] != "in-sync"
        assert 0 != found["exit"]

    def assert_the_other_goes_on(self) -> None:
        """Assert that the project beside is kept in step, in both directions."""
        key = OldClient(self.there).send(self.other, "Hello", "Words")
        wait_for(lambda: key in rows_of(self.other))
        NewClient(self.other).update(key, body="Other words")
        path = self.other / ".claude-mpm" / "inbox" / f"{key}.md"
        wait_for(lambda: "Other words" in path.read_text())

    def assert_recovered(self) -> None:
        """Assert that all is in step again by itself, and that status is content."""
        wait_for(self.is_in_step, 20)
        assert [] == self.missing()
        wait_for(lambda: self.status()["state"] == "in-sync", 10)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# The disk ---------------------------------------------------------------------------------------


@contextmanager
def full_disk(folder: Path, *, free: int) -> Iterator[None]:
    """Fill the disk below ``folder`` but for some ``free`` bytes, and empty it again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    os.truncate(ballast, ballast.stat().st_size - free)
    yield
    ballast.unlink()


def on_a_small_disk(tmp_path: Path) -> World:
    mount("-t", "tmpfs", "-o", "size=3m", "none", tmp_path)
    (tmp_path / "disk").mkdir()
    mount("-t", "tmpfs", "-o", "size=2m", "none", tmp_path / "disk")
    world = World(tmp_path)
    shutil.rmtree(world.here)
    world.here = project(tmp_path / "disk" / "here")
    world.base = world.here / ".claude-mpm"
    world.inbox = world.base / "inbox"
    world.old, world.new = OldClient(world.here), NewClient(world.here)
    return world


@in_namespaces
def test_g2_g15_g18_a_disk_without_room_for_the_row(tmp_path: Path) -> None:
    world = on_a_small_disk(tmp_path)
    with RunningAgent(world.home, world.here, world.other) as agent:
        world.fill()
        with full_disk(tmp_path / "disk", free=280_000):
            world.send(size=200_000)
            wait_for(lambda: "disk is full" in agent.log)
            assert 4 == len(list(world.inbox.glob("*.md")))
            world.assert_status_names("disk is full", "no space")
            world.assert_the_other_goes_on()
        world.assert_recovered()


@in_namespaces
def test_g2_g15_g18_a_disk_without_room_for_the_file(tmp_path: Path) -> None:
    world = on_a_small_disk(tmp_path)
    with RunningAgent(world.home, world.here, world.other) as agent:
        first = world.fill()[0]
        with full_disk(tmp_path / "disk", free=400_000):
            world.insert(size=250_000)
            wait_for(lambda: "no space left" in agent.log or "disk is full" in agent.log)
            world.assert_status_names("no space left", "disk is full")
            assert [] == [path for path in world.inbox.iterdir() if path.stat().st_size == 0]
            assert [] == list(world.inbox.glob(".syncd-*"))
            with suppress(sqlite3.OperationalError):  # the neighbour's own disk is as full
                world.new.update(first, priority="urgent")
            world.assert_the_other_goes_on()
        world.assert_recovered()


@pytest.mark.parametrize("side", ["file", "row"])
def test_g2_g15_g18_a_limit_on_what_the_agent_may_write(world: World, side: str) -> None:
    # Needs no mount, so it shows the same where one may not make any.
    with RunningAgent(world.home, world.here, world.other) as agent:
        world.fill()
        no_limit = resource.RLIM_INFINITY
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (150_000, no_limit))
        _ = world.insert(size=200_000) if side == "file" else world.send(size=200_000)
        wait_for(lambda: re.search("file too large|cannot be read or written", agent.log))
        world.assert_status_names("file too large", "cannot be read or written")
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (no_limit, no_limit))
        world.assert_recovered()


@in_namespaces
def test_g2_g15_g18_a_read_only_mailbox(tmp_path: Path) -> None:
    world = World(tmp_path)
    with RunningAgent(world.home, world.here, world.other) as agent:
        first = world.fill()[0]
        mount("--bind", world.inbox, world.inbox)
        mount("-o", "remount,bind,ro", world.inbox)
        world.new.update(first, body=world.text("over a read-only file"))
        wait_for(lambda: "read-only" in agent.log)
        world.assert_status_names("read-only")
        world.assert_the_other_goes_on()
        unmount(world.inbox)
        world.assert_recovered()


@in_namespaces
def test_g2_g15_g18_a_whole_read_only_project(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.prepare()
    mount("--bind", world.base, world.base)
    mount("-o", "remount,bind,ro", world.base)
    # Through this mount nobody can write. Behind it the files change all the same, as those of a
    # disk that is mounted read-only here and writable elsewhere.
    behind = tmp_path / "behind"
    behind.mkdir()
    mount("--bind", world.here, behind)
    with RunningAgent(world.home, world.here, world.other) as agent:
        OldClient(world.there).send(behind, "Subject", world.text("behind the mount"))
        wait_for(lambda: "read-only" in agent.log or "cannot be written" in agent.log)
        world.assert_status_names("read-only", "cannot be written")
        assert "mount it writable" in syncd(world.home, "status", world.here).stdout
        world.assert_the_other_goes_on()
        unmount(world.base)
        world.assert_recovered()


@in_namespaces
def test_g6_g18_a_mailbox_that_is_unmounted_halts_and_comes_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    disk = project(tmp_path / "disk") / ".claude-mpm" / "inbox"
    mount("--bind", disk, world.inbox)
    with RunningAgent(world.home, world.here, world.other) as agent:
        keys = world.fill(5)
        unmount(world.inbox)
        wait_for(lambda: "halted" in agent.log)
        world.assert_status_names("gone")
        assert 5 == len(rows_of(world.here))
        assert [] == list(world.inbox.glob("*.md"))
        world.new.update(keys[0], body=world.text("while the mailbox was away"))
        world.assert_the_other_goes_on()
        mount("--bind", disk, world.inbox)
        world.send()
        world.assert_recovered()
        assert 6 == len(rows_of(world.here))


@in_namespaces
def test_g6_g15_g18_a_project_that_is_unmounted_comes_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    disk = project(tmp_path / "disk")
    mount("--bind", disk, world.here)
    with RunningAgent(world.home, world.here, world.other) as agent:
        first = world.fill(5)[0]
        unmount(world.here)
        shutil.rmtree(world.base)
        wait_for(lambda: f"{world.here} is gone" in agent.log)
        done = syncd(world.home, "status", world.here, "--json")
        assert 0 != done.returncode
        assert "no project" in done.stderr
        world.assert_the_other_goes_on()
        OldClient(disk).read(first)
        mount("--bind", disk, world.here)
        world.send()
        world.assert_recovered()
        assert "read" == rows_of(world.here)[first].status
        assert "Traceback" not in agent.log


# Rights -----------------------------------------------------------------------------------------


def test_g2_g15_g18_a_mailbox_without_the_right_to_write(world: World) -> None:
    with Ordinary(world.home, world.here, world.other) as agent:
        first, second, _ = world.fill()
        world.inbox.chmod(0o555)
        try:
            world.new.update(first, body=world.text("over a file that is protected"))
            world.old.read(second)  # in place: the file itself may be written
            wait_for(lambda: "permission denied" in agent.log)
            wait_for(lambda: rows_of(world.here)[second].status == "read")
            world.assert_status_names("permission denied")
            world.assert_the_other_goes_on()
        finally:
            world.inbox.chmod(0o755)
        world.assert_recovered()


def test_g1_g2_g18_a_file_without_the_right_to_read(world: World) -> None:
    with Ordinary(world.home, world.here, world.other) as agent:
        first = world.fill()[0]
        path = world.inbox / f"{first}.md"
        path.chmod(0)
        world.new.update(first, body=world.text("beside a file that nobody reads"))
        wait_for(lambda: "permission denied" in agent.log)
        world.assert_status_names("permission denied")
        assert first in rows_of(world.here)
        world.assert_the_other_goes_on()
        path.chmod(0o644)
        world.assert_recovered()


def test_g6_g18_a_mailbox_without_the_right_to_read_halts(world: World) -> None:
    with Ordinary(world.home, world.here, world.other) as agent:
        world.fill()
        world.inbox.chmod(0)
        try:
            world.insert()
            wait_for(lambda: "halted" in agent.log or "permission denied" in agent.log.lower())
            world.assert_status_names("permission denied")
            assert 4 == len(rows_of(world.here))
            world.assert_the_other_goes_on()
        finally:
            world.inbox.chmod(0o755)
        world.assert_recovered()


@pytest.mark.parametrize("command", ["sync", "migrate", "status", "verify", "log", "conflicts"])
def test_g18_a_project_that_cannot_be_entered_is_an_error_to_every_command(
    tmp_path: Path, command: str
) -> None:
    base = tmp_path / "p" / CLAUDE_DIR
    (base / "inbox").mkdir(parents=True)
    base.chmod(0)
    try:
        done = subprocess.run(
            as_anybody([sys.executable, "-m", "syncd", command]),
            cwd=base.parent,
            env=environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        base.chmod(0o755)
    assert f"{base} cannot be entered: permission denied" in done.stdout + done.stderr
    assert ExitCode.ERROR == done.returncode, done.stdout + done.stderr


def test_g15_a_closed_folder_above_a_project_ends_no_agent(world: World) -> None:
    team = world.here.parent / "team"
    inside = project(team / "b" / "p")
    registry = world.home / CLAUDE_DIR / "session-registry.db"
    registry.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(registry)) as sessions, sessions:
        sessions.execute("CREATE TABLE sessions (project_path)")
        ways = str(inside), f"{team}/{'x' * 300}"
        sessions.executemany("INSERT INTO sessions VALUES (?)", [(way,) for way in ways])
    with Ordinary(world.home, world.here.parent, options=("--recursive",)) as agent:
        world.fill()
        team.chmod(0)
        try:
            wait_for(lambda: "waiting for it to come back" in agent.log)
            world.assert_the_other_goes_on()
        finally:
            team.chmod(0o755)
        key = OldClient(world.other).send(inside, "Subject", "After")
        wait_for(lambda: key in rows_of(inside))


def test_g2_g15_g18_a_database_without_the_right_to_write(world: World) -> None:
    world.prepare()
    world.new.database.chmod(0o444)
    with Ordinary(world.home, world.here, world.other) as agent:
        world.send()
        wait_for(lambda: "cannot be written" in agent.log)
        world.assert_status_names("cannot be written")
        world.assert_the_other_goes_on()
        world.new.database.chmod(0o644)
        world.assert_recovered()


def wait_until_closed(agent: RunningAgent, path: Path) -> None:
    """Wait until the agent has a file closed, and leaves it so for a moment."""
    descriptors = Path(f"/proc/{agent.process.pid}/fd")
    open_until = time.monotonic()

    def is_closed() -> bool:
        nonlocal open_until
        for link in descriptors.iterdir():
            with suppress(OSError):
                if link.readlink() == path:
                    open_until = time.monotonic()
        return time.monotonic() - open_until > 0.2

    wait_for(is_closed)


# The database -----------------------------------------------------------------------------------


@contextmanager
def held_lock(database: Path) -> Iterator[None]:
    """Have another process hold the database's write lock, and change a row at the end."""
    code = """
        import sqlite3, sys
        opened = sqlite3.connect(sys.argv[1], isolation_level=None)
        opened.execute("BEGIN EXCLUSIVE")
        opened.execute("UPDATE messages SET priority = 'urgent'")
        print("held", flush=True)
        sys.stdin.read()
        opened.execute("COMMIT")
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert "held\n" == holder.stdout.readline()
        try:
            yield
        finally:
            holder.stdin.close()
            holder.wait(10)


def test_g2_g15_g18_a_database_that_is_locked_longer_than_we_wait(world: World) -> None:
    agent = RunningAgent(world.home, world.here, world.other)
    agent._command[1:3] = ["-c", _WITH_A_SHORT_TIMEOUT]
    with agent:
        first = world.fill()[0]
        with held_lock(world.new.database):
            world.send()
            world.old.read(first)
            wait_for(lambda: "holds the lock" in agent.log)
            world.assert_status_names("lock")
            world.assert_the_other_goes_on()
            assert 3 == len(rows_of(world.here))
        world.assert_recovered()
        rows = rows_of(world.here)
        assert ("read", "urgent") == (rows[first].status, rows[first].priority)
        assert "Traceback" not in agent.log


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def overwrite_the_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"Dear diary, this is no database.\n" * 200)


def overwrite_the_pages(path: Path) -> None:
    noise = random.Random(1)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(noise.randbytes(size - 4096))


def lose_pieces_of_pages(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096 + 100)
            file.write(bytes(1000))


@pytest.mark.parametrize("damage", [cut_in_half, overwrite_the_pages, lose_pieces_of_pages])
def test_g2_g15_g18_a_damaged_database_harms_no_file(
    world: World, damage: Callable[[Path], None]
) -> None:
    world.prepare(8, size=2000)
    damage(world.new.database)
    with RunningAgent(world.home, world.here, world.other) as agent:
        assert_damaged_and_built_again(world, agent)


def test_g2_g15_g18_a_database_overwritten_beside_an_idle_agent(world: World) -> None:
    with RunningAgent(world.home, world.here, world.other, idle_close_s=0.1) as agent:
        for _ in range(8):
            world.send(size=2000)
        wait_for(world.is_in_step)
        wait_until_closed(agent, world.new.database)
        overwrite_the_head(world.new.database)
        assert_damaged_and_built_again(world, agent)


def assert_damaged_and_built_again(world: World, agent: RunningAgent) -> None:
    before = {path.name: path.read_bytes() for path in world.inbox.glob("*.md")}
    key = world.send()
    wait_for(lambda: "is damaged" in agent.log or "is not a SQLite database" in agent.log)
    world.assert_status_names("is damaged", "is not a sqlite database")
    world.assert_the_other_goes_on()
    files = {path.name: path.read_bytes() for path in world.inbox.glob("*.md")}
    assert before == {name: data for name, data in files.items() if name != f"{key}.md"}
    # What the hint says: move it away.
    aside = world.here / "damaged"
    aside.mkdir()
    for path in world.base.glob("messaging.db*"):
        path.rename(aside / path.name)
    world.assert_recovered()
    assert 9 == len(rows_of(world.here))
    assert "a defect" not in agent.log
    assert 5 > agent.log.count(" ERROR "), agent.log


@pytest.mark.parametrize("how", ["emptied", "copied over"])
def test_g5_g12_a_database_replaced_in_place_under_the_agent(world: World, how: str) -> None:
    with RunningAgent(world.home, world.here, world.other) as agent:
        world.fill(3)
        backup = world.here / "backup.db"
        with closing(sqlite3.connect(world.new.database)) as opened:
            opened.execute("VACUUM INTO ?", (str(backup),))
        for _ in range(2):
            world.send()
        wait_for(world.is_in_step)
        # As SQLite's manual says of restoring a copy; but the agent has the database open.
        world.new.database.write_bytes(b"" if how == "emptied" else backup.read_bytes())
        for name in ("messaging.db-wal", "messaging.db-shm"):
            (world.base / name).unlink(missing_ok=True)
        world.send()
        world.assert_recovered()
        assert 6 == len(rows_of(world.here))
        assert 6 == len(list(world.inbox.glob("*.md")))
        with closing(sqlite3.connect(world.new.database)) as opened:
            assert [("ok",)] == opened.execute("PRAGMA integrity_check").fetchall()
        assert "a defect" not in agent.log


# The clock --------------------------------------------------------------------------------------


@in_namespaces
def test_g2_g15_files_from_the_future_and_from_before_the_epoch(tmp_path: Path) -> None:
    # tmpfs keeps any time that fits in 64 bits; other file systems end in 2446 or earlier.
    mount("-t", "tmpfs", "none", tmp_path)
    world = World(tmp_path)
    with RunningAgent(world.home, world.here, world.other) as agent:
        moments = [-(2**40), -(2**31), -1, 0, 1, 2**31, 2**33, 253_402_300_800, 2**42, 2**55]
        names = {}
        for number, moment in enumerate(moments):
            key = world.send()
            path = world.inbox / f"{key}.md"
            named = world.inbox / f"by-hand-{number}.md"
            # Without a date of its own: then the file's mtime stands for it.
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if not line.startswith("created_at")))
            path.rename(named)
            with suppress(OverflowError, OSError):
                os.utime(named, (moment, moment))
            names[key] = named
        wait_for(lambda: len(rows_of(world.here)) == len(moments), 8)
        for key, path in names.items():
            stamp = path.stat()
            world.new.update(key, body=world.text("a change by SQL"))
            wait_for(lambda path=path: world.written[-1] in path.read_text())
            path.write_text(path.read_text().replace(world.written[-1], world.text("by hand")))
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
            wait_for(lambda key=key: world.written[-1] in rows_of(world.here)[key].body)
        wait_for(lambda: not world.missing())
        assert "a defect" not in agent.log
        world.assert_the_other_goes_on()


# Shifts the clock of the process that it is loaded into, by the seconds that a file holds.
_STEPPED_CLOCK = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long offset(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_OFFSET"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += offset();
    return done;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to build a stepped clock")
def test_g2_g11_a_clock_that_is_stepped_back_and_forth(world: World, tmp_path: Path) -> None:
    source, library, offset = (tmp_path / name for name in ("clock.c", "clock.so", "offset"))
    source.write_text(_STEPPED_CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    offset.write_text("0")
    agent = RunningAgent(world.home, world.here, world.other)
    agent._environment |= {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)}
    with agent:
        keys = world.fill()
        for step in (-3600, -86_400 * 20_000, 86_400 * 400, 7200, 0):
            offset.write_text(str(step))
            for number, key in enumerate(keys):
                path = world.inbox / f"{key}.md"
                world.new.update(key, subject=f"Step {step}", body=world.text("by SQL"))
                wait_for(lambda path=path: world.written[-1] in path.read_text())
                path.write_text(path.read_text().replace(world.written[-1], world.text("by hand")))
                wait_for(lambda key=key: world.written[-1] in rows_of(world.here)[key].body)
                world.old.read(key)
                world.new.update(key, status=["waiting", "unread", "done"][number])
            keys.append(world.send())
            keys.pop(0)
            wait_for(world.is_in_step)
        offset.write_text("0")
        assert "ERROR" not in agent.log
        world.assert_recovered()


# File events ------------------------------------------------------------------------------------


def with_limit(name: str, number: int) -> None:
    """Set a limit that holds for this user namespace."""
    limit = Path("/proc/sys/user") / name
    try:
        limit.write_text(str(number))
    except OSError as error:
        print(f"{limit} cannot be set: {error}")
        sys.exit(_SKIPPED)


def _changes_both_ways(world: World) -> None:
    """Change something on either side, and wait until it has arrived."""
    first = world.fill()[0]
    world.new.update(first, body=world.text("a change by SQL"))
    wait_for(world.is_in_step)
    world.old.archive(first)
    wait_for(lambda: rows_of(world.here)[first].status == "archived")


@in_namespaces
def test_g11_with_too_few_inotify_watches_all_changes_arrive(tmp_path: Path) -> None:
    world = World(tmp_path)
    with_limit("max_inotify_watches", 3)
    with RunningAgent(world.home, world.here, world.other, poll_s=0.2) as agent:
        wait_for(lambda: "too few inotify watches" in agent.log or "cannot be watched" in agent.log)
        _changes_both_ways(world)
        world.assert_the_other_goes_on()
        assert "Traceback" not in agent.log
        with_limit("max_inotify_watches", 1000)
        _changes_both_ways(world)
        world.assert_recovered()


@in_namespaces
def test_g11_without_any_inotify_instance_all_changes_arrive(tmp_path: Path) -> None:
    world = World(tmp_path)
    with_limit("max_inotify_instances", 0)
    with RunningAgent(world.home, world.here, world.other, poll_s=0.2) as agent:
        _changes_both_ways(world)
        world.assert_the_other_goes_on()
        assert "polled" in agent.log
        assert "Traceback" not in agent.log
        world.assert_recovered()


def stop_between_transactions(agent: RunningAgent, database: Path) -> None:
    """Stop the agent's process while it does not hold the database's lock."""
    while True:
        agent.process.send_signal(signal.SIGSTOP)
        with closing(sqlite3.connect(database, timeout=0.1, isolation_level=None)) as opened:
            try:
                opened.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                agent.process.send_signal(signal.SIGCONT)


def test_g11_a_queue_that_overflows_while_the_agent_is_stopped(world: World) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip(f"the queue holds {limit} events: it would take too long to fill")
    with RunningAgent(world.home, world.here, world.other) as agent:
        keys = world.fill(8)
        stop_between_transactions(agent, world.new.database)
        try:
            one, two = world.base / "inbox" / "a.md.tmp", world.base / "inbox" / "b.md.tmp"
            one.write_text("")
            for _ in range(limit // 2):  # each rename is two events, so that is twice as many
                one.rename(two)
                two.rename(one)
            one.unlink()
            # Of all this the agent hears nothing.
            world.old.read(keys[0])
            world.old.archive(keys[1])
            (world.inbox / f"{keys[2]}.md").unlink()
            path = world.inbox / f"{keys[3]}.md"
            path.write_text(path.read_text().replace("Subject", "Another subject"))
            path.rename(world.inbox / "renamed.md")
            world.new.update(keys[4], body=world.text("a change by SQL"))
            world.send()
            world.insert()
        finally:
            agent.process.send_signal(signal.SIGCONT)
        wait_for(lambda: "events were lost" in agent.log)
        wait_for(lambda: keys[2] not in rows_of(world.here))
        wait_for(world.is_in_step)
        rows = rows_of(world.here)
        assert "read" == rows[keys[0]].status
        assert "archived" == rows[keys[1]].status
        assert "Another subject" == rows[keys[3]].subject
        world.assert_recovered()


# The folder -------------------------------------------------------------------------------------


def test_g6_g18_an_empty_folder_in_its_place_is_told_and_left_empty(
    world: World, tmp_path: Path
) -> None:
    """As after an unmount of the folder itself."""
    with RunningAgent(world.home, world.here, world.other) as agent:
        world.fill(5)
        world.base.rename(tmp_path / "kept")
        world.base.mkdir()
        wait_for(lambda: "is empty" in agent.log)
        done = syncd(world.home, "status", world.here)
        assert (1, True) == (done.returncode, "is empty" in done.stdout)
        assert [] == os.listdir(world.base)
        world.assert_the_other_goes_on()
        world.base.rmdir()
        (tmp_path / "kept").rename(world.base)
        world.send()
        world.assert_recovered()


@pytest.mark.parametrize("back", ["all", "files", "database"])
def test_g5_g15_a_folder_removed_and_made_again(world: World, tmp_path: Path, back: str) -> None:
    with RunningAgent(world.home, world.here, world.other) as agent:
        first = world.fill(5)[0]
        kept = tmp_path / "kept"
        with closing(sqlite3.connect(world.new.database)) as opened:
            opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copytree(world.base, kept)
        world.base.rename(tmp_path / "rubbish")
        shutil.rmtree(tmp_path / "rubbish")
        wait_for(lambda: "is gone" in agent.log)
        done = syncd(world.home, "status", world.here)
        assert 0 != done.returncode
        world.assert_the_other_goes_on()
        if back == "files":
            for path in kept.glob("messaging.db*"):
                path.unlink()
        if back == "database":
            for name in ("inbox", "outbox"):
                shutil.rmtree(kept / name)
        kept.rename(world.base)
        if back == "database":
            # Rows whose files are all gone: nothing is deleted before a person has decided.
            wait_for(lambda: world.status()["halt"])
            assert 5 == len(rows_of(world.here))
            done = syncd(world.home, "resume", world.here, "--restore")
            assert 0 == done.returncode, done.stderr
        world.send()
        world.assert_recovered()
        assert first in rows_of(world.here)
        assert "Traceback" not in agent.log


if __name__ == "__main__":
    globals()[sys.argv[1]].__wrapped__(Path(sys.argv[2]))
