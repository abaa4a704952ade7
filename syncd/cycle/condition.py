"""What is recorded of a project beside its messages: a decision, the halt, folders, quarantine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Set
from functools import partial

from syncd.core.guard import Halt
from syncd.core.journal import QUARANTINED, RELEASED, JournalEntry, halt_entry
from syncd.core.message import FOLDERS
from syncd.core.sides import Side
from syncd.cycle.ledger import Ledger
from syncd.cycle.look import Look
from syncd.cycle.orders import Orders
from syncd.cycle.report import Report
from syncd.database.chronicle import now_text
from syncd.database.store import Store
from syncd.files.replica import FileReplica
from syncd.files.snapshot import MISSING
from syncd.names import id_in_row_key, row_key

_AT_ONCE = 1000  # in a transaction, of which each takes some µs
_DECISIONS = _RESTORE, _ACCEPT_DELETES = "restore", "accept-deletes"


def with_decision(store: Store, orders: Orders) -> Orders:
    """Return the orders with what a person decided of a halt, where a crash cut that off."""
    decision = store.state("decision")
    if decision not in _DECISIONS or orders.one_way or orders.is_decision:
        return orders
    restore = decision == _RESTORE
    return orders._replace(paths=None, restore=restore, accept_deletes=not restore)


def note_decision(store: Store, orders: Orders, gone: Collection[str]) -> None:
    """Note what is decided of messages that are gone: a crash may cut off what follows."""
    if orders.is_decision and gone and not orders.dry_run:
        with store.writing(mute=False):
            store.set_state("decision", _RESTORE if orders.restore else _ACCEPT_DELETES)


def drop_decision(store: Store) -> None:
    """Forget a decision: a person is told that it could not be carried out, and decides again."""
    if store.state("decision") is not None:
        with store.writing(mute=False):
            store.set_state("decision", None)


def record_condition(
    store: Store, files: FileReplica, report: Report, orders: Orders, look: Look, lost: Set[str]
) -> None:
    """Record the halt, the folders' identities and the time, where any of them changed.

    ``lost`` are the messages that are gone on a side.
    """
    halt, was = report.halt, store.halt()
    if halt is None:
        halt, lost = _standing_halt(store, files, report, orders, look)
    changes: dict[str, object] = {}
    if was != halt:
        changes["halt"] = halt
    if store.lost() != lost:
        changes["lost"] = sorted(lost) or None
    known = store.folders() or {}
    folders = dict(known)
    if report.halt is None and (look.folders or report.counts.changes()):
        for folder in FOLDERS:
            trusted = bool(look.folders) and (
                orders.is_decision
                or not any(path.startswith(f"{folder}/") for path in look.vanished.values())
            )
            # What was looked at counts: another folder may stand there by now.
            seen = look.folders.get(folder)
            found = (seen and seen.identity) or files.folder_state(folder).identity
            if found is not None and (trusted or folder not in known):
                folders[folder] = found
            elif (
                trusted
                and (folder in known and seen and seen.trouble == MISSING)
                and folder not in store.records.count_by_folder()
            ):
                # It held nothing when it went. As long as it is known, each look is a full one.
                del folders[folder]
    if folders != known:
        changes["folders"] = folders
    if report.counts.changes():
        changes["last_cycle"] = now_text()
    if orders.is_decision and store.state("decision") is not None:
        changes["decision"] = None
    if changes:
        with store.writing(durable=changes.keys() != {"last_cycle"}, mute=False):
            for name, value in changes.items():
                store.set_state(name, value)
            if "halt" in changes and (was and was.cause) != (halt and halt.cause):
                told = halt_entry(now_text(), halt.cause if halt is not None else None)
                store.chronicle.add_to_journal([told])


def _standing_halt(
    store: Store, files: FileReplica, report: Report, orders: Orders, look: Look
) -> tuple[Halt | None, Set[str]]:
    """Return the halt that stands after a cycle that was none, and the messages that are gone.

    A decision is for one cycle. Where that could not carry all of it out, the project is halted
    until nothing is gone any more, or a person decides again.
    """
    is_undone = report.error is not None or (orders.restore and bool(report.unsettled))
    if not (orders.is_decision and is_undone):
        return None, frozenset()
    records = store.records.of(look.vanished.keys() | look.gone_rows)
    standing = files.listed(record.path for record in records.values())
    gone_files = {key for key, record in records.items() if record.path not in standing}
    gone = gone_files.union(store.rows.gone_ids(records))
    if not gone:
        return None, frozenset()
    step = "brought back" if orders.restore else "deleted on the other side"
    side = Side.FILE if gone_files else Side.DB
    cause = f"what is gone could not all be {step}"
    return Halt(cause, side, len(gone), store.rows.count()), gone


def record_findings(ledger: Ledger, look: Look) -> None:
    """Record what was set aside or came back, twins, and that the feed was heard."""
    store, unsettled = ledger.store, ledger.report.unsettled
    before = store.chronicle.quarantined(
        ledger.set_aside.keys() | ledger.released | set(look.released)
    )
    news = [entry for path, entry in ledger.set_aside.items() if before.get(path) != entry]
    released = [entry for path, entry in before.items() if path not in ledger.set_aside]
    ledger.report.released = {entry.path for entry in released}
    later = unsettled | ledger.report.vanished
    heard = [entry for entry in look.feed if row_key(entry.id) not in later]
    # The feed tells where to come back to, but not yet of what a full compare found.
    rows_later = {key for key in map(id_in_row_key, unsettled) if key is not None}
    unheard = rows_later - {entry.id for entry in look.feed}
    lost_twins = set(look.twins_gone)
    known_twins = store.twins.at([*lost_twins, *ledger.twins])
    lost_twins &= known_twins.keys()
    new_twins = {
        path: value for path, value in ledger.twins.items() if known_twins.get(path) != value
    }
    if ledger.dry_run or not (released or news or heard or unheard or lost_twins or new_twins):
        return
    at, chronicle = now_text(), store.chronicle
    acts: list[Callable[[], None]] = []
    for entry in news:
        reason = entry.problem.reason
        told = JournalEntry(at, entry.id, None, QUARANTINED, why=reason, path=entry.path)
        acts.append(partial(chronicle.save_quarantine, entry))
        acts.append(partial(chronicle.add_to_journal, [told]))
    for entry in released:
        told = JournalEntry(at, entry.id, None, RELEASED, path=entry.path)
        acts.append(partial(chronicle.forget_quarantine, entry.path))
        acts.append(partial(chronicle.add_to_journal, [told]))
    acts += [partial(store.twins.forget, path) for path in lost_twins]
    acts += [partial(store.twins.save, path, *twin) for path, twin in new_twins.items()]
    acts += [partial(store.add_to_feed, key) for key in unheard]
    acts += [partial(store.consume, entry) for entry in heard]
    # None of it is more than a next look would find again.
    for start in range(0, len(acts), _AT_ONCE):
        with store.writing(durable=False, mute=False):
            for act in acts[start : start + _AT_ONCE]:
                act()
