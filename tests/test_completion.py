"""Shell completion: what a shell asks while somebody types, and what it is answered."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.cli import main
from tests.running import environment

BASH = shutil.which("bash")
SYNCD = Path(sys.executable).with_name("syncd")
needs_bash = pytest.mark.skipif(BASH is None, reason="needs bash")


Ask = Callable[..., str]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Return a function that asks for completions as a shell's function does."""

    def call(**variables: str) -> str:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([])
        assert 0 == ended.value.code
        out, err = capfd.readouterr()
        assert "" == err
        return out

    return call


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["syncd", "sta"], ["status"]),
        (["syncd", "re"], ["resolve", "restore", "resume", "repair"]),
        (["syncd", "service", ""], ["install", "uninstall", "show"]),
        (["syncd", "config", "s"], ["show"]),
        (["syncd", "message", "se"], ["send", "sessions"]),
        (["syncd", "sync", "--d"], ["--dry-run"]),
        (["syncd", "sync", "--prefer", ""], ["file", "db"]),
        (["syncd", "resolve", "x", "--take", ""], ["file", "db", "current"]),
        (["syncd", "service", "show", "--for", "l"], ["launchd"]),
        (["syncd", "sync", ""], []),  # nothing of ours: the shell completes paths
    ],
    ids=lambda value: " ".join(value),
)
def test_bash_is_told_commands_options_and_choices(
    ask: Ask, words: list[str], expected: list[str]
) -> None:
    asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}

    found = ask(_SYNCD_COMPLETE="complete_bash", **asked).split()

    assert set(expected) <= set(found)
    assert all(name.startswith(words[-1]) for name in found)


def test_zsh_and_fish_are_told_too_and_complete_paths_themselves(ask: Ask) -> None:
    zsh = {"_SYNCD_COMPLETE": "complete_zsh"}
    fish = {"_SYNCD_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}

    assert '"status"' in ask(**zsh, _TYPER_COMPLETE_ARGS="syncd sta")
    assert "_files" == ask(**zsh, _TYPER_COMPLETE_ARGS="syncd sync wor").strip()
    assert ask(**fish, _TYPER_COMPLETE_ARGS="syncd sta").startswith("status\t")
    assert "" == ask(**fish, _TYPER_COMPLETE_ARGS="syncd sync wor").strip()


@needs_bash
def test_a_shell_in_which_it_is_installed_completes_commands_and_paths(tmp_path: Path) -> None:
    home = tmp_path / "home"
    surroundings = environment(home) | {"PS1": "READY ", "TERM": "dumb"}
    surroundings["PATH"] = f"{SYNCD.parent}:{surroundings['PATH']}"
    assert BASH is not None
    install = [BASH, "-c", f"{shlex.quote(str(SYNCD))} --install-completion; exit $?"]
    subprocess.run(install, env=surroundings, capture_output=True, check=True, timeout=20)
    (home / "worlds" / "apex").mkdir(parents=True)
    mine, theirs = pty.openpty()
    shell = subprocess.Popen(
        [BASH, "--norc", "--noprofile", "-i"],
        env=surroundings,
        cwd=home,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        read_until(mine, "READY ")
        os.write(mine, b"source .bashrc\n")
        read_until(mine, "READY ")
        os.write(mine, b"syncd migr\t")
        read_until(mine, "migrate ")
        os.write(mine, b"wor\t")
        read_until(mine, "worlds/")
    finally:
        shell.kill()
        shell.wait()
        os.close(mine)


def read_until(terminal: int, text: str) -> None:
    """Read what a terminal shows until a text has come; 20 s at most."""
    found = ""
    deadline = time.monotonic() + 20
    os.set_blocking(terminal, False)
    while text not in found:
        assert time.monotonic() < deadline, found
        try:
            found += os.read(terminal, 4096).decode()
        except BlockingIOError:
            time.sleep(0.01)
