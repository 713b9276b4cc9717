"""Drawing a free subnet."""

from __future__ import annotations

import ipaddress
import random

import pytest

from services.network import subnets


def test_a_drawn_subnet_overlaps_no_known_one() -> None:
    taken = ["10.0.0.0/9", "192.0.2.0/24", "fd42::/17"]
    for seed in range(50):
        found = ipaddress.ip_interface(subnets.free4(taken, random.Random(seed)))
        assert found.network.prefixlen == 24
        assert found.network.subnet_of(ipaddress.ip_network("10.128.0.0/9"))
        six = ipaddress.ip_interface(subnets.free6(taken, random.Random(seed)))
        assert six.network.subnet_of(ipaddress.ip_network("fd42::/16"))
        assert not six.network.overlaps(ipaddress.ip_network("fd42::/17"))


def test_when_none_is_left_it_says_so() -> None:
    with pytest.raises(ValueError, match="unused IPv4 subnet, manual configuration required"):
        subnets.free4(["10.0.0.0/8"], random.Random(1))
    with pytest.raises(ValueError, match="unused IPv6 subnet"):
        subnets.free6(["fd42::/16"], random.Random(1))


def test_a_mac_has_lxds_prefix() -> None:
    assert subnets.hwaddr(random.Random(1)).startswith("00:16:3e:")
