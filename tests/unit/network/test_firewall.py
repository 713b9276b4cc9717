"""The rule sets of networks and nics, as libnftables' JSON."""

from __future__ import annotations

from typing import Any

import pytest

from services.network import firewall, nftables
from services.network.firewall import Family, Forward, Rules
from services.network.nics import filters

IPV4 = Family(4, "198.18.1.0/24", nat=True)
IPV6 = Family(6, "fd42:1::/64")


def chains(rules: Rules) -> dict[str, dict[str, Any]]:
    return {o["chain"]["name"]: o["chain"] for o in firewall.render("s", rules) if "chain" in o}


def verdicts(rules: Rules, chain: str) -> list[dict[str, Any]]:
    return [o["rule"]["expr"][-1] for o in firewall.render("s", rules) if o.get("rule", {}).get("chain") == chain]


def test_a_plain_bridge_translates_forwards_and_serves() -> None:
    assert list(chains(Rules("nb0", (IPV4, IPV6)))) == ["pstrt.nb0", "fwd.nb0", "in.nb0", "out.nb0"]


def test_a_network_without_addresses_has_no_rules() -> None:
    assert firewall.render("s", Rules("nb0")) == []


@pytest.mark.parametrize(("after", "priority"), [(False, 99), (True, 101)])
def test_the_order_of_nat_is_a_priority_around_others(after: bool, priority: int) -> None:
    found = chains(Rules("nb0", (Family(4, "198.18.1.0/24", nat=True, nat_after=after),)))
    assert {c["prio"] for c in found.values() if c.get("hook") == "postrouting"} == {priority}


def test_a_nat_address_is_the_source_of_what_leaves() -> None:
    rules = Rules("nb0", (Family(4, "198.18.1.0/24", nat=True, nat_address="192.0.2.1"),))
    assert verdicts(rules, "pstrt.nb0") == [{"snat": {"family": "ip", "addr": "192.0.2.1"}}]


@pytest.mark.parametrize(("forward", "verdict"), [(True, "accept"), (False, "reject"), (None, "")])
def test_forwarding_is_accepted_refused_or_left_to_others(forward: bool | None, verdict: str) -> None:
    rules = Rules("nb0", (Family(4, "198.18.1.0/24", forward=forward),))
    assert [next(iter(found)) for found in verdicts(rules, "fwd.nb0")] == ([verdict] * 2 if verdict else [])


def test_a_forwarded_port_comes_before_the_default_target() -> None:
    forwards = (Forward("192.0.2.7", "198.18.1.2"), Forward("192.0.2.7", "198.18.1.3", "tcp", 8080, 80))
    found = verdicts(Rules("nb0", (IPV4,), forwards), "fwdprert.nb0")
    assert found == [
        {"dnat": {"family": "ip", "addr": "198.18.1.3", "port": 80}},
        {"dnat": {"family": "ip", "addr": "198.18.1.2"}},
    ]


def test_replacing_a_table_is_one_transaction_whether_it_exists_or_not() -> None:
    commands = nftables.replacing("inet", "t", [{"chain": {}}])
    assert [next(iter(command)) for command in commands] == ["add", "delete", "add", "add"]


def test_tables_of_two_servers_differ() -> None:
    assert firewall.table_name("a", "nb0") != firewall.table_name("b", "nb0")


def test_a_nic_without_filters_has_none() -> None:
    assert not filters.Filter("veth0", "00:16:3e:00:00:01")
    assert filters.Filter("veth0", "00:16:3e:00:00:01", ipv4=())


def test_all_of_a_family_is_dropped_without_an_address() -> None:
    found = filters.render("t", filters.Filter("veth0", "00:16:3e:00:00:01", True, ipv4=()))
    assert sum("ip" in str(o["rule"]["expr"][1].get("match", {}).get("right")) for o in found if "rule" in o) == 1


def test_the_link_local_address_is_derived_from_the_mac() -> None:
    assert filters.link_local("00:16:3e:5c:83:08") == "fe80::216:3eff:fe5c:8308"
