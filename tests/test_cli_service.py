"""``syncd service``: what it writes, and how it deals with the service manager.

systemctl and launchctl are foreign programs that need a session; a stand-in on the PATH records
how it is called, and fails when it is told to. The unit itself is read by systemd where that is.
"""

from __future__ import annotations

import configparser
import json
import os
import plistlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from syncd import service
from syncd.cli import main
from syncd.errors import UsageError
from syncd.service import Kind, Service

ODD = 'my "best"  100% wörk $HOME \\ it\'s;'
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in *"$FAILS"*) [ -z "$FAILS" ] || { echo "no $FAILS today" >&2; exit 1; } ;; esac
case "$*" in "print gui/"*/syncd) [ -e "$CALLS.loaded" ] ;; esac
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str


class Machine:
    """A scratch home with stand-ins for the service managers' programs."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.project = base / "shop"
        (self.project / ".claude-mpm").mkdir(parents=True)
        self.home = base / "home"
        self.unit = self.home / ".config/systemd/user/syncd.service"
        self.list = self.home / "Library/LaunchAgents/syncd.plist"
        self._calls = base / "calls"
        self._monkeypatch = monkeypatch
        for name in [name for name in os.environ if name.startswith(("SYNCD_", "XDG_"))]:
            monkeypatch.delenv(name)
        for name in ("systemctl", "launchctl"):
            program = base / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(STAND_IN)
            program.chmod(0o755)
        self.set(
            HOME=self.home,
            PATH=f"{base / 'bin'}:{os.environ['PATH']}",
            CALLS=self._calls,
            FAILS="",
        )
        self.home.mkdir()
        monkeypatch.chdir(self.project)

    def set(self, **environment: object) -> None:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, str(value))

    def be_a_mac(self, *, loaded: bool = False) -> None:
        self._monkeypatch.setattr(sys, "platform", "darwin")
        if loaded:
            self._calls.with_name("calls.loaded").touch()

    def calls(self) -> list[str]:
        """Return what the stand-ins were asked since the last time, questions left out."""
        if not self._calls.exists():
            return []
        lines = self._calls.read_text().splitlines()
        self._calls.unlink()
        return [line for line in lines if "show-environment" not in line and " print " not in line]


Call = Callable[..., Result]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def syncd(capfd: pytest.CaptureFixture[str], machine: Machine) -> Call:
    """Return a function that runs a command line in this process."""

    def call(*arguments: str | Path) -> Result:
        capfd.readouterr()
        code = main(["service", *map(str, arguments)])
        return Result(code, *capfd.readouterr())

    return call


def read_unit(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=True, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return {section: dict(parser[section]) for section in parser.sections()}


def words_of(line: str) -> list[str]:
    """Read a command line as systemd does: quotes and escapes, then specifiers and variables."""
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]


# The text


def test_the_unit_fits_what_the_agent_does(syncd: Call, machine: Machine) -> None:
    result = syncd("show")

    assert (0, "") == (result.code, result.err)
    unit = read_unit(result.out)
    wanted = {
        "Type": "notify",
        "NotifyAccess": "main",
        "WatchdogSec": "120",
        "TimeoutStartSec": "infinity",
        "Restart": "on-failure",
        "RestartPreventExitStatus": "78",
        "NoNewPrivileges": "yes",
        "RestrictAddressFamilies": "AF_UNIX",
    }
    assert wanted.items() <= unit["Service"].items()
    assert "default.target" == unit["Install"]["WantedBy"]
    executable, *arguments = words_of(unit["Service"]["ExecStart"])
    assert ["run", str(machine.project)] == arguments
    assert Path(executable).is_absolute()
    assert os.access(executable, os.X_OK)


def test_what_the_service_runs_is_this_syncd(syncd: Call) -> None:
    executable = words_of(read_unit(syncd("show").out)["Service"]["ExecStart"])[0]

    done = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("syncd ")


def test_odd_names_and_settings_come_back_as_they_are(
    syncd: Call, machine: Machine, tmp_path: Path
) -> None:
    folder = tmp_path / ODD
    (folder / "shop/.claude-mpm").mkdir(parents=True)
    machine.set(SYNCD_PREFER="db", XDG_STATE_HOME=folder)

    unit = read_unit(syncd("show", folder, "--recursive", "--poll").out)["Service"]
    found = plistlib.loads(
        syncd("show", folder, "--recursive", "--poll", "--for", "launchd").out.encode()
    )

    command = ["run", str(folder), "--recursive", "--poll"]
    assert command == words_of(unit["ExecStart"])[1:]
    assert command == found["ProgramArguments"][1:]
    assert {"SYNCD_PREFER": "db", "XDG_STATE_HOME": str(folder)} == found["EnvironmentVariables"]
    settings = [word.replace("%%", "%") for word in shlex.split(unit["Environment"])]
    assert ["SYNCD_PREFER=db", f"XDG_STATE_HOME={folder}"] == settings


def test_an_executable_that_systemd_does_not_take_is_run_by_env() -> None:
    odd = f"/opt/{ODD}/syncd"

    unit = read_unit(service.text_of(Kind.SYSTEMD, Service((odd, "run", "/p"), {})))["Service"]

    assert ["/usr/bin/env", odd, "run", "/p"] == words_of(unit["ExecStart"])


@pytest.mark.parametrize("name", ["two\nlines", "byte\udcff"])
def test_a_name_that_no_unit_can_carry_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot carry") as caught:
        service.service_for([Path("/p", name)], recursive=False, poll=False, environment={})
    assert "above it" in caught.value.hint


def test_a_mac_starts_it_at_login_and_after_failures(syncd: Call, machine: Machine) -> None:
    found = plistlib.loads(syncd("show", "--for", "launchd").out.encode())

    assert ("syncd", True) == (found["Label"], found["RunAtLoad"])
    assert {"SuccessfulExit": False} == found["KeepAlive"]
    assert str(machine.home / "Library/Logs/syncd.log") == found["StandardErrorPath"]
    assert "EnvironmentVariables" not in found


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    executable = tmp_path / 'a "b" 100% ü' / "syncd"
    executable.parent.mkdir()
    executable.touch(0o755)
    simple = shutil.copy(executable, tmp_path / "syncd")
    for number, command in enumerate(((str(executable), "run", ODD), (str(simple), "run", "/p"))):
        unit = tmp_path / f"{number}.service"
        unit.write_text(service.text_of(Kind.SYSTEMD, Service(command, {"SYNCD_PREFER": ODD})))

        # It looks at other units too, and at sockets of theirs, whose paths have to be short.
        with TemporaryDirectory(dir="/tmp") as runtime:
            done = subprocess.run(
                ["systemd-analyze", "verify", "--user", unit],
                env=os.environ | {"XDG_RUNTIME_DIR": runtime, "HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                check=False,
            )

        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


# install, show, uninstall


def test_show_changes_nothing_and_install_writes_what_it_prints(
    syncd: Call, machine: Machine
) -> None:
    text = syncd("show").out
    assert [] == list(machine.home.iterdir())

    result = syncd("install")

    assert (0, "") == (result.code, result.err)
    assert text == machine.unit.read_text()
    assert ["syncd.service"] == os.listdir(machine.unit.parent)
    assert [
        "systemctl --user daemon-reload",
        "systemctl --user enable syncd.service",
        "systemctl --user restart syncd.service",
    ] == machine.calls()
    assert result.out.startswith(
        f"{machine.unit}: written\n  the service runs; its log: journalctl --user -u syncd\n"
    )
    assert "loginctl enable-linger" in result.out


def test_installing_the_same_again_does_not_restart_the_agent(
    syncd: Call, machine: Machine
) -> None:
    syncd("install")
    machine.calls()

    result = syncd("install")

    assert result.out.startswith(f"{machine.unit}: as it was\n")
    assert "systemctl --user start syncd.service" == machine.calls()[-1]


def test_installing_for_other_folders_replaces_the_service(
    syncd: Call, machine: Machine, tmp_path: Path
) -> None:
    syncd("install")
    machine.calls()

    result = syncd("install", tmp_path, "--recursive")

    assert result.out.startswith(f"{machine.unit}: written anew\n")
    assert f"run {tmp_path} --recursive\n" in machine.unit.read_text()
    assert "systemctl --user restart syncd.service" == machine.calls()[-1]


def test_without_a_session_install_says_what_to_call_in_one(syncd: Call, machine: Machine) -> None:
    machine.set(FAILS="show-environment")

    result = syncd("install")

    assert (0, "") == (result.code, result.err)
    assert machine.unit.exists()
    assert "the user's systemd cannot be reached from here" in result.out
    assert "no show-environment today" in result.out
    assert (
        "  → Start it: systemctl --user daemon-reload && systemctl --user enable syncd.service"
        " && systemctl --user restart syncd.service\n"
    ) in result.out
    assert [] == machine.calls()


def test_install_can_leave_the_start_to_the_user(syncd: Call, machine: Machine) -> None:
    result = syncd("install", "--no-start")

    assert "  → Start it: systemctl --user daemon-reload" in result.out
    assert [] == machine.calls()


def test_a_start_that_fails_ends_with_1_and_where_to_look(syncd: Call, machine: Machine) -> None:
    machine.set(FAILS="restart")

    result = syncd("install")

    assert (1, "") == (result.code, result.out)
    assert "'systemctl --user restart syncd.service' failed: no restart today" in result.err
    assert "→ Its log tells why: journalctl --user -u syncd" in result.err


def test_uninstall_stops_and_removes_it_and_can_be_repeated(syncd: Call, machine: Machine) -> None:
    syncd("install")
    machine.calls()

    first = syncd("uninstall")
    assert [
        "systemctl --user disable --now syncd.service",
        "systemctl --user daemon-reload",
    ] == machine.calls()
    second = syncd("uninstall")

    assert (0, f"{machine.unit}: removed\n", "") == first
    assert not machine.unit.exists()
    assert (0, f"{machine.unit}: there is no such service\n", "") == second
    assert [] == machine.calls()


def test_what_does_not_stop_is_not_removed(syncd: Call, machine: Machine) -> None:
    syncd("install")
    machine.set(FAILS="disable")

    result = syncd("uninstall")

    assert 1 == result.code
    assert "no disable today" in result.err
    assert machine.unit.exists()


def test_without_a_session_uninstall_removes_it_and_says_so(syncd: Call, machine: Machine) -> None:
    syncd("install")
    machine.set(FAILS="show-environment")

    result = syncd("uninstall")

    assert 0 == result.code
    assert not machine.unit.exists()
    assert "stop it in a session of yours: systemctl --user disable --now" in result.out


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_a_unit_of_somebody_else_is_left_alone(syncd: Call, machine: Machine, command: str) -> None:
    machine.unit.parent.mkdir(parents=True)
    machine.unit.write_text("[Service]\nExecStart=/bin/true\n")

    result = syncd(command)

    assert (2, "") == (result.code, result.out)
    assert f"{machine.unit} was not written by syncd, and is left as it is" in result.err
    assert "[Service]\nExecStart=/bin/true\n" == machine.unit.read_text()
    assert [] == machine.calls()


def test_a_folder_that_cannot_be_written_gets_a_sentence(syncd: Call, machine: Machine) -> None:
    machine.unit.parent.parent.parent.mkdir()
    machine.unit.parent.parent.touch()

    result = syncd("install")

    assert 1 == result.code
    assert f"{machine.unit} cannot be " in result.err
    assert [] == machine.calls()


def test_a_wrong_setting_is_said_at_once(syncd: Call, machine: Machine) -> None:
    machine.set(SYNCD_PREFER="both")

    result = syncd("install")

    assert 78 == result.code
    assert "the setting 'prefer' is 'both'" in result.err
    assert not machine.unit.exists()


def test_a_system_without_either_says_what_to_do(
    syncd: Call, machine: Machine, tmp_path: Path
) -> None:
    machine.set(PATH=tmp_path / "nothing")

    result = syncd("install")

    assert (2, "") == (result.code, result.out)
    assert "there is neither systemd nor launchd here" in result.err
    assert "syncd run PATH --recursive" in result.err


def test_on_a_mac_it_is_loaded_anew_and_unloaded(syncd: Call, machine: Machine) -> None:
    domain = f"gui/{os.getuid()}"
    machine.be_a_mac()
    first = syncd("install")
    assert [f"launchctl bootstrap {domain} {machine.list}"] == machine.calls()
    assert "its log: tail ~/Library/Logs/syncd.log" in first.out
    assert "linger" not in first.out

    machine.be_a_mac(loaded=True)
    syncd("install")
    assert [] == machine.calls()
    syncd("install", "--poll")
    assert [
        f"launchctl bootout {domain}/syncd",
        f"launchctl bootstrap {domain} {machine.list}",
    ] == machine.calls()

    syncd("uninstall")
    assert [f"launchctl bootout {domain}/syncd"] == machine.calls()
    assert not machine.list.exists()


def test_the_json_objects_tell_the_same(syncd: Call, machine: Machine) -> None:
    shown = json.loads(syncd("show", "--json").out)
    installed = json.loads(syncd("install", "--json").out)
    again = json.loads(syncd("show", "--json").out)
    removed = json.loads(syncd("uninstall", "--json").out)

    path = str(machine.unit)
    assert (1, path, False) == (shown["version"], shown["path"], shown["installed"])
    assert (path, "written", "running", "") == tuple(
        installed[name] for name in ("path", "file", "state", "reason")
    )
    assert (True, shown["text"]) == (again["installed"], again["text"])
    assert (path, "removed", "") == tuple(removed[name] for name in ("path", "file", "reason"))
