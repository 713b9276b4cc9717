"""What every service is besides its own work: one Part.

    async def wire(part: Part) -> None:
        instances = part.store.mirror(INSTANCE)            # mirrors are asked for here, before the store
        starts
        part.serve(Instances(part.store, instances))       # servicers
        part.need("cgroups", lacks_cgroups)                # looked at first: what is missing keeps it from being ready
        part.before_ready(sagas.resume)                    # awaited in order when the store has caught up
        part.keep(converge)                                # a task for the life of the part; its failure ends
        the part
        part.at_end(starter.close)                         # awaited in reverse order at the end

    if __name__ == "__main__":
        service.main("instances", wire)

The order of a start: surroundings, bus, needs, store, `before_ready`, then the servicers listen: whoever can be called is ready.
SIGTERM drains: nothing new is taken, what runs may finish (sagas are durable and need not), then the parts of
the part end in reverse order.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop
from nats.aio.msg import Msg

from chassis import debug, errors, logs, memory, once, probes, readiness, retention, rpc, surroundings
from chassis.bus import Bus
from chassis.clock import now
from chassis.copies import Copies
from chassis.readiness import Look, Readiness
from chassis.refusal import Refusals
from chassis.remedy import Remedy
from chassis.store import Store

VERSION = "5.0.2"
DRAIN = 10.0  # seconds that running calls get at the end
log = structlog.get_logger()


@dataclass(frozen=True)
class Settings:
    """What a part is told from outside (command line and environment)."""

    directory: Path
    member: str = "none"
    listen: str = ""  # "host:port" of gRPC for other machines
    probes: str = ""  # "host:port" of /livez, /readyz and /metrics
    level: str = "info"

    @staticmethod
    def read(part: str, arguments: list[str] | None = None) -> Settings:
        environment = os.environ
        parser = argparse.ArgumentParser(prog=f"services.{part}")
        parser.add_argument("--dir", type=Path, default=Path(environment.get("NUBIBUS_DIR", "/var/lib/nubibus")))
        parser.add_argument("--log-level", default=environment.get("NUBIBUS_LOG", "info"))
        given = parser.parse_args(arguments)
        return Settings(
            directory=given.dir.absolute(),
            member=environment.get("NUBIBUS_MEMBER", "none"),
            listen=environment.get("NUBIBUS_LISTEN", ""),
            probes=environment.get("NUBIBUS_PROBES", ""),
            level=given.log_level,
        )


Hook = Callable[[], Coroutine[Any, Any, Any]]


@dataclass
class Part:
    """A running service: its bus, store, servicers and tasks."""

    name: str
    settings: Settings
    bus: Bus
    store: Store
    calls: rpc.Rpc
    server: rpc.RpcServer
    readiness: Readiness
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: str = field(default_factory=now)
    waiting: bool = True  # for its surroundings or for the bus
    ready: bool = False
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _ready_hooks: list[Hook] = field(default_factory=list)
    _end_hooks: list[Hook] = field(default_factory=list)
    _answering: set[asyncio.Task[None]] = field(default_factory=set)
    _tasks: list[tuple[str, Hook]] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.settings.directory

    @property
    def member(self) -> str:
        return self.settings.member

    def serve(self, *servicers: Any) -> None:
        for servicer in servicers:
            self.server.add(servicer)

    def before_ready(self, hook: Hook) -> None:
        self._ready_hooks.append(hook)

    def keep(self, work: Hook, name: str = "") -> None:
        self._tasks.append((name or getattr(work, "__qualname__", "task"), work))

    def need(self, name: str, look: Look) -> None:
        """Something of the machine without which the part is not ready: `look` says what is missing and what to do."""
        self.readiness.need(name, look)

    def lacks(self) -> tuple[str, ...]:
        """Why the part is not ready; nothing if it is."""
        reasons = self.readiness.reasons
        if reasons or (self.ready and self.bus.up):
            return reasons
        if self.stopping.is_set():
            return ("The part is ending",)
        return ("Connecting to the bus" if not self.bus.up else "Reading the log and taking up work",)

    async def connect(self) -> None:
        """Wait for the surroundings and for NATS as long as it takes."""
        await self.readiness.met()
        await self.bus.connect()
        await self.calls.open()

    def at_end(self, hook: Hook) -> None:
        self._end_hooks.append(hook)

    def stop(self) -> None:
        self.stopping.set()

    async def _follow_log(self) -> None:
        await self.readiness.met()
        while True:
            try:
                await self.store.start()
                break
            except errors.Unavailable as away:
                self.readiness.tell(
                    "log", f"{away.text}: see that most of the nats-servers run and have room on their disks"
                )
                await asyncio.sleep(readiness.AGAIN)
        self.readiness.tell("log", "")
        self.waiting = False

    async def run(self, *, on_ready: Callable[[], None] | None = None) -> None:
        """From a connected bus to the end. Returns when `stop` was called and everything is down."""
        try:
            await self._follow_log()
            for hook in self._ready_hooks:
                await hook()
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(work(), name=name) for name, work in self._tasks]
                running.append(tasks.create_task(self.readiness.keep(), name="look at what is needed"))
                await self.server.open()
                await self._answer_discovery()
                self.ready = True
                log.info("ready", part=self.name, pid=os.getpid())
                if on_ready:
                    on_ready()
                await self.stopping.wait()
                self.ready = False
                await self.server.drain(DRAIN)
                for task in running:
                    task.cancel()
        finally:
            await self.server.drain(0)  # nothing to do unless the part failed
            for hook in reversed(self._end_hooks):
                try:
                    await hook()
                except Exception:
                    log.exception("ending failed")

    async def _answer_discovery(self) -> None:
        """NATS's service protocol: `$SRV.PING|INFO|STATS`, of all, by name, by name and id."""
        for verb, render in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):
            for suffix in ("", f".{self.name}", f".{self.name}.{self.id}"):
                await self.bus.subscribe(f"$SRV.{verb}{suffix}", _answering(self.bus, render))
        for suffix in (f".{self.name}", f".{self.name}.{self.id}"):
            await self.bus.subscribe(f"$SRV.DEBUG{suffix}", self._debug)
        await self.bus.nats.flush()

    async def _debug(self, msg: Msg) -> None:
        """Answer apart from the subscription: a profile takes its time."""
        self._answering.add(task := asyncio.create_task(self._tell(msg), name="debug"))
        task.add_done_callback(self._answering.discard)

    async def _tell(self, msg: Msg) -> None:
        text = await debug.tell(msg.data.decode())
        if msg.reply and self.bus.up:
            await self.bus.publish(msg.reply, text.encode()[: 4 * 1024 * 1024])

    def _identity(self, type_: str) -> dict[str, Any]:
        metadata = {"member": self.member, "address": self.server.streaming.address, "pid": str(os.getpid())}
        kind = f"io.nats.micro.v1.{type_}_response"
        return {"type": kind, "name": self.name, "id": self.id, "version": VERSION, "metadata": metadata}

    def _ping(self) -> dict[str, Any]:
        return self._identity("ping")

    def _info(self) -> dict[str, Any]:
        endpoints = [
            {"name": name, "subject": f"rpc.{self.name}.{name}", "queue_group": self.name}
            for name in self.server.unary.handlers
        ]
        return {**self._identity("info"), "description": f"Nubibus {self.name}", "endpoints": endpoints}

    def _stats(self) -> dict[str, Any]:
        return {
            **self._identity("stats"),
            "started": self.started,
            "endpoints": self.server.counters.endpoints(),
        }


def _answering(bus: Bus, render: Callable[[], dict[str, Any]]) -> Callable[[Msg], Awaitable[None]]:
    async def answer(msg: Msg) -> None:
        if msg.reply and bus.up:
            await bus.publish(msg.reply, msgspec.json.encode(render()))

    return answer


Wire = Callable[[Part], Awaitable[None]]


def assemble(name: str, settings: Settings) -> Part:
    """A Part that is connected to nothing yet."""
    state = Readiness()
    surroundings.declare(state, settings.directory)
    bus = Bus(settings.directory, name)
    refusals = Refusals(bus.where, partial(state.tell, "bus"))
    bus.on_refused = refusals.failed
    bus.on_up.append(refusals.over)
    bus.on_store_failed = Remedy(settings.directory)
    store = Store(bus, name)
    retention.follow(store)
    calls = rpc.Rpc(bus, settings.directory, settings.member)
    server = rpc.RpcServer(
        bus,
        name,
        settings.directory,
        member=settings.member,
        listen=settings.listen,
        reached=store.reached,
        answered=lambda call, answer: once.remember(store, call, answer),
    )
    return Part(name, settings, bus, store, calls, server, state)


async def build(name: str, settings: Settings) -> Part:
    """A Part with a connected bus; waits for NATS as long as it takes."""
    part = assemble(name, settings)
    await part.connect()
    return part


async def serve(name: str, wire: Wire, settings: Settings) -> None:
    """Run a part until SIGTERM or SIGINT. Its probes answer from the first moment."""
    part = assemble(name, settings)
    living = asyncio.create_task(_live(part, wire), name=name)
    tasks = [living]
    if settings.probes:
        answer = probes.serve(settings.probes, part.lacks, part.server.counters)
        tasks.append(asyncio.create_task(answer(), name="probes"))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _end, part, living)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()


def _end(part: Part, living: asyncio.Task[None]) -> None:
    """A part that works is drained, one that still waits for something goes at once."""
    part.stop()
    if part.waiting:
        living.cancel()


async def _live(part: Part, wire: Wire) -> None:
    rpc.install(part.calls)
    announcer = logs.Announcer(part.bus, part.member)
    logs.announce_on(announcer)
    part.keep(announcer.run, "announce log lines")
    part.keep(memory.give_back, "give memory back")
    try:
        await part.connect()
        await wire(part)
        part.keep(Copies(part.directory, part.name, part.store, part.bus).keep, "copies of rows")
        await part.run()
    finally:
        logs.announce_on(None)
        rpc.install(None)
        await part.calls.close()
        await part.store.stop()
        await part.bus.close()


def main(name: str, wire: Wire) -> None:
    """The body of every `services/<name>/__main__.py`."""
    settings = Settings.read(name)
    logs.configure(name, settings.level)
    started = time.monotonic()
    try:
        uvloop.run(serve(name, wire, settings))
    except errors.Fault as fault:
        log.error("ended", reason=fault.text)
        raise SystemExit(1) from None
    finally:
        log.info("ended", after=round(time.monotonic() - started, 3))
