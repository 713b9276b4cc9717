"""What a bridged nic may send, as rules of a bridge-family table of its own. Pure.

One chain before the bridge decides anything, so it covers what goes to the host and to other ports alike. The bridge family of common
kernels has neither `ct` nor `reject`: everything here drops.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.network.firewall import ACCEPT, DROP, Expression, Table, any_of, match, meta, payload, prefix

FAMILY = "bridge"
ROUTER_ADVERTISEMENT, NEIGHBOR_ADVERTISEMENT = "nd-router-advert", "nd-neighbor-advert"
TARGET = {
    "payload": {"base": "nh", "offset": 384, "len": 128}
}  # of a neighbour advertisement: bits after the IPv6 header
TARGET_LINK = {"payload": {"base": "nh", "offset": 528, "len": 48}}  # its link-layer option


@dataclass(frozen=True, slots=True)
class Filter:
    """`ipv4`, `ipv6`: subnets that it may use; None leaves the family alone, () forbids it."""

    host_name: str
    hwaddr: str
    mac: bool = False
    ipv4: tuple[str, ...] | None = None
    ipv6: tuple[str, ...] | None = None

    def __bool__(self) -> bool:
        return self.mac or self.ipv4 is not None or self.ipv6 is not None


def link_local(hwaddr: str) -> str:
    """The link-local address that belongs to this MAC (EUI-64)."""
    mac = bytes.fromhex(hwaddr.replace(":", ""))
    identifier = bytes([mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, mac[3], mac[4], mac[5]])
    return str(ipaddress.IPv6Address(bytes.fromhex("fe80" + "00" * 6) + identifier))


def render(table: str, wanted: Filter) -> list[dict[str, Any]]:
    """The objects of the nic's table; filtering addresses includes filtering the MAC."""
    made = Table(FAMILY, table)
    made.chain("in", "filter", "prerouting", -200)
    here = match(meta("iifname"), wanted.host_name)

    def drop(*conditions: Expression) -> None:
        made.rule("in", here, *conditions, DROP)

    def accept(*conditions: Expression) -> None:
        made.rule("in", here, *conditions, ACCEPT)

    drop(match(payload("ether", "saddr"), wanted.hwaddr, "!="))
    drop(match(payload("arp", "saddr ether"), wanted.hwaddr, "!="))
    advertises = match(payload("icmpv6", "type"), NEIGHBOR_ADVERTISEMENT)
    drop(advertises, match(TARGET_LINK, int(wanted.hwaddr.replace(":", ""), 16), "!="))
    if wanted.ipv4 is not None:
        _ipv4(wanted.ipv4, drop, accept)
    if wanted.ipv6 is not None:
        _ipv6(wanted.ipv6, wanted.hwaddr, drop, accept)
    if wanted.ipv4 is not None and wanted.ipv6 is not None:
        drop(match(payload("ether", "type"), any_of(["arp", "ip", "ip6"]), "!="))
    return made.objects


def _ipv4(subnets: Sequence[str], drop: Any, accept: Any) -> None:
    if not subnets:
        drop(match(payload("ether", "type"), "arp"))
        drop(match(payload("ether", "type"), "ip"))
        return
    allowed = any_of([prefix(subnet) for subnet in subnets])
    accept(
        match(payload("ip", "saddr"), "0.0.0.0"),
        match(payload("ip", "daddr"), "255.255.255.255"),
        match(payload("udp", "dport"), 67),
    )
    drop(match(payload("arp", "saddr ip"), any_of([prefix(subnet) for subnet in (*subnets, "0.0.0.0/32")]), "!="))
    drop(match(payload("ip", "saddr"), allowed, "!="))


def _ipv6(subnets: Sequence[str], hwaddr: str, drop: Any, accept: Any) -> None:
    if not subnets:
        drop(match(payload("ether", "type"), "ip6"))
        return
    own = [prefix(subnet) for subnet in (*subnets, f"{link_local(hwaddr)}/128")]
    drop(match(payload("icmpv6", "type"), ROUTER_ADVERTISEMENT))
    advertises = match(payload("icmpv6", "type"), NEIGHBOR_ADVERTISEMENT)
    drop(advertises, *[_outside(TARGET, subnet) for subnet in (*subnets, f"{link_local(hwaddr)}/128")])
    accept(match(payload("ip6", "saddr"), "::"), match(payload("ip6", "nexthdr"), any_of(["ipv6-icmp", "hopopt"])))
    drop(match(payload("ip6", "saddr"), any_of(own), "!="))


def _outside(field: Expression, subnet: str) -> Expression:
    """A raw 128 bit field that is not in the subnet."""
    network = ipaddress.IPv6Network(subnet)
    mask = (1 << 128) - (1 << (128 - network.prefixlen))
    value = int(network.network_address)
    left = field if network.prefixlen == 128 else {"&": [field, f"{mask:#034x}"]}
    return match(left, f"{value:#034x}", "!=")
