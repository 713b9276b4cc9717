"""The one call the supervisor makes: stop all instances in their order. Apart, because it brings the bus's client with it."""

from __future__ import annotations

from pathlib import Path


async def stop_all(directory: Path, url: str, seconds: float) -> list[str]:
    """Addresses of those that could not be stopped. Raises chassis.errors.Unavailable when the part is away."""
    from chassis.bus import Bus
    from chassis.rpc import Rpc
    from gen.nubibus.instances.v1 import power_pb2

    bus = Bus(url, "supervisor")
    await bus.connect(5)
    try:
        rpc = Rpc(bus, directory)
        await rpc.open()
        request = power_pb2.ShutdownRequest(timeout=int(seconds))
        answer = await rpc.call("nubibus.instances.v1.Power", "Shutdown", request, timeout=seconds)
        await rpc.close()
        return list(answer.failed)
    finally:
        await bus.close()
