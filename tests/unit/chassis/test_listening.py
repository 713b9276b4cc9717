"""Addresses to listen on, in all the ways LXD's users write them."""

from __future__ import annotations

import pytest

from chassis.listening import METRICS, is_number, overlap, split, with_port


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 8443),
        ("192.0.2.1:9", "192.0.2.1", 9),
        (":443", "", 443),
        ("*:443", "", 443),
        ("[::1]:9", "::1", 9),
        ("[::1]", "::1", 8443),
        ("::1", "::1", 8443),
        ("::", "", 8443),
        ("[::]:443", "", 443),
        ("", "", 8443),
        ("0.0.0.0:1", "0.0.0.0", 1),
        ("127.0.0.1:https", "127.0.0.1", 443),
    ],
)
def test_listening_addresses(text: str, host: str, port: int) -> None:
    assert split(text) == (host, port)


@pytest.mark.parametrize("text", [":nosuchservice", "127.0.0.1:99999", "[::1", "[::1]:-1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        split(text)
    assert with_port(text, METRICS) == text


def test_every_key_has_its_own_port_where_the_address_has_none() -> None:
    assert with_port("127.0.0.1", METRICS) == "127.0.0.1:9100"
    assert with_port("[::1]", METRICS) == "[::1]:9100"
    assert with_port("[::]:8443", METRICS) == ":8443"


def test_what_c_takes_for_a_number_and_nobody_means_is_refused() -> None:
    assert is_number("192.0.2.1")
    assert is_number("::1")
    assert not is_number("localhost")
    for text in ("5", "1.5", "0x10"):
        with pytest.raises(ValueError):
            is_number(text)


def test_who_is_in_whose_way() -> None:
    assert overlap(("", 1), ("127.0.0.1", 1))
    assert overlap(("0.0.0.0", 1), ("127.0.0.1", 1))
    assert not overlap(("127.0.0.1", 1), ("127.0.0.1", 2))
    assert not overlap(("127.0.0.1", 1), ("127.0.0.2", 1))
