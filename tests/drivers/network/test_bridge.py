"""The bridge driver on a real kernel, with a real dnsmasq and real rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.network import daemons, dhcp, nftables
from services.network.drivers.bridge.driver import Bridge
from services.network.drivers.driver import Network
from services.network.host import Host
from services.network.nics import apply as nic_apply
from services.network.nics import plan as nic_plan
from tests.drivers.network.conftest import sh

TEXTS = {
    "ipv4.address": "198.18.1.1/24",
    "ipv4.nat": "true",
    "ipv4.routes": "198.18.9.0/24",
    "ipv6.address": "fd42:1::1/64",
}
MAC = "00:16:3e:00:00:09"


def network(name: str = "nb0", **texts: str) -> Network:
    return Network(name, {**TEXTS, **{key.replace("__", "."): text for key, text in texts.items()}}, MAC)


async def shown(host: Host, name: str = "nb0") -> dict[str, Any]:
    found = json.loads(await host.run(sh, f"ip -d -j address show {name}"))
    return dict(found[0])


async def addresses(host: Host) -> set[str]:
    found = (await shown(host))["addr_info"]
    return {f"{address['local']}/{address['prefixlen']}" for address in found if address["scope"] == "global"}


async def converge(host: Host, wanted: Network) -> None:
    await host.run(lambda h: Bridge().converge(h, wanted))


async def test_a_network_becomes_a_bridge_with_services_and_rules(host: Host) -> None:
    await converge(host, network())
    link = await shown(host)
    assert (link["linkinfo"]["info_kind"], link["address"], link["mtu"]) == ("bridge", MAC, 1500)
    assert await addresses(host) == {"198.18.1.1/24", "fd42:1::1/64"}
    assert "198.18.9.0/24 proto static" in await host.run(sh, "ip route show dev nb0")
    assert "masquerade" in await host.run(sh, "nft list ruleset")
    assert (await host.run(sh, "cat /proc/sys/net/ipv4/ip_forward")).strip() == "1"
    assert await host.run(lambda h: daemons.pid(h.files("nb0")))


async def test_converging_again_changes_nothing(host: Host) -> None:
    await converge(host, network())
    before = await host.run(lambda h: daemons.pid(h.files("nb0"))), (await shown(host))["ifindex"]
    await converge(host, network())
    assert (await host.run(lambda h: daemons.pid(h.files("nb0"))), (await shown(host))["ifindex"]) == before


@pytest.mark.parametrize(
    "damage",
    [
        "ip link delete nb0",
        "ip link set nb0 down",
        "ip address flush dev nb0",
        "ip link set nb0 address 00:16:3e:00:00:77 mtu 1300",
        "ip route flush dev nb0 proto static",
        "nft flush ruleset",
    ],
)
async def test_what_was_damaged_is_restored(host: Host, damage: str) -> None:
    await converge(host, network())
    await host.run(sh, damage)
    await converge(host, network())
    link = await shown(host)
    assert (link["address"], link["mtu"]) == (MAC, 1500)
    assert "UP" in link["flags"]
    assert await addresses(host) == {"198.18.1.1/24", "fd42:1::1/64"}
    assert "198.18.9.0/24" in await host.run(sh, "ip route show dev nb0")
    assert "masquerade" in await host.run(sh, "nft list ruleset")
    assert await host.run(lambda h: daemons.pid(h.files("nb0")))


async def test_nics_return_to_a_bridge_that_was_gone(host: Host) -> None:
    await converge(host, network())
    wanted = nic_plan.bridged({}, bridge="nb0", host_name="veth0000bbbb", hwaddr="00:16:3e:00:00:05", mtu=0)
    await host.run(nic_apply.attach, wanted)
    await host.run(sh, "ip link delete nb0")
    await converge(host, Network("nb0", TEXTS, MAC, nics=("veth0000bbbb", "veth0000cccc")))
    assert "master nb0" in await host.run(sh, "ip link show veth0000bbbb")


async def test_a_dnsmasq_that_died_is_started_again(host: Host) -> None:
    await converge(host, network())
    await host.run(lambda h: daemons.stop(h.files("nb0")))
    await converge(host, network())
    assert await host.run(lambda h: daemons.pid(h.files("nb0")))


async def test_a_dnsmasq_of_another_service_process_is_taken_over(host: Host) -> None:
    await converge(host, network())
    number = await host.run(lambda h: daemons.pid(h.files("nb0")))
    other = Host(host.directory)
    other.thread.shutdown()
    other.thread = host.thread  # another service, the same machine
    await converge(other, network())
    assert await other.run(lambda h: daemons.pid(h.files("nb0"))) == number
    await other.run(lambda h: h.links.close())


async def test_every_change_of_configuration_arrives(host: Host) -> None:
    await converge(host, network())
    await converge(
        host, network(ipv4__address="198.18.2.1/24", ipv6__address="none", ipv4__routes="", bridge__mtu="1400")
    )
    assert await addresses(host) == {"198.18.2.1/24"}
    assert (await shown(host))["mtu"] == 1400
    assert "proto static" not in await host.run(sh, "ip route show dev nb0")
    assert (await host.run(sh, "cat /proc/sys/net/ipv6/conf/nb0/disable_ipv6")).strip() == "1"


async def test_removal_leaves_nothing(host: Host) -> None:
    before = await host.run(sh, "ip -br address; nft list ruleset")
    await converge(host, network(tunnel__t1__protocol="vxlan", tunnel__t1__interface="lo"))
    await host.run(lambda h: Bridge().remove(h, "nb0"))
    await host.run(lambda h: Bridge().remove(h, "nb0"))
    assert await host.run(sh, "ip -br address; nft list ruleset") == before
    assert list(host.networks.iterdir()) == []


async def test_a_bridge_of_somebody_else_is_not_removed(host: Host) -> None:
    await host.run(sh, "ip link add nb0 type bridge")
    await host.run(lambda h: Bridge().remove(h, "nb0"))
    assert (await shown(host))["ifname"] == "nb0"


async def test_renaming_keeps_leases_and_addresses(host: Host) -> None:
    await converge(host, network())
    (host.files("nb0").leases).write_text("kept")
    await host.run(lambda h: Bridge().rename(h, "nb0", "nb1"))
    await converge(host, network("nb1"))
    assert (await shown(host, "nb1"))["address"] == MAC
    assert host.files("nb1").directory.exists()
    assert not host.files("nb0").directory.exists()


CHECKS = [
    ({"ipv4__dhcp__expiry": "bogus"}, "bad dhcp-range"),
    ({"raw__dnsmasq": "bogus-option"}, "bad option at line 1"),
    ({"tunnel__muchtoolongname__protocol": "vxlan"}, "Network name too long for tunnel interface: nb0-muchtoolongname"),
    ({"bridge__external_interfaces": "p0"}, "Only unconfigured network interfaces can be bridged"),
    ({"bridge__mode": "fan"}, "FAN support"),
]


@pytest.mark.parametrize(("texts", "told"), CHECKS)
async def test_what_the_host_cannot_have_is_refused_before_anything_happens(
    host: Host, texts: dict[str, str], told: str
) -> None:
    await host.run(sh, "ip link add p0 type veth peer p1 && ip address add 198.18.3.1/24 dev p0")
    with pytest.raises((ValueError, daemons.DaemonError)) as caught:
        await host.run(lambda h: Bridge().check(h, network(**texts), creating=True))
    assert told in str(caught.value)
    assert list(host.networks.glob("*")) == []


async def test_a_name_that_the_host_has_is_refused(host: Host) -> None:
    with pytest.raises(ValueError, match='Network interface "lo" already exists'):
        await host.run(lambda h: Bridge().check(h, network("lo"), creating=True))


async def test_automatic_addresses_avoid_what_the_host_routes(host: Host) -> None:
    await host.run(sh, "ip link add p0 type veth peer p1 && ip link set p0 up && ip route add 10.0.0.0/9 dev p0")
    filled = await host.run(lambda h: Bridge().fill(h, {}, [], creating=True))
    assert int(filled["ipv4.address"].split(".")[1]) >= 128
    assert filled["ipv4.nat"] == filled["ipv6.nat"] == "true"


async def test_two_bridges_speak_through_a_tunnel(host: Host) -> None:
    """Multicast needs a network between them: here it is unicast over the loopback."""
    ends = {"a": ("127.0.0.1", "127.0.0.2", "4001", "4002"), "b": ("127.0.0.2", "127.0.0.1", "4002", "4001")}
    for name, (local, remote, port, _) in ends.items():
        tunnel = {"tunnel__t__protocol": "vxlan", "tunnel__t__local": local, "tunnel__t__remote": remote}
        wanted = network(
            f"nb{name}", **tunnel, tunnel__t__port=port, tunnel__t__id="7", ipv4__address="none", ipv6__address="none"
        )
        await converge(host, wanted)
    found = await host.run(sh, "ip -d link show type vxlan")
    assert "vxlan id 7 remote 127.0.0.2 local 127.0.0.1" in found
    assert "master nba" in found


async def test_rules_are_one_table_a_network(host: Host) -> None:
    await converge(host, network())
    tables = await host.run(lambda h: nftables.tables(f"nubibus_{h.server}_"))
    assert tables == [("inet", f"nubibus_{host.server}_nb0")]


async def test_a_host_is_told_to_dnsmasq(host: Host) -> None:
    known = dhcp.Host("default", "c1", "eth0", "00:16:3e:00:00:01", "198.18.1.5")
    await converge(host, Network("nb0", TEXTS, MAC, dhcp=(known,)))
    number = await host.run(lambda h: daemons.pid(h.files("nb0")))
    await converge(host, network())
    assert list(host.files("nb0").hosts.iterdir()) == []
    assert await host.run(lambda h: daemons.pid(h.files("nb0"))) == number
