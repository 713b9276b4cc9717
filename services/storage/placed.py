"""What other services ask of volumes, as methods of the contract. services/storage/placing.py does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

from chassis import errors
from chassis.calls import Call
from chassis.keys import Config
from chassis.store import Store
from gen.nubibus.rest.v1 import rest_pb2
from gen.nubibus.storage.v1 import volume_pb2
from services.storage.drivers import VolumeName
from services.storage.drivers.keys import SECURITY_UNMAPPED
from services.storage.parts import Parts
from services.storage.placing import Placing
from services.storage.reading import as_tar, read_metadata


class PlacedVolumes:
    """The part of the servicer that has no REST face."""

    service: ClassVar[str] = "nubibus.storage.v1.Volumes"

    def __init__(self, store: Store, parts: Parts, placing: Placing) -> None:
        self.store = store
        self.parts = parts
        self.places = parts.places
        self.placing = placing
        self.holders = parts.holders

    def _name(self, ref: volume_pb2.VolumeRef) -> VolumeName:
        """A custom volume is named with the project that asks; it may be the default project that holds it."""
        project = ref.project or "default"
        if ref.type == "custom":
            project = self.holders.volumes_project(project)
        return VolumeName.of(ref.type, project, ref.name)

    async def Ensure(self, request: volume_pb2.EnsureRequest, call: Call) -> volume_pb2.PlacedVolume:
        pool = request.volume.pool
        copy = None
        if request.WhichOneof("source") == "copy":
            copy = request.copy.pool or pool, self._name(request.copy)
        path = await self.placing.ensure(
            pool,
            self._name(request.volume),
            image=request.image,
            copy=copy,
            config=dict(request.config),
            description=request.description,
            content_type=request.content_type or "filesystem",
        )
        return volume_pb2.PlacedVolume(path=str(path), content_type=request.content_type or "filesystem")

    async def Mount(self, request: volume_pb2.VolumeRef, call: Call) -> volume_pb2.PlacedVolume:
        volume = self._name(request)
        path = await self.placing.mount(request.pool, volume)
        row = self.places.volumes.get(request.pool, volume.project, volume.type, volume.name)
        if row is None:
            return volume_pb2.PlacedVolume(path=str(path), content_type="filesystem")
        unmapped = Config(row.value.config)[SECURITY_UNMAPPED]
        return volume_pb2.PlacedVolume(path=str(path), content_type=row.value.content_type, unmapped=unmapped)

    async def Unmount(self, request: volume_pb2.VolumeRef, call: Call) -> rest_pb2.Empty:
        await self.placing.unmount(request.pool, self._name(request))
        return rest_pb2.Empty()

    async def Remove(self, request: volume_pb2.VolumeRef, call: Call) -> rest_pb2.Empty:
        await self.placing.remove(request.pool, self._name(request))
        return rest_pb2.Empty()

    async def Rename(self, request: volume_pb2.RenameRequest, call: Call) -> volume_pb2.PlacedVolume:
        old = self._name(request.volume)
        target = VolumeName.of(old.type, request.new_project or old.project, request.new_name)
        path = await self.placing.rename(request.volume.pool, old, target)
        return volume_pb2.PlacedVolume(path=str(path))

    async def Usage(self, request: volume_pb2.VolumeRef, call: Call) -> volume_pb2.VolumeUsage:
        found = await self.placing.usage(request.pool, self._name(request))
        if found is None:
            return volume_pb2.VolumeUsage(known=False)
        return volume_pb2.VolumeUsage(used=found.used, total=found.total, known=True)

    async def SetQuota(self, request: volume_pb2.QuotaRequest, call: Call) -> rest_pb2.Empty:
        await self.placing.set_quota(request.volume.pool, self._name(request.volume), request.size)
        return rest_pb2.Empty()

    async def Snapshot(self, request: volume_pb2.SnapshotRequest, call: Call) -> rest_pb2.Empty:
        await self.placing.snapshot(request.volume.pool, self._name(request.volume), request.name)
        return rest_pb2.Empty()

    async def Restore(self, request: volume_pb2.SnapshotRequest, call: Call) -> rest_pb2.Empty:
        await self.placing.restore(request.volume.pool, self._name(request.volume), request.name)
        return rest_pb2.Empty()

    async def Read(self, request: volume_pb2.ReadRequest, call: Call) -> AsyncIterator[volume_pb2.ReadChunk]:
        ref = request.volume
        path = await self.placing.mount(ref.pool or self._pool_of(ref), self._name(ref))
        metadata = await asyncio.to_thread(read_metadata, path)
        yield volume_pb2.ReadChunk(metadata=metadata)
        async for piece in as_tar(path):
            yield volume_pb2.ReadChunk(data=piece)

    def _pool_of(self, ref: volume_pb2.VolumeRef) -> str:
        """Where the volume of an instance lies; its name is taken once in a project."""
        name = self._name(ref)
        for row in self.places.volumes.select():
            if (row.value.project, row.value.type, row.value.name) == (name.project, name.type, name.name):
                return row.value.pool
        raise errors.NotFound("Storage pool volume not found")
