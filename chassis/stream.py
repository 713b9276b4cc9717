"""The one stream: its shape, and how it comes into being.

Rows and events have one message a subject. No limit of the stream can ever discard a row: events end by their own time to live, and
`trim` bounds their number.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from chassis.errors import Unavailable
from chassis.log import STREAM

if TYPE_CHECKING:
    from chassis.bus import Bus

TRIMMED = "nubibus.trimmed"  # metadata of the stream: below which sequence `trim` may have dropped events

SHAPE: dict[str, Any] = {
    "name": STREAM,
    "subjects": ["row.>", "event.>"],
    "storage": "file",
    "retention": "limits",
    "discard": "old",
    "max_msgs_per_subject": 1,
    "allow_atomic": True,
    "allow_msg_ttl": True,
    "allow_direct": True,
    "duplicate_window": 1_000_000_000,
}


async def ensure(bus: Bus, *, replicas: int | None = None, timeout: float = 30.0) -> None:
    """Create or update the stream; waits while JetStream is not ready yet (it reads its files first).

    `replicas`: NUBIBUS_REPLICAS of the environment if not given, else 1.
    """
    replicas = replicas or int(os.environ.get("NUBIBUS_REPLICAS") or 1)
    wanted = {**SHAPE, "num_replicas": replicas}
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        try:
            info = await bus.api(f"STREAM.INFO.{STREAM}")
            if "error" not in info and _same(info["config"], wanted):
                return
            verb = "CREATE" if "error" in info else "UPDATE"
            answer = await bus.api(f"STREAM.{verb}.{STREAM}", wanted)
            if "error" not in answer:
                return
            reason = str(answer["error"].get("description"))
        except Unavailable as e:
            reason = e.text
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable(f"The stream {STREAM} cannot be created: {reason}")
        await asyncio.sleep(0.05)


def _same(config: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(config.get(key) == value for key, value in wanted.items())


async def trim(bus: Bus, keep: int) -> int:
    """Leave only the newest `keep` events; how many went. Rows are never touched."""
    info = await bus.stream(subjects="event.>")
    count = sum((info["state"].get("subjects") or {}).values())
    if count <= keep:
        return 0
    # What will be dropped is noted first: a listener must never be told that nothing is missing when something is.
    config = info["config"]
    config["metadata"] = {**(config.get("metadata") or {}), TRIMMED: str(info["state"]["last_seq"])}
    await _asked(bus, f"STREAM.UPDATE.{STREAM}", config)
    answer = await _asked(bus, f"STREAM.PURGE.{STREAM}", {"filter": "event.>", "keep": keep})
    return int(answer.get("purged", 0))


async def _asked(bus: Bus, name: str, request: Any) -> dict[str, Any]:
    answer = await bus.api(name, request, timeout=30.0)
    if "error" in answer:
        raise Unavailable(f"The log refused {name}: {answer['error'].get('description')}")
    return answer
