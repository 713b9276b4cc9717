"""LXD's grammar of sizes, bit rates and expiries, with its sentences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import units

MOMENT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("1 bytes", 1),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("10MB", 10_000_000),
        ("10MiB", 10 * 1024**2),
        ("2GB", 2_000_000_000),
        ("1EiB", 1024**6),
    ],
)
def test_sizes(text: str, number: int) -> None:
    assert units.parse_bytes(text) == number


@pytest.mark.parametrize("text", ["MB", "1mb", "1 MB", "1KB", "-1", "1.5GB", "0x10", "1MiBB", "1Mbit"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=f"Invalid value: {text}"):
        units.parse_bytes(text)


def test_a_size_beyond_what_lxd_counts() -> None:
    with pytest.raises(ValueError, match="Invalid integer: 99999999999999999999B"):
        units.parse_bytes("99999999999999999999B")


@pytest.mark.parametrize(
    ("text", "number"), [("", 0), ("10Mbit", 10_000_000), ("1Kibit", 1024), ("5", 5), ("1kbit", 1000)]
)
def test_bit_rates(text: str, number: int) -> None:
    assert units.parse_bits(text) == number


def test_shares() -> None:
    assert units.parse_share("50%", 1000) == 500
    assert units.parse_share("1kB", 1) == 1000
    assert units.parse_percent("5MiB") is None
    for wrong in ("101%", "x%", "%", "-1%", "1.5%"):
        with pytest.raises(ValueError, match="Invalid value"):
            units.parse_percent(wrong)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1M", MOMENT + timedelta(minutes=1)),
        ("1d 3H", MOMENT + timedelta(days=1, hours=3)),
        ("2w", MOMENT + timedelta(days=14)),
        ("1m", datetime(2026, 3, 3, 12, 0, tzinfo=UTC)),  # the 31st of February runs into March, as in Go
        ("1y 1m", datetime(2027, 3, 3, 12, 0, tzinfo=UTC)),
        ("", None),
    ],
)
def test_expiries(text: str, moment: datetime | None) -> None:
    assert units.parse_expiry(MOMENT, text) == moment


@pytest.mark.parametrize("text", ["1", "1x", "1d 1d", "d", "-1d", "1d3H", "999999y"])
def test_expiries_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid expiry expression"):
        units.parse_expiry(MOMENT, text)


@given(st.integers(min_value=0, max_value=2**62))
def test_what_is_shown_can_be_read(number: int) -> None:
    assert units.show_bytes_iec(number)[-1] == "B"
    assert units.parse_bytes(f"{number}B") == number


def test_texts() -> None:
    assert units.show_bytes_iec(1_572_864) == "1.50MiB"
    assert units.show_bytes_iec(12) == "12B"
