"""G8: an editor or the old client writing while syncd writes the same file."""

from __future__ import annotations

import multiprocessing
import os
import random
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from syncd.config import load
from syncd.core.sides import Side
from syncd.cycle.orders import Orders
from syncd.cycle.project import run_pass
from syncd.database.record import Row
from syncd.database.rows import Rows
from syncd.files import folders
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Stamp, Version
from syncd.files.syscalls import exchange
from syncd.names import database_of
from tests.clients import NewClient, OldClient, parse_legacy, render_legacy
from tests.on_disk import both_equal, project
from tests.running import RunningAgent, wait_for

CONFIG = load(flags={"gone_s": 0.0, "retry_s": 0.0}, environment={})


def world(tmp_path: Path) -> tuple[Path, str, Path]:
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    key = OldClient(there).send(here, "Hello", "Words", metadata={"a": 1})
    run_pass(here, CONFIG, Orders())
    return here, key, here / ".claude-mpm" / "inbox" / f"{key}.md"


def stale_rewrite(path: Path) -> bytes:
    """Return what an old client that read the file just now will write back."""
    message = parse_legacy(path.read_bytes())
    return render_legacy(type(message)(**{**_fields(message), "status": "read"})).encode()


def _fields(message: object) -> dict[str, object]:
    return {name: getattr(message, name) for name in message.__dataclass_fields__}  # type: ignore[attr-defined]


def test_g8_a_stale_rewrite_keeps_what_sql_changed_meanwhile(tmp_path: Path) -> None:
    here, key, path = world(tmp_path)
    late = stale_rewrite(path)
    NewClient(here).update(key, body="From SQL", priority="urgent")
    run_pass(here, CONFIG, Orders())
    path.write_bytes(late)
    report = run_pass(here, CONFIG, Orders())
    assert [] == report.conflicts
    row = NewClient(here).rows()[key]
    assert ("From SQL", "urgent", "read") == (row["body"], row["priority"], row["status"])
    assert b"From SQL" in path.read_bytes()
    assert both_equal(here)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("subject: Hello there", "Words"),
        ("subject: Hello there", "# Another heading\n\nWords"),
        ("subject: Hello there", "# Hello there\n\nWords"),
        ("attachments: [a.py, b.py]", "# Hello\n\nWords"),
        ("owner: me", "# Hello\n\nWords\n\n## Attachments\n\n- `-v.log`"),
    ],
)
def test_g2_what_the_old_client_does_not_see_outlives_its_reading(
    tmp_path: Path, key: str, text: str
) -> None:
    here, _, path = world(tmp_path)
    head = path.read_text().partition("\n---\n")[0]
    path.write_text(f"{head}\n{key}\n---\n\n{text}\n")
    run_pass(here, CONFIG, Orders())
    client = NewClient(here)
    (before,) = client.rows().values()
    OldClient(here).read(path.stem)
    assert [] == run_pass(here, CONFIG, Orders()).conflicts
    (after,) = client.rows().values()
    assert before | {"status": "read", "read_at": after["read_at"]} == after
    assert both_equal(here)


def test_g8_what_was_only_meant_to_be_written_is_nothing_to_measure_a_rewrite_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, key, path = world(tmp_path)
    path.write_bytes(stale_rewrite(path))
    run_pass(here, CONFIG, Orders())
    path.write_bytes(path.read_bytes().replace(b"# Hello", b"# By a person"))
    NewClient(here).update(key, status="unread")
    read_rows = Rows.of

    def rows_and_then_sql_writes(rows: Rows, ids: Iterable[str]) -> dict[str, Row]:
        found = read_rows(rows, ids)
        monkeypatch.undo()
        NewClient(here).update(key, status="read")
        return found

    monkeypatch.setattr(Rows, "of", rows_and_then_sql_writes)
    run_pass(here, CONFIG, Orders())
    run_pass(here, CONFIG, Orders())
    row = NewClient(here).rows()[key]
    assert ("By a person", "read") == (row["subject"], row["status"])
    assert both_equal(here)


@pytest.mark.parametrize("prefer", Side)
@pytest.mark.parametrize("is_cut_off", [False, True])
def test_g4_a_file_that_is_saved_again_while_it_is_merged_is_in_conflict_with_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefer: Side, is_cut_off: bool
) -> None:
    here, key, path = world(tmp_path)
    config = CONFIG._replace(prefer=prefer)
    path.write_bytes(path.read_bytes().replace(b"# Hello", b"# First"))
    NewClient(here).update(key, body="From SQL")
    replace = FileReplica.replace

    def saved_before(self: FileReplica, to: str, data: bytes, *, seen: Version) -> Stamp:
        path.write_bytes(path.read_bytes().replace(b"# First", b"# Second"))
        if is_cut_off:
            raise KeyboardInterrupt
        return replace(self, to, data, seen=seen)

    monkeypatch.setattr(FileReplica, "replace", saved_before)
    with suppress(KeyboardInterrupt):
        run_pass(here, config, Orders())
    monkeypatch.undo()
    report = run_pass(here, config, Orders())
    assert [] == report.conflicts
    row = NewClient(here).rows()[key]
    assert ("Second", "From SQL") == (row["subject"], row["body"])
    assert both_equal(here)


def with_a_rewrite_under_the_old_name(tmp_path: Path) -> Path:
    """Return a project whose message SQL archived while an old client was reading it."""
    here, key, path = world(tmp_path)
    late = stale_rewrite(path)
    NewClient(here).update(key, status="archived")
    run_pass(here, CONFIG, Orders())
    path.write_bytes(late)
    return here


def files_in(here: Path) -> set[str]:
    return {path.parent.name for path in (here / ".claude-mpm" / "inbox").rglob("*.md")}


def test_g2_a_rewrite_under_the_old_name_is_in_the_history_when_it_goes(tmp_path: Path) -> None:
    here = with_a_rewrite_under_the_old_name(tmp_path)
    (late,) = (here / ".claude-mpm" / "inbox").glob("*.md")
    data = late.read_bytes()
    run_pass(here, CONFIG, Orders())
    assert not late.exists()
    with closing(sqlite3.connect(here / ".claude-mpm" / "messaging.db")) as opened:
        kept = opened.execute("SELECT data FROM syncd_history WHERE reason = 'late rewrite'")
        assert [(data,)] == kept.fetchall()


def test_a_migration_leaves_a_rewrite_under_the_old_name_to_a_sync(tmp_path: Path) -> None:
    here = with_a_rewrite_under_the_old_name(tmp_path)
    report = run_pass(here, CONFIG, Orders(one_way=True))
    assert (0, True) == (report.counts.changes(), report.is_partial)
    assert {"inbox", ".archive"} == files_in(here)


def test_g16_a_dry_run_tells_of_a_rewrite_that_is_to_go_and_the_journal_that_it_went(
    tmp_path: Path,
) -> None:
    here = with_a_rewrite_under_the_old_name(tmp_path)
    dry = run_pass(here, CONFIG, Orders(dry_run=True))
    assert {"inbox", ".archive"} == files_in(here)
    report = run_pass(here, CONFIG, Orders())
    assert 1 == report.counts.files_deleted
    assert report.as_json() == dry.as_json()
    assert {".archive"} == files_in(here)
    with closing(sqlite3.connect(here / ".claude-mpm" / "messaging.db")) as opened:
        sql = "SELECT side, step, why FROM syncd_journal ORDER BY seq DESC LIMIT 1"
        assert ("file", "delete", "late rewrite") == opened.execute(sql).fetchone()


def set_back(here: Path, seconds: float) -> None:
    """Have all that syncd remembers of replaced versions be older."""
    with closing(sqlite3.connect(here / ".claude-mpm" / "messaging.db")) as opened, opened:
        opened.execute("UPDATE syncd_versions SET at = at - ?", (seconds,))


def test_who_goes_back_to_a_version_of_days_ago_is_no_late_writer(tmp_path: Path) -> None:
    here, key, path = world(tmp_path)
    late = stale_rewrite(path)
    NewClient(here).update(key, body="From SQL")
    run_pass(here, CONFIG, Orders())
    set_back(here, 3 * 86_400)
    path.write_bytes(late)
    run_pass(here, CONFIG, Orders())
    assert "Words" == NewClient(here).rows()[key]["body"]
    assert both_equal(here)


def test_who_goes_back_to_a_version_and_leaves_it_unread_is_no_late_writer(tmp_path: Path) -> None:
    here, key, path = world(tmp_path)
    before = path.read_bytes()
    NewClient(here).update(key, body="From SQL")
    run_pass(here, CONFIG, Orders())
    path.write_bytes(before)
    run_pass(here, CONFIG, Orders())
    assert "Words" == NewClient(here).rows()[key]["body"]
    assert both_equal(here)


@pytest.mark.parametrize(
    ("was_read", "seconds", "body"),
    [(True, 50, "From SQL"), (True, 70, "Words"), (False, 70, "From SQL"), (False, 700, "Words")],
)
def test_a_version_that_was_read_already_is_a_late_writers_for_a_minute_only(
    tmp_path: Path, was_read: bool, seconds: float, body: str
) -> None:
    here, key, path = world(tmp_path)
    if was_read:
        OldClient(here).read(key)
        run_pass(here, CONFIG, Orders())
    late = stale_rewrite(path)
    NewClient(here).update(key, body="From SQL")
    run_pass(here, CONFIG, Orders())
    set_back(here, seconds)
    path.write_bytes(late)
    run_pass(here, CONFIG, Orders())
    assert body == NewClient(here).rows()[key]["body"]
    assert both_equal(here)


def test_a_copy_at_the_place_that_a_message_left_days_ago_is_not_removed(tmp_path: Path) -> None:
    here = with_a_rewrite_under_the_old_name(tmp_path)
    set_back(here, 3 * 86_400)
    report = run_pass(here, CONFIG, Orders())
    (entry,) = report.quarantined
    assert "is taken by" in entry.problem.reason
    assert {"inbox", ".archive"} == files_in(here)


def test_g8_a_stale_rewrite_under_the_old_name_does_not_undo_an_archive(tmp_path: Path) -> None:
    here, key, path = world(tmp_path)
    late = stale_rewrite(path)
    NewClient(here).archive(key)
    run_pass(here, CONFIG, Orders())
    path.write_bytes(late)
    report = run_pass(here, CONFIG, Orders())
    assert [] == report.quarantined
    assert not path.exists()
    assert "archived" == NewClient(here).rows()[key]["status"]
    assert both_equal(here)


def test_g8_a_writer_that_opened_the_displaced_file_is_heard(tmp_path: Path) -> None:
    here, key, path = world(tmp_path)
    late = stale_rewrite(path)
    NewClient(here).update(key, body="From SQL")
    with path.open("wb") as writer:  # truncated, and not yet written
        report = run_pass(here, CONFIG, Orders())
        assert "Words" != NewClient(here).rows()[key]["body"]
        assert report.counts.changes() == 0
        writer.write(late)
    run_pass(here, CONFIG, Orders())
    row = NewClient(here).rows()[key]
    assert ("From SQL", "read") == (row["body"], row["status"])
    assert both_equal(here)


def test_g8_an_editor_writing_to_the_displaced_file_is_merged(tmp_path: Path) -> None:
    here, key, path = world(tmp_path)
    text = path.read_text()
    # An editor that opened the file for reading and writing, and saves in place later.
    with path.open("r+") as editor:
        NewClient(here).update(key, priority="urgent")
        report = run_pass(here, CONFIG, Orders())
        if report.counts.files_updated == 0:
            # The system told that somebody has it open for writing: nothing was displaced.
            assert "normal" in path.read_text()
        editor.write(text.replace("Words", "Words of a person"))
        editor.truncate()
    run_pass(here, CONFIG, Orders())
    run_pass(here, CONFIG, Orders())
    row = NewClient(here).rows()[key]
    assert ("Words of a person", "urgent") == (row["body"], row["priority"])
    assert both_equal(here)


def versions(here: Path) -> int:
    with closing(sqlite3.connect(database_of(here))) as connection:
        return int(connection.execute("SELECT count(*) FROM syncd_versions").fetchone()[0])


def test_a_file_that_somebody_keeps_open_is_taken_in_when_he_has_left_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, key, path = world(tmp_path)
    relative = f"inbox/{key}.md"
    with path.open("a") as writer:
        writer.write("\nand more")
        writer.flush()
        assert {relative} == run_pass(here, CONFIG, Orders(wait=False)).unsettled
        assert "Words" == NewClient(here).rows()[key]["body"], "he may not be done"

        monkeypatch.setattr(folders, "STILL_S", 0.0)
        run_pass(here, CONFIG, Orders())
        assert "Words\nand more" == NewClient(here).rows()[key]["body"]

        inode, noted = path.stat().st_ino, versions(here)
        NewClient(here).update(key, priority="urgent")
        for _ in range(3):
            assert {relative} == run_pass(here, CONFIG, Orders(wait=False)).unsettled
        assert noted == versions(here), "what cannot be done yet is not noted"
        writer.write("\nand yet more")
        writer.flush()
        assert inode == path.stat().st_ino, "what he writes now is seen by all"
    run_pass(here, CONFIG, Orders())
    row = NewClient(here).rows()[key]
    assert ("Words\nand more\nand yet more", "urgent") == (row["body"], row["priority"])
    assert both_equal(here)


def test_a_file_that_somebody_keeps_open_is_moved_and_not_deleted_under_his_hands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, key, path = world(tmp_path)
    monkeypatch.setattr(folders, "STILL_S", 0.0)
    with path.open("a") as writer:
        NewClient(here).archive(key)
        assert 1 == run_pass(here, CONFIG, Orders()).counts.files_moved
        moved = path.parent / ".archive" / path.name
        NewClient(here).delete(key)
        assert {f"inbox/.archive/{key}.md"} == run_pass(here, CONFIG, Orders()).unsettled
        writer.write("\nand more")
    run_pass(here, CONFIG, Orders())
    assert "Words\nand more" == NewClient(here).rows()[key]["body"], "an edit wins"
    assert moved.exists()
    assert both_equal(here)


def with_a_stray(tmp_path: Path) -> tuple[Path, str, Path]:
    """Return a project, a message in it that SQL edited, and its displaced file, written later."""
    here, key, path = world(tmp_path)
    text = path.read_text()
    reader = os.open(path, os.O_RDONLY)
    NewClient(here).update(key, priority="urgent")
    run_pass(here, CONFIG, Orders())
    # The reader keeps the displaced file from being unlinked; through it, somebody writes.
    (stray,) = path.parent.glob(".syncd-*.tmp")
    stray.write_text(text.replace("Words", "Late words"))
    os.close(reader)
    return here, key, stray


def test_g8_a_displaced_file_that_is_written_later_is_a_stray_that_is_merged(
    tmp_path: Path,
) -> None:
    here, key, stray = with_a_stray(tmp_path)
    run_pass(here, CONFIG, Orders())
    row = NewClient(here).rows()[key]
    assert ("Late words", "urgent") == (row["body"], row["priority"])
    assert [] == list(stray.parent.glob(".syncd-*.tmp"))
    assert both_equal(here)


def test_g11_a_stray_does_not_wait_for_a_change_of_which_no_event_told(tmp_path: Path) -> None:
    here, key, stray = with_a_stray(tmp_path)
    path = stray.parent / f"{key}.md"
    path.write_bytes(path.read_bytes().replace(b"Hello", b"By hand"))
    for _ in range(2):
        run_pass(here, CONFIG, Orders(paths=frozenset({f"inbox/{stray.name}"}), wait=False))
    row = NewClient(here).rows()[key]
    assert ("By hand", "Late words", "urgent") == (row["subject"], row["body"], row["priority"])
    assert not stray.exists()
    assert both_equal(here)


def test_g8_a_writer_to_a_version_that_was_taken_back_undoes_nothing_of_sqls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, key, path = world(tmp_path)
    NewClient(here).update(key, priority="high")
    run_pass(here, CONFIG, Orders())
    appended: list[str] = []

    def append_between(folder: int, temp: str, name: str) -> None:
        exchange(folder, temp, name)
        if not appended:  # to the version that came out, and to that of syncd's
            for one in (temp, name):
                with os.fdopen(os.open(one, os.O_WRONLY | os.O_APPEND, dir_fd=folder), "w") as file:
                    file.write(f"\nTo {one}")
            appended.append(temp)

    with monkeypatch.context() as patched:
        patched.setattr("syncd.files.replica.exchange", append_between)
        NewClient(here).update(key, priority="low")
        run_pass(here, CONFIG, Orders())
    inode = (path.parent / appended[0]).stat().st_ino
    with closing(sqlite3.connect(database_of(here))) as connection, connection:
        # That of a version before, which the file system gave to another file since.
        connection.execute("UPDATE syncd_versions SET inode = ? WHERE seq = 1", (inode,))
    NewClient(here).update(key, priority="urgent")
    for _ in range(3):
        run_pass(here, CONFIG, Orders())
    assert "urgent" == NewClient(here).rows()[key]["priority"]
    assert [] == list(path.parent.glob(".syncd-*"))
    assert both_equal(here)


@pytest.mark.parametrize(
    ("prefer", "body"), [(Side.FILE, "Late words"), (Side.DB, "From SQL")], ids=str
)
def test_g3_what_a_late_writer_and_sql_both_changed_is_a_conflict_with_the_usual_winner(
    tmp_path: Path, prefer: Side, body: str
) -> None:
    here, key, _ = with_a_stray(tmp_path)
    NewClient(here).update(key, body="From SQL")
    report = run_pass(here, CONFIG._replace(prefer=prefer), Orders())
    assert [(key, "body", prefer)] == [(one.id, one.field, one.winner) for one in report.conflicts]
    assert body == NewClient(here).rows()[key]["body"]
    assert both_equal(here)


def test_a_migration_leaves_a_stray_to_a_sync(tmp_path: Path) -> None:
    here, key, stray = with_a_stray(tmp_path)
    before = stray.read_bytes(), NewClient(here).rows()[key]
    assert 0 == run_pass(here, CONFIG, Orders(one_way=True)).counts.changes()
    assert before == (stray.read_bytes(), NewClient(here).rows()[key])


def test_g16_a_dry_run_tells_of_a_stray_that_is_to_be_merged(tmp_path: Path) -> None:
    here, key, stray = with_a_stray(tmp_path)
    before = stray.read_bytes(), NewClient(here).rows()[key]
    dry = run_pass(here, CONFIG, Orders(dry_run=True))
    assert before == (stray.read_bytes(), NewClient(here).rows()[key])
    assert run_pass(here, CONFIG, Orders()).as_json() == dry.as_json()


@pytest.mark.parametrize("said", ["", "id: note\n"])
def test_g8_a_stray_whose_id_was_its_name_is_merged(tmp_path: Path, said: str) -> None:
    here = project(tmp_path / "here")
    path = here / ".claude-mpm" / "inbox" / "note.md"
    text = f"---\nfrom_agent: pm\n{said}---\n\n# Note\n\nWords."
    path.write_text(text)
    run_pass(here, CONFIG, Orders())
    NewClient(here).update("note", subject="From SQL")
    with path.open():  # a reader keeps the displaced file from being unlinked
        run_pass(here, CONFIG, Orders())
        (stray,) = path.parent.glob(".syncd-*.tmp")
        stray.write_text(text.replace("Words", "Late words"))
    report = run_pass(here, CONFIG, Orders())
    assert (None, []) == (report.error, report.quarantined)
    rows = NewClient(here).rows()
    assert ["note"] == list(rows)
    assert ("From SQL", "Late words.") == (rows["note"]["subject"], rows["note"]["body"])
    assert [] == list(path.parent.glob(".syncd-*.tmp"))
    assert b"Late words." in path.read_bytes()
    assert 0 == run_pass(here, CONFIG, Orders()).counts.changes()


def _rewrite(path: Path, times: int, seed: int) -> None:
    """Be an old client that reads and rewrites the file again and again."""
    rng = random.Random(seed)
    done = 0
    while done < times:
        try:
            late = stale_rewrite(path)
        except (ValueError, KeyError, FileNotFoundError):
            continue  # it met an empty file, as it does beside any other old client
        time.sleep(rng.random() * 0.004)
        with path.open("wb") as writer:
            time.sleep(rng.random() * 0.001)
            writer.write(late)
        done += 1
        time.sleep(rng.random() * 0.004)


def test_g8_many_stale_rewrites_beside_many_sql_edits_lose_nothing(tmp_path: Path) -> None:
    times = int(os.environ.get("SYNCD_REWRITES", "150"))
    here, key, path = world(tmp_path)
    with RunningAgent(tmp_path / "home", here) as agent:
        other = multiprocessing.get_context("spawn").Process(target=_rewrite, args=(path, times, 1))
        other.start()
        client = NewClient(here)
        for number in range(times):
            client.update(key, body=f"Body {number}", priority=["low", "high"][number % 2])
            time.sleep(0.003)
        other.join(120)
        assert 0 == other.exitcode
        wait_for(lambda: both_equal(here) and not list(path.parent.glob(".syncd-*.tmp")), 20)
        wait_for(lambda: client.rows()[key]["status"] == "read")
        assert "ERROR" not in agent.log
        row = client.rows()[key]
    assert (f"Body {times - 1}", ["low", "high"][(times - 1) % 2]) == (
        row["body"],
        row["priority"],
    )
    with closing(sqlite3.connect(here / ".claude-mpm" / "messaging.db")) as opened:
        assert [] == opened.execute("SELECT * FROM syncd_conflicts").fetchall()
