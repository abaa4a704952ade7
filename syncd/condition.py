"""What is recorded of a project as a whole: a person's decision, the halt, folders, the time."""

from __future__ import annotations

from syncd.chronicle import now_text
from syncd.files import FileReplica
from syncd.journal import halt_entry
from syncd.look import Look
from syncd.message import FOLDERS
from syncd.orders import Orders
from syncd.report import Report
from syncd.store import Store


def with_decision(store: Store, orders: Orders) -> Orders:
    """Return the orders with what a person decided of a halt, also when a crash cut that off."""
    if orders.dry_run or orders.one_way:
        return orders
    decision = store.state("decision")
    if orders.restore or orders.accept_deletes:
        wanted = "restore" if orders.restore else "accept-deletes"
        if wanted != decision:
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
    halt = report.halt
    changes: dict[str, object] = {}
    text = [halt.cause, halt.side, halt.gone, halt.expected] if halt else None
    if store.state("halt") != text and not orders.one_way:
        changes["halt"] = text
    known = store.state("folders") or {}
    folders = dict(known)
    if halt is None and (look.folders or report.counts.changes()):
        for folder in FOLDERS:
            decided = orders.accept_deletes or orders.restore
            trusted = bool(look.folders) and (
                decided or not any(path.startswith(f"{folder}/") for path in look.vanished.values())
            )
            # What was looked at counts: another folder may stand there by now.
            seen = look.folders.get(folder)
            found = seen.identity if seen is not None else None
            found = found or files.folder_state(folder).identity
            if found is not None and (trusted or folder not in known):
                folders[folder] = list(found)
    if folders != known:
        changes["folders"] = folders
    if report.counts.changes():
        changes["last_cycle"] = now_text()
    if (orders.restore or orders.accept_deletes) and report.error is None:
        changes["decision"] = None
    if changes:
        with store.writing(durable=changes.keys() != {"last_cycle"}, mute=False):
            for name, value in changes.items():
                store.set_state(name, value)
            if "halt" in changes:
                store.add_to_journal([halt_entry(now_text(), halt.cause if halt else None)])
