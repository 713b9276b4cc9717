"""From a change to its event: a PATCH is sent, and a websocket that listens hears of it."""

from __future__ import annotations

import json
import queue
import threading
import time

from websockets.sync.client import ClientConnection

from tools.bench.rows import Row
from tools.bench.subject import Subject

PATCH = Row("from a PATCH to its event", 0.2)
DEADLINE = 30.0


def patch_event(subject: Subject, rounds: int = 30) -> list[float]:
    """Milliseconds from sending the PATCH of a stopped instance to the arrival of its instance-updated, which may be before the answer."""
    name = subject.world.instance()
    found = []
    arrivals: queue.Queue[float] = queue.Queue()
    with subject.api.websocket("/1.0/events?type=lifecycle") as connection:
        listener = threading.Thread(target=_listen, args=(connection, name, arrivals), daemon=True)
        listener.start()
        for number in range(rounds):
            begin = time.perf_counter()
            subject.api.patch(f"/1.0/instances/{name}", {"config": {"user.bench": str(number)}})
            found.append((arrivals.get(timeout=DEADLINE) - begin) * 1000)
    listener.join(DEADLINE)
    subject.world.close()
    return found


def _listen(connection: ClientConnection, name: str, arrivals: queue.Queue[float]) -> None:
    """Note when events of the instance come, until the connection ends."""
    for message in connection:
        now = time.perf_counter()
        event = json.loads(message)["metadata"]
        if event["action"] == "instance-updated" and event["source"].endswith(name):
            arrivals.put(now)
