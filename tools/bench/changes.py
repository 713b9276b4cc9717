"""From a change to its event: a PATCH is sent, and a websocket that listens hears of it."""

from __future__ import annotations

import json
import queue
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime

from websockets.sync.client import ClientConnection

from tools.bench.rows import Row
from tools.bench.subject import Subject

PATCH = Row("from a PATCH to its event", 0.2)
RATE, LISTENERS, CLIENTS = 200, 20, 4
EVENT = Row(f"event from change to websocket, p99 at {RATE} changes a second with {LISTENERS} listeners", 10.0)
DEADLINE = 30.0
UPGRADE = (
    b"GET /1.0/events?type=lifecycle HTTP/1.1\r\nHost: lxd\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


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


def event_latency(subject: Subject, seconds: float = 10.0) -> list[float]:
    """Milliseconds from the time that an event bears to its arrival, while clients change profiles at `RATE` together.

    One listener notes the times; the others take what they get and look at nothing, so that the measuring costs the machine little.
    """
    found: list[float] = []

    def listen(connection: ClientConnection) -> None:
        for message in connection:
            now = time.time()
            found.append((now - datetime.fromisoformat(_micro(json.loads(message)["timestamp"])).timestamp()) * 1000)

    names = [subject.world.profile() for _ in range(CLIENTS)]
    with subject.api.websocket("/1.0/events?type=lifecycle") as connection, _listening(subject, LISTENERS - 1):
        listener = threading.Thread(target=listen, args=(connection,), daemon=True)
        listener.start()
        begin = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda turn: _change(subject, names[turn], begin + turn / RATE, seconds), range(CLIENTS)))
    listener.join(DEADLINE)
    subject.world.close()
    return found


def _change(subject: Subject, name: str, begin: float, seconds: float) -> None:
    """A client's share of the changes from its turn on, each at its time, or at once when the one before took too long."""
    for number in range(int(seconds * RATE / CLIENTS)):
        time.sleep(max(0.0, begin + number * CLIENTS / RATE - time.monotonic()))
        subject.api.patch(f"/1.0/profiles/{name}", {"description": str(number)})


@contextmanager
def _listening(subject: Subject, count: int) -> Iterator[None]:
    """So many more listeners, who read and forget."""
    with selectors.DefaultSelector() as found:
        for _ in range(count):
            listener = socket.socket(socket.AF_UNIX)
            listener.connect(str(subject.api.socket))
            listener.sendall(UPGRADE)
            found.register(listener, selectors.EVENT_READ)
        ended = threading.Event()
        reading = threading.Thread(target=_drop, args=(found, ended), daemon=True)
        reading.start()
        try:
            yield
        finally:
            ended.set()
            reading.join(DEADLINE)
            for key in list(found.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]  # a socket


def _drop(listeners: selectors.BaseSelector, ended: threading.Event) -> None:
    while not ended.is_set():
        for key, _ in listeners.select(timeout=0.1):
            with suppress(OSError):
                key.fileobj.recv(1 << 20)  # type: ignore[union-attr]  # a socket


def _micro(stamp: str) -> str:
    """RFC 3339 with nanoseconds, cut to what datetime reads."""
    head, _, tail = stamp.partition(".")
    digits = "".join(c for c in tail if c.isdigit())[:6].ljust(6, "0") if tail else "000000"
    return f"{head.rstrip('Z')}.{digits}+00:00"
