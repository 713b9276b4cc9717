"""Nics of instances on managed bridges: leases, names, filters, routes, counters."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client import eventually
from tests.conformance.host import counter, host, link, outside, routes
from tests.conformance.world import Bridge, World, unique


def nic(network: str, **keys: str) -> dict[str, dict[str, str]]:
    named = {key.replace("_", "."): value for key, value in keys.items()}
    return {"eth0": {"type": "nic", "network": network, "name": "eth0", **named}}


def reaches(world: World, name: str, address: str) -> bool:
    return world.run(name, "ping", "-c", "1", "-W", "1", address).code == 0


def leases(world: World, bridge: Bridge, name: str) -> dict[str, dict[str, Any]]:
    found = world.api.get(f"/1.0/networks/{bridge.name}/leases")
    return {lease["address"]: lease for lease in found if lease["hostname"] == name}


def take_nic_away(world: World, name: str) -> None:
    path = f"/1.0/instances/{name}"
    shown = world.api.get(path)
    devices = {key: device for key, device in shown["devices"].items() if key != "eth0"}
    world.api.put(path, {**shown, "devices": devices})


def is_offered_an_address(world: World, name: str) -> bool:
    asked = world.run(name, "udhcpc", "-n", "-q", "-t", "2", "-T", "1", "-i", "eth0", "-s", "/bin/true")
    return asked.code == 0


@pytest.mark.extension("instance_nic_network")
@pytest.mark.extension("network")
def test_a_nic_on_a_managed_network_gets_exactly_the_address_it_is_given(world: World, bridge: Bridge) -> None:
    wanted = str(bridge.v4[50])
    name = world.instance(start=True, devices=nic(bridge.name, ipv4_address=wanted))
    assert world.lease(name)["ip"] == wanted
    assert f"/1.0/instances/{name}" in world.api.get(f"/1.0/networks/{bridge.name}")["used_by"]


@pytest.mark.extension("network")
def test_an_instance_reaches_an_address_outside_through_nat(world: World, bridge: Bridge) -> None:
    with outside(102) as neighbour:
        name = world.instance(start=True, devices=nic(bridge.name))
        world.lease(name)
        neighbour.run("ip", "route", "delete", "default")  # answers come only to the host's own address
        eventually(lambda: reaches(world, name, neighbour.address))


@pytest.mark.extension("network")
def test_an_instance_is_found_by_its_name(world: World, bridge: Bridge) -> None:
    name = world.instance(start=True, devices=nic(bridge.name))
    lease = world.lease(name)
    eventually(lambda: lease["ip"] in world.run(name, "nslookup", f"{name}.lxd", bridge.gateway).stdout)


@pytest.mark.extension("network_leases")
def test_leases_show_gateway_static_and_dynamic_ones(world: World, bridge: Bridge) -> None:
    fixed, wanted = unique("fix"), str(bridge.v4[51])
    world.instance(name=fixed, devices=nic(bridge.name, ipv4_address=wanted))
    moving = world.instance(start=True, devices=nic(bridge.name))
    lease = world.lease(moving)
    assert leases(world, bridge, fixed)[wanted]["type"] == "static"
    assert leases(world, bridge, f"{bridge.name}.gw")[bridge.gateway]["type"] == "gateway"
    dynamic = eventually(lambda: leases(world, bridge, moving).get(lease["ip"]))
    config = world.api.get(f"/1.0/instances/{moving}")["config"]
    assert (dynamic["type"], dynamic["hwaddr"]) == ("dynamic", config["volatile.eth0.hwaddr"])


@pytest.mark.extension("network_leases")
def test_a_deleted_instance_has_no_lease(world: World, bridge: Bridge) -> None:
    name = world.instance(start=True, devices=nic(bridge.name))
    world.lease(name)
    eventually(lambda: leases(world, bridge, name))
    world.remove_instance(name)
    eventually(lambda: not leases(world, bridge, name))


@pytest.mark.extension("network_leases")
def test_a_nic_that_is_taken_away_has_no_lease(world: World, bridge: Bridge) -> None:
    name = world.instance(start=True, devices=nic(bridge.name))
    address = world.lease(name)["ip"]
    eventually(lambda: address in leases(world, bridge, name))
    take_nic_away(world, name)
    eventually(lambda: not leases(world, bridge, name))


@pytest.mark.parametrize("what", ["nic", "instance"])
def test_an_address_is_free_for_another_when_who_had_it_is_gone(world: World, what: str) -> None:
    bridge = world.bridge()
    only = str(bridge.v4[60])
    world.api.patch(f"/1.0/networks/{bridge.name}", {"config": {"ipv4.dhcp.ranges": f"{only}-{only}"}})
    holder = world.instance(start=True, devices=nic(bridge.name, ipv4_address=only))
    assert world.lease(holder)["ip"] == only
    waiting = world.instance(start=True, devices=nic(bridge.name))
    assert not is_offered_an_address(world, waiting)

    if what == "nic":
        take_nic_away(world, holder)
    else:
        world.remove_instance(holder)
    eventually(lambda: is_offered_an_address(world, waiting))
    assert world.lease(waiting)["ip"] == only


@pytest.mark.extension("network_leases")
def test_an_unmanaged_interface_has_no_leases(world: World) -> None:
    assert world.api.refusal("GET", "/1.0/networks/lo/leases").status == 404


@pytest.mark.extension("network_dhcp_expiry")
def test_the_lease_lasts_as_long_as_the_network_says(world: World) -> None:
    bridge = world.bridge({"ipv4.dhcp.expiry": "5m"})
    name = world.instance(start=True, devices=nic(bridge.name))
    assert world.lease(name)["lease"] == "300"


@pytest.mark.extension("network_dhcp_gateway")
def test_dhcp_hands_out_the_gateway_that_is_given(world: World) -> None:
    bridge = world.bridge()
    gateway = str(bridge.v4[200])
    world.api.patch(f"/1.0/networks/{bridge.name}", {"config": {"ipv4.dhcp.gateway": gateway}})
    name = world.instance(start=True, devices=nic(bridge.name))
    assert world.lease(name)["router"] == gateway


@pytest.mark.extension("network_dns_search")
def test_dhcp_hands_out_the_search_list(world: World) -> None:
    bridge = world.bridge({"dns.search": "foo.example,bar.example"})
    name = world.instance(start=True, devices=nic(bridge.name))
    assert world.lease(name)["search"] == "foo.example bar.example"


def test_without_dhcp_there_is_no_lease(world: World) -> None:
    bridge = world.bridge({"ipv4.dhcp": "false", "ipv6.dhcp": "false"})
    name = world.instance(start=True, devices=nic(bridge.name))
    assert not is_offered_an_address(world, name)


def test_the_hosts_end_of_a_nic_on_a_bridge_speaks_no_ipv6(world: World, bridge: Bridge) -> None:
    """It would take an address of its own, and mind what an instance advertises as a router."""
    name = world.instance(start=True, devices=nic(bridge.name))
    end = world.api.get(f"/1.0/instances/{name}")["config"]["volatile.eth0.host_name"]
    assert Path(f"/proc/sys/net/ipv6/conf/{end}/disable_ipv6").read_text().strip() == "1"
    assert "inet6" not in host("ip", "address", "show", "dev", end)


@pytest.mark.extension("network_counters_errors_dropped")
def test_the_counters_of_a_nic_are_those_that_the_instance_sees(world: World, bridge: Bridge) -> None:
    name = world.instance(start=True, devices=nic(bridge.name))
    world.lease(name)
    kernel = {
        "errors_received": "rx_errors",
        "errors_sent": "tx_errors",
        "packets_dropped_inbound": "rx_dropped",
        "packets_dropped_outbound": "tx_dropped",
    }

    def same() -> bool:
        inside = {
            key: int(world.shell(name, f"cat /sys/class/net/eth0/statistics/{file}")) for key, file in kernel.items()
        }
        shown = world.api.get(f"/1.0/instances/{name}/state")["network"]["eth0"]["counters"]
        return {key: shown[key] for key in kernel} == inside

    eventually(same)


def test_the_state_shows_the_addresses_and_the_hosts_end_of_a_nic(world: World, bridge: Bridge) -> None:
    name = world.instance(start=True, devices=nic(bridge.name))
    ip = world.lease(name)["ip"]

    def shown() -> bool:
        eth0 = world.api.get(f"/1.0/instances/{name}/state")["network"]["eth0"]
        assert link(eth0["host_name"])["master"] == bridge.name  # type: ignore[index]
        return any(a["address"] == ip and a["family"] == "inet" and a["netmask"] == "24" for a in eth0["addresses"])

    eventually(shown)


def test_a_nic_can_be_plugged_into_and_out_of_a_running_instance(world: World, bridge: Bridge) -> None:
    name = world.instance(start=True)
    assert world.run(name, "test", "-e", "/sys/class/net/eth0").code != 0
    world.api.patch(f"/1.0/instances/{name}", {"devices": nic(bridge.name)})
    assert world.run(name, "test", "-e", "/sys/class/net/eth0").code == 0
    peer = world.api.get(f"/1.0/instances/{name}/state")["network"]["eth0"]["host_name"]
    devices = world.api.get(f"/1.0/instances/{name}")["devices"]
    document = world.api.get(f"/1.0/instances/{name}")
    world.api.put(f"/1.0/instances/{name}", {**document, "devices": {k: v for k, v in devices.items() if k != "eth0"}})
    assert world.run(name, "test", "-e", "/sys/class/net/eth0").code != 0
    assert link(peer) is None


def test_a_stopped_instance_leaves_no_interface(world: World, bridge: Bridge) -> None:
    name = world.instance(start=True, devices=nic(bridge.name))
    peer = world.api.get(f"/1.0/instances/{name}/state")["network"]["eth0"]["host_name"]
    world.stop(name)
    assert link(peer) is None


def test_a_nic_keeps_its_hardware_address_and_can_be_given_one(world: World, bridge: Bridge) -> None:
    name = world.instance(start=True, devices=nic(bridge.name, hwaddr="00:16:3e:44:55:66"))
    assert world.shell(name, "cat /sys/class/net/eth0/address") == "00:16:3e:44:55:66"


def test_a_p2p_nic_is_a_pair_with_a_route_of_its_own(world: World) -> None:
    device = {"eth0": {"type": "nic", "nictype": "p2p", "name": "eth0", "ipv4.routes": "198.19.241.0/24"}}
    name = world.instance(start=True, devices=device)
    peer = world.api.get(f"/1.0/instances/{name}/state")["network"]["eth0"]["host_name"]
    assert "198.19.241.0/24" in routes(peer)


@pytest.mark.extension("container_nic_routes")
def test_routes_of_a_nic_are_on_the_host_while_the_instance_runs(world: World, bridge: Bridge) -> None:
    name = world.instance(
        start=True, devices=nic(bridge.name, ipv4_routes="198.19.242.0/24", ipv6_routes="fd42:bb::/64")
    )
    assert {"198.19.242.0/24", "fd42:bb::/64"} <= set(routes(bridge.name))
    world.lease(name)
    world.shell(name, "ip address add 198.19.242.9/32 dev eth0")
    eventually(lambda: "1 received" in host("ping", "-c", "1", "-W", "2", "198.19.242.9"))
    world.stop(name)
    assert not {"198.19.242.0/24", "fd42:bb::/64"} & set(routes(bridge.name))


@pytest.mark.extension("container_nic_ipfilter")
def test_a_filtered_nic_speaks_only_with_its_own_address(world: World, bridge: Bridge) -> None:
    device = {"eth0": {"type": "nic", "network": bridge.name, "name": "eth0", "security.ipv4_filtering": "true"}}
    name = world.instance(start=True, devices=device)
    world.lease(name)
    eventually(lambda: reaches(world, name, bridge.gateway))
    stranger = str(bridge.v4[222])
    world.shell(name, f"ip address add {stranger}/24 dev eth0")
    assert world.run(name, "ping", "-c", "2", "-W", "1", "-I", stranger, bridge.gateway).code != 0
    eventually(lambda: reaches(world, name, bridge.gateway))


def test_a_mac_filtered_nic_is_mute_after_a_change_of_its_address(world: World, bridge: Bridge) -> None:
    device = {"eth0": {"type": "nic", "network": bridge.name, "name": "eth0", "security.mac_filtering": "true"}}
    name = world.instance(start=True, devices=device)
    world.lease(name)
    eventually(lambda: reaches(world, name, bridge.gateway))
    kept = world.shell(name, "ip -4 route show default")
    world.shell(name, "ip link set eth0 down; ip link set eth0 address 00:16:3e:77:77:77; ip link set eth0 up")
    assert kept
    assert not reaches(world, name, bridge.gateway)


@pytest.mark.extension("instance_nic_bridged_port_isolation")
def test_isolated_nics_reach_the_host_but_not_each_other(world: World, bridge: Bridge) -> None:
    device = {"eth0": {"type": "nic", "network": bridge.name, "name": "eth0", "security.port_isolation": "true"}}
    one, two = world.instance(start=True, devices=device), world.instance(start=True, devices=device)
    open_one = world.instance(start=True, devices=nic(bridge.name))
    world.lease(one)
    target, free = world.lease(two)["ip"], world.lease(open_one)["ip"]
    eventually(lambda: reaches(world, one, bridge.gateway))
    assert not reaches(world, one, target)
    eventually(lambda: reaches(world, one, free))


def test_a_limit_slows_what_an_instance_receives(world: World, bridge: Bridge) -> None:
    name = world.instance(start=True, devices=nic(bridge.name, limits_ingress="20Mbit"))
    peer = world.api.get(f"/1.0/instances/{name}/state")["network"]["eth0"]["host_name"]
    assert "20Mbit" in host("tc", "class", "show", "dev", peer)


@pytest.mark.differs("5.0.2 polices with tc's police action, which this kernel lacks: its start fails")
def test_a_limit_slows_what_an_instance_sends(world: World, bridge: Bridge) -> None:
    name = world.instance(start=True, devices=nic(bridge.name, limits_egress="1Mbit"))
    world.lease(name)
    eventually(lambda: reaches(world, name, bridge.gateway))
    begin, before = time.monotonic(), counter(bridge.name, "rx_bytes")
    world.run(name, "ping", "-c", "40", "-A", "-s", "16000", "-W", "2", bridge.gateway)
    bits = (counter(bridge.name, "rx_bytes") - before) * 8
    assert bits > 500_000
    assert bits / (time.monotonic() - begin) < 2_000_000


BAD_NICS = [
    ({"network": "BRIDGE", "nictype": "bridged"}, "nictype"),
    ({"network": "nope-nope"}, "ot found"),
    ({"network": "BRIDGE", "ipv4.address": "203.0.113.5"}, "203.0.113.5"),
    ({"network": "BRIDGE", "ipv4.address": "x"}, "x"),
    ({"network": "BRIDGE", "hwaddr": "zz"}, "hwaddr"),
    ({"network": "BRIDGE", "bogus": "1"}, "bogus"),
    pytest.param(
        {"network": "BRIDGE", "security.mac_filtering": "maybe"},
        "maybe",
        marks=pytest.mark.differs("5.0.2 takes any word for a boolean of a nic"),
    ),
]


@pytest.mark.parametrize(("keys", "told"), BAD_NICS)
def test_a_bad_nic_is_refused_and_no_instance_is_left(
    world: World, bridge: Bridge, keys: dict[str, str], told: str
) -> None:
    name = unique("bad")
    device = {"type": "nic", "name": "eth0", **{k: v.replace("BRIDGE", bridge.name) for k, v in keys.items()}}
    world.finally_do(lambda: world.remove_instance(name))
    refused = world.api.refusal("POST", "/1.0/instances", world.body(name, devices={"eth0": device}))
    assert told in refused.text
    assert world.api.request("GET", f"/1.0/instances/{name}").status == 404
