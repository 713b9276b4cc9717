"""Addresses for nics that may use no other (security.ipv4_filtering) and were given none: one is reserved in DHCP. Host thread."""

from __future__ import annotations

from ipaddress import IPv4Address

from chassis.keys import Config
from rows.network import Network
from services.network import leases
from services.network.drivers.bridge import dnsmasq
from services.network.drivers.bridge import keys as bridge
from services.network.host import Host
from services.network.keeper import reservations
from services.network.nics import keys
from services.network.usage import Nic


def reserve(host: Host, network: Network, nic: Nic, hwaddr: str, taken: frozenset[str]) -> tuple[str, str]:
    """The nic's (IPv4, IPv6). Raises ValueError if the network cannot give it one; "" is an address that may stay open."""
    fixed = nic.dhcp()
    config, device = Config(network.config), Config(nic.config)
    ipv4 = fixed.ipv4
    if device[keys.IPV4_FILTERING] and not nic.config.get("ipv4.address") and bridge.address4(config) is not None:
        ipv4 = _reserve4(host, network, config, fixed.file, hwaddr, taken)
    ipv6 = fixed.ipv6
    subnet = bridge.address6(config)
    if device[keys.IPV6_FILTERING] and not nic.config.get("ipv6.address") and subnet is not None:
        ipv6 = leases.eui64(subnet.network, hwaddr)
    return ipv4, ipv6


def _reserve4(host: Host, network: Network, config: Config, file: str, hwaddr: str, taken: frozenset[str]) -> str:
    known = reservations(host, network.name)
    if known.get(file, ("", ""))[0]:
        return known[file][0]
    entries = leases.read(host, network.name)
    for entry in entries:
        if entry.hwaddr == hwaddr and "." in entry.address:
            return entry.address
    used = {entry.address for entry in entries} | {ipv4 for ipv4, _ in known.values()} | taken
    address = bridge.address4(config)
    if address is None or not config[bridge.IPV4_DHCP]:
        raise ValueError(
            f'Cannot use security.ipv4_filtering without an address when DHCP is disabled on "{network.name}"'
        )
    used.add(str(address.ip))
    found = choose(config[bridge.IPV4_RANGES] or dnsmasq.whole(address.network), used)
    if not found:
        raise ValueError(f'No free IPv4 address is left on network "{network.name}"')
    return found


def choose(ranges: tuple[tuple[IPv4Address, IPv4Address], ...], used: set[str]) -> str:
    """The first free address; "" if there is none."""
    for first, last in ranges:
        for number in range(int(first), int(last) + 1):
            if str(IPv4Address(number)) not in used:
                return str(IPv4Address(number))
    return ""
