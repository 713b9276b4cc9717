"""What a nic must be on the host. Pure: from the device's configuration and its network's to one `Wanted`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chassis.keys import Config, Key
from services.network.links import PROTO_BOOT, Route
from services.network.nics import keys
from services.network.nics.filters import Filter


@dataclass(frozen=True, slots=True)
class Guest:
    """What the instance's side is given at its start: addresses with their length, and gateways ("" for none)."""

    addresses: tuple[str, ...] = ()
    ipv4_gateway: str = ""
    ipv6_gateway: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The host side of a nic. `peer_name` is the interface for the instance; a macvlan has no host side of its own.

    `routes` go by `route_by`; `bridge` and `parent` are interfaces of the host; limits are in bit/s.
    """

    kind: str
    host_name: str
    peer_name: str
    hwaddr: str
    mtu: int = 0
    bridge: str = ""
    parent: str = ""
    isolated: bool = False
    route_by: str = ""
    routes: tuple[Route, ...] = ()
    ingress: int = 0
    egress: int = 0
    filter: Filter | None = None
    host_addresses: tuple[str, ...] = ()
    owner: str = ""  # project, instance and device: whose name in the link's alias keeps others away from it
    proxies: tuple[str, ...] = ()  # addresses that the host answers for on the parent
    probes: tuple[str, ...] = ()  # addresses that nobody on the parent's segment may have
    guest: Guest = Guest()


def peer_of(host_name: str) -> str:
    """The name of the other end while it waits in the host's namespace: always the same, so that it is found again."""
    return "veth" + hashlib.sha256(host_name.encode()).hexdigest()[:10]


def routes(config: Config) -> tuple[Route, ...]:
    subnets = [*(config[keys.IPV4_ROUTES] or ()), *(config[keys.IPV6_ROUTES] or ())]
    return tuple(Route(str(subnet), protocol=PROTO_BOOT) for subnet in subnets)


def limits(config: Config) -> tuple[int, int]:
    """(ingress, egress); limits.max stands for both."""
    both = config[keys.MAX]
    return (both, both) if both else (config[keys.INGRESS], config[keys.EGRESS])


def bridged(
    device: Mapping[str, str],
    *,
    bridge: str,
    host_name: str,
    hwaddr: str,
    mtu: int,
    addresses: tuple[str, str] = ("", ""),
) -> Wanted:
    """`addresses` are the IPv4 and IPv6 address that DHCP gives it, "" if that is open."""
    config = Config(device)
    ingress, egress = limits(config)
    return Wanted(
        kind="veth",
        host_name=host_name,
        peer_name=peer_of(host_name),
        hwaddr=hwaddr,
        mtu=mtu,
        bridge=bridge,
        isolated=config[keys.ISOLATION],
        route_by=bridge,
        routes=routes(config),
        ingress=ingress,
        egress=egress,
        filter=filter_of(config, host_name, hwaddr, addresses),
    )


def filter_of(config: Config, host_name: str, hwaddr: str, addresses: tuple[str, str]) -> Filter:
    """Which MAC and addresses it may use: its own, and the subnets that are routed to it."""
    found: list[tuple[str, ...] | None] = []
    families = (
        (keys.IPV4_FILTERING, keys.IPV4_ADDRESS, addresses[0], keys.IPV4_ROUTES, keys.IPV4_EXTERNAL, 32),
        (keys.IPV6_FILTERING, keys.IPV6_ADDRESS, addresses[1], keys.IPV6_ROUTES, keys.IPV6_EXTERNAL, 128),
    )
    for filtering, address, given, routed, external, length in families:
        if not config[filtering]:
            found.append(None)
        elif config[address] == "none":
            found.append(())
        else:
            subnets = [str(subnet) for key in (routed, external) for subnet in config[key] or ()]
            found.append((*([f"{given}/{length}"] if given else []), *subnets))
    mac = config[keys.MAC_FILTERING] or found[0] is not None or found[1] is not None
    return Filter(host_name, hwaddr, mac, found[0], found[1])


def p2p(device: Mapping[str, str], *, host_name: str, hwaddr: str) -> Wanted:
    config = Config(device)
    ingress, egress = limits(config)
    return Wanted(
        kind="veth",
        host_name=host_name,
        peer_name=peer_of(host_name),
        hwaddr=hwaddr,
        mtu=config[keys.MTU],
        route_by=host_name,
        routes=routes(config),
        ingress=ingress,
        egress=egress,
    )


def macvlan(device: Mapping[str, str], *, parent: str, host_name: str, hwaddr: str, mtu: int) -> Wanted:
    return Wanted(kind="macvlan", host_name=host_name, peer_name=host_name, hwaddr=hwaddr, mtu=mtu, parent=parent)


def routed(device: Mapping[str, str], *, host_name: str, hwaddr: str) -> Wanted:
    """A pair without a bridge: the host routes the nic's addresses to it and answers for them on the parent."""
    config = Config(device)
    ingress, egress = limits(config)
    ipv4, ipv6 = config[keys.ROUTED_IPV4], config[keys.ROUTED_IPV6]
    parent = config[keys.PARENT]
    probes = [
        str(address)
        for found, probe in ((ipv4, keys.IPV4_PROBE), (ipv6, keys.IPV6_PROBE))
        if config[probe]
        for address in found
    ]
    gateways = [
        str(config[host]) if found and config[mode] == "auto" else "" for found, mode, host in _gateways(ipv4, ipv6)
    ]
    return Wanted(
        kind="veth",
        host_name=host_name,
        peer_name=peer_of(host_name),
        hwaddr=hwaddr,
        mtu=config[keys.MTU],
        parent=parent,
        route_by=host_name,
        routes=tuple(_routed_routes(config)),
        ingress=ingress,
        egress=egress,
        host_addresses=tuple(
            f"{config[host]}/{length}"
            for found, host, length in ((ipv4, keys.IPV4_HOST, 32), (ipv6, keys.IPV6_HOST, 128))
            if found
        ),
        proxies=tuple(str(address) for address in (*ipv4, *ipv6)) if parent else (),
        probes=tuple(probes) if parent else (),
        guest=Guest(tuple(f"{address}/{address.max_prefixlen}" for address in (*ipv4, *ipv6)), *gateways),
    )


def _gateways(ipv4: tuple[Any, ...], ipv6: tuple[Any, ...]) -> Iterable[tuple[tuple[Any, ...], Key[str], Key[Any]]]:
    return (ipv4, keys.IPV4_GATEWAY, keys.IPV4_HOST), (ipv6, keys.IPV6_GATEWAY, keys.IPV6_HOST)


def _routed_routes(config: Config) -> Iterable[Route]:
    """The nic's addresses in the main table and in one of its own; further subnets by way of its first address."""
    for addresses, table, subnets in (
        (config[keys.ROUTED_IPV4], config[keys.IPV4_TABLE], config[keys.IPV4_ROUTES]),
        (config[keys.ROUTED_IPV6], config[keys.IPV6_TABLE], config[keys.IPV6_ROUTES]),
    ):
        for address in addresses:
            destination = f"{address}/{address.max_prefixlen}"
            yield Route(destination)
            if table:
                yield Route(destination, table=table)
        for subnet in subnets or ():
            yield Route(str(subnet), protocol=PROTO_BOOT, gateway=str(addresses[0]))
