"""What a bridge network must be on this host, what it is, and the changes between the two. Pure: no I/O, no clock.

The order of changes is the order in which they are safe: the link first, then what hangs on it, the services that listen there last; and
an address that goes is taken before one that comes, because the kernel takes an address's secondaries with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chassis.keys import Config
from services.network import dhcp, firewall
from services.network.drivers.bridge import dnsmasq, keys
from services.network.links import Route

VXLAN_PORT = 8472  # the kernel's own, which LXD leaves it at too


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel link that is a port of the bridge. `interface` carries a multicast one."""

    name: str
    kind: str = "vxlan"
    id: int = 1
    local: str = ""
    remote: str = ""
    group: str = ""
    interface: str = ""
    port: int = VXLAN_PORT
    ttl: int = 1


@dataclass(frozen=True, slots=True)
class Desired:
    """`dnsmasq` is a command line, () for none; `hosts` file name -> content; `firewall` the objects of the network's table."""

    name: str
    hwaddr: str
    mtu: int = 1500
    ports: frozenset[str] = frozenset()
    tunnels: tuple[Tunnel, ...] = ()
    addresses: frozenset[str] = frozenset()
    routes: frozenset[Route] = frozenset()
    sysctls: tuple[tuple[str, str], ...] = ()
    firewall: tuple[dict[str, Any], ...] = ()
    dnsmasq: tuple[str, ...] = ()
    raw: str = ""
    hosts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Actual:
    """What the kernel and the files say. `kind` is "" if there is no link of that name; `ports` are all of the bridge's."""

    kind: str = ""
    hwaddr: str = ""
    mtu: int = 0
    up: bool = False
    ports: frozenset[str] = frozenset()
    tunnels: tuple[Tunnel, ...] = ()
    addresses: frozenset[str] = frozenset()
    routes: frozenset[Route] = frozenset()
    sysctls: tuple[tuple[str, str], ...] = ()
    dnsmasq: tuple[str, ...] = ()
    raw: str = ""
    hosts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AddBridge:
    name: str
    hwaddr: str
    mtu: int


@dataclass(frozen=True, slots=True)
class SetLink:
    name: str
    attributes: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class SetSysctl:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class AddTunnel:
    bridge: str
    tunnel: Tunnel
    mtu: int


@dataclass(frozen=True, slots=True)
class RemoveLink:
    name: str


@dataclass(frozen=True, slots=True)
class AddPort:
    bridge: str
    name: str


@dataclass(frozen=True, slots=True)
class RemovePort:
    name: str


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class AddAddress:
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    name: str
    route: Route


@dataclass(frozen=True, slots=True)
class AddRoute:
    name: str
    route: Route


@dataclass(frozen=True, slots=True)
class SetFirewall:
    """Replace the network's table; no objects removes it."""

    name: str
    objects: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class StopDnsmasq:
    name: str


@dataclass(frozen=True, slots=True)
class SetHosts:
    """Bring the hosts files in line, and have a running dnsmasq read them."""

    name: str
    hosts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StartDnsmasq:
    name: str
    arguments: tuple[str, ...]
    raw: str


Changed = (
    AddBridge
    | SetLink
    | SetSysctl
    | AddTunnel
    | RemoveLink
    | AddPort
    | RemovePort
    | RemoveAddress
    | AddAddress
    | RemoveRoute
    | AddRoute
    | SetFirewall
    | StopDnsmasq
    | SetHosts
    | StartDnsmasq
)


def desired(
    name: str,
    hwaddr: str,
    config: Config,
    *,
    server: str,
    files: dhcp.Files,
    hosts: Iterable[dhcp.Host] = (),
    carrier: str = "",
    user: str = "nobody",
    forwards: tuple[firewall.Forward, ...] = (),
    acl: tuple[dict[str, Any], ...] = (),
) -> Desired:
    """What a network's configuration asks of the host. `carrier` is the interface of the default route, for multicast tunnels."""
    ports = config[keys.PORTS]
    addresses = [found for version in (4, 6) if (found := keys.address(config, version))]
    rules = firewall.Rules(name, tuple(_families(config)), forwards, acl)
    return Desired(
        name=name,
        hwaddr=config[keys.HWADDR] or hwaddr,
        mtu=keys.mtu(config),
        ports=frozenset(ports),
        tunnels=tuple(_tunnels(name, config, carrier)),
        addresses=frozenset(str(address) for address in addresses),
        routes=frozenset(
            Route(str(subnet))
            for family in keys.FAMILIES
            if keys.address(config, family.version)
            for subnet in config[family.routes]
        ),
        sysctls=tuple(_sysctls(name, config)),
        firewall=tuple(firewall.render(server, rules)),
        dnsmasq=dnsmasq.arguments(name, config, files, user),
        raw=config[keys.RAW_DNSMASQ],
        hosts=dhcp.hosts(hosts, config[keys.DNS_MODE]) if dnsmasq.is_wanted(config) else {},
    )


def _families(config: Config) -> Iterable[firewall.Family]:
    for family in keys.FAMILIES:
        address = keys.address(config, family.version)
        if address is None:
            continue
        yield firewall.Family(
            version=family.version,
            subnet=str(address.network),
            nat=config[family.nat],
            nat_address=str(config[family.nat_address] or ""),
            nat_after=config[family.nat_order] == "after",
            services=config[family.dhcp],
            forward=config[family.routing] if config[family.firewall] else None,
        )


def _sysctls(name: str, config: Config) -> Iterable[tuple[str, str]]:
    """Without an IPv6 address the host must not be reachable at a guessable link-local one."""
    ipv6 = keys.address6(config) is not None
    yield f"net/ipv6/conf/{name}/disable_ipv6", "0" if ipv6 else "1"
    if ipv6:
        yield f"net/ipv6/conf/{name}/autoconf", "0"
        yield f"net/ipv6/conf/{name}/accept_dad", "0"
        if config[keys.IPV6_ROUTING]:
            yield "net/ipv6/conf/all/forwarding", "1"
    if keys.address4(config) is not None and config[keys.IPV4_ROUTING]:
        yield "net/ipv4/ip_forward", "1"


def _tunnels(name: str, config: Config, carrier: str) -> Iterable[Tunnel]:
    """Tunnels that are described well enough; a half described one is passed over, as in LXD."""
    for tunnel in keys.tunnels(config):
        found = _Tunnel(config, tunnel)
        protocol, local, remote = found[keys.TUNNEL_PROTOCOL], found[keys.TUNNEL_LOCAL], found[keys.TUNNEL_REMOTE]
        if (bool(remote) and not local) or (protocol == "gre" and not remote):
            continue
        link = f"{name}-{tunnel}"
        if protocol == "gre":
            yield Tunnel(link, "gretap", local=str(local), remote=str(remote))
            continue
        yield Tunnel(
            link,
            "vxlan",
            id=found[keys.TUNNEL_ID],
            local=str(local or ""),
            remote=str(remote or ""),
            group="" if remote else str(found[keys.TUNNEL_GROUP]),
            interface="" if remote else found[keys.TUNNEL_INTERFACE] or carrier,
            port=found[keys.TUNNEL_PORT] or VXLAN_PORT,
            ttl=found[keys.TUNNEL_TTL],
        )


class _Tunnel:
    """The keys of one tunnel, read by their wild declarations."""

    def __init__(self, config: Config, name: str) -> None:
        self.config = config
        self.name = name

    def __getitem__(self, key: Any) -> Any:
        text = self.config.texts.get(key.at(self.name)) or key.default
        return key.type.parse(text) if text else key.type.zero


def plan(want: Desired, have: Actual) -> list[Changed]:
    """What to do, in order. Raises ValueError if the name is that of a link of another kind."""
    if have.kind not in ("", "bridge"):
        raise ValueError(f'Network interface "{want.name}" already exists')
    if not have.kind:
        have = Actual(dnsmasq=have.dnsmasq, raw=have.raw, hosts=have.hosts)
    return [*_link(want, have), *_ports(want, have), *_layer3(want, have), *_services(want, have)]


def _link(want: Desired, have: Actual) -> Iterable[Changed]:
    if not have.kind:
        yield AddBridge(want.name, want.hwaddr, want.mtu)
    else:
        wrong = {"address": want.hwaddr, "mtu": want.mtu, "state": "up"}
        right = {"address": have.hwaddr, "mtu": have.mtu, "state": "up" if have.up else "down"}
        attributes = tuple((name, value) for name, value in wrong.items() if right[name] != value)
        if attributes:
            yield SetLink(want.name, attributes)
    have_sysctls = dict(have.sysctls)
    yield from (SetSysctl(name, value) for name, value in want.sysctls if have_sysctls.get(name) != value)


def _ports(want: Desired, have: Actual) -> Iterable[Changed]:
    for tunnel in have.tunnels:
        if tunnel not in want.tunnels:
            yield RemoveLink(tunnel.name)
    for tunnel in want.tunnels:
        if tunnel not in have.tunnels:
            yield AddTunnel(want.name, tunnel, want.mtu)
    yield from (AddPort(want.name, name) for name in sorted(want.ports - have.ports))


def removed_ports(before: Config, after: Config) -> list[RemovePort]:
    """Interfaces that leave the bridge because its configuration no longer names them; nics of instances are ports too."""
    were, are = before[keys.PORTS], after[keys.PORTS]
    gone = set(were) - set(are)
    return [RemovePort(name) for name in sorted(gone)]


def _layer3(want: Desired, have: Actual) -> Iterable[Changed]:
    yield from (RemoveRoute(want.name, route) for route in sorted(have.routes - want.routes, key=str))
    gone = have.addresses - want.addresses
    yield from (RemoveAddress(want.name, address) for address in sorted(gone))
    yield from (
        AddAddress(want.name, address) for address in sorted(want.addresses - (frozenset() if gone else have.addresses))
    )
    routes = want.routes if gone else want.routes - have.routes
    yield from (AddRoute(want.name, route) for route in sorted(routes, key=str))


def _services(want: Desired, have: Actual) -> Iterable[Changed]:
    yield SetFirewall(want.name, want.firewall)
    restart = want.dnsmasq != have.dnsmasq or want.raw != have.raw or not have.kind
    if restart and have.dnsmasq:
        yield StopDnsmasq(want.name)
    if dict(want.hosts) != dict(have.hosts):
        yield SetHosts(want.name, want.hosts)
    if restart and want.dnsmasq:
        yield StartDnsmasq(want.name, want.dnsmasq, want.raw)


def removal(name: str, have: Actual) -> list[Changed]:
    """Everything of the network goes."""
    gone: list[Changed] = [StopDnsmasq(name)]
    gone += [RemoveLink(tunnel.name) for tunnel in have.tunnels]
    if have.kind == "bridge":
        gone.append(RemoveLink(name))
    return [*gone, SetFirewall(name, ())]
