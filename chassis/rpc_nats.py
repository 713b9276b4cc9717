"""Unary calls as NATS requests.

A part listens on `rpc.<part>.<Noun>.<Method>` (queue group: one of its replicas answers) and, as a member, on
`….at.<member>`. NATS tells at once when nobody listens. It does not tell when the listener dies in the middle
of a call, so a server sends signs of life to the reply inbox while it works; a client that misses them gives
up with Unavailable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import nats
import structlog
from google.protobuf.message import DecodeError, Message
from nats.aio.msg import Msg

from chassis import calls, errors
from chassis.bus import Bus
from chassis.calls import Call
from chassis.contracts import Method
from chassis.metrics import Counters

PULSE = 0.5  # seconds between signs of life of a call in progress
SUSPICION = 0.7  # seconds without one until it is asked whether anybody serves the part
PROBE = "p"
PATIENCE = 4.0  # seconds without one until the server counts as dead (a loaded machine may keep its loop busy)

Handler = Callable[[Any, Call], Awaitable[Message]]
Reached = Callable[[int], Awaitable[None]]
Answered = Callable[[Call, Message], Awaitable[None]]  # told of each answer before it leaves
log = structlog.get_logger()


def subject_of(part: str, method: Method, member: str | None) -> str:
    subject = f"rpc.{part}.{method.noun}.{method.name}"
    return f"{subject}.at.{member}" if member else subject


def probe_of(part: str, member: str | None) -> str:
    """A method that no service has: it is refused at once, or nobody is there to refuse it."""
    return f"rpc.{part}.Alive.Probe" + (f".at.{member}" if member else "")


@dataclass(slots=True)
class Waiting:
    """A call in flight: its future and when its server was last heard of."""

    future: asyncio.Future[Msg]
    heard: float
    probe: str  # where nobody listens when the server is gone


class NatsClient:
    """Sends unary calls; one inbox a process. `open` before the first call."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.inbox = ""
        self.waiting: dict[str, Waiting] = {}
        self.serial = 0
        self.watcher: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.inbox = self.bus.nats.new_inbox()
        await self.bus.hear(f"{self.inbox}.*", self._hear)
        self.bus.waiters.append(lambda: bool(self.waiting))
        self.bus.on_down.append(self._give_up)
        self.watcher = asyncio.create_task(self._watch(), name="rpc pulse watcher")

    async def close(self) -> None:
        if self.watcher:
            self.watcher.cancel()
        for waiting in self.waiting.values():
            waiting.future.cancel()

    async def call(
        self, part: str, method: Method, request: Message, call: Call, timeout: float, member: str | None
    ) -> Message:
        """The answer.

        Raises the server's fault; Unavailable if the part is away, dies, or does not answer in time.
        """
        if not self.bus.up:
            raise errors.Unavailable("The message bus is not available")
        self.serial += 1
        token = str(self.serial)
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self.waiting[token] = Waiting(future, time.monotonic(), probe_of(part, member))
        try:
            await self.bus.nats.publish(
                subject_of(part, method, member),
                request.SerializeToString(),
                reply=f"{self.inbox}.{token}",
                headers=call.to_headers(timeout),
            )
            async with asyncio.timeout(timeout):
                msg = await future
        except TimeoutError:
            raise errors.Unavailable(f"{part} did not answer {method.noun}.{method.name} within {timeout:g}s") from None
        except nats.errors.Error as error:
            raise errors.Unavailable(f"The message bus is not available: {error}") from None
        finally:
            del self.waiting[token]
        return self._read(part, method, msg, call)

    def _read(self, part: str, method: Method, msg: Msg, call: Call) -> Message:
        headers = msg.headers or {}
        if headers.get("Status") == "503":
            raise errors.Unavailable(f"The {part} service is not available")
        if name := headers.get("nubibus-fault"):
            raise errors.fault_from(name, msg.data.decode())
        if revision := headers.get("nubibus-revision"):
            call.saw(int(revision))
        return method.answer.FromString(msg.data)

    def _hear(self, msg: Msg) -> None:
        token = msg.subject.rpartition(".")[2]
        waiting = self.waiting.get(token.removeprefix(PROBE))
        if waiting is None or waiting.future.done():
            return
        if token.startswith(PROBE):
            if msg.headers and msg.headers.get("Status") == "503":
                waiting.future.set_exception(errors.Unavailable("The service went away", midway=True))
        elif msg.headers and "nubibus-pulse" in msg.headers:
            waiting.heard = time.monotonic()
        else:
            waiting.future.set_result(msg)

    def _give_up(self) -> None:
        for waiting in self.waiting.values():
            if not waiting.future.done():
                waiting.future.set_exception(errors.Unavailable("The message bus went away"))

    async def _watch(self) -> None:
        """Give up on calls whose server is silent."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(PULSE)
            now = time.monotonic()
            own_delay, last = (
                now - last - PULSE,
                now,
            )  # when this loop itself was busy, silence says nothing about the server
            for token, waiting in list(self.waiting.items()):
                waiting.heard += max(0.0, own_delay)
                if waiting.future.done():
                    continue
                if self.bus.up and now - waiting.heard > SUSPICION:
                    with suppress(nats.errors.Error):
                        await self.bus.nats.publish(waiting.probe, reply=f"{self.inbox}.{PROBE}{token}")
                if not self.bus.up:
                    waiting.future.set_exception(errors.Unavailable("The message bus went away"))
                elif now - waiting.heard > PATIENCE:
                    waiting.future.set_exception(errors.Unavailable("The service stopped answering", midway=True))


class NatsServer:
    """Answers unary calls of one part.

    Handlers are registered before `open`; `drain` lets what runs finish.
    """

    def __init__(
        self, bus: Bus, part: str, member: str, reached: Reached, counters: Counters, answered: Answered
    ) -> None:
        self.bus = bus
        self.part = part
        self.member = member
        self.reached = reached
        self.counters = counters
        self.answered = answered
        self.handlers: dict[str, tuple[Method, Handler]] = {}
        self.running: set[asyncio.Task[None]] = set()
        self.subscriptions: list[Any] = []

    def register(self, method: Method, handler: Handler) -> None:
        self.handlers[f"{method.noun}.{method.name}"] = (method, handler)

    async def open(self) -> None:
        shared = await self.bus.nats.hear(f"rpc.{self.part}.*.*", self._receive, queue=self.part)
        own = await self.bus.nats.hear(f"rpc.{self.part}.*.*.at.{self.member}", self._receive, queue=self.part)
        self.subscriptions = [shared, own]
        await self.bus.nats.flush()

    async def drain(self, seconds: float) -> None:
        subscriptions, self.subscriptions = self.subscriptions, []
        for subscription in subscriptions:
            if self.bus.up:
                await subscription.unsubscribe()
        if self.running:
            await asyncio.wait(self.running, timeout=seconds)
        for task in self.running:
            task.cancel()

    def _receive(self, msg: Msg) -> None:
        task = asyncio.create_task(self._serve(msg))
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _serve(self, msg: Msg) -> None:
        task = asyncio.current_task()
        assert task is not None
        pulse = asyncio.get_running_loop().call_later(PULSE, self._start_pulse, msg.reply, task)
        headers: dict[str, str]
        try:
            data, headers = await self._answer(msg)
        except errors.Fault as fault:
            data, headers = fault.text.encode(), {"nubibus-fault": type(fault).__name__}
        finally:
            pulse.cancel()
        try:
            connection = self.bus.nats
            if len(data) > connection.max_payload - 4096:
                data, headers = b"The answer is larger than the bus carries", {"nubibus-fault": "Internal"}
            await connection.publish(msg.reply, data, headers=headers or None)
        except (nats.errors.Error, errors.Unavailable) as error:
            log.warning("an answer could not be sent", subject=msg.subject, error=str(error))

    async def _answer(self, msg: Msg) -> tuple[bytes, dict[str, str]]:
        name = ".".join(msg.subject.split(".")[2:4])
        found = self.handlers.get(name)
        if found is None:
            raise errors.NotImplementedHere(f"{self.part} has no method {name}")
        method, handler = found
        call = calls.from_headers(msg.headers or {})
        seen = call.revision
        token = calls.enter(call)
        try:
            with self.counters.measure(name):
                answer = await guarded(self._run(method, handler, msg.data, call), name)
            if call.once is not None:
                await self.answered(call, answer)
        finally:
            calls.leave(token)
        return answer.SerializeToString(), {"nubibus-revision": str(call.revision)} if call.revision > seen else {}

    async def _run(self, method: Method, handler: Handler, data: bytes, call: Call) -> Message:
        try:
            request = method.request.FromString(data)
        except DecodeError:
            raise errors.BadRequest(f"Malformed {method.request.DESCRIPTOR.full_name}") from None
        async with asyncio.timeout(call.remaining(most=3600.0)):
            if call.revision:
                await self.reached(call.revision)
            return await handler(request, call)

    def _start_pulse(self, reply: str, serving: asyncio.Task[None]) -> None:
        task = asyncio.create_task(self._pulse(reply, serving))
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _pulse(self, reply: str, serving: asyncio.Task[None]) -> None:
        while not serving.done():
            if self.bus.up:
                await self.bus.nats.publish(reply, b"", headers={"nubibus-pulse": "1"})
            await asyncio.wait([serving], timeout=PULSE)


async def guarded(work: Awaitable[Message], name: str) -> Message:
    """What a handler returns; anything but a fault becomes Internal (and is logged with its traceback)."""
    try:
        return await work
    except errors.Fault:
        raise
    except TimeoutError:
        raise errors.Unavailable(f"{name} did not finish in time") from None
    except Exception as error:
        log.exception("a method failed", method=name)
        raise errors.Internal(f"{type(error).__name__}: {error}") from error
