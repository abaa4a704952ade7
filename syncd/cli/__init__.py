"""The command line: the only place that prints, exits, or imports typer and rich.

    app        the commands by name; each is imported when it is asked for
    run        run
    cycles     sync, migrate, resume: one cycle per project
    crew       something done for each of many projects, by two processes
    status     status
    watching   status --watch: what changes, found cheaply
    frames     status --watch on a terminal
    conflicts  conflicts, resolve
    undo       history, show, restore
    log        log
    report     report, with report_table, report_page (the HTML) and report_plots
    repair     repair
    doctor     doctor
    retire     retire
    verify     verify
    service    service install, uninstall, show
    settings   config show
    messages   message, with message_arguments, message_cycles and message_pages
    projects   which projects a call means, and the exit code over all of them
    acts       one project and message: which, and changing something on both sides
    findings   what a cycle or a look found, as lines for people
    progress_words  what a report says of a project
    when       moments as a person writes them
    options    the options and arguments that commands share
    output     lines, colours, JSON, progress: all that leaves goes through here

What a person reads as an answer goes to stdout, all other words to stderr. A call never ends in a
traceback for anything that a person can cause.

A short command spends most of its time on imports, so a module imports at its top only what every
call of its command needs; what few calls need stands where it is used. What is no more than a few
values together is a `NamedTuple`, which is defined in a seventh of the time of a frozen dataclass.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

_INTERRUPTED = 130  # as shells count a death by SIGINT
_READER_GONE = 1
_DONE_ALL_THE_SAME = (
    "If that is where the answer was to go, what was asked for may be done all the same: see "
    "'syncd status' before you ask again."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own; return the exit code."""
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # also while all is still being imported
        return _INTERRUPTED


def _main(arguments: Sequence[str] | None) -> int:
    # A start makes thousands of objects that live to the end, and no garbage. Looking for some is a
    # tenth of the time of a short command; `Command` turns it on again.
    gc.disable()
    from syncd.cli import output
    from syncd.errors import ExitCode, SyncdError, os_sentence

    output.prepare()
    try:
        from syncd.cli.app import run

        code = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except SyncdError as error:
        output.complain(f"syncd: {error.sentence}", error.hint)
        return error.exit_code
    except BrokenPipeError:
        return _READER_GONE
    except OSError as error:
        # What names no path is mostly stdout's, after the work.
        hint = "" if error.filename else _DONE_ALL_THE_SAME
        output.complain(f"syncd: {os_sentence(error)}", hint)
        return ExitCode.ERROR
    finally:
        output.finish()
        gc.freeze()
    return code
