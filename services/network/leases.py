"""Leases of a network: fixed ones from its nics, handed out ones from dnsmasq's file, and giving one back."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from chassis.keys import Config
from rows.network import Network
from services.network.drivers.bridge import keys
from services.network.host import Host
from services.network.usage import Nic

MAC = re.compile(r"(?i)([0-9a-f]{2}:){5}[0-9a-f]{2}")
MAGIC = bytes.fromhex("63825363")
RELEASE = 7


class Lease(msgspec.Struct, frozen=True):
    """LXD's NetworkLease."""

    hostname: str
    hwaddr: str
    address: str
    type: str
    location: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of dnsmasq's lease file. `hwaddr` is "" where a DHCPv6 client's cannot be told."""

    hwaddr: str
    address: str
    hostname: str
    client: str


def parse(text: str) -> Iterator[Entry]:
    """Lines of "expiry mac-or-iaid address hostname client-id-or-duid"; others are passed over."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 5:
            continue
        mac = fields[1] if MAC.fullmatch(fields[1]) else fields[4][-17:]
        yield Entry(mac.lower() if MAC.fullmatch(mac) else "", fields[2], fields[3], fields[4])


def read(host: Host, network: str) -> list[Entry]:
    """What dnsmasq has handed out. Host thread."""
    path = host.files(network).leases
    return list(parse(path.read_text())) if path.exists() else []


def of_network(
    name: str,
    config: Config,
    nics: Iterable[Nic],
    entries: Iterable[Entry],
    *,
    project: str,
    home: str,
    location: str,
) -> list[Lease]:
    """What a project sees: another one than the network's `home` sees neither the gateway nor others' leases."""
    found: list[Lease] = []
    if project == home:
        for version in (4, 6):
            address = keys.address(config, version)
            if address is not None:
                found.append(Lease(f"{name}.gw", "", str(address.ip), "gateway", ""))
    own = [nic for nic in nics if nic.project == project]
    for nic in own:
        found += _of_nic(nic, config, location)
    known = {lease.address for lease in found}
    macs = {nic.hwaddr for nic in own}
    for entry in entries:
        if entry.address not in known and (project == home or entry.hwaddr in macs):
            found.append(Lease(entry.hostname, entry.hwaddr, entry.address, "dynamic", location))
    return found


def _of_nic(nic: Nic, config: Config, location: str) -> Iterator[Lease]:
    host = nic.dhcp()
    for address in (host.ipv4, host.ipv6):
        if address:
            yield Lease(nic.instance, nic.hwaddr, address, "static", location)
    subnet = keys.address6(config)
    if subnet is not None and not host.ipv6 and not config[keys.IPV6_STATEFUL] and nic.hwaddr:
        predicted = eui64(subnet.network, nic.hwaddr)
        if predicted:
            yield Lease(nic.instance, nic.hwaddr, predicted, "dynamic", location)


def eui64(subnet: ipaddress.IPv6Network, hwaddr: str) -> str:
    """The address that stateless configuration gives this MAC; "" if the subnet is no /64."""
    if subnet.prefixlen != 64:
        return ""
    mac = bytes.fromhex(hwaddr.replace(":", ""))
    identifier = bytes([mac[0] ^ 2, mac[1], mac[2], 0xFF, 0xFE, mac[3], mac[4], mac[5]])
    return str(ipaddress.IPv6Address(int(subnet.network_address) | int.from_bytes(identifier, "big")))


def give_back(host: Host, network: Network, hwaddr: str) -> None:
    """Give back what this MAC holds; a lease that stays is no harm, it ends by itself."""
    server = keys.address4(Config(network.config))
    path = host.files(network.name).leases
    if server is None or not path.exists():
        return
    for entry in parse(path.read_text()):
        if entry.hwaddr == hwaddr.lower():
            release(network.name, str(server.ip), entry)


def release(interface: str, server: str, entry: Entry) -> None:
    """Have dnsmasq forget an IPv4 lease at once, as if its holder had given it back (RFC 2131, DHCPRELEASE)."""
    if ":" in entry.address or not entry.hwaddr:
        return
    packet = release_packet(entry, server, os.urandom(4))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sender.sendto(packet, (server, 67))


def release_packet(entry: Entry, server: str, transaction: bytes) -> bytes:
    chaddr = bytes.fromhex(entry.hwaddr.replace(":", "")).ljust(16, b"\0")
    head = struct.pack("!BBBB4sHH", 1, 1, 6, 0, transaction, 0, 0)
    addresses = socket.inet_aton(entry.address) + bytes(12)
    options = bytes([53, 1, RELEASE, 54, 4]) + socket.inet_aton(server)
    if entry.client != "*":
        client = bytes.fromhex(entry.client.replace(":", ""))
        options += bytes([61, len(client)]) + client
    return head + addresses + chaddr + bytes(192) + MAGIC + options + b"\xff"
