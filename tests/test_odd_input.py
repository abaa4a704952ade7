"""G14, G15: hostile and odd input, and that one bad thing harms nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.cli import status
from syncd.core.message import file_name
from syncd.cycle.report import State
from syncd.database.store import Store
from syncd.errors import ReplicaError
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Version
from syncd.verify import verify
from tests.clients import SCHEMA, NewClient
from tests.projects import (
    AT_ONE,
    BY_HAND,
    ODD_IDS,
    ONE,
    SENT,
    TWO,
    Project,
    a_row,
    assert_in_step,
    assert_quiet,
    insert,
    nothing_written,
    path_of,
)

# G14: hostile and odd input ----------------------------------------------------------------------


def test_g14_no_id_of_a_row_leads_outside_its_mailbox(project: Project) -> None:
    for key in ODD_IDS:
        insert(project, a_row(project, key, body=f"Body of {key!r}."))
    outside = set(project.path.parent.rglob("*")) - set(project.base.rglob("*"))
    report = project.sync()
    assert [] == report.quarantined
    assert len(ODD_IDS) == report.counts.files_created == len(project.names("inbox"))
    assert outside == set(project.path.parent.rglob("*")) - set(project.base.rglob("*"))
    assert {"inbox", "messaging.db"} == {path.name for path in project.base.iterdir()}
    assert_in_step(project)
    assert_quiet(project)
    project.sql("UPDATE messages SET status = 'archived', body = body || ' Again.'")
    project.sync()
    assert len(ODD_IDS) == len(project.names("inbox/.archive"))
    assert {"inbox", "messaging.db"} == {path.name for path in project.base.iterdir()}
    assert_in_step(project)
    assert_quiet(project)


def test_g14_no_id_of_a_file_leads_outside_its_mailbox(project: Project) -> None:
    for number, key in enumerate(ODD_IDS):
        quoted = yaml.safe_dump(key, default_style='"', width=10**6).rstrip()
        said = BY_HAND.replace("id: by-hand", f"id: {quoted}")
        project.write(f"inbox/{number}.md", said)
    before = project.files()
    report = project.sync()
    assert [] == report.quarantined
    assert before == project.files()
    assert sorted(ODD_IDS) == sorted(project.rows())
    for number, key in enumerate(ODD_IDS):
        column = {"status": "archived"} if number % 2 else {"subject": "By SQL"}
        project.new.update(key, **column)
    project.sync()
    assert {"inbox", "messaging.db"} == {path.name for path in project.base.iterdir()}
    assert_in_step(project)
    assert_quiet(project)


def test_g14_file_names_are_plain_short_and_one_for_each_id() -> None:
    names = [file_name(key) for key in ODD_IDS]
    assert len(names) == len(set(names))
    for name in names:
        assert name.endswith(".md")
        assert not name.startswith(".")
        assert not set("/\\\0\n") & set(name)
        assert name.partition(".")[0].lower() not in ("nul", "con", "com1")  # devices on Windows
        assert len(os.fsencode(name)) <= 255


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "folder", "device", "socket"])
@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_g14_what_is_no_regular_file_is_left_alone(
    synced: Project, kind: str, known: bool, request: pytest.FixtureRequest
) -> None:
    path = synced.file(AT_ONE if known else "inbox/odd.md")
    secret = synced.path.parent / "secret.md"
    secret.write_text(synced.text(AT_ONE).replace("Body 1.", "Secret."))
    if known:
        path.unlink()
    make_odd(kind, path, secret)
    rows = synced.rows()
    report = synced.sync()
    assert rows == synced.rows()
    assert [f"inbox/{path.name}"] == [entry.path for entry in report.quarantined]
    assert_quiet(synced)
    if known:
        synced.new.update(ONE, subject="Meanwhile")
        for later in (synced.scoped(), synced.sync()):
            assert report.quarantined[0].problem == later.quarantined[0].problem
        synced.new.archive(ONE)
        synced.sync()
    assert "Secret." in secret.read_text()
    assert "Secret." not in {row["body"] for row in synced.rows().values()}
    assert path.is_symlink() or path.exists()
    assert not stat.S_ISREG(path.lstat().st_mode)
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    report = synced.sync()
    assert [] == report.quarantined
    assert_in_step(synced)


@pytest.mark.parametrize("kind", ["dangling link", "FIFO", "folder"])
def test_g14_a_new_row_whose_name_something_odd_has_gets_a_file_of_another_name(
    synced: Project, kind: str
) -> None:
    path = synced.file("inbox/new.md")
    make_odd(kind, path, synced.path)
    insert(synced, a_row(synced, "new"))
    report = synced.sync()
    assert (1, ["inbox/new.md"]) == (
        report.counts.files_created,
        [entry.path for entry in report.quarantined],
    )
    (name,) = {name for name in synced.names("inbox") if name.startswith("new%")}
    assert "From a row." in synced.text(f"inbox/{name}")
    assert_quiet(synced)


def make_odd(kind: str, path: Path, target: Path) -> None:
    match kind:
        case "link":
            path.symlink_to(target)
        case "dangling link":
            path.symlink_to(target.with_name("nothing.md"))
        case "FIFO":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            if os.geteuid() != 0:
                pytest.skip("only root can make a device")
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        case "socket":
            os.mknod(path, stat.S_IFSOCK | 0o600)


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "folder", "device", "socket"])
@pytest.mark.parametrize("dry_run", [False, True], ids=["sync", "dry run"])
def test_g14_a_database_that_is_no_regular_file_is_an_error_and_blocks_nothing(
    project: Project, kind: str, dry_run: bool
) -> None:
    project.receive(1)
    target = project.path.parent / "target.db"
    NewClient(project.other).list()
    shutil.copy2(NewClient(project.other).database, target)
    before = target.read_bytes()
    make_odd(kind, project.new.database, target)
    code = (
        "import sys; from pathlib import Path; from syncd.cycle.project import run_pass; "
        "from syncd.config import Config; from syncd.cycle.orders import Orders; "
        f"report = run_pass(Path(sys.argv[1]), Config(gone_s=0.0), Orders(dry_run={dry_run})); "
        "print(report.state, '|', report.error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(project.path)],
        capture_output=True,
        text=True,
        timeout=10,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert "" == done.stderr
    assert done.stdout.startswith("error | ")
    assert before == target.read_bytes()


def test_g14_a_mailbox_that_is_a_link_is_not_followed(synced: Project) -> None:
    elsewhere = synced.path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.md").write_text(BY_HAND)
    synced.file("archive").symlink_to(elsewhere)
    synced.sync()
    assert "by-hand" not in synced.rows()
    synced.new.archive(ONE)
    synced.sync()
    assert ["x.md"] == [path.name for path in elsewhere.iterdir()]


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_mailbox_that_is_no_folder_is_told_from_the_first_sync_on(
    project: Project, kind: str
) -> None:
    inbox = project.file("inbox")
    inbox.parent.mkdir(parents=True, exist_ok=True)
    reason = {"link": "it is a symbolic link", "file": "it is not a folder"}[kind]
    if kind == "link":
        (project.path / "elsewhere").mkdir()
        inbox.symlink_to(project.path / "elsewhere")
    else:
        inbox.write_text("")
    for _ in range(2):
        report = project.sync()
        assert State.ATTENTION is report.state
        assert [("inbox", reason)] == [(one.path, one.problem.reason) for one in report.quarantined]
        assert_quiet(project)

    inbox.unlink()
    key = project.receive()

    assert State.IN_SYNC is project.sync().state
    assert [key] == list(project.rows())


def test_a_link_from_one_archive_to_the_other_is_nothing_to_tell(synced: Project) -> None:
    synced.file("archive").symlink_to("inbox/.archive")
    assert State.IN_SYNC is synced.sync().state
    assert_quiet(synced)


def test_a_project_whose_folder_is_a_link_is_told_the_way_out(synced: Project) -> None:
    moved = synced.path / "moved"
    synced.file("").rename(moved)
    synced.path.joinpath(".claude-mpm").symlink_to(moved)
    report = synced.cycle()
    assert report.error is not None
    assert report.error.endswith("is a symbolic link, and links are not followed")
    assert report.hint
    told = status.look(synced.path, [])
    assert (State.ERROR, report.error) == (told.state, told.found.error)


def test_g14_a_file_over_the_limit_is_left_alone(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", max_bytes=2000)
    project.receive(1)
    project.sync()
    row = project.row(ONE)
    project.receive(1, body="x" * 3000)
    project.receive(2, body="x" * 3000)
    report = project.sync()
    assert {ONE: row} == project.rows()
    assert [AT_ONE, f"inbox/{TWO}.md"] == [entry.path for entry in report.quarantined]
    assert "2,000" in report.quarantined[0].problem.reason
    assert_quiet(project)
    assert 1 == Project(tmp_path / "p", max_bytes=4000).sync(one_way=True).counts.rows_inserted
    project.receive(1, body="short")
    project.sync()
    assert "short" == project.row(ONE)["body"]


def test_g14_a_huge_sparse_file_is_not_read(project: Project) -> None:
    with open(project.write("inbox/huge.md", BY_HAND), "r+b") as file:
        file.truncate(1 << 40)
    project.receive(1)
    report = project.sync()
    assert [ONE] == list(project.rows())
    assert ["inbox/huge.md"] == [entry.path for entry in report.quarantined]


ODD_CELLS: dict[str, tuple[str, object]] = {
    "BLOB body": ("body", b"bytes"),
    "BLOB subject": ("subject", b"\xff\x00"),
    "BLOB status": ("status", b"read"),
    "BLOB metadata": ("metadata", b"{}"),
    "BLOB date": ("created_at", b"2026-02-20"),
    "broken JSON": ("metadata", '{"a": '),
    "JSON that is only words": ("metadata", "some words"),
    "broken list": ("attachments", "['a']"),
    "attachments that are a text": ("attachments", '"a.txt"'),
    "JSON without end": ("metadata", "[" * 100_000),
    "JSON that nests as deeply as can be decoded": ("metadata", '{"a":' * 960 + "1" + "}" * 960),
    "a list that nests so": ("attachments", "[" * 960 + "]" * 960),
    "a JSON number without end": ("metadata", f'{{"n": {"9" * 5_000}}}'),
    "no date": ("created_at", ""),
    "an odd date": ("created_at", "yesterday"),
    "an impossible date": ("created_at", "2026-02-30T00:00:00"),
    "epoch seconds": ("created_at", "1760000000"),
}


@pytest.mark.parametrize(("column", "value"), ODD_CELLS.values(), ids=ODD_CELLS.keys())
def test_g14_an_odd_row_is_reported_and_its_file_stays(
    synced: Project, column: str, value: object
) -> None:
    files = synced.files()
    good = synced.row(ONE)[column]
    synced.new.update(ONE, **{column: value})
    insert(synced, a_row(synced, "odd-and-new", **{column: value}))
    insert(synced, a_row(synced, "fine"))
    synced.scoped()
    report = synced.sync()
    assert ["messaging.db#" + ONE, "messaging.db#odd-and-new"] == [
        entry.path for entry in report.quarantined
    ]
    assert files.keys() | {"inbox/fine.md"} == synced.files().keys()
    assert files == {path: synced.files()[path] for path in files}
    assert value == synced.row(ONE)[column]
    assert_quiet(synced)
    synced.edit(AT_ONE, "type: task", "type: request")
    synced.sync()
    assert value == synced.row(ONE)[column]
    synced.new.update(ONE, **{column: good})
    synced.new.delete("odd-and-new")
    report = synced.sync()
    assert (State.IN_SYNC, []) == (report.state, report.quarantined)
    assert "request" == synced.row(ONE)["message_type"]
    assert_in_step(synced)
    assert_quiet(synced)


def test_a_list_for_an_agent_is_the_same_however_it_is_laid_out(synced: Project) -> None:
    block = "to_agent:\n- pm\n- qa\n# ask lumen first"
    head = synced.text(AT_ONE).replace("to_agent: pm\n", "")
    text = head.replace("\n---\n", f"\n{block}\n---\n")
    synced.write(AT_ONE, text)
    synced.sync()
    assert '["pm", "qa"]' == synced.row(ONE)["to_agent"]
    for other in (
        text.replace("ask lumen first", "ask nobody"),
        text.replace("\n", "\r\n"),
        text.replace(block, "to_agent: [pm, 'qa']  # two"),
    ):
        synced.write(AT_ONE, other)
        assert 0 == synced.sync().counts.changes()
    synced.write(AT_ONE, text)
    synced.sync()
    synced.new.update(ONE, metadata='{"a": 1}')
    assert (1, []) == (synced.sync().counts.files_updated, synced.cycle().quarantined)
    assert "- qa\nmetadata:\n  a: 1\n# ask lumen first\n" in synced.text(AT_ONE)
    synced.old.read(ONE)
    synced.sync()
    assert ('["pm", "qa"]', "read") == (synced.row(ONE)["to_agent"], synced.row(ONE)["status"])
    assert_quiet(synced)


def test_a_number_of_too_many_digits_is_told_in_plain_words(synced: Project) -> None:
    synced.new.update(ONE, metadata=f'{{"n": {"9" * 5_000}}}')
    reasons = [entry.problem.reason for entry in synced.sync().quarantined]
    assert ["a JSON number has too many digits"] == reasons


def test_g14_rows_without_an_id_are_reported_until_they_are_gone(synced: Project) -> None:
    for key in (None, None, b"\x00\xff", b"blob"):
        insert(synced, a_row(synced, "x") | {"id": key})
    insert(synced, a_row(synced, "fine"))
    files = synced.files()
    synced.scoped()
    report = synced.sync()
    assert len(files) + 1 == len(synced.files())
    assert {"messaging.db[None]", "messaging.db[b'\\x00\\xff']", "messaging.db[b'blob']"} == {
        entry.path for entry in report.quarantined
    }
    assert_quiet_raw(synced)
    synced.sql("DELETE FROM messages WHERE id IS NULL OR typeof(id) = 'blob'")
    report = synced.sync()
    assert [] == report.quarantined
    assert_quiet(synced)


def test_a_row_without_an_id_is_not_taken_for_one_whose_id_spells_none(synced: Project) -> None:
    for key in (None, "None"):
        insert(synced, a_row(synced, "x") | {"id": key, "metadata": "{"})
    problems = {entry.path: entry.problem.reason for entry in synced.sync().quarantined}
    assert {"messaging.db[None]", "messaging.db#None"} == problems.keys()
    assert "the id is NULL" == problems["messaging.db[None]"]
    synced.sql("DELETE FROM messages WHERE id IS NULL")
    assert {"messaging.db[None]"} == synced.scoped().released
    assert ["messaging.db#None"] == [entry.path for entry in synced.sync().quarantined]


def assert_quiet_raw(project: Project) -> None:
    with nothing_written(project):
        assert 0 == project.sync().counts.changes()


def test_g14_text_that_is_not_utf_8_in_a_row_is_reported(synced: Project) -> None:
    synced.sql("UPDATE messages SET body = CAST(x'ff41' AS TEXT) WHERE id = ?", ONE)
    insert(synced, a_row(synced, "fine"))
    files = synced.files()
    report = synced.sync()
    assert [ONE] == [entry.id for entry in report.quarantined]
    assert files == {path: synced.files()[path] for path in files}
    assert "fine.md" in synced.names("inbox")


def test_g14_an_id_that_is_not_utf_8_is_reported_and_holds_up_nothing(synced: Project) -> None:
    synced.sql(
        "INSERT INTO messages (id, from_project, to_project, subject, body, created_at) "
        "VALUES (CAST(x'61ff' AS TEXT), 'a', 'b', 'S', 'B', '2026-02-20')"
    )
    insert(synced, a_row(synced, "fine"))
    report = synced.sync()
    assert 1 == len(report.quarantined)
    assert "fine.md" in synced.names("inbox")
    synced.new.update(ONE, subject="Heard")
    synced.scoped()
    assert "Heard" == synced.message_at(AT_ONE).subject


def test_g14_half_a_surrogate_in_a_file_is_reported_and_holds_up_nothing(
    synced: Project,
) -> None:
    odd = {
        "agent": BY_HAND.replace('"pm"', '"\\ud800"'),
        "id": BY_HAND.replace("id: by-hand", 'id: "\\udfff"'),
        "subject": BY_HAND.replace("owner: somebody", 'subject: "\\ud800"'),
        "metadata": BY_HAND.replace("owner: somebody", 'metadata: {"\\ud800": "\\udcff"}'),
        "status": BY_HAND.replace("owner: somebody", 'status: "\\ud83d\\ude00\\ud83d"'),
    }
    for name, text in odd.items():
        synced.write(f"inbox/{name}.md", text.replace("id: by-hand", f"id: {name}"))
    synced.edit(AT_ONE, "Body 1.", "Heard.")
    synced.sync()
    assert "Heard." == synced.row(ONE)["body"]
    for name, text in odd.items():
        assert text.replace("id: by-hand", f"id: {name}") == synced.text(f"inbox/{name}.md")
    assert_quiet(synced)


def test_g14_a_file_name_that_is_not_utf_8_is_imported_or_reported_and_holds_up_nothing(
    synced: Project,
) -> None:
    name = os.fsencode(synced.file("inbox")) + b"/caf\xe9.md"
    Path(os.fsdecode(name)).write_text(BY_HAND)
    synced.edit(AT_ONE, "Body 1.", "Heard.")
    report = synced.sync()
    assert "Heard." == synced.row(ONE)["body"]
    assert "by-hand" in synced.rows() or report.quarantined


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("!!python/tuple [1]", "the tag 'tag:yaml.org,2002:python/tuple' names no plain value"),
        ("{a: !!timestamp x}", "metadata: a value cannot be read: it is not what its tag says"),
        ("&a [*a]", "an alias contains itself"),
        ("[" * 10_000 + "]" * 10_000, "the front matter nests too deeply"),
    ],
)
def test_every_file_that_is_set_aside_has_a_reason_and_a_way_out(
    synced: Project, value: str, reason: str
) -> None:
    synced.write("inbox/odd.md", f"---\nid: odd\nmetadata: {value}\n---\n\nWords.\n")
    (entry,) = synced.sync().quarantined
    assert entry.problem.reason.startswith(reason)
    assert entry.problem.hint


def test_g14_a_front_matter_that_expands_without_end_is_left_alone(synced: Project) -> None:
    bomb = ["a0: &a0 [" + ",".join("x" * 10) + "]"]
    bomb += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 12)]
    synced.write("inbox/bomb.md", "---\n" + "\n".join(bomb) + "\nmetadata: *a11\n---\n")
    few = ["a0: &a0 [''" + ",''" * 9 + "]"]
    few += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 5)]
    synced.write("inbox/bombs.md", "---\n" + "\n".join(few) + "\nmetadata: *a4\n---\n")
    synced.write("inbox/deep.md", "---\nmetadata: " + "[" * 5000 + "]" * 5000 + "\n---\n")
    steps = [f"k{n}: &k{n} " + "[" * 150 + f"*k{n - 1}" + "]" * 150 for n in range(1, 20)]
    aliases = "\n  ".join(["metadata:", "k0: &k0 []", *steps])
    synced.write("inbox/levels.md", f"---\n{aliases}\n---\n")
    merges = aliases.replace("[]", "{}").replace("[", "{<<: ").replace("]", "}")
    synced.write("inbox/merges.md", f"---\n{merges}\n<<: *k19\n---\n")
    synced.write("inbox/python.md", "---\nid: !!python/object/apply:os.getpid []\n---\n")
    report = synced.sync()
    names = ["bomb", "bombs", "deep", "levels", "merges", "python"]
    assert [f"inbox/{name}.md" for name in names] == [entry.path for entry in report.quarantined]
    assert 5 == len(synced.rows())


def test_g14_a_row_that_nests_deeply_is_reported_where_the_file_has_its_value_on_one_line(
    synced: Project,
) -> None:
    synced.edit(AT_ONE, "priority:", "metadata: {a: 1}\npriority:")
    synced.sync()
    synced.new.update(ONE, metadata='{"a":' * 450 + "1" + "}" * 450)
    insert(synced, a_row(synced, "fine"))
    (entry,) = synced.sync().quarantined
    assert "nests too deeply" in entry.problem.reason
    assert "inbox/fine.md" in synced.files()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("metadata", ["5", '"x"', "true", "[1]", "0", '""', "false", '{"a": 1e999, "b": NaN}']),
        ("metadata", ['{"": {"": []}}', '{"a": "\\u0000\\u0085"}', '{"---": ["---\\n"]}']),
        ("attachments", ["[1]", '{"a": 1}', '[""]', "[null]", '["a", "a"]', '[["x"]]', '["---"]']),
    ],
)
def test_json_of_any_kind_goes_into_the_file_and_stays_as_it_is(
    synced: Project, column: str, values: list[str]
) -> None:
    for value in values:
        synced.new.update(ONE, **{column: value})
        report = synced.sync()
        assert ([], 0) == (report.quarantined, report.counts.rows_updated)
        assert value == synced.row(ONE)[column]
        assert_in_step(synced)
        assert_quiet(synced)


def test_g14_the_longest_file_name_can_be_moved_to_a_taken_name(project: Project) -> None:
    name = "x" * 252 + ".md"
    project.write(f"inbox/{name}", BY_HAND)
    project.write(f"inbox/.archive/{name}", BY_HAND.replace("id: by-hand", "id: other"))
    project.sync()
    project.new.archive("by-hand")
    project.sync()
    assert 2 == len(project.names("inbox/.archive"))
    assert_in_step(project)
    assert_quiet(project)


def test_a_row_whose_file_name_is_taken_by_another_message_gets_another_name(
    project: Project,
) -> None:
    project.write("inbox/wanted.md", BY_HAND)
    insert(project, a_row(project, "wanted"))
    project.sync()
    assert BY_HAND == project.text("inbox/wanted.md")
    assert "inbox/wanted.md" != path_of(project, "wanted")
    assert_in_step(project)
    assert_quiet(project)


def test_a_row_finds_a_name_where_its_second_one_is_taken_too(project: Project) -> None:
    names = ["inbox/wanted.md"]
    for number in range(3):
        project.write(names[-1], f"---\nid: other-{number}\n---\n\nWords")
        insert(project, a_row(project, "wanted"))
        project.sync()
        names.append(path_of(project, "wanted"))
        assert_in_step(project)
        assert_quiet(project)
        project.sql("DELETE FROM messages WHERE id = 'wanted'")
        project.sync()
    assert 4 == len(set(names))


def test_a_file_without_an_id_that_is_moved_to_a_taken_name_stays_its_message(
    project: Project,
) -> None:
    project.write("inbox/.archive/note.md", BY_HAND)
    project.write("inbox/note.md", BY_HAND.replace("id: by-hand\n", ""))
    project.sync()
    assert {"by-hand", "note"} == project.rows().keys()
    project.new.update("note", status="archived", read_at="2026-01-01T00:00:00+00:00")
    project.sync()
    assert ["note.md"] != project.names("inbox/.archive")
    project.sync(trust_stamps=False)
    row = project.row("note")
    assert ("archived", "2026-01-01T00:00:00+00:00") == (row["status"], row["read_at"])
    assert {"by-hand", "note"} == project.rows().keys()


# G15: one bad thing harms nothing else -----------------------------------------------------------


def test_g15_one_bad_file_and_one_odd_row_hold_up_nothing_else(synced: Project) -> None:
    synced.write("inbox/bad.md", b"\xff")
    insert(synced, a_row(synced, "odd", created_at="never"))
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.new.update(TWO, body="By SQL.")
    report = synced.sync()
    assert ["inbox/bad.md", "messaging.db#odd"] == [entry.path for entry in report.quarantined]
    assert "By hand." == synced.row(ONE)["body"]
    assert "By SQL." == synced.message_at(f"inbox/{TWO}.md").body


def test_g18_a_second_name_of_a_file_is_reported_until_one_of_the_two_is_gone(
    synced: Project,
) -> None:
    os.link(synced.file(AT_ONE), synced.file("inbox/again.md"))
    for _ in range(2):
        (entry,) = synced.sync().quarantined
        assert ("inbox/again.md", f"it is {AT_ONE} under another name") == (
            entry.path,
            entry.problem.reason,
        )
    assert_quiet(synced)
    synced.file(AT_ONE).unlink()
    report = synced.sync()
    assert ([], 0) == (report.quarantined, report.counts.rows_deleted)
    assert "inbox/again.md" == path_of(synced, ONE)
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.fixture
def case_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have messages found whatever the case of their name, as macOS and Windows do."""
    really_open, really_stat = os.open, os.stat

    def listed(name: Any, folder: int | None) -> Any:
        if folder is None or not isinstance(name, str) or not name.endswith(".md"):
            return name
        return next((one for one in os.listdir(folder) if one.lower() == name.lower()), name)

    def opening(name: Any, *arguments: Any, dir_fd: int | None = None) -> int:
        return really_open(listed(name, dir_fd), *arguments, dir_fd=dir_fd)

    def looking(name: Any, *, dir_fd: int | None = None, **options: Any) -> os.stat_result:
        return really_stat(listed(name, dir_fd), dir_fd=dir_fd, **options)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "stat", looking)


@pytest.mark.usefixtures("case_does_not_count")
@pytest.mark.parametrize("how", ["full", "old name first", "new name first", "both names"])
@pytest.mark.parametrize("edited", [False, True])
def test_g2_a_name_whose_case_alone_changes_is_a_name_that_changed(
    synced: Project, how: str, edited: bool
) -> None:
    old, new = AT_ONE, AT_ONE.replace("msg", "MSG")
    synced.move(old, new)
    if edited:
        synced.edit(new, "Body 1.", "Edited.")
    match how:
        case "full":
            synced.sync()
        case "old name first":
            synced.heed(old)
            synced.heed(new)
        case "new name first":
            synced.heed(new)
            synced.heed(old)
        case "both names":
            synced.heed(old, new)
    report = synced.sync()
    assert [] == report.quarantined
    assert new in {values[0] for values in synced.sql("SELECT path FROM syncd_baseline")}
    assert ("Edited." if edited else "Body 1.") == synced.row(ONE)["body"]
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("body", ["Another one.", "Body 1."])
def test_g12_g18_two_rows_of_one_id_are_reported_and_change_nothing(
    synced: Project, body: str
) -> None:
    columns = ", ".join(column for column in synced.row(ONE) if column != "body")
    for sql in (
        "CREATE TABLE other AS SELECT * FROM messages",
        "DROP TABLE messages",
        "ALTER TABLE other RENAME TO messages",
        f"INSERT INTO messages ({columns}, body) SELECT {columns}, '{body}' FROM messages "
        f"WHERE id = '{ONE}'",
    ):
        synced.sql(sql)
    text = synced.text(AT_ONE)
    for _ in range(2):
        (entry,) = synced.sync().quarantined
        assert (ONE, "several rows have this id") == (entry.id, entry.problem.reason)
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.sync()
    assert 2 == synced.sql("SELECT count(*) FROM messages WHERE id = ?", ONE)[0][0]
    assert text.replace("Body 1.", "By hand.") == synced.text(AT_ONE)
    synced.sql(
        "DELETE FROM messages WHERE rowid IN (SELECT max(rowid) FROM messages WHERE id = ?)", ONE
    )
    report = synced.sync()
    assert ([], "By hand.") == (report.quarantined, synced.row(ONE)["body"])
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("is_new", [False, True])
def test_g14_g18_no_file_is_written_that_would_be_too_large_to_be_read(
    tmp_path: Path, is_new: bool
) -> None:
    project = Project(tmp_path / "p", max_bytes=2000)
    key = project.receive()
    project.sync()
    if is_new:
        key = project.new.send(project.other, "Subject", "x" * 3000)
        project.sync()
    project.new.update(key, body="x" * 3000)
    files = project.files()
    for _ in range(2):
        (entry,) = project.sync().quarantined
        assert "bytes; the limit is 2,000" in entry.problem.reason
        assert "max_bytes" in entry.problem.hint
    assert files == project.files()
    project.new.update(key, body="Short")
    assert [] == project.sync().quarantined
    assert_in_step(project)
    assert_quiet(project)


@pytest.mark.parametrize("what", [errno.EIO, errno.ESTALE, errno.EOVERFLOW])
def test_g15_a_file_on_a_bad_sector_holds_up_nothing_else(
    synced: Project, monkeypatch: pytest.MonkeyPatch, what: int
) -> None:
    read = os.pread

    def fail(fd: int, size: int, offset: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(AT_ONE):
            raise OSError(what, os.strerror(what))
        return read(fd, size, offset)

    synced.edit(AT_ONE, "Body 1.", "Not to be had.")
    synced.edit(f"inbox/{TWO}.md", "Body 2.", "By hand.")
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", fail)
        (entry,) = synced.sync().quarantined
    assert (AT_ONE, f"it cannot be read: {os.strerror(what).lower()}") == (
        entry.path,
        entry.problem.reason,
    )
    assert ("Body 1.", "By hand.") == (synced.row(ONE)["body"], synced.row(TWO)["body"])
    assert [] == synced.sync().quarantined
    assert "Not to be had." == synced.row(ONE)["body"]


def test_g15_a_file_that_the_database_refuses_is_reported_and_holds_up_nothing_else(
    synced: Project,
) -> None:
    synced.sql(
        "CREATE TRIGGER strict BEFORE INSERT ON messages WHEN NEW.priority = 'whenever' "
        "BEGIN SELECT RAISE(ABORT, 'no such priority'); END"
    )
    refused = synced.receive(10, priority="whenever")
    taken = {synced.receive(number) for number in range(11, 131)}
    report = synced.sync()
    assert 120 == report.counts.rows_inserted
    assert taken < synced.rows().keys()
    assert refused not in synced.rows()
    assert 120 == synced.sql("SELECT count(*) FROM syncd_journal WHERE why = 'new file'")[0][0]
    assert State.IN_SYNC is not report.state
    synced.sql("DROP TRIGGER strict")
    report = synced.sync()
    assert State.IN_SYNC is report.state
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("is_new", [False, True])
def test_g12_what_a_hosts_trigger_makes_of_syncds_own_write_is_heard_at_once(
    synced: Project, is_new: bool
) -> None:
    synced.sql(
        "CREATE TRIGGER shout AFTER INSERT ON messages WHEN NEW.subject <> upper(NEW.subject) "
        "BEGIN UPDATE messages SET subject = upper(subject) WHERE id = NEW.id; END"
        if is_new
        else "CREATE TRIGGER shout AFTER UPDATE ON messages "
        "WHEN NEW.subject <> upper(NEW.subject) "
        "BEGIN UPDATE messages SET subject = upper(subject) WHERE id = NEW.id; END"
    )
    synced.sync()
    key, path = ONE, AT_ONE
    if is_new:
        key = synced.receive(9, subject="Quiet")
        path = f"inbox/{key}.md"
    else:
        synced.edit(AT_ONE, "# Subject 1", "# Quiet")
    report = synced.scoped(path)
    assert {f"messaging.db#{key}"} == report.unsettled
    synced.scoped()
    assert ("QUIET", "QUIET") == (synced.row(key)["subject"], synced.message_at(path).subject)
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("number", [1, 60])
def test_g15_a_trigger_that_rolls_back_all_holds_up_nothing_else(
    synced: Project, number: int
) -> None:
    synced.sql(
        "CREATE TRIGGER harsh BEFORE INSERT ON messages WHEN NEW.priority = 'whenever' "
        "BEGIN SELECT RAISE(ROLLBACK, 'no such priority'); END"
    )
    synced.sql(
        "CREATE TRIGGER harsher BEFORE UPDATE ON messages WHEN NEW.priority = 'whenever' "
        "BEGIN SELECT RAISE(ROLLBACK, 'no such priority'); END"
    )
    before = {synced.receive(20 + n) for n in range(number)}
    refused = synced.receive(100, priority="whenever")
    after = {synced.receive(200 + n) for n in range(number)}
    synced.edit(AT_ONE, "priority: normal", "priority: whenever")
    synced.new.update(ONE, subject="By SQL")
    synced.edit(f"inbox/{TWO}.md", "Body 2.", "By hand.")
    for _ in range(2):
        report = synced.sync()
        assert {AT_ONE, f"inbox/{refused}.md"} == {entry.path for entry in report.quarantined}
        assert before | after < synced.rows().keys()
    assert "By hand." == synced.row(TWO)["body"]
    for trigger in ("harsh", "harsher"):
        synced.sql(f"DROP TRIGGER {trigger}")
    synced.sync()
    assert ("By SQL", "whenever") == tuple(
        synced.row(ONE)[name] for name in ("subject", "priority")
    )
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("number", [1, 60])
def test_g15_a_file_whose_row_a_trigger_ignores_is_reported_and_stays(
    synced: Project, number: int
) -> None:
    synced.sql(
        "CREATE TRIGGER lax BEFORE INSERT ON messages WHEN NEW.priority = 'whenever' "
        "BEGIN SELECT RAISE(IGNORE); END"
    )
    ignored = synced.receive(10, priority="whenever")
    taken = {synced.receive(20 + n) for n in range(number)}
    for _ in range(2):
        report = synced.sync()
        assert [f"inbox/{ignored}.md"] == [entry.path for entry in report.quarantined]
    assert synced.file(f"inbox/{ignored}.md").exists()
    assert taken < synced.rows().keys()
    synced.sql("DROP TRIGGER lax")
    synced.sync()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g15_an_id_that_differs_from_another_in_case_alone_is_refused_where_a_host_says_so(
    synced: Project,
) -> None:
    _make_anew(synced, SCHEMA[0].replace("id TEXT", "id TEXT COLLATE NOCASE"))
    refused = f"inbox/{TWO.upper()}.md"
    synced.file(refused).write_text(
        synced.file(f"inbox/{TWO}.md").read_text().replace(TWO, TWO.upper())
    )
    for _ in range(2):
        report = synced.sync()
        assert [refused] == [entry.path for entry in report.quarantined]
        assert "UNIQUE" in report.quarantined[0].problem.reason
        assert set() == report.unsettled
    assert TWO in synced.rows()


def _make_anew(project: Project, ddl: str) -> None:
    """Make the table messages anew, with the rows that it has, as a host's own tool may."""
    with project.connection() as connection:
        connection.execute("ALTER TABLE messages RENAME TO former")
        connection.execute(ddl)
        connection.execute("INSERT INTO messages SELECT * FROM former")
        connection.execute("DROP TABLE former")


@pytest.mark.parametrize("number", [1, 60])
def test_g2_a_table_that_makes_numbers_of_texts_changes_no_words(
    synced: Project, number: int
) -> None:
    _make_anew(synced, SCHEMA[0].replace("TEXT", "STRING"))
    refused = {
        f"inbox/{synced.receive(10, body=' 000777 '.strip())}.md",
        f"inbox/{synced.receive(11, from_agent='1e5')}.md",
        f"inbox/{synced.receive(12, id='42')}.md",  # the text stays, and the row is none's
        AT_ONE,
    }
    taken = {synced.receive(20 + n, subject="2026") for n in range(number)}
    synced.edit(AT_ONE, "Body 1.", "-0.50")
    synced.edit(f"inbox/{TWO}.md", "Body 2.", "By hand.")
    files = {path: synced.file(path).read_bytes() for path in refused}
    for _ in range(2):
        report = synced.sync()
        assert refused == {entry.path for entry in report.quarantined}
        assert "makes a number of" in report.quarantined[0].problem.reason
    assert files == {path: synced.file(path).read_bytes() for path in refused}
    assert taken < synced.rows().keys()
    assert ("Body 1.", "By hand.") == tuple(synced.row(key)["body"] for key in (ONE, TWO))
    _make_anew(synced, SCHEMA[0])
    assert [] == synced.sync().quarantined
    assert "-0.50" == synced.row(ONE)["body"]
    assert_in_step(synced)
    assert_quiet(synced)


def test_g2_a_column_that_makes_fractions_of_numbers_changes_no_words(synced: Project) -> None:
    _make_anew(synced, SCHEMA[0].replace("body TEXT", "Body REAL"))
    key = synced.receive(10, body="2026")
    assert [f"inbox/{key}.md"] == [entry.path for entry in synced.sync().quarantined]
    _make_anew(synced, SCHEMA[0])
    assert [] == synced.sync().quarantined
    assert "2026" == synced.row(key)["body"]
    assert_in_step(synced)


def test_g2_a_constraint_that_says_replace_costs_no_other_row(synced: Project) -> None:
    unique = "subject TEXT NOT NULL UNIQUE ON CONFLICT REPLACE"
    _make_anew(synced, SCHEMA[0].replace("subject TEXT NOT NULL", unique))
    synced.sync()
    synced.sql(f"UPDATE messages SET body = 'Words of a host.' WHERE id = '{ONE}'")
    new = f"inbox/{synced.receive(10, subject=synced.row(ONE)['subject'])}.md"
    edited = f"inbox/{TWO}.md"
    synced.edit(edited, synced.row(TWO)["subject"], synced.row(ONE)["subject"])
    for _ in range(2):
        assert {new, edited} == {entry.path for entry in synced.sync().quarantined}
    assert "Words of a host." == synced.message_at(AT_ONE).body
    assert {ONE, TWO} <= synced.rows().keys()


@pytest.mark.parametrize("number", [1, 60])
def test_g15_a_trigger_that_calls_what_only_its_host_has_holds_up_nothing_else(
    synced: Project, number: int
) -> None:
    synced.sql("CREATE TRIGGER calls AFTER INSERT ON messages BEGIN SELECT own(NEW.body); END")
    refused = {f"inbox/{synced.receive(20 + n)}.md" for n in range(number)}
    synced.new.update(ONE, subject="By SQL")
    for _ in range(2):
        report = synced.sync()
        assert refused == {entry.path for entry in report.quarantined}
        assert "no such function: own" in report.quarantined[0].problem.reason
    assert "By SQL" == synced.message_at(AT_ONE).subject
    synced.sql("DROP TRIGGER calls")
    synced.sync()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g18_hidden_files_that_are_no_messages_are_nothing_to_tell(synced: Project) -> None:
    """Who copies a folder from a Mac gets one beside each file."""
    for name in (f"._{ONE}.md", ".md", ".empty.md"):
        synced.file(f"inbox/{name}").write_bytes(b"\0\5\x16\7"[: len(name) - 9])
        os.utime(synced.file(f"inbox/{name}"), (1, 1))
    assert State.IN_SYNC is synced.sync().state
    told = status.look(synced.path, [])
    assert (State.IN_SYNC, 0) == (told.state, told.pending)
    assert_quiet(synced)


def test_g18_a_broken_file_that_was_hidden_is_told_of_still(synced: Project) -> None:
    whole = synced.file(AT_ONE).read_bytes()
    synced.file(AT_ONE).write_text("no front matter")
    assert [AT_ONE] == [entry.path for entry in synced.sync().quarantined]
    hidden = f"inbox/.{ONE}.md"
    synced.file(AT_ONE).rename(synced.file(hidden))
    for _ in range(2):
        assert [hidden] == [entry.path for entry in synced.sync().quarantined]
    told = status.look(synced.path, [])
    assert (State.ATTENTION, 0) == (told.state, told.pending)
    with Store.open_readonly(synced.new.database) as store:
        found = verify(synced.path, store, max_bytes=2**20)
    assert [hidden] == [entry.path for entry in found.quarantined]
    synced.file(hidden).write_bytes(whole)
    assert State.IN_SYNC is synced.sync().state
    assert_in_step(synced)


@pytest.mark.parametrize("deed", ["edited", "deleted"])
def test_g18_a_file_whose_row_cannot_be_read_is_not_pending(synced: Project, deed: str) -> None:
    synced.sql("UPDATE messages SET created_at = 'soon' WHERE id = ?", ONE)
    synced.sync()
    if deed == "edited":
        synced.edit(AT_ONE, "Body 1.", "By hand.")
    else:
        synced.file(AT_ONE).unlink()
    assert 0 == synced.sync().counts.changes()
    assert 0 == status.look(synced.path, []).pending
    synced.sql("UPDATE messages SET created_at = '2026-01-01T00:00:00' WHERE id = ?", ONE)
    assert 1 == status.look(synced.path, []).pending
    synced.sync()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g18_a_file_beside_a_row_that_is_too_large_for_one_is_pending(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", max_bytes=2000)
    (project.base / "syncd.toml").write_text("max_bytes = 2000\n")
    key = project.new.send(project.path, "Large", "x" * 5000)
    assert [f"messaging.db#{key}"] == [entry.path for entry in project.sync().quarantined]
    assert 0 == status.look(project.path, []).pending
    project.receive(id=key)
    assert 1 == status.look(project.path, []).pending
    assert 1 == project.sync().counts.rows_updated


@pytest.mark.parametrize("prefer", ["file", "db"])
def test_g10_a_change_that_the_database_refuses_is_no_commit_in_vain(
    tmp_path: Path, prefer: str
) -> None:
    project = Project(tmp_path / "p", prefer=prefer)
    edited, fought_over, gone, new = (project.receive(n, priority="normal") for n in range(4))
    project.sync()
    when = {"INSERT": "", "UPDATE": "WHEN NEW.priority = 'whenever'", "DELETE": ""}
    for event, condition in when.items():
        project.sql(
            f"CREATE TRIGGER no_{event} BEFORE {event} ON messages {condition} "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    for key in (edited, fought_over):
        project.edit(f"inbox/{key}.md", "priority: normal", "priority: whenever")
    project.edit(f"inbox/{fought_over}.md", "Body 1.", "By hand.")
    project.sql(f"UPDATE messages SET body = 'By SQL.' WHERE id = '{fought_over}'")
    project.file(f"inbox/{gone}.md").unlink()
    project.edit(f"inbox/{new}.md", f"id: {new}", f"id: {new}-2")
    assert 4 <= len(project.sync().quarantined)
    assert_quiet(project)
    for event in when:
        project.sql(f"DROP TRIGGER no_{event}")
    report = project.sync()
    assert [(fought_over, "body")] == [(one.id, one.field) for one in report.conflicts]
    assert "whenever" == project.row(fought_over)["priority"]
    assert_in_step(project)
    assert_quiet(project)


def test_g15_an_update_that_the_database_refuses_is_reported(synced: Project) -> None:
    synced.sql(
        "CREATE TRIGGER strict BEFORE UPDATE ON messages WHEN NEW.priority = 'whenever' "
        "BEGIN SELECT RAISE(ABORT, 'no such priority'); END"
    )
    synced.edit(AT_ONE, "priority: normal", "priority: whenever")
    synced.edit(f"inbox/{TWO}.md", "Body 2.", "By hand.")
    report = synced.sync()
    assert "By hand." == synced.row(TWO)["body"]
    assert State.IN_SYNC is not report.state


def test_g18_an_update_that_a_trigger_ignores_is_reported(synced: Project) -> None:
    synced.sql(
        "CREATE TRIGGER lax BEFORE UPDATE ON messages WHEN NEW.priority = 'whenever' "
        "BEGIN SELECT RAISE(IGNORE); END"
    )
    synced.edit(AT_ONE, "priority: normal", "priority: whenever")
    for _ in range(2):
        report = synced.sync()
        (entry,) = report.quarantined
        assert (AT_ONE, set()) == (entry.path, report.unsettled)
        assert "the database refuses the row: it was ignored" == entry.problem.reason
    synced.sql("DROP TRIGGER lax")
    synced.sync()
    assert "whenever" == synced.row(ONE)["priority"]
    assert_quiet(synced)


@pytest.mark.parametrize("how", ["ABORT, 'kept'", "IGNORE"])
def test_g18_a_delete_that_a_trigger_refuses_is_reported(synced: Project, how: str) -> None:
    synced.sql(
        f"CREATE TRIGGER keep BEFORE DELETE ON messages BEGIN SELECT RAISE({how}); END",
    )
    synced.file(AT_ONE).unlink()
    for _ in range(2):
        report = synced.sync()
        (entry,) = report.quarantined
        assert (f"messaging.db#{ONE}", set()) == (entry.path, report.unsettled)
        assert entry.problem.reason.startswith("the database refuses to delete the row: ")
    synced.sql("DROP TRIGGER keep")
    synced.sync()
    assert ONE not in synced.rows()
    assert_quiet(synced)


def test_g15_a_stray_that_cannot_be_removed_holds_up_nothing_else(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = synced.write("inbox/.syncd-1-0a-0.tmp", "left over")
    synced.receive(9)

    def refuse(*_: object) -> bool:
        raise ReplicaError("cannot unlink it: permission denied")

    monkeypatch.setattr(FileReplica, "unlink_stray", refuse)
    report = synced.cycle()
    assert "permission denied" in (report.error or "")
    assert 1 == report.counts.rows_inserted
    monkeypatch.undo()
    synced.sync()
    assert not stray.exists()
    assert_quiet(synced)


def test_g15_a_late_rewrite_that_cannot_be_removed_holds_up_nothing_else(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite = synced.text(AT_ONE).replace("unread", "read")
    synced.new.archive(ONE)
    synced.sync()
    synced.write(AT_ONE, rewrite)
    synced.receive(9)
    delete = FileReplica.delete

    def refuse(self: FileReplica, path: str, *, seen: Version) -> None:
        raise ReplicaError("cannot delete it: permission denied")

    monkeypatch.setattr(FileReplica, "delete", refuse)
    report = synced.cycle()
    assert "permission denied" in (report.error or "")
    assert 1 == report.counts.rows_inserted
    monkeypatch.setattr(FileReplica, "delete", delete)
    synced.sync()
    assert not synced.file(AT_ONE).exists()
    assert_quiet(synced)


def test_g15_a_place_that_cannot_be_looked_at_holds_up_nothing_else(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, move = FileReplica.look, FileReplica.move
    place = f"inbox/.archive/{ONE}.md"

    def refuse(self: FileReplica, path: str, to: str = "", **options: Any) -> Any:
        if place in (path, to):
            raise ReplicaError(f"{place} cannot be looked at: permission denied")
        return move(self, path, to, **options) if to else look(self, path)

    synced.new.archive(ONE)
    synced.new.update(TWO, subject="Arrives")
    with monkeypatch.context() as patched:
        patched.setattr(FileReplica, "look", refuse)
        patched.setattr(FileReplica, "move", refuse)
        assert "permission denied" in (synced.cycle().error or "")
    assert "# Arrives" in synced.text(f"inbox/{TWO}.md")
    synced.sync()
    assert synced.file(place).exists()
    assert_in_step(synced)


def test_g15_a_folder_that_cannot_be_made_holds_up_nothing_else(synced: Project) -> None:
    shutil.rmtree(synced.file("outbox"))
    synced.new.delete(SENT)
    synced.sync()
    synced.file("outbox").write_text("in the way")
    synced.new.send(synced.other, "Out", "Cannot be written.")
    synced.new.update(ONE, subject="Arrives")
    report = synced.cycle()
    assert State.ERROR is report.state
    assert "Arrives" == synced.message_at(AT_ONE).subject
    synced.file("outbox").unlink()
    synced.sync()
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("content", [b"this is no database, only text\n" * 100, b"\0" * 4096])
def test_g15_a_database_that_is_none_is_said_and_no_file_changes(
    project: Project, content: bytes
) -> None:
    project.receive(1)
    project.new.database.write_bytes(content)
    before = project.files()
    report = project.cycle()
    assert State.ERROR is report.state
    assert report.hint
    assert before == project.files()


BROKEN = b"---\nid: [\n---\nWords of a person."


def save_by_rename(project: Project, path: str, data: bytes) -> None:
    """Save a file as many editors do: it has another inode afterwards."""
    project.write("draft", data).rename(project.file(path))


@pytest.mark.parametrize("is_agent", [False, True])
@pytest.mark.parametrize("other", ["inbox/other.md", f"outbox/{ONE}.md"])
def test_g1_a_file_that_is_broken_and_then_renamed_deletes_no_row(
    synced: Project, other: str, is_agent: bool
) -> None:
    def look() -> None:
        report = synced.heed(AT_ONE, other) if is_agent else synced.sync()
        assert 0 == report.counts.rows_deleted

    row = synced.row(ONE)
    save_by_rename(synced, AT_ONE, BROKEN)
    look()
    synced.move(AT_ONE, other)
    for _ in range(2):
        look()
        assert ([other], 0) == quarantined_in_full(synced)
    save_by_rename(synced, other, BROKEN.replace(b"[", b"{"))
    for _ in range(2):
        look()
        assert ([other], 0) == quarantined_in_full(synced)
    synced.move(other, "inbox/third.md")
    assert (["inbox/third.md"], 0) == quarantined_in_full(synced)
    assert (["inbox/third.md"], 0) == quarantined_in_full(synced)
    assert row == synced.row(ONE)


def test_g1_a_broken_file_may_be_any_of_two_that_had_its_name(synced: Project) -> None:
    for number, folder in enumerate(("inbox", "inbox/.archive"), 7):
        key = synced.receive(number)
        synced.move(f"inbox/{key}.md", f"{folder}/same.md")
    synced.sync()
    rows = synced.rows()
    for folder in ("inbox", "inbox/.archive"):
        synced.file(f"{folder}/same.md").unlink()
    synced.write("outbox/same.md", BROKEN)
    for _ in range(2):
        assert (["outbox/same.md"], 0) == quarantined_in_full(synced)
    assert rows == synced.rows()


def quarantined_in_full(project: Project) -> tuple[list[str], int]:
    report = project.sync()
    return [entry.path for entry in report.quarantined], report.counts.changes()


@pytest.mark.parametrize("value", ["body = x'00'", "created_at = 'garbage'", "metadata = '{'"])
def test_a_row_that_is_set_aside_and_deleted_is_so_no_more(synced: Project, value: str) -> None:
    synced.sql(f"UPDATE messages SET {value} WHERE id = ?", ONE)
    assert 1 == len(synced.sync().quarantined)
    synced.sql("DELETE FROM messages WHERE id = ?", ONE)
    report = synced.sync()
    assert (1, []) == (report.counts.files_deleted, report.quarantined)
    assert_quiet(synced)


def test_a_second_name_is_the_message_when_the_first_is_deleted_with_its_row(
    synced: Project,
) -> None:
    os.link(synced.file(AT_ONE), synced.file("inbox/.archive/second.md"))
    assert "under another name" in synced.sync().quarantined[0].problem.reason
    synced.sql("DELETE FROM messages WHERE id = ?", ONE)
    report = synced.heed()
    assert (1, []) == (report.counts.rows_inserted, report.quarantined)
    assert "archived" == synced.row(ONE)["status"]
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("year", [1902, 1969, 2038, 2262, 2263, 2400])
def test_a_file_without_a_date_has_that_of_its_time_however_far_it_is(
    project: Project, year: int
) -> None:
    path = project.write("inbox/undated.md", "---\nfrom_agent: pm\n---\n\n# Subject\n\nBody")
    moment = datetime(year, 6, 1, tzinfo=UTC)
    os.utime(path, (0, moment.timestamp()))
    if path.stat().st_mtime != moment.timestamp():
        pytest.skip("this file system has no such times")
    project.sync()
    assert moment.isoformat() == project.row("undated")["created_at"]
    assert_quiet(project)
