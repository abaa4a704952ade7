"""Settings: each has its row in the README, and ``syncd config show`` tells where it came from."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from syncd import config, service
from syncd.config import Config, load_with_origins
from tests.running import syncd

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = tmp_path / "shop"
    (made / ".claude-mpm").mkdir(parents=True)
    return made


def shown(home: Path, *arguments: object, **settings: object) -> dict[str, tuple[object, str]]:
    result = syncd(home, "config", "show", *arguments, "--json", **settings)
    assert (0, "") == (result.returncode, result.stderr)
    return {
        entry["name"]: (entry["value"], entry["origin"])
        for entry in json.loads(result.stdout)["settings"]
    }


def test_the_readme_has_every_setting_with_its_default_and_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (.+) \|$", README.read_text(), re.MULTILINE)

    _, origins = load_with_origins(environment={"XDG_CONFIG_HOME": "/nonexistent"})
    assert set(Config._fields) == {origin.name for origin in origins}
    assert [(origin.name, json.dumps(origin.value), origin.what) for origin in origins] == rows


def test_each_layer_wins_over_the_one_before(tmp_path: Path, project: Path) -> None:
    home = tmp_path / "home"
    user_file = home / "config/syncd/config.toml"
    user_file.parent.mkdir(parents=True)
    project_file = project / ".claude-mpm/syncd.toml"

    assert ("file", "default") == shown(home, project)["prefer"]
    user_file.write_text('prefer = "db"\n')
    assert ("db", str(user_file)) == shown(home, project)["prefer"]
    project_file.write_text('prefer = "file"\n')
    assert ("file", str(project_file)) == shown(home, project)["prefer"]
    assert ("db", "environment") == shown(home, project, prefer="db")["prefer"]
    assert ("file", "flag") == shown(home, project, "--prefer", "file", prefer="db")["prefer"]


def test_the_text_names_the_file_the_variable_and_the_flag(tmp_path: Path, project: Path) -> None:
    project_file = project / ".claude-mpm/syncd.toml"
    project_file.write_text("max_bytes = 2000\n")

    result = syncd(tmp_path / "home", "config", "show", project, "--prefer", "db", poll_s=5)

    assert (0, "") == (result.returncode, result.stderr)
    assert f"max_bytes = 2000  ({project_file})\n" in result.stdout
    assert "poll_s = 5.0  (environment: SYNCD_POLL_S)\n" in result.stdout
    assert 'prefer = "db"  (flag: --prefer)\n' in result.stdout
    assert "gone_s = 2.0  (default)\n" in result.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prefer = ", "is not TOML: Invalid value (at "),
        (b"\xff = 1", "cannot be read: it is not UTF-8"),
        ("gone = 1", "unknown setting 'gone'"),
        ("gone_s = -1", "It takes a number from 0 to 1e9."),
        ("max_bytes = inf", "It takes a number from 0 to 1e9."),
        ("history_days = inf", "It takes a number from 0 to 1e9."),
        ("poll_s = 0", "It takes a number from 0.1 to 1e9."),
        ("full_compare_s = 0.05", "It takes a number from 0.1 to 1e9."),
        ("a = " + "[" * 20_000, "is not TOML: "),
        ("#" * 70_000, "cannot be read: it has more than 65,536 bytes"),
        ("gone_s = true", "It takes a number from 0 to 1e9."),
    ],
)
def test_a_wrong_file_gets_a_sentence_with_its_path(
    tmp_path: Path, project: Path, text: str | bytes, words: str
) -> None:
    project_file = project / ".claude-mpm/syncd.toml"
    project_file.write_bytes(text if isinstance(text, bytes) else text.encode())

    result = syncd(tmp_path / "home", "config", "show", project)

    assert (78, "") == (result.returncode, result.stdout)
    assert str(project_file) in result.stderr
    assert words in result.stderr


def test_base_folders_that_are_relative_are_ignored(tmp_path: Path) -> None:
    environment = {"XDG_STATE_HOME": "rel", "XDG_CONFIG_HOME": "./rel", "SYNCD_POLL_S": "3"}
    assert Path.home() / ".local/state/syncd" == config.state_folder(environment)
    assert Path.home() / ".config/syncd/config.toml" == config.user_file(environment)
    kept = service.service_for([tmp_path], recursive=False, poll=False, environment=environment)
    assert {"SYNCD_POLL_S": "3"} == kept.environment


@pytest.mark.parametrize("kind", ["folder", "FIFO", "link to a device"])
def test_g14_settings_that_are_no_regular_file_get_a_sentence_and_block_nothing(
    tmp_path: Path, project: Path, kind: str
) -> None:
    path = project / ".claude-mpm/syncd.toml"
    match kind:
        case "folder":
            path.mkdir()
        case "FIFO":
            os.mkfifo(path)
        case _:
            path.symlink_to("/dev/zero")

    result = syncd(tmp_path / "home", "config", "show", project)

    assert (78, "") == (result.returncode, result.stdout)
    assert "syncd.toml cannot be read: it is no regular file\n" in result.stderr
