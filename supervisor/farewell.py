"""What the supervisor asks of the parts before it ends them for good: stop all instances in their order, then clear the host.

Apart from the rest, because it brings the bus's client with it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

NETWORKS = 30.0  # seconds that bridges, rules and DHCP may take to leave the host


async def stop_all(directory: Path, url: str, seconds: float) -> list[str]:
    """Addresses of those that could not be stopped. Raises chassis.errors.Unavailable when the part is away."""
    from chassis.bus import Bus
    from chassis.errors import Unavailable
    from chassis.rpc import Rpc
    from gen.nubibus.instances.v1 import power_pb2
    from gen.nubibus.rest.v1 import rest_pb2

    bus = Bus(url, "supervisor")
    await bus.connect(5)
    try:
        rpc = Rpc(bus, directory)
        await rpc.open()
        request = power_pb2.ShutdownRequest(timeout=int(seconds))
        answer = await rpc.call("nubibus.instances.v1.Power", "Shutdown", request, timeout=seconds)
        with suppress(Unavailable):
            await rpc.call("nubibus.network.v1.Power", "Shutdown", rest_pb2.Empty(), timeout=NETWORKS)
        await rpc.close()
        return list(answer.failed)
    finally:
        await bus.close()
