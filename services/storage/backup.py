"""Backups of custom volumes over REST."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from email.utils import formatdate
from functools import partial
from typing import Any, ClassVar

import msgspec

from chassis import compression, errors
from chassis.calls import Call
from chassis.change import Change
from chassis.documents import document, read_body, timestamp
from chassis.events import lifecycle
from chassis.key_types import quote
from chassis.kinds import Versioned
from chassis.listing import chunks, pieces
from chassis.operations import requestor_of
from chassis.store import Store
from gen.nubibus.rest.v1 import rest_pb2
from gen.nubibus.storage.v1 import volume_pb2
from rows.storage import Volume, VolumeBackup
from services.storage import custom
from services.storage.backup_archive import Index, read_index
from services.storage.drivers import VolumeName
from services.storage.parts import Parts
from services.storage.running import Running
from services.storage.sagas import backup as sagas
from services.storage.urls import backup_url


class BackupsPost(msgspec.Struct):
    name: str = ""
    expires_at: datetime | None = None
    volume_only: bool = False
    optimized_storage: bool = False
    compression_algorithm: str = ""


class BackupPost(msgspec.Struct):
    name: str = ""


def _shown(row: VolumeBackup) -> dict[str, Any]:
    return {
        "name": row.name,
        "created_at": timestamp(row.created_at),
        "expires_at": timestamp(row.expires_at),
        "volume_only": row.volume_only,
        "optimized_storage": row.optimized,
    }


def _url(row: VolumeBackup) -> str:
    return backup_url(row.pool, row.volume, row.name, row.project)


def refuse_name(name: str) -> None:
    if not name or "/" in name:
        raise errors.BadRequest("Backup names may not contain slashes")
    if name.startswith(".") or "\0" in name or len(name) > 200:
        raise errors.BadRequest(f"Invalid backup name {quote(name[:40])}")


class Backups:
    service: ClassVar[str] = "nubibus.storage.v1.Backups"

    def __init__(self, store: Store, parts: Parts, running: Running, volumes: Any) -> None:
        self.store = store
        self.parts = parts
        self.running = running
        self.volumes = volumes

    def _volume(self, request: Any) -> Volume:
        if request.type != "custom":
            raise errors.BadRequest(f"Invalid storage volume type {quote(request.type)}")
        found: Versioned[Volume] = self.volumes.one(request.pool, request.project, request.type, request.volume)
        return found.value

    def _of(self, volume: Volume) -> list[VolumeBackup]:
        rows = self.parts.backup_rows.select(volume.pool, volume.project, volume.name)
        return sorted((row.value for row in rows), key=lambda row: row.created_at)

    def _one(self, request: volume_pb2.BackupRequest) -> VolumeBackup:
        volume = self._volume(request)
        row = self.parts.backup_rows.get(volume.pool, volume.project, volume.name, request.name)
        if row is None:
            raise errors.NotFound("Storage volume backup not found")
        return row.value

    async def List(self, request: volume_pb2.ListBackupsRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        found = pieces(self._of(self._volume(request)), request, _shown, _url)
        async for chunk in chunks(found, head=rest_pb2.Document(revision=self.store.revision)):
            yield chunk

    async def Get(self, request: volume_pb2.BackupRequest, call: Call) -> rest_pb2.Document:
        return document(_shown(self._one(request)), revision=self.store.revision)

    async def Create(self, request: volume_pb2.BackupRequest, call: Call) -> rest_pb2.Answer:
        body: BackupsPost = read_body(request.body, BackupsPost)
        volume = self._volume(request)
        self.parts.holders.refuse(volume.project, "backup")
        names = {row.name for row in self._of(volume)}
        name = body.name or custom.next_snapshot_name(names, "backup%d")
        refuse_name(name)
        default = self.parts.compression(volume.project)
        algorithm = compression.parse(body.compression_algorithm or default)
        compression.refuse_missing(algorithm)
        if name in names:
            raise errors.Conflict(f"Backup {quote(name)} already exists")
        args = {
            **_spot(volume),
            "name": name,
            "expires_at": body.expires_at.isoformat() if body.expires_at and body.expires_at.year > 1 else "",
            "volume_only": body.volume_only,
            "algorithm": list(algorithm),
        }
        resources = {"backups": [f"/1.0/backups/{name}"], "storage_volumes": [f"/1.0/storage_volumes/{volume.name}"]}
        return await self._accept(sagas.CREATE, volume, args, resources)

    async def Rename(self, request: volume_pb2.BackupRequest, call: Call) -> rest_pb2.Answer:
        body: BackupPost = read_body(request.body, BackupPost)
        refuse_name(body.name)
        row, volume = self._one(request), self._volume(request)
        if self.parts.backup_rows.get(row.pool, row.project, row.volume, body.name) is not None:
            raise errors.Conflict(f"Backup {quote(body.name)} already exists")
        args = {**_spot(volume), "name": row.name, "new_name": body.name}
        return await self._accept(sagas.RENAME, volume, args, {"volume": [f"/1.0/volume/{volume.name}"]})

    async def Delete(self, request: volume_pb2.BackupRequest, call: Call) -> rest_pb2.Answer:
        row, volume = self._one(request), self._volume(request)
        args = {**_spot(volume), "name": row.name}
        return await self._accept(sagas.DELETE, volume, args, {"volume": [f"/1.0/volume/{volume.name}"]})

    async def _accept(
        self, verb: Any, volume: Volume, args: dict[str, Any], resources: dict[str, list[str]]
    ) -> rest_pb2.Answer:
        lock = custom.lock_of(volume.pool, custom.name_of(volume))
        return await self.running.accepted(verb, args, volume.project, lock, resources=resources)

    async def Export(self, request: volume_pb2.BackupRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        row, volume = self._one(request), self._volume(request)
        path = self.parts.backups.path(row.pool, custom.name_of(volume), row.name)
        if not path.exists():
            raise errors.NotFound("Storage volume backup not found")
        event = lifecycle("storage-volume-backup-retrieved", _url(row), project=row.project, requestor=requestor_of())
        await self.store.commit(Change().event(event))
        found = path.stat()
        headers = {
            "content-type": "application/octet-stream",
            "content-disposition": "inline;filename=",
            "content-length": str(found.st_size),
            "last-modified": formatdate(found.st_mtime, usegmt=True),
        }
        yield rest_pb2.Chunk(head=rest_pb2.Document(raw=True, headers=headers))
        async for piece in self.parts.backups.read(path):
            yield rest_pb2.Chunk(data=piece)

    async def restore(self, pool: str, project: str, name: str, body: AsyncIterator[bytes]) -> rest_pb2.Answer:
        """A volume out of an uploaded archive; `name` "" takes the name that stands in it."""
        token = uuid.uuid4().hex
        file = await self.parts.backups.receive(token, body)
        try:
            index = await asyncio.to_thread(read_index, file)
            target = VolumeName("custom", project, _checked(name or index.name))
            args = {"token": token, **_restored_args(index, pool, target)}
            for config in (args["config"], *(snapshot["config"] for snapshot in args["snapshots"])):
                custom.validate(self.parts.places.one(pool).value, target, config)
            await self.volumes.refuse_taken(pool, target)
            self.parts.room.check(project, custom.CREATION, volumes={(pool, target.name): args["config"]})
            resources = {"storage_volumes": [f"/1.0/storage_volumes/{target.name}"]}
            lock = custom.lock_of(pool, target)
            free = partial(self.volumes.refuse_known, pool, target)
            return await self.running.accepted(sagas.RESTORE, args, project, lock, resources=resources, condition=free)
        except BaseException:
            file.unlink(missing_ok=True)
            raise


def _spot(volume: Volume) -> dict[str, Any]:
    return {"pool": volume.pool, "project": volume.project, "volume": volume.name}


def _checked(name: str) -> str:
    custom.refuse_name(name)
    return name


def _own_keys(config: dict[str, str] | None) -> dict[str, str]:
    """Without what another server kept for itself."""
    return {key: text for key, text in (config or {}).items() if not key.startswith("volatile.")}


def _restored_args(index: Index, pool: str, target: VolumeName) -> dict[str, Any]:
    assert index.config is not None
    assert index.config.volume is not None
    volume = index.config.volume
    known = {snapshot.name: snapshot for snapshot in index.config.volume_snapshots or []}
    snapshots = []
    for name in index.snapshots or []:
        custom.refuse_snapshot_name(name)
        found = known.get(name)
        expires = found.expires_at if found and isinstance(found.expires_at, datetime) else None
        snapshots.append(
            {
                "name": name,
                "description": found.description if found else "",
                "config": _own_keys(found.config if found else None),
                "expires_at": expires.isoformat() if expires and expires.year > 1 else "",
            }
        )
    return {
        "pool": pool,
        "project": target.project,
        "volume": target.name,
        "content_type": custom.content_type_of(volume.content_type),
        "config": _own_keys(volume.config),
        "description": volume.description,
        "snapshots": snapshots,
    }
