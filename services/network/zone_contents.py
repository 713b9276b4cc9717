"""What a DNS zone holds at this moment: made of the leases of the networks that name it, and of its records. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename

from chassis.keys import Config
from rows.network import Network, NetworkZone, ZoneRecord
from services.network import zone_rules
from services.network.drivers.bridge import keys
from services.network.leases import Lease

SOA_TTL, TTL = 3600, 300
TIMES = "120 60 86400 30"  # refresh, retry, expire, minimum, in seconds


@dataclass(frozen=True, slots=True)
class Line:
    """One resource record."""

    name: dns.name.Name
    ttl: int
    data: dns.rdata.Rdata


def origin_of(zone: NetworkZone) -> dns.name.Name:
    return dns.name.from_text(zone.name)


def head(zone: NetworkZone, serial: int) -> list[Line]:
    """SOA and NS. `serial` in seconds since 1970."""
    origin = origin_of(zone)
    servers = Config(zone.config)[zone_rules.NAMESERVERS]
    main = _rooted(servers[0]) if servers else f"hostmaster.{origin}"
    soa = _data("SOA", f"{origin} {main} {serial} {TIMES}")
    return [Line(origin, SOA_TTL, soa), *(Line(origin, TTL, _data("NS", _rooted(server))) for server in servers)]


def body(
    zone: NetworkZone, networks: Iterable[tuple[Network, list[Lease]]], records: Iterable[ZoneRecord]
) -> Iterator[Line]:
    """Everything else, each record once. `networks` with what they have leased."""
    seen = set()
    lines = [line for network, found in networks for line in _of_network(zone, network, found)]
    for line in (*lines, *_of_records(zone, records)):
        key = (line.name, line.data)
        if key not in seen:
            seen.add(key)
            yield line


def _of_network(zone: NetworkZone, network: Network, found: list[Lease]) -> Iterator[Line]:
    config = Config(network.config)
    behind_nat = Config(zone.config)[zone_rules.NAT]
    for lease in found:
        address = ipaddress.ip_address(lease.address)
        family = keys.FAMILIES[0 if address.version == 4 else 1]
        if not behind_nat and config[family.nat]:
            continue
        reverse = config[keys.ZONE_REVERSE4 if address.version == 4 else keys.ZONE_REVERSE6]
        try:
            if config[keys.ZONE_FORWARD] == zone.name:
                name = dns.name.from_text(lease.hostname, origin=origin_of(zone))
                yield Line(name, TTL, _data("A" if address.version == 4 else "AAAA", str(address)))
            if reverse == zone.name and config[keys.ZONE_FORWARD]:
                name = dns.reversename.from_address(str(address))
                if name.is_subdomain(origin_of(zone)):
                    yield Line(name, TTL, _data("PTR", f"{lease.hostname}.{_rooted(config[keys.ZONE_FORWARD])}"))
        except dns.exception.DNSException:
            continue  # a client may call itself what no name can be


def _of_records(zone: NetworkZone, records: Iterable[ZoneRecord]) -> Iterator[Line]:
    origin = origin_of(zone)
    for record in records:
        name = origin if record.name == "@" else dns.name.from_text(record.name, origin=origin)
        for entry in record.entries:
            yield Line(name, entry.ttl or TTL, zone_rules.parse(entry, origin))


def _data(type_: str, text: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(type_), text, relativize=False)


def _rooted(name: str) -> str:
    return name if name.endswith(".") else f"{name}."
