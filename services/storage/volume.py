"""Volumes over REST: what is shown of all, and what may be done to custom ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any, ClassVar

import msgspec

from chassis import errors, references
from chassis.calls import Call, current
from chassis.change import Change
from chassis.documents import answer, check_if_match, document, empty, etag_of, read_body, render, timestamp
from chassis.events import lifecycle
from chassis.key_types import quote
from chassis.kinds import Versioned
from chassis.listing import chunks, parse_filter, refuse_both, urls
from chassis.operations import requestor_of
from chassis.saga import Saga
from chassis.sagas import Sagas
from chassis.store import Store
from gen.nubibus.rest.v1 import rest_pb2
from gen.nubibus.storage.v1 import volume_pb2
from rows.storage import VOLUME, Volume, VolumeSnapshot
from services.storage import custom
from services.storage.backup import Backups
from services.storage.content import resize_content
from services.storage.documents import volume_document
from services.storage.drivers import VolumeName
from services.storage.drivers.volume import FOLDERS
from services.storage.parts import Parts
from services.storage.placed import PlacedVolumes
from services.storage.places import url_of
from services.storage.placing import Placing
from services.storage.running import Running
from services.storage.sagas import snapshot as snapshot_sagas
from services.storage.sagas import volume as sagas
from services.storage.urls import snapshot_url, volume_url


def url(row: Volume) -> str:
    return volume_url(row.pool, row.type, row.name, row.project)


def editable(row: Volume) -> list[Any]:
    return [row.name, row.type, row.config, row.description]


class Volumes(PlacedVolumes):
    service: ClassVar[str] = "nubibus.storage.v1.Volumes"

    def __init__(self, store: Store, parts: Parts, placing: Placing, verbs: Sagas) -> None:
        super().__init__(store, parts, placing)
        self.running = Running(verbs, store)
        self.backups = Backups(store, parts, self.running, self)

    # What is shown.

    def project_of(self, project: str, type_: str) -> str:
        """Where a project's volumes of a type are: custom ones may belong to the default project."""
        project = project or "default"
        if project != "default" and self.holders.projects.get(project) is None:
            raise errors.NotFound("Project not found")
        if type_ == "image":
            return "default"
        return self.holders.volumes_project(project) if type_ == "custom" else project

    def document(self, row: Volume) -> dict[str, Any]:
        return volume_document(
            row, references.visible(self.holders.used_by(row)) if row.type == "custom" else [url_of(row)]
        )

    def snapshot_document(self, row: VolumeSnapshot, volume: Volume) -> dict[str, Any]:
        """A snapshot as an entry of the list of volumes."""
        return {
            **self.document(volume),
            "config": dict(sorted(row.config.items())),
            "description": row.description,
            "name": f"{row.volume}/{row.name}",
            "created_at": timestamp(row.created_at),
        }

    def one(self, pool: str, project: str, type_: str, name: str) -> Versioned[Volume]:
        self.places.one(pool)
        if type_ not in FOLDERS:
            raise errors.BadRequest("Invalid storage volume type name")
        row = self.places.volumes.get(pool, self.project_of(project, type_), type_, name)
        if row is None:
            raise errors.NotFound("Storage pool volume not found")
        return row

    async def Get(self, request: volume_pb2.VolumeRequest, call: Call) -> rest_pb2.Document:
        row = self.one(request.pool, request.project, request.type, request.name).value
        return document(self.document(row), editable=editable(row), revision=self.store.revision)

    async def State(self, request: volume_pb2.VolumeRequest, call: Call) -> rest_pb2.Document:
        if request.type == "image":
            raise errors.BadRequest('Invalid storage volume type "image"')
        row = self.one(request.pool, request.project, request.type, request.name).value
        found = await self.placing.usage(row.pool, custom.name_of(row))
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
        refuse_both(request.project, everywhere=request.all_projects)
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
            caller = current().caller
            everywhere = self.places.volumes_in(request.pool)
            return (row for row in everywhere if row.value.type == type_ and caller.may_see(row.value.project))
        return self.places.volumes.select(request.pool, self.project_of(request.project, type_), type_)

    def _entries(self, row: Volume) -> list[tuple[str, dict[str, Any]]]:
        """A volume and its snapshots, as (URL, document)."""
        snapshots = self.places.snapshots.select(row.pool, row.project, row.type, row.name)
        ordered = [found.value for found in sorted(snapshots, key=lambda s: s.value.created_at)]
        shown = [
            (snapshot_url(s.pool, s.type, s.volume, s.name, s.project), self.snapshot_document(s, row)) for s in ordered
        ]
        return [(url(row), self.document(row)), *shown]

    # Making and copying.

    async def CreateAny(self, request: volume_pb2.CreateVolumeRequest, call: Call) -> rest_pb2.Answer:
        body: custom.VolumesPost = read_body(request.body, custom.VolumesPost)
        return await self._create(request, body, body.type)

    async def Create(self, frames: AsyncIterator[volume_pb2.CreateVolumeFrame], call: Call) -> rest_pb2.Answer:
        request = (await anext(aiter(frames))).request
        if request.content_type.partition(";")[0].strip().lower() == "application/octet-stream":
            custom.refuse_type(request.type)
            self.places.one(request.pool)
            project = self.project_of(request.project, "custom")
            data = (frame.data async for frame in frames)
            return await self.backups.restore(request.pool, project, request.headers.get("x-lxd-name", ""), data)
        body: custom.VolumesPost = read_body(request.body, custom.VolumesPost)
        return await self._create(request, body, request.type)

    async def _create(
        self, request: volume_pb2.CreateVolumeRequest, body: custom.VolumesPost, type_: str
    ) -> rest_pb2.Answer:
        custom.refuse_name(body.name)
        custom.refuse_type(type_)
        content_type = custom.content_type_of(body.content_type)
        self.places.one(request.pool)
        target = VolumeName("custom", self.project_of(request.project, "custom"), body.name)
        source = body.source or custom.VolumeSource()
        if source.type == "copy":
            return await self._copy(request, body, source, target)
        if source.type not in ("", "none"):
            if source.type == "migration":
                raise errors.NotImplementedHere("Copying volumes between servers is not supported yet")
            raise errors.BadRequest(f"Unknown source type {quote(source.type)}")
        await self.refuse_taken(request.pool, target)
        pool = self.places.one(request.pool).value
        config = custom.completed(pool, content_type, body.config or {})
        custom.validate(pool, target, config)
        self.parts.room.check(target.project, custom.CREATION, volumes={(request.pool, target.name): config})
        args = {
            "target": sagas.spot(request.pool, target),
            "content_type": content_type,
            "config": config,
            "description": body.description,
        }
        lock = custom.lock_of(request.pool, target)
        free = partial(self.refuse_known, request.pool, target)
        revision = await self.running.to_the_end(sagas.CREATE, args, target.project, lock, condition=free)
        return answer(rest_pb2.Document(json=b"{}", revision=revision))

    async def refuse_taken(self, pool: str, volume: VolumeName) -> None:
        self.refuse_known(pool, volume)
        if await self.places.driver(pool).exists(volume):
            raise errors.Conflict("Volume by that name already exists")

    def refuse_known(self, pool: str, volume: VolumeName) -> None:
        """By its row alone. Under the lock of the name this is what a saga relies on: a volume that it finds is its own."""
        if self.places.volumes.get(pool, volume.project, volume.type, volume.name) is not None:
            raise errors.Conflict("Volume by that name already exists")

    async def _copy(
        self,
        request: volume_pb2.CreateVolumeRequest,
        body: custom.VolumesPost,
        source: custom.VolumeSource,
        target: VolumeName,
    ) -> rest_pb2.Answer:
        pool, project = source.pool or request.pool, self.project_of(source.project or request.project, "custom")
        name, _, snapshot = source.name.partition("/")
        row = self.one(pool, project, "custom", name).value
        if snapshot and self.places.snapshots.get(pool, project, "custom", name, snapshot) is None:
            raise errors.NotFound("Storage pool volume not found")
        existing = self.places.volumes.get(request.pool, target.project, "custom", target.name)
        if existing is None or not source.refresh:
            await self.refuse_taken(request.pool, target)
        wanted = [] if source.volume_only or snapshot else self._snapshots_of(row)
        config = custom.completed(self.places.one(request.pool).value, row.content_type, body.config or row.config)
        custom.validate(self.places.one(request.pool).value, target, config)
        if existing is None:
            self.parts.room.check(target.project, custom.CREATION, volumes={(request.pool, target.name): config})
        args = {
            "source": {"pool": pool, "project": project, "name": source.name},
            "target": sagas.spot(request.pool, target),
            "content_type": row.content_type,
            "config": config,
            "description": body.description or row.description,
            "snapshots": wanted,
        }
        if existing is not None:
            has = set(self._snapshots_of(existing.value))
            args["snapshots"] = [name for name in wanted if name not in has]
        locks = {custom.lock_of(request.pool, target), custom.lock_of(pool, custom.name_of(row))}
        if existing is not None:
            return await self.running.accepted(sagas.REFRESH, args, request.project, *sorted(locks))
        free = partial(self.refuse_known, request.pool, target)
        return await self.running.accepted(sagas.COPY, args, request.project, *sorted(locks), condition=free)

    def _snapshots_of(self, row: Volume) -> list[str]:
        """Names, the oldest first."""
        found = self.places.snapshots.select(row.pool, row.project, row.type, row.name)
        return [snapshot.value.name for snapshot in sorted(found, key=lambda s: s.value.created_at)]

    # Changing.

    async def Put(self, request: volume_pb2.PutVolumeRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, merge=False)

    async def Patch(self, request: volume_pb2.PutVolumeRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, merge=True)

    async def _update(self, request: volume_pb2.PutVolumeRequest, *, merge: bool) -> rest_pb2.Document:
        row = self.one(request.pool, request.project, request.type, request.name)
        check_if_match(request.if_match, etag_of(editable(row.value)))
        body: custom.VolumePut = read_body(request.body, custom.VolumePut)
        if body.restore:
            return await self._restore(row.value, body.restore)
        volume = custom.name_of(row.value)
        config = custom.changed_config(row.value.config, body, merge=merge)
        custom.validate(self.places.one(request.pool).value, volume, config)
        kept = row.value.description if merge else ""
        description = body.description if isinstance(body.description, str) else kept
        changed = msgspec.structs.replace(row.value, config=config, description=description)
        change = Change().put(VOLUME, changed, expect=row.revision)
        event = lifecycle("storage-volume-updated", url(changed), project=changed.project, requestor=requestor_of())
        if config.get("size") == row.value.config.get("size"):
            return empty(revision=await self.store.commit(change.event(event)))
        if row.value.type == "custom":
            self.parts.room.take(change, volume.project, custom.UPDATE, volumes={(request.pool, volume.name): config})
        return empty(revision=await self._resized(row.value, config, change.event(event)))

    async def _resized(self, row: Volume, config: dict[str, str], change: Change) -> int:
        """The volume first; it is as before when the change cannot be written."""
        driver, volume = self.places.driver(row.pool), custom.name_of(row)
        current().act()
        await resize_content(driver, volume, row.content_type, custom.size_of(config))
        try:
            return await self.store.commit(change)
        except errors.Conflict:
            await resize_content(driver, volume, row.content_type, custom.size_of(row.config))
            raise

    async def _restore(self, row: Volume, snapshot: str) -> rest_pb2.Document:
        if row.type != "custom":
            raise errors.BadRequest(f"Volumes of type {quote(row.type)} are restored with their instance")
        if self.places.snapshots.get(row.pool, row.project, row.type, row.name, snapshot) is None:
            raise errors.NotFound("Snapshot not found")
        self._refuse_running(row, "Cannot restore custom volume used by running instances")
        args = {"pool": row.pool, "project": row.project, "volume": row.name, "name": snapshot}
        lock = custom.lock_of(row.pool, custom.name_of(row))
        return empty(revision=await self.running.to_the_end(snapshot_sagas.RESTORE, args, row.project, lock))

    def _refuse_running(self, row: Volume, text: str) -> None:
        if any(self.holders.running(row)):
            raise errors.Internal(text)

    async def Move(self, request: volume_pb2.ChangeVolumeRequest, call: Call) -> rest_pb2.Answer:
        body: custom.VolumePost = read_body(request.body, custom.VolumePost)
        custom.refuse_name(body.name)
        if request.type != "custom":
            raise errors.BadRequest(f"Renaming storage volumes of type {quote(request.type)} is not allowed")
        if body.migration:
            raise errors.NotImplementedHere("Moving volumes between servers is not supported yet")
        row = self.one(request.pool, request.project, request.type, request.name).value
        pool = body.pool or request.pool
        self.places.one(pool)
        project = self.project_of(body.project, "custom") if body.project else row.project
        target = VolumeName("custom", project, body.name)
        await self.refuse_taken(pool, target)
        self._refuse_running(row, "Volume is still in use by running instances")
        if self.holders.used_by(row):
            raise errors.BadRequest("The volume is still in use by a device; remove the device first")
        if project != row.project:
            self.parts.room.check(project, custom.CREATION, volumes={(pool, target.name): row.config})
        args: dict[str, Any] = {"source": sagas.spot(row.pool, custom.name_of(row)), "target": sagas.spot(pool, target)}
        locks = (custom.lock_of(row.pool, custom.name_of(row)), custom.lock_of(pool, target))
        free = partial(self.refuse_known, pool, target)
        if not body.pool and not body.project:
            location = volume_url(pool, "custom", target.name, target.project)
            revision = await self.running.to_the_end(
                sagas.RENAME, args, row.project, *locks, condition=free, location=location
            )
            return answer(empty(location=location, revision=revision))
        more = {"content_type": row.content_type, "config": row.config, "description": row.description}
        verb: Saga = sagas.MOVE_WITHIN if pool == row.pool else sagas.MOVE
        args = {**args, **more, "snapshots": self._snapshots_of(row)}
        return await self.running.accepted(verb, args, request.project, *locks, condition=free)

    async def Delete(self, request: volume_pb2.VolumeRequest, call: Call) -> rest_pb2.Document:
        row = self.one(request.pool, request.project, request.type, request.name).value
        if row.type not in ("custom", "image"):
            raise errors.BadRequest(f"Storage volumes of type {quote(row.type)} cannot be deleted with the storage API")
        if row.type == "image":
            call.act()
            await self.placing.remove(row.pool, custom.name_of(row))
            return empty(revision=self.store.revision)
        if self.holders.used_by(row):
            raise errors.BadRequest("The storage volume is still in use")
        volume = custom.name_of(row)
        args = {"target": sagas.spot(row.pool, volume)}
        lock = custom.lock_of(row.pool, volume)
        return empty(revision=await self.running.to_the_end(sagas.DELETE, args, row.project, lock))
