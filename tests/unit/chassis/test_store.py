"""Rows, changes and mirrors over a real nats-server."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from chassis import calls, events
from chassis.bus import Bus
from chassis.errors import Conflict, NotFound, Unavailable
from chassis.store import PATIENCE, Change, Kind, Store, Versioned
from chassis.testing.nats import NatsServer


class Thing(msgspec.Struct, frozen=True):
    project: str
    name: str
    size: int = 0


class Other(msgspec.Struct, frozen=True):
    name: str


THING = Kind("test_thing", Thing, ("project", "name"))
OTHER = Kind("test_other", Other, ("name",))


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def store(server: NatsServer) -> AsyncIterator[Store]:
    made = await server.store()
    made.mirror(THING)
    await made.start()
    yield made
    await made.stop()


def thing(name: str, size: int = 0) -> Thing:
    return Thing("default", name, size)


async def test_a_row_is_shown_when_commit_returns(store: Store) -> None:
    revision = await store.commit(Change().put(THING, thing("a", 1), expect=0))
    row = store.mirror(THING).one("default", "a")
    assert row == Versioned(thing("a", 1), revision, ("default", "a"))
    assert store.revision == revision


async def test_names_of_any_shape_come_back(store: Store) -> None:
    for name in ("with.dot", "with space", "ü=7F*>", "", "-_=-"):
        await store.commit(Change().put(THING, thing(name), expect=0))
        assert store.mirror(THING).one("default", name).value.name == name
    assert len(list(store.mirror(THING).select("default"))) == 5


async def test_a_change_is_applied_as_a_whole_or_not_at_all(store: Store) -> None:
    await store.commit(Change().put(THING, thing("a"), expect=0))
    bad = Change().put(THING, thing("b"), expect=0).put(THING, thing("a"), expect=0)
    bad.event(events.lifecycle("thing-created", "/1.0/things/b"))
    before = store.revision
    with pytest.raises(Conflict):
        await store.commit(bad)
    assert store.mirror(THING).get("default", "b") is None
    assert (await store.fetch(THING, "default", "b")) is None
    assert await store.commit(Change().put(THING, thing("c"), expect=0)) == before + 1


async def test_only_one_of_many_writers_wins_each_round(store: Store) -> None:
    mirror = store.mirror(THING)
    for round_number in range(20):
        expect = mirror.revision("default", "a")

        async def write(size: int, expect: int = expect) -> bool:
            change = Change().put(THING, thing("a", size), expect=expect).put(THING, thing("b", size), expect=None)
            try:
                await store.commit(change)
            except Conflict:
                return False
            return True

        won = await asyncio.gather(*(write(round_number * 10 + n) for n in range(6)))
        assert sum(won) == 1
        assert mirror.one("default", "a").value.size == mirror.one("default", "b").value.size


async def test_a_deleted_row_can_be_made_again(store: Store) -> None:
    mirror = store.mirror(THING)
    for size in range(3):
        await store.commit(Change().put(THING, thing("a", size), expect=0))
        await store.commit(Change().delete(THING, ("default", "a"), expect=mirror.revision("default", "a")))
        assert mirror.get("default", "a") is None
        with pytest.raises(NotFound):
            mirror.one("default", "a")


async def test_a_kind_without_a_mirror_can_be_made_again_too(store: Store) -> None:
    for _ in range(2):
        await store.commit(Change().put(OTHER, Other("x"), expect=0))
        with pytest.raises(Conflict):
            await store.commit(Change().put(OTHER, Other("x"), expect=0))
        row = await store.fetch(OTHER, "x")
        assert row is not None
        await store.commit(Change().delete(OTHER, ("x",), expect=row.revision))
    assert await store.fetch(OTHER, "x") is None


async def test_exact_tells_that_a_row_was_there_in_between(server: NatsServer, store: Store) -> None:
    other = await server.store()
    await other.start()
    await store.commit(Change().put(THING, thing("a"), expect=0))
    await store.commit(Change().delete(THING, ("default", "a"), expect=None))
    await other.commit(Change().put(THING, thing("a"), expect=0))
    revision = await other.commit(Change().delete(THING, ("default", "a"), expect=None))
    stale = store.mirror(THING)
    await store.reached(revision)
    assert stale.guard(("default", "a")) == revision
    stale._tombs["default", "a"] = revision - 2
    with pytest.raises(Conflict):
        await store.commit(Change().put(THING, thing("a"), expect=0, exact=True))
    await store.commit(Change().put(THING, thing("a"), expect=0))
    await other.stop()


async def test_the_rows_of_a_change_become_visible_together(server: NatsServer, store: Store) -> None:
    writer = await server.store()
    await writer.start()
    mirror = store.mirror(THING)
    sums: list[int] = []
    mirror.watch(lambda *_: sums.append(sum(row.value.size for row in mirror.select())))
    for size in range(1, 30):
        change = Change()
        for name in "abc":
            change.put(THING, thing(name, size), expect=None)
        await writer.commit(change)
    await store.reached(writer.revision)
    assert set(sums) == {3 * size for size in range(1, 30)}
    await writer.stop()


async def test_what_one_store_wrote_another_one_reads(server: NatsServer, store: Store) -> None:
    writer = await server.store()
    await writer.start()
    for size in range(50):
        revision = await writer.commit(Change().put(THING, thing("a", size), expect=None))
        await store.reached(revision)
        assert store.mirror(THING).one("default", "a").value.size == size
    await writer.stop()


async def test_a_store_that_starts_late_has_everything(server: NatsServer, store: Store) -> None:
    for number in range(300):
        await store.commit(Change().put(THING, thing(f"t{number}"), expect=0), wait=False)
    await store.commit(Change().delete(THING, ("default", "t7"), expect=None))
    late = await server.store()
    mirror = late.mirror(THING)
    await late.start()
    assert len(mirror) == 299
    assert late.revision >= store.revision
    with pytest.raises(RuntimeError, match="after the start"):
        late.mirror(OTHER)
    await late.stop()


async def test_watch_and_indexes_follow(store: Store) -> None:
    mirror = store.mirror(THING)
    sizes = mirror.index("size", lambda value: (value.size,))
    seen: list[tuple[str, bool, bool]] = []
    await store.commit(Change().put(THING, thing("a", 1), expect=0))
    end = mirror.watch(lambda key, old, new: seen.append((key[1], old is not None, new is not None)))
    await store.commit(Change().put(THING, thing("a", 2), expect=None).put(THING, thing("b", 2), expect=0))
    assert sorted(row.value.name for row in sizes.select(2)) == ["a", "b"]
    assert sizes.count(1) == 0
    await store.commit(Change().delete(THING, ("default", "a"), expect=None))
    end()
    await store.commit(Change().delete(THING, ("default", "b"), expect=None))
    assert seen == [("a", False, True), ("a", True, True), ("b", False, True), ("a", True, False)]
    assert sizes.count(2) == 0


async def test_a_watcher_that_fails_harms_nobody(store: Store) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    mirror = store.mirror(THING)
    mirror.watch(fail)
    seen: list[object] = []
    mirror.watch(lambda *_: seen.append(1))
    await store.commit(Change().put(THING, thing("a"), expect=0))
    assert seen == [1]


async def test_a_row_with_a_time_to_live_goes(server: NatsServer, store: Store) -> None:
    await store.commit(Change().put(THING, thing("a"), expect=0, ttl=1))
    assert store.mirror(THING).get("default", "a") is not None
    await store.until(THING, ("default", "a"), lambda row: row is None, timeout=20)
    assert store.mirror(THING).get("default", "a") is None

    async def gone() -> None:
        while await store.fetch(THING, "default", "a") is not None:
            await asyncio.sleep(0.05)

    await asyncio.wait_for(gone(), 20)
    await store.commit(Change().put(THING, thing("a"), expect=0, exact=True))


async def test_commit_tells_the_call_what_it_saw(store: Store) -> None:
    call = calls.Call()
    token = calls._call.set(call)
    try:
        revision = await store.commit(Change().put(THING, thing("a"), expect=0))
    finally:
        calls._call.reset(token)
    assert call.revision == revision


async def test_a_large_row_is_kept_whole(store: Store) -> None:
    await store.commit(Change().put(THING, thing("n" * 100), expect=0).put(OTHER, Other("x"), expect=None))
    large = Thing("default", "a", 7)
    await store.commit(Change().put(THING, large, expect=0))
    with pytest.raises(Unavailable):
        await store.reached(store.revision + 1, timeout=0.05)


async def test_while_the_server_is_away_calls_fail_at_once(server: NatsServer, store: Store) -> None:
    await server.kill()
    loop = asyncio.get_running_loop()
    while store.log.up:
        await asyncio.sleep(0.01)
    began = loop.time()
    with pytest.raises(Unavailable):
        await store.commit(Change().put(THING, thing("a"), expect=0))
    with pytest.raises(Unavailable):
        await store.fetch(THING, "default", "a")
    assert loop.time() - began < PATIENCE / 2


async def test_what_was_acknowledged_survives_kills(server: NatsServer, store: Store) -> None:
    """Writers that wait for the log, and a server that is killed under them: nothing acknowledged is lost or applied in part."""
    written: dict[str, int] = {}
    stop = False

    async def write(name: str) -> None:
        size = 0
        while not stop:
            size += 1
            change = Change().put(THING, thing(f"{name}1", size), expect=None)
            change.put(THING, thing(f"{name}2", size), expect=None)
            change.event(events.lifecycle("thing-updated", f"/1.0/things/{name}"))
            await store.commit(change, patience=None)
            written[name] = size

    writers = [asyncio.create_task(write(name)) for name in "abcd"]
    for _ in range(5):
        count = sum(written.values())
        while sum(written.values()) < count + 20:
            await asyncio.sleep(0.005)
        await server.kill()
        await server.start()
    stop = True
    await asyncio.wait_for(asyncio.gather(*writers), 60)
    for name, size in written.items():
        for part in "12":
            assert store.mirror(THING).one("default", f"{name}{part}").value.size == size
            row = await store.fetch(THING, "default", f"{name}{part}")
            assert row is not None
            assert row.value.size == size


async def test_a_paused_server_is_noticed_and_survived(server: NatsServer, store: Store) -> None:
    server.pause()
    with pytest.raises(Unavailable):
        await store.commit(Change().put(THING, thing("a", 1), expect=0), patience=0.1)
    server.go_on()
    await store.log.when_up(30)
    await store.commit(Change().put(THING, thing("a", 2), expect=None), patience=None)
    assert store.mirror(THING).one("default", "a").value.size == 2


async def test_a_store_that_was_away_for_long_sees_what_went(
    server: NatsServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection was away for so long that even the marker of a deletion is gone."""
    mirror = store.mirror(THING)
    for name in "abc":
        await store.commit(Change().put(THING, thing(name, 1), expect=0))
    gone: list[str] = []
    mirror.watch(lambda key, old, new: gone.append(key[1]) if new is None else None)
    assert isinstance(store.log, Bus)
    await store.log.api("STREAM.PURGE.LOG", {"filter": THING.subject(("default", "b"))})
    assert mirror.get("default", "b") is not None
    monkeypatch.setattr("chassis.tail.RESYNC_AFTER", 0)
    await server.kill()
    await server.start()
    await store.until(THING, ("default", "b"), lambda row: row is None, timeout=30)
    assert sorted(row.value.name for row in mirror.select()) == ["a", "c"]
    assert gone == ["b"]


async def test_a_log_that_was_replaced_is_read_anew(server: NatsServer, store: Store) -> None:
    mirror = store.mirror(THING)
    for name in "abc":
        await store.commit(Change().put(THING, thing(name, 1), expect=0))
    await server.kill()
    shutil.rmtree(server.directory / "nats")
    await server.start()
    other = await server.store()
    await other.start()
    revision = await other.commit(Change().put(THING, thing("a", 9), expect=0))
    await store.until(THING, ("default", "c"), lambda row: row is None, timeout=30)
    await store.until(THING, ("default", "a"), lambda row: row is not None and row.value.size == 9, timeout=30)
    assert list(mirror.select()) == [Versioned(thing("a", 9), revision, ("default", "a"))]
    await store.commit(Change().put(THING, thing("a", 10), expect=revision))
    await other.stop()


async def test_a_bus_that_finds_nobody_says_so(tmp_path: Path) -> None:
    bus = Bus(tmp_path, "lonely")
    with pytest.raises(Unavailable):
        await bus.connect(timeout=0.3)
    with pytest.raises(Unavailable):
        await bus.request("nobody", timeout=1)
    assert not bus.up
