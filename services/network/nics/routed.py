"""What only a routed nic needs of the host: sysctls that must be set, a look whether its addresses are free, proxies, a source check.

Runs in the host thread.
"""

from __future__ import annotations

import socket
import time

from services.network import firewall, nftables
from services.network.firewall import DROP, FAMILY, Table, match, meta
from services.network.host import Host
from services.network.links import read_sysctl, write_sysctl
from services.network.nics.plan import Wanted

PROBE = 0.1  # seconds that another machine has to answer for an address
RAW = -300


def check(host: Host, wanted: Wanted) -> None:
    """Raises ValueError if the host does not route, or if an address is another's."""
    if not wanted.parent:
        return
    needed = []
    if any(":" not in address for address in wanted.proxies):
        needed.append(f"net/ipv4/conf/{wanted.parent}/forwarding")
    if any(":" in address for address in wanted.proxies):
        parent = f"net/ipv6/conf/{wanted.parent}"
        needed += ["net/ipv6/conf/all/forwarding", f"{parent}/forwarding"]
        if read_sysctl(f"{parent}/proxy_ndp") != "1":
            needed.append("net/ipv6/conf/all/proxy_ndp")
    for name in needed:
        if read_sysctl(name) != "1":
            raise ValueError(f"Routed mode requires sysctl {name.replace('/', '.')}=1")
    for address in wanted.probes:
        if is_in_use(host, wanted.parent, address):
            raise ValueError(f'IP address "{address}" in use on parent network "{wanted.parent}"')


def is_in_use(host: Host, parent: str, address: str) -> bool:
    """Whether a machine on the parent's segment answers for it: the kernel asks by ARP or NDP, here is looked what it learned."""
    index = host.links.index(parent)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, parent.encode())
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
        target = (address, 9, 0, index) if family == socket.AF_INET6 else (address, 9)
        try:
            asking.sendto(b"", target)
        except OSError:
            return False
    until = time.monotonic() + PROBE
    while time.monotonic() < until:
        if host.links.neighbour(index, address):
            return True
        time.sleep(0.01)
    return False


def settle(host: Host, wanted: Wanted) -> None:
    """Addresses and sysctls of the host side, proxies on the parent, and the check that it sends from its own addresses only."""
    name = wanted.host_name
    for family in ("ipv4", "ipv6"):
        if any((":" in address) == (family == "ipv6") for address in wanted.host_addresses):
            write_sysctl(f"net/{family}/conf/{name}/forwarding", "1")
    write_sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
    write_sysctl(f"net/ipv6/conf/{name}/autoconf", "0")
    index = host.links.index(name)
    for address in wanted.host_addresses:
        host.links.add_address(index, address)
    if wanted.parent:
        parent = host.links.index(wanted.parent)
        for address in wanted.proxies:
            host.links.add_proxy(parent, address)
    table = firewall.table_name(host.server, name)
    nftables.run(nftables.replacing(FAMILY, table, source_check(table, name)))


def source_check(table: str, interface: str) -> list[dict[str, object]]:
    """A reverse path filter: what comes from the nic must be routed back to it."""
    made = Table(FAMILY, table)
    made.chain("prert", "filter", "prerouting", RAW)
    way_back = {"fib": {"result": "oif", "flags": ["saddr", "iif"]}}
    made.rule("prert", match(meta("iifname"), interface), match(way_back, False), DROP)
    return made.objects


def unsettle(host: Host, wanted: Wanted) -> None:
    if wanted.parent and host.links.exists(wanted.parent):
        parent = host.links.index(wanted.parent)
        for address in wanted.proxies:
            host.links.del_proxy(parent, address)
    nftables.run(nftables.removing(FAMILY, firewall.table_name(host.server, wanted.host_name)))
