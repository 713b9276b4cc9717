"""DNS zones: what clients may do to them, and what the DNS server serves of them."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import dns.name
import dns.tsig

from chassis import errors, listing, references
from chassis.calls import Call
from chassis.documents import check_if_match, document, empty, etag_of, read_body
from chassis.keys import Config
from chassis.references import in_project
from chassis.store import Change, Store, Versioned
from gen.nubibus.network.v1 import zone_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.network import NETWORK_ZONE, Network, NetworkZone
from services.network import leases, zone_contents, zone_rules
from services.network.bodies import Editable, patched, replaced
from services.network.dns_server import Peer, Zone
from services.network.drivers.bridge.keys import ZONES
from services.network.host import Host
from services.network.occurrences import told
from services.network.usage import Usage

Row = Versioned[NetworkZone]


class Body(Editable):
    """NetworkZonePut and NetworkZonesPost; what is not in the body is UNSET."""

    name: str = ""


class NetworkZones:
    """Zones of the projects that have networks of their own, and of the default project."""

    service: ClassVar[str] = "nubibus.network.v1.Zones"

    def __init__(self, store: Store, usage: Usage, member: str) -> None:
        self.store = store
        self.usage = usage
        self.member = member

    async def List(self, request: zone_pb2.ListZonesRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        project = self.usage.holder(request.project)
        zones = sorted((row.value for row in self.usage.zones.select(project)), key=lambda zone: zone.name)
        pieces = listing.pieces(zones, request, self._show, _url)
        async for chunk in listing.chunks(pieces, head=rest_pb2.Document(revision=self.store.revision)):
            yield chunk

    async def Get(self, request: zone_pb2.ZoneRequest, call: Call) -> rest_pb2.Document:
        row = one(self.usage, request.project, request.zone)
        return document(self._show(row.value), editable=editable(row.value), revision=row.revision)

    async def Create(self, request: zone_pb2.CreateZoneRequest, call: Call) -> rest_pb2.Document:
        project = self.usage.holder(request.project)
        body = read_body(request.body, Body)
        zone = NetworkZone(project=project, name=body.name, **body.given())
        if any(row.value.name == zone.name for row in self.usage.zones.select()):
            raise errors.BadRequest("The network zone already exists")
        _check(zone)
        change = Change().put(NETWORK_ZONE, zone, expect=0)
        revision = await self._tell(change, "network-zone-created", zone, call)
        return empty(location=_url(zone), revision=revision)

    async def Put(self, request: zone_pb2.PutZoneRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, replaced)

    async def Patch(self, request: zone_pb2.PutZoneRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, patched)

    async def _update(
        self, request: zone_pb2.PutZoneRequest, call: Call, merge: Callable[[NetworkZone, Body], NetworkZone]
    ) -> rest_pb2.Document:
        row = one(self.usage, request.project, request.zone)
        check_if_match(request.if_match, etag_of(editable(row.value)))
        wanted = merge(row.value, read_body(request.body, Body))
        _check(wanted)
        change = Change().put(NETWORK_ZONE, wanted, expect=row.revision)
        return empty(revision=await self._tell(change, "network-zone-updated", wanted, call))

    async def Delete(self, request: zone_pb2.ZoneRequest, call: Call) -> rest_pb2.Document:
        row = one(self.usage, request.project, request.zone)
        if self._users(row.value):
            raise errors.Internal("Cannot delete a zone that is in use")
        change = Change().delete(NETWORK_ZONE, row.key, expect=row.revision)
        for record in self.usage.records.select(*row.key):
            change.delete(self.usage.records.kind, record.key, expect=record.revision)
        return empty(revision=await self._tell(change, "network-zone-deleted", row.value, call))

    # Helpers of the above.

    async def _tell(self, change: Change, action: str, zone: NetworkZone, call: Call) -> int:
        change.event(told(action, _path(zone), zone.project, self.member, call))
        return await self.store.commit(change)

    def _users(self, zone: NetworkZone) -> list[str]:
        rows = self.usage.networks.select(zone.project)
        return sorted(in_project(f"/1.0/networks/{r.value.name}", zone.project) for r in rows if names(r.value, zone))

    def _show(self, zone: NetworkZone) -> dict[str, Any]:
        return {"name": zone.name, **editable(zone), "used_by": references.visible(self._users(zone))}


def names(network: Network, zone: NetworkZone) -> bool:
    """Whether the network says that it belongs into the zone."""
    return any(network.config.get(key.name) == zone.name for key in ZONES)


def one(usage: Usage, project: str, name: str) -> Row:
    row = usage.zones.get(usage.holder(project), name)
    if row is None:
        raise errors.NotFound("Network zone not found")
    return row


def _path(zone: NetworkZone) -> str:
    return f"/1.0/network-zones/{zone.name}"


def _url(zone: NetworkZone) -> str:
    return in_project(_path(zone), zone.project)


def editable(zone: NetworkZone) -> dict[str, Any]:
    return {"description": zone.description, "config": zone.config}


def _check(zone: NetworkZone) -> None:
    """Raises Internal: LXD answers 500 to a wrong zone."""
    try:
        zone_rules.check_zone_name(zone.name)
        zone_rules.SCHEMA.validate(zone.config)
        for key in Config(zone.config).each(zone_rules.PEER_KEY):
            base64.b64decode(key[1], validate=True)
    except binascii.Error:
        raise errors.Internal("Invalid value for config option: a peer's key is not base64") from None
    except (ValueError, errors.Fault) as fault:
        raise errors.Internal(fault.text if isinstance(fault, errors.Fault) else str(fault)) from None


class Served:
    """The zones as the DNS server asks for them."""

    def __init__(self, usage: Usage, host: Host, member: str) -> None:
        self.usage = usage
        self.host = host
        self.member = member

    def zones(self) -> Mapping[dns.name.Name, Zone]:
        return {
            zone_contents.origin_of(row.value): Zone(tuple(_peers(row.value)), partial(self.lines, row.value))
            for row in self.usage.zones.select()
        }

    async def lines(self, zone: NetworkZone) -> list[zone_contents.Line]:
        """SOA first."""
        members = [row.value for row in self.usage.networks.select(zone.project) if names(row.value, zone)]
        networks = [(network, await self._leases(network)) for network in members]
        records = [row.value for row in self.usage.records.select(zone.project, zone.name)]
        return [*zone_contents.head(zone, int(time.time())), *zone_contents.body(zone, networks, records)]

    async def _leases(self, network: Network) -> list[leases.Lease]:
        """Of every project; the network's own also sees what no instance is known for."""
        nics = list(self.usage.nics(network.project, network.name))
        entries = await self.host.run(leases.read, network.name)
        projects = {network.project, *(nic.project for nic in nics)}
        config = Config(network.config)
        return [
            lease
            for project in sorted(projects, key=lambda name: name != network.project)
            for lease in leases.of_network(
                network.name, config, nics, entries, project=project, home=network.project, location=self.member
            )
        ]


def _peers(zone: NetworkZone) -> list[Peer]:
    config = Config(zone.config)
    addresses = {parts[0]: str(address) for parts, address in config.each(zone_rules.PEER_ADDRESS)}
    secrets = {parts[0]: text for parts, text in config.each(zone_rules.PEER_KEY)}
    return [
        Peer(
            addresses.get(peer, ""),
            dns.tsig.Key(f"{zone.name}_{peer}.", secrets[peer], "hmac-sha256") if peer in secrets else None,
        )
        for peer in sorted(addresses.keys() | secrets.keys())
    ]
