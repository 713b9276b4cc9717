"""The one call the supervisor makes: stop all instances in their order. Apart, because it brings the bus's client with it."""

from __future__ import annotations

from pathlib import Path


async def stop_all(directory: Path, url: str, seconds: float) -> None:
    """Returns when every instance of this member has stopped. Raises chassis.errors.Unavailable when the part is away."""
    from chassis.bus import Bus
    from chassis.rpc import Rpc
    from gen.nubibus.rest.v1 import rest_pb2

    bus = Bus(url, "supervisor")
    await bus.connect(5)
    try:
        rpc = Rpc(bus, directory)
        await rpc.open()
        await rpc.call("nubibus.instances.v1.Host", "StopAll", rest_pb2.Empty(), timeout=seconds)
        await rpc.close()
    finally:
        await bus.close()
