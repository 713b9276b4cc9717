"""Network forwards: external addresses that lead to instances."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.conformance.client import eventually
from tests.conformance.host import Outside, ask, outside, rules, serve
from tests.conformance.world import Bridge, World

COUNT = count(100)


@pytest.fixture
def listen() -> str:
    """An address that no other test listens on: what a test made goes while the next one runs."""
    return f"192.0.2.{next(COUNT)}"


@pytest.fixture
def neighbour() -> Iterator[Outside]:
    with outside(111) as found:
        yield found


def path(bridge: Bridge, address: str = "") -> str:
    return f"/1.0/networks/{bridge.name}/forwards" + (f"/{address}" if address else "")


def guest(world: World, bridge: Bridge, number: int) -> str:
    device = {"type": "nic", "network": bridge.name, "name": "eth0", "ipv4.address": str(bridge.v4[number])}
    name = world.instance(start=True, devices={"eth0": device})
    world.lease(name)
    return name


@pytest.mark.extension("network_forward")
def test_an_outside_address_leads_to_one_instance_and_a_port_of_it_to_another(
    world: World, neighbour: Outside, listen: str
) -> None:
    bridge = world.bridge()
    default, web = guest(world, bridge, 11), guest(world, bridge, 12)
    port = {"protocol": "tcp", "listen_port": "8080,9000-9001", "target_port": "80,7000-7001"}
    body = {
        "listen_address": listen,
        "config": {"target_address": str(bridge.v4[11])},
        "ports": [{**port, "target_address": str(bridge.v4[12])}],
    }
    world.api.post(path(bridge), body)
    for name, number in ((default, 22), (web, 80), (web, 7001)):
        serve(world, name, number, f"{name}-{number}")

    def says(number: int) -> str:
        return ask(neighbour, listen, number)

    eventually(lambda: says(22) == f"{default}-22")
    eventually(lambda: says(8080) == f"{web}-80")
    eventually(lambda: says(9001) == f"{web}-7001")
    neighbour.run("ping", "-c", "5", "-W", "3", listen)
    world.api.delete(path(bridge, listen))
    assert not [found for found in rules(bridge.name, "prerouting", "output") if listen in found]


@pytest.mark.extension("network_forward")
def test_a_forward_is_listed_shown_changed_and_deleted(world: World, listen: str) -> None:
    bridge = world.bridge()
    world.api.post(path(bridge), {"listen_address": listen, "description": "first"})
    assert world.api.get(path(bridge)) == [path(bridge, listen)]
    shown: dict[str, Any] = world.api.get(path(bridge, listen))
    assert (shown["description"], shown["config"], shown["ports"]) == ("first", {}, [])
    target = {"target_address": str(bridge.v4[9])}
    world.api.put(path(bridge, listen), {"description": "second", "config": target})
    assert world.api.get(f"{path(bridge)}?recursion=1")[0]["config"] == target
    assert [found for found in rules(bridge.name, "prerouting") if listen in found]
    world.api.delete(path(bridge, listen))
    assert world.api.request("GET", path(bridge, listen)).status == 404


@pytest.mark.extension("network_forward")
@pytest.mark.differs("5.0.2 closes the connection of a PATCH without config")
def test_a_part_of_a_forward_can_be_changed(world: World, listen: str) -> None:
    bridge = world.bridge()
    world.api.post(path(bridge), {"listen_address": listen, "config": {"target_address": str(bridge.v4[9])}})
    world.api.patch(path(bridge, listen), {"description": "second"})
    shown = world.api.get(path(bridge, listen))
    assert (shown["description"], shown["config"]) == ("second", {"target_address": str(bridge.v4[9])})


@pytest.mark.extension("network_forward")
def test_the_same_address_twice_is_a_conflict(world: World, listen: str) -> None:
    bridge = world.bridge()
    world.api.post(path(bridge), {"listen_address": listen})
    refused = world.api.refusal("POST", path(bridge), {"listen_address": listen})
    assert refused.status == 409
    assert "A forward for that listen address already exists" in refused.text


PORT = {"protocol": "tcp", "listen_port": "80", "target_address": "IN"}
WRONG = [
    ({"listen_address": "abc"}, "abc"),
    ({"config": {"target_address": "203.0.113.9"}}, "Default target address is not within the network subnet"),
    ({"config": {"target_address": "x"}}, "Invalid default target address"),
    ({"config": {"foo": "x"}}, 'Invalid option "foo"'),
    ({"ports": [{**PORT, "protocol": "icmp"}]}, "protocol must be one of: tcp, udp"),
    ({"ports": [{**PORT, "listen_port": ""}]}, "Missing listen port in port specification 0"),
    ({"ports": [{**PORT, "target_address": "203.0.113.9"}]}, "Target address is not within the network subnet"),
    ({"ports": [{**PORT, "listen_port": "80-90", "target_port": "80,81"}]}, "Mismatch of listen port(s)"),
    ({"ports": [PORT, PORT]}, "Duplicate listen port 80"),
]


@pytest.mark.extension("network_forward")
@pytest.mark.parametrize(("fields", "told"), WRONG)
def test_a_wrong_forward_is_refused_and_leaves_nothing(
    world: World, bridge: Bridge, listen: str, fields: dict[str, Any], told: str
) -> None:
    body = {"listen_address": listen, **fields}
    for port in body.get("ports", []):
        if port["target_address"] == "IN":
            port["target_address"] = str(bridge.v4[9])
    refused = world.api.refusal("POST", path(bridge), body)
    assert refused.status == 500
    assert told in refused.text
    assert world.api.get(path(bridge)) == []
