"""When a cycle may not act: the limits on both sides, and folders in trouble."""

from __future__ import annotations

import pytest

from syncd.core.guard import Gone, Halt, guard, still_gone
from syncd.core.sides import Side


@pytest.fixture(params=Side)
def side(request: pytest.FixtureRequest) -> Side:
    return Side(request.param)


def test_nothing_gone_is_no_halt(side: Side) -> None:
    assert guard([]) is None
    assert guard([Gone(side, "inbox", 0, 0)]) is None
    assert guard([Gone(side, "inbox", 1000, 0)]) is None


@pytest.mark.parametrize(
    ("gone", "expected", "halts"),
    [
        (1, 1000, False),
        (20, 21, False),
        (20, 1000, False),
        (21, 22, True),
        (21, 83, True),
        (21, 84, False),
        (21, 85, False),
        (25, 100, False),
        (26, 100, True),
        (250, 1000, False),
        (251, 1000, True),
        (999, 1000, True),
    ],
)
def test_g6_more_than_twenty_and_more_than_a_quarter_halt(
    side: Side, gone: int, expected: int, halts: bool
) -> None:
    halt = guard([Gone(side, "inbox", expected, gone)])
    assert halts == (halt is not None)
    if halt is not None:
        assert (side, gone, expected) == (halt.side, halt.gone, halt.expected)


def test_g6_the_limits_count_all_mailboxes_of_a_side_together(side: Side) -> None:
    few = [Gone(side, "inbox", 40, 11), Gone(side, "outbox", 40, 9)]
    assert guard(few) is None
    many = [Gone(side, "inbox", 40, 11), Gone(side, "outbox", 40, 10)]
    halt = guard(many)
    assert halt is not None
    assert (21, 80) == (halt.gone, halt.expected)


def test_mailboxes_that_lost_nothing_count_towards_what_a_side_has(side: Side) -> None:
    assert guard([Gone(side, "inbox", 30, 21), Gone(side, "outbox", 54, 0)]) is None
    assert guard([Gone(side, "inbox", 30, 21), Gone(side, "outbox", 53, 0)]) is not None


def test_the_two_sides_are_counted_apart() -> None:
    assert guard([Gone(Side.FILE, "inbox", 60, 20), Gone(Side.DB, "inbox", 60, 20)]) is None


def test_g6_every_message_of_a_mailbox_gone_halts_from_two_on(side: Side) -> None:
    rest = Gone(side, "outbox", 500, 0)
    assert guard([Gone(side, "inbox", 1, 1), rest]) is None
    halt = guard([Gone(side, "inbox", 2, 2), rest])
    assert halt is not None
    assert (side, 2, 2) == (halt.side, halt.gone, halt.expected)
    assert guard([Gone(side, "inbox", 3, 2), rest]) is None


@pytest.mark.parametrize("trouble", ["is missing", "cannot be read", "was replaced"])
def test_g6_a_folder_in_trouble_halts_at_the_first_message(trouble: str) -> None:
    rest = Gone(Side.FILE, "outbox", 500, 0)
    halt = guard([rest, Gone(Side.FILE, "inbox", 100, 1, trouble)])
    assert halt is not None
    assert f"inbox {trouble}" in halt.cause
    assert "1 message" in halt.cause
    assert "1 messages" not in halt.cause
    one = guard([Gone(Side.FILE, "inbox", 1, 1, trouble)])
    assert one is not None


def test_a_folder_in_trouble_that_lost_nothing_is_no_halt() -> None:
    assert guard([Gone(Side.FILE, "inbox", 0, 0, "is missing")]) is None


def test_the_halt_names_cause_counts_and_the_command_for_each_way_out(side: Side) -> None:
    halt = guard([Gone(side, "inbox", 100, 30)])
    assert isinstance(halt, Halt)
    assert "30 of 100" in halt.cause
    said = halt.as_json("/p/a b")
    assert (str(side), 30, 100, halt.cause) == (
        said["side"],
        said["gone"],
        said["expected"],
        said["cause"],
    )
    ways = "\n".join(said["ways_out"])
    assert "--accept-deletes" in ways
    assert "--restore" in ways
    assert "syncd resume" in ways


def test_a_folder_without_rights_is_given_them_by_the_way_out() -> None:
    closed = "cannot be read (Permission denied)"
    halt = guard([Gone(Side.FILE, "archive", 9, 1, closed, "inbox/.archive", is_closed=True)])
    assert halt is not None
    (way,) = halt.ways_out("/p")
    assert "(chmod u+rwx /p/.claude-mpm/inbox /p/.claude-mpm/inbox/.archive)" in way


def test_the_commands_can_be_pasted_also_for_a_path_with_a_blank() -> None:
    halt = guard([Gone(Side.FILE, "inbox", 2, 2)])
    assert halt is not None
    ways = "\n".join(halt.ways_out("/p/a b"))
    assert "syncd resume '/p/a b' --restore" in ways


def test_a_halt_tells_of_all_that_a_decision_would_concern() -> None:
    inbox = Gone(Side.FILE, "inbox", 8, 8)
    outbox, archive = Gone(Side.FILE, "outbox", 7, 7), Gone(Side.DB, "archive", 30, 1)
    halt = guard([inbox, archive])
    assert halt is not None
    assert ("all 8 files of inbox are gone at once, and 1 more", 8) == (halt.cause, halt.gone)
    halt = guard([inbox, outbox, archive])
    assert halt is not None
    cause = "all 8 files of inbox and all 7 files of outbox are gone at once, and 1 more"
    assert (cause, 15) == (halt.cause, halt.gone)
    halt = still_gone([inbox, archive], Side.DB)
    assert halt is not None
    assert "1 of 30 rows are still gone, and 8 more" == halt.cause
