"""From a change to its event: a PATCH is sent, and a websocket that listens hears of it."""

from __future__ import annotations

import json
import time

from tools.bench.rows import Row
from tools.bench.subject import Subject

PATCH = Row("from a PATCH to its event", 0.2)
DEADLINE = 30.0


def patch_event(subject: Subject, rounds: int = 30) -> list[float]:
    """Milliseconds from sending the PATCH of a stopped instance to the arrival of its instance-updated."""
    name = subject.world.instance()
    found = []
    with subject.api.websocket("/1.0/events?type=lifecycle") as connection:
        for number in range(rounds):
            begin = time.perf_counter()
            subject.api.patch(f"/1.0/instances/{name}", {"config": {"user.bench": str(number)}})
            arrived = _wait(connection, name)
            found.append((arrived - begin) * 1000)
    subject.world.close()
    return found


def _wait(connection: object, name: str) -> float:
    """When the event came."""
    while True:
        event = json.loads(connection.recv(timeout=DEADLINE))  # type: ignore[attr-defined]
        if event["metadata"]["action"] == "instance-updated" and event["metadata"]["source"].endswith(name):
            return time.perf_counter()
