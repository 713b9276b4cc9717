"""What a DNS zone and its records may say. Pure; wrong ones are a ValueError with LXD's sentence."""

from __future__ import annotations

import re

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from chassis.key_types import IP, Bool, List, Str, quote
from chassis.keys import Key, Schema
from rows.network import ZoneEntry, ZoneRecord
from services.network.key_types import Domain

NAMESERVERS = Key("dns.nameservers", List(Domain), since="network_dns", doc="Names of the servers of the zone")
NAT = Key("network.nat", Bool, default="true", since="network_dns_nat", doc="Whether addresses behind NAT are served")
PEER_ADDRESS = Key("peers.*.address", IP, since="network_dns", doc="Who may transfer the zone")
PEER_KEY = Key("peers.*.key", Str, since="network_dns", doc="TSIG key of that peer (HMAC-SHA256, base64)")
USER = Key("user.*", Str, since="network_dns", doc="Free form")
SCHEMA = Schema(
    "network-zone",
    (NAMESERVERS, NAT, PEER_ADDRESS, PEER_KEY, USER),
    unknown="Invalid config option {key}",
    invalid="Invalid value for config option {key}: {reason}",
)
OWN = frozenset({"SOA", "AXFR", "IXFR", "ANY"})  # what the zone itself says, or what is no record


def check_zone_name(name: str) -> None:
    if not name:
        raise ValueError("Name is required")
    if "/" in name or not re.fullmatch(r"[-_a-zA-Z0-9.]{1,253}", name):
        raise ValueError(f"Invalid zone name {quote(name)}")
    try:
        dns.name.from_text(name)
    except dns.exception.DNSException as reason:
        raise ValueError(f"Invalid zone name {quote(name)}: {reason}") from None


def check_record(record: ZoneRecord) -> None:
    for key in record.config:
        if not key.startswith("user."):
            raise ValueError(f"Invalid config option {quote(key)}")
    if not record.name or "/" in record.name:
        raise ValueError(f"Invalid record name {quote(record.name)}")
    try:
        dns.name.from_text(record.name, origin=None)
    except dns.exception.DNSException as reason:
        raise ValueError(f"Invalid record name {quote(record.name)}: {reason}") from None
    seen = set()
    for entry in record.entries:
        parse(entry, dns.name.from_text("zone.invalid."))
        if (entry.type, entry.value) in seen:
            raise ValueError(f"Duplicate record for type {quote(entry.type)} and value {quote(entry.value)}")
        seen.add((entry.type, entry.value))


def parse(entry: ZoneEntry, origin: dns.name.Name) -> dns.rdata.Rdata:
    """The record's data. Raises ValueError."""
    try:
        type_ = dns.rdatatype.from_text(entry.type)
    except (dns.exception.DNSException, ValueError):
        type_ = dns.rdatatype.NONE
    if type_ == dns.rdatatype.NONE or entry.type.upper() in OWN:
        raise ValueError(f"Bad zone record entry: dns: unknown RR type: {quote(entry.type)}")
    if not 0 <= entry.ttl < 2**31:
        raise ValueError(f"Bad zone record entry: TTL {entry.ttl} is out of range")
    try:
        return dns.rdata.from_text(dns.rdataclass.IN, type_, entry.value, origin=origin, relativize=False)
    except (dns.exception.DNSException, ValueError) as reason:
        raise ValueError(f"Bad zone record entry: dns: bad {entry.type}: {quote(entry.value)}: {reason}") from None
