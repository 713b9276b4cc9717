"""Volumes: what REST shows of them, and what other services ask of them (services/storage/placing.py does that)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import quote

from chassis import errors
from chassis.calls import Call
from chassis.documents import document, render, timestamp
from chassis.kinds import Versioned
from chassis.listing import chunks, parse_filter, urls
from chassis.store import Store
from gen.nubibus.rest.v1 import rest_pb2
from gen.nubibus.storage.v1 import volume_pb2
from rows.control import PROJECT
from rows.storage import Volume, VolumeSnapshot
from services.storage.drivers import VolumeName
from services.storage.drivers.volume import FOLDERS
from services.storage.parts import Parts
from services.storage.places import url_of
from services.storage.placing import Placing
from services.storage.reading import as_tar, read_metadata


def url(volume: Volume) -> str:
    path = f"/1.0/storage-pools/{quote(volume.pool)}/volumes/{volume.type}/{quote(volume.name)}"
    return path if volume.project == "default" else f"{path}?project={quote(volume.project)}"


def snapshot_url(row: VolumeSnapshot) -> str:
    volume = f"/1.0/storage-pools/{quote(row.pool)}/volumes/{row.type}/{quote(row.volume)}"
    path = f"{volume}/snapshots/{quote(row.name)}"
    return path if row.project == "default" else f"{path}?project={quote(row.project)}"


def _name(ref: volume_pb2.VolumeRef) -> VolumeName:
    return VolumeName.of(ref.type, ref.project or "default", ref.name)


class Volumes:
    service = "nubibus.storage.v1.Volumes"

    def __init__(self, store: Store, parts: Parts, placing: Placing) -> None:
        self.store = store
        self.parts = parts
        self.places = parts.places
        self.placing = placing
        self.projects = store.mirror(PROJECT)

    # What other services ask for.

    async def Ensure(self, request: volume_pb2.EnsureRequest, call: Call) -> volume_pb2.PlacedVolume:
        pool = request.volume.pool
        copy = None
        if request.WhichOneof("source") == "copy":
            copy = request.copy.pool or pool, _name(request.copy)
        path = await self.placing.ensure(
            pool,
            _name(request.volume),
            image=request.image,
            copy=copy,
            config=dict(request.config),
            description=request.description,
            content_type=request.content_type or "filesystem",
        )
        return volume_pb2.PlacedVolume(path=str(path), content_type=request.content_type or "filesystem")

    async def Mount(self, request: volume_pb2.VolumeRef, call: Call) -> volume_pb2.PlacedVolume:
        path = await self.placing.mount(request.pool, _name(request))
        row = self.places.volumes.get(request.pool, request.project or "default", request.type, request.name)
        return volume_pb2.PlacedVolume(path=str(path), content_type=row.value.content_type if row else "filesystem")

    async def Unmount(self, request: volume_pb2.VolumeRef, call: Call) -> rest_pb2.Empty:
        await self.placing.unmount(request.pool, _name(request))
        return rest_pb2.Empty()

    async def Remove(self, request: volume_pb2.VolumeRef, call: Call) -> rest_pb2.Empty:
        await self.placing.remove(request.pool, _name(request))
        return rest_pb2.Empty()

    async def Rename(self, request: volume_pb2.RenameRequest, call: Call) -> volume_pb2.PlacedVolume:
        old = _name(request.volume)
        target = VolumeName.of(old.type, request.new_project or old.project, request.new_name)
        path = await self.placing.rename(request.volume.pool, old, target)
        return volume_pb2.PlacedVolume(path=str(path))

    async def Usage(self, request: volume_pb2.VolumeRef, call: Call) -> volume_pb2.VolumeUsage:
        found = await self.placing.usage(request.pool, _name(request))
        if found is None:
            return volume_pb2.VolumeUsage(known=False)
        return volume_pb2.VolumeUsage(used=found.used, total=found.total, known=True)

    async def SetQuota(self, request: volume_pb2.QuotaRequest, call: Call) -> rest_pb2.Empty:
        await self.placing.set_quota(request.volume.pool, _name(request.volume), request.size)
        return rest_pb2.Empty()

    async def Snapshot(self, request: volume_pb2.SnapshotRequest, call: Call) -> rest_pb2.Empty:
        await self.placing.snapshot(request.volume.pool, _name(request.volume), request.name)
        return rest_pb2.Empty()

    async def Restore(self, request: volume_pb2.SnapshotRequest, call: Call) -> rest_pb2.Empty:
        await self.placing.restore(request.volume.pool, _name(request.volume), request.name)
        return rest_pb2.Empty()

    async def Read(self, request: volume_pb2.ReadRequest, call: Call) -> AsyncIterator[volume_pb2.ReadChunk]:
        ref = request.volume
        path = await self.placing.mount(ref.pool or self._pool_of(ref), _name(ref))
        metadata = await asyncio.to_thread(read_metadata, path)
        yield volume_pb2.ReadChunk(metadata=metadata)
        async for piece in as_tar(path):
            yield volume_pb2.ReadChunk(data=piece)

    def _pool_of(self, ref: volume_pb2.VolumeRef) -> str:
        """Where the volume of an instance lies; its name is taken once in a project."""
        name = _name(ref)
        for row in self.places.volumes.select():
            if (row.value.project, row.value.type, row.value.name) == (name.project, name.type, name.name):
                return row.value.pool
        raise errors.NotFound("Storage pool volume not found")

    # What REST shows.

    def effective_project(self, project: str, type_: str) -> str:
        """Where a project's volumes of a type are: custom ones may belong to the default project."""
        project = project or "default"
        row = self.projects.get(project)
        if row is None and project != "default":
            raise errors.NotFound("Project not found")
        if type_ == "image":
            return "default"
        if type_ != "custom" or project == "default" or row is None:
            return project
        return project if row.value.config.get("features.storage.volumes", "true") == "true" else "default"

    def document(self, row: Volume) -> dict[str, Any]:
        return {
            "config": dict(sorted(row.config.items())),
            "description": row.description,
            "name": row.name,
            "type": row.type,
            "used_by": self.used_by(row),
            "location": row.member,
            "content_type": row.content_type,
            "project": row.project,
            "created_at": timestamp(row.created_at),
        }

    def snapshot_document(self, row: VolumeSnapshot, volume: Volume) -> dict[str, Any]:
        return {
            **self.document(volume),
            "config": dict(sorted(row.config.items())),
            "description": row.description,
            "name": f"{row.volume}/{row.name}",
            "created_at": timestamp(row.created_at),
        }

    def used_by(self, row: Volume) -> list[str]:
        return [] if row.type == "custom" else [url_of(row)]

    @staticmethod
    def editable(row: Volume) -> list[Any]:
        return [row.name, row.type, row.config, row.description]

    def one(self, request: volume_pb2.VolumeRequest) -> Versioned[Volume]:
        self.places.one(request.pool)
        if request.type not in FOLDERS:
            raise errors.BadRequest("Invalid storage volume type name")
        project = self.effective_project(request.project, request.type)
        row = self.places.volumes.get(request.pool, project, request.type, request.name)
        if row is None:
            raise errors.NotFound("Storage pool volume not found")
        return row

    async def Get(self, request: volume_pb2.VolumeRequest, call: Call) -> rest_pb2.Document:
        row = self.one(request)
        return document(self.document(row.value), editable=self.editable(row.value), revision=self.store.revision)

    async def State(self, request: volume_pb2.VolumeRequest, call: Call) -> rest_pb2.Document:
        if request.type == "image":
            raise errors.BadRequest("Invalid storage volume type")
        row = self.one(request).value
        found = await self.placing.usage(row.pool, VolumeName.of(row.type, row.project, row.name))
        if found is None:
            raise errors.Internal("Not supported")
        used = {"used": found.used} if found.used else {}
        return document({"usage": {**used, "total": found.total}})

    async def ListAll(self, request: volume_pb2.ListVolumesRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        async for chunk in self._list(request, tuple(FOLDERS)):
            yield chunk

    async def List(self, request: volume_pb2.ListVolumesRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        if request.type not in FOLDERS:
            raise errors.BadRequest("Invalid storage volume type name")
        async for chunk in self._list(request, (request.type,)):
            yield chunk

    async def _list(
        self, request: volume_pb2.ListVolumesRequest, types: tuple[str, ...]
    ) -> AsyncIterator[rest_pb2.Chunk]:
        self.places.one(request.pool)
        wanted = parse_filter(request.filter)
        found = [row.value for type_ in types for row in self._of_type(request, type_)]
        found.sort(key=lambda row: (row.type, row.project, row.name))
        shown = [entry for row in found for entry in self._entries(row) if not wanted or wanted.matches(entry[1])]
        pieces = (render(entry) for _, entry in shown) if request.recursion else urls(path for path, _ in shown)
        async for chunk in chunks(pieces, head=rest_pb2.Document(revision=self.store.revision)):
            yield chunk

    def _of_type(self, request: volume_pb2.ListVolumesRequest, type_: str) -> Iterable[Versioned[Volume]]:
        if request.all_projects:
            return (row for row in self.places.volumes_in(request.pool) if row.value.type == type_)
        return self.places.volumes.select(request.pool, self.effective_project(request.project, type_), type_)

    def _entries(self, row: Volume) -> list[tuple[str, dict[str, Any]]]:
        """A volume and its snapshots, as (URL, document)."""
        snapshots = self.places.snapshots.select(row.pool, row.project, row.type, row.name)
        ordered = [snapshot.value for snapshot in sorted(snapshots, key=lambda s: s.value.created_at)]
        shown = [(snapshot_url(snapshot), self.snapshot_document(snapshot, row)) for snapshot in ordered]
        return [(url(row), self.document(row)), *shown]
