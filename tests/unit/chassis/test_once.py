"""Requests that are done once, and those that are only asked about: what a call's changes leave in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import msgspec
import pytest
import pytest_asyncio

from chassis import calls, documents, errors, events
from chassis.calls import Call, Once
from chassis.kinds import Kind
from chassis.once import DONE, remember
from chassis.store import Change, Store
from chassis.testing.memory import MemoryLog
from gen.nubibus.rest.v1 import rest_pb2


class Thing(msgspec.Struct, frozen=True):
    name: str
    text: str = ""


THING = Kind("tests_thing", Thing, ("name",))


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Store]:
    made = Store(MemoryLog())
    made.mirror(THING)
    await made.start()
    yield made
    await made.stop()


@contextmanager
def serving(call: Call) -> Iterator[Call]:
    token = calls.enter(call)
    try:
        yield call
    finally:
        calls.leave(token)


def keyed() -> Call:
    return Call(once=Once("key", "digest"), served=True)


def made(name: str) -> Change:
    change = Change().put(THING, Thing(name), expect=0)
    return change.event(events.lifecycle("thing-created", f"/1.0/things/{name}"))


async def test_the_key_and_its_effect_are_one_change(store: Store) -> None:
    with serving(keyed()) as call:
        await store.commit(made("a"))
        row = await store.fetch(DONE, "key")
        assert row is not None
        assert (row.value.digest, row.value.location, row.value.answer) == ("digest", "/1.0/things/a", b"")
        await remember(store, call, documents.empty(location="/1.0/things/a"))
    row = await store.fetch(DONE, "key")
    assert row is not None
    answer = rest_pb2.Answer.FromString(row.value.answer).document
    assert (answer.status, answer.location) == (201, "/1.0/things/a")


async def test_of_two_calls_with_a_key_one_has_its_effect(store: Store) -> None:
    with serving(keyed()):
        await store.commit(made("a"))
    with serving(keyed()), pytest.raises(errors.Conflict):
        await store.commit(made("b"))
    assert await store.fetch(THING, "b") is None


async def test_a_record_that_a_crash_makes_void_does_not_count(store: Store) -> None:
    with serving(keyed()):
        await store.commit(Change().put(THING, Thing("a"), expect=0), settles=False)
        assert await store.fetch(DONE, "key") is None
        await store.commit(made("b"))
        assert await store.fetch(DONE, "key") is not None
        await store.commit(made("c"))  # only the first one that counts bears it


async def test_what_changed_nothing_is_kept_too(store: Store) -> None:
    with serving(keyed()) as call:
        await store.commit(Change())
        assert await store.fetch(DONE, "key") is None
        await remember(store, call, documents.empty())
    row = await store.fetch(DONE, "key")
    assert row is not None
    assert row.value.answer


async def test_nothing_is_written_for_who_only_asks(store: Store) -> None:
    with serving(Call(validate_only=True)):
        await store.commit(Change())
        for settles in (True, False):
            with pytest.raises(errors.Validated):
                await store.commit(made("a"), settles=settles)
    assert await store.fetch(THING, "a") is None


def test_a_key_goes_no_further_than_to_the_service_that_is_asked_and_asking_goes_all_the_way() -> None:
    sent = Call(once=Once("key", "digest"), validate_only=True).to_headers(1.0)
    received = calls.from_headers(sent)
    assert received.once is not None
    assert (received.once.id, received.once.digest, received.validate_only) == ("key", "digest", True)
    onwards = calls.from_headers(received.to_headers(1.0))
    assert (onwards.once, onwards.validate_only) == (None, True)
