"""LXD's grammar of quantities: sizes ("10MiB", "1GB"), bit rates ("10Mbit"), percentages, expiries ("1d 3H")
and their texts.

Everything here raises ValueError with LXD's wording; whoever knows the key makes a fault of it.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta

BYTES = {"": 1, "B": 1, " bytes": 1}
BITS = {"": 1, "bit": 1}
for _power, _letter in enumerate("kMGTPE", start=1):
    BYTES[f"{_letter}B"] = 1000**_power
    BITS[f"{_letter}bit"] = 1000**_power
    BYTES[f"{_letter.upper()}iB"] = 1024**_power
    BITS[f"{_letter.upper()}ibit"] = 1024**_power
INT64 = 2**63 - 1
QUANTITY = re.compile(r"([0-9]*)(.*)", re.DOTALL)
EXPIRY = re.compile(r"([0-9]+)([MHdwmy])")


def parse(text: str, suffixes: dict[str, int]) -> int:
    """The number of base units; "" is 0."""
    if text == "":
        return 0
    digits, suffix = QUANTITY.fullmatch(text).groups()  # type: ignore[union-attr]  # the pattern matches anything
    if digits == "" or suffix not in suffixes:
        raise ValueError(f"Invalid value: {text}")
    number = int(digits)
    if number > INT64:
        raise ValueError(f"Invalid integer: {text}")
    return number * suffixes[suffix]


def parse_bytes(text: str) -> int:
    """Bytes of "10MiB", "1GB", "512" (bytes)."""
    return parse(text, BYTES)


def parse_bits(text: str) -> int:
    """Bits per second of "10Mbit", "1Gbit"."""
    return parse(text, BITS)


def parse_percent(text: str) -> int | None:
    """50 of "50%"; None if the text is no percentage. Raises ValueError outside 0 to 100."""
    if not text.endswith("%"):
        return None
    digits = text[:-1]
    if not (digits.isascii() and digits.isdigit()) or int(digits) > 100:
        raise ValueError(f"Invalid value: {text}")
    return int(digits)


def parse_share(text: str, total: int) -> int:
    """Bytes of a size or of a percentage of `total`."""
    percent = parse_percent(text)
    return parse_bytes(text) if percent is None else total * percent // 100


def show_bytes_iec(value: float, precision: int = 2) -> str:
    """In powers of 1024: 1572864 is "1.50MiB"."""
    if value < 1024:
        return f"{int(value)}B"
    for suffix in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.{precision}f}{suffix}"
    return f"{value / 1024:.{precision}f}EiB"


def parse_expiry(reference: datetime, text: str) -> datetime | None:
    """The moment that "1d 3H" after `reference` means; None for an empty text.

    M minutes, H hours, d, w, m months, y.
    """
    fields: dict[str, int] = {}
    for word in text.split():
        match = EXPIRY.fullmatch(word)
        if match is None or fields.get(match[2], 0) > 0:
            raise ValueError("Invalid expiry expression")
        fields[match[2]] = int(match[1])
    if not fields:
        return None
    try:
        moment = _add_months(reference, fields.get("y", 0) * 12 + fields.get("m", 0))
        days = fields.get("d", 0) + fields.get("w", 0) * 7
        return moment + timedelta(days=days, hours=fields.get("H", 0), minutes=fields.get("M", 0))
    except (OverflowError, ValueError):
        raise ValueError("Invalid expiry expression") from None


def _add_months(moment: datetime, months: int) -> datetime:
    """As Go's AddDate: the day that overflows a month runs into the next."""
    index = moment.year * 12 + moment.month - 1 + months
    year, month = divmod(index, 12)
    month += 1
    overflow = max(0, moment.day - monthrange(year, month)[1])
    return moment.replace(year=year, month=month, day=moment.day - overflow) + timedelta(days=overflow)
