"""The time as LXD writes it: RFC 3339 in UTC with nanoseconds, trailing zeros left out as Go does."""

from __future__ import annotations

import time
from datetime import UTC, datetime

ZERO = "0001-01-01T00:00:00Z"


def now() -> str:
    """The present moment."""
    return rfc3339(time.time_ns())


def rfc3339(nanoseconds: int) -> str:
    """A moment given in nanoseconds since 1970."""
    whole, fraction = divmod(nanoseconds, 1_000_000_000)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def nanoseconds(text: str) -> int:
    """The reverse of `rfc3339`; any offset is understood."""
    body, offset = (text[:-1], "+00:00") if text.endswith("Z") else (text[:-6], text[-6:])
    whole, _, fraction = body.partition(".")
    seconds = int(datetime.fromisoformat(whole + offset).timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)
