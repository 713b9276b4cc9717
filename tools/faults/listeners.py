"""Events under load: many listeners that reconnect, a stalled one, a gateway that is killed; each must hear everything once, in order.

python -m tools.faults.listeners --events 100000 --listeners 20 --kills 3
python -m tools.faults.listeners --events 4000 --rate 200 --kills 0      (how late they come)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import InvalidStatus, WebSocketException

from chassis import events
from chassis.bus import Bus
from chassis.store import Change, Store
from tools.faults.subject import DEADLINE, Subject, subject

BATCH = 20  # events of one change
ACTION = "load-test"


class _Context(msgspec.Struct):
    at: float = 0.0


class _Lifecycle(msgspec.Struct):
    action: str = ""
    context: _Context = msgspec.field(default_factory=_Context)


class _Event(msgspec.Struct):
    """What is read of an event. Listeners must cost little: they share the machine with the server whose lateness they measure."""

    sequence: int
    metadata: _Lifecycle


_event = msgspec.json.Decoder(_Event).decode


@dataclass
class Listener:
    """Hears everything from a sequence on, over as many connections as it takes."""

    path: str
    since: int
    draw: random.Random
    heard: list[int] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    connections: int = 0

    async def run(self, last: asyncio.Future[int]) -> None:
        """Until the last sequence is heard. It also leaves by itself now and then."""
        while not (last.done() and self.since >= last.result()):
            try:
                async with unix_connect(self.path, _url(self.since), max_size=None, ping_interval=None) as socket:
                    self.connections += 1
                    await self._listen(socket, self.draw.randrange(2_000, 60_000), last)
            except InvalidStatus as error:
                if error.response.status_code < 500:
                    raise
            except (OSError, WebSocketException):
                pass
            await asyncio.sleep(0.02)

    async def _listen(self, socket: ClientConnection, leave_after: int, last: asyncio.Future[int]) -> None:
        for _ in range(leave_after):
            if last.done() and self.since >= last.result():
                return
            with contextlib.suppress(
                TimeoutError
            ):  # the last one may have come before anybody knew that it is the last
                async with asyncio.timeout(1.0):
                    message = await socket.recv(decode=False)
                self._take(_event(message), time.time())

    def _take(self, event: _Event, now: float) -> None:
        self.since = event.sequence
        if event.metadata.action == ACTION:
            self.heard.append(self.since)
            self.late.append(now - event.metadata.context.at)
            self.arrived.append(now)


def _url(since: int) -> str:
    return f"ws://nubibus/1.0/events?type=lifecycle&since={since}"


@dataclass
class Result:
    """What came of it. `wrong` is empty when every listener heard everything once and in order.

    `late` is from the moment before the change was written to its arrival, `after` from the moment at which the log had acknowledged it:
    what lies between the two is the disk's.
    """

    wrong: list[str]
    events: int
    connections: int
    seconds: float
    late: list[float]
    after: list[float]
    stalled_cut: bool


def share(seconds: Sequence[float], part: float) -> float:
    """What at most this share of them is, in milliseconds."""
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * part))]


async def play(
    found: Subject, *, count: int, listeners: int, kills: int, rate: float = 0.0, batch: int = BATCH
) -> Result:
    """`rate`: changes a second, 0 for as many as possible."""
    bus = Bus(found.directory, "load")
    await bus.connect(DEADLINE)
    store = Store(bus, "load")
    since = int((await bus.stream())["state"]["last_seq"])
    last: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    path = str(found.directory / "unix.socket")
    crowd = [Listener(path, since, random.Random(number)) for number in range(listeners)]
    stalled = await unix_connect(path, _url(since), max_queue=4, ping_interval=None)
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for listener in crowd:
            tasks.create_task(listener.run(last))
        killer = tasks.create_task(_kill(found, kills))
        acknowledged = await _write(store, count, rate, batch)
        wanted = list(acknowledged)
        await killer
        last.set_result(wanted[-1])
    seconds = time.monotonic() - began
    cut = await _is_cut(stalled)
    await bus.close()
    wrong = [told for n, listener in enumerate(crowd) if (told := _compare(n, listener.heard, wanted))]
    late = [each for listener in crowd for each in listener.late]
    after = [
        moment - acknowledged[number]
        for listener in crowd
        for number, moment in zip(listener.heard, listener.arrived, strict=True)
        if number in acknowledged
    ]
    return Result(wrong, len(wanted), sum(each.connections for each in crowd), seconds, late, after, cut)


async def _write(store: Store, count: int, rate: float, batch: int) -> dict[int, float]:
    """The sequences of the events that were written, and when that was acknowledged."""
    wanted: dict[int, float] = {}
    began = time.monotonic()
    while len(wanted) < count:
        if rate:
            await asyncio.sleep(max(0.0, began + len(wanted) / batch / rate - time.monotonic()))
        change = Change()
        for _ in range(batch):
            change.event(events.lifecycle(ACTION, "/1.0/load", context={"at": time.time()}))
        end = await store.commit(change, patience=None)
        wanted |= dict.fromkeys(range(end - batch + 1, end + 1), time.time())
    return wanted


async def _kill(found: Subject, kills: int) -> None:
    for _ in range(kills):
        await asyncio.sleep(0.5)
        pid = await asyncio.to_thread(found.kill, "gateway")
        await asyncio.to_thread(found.wait_replaced, "gateway", pid)
        await asyncio.to_thread(found.wait_ready)


async def _is_cut(stalled: ClientConnection) -> bool:
    """Whether the server has closed the connection of who does not read."""
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                await asyncio.wait_for(stalled.recv(), 5)
    except TimeoutError:
        await stalled.close()
        return False
    except WebSocketException:
        return True


def _compare(number: int, heard: Sequence[int], wanted: Sequence[int]) -> str:
    if list(heard) == list(wanted):
        return ""
    lost, doubled = len(set(wanted) - set(heard)), len(heard) - len(set(heard))
    inverted = sum(a > b for a, b in itertools.pairwise(heard))
    return f"listener {number}: {lost} lost, {doubled} doubled, {inverted} inverted"


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools.faults.listeners", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--listeners", type=int, default=20)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.0, help="changes a second (as many as possible)")
    options = parser.parse_args()
    with subject() as found:
        batch = 1 if options.rate else BATCH
        playing = play(
            found,
            count=options.events,
            listeners=options.listeners,
            kills=options.kills,
            rate=options.rate,
            batch=batch,
        )
        result = asyncio.run(playing)
    print("\n".join(result.wrong) or "0 lost, 0 doubled, 0 inverted")
    print(
        f"{result.events} events to {options.listeners} listeners over {result.connections} connections in "
        f"{result.seconds:.0f} s; late p50 {share(result.late, 0.5):.1f} ms, p99 {share(result.late, 0.99):.1f} ms; "
        f"after the log had it p50 {share(result.after, 0.5):.1f} ms, p99 {share(result.after, 0.99):.1f} ms; "
        f"stalled listener cut off: {result.stalled_cut}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    return bool(result.wrong)


if __name__ == "__main__":
    sys.exit(main())
