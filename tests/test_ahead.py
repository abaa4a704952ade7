"""Files read ahead in a second process: the same as read here, or left to be read here."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest

from syncd import ahead
from syncd.ahead import Ahead
from syncd.errors import SyncdError
from syncd.files import MAX_BYTES, FileReplica
from syncd.found import arrival_of, as_found
from tests.projects import Project, assert_in_step, assert_quiet

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture(autouse=True, params=["copied", "started"])
def second_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the second process comes to be: as a copy of a process that has no other threads."""
    monkeypatch.setattr("threading.active_count", lambda: 1 if request.param == "copied" else 2)
    return str(request.param)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A project of all odd files, last written long ago."""
    inbox = tmp_path / "odd" / ".claude-mpm" / "inbox"
    inbox.mkdir(parents=True)
    for path in sorted((FIXTURES / "quirks").glob("*.md")):
        shutil.copy(path, inbox)
        os.utime(inbox / path.name, (1_700_000_000, 1_700_000_000.5))
    return tmp_path / "odd"


def test_what_is_read_ahead_is_what_is_read_here(odd: Path) -> None:
    compared = 0
    with FileReplica(odd) as files:
        paths = sorted(files.scan().stamps)
        reading = Ahead(odd, paths, MAX_BYTES)
        for path in paths:
            taken = reading.take(path)
            try:
                here = arrival_of(as_found(path, files.read(path), str(odd)))
            except SyncdError:
                assert taken is None, path
                continue
            assert here == taken
            compared += 1
        assert None is reading.take(paths[0]), "a file is taken once"
        assert None is reading.take("inbox/never-told.md")
        reading.close()
    assert compared > 30


def test_when_the_second_process_dies_the_rest_is_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "FEWEST", 10)
    monkeypatch.setattr(ahead, "_OWN_FIRST", 5)
    monkeypatch.setattr(ahead, "_AT_ONCE", 1)
    take = Ahead.take

    def take_and_kill(self: Ahead, path: str) -> object:
        if path.endswith("0020-00000000.md"):
            os.kill(self._pid, signal.SIGKILL)
        return take(self, path)

    monkeypatch.setattr(Ahead, "take", take_and_kill)
    project = Project(tmp_path / "p")
    for number in range(40):
        project.receive(number)
    assert 40 == project.sync(one_way=True).counts.rows_inserted
    assert_in_step(project)


def test_an_import_with_a_second_process_ends_as_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "FEWEST", 10)
    monkeypatch.setattr(ahead, "_OWN_FIRST", 5)
    project = Project(tmp_path / "p")
    for number in range(60):
        project.receive(number)
    project.write("inbox/broken.md", "no message")
    project.write(
        "inbox/again.md", project.file("inbox/msg-20260220-000007-00000000.md").read_bytes()
    )
    report = project.sync()
    assert (60, 2) == (report.counts.rows_inserted, len(report.quarantined))
    assert_quiet(project)
    project.file("inbox/broken.md").unlink()
    project.file("inbox/again.md").unlink()
    assert_in_step(project)


def test_rows_that_come_while_files_are_imported_for_the_first_time_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "FEWEST", 10)
    monkeypatch.setattr(ahead, "_OWN_FIRST", 5)
    project = Project(tmp_path / "p")
    for number in range(40):
        project.receive(number)
    key = "msg-20260220-000030-00000000"
    take = Ahead.take

    def take_beside_a_host(self: Ahead, path: str) -> object:
        if path.endswith("0010-00000000.md"):
            columns = "id, from_project, to_project, subject, body, created_at"
            values = f"'{key}', '/q', '/p', 'S', 'By SQL.', '2026-02-20T00:00:30+00:00'"
            project.sql(f"INSERT INTO messages ({columns}) VALUES ({values})")
        return take(self, path)

    monkeypatch.setattr(Ahead, "take", take_beside_a_host)
    report = project.sync()
    assert 39 == report.counts.rows_inserted
    history = project.sql(f"SELECT body FROM syncd_history WHERE id = '{key}'")
    assert "By SQL." in str(history), "the words of the side that lost are kept"
    assert_in_step(project)


def test_without_a_second_process_all_is_read_here(
    second_process: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "too many processes")

    monkeypatch.setattr(ahead, "FEWEST", 10)
    if second_process == "copied":
        monkeypatch.setattr("os.fork", refuse)
    else:
        monkeypatch.setattr("sys.executable", str(tmp_path / "no such program"))
    project = Project(tmp_path / "p")
    for number in range(20):
        project.receive(number)
    assert 20 == project.sync().counts.rows_inserted
