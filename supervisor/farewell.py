"""What the supervisor does before it ends the parts for good: let operations end, stop all instances in order, clear the host.

Apart from the rest, because it brings the bus's client with it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chassis.bus import Bus

KEEPERS = ("network", "storage")  # parts that keep links, daemons, tables or mounts on the host
DEFAULT_MINUTES = 5  # of core.shutdown_timeout
CLEARING = 60.0  # seconds for each of them


async def stop_all(directory: Path, url: str, seconds: float) -> list[str]:
    """What could not be stopped or cleared, a line each. Raises chassis.errors.Unavailable when the instances part is away."""
    from chassis import contracts, errors
    from chassis.bus import Bus
    from chassis.rpc import Rpc
    from gen.nubibus.instances.v1 import power_pb2
    from gen.nubibus.rest.v1 import rest_pb2

    bus = Bus(url, "supervisor")
    await bus.connect(5)
    try:
        rpc = Rpc(bus, directory)
        await rpc.open()
        await operations_end(bus)
        request = power_pb2.ShutdownRequest(timeout=int(seconds))
        answer = await rpc.call("nubibus.instances.v1.Power", "Shutdown", request, timeout=seconds)
        left = [f"{address} did not stop" for address in answer.failed]
        for part in KEEPERS:
            service = f"nubibus.{part}.v1.Power"
            if service not in contracts.table():
                continue
            try:
                await rpc.call(service, "Shutdown", rest_pb2.Empty(), timeout=CLEARING)
            except errors.Fault as fault:
                left.append(f"{part} has not cleared the host: {fault.text}")
        await rpc.close()
        return left
    finally:
        await bus.close()


async def operations_end(bus: Bus) -> None:
    """Wait for the tasks that run, at most core.shutdown_timeout minutes. Connections (exec, console) are not waited for."""
    from chassis.operation import OPERATION
    from chassis.retention import SERVER_CONFIG
    from chassis.store import Store

    store = Store(bus, "supervisor")
    operations, configuration = store.mirror(OPERATION), store.mirror(SERVER_CONFIG)
    await store.start()
    row = configuration.get("cluster")
    minutes = int((row.value.config.get("core.shutdown_timeout") if row else None) or DEFAULT_MINUTES)
    changed = asyncio.Event()
    operations.watch(lambda *_: changed.set())
    with suppress(TimeoutError):
        async with asyncio.timeout(minutes * 60):
            while any(row.value.kind == "task" and not row.value.final for row in operations.select()):
                await changed.wait()
                changed.clear()
    await store.stop()
