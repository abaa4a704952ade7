"""Settings: defaults, the user's file, the project's file, environment, flags; later ones win.

Files are TOML: ``~/.config/syncd/config.toml`` for the user, ``.claude-mpm/syncd.toml`` for a
project. Environment variables are the setting's name in capitals after ``SYNCD_``. An unknown key
is an error that names the nearest known one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from syncd.core.sides import Side
from syncd.errors import ClosedFolder, ConfigError, reason_of
from syncd.names import CLAUDE_DIR, user_home

PROJECT_FILE = Path(CLAUDE_DIR) / "syncd.toml"
ENVIRONMENT_PREFIX = "SYNCD_"
_MOST_BYTES = 64 * 1024
_LARGEST = 1e9
"""Larger numbers of seconds and days overflow the system's clocks."""


_WHAT = {
    "prefer": "the side that wins a conflict: file or db",
    "max_bytes": "largest file that is read, in bytes",
    "gone_s": "seconds between two looks before a vanished file counts as gone",
    "retry_s": "seconds that a file which does not parse is given to settle",
    "quiet_s": "seconds without a change before a file that is being written is looked at",
    "full_compare_s": "seconds between full compares of a running agent",
    "poll_s": "seconds between looks where file events do not work, at least twice what these take",
    "discover_s": "seconds between searches for new projects, at least 400 times what one takes",
    "idle_close_s": "seconds after which an unused connection is closed",
    "busy_wait_s": "seconds that a command waits for another pass to finish",
    "history_days": "days that the history is kept",
    "journal_days": "days that the journal is kept",
}


_LEAST = {"full_compare_s": 0.1, "poll_s": 0.1, "discover_s": 0.1}
"""What an agent does without end leaves it some rest in between."""


class Config(NamedTuple):
    """All settings of one project. Times are in seconds, sizes in bytes."""

    prefer: Side = Side.FILE
    max_bytes: int = 16 * 1024 * 1024
    gone_s: float = 2.0
    retry_s: float = 1.0
    quiet_s: float = 0.05
    full_compare_s: float = 600.0
    poll_s: float = 2.0
    discover_s: float = 15.0
    idle_close_s: float = 5.0
    busy_wait_s: float = 10.0
    history_days: float = 30.0
    journal_days: float = 365.0


class Origin(NamedTuple):
    """A setting's value and where it came from."""

    name: str
    value: Any
    source: str
    what: str


def user_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the user's own settings."""
    return base_folder(environment, "XDG_CONFIG_HOME", ".config") / "syncd" / "config.toml"


def state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the user's state: agents' signs of life, and what may be forgotten."""
    return base_folder(environment, "XDG_STATE_HOME", ".local/state") / "syncd"


def base_folder(environment: Mapping[str, str], name: str, usual: str) -> Path:
    """Return a base folder of the XDG specification, which has relative ones ignored."""
    base = environment.get(name, "")
    return Path(base) if os.path.isabs(base) else user_home() / usual


def runtime_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder for what ends with the user's sessions; None where there is none.

    It stands in memory, so that writing to it is no work for a disk (XDG Base Directory
    Specification). A job of cron is not told of it: systemd's is looked for where it always stands.
    """
    base = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    try:
        is_ours = base.is_absolute() and base.stat().st_uid == os.geteuid()
    except OSError:
        return None
    return base / "syncd" if is_ours else None


def load(
    project: Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """Return the settings for a project; raises `ConfigError` for a wrong key or value."""
    return load_with_origins(project, flags=flags, environment=environment)[0]


def load_with_origins(
    project: Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> tuple[Config, list[Origin]]:
    """Return the settings, and for each its value and where that came from."""
    config = Config()
    sources = dict.fromkeys(Config._fields, "default")
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    files = [user_file(environment), *([project / PROJECT_FILE] if project else [])]
    layers: list[tuple[str, Mapping[str, Any]]] = [
        *((str(path), _read_toml(path)) for path in files),
        ("environment", _from_environment(environment)),
        ("flag", given),
    ]
    for source, values in layers:
        for name, value in values.items():
            config = config._replace(**{name: _checked(name, value, source)})
            sources[name] = source
    origins = [
        Origin(name, value, sources[name], _WHAT[name])
        for name, value in zip(Config._fields, config, strict=True)
    ]
    return config, origins


_PLAIN = "Put a plain file of settings there, or none."


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        # A project's file may be anybody's: no FIFO blocks the agent, no device fills its memory.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ConfigError(f"{path} cannot be read: it is no regular file", hint=_PLAIN)
            data = os.read(fd, _MOST_BYTES + 1)
        finally:
            os.close(fd)
        if len(data) > _MOST_BYTES:
            raise ConfigError(
                f"{path} cannot be read: it has more than {_MOST_BYTES:,} bytes", hint=_PLAIN
            )
        text = data.decode()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        if isinstance(error, PermissionError) and not os.access(path.parent, os.X_OK):
            raise ClosedFolder(path.parent) from error
        may = "Give syncd's user the right to read it and its folder."
        raise ConfigError(f"{path} cannot be read: {reason_of(error)}", hint=may) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: it is not UTF-8", hint=_PLAIN) from error
    import tomllib  # most have no such file, and every command would pay for it

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }


def _checked(name: str, value: Any, source: str) -> Any:
    if name not in _WHAT:
        import difflib

        near = difflib.get_close_matches(name, _WHAT, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"unknown setting {name!r} ({source})", hint=f"The nearest known one is {near!r}."
        )
    default = getattr(Config(), name)
    least = _LEAST.get(name, 0)
    try:
        if isinstance(default, Side):
            return Side(value)
        number = type(default)(value)
        if isinstance(value, bool) or not least <= number < _LARGEST:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        wanted = "'file' or 'db'" if isinstance(default, Side) else f"a number from {least} to 1e9"
        raise ConfigError(
            f"the setting {name!r} is {value!r} ({source})", hint=f"It takes {wanted}."
        ) from None
    return number
