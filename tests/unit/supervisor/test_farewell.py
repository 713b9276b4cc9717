"""The end of a server: it waits for the tasks that run, not for connections, and not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chassis.operations import Operations
from chassis.retention import SERVER_CONFIG, ServerConfig
from chassis.store import Change, Store
from chassis.testing.memory import MemoryLog
from supervisor.farewell import operations_end


@pytest.fixture
async def operations() -> Any:
    store = Store(MemoryLog(), "instances")
    made = Operations(store, "instances")
    await store.start()
    yield made
    await store.stop()


async def test_it_waits_for_tasks_and_not_for_connections(operations: Operations) -> None:
    task = await operations.open("task", description="Creating instance")
    await operations.open_socket(description="Executing command")
    waiting = asyncio.create_task(operations_end(operations.store.log))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await operations.end(task.id)
    await asyncio.wait_for(waiting, 30)


async def test_it_does_not_wait_longer_than_configured(operations: Operations) -> None:
    config = ServerConfig(config={"core.shutdown_timeout": "-1"})
    await operations.store.commit(Change().put(SERVER_CONFIG, config, expect=0))
    await operations.open("task", description="Creating instance")
    await asyncio.wait_for(operations_end(operations.store.log), 30)  # type: ignore[arg-type]
