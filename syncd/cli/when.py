"""Moments as a person writes them: ISO 8601, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from syncd.errors import UsageError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([smhdw])", re.ASCII)
_DAYS_AGO = {"today": 0, "yesterday": 1}


def moment(text: str, now: datetime | None = None) -> datetime:
    """Return the moment, in UTC, that a person means: a date or time, or how long before ``now``.

    A date is its first moment; what has no offset is local time. Raises `UsageError` for a text
    that is none of it.
    """
    now = now or datetime.now().astimezone()
    words = text.strip().lower()
    try:
        if words in _DAYS_AGO:
            day = now.date() - timedelta(days=_DAYS_AGO[words])
            return datetime(day.year, day.month, day.day).astimezone(UTC)
        ago = _AGO.fullmatch(words)
        if ago is not None:
            return (now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})).astimezone(UTC)
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{text!r} is no time",
            hint="Write a date or time (2026-02-20, 2026-02-20T20:15), how long ago (90m, 2h, 3d, "
            "1w), today, or yesterday.",
        ) from error
