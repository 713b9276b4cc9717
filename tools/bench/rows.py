"""The rows of DESIGN section 6: each takes a subject and gives samples.

Times are in milliseconds as a client sees them: from the request to the answer, or to the end of the operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from tests.conformance.world import unique
from tools.bench.subject import Subject, milliseconds

PAYLOAD = bytes(range(256)) * 4096 * 100  # 100 MiB


@dataclass(frozen=True)
class Row:
    """`goal` bounds ours/theirs from above, or from below when `higher` (a rate). None: it is only shown."""

    name: str
    goal: float | None
    unit: str = "ms"
    higher: bool = False


CREATE = Row("create from an image", 0.7)
START = Row("start", 0.5)
STOP = Row("force stop", 0.25)
FOUR = Row("start, 4 clients at once", 2.0, "1/s", higher=True)
GET = Row("GET of one", 1.0)
EXEC = Row("exec of `true`", 1.0)
PUSH = Row("file push of 100 MiB", 1.0)
PULL = Row("file pull of 100 MiB", 1.0)
FULL = Row("instances?recursion=2, {running} running", 0.05)
METRICS = Row("/1.0/metrics, {running} running, the first for 9 s", 0.1)
AGAIN = Row("/1.0/metrics, {running} running, again at once", None)
LIST_TENTH = Row("instances?recursion=1 of {tenth}", None)
LIST = Row("instances?recursion=1 of {instances}", 0.2)
CHANGE_TENTH = Row("change of one of {tenth} instances", None)
CHANGE = Row("change of one of {instances} instances", None)
IDLE = Row("memory of all parts together, idle (PSS)", 250.0, "MiB")
LOADED = Row("memory of all parts together, {running} running (PSS)", 300.0, "MiB")
MONITORED = Row("the same with the instances' monitors", None, "MiB")


def life(subject: Subject, samples: dict[Row, list[float]]) -> None:
    """One instance through create, start, exec, stop, delete."""
    world, name = subject.world, unique("life")
    samples[CREATE].append(milliseconds(lambda: subject.api.post("/1.0/instances", world.body(name))))
    samples[START].append(milliseconds(lambda: world.state(name, "start")))
    world.settle(name)
    samples[GET] += [milliseconds(lambda: subject.api.get(f"/1.0/instances/{name}")) for _ in range(10)]
    samples[EXEC] += [milliseconds(lambda: world.run(name, "true")) for _ in range(3)]
    samples[STOP].append(milliseconds(lambda: world.stop(name)))
    subject.api.delete(f"/1.0/instances/{name}")


def four_clients(subject: Subject, each: int = 4) -> float:
    """Starts a second that four clients reach together."""
    names = [subject.world.instance() for _ in range(4 * each)]
    begin = time.perf_counter()
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda name: subject.world.state(name, "start"), names))
    rate = len(names) / (time.perf_counter() - begin)
    subject.world.close()
    return rate


def files(subject: Subject, samples: dict[Row, list[float]], rounds: int = 3) -> None:
    name = subject.world.instance(start=True)
    for _ in range(rounds):
        samples[PUSH].append(milliseconds(lambda: subject.world.push(name, "/root/big", PAYLOAD)))
        samples[PULL].append(milliseconds(lambda: subject.world.pull(name, "/root/big")))
    subject.world.close()


def clear(subject: Subject) -> None:
    """Remove what the world has made, several at a time: a thousand instances one by one take LXD minutes."""
    undo, subject.world.undo[:] = subject.world.undo[::-1], []
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda action: action(), undo))


def changes(subject: Subject, rounds: int = 15) -> list[float]:
    """Of the description of an instance, to the end of its operation."""
    path = f"/1.0/instances/{subject.world.instance()}"
    bodies = [{"description": str(number)} for number in range(rounds)]
    return [milliseconds(partial(subject.api.patch, path, body)) for body in bodies]


def populate(subject: Subject, count: int, start: bool) -> None:
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda _: subject.world.instance(start=start), range(count)))


def reads(subject: Subject, path: str, rounds: int, pause: float = 0.0) -> list[float]:
    """`pause` seconds between two, so that a sample shared between requests is not what is measured."""
    found = []
    for _ in range(rounds):
        time.sleep(pause)
        found.append(milliseconds(lambda: subject.api.request("GET", path)))
    return found


Measure = Callable[[Subject], list[float]]
