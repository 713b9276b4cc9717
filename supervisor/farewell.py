"""What the supervisor asks of the parts before it ends them for good: stop all instances in their order, then clear the host.

Apart from the rest, because it brings the bus's client with it.
"""

from __future__ import annotations

from pathlib import Path

KEEPERS = ("network", "storage")  # parts that keep links, daemons, tables or mounts on the host
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
