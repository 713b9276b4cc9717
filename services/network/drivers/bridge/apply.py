"""The only I/O of the bridge driver: reading what the host has, and carrying out a plan. Runs in the host thread."""

from __future__ import annotations

import ipaddress
import json
import shutil
from collections.abc import Callable, Iterable
from typing import Any

from services.network import daemons, firewall, nftables
from services.network.drivers.bridge import plan
from services.network.host import Host
from services.network.links import SYSCTL, read_sysctl, write_sysctl

FORWARDING6 = "net/ipv6/conf/all/forwarding"


def read(host: Host, name: str, sysctls: Iterable[str] = ()) -> plan.Actual:
    """The state of the network's link, its services' state and files, and of these sysctls."""
    files = host.files(name)
    services: dict[str, Any] = {
        "dnsmasq": daemons.running(files),
        "raw": files.raw.read_text()[:-1] if files.raw.exists() else "",
        "hosts": {path.name: path.read_text() for path in files.hosts.iterdir()} if files.hosts.exists() else {},
    }
    link = host.links.get(name)
    if link is None:
        return plan.Actual(**services)
    ports = host.links.ports(name)
    addresses = [address.text for address in host.links.addresses(link.index) if address.scope == "global"]
    return plan.Actual(
        kind=link.kind or "physical",
        hwaddr=link.hwaddr,
        mtu=link.mtu,
        up=link.up,
        ports=frozenset(ports),
        tunnels=tuple(_tunnels(host, [port for port in ports if port.startswith(f"{name}-")])),
        addresses=frozenset(str(ipaddress.ip_interface(text)) for text in addresses),
        routes=frozenset(host.links.routes(link.index)),
        sysctls=tuple((key, value) for key in sysctls if (value := read_sysctl(key)) is not None),
        **services,
    )


def _tunnels(host: Host, names: Iterable[str]) -> Iterable[plan.Tunnel]:
    for name in names:
        link = host.links.get(name)
        if link is None or link.kind not in ("vxlan", "gretap"):
            continue
        data = dict(link.data["attrs"]) if link.data else {}
        if link.kind == "gretap":
            yield plan.Tunnel(
                link.name, "gretap", local=data.get("IFLA_GRE_LOCAL", ""), remote=data.get("IFLA_GRE_REMOTE", "")
            )
            continue
        other = data.get("IFLA_VXLAN_GROUP") or data.get("IFLA_VXLAN_GROUP6") or ""
        multicast = bool(other) and ipaddress.ip_address(other).is_multicast
        yield plan.Tunnel(
            link.name,
            "vxlan",
            id=data.get("IFLA_VXLAN_ID", 0),
            local=data.get("IFLA_VXLAN_LOCAL") or data.get("IFLA_VXLAN_LOCAL6") or "",
            remote="" if multicast else other,
            group=other if multicast else "",
            interface=host.links.name(data.get("IFLA_VXLAN_LINK", 0)),
            port=data.get("IFLA_VXLAN_PORT", 0),
            ttl=data.get("IFLA_VXLAN_TTL", 0),
        )


def apply(host: Host, changes: Iterable[plan.Changed]) -> None:
    """Carry out a plan. Raises NetlinkError, NftablesError, DaemonError or LookupError of the first change that fails."""
    for change in changes:
        _DO[type(change)](host, change)


def add_bridge(host: Host, change: plan.AddBridge) -> None:
    attributes = {"address": change.hwaddr, "mtu": change.mtu, "state": "up", "ifalias": host.alias}
    host.links.add(change.name, "bridge", **attributes)


def set_link(host: Host, change: plan.SetLink) -> None:
    host.links.set(change.name, **dict(change.attributes))


def set_sysctl(host: Host, change: plan.SetSysctl) -> None:
    """A host that learns its own routes from router advertisements must go on doing so when it begins to forward."""
    if change.name == FORWARDING6:
        for path in (SYSCTL / "net/ipv6/conf").glob("*/accept_ra"):
            if path.read_text().strip() == "1":
                path.write_text("2")
    write_sysctl(change.name, change.value)


def add_tunnel(host: Host, change: plan.AddTunnel) -> None:
    tunnel = change.tunnel
    attributes: dict[str, Any] = {"mtu": change.mtu, "state": "up", "master": host.links.index(change.bridge)}
    if tunnel.kind == "gretap":
        attributes |= {"gre_local": tunnel.local, "gre_remote": tunnel.remote}
    else:
        attributes |= {"vxlan_id": tunnel.id, "vxlan_ttl": tunnel.ttl, "vxlan_port": tunnel.port}
        attributes |= _ends(tunnel)
        if tunnel.interface:
            attributes["vxlan_link"] = host.links.index(tunnel.interface)
    host.links.delete(tunnel.name)
    host.links.add(tunnel.name, tunnel.kind, **attributes)


def _ends(tunnel: plan.Tunnel) -> dict[str, str]:
    found = {}
    for name, address in (("vxlan_group", tunnel.remote or tunnel.group), ("vxlan_local", tunnel.local)):
        if address:
            found[name + ("6" if ":" in address else "")] = address
    return found


def remove_link(host: Host, change: plan.RemoveLink) -> None:
    host.links.delete(change.name)


def add_port(host: Host, change: plan.AddPort) -> None:
    """An interface that does not exist (yet) is passed over, as in LXD; one that has addresses would lose them."""
    link = host.links.get(change.name)
    if link is None:
        return
    if any(address.scope == "global" for address in host.links.addresses(link.index)):
        raise ValueError("Only unconfigured network interfaces can be bridged")
    host.links.set(change.name, master=host.links.index(change.bridge), state="up")


def remove_port(host: Host, change: plan.RemovePort) -> None:
    if host.links.get(change.name) is not None:
        host.links.set(change.name, master=0)


def add_address(host: Host, change: plan.AddAddress) -> None:
    host.links.add_address(host.links.index(change.name), change.address)


def remove_address(host: Host, change: plan.RemoveAddress) -> None:
    host.links.del_address(host.links.index(change.name), change.address)


def add_route(host: Host, change: plan.AddRoute) -> None:
    host.links.add_route(host.links.index(change.name), change.route)


def remove_route(host: Host, change: plan.RemoveRoute) -> None:
    host.links.del_route(host.links.index(change.name), change.route)


def set_firewall(host: Host, change: plan.SetFirewall) -> None:
    """Rules that this process has made and that are there still are left alone: a look costs a twentieth of making them."""
    table = firewall.table_name(host.server, change.name)
    rules = json.dumps(change.objects)
    if change.objects and host.rules.get(table) == rules and (firewall.FAMILY, table) in nftables.tables(table):
        return
    host.rules.pop(table, None)
    if change.objects:
        nftables.run(nftables.replacing(firewall.FAMILY, table, list(change.objects)))
        host.rules[table] = rules
    else:
        nftables.run(nftables.removing(firewall.FAMILY, table))


def stop_dnsmasq(host: Host, change: plan.StopDnsmasq) -> None:
    daemons.stop(host.files(change.name))


def set_hosts(host: Host, change: plan.SetHosts) -> None:
    if daemons.write_hosts(host.files(change.name), change.hosts):
        daemons.reload(host.files(change.name))


def start_dnsmasq(host: Host, change: plan.StartDnsmasq) -> None:
    files = host.files(change.name)
    daemons.prepare(files, change.raw)
    daemons.start(change.arguments, files)


def forget(host: Host, name: str) -> None:
    """Remove the network's directory with its leases."""
    shutil.rmtree(host.files(name).directory, ignore_errors=True)


_DO: dict[type, Callable[[Host, Any], None]] = {
    plan.AddBridge: add_bridge,
    plan.SetLink: set_link,
    plan.SetSysctl: set_sysctl,
    plan.AddTunnel: add_tunnel,
    plan.RemoveLink: remove_link,
    plan.AddPort: add_port,
    plan.RemovePort: remove_port,
    plan.AddAddress: add_address,
    plan.RemoveAddress: remove_address,
    plan.AddRoute: add_route,
    plan.RemoveRoute: remove_route,
    plan.SetFirewall: set_firewall,
    plan.StopDnsmasq: stop_dnsmasq,
    plan.SetHosts: set_hosts,
    plan.StartDnsmasq: start_dnsmasq,
}
