"""The operations' endpoints over the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chassis.operations import Operations
from chassis.store import Store
from tests.unit.gateway.world import World


class Owner:
    """Operations as a service writes them."""

    def __init__(self, store: Store, operations: Operations) -> None:
        self.store = store
        self.operations = operations


@pytest_asyncio.fixture
async def owner(world: World) -> AsyncIterator[Owner]:
    store = await world.nats.store("instances")
    operations = Operations(store, "instances")
    await store.start()
    yield Owner(store, operations)
    await store.stop()


async def test_life_of_an_operation(world: World, owner: Owner) -> None:
    assert (await world.ask("GET", "/1.0/operations")).metadata == {}
    accepted = await owner.operations.open(
        "task", description="Creating instance", resources={"instances": ["/1.0/instances/c1"]}
    )
    url = f"/1.0/operations/{accepted.id}"
    shown = (await world.ask("GET", url)).metadata
    assert list(shown) == [
        "id", "class", "description", "created_at", "updated_at", "status", "status_code", "resources", "metadata",
        "may_cancel", "err", "location",
    ]  # fmt: skip
    assert (shown["status"], shown["status_code"], shown["metadata"]) == ("Running", 103, None)
    assert (await world.ask("GET", "/1.0/operations")).metadata == {"running": [url]}
    assert (await world.ask("GET", "/1.0/operations?recursion=1")).metadata == {"running": [shown]}
    assert (await world.ask("GET", "/1.0/operations?project=blue")).metadata == {}
    assert (await world.ask("GET", "/1.0/operations?all-projects=1")).metadata == {"running": [url]}
    waiting = asyncio.create_task(world.ask("GET", f"{url}/wait"))
    early = await world.ask("GET", f"{url}/wait?timeout=0")
    assert early.metadata["status_code"] == 103
    assert not waiting.done()
    await owner.operations.end(accepted.id, err="it failed")
    async with asyncio.timeout(20):
        ended = (await waiting).metadata
    assert (ended["status"], ended["err"]) == ("Failure", "it failed")
    assert (await world.ask("GET", "/1.0/operations")).metadata == {"failure": [url]}


async def test_ended_operations_leave_the_list_but_stay_readable(
    world: World, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = await owner.operations.open("task", description="x")
    await owner.operations.end(accepted.id)
    await world.gateway.store.refresh()  # this client has seen nothing that the gateway would have to wait for
    monkeypatch.setattr("services.gateway.operations.SHOWN", 0.0)
    assert (await world.ask("GET", "/1.0/operations")).metadata == {}
    assert (await world.ask("GET", f"/1.0/operations/{accepted.id}")).metadata["status"] == "Success"


async def test_an_operation_is_readable_the_moment_it_is_accepted(world: World, owner: Owner) -> None:
    for _ in range(50):
        accepted = await owner.operations.open("task", description="x")
        assert (await world.ask("GET", f"/1.0/operations/{accepted.id}")).status == 200
        assert (await world.ask("GET", f"/1.0/operations/{accepted.id}/wait?timeout=0")).status == 200


async def test_cancel_is_asked_of_the_owner(world: World, owner: Owner) -> None:
    fixed = await owner.operations.open("task", description="x")
    reply = await world.ask("DELETE", f"/1.0/operations/{fixed.id}")
    assert (reply.status, reply.error) == (400, "This operation can't be cancelled")
    token = await owner.operations.open_token(description="Executing operation", metadata={"secret": "abc"})
    reply = await world.ask("DELETE", f"/1.0/operations/{token.id}")
    assert reply.status == 501  # the double of instances has no Operations servicer: it was asked
    await owner.operations.end(token.id)
    await world.ask("GET", f"/1.0/operations/{token.id}/wait")
    reply = await world.ask("DELETE", f"/1.0/operations/{token.id}")
    assert (reply.status, reply.error) == (400, "Only running operations can be cancelled")


async def test_a_wait_that_gives_no_number(world: World, owner: Owner) -> None:
    accepted = await owner.operations.open("task", description="x")
    reply = await world.ask("GET", f"/1.0/operations/{accepted.id}/wait?timeout=abc")
    assert (reply.status, reply.error) == (500, 'strconv.Atoi: parsing "abc": invalid syntax')
