"""Managed networks: /1.0/networks and what becomes of them on the host."""

from __future__ import annotations

import pytest

from tests.conformance.client import Client, eventually
from tests.conformance.host import addresses, counter, host, link, outside, routes, rules
from tests.conformance.world import Bridge, World, unique


def network(world: World, name: str) -> dict[str, object]:
    found: dict[str, object] = world.api.get(f"/1.0/networks/{name}")
    return found


@pytest.mark.extension("network")
def test_a_bridge_with_fixed_subnets_is_an_interface_of_the_host_with_both_addresses(world: World) -> None:
    bridge = world.bridge()
    assert network(world, bridge.name)["managed"] is True
    assert addresses(bridge.name) == {f"{bridge.gateway}/24", f"{bridge.gateway6}/64"}
    assert link(bridge.name)["linkinfo"]["info_kind"] == "bridge"  # type: ignore[index]


@pytest.mark.extension("network")
def test_a_deleted_bridge_leaves_no_interface_and_no_rule(world: World) -> None:
    bridge = world.bridge()
    assert rules(bridge.name, "forward", "postrouting", "input", "output")
    world.api.delete(f"/1.0/networks/{bridge.name}")
    assert link(bridge.name) is None
    assert not rules(bridge.name, "forward", "postrouting", "input", "output")
    assert world.api.request("GET", f"/1.0/networks/{bridge.name}").status == 404


@pytest.mark.extension("network")
@pytest.mark.differs(
    "5.0.2 pings the gateway of each subnet that it draws, which on this machine ends in minutes or not"
)
def test_a_bridge_without_addresses_given_draws_subnets_and_turns_nat_on(world: World) -> None:
    name = unique("nb")
    world.finally_do(lambda: world.gone(f"/1.0/networks/{name}"))
    world.api.post("/1.0/networks", {"name": name, "type": "bridge", "config": {}})
    config = world.api.get(f"/1.0/networks/{name}")["config"]
    assert config["ipv4.nat"] == "true"
    assert config["ipv6.nat"] == "true"
    assert addresses(name) == {config["ipv4.address"], config["ipv6.address"]}


def test_an_address_can_be_none(world: World) -> None:
    bridge = world.bridge({"ipv6.address": "none", "ipv6.nat": "false"})
    assert addresses(bridge.name) == {f"{bridge.gateway}/24"}


@pytest.mark.extension("network")
def test_interfaces_of_the_host_are_listed_as_unmanaged(world: World) -> None:
    found = {n["name"]: n for n in world.api.get("/1.0/networks?recursion=1")}
    assert found["lo"]["managed"] is False
    assert found["lo"]["type"] == "loopback"


@pytest.mark.extension("entity_description")
def test_a_network_has_a_description_that_can_be_changed(world: World) -> None:
    bridge = world.bridge(description="first")
    assert network(world, bridge.name)["description"] == "first"
    world.api.patch(f"/1.0/networks/{bridge.name}", {"description": "second"})
    assert network(world, bridge.name)["description"] == "second"


def test_a_change_of_the_address_moves_the_bridge_to_it(world: World) -> None:
    bridge, other = world.bridge(), world.bridge()
    world.api.delete(f"/1.0/networks/{other.name}")
    world.api.patch(f"/1.0/networks/{bridge.name}", {"config": {"ipv4.address": f"{other.gateway}/24"}})
    assert f"{other.gateway}/24" in addresses(bridge.name)
    assert f"{bridge.gateway}/24" not in addresses(bridge.name)


@pytest.mark.extension("etag")
def test_a_change_with_a_stale_etag_is_refused(world: World) -> None:
    bridge = world.bridge()
    path = f"/1.0/networks/{bridge.name}"
    stale = world.api.etag(path)
    world.api.patch(path, {"description": "moved on"})
    answer = world.api.request("PUT", path, {"config": {}, "description": ""}, {"If-Match": stale})
    assert answer.status == 412


def test_a_network_can_be_renamed(world: World) -> None:
    bridge, name = world.bridge(), unique("nb")
    world.finally_do(lambda: world.gone(f"/1.0/networks/{name}"))
    world.api.post(f"/1.0/networks/{bridge.name}", {"name": name})
    assert link(bridge.name) is None
    assert f"{bridge.gateway}/24" in addresses(name)


def test_a_network_tells_of_its_changes_in_events(world: World) -> None:
    with world.api.events() as events:
        bridge = world.bridge()
        world.api.patch(f"/1.0/networks/{bridge.name}", {"description": "x"})
        world.api.delete(f"/1.0/networks/{bridge.name}")
        events.wait_for(action="network-deleted", source=f"/networks/{bridge.name}")
        assert events.actions(f"/networks/{bridge.name}") == ["network-created", "network-updated", "network-deleted"]


@pytest.mark.extension("network_firewall_filtering")
@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
def test_filtering_can_be_switched_off_while_nat_and_services_stay(world: World, version: str) -> None:
    bridge = world.bridge()
    before = rules(bridge.name, "forward")
    nat, services = rules(bridge.name, "postrouting"), rules(bridge.name, "input")
    world.api.patch(f"/1.0/networks/{bridge.name}", {"config": {f"{version}.firewall": "false"}})
    assert len(rules(bridge.name, "forward")) < len(before)
    assert rules(bridge.name, "postrouting") == nat
    assert len(rules(bridge.name, "input")) >= 1
    assert len(services) >= 1
    world.api.patch(f"/1.0/networks/{bridge.name}", {"config": {f"{version}.firewall": "true"}})
    assert len(rules(bridge.name, "forward")) == len(before)


@pytest.mark.extension("network_routes")
def test_further_subnets_are_routed_to_the_bridge(world: World) -> None:
    bridge = world.bridge({"ipv4.routes": "198.19.240.0/24", "ipv6.routes": "fd42:aa::/64"})
    assert routes(bridge.name)["198.19.240.0/24"] == "static"
    assert routes(bridge.name)["fd42:aa::/64"] == "static"
    world.api.patch(f"/1.0/networks/{bridge.name}", {"config": {"ipv4.routes": "", "ipv6.routes": ""}})
    assert not {"198.19.240.0/24", "fd42:aa::/64"} & set(routes(bridge.name))


@pytest.mark.extension("network_hwaddr")
def test_the_bridge_has_the_address_it_is_given(world: World) -> None:
    bridge = world.bridge({"bridge.hwaddr": "00:16:3e:11:22:33"})
    assert link(bridge.name)["address"] == "00:16:3e:11:22:33"  # type: ignore[index]


def test_the_bridge_has_the_mtu_it_is_given(world: World) -> None:
    bridge = world.bridge({"bridge.mtu": "1400"})
    assert link(bridge.name)["mtu"] == 1400  # type: ignore[index]


@pytest.mark.extension("network_state")
def test_the_state_of_a_bridge_is_what_the_host_says(world: World) -> None:
    bridge = world.bridge()
    state = world.api.get(f"/1.0/networks/{bridge.name}/state")
    shown = link(bridge.name)
    assert shown is not None
    assert (state["hwaddr"], state["mtu"], state["type"]) == (shown["address"], shown["mtu"], "broadcast")
    found = {f"{a['address']}/{a['netmask']}" for a in state["addresses"] if a["scope"] == "global"}
    assert found == {f"{bridge.gateway}/24", f"{bridge.gateway6}/64"}
    host("ip", "link", "set", bridge.name, "down")
    assert world.api.get(f"/1.0/networks/{bridge.name}/state")["state"] == "down"


@pytest.mark.extension("network_state")
def test_the_state_of_the_loopback_counts_what_goes_through_it(api: Client) -> None:
    before = api.get("/1.0/networks/lo/state")
    host("ping", "-c", "2", "-i", "0.2", "127.0.0.1")
    after = api.get("/1.0/networks/lo/state")
    for name in ("bytes_received", "bytes_sent", "packets_received", "packets_sent"):
        assert after["counters"][name] > before["counters"][name]
    assert after["counters"]["packets_sent"] <= counter("lo", "tx_packets")
    assert {"family": "inet", "address": "127.0.0.1", "netmask": "8", "scope": "local"} in after["addresses"]


@pytest.mark.extension("network_state")
def test_the_state_of_an_unknown_interface_is_not_found(api: Client) -> None:
    refused = api.refusal("GET", "/1.0/networks/nope/state")
    assert refused.status == 404


@pytest.mark.extension("network_nat_address")
def test_traffic_leaves_with_the_address_that_is_given(world: World) -> None:
    with outside(101) as neighbour:
        bridge = world.bridge({"ipv4.nat.address": "198.19.250.7"})
        name = world.instance(start=True, devices={"eth0": {"type": "nic", "network": bridge.name, "name": "eth0"}})
        world.lease(name)
        heard = neighbour.spawn("timeout", "60", "tcpdump", "-n", "-l", "-c", "1", "icmp and src 198.19.250.7")
        try:

            def arrived() -> bool:
                world.run(name, "ping", "-c", "1", "-W", "1", neighbour.address)
                return heard.poll() is not None

            eventually(arrived)
            assert "198.19.250.7 > " + neighbour.address in heard.communicate(timeout=10)[0]
        finally:
            heard.kill()
            heard.wait()


@pytest.mark.extension("network_nat_order")
@pytest.mark.parametrize("order", ["before", "after"])
def test_the_nat_order_is_kept_and_others_are_refused(world: World, order: str) -> None:
    bridge = world.bridge({"ipv4.nat.order": order})
    assert world.api.get(f"/1.0/networks/{bridge.name}")["config"]["ipv4.nat.order"] == order
    assert rules(bridge.name, "postrouting")
    refused = world.api.refusal("PATCH", f"/1.0/networks/{bridge.name}", {"config": {"ipv4.nat.order": "sideways"}})
    assert "sideways" in refused.text


@pytest.mark.extension("network_nat_order")
@pytest.mark.differs("5.0.2 takes the key and does nothing with it when it drives nftables")
@pytest.mark.parametrize("order", ["before", "after"])
def test_the_nat_order_decides_whether_others_rules_come_first(world: World, order: str) -> None:
    with outside(115) as neighbour:
        bridge = world.bridge({"ipv4.nat.order": order, "ipv4.nat.address": "198.19.250.10"})
        table = unique("nt").replace("-", "_")
        world.finally_do(lambda: host("nft", "delete", "table", "ip", table))
        host("nft", f"table ip {table} {{ chain c {{ type nat hook postrouting priority srcnat; }}; }}")
        host("nft", f"add rule ip {table} c ip saddr {bridge.v4} ip daddr 198.19.115.0/24 snat to 198.19.250.20")
        name = world.instance(start=True, devices={"eth0": {"type": "nic", "network": bridge.name, "name": "eth0"}})
        world.lease(name)
        seen = "198.19.250.10" if order == "before" else "198.19.250.20"
        heard = neighbour.spawn("timeout", "60", "tcpdump", "-n", "-l", "-c", "1", "icmp and src net 198.19.250.0/24")
        try:

            def arrived() -> bool:
                world.run(name, "ping", "-c", "1", "-W", "1", neighbour.address)
                return heard.poll() is not None

            eventually(arrived)
            assert f"{seen} > {neighbour.address}" in heard.communicate(timeout=10)[0]
        finally:
            heard.kill()
            heard.wait()


@pytest.mark.extension("firewall_driver")
def test_the_server_tells_its_firewall_and_uses_it(world: World) -> None:
    assert world.api.get("/1.0")["environment"]["firewall"] == "nftables"
    bridge = world.bridge()
    assert rules(bridge.name, "forward")
    assert rules(bridge.name, "postrouting")


BAD_VALUES = [
    ("bogus.key", "1", "bogus.key"),
    ("ipv4.firewall", "maybe", "ipv4.firewall"),
    ("ipv4.routes", "bogus", "bogus"),
    ("bridge.hwaddr", "zz", "MAC"),
    ("ipv4.dhcp.gateway", "x", "x"),
    ("ipv4.nat.address", "x", "x"),
    ("ipv4.address", "198.18.0.1", "198.18.0.1"),
    ("bridge.mtu", "many", "many"),
]


@pytest.mark.parametrize(("key", "value", "told"), BAD_VALUES)
def test_a_bad_value_is_refused_and_named_and_the_network_stays_as_it_was(
    world: World, bridge: Bridge, key: str, value: str, told: str
) -> None:
    before = world.api.get(f"/1.0/networks/{bridge.name}")["config"]
    refused = world.api.refusal("PATCH", f"/1.0/networks/{bridge.name}", {"config": {key: value}})
    assert refused.status in (400, 500)
    assert told in refused.text
    assert world.api.get(f"/1.0/networks/{bridge.name}")["config"] == before


BAD_NAMES = ["a-name-of-16-chr", "has/slash", "has space", "", "."]


@pytest.mark.parametrize(
    "name", [*BAD_NAMES, pytest.param("..", marks=pytest.mark.differs("5.0.2 takes the name .. and fails later"))]
)
def test_a_bad_name_is_refused(api: Client, name: str) -> None:
    assert api.refusal("POST", "/1.0/networks", {"name": name, "type": "bridge"}).status == 400


def test_a_second_network_of_a_name_is_refused(world: World, bridge: Bridge) -> None:
    refused = world.api.refusal("POST", "/1.0/networks", {"name": bridge.name, "type": "bridge"})
    assert refused.status == 400
    assert "already exists" in refused.text


def test_a_network_that_an_instance_uses_is_not_deleted(world: World, bridge: Bridge) -> None:
    name = world.instance(devices={"eth0": {"type": "nic", "network": bridge.name, "name": "eth0"}})
    assert f"/1.0/instances/{name}" in world.api.get(f"/1.0/networks/{bridge.name}")["used_by"]
    assert "in use" in world.api.refusal("DELETE", f"/1.0/networks/{bridge.name}").text
    assert link(bridge.name) is not None


def test_an_unknown_network_is_not_found(api: Client) -> None:
    assert api.refusal("GET", "/1.0/networks/nope").status == 404
    assert api.refusal("DELETE", "/1.0/networks/nope").status == 404
