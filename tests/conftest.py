"""Settings and fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from syncd.cli import main
from tests.calls import Call, Result
from tests.projects import SENT, Project, assert_in_step, moment
from tests.running import environment

settings.register_profile(
    "syncd",
    deadline=None,
    max_examples=150,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("syncd")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own settings away, and let nothing wait."""
    where = tmp_path / "home"
    surroundings = environment(where, gone_s=0, retry_s=0)
    for name in [name for name in os.environ if name.startswith(("SYNCD_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(where)
    return where


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return an empty project, which the current folder lies in."""
    project = Project(tmp_path / "shop")
    monkeypatch.chdir(project.path)
    return project


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs a command line in this process."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return an empty project."""
    return Project(tmp_path / "p")


@pytest.fixture
def synced(project: Project) -> Project:
    """A project with three messages in the inbox, one archived and one sent, in step."""
    for number in (1, 2, 3):
        project.receive(number)
    project.old.archive(project.receive(4))
    project.old.send(project.other, "Out", "Going out.", id=SENT, created_at=moment(5))
    project.sync()
    assert_in_step(project)
    return project
