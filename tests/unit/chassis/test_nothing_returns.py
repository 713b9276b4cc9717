"""What was superseded or deleted stays so when nats-server is killed and reads its files anew, however long ago it was.

A message with a time to live that replaces one without would be gone by then, and the older one would be there again.
"""

from __future__ import annotations

import asyncio

import msgspec

from chassis.log import HEADER_TTL
from chassis.operations import OPERATION
from chassis.saga import Context, Saga, Step
from chassis.sagas import Sagas
from chassis.store import Change, Kind, Store
from chassis.testing.nats import NatsServer


class Thing(msgspec.Struct, frozen=True):
    name: str


THING = Kind("returning_thing", Thing, ("name",))


async def step(ctx: Context) -> None: ...


QUICK = Saga("thing.create", [Step("step", step)])


async def started(server: NatsServer) -> tuple[Store, Sagas]:
    store = await server.store()
    store.mirror(THING)
    sagas = Sagas(store, "test", [QUICK])
    await store.start()
    await sagas.start()
    return store, sagas


async def test_what_was_deleted_and_what_has_ended_does_not_return() -> None:
    async with NatsServer() as server:
        store, sagas = await started(server)
        store.operations_ttl = 1
        await store.commit(Change().put(THING, Thing("deleted"), expect=0).put(THING, Thing("kept"), expect=0))
        await store.commit(Change().delete(THING, ("deleted",), expect=store.mirror(THING).revision("deleted")))
        accepted = await sagas.accept(QUICK, {})
        await sagas.operations.wait(accepted.id)
        async with asyncio.timeout(30):
            await store.until(OPERATION, (accepted.id,), lambda row: row is None, 30)
        # Nothing that replaces a row may ever go by itself.
        kept = [
            await store.log.last(OPERATION.subject((accepted.id,))),
            await store.log.last(THING.subject(("deleted",))),
        ]
        assert [found is not None and HEADER_TTL not in found.headers for found in kept] == [True, True]
        await sagas.stop()
        await store.stop()
        await server.kill()
        await server.start()
        store, sagas = await started(server)
        assert [row.value.name for row in store.mirror(THING).select()] == ["kept"]
        assert store.mirror(OPERATION).get(accepted.id) is None
        await store.commit(Change().put(THING, Thing("deleted"), expect=0))  # its name is free
        await sagas.stop()
        await store.stop()
