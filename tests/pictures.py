"""The README's pictures, from real runs of the real commands: ``python -m tests.pictures``.

Each command runs on a terminal of its own in a scratch home, which the pictures call /home/me. What
they print is drawn as SVG; the report's page is photographed by headless Chromium, where that is.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import random
import re
import shlex
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fixtures.make_world import SEED, WORLD
from tests.running import environment

PICTURES = Path(__file__).parent.parent / "fixtures" / "readme"
ID = "msg-20260218-003505-a6ed65ff"
COLUMNS, LINES = 124, 28
_DAYS = 44
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Zac-ln-z]|\x1b[()][0-9A-B]")
_SQLITE = f"""#!{sys.executable}
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    for row in db.execute(sys.argv[2]):
        print(*row, sep="|")
"""


class Terminal:
    """A command on a terminal of its own; what it has printed so far is ``text``."""

    def __init__(self, command: str, cwd: Path, env: dict[str, str]) -> None:
        self.text = ""
        self._mine, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            ["bash", "-c", command], cwd=cwd, env=env, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self.text:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"{text!r} did not come: {self.text}")
            time.sleep(0.05)

    def end(self, how: signal.Signals | None = None) -> str:
        """Wait for the end, after a signal where there is one; return all that was printed."""
        if how is not None:
            self.process.send_signal(how)
        self.process.wait(timeout=60)
        self._reader.join(timeout=10)
        os.close(self._mine)
        return self.text

    def _read(self) -> None:
        try:
            while found := os.read(self._mine, 65536):
                self.text += found.decode()
        except OSError:
            return  # so a terminal ends


class Session:
    """A scratch home with a copy of the world, and a recorder of what is typed and printed."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.home = scratch
        self.env = environment(self.home) | {
            "TERM": "xterm-256color",
            "PATH": f"{scratch / '.bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            self.env.pop(name, None)
        self.cwd = self.home
        self.world = Path(shutil.copytree(WORLD, self.home / "world"))
        if not shutil.which("sqlite3"):
            program = scratch / ".bin" / "sqlite3"
            program.parent.mkdir()
            program.write_text(_SQLITE)
            program.chmod(0o755)
        self._record = _recorder()

    def type(self, command: str, *, shown: str = "") -> None:
        """Run a command and record it with what it prints."""
        self.prompt(shown or command)
        if command.startswith("cd "):
            self.cwd = self.cwd / command.removeprefix("cd ")
            return
        self.printed(Terminal(command, self.cwd, self.env).end())

    def prompt(self, command: str) -> None:
        self._record.print(Text.assemble(("$ ", "bold green"), (command, "bold")))

    def printed(self, text: str) -> None:
        lines: list[str] = []
        for line in text.split("\n"):
            for _ in range(line.count("\x1b[1A")):  # a progress bar wipes itself out
                lines.pop()
            lines.append(line.rpartition("\x1b[2K")[2])
        text = _ESCAPES.sub("", "\n".join(lines).replace("\r", ""))
        text = text.replace(str(self.scratch), "/home/me")
        if text.strip():
            self._record.print(Text.from_ansi(text.rstrip("\n")))

    def quietly(self, command: str) -> None:
        subprocess.run(["bash", "-c", command], cwd=self.cwd, env=self.env, check=True)

    def save(self, name: str) -> None:
        """Save what was recorded as a picture, and begin anew."""
        svg = self._record.export_svg(title="syncd", unique_id=name)
        # No font is fetched: the widths are in the picture, and any monospaced one fits.
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
        PICTURES.mkdir(exist_ok=True)
        (PICTURES / f"{name}.svg").write_text(svg)
        self._record = _recorder()


def _recorder() -> Console:
    return Console(
        record=True,
        width=COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        markup=False,
        highlight=False,
    )


def draw_session(session: Session) -> None:
    """Draw a first session: import, agent, edits on both sides, a conflict."""
    file = f"inbox/{ID}.md"
    session.type("syncd migrate world --recursive")
    session.prompt("syncd run world --recursive &")
    agent = Terminal("exec syncd run world --recursive", session.cwd, session.env)
    agent.wait_for("ready: watching")
    session.printed("ready: watching 4 projects")
    session.type("cd world/apex/.claude-mpm")
    session.type(f"sed -i 's/^priority: .*/priority: urgent/' {file}")
    time.sleep(2)
    session.type(f"sqlite3 messaging.db \"SELECT priority FROM messages WHERE id = '{ID}'\"")
    session.type(
        f"sqlite3 messaging.db \"UPDATE messages SET body = 'Ship on Friday.' WHERE id = '{ID}'\""
    )
    time.sleep(2)
    session.type(f"tail -n 3 {file}")
    session.type(f"syncd log {ID}")
    agent.end(signal.SIGTERM)
    session.quietly(f"sed -i 's/Friday/Monday/' {file}")
    session.quietly(
        f"sqlite3 messaging.db \"UPDATE messages SET body = 'Wait.' WHERE id = '{ID}'\""
    )
    session.prompt("# both sides change the same field, while no agent runs")
    session.type("syncd sync")
    session.type(f"syncd resolve {ID} --take db")
    session.type("syncd status")
    session.save("session")


def draw_watch(session: Session) -> None:
    """Draw the last frame of a watch over a world in which something is going on."""
    session.cwd = session.home
    for database in session.world.rglob("messaging.db"):
        _spread(database)
    agent = Terminal("exec syncd run world --recursive", session.cwd, session.env)
    agent.wait_for("ready: watching")
    watch = Terminal("exec syncd status world --recursive --watch", session.cwd, session.env)
    watch.wait_for("in sync")
    for number, project in enumerate(("apex", "lumen", "apex", "deep/nested/orchid", "lumen")):
        database = session.world / project / ".claude-mpm" / "messaging.db"
        session.quietly(
            f"sqlite3 {shlex.quote(str(database))} "
            f"\"UPDATE messages SET body = 'Word {number}.' WHERE rowid <= {number + 2}\""
        )
        time.sleep(1.5)
    inbox = session.world / "harbor" / ".claude-mpm" / "inbox"
    inbox.rename(inbox.with_name("inbox-elsewhere"))
    watch.wait_for("halted, nothing is applied")
    time.sleep(1)
    text = watch.end(signal.SIGINT)
    inbox.with_name("inbox-elsewhere").rename(inbox)
    agent.end(signal.SIGTERM)
    session.prompt("syncd status world --recursive --watch")
    session.printed(text.rpartition("\x1b[?1049l")[2])
    session.save("watch")


def draw_report(session: Session, chromium: str) -> None:
    """Photograph the report's page, light and dark.

    A migration takes weeks, so each day's edits are moved back to where they belong: people leave
    the files, programs come to the rows, and one project is done with files early.
    """
    session.quietly("syncd sync world --recursive >/dev/null || true")
    chance = random.Random(SEED)
    databases = sorted(session.world.rglob("messaging.db"))
    for database in databases:
        _date_back(database, timedelta(days=_DAYS + 1))
    for ago in range(_DAYS, 0, -1):
        for database in databases:
            is_done_with_files = "orchid" in str(database) and ago < _DAYS - 9
            if not is_done_with_files and chance.random() < ago / _DAYS:
                file = chance.choice(sorted((database.parent / "inbox").glob("msg-*.md")))
                file.write_text(f"{file.read_text()}\n\nAs of {ago} days ago.\n")
            if chance.random() > 0.7 * ago / _DAYS:
                with closing(sqlite3.connect(database)) as opened, opened:
                    opened.execute(
                        "UPDATE messages SET metadata = json_object('days', ?) "
                        "WHERE status = 'sent' AND rowid % 8 = ?",
                        (ago, ago % 8),
                    )
        session.quietly("syncd sync world --recursive >/dev/null || true")
        for database in databases:
            _date_back(database, timedelta(days=ago - 0.9))
    page = session.scratch / "report.html"
    session.quietly(
        f"syncd report world --recursive --days 45 --html {shlex.quote(str(page))} >/dev/null"
        " || true"
    )
    page.write_text(page.read_text().replace(str(session.scratch), "/home/me"))
    for name, dark in (("report", False), ("report-dark", True)):
        target = PICTURES / f"{name}.png"
        options = [
            "--headless=new",
            "--no-sandbox",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            "--window-size=1000,790",
            f"--user-data-dir={session.scratch / name}",
            f"--screenshot={target}",
            *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []),
        ]
        subprocess.run(
            [chromium, *options, page.as_uri()],
            env=os.environ | {"HOME": str(session.scratch)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )


def _spread(database: Path) -> None:
    """Move the entries of a journal back over some minutes, those of the first sync further."""
    now = datetime.now(UTC)
    with closing(sqlite3.connect(database)) as opened, opened:
        found = opened.execute("SELECT seq FROM syncd_journal ORDER BY seq").fetchall()
        for place, (seq,) in enumerate(found):
            at = now - timedelta(minutes=8) * (1 - (place + 0.5) / len(found))
            opened.execute("UPDATE syncd_journal SET at = ? WHERE seq = ?", (at.isoformat(), seq))


def _date_back(database: Path, by: timedelta) -> None:
    """Move the entries of a journal that are of the last hour back in time."""
    now = datetime.now(UTC)
    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute(
            "UPDATE syncd_journal SET at = ? WHERE at > ?",
            ((now - by).isoformat(), (now - timedelta(hours=1)).isoformat()),
        )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="") as scratch:
        session = Session(Path(scratch).resolve())
        draw_session(session)
        draw_watch(session)
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if chromium is None:
            print("there is no Chromium: the report's pictures stay as they are", file=sys.stderr)
        else:
            draw_report(session, chromium)


if __name__ == "__main__":
    main()
