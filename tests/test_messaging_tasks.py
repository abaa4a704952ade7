"""`TaskInjector`: messages as files of a task list."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from syncd.errors import ReplicaError
from syncd.messaging import PRIORITY_MAP, TaskInjector


@pytest.fixture
def injector(tmp_path: Path) -> TaskInjector:
    return TaskInjector(tmp_path / "tasks")


def inject(injector: TaskInjector, message_id: str, **values: Any) -> Path:
    return injector.inject_message_task(message_id, "/p/alpha", "Subject", "Body\n\nmore", **values)


def set_status(path: Path, status: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": status}))


def test_a_task_says_what_the_message_says(injector: TaskInjector) -> None:
    before = datetime.now(UTC)
    path = inject(injector, "m1", priority="urgent", from_agent="qa", message_type="request")
    task = json.loads(path.read_text())
    assert injector.tasks_dir / "msg-m1.json" == path
    expected = {"id": "msg-m1", "status": "pending", "priority": "high"}
    assert expected == {key: task[key] for key in expected}
    assert {
        "source": "mpm-messaging",
        "message_id": "m1",
        "from_project": "/p/alpha",
        "message_type": "request",
        "auto_generated": True,
    } == task["metadata"]
    for part in ("alpha", "Subject"):
        assert part in task["title"]
    for part in ("/p/alpha", "qa", "request", "urgent", "Body\n\nmore"):
        assert part in task["description"]
    assert before <= datetime.fromisoformat(task["created_at"]) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("priority", "expected"),
    [("urgent", "high"), ("high", "high"), ("normal", "medium"), ("low", "low"), ("odd", "medium")],
)
def test_a_message_priority_becomes_a_task_priority(
    injector: TaskInjector, priority: str, expected: str
) -> None:
    assert PRIORITY_MAP.get(priority, "medium") == expected
    assert expected == json.loads(inject(injector, "m1", priority=priority).read_text())["priority"]


@pytest.mark.parametrize(
    "message_id",
    [
        "../x",
        "/etc/x",
        "..",
        "a/../../b",
        "a\\b",
        "a\0b",
        "~",
        "%2e",
        "ü",
        "\ud800",
        "",
        "x" * 5000,
    ],
)
def test_no_id_leads_out_of_the_task_folder(injector: TaskInjector, message_id: str) -> None:
    path = inject(injector, message_id)
    assert injector.tasks_dir == path.parent
    assert [path.name] == os.listdir(injector.tasks_dir)
    assert message_id == json.loads(path.read_text())["metadata"]["message_id"]
    assert injector.task_exists(message_id)
    assert injector.remove_task(message_id)
    assert not injector.task_exists(message_id)


def test_different_ids_have_different_files(injector: TaskInjector) -> None:
    names = ["a/b", "a%2Fb", "a~b", "a%7Eb", "x" * 5000, "x" * 5001, "ü", "u"]
    assert len(names) == len({injector.task_path(name) for name in names})


def test_only_finished_tasks_of_messages_are_cleaned_up(injector: TaskInjector) -> None:
    for name, status in (
        ("a", "completed"),
        ("b", "DONE"),
        ("c", "pending"),
        ("d", "in_progress"),
    ):
        set_status(inject(injector, name), status)
    foreign = injector.tasks_dir / "other.json"
    foreign.write_text('{"status": "completed"}')
    assert 2 == injector.cleanup_completed_tasks()
    assert ["msg-c", "msg-d"] == [task["id"] for task in injector.list_message_tasks()]
    assert foreign.exists()
    assert not injector.remove_task("a")


def test_a_file_that_is_no_task_is_left_out_with_a_warning(
    injector: TaskInjector, caplog: pytest.LogCaptureFixture
) -> None:
    inject(injector, "good")
    (injector.tasks_dir / "msg-broken.json").write_text("{half")
    (injector.tasks_dir / "msg-list.json").write_text("[]")
    (injector.tasks_dir / "msg-deep.json").write_text("[" * 100_000)
    (injector.tasks_dir / "msg-bytes.json").write_bytes(b"\xff\xfe")
    (injector.tasks_dir / "msg-folder.json").mkdir()
    (injector.tasks_dir / "msg-dangling.json").symlink_to("nowhere")
    os.mkfifo(injector.tasks_dir / "msg-pipe.json")
    assert ["msg-good"] == [task["id"] for task in injector.list_message_tasks()]
    assert 0 == injector.cleanup_completed_tasks()
    for name in ("broken", "list", "deep", "bytes", "folder", "pipe"):
        assert f"msg-{name}.json" in caplog.text


def test_a_task_that_cannot_be_written_leaves_nothing_behind(injector: TaskInjector) -> None:
    (injector.tasks_dir / "msg-m1.json").mkdir()
    with pytest.raises(ReplicaError) as raised:
        inject(injector, "m1")
    assert raised.value.hint
    assert ["msg-m1.json"] == os.listdir(injector.tasks_dir)


def test_a_link_in_the_way_is_replaced_and_not_followed(
    injector: TaskInjector, tmp_path: Path
) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    (injector.tasks_dir / "msg-m1.json").symlink_to(target)
    inject(injector, "m1")
    assert "kept" == target.read_text()
    assert "msg-m1" == json.loads((injector.tasks_dir / "msg-m1.json").read_text())["id"]


def test_the_default_folder_is_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path / ".claude" / "tasks" == TaskInjector().tasks_dir
    assert (tmp_path / ".claude" / "tasks").is_dir()


def test_a_task_folder_that_cannot_be_made_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReplicaError, match="cannot be used"):
        TaskInjector(tmp_path / "file" / "tasks")
