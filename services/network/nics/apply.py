"""The only I/O of nics: making, changing and removing the host side. Runs in the host thread; everything may be repeated."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from services.network import firewall, nftables
from services.network.host import Host
from services.network.links import Link, Route, write_sysctl
from services.network.nics import filters, routed, shaping
from services.network.nics.plan import Wanted

DRAWN = re.compile(r"(veth|mac)[0-9a-f]{8}")


def attach(host: Host, wanted: Wanted) -> int:
    """Make it; its MTU. Raises LookupError if the bridge or parent is missing, FileExistsError if the name is another's."""
    link = host.links.get(wanted.host_name)
    if link is not None and not _is_ours(host, link, wanted):
        raise FileExistsError(17, f'Network interface "{wanted.host_name}" already exists')
    if link is not None and not _waits(host, link, wanted):
        host.links.delete(wanted.host_name)
        link = None
    if link is None:
        if wanted.host_addresses:
            routed.check(host, wanted)
        _make(host, wanted)
    if wanted.host_addresses:
        routed.settle(host, wanted)
    change(host, wanted, fresh=link is None)
    mtu = wanted.mtu
    if not mtu and (made := host.links.get(wanted.peer_name)) is not None:
        mtu = made.mtu
    return mtu


def _waits(host: Host, link: Link, wanted: Wanted) -> bool:
    """Whether what stands there is a nic that no instance has taken yet: its other end is still in this namespace."""
    if wanted.kind == "macvlan":
        return link.kind == "macvlan"
    peer = host.links.get(wanted.peer_name)
    return peer is not None and peer.lower == link.index


def _is_ours(host: Host, link: Link, wanted: Wanted) -> bool:
    """Whether this very nic was made here. A crash may have come between making a link and giving it its alias: then its name tells."""
    if link.alias:
        return link.alias == alias_of(host, wanted)
    return _waits(host, link, wanted) and bool(DRAWN.fullmatch(link.name) or wanted.kind == "veth")


def alias_of(host: Host, wanted: Wanted) -> str:
    return f"{host.alias} nic {wanted.owner}".strip()[:255]


def _make(host: Host, wanted: Wanted) -> None:
    alias = alias_of(host, wanted)
    common: dict[str, Any] = {"mtu": wanted.mtu} if wanted.mtu else {}
    if wanted.kind == "macvlan":
        parent = parent_index(host, wanted.parent)
        host.links.add(
            wanted.host_name,
            "macvlan",
            link=parent,
            macvlan_mode="bridge",
            address=wanted.hwaddr,
            ifalias=alias,
            **common,
        )
        return
    peer = {"ifname": wanted.peer_name, "address": wanted.hwaddr, **common}
    if wanted.bridge:
        common["master"] = parent_index(host, wanted.bridge)
    address = "fe" + wanted.hwaddr[2:]  # the highest, so that a bridge without an own address never takes it
    host.links.add(wanted.host_name, "veth", state="up", address=address, ifalias=alias, peer=peer, **common)


def parent_index(host: Host, name: str) -> int:
    try:
        return host.links.index(name)
    except LookupError:
        raise LookupError(f'Parent device "{name}" doesn\'t exist') from None


def change(host: Host, wanted: Wanted, *, fresh: bool = False, gone: Iterable[Route] = ()) -> None:
    """Bring what can change on a living nic in line; `gone` are routes that it had before. `fresh`: nothing stands yet."""
    if wanted.kind != "veth":
        return
    if wanted.bridge:
        write_sysctl(f"net/ipv6/conf/{wanted.host_name}/disable_ipv6", "1")
        if wanted.isolated or not fresh:
            host.links.set_port(wanted.host_name, isolated=int(wanted.isolated))
    if wanted.ingress or wanted.egress or not fresh:
        shaping.apply(host, wanted.host_name, wanted.ingress, wanted.egress)
    if wanted.filter is not None:
        _filter(host, wanted.filter, fresh=fresh)
    _route(host, wanted, gone)


def _filter(host: Host, wanted: filters.Filter, *, fresh: bool) -> None:
    table = firewall.table_name(host.server, wanted.host_name)
    if wanted:
        nftables.run(nftables.replacing(filters.FAMILY, table, filters.render(table, wanted)))
    elif not fresh:
        nftables.run(nftables.removing(filters.FAMILY, table))


def _route(host: Host, wanted: Wanted, gone: Iterable[Route]) -> None:
    gone = [route for route in gone if route not in wanted.routes]
    if not wanted.routes and not gone:
        return
    index = host.links.index(wanted.route_by)
    for route in gone:
        host.links.del_route(index, route)
    for route in wanted.routes:
        host.links.add_route(index, route)


def detach(host: Host, wanted: Wanted) -> None:
    """Remove it; what is gone already is no error, and what another made is left alone."""
    link = host.links.get(wanted.host_name)
    if link is not None and not _is_ours(host, link, wanted):
        return
    shaping.remove(host, wanted.host_name)
    if wanted.host_addresses:
        routed.unsettle(host, wanted)
    if link is not None:
        host.links.delete(wanted.host_name)
    if wanted.bridge and wanted.routes and host.links.exists(wanted.route_by):
        by = host.links.index(wanted.route_by)
        for route in wanted.routes:
            host.links.del_route(by, route)
    if wanted.filter:
        table = firewall.table_name(host.server, wanted.host_name)
        nftables.run(nftables.removing(filters.FAMILY, table))
