"""Making and removing a pool. LXD answers both synchronously: the servicer waits for the operation."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from chassis import errors
from chassis.events import lifecycle
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.storage import POOL, VOLUME, Pool
from services.storage.drivers import Driver
from services.storage.parts import Parts


def url(name: str) -> str:
    return f"/1.0/storage-pools/{quote(name)}"


def _driver(ctx: Context) -> Driver:
    parts: Parts = ctx.parts
    return parts.places.make(ctx.args["driver"], ctx.args["name"], ctx.args["config"], ctx.args.get("token", ""))


async def _create(ctx: Context) -> dict[str, str]:
    return await _driver(ctx).create()


async def _destroy(ctx: Context) -> None:
    await _driver(ctx).destroy()


def _created(ctx: Context, change: Change) -> None:
    name = ctx.args["name"]
    config: dict[str, str] = ctx.results["create"]
    pool = Pool(name=name, driver=ctx.args["driver"], description=ctx.args["description"], config=config)
    change.put(POOL, pool, expect=0)
    change.event(lifecycle("storage-pool-created", url(name), requestor=ctx.operation.requestor))


CREATE = Saga(
    "storage-pool.create",
    steps=(Step("create", _create, _destroy),),
    description="Creating storage pool",
    finish=_created,
)


def _deleted(ctx: Context, change: Change) -> None:
    parts: Parts = ctx.parts
    name = ctx.args["name"]
    for row in parts.places.volumes_in(name):
        change.delete(VOLUME, row.key, expect=None)
    change.delete(POOL, (name,), expect=None)
    change.event(lifecycle("storage-pool-deleted", url(name), requestor=ctx.operation.requestor))


async def _destroy_unused(ctx: Context) -> None:
    """Looked at once more: a volume may have come between the request and this step."""
    parts: Parts = ctx.parts
    if parts.places.is_used(ctx.args["name"]):
        raise errors.BadRequest("The storage pool is currently in use")
    await _destroy(ctx)


DELETE = Saga(
    "storage-pool.delete",
    steps=(Step("destroy", _destroy_unused),),
    description="Deleting storage pool",
    finish=_deleted,
)

SAGAS = (CREATE, DELETE)


def create_args(name: str, driver: str, description: str, config: dict[str, str], token: str) -> dict[str, Any]:
    return {"name": name, "driver": driver, "description": description, "config": config, "token": token}


def delete_args(pool: Pool) -> dict[str, Any]:
    return {"name": pool.name, "driver": pool.driver, "config": pool.config}
