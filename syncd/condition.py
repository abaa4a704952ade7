"""What is recorded of a project as a whole: a person's decision, the halt, folders, the time."""

from __future__ import annotations

from typing import Any

from syncd.chronicle import now_text
from syncd.files import FileReplica
from syncd.journal import halt_entry
from syncd.look import Look
from syncd.message import FOLDERS
from syncd.orders import Orders
from syncd.report import Report
from syncd.sides import Side
from syncd.snapshot import MISSING
from syncd.store import Store


def with_decision(store: Store, orders: Orders) -> Orders:
    """Return the orders with what a person decided of a halt, also when a crash cut that off."""
    if orders.one_way:
        return orders
    decision = store.state("decision")
    if orders.is_decision:
        wanted = "restore" if orders.restore else "accept-deletes"
        if wanted != decision and not orders.dry_run:
            with store.writing():
                store.set_state("decision", wanted)
    elif decision is not None:
        restore = decision == "restore"
        orders = orders._replace(paths=None, restore=restore, accept_deletes=not restore)
    return orders


def record_condition(
    store: Store, files: FileReplica, report: Report, orders: Orders, look: Look
) -> None:
    """Record the halt, the folders' identities and the time, where any of them changed."""
    halt = _standing_halt(store, files, report, orders, look)
    changes: dict[str, object] = {}
    if store.state("halt") != halt and not orders.one_way:
        changes["halt"] = halt
    known = store.state("folders") or {}
    folders = dict(known)
    if report.halt is None and (look.folders or report.counts.changes()):
        for folder in FOLDERS:
            trusted = bool(look.folders) and (
                orders.is_decision
                or not any(path.startswith(f"{folder}/") for path in look.vanished.values())
            )
            # What was looked at counts: another folder may stand there by now.
            seen = look.folders.get(folder)
            found = seen.identity if seen is not None else None
            found = found or files.folder_state(folder).identity
            if found is not None and (trusted or folder not in known):
                folders[folder] = list(found)
            elif (
                trusted
                and folder in known
                and seen is not None
                and seen.trouble == MISSING
                and folder not in store.count_by_folder()
            ):
                # It held nothing when it went. As long as it is known, each look is a full one.
                del folders[folder]
    if folders != known:
        changes["folders"] = folders
    if report.counts.changes():
        changes["last_cycle"] = now_text()
    if orders.is_decision:
        changes["decision"] = None
    if changes:
        with store.writing(durable=changes.keys() != {"last_cycle"}, mute=False):
            for name, value in changes.items():
                store.set_state(name, value)
            if "halt" in changes:
                store.add_to_journal([halt_entry(now_text(), halt[0] if halt else None)])


def _standing_halt(
    store: Store, files: FileReplica, report: Report, orders: Orders, look: Look
) -> list[Any] | None:
    """Return the halt that stands after a cycle, as the database holds it.

    A decision is for one cycle. Where that could not carry all of it out, the project is halted
    until nothing is gone any more, or a person decides again.
    """
    if report.halt is not None:
        return list(report.halt)
    is_undone = report.error is not None or (orders.restore and bool(report.unsettled))
    if not (orders.is_decision and is_undone):
        return None
    records = store.records(look.vanished.keys() | look.gone_rows)
    standing = files.listed(record.path for record in records.values())
    gone_files = {key for key, record in records.items() if record.path not in standing}
    gone = len(gone_files.union(store.gone_rows(records)))
    if not gone:
        return None
    step = "brought back" if orders.restore else "deleted on the other side"
    side = Side.FILE if gone_files else Side.DB
    return [f"what is gone could not all be {step}", side, gone, store.count_rows()]
