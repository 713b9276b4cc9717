"""Nics on a real kernel: pairs, routes, limits, filters."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from services.network.host import Host
from services.network.nics import apply, filters, plan, shaping
from tests.drivers.network.conftest import sh

MAC = "00:16:3e:00:00:01"


def bridged(addresses: tuple[str, str] = ("", ""), **config: str) -> plan.Wanted:
    device = {key.replace("__", "."): text for key, text in config.items()}
    return plan.bridged(device, bridge="br0", host_name="veth0000aaaa", hwaddr=MAC, mtu=1400, addresses=addresses)


async def links(host: Host) -> dict[str, dict[str, Any]]:
    return {link["ifname"]: link for link in json.loads(await host.run(sh, "ip -d -j link show"))}


@pytest.fixture
async def bridge(host: Host) -> Host:
    await host.run(sh, "ip link add br0 type bridge && ip address add 198.18.1.1/24 dev br0 && ip link set br0 up")
    return host


async def test_a_nic_is_a_pair_with_one_end_on_the_bridge(bridge: Host) -> None:
    wanted = bridged()
    assert await bridge.run(apply.attach, wanted) == 1400
    found = await links(bridge)
    assert found[wanted.host_name]["master"] == "br0"
    peer = found[wanted.peer_name]
    assert (peer["address"], peer["mtu"], "UP" in peer["flags"]) == (MAC, 1400, False)


async def test_attaching_again_keeps_the_pair(bridge: Host) -> None:
    await bridge.run(apply.attach, bridged())
    before = (await links(bridge))["veth0000aaaa"]["ifindex"]
    await bridge.run(apply.attach, bridged())
    assert (await links(bridge))["veth0000aaaa"]["ifindex"] == before


async def test_a_pair_whose_other_end_is_gone_elsewhere_is_made_anew(bridge: Host) -> None:
    wanted = bridged()
    await bridge.run(apply.attach, wanted)
    await bridge.run(sh, f"ip netns add nbt-guest && ip link set {wanted.peer_name} netns nbt-guest")
    await bridge.run(apply.attach, wanted)
    assert wanted.peer_name in await links(bridge)
    await bridge.run(sh, "ip netns delete nbt-guest")


async def test_a_name_of_somebody_else_is_refused(bridge: Host) -> None:
    await bridge.run(sh, "ip link add mine0 type veth peer mine1")
    wanted = plan.bridged({}, bridge="br0", host_name="mine0", hwaddr=MAC, mtu=0)
    with pytest.raises(FileExistsError):
        await bridge.run(apply.attach, wanted)
    await bridge.run(apply.detach, wanted)
    assert "mine0" in await links(bridge)


async def test_the_nic_of_another_instance_is_refused_and_left_alone(bridge: Host) -> None:
    first = replace(bridged(), owner="default/c1/eth0")
    await bridge.run(apply.attach, first)
    index = (await links(bridge))[first.host_name]["ifindex"]
    second = replace(bridged(), owner="default/c2/eth0")
    with pytest.raises(FileExistsError):
        await bridge.run(apply.attach, second)
    await bridge.run(apply.detach, second)
    assert (await links(bridge))[first.host_name]["ifindex"] == index


async def test_a_missing_bridge_is_named(host: Host) -> None:
    with pytest.raises(LookupError, match='Parent device "br0" doesn\'t exist'):
        await host.run(apply.attach, bridged())


async def test_everything_that_hangs_on_a_nic_goes_with_it(bridge: Host) -> None:
    everything = "ls /sys/class/net; ip route | sed 's/linkdown//'; nft list ruleset"
    before = await bridge.run(sh, everything)
    wanted = bridged(
        ("198.18.1.5", ""),
        limits__max="10Mbit",
        ipv4__routes="198.18.9.0/24",
        security__ipv4_filtering="true",
        security__port_isolation="true",
    )
    await bridge.run(apply.attach, wanted)
    assert "198.18.9.0/24" in await bridge.run(sh, "ip route show dev br0")
    assert "isolated on" in await bridge.run(sh, f"bridge -d link show dev {wanted.host_name}")
    assert "rate 10Mbit" in await bridge.run(sh, f"tc class show dev {wanted.host_name}")
    assert "rate 10Mbit" in await bridge.run(sh, f"tc class show dev {shaping.ifb_name(wanted.host_name)}")
    await bridge.run(apply.detach, wanted)
    await bridge.run(apply.detach, wanted)
    assert (await bridge.run(sh, everything)).split() == before.split()


async def test_what_may_change_changes_on_the_living_nic(bridge: Host) -> None:
    await bridge.run(apply.attach, bridged(limits__ingress="10Mbit", ipv4__routes="198.18.9.0/24"))
    index = (await links(bridge))["veth0000aaaa"]["ifindex"]
    old = bridged(ipv4__routes="198.18.9.0/24").routes
    new = bridged(limits__ingress="20Mbit", ipv4__routes="198.18.10.0/24", security__mac_filtering="true")
    await bridge.run(lambda h: apply.change(h, new, gone=old))
    assert "rate 20Mbit" in await bridge.run(sh, "tc class show dev veth0000aaaa")
    routes = await bridge.run(sh, "ip route show dev br0")
    assert "198.18.10.0/24" in routes
    assert "198.18.9.0/24" not in routes
    assert MAC in await bridge.run(sh, "nft list ruleset")
    await bridge.run(lambda h: apply.change(h, bridged()))
    assert MAC not in await bridge.run(sh, "nft list ruleset")
    assert "htb" not in await bridge.run(sh, "tc qdisc show dev veth0000aaaa")
    assert (await links(bridge))["veth0000aaaa"]["ifindex"] == index


async def _instance(host: Host, wanted: plan.Wanted, address: str) -> str:
    """A network namespace that holds the nic's other end, as an instance would; its name."""
    await host.run(
        sh,
        f"ip netns add nbt-guest && ip link set {wanted.peer_name} netns nbt-guest name eth0 && "
        f"ip netns exec nbt-guest sh -c 'ip address add {address}/24 dev eth0; ip link set eth0 up'",
    )
    return "ip netns exec nbt-guest"


async def test_a_filtered_nic_speaks_with_its_own_addresses_only(bridge: Host) -> None:
    wanted = bridged(("198.18.1.5", ""), security__ipv4_filtering="true")
    await bridge.run(apply.attach, wanted)
    guest = await _instance(bridge, wanted, "198.18.1.5")
    await bridge.run(sh, f"{guest} sh -c 'for i in $(seq 20); do ping -c 1 -W 1 198.18.1.1 && exit 0; done; exit 1'")
    await bridge.run(sh, f"{guest} ip address add 198.18.1.66/24 dev eth0")
    await bridge.run(sh, f"! {guest} ping -c 2 -W 1 -I 198.18.1.66 198.18.1.1")
    await bridge.run(sh, "ip netns delete nbt-guest")


def test_names_that_are_made_fit_into_an_interface_name() -> None:
    assert len(shaping.ifb_name("veth0000aaaa")) <= 15


async def test_a_table_of_every_combination_is_taken_by_the_kernel(bridge: Host) -> None:
    for ipv4 in (None, (), ("198.18.1.5/32", "198.18.9.0/24")):
        for ipv6 in (None, (), ("fd42::5/128", "fd43::/64")):
            wanted = filters.Filter("veth0000aaaa", MAC, True, ipv4, ipv6)
            await bridge.run(apply.attach, replace(bridged(), filter=wanted))


async def test_a_filtered_nic_is_no_router_and_no_stranger_in_ipv6(bridge: Host) -> None:
    await bridge.run(sh, "ip address add fd42:1::1/64 dev br0 nodad && sysctl -qw net.ipv6.conf.br0.accept_ra=2")
    own = "fd42:1::216:3eff:fe00:1"
    wanted = bridged(("", own), security__ipv6_filtering="true")
    await bridge.run(apply.attach, wanted)
    guest = await _instance(bridge, wanted, "198.18.1.5")
    await bridge.run(sh, f"{guest} ip address add {own}/64 dev eth0 nodad")
    again = "for i in $(seq 20); do ping -c 1 -W 1 -I {} fd42:1::1 && exit 0; sleep 0.1; done; exit 1"
    await bridge.run(sh, f"{guest} sh -c '{again.format(own)}'")
    await bridge.run(sh, f"{guest} ip address add fd42:1::66/64 dev eth0 nodad")
    await bridge.run(sh, f"! {guest} ping -c 2 -W 1 -I fd42:1::66 fd42:1::1")
    await bridge.run(sh, "ip netns delete nbt-guest")
