"""Storage pools over REST: their rules, their documents, their servicer."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import msgspec

from chassis import errors, references
from chassis.calls import Call
from chassis.change import Change
from chassis.documents import check_if_match, document, empty, etag_of, read_body, render
from chassis.events import lifecycle
from chassis.listing import chunks, parse_filter, urls
from chassis.operations import requestor_of
from chassis.sagas import Sagas
from chassis.store import Store
from gen.nubibus.rest.v1 import rest_pb2
from gen.nubibus.storage.v1 import pool_pb2
from rows.storage import POOL, Pool
from services.storage.drivers import DRIVERS, available, driver_named
from services.storage.parts import Parts
from services.storage.running import Running
from services.storage.sagas import pool as sagas


class PoolsPost(msgspec.Struct):
    name: str = ""
    driver: str = ""
    description: str = ""
    config: dict[str, str] | None = None


class PoolPut(msgspec.Struct):
    description: str | msgspec.UnsetType = msgspec.UNSET
    config: dict[str, str] | msgspec.UnsetType | None = msgspec.UNSET


class Pools:
    service = "nubibus.storage.v1.Pools"

    def __init__(self, store: Store, parts: Parts, verbs: Sagas) -> None:
        self.store = store
        self.parts = parts
        self.places = parts.places
        self.running = Running(verbs, store)

    # Documents.

    def document(self, pool: Pool) -> dict[str, Any]:
        """As LXD shows it; used_by of an unused pool is null."""
        return {
            "config": dict(sorted(pool.config.items())),
            "description": pool.description,
            "name": pool.name,
            "driver": pool.driver,
            "used_by": references.visible(self.places.used_by(pool.name)) or None,
            "status": "Unavailable" if pool.name in self.places.broken else pool.status,
            "locations": [self.parts.member],
        }

    @staticmethod
    def editable(pool: Pool) -> list[Any]:
        return [pool.name, pool.driver, pool.description, pool.config]

    async def List(self, request: pool_pb2.ListPoolsRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        wanted = parse_filter(request.filter)
        names = sorted(row.value.name for row in self.places.pools.select())
        found = [self.document(self.places.one(name).value) for name in names]
        matching = [pool for pool in found if wanted.matches(pool)]
        shown = map(render, matching) if request.recursion else urls(sagas.url(pool["name"]) for pool in matching)
        head = rest_pb2.Document(revision=self.store.revision)
        async for chunk in chunks(shown, head=head):
            yield chunk

    async def Get(self, request: pool_pb2.PoolRequest, call: Call) -> rest_pb2.Document:
        row = self.places.one(request.name)
        return document(self.document(row.value), editable=self.editable(row.value), revision=self.store.revision)

    async def Resources(self, request: pool_pb2.PoolRequest, call: Call) -> rest_pb2.Document:
        space = await self.places.driver(request.name).space()
        inodes = {"used": space.inodes_used} if space.inodes_used else {}
        return document(
            {
                "space": {"used": space.used, "total": space.total},
                "inodes": {**inodes, "total": space.inodes_total},
            }
        )

    # Changes.

    async def Create(self, request: pool_pb2.CreatePoolRequest, call: Call) -> rest_pb2.Document:
        body: PoolsPost = read_body(request.body, PoolsPost)
        refuse_name(body.name)
        if not body.driver:
            raise errors.BadRequest("No driver provided")
        if self.places.pools.get(body.name) is not None:
            raise errors.Conflict("The storage pool already exists: The record already exists")
        driver = driver_named(body.driver)
        await driver.version()
        given = {key: text for key, text in (body.config or {}).items() if text != ""}
        driver.pool_keys.validate(given)
        if any(key.startswith("volatile.") for key in given):
            raise errors.Internal("Volatile keys cannot be set by the user")
        config = driver.complete(self.places.place(body.name, given))
        args = sagas.create_args(body.name, body.driver, body.description, config, str(uuid.uuid4()))
        lock = ("storage-pool", "", body.name)
        location = sagas.url(body.name)
        revision = await self.running.to_the_end(sagas.CREATE, args, "default", lock, location=location)
        return empty(location=location, revision=revision)

    async def Put(self, request: pool_pb2.PutPoolRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, merge=False)

    async def Patch(self, request: pool_pb2.PutPoolRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, merge=True)

    async def _update(self, request: pool_pb2.PutPoolRequest, call: Call, *, merge: bool) -> rest_pb2.Document:
        row = self.places.one(request.name)
        pool = row.value
        check_if_match(request.if_match, etag_of(self.editable(pool)))
        body: PoolPut = read_body(request.body, PoolPut)
        config = _changed(pool.config, body, merge=merge)
        try:
            driver_named(pool.driver).pool_keys.validate(config)
        except errors.Internal as fault:
            raise errors.BadRequest(fault.text) from None
        if config.get("source", "") != pool.config.get("source", ""):
            raise errors.Internal("Pool source cannot be changed when not in pending state")
        call.act()
        await self.places.driver(request.name).update(config)
        description = body.description if body.description is not msgspec.UNSET else (pool.description if merge else "")
        changed = msgspec.structs.replace(pool, description=description, config=config)
        change = Change().put(POOL, changed, expect=row.revision)
        change.event(lifecycle("storage-pool-updated", sagas.url(pool.name), requestor=requestor_of()))
        return empty(revision=await self.store.commit(change))

    async def Delete(self, request: pool_pb2.PoolRequest, call: Call) -> rest_pb2.Document:
        pool = self.places.one(request.name).value
        if self.places.is_used(pool.name):
            raise errors.BadRequest("The storage pool is currently in use")
        lock = ("storage-pool", "", pool.name)
        return empty(revision=await self.running.to_the_end(sagas.DELETE, sagas.delete_args(pool), "default", lock))

    # For other services.

    async def Describe(self, request: pool_pb2.PoolRequest, call: Call) -> pool_pb2.PoolDescription:
        pool = self.places.one(request.name).value
        return pool_pb2.PoolDescription(name=pool.name, driver=pool.driver, config=pool.config, status=pool.status)

    async def Available(self, request: pool_pb2.DriversRequest, call: Call) -> pool_pb2.Drivers:
        versions = await available()
        return pool_pb2.Drivers(
            drivers=[
                pool_pb2.Driver(name=driver.name, version=versions[driver.name], remote=driver.remote)
                for driver in DRIVERS
                if driver.name in versions
            ]
        )


def refuse_name(name: str) -> None:
    """Raises BadRequest in LXD's words; besides, what cannot be a folder of its own."""
    if not name:
        raise errors.BadRequest("No name provided")
    if "/" in name:
        raise errors.BadRequest("Storage pool names may not contain slashes")
    if name in (".", "..") or name.startswith("-") or "\0" in name or quote(name) != name or len(name) > 128:
        raise errors.BadRequest(f"Invalid storage pool name {name!r}")


def _changed(config: dict[str, str], body: PoolPut, *, merge: bool) -> dict[str, str]:
    """The new configuration; an empty text unsets a key."""
    given = body.config if body.config not in (msgspec.UNSET, None) else {}
    assert isinstance(given, dict)
    return {key: text for key, text in ({**config, **given} if merge else given).items() if text != ""}
