"""The worked example for programmers runs, and the README shows it as it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.clients import OldClient
from tests.running import environment, syncd

EXAMPLE = Path(__file__).parent / "example_messaging.py"
README = Path(__file__).parent.parent / "README.md"


def test_the_readme_shows_the_example_as_it_is() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)

    assert EXAMPLE.read_text() in blocks


def test_the_example_runs_and_old_clients_see_the_conversation(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, EXAMPLE],
        cwd=tmp_path,
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (
        0,
        "pm asks: Totals differ by a cent [high]\n"
        "Re: Totals differ by a cent: Per line, half to even.\n",
        "",
    ) == (done.returncode, done.stdout, done.stderr)
    assert 0 == syncd(home, "sync", tmp_path / "shop", tmp_path / "billing").returncode
    assert ["Re: Totals differ by a cent"] == [
        message.subject for message in OldClient(tmp_path / "shop").list()
    ]
    assert 1 == len(list((tmp_path / "billing/.claude-mpm/inbox/.archive").glob("*.md")))


def test_the_pictures_that_the_readme_shows_are_there_and_fetch_nothing() -> None:
    shown = re.findall(r"(?:\]\(|src(?:set)?=\")(fixtures/[^)\"]+)", README.read_text())

    assert 5 == len(shown)
    for name in shown:
        picture = (README.parent / name).read_bytes()
        if name.endswith(".svg"):
            assert b"<svg" in picture[:500]
            assert not re.search(rb"url\(['\"]?http|href=['\"]http|<script", picture)
        else:
            assert picture.startswith(b"\x89PNG")
