"""VXLAN tunnels of bridges."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.host import host, link, outside
from tests.conformance.world import World, unique


def tunnel(world: World, name: str, **keys: str) -> dict[str, Any]:
    """What `ip -d link` shows of a network's tunnel."""
    config = {f"tunnel.t1.{key}": value for key, value in {"protocol": "vxlan", **keys}.items()}
    world.api.patch(f"/1.0/networks/{name}", {"config": config})
    found = link(f"{name}-t1")
    assert found is not None
    assert found["master"] == name
    return dict(found["linkinfo"]["info_data"])


@pytest.mark.extension("network_vxlan_interface")
def test_a_multicast_tunnel_is_carried_by_the_interface_that_is_named(world: World) -> None:
    bridge = world.bridge()
    carrier, other = unique("nc"), unique("nd")
    world.finally_do(lambda: host("ip", "link", "delete", carrier))
    host("ip", "link", "add", carrier, "type", "veth", "peer", "name", other)
    shown = tunnel(world, bridge.name, id="42", interface=carrier)
    assert (shown["id"], shown["group"], shown["link"]) == (42, "239.0.0.1", carrier)
    assert link(bridge.name)["mtu"] == 1400  # type: ignore[index]
    config = {"ipv4.address": f"{bridge.gateway}/24"}
    world.api.put(f"/1.0/networks/{bridge.name}", {"config": config})
    assert link(f"{bridge.name}-t1") is None


@pytest.mark.extension("network_vxlan_interface")
def test_two_machines_meet_through_a_tunnel(world: World) -> None:
    with outside(112) as machine:
        bridge = world.bridge()
        near = "198.19.112.1"
        tunnel(world, bridge.name, id="7", local=near, remote=machine.address, port="4789")
        machine.run(
            *("ip", "link", "add", "vx", "type", "vxlan", "id", "7", "local", machine.address),
            *("remote", near, "dstport", "4789"),
        )
        machine.run("ip", "address", "add", f"{bridge.v4[77]}/24", "dev", "vx")
        machine.run("ip", "link", "set", "vx", "up")
        host("ping", "-c", "3", "-i", "0.3", "-W", "3", str(bridge.v4[77]))


@pytest.mark.extension("network_vxlan_ttl")
def test_packets_of_a_tunnel_have_the_ttl_that_is_given(world: World) -> None:
    with outside(113) as machine:
        bridge = world.bridge()
        carrier = host("sh", "-c", "ip -o -4 address show to 198.19.113.1 | awk '{print $2}'").strip()
        assert tunnel(world, bridge.name, id="9", interface=carrier, ttl="7")["ttl"] == 7
        heard = machine.spawn("timeout", "30", "tcpdump", "-n", "-v", "-l", "-c", "1", "udp and dst 239.0.0.1")
        try:
            while heard.poll() is None:
                host("sh", "-c", f"ping -c 1 -W 1 {bridge.v4[78]} || true")
            assert "ttl 7" in heard.communicate(timeout=10)[0]
        finally:
            heard.kill()
            heard.wait()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("ttl", "300", "Must be between 0 and 255"),
        ("interface", "x", "Network interface is too short"),
        ("protocol", "foo", "not one of [gre vxlan]"),
        ("local", "x", "Not an IP address"),
    ],
)
def test_a_wrong_value_of_a_tunnel_is_refused(world: World, bridge: Any, key: str, value: str, told: str) -> None:
    refused = world.api.refusal("PATCH", f"/1.0/networks/{bridge.name}", {"config": {f"tunnel.t1.{key}": value}})
    assert refused.status == 400
    assert told in refused.text


@pytest.mark.extension("network_state_bond_bridge")
def test_the_state_of_a_bridge_says_how_it_is_set_and_who_hangs_on_it(world: World) -> None:
    bridge = world.bridge()
    name = world.instance(start=True, devices={"eth0": {"type": "nic", "network": bridge.name, "name": "eth0"}})
    peer = world.api.get(f"/1.0/instances/{name}")["config"]["volatile.eth0.host_name"]
    state = world.api.get(f"/1.0/networks/{bridge.name}/state")
    shown = link(bridge.name)
    assert shown is not None
    data = shown["linkinfo"]["info_data"]
    mac = shown["address"].replace(":", "")
    assert state["bridge"] == {
        "id": f"8000.{mac}",
        "stp": data["stp_state"] == 1,
        "forward_delay": data["forward_delay"],
        "vlan_default": state["bridge"]["vlan_default"],
        "vlan_filtering": data["vlan_filtering"] == 1,
        "upper_devices": [peer],
    }
    assert state["bond"] is None
    assert world.api.get("/1.0/networks/lo/state")["bridge"] is None
