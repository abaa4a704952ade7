"""The fixtures stand as they are made, and each file is there for its reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fixtures.make_world import HANDMADE, WORLD, write_world
from tests.clients import OldClient, files_below, parse_legacy, render_legacy


def test_making_the_world_again_gives_the_same_bytes(tmp_path: Path) -> None:
    write_world(tmp_path)

    assert files_below(tmp_path) == files_below(WORLD)


def test_the_world_has_four_projects_and_something_in_every_mailbox() -> None:
    projects = {path.parent for path in WORLD.rglob(".claude-mpm")}

    assert projects == {WORLD / name for name in ("apex", "harbor", "lumen", "deep/nested/orchid")}
    for client in map(OldClient, projects):
        for folder in (client.inbox, client.archived, client.outbox):
            assert list(folder.glob("*.md")), folder


def test_all_but_the_handmade_files_stand_as_the_old_client_writes_them() -> None:
    for name in files_below(WORLD).keys() - HANDMADE:
        data = (WORLD / name).read_bytes()
        assert render_legacy(parse_legacy(data)).encode() == data, name


def test_every_message_stands_in_one_outbox_and_one_inbox_or_archive() -> None:
    made = files_below(WORLD).keys() - HANDMADE
    places = Counter((Path(name).name, "/outbox/" in name) for name in made)

    assert set(places.values()) == {1}
    assert {name for name, is_sent in places if is_sent} == {
        name for name, is_sent in places if not is_sent
    }


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("apex/.claude-mpm/inbox/from-a-person.md", TypeError),
        ("harbor/.claude-mpm/inbox/notes.md", ValueError),
    ],
)
def test_two_handmade_files_are_beyond_the_old_client(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_legacy((WORLD / name).read_bytes())
