"""syncd keeps legacy markdown message folders and a SQLite database in two-way sync.

The map of the code, from the top down. Each module imports only from modules below it; a test
keeps the arrows so.

    cli             talks to people: the only place that prints, exits, or imports typer and rich
    checkup         checks of a machine and of projects, each with its mend
    service         the agent as a service: systemd's unit, launchd's property list
    agent           many projects at once, for as long as it runs
        agent           many projects: wakes, timers, signals, the service manager
        workers         the threads that run the agent's cycles
        roster          which projects the agent keeps: found, watched or polled, gone, made again
        job             one project of the agent: its cycles, its database while that is open
        told            how a project stands, as the log and `status` were last told
        schedule        when a project is to be looked at, and where: wakes in, orders out
        watch           file events of many projects, as each system tells them → wakes
        inotify         the same on Linux: one descriptor and one thread for all
        wakes           what an event of a file or of the database means
        heartbeat       the agent's sign of life, for commands to find it
    retire          the end of a migration, and undoing it
        reinstate       undoing the end of a migration
        retire          the end of a migration: folders packed away, tables and triggers removed
        archive         the archive of a retired project: packing, checking, unpacking
        trees           trees of folders: listing, comparing, moving one into another
    verify          both sides read in full and proved equal, without the baseline
    inventory       every file read in full: which are one message, and what it says
    repair          files that syncd can read and the old client cannot
    conflicts       conflicts settled by a person: what stands, what lost
    history         what stands and what stood before, and bringing that back
    follow          the journal as it grows
    progress        how far the migration is
    cycle           one project compared, and both sides made equal
        project         taking turns on a project, running a pass over it
        seen            what a project looked like when nothing was left to do
        cycle           one cycle: look, reconcile, guard, apply, record
        intake          what a look found, taken in: file, row and baseline of each message
        condition       what is recorded beside messages: decision, halt, folders, quarantine
        absence         what is gone, told from what moved or cannot be read
        copies          several files of one id: which of them stands for the message
        strays          what late writers left, merged against the version that they started from
        reader          reading files as messages, patiently
        bulk            messages that are new on one side, taken over many at a time
        apply           a plan in batches, in an order that survives a crash at any point
        beside          files that stand beside a message's own, kept before they go
        task            one message on its way through a batch
        ahead           many files or rows read ahead, by two processes
        divided         work that two processes divide among them
        second_process  the second one: started, kept waiting, told, answering
        ledger          what one cycle works on, and what it has done so far
        orders          what a cycle is asked to do
        report          what a cycle did and found
        retirement      the word that a project is retired
        look            what changed since the baseline, found without reading what did not
        departure       what becomes of a message that is new in a row
        found           a file read as a message, and what becomes of a new one
    database        the database: the host's rows, and what syncd keeps beside them
        dump            syncd's own tables as lines of JSON, and back
        store           the replica of SQLite: its parts, the feed, the state, pruning
        rows            the table messages
        records         baselines of messages, versions of files written lately, twins
        chronicle       what is kept for people: history, conflicts, quarantine, journal
        queries         what the parts of a database share: many values at once, in portions
        database        a project's database as a file: opening, transactions
        sqlite_errors   what keeps a database from being used, as sentences with a way out
        tables          syncd's own tables and triggers
        record          a message's baseline as the database holds it
    files           the mailbox folders and the files in them
        replica         the replica of files: safe writes
        folders         the mailbox folders: listing, looking, stable reads
        snapshot        what a look at the files holds
        attributes      what a file has beside its bytes: permissions, owner, access lists
        syscalls        leases, renames and watches, which Python lacks
    find            finding projects
    config          TOML, environment and flags → a frozen Config
    messaging       the new clients' API, with the contract's schema
    core            PURE: messages, and what becomes of them; no file, no database, no clock
        journal         what a cycle does, told as entries of the journal
        guard           when a cycle may not act
        reconcile       baseline, file, row → outcome
        sides           the two sides of a message, and what can be known of one
        edit            edits of a file's bytes by span
        spans           edits of a YAML mapping's text by span
        legacy          what the old client makes of a file's bytes
        markdown        bytes ⇄ message
        front_matter    the YAML of a file, read and written
        nodes           a YAML text as nodes, within bounds, and its mistakes
        canonical       front matter as the old client writes it, without a YAML parser
        message         the message, its fields in normal form
    patience        waiting for a lock that somebody else holds, and leaving it free for others
    names           names of files: the database, messages, and syncd's own for a moment
    shell           PURE: words as a shell reads them
    digest          PURE: BLAKE2b, by which bytes, texts and values are known again
    errors          PURE: the hierarchy, exit codes, hints

The way of the data: files and rows → snapshots → outcomes → apply → baseline. What holds at all
times: an unreadable side is never "gone"; what a step destroys is in the history before; the
replicas change before the baseline does; nothing is written that was not read back first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncd.messaging import Message, MessageService, MessagingDatabase, TaskInjector

__all__ = ["Message", "MessageService", "MessagingDatabase", "TaskInjector"]

# Reading it from the installed package's metadata would take longer than all the rest of a start.
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Commands that do not need the messaging API do not pay for its import.
    if name in __all__:
        return getattr(import_module("syncd.messaging"), name)
    raise AttributeError(f"module 'syncd' has no attribute {name!r}")
