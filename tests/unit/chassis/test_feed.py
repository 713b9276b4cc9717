"""Events for listeners over a real nats-server: one order, none missing, none twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from chassis import events
from chassis.errors import BadRequest, Gone, Unavailable
from chassis.feed import Feed, Heard, Listener
from chassis.operation import SUCCESS, Operation, event_of
from chassis.store import Change, Store
from chassis.stream import trim
from chassis.testing.nats import NatsServer


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def store(server: NatsServer) -> AsyncIterator[Store]:
    made = await server.store()
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture
async def feed(server: NatsServer) -> AsyncIterator[Feed]:
    made = Feed(await server.connect("feed"))
    await made.start()
    yield made
    await made.stop()


async def tell(store: Store, count: int, *, project: str = "default") -> None:
    for number in range(count):
        event = events.lifecycle(f"thing-{number}", "/1.0/things/x", project=project)
        await store.commit(Change().event(event), patience=None)


async def take(listener: Listener, count: int) -> list[Heard]:
    found: list[Heard] = []
    async with asyncio.timeout(30):
        async for heard in listener:
            found.append(heard)
            if len(found) == count:
                break
    return found


def actions(found: list[Heard]) -> list[str]:
    return [json.loads(heard.data)["metadata"]["action"] for heard in found]


async def test_events_come_in_the_order_of_the_log(store: Store, feed: Feed) -> None:
    async with feed.listen(["lifecycle"]) as one, feed.listen() as other:
        await tell(store, 50)
        assert actions(await take(one, 50)) == [f"thing-{n}" for n in range(50)]
        assert actions(await take(other, 50)) == [f"thing-{n}" for n in range(50)]


async def test_an_event_has_the_fields_that_lxd_shows(store: Store, feed: Feed) -> None:
    async with feed.listen() as listener:
        await tell(store, 1)
        (heard,) = await take(listener, 1)
    told = json.loads(heard.data)
    assert list(told) == ["type", "timestamp", "metadata", "location", "project"]
    assert told["metadata"] == {"action": "thing-0", "source": "/1.0/things/x"}
    assert json.loads(heard.json())["sequence"] == heard.sequence


async def test_types_and_projects_are_chosen(store: Store, feed: Feed) -> None:
    async with feed.listen(["lifecycle"], project="p.1") as listener:
        await tell(store, 1)
        await tell(store, 1, project="p.1")
        await tell(store, 1, project="")
        assert [heard.project for heard in await take(listener, 2)] == ["p.1", ""]


async def test_since_misses_nothing_while_more_come(store: Store, feed: Feed) -> None:
    await tell(store, 600)
    start = feed.last
    writing = asyncio.create_task(tell(store, 600))
    async with feed.listen(["lifecycle"], since=10) as listener:
        found = await take(listener, 1190)
    await writing
    assert [heard.sequence for heard in found] == list(range(11, 1201))
    assert start >= 0


async def test_a_listener_goes_on_where_it_was(store: Store, feed: Feed) -> None:
    seen: list[int] = []
    since = feed.last
    writing = asyncio.create_task(tell(store, 300))
    while len(seen) < 300:
        async with feed.listen(["lifecycle"], since=since) as listener:
            seen.extend([heard.sequence for heard in await take(listener, 60)])
        since = seen[-1]
    await writing
    assert seen == list(range(seen[0], seen[0] + 300))


async def test_a_since_that_cannot_be_served_is_told(store: Store, feed: Feed) -> None:
    await tell(store, 10)
    for since in (-1, 11, 10**9):
        with pytest.raises(BadRequest, match=f"Invalid since {since}"):
            async with feed.listen(since=since):
                pass
    assert await trim(feed.bus, 4) == 6
    with pytest.raises(Gone, match="the oldest is 7"):
        async with feed.listen(since=3):
            pass
    async with feed.listen(since=6) as listener:
        assert len(await take(listener, 4)) == 4


async def test_trimming_events_leaves_the_rows(store: Store, feed: Feed) -> None:
    operation = Operation(id="1", created_at="x", updated_at="x")
    from chassis.operation import OPERATION

    await store.commit(Change().put(OPERATION, operation, expect=0))
    await tell(store, 10)
    await trim(feed.bus, 0)
    assert await store.fetch(OPERATION, "1") is not None
    assert await trim(feed.bus, 0) == 0


async def test_events_are_trimmed_by_size_and_by_age(store: Store, feed: Feed) -> None:
    await tell(store, 40)
    assert await trim(feed.bus, 1000, size=10**9, age=3600) == 0
    gone = await trim(feed.bus, size=10_000)
    assert 10 <= gone < 40
    async with feed.listen(since=gone) as listener:
        assert [heard.sequence for heard in await take(listener, 40 - gone)] == list(range(gone + 1, 41))
    assert await trim(feed.bus, age=0.0) == 40 - gone
    with pytest.raises(Gone):
        async with feed.listen(since=gone):
            pass


async def test_what_is_kept_follows_the_configuration(server: NatsServer) -> None:
    from chassis import retention

    store = await server.store()
    retention.follow(store)
    await store.start()
    config = {retention.EVENTS: "2", retention.OPERATIONS: "5"}
    await store.commit(Change().put(retention.SERVER_CONFIG, retention.ServerConfig(config=config), expect=0))
    assert (store.events_ttl, store.operations_ttl) == (7200, 300)
    await store.commit(Change().delete(retention.SERVER_CONFIG, ("cluster",), expect=None))
    assert (store.events_ttl, store.operations_ttl) == (24 * 3600, 3600)
    await store.stop()


async def test_a_listener_that_lags_is_cut_off_and_harms_nobody(server: NatsServer, store: Store) -> None:
    feed = Feed(await server.connect("small"), bound=20)
    await feed.start()
    async with feed.listen() as slow, feed.listen() as quick:
        taking = asyncio.create_task(take(quick, 100))
        await tell(store, 100)
        assert len(await taking) == 100
        with pytest.raises(Unavailable, match="since="):
            await take(slow, 100)
    await feed.stop()


async def test_log_lines_and_ticks_are_passed_on_unkept(store: Store, feed: Feed) -> None:
    async with feed.listen() as listener:
        taking = asyncio.create_task(take(listener, 1))
        while not taking.done():  # what is not kept may be lost when a connection breaks
            await store.announce(events.logging("hello", "warning", {"a": "b"}))
            await asyncio.wait([taking], timeout=1)
        (heard,) = taking.result()
    assert heard.sequence == 0
    assert json.loads(heard.json())["metadata"] == {"message": "hello", "level": "warning", "context": {"a": "b"}}


async def test_a_tick_of_an_ended_operation_is_dropped(server: NatsServer, store: Store, feed: Feed) -> None:
    running = Operation(id="1", created_at="x", updated_at="x")
    ended = Operation(id="1", created_at="x", updated_at="x", status_code=SUCCESS)
    async with feed.listen() as listener:
        await store.commit(Change().event(event_of(running)))
        await store.commit(Change().event(event_of(ended)))
        codes = [json.loads(heard.data)["metadata"]["status_code"] for heard in await take(listener, 2)]
        taking = asyncio.create_task(take(listener, 1))
        while not taking.done():  # what is not kept may be lost when a connection breaks
            await store.announce(event_of(running, {"progress": "99%"}))
            await store.announce(events.logging("after"))
            await asyncio.wait([taking], timeout=1)
        assert [heard.type for heard in taking.result()] == ["logging"]
    assert codes == [103, 200]


async def test_a_restart_of_the_server_is_not_seen(server: NatsServer, store: Store, feed: Feed) -> None:
    async with feed.listen(["lifecycle"]) as listener:
        await tell(store, 10)
        for _ in range(3):
            await server.kill()
            await server.start()
            await tell(store, 10)
        found = await take(listener, 40)
    assert [heard.sequence for heard in found] == sorted({heard.sequence for heard in found})
    assert actions(found) == [f"thing-{n}" for n in range(10)] * 4


async def test_an_event_names_the_revision_of_its_change(store: Store, feed: Feed) -> None:
    from chassis.operation import OPERATION

    operation = Operation(id="1", created_at="x", updated_at="x")
    change = Change().put(OPERATION, operation, expect=0).event(event_of(operation)).event(event_of(operation))
    async with feed.listen() as listener:
        revision = await store.commit(change)
        assert [heard.revision for heard in await take(listener, 2)] == [revision, revision]
    assert feed.revision == revision
