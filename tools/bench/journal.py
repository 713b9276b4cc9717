"""What durability costs: how long each write to the log takes in a create and in a start, seen by a third party on the bus.

A write is one message or one atomic batch; its time is from its first message to the acknowledgement, which comes when it is on the disk.
What is seen may be late, the first message more than the acknowledgement: it can have taken longer, not less.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nats.aio.msg import Msg

from chassis.bus import Bus
from tests.conformance.world import unique
from tools.bench.subject import Subject

QUIET = 0.3  # seconds in which what follows an operation (volatile keys, times of use) is still counted as its own
BATCH, COMMIT = "Nats-Batch-Id", "Nats-Batch-Commit"


@dataclass
class Write:
    """One write under way: what it says of itself, when it began, and whether its last message was sent."""

    began: float
    what: list[str] = field(default_factory=list)


class Watch:
    """Listens to everything on the bus and times the writes."""

    def __init__(self) -> None:
        self.took: list[tuple[str, float]] = []  # what was written, milliseconds; in the order of the acknowledgements
        self._open: dict[str, Write] = {}  # by batch
        self._sent: dict[str, Write] = {}  # by the subject that the acknowledgement goes to

    async def hear(self, msg: Msg) -> None:
        now = time.perf_counter()
        if (write := self._sent.pop(msg.subject, None)) is not None:
            self.took.append((" and ".join(dict.fromkeys(write.what)), (now - write.began) * 1000))
        elif msg.subject.startswith(("row.", "event.")):
            headers = msg.headers or {}
            batch = headers.get(BATCH, "")
            write = self._open.setdefault(batch, Write(now)) if batch else Write(now)
            write.what += _told(msg)
            if not batch or COMMIT in headers:
                self._open.pop(batch, None)
                self._sent[msg.reply] = write


def _told(msg: Msg) -> list[str]:
    """What a message is, for the table."""
    kind = msg.subject.split(".")[1]
    if msg.subject.startswith("event.") or kind == "lock":
        return []
    if kind != "operation":
        return [f"the row of {kind.replace('_', ' ')}"]
    row: dict[str, Any] = json.loads(msg.data)
    if row.get("status_code", 0) >= 200:
        return [f"{row['saga']}: its end"]
    done = [entry[0] for entry in row.get("journal", ())]  # an entry is an array: step, state, result, milliseconds
    return [f"{row['saga']}: after {done[-1]}" if done else f"{row['saga']}: accepted"]


def journal_profile(subject: Subject, rounds: int = 20) -> str:
    """A Markdown table of the writes of a create and a start, medians."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        name = unique("journal")
        body = subject.world.body(name)
        for action in (
            lambda body=body: subject.api.post("/1.0/instances", body),
            lambda name=name: subject.world.state(name, "start"),
        ):
            for what, took in asyncio.run(_watched(subject, action)):
                found[what].append(took)
        subject.world.remove_instance(name)
    lines = ["| write to the log | ms (median) | ms (highest) |", "|---|---|---|"]
    regular = {what: took for what, took in found.items() if what and len(took) * 2 > rounds}
    lines += [f"| {what} | {statistics.median(took):.2f} | {max(took):.2f} |" for what, took in regular.items()]
    return "\n".join(lines)


async def _watched(subject: Subject, action: Callable[[], Any]) -> list[tuple[str, float]]:
    """The writes while something is done."""
    bus = Bus(subject.server.directory, "bench")
    await bus.connect(10)
    watch = Watch()
    try:
        await bus.nats.subscribe(">", cb=watch.hear)
        await bus.nats.flush()
        await asyncio.to_thread(action)
        await asyncio.sleep(QUIET)
    finally:
        await bus.close()
    return watch.took
