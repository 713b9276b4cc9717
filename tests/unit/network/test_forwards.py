"""Forwards: what is refused, and what they mean for the firewall."""

from __future__ import annotations

from typing import Any

import pytest

from rows.network import ForwardPort, NetworkForward
from services.network import forward_rules

NETWORK = {"ipv4.address": "198.18.1.1/24", "ipv6.address": "none"}


def forward(listen: str = "192.0.2.7", **fields: Any) -> NetworkForward:
    return NetworkForward(project="default", network="nb0", listen_address=listen, **fields)


def port(listen: str = "80", **fields: str) -> ForwardPort:
    return ForwardPort(**{"protocol": "tcp", "listen_port": listen, "target_address": "198.18.1.2", **fields})


WRONG = [
    (forward("abc"), 'Failed parsing address forward listen address "abc"'),
    (forward("fd42::7"), "invalid CIDR address: none"),
    (forward(config={"foo": "x"}), 'Invalid option "foo"'),
    (forward(config={"target_address": "x"}), "Invalid default target address"),
    (forward(config={"target_address": "1.2.3.4"}), "Default target address is not within the network subnet"),
    (forward(config={"target_address": "fd42::1"}), "Cannot mix IP versions"),
    (forward(ports=(port(protocol="icmp"),)), "Invalid port protocol in port specification 0"),
    (forward(ports=(port(""),)), "Missing listen port in port specification 0"),
    (forward(ports=(port(target_address="1.2.3.4"),)), "Target address is not within the network subnet"),
    (forward(ports=(port("80-90", target_port="80,81"),)), "Mismatch of listen port(s) and target port(s) count"),
    (forward(ports=(port(), port())), 'Duplicate listen port 80 for protocol "tcp" in port specification 1'),
    (forward(ports=(port("99999"),)), 'Invalid port number "99999"'),
]


@pytest.mark.parametrize(("wrong", "told"), WRONG)
def test_a_wrong_forward_is_refused_in_lxds_words(wrong: NetworkForward, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        forward_rules.check(wrong, NETWORK)
    assert told in str(caught.value)


def test_ports_are_mapped_one_to_one_or_all_to_one() -> None:
    ports = (port("90-91,95", target_port="80-81,85"), port("96-97", target_port="53", protocol="udp"), port("22"))
    found = forward(config={"target_address": "198.18.1.9"}, ports=ports)
    forward_rules.check(found, NETWORK)
    rules = [(r.protocol, r.port, r.target_port, r.target) for r in forward_rules.for_firewall([found])]
    assert rules == [
        ("tcp", 90, 80, "198.18.1.2"),
        ("tcp", 91, 81, "198.18.1.2"),
        ("tcp", 95, 85, "198.18.1.2"),
        ("udp", 96, 53, "198.18.1.2"),
        ("udp", 97, 53, "198.18.1.2"),
        ("tcp", 22, 22, "198.18.1.2"),
        ("", 0, 0, "198.18.1.9"),
    ]
