"""The decision table, field by field, and the laws that hold for every input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.message import (
    FIELDS,
    TEXT_FIELDS,
    Mailbox,
    Message,
    fingerprints,
    mailbox_of,
    status_in,
)
from syncd.core.reconcile import NOTHING, Conflict, FileState, Kept, Outcome, Step, reconcile
from syncd.core.sides import Baseline, Quarantined, Side

ALL = frozenset(FIELDS)

BASE = Message(
    id="msg-1",
    from_project="/p/a",
    from_agent="pm",
    to_project="/p/b",
    to_agent="qa",
    type="task",
    priority="normal",
    subject="Subject",
    body="Body.",
    status="unread",
    created_at="2026-02-20T00:00:00+00:00",
    reply_to=None,
    metadata='{"a": 1}',
    attachments='["a.txt"]',
)
"""The message that the cases start from."""

LONG = "A text that is longer than what a baseline keeps as it is. " * 3

VALUES: dict[str, tuple[str | None, str | None]] = {
    "from_project": ("/p/x", "/p/y"),
    "from_agent": ("engineer", "research"),
    "to_project": ("/p/x", "/p/y"),
    "to_agent": ("engineer", "research"),
    "type": ("request", "reply"),
    "priority": ("high", "low"),
    "subject": ("By hand", "By SQL"),
    "body": (LONG + "By hand.", LONG + "By SQL."),
    "status": ("waiting", "done"),
    "created_at": ("2026-02-21T00:00:00+00:00", "2026-02-22T00:00:00"),
    "reply_to": ("msg-0", "msg-00"),
    "metadata": ('{"a": 2}', None),
    "attachments": (None, '["a.txt", "b.txt"]'),
}
"""For each field a value that the file gets and another one that the row gets."""

Steps = tuple[Step, Step]
STILL: Steps = (Step.NONE, Step.NONE)


def base_of(message: Message = BASE, mailbox: Mailbox | None = None, said: Any = ...) -> Baseline:
    """Return the baseline of a message, by default as syncd's own file has it."""
    return Baseline(
        mailbox or mailbox_of(message.status),
        message.status if said is ... else said,
        message.status,
        fingerprints(message),
    )


def file_of(message: Message = BASE, mailbox: Mailbox | None = None, said: Any = ...) -> FileState:
    """Return the state of a file that states all fields; its status is as first looks have it."""
    mailbox = mailbox or mailbox_of(message.status)
    word = message.status if said is ... else said
    return FileState(mailbox, message._replace(status=status_in(mailbox, word)), ALL, word)


def with_(**values: str | None) -> Message:
    return BASE._replace(**values)


def steps(outcome: Outcome) -> Steps:
    return outcome.row, outcome.file


def sides_kept(outcome: Outcome) -> set[Side]:
    return {kept.side for kept in outcome.kept}


# The decision table, row by row, for every field -------------------------------------------------


@pytest.fixture(params=FIELDS)
def field(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def by_hand(field: str) -> Message:
    return with_(**{field: VALUES[field][0]})


@pytest.fixture
def by_sql(field: str) -> Message:
    return with_(**{field: VALUES[field][1]})


def test_a_new_file_becomes_a_row(by_hand: Message) -> None:
    outcome = reconcile(None, file_of(by_hand), None)
    assert Outcome(by_hand, row=Step.CREATE) == outcome


def test_a_new_row_becomes_a_file(by_sql: Message) -> None:
    outcome = reconcile(None, None, by_sql)
    assert Outcome(by_sql, file=Step.CREATE) == outcome


def test_equal_sides_without_a_baseline_agree_at_once(by_hand: Message) -> None:
    assert Outcome(by_hand) == reconcile(None, file_of(by_hand), by_hand)


@pytest.mark.parametrize("prefer", Side)
def test_different_sides_without_a_baseline_conflict_in_that_field_alone(
    field: str, by_hand: Message, by_sql: Message, prefer: Side
) -> None:
    outcome = reconcile(None, file_of(by_hand), by_sql, prefer=prefer)
    assert_conflict(outcome, field, by_hand, by_sql, prefer)


def test_a_row_that_changed_edits_the_file(field: str, by_sql: Message) -> None:
    outcome = reconcile(base_of(), file_of(), by_sql)
    kept = (Kept(Side.FILE, "replaced"),) if field in TEXT_FIELDS else ()
    said = by_sql.status if field == "status" else None
    fields = frozenset({field})
    expected = Outcome(by_sql, file=Step.UPDATE, file_fields=fields, status_said=said, kept=kept)
    assert expected == outcome


def test_a_file_that_changed_updates_the_row(field: str, by_hand: Message) -> None:
    outcome = reconcile(base_of(), file_of(by_hand), BASE)
    kept = (Kept(Side.DB, "replaced"),) if field in TEXT_FIELDS else ()
    expected = Outcome(by_hand, row=Step.UPDATE, row_fields=frozenset({field}), kept=kept)
    assert expected == outcome


def test_both_sides_changed_to_the_same_value_agree(by_hand: Message) -> None:
    assert Outcome(by_hand) == reconcile(base_of(), file_of(by_hand), by_hand)


@pytest.mark.parametrize("prefer", Side)
def test_g3_both_sides_changed_to_different_values_conflict(
    field: str, by_hand: Message, by_sql: Message, prefer: Side
) -> None:
    outcome = reconcile(base_of(), file_of(by_hand), by_sql, prefer=prefer)
    assert_conflict(outcome, field, by_hand, by_sql, prefer)


def assert_conflict(
    outcome: Outcome, field: str, by_hand: Message, by_sql: Message, prefer: Side
) -> None:
    values = getattr(by_hand, field), getattr(by_sql, field)
    assert (Conflict(field, prefer, *values),) == outcome.conflicts
    if prefer is Side.FILE:
        assert by_hand == outcome.message
        assert (Step.UPDATE, Step.NONE) == steps(outcome)
        assert {field} == outcome.row_fields
        assert (Kept(Side.DB, "conflict"),) == outcome.kept
    else:
        assert by_sql == outcome.message
        assert (Step.NONE, Step.UPDATE) == steps(outcome)
        assert {field} == outcome.file_fields
        assert (Kept(Side.FILE, "conflict"),) == outcome.kept


@pytest.mark.parametrize("other", ["priority", "subject", "status"])
def test_g4_different_fields_changed_on_the_two_sides_are_merged(
    field: str, by_hand: Message, other: str
) -> None:
    if field == other:
        other = "body"
    row = with_(**{other: VALUES[other][1]})
    outcome = reconcile(base_of(), file_of(by_hand), row)
    assert by_hand._replace(**{other: VALUES[other][1]}) == outcome.message
    assert (Step.UPDATE, Step.UPDATE) == steps(outcome)
    assert ({field}, {other}) == (outcome.row_fields, outcome.file_fields)
    assert () == outcome.conflicts


def test_a_file_that_is_gone_deletes_the_row(by_hand: Message) -> None:
    outcome = reconcile(base_of(by_hand), None, by_hand)
    kept = (Kept(Side.DB, "deleted"),)
    assert Outcome(None, row=Step.DELETE, kept=kept, forget=True) == outcome


def test_a_row_that_is_gone_deletes_the_file(by_sql: Message) -> None:
    outcome = reconcile(base_of(by_sql), file_of(by_sql), None)
    kept = (Kept(Side.FILE, "deleted"),)
    assert Outcome(None, file=Step.DELETE, kept=kept, forget=True) == outcome


def test_a_change_of_the_row_wins_over_a_file_that_is_gone(by_sql: Message) -> None:
    assert Outcome(by_sql, file=Step.CREATE) == reconcile(base_of(), None, by_sql)


def test_a_change_of_the_file_wins_over_a_row_that_is_gone(by_hand: Message) -> None:
    assert Outcome(by_hand, row=Step.CREATE) == reconcile(base_of(), file_of(by_hand), None)


def test_what_is_gone_on_both_sides_is_forgotten() -> None:
    assert Outcome(None, forget=True) == reconcile(base_of(), None, None)
    assert NOTHING == reconcile(None, None, None)


BAD = Quarantined("the file is empty", 1)


@pytest.mark.parametrize("baseline", [None, base_of()], ids=["first look", "known"])
@pytest.mark.parametrize("other", [None, BASE, with_(body="New.")], ids=["gone", "same", "changed"])
@pytest.mark.parametrize("restore", [False, True])
def test_g1_what_is_quarantined_is_never_gone(
    baseline: Baseline | None, other: Message | None, restore: bool
) -> None:
    assert NOTHING == reconcile(baseline, BAD, other, restore=restore)
    file = file_of(other) if other is not None else None
    assert NOTHING == reconcile(baseline, file, BAD, restore=restore)
    assert NOTHING == reconcile(baseline, BAD, BAD, restore=restore)


def test_restoring_writes_what_is_gone_on_one_side_again(by_hand: Message) -> None:
    baseline = base_of(by_hand)
    assert Outcome(by_hand, row=Step.CREATE) == reconcile(
        baseline, file_of(by_hand), None, restore=True
    )
    assert Outcome(by_hand, file=Step.CREATE) == reconcile(baseline, None, by_hand, restore=True)
    assert Outcome(None, forget=True) == reconcile(baseline, None, None, restore=True)


# The status --------------------------------------------------------------------------------------

IN, ARCHIVE, OUT = Mailbox.INBOX, Mailbox.ARCHIVE, Mailbox.OUTBOX


@dataclass(frozen=True)
class Status:
    """A case about the status alone: mailbox and front matter's word, and the row's status.

    ``was`` is the baseline's mailbox, word and status, None without a baseline. ``then`` is the
    status of both sides afterwards, ``says`` what the front matter is told to say, ``conflict``
    whether there is one.
    """

    name: str
    was: tuple[Mailbox, str | None, str] | None
    file: tuple[Mailbox, str | None]
    row: str
    then: str
    says: str | None = None
    conflict: bool = False


STATUSES = [
    Status("a file in the archive is archived", None, (ARCHIVE, "read"), "archived", "archived"),
    Status("a file in the outbox is sent", None, (OUT, "unread"), "sent", "sent"),
    Status("archived in the inbox reads as read", None, (IN, "archived"), "read", "read"),
    Status("a first look takes the further one", None, (IN, "unread"), "read", "read", "read"),
    Status("a first look hears the archive", None, (ARCHIVE, "unread"), "read", "archived"),
    Status("a first look moves the file", None, (IN, "unread"), "archived", "archived"),
    Status("moved to the archive", (IN, "read", "read"), (ARCHIVE, "read"), "read", "archived"),
    Status(
        "archived by hand", (IN, "read", "read"), (IN, "archived"), "read", "archived", says=None
    ),
    Status(
        "moved back with archived in it",
        (ARCHIVE, "archived", "archived"),
        (IN, "archived"),
        "archived",
        "read",
    ),
    Status(
        "moved back with read in it",
        (ARCHIVE, "read", "archived"),
        (IN, "read"),
        "archived",
        "read",
    ),
    Status(
        "moved back with unread in it",
        (ARCHIVE, "unread", "archived"),
        (IN, "unread"),
        "archived",
        "unread",
    ),
    Status(
        "moved and edited: the folder is heard",
        (IN, "unread", "unread"),
        (ARCHIVE, "read"),
        "unread",
        "archived",
    ),
    Status(
        "said something else in the archive",
        (ARCHIVE, "read", "archived"),
        (ARCHIVE, "waiting"),
        "archived",
        "waiting",
    ),
    Status(
        "the word that the folder overrides is no change",
        (ARCHIVE, "read", "archived"),
        (ARCHIVE, "read"),
        "archived",
        "archived",
    ),
    Status("read by the row", (IN, "unread", "unread"), (IN, "unread"), "read", "read", "read"),
    Status(
        "archived by the row moves and says nothing",
        (IN, "read", "read"),
        (IN, "read"),
        "archived",
        "archived",
    ),
    Status(
        "brought back by the row",
        (ARCHIVE, "archived", "archived"),
        (ARCHIVE, "archived"),
        "unread",
        "unread",
        "unread",
    ),
    Status(
        "brought back by the row as the file says",
        (ARCHIVE, "read", "archived"),
        (ARCHIVE, "read"),
        "read",
        "read",
    ),
    Status("a step back by hand", (IN, "read", "read"), (IN, "unread"), "read", "unread"),
    Status(
        "a step back by the row", (IN, "read", "read"), (IN, "read"), "unread", "unread", "unread"
    ),
    Status("both went on, the file further", (IN, "unread", "unread"), (IN, "x"), "read", "x"),
    Status("both went on, the row further", (IN, "unread", "unread"), (IN, "read"), "x", "x", "x"),
    Status(
        "archived by the row and read by hand",
        (IN, "unread", "unread"),
        (IN, "read"),
        "archived",
        "archived",
    ),
    Status(
        "archived by hand and read by the row",
        (IN, "unread", "unread"),
        (ARCHIVE, "unread"),
        "read",
        "archived",
    ),
    Status(
        "words of one rank conflict",
        (IN, "unread", "unread"),
        (IN, "waiting"),
        "done",
        "waiting",
        conflict=True,
    ),
    Status("a word that was removed is unread", (IN, "read", "read"), (IN, None), "read", "unread"),
    Status("no word is no change", (IN, None, "unread"), (IN, None), "unread", "unread"),
    Status(
        "no word is given one", (IN, None, "unread"), (IN, None), "waiting", "waiting", "waiting"
    ),
    Status("sent by the row", (IN, "unread", "unread"), (IN, "unread"), "sent", "sent"),
]


@pytest.mark.parametrize("case", STATUSES, ids=lambda case: case.name)
def test_the_status_is_heard_from_folder_and_front_matter(case: Status) -> None:
    baseline = None
    if case.was is not None:
        mailbox, word, status = case.was
        baseline = base_of(with_(status=status), mailbox, word)
    mailbox, word = case.file
    row = with_(status=case.row)
    outcome = reconcile(baseline, file_of(BASE, mailbox, word), row)
    assert outcome.message is not None
    assert case.then == outcome.message.status
    assert mailbox_of(case.then) is outcome.mailbox
    assert case.says == outcome.status_said
    assert case.conflict == bool(outcome.conflicts)
    assert (Step.UPDATE if case.row != case.then else Step.NONE) == outcome.row
    to_write = case.says is not None or outcome.mailbox is not mailbox
    assert (Step.UPDATE if to_write else Step.NONE) == outcome.file


def test_a_move_with_an_edit_of_the_row_keeps_both() -> None:
    row = with_(body="By SQL.")
    outcome = reconcile(base_of(), file_of(BASE, ARCHIVE, "unread"), row)
    assert with_(body="By SQL.", status="archived") == outcome.message
    assert ({"status"}, {"body"}) == (outcome.row_fields, outcome.file_fields)
    assert () == outcome.conflicts


def test_a_move_wins_over_a_row_that_is_gone() -> None:
    outcome = reconcile(base_of(), file_of(BASE, ARCHIVE, "unread"), None)
    assert (with_(status="archived"), Step.CREATE) == (outcome.message, outcome.row)


# What a file leaves unsaid -----------------------------------------------------------------------


def unsaid(message: Message, *names: str) -> FileState:
    return file_of(message)._replace(said=ALL - set(names))


def test_a_date_that_the_mtime_made_up_is_no_change() -> None:
    file = unsaid(with_(created_at="2026-03-01T12:00:00+00:00"), "created_at")
    assert Outcome(BASE) == reconcile(base_of(), file, BASE)


def test_an_edit_beside_an_unsaid_date_is_only_that_edit() -> None:
    file = unsaid(with_(created_at="2026-03-01T12:00:00+00:00", body="New."), "created_at")
    outcome = reconcile(base_of(), file, BASE)
    assert (with_(body="New."), {"body"}) == (outcome.message, outcome.row_fields)


def test_a_first_look_takes_an_unsaid_date_from_the_row() -> None:
    file = unsaid(with_(created_at="2026-03-01T12:00:00+00:00"), "created_at")
    assert Outcome(BASE) == reconcile(None, file, BASE)


def test_a_first_look_takes_what_the_file_leaves_unsaid_from_the_row_for_good() -> None:
    file = unsaid(with_(to_agent="pm"), "to_agent")
    first = reconcile(None, file, BASE)
    assert (BASE, Step.NONE, ()) == (first.message, first.row, first.conflicts)
    file, row = after((None, file, BASE), first)
    again = reconcile(new_baseline(first, file), file, row)
    assert (BASE, STILL) == (again.message, steps(again))


# Laws --------------------------------------------------------------------------------------------

UNSAYABLE = ("from_project", "from_agent", "to_project", "to_agent", "type", "priority")
"""Fields that a file may leave out; the values that then count are its surroundings'."""

SURROUNDINGS = {
    "from_project": "unknown",
    "from_agent": "pm",
    "to_project": "/p/own",
    "to_agent": "pm",
    "type": "notification",
    "priority": "normal",
    "created_at": "2026-03-01T12:00:00+00:00",
}

WORDS = ("unread", "read", "waiting", "done", "archived", "sent")

State = tuple[Baseline | None, FileState | Quarantined | None, Message | Quarantined | None]


def any_message() -> st.SearchStrategy[Message]:
    """A message of few possible values, so that two of them often agree in a field."""
    values = {
        name: st.sampled_from([getattr(BASE, name), *VALUES[name]])
        for name in FIELDS
        if name != "status"
    }
    return st.builds(Message, id=st.just("msg-1"), status=st.sampled_from(WORDS), **values)


@st.composite
def files(draw: st.DrawFn) -> FileState:
    """A file as parsing makes it: what it does not say is what its surroundings say."""
    message = draw(any_message())
    left_out = draw(st.one_of(st.just(set()), st.sets(st.sampled_from(sorted(SURROUNDINGS)))))
    mailbox = draw(st.sampled_from(Mailbox))
    said = draw(st.sampled_from([None, *WORDS]))
    values = {name: SURROUNDINGS[name] for name in left_out}
    message = message._replace(status=status_in(mailbox, said), **values)
    return FileState(mailbox, message, ALL - left_out, said)


@st.composite
def baselines(draw: st.DrawFn) -> Baseline:
    """A baseline as a cycle records it: the agreed status is what folder and word said then."""
    mailbox = draw(st.sampled_from(Mailbox))
    said = draw(st.sampled_from([None, *WORDS]))
    return base_of(draw(any_message())._replace(status=status_in(mailbox, said)), mailbox, said)


@st.composite
def states(draw: st.DrawFn, *, readable: bool = False) -> State:
    """Baseline, file and row; each side often is what the baseline has."""
    baseline = draw(st.none() | baselines())
    sides: tuple[list[Any], list[Any]] = ([None, files()], [None, any_message()])
    if not readable:
        sides[0].append(Quarantined("broken", 1))
        sides[1].append(Quarantined("odd"))
    options = [
        st.one_of(
            option if isinstance(option, st.SearchStrategy) else st.just(option) for option in side
        )
        for side in sides
    ]
    return baseline, draw(options[0]), draw(options[1])


def after(
    state: State, outcome: Outcome, *, row_done: bool = True, file_done: bool = True
) -> tuple[FileState | Quarantined | None, Message | Quarantined | None]:
    """Return both sides as they stand when an outcome's steps were taken, or only one of them."""
    _, file, row = state
    if row_done:
        match outcome.row:
            case Step.CREATE | Step.UPDATE:
                row = outcome.message
            case Step.DELETE:
                row = None
    if file_done:
        match outcome.file:
            case Step.CREATE:
                assert outcome.message is not None
                file = file_of(outcome.message)
            case Step.UPDATE:
                assert isinstance(file, FileState)
                file = edited(file, outcome)
            case Step.DELETE:
                file = None
    return file, row


def edited(file: FileState, outcome: Outcome) -> FileState:
    """Return a file after an edit of the fields that the outcome names, and a move if need be."""
    message, mailbox = outcome.message, outcome.mailbox
    assert message is not None
    assert mailbox is not None
    word = file.status_said if outcome.status_said is None else outcome.status_said
    changes = {name: getattr(message, name) for name in outcome.file_fields - {"status"}}
    now = file.message._replace(**changes, status=status_in(mailbox, word))
    return FileState(mailbox, now, file.said | changes.keys(), word)


def new_baseline(outcome: Outcome, file: FileState | Quarantined | None) -> Baseline | None:
    if outcome.message is None:
        return None
    assert isinstance(file, FileState)
    message = outcome.message
    return Baseline(file.mailbox, file.status_said, message.status, fingerprints(message))


options = st.fixed_dictionaries({"prefer": st.sampled_from(Side), "restore": st.booleans()})


@given(states(), options)
def test_reconcile_is_total_and_deterministic(state: State, chosen: dict[str, Any]) -> None:
    assert reconcile(*state, **chosen) == reconcile(*state, **chosen)


@given(states(readable=True), options)
def test_both_sides_hold_the_outcome_afterwards(state: State, chosen: dict[str, Any]) -> None:
    outcome = reconcile(*state, **chosen)
    file, row = after(state, outcome)
    assert outcome.message == row
    if outcome.message is None:
        assert file is None
        return
    assert isinstance(file, FileState)
    stated = {name: getattr(file.message, name) for name in file.said}
    assert {name: getattr(outcome.message, name) for name in file.said} == stated
    assert outcome.mailbox is file.mailbox


@given(states(readable=True), options)
def test_g10_reconciling_the_result_again_gives_no_steps(
    state: State, chosen: dict[str, Any]
) -> None:
    outcome = reconcile(*state, **chosen)
    file, row = after(state, outcome)
    again = reconcile(new_baseline(outcome, file), file, row, **chosen)
    assert (outcome.message, STILL, ()) == (again.message, steps(again), again.conflicts)


@given(states(readable=True), st.booleans(), options)
def test_a_crash_between_the_two_sides_does_not_change_the_end(
    state: State, row_first: bool, chosen: dict[str, Any]
) -> None:
    whole = reconcile(*state, **chosen)
    half = after(state, whole, row_done=row_first, file_done=not row_first)
    rest = reconcile(state[0], *half, **chosen)
    assert whole.message == rest.message
    end = after((state[0], *half), rest)
    assert after(state, whole)[1] == end[1]
    again = reconcile(new_baseline(rest, end[0]), *end, **chosen)
    assert (whole.message, STILL) == (again.message, steps(again))


@given(states(readable=True), options)
def test_g2_what_stood_on_a_side_is_in_the_result_or_kept(
    state: State, chosen: dict[str, Any]
) -> None:
    _, file, row = state
    outcome = reconcile(*state, **chosen)
    kept = sides_kept(outcome)
    sides = ((Side.FILE, file.message if isinstance(file, FileState) else None), (Side.DB, row))
    for side, message in sides:
        if not isinstance(message, Message) or side in kept:
            continue
        assert outcome.message is not None
        for name in TEXT_FIELDS:
            assert getattr(message, name) == getattr(outcome.message, name), (side, name)


@given(states(readable=True), options)
def test_g3_the_loser_of_a_conflict_is_kept(state: State, chosen: dict[str, Any]) -> None:
    outcome = reconcile(*state, **chosen)
    loser = Side.DB if chosen["prefer"] is Side.FILE else Side.FILE
    for conflict in outcome.conflicts:
        assert chosen["prefer"] is conflict.winner
        assert loser in sides_kept(outcome)
        winner_value = conflict.file_value if conflict.winner is Side.FILE else conflict.db_value
        assert winner_value == getattr(outcome.message, conflict.field)


@given(states(readable=True), st.booleans())
def test_the_preferred_side_matters_only_where_there_is_a_conflict(
    state: State, restore: bool
) -> None:
    one = reconcile(*state, prefer=Side.FILE, restore=restore)
    other = reconcile(*state, prefer=Side.DB, restore=restore)
    fields = {conflict.field for conflict in one.conflicts}
    assert fields == {conflict.field for conflict in other.conflicts}
    if one.message is None or other.message is None:
        assert one.message is other.message
        return
    differ = {n for n in FIELDS if getattr(one.message, n) != getattr(other.message, n)}
    assert fields == differ


@given(any_message(), any_message(), any_message(), st.sampled_from(Side))
def test_g8_of_an_old_clients_rewrite_only_the_status_is_news(
    earlier: Message, current: Message, row: Message, prefer: Side
) -> None:
    earlier = earlier._replace(status="unread")
    file = file_of(earlier._replace(status="read"))
    outcome = reconcile(base_of(current), file, row, prefer=prefer, rewrite_of=base_of(earlier))
    assert outcome.message is not None
    assert row._replace(status="") == outcome.message._replace(status="")
    assert outcome.message.status != "unread"
    assert () == outcome.conflicts
    file, row = after((None, file, row), outcome)
    again = reconcile(new_baseline(outcome, file), file, row, prefer=prefer)
    assert (outcome.message, STILL) == (again.message, steps(again))


@given(states(), options)
def test_the_id_never_changes(state: State, chosen: dict[str, Any]) -> None:
    outcome = reconcile(*state, **chosen)
    assert outcome.message is None or "msg-1" == outcome.message.id


@given(states(), st.sampled_from(Side))
def test_g5_without_a_baseline_nothing_is_deleted(state: State, prefer: Side) -> None:
    _, file, row = state
    outcome = reconcile(None, file, row, prefer=prefer)
    assert Step.DELETE not in steps(outcome)


@given(states(), st.sampled_from(Side))
def test_restoring_deletes_nothing(state: State, prefer: Side) -> None:
    assert Step.DELETE not in steps(reconcile(*state, prefer=prefer, restore=True))
