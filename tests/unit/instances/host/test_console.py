"""Addresses of liblxc's command sockets, and signal names."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from services.instances.host.console import command_socket
from services.instances.host.process import signal_number


def test_a_short_address_is_the_path() -> None:
    assert command_socket(Path("/d/instances"), "c1") == b"\0/d/instances/c1/command"


def test_a_long_one_is_hashed() -> None:
    found = command_socket(Path("/" + "d" * 120), "c1")
    assert found.startswith(b"\0lxc/")
    assert found.endswith(b"/command")
    assert len(found) == len(b"\0lxc/0123456789abcdef/command")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("15", 15), ("SIGTERM", 15), ("TERM", 15), ("SIGRTMIN+3", signal.SIGRTMIN + 3), ("NOPE", None)],
)
def test_signal_names(text: str, expected: int | None) -> None:
    assert signal_number(text) == expected
