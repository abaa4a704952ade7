"""The session of a running program: others see in the registry that it is there.

A session is news, and no message depends on it: a registry that cannot be written is logged and
forgotten. There is no thread for the heartbeat; it is written when the program does something.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import uuid
import weakref
from pathlib import Path

from syncd.errors import SyncdError
from syncd.messaging.database import MessagingDatabase

HEARTBEAT_S = 5.0
"""A heartbeat is written at most this often."""

_log = logging.getLogger("syncd.messaging")


class Session:
    """A session of ``project`` in ``registry``, from now until `end`.

    It also ends when nothing refers to it any more, and at exit; a program that is killed leaves
    it ``active`` until `MessagingDatabase.cleanup_stale_sessions` finds it. Only the registry is
    kept alive for that, not the session and not what owns it.
    """

    def __init__(self, registry: MessagingDatabase, project: Path) -> None:
        self._registry = registry
        self._project = project
        self._begin()

    def keep(self) -> bool:
        """Write the heartbeat if it is due; say whether a forked child got its own session.

        A session that the registry does not know (it was replaced, or busy before) is entered.
        """
        forked = os.getpid() != self._pid
        if forked:
            self._ending.detach()  # it is for the parent to end
            self._begin()
        elif time.monotonic() >= self._next_heartbeat_s:
            self._enter()
        return forked

    def end(self) -> None:
        """End the session. Safe to repeat."""
        self._ending()

    def _begin(self) -> None:
        self.id = f"session-{uuid.uuid4().hex[:16]}"
        self._pid = os.getpid()
        self._is_noted = threading.Event()
        self._ending = weakref.finalize(
            self, _deregister, self._registry, self.id, self._pid, self._is_noted
        )
        self._enter()

    def _enter(self) -> None:
        self._next_heartbeat_s = time.monotonic() + HEARTBEAT_S
        try:
            if not self._registry.update_heartbeat(self.id):
                self._registry.register_session(self.id, self._project)
            self._is_noted.set()
        except SyncdError as error:
            _log.warning("the session cannot be noted: %s", error)


def _deregister(
    registry: MessagingDatabase, session_id: str, pid: int, is_noted: threading.Event
) -> None:
    """End a session at exit: quietly, only if it was noted, in the process that began it."""
    if os.getpid() != pid or not is_noted.is_set():
        return
    try:
        registry.deregister_session(session_id)
    except (SyncdError, sqlite3.Error, OSError) as error:
        _log.debug("the session %s stays active: %s", session_id, error)
