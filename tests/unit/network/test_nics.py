"""Nics: what is refused and why, and what a nic becomes on the host."""

from __future__ import annotations

import pytest

from rows.network import Network
from services.network.nics import addressing, check, plan
from services.network.usage import Nic

BRIDGE = Network(
    project="default", name="nb0", config={"ipv4.address": "198.18.1.1/24", "ipv6.address": "fd42:1::1/64"}
)
MAC = "00:16:3e:00:00:01"


def dotted(config: dict[str, str]) -> dict[str, str]:
    """Keys as keyword arguments: __ is a dot."""
    return {key.replace("__", "."): text for key, text in config.items()}


def asked(network: Network | None = BRIDGE, instance: str = "", **config: str) -> check.Asked:
    device = {"type": "nic", **dotted(config)}
    if network is not None:
        device["network"] = network.name
    return check.Asked(device, network, instance, "default", "eth0")


WRONG = [
    (asked(nictype="bridged"), 'Cannot use "nictype" property in conjunction with "network" property'),
    (asked(mtu="1400"), 'Cannot use "mtu" property'),
    (asked(None), "Unsupported device type"),
    (asked(None, nictype="zz"), "Unsupported device type"),
    (asked(None, nictype="bridged"), 'Invalid value for device option "parent": Required value'),
    (asked(None, nictype="p2p", parent="x"), 'Invalid device option "parent"'),
    (asked(foo="1"), 'Invalid device option "foo"'),
    (asked(hwaddr="x"), 'Invalid value for device option "hwaddr": Invalid MAC address'),
    (asked(ipv4__address="198.18.9.5"), 'Device IP address "198.18.9.5" not within network "nb0" subnet'),
    (asked(ipv4__address="x"), 'Device IP address "x" not within network "nb0" subnet'),
    (asked(ipv4__address="198.18.1.1"), 'IP address "198.18.1.1" is assigned to parent managed network device'),
    (asked(ipv4__address="none"), "Cannot have ipv4.address as none unless using security.ipv4_filtering"),
    (asked(ipv6__address="fd42:1::5"), 'Cannot specify "ipv6.address" when DHCP or "ipv6.dhcp.stateful" are disabled'),
    (asked(name="a/b"), "Network interface contains invalid characters"),
    (asked(ipv4__routes="x"), 'Item "x": invalid CIDR address: x'),
    (asked(boot__priority="x"), 'Invalid value for uint32 "x"'),
    (asked(security__port_isolation="x"), 'Invalid value for a boolean "x"'),
    (
        asked(None, nictype="routed", vlan="5"),
        "The vlan setting can only be used when combined with a parent interface",
    ),
    (asked(None, nictype="macvlan", parent="eth0", vlan="5"), '"vlan": 5 cannot be done yet'),
    (asked(ipv4__routes__external="198.18.9.0/24"), '"ipv4.routes.external": 198.18.9.0/24 cannot be done yet'),
]


@pytest.mark.parametrize(("device", "told"), WRONG)
def test_a_wrong_nic_is_refused_in_lxds_words(device: check.Asked, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        check.check(device, [])
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "device",
    [
        asked(),
        asked(None, nictype="bridged", parent="other0", mtu="1400"),
        asked(None, nictype="p2p", ipv4__routes="198.18.9.0/24"),
        asked(None, nictype="macvlan", parent="eth0"),
        asked(ipv4__address="none", security__ipv4_filtering="true"),
        asked(ipv6__address="fd42:1::5", security__ipv6_filtering="true"),
    ],
)
def test_a_good_nic_is_taken(device: check.Asked) -> None:
    check.check(device, [])


def test_an_address_belongs_to_one_nic() -> None:
    other = Nic("default", "c2", "eth0", {"type": "nic", "network": "nb0", "ipv4.address": "198.18.1.5"}, {})
    with pytest.raises(ValueError, match=r'IP address "198\.18\.1\.5" already defined on another NIC'):
        check.check(asked(instance="c1", ipv4__address="198.18.1.5"), [other])
    check.check(asked(instance="c2", ipv4__address="198.18.1.5"), [other])


def test_two_nics_of_an_instance_on_one_network_would_share_its_name() -> None:
    other = Nic("default", "c1", "eth1", {"type": "nic", "network": "nb0"}, {})
    with pytest.raises(ValueError, match='Instance DNS name "c1" already used on network'):
        check.check(asked(instance="c1"), [other])


def bridged(addresses: tuple[str, str] = ("", ""), **config: str) -> plan.Wanted:
    return plan.bridged(dotted(config), bridge="nb0", host_name="veth1", hwaddr=MAC, mtu=1500, addresses=addresses)


def test_limits_max_stands_for_both_directions() -> None:
    assert (bridged(limits__max="10Mbit").ingress, bridged(limits__max="10Mbit").egress) == (10_000_000, 10_000_000)
    assert (bridged(limits__ingress="1Mbit").ingress, bridged(limits__ingress="1Mbit").egress) == (1_000_000, 0)


def test_a_filter_allows_the_address_and_what_is_routed_to_the_nic() -> None:
    wanted = bridged(("198.18.1.5", ""), security__ipv4_filtering="true", ipv4__routes="198.18.9.0/24")
    assert wanted.filter is not None
    assert wanted.filter.mac
    assert wanted.filter.ipv4 == ("198.18.1.5/32", "198.18.9.0/24")
    assert wanted.filter.ipv6 is None


def test_the_other_end_always_bears_the_same_name() -> None:
    assert plan.peer_of("veth1") == plan.peer_of("veth1") != plan.peer_of("veth2")
    assert len(plan.peer_of("a" * 15)) <= 15


def test_a_reserved_address_is_the_first_free_one() -> None:
    from ipaddress import IPv4Address as A

    assert addressing.choose(((A("198.18.1.2"), A("198.18.1.4")),), {"198.18.1.2"}) == "198.18.1.3"
    assert addressing.choose(((A("198.18.1.2"), A("198.18.1.2")),), {"198.18.1.2"}) == ""
