"""What was superseded or deleted stays so when nats-server is killed and reads its files anew, however long ago it was.

The last row of a subject ends by its time to live; the one that it took the place of must not be found again then.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from chassis import change, stream
from chassis.bus import Bus
from chassis.operations import OPERATION
from chassis.saga import Context, Saga, Step
from chassis.sagas import Sagas
from chassis.store import Change, Kind, Store
from chassis.testing.nats import NatsServer


class Thing(msgspec.Struct, frozen=True):
    name: str


THING = Kind("returning_thing", Thing, ("name",))
DELETED, KEPT = THING.subject(("deleted",)), THING.subject(("kept",))


async def step(ctx: Context) -> None: ...


QUICK = Saga("thing.create", [Step("step", step)])


async def started(server: NatsServer) -> tuple[Store, Sagas]:
    store = await server.store()
    store.mirror(THING)
    sagas = Sagas(store, "test", [QUICK])
    await store.start()
    await sagas.start()
    return store, sagas


async def vanished(store: Store, subject: str) -> None:
    async with asyncio.timeout(60):
        while await store.log.last(subject) is not None:
            await asyncio.sleep(0.05)


async def counts(bus: Bus) -> dict[str, int]:
    info = await bus.stream(subjects="row.>")
    return dict(info["state"].get("subjects") or {})


async def test_what_was_deleted_and_what_has_ended_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "DELETION_TTL", 1)
    async with NatsServer() as server:
        store, sagas = await started(server)
        store.operations_ttl = 1
        await store.commit(Change().put(THING, Thing("deleted"), expect=0).put(THING, Thing("kept"), expect=0))
        await store.commit(Change().delete(THING, ("deleted",), expect=store.mirror(THING).revision("deleted")))
        accepted = await sagas.accept(QUICK, {})
        await sagas.operations.wait(accepted.id)
        for subject in (DELETED, OPERATION.subject((accepted.id,))):
            await vanished(store, subject)
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


async def test_a_row_that_a_crash_left_beside_its_successor_goes_when_one_connects() -> None:
    async with NatsServer() as server:
        bus = await server.connect()
        for text in (b"old", b"new"):  # as if the server had ended between the row and its roll-up
            await bus.request(KEPT, text)
        assert await counts(bus) == {KEPT: 2}
        await server.connect()
        assert await counts(bus) == {KEPT: 1}
        last = await bus.last(KEPT)
        assert last is not None
        assert last.data == b"new"
        assert await stream.level(bus) == 0
