"""Calls of the command line and what they end with."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.running import environment


class Result(NamedTuple):
    """What a call ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


Call = Callable[..., Result]


def on_a_terminal(home: Path, *arguments: object) -> str:
    """Return what a command writes to a terminal, whose line ends are CR LF."""
    mine, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "syncd", *map(str, arguments)]
        subprocess.run(command, env=environment(home), stdout=theirs, timeout=30, check=True)
        return os.read(mine, 65536).decode()
    finally:
        os.close(mine)
        os.close(theirs)
