"""Snapshots of custom volumes over REST."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, ClassVar

import msgspec

from chassis import errors
from chassis.calls import Call
from chassis.change import Change
from chassis.documents import check_if_match, document, empty, etag_of, read_body, timestamp
from chassis.events import lifecycle
from chassis.key_types import quote
from chassis.kinds import Versioned
from chassis.listing import chunks, pieces
from chassis.operations import requestor_of
from chassis.store import Store
from gen.nubibus.rest.v1 import rest_pb2
from gen.nubibus.storage.v1 import volume_pb2
from rows.storage import VOLUME_SNAPSHOT, Volume, VolumeSnapshot
from services.storage import custom
from services.storage.documents import snapshot_document
from services.storage.places import Places
from services.storage.sagas import snapshot as sagas
from services.storage.urls import snapshot_url
from services.storage.volume import Volumes


def editable(row: VolumeSnapshot) -> list[Any]:
    return [row.name, row.description, timestamp(row.expires_at)]


def url(row: VolumeSnapshot) -> str:
    return snapshot_url(row.pool, row.type, row.volume, row.name, row.project)


class Snapshots:
    service: ClassVar[str] = "nubibus.storage.v1.Snapshots"

    def __init__(self, store: Store, volumes: Volumes) -> None:
        self.store = store
        self.volumes = volumes
        self.places: Places = volumes.places
        self.running = volumes.running

    def _volume(self, request: Any) -> Volume:
        if request.type != "custom":
            raise errors.BadRequest(f"Invalid storage volume type {quote(request.type)}")
        return self.volumes.one(request.pool, request.project, request.type, request.volume).value

    def _of(self, volume: Volume) -> list[VolumeSnapshot]:
        found = self.places.snapshots.select(volume.pool, volume.project, volume.type, volume.name)
        return [row.value for row in sorted(found, key=lambda row: row.value.created_at)]

    def _one(self, request: volume_pb2.VolumeSnapshotRequest) -> Versioned[VolumeSnapshot]:
        volume = self._volume(request)
        row = self.places.snapshots.get(volume.pool, volume.project, volume.type, volume.name, request.name)
        if row is None:
            raise errors.NotFound("Storage pool volume not found")
        return row

    async def List(self, request: volume_pb2.ListSnapshotsRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        rows = self._of(self._volume(request))
        found = pieces(rows, request, lambda row: snapshot_document(row, f"{row.volume}/{row.name}"), url)
        async for chunk in chunks(found, head=rest_pb2.Document(revision=self.store.revision)):
            yield chunk

    async def Get(self, request: volume_pb2.VolumeSnapshotRequest, call: Call) -> rest_pb2.Document:
        row = self._one(request).value
        return document(snapshot_document(row, row.name), editable=editable(row), revision=self.store.revision)

    async def Create(self, request: volume_pb2.VolumeSnapshotRequest, call: Call) -> rest_pb2.Answer:
        body: custom.SnapshotsPost = read_body(request.body, custom.SnapshotsPost)
        volume = self._volume(request)
        self.volumes.holders.refuse(volume.project, "snapshot")
        names = {row.name for row in self._of(volume)}
        name = body.name or custom.next_snapshot_name(names)
        custom.refuse_snapshot_name(name)
        if name in names or await self.places.driver(volume.pool).exists(custom.name_of(volume).at(name)):
            raise errors.Conflict(f"Snapshot {quote(name)} already in use")
        return await self._snapshot(volume, name, body.description, body.expires_at or custom.expiry_of(volume.config))

    async def _snapshot(self, volume: Volume, name: str, description: str, expires: datetime | None) -> rest_pb2.Answer:
        args = custom.snapshot_args(volume, name, description, expires)
        lock = custom.lock_of(volume.pool, custom.name_of(volume))
        resources = {"storage_volumes": [f"/1.0/storage_volumes/{volume.name}"]}
        return await self.running.accepted(sagas.CREATE, args, volume.project, lock, resources=resources)

    async def Put(self, request: volume_pb2.VolumeSnapshotRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, merge=False)

    async def Patch(self, request: volume_pb2.VolumeSnapshotRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, merge=True)

    async def _update(self, request: volume_pb2.VolumeSnapshotRequest, *, merge: bool) -> rest_pb2.Document:
        row = self._one(request)
        check_if_match(request.if_match, etag_of(editable(row.value)))
        body: custom.SnapshotPut = read_body(request.body, custom.SnapshotPut)
        kept = row.value if merge else msgspec.structs.replace(row.value, description="", expires_at=None)
        changed = msgspec.structs.replace(
            kept,
            description=body.description if isinstance(body.description, str) else kept.description,
            expires_at=kept.expires_at if body.expires_at is msgspec.UNSET else _moment(body.expires_at),
        )
        change = Change().put(VOLUME_SNAPSHOT, changed, expect=row.revision)
        action = "storage-volume-snapshot-updated"
        event = lifecycle(action, url(changed), project=changed.project, requestor=requestor_of())
        return empty(revision=await self.store.commit(change.event(event)))

    async def Rename(self, request: volume_pb2.VolumeSnapshotRequest, call: Call) -> rest_pb2.Answer:
        body: custom.VolumePost = read_body(request.body, custom.VolumePost)
        custom.refuse_snapshot_name(body.name)
        row = self._one(request).value
        if self.places.snapshots.get(row.pool, row.project, row.type, row.volume, body.name) is not None:
            raise errors.Conflict(f"Snapshot {quote(body.name)} already in use")
        return await self._act(sagas.RENAME, row, new_name=body.name)

    async def Delete(self, request: volume_pb2.VolumeSnapshotRequest, call: Call) -> rest_pb2.Answer:
        return await self._act(sagas.DELETE, self._one(request).value)

    async def _act(self, verb: Any, row: VolumeSnapshot, **more: str) -> rest_pb2.Answer:
        args = {"pool": row.pool, "project": row.project, "volume": row.volume, "name": row.name, **more}
        volume = self.places.volumes.one(row.pool, row.project, row.type, row.volume).value
        lock = custom.lock_of(row.pool, custom.name_of(volume))
        resources = {"storage_volume_snapshots": [f"/1.0/storage_volume_snapshots/{row.volume}"]}
        return await self.running.accepted(verb, args, row.project, lock, resources=resources)


def _moment(found: Any) -> datetime | None:
    """None, and Go's zero time, mean never."""
    return found if isinstance(found, datetime) and found.year > 1 else None
