"""From a change to its event: a PATCH is sent, and a websocket that listens hears of it."""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from http import HTTPStatus
from http.client import HTTPResponse

from websockets.sync.client import ClientConnection

from tools.bench import disk
from tools.bench.rows import Row
from tools.bench.subject import Subject

PATCH = Row("from a PATCH to its event", 0.2)
RATE, LISTENERS, CLIENTS = 200, 20, 4
EVENT = Row(f"event from change to websocket, p99 at {RATE} changes a second with {LISTENERS} listeners", 10.0)
SENT = Row("from sending a PATCH to its event, median at the same load", None)
SENT_P99 = Row("from sending a PATCH to its event, p99 at the same load", None)
REACHED = Row(f"changes reached of those {RATE}", None, "1/s", higher=True)
DISK = Row("the disk itself", None)  # has a table of its own
DEADLINE = 30.0
UPGRADE = (
    b"GET /1.0/events?type=lifecycle HTTP/1.1\r\nHost: lxd\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def patch_event(subject: Subject, rounds: int = 30) -> list[float]:
    """Milliseconds from sending the PATCH of a stopped instance to the arrival of its instance-updated, which may be before the answer.

    Both go through bare sockets that stand, as those of `lxc` do: a client of Python's would add a millisecond of its own.
    """
    name = subject.world.instance()
    found = []
    with _connected(subject) as listener, _connected(subject) as client:
        listener.sendall(UPGRADE)
        _until(listener, b"\r\n\r\n")
        for number in range(rounds):
            request = _patch(f"/1.0/instances/{name}", {"config": {"user.bench": str(number)}})
            begin = time.perf_counter()
            client.sendall(request)
            _until(listener, b"instance-updated", name.encode())
            found.append((time.perf_counter() - begin) * 1000)
            _answered(client)
    subject.world.close()
    return found


@contextmanager
def _connected(subject: Subject) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as found:
        found.settimeout(DEADLINE)
        found.connect(str(subject.api.socket))
        yield found


def _patch(path: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: lxd\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def _until(listener: socket.socket, *words: bytes) -> None:
    """Read until these words have come."""
    found = b""
    while not all(word in found for word in words):
        piece = listener.recv(1 << 16)
        if not piece:
            raise ConnectionError(f"The server ended the connection before {words} came")
        found += piece


def _answered(client: socket.socket) -> None:
    """Read the answer to the end."""
    response = HTTPResponse(client, method="PATCH")
    response.begin()
    text = response.read()
    if response.status != HTTPStatus.OK:
        raise ConnectionError(f"The PATCH was refused: {text.decode()}")


def events(subject: Subject, samples: dict[Row, list[float]]) -> None:
    """The events' rows; half of the disk's samples before them and half after, while the server has nothing to do."""
    directory = subject.server.directory.parent
    samples[DISK] += disk.appends(directory)
    event_latency(subject, samples)
    samples[DISK] += disk.appends(directory)


def event_latency(subject: Subject, samples: dict[Row, list[float]], seconds: float = 10.0) -> None:
    """Milliseconds to the arrival of each event while clients change profiles at `RATE` together: from the time that it bears,
    and from when the client sent its PATCH; and how many changes a second there were, when the server does not keep up.

    One listener notes the times; the others take what they get and look at nothing, so that the measuring costs the machine little.
    """
    borne: list[float] = []
    arrived: dict[str, list[float]] = defaultdict(list)
    names = [subject.world.profile() for _ in range(CLIENTS)]
    each = int(seconds * RATE / CLIENTS)
    complete = threading.Event()

    def listen(connection: ClientConnection) -> None:
        for message in connection:
            now, clock = time.time(), time.perf_counter()
            event = json.loads(message)
            borne.append((now - datetime.fromisoformat(_micro(event["timestamp"])).timestamp()) * 1000)
            arrived[_profile(event["metadata"])].append(clock)
            if all(len(arrived[name]) >= each for name in names):
                complete.set()

    with subject.api.websocket("/1.0/events?type=lifecycle") as connection, _listening(subject, LISTENERS - 1):
        listener = threading.Thread(target=listen, args=(connection,), daemon=True)
        listener.start()
        begin = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            sent = list(pool.map(lambda turn: _change(subject, names[turn], begin + turn / RATE, each), range(CLIENTS)))
        complete.wait(DEADLINE)
    listener.join(DEADLINE)
    subject.world.close()
    samples[EVENT] += borne
    took = waits(dict(zip(names, sent, strict=True)), arrived)
    samples[SENT] += took
    samples[SENT_P99] += took
    every = sorted(moment for client in sent for moment in client)
    samples[REACHED].append((len(every) - 1) / (every[-1] - every[0]))


def waits(sent: Mapping[str, Sequence[float]], arrived: Mapping[str, Sequence[float]]) -> list[float]:
    """Milliseconds from each PATCH to its event, from the seconds of both for each profile.

    An event does not carry the change; but a profile has one client, who waits for each answer, so its n-th event belongs to its
    n-th PATCH. ValueError: some did not come, and the others cannot be told apart.
    """
    return [
        (came - left) * 1000 for name, lefts in sent.items() for left, came in zip(lefts, arrived[name], strict=True)
    ]


def _profile(told: Mapping[str, str]) -> str:
    """The profile that a lifecycle event tells the change of; "" for any other."""
    return told["source"].partition("?")[0].rpartition("/")[2] if told["action"] == "profile-updated" else ""


def _change(subject: Subject, name: str, begin: float, count: int) -> list[float]:
    """A client's share of the changes from its turn on, each at its time, or at once when the one before took too long.

    Returns when it sent each.
    """
    sent = []
    for number in range(count):
        time.sleep(max(0.0, begin + number * CLIENTS / RATE - time.monotonic()))
        sent.append(time.perf_counter())
        subject.api.patch(f"/1.0/profiles/{name}", {"description": str(number)})
    return sent


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
