"""The one stream: its shape, and how it comes into being.

Rows and events have one message a subject: an event's is its own, and a row takes the place of the one before by a roll-up (see
`log.Message.guarded`; `level` finishes one that a crash cut short). No limit of the stream can ever discard a row: events end by their
own time to live, and `trim` bounds their number and size.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chassis.errors import Unavailable
from chassis.events import EVENTS
from chassis.log import ROWS, STREAM, Stored

if TYPE_CHECKING:
    from chassis.bus import Bus

TRIMMED = "nubibus.trimmed"  # metadata of the stream: up to which sequence `trim` has dropped events
RESTORING = "nubibus.restoring"  # likewise: a backup is being written into it, and is not whole yet
_SAMPLE = 64  # events whose mean size stands for that of all

SHAPE: dict[str, Any] = {
    "name": STREAM,
    "subjects": ["row.>", "event.>"],
    "storage": "file",
    "retention": "limits",
    "discard": "old",
    "max_msgs_per_subject": -1,
    "allow_rollup_hdrs": True,
    "allow_atomic": True,
    "allow_msg_ttl": True,
    "allow_direct": True,
    "duplicate_window": 1_000_000_000,
}


async def ensure(bus: Bus, *, replicas: int | None = None, timeout: float = 30.0) -> None:
    """Create or update the stream; waits while JetStream is not ready yet (it reads its files first).

    `replicas`: NUBIBUS_REPLICAS of the environment if not given, else 1. Raises Unavailable also for a log that is half restored: who took
    what is there for all there is would take the rest of the host's things for debris.
    """
    replicas = replicas or int(os.environ.get("NUBIBUS_REPLICAS") or 1)
    wanted = {**SHAPE, "num_replicas": replicas}
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        try:
            info = await bus.api(f"STREAM.INFO.{STREAM}")
            noted = noted_of(info)
            if RESTORING in noted:
                break
            if "error" not in info and _same(info["config"], wanted):
                return
            verb = "CREATE" if "error" in info else "UPDATE"
            answer = await bus.api(f"STREAM.{verb}.{STREAM}", {**wanted, "metadata": noted})
            if "error" not in answer:
                return
            reason = str(answer["error"].get("description"))
        except Unavailable as e:
            reason = e.text
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable(f"The stream {STREAM} cannot be created: {reason}")
        await asyncio.sleep(0.05)
    raise Unavailable("The log is only half restored: repeat nubibus log-restore, with the same file or another")


def noted_of(info: dict[str, Any]) -> dict[str, str]:
    """The metadata in an answer to STREAM.INFO."""
    return dict((info.get("config") or {}).get("metadata") or {})


def _same(config: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(config.get(key) == value for key, value in wanted.items())


async def level(bus: Bus) -> int:
    """See that no row has an older one beside it, which a crash can leave; how many had."""
    state = (await bus.stream())["state"]
    if state["messages"] == state.get("num_subjects", 0):
        return 0
    double: list[str] = []
    seen, total = 0, 1
    while seen < total:  # the server tells of 100,000 subjects at a time
        page = await _asked(bus, f"STREAM.INFO.{STREAM}", {"subjects_filter": f"{ROWS}>", "offset": seen})
        counts = page["state"].get("subjects") or {}
        double += [subject for subject, count in counts.items() if count > 1]
        seen, total = seen + len(counts), page.get("total", 0) if counts else 0
    for subject in double:
        await _asked(bus, f"STREAM.PURGE.{STREAM}", {"filter": subject, "keep": 1})
    return len(double)


async def trim(bus: Bus, keep: int | None = None, *, size: int | None = None, age: float | None = None) -> int:
    """Leave the newest `keep` events, about `size` bytes of them, and none older than `age` seconds; how many went.

    They go in the order of the log, so that what is left has no gap. Rows are never touched.
    """
    found = await bus.page(EVENTS, 0, _SAMPLE)
    if not found:
        return 0
    if size is not None:
        fits = size * len(found) // max(1, sum(map(_weight, found)))
        keep = fits if keep is None else min(keep, fits)
    after = None if age is None else time.time_ns() - int(age * 1_000_000_000)

    def stays(event: Stored) -> bool:
        return (keep is None or _pending(event) < keep) and (after is None or event.time >= after)

    count = _pending(found[0]) + 1
    if stays(found[0]):
        return 0
    info = await bus.stream()
    first = await _first(bus, stays, found[0].sequence, int(info["state"]["last_seq"]) + 1)
    # What will be dropped is noted first: a listener must never be told that nothing is missing when something is.
    config = info["config"]
    config["metadata"] = {**noted_of(info), TRIMMED: str(first - 1)}
    await _asked(bus, f"STREAM.UPDATE.{STREAM}", config)
    answer = await _asked(bus, f"STREAM.PURGE.{STREAM}", {"filter": EVENTS, "seq": first})
    return min(count, int(answer.get("purged", 0)))


async def _first(bus: Bus, stays: Callable[[Stored], bool], low: int, high: int) -> int:
    """The lowest sequence from which on every event stays, by halving; it lies beyond `low` and is at most `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        page = await bus.page(EVENTS, middle - 1, 1)
        if not page or stays(page[0]):
            high = middle
        else:
            low = page[0].sequence
    return high


def _pending(event: Stored) -> int:
    """How many events come after one that was read by `Bus.page`."""
    return int(event.headers["Nats-Num-Pending"])


def _weight(event: Stored) -> int:
    """About what an event takes on disk."""
    return len(event.subject) + len(event.data) + sum(len(name) + len(text) + 4 for name, text in event.headers.items())


async def _asked(bus: Bus, name: str, request: Any) -> dict[str, Any]:
    answer = await bus.api(name, request, timeout=30.0)
    if "error" in answer:
        raise Unavailable(f"The log refused {name}: {answer['error'].get('description')}")
    return answer
