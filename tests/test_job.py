"""The parts of an agent, within this process: jobs, schedules, workers, the roster."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import resource
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from syncd.agent.agent import Agent
from syncd.agent.job import Job
from syncd.agent.roster import Roster
from syncd.agent.schedule import Occasion, Reason, Schedule
from syncd.agent.wakes import Kind, Wake
from syncd.agent.workers import Workers
from syncd.cli.run import _JsonFormatter, _logged
from syncd.config import load
from syncd.cycle.orders import Orders
from syncd.cycle.project import run_pass, turn
from syncd.cycle.report import Report
from syncd.cycle.seen import look_of_files
from syncd.database.store import Store
from syncd.errors import BusyError, ReplicaError, StaleReplica
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Stamp
from syncd.names import CLAUDE_DIR
from syncd.patience import patience
from tests.clients import SCHEMA, NewClient, OldClient
from tests.on_disk import (
    both_equal,
    project,
    rebuild,
    rows_of,
)
from tests.running import wait_for

CONFIG = load(flags={"gone_s": 0.0, "retry_s": 0.0}, environment={})


@pytest.mark.parametrize("kind", [Kind.CLOSED, Kind.TOUCHED, Kind.KEPT])
def test_a_file_that_came_back_by_itself_is_given_two_looks_anew(kind: Kind) -> None:
    schedule = Schedule(load(environment={}))
    for one in (Kind.GONE, kind):
        schedule.hear(Wake(one, "inbox/a.md"), is_open=False, ends_rest=False)
    assert {} == schedule.vanished


def test_deletes_are_carried_over_also_where_the_rights_of_their_folder_change_all_the_time() -> (
    None
):
    schedule = Schedule(load(flags={"gone_s": 2.0}, environment={}))
    schedule.hear(Wake(Kind.GONE, "inbox/a.md"), is_open=False, ends_rest=False)
    schedule.hear(Wake(Kind.FULL), is_open=False, ends_rest=False)
    occasion = schedule.take(time.monotonic() + 2.0)
    assert occasion is not None
    assert (None, {"inbox/a.md"}) == (occasion.orders.paths, occasion.orders.gone)


def test_a_file_that_came_back_with_its_folder_is_given_two_looks_anew(tmp_path: Path) -> None:
    here = project(tmp_path / "p")
    OldClient(tmp_path / "q").send(here, "Subject", "Body")
    (path,) = (here / ".claude-mpm/inbox").glob("*.md")
    name = f"inbox/{path.name}"
    job = Job(here, Schedule(load(here, flags={"gone_s": 0.0})))
    heeded(job, Occasion(Orders(wait=False)))
    job.hear(Wake(Kind.GONE, name))
    job.hear(Wake(Kind.FOLDER_CAME))
    occasion = job.schedule.take(time.monotonic() + 10)
    assert occasion is not None
    assert frozenset() == occasion.orders.gone
    job.hear(Wake(Kind.GONE, name))
    heeded(job, Occasion(Orders(wait=False)))  # which sees that it stands
    assert {} == job.schedule.vanished
    job.close()


def test_a_folder_that_went_is_no_reason_to_open_the_database_at_once(tmp_path: Path) -> None:
    """Who removes the whole project would meet a -wal that was made while he did."""
    here = project(tmp_path / "p")
    job = Job(here, Schedule(load(here, flags={"gone_s": 5.0})))
    occasion = job.schedule.take(time.monotonic())
    assert occasion is not None
    heeded(job, occasion)
    due = job.hear(Wake(Kind.FOLDER_GONE))
    assert due is not None
    assert due - time.monotonic() > 4
    assert job.schedule.take(time.monotonic()) is None
    assert job.schedule.take(due) is not None
    job.close()


def test_a_database_that_goes_while_it_is_opened_is_not_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project(tmp_path / "p")
    job = Job(here, Schedule(load(here, flags={"gone_s": 0.0})))
    heeded(job, Occasion(Orders(wait=False)))
    job.close()
    database = here / ".claude-mpm/messaging.db"
    opened = Store.open

    def open_what_goes(path: Path, *, create: bool = True) -> Store:
        database.unlink(missing_ok=True)
        return opened(path, create=create)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "open", open_what_goes)
        job.cycle(Occasion(Orders(wait=False)))
    assert not database.exists()
    (here / ".claude-mpm/inbox").mkdir(exist_ok=True)
    report = job.cycle(Occasion(Orders(wait=False)))  # it is gone for good, and its files are not
    assert (None, True) == (report and report.error, database.exists())
    job.close()


def test_a_database_that_was_replaced_while_it_was_closed_is_given_time(tmp_path: Path) -> None:
    """Who copies a project brings the -wal and the -shm after the database itself."""
    here, other = project(tmp_path / "p"), project(tmp_path / "q")
    job = Job(here, Schedule(load(here, flags={"gone_s": 5.0})))
    for folder in (other, here):
        assert run_pass(folder, job.config, Orders()).error is None
    heeded(job, Occasion(Orders(wait=False)))
    job.close()
    job.schedule.cancel()
    job.hear(Wake(Kind.DATABASE_CAME))  # of our own, late
    assert job.schedule.take(time.monotonic()) is not None
    database = here / ".claude-mpm/messaging.db"
    database.unlink()
    shutil.copy(other / ".claude-mpm/messaging.db", database)
    job.hear(Wake(Kind.DATABASE_CAME))
    assert job.schedule.take(time.monotonic()) is None
    occasion = job.schedule.take(time.monotonic() + 6)
    assert occasion is not None
    assert heeded(job, occasion).error is None
    job.close()


@pytest.mark.parametrize("kind", [Kind.TOUCHED, Kind.CLOSED, Kind.GONE, Kind.BELL])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_change_that_is_heard_of_as_it_is_found_makes_no_watch_deaf(
    tmp_path: Path, kind: Kind, when: str
) -> None:
    here = project(tmp_path / "p")
    job = Job(here, Schedule(load(here, flags={"quiet_s": 60.0, "gone_s": 60.0})))
    occasion = job.schedule.take(time.monotonic())
    assert occasion is not None
    heeded(job, occasion)
    wake = Wake(kind, "" if kind is Kind.BELL else "inbox/a.md")
    if when == "before":
        job.hear(wake)
    occasion = job.schedule.take(time.monotonic() + 1_000)
    assert occasion is not None
    if when == "meanwhile":
        job.hear(wake)
    OldClient(tmp_path / "q").send(here, "Subject", "Body")
    assert 1 == heeded(job, occasion).counts.rows_inserted
    assert not job.schedule.is_deaf
    job.close()


def test_a_watch_is_deaf_also_while_somebody_keeps_a_stray_open(tmp_path: Path) -> None:
    here = project(tmp_path / "p")
    job = Job(here, Schedule(load(here)))
    occasion = job.schedule.take(time.monotonic())
    assert occasion is not None
    heeded(job, occasion)
    job.schedule.quiet_at["inbox/.syncd-1.tmp"] = math.inf
    job.schedule.late = {"inbox/.syncd-1.tmp": 5.0}
    OldClient(tmp_path / "q").send(here, "Subject", "Body")
    occasion = job.schedule.take(time.monotonic() + 1_000)
    assert occasion is not None
    heeded(job, occasion)
    assert job.schedule.is_deaf
    job.close()


def heeded(job: Job, occasion: Occasion) -> Report:
    """Run a job's cycle and have it heed what that left; return the report."""
    report = job.cycle(occasion)
    assert report is not None
    job.heed(occasion, report)
    return report


def next_report(job: Job, after_s: float = 0.0) -> Report:
    """Run the cycle over all that a job has planned for ``after_s`` from now; return its report."""
    occasion = job.schedule.take(time.monotonic() + after_s)
    assert occasion is not None
    return heeded(job, occasion)


def rung_job(here: Path) -> tuple[Job, Occasion]:
    """Return a job that has had its first cycle and heard of a commit, and the next occasion."""
    job = Job(here, Schedule(load(here, environment={})))
    next_report(job)
    job.hear(Wake(Kind.BELL))
    occasion = job.schedule.take(time.monotonic())
    assert occasion == Occasion(Orders(paths=frozenset(), wait=False), Reason.BELL)
    return job, occasion


def test_g10_a_project_that_is_polled_is_not_opened_to_find_nothing(tmp_path: Path) -> None:
    here = project(tmp_path / "p")
    key = OldClient(tmp_path / "q").send(here, "Subject", "Words")
    job = Job(here, Schedule(CONFIG))
    job.schedule.polled = True
    next_report(job)

    def changes() -> int:
        """Return how many steps were taken until a look opened nothing."""
        total = 0
        for _ in range(5):
            job.close()  # as where there are many
            wait_for(lambda: look_of_files(here) is not None)
            job.schedule.full_due = time.monotonic() - 1.0  # it is time
            occasion = job.schedule.take(time.monotonic())
            assert occasion is not None
            report = job.cycle(occasion)
            if report is None:
                assert job.store is None
                return total
            job.heed(occasion, report)
            total += report.counts.changes()
        raise AssertionError("it is opened again and again")

    assert 0 == changes()
    due = job.next_due(time.monotonic())
    assert due is not None
    assert CONFIG.poll_s / 2 < due - time.monotonic() <= 2 * CONFIG.poll_s
    path = here / ".claude-mpm" / "inbox" / f"{key}.md"
    path.write_text(path.read_text().replace("Words", "Other"))
    assert 1 == changes()
    NewClient(here).update(key, subject="From SQL")
    assert 1 == changes()
    path.unlink()
    assert 1 == changes()
    assert {} == rows_of(here)
    job.close()


def test_a_project_that_is_found_late_has_its_first_look_in_its_turn(tmp_path: Path) -> None:
    agent = Agent([tmp_path], recursive=True, poll=True, flags={}, on_ready=lambda _: None)
    job = Job(tmp_path / "p", Schedule(CONFIG))
    job.schedule.rest(5.0)  # it may take a while to be all there
    now = time.monotonic()
    agent._news.append(job)
    agent._plan_news(now)
    assert ({}, True) == (agent._new, job.planned > now)
    agent._submit_due(now + 6.0)
    agent._plan_news(now + 6.0)
    assert {job.project: job} == agent._new
    agent._workers.stop()


def test_looks_at_projects_that_are_polled_take_half_of_a_processor_at_most(tmp_path: Path) -> None:
    here = project(tmp_path / "p")
    job = Job(here, Schedule(load(here, environment={})), costs={tmp_path / "q": 30.0})
    job.schedule.polled = True
    OldClient(tmp_path / "q").send(here, "Subject", "Words")
    assert 1 == next_report(job).counts.rows_inserted
    assert [tmp_path / "q"] == list(job.costs), "an import says nothing of what a look takes"
    before = time.monotonic()
    next_report(job, 61.0)
    due = job.next_due(before)
    assert due is not None
    assert 60.0 < due - before < 70.0
    assert 0.0 < job.costs[here] < 5.0
    job.close()


def test_after_a_cycle_there_may_be_news_for_which_nothing_is_made_ready(tmp_path: Path) -> None:
    """The bell that rang while it ran was its own, most likely."""
    job, _ = rung_job(project(tmp_path / "p"))
    job.hear(Wake(Kind.BELL))
    job.listen_on()
    assert Occasion(Orders(paths=frozenset(), wait=False), Reason.NEWS) == job.schedule.take(
        time.monotonic()
    )
    job.close()


def test_a_displaced_file_that_somebody_keeps_open_is_come_back_to_ever_less_often(
    tmp_path: Path,
) -> None:
    here = project(tmp_path / "here")
    key = OldClient(project(tmp_path / "there")).send(here, "Hello", "Words")
    job, _ = rung_job(here)
    waits = []
    with (here / ".claude-mpm" / "inbox" / f"{key}.md").open():
        NewClient(here).update(key, priority="urgent")
        job.schedule.want_full()
        (stray,) = next_report(job).late
        for _ in range(9):
            waits.append(job.schedule.late[stray])
            assert job.schedule.quiet_at.pop(stray) <= time.monotonic() + waits[-1]
            heeded(job, Occasion(Orders(paths=frozenset({stray}), wait=False)))
    assert [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] == waits
    heeded(job, Occasion(Orders(paths=frozenset({stray}), wait=False)))
    assert {} == job.schedule.late
    job.close()


def at_second_look(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Have something done right before a job looks for news the second time."""
    has_news, looks = Job.has_news, 0

    def look(job: Job) -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            do()
        return has_news(job)

    monkeypatch.setattr(Job, "has_news", look)


def test_a_commit_that_is_heard_of_before_it_can_be_seen_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project(tmp_path / "p")
    job, occasion = rung_job(here)
    assert job.cycle(occasion) is None, "the bell alone is no reason for a cycle"
    at_second_look(monkeypatch, lambda: NewClient(here).send(tmp_path / "q", "Late", "Words"))
    report = job.cycle(occasion)
    assert report is not None
    assert 1 == report.counts.files_created
    assert job.cycle(occasion) is None
    job.close()


def test_a_changed_schema_that_was_waited_for_leads_to_a_cycle_over_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project(tmp_path / "p")
    job, occasion = rung_job(here)

    def drop_a_trigger() -> None:
        with closing(sqlite3.connect(here / ".claude-mpm" / "messaging.db")) as host:
            host.execute("DROP TRIGGER syncd_insert")

    at_second_look(monkeypatch, drop_a_trigger)
    assert job.cycle(occasion) is None
    again = job.schedule.take(time.monotonic())
    assert again == Occasion(Orders(wait=False))
    heeded(job, again)
    assert not job.has_news()
    job.close()


def test_a_bell_in_another_pass_s_turn_is_no_trouble(tmp_path: Path) -> None:
    here = project(tmp_path / "p")
    job, occasion = rung_job(here)
    with turn(here, 0.0):
        assert job.cycle(occasion) is None
    assert job.trouble is None
    job.close()


def test_g18_after_a_defect_all_is_compared_once_it_rested_and_not_before(tmp_path: Path) -> None:
    here = project(tmp_path / "p")
    job, _ = rung_job(here)
    job.schedule.full_due = time.monotonic() - 1.0  # the periodic compare, too, is not due before
    job.note_defect()
    now = time.monotonic()
    due = job.schedule.next_due(now)
    assert (None, True) == (job.schedule.take(now), job.trouble is not None)
    assert due is not None
    assert due > now + 1.0

    occasion = job.schedule.take(due + 0.1)
    assert occasion is not None
    assert occasion.orders.paths is None
    heeded(job, occasion)
    assert (None, True) == (job.trouble, bool(job.compared))
    job.close()


@pytest.mark.parametrize("before_the_triggers", [False, True])
def test_a_row_whose_file_could_not_be_written_is_come_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before_the_triggers: bool
) -> None:
    here = project(tmp_path / "p")
    if before_the_triggers:
        NewClient(here).send(tmp_path / "q", "Early", "Words")
        job = Job(here, Schedule(load(here, environment={})))
    else:
        job, _ = rung_job(here)
        NewClient(here).send(tmp_path / "q", "Early", "Words")
        job.hear(Wake(Kind.BELL))

    def step() -> int:
        occasion = job.schedule.take(time.monotonic())
        report = job.cycle(occasion) if occasion is not None else None
        if occasion is not None and report is not None:
            job.heed(occasion, report)
        job.listen_on()
        return report.counts.files_created if report is not None else 0

    def refuse(*_: object) -> Stamp:
        raise StaleReplica("the name is taken")

    with monkeypatch.context() as patched:
        patched.setattr(FileReplica, "create", refuse)
        assert 0 == step()
    wait_for(step, 5.0)
    assert both_equal(here)
    job.close()


@pytest.mark.parametrize("method", ["create", "replace"])
def test_g15_a_file_that_cannot_be_written_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    here, client = project(tmp_path / "p"), NewClient(tmp_path / "p")
    old, one, two = (OldClient(tmp_path / "q").send(here, "Subject", "Words") for _ in range(3))
    job, _ = rung_job(here)
    write = getattr(FileReplica, method)
    barred = old if method == "replace" else client.send(tmp_path / "q", "Not", "Written")

    def refuse(files: FileReplica, path: str, *rest: Any, **options: Any) -> Stamp:
        if barred in path:
            raise ReplicaError(f"cannot write {path}: permission denied")
        return cast(Stamp, write(files, path, *rest, **options))

    with monkeypatch.context() as patched:
        patched.setattr(FileReplica, method, refuse)
        if method == "replace":
            client.update(barred, body="Not written")
        client.update(one, body="New words")
        job.hear(Wake(Kind.BELL))
        report = next_report(job)
        told = f"cannot write {'in' if method == 'replace' else 'out'}box/{barred}.md"
        assert (f"{told}: permission denied", 1) == (report.error, report.counts.files_updated)
        assert (report.error, "") == job.trouble

        client.update(two, body="New words")
        job.hear(Wake(Kind.BELL))
        report = next_report(job)
        assert (None, 1) == (report.error, report.counts.files_updated), "only what is new"
        OldClient(here).archive(one)
        job.hear(Wake(Kind.CLOSED, f"inbox/.archive/{one}.md"))
        assert 1 == next_report(job).counts.rows_updated
        assert (told, True) == (str(job.trouble and job.trouble[0])[: len(told)], bool(job.store))

        waits = []
        for _ in range(7):
            before = time.monotonic()
            assert next_report(job, 31.0).error is not None
            assert job.schedule.take(before) is None
            waits.append(round((job.schedule.next_due(before) or 0.0) - before))
        assert [1, 2, 4, 8, 16, 30, 30] == waits
    assert 1 == next_report(job, 31.0).counts.changes()
    assert (None, False) == (job.trouble, job.schedule.is_deaf)
    assert both_equal(here)
    assert (job.schedule.next_due(time.monotonic()) or 0.0) - time.monotonic() > 60.0
    job.close()


def test_a_database_that_is_replaced_during_a_cycle_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project(tmp_path / "p")
    job, _ = rung_job(here)
    OldClient(tmp_path / "q").send(here, "Subject", "Words")
    database = here / ".claude-mpm" / "messaging.db"

    reports: list[Report] = []

    def replace_and_run(*arguments: Any, **options: Any) -> Report:
        copy = shutil.copy(database, tmp_path / "copy")
        for suffix in ("-wal", "-shm"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        os.replace(copy, database)
        reports.append(run_pass(*arguments, **options))
        return reports[-1]

    with monkeypatch.context() as patched:
        patched.setattr("syncd.agent.job.run_pass", replace_and_run)
        assert job.cycle(Occasion(Orders(wait=False))) is None
    assert [(True, True)] == [(one.busy, "Try again" in one.hint) for one in reports]
    job.hear(Wake(Kind.CLOSED, "inbox/edited.md"))
    job.hear(Wake(Kind.BELL))
    almost = time.monotonic() + job.config.gone_s - 0.5
    assert job.schedule.take(almost) is None, "there is time to finish that"
    assert next_report(job, job.config.gone_s).error is None
    assert both_equal(here)
    job.close()


@pytest.mark.parametrize(("busy", "longest"), [(True, 1.0), (False, 30.0)])
def test_a_locked_project_rests_less_long_than_one_with_another_error(
    busy: bool, longest: float
) -> None:
    schedule = Schedule(load(environment={}))
    for _ in range(10):
        report = Report("/p", error="it cannot be used", hinders_all=True, busy=busy)
        before = time.monotonic()
        schedule.heed(Occasion(Orders(wait=False)), report, before)
    rest = schedule.rest_until - before
    assert longest <= rest < longest + 1.0


def test_a_defect_in_hearing_of_a_change_leaves_the_agent_its_ears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here = project(tmp_path / "p")
    agent = Agent([here], recursive=False, poll=True, flags={}, on_ready=lambda _: None)
    monkeypatch.setattr(agent, "_heed_wake", lambda *_: 1 / 0)
    agent._on_wake(here, Wake(Kind.BELL))
    assert "a defect in hearing of a change" in caplog.text
    assert agent._lost_events


def test_g11_a_commit_that_nobody_told_of_keeps_an_idle_database_open(tmp_path: Path) -> None:
    here = project(tmp_path / "p")
    agent = Agent([here], recursive=False, poll=True, flags={}, on_ready=lambda _: None)
    job = agent._jobs[here] = Job(here, Schedule(load(here, environment={})))
    job.cycle(Occasion(Orders(wait=False)))
    agent._open.add(here)
    NewClient(here).send(tmp_path / "q", "From SQL", "Words")
    idle = job.used + job.config.idle_close_s + 1
    agent._close_idle_stores(idle)
    assert (True, True) == (job.store is not None, job.schedule.bell)
    job.cycle(Occasion(Orders(wait=False)))
    agent._close_idle_stores(job.used + job.config.idle_close_s + 1)
    assert job.store is None


def test_workers_go_on_where_the_system_has_no_thread_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [Job(tmp_path / name, Schedule(load(environment={}))) for name in "abc"]
    done: list[Job] = []
    begin = threading.Thread.start

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(BusyError, match="no thread to give"):
            Workers(done.append, lambda: None, at_once=4, most=8)
    workers = Workers(done.append, lambda: None, at_once=4, most=8)
    refused: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        if not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    for job in jobs:
        workers.submit(job, is_patient=False)
    wait_for(lambda: len(done) == len(jobs))
    workers.stop()


@pytest.mark.parametrize(
    ("files", "usual", "most", "cycles"),
    [
        *((20, 1, 1, 4), (64, 4, 4, 4), (256, 32, 37, 9), (1024, 32, 85, 57)),
        *((4096, 32, 128, 64), (resource.RLIM_INFINITY, 32, 128, 64)),
    ],
)
def test_few_databases_stay_open_where_a_process_may_have_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, usual: int, most: int, cycles: int
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))
    agent = Agent([tmp_path], recursive=True, poll=True, flags={}, on_ready=lambda _: None)
    assert cycles == agent._workers._most
    for number in range(2 * most):
        job = Job(tmp_path / str(number), Schedule(load(environment={})), used=float(number))
        agent._jobs[job.project] = job
        agent._note_open(job)
    last = [tmp_path / str(number) for number in range(2 * most - usual, 2 * most)]
    assert set(last) == agent._open, "those that were used long ago are closed"
    for job in agent._jobs.values():
        job.hear(Wake(Kind.BELL))
        agent._note_open(job)
    assert most == len(agent._open), "a commit that a bell told of is awaited"


def test_a_first_look_at_a_project_does_not_wait_behind_others(tmp_path: Path) -> None:
    names = ("busy", "old", "older", "new")
    jobs = {name: Job(tmp_path / name, Schedule(load(environment={}))) for name in names}
    for name in ("old", "older"):
        jobs[name].is_new = False
    done: list[str] = []
    begin = threading.Event()

    def work(job: Job) -> None:
        begin.wait()
        done.append(job.project.name)

    workers = Workers(work, lambda: None, at_once=1, most=8)
    for job in jobs.values():
        workers.submit(job, is_patient=False)
    begin.set()
    wait_for(lambda: len(done) == len(jobs))
    workers.stop()
    assert ["busy", "new", "old", "older"] == done


def test_a_single_change_does_not_wait_behind_projects_that_have_much_to_do(
    tmp_path: Path,
) -> None:
    jobs = {name: Job(tmp_path / name, Schedule(load(environment={}))) for name in "0abcxyz"}
    done: list[str] = []
    begin = threading.Event()

    def work(job: Job) -> None:
        begin.wait()
        done.append(job.project.name)

    workers = Workers(work, lambda: None, at_once=1, most=8)
    for name, job in jobs.items():
        job.is_new = False
        workers.submit(job, is_patient=name in "abc")
    assert workers.others_wait()
    begin.set()
    wait_for(lambda: len(done) == len(jobs))
    workers.stop()
    assert not workers.others_wait()
    assert list("0axbycz") == done


def test_who_waits_for_a_lock_gives_up_where_no_other_thread_may_begin(tmp_path: Path) -> None:
    jobs = {name: Job(tmp_path / name, Schedule(load(environment={}))) for name in "abc"}
    given_up: list[float] = []
    done, is_over = threading.Event(), threading.Event()

    def work(job: Job) -> None:
        if job is jobs["c"]:
            done.set()
            return
        began = time.monotonic()
        with patience(30.0, 0.01) as wait:
            while not is_over.is_set():
                if not wait():
                    given_up.append(time.monotonic() - began)
                    return

    workers = Workers(work, lambda: None, at_once=1, most=2)
    for job in (jobs["a"], jobs["b"]):
        workers.submit(job, is_patient=False)
    wait_for(lambda: workers.is_waiting(jobs["a"]) and workers.is_waiting(jobs["b"]))
    assert [] == given_up, "nobody needs their threads"
    workers.submit(jobs["c"], is_patient=False)
    assert done.wait(10.0)
    assert given_up
    assert max(given_up) < 30.0
    is_over.set()
    workers.stop()


def test_a_project_that_is_changed_all_the_time_has_its_turns_between_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project(tmp_path / "p")
    agent = Agent([here], recursive=False, poll=True, flags={}, on_ready=lambda _: None)
    hot, other = (Job(tmp_path / name, Schedule(load(environment={}))) for name in ("hot", "other"))
    cycles: list[Occasion] = []

    def cycle(job: Job, occasion: Occasion) -> None:
        cycles.append(occasion)
        if len(cycles) < 5:
            job.hear(Wake(Kind.CLOSED, "inbox/x.md"))

    monkeypatch.setattr(Job, "cycle", cycle)
    submitted: list[tuple[Job, bool]] = []

    def submit(job: Job, *, is_patient: bool) -> None:
        submitted.append((job, is_patient))

    monkeypatch.setattr(agent._workers, "submit", submit)
    monkeypatch.setattr(agent._workers, "others_wait", lambda: len(cycles) == 1)
    assert hot.claim()
    agent._work(hot)
    assert (1, [(hot, True)]) == (len(cycles), submitted), "another one waits"
    agent._work(hot)
    assert 5 == len(cycles), "nobody waits"
    agent._submit(other)
    other.release()
    other.schedule.cancel()
    agent._submit(other)
    assert [True, False] == [is_patient for job, is_patient in submitted if job is other]
    agent._workers.stop()


def test_trouble_that_comes_up_during_a_beat_is_told_at_once(tmp_path: Path) -> None:
    here = project(tmp_path / "p")
    agent = Agent([here], recursive=False, poll=True, flags={}, on_ready=lambda _: None)

    class Troubled:
        project, running, compared, started = here, False, "", 0.0

        @property
        def trouble(self) -> None:
            agent._beat_at = 0.0  # as a worker does that finds it just behind this look

    agent._jobs[here] = cast(Job, Troubled())
    agent._beat(cast(Any, SimpleNamespace(beat=lambda *_: None)))
    assert 0.0 == agent._beat_at


def test_g18_an_agent_shows_itself_at_once_when_the_machine_has_slept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own timers stand still meanwhile; the clock by which others judge it does not."""
    agent = Agent([project(tmp_path / "p")], recursive=False, poll=True, flags={}, on_ready=print)
    now, beats, ticks = [1e9], 0, 0

    def beat(*_: object) -> None:
        nonlocal beats
        beats += 1
        now[0] += 5 * 3_600
        agent._stopping |= beats == 2

    def tick(_: float) -> None:
        nonlocal ticks
        ticks += 1
        agent._stopping |= ticks == 3

    agent._is_ready = True
    monkeypatch.setattr(agent, "_tick", tick)
    clock = SimpleNamespace(monotonic=time.monotonic, time=lambda: now[0])
    monkeypatch.setattr("syncd.agent.agent.time", clock)
    agent._loop(cast(Any, SimpleNamespace(beat=beat)))
    assert 2 == beats


def test_however_often_it_listens_an_agent_looks_again_soon() -> None:
    schedule = Schedule(load(environment={}))
    schedule.listen_until = math.inf
    for _ in range(2_000):
        schedule.listen_on(is_open=True)
    assert schedule.due - time.monotonic() < 0.3


def test_g18_the_log_names_each_file_that_is_set_aside_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = project(tmp_path / "p")
    job = Job(here, Schedule(load(here, flags={"retry_s": 0.0}, environment={})), {"retry_s": 0.0})
    named = []
    for name in ("first", "second", "third"):
        (here / f".claude-mpm/inbox/{name}.md").write_text("no front matter")
        caplog.clear()
        next_report(job, 2 * job.config.full_compare_s)
        named.append([one.getMessage().split(":")[1].strip() for one in caplog.records])
    job.close()
    assert [["inbox/first.md"], ["inbox/second.md"], ["inbox/third.md"]] == named


def test_g18_what_is_mended_and_broken_again_is_named_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = project(tmp_path / "p")
    key = OldClient(tmp_path / "q").send(here, "Subject", "Words")
    file, other = here / f".claude-mpm/inbox/{key}.md", here / ".claude-mpm/inbox/other.md"
    other.write_text("no front matter")
    whole = file.read_bytes()
    job = Job(here, Schedule(load(here, flags={"retry_s": 0.0}, environment={})), {"retry_s": 0.0})
    next_report(job)
    named = []
    for data in (b"no front matter", b"no front matter, still", whole, b"no front matter"):
        file.write_bytes(data)
        caplog.clear()
        heeded(job, Occasion(Orders(paths=frozenset({f"inbox/{key}.md"}), wait=False)))
        if data != whole:
            next_report(job, 2 * job.config.full_compare_s)
        named.append([one.getMessage().split(":")[1].strip() for one in caplog.records])
    job.close()
    assert [[f"inbox/{key}.md"], [], [], [f"inbox/{key}.md"]] == named


def test_a_rest_after_an_error_ends_early_where_somebody_changed_the_database(
    tmp_path: Path,
) -> None:
    here = project(tmp_path / "p")
    OldClient(tmp_path / "q").send(here, "Subject", "Words")
    job, _ = rung_job(here)
    rebuild(here, "ALTER TABLE messages RENAME TO away")
    job.schedule.retries = 5

    def rest_s(wake: Wake) -> float:
        job.hear(wake)
        due = job.schedule.next_due(time.monotonic())
        assert due is not None
        return due - time.monotonic()

    for _ in range(2):
        assert heeded(job, Occasion(Orders(wait=False))).error is not None
        assert rest_s(Wake(Kind.BELL)) > 20, "its own tries ring the bell too"
    rebuild(here, "ALTER TABLE away RENAME TO messages")
    assert rest_s(Wake(Kind.RELEASED)) > 20
    assert rest_s(Wake(Kind.BELL)) <= 1
    job.close()


@pytest.mark.parametrize("when", ["before the triggers", "after the look"])
def test_g12_a_table_made_anew_during_a_cycle_is_compared_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    here = project(tmp_path / "p")
    OldClient(tmp_path / "q").send(here, "Subject", "Words")
    job, occasion = rung_job(here)
    occasion = occasion._replace(reason=Reason.NEWS)  # so that it does not wait for more of them
    NewClient(here).send(tmp_path / "q", "From SQL", "Words")

    def run_and_rebuild(*arguments: Any, **options: Any) -> Report:
        if when == "before the triggers":
            rebuild(here, "DROP TABLE messages", *SCHEMA)
        report = run_pass(*arguments, **options)
        if when == "after the look":
            rebuild(here, "DROP TABLE messages", *SCHEMA)
        return report

    with monkeypatch.context() as patched:
        patched.setattr("syncd.agent.job.run_pass", run_and_rebuild)
        assert heeded(job, occasion).halt is None
    job.hear(Wake(Kind.BELL))
    assert next_report(job).vanished, "rows that are gone get a second look"
    job.close()


def test_a_closed_database_is_not_opened_again_to_listen_but_once_at_the_end(
    tmp_path: Path,
) -> None:
    here = project(tmp_path / "p")
    OldClient(tmp_path / "q").send(here, "Subject", "Body")
    job = Job(here, Schedule(load(here, environment={})))
    job.cycle(Occasion(Orders(wait=False)))
    job.close()

    def has_reason(now: float | None) -> bool:
        assert now is not None
        occasion = job.schedule.take(now)
        assert occasion is not None
        return job.has_reason(occasion.reason)

    job.hear(Wake(Kind.BELL))
    assert has_reason(time.monotonic())  # what rang may have been anybody
    job.listen_on()
    assert not has_reason(job.schedule.due)
    NewClient(here).send(tmp_path / "q", "From SQL", "Words")
    job.listen_on()
    assert has_reason(job.schedule.due)
    job.cycle(Occasion(Orders(wait=False)))
    job.close()
    job.listen_on()
    assert not has_reason(job.schedule.due)
    job.schedule.listen_until = 0.0
    job.listen_on()
    assert has_reason(job.schedule.due)
    job.listen_on()
    assert job.schedule.due is None


def test_a_halted_project_is_compared_again_only_when_something_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project(tmp_path / "p")
    keys = [OldClient(tmp_path / "q").send(here, "Subject", "Words") for _ in range(3)]
    job = Job(here, Schedule(CONFIG))
    next_report(job)
    inbox = here / ".claude-mpm" / "inbox"
    away = [(inbox / f"{key}.md").rename(tmp_path / key) for key in keys]
    assert next_report(job, 700.0).vanished
    assert next_report(job, 700.0).halt is not None

    def look(after_s: float = 5.1) -> Report | None:
        occasion = job.schedule.take(time.monotonic() + after_s)
        assert occasion is not None
        assert occasion.is_periodic
        report = job.cycle(occasion)
        if report is not None:
            job.heed(occasion, report)
        return report

    assert look() is not None, "what came within a tick of the look may not show"
    monkeypatch.setattr("syncd.agent.job.COARSE_TICK_S", -1.0)
    assert look() is not None
    assert look() is None
    job.close()
    assert look() is None
    assert job.store is None, "nor is the database opened for it"
    NewClient(here).send(tmp_path / "q", "From SQL", "Words")
    assert look() is not None
    assert look() is None
    for key, path in zip(keys, away, strict=True):
        path.rename(inbox / f"{key}.md")
    report = look()
    assert report is not None
    assert report.halt is None
    assert next_report(job, 700.0) is not None, "where there is no halt, all is compared"
    job.close()


def test_a_halted_project_is_compared_now_and_then_in_any_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project(tmp_path / "p")
    for _ in range(2):
        OldClient(tmp_path / "q").send(here, "Subject", "Words")
    job = Job(here, Schedule(CONFIG))
    next_report(job)
    shutil.rmtree(here / ".claude-mpm" / "inbox")
    monkeypatch.setattr("syncd.agent.job.COARSE_TICK_S", -1.0)
    assert next_report(job, 700.0).halt is not None
    assert job._is_still_halted()
    later = time.monotonic() + CONFIG.full_compare_s
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert not job._is_still_halted()
    job.close()


def test_g6_what_vanishes_piece_by_piece_is_taken_together_but_not_put_off_for_ever() -> None:
    schedule = Schedule(load(flags={"gone_s": 2.0}, environment={}))
    schedule.cancel()
    schedule.vanished = {"inbox/a.md": 100.0, "inbox/b.md": 101.5}
    assert (103.5, None) == (schedule.next_due(102.0), schedule.take(103.4))
    gone = frozenset({"inbox/a.md", "inbox/b.md"})
    assert Occasion(Orders(paths=gone, gone=gone, wait=False)) == schedule.take(103.5)
    schedule.vanished = {"inbox/a.md": 200.0, "inbox/b.md": 209.9}
    assert 210.0 == schedule.next_due(209.9)


def test_what_a_library_says_is_in_the_log_as_all_else_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with _logged(_JsonFormatter()):
        logging.getLogger("watchdog.observers").warning("queue overflowed")
    assert "queue overflowed" == json.loads(capsys.readouterr().err)["message"]


def test_g14_no_session_leads_out_of_the_roots_and_none_to_a_project_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, here = tmp_path / "root", project(tmp_path / "root" / "skipped" / ".git" / "p")
    project(tmp_path / "outside")
    (root / "link").symlink_to(tmp_path)
    registry = tmp_path / "home" / CLAUDE_DIR / "session-registry.db"
    registry.parent.mkdir(parents=True)
    with closing(sqlite3.connect(registry)) as sessions, sessions:
        sessions.execute("CREATE TABLE sessions (project_path)")
        ways = (here, root / ".." / "outside", root / "link" / "outside", here / ".." / "p")
        sessions.executemany(
            "INSERT INTO sessions VALUES (?)", [*((str(way),) for way in ways), ("p",), (5,)]
        )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(here.parent)
    roster = Roster([root], recursive=True, flags={}, on_news=lambda _: None)
    roster.search()
    assert [here] == list(roster.jobs)


def test_a_session_in_the_home_folder_does_not_make_it_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, shop = project(tmp_path / "home"), project(tmp_path / "home" / "skipped" / ".git" / "p")
    (tmp_path / "link").symlink_to(own)
    with closing(sqlite3.connect(own / CLAUDE_DIR / "session-registry.db")) as sessions, sessions:
        sessions.execute("CREATE TABLE sessions (project_path)")
        sessions.executemany("INSERT INTO sessions VALUES (?)", [(str(own),), (str(shop),)])
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    roster = Roster([tmp_path], recursive=True, flags={}, on_news=lambda _: None)
    roster.search()
    assert [shop] == list(roster.jobs)


def test_a_project_that_has_another_name_now_is_found_at_once(tmp_path: Path) -> None:
    project(tmp_path / "p")
    roster = Roster([tmp_path], recursive=True, flags={"discover_s": 900.0}, on_news=lambda _: None)
    roster.search()
    roster.look_after(time.monotonic())
    (tmp_path / "p").rename(tmp_path / "q")
    (tmp_path / "q").rename(tmp_path / "r")
    for _ in range(2):
        roster.look_after(time.monotonic() + 5)
    assert [tmp_path / "r"] == list(roster.jobs)


def test_a_project_whose_folder_was_away_for_a_while_is_back_at_once(tmp_path: Path) -> None:
    folder = project(tmp_path / "p") / ".claude-mpm"
    roster = Roster([tmp_path], recursive=True, flags={"discover_s": 900.0}, on_news=lambda _: None)
    roster.search()
    folder.rename(tmp_path / "away")
    for seconds in range(3):
        roster.look_after(time.monotonic() + seconds)
    assert not roster.jobs
    (tmp_path / "away").rename(folder)
    roster.look_after(time.monotonic() + 3)
    assert [tmp_path / "p"] == list(roster.jobs)
    assert not roster._gone
    folder.rename(tmp_path / "away")
    roster.config = load(flags={"discover_s": 0.1}, environment={})
    for seconds in range(2):
        roster.look_after(time.monotonic() + 900 + seconds)
        time.sleep(0.11)
    assert not roster._gone, "a search finds it as it finds any other"


def test_a_file_system_that_fails_is_an_error_and_no_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path, **_options: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "messaging.db")

    here = project(tmp_path / "p")
    job = Job(here, Schedule(load(here, environment={})))
    monkeypatch.setattr(Store, "open", fail)
    report = job.cycle(Occasion(Orders(wait=False)))
    assert report is not None
    assert "messaging.db: stale file handle" == report.error


def test_a_watch_that_let_a_change_pass_is_replaced(tmp_path: Path) -> None:
    class Watcher:
        """A watcher that only counts how often a project is watched."""

        added: ClassVar[list[Path]] = []

        def add(self, project: Path) -> None:
            self.added.append(project)

    here = project(tmp_path / "p")
    roster = Roster([here], recursive=False, flags={}, on_news=lambda _: None)
    roster.watcher = cast(Any, Watcher())
    roster.search()
    job = roster.jobs[here]

    def watched_after_a_full_compare() -> list[Path]:
        next_report(job, 2 * job.config.full_compare_s)
        roster.suspect(job)
        roster.check_suspects()
        return Watcher.added

    assert [here] == watched_after_a_full_compare()
    assert [here] == watched_after_a_full_compare()
    OldClient(tmp_path / "q").send(here, "Subject", "Of which no event told")
    assert [here, here] == watched_after_a_full_compare()
    assert [here, here] == watched_after_a_full_compare()
    job.close()
