"""What a cycle is asked to do."""

from __future__ import annotations

from typing import NamedTuple


class Orders(NamedTuple):
    """What a cycle is asked to do.

    ``paths`` limits it to these files and the ids in the feed (None: everything). ``gone`` are
    paths, and rows as ``messaging.db#id``, that were gone at an earlier look already; ``fresh`` are
    paths that an earlier look read too early to trust their stamps. ``one_way`` changes rows only
    and deletes nothing; ``dry_run`` changes nothing. ``restore`` writes again what is gone on one
    side; ``accept_deletes`` passes the guard, for the messages that the project's halt told of.
    With ``wait`` the cycle itself looks twice, where the agent would come back later. ``cause`` is
    what the journal says of changes that a command asked for.
    """

    paths: frozenset[str] | None = None
    gone: frozenset[str] = frozenset()
    fresh: frozenset[str] = frozenset()
    trust_stamps: bool = True
    one_way: bool = False
    dry_run: bool = False
    restore: bool = False
    accept_deletes: bool = False
    wait: bool = True
    cause: str = ""

    @property
    def is_decision(self) -> bool:
        """Whether a person decided what becomes of what is gone."""
        return self.restore or self.accept_deletes
