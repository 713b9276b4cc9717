"""Managed networks, their forwards, rule sets for their traffic, and DNS zones. Owner: network."""

from __future__ import annotations

import msgspec

from chassis.store import Kind


class Network(msgspec.Struct, frozen=True, kw_only=True):
    project: str
    name: str
    type: str = "bridge"
    description: str = ""
    config: dict[str, str] = {}
    status: str = "Created"  # "Creating", "Deleting" while the host is being changed: what a restart finishes
    hwaddr: str = ""  # drawn once; the bridge keeps it over restarts and renames


class AclRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule, with LXD's texts: lists of subjects and ports are divided by commas."""

    action: str = ""
    source: str = ""
    destination: str = ""
    protocol: str = ""
    source_port: str = ""
    destination_port: str = ""
    icmp_type: str = ""
    icmp_code: str = ""
    description: str = ""
    state: str = ""


class NetworkAcl(msgspec.Struct, frozen=True, kw_only=True):
    project: str
    name: str
    description: str = ""
    config: dict[str, str] = {}
    ingress: tuple[AclRule, ...] = ()
    egress: tuple[AclRule, ...] = ()


class ForwardPort(msgspec.Struct, frozen=True, kw_only=True):
    """Listening ports ("80,8000-8010") and where they go; no target port means the same one."""

    description: str = ""
    protocol: str = ""
    listen_port: str = ""
    target_port: str = ""
    target_address: str = ""


class NetworkForward(msgspec.Struct, frozen=True, kw_only=True):
    project: str
    network: str
    listen_address: str
    description: str = ""
    config: dict[str, str] = {}
    ports: tuple[ForwardPort, ...] = ()


class NetworkZone(msgspec.Struct, frozen=True, kw_only=True):
    """A DNS zone; what it holds is made of the networks that name it and of its records."""

    project: str
    name: str
    description: str = ""
    config: dict[str, str] = {}


class ZoneEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`ttl` in seconds, 0 for the default of 300."""

    type: str = ""
    ttl: int = 0
    value: str = ""


class ZoneRecord(msgspec.Struct, frozen=True, kw_only=True):
    project: str
    zone: str
    name: str
    description: str = ""
    config: dict[str, str] = {}
    entries: tuple[ZoneEntry, ...] = ()


NETWORK = Kind("network_network", Network, ("project", "name"))
NETWORK_ACL = Kind("network_acl", NetworkAcl, ("project", "name"))
NETWORK_FORWARD = Kind("network_forward", NetworkForward, ("project", "network", "listen_address"))
NETWORK_ZONE = Kind("network_zone", NetworkZone, ("project", "name"))
ZONE_RECORD = Kind("network_zone-record", ZoneRecord, ("project", "zone", "name"))
