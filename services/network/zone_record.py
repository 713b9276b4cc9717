"""Records that are added to a DNS zone by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import msgspec

from chassis import errors, listing
from chassis.calls import Call
from chassis.documents import check_if_match, document, empty, etag_of, read_body
from chassis.references import in_project
from chassis.store import Change, Store, Versioned
from gen.nubibus.network.v1 import zone_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.network import ZONE_RECORD, ZoneEntry, ZoneRecord
from services.network import zone_rules
from services.network.bodies import Editable, patched, replaced
from services.network.occurrences import told
from services.network.usage import Usage
from services.network.zone import one

Row = Versioned[ZoneRecord]


class Body(Editable):
    """NetworkZoneRecordPut and NetworkZoneRecordsPost; what is not in the body is UNSET."""

    name: str = ""
    entries: tuple[ZoneEntry, ...] | msgspec.UnsetType | None = msgspec.UNSET


class ZoneRecords:
    """Names are unique within their zone."""

    service: ClassVar[str] = "nubibus.network.v1.ZoneRecords"

    def __init__(self, store: Store, usage: Usage, member: str) -> None:
        self.store = store
        self.usage = usage
        self.member = member

    async def List(self, request: zone_pb2.ListRecordsRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        zone = one(self.usage, request.project, request.zone).value
        rows = self.usage.records.select(zone.project, zone.name)
        records = sorted((row.value for row in rows), key=lambda record: record.name)
        pieces = listing.pieces(records, request, _show, _url)
        async for chunk in listing.chunks(pieces, head=rest_pb2.Document(revision=self.store.revision)):
            yield chunk

    async def Get(self, request: zone_pb2.RecordRequest, call: Call) -> rest_pb2.Document:
        row = self._one(request.project, request.zone, request.name)
        return document(_show(row.value), editable=editable(row.value), revision=row.revision)

    async def Create(self, request: zone_pb2.CreateRecordRequest, call: Call) -> rest_pb2.Document:
        zone = one(self.usage, request.project, request.zone).value
        body = read_body(request.body, Body)
        record = ZoneRecord(project=zone.project, zone=zone.name, name=body.name, **body.given())
        _check(record)
        change = Change().put(ZONE_RECORD, record, expect=0)
        try:
            revision = await self._tell(change, "network-zone-record-created", record, call)
        except errors.Conflict:
            raise errors.Conflict("The network zone record already exists") from None
        return empty(location=_url(record), revision=revision)

    async def Put(self, request: zone_pb2.PutRecordRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, replaced)

    async def Patch(self, request: zone_pb2.PutRecordRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, patched)

    async def _update(
        self, request: zone_pb2.PutRecordRequest, call: Call, merge: Callable[[ZoneRecord, Body], ZoneRecord]
    ) -> rest_pb2.Document:
        row = self._one(request.project, request.zone, request.name)
        check_if_match(request.if_match, etag_of(editable(row.value)))
        wanted = merge(row.value, read_body(request.body, Body))
        _check(wanted)
        change = Change().put(ZONE_RECORD, wanted, expect=row.revision)
        return empty(revision=await self._tell(change, "network-zone-record-updated", wanted, call))

    async def Delete(self, request: zone_pb2.RecordRequest, call: Call) -> rest_pb2.Document:
        row = self._one(request.project, request.zone, request.name)
        change = Change().delete(ZONE_RECORD, row.key, expect=row.revision)
        return empty(revision=await self._tell(change, "network-zone-record-deleted", row.value, call))

    # Helpers of the above.

    def _one(self, project: str, zone: str, name: str) -> Row:
        holder = one(self.usage, project, zone).value
        row = self.usage.records.get(holder.project, holder.name, name)
        if row is None:
            raise errors.NotFound("Network zone record not found")
        return row

    async def _tell(self, change: Change, action: str, record: ZoneRecord, call: Call) -> int:
        change.event(told(action, _path(record), record.project, self.member, call))
        return await self.store.commit(change)


def editable(record: ZoneRecord) -> dict[str, Any]:
    return {"description": record.description, "config": record.config, "entries": record.entries}


def _show(record: ZoneRecord) -> dict[str, Any]:
    return {"name": record.name, **editable(record)}


def _path(record: ZoneRecord) -> str:
    return f"/1.0/network-zones/{record.zone}/records/{record.name}"


def _url(record: ZoneRecord) -> str:
    return in_project(_path(record), record.project)


def _check(record: ZoneRecord) -> None:
    """Raises Internal: LXD answers 500 to a wrong record."""
    try:
        zone_rules.check_record(record)
    except ValueError as reason:
        raise errors.Internal(str(reason)) from None
