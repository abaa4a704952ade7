"""Files and rows read ahead in a second process: the same as read here, or left to be read here."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

import syncd
from syncd.cycle import ahead, intake, second_process
from syncd.cycle.ahead import by_two_processes
from syncd.cycle.departure import departures_of
from syncd.cycle.divided import Divided
from syncd.cycle.found import arrival_of, as_found
from syncd.cycle.second_process import SecondProcess
from syncd.database.record import RecordValues
from syncd.database.records import Versions
from syncd.database.store import Store
from syncd.errors import BusyError, SyncdError
from syncd.files.folders import MAX_BYTES
from syncd.files.replica import FileReplica
from syncd.names import DATABASE
from tests.projects import Project, assert_in_step, assert_quiet
from tests.running import wait_for

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture(autouse=True, params=["copied", "started"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the second process comes to be: as a copy of a process that has no other threads."""
    monkeypatch.setattr("threading.active_count", lambda: 1 if request.param == "copied" else 2)
    return str(request.param)


def have_one_for_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a second process for as few as ten files or rows, which does all of them."""
    monkeypatch.setattr(ahead, "FEWEST", 10)
    monkeypatch.setattr(ahead, "FEWEST_IF_WAITING", 10)
    leave_all_to_it(monkeypatch)


def leave_all_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecondProcess, "draw", lambda _: None)


def not_here(keys: Sequence[str]) -> NoReturn:
    raise AssertionError(f"{keys} were left to the second process")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A project of all odd files, last written long ago."""
    inbox = tmp_path / "odd" / ".claude-mpm" / "inbox"
    inbox.mkdir(parents=True)
    for path in sorted((FIXTURES / "quirks").glob("*.md")):
        shutil.copy(path, inbox)
        os.utime(inbox / path.name, (1_700_000_000, 1_700_000_000.5))
    return tmp_path / "odd"


def test_what_is_read_ahead_is_what_is_read_as_usual(
    odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_all_to_it(monkeypatch)
    compared = 0
    with FileReplica(odd) as files:
        paths = sorted(files.scan().stamps)
        reading = by_two_processes(("files", str(odd), MAX_BYTES), paths, not_here)
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


def test_two_processes_divide_the_files_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_AT_ONCE", 3)
    project = Project(tmp_path / "p")
    paths = [f"inbox/{project.receive(number)}.md" for number in range(100)]
    for path in paths:
        os.utime(project.file(path), (1_700_000_000, 1_700_000_000.5))

    def read() -> tuple[bool, bool]:
        here: list[str] = []

        def read_here(paths: Sequence[str]) -> list[tuple[str, None]]:
            if not here:
                wait_for(reading.process.has_answered)
            here.extend(paths)
            return [(path, None) for path in paths]

        reading = by_two_processes(("files", str(project.path), MAX_BYTES), paths, read_here)
        taken = [reading.take(path) for path in paths]
        assert reading.process.draw() is None, "all lots are drawn"
        reading.close()
        there = [path for path, found in zip(paths, taken, strict=True) if found is not None]
        assert sorted(paths) == sorted(here + there), "and none was read twice"
        return bool(here), bool(there)

    tries = [read()]
    while not (any(here for here, _ in tries) and any(there for _, there in tries)):
        tries.append(read())  # one of the two may have had all the time


def test_more_files_than_lots_are_divided_too(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_all_to_it(monkeypatch)
    monkeypatch.setattr(ahead, "_AT_ONCE", 1)
    monkeypatch.setattr(second_process, "MOST_LOTS", 4)
    paths = [f"inbox/{number}.md" for number in range(9)]
    reading = by_two_processes(("files", str(odd), MAX_BYTES), paths, not_here)
    assert [None] * 9 == [reading.take(path) for path in paths]
    assert reading._portions == [paths[:3], paths[3:6], paths[6:]]
    reading.close()


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP])
def test_when_the_second_process_dies_or_is_stopped_the_rest_is_read_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal_number: int
) -> None:
    have_one_for_ten(monkeypatch)
    monkeypatch.setattr(second_process, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(ahead, "_AT_ONCE", 1)
    take = Divided.take

    def take_and_signal(self: Divided, path: str) -> object:
        if path.endswith("0020-00000000.md"):
            os.kill(self.process.pid, signal_number)
        return take(self, path)

    monkeypatch.setattr(Divided, "take", take_and_signal)
    project = Project(tmp_path / "p")
    for number in range(40):
        project.receive(number, body="x" * 30_000)  # more than a pipe holds
    assert 40 == project.sync(one_way=True).counts.rows_inserted
    assert_in_step(project)


def test_beside_a_slow_second_process_no_more_is_read_than_memory_is_for() -> None:
    class Slow:
        """A process that has drawn the first lot, and nothing is heard of it."""

        lots = iter(range(1, 40))

        def has_answered(self) -> bool:
            return False

        def draw(self) -> int | None:
            return next(self.lots, None)

        def answer(self) -> NoReturn:
            raise TimeoutError

    here: list[str] = []

    def read_here(paths: Sequence[str]) -> list[tuple[str, None]]:
        here.extend(paths)
        return [(path, None) for path in paths]

    paths = [f"inbox/{number}.md" for number in range(40)]
    slow: Any = Slow()
    reading = Divided(slow, [[path] for path in paths], read_here, most_ready=5)
    assert reading.take(paths[0]) is None
    assert paths[1:6] == here


def test_a_copy_ends_with_a_first_process_that_has_no_standard_streams() -> None:
    script = (
        "import os, time; from syncd.cycle.second_process import SecondProcess, send\n"
        "def do(draw, out):\n"
        "    while draw() is not None: send(out, 'x' * 100_000)\n"
        "os.close(0)\n"
        "process = SecondProcess.copied(do, 2000)\n"
        "print(process.pid, flush=True); time.sleep(0.2); os._exit(0)\n"
    )
    called = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    wait_for(lambda: is_dead(int(called.stdout)))


def test_an_import_with_a_second_process_ends_as_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_one_for_ten(monkeypatch)
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


def test_files_of_known_messages_are_not_read_ahead_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up: list[int] = []
    have_one_for_ten(monkeypatch)
    give_up = Divided.give_up

    def give_up_and_note(self: Divided) -> None:
        given_up.append(self.process.pid)
        give_up(self)

    def age(key: str) -> None:
        os.utime(project.file(f"inbox/{key}.md"), (1_700_000_000, 1_700_000_000.5))

    monkeypatch.setattr(Divided, "give_up", give_up_and_note)
    monkeypatch.setattr(intake, "_PATHS_AT_ONCE", 10)
    project = Project(tmp_path / "p")
    keys = [project.receive(number) for number in range(40)]
    for key in keys:
        age(key)
    project.sync()
    assert [] == given_up
    for key in keys:
        project.edit(f"inbox/{key}.md", "Body", "Longer text")
        age(key)
    age(project.receive(40))
    report = project.sync()
    assert (1, 40) == (report.counts.rows_inserted, report.counts.rows_updated)
    assert 1 == len(set(given_up))
    assert is_dead(given_up[0])
    assert_in_step(project)
    assert_quiet(project)


def test_rows_that_come_while_files_are_imported_for_the_first_time_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_one_for_ten(monkeypatch)
    project = Project(tmp_path / "p")
    for number in range(40):
        project.receive(number)
    key = "msg-20260220-000030-00000000"
    take = Divided.take

    def take_beside_a_host(self: Divided, path: str) -> object:
        if path.endswith("0010-00000000.md"):
            columns = "id, from_project, to_project, subject, body, created_at"
            values = f"'{key}', '/q', '/p', 'S', 'By SQL.', '2026-02-20T00:00:30+00:00'"
            project.sql(f"INSERT INTO messages ({columns}) VALUES ({values})")
        return take(self, path)

    monkeypatch.setattr(Divided, "take", take_beside_a_host)
    report = project.sync()
    assert 39 == report.counts.rows_inserted
    history = project.sql(f"SELECT body FROM syncd_history WHERE id = '{key}'")
    assert "By SQL." in str(history), "the words of the side that lost are kept"
    assert_in_step(project)


def test_without_a_second_process_all_is_read_here(
    made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "too many processes")

    have_one_for_ten(monkeypatch)
    if made == "copied":
        monkeypatch.setattr("os.fork", refuse)
    else:
        monkeypatch.setattr("sys.executable", str(tmp_path / "no such program"))
    project = Project(tmp_path / "p")
    for number in range(20):
        project.receive(number)
    assert 20 == project.sync().counts.rows_inserted


def test_a_second_process_that_the_system_reaped_can_be_ended(odd: Path) -> None:
    former = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        paths = ["inbox/never.md"]
        reading = by_two_processes(
            ("files", str(odd), MAX_BYTES), paths, lambda _: [(paths[0], None)]
        )
        assert reading.take("inbox/never.md") is None
        time.sleep(0.1)
        reading.close()
        by_two_processes(
            ("files", str(odd), MAX_BYTES), ["inbox/never.md"] * 100_000, not_here
        ).close()
    finally:
        signal.signal(signal.SIGCHLD, former)


_FIRST = """
import sys, threading, time
from syncd.cycle.ahead import by_two_processes

if sys.argv[2] == "started":
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
paths = [f"inbox/{number}.md" for number in range(100_000)]
ahead = by_two_processes(("files", sys.argv[1], 1000), paths, lambda paths: [])
print(ahead.process.pid, flush=True)
time.sleep(60)
"""


def test_the_second_process_ends_with_the_first(tmp_path: Path, made: str) -> None:
    def is_over() -> bool:
        with suppress(OSError):
            return " Z " in Path(f"/proc/{second}/stat").read_text()
        with suppress(ProcessLookupError):
            os.kill(second, 0)
            return False
        return True

    (tmp_path / ".claude-mpm" / "inbox").mkdir(parents=True)
    command = [sys.executable, "-c", _FIRST, str(tmp_path), made]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        try:
            assert first.stdout is not None
            second = int(first.stdout.readline())
            time.sleep(0.2)  # by then the pipe is full, and the second process waits
            assert not is_over()
        finally:
            first.kill()
        wait_for(is_over)


# Rows


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a second process for ten rows, and be it busy with each of them."""
    have_one_for_ten(monkeypatch)
    monkeypatch.setattr(ahead, "_AT_ONCE", 1)


def sent(project: Project, number: int) -> list[str]:
    """Send so many messages through SQL; return their ids."""
    return [
        project.new.send(project.other, f"Subject {n}", f"Body {n}.", id=f"row-{n:02}")
        for n in range(number)
    ]


def test_what_is_rendered_ahead_is_what_is_rendered_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_all_to_it(monkeypatch)
    project = Project(tmp_path / "p")
    project.sync()
    ids = sent(project, 12)
    project.new.update(ids[0], metadata='{"a": [1, {"b": null}], "c": "- # not a comment"}')
    project.new.update(ids[1], attachments='["a.txt", "`odd`"]', subject="")
    project.new.update(ids[2], body="x" * 40_000)
    project.new.update(ids[3], created_at="soon")
    project.new.update(ids[4], body=b"not text")
    project.new.update(ids[5], subject="two\nlines", status="archived")
    project.new.update(ids[6], id="../../etc/passwd")
    ids[6] = "../../etc/passwd"
    with Store.open(project.base / DATABASE) as store:
        rendering = by_two_processes(
            ("rows", str(project.path), store.identity), [*ids, "never sent"], not_here
        )
        taken = {key: rendering.take(key) for key in ids}
        assert None is rendering.take("never sent")
        assert None is rendering.take(ids[-1]), "a row is taken once"
        rendering.close()
        left = {ids[2], ids[3], ids[4]}
        assert left == {key for key, found in taken.items() if found is None}
        for key, row in store.rows.of(set(ids) - left).items():
            assert departures_of([row], str(project.path)) == [taken[key]]
        other = by_two_processes(("rows", str(project.path), (0, 0)), ids, not_here)
        assert [None] * 12 == [other.take(key) for key in ids], "that is another database"
        other.close()


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("dies", [False, True])
def test_rows_become_files_with_a_second_process_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    take = Divided.take
    told = 0

    def take_and_kill(self: Divided, key: str) -> object:
        nonlocal told
        if dies and key == "row-20":
            os.kill(self.process.pid, signal.SIGKILL)
        found = take(self, key)
        told += found is not None
        return found

    project = Project(tmp_path / "p")
    project.receive()
    project.sync()
    ids = sent(project, 40)
    project.new.update(ids[30], created_at="soon")
    project.write(f"outbox/{ids[31]}.md", "no message")
    project.old.send(project.other, "Subject 32", "Written as a file too.", id=ids[32])
    monkeypatch.setattr(Divided, "take", take_and_kill)
    report = project.scoped()
    assert (None, 37) == (report.error, report.counts.files_created)
    assert dies or told > 20
    assert [f"messaging.db#{ids[30]}"] == [
        entry.path for entry in report.quarantined if entry.path.startswith("messaging.db")
    ]
    steps = project.sql("SELECT side, step, why, agent FROM syncd_journal WHERE id = ?", ids[20])
    assert [("file", "create", "new row", "pm")] == steps
    assert [] == project.sql("SELECT * FROM syncd_versions WHERE intent")
    project.sync()
    project.new.update(ids[30], created_at="2026-02-20T00:00:30+00:00")
    project.file(f"outbox/{ids[31]}.md").unlink()
    project.sync()
    project.sync()
    assert_in_step(project)
    assert "Written as a file too." in str(project.sql("SELECT body FROM messages"))
    assert_quiet(project)


@pytest.mark.usefixtures("few")
def test_a_row_that_changes_while_its_file_is_written_is_heard_in_the_next_cycle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Divided.take
    project = Project(tmp_path / "p")
    project.sync()
    sent(project, 40)

    def take_beside_a_host(self: Divided, key: str) -> object:
        told = take(self, key)
        if key == "row-10":
            project.new.update("row-10", body="Changed by SQL.")
            project.new.delete("row-11")
        return told

    monkeypatch.setattr(Divided, "take", take_beside_a_host)
    assert None is project.scoped().error
    assert "Body 10." in project.text("outbox/row-10.md")
    project.heed()
    assert "Changed by SQL." in project.text("outbox/row-10.md")
    assert not project.file("outbox/row-11.md").exists()
    assert_in_step(project)
    assert_quiet(project)


@pytest.mark.usefixtures("few")
def test_what_was_written_is_recorded_where_the_next_batch_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_BATCH", 10)
    intend, calls = Versions.intend, []

    def refuse_once(self: Versions, records: Sequence[RecordValues]) -> None:
        calls.append(len(records))
        if len(calls) == 2:
            raise BusyError("another program holds the lock")
        intend(self, records)

    project = Project(tmp_path / "p")
    project.sync()
    sent(project, 40)
    monkeypatch.setattr(Versions, "intend", refuse_once)
    assert "another program holds the lock" == project.scoped().error
    assert [(10,)] == project.sql("SELECT count(*) FROM syncd_baseline")
    assert [(10,)] == project.sql("SELECT count(*) FROM syncd_journal")
    assert [] == project.sql("SELECT * FROM syncd_versions WHERE intent")
    assert 30 == project.sync().counts.files_created
    assert [(40, 40)] == project.sql("SELECT count(*), count(DISTINCT id) FROM syncd_journal")
    assert_in_step(project)


@pytest.mark.usefixtures("few")
def test_a_crash_behind_a_rows_file_and_an_edit_of_the_row_are_no_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "p")
    project.sync()
    sent(project, 40)
    with monkeypatch.context() as patched:
        patched.setattr(
            Versions, "drop_intents", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            project.scoped()
    assert "Body 10." in project.text("outbox/row-10.md")
    project.new.update("row-10", body="Changed by SQL.")
    report = project.sync()
    assert [] == report.conflicts
    assert "Changed by SQL." in project.text("outbox/row-10.md")
    assert_in_step(project)
    assert_quiet(project)


# One that waits


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Allow that a second process waits, as an agent does, and start them all anew."""
    monkeypatch.setattr("threading.active_count", lambda: 2)
    second_process.have_one_wait(True)
    yield
    second_process.have_one_wait(False)
    assert not second_process._waiting


def is_dead(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.usefixtures("waits")
def test_a_burst_has_a_process_wait_which_then_serves_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "FEWEST_IF_WAITING", 10)
    pids: list[int] = []
    close = Divided.close

    def close_and_note(self: Divided) -> None:
        pids.append(self.process.pid)
        close(self)

    monkeypatch.setattr(Divided, "close", close_and_note)
    project = Project(tmp_path / "p")
    project.sync()
    sent(project, 12)
    assert 12 == project.scoped().counts.files_created
    assert second_process._waiting
    assert [] == pids, "it was not waited for"
    for number in range(20):
        project.receive(number)
    assert 20 == project.sync().counts.rows_inserted
    project.new.delete("row-00")
    project.heed()
    ids = [project.new.send(project.other, "Subject", "Body", id=f"new-{n}") for n in range(11)]
    assert 11 == project.scoped().counts.files_created
    assert 2 == len(pids)
    assert 1 == len(set(pids))
    assert "Body" in project.text(f"outbox/{ids[0]}.md")
    assert_in_step(project)
    second_process.dismiss(60.0)
    assert second_process._waiting, "it waits for a while"
    second_process.dismiss(0.0)
    assert is_dead(pids[0])


_SLOW = """
import time
from syncd.cycle import ahead, second_process

draw = second_process._draw


def draw_late(lots=4):
    time.sleep(0.05)  # as a busy machine has it do between an answer and the next lot
    return draw(lots)


second_process._draw = draw_late
second_process.serve(ahead._answer)
"""


@pytest.mark.usefixtures("waits")
def test_one_that_is_slow_answers_nothing_of_the_next_work_as_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_one_for_ten(monkeypatch)
    monkeypatch.setattr(ahead, "_AT_ONCE", 10)
    (tmp_path / "slow_ahead.py").write_text(_SLOW)
    root = Path(syncd.__file__).parent.parent
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")
    monkeypatch.setattr(ahead, "_MODULE", "slow_ahead")
    pids = set()
    for name in ("a", "b", "c"):
        project = Project(tmp_path / name)
        paths = [
            f"inbox/{project.receive(number, body=f'Words of {name}.')}.md" for number in range(40)
        ]
        for path in paths:
            os.utime(project.file(path), (1_700_000_000, 1_700_000_000.5))
        work = ("files", str(project.path), MAX_BYTES)
        reading = by_two_processes(work, paths, not_here, second_process.at_hand())
        taken = [reading.take(path) for path in paths]
        assert all(f"Words of {name}." in str(found) for found in taken)
        pids.add(reading.process.pid)
        reading.close()
    assert 1 == len(pids)


@pytest.mark.usefixtures("waits")
def test_one_that_died_while_it_waited_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "FEWEST_IF_WAITING", 10)
    second_process.stand_by("syncd.cycle.ahead")
    (waiting,) = second_process._waiting
    os.kill(waiting.pid, signal.SIGKILL)
    time.sleep(0.1)
    project = Project(tmp_path / "p")
    for number in range(20):
        project.receive(number)
    assert 20 == project.sync().counts.rows_inserted
    assert_in_step(project)
    assert is_dead(waiting.pid)
    (another,) = second_process._waiting
    assert another.pid != waiting.pid


@pytest.mark.usefixtures("waits")
def test_one_that_is_stopped_while_it_waits_is_done_without_also_for_more_than_a_pipe_holds(
    odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(second_process, "_PATIENCE_S", 0.1)
        second_process.stand_by("syncd.cycle.ahead")
    stopped = second_process.at_hand()
    assert stopped is not None
    os.kill(stopped.pid, signal.SIGSTOP)
    paths = [f"inbox/{'none-' * 20}{number}.md" for number in range(20_000)]
    reading = by_two_processes(("files", str(odd), MAX_BYTES), paths, not_here, stopped)
    assert is_dead(stopped.pid)
    reading.close()
    assert is_dead(reading.process.pid)


@pytest.mark.usefixtures("waits")
def test_one_that_has_not_answered_all_does_not_wait(odd: Path) -> None:
    reading = by_two_processes(("files", str(odd), MAX_BYTES), ["inbox/never.md"] * 3, not_here)
    reading.close()
    assert not second_process._waiting
    assert is_dead(reading.process.pid)


@pytest.mark.usefixtures("waits")
def test_nothing_else_gets_among_the_answers(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_all_to_it(monkeypatch)
    (tmp_path / "sitecustomize.py").write_text("print('Welcome.' * 1000, flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    with FileReplica(odd) as files:
        paths = sorted(files.scan().stamps)
    paths += [f"inbox/{'none-' * 20}{number}.md" for number in range(30_000)]
    monkeypatch.setattr("threading.active_count", lambda: 2)
    reading = by_two_processes(("files", str(odd), MAX_BYTES), paths, not_here)
    # As Ctrl-Z and fg do, while it writes into a pipe that is full more than goes in at once.
    for _ in range(20):
        os.kill(reading.process.pid, signal.SIGSTOP)
        os.kill(reading.process.pid, signal.SIGCONT)
        time.sleep(0.02)
    told = [reading.take(path) for path in paths]
    assert 30 < sum(found is not None for found in told)
    reading.close()
    assert [reading.process] == second_process._waiting, "all was answered"


@pytest.mark.usefixtures("waits")
def test_no_descriptor_is_left_where_no_more_are_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, made = os.pipe, []

    def pipe_once() -> tuple[int, int]:
        if made:
            raise OSError(errno.EMFILE, "too many open files")
        made.append(pipe())
        return made[0]

    monkeypatch.setattr("os.pipe", pipe_once)
    second_process.stand_by("syncd.cycle.ahead")
    assert not second_process._waiting
    for fd in made[0]:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
