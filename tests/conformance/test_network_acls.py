"""Network ACLs, and what a bridge that follows them lets through."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.conformance.client import Client, eventually
from tests.conformance.host import Outside, ask, outside, serve
from tests.conformance.world import World, unique


def acl(world: World, **fields: Any) -> str:
    name = unique("acl")
    world.finally_do(partial(world.gone, f"/1.0/network-acls/{name}"))
    world.api.post("/1.0/network-acls", {"name": name, **fields})
    return name


def rule(action: str, **keys: str) -> dict[str, str]:
    return {"action": action, "state": "enabled", **keys}


@pytest.fixture
def neighbour() -> Iterator[Outside]:
    with outside(110) as found:
        yield found


def guest(world: World, network: str) -> str:
    name = world.instance(start=True, devices={"eth0": {"type": "nic", "network": network, "name": "eth0"}})
    world.lease(name)
    return name


def reaches(world: World, name: str, address: str) -> bool:
    return world.run(name, "ping", "-c", "1", "-W", "1", address).code == 0


@pytest.mark.extension("network_bridge_acl")
@pytest.mark.extension("network_acl")
def test_what_a_rule_refuses_does_not_leave_and_the_rest_does(world: World, neighbour: Outside) -> None:
    refuse = acl(world, egress=[rule("reject", protocol="icmp4", destination=neighbour.address)])
    bridge = world.bridge({"security.acls": refuse, "security.acls.default.egress.action": "allow"})
    name = guest(world, bridge.name)
    eventually(lambda: reaches(world, name, bridge.gateway))
    assert not reaches(world, name, neighbour.address)
    world.api.put(f"/1.0/network-acls/{refuse}", {"egress": []})
    eventually(lambda: reaches(world, name, neighbour.address))


@pytest.mark.extension("network_bridge_acl")
def test_without_a_rule_nothing_leaves_but_dhcp_and_dns(world: World, neighbour: Outside) -> None:
    bridge = world.bridge({"security.acls": acl(world)})
    name = guest(world, bridge.name)
    assert not reaches(world, name, neighbour.address)
    assert not reaches(world, name, bridge.gateway)
    eventually(lambda: world.run(name, "nslookup", f"{name}.lxd", bridge.gateway).code == 0)
    world.api.patch(f"/1.0/networks/{bridge.name}", {"config": {"security.acls": ""}})
    eventually(lambda: reaches(world, name, neighbour.address))


@pytest.mark.extension("network_bridge_acl")
def test_a_port_can_be_opened_from_outside_while_others_stay_closed(world: World, neighbour: Outside) -> None:
    opened = acl(
        world, ingress=[rule("allow", protocol="tcp", destination_port="80,8000-8010", source=neighbour.address)]
    )
    bridge = world.bridge({"security.acls": opened, "ipv4.nat": "false"})
    name = guest(world, bridge.name)
    ip = world.lease(name)["ip"]
    for port in (80, 8005, 9000):
        serve(world, name, port, "hello")

    def answers(port: int) -> bool:
        return ask(neighbour, ip, port) == "hello"

    eventually(lambda: answers(80))
    eventually(lambda: answers(8005))
    assert not answers(9000)


@pytest.mark.extension("network_acl")
def test_an_acl_is_shown_with_who_uses_it_and_stays_while_it_is_used(world: World) -> None:
    rules = [rule("allow", protocol="tcp", destination_port="80", description="web"), rule("drop", source="fd42::/16")]
    name = acl(world, description="first", ingress=rules, config={"user.a": "b"})
    shown = world.api.get(f"/1.0/network-acls/{name}")
    assert (shown["description"], shown["ingress"], shown["egress"]) == ("first", rules, [])
    assert (shown["config"], shown["used_by"]) == ({"user.a": "b"}, [])
    bridge = world.bridge({"security.acls": name})
    assert world.api.get(f"/1.0/network-acls/{name}")["used_by"] == [f"/1.0/networks/{bridge.name}"]
    assert "in use" in world.api.refusal("DELETE", f"/1.0/network-acls/{name}").text
    assert "in use" in world.api.refusal("POST", f"/1.0/network-acls/{name}", {"name": unique("acl")}).text
    assert f"/1.0/network-acls/{name}" in world.api.get("/1.0/network-acls")


@pytest.mark.extension("network_acl")
def test_an_acl_can_be_changed_and_renamed(world: World) -> None:
    name, other = acl(world, egress=[rule("drop")]), unique("acl")
    world.finally_do(partial(world.gone, f"/1.0/network-acls/{other}"))
    world.api.patch(f"/1.0/network-acls/{name}", {"description": "second"})
    world.api.post(f"/1.0/network-acls/{name}", {"name": other})
    assert world.api.request("GET", f"/1.0/network-acls/{name}").status == 404
    assert world.api.get(f"/1.0/network-acls/{other}")["description"] == "second"
    stale = world.api.etag(f"/1.0/network-acls/{other}")
    world.api.put(f"/1.0/network-acls/{other}", {"description": "third"})
    assert world.api.request("PUT", f"/1.0/network-acls/{other}", {}, {"If-Match": stale}).status == 412


@pytest.mark.extension("network_acl")
def test_changes_of_an_acl_are_told(world: World) -> None:
    with world.api.events() as events:
        name = acl(world)
        world.api.put(f"/1.0/network-acls/{name}", {"description": "x"})
        world.api.delete(f"/1.0/network-acls/{name}")
        events.wait_for(action="network-acl-deleted", source=f"/network-acls/{name}")
        told = events.actions(f"/network-acls/{name}")
    assert told == ["network-acl-created", "network-acl-updated", "network-acl-deleted"]


WRONG = [
    ({"action": "maybe"}, "Action must be one of: allow, drop, reject"),
    ({"state": "maybe"}, "State must be one of: enabled, disabled, logged"),
    ({"protocol": "sctp"}, "Protocol must be one of: icmp4, icmp6, tcp, udp"),
    ({"protocol": "icmp4", "destination_port": "80"}, "Destination port cannot be used"),
    ({"destination_port": "80"}, "without specifying protocol"),
    ({"protocol": "tcp", "destination_port": "http"}, "Invalid port number"),
    ({"protocol": "tcp", "icmp_type": "8"}, "ICMP type cannot be used with non-ICMP protocol"),
    ({"protocol": "icmp4", "icmp_type": "300"}, "Must be between 0 and 255"),
    ({"protocol": "icmp4", "destination": "fd42::1"}, "Cannot use IPv6 destination addresses"),
    ({"destination": "1.2.3"}, "Invalid subject"),
]


@pytest.mark.extension("network_acl")
@pytest.mark.parametrize(("keys", "told"), WRONG)
def test_a_wrong_rule_is_refused_and_named(api: Client, keys: dict[str, str], told: str) -> None:
    name = unique("acl")
    refused = api.refusal("POST", "/1.0/network-acls", {"name": name, "egress": [{**rule("drop"), **keys}]})
    assert refused.status == 500
    assert refused.text.startswith("Invalid egress rule 0: ")
    assert told in refused.text
    assert api.request("GET", f"/1.0/network-acls/{name}").status == 404


@pytest.mark.extension("network_acl")
@pytest.mark.parametrize("name", ["", "a b", "-a", "1a", "a/b"])
def test_a_wrong_name_is_refused(api: Client, name: str) -> None:
    assert api.refusal("POST", "/1.0/network-acls", {"name": name}).status == 500


def test_an_unknown_acl_is_refused_by_a_network(world: World) -> None:
    bridge = world.bridge()
    refused = world.api.refusal("PATCH", f"/1.0/networks/{bridge.name}", {"config": {"security.acls": "nope"}})
    assert (refused.status, refused.text) == (400, 'Network ACL "nope" does not exist')
    assert world.api.refusal("GET", "/1.0/network-acls/nope").status == 404
