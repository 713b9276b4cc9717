"""The plan of a bridge: from desired and actual to changes, in a safe order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chassis.keys import Config
from services.network.dhcp import Files, Host
from services.network.drivers.bridge import plan
from services.network.links import Route

CONFIG = {"ipv4.address": "198.18.1.1/24", "ipv4.nat": "true", "ipv6.address": "none"}
FILES = Files(Path("/d/networks/nb0"))


def desired(**config: str) -> plan.Desired:
    texts = {**CONFIG, **{key.replace("_", "."): text for key, text in config.items()}}
    hosts = [Host("default", "c1", "eth0", "00:16:3e:00:00:01")]
    return plan.desired("nb0", "00:16:3e:00:00:09", Config(texts), server="s", files=FILES, hosts=hosts, carrier="eth0")


def fulfilled(want: plan.Desired) -> plan.Actual:
    return plan.Actual(
        kind="bridge",
        hwaddr=want.hwaddr,
        mtu=want.mtu,
        up=True,
        ports=want.ports,
        tunnels=want.tunnels,
        addresses=want.addresses,
        routes=want.routes,
        sysctls=want.sysctls,
        dnsmasq=want.dnsmasq,
        raw=want.raw,
        hosts=want.hosts,
    )


def kinds(changes: list[plan.Changed]) -> list[str]:
    return [type(change).__name__ for change in changes]


def test_a_new_bridge_is_made_from_the_link_upwards() -> None:
    changes = kinds(plan.plan(desired(ipv4_routes="198.18.9.0/24"), plan.Actual()))
    wanted = ["AddBridge", "SetSysctl", "AddAddress", "AddRoute", "SetFirewall", "SetHosts", "StartDnsmasq"]
    assert list(dict.fromkeys(changes)) == wanted


def test_nothing_but_the_firewall_is_touched_when_all_is_well() -> None:
    want = desired(ipv4_routes="198.18.9.0/24")
    assert kinds(plan.plan(want, fulfilled(want))) == ["SetFirewall"]


def test_an_address_goes_before_another_comes_and_routes_follow() -> None:
    old, new = desired(ipv4_routes="198.18.9.0/24"), desired(ipv4_address="198.18.2.1/24", ipv4_routes="198.18.9.0/24")
    changes = kinds(plan.plan(new, fulfilled(old)))
    assert changes.index("RemoveAddress") < changes.index("AddAddress") < changes.index("AddRoute")
    assert changes[-2:] == ["StopDnsmasq", "StartDnsmasq"]


def test_a_setting_that_dnsmasq_does_not_know_leaves_it_running() -> None:
    want = desired(ipv4_firewall="false")
    changes = plan.plan(want, fulfilled(desired()))
    assert kinds(changes) == ["SetFirewall"]


def test_another_host_is_told_to_dnsmasq_without_a_restart() -> None:
    have = replace(fulfilled(desired()), hosts={})
    assert kinds(plan.plan(desired(), have)) == ["SetFirewall", "SetHosts"]


def test_without_addresses_there_is_no_dnsmasq() -> None:
    want = desired(ipv4_address="none")
    assert want.dnsmasq == ()
    assert kinds(plan.plan(want, fulfilled(desired())))[-2:] == ["StopDnsmasq", "SetHosts"]


def test_a_link_of_another_kind_is_left_alone() -> None:
    with pytest.raises(ValueError, match='"nb0" already exists'):
        plan.plan(desired(), plan.Actual(kind="veth"))


def test_a_bridge_that_vanished_gets_its_services_anew() -> None:
    have = plan.Actual(dnsmasq=desired().dnsmasq, raw="", hosts=desired().hosts)
    assert kinds(plan.plan(desired(), have))[-2:] == ["StopDnsmasq", "StartDnsmasq"]


def test_without_ipv6_the_bridge_has_not_even_a_link_local_address() -> None:
    assert ("net/ipv6/conf/nb0/disable_ipv6", "1") in desired().sysctls
    assert ("net/ipv6/conf/all/forwarding", "1") not in desired().sysctls


def test_tunnels_are_links_with_the_carrying_interface() -> None:
    config = {
        "tunnel.a.protocol": "vxlan",
        "tunnel.a.id": "42",
        "tunnel.a.ttl": "7",
        "tunnel.b.protocol": "vxlan",
        "tunnel.b.local": "192.0.2.1",
        "tunnel.b.remote": "192.0.2.2",
        "tunnel.half.protocol": "vxlan",
        "tunnel.half.remote": "192.0.2.3",
    }
    multicast, unicast = desired(**config).tunnels
    assert multicast == plan.Tunnel("nb0-a", id=42, group="239.0.0.1", interface="eth0", ttl=7)
    assert (unicast.local, unicast.remote, unicast.group) == ("192.0.2.1", "192.0.2.2", "")


def test_a_changed_tunnel_is_made_anew() -> None:
    old, new = desired(**{"tunnel.a.protocol": "vxlan"}), desired(**{"tunnel.a.protocol": "vxlan", "tunnel.a.id": "9"})
    changes = kinds(plan.plan(new, fulfilled(old)))
    assert changes[:2] == ["RemoveLink", "AddTunnel"]


def test_ports_of_instances_stay_when_an_external_interface_leaves() -> None:
    before, after = Config({"bridge.external_interfaces": "eth1,eth2"}), Config({"bridge.external_interfaces": "eth2"})
    assert plan.removed_ports(before, after) == [plan.RemovePort("eth1")]
    have = replace(fulfilled(desired()), ports=frozenset({"veth1"}))
    assert kinds(plan.plan(desired(), have)) == ["SetFirewall"]


def test_routes_of_a_family_without_address_are_not_made() -> None:
    want = desired(ipv4_routes="198.18.9.0/24", ipv6_routes="fd42:9::/64")
    assert want.routes == {Route("198.18.9.0/24")}


def test_everything_goes_at_the_end() -> None:
    changes = plan.removal("nb0", fulfilled(desired(**{"tunnel.a.protocol": "vxlan"})))
    assert kinds(changes) == ["StopDnsmasq", "RemoveLink", "RemoveLink", "SetFirewall"]
