"""The agent as a service: the unit by which systemd keeps it running, or launchd on a Mac.

The service belongs to the user: no right of anybody else is needed, and its agent sees the same
home, settings and heartbeat as the user's commands do. There is one, for all the folders that it
was installed with; installing it again replaces it.
"""

from __future__ import annotations

import os
import plistlib
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from syncd.agent.heartbeat import BEAT_S, STALE_S
from syncd.config import ENVIRONMENT_PREFIX, base_folder
from syncd.errors import ExitCode, ReplicaError, SyncdError, UsageError, reason_of
from syncd.names import temporary_name, user_home
from syncd.shell import joined, quoted

NAME = "syncd"
_MARK = "Written by 'syncd service install'; the next one writes it anew."
_PASSED_ON = ("XDG_CONFIG_HOME", "XDG_STATE_HOME")
_START_WAIT_S = 30.0
_RESTART_S = 30
_PLAIN_EXECUTABLE = re.compile(r"[^\"'\\$]+")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@+=:,./-]+")


class Kind(StrEnum):
    """Who runs services here."""

    SYSTEMD = "systemd"
    LAUNCHD = "launchd"


@dataclass(frozen=True, slots=True)
class Service:
    """What is to be kept running: a command line and what it needs in its environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


def kind_here() -> Kind:
    """Return who runs services on this system; raises `UsageError` where it is nobody we know."""
    if sys.platform == "darwin":
        return Kind.LAUNCHD
    if shutil.which("systemctl"):
        return Kind.SYSTEMD
    raise UsageError(
        "there is neither systemd nor launchd here",
        hint="Have what starts programs here run: syncd run PATH --recursive",
    )


def service_for(
    roots: Sequence[Path], *, recursive: bool, poll: bool, environment: Mapping[str, str]
) -> Service:
    """Return the service that does what ``syncd run`` would do if it were called here and now.

    Settings in the environment go with it, and where settings and state stand: a service manager
    knows nothing of what a shell's start-up files say. Raises `UsageError` for a path that no
    unit can carry.
    """
    options = [*(["--recursive"] if recursive else []), *(["--poll"] if poll else [])]
    command = (*_own_command(), "run", *map(str, roots), *options)
    kept = {
        name: value
        for name, value in sorted(environment.items())
        if (name.startswith(ENVIRONMENT_PREFIX) and value)
        or (name in _PASSED_ON and os.path.isabs(value))
    }
    for word in (*command, *kept.values()):
        _refuse_unwritable(word)
    return Service(command, kept)


def _own_command() -> tuple[str, ...]:
    """Return how this very syncd is called, by absolute paths."""
    called = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == NAME else None
    # Not resolved: a link in ~/.local/bin outlives the installation that it leads to.
    for script in (called, str(Path(sys.executable).with_name(NAME))):
        if script is not None and os.access(script, os.X_OK):
            return (os.path.abspath(script),)
    return (sys.executable, "-m", NAME)


def _refuse_unwritable(word: str) -> None:
    with suppress(UnicodeEncodeError):
        word.encode()
        if not re.search(r"[\x00-\x1f\x7f]", word):
            return
    raise UsageError(
        f"a service cannot carry {word}: it has a control character, or is not UTF-8",
        hint="Rename the folder, or name one above it with --recursive.",
    )


# The text


def text_of(kind: Kind, service: Service) -> str:
    """Return the unit, or the property list, that runs a service."""
    return _unit(service) if kind is Kind.SYSTEMD else _property_list(service)


def _unit(service: Service) -> str:
    command = service.command
    if not _PLAIN_EXECUTABLE.fullmatch(command[0]):
        # systemd takes no quotes there, and reads a '$' in it otherwise than in an argument.
        command = ("/usr/bin/env", *command)
    words = [_quoted(word.replace("$", "$$")) for word in command]
    settings = [_quoted(f"{name}={value}") for name, value in service.environment.items()]
    environment = f"Environment={' '.join(settings)}\n" if settings else ""
    return f"""\
# {_MARK}

[Unit]
Description=syncd: message files and databases in two-way sync
# What keeps it from starting passes: a disk that is mounted later, an agent in some terminal.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
{environment}ExecStart={" ".join(words)}
ExecReload=/bin/kill -HUP $MAINPID
# It is ready when each project had its first full look, however long that takes. From then on it
# says every {BEAT_S:g} s that it is at work; status calls it stale after {STALE_S:g} s.
TimeoutStartSec=infinity
WatchdogSec={2 * STALE_S:g}
Restart=on-failure
RestartSec={_RESTART_S}
# A wrong setting stays wrong until somebody mends it.
RestartPreventExitStatus={ExitCode.CONFIG}

# It needs no network, no right beyond the user's, and no code made at run time.
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# Not ProtectSystem, PrivateTmp and the like: in a user's unit they imply a user namespace and
# mounts of its own, in which other groups' files are nobody's, projects in /tmp are out of sight,
# and a folder that is made again stays read-only. Not RestrictSUIDSGID: a file that is written
# anew keeps its mode, and in a group's folders that has the setgid bit.

[Install]
WantedBy=default.target
"""


def _quoted(word: str) -> str:
    """Return a word as systemd reads it back: quotes, escapes, and no specifiers."""
    word = word.replace("%", "%%")
    if _PLAIN_WORD.fullmatch(word.replace("%%", "")):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _property_list(service: Service) -> str:
    log = str(user_home() / "Library" / "Logs" / f"{NAME}.log")
    content: dict[str, object] = {
        "Label": NAME,
        "ProgramArguments": list(service.command),
        "RunAtLoad": True,
        # As Restart=on-failure. launchd cannot leave out an exit code: after a wrong setting it
        # tries again too, every half minute.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": _RESTART_S,
        "ProcessType": "Background",
        "StandardErrorPath": log,
        "StandardOutPath": log,
    }
    if service.environment:
        content["EnvironmentVariables"] = dict(service.environment)
    head, doctype, rest = plistlib.dumps(content, sort_keys=False).decode().split("\n", 2)
    return f"{head}\n{doctype}\n<!-- {_MARK} -->\n{rest}"


# The file


def path_of(kind: Kind) -> Path:
    """Return where the service manager looks for the user's services."""
    if kind is Kind.LAUNCHD:
        return user_home() / "Library" / "LaunchAgents" / f"{NAME}.plist"
    return base_folder(os.environ, "XDG_CONFIG_HOME", ".config") / f"systemd/user/{NAME}.service"


def installed_text(path: Path) -> str | None:
    """Return what is installed; None for nothing.

    Raises `UsageError` where somebody else wrote it, and `ReplicaError` where it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReplicaError(f"{path} cannot be read: {reason_of(error)}") from error
    if _MARK not in text:
        raise UsageError(
            f"{path} was not written by syncd, and is left as it is",
            hint=f"Move it away if nothing needs it: mv {quoted(path)} /tmp/",
        )
    return text


def write(path: Path, text: str) -> None:
    """Put the text in place, whole or not at all; raises `ReplicaError` when that fails."""
    beside = path.with_name(temporary_name())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise ReplicaError(
            f"{path} cannot be written: {reason_of(error)}",
            hint=f"'syncd service show' prints it; put it there with the right to write in "
            f"{path.parent}.",
        ) from error


def remove(path: Path) -> None:
    """Remove the service's file; raises `ReplicaError` when that fails."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ReplicaError(f"{path} cannot be removed: {reason_of(error)}") from error


# The service manager


class Unreachable(SyncdError):
    """The user's service manager cannot be asked from here, for instance in a container."""


def calls_to_start(kind: Kind, path: Path, *, anew: bool) -> list[list[str]]:
    """Return the commands that start what is installed, and have it started from now on.

    With ``anew``, an agent of what was installed before is replaced.
    """
    if kind is Kind.LAUNCHD:
        return [["launchctl", "bootstrap", f"gui/{os.getuid()}", str(path)]]
    return [
        ["systemctl", "--user", "daemon-reload"],
        ["systemctl", "--user", "enable", path.name],
        ["systemctl", "--user", "restart" if anew else "start", path.name],
    ]


def calls_to_stop(kind: Kind, path: Path) -> list[list[str]]:
    """Return the commands that stop what is installed, and have it started no more."""
    if kind is Kind.LAUNCHD:
        return [["launchctl", "bootout", f"gui/{os.getuid()}/{NAME}"]]
    return [["systemctl", "--user", "disable", "--now", path.name]]


def start(kind: Kind, path: Path, *, anew: bool) -> bool:
    """Start the service, now and with each session; return False while it is still starting.

    Raises `Unreachable`, or `ReplicaError` with what the service manager says.
    """
    _reach(kind)
    if kind is Kind.LAUNCHD and _is_loaded():
        if not anew:
            return True
        _call(calls_to_stop(kind, path)[0])
    for call in calls_to_start(kind, path, anew=anew):
        try:
            _call(call)
        except subprocess.TimeoutExpired:
            return False
    return True


def stop(kind: Kind, path: Path) -> None:
    """Stop the service, now and for good. Raises as `start` does."""
    _reach(kind)
    if kind is Kind.LAUNCHD and not _is_loaded():
        return
    for call in calls_to_stop(kind, path):
        try:
            _call(call)
        except subprocess.TimeoutExpired as error:
            raise ReplicaError(
                f"the service does not stop: '{joined(call)}' takes too long",
                hint="Look what it is at: syncd status",
            ) from error


def forget(kind: Kind) -> None:
    """Have the service manager notice that the file is gone."""
    if kind is Kind.SYSTEMD:
        with suppress(SyncdError, subprocess.TimeoutExpired):
            _call(["systemctl", "--user", "daemon-reload"])


def runs_without_a_session() -> bool:
    """Tell whether the user's services stay when the user has logged out (systemd's linger)."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return False
    return Path("/var/lib/systemd/linger", name).exists()


def _reach(kind: Kind) -> None:
    question = (
        ["systemctl", "--user", "show-environment"]
        if kind is Kind.SYSTEMD
        else ["launchctl", "print", f"gui/{os.getuid()}"]
    )
    try:
        _call(question)
    except (ReplicaError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"the user's {kind} cannot be reached from here: {error}") from error


def _is_loaded() -> bool:
    try:
        _call(["launchctl", "print", f"gui/{os.getuid()}/{NAME}"])
    except (ReplicaError, subprocess.TimeoutExpired):
        return False
    return True


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_START_WAIT_S,
            check=False,
        )
    except OSError as error:
        raise ReplicaError(f"{command[0]} cannot be run: {reason_of(error)}") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
        raise ReplicaError(f"'{joined(command)}' failed: {said}")
