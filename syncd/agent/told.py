"""How a project of the agent stands, as the log and `status` were last told."""

from __future__ import annotations

import logging

from syncd.cycle.orders import Orders
from syncd.cycle.report import Report, State

log = logging.getLogger("syncd.agent")

_DEFECT, _DEFECT_STATE = "a cycle ended with a defect of syncd", "defect"
_DEFECT_HINT = "The agent's log has the whole of it; the project is tried again by itself."


class Told:
    """What was told of one project; ``trouble`` is an error with its hint, until that is over."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.trouble: tuple[str, str] | None = None
        self._state = ""
        self._set_aside: dict[str, str] = {}

    def tell_of_defect(self) -> None:
        """Note that a cycle ended with a defect, which is logged where it was caught."""
        self._state = _DEFECT_STATE
        self.trouble = (_DEFECT, _DEFECT_HINT)

    def tell(self, orders: Orders, report: Report) -> None:
        """Log what a cycle did, and what has changed since in how the project stands."""
        if report.counts.changes():
            log.info("%s: %s", self.project, report.counts)
        if not report.hinders_all:
            self._tell_of_quarantine(orders, report)
        if self.trouble is not None and report.error is None and orders.paths is not None:
            return  # an error stands until a full cycle went well
        state = f"{report.state}:{report.error}:{report.halt and report.halt.cause}"
        if state == self._state:
            return
        was, self._state = self._state.partition(":")[0], state
        self.trouble = (report.error, report.hint) if report.error is not None else None
        if report.state is State.ERROR:
            log.error("%s: %s%s", self.project, report.error, report.hint and f" → {report.hint}")
        elif report.halt is not None:
            told = [report.halt.cause, *report.halt.ways_out(self.project)]
            log.error("%s: halted: %s", self.project, " → ".join(told))
        elif report.retired is not None:
            log.info("%s: retired on %s: it is left alone", self.project, report.retired.at)
            for path in report.left:
                log.warning("%s: %s stands there all the same", self.project, path)
        elif was in (State.ERROR, State.HALTED, _DEFECT_STATE):
            log.info("%s: goes on", self.project)

    def _tell_of_quarantine(self, orders: Orders, report: Report) -> None:
        """Log what is set aside and was not, or for another reason."""
        known = self._set_aside
        if orders.paths is None:
            self._set_aside = {}
        for path in report.released:
            known.pop(path, None)
        for entry in report.quarantined:
            reason = entry.problem.reason
            if known.get(entry.path) != reason:
                line = entry.problem.line or 1
                log.warning("%s: %s:%s: %s", self.project, entry.path, line, reason)
            self._set_aside[entry.path] = reason
