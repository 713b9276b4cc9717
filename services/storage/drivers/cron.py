"""Schedules of a volume's snapshots: five fields, or names of moments."""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from chassis.key_types import Type

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@annually": "0 0 1 1 *",
    "@yearly": "0 0 1 1 *",
}
_REASON = "Schedule must be of the form: <minute> <hour> <day-of-month> <month> <day-of-week>"


def expressions(text: str) -> list[str]:
    """The cron expressions of a schedule. Raises ValueError in LXD's words."""
    words = [word.strip() for word in text.split(",")]
    if all(word in ALIASES for word in words):
        return [ALIASES[word] for word in words]
    if len(text.split()) != 5 or text.lstrip().startswith("@"):
        raise ValueError(_REASON)
    try:
        CronSim(text, datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(f"Error parsing cron expr: {error}") from None
    return [text]


VOLUME_CRON: Type[list[str]] = Type("cron expression", expressions, [])
