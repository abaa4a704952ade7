"""The command line: what it prints and where, what it ends with, and what it never does.

Most calls run in this process, those where streams, signals or terminals matter as
``python -m syncd``.
"""

from __future__ import annotations

import json
import os
import pty
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fixtures.make_world import WORLD
from syncd.agent.heartbeat import AgentInfo
from syncd.cli import main, output
from syncd.cli.projects import worst
from syncd.cli.status import Status
from syncd.cycle.project import turn
from syncd.cycle.report import Report
from syncd.errors import ExitCode, ReplicaError
from syncd.files.replica import FileReplica
from syncd.names import user_home
from tests.clients import NewClient
from tests.projects import Project
from tests.running import wait_for

COMMANDS = [
    *(["run"], ["sync"], ["migrate"], ["status"], ["resume"]),
    *(["log"], ["report"], ["config"], ["config", "show"], []),
]
NO_COUNTS = {
    "rows_inserted": 0,
    "rows_updated": 0,
    "rows_deleted": 0,
    "files_created": 0,
    "files_updated": 0,
    "files_moved": 0,
    "files_deleted": 0,
    "unchanged": 0,
}
NOTES = "inbox/notes.md:1: there is no front matter"


class Result(NamedTuple):
    """What a call ended with."""

    code: int
    out: str
    err: str

    @property
    def projects(self) -> dict[str, Any]:
        """Return the entries of the JSON object by the names of the projects' folders."""
        return {Path(entry["path"]).name: entry for entry in json.loads(self.out)["projects"]}


Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own settings and agents away, and let nothing wait."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("SYNCD_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_RUNTIME_DIR": str(home / "run"),  # there is none
        "SYNCD_GONE_S": "0",
        "SYNCD_RETRY_S": "0",
        "COLUMNS": "100",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Return a folder of four projects; the one named harbor has a file that is no message."""
    return Path(shutil.copytree(WORLD, tmp_path / "world"))


@pytest.fixture
def syncd(capfd: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs a command line in this process."""

    def call(*arguments: str | Path) -> Result:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capfd.readouterr())

    return call


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """Start ``python -m syncd``."""
    command = [sys.executable, "-m", "syncd", *map(str, arguments)]
    return subprocess.Popen(command, text=True, **options)


def run(*arguments: str | Path, **options: Any) -> Result:
    """Run ``python -m syncd`` to its end."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with start(*arguments, **pipes) as process:
        out, err = process.communicate(timeout=30)
    return Result(process.returncode, out or "", err or "")


@contextmanager
def terminal() -> Iterator[tuple[int, Callable[[], str]]]:
    """Yield a terminal to write to, and a function that reads what was written so far."""
    mine, theirs = pty.openpty()
    os.set_blocking(mine, False)

    def read() -> str:
        found = b""
        while True:
            try:
                found += os.read(mine, 65536)
            except BlockingIOError:
                return found.decode()

    try:
        yield theirs, read
    finally:
        os.close(mine)
        os.close(theirs)


def listing(folder: Path) -> dict[str, tuple[bytes, int] | None]:
    """Return the names of all folders, and bytes and mtime of all files."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


def comparable(project: dict[str, Any]) -> dict[str, Any]:
    """Return a project's entry without the number of messages that nothing was done to."""
    return project | {"counts": project["counts"] | {"unchanged": None}}


def empty(folder: Path) -> None:
    for path in folder.glob("*.md"):
        path.unlink()


# The command as such


def test_the_version_is_that_of_the_package(syncd: Call) -> None:
    assert (0, f"syncd {metadata.version('syncd')}\n", "") == syncd("--version")


def test_the_version_comes_without_heavy_imports() -> None:
    code = (
        "import sys; from syncd.cli import main; main(['--version']); "
        "print(*{'rich', 'yaml', 'sqlite3', 'watchdog', 'pydantic'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert f"syncd {metadata.version('syncd')}\n\n" == done.stdout


def test_reading_arguments_needs_no_pydantic(world: Path) -> None:
    code = (
        "import sys; from syncd.cli import main; "
        "code = main(['sync', sys.argv[1], '--prefer', 'db', '-n']); "
        "print(code, 'pydantic' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(world / "apex")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "0 False" == done.stdout.splitlines()[-1]


def test_a_status_in_sync_comes_without_what_it_does_not_need(world: Path) -> None:
    heavy = {
        *("rich", "yaml", "frontmatter", "pydantic", "watchdog", "tomllib", "shlex", "logging"),
        *("hashlib", "concurrent.futures", "syncd.cycle.cycle"),
        *("syncd.core.reconcile", "syncd.core.guard", "syncd.core.journal"),
    }
    code = (
        "import sys; from syncd.cli import main; code = main(['status', sys.argv[1]]); "
        f"print(code, *{heavy!r} & sys.modules.keys())"
    )
    assert 0 == main(["sync", str(world / "apex")])
    command = [sys.executable, "-c", code, str(world / "apex")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "0" == done.stdout.splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(syncd: Call, command: list[str]) -> None:
    result = syncd(*command, "--help")

    assert (0, "") == (result.code, result.err)
    assert f"Example: syncd {' '.join(command)}" in result.out
    assert "\x1b" not in result.out


def test_a_call_without_a_command_shows_the_help(syncd: Call) -> None:
    result = syncd()

    assert 2 == result.code
    assert "migrate" in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["snyc"], "No such command 'snyc'. Did you mean 'sync'?"),
        (["sync", "--recursiv"], "No such option: --recursiv (Possible options: --recursive)"),
        (["sync", "--prefer", "row"], "'--prefer': 'row' is not one of 'file', 'db'"),
        (["config"], "Missing command"),
        (["config", "show", "a", "b"], "unexpected extra argument"),
        (["resume"], "one of --accept-deletes and --restore"),
        (["resume", "--accept-deletes", "--restore"], "one of --accept-deletes and --restore"),
        (["sync", "/no/such/place"], "/no/such/place does not exist"),
        (["run", "/no/such/place", "--recursive"], "/no/such/place does not exist"),
        (["migrate", "/etc/passwd", "--recursive"], "/etc/passwd is not a folder"),
        (["status", "."], "is no project: it has no folder .claude-mpm"),
        (["config", "show", "."], "is no project: it has no folder .claude-mpm"),
        (["status"], "is in no project"),
        (["run"], "is in no project"),
        (["sync", "--recursive"], "there is no project at or below"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_gets_a_sentence(syncd: Call, arguments: list[str], words: str) -> None:
    result = syncd(*arguments)

    assert (2, "") == (result.code, result.out)
    assert result.err.startswith("syncd: ")
    assert words in result.err


@pytest.mark.parametrize(
    "command",
    [
        *("sync", "migrate", "run", "status", "verify", "doctor", "report", "service show"),
        *("conflicts", "repair", "retire", "config show", "history", "log", "message list"),
    ],
)
def test_a_hint_names_an_option_only_where_the_command_has_it(syncd: Call, command: str) -> None:
    is_of_many = "--recursive" in syncd(*command.split(), "--help").out
    takes_option = "--project" in syncd(*command.split(), "--help").out

    named = syncd(*command.split(), *(["--project"] if takes_option else []), ".")
    around = syncd(*command.split())

    for result in (named, *([around] if command != "config show" else [])):
        assert 2 == result.code
        assert is_of_many is ("--recursive" in result.err)


def test_what_can_be_no_project_is_said_so_and_a_folder_that_is_gone_too(tmp_path: Path) -> None:
    (tmp_path / "note").touch()
    result = run("sync", str(tmp_path / "note"))
    assert (2, True) == (result.code, "note is not a folder\n  → " in result.err)
    code = f"import os, sys; os.rmdir({str(tmp_path / 'x')!r}); from syncd.cli import main; "
    (tmp_path / "x").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", f"{code}sys.exit(main(['status']))"],
        cwd=tmp_path / "x",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (2, True) == (done.returncode, "the current folder was deleted\n  → " in done.stderr)


def test_a_project_whose_folder_is_a_link_to_nothing_is_told_of(
    syncd: Call, world: Path, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    (world / "apex" / ".claude-mpm").rename(away)
    (world / "apex" / ".claude-mpm").symlink_to(tmp_path / "not-mounted")
    found = syncd("sync", "--recursive", str(world))
    assert 1 == found.code
    assert f"{world / 'apex'}/.claude-mpm is a symbolic link" in found.err
    named = syncd("sync", str(world / "apex"))
    assert (2, True) == (named.code, "is a link to nothing" in named.err)
    (tmp_path / "not-mounted").touch()
    every = syncd("sync", "--recursive", str(world))
    assert str(world / "apex") not in every.out + every.err, "a link to a file makes no project"
    assert "is no project" in syncd("sync", str(world / "apex")).err
    (world / "apex" / ".claude-mpm").unlink()
    away.rename(world / "apex" / ".claude-mpm")
    assert 0 == syncd("sync", str(world / "apex")).code


def test_a_wrong_call_of_the_process_ends_with_2_and_no_traceback() -> None:
    result = run("sync", "--json", "/no/such/place")

    assert (2, "", "syncd: /no/such/place does not exist\n") == result


def test_the_project_around_the_current_folder_is_the_default(
    syncd: Call, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world / "apex" / ".claude-mpm" / "inbox")

    assert f"{world / 'apex'}: 16 rows inserted\n" == syncd("sync").out


def test_with_recursive_the_current_folder_is_the_default(
    syncd: Call, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)

    assert {"apex", "harbor", "lumen", "orchid"} == set(
        syncd("sync", "--recursive", "--json").projects
    )


def test_a_project_that_is_named_twice_is_taken_once(syncd: Call, world: Path) -> None:
    (world / "link").symlink_to(world / "apex")

    result = syncd("sync", world / "apex", world / "lumen" / ".." / "apex", world / "link")

    assert f"{world / 'apex'}: 16 rows inserted\n" == result.out


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 75], 75),
        ([0, 3, 75], 3),
        ([3, 4, 0], 4),
        ([4, 78, 3], 78),
        ([4, 1, 3, 75, 78], 1),
    ],
)
def test_over_several_projects_the_worst_exit_code_counts(codes: list[int], expected: int) -> None:
    assert expected == worst(ExitCode(code) for code in codes)


# sync and migrate


@pytest.mark.parametrize("command", ["sync", "migrate"])
def test_a_first_run_tells_per_project_what_it_did(syncd: Call, world: Path, command: str) -> None:
    result = syncd(command, world, "--recursive")

    lines = result.out.splitlines()
    assert (3, "") == (result.code, result.err)
    assert [
        f"{world / 'apex'}: 16 rows inserted",
        f"{world / 'deep/nested/orchid'}: 14 rows inserted",
        f"{world / 'harbor'}: 16 rows inserted",
    ] == lines[:3]
    assert lines[3].startswith(f"  {NOTES}")
    assert " → Start the file with a line '---'" in lines[3]
    assert "4 projects: 61 rows inserted; 1 to look at" == lines[-1]


@pytest.mark.parametrize("command", [["sync"], ["migrate"], ["migrate", "--force"]])
def test_a_second_run_has_nothing_to_do(syncd: Call, world: Path, command: list[str]) -> None:
    syncd(*command, world / "apex")

    assert (0, f"{world / 'apex'}: nothing to do\n", "") == syncd(*command, world / "apex")


def test_the_json_object_has_the_documented_shape(world: Path) -> None:
    result = run("sync", world / "harbor", "--json")

    found = json.loads(result.out)
    (project,) = found["projects"]
    (entry,) = project["quarantined"]
    assert (3, "") == (result.code, result.err)
    assert ["version", "seconds", "projects"] == list(found)
    assert 1 == found["version"]
    assert isinstance(found["seconds"], float)
    assert {
        "path": str(world / "harbor"),
        "state": "attention",
        "counts": NO_COUNTS | {"rows_inserted": 16},
        "conflicts": [],
        "quarantined": [{"path": "inbox/notes.md", "line": 1, "reason": entry["reason"]}],
        "halt": None,
        "error": None,
    } == project


def test_migrate_touches_no_file(syncd: Call, world: Path) -> None:
    before = listing(world)

    syncd("migrate", world, "--recursive", "--force")

    after = listing(world)
    databases = {name for name in after if name.endswith("messaging.db")}
    assert before == {name: after[name] for name in after.keys() - databases}


def test_migrate_with_force_reads_also_what_looks_unchanged(syncd: Call, tmp_path: Path) -> None:
    project = Project(tmp_path / "shop")
    path = f"inbox/{project.receive()}.md"
    long_ago = (1_000_000_000.5, 1_000_000_000.5)
    os.utime(project.file(path), long_ago)
    syncd("migrate", project.path)
    project.edit(path, "Body 1.", "Word 1.")
    os.utime(project.file(path), long_ago)

    usual = syncd("migrate", project.path)
    forced = syncd("migrate", project.path, "--force")

    assert (0, f"{project.path}: nothing to do\n") == (usual.code, usual.out)
    assert (0, f"{project.path}: 1 row updated\n") == (forced.code, forced.out)


@pytest.fixture(params=["a folder", "a link"])
def own_home(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return the home folder, which HOME names by its own path or through a link."""
    home = tmp_path / "home"
    if request.param == "a link":
        (tmp_path / "link").symlink_to(home)
        monkeypatch.setenv("HOME", str(tmp_path / "link"))
    return home


@pytest.mark.parametrize(
    "arguments",
    [("sync", ""), ("resume", "", "--accept-deletes"), ("message", "list", "--project", "")],
)
def test_an_empty_path_is_not_the_current_folder(
    syncd: Call, project: Project, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(project.path)
    result = syncd(*arguments)
    assert (2, "") == (result.code, result.out)
    assert "the path is empty" in result.err


def test_an_empty_home_is_not_the_root_folder(
    syncd: Call, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "")
    assert 0 == syncd("sync", project.path).code
    assert Path(pwd.getpwuid(os.getuid()).pw_dir) == user_home()


@pytest.mark.parametrize("home", [None, ""])
def test_who_has_no_home_folder_is_served_all_the_same(
    syncd: Call, project: Project, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    """So it is in a container that runs as a user of whom its system knows nothing."""

    def unknown(number: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    project.receive()
    for command in ("migrate", "sync", "status", "verify", "report", "doctor"):
        result = syncd(command, project.path)
        assert 0 == result.code, result.err
    send = ["message", "send", project.path, "--project", project.path]
    sent = syncd(*send, "--type", "task", "--subject", "Hello", "--body", "Words")
    assert (0, True) == (sent.code, "the session cannot be noted" in sent.err)
    run = syncd("run", project.path)
    assert (1, True) == (run.code, "Set XDG_STATE_HOME" in run.err)


def test_nothing_is_exported_from_a_database_that_projects_share(
    syncd: Call, tmp_path: Path, own_home: Path
) -> None:
    mine = Project(own_home)
    for name in ("a", "b"):
        NewClient(tmp_path / name).send(own_home, "Subject", "Body")
    mine.sql("UPDATE messages SET to_project = '/p/' || id")

    result = syncd("sync", own_home)

    assert 1 == result.code
    sentence = f"{mine.new.database} holds the messages of 2 projects, not of one"
    assert f"{own_home}: {sentence}\n  → That layout is not exported to files" in result.err
    assert [] == mine.names("inbox")
    for command in ("status", "verify", "doctor"):
        told = syncd(command, own_home)
        assert (1, True) == (told.code, sentence in told.out + told.err)
    mine.sql("UPDATE messages SET to_project = ?", str(own_home))
    assert "2 files created" in syncd("sync", own_home).out


def test_g17_nothing_is_retired_where_projects_share_the_database(
    syncd: Call, tmp_path: Path, own_home: Path
) -> None:
    mine = Project(own_home)
    for name in ("a", "b"):
        NewClient(tmp_path / name).send(own_home, "Subject", "Body")
    assert "2 files created" in syncd("sync", own_home).out
    for name in ("c", "d"):
        NewClient(tmp_path / name).send(own_home, "Subject", "Body")
    mine.sql("UPDATE messages SET to_project = '/p/' || id")
    result = syncd("retire", own_home)
    assert (1, True) == (result.code, "holds the messages of 4 projects" in result.err)
    assert 2 == len(mine.names("inbox"))


def test_a_database_in_the_home_folder_that_knows_one_other_project_is_its_own(
    syncd: Call, tmp_path: Path, own_home: Path
) -> None:
    mine = Project(own_home)
    for _ in range(2):
        NewClient(tmp_path / "a").send(own_home, "Subject", "Body")
    mine.sql("UPDATE messages SET to_project = '/p/former' WHERE rowid = 1")

    assert "2 files created" in syncd("sync", own_home).out


def test_the_home_folder_is_a_project_only_when_it_is_named(
    syncd: Call, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".claude-mpm", "shop/.claude-mpm", "elsewhere"):
        (own_home / name).mkdir(parents=True)

    assert {"shop"} == syncd("migrate", tmp_path, "--recursive", "--json").projects.keys()
    monkeypatch.chdir(own_home / "elsewhere")
    assert "is in no project" in syncd("migrate").err
    named = syncd("migrate", own_home, "--recursive", "--json").projects
    assert {"home", "shop"} == named.keys()


def test_migrate_leaves_to_sync_what_only_the_rows_have(syncd: Call, tmp_path: Path) -> None:
    project = Project(tmp_path / "shop")
    project.new.send(tmp_path / "other", "Subject", "Body")

    assert "nothing to do" in syncd("migrate", project.path).out
    assert "1 file created" in syncd("sync", project.path).out


@pytest.mark.parametrize("command", ["sync", "migrate"])
def test_g16_a_dry_run_changes_nothing_and_tells_what_the_next_run_does(
    syncd: Call, world: Path, command: str
) -> None:
    before = listing(world)

    dry = syncd(command, world, "--recursive", "--dry-run", "--json")

    assert before == listing(world)
    real = syncd(command, world, "--recursive", "--json")
    assert (3, 3) == (dry.code, real.code)
    assert dry.projects == real.projects


@pytest.mark.parametrize("command", ["sync", "migrate"])
def test_g16_a_dry_run_over_changes_on_both_sides_does_not_either(
    syncd: Call, tmp_path: Path, command: str
) -> None:
    project = Project(tmp_path / "shop")
    ids = [project.receive(number) for number in range(1, 6)]
    syncd("sync", project.path)
    project.edit(f"inbox/{ids[0]}.md", "Body 1.", "Changed in the file.")
    project.sql("UPDATE messages SET body = 'Changed by SQL.' WHERE id = ?", ids[1])
    project.move(f"inbox/{ids[2]}.md", f"inbox/.archive/{ids[2]}.md")
    project.receive(9)
    project.write("inbox/bad.md", "no front matter")
    # Last: a file that took the inode of a deleted one, and cannot be read, may be that one, moved.
    project.file(f"inbox/{ids[3]}.md").unlink()
    before = listing(project.path)

    dry = syncd(command, project.path, "-n", "--json").projects["shop"]
    text = syncd(command, project.path, "-n").out

    assert before == listing(project.path)
    real = syncd(command, project.path, "--json").projects["shop"]
    assert comparable(dry) == comparable(real)
    assert f"{project.path}: would insert 1 row, " in text
    assert ("delete 1 row" in text) == (command == "sync")


def test_g16_a_dry_run_names_no_version_that_is_not_there(syncd: Call, tmp_path: Path) -> None:
    project = Project(tmp_path / "shop")
    key = project.receive(1)
    syncd("sync", project.path)
    project.edit(f"inbox/{key}.md", "Body 1.", "By hand.")
    project.new.update(key, body="By SQL.")
    words = f"conflict in {key}, body: the file's value stands, the row's"
    assert f"{words} would go to the history\n" in syncd("sync", project.path, "-n").out
    assert f"{words} is version " in syncd("sync", project.path).out


def test_a_project_with_something_pending_is_not_called_in_sync() -> None:
    agent = AgentInfo(1, "", "", True, True, ("/p",), False, {}, {}, "")
    status = Status(Path("/p"), Report("/p"), agent, messages=2, pending=1)
    assert ("catching up", ExitCode.IN_SYNC) == (status.word, status.code)
    status.pending = 0
    assert "in sync" == status.word


def test_a_dry_run_with_nothing_to_do_says_so(syncd: Call, world: Path) -> None:
    syncd("sync", world / "apex")

    assert f"{world / 'apex'}: would change nothing\n" == syncd("sync", world / "apex", "-n").out


def test_g15_a_broken_project_does_not_stop_the_others(syncd: Call, world: Path) -> None:
    (world / "apex/.claude-mpm/messaging.db").write_text("this is no database, " * 100)
    (world / "deep/nested/orchid/.claude-mpm/messaging.db").mkdir()

    result = syncd("migrate", world, "--recursive")

    assert 1 == result.code
    assert f"{world / 'apex'}: " in result.err
    assert "is not a SQLite database\n  → Move it away" in result.err
    assert f"{world / 'deep/nested/orchid'}: " in result.err
    assert f"{world / 'lumen'}: 15 rows inserted" in result.out
    assert "4 projects: 31 rows inserted; 1 to look at; 2 failed" in result.out


def test_an_error_stands_in_the_json_object(syncd: Call, world: Path) -> None:
    (world / "apex/.claude-mpm/messaging.db").write_text("this is no database, " * 100)

    result = syncd("sync", world / "apex", "--json")

    assert (1, "") == (result.code, result.err)
    assert "error" == result.projects["apex"]["state"]
    assert "is not a SQLite database" in result.projects["apex"]["error"]


def test_of_several_failures_the_first_is_told_and_the_rest_counted(
    syncd: Call, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_files: FileReplica, path: str, *_: Any, **__: Any) -> None:
        raise ReplicaError(f"{path} cannot be written: permission denied", hint="Mend it.")

    syncd("sync", world / "lumen")
    Project(world / "lumen").sql("UPDATE messages SET subject = 'New'")
    monkeypatch.setattr(FileReplica, "replace", refuse)

    result = syncd("sync", world / "lumen")

    assert 1 == result.code
    assert ".md cannot be written: permission denied (and 14 more failures)\n" in result.err


def test_a_project_that_another_syncd_works_on_is_busy(
    syncd: Call, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCD_BUSY_WAIT_S", "0")
    with turn(world / "apex", 0):
        alone = syncd("sync", world / "apex")
        with_others = syncd("sync", world, "--recursive")

    assert (75, "") == (alone.code, alone.out)
    assert "another syncd is working on" in alone.err
    assert 3 == with_others.code


def test_a_sync_that_leaves_something_for_the_next_one_says_so_and_is_to_be_tried_again(
    syncd: Call, tmp_path: Path
) -> None:
    project = Project(tmp_path / "shop")
    path = f"inbox/{project.receive()}.md"
    with project.file(path).open("a"):
        early = syncd("sync", project.path)
        told = syncd("sync", project.path, "--json")
    late = syncd("sync", project.path)

    assert 75 == early.code == told.code
    assert f"{path} was changing meanwhile; the next cycle takes it" in early.out
    assert [path] == told.projects["shop"]["unsettled"]
    assert (0, f"{project.path}: 1 row inserted\n") == (late.code, late.out)


@pytest.mark.parametrize(
    ("flags", "body", "winner"), [([], "file", "file"), (["--prefer", "db"], "row", "db")]
)
def test_the_winner_of_a_conflict_can_be_named(
    syncd: Call, tmp_path: Path, flags: list[str], body: str, winner: str
) -> None:
    project = Project(tmp_path / "shop")
    key = project.receive()
    syncd("sync", project.path)
    project.edit(f"inbox/{key}.md", "Body 1.", "file")
    project.sql("UPDATE messages SET body = 'row' WHERE id = ?", key)

    result = syncd("sync", project.path, *flags)

    assert 3 == result.code
    assert f"  conflict in {key}, body: the {body}'s value stands" in result.out
    assert body == project.row(key)["body"]
    listed = syncd("sync", project.path, "--json").projects["shop"]["conflicts"]
    assert [{"id": key, "field": "body", "winner": winner}] == listed


# Halts


def test_a_halt_tells_the_ways_out_and_stops_no_other_project(syncd: Call, world: Path) -> None:
    apex = world / "apex"
    syncd("sync", world, "--recursive")
    empty(apex / ".claude-mpm/inbox")
    (world / "lumen/.claude-mpm/inbox/new.md").write_text("---\nid: new\n---\n\n# New\n")

    result = syncd("sync", world, "--recursive")

    assert (4, "") == (result.code, result.err)
    assert f"{apex}: nothing was done\n  halted, nothing is applied: all 8 files" in result.out
    assert f"syncd resume {apex} --restore\n" in result.out
    assert f"syncd resume {apex} --accept-deletes\n" in result.out
    assert f"{world / 'lumen'}: 1 row inserted" in result.out
    assert result.out.endswith("; 1 to look at; 1 halted\n")


def test_a_halt_in_json_has_its_cause_and_counts(syncd: Call, world: Path) -> None:
    syncd("sync", world / "apex")
    empty(world / "apex/.claude-mpm/inbox")

    result = syncd("sync", world / "apex", "--json")

    project = result.projects["apex"]
    assert (4, "halted") == (result.code, project["state"])
    assert ("file", 8, 8) == tuple(project["halt"][key] for key in ("side", "gone", "expected"))
    assert 3 == len(project["halt"]["ways_out"])


@pytest.mark.parametrize(
    ("way", "words", "rows"),
    [("--restore", "8 files created", 16), ("--accept-deletes", "8 rows deleted", 8)],
)
def test_resume_leaves_a_halt(syncd: Call, world: Path, way: str, words: str, rows: int) -> None:
    apex = world / "apex"
    syncd("sync", apex)
    empty(apex / ".claude-mpm/inbox")
    syncd("sync", apex)
    assert 4 == syncd("status", apex).code
    would = syncd("resume", apex, way, "--dry-run", "--json").projects["apex"]["counts"]
    assert 4 == syncd("status", apex).code

    result = syncd("resume", apex, way)

    assert (0, f"{apex}: {words}\n", "") == result
    assert words == f"{sum(would.values()) - would['unchanged']}{words[1:]}"
    status = syncd("status", apex, "--json")
    assert (0, rows) == (status.code, status.projects["apex"]["messages"])


# status


def test_status_of_a_project_that_was_never_synced_says_what_to_do(
    syncd: Call, world: Path
) -> None:
    before = listing(world)

    result = syncd("status", world / "apex")

    assert (3, "") == (result.code, result.err)
    assert f"{world / 'apex'}: never synced, 0 messages, 16 pending, no agent\n" in result.out
    assert f"syncd sync {world / 'apex'} --dry-run" in result.out
    assert before == listing(world)


def test_status_in_json_adds_to_the_documented_shape(syncd: Call, world: Path) -> None:
    syncd("sync", world / "harbor")
    (world / "harbor/.claude-mpm/inbox/new.md").write_text("---\nid: new\n---\n\n# New\n")

    result = syncd("status", world / "harbor", "--json")

    project = result.projects["harbor"]
    assert (3, "attention") == (result.code, project["state"])
    assert project.pop("last_cycle").startswith("20")
    assert {
        "path": str(world / "harbor"),
        "state": "attention",
        "counts": NO_COUNTS,
        "conflicts": [],
        "quarantined": project["quarantined"],
        "halt": None,
        "error": None,
        "messages": 16,
        "pending": 1,
        "last_full_compare": None,
        "agent": None,
    } == project
    assert "inbox/notes.md" == project["quarantined"][0]["path"]


def test_status_changes_nothing(syncd: Call, tmp_path: Path) -> None:
    project = Project(tmp_path / "shop")
    project.receive()
    syncd("sync", project.path)
    project.receive(2)
    before = listing(project.path)

    syncd("status", project.path)

    assert before == listing(project.path)


def test_a_row_whose_file_cannot_be_read_is_not_pending(syncd: Call, tmp_path: Path) -> None:
    project = Project(tmp_path / "shop")
    ids = [project.receive(number) for number in (1, 2)]
    syncd("sync", project.path)
    project.write(f"inbox/{ids[0]}.md", "garbage")
    syncd("sync", project.path)
    project.new.update(ids[0], body="By SQL.")
    assert (3, "needs attention, 2 messages") == _status(syncd, project)
    project.new.update(ids[1], body="By SQL.")
    assert (3, "needs attention, 2 messages, 1 pending") == _status(syncd, project)


def test_g18_status_says_what_needs_a_person(syncd: Call, tmp_path: Path) -> None:
    project = Project(tmp_path / "shop")
    ids = [project.receive(number) for number in (1, 2)]
    syncd("sync", project.path)
    assert (0, "in sync, 2 messages") == _status(syncd, project)

    project.edit(f"inbox/{ids[0]}.md", "Body 1.", "file")
    project.sql("UPDATE messages SET body = 'row' WHERE id = ?", ids[0])
    project.sql("UPDATE messages SET body = 'row' WHERE id = ?", ids[1])
    assert (3, "needs attention, 2 messages, 2 pending") == _status(syncd, project)
    assert f"syncd sync {project.path}, or start one" in syncd("status", project.path).out

    syncd("sync", project.path)
    project.write("inbox/bad.md", "no front matter")
    syncd("sync", project.path)
    text = syncd("status", project.path).out
    assert (3, "needs attention, 2 messages") == _status(syncd, project)
    assert f"  conflict in {ids[0]}, body: the file's value stands" in text
    assert "  inbox/bad.md:1: there is no front matter" in text

    empty(project.file("inbox"))
    syncd("sync", project.path)
    text = syncd("status", project.path).out
    assert (4, "halted, 2 messages, 2 pending") == _status(syncd, project)
    assert f"  → To bring the files back from the database: syncd resume {project.path}" in text
    assert f"syncd sync {project.path}" not in text  # which does nothing in a halted project


def _status(syncd: Call, project: Project) -> tuple[int, str]:
    result = syncd("status", project.path)
    headline = result.out.splitlines()[0].removeprefix(f"{project.path}: ")
    return result.code, headline.partition(", last change")[0]


def test_status_tells_of_a_broken_project_and_goes_on(syncd: Call, world: Path) -> None:
    (world / "apex/.claude-mpm/messaging.db").write_text("this is no database, " * 100)

    result = syncd("status", world / "apex", world / "lumen")

    assert (1, "") == (result.code, result.err)
    assert f"{world / 'apex'}: in trouble, no agent\n" in result.out
    assert f"{world / 'lumen'}: never synced" in result.out


def test_g18_status_sees_the_agent_live_and_die(syncd: Call, world: Path) -> None:
    lumen = world / "lumen"

    def agent_is(pid: int, *, alive: bool) -> bool:
        agent = syncd("status", lumen, "--json").projects["lumen"]["agent"]
        return agent is not None and (pid, alive) == (agent["pid"], agent["alive"])

    with agent_on(lumen) as process:
        wait_for(lambda: agent_is(process.pid, alive=True))
        process.kill()
    dead = syncd("status", lumen)
    assert agent_is(process.pid, alive=False)
    assert (3, "") == (dead.code, dead.err)
    assert f"the agent (pid {process.pid}) died: its last heartbeat was at" in dead.out
    assert f"  → Start it again: syncd run {lumen}\n" in dead.out

    with agent_on(lumen) as process:
        wait_for(lambda: agent_is(process.pid, alive=True))
        wait_for(lambda: syncd("status", lumen).code == 0)
        process.terminate()
    stopped = syncd("status", lumen)
    assert 0 == process.returncode
    assert (0, "") == (stopped.code, stopped.err)
    assert stopped.out.endswith(", no agent\n")


@contextmanager
def agent_on(project: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield an agent that is ready; it has ended by the end, killed when nothing else ended it."""
    with start("run", project, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            assert any(line.startswith("ready: watching 1 project") for line in process.stderr)
            yield process
            process.communicate(timeout=10)
        finally:
            process.kill()


# Settings


def test_config_show_tells_each_value_and_where_it_came_from(
    syncd: Call, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file = Path(os.environ["XDG_CONFIG_HOME"]) / "syncd/config.toml"
    user_file.parent.mkdir(parents=True)
    user_file.write_text("history_days = 7\nmax_bytes = 1000\n")
    project_file = world / "apex/.claude-mpm/syncd.toml"
    project_file.write_text('prefer = "db"\nmax_bytes = 2000\n')
    monkeypatch.setenv("SYNCD_POLL_S", "5")

    text = syncd("config", "show", world / "apex")
    found = json.loads(syncd("config", "show", world / "apex", "--json").out)

    assert (0, "") == (text.code, text.err)
    assert f'prefer = "db"  ({project_file})\n    the side that wins a conflict' in text.out
    assert "quiet_s = 0.05  (default)\n    seconds without a change" in text.out
    settings = {entry["name"]: (entry["value"], entry["origin"]) for entry in found["settings"]}
    assert (1, str(world / "apex")) == (found["version"], found["project"])
    assert ("db", str(project_file)) == settings["prefer"]
    assert (2000, str(project_file)) == settings["max_bytes"]
    assert (7.0, str(user_file)) == settings["history_days"]
    assert (5.0, "environment") == settings["poll_s"]
    assert (0.05, "default") == settings["quiet_s"]
    assert all(entry["meaning"] for entry in found["settings"])


def test_config_show_outside_of_a_project_shows_the_users_settings(syncd: Call) -> None:
    found = json.loads(syncd("config", "show", "--json").out)

    assert found["project"] is None
    assert found["settings"]


@pytest.mark.parametrize("command", ["sync", "migrate", "status", "config show", "run"])
def test_an_unknown_setting_ends_with_78_and_the_nearest_name(
    syncd: Call, world: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("SYNCD_PREFERS", "db")

    result = syncd(*command.split(), world / "apex")

    assert (78, "") == (result.code, result.out)
    assert "syncd: unknown setting 'prefers' (environment)\n" in result.err
    assert "  → The nearest known one is 'prefer'.\n" in result.err
    assert not (world / "apex/.claude-mpm/messaging.db").exists()


@pytest.mark.parametrize("command", ["sync", "status"])
def test_a_wrong_setting_of_one_project_does_not_stop_the_others(
    syncd: Call, world: Path, command: str
) -> None:
    syncd("sync", world / "lumen")
    (world / "apex/.claude-mpm/syncd.toml").write_text("prefer = 3\n")

    result = syncd(command, world / "apex", world / "lumen")

    assert 78 == result.code
    assert "the setting 'prefer' is 3" in result.out + result.err
    assert "It takes 'file' or 'db'." in result.out + result.err
    assert f"{world / 'lumen'}: " in result.out


# What nobody may do through a file's name or text

EVIL = "a\x1b]0;owned\x07\r\x9b2J\u202egnp.\u2028[red]x[/red]"
SEEN = r"a\x1b]0;owned\x07\r\x9b2J\u202egnp.\u2028[red]x[/red]"


def test_characters_that_are_not_seen_are_shown_as_escapes() -> None:
    assert SEEN == output.shown(EVIL)
    assert r"\xff \x7f \ud800" == output.shown("\udcff \x7f \ud800")
    assert "höher → 漢字 🎉 a b" == output.shown("höher → 漢字 🎉 a b")


@pytest.mark.parametrize("command", ["sync", "status"])
def test_no_name_or_id_drives_the_terminal(syncd: Call, tmp_path: Path, command: str) -> None:
    project = Project(tmp_path / EVIL.replace("/", "|"))
    project.write(f"inbox/{EVIL.replace('/', '|')}.md", "no front matter")
    quoted = json.dumps(f"id {EVIL}")
    project.write("inbox/one.md", f"---\nid: {quoted}\n---\n\n# One\n")
    project.write("inbox/two.md", f"---\nid: {quoted}\n---\n\n# Two\n")
    syncd("sync", project.path)

    result = syncd(command, project.path)

    everything = result.out + result.err
    assert 3 == result.code
    assert SEEN.replace("/", "|") in everything
    assert "is taken by inbox/one.md" in everything
    assert [] == [text for text in everything if text != "\n" and not text.isprintable()]


def test_a_wrong_path_does_not_drive_the_terminal_either(syncd: Call) -> None:
    result = syncd("sync", f"/tmp/{EVIL}")

    assert (2, "", f"syncd: /tmp/{SEEN} does not exist\n") == result


def test_json_keeps_names_as_they_are_and_prints_plain_ascii(syncd: Call, tmp_path: Path) -> None:
    project = Project(tmp_path / "shop")
    project.write("inbox/\x1bü.md", "no front matter")

    result = syncd("sync", project.path, "--json")

    assert result.out.isascii()
    assert "\x1b" not in result.out
    assert "inbox/\x1bü.md" == result.projects["shop"]["quarantined"][0]["path"]


def test_a_narrow_encoding_of_the_output_is_no_error(world: Path) -> None:
    surroundings = os.environ | {"PYTHONIOENCODING": "ascii"}

    result = run("sync", world / "harbor", env=surroundings)

    assert (3, "") == (result.code, result.err)
    assert r" \u2192 Start the file" in result.out


# Terminals and pipes


def test_colours_are_for_terminals_only(world: Path) -> None:
    plain = run("status", world / "apex")
    with terminal() as (screen, read):
        run("status", world / "apex", stdout=screen)
        coloured = read()
        run("status", world / "apex", stdout=screen, env=os.environ | {"NO_COLOR": "1"})
        without = read()

    assert "\x1b" not in plain.out
    assert f"\x1b[33m{world / 'apex'}: never synced" in coloured
    assert "\x1b" not in without


def test_migrate_shows_a_bar_on_a_terminal_and_plain_lines_elsewhere(world: Path) -> None:
    with terminal() as (screen, read):
        result = run("migrate", world, "--recursive", stderr=screen)
        shown = read()

    assert "Importing" in shown
    assert "4/4" in shown
    assert f"{world / 'apex'}: 16 rows inserted\n" in result.out
    assert "\x1b" not in result.out


def test_a_reader_that_goes_away_is_no_noise(world: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        result = run("status", world, "--recursive", "--json", stdout=theirs)
    finally:
        os.close(theirs)

    assert (1, "") == (result.code, result.err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_takes_nothing_gets_a_sentence(world: Path) -> None:
    with open("/dev/full", "w") as full:
        result = run("sync", world / "lumen", stdout=full)

    assert 1 == result.code
    assert result.err.startswith("syncd: no space left on device\n  → ")
    assert "may be done all the same" in result.err
    assert 15 == len(Project(world / "lumen").rows())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_answer_is_as_good_where_stderr_takes_nothing(world: Path) -> None:
    run("sync", world / "lumen")
    with open("/dev/full", "w") as full:
        result = run("log", "--project", world / "lumen", stderr=full)

    assert (0, 15) == (result.code, len(result.out.splitlines()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_an_interrupt_ends_with_130_and_no_traceback(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCD_BUSY_WAIT_S", "30")
    with (
        turn(world / "apex", 0),
        start("sync", world / "apex", stdout=-1, stderr=-1) as process,
    ):
        while not _has_open(process.pid, world / "apex/.claude-mpm"):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)

    assert (130, "", "") == (process.returncode, out, err)


def _has_open(pid: int, folder: Path) -> bool:
    links = Path(f"/proc/{pid}/fd").iterdir()
    try:
        return any(os.readlink(link) == str(folder) for link in links)
    except FileNotFoundError:
        return False
