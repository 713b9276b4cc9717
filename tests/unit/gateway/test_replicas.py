"""Several gateways: any of them answers for what any other was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest_asyncio

from chassis import service
from chassis.operations import Operations
from chassis.service import Settings
from services.gateway.__main__ import wire
from tests.unit.gateway.world import World, make_identity


@pytest_asyncio.fixture
async def second(world: World, tmp_path: Path) -> AsyncIterator[World]:
    """A second gateway on the same bus, with a socket of its own."""
    folder = tmp_path / "second"
    (folder / "run").mkdir(parents=True)
    make_identity(folder, "server")
    part = await service.build("gateway", Settings(folder))
    await wire(part)
    ready = asyncio.Event()
    running = asyncio.create_task(part.run(on_ready=ready.set))
    async with asyncio.timeout(30):
        await ready.wait()
    yield replace(world, directory=folder, gateway=part)
    part.stop()
    await running
    await part.calls.close()
    await part.store.stop()
    await part.bus.close()


async def test_operations_are_known_to_all(world: World, second: World) -> None:
    store = await world.nats.store("instances")
    operations = Operations(store, "instances")
    await store.start()
    for number in range(20):
        accepted = await operations.open("task", description="x")
        url = f"/1.0/operations/{accepted.id}"
        here, there = (world, second) if number % 2 else (second, world)
        assert (await here.ask("GET", url)).status == 200
        waiting = asyncio.create_task(there.ask("GET", f"{url}/wait?timeout=20"))
        await operations.end(accepted.id)
        assert (await waiting).metadata["status"] == "Success"
    await store.stop()


async def test_one_goes_and_the_other_stays(world: World, second: World) -> None:
    assert (await second.ask("GET", "/1.0/instances/c1")).status == 200
    assert (await world.ask("GET", "/1.0/instances/c1")).status == 200
    second.gateway.stop()
    async with asyncio.timeout(30):
        while second.gateway.ready:
            await asyncio.sleep(0.01)
    assert (await world.ask("GET", "/1.0/instances/c1")).status == 200
