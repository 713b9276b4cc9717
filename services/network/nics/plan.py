"""What a nic must be on the host. Pure: from the device's configuration and its network's to one `Wanted`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from chassis.keys import Config
from services.network.links import PROTO_BOOT, Route
from services.network.nics import keys
from services.network.nics.filters import Filter


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
