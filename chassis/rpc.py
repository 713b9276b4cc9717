"""Calls between services: a unary method travels over NATS, a streaming one over gRPC. This is the only
module that decides it.

    answer = await rpc.call("nubibus.storage.v1.Volumes", "Ensure", request, timeout=30)
    async for chunk in rpc.stream("nubibus.images.v1.Images", "Fetch", request): ...

Services of `nubibus.rest.v1` (Sockets, Operations) are answered by every part, so `part=` names which one
is meant. The context of the call that is being served (caller, deadline, newest revision, trace) goes along
by itself; see chassis/calls.py.

A servicer is any object with `service = "nubibus.instances.v1.Instances"` and a method for each of the
contract's: `async def Get(self, request, call) -> Document`; a server-streaming method is an async generator;
the request of a client-streaming method is an async iterator.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from google.protobuf.message import Message

from chassis import calls, contracts, errors
from chassis.bus import Bus
from chassis.calls import Call, Caller, current
from chassis.discovery import Discovery
from chassis.metrics import Counters
from chassis.rpc_grpc import GrpcClient, GrpcServer
from chassis.rpc_nats import Answered, NatsClient, NatsServer, Reached

__all__ = ["Call", "Caller", "Rpc", "RpcServer", "Servicer", "call", "current", "install", "stream"]
TIMEOUT = 30.0  # seconds, of a unary call without a nearer deadline
M = TypeVar("M", bound=Message)


class Servicer(Protocol):
    service: ClassVar[str]


class Rpc:
    """The calling half of a process. `open` before use, `install` to make the module's functions use it."""

    def __init__(self, bus: Bus, directory: Path, member: str = "none") -> None:
        self.discovery = Discovery(bus, directory, member)
        self.unary = NatsClient(bus)
        self.streaming = GrpcClient(self.discovery)

    async def open(self) -> None:
        await self.unary.open()

    async def close(self) -> None:
        await self.unary.close()
        await self.streaming.close()

    async def call(
        self,
        service: str,
        name: str,
        request: Any,
        *,
        timeout: float = TIMEOUT,
        member: str | None = None,
        part: str = "",
        context: Call | None = None,
        reads: bool = False,
    ) -> Any:
        """One answer. A unary call that only reads is made once more if who had it went away: a replica may be there."""
        method = contracts.method(service, name)
        context = context or current()
        if not method.streams:
            asked = (part or method.part, method, request, context)
            try:
                return await self.unary.call(*asked, context.remaining(timeout), member)
            except errors.Unavailable as away:
                if not (reads and away.midway):
                    raise
            return await self.unary.call(*asked, context.remaining(timeout), member)
        answers = self.streaming.stream(
            part or method.part, method, request, context, context.remaining(timeout), member
        )
        async with aclosing(answers):  # type: ignore[type-var]
            async for answer in answers:
                return answer
        raise errors.Internal(f"{service}/{name} gave no answer")

    def stream(
        self,
        service: str,
        name: str,
        request: Any,
        *,
        timeout: float | None = None,
        member: str | None = None,
        part: str = "",
        context: Call | None = None,
    ) -> AsyncIterator[Any]:
        method = contracts.method(service, name)
        if not method.streams:
            raise TypeError(f"{service}/{name} is unary: use call")
        return self.streaming.stream(part or method.part, method, request, context or current(), timeout, member)


class RpcServer:
    """The answering half of a part: its servicers on both transports."""

    def __init__(
        self,
        bus: Bus,
        part: str,
        directory: Path,
        *,
        member: str = "none",
        listen: str = "",
        reached: Reached,
        answered: Answered | None = None,
    ) -> None:
        self.part = part
        self.counters = Counters(part)
        told = answered or _forgotten
        self.unary = NatsServer(bus, part, member, reached, self.counters, told)
        self.streaming = GrpcServer(part, directory, reached, self.counters, told, listen)

    def add(self, servicer: Servicer) -> None:
        """Register every method of the contract that the servicer has; the others answer that they are not
        implemented.
        """
        for name, method in contracts.table()[servicer.service].items():
            handler = getattr(servicer, name, None)
            if handler is None:
                handler = _missing_stream(method) if method.server_streams else _missing(method)
            (self.streaming if method.streams else self.unary).register(method, handler)

    async def open(self) -> None:
        await self.streaming.open()
        await self.unary.open()

    async def drain(self, seconds: float = 10.0) -> None:
        """Take nothing new; wait for what runs, at most `seconds`."""
        await self.unary.drain(seconds)
        await self.streaming.drain(seconds)


async def _forgotten(_call: Call, _answer: Message) -> None:
    """Of a part without a log of its own nothing is kept."""


def _missing(method: contracts.Method) -> Any:
    async def refuse(_request: Any, _call: Call) -> Message:
        raise errors.NotImplementedHere(f"{method.noun}.{method.name} is not implemented")

    return refuse


def _missing_stream(method: contracts.Method) -> Any:
    async def refuse(_request: Any, _call: Call) -> AsyncIterator[Message]:
        raise errors.NotImplementedHere(f"{method.noun}.{method.name} is not implemented")
        yield

    return refuse


_installed: Rpc | None = None


def install(rpc: Rpc | None) -> None:
    """Make `call` and `stream` of this process use it."""
    global _installed
    _installed = rpc


def installed() -> Rpc:
    if _installed is None:
        raise errors.Unavailable("The service is not connected to the bus")
    return _installed


async def call(
    service: str,
    name: str,
    request: Any,
    *,
    timeout: float = TIMEOUT,
    member: str | None = None,
    part: str = "",
    context: Call | None = None,
    reads: bool = False,
) -> Any:
    """One answer.

    `timeout` in seconds, never beyond the deadline of the call being served. Raises the server's fault or
    Unavailable. What only `reads` may be asked twice.
    """
    return await installed().call(
        service, name, request, timeout=timeout, member=member, part=part, context=context, reads=reads
    )


def stream(
    service: str,
    name: str,
    request: Any,
    *,
    timeout: float | None = None,
    member: str | None = None,
    part: str = "",
    context: Call | None = None,
) -> AsyncIterator[Any]:
    """Answers of a streaming method. Close the iterator (aclosing) to cancel it. Raises as `call` does."""
    return installed().stream(service, name, request, timeout=timeout, member=member, part=part, context=context)


def as_itself() -> Call:
    """Context for a call with the service's own authority on behalf of the current one."""
    return calls.as_itself(current())
