"""Calls between services over a real NATS server and real sockets."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
import pytest_asyncio

from chassis import calls, errors, natsd, rpc
from chassis.bus import Bus
from chassis.calls import Call, Caller
from gen.nubibus.rest.v1 import rest_pb2
from gen.nubibus.storage.v1 import pool_pb2

POOLS = "nubibus.storage.v1.Pools"
SOCKETS = "nubibus.rest.v1.Sockets"


class Pools:
    """Answers, fails or takes its time, as the request's name says."""

    service: ClassVar[str] = POOLS

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def Describe(self, request: pool_pb2.PoolRequest, call: Call) -> pool_pb2.PoolDescription:
        self.calls.append(call)
        if request.name == "missing":
            raise errors.NotFound("Storage pool not found")
        if request.name == "busy":
            raise errors.Unavailable("later")
        if request.name == "broken":
            raise ZeroDivisionError("one by nought")
        if request.name == "slow":
            await asyncio.sleep(2.5)
        if request.name == "never":
            await asyncio.Event().wait()
        if request.name == "writes":
            calls.current().saw(77)
        if request.name == "big":
            return pool_pb2.PoolDescription(config={"source": "x" * 9 * 1024 * 1024})
        return pool_pb2.PoolDescription(name=request.name, config={"target": request.target})


class Sockets:
    service: ClassVar[str] = SOCKETS

    async def Connect(
        self, request: AsyncIterator[rest_pb2.SocketFrame], call: Call
    ) -> AsyncIterator[rest_pb2.SocketFrame]:
        async for frame in request:
            if frame.secret == "wrong":
                raise errors.Forbidden("Bad websocket secret")
            yield rest_pb2.SocketFrame(data=frame.data[::-1], operation=call.caller.username)


class World:
    """A NATS server, a part named storage, and a client."""

    def __init__(self, directory: Path, bus: Bus, client: rpc.Rpc, server: rpc.RpcServer, pools: Pools) -> None:
        self.directory = directory
        self.bus = bus
        self.client = client
        self.server = server
        self.pools = pools

    async def describe(self, name: str, **more: Any) -> pool_pb2.PoolDescription:
        request = pool_pb2.PoolRequest(name=name, target="here")
        found: pool_pb2.PoolDescription = await self.client.call(POOLS, "Describe", request, **more)
        return found


async def _reached(_revision: int) -> None:
    return None


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    server = natsd.prepare(tmp_path)
    process = await asyncio.create_subprocess_exec(*server.argv, stderr=asyncio.subprocess.DEVNULL)
    bus = Bus(server.url, "test")
    await bus.connect(timeout=30)
    client = rpc.Rpc(bus, tmp_path)
    await client.open()
    answering = rpc.RpcServer(bus, "storage", tmp_path, reached=_reached)
    pools = Pools()
    answering.add(pools)
    answering.add(Sockets())
    await answering.open()
    yield World(tmp_path, bus, client, answering, pools)
    await answering.drain(1)
    await client.close()
    await bus.close()
    process.terminate()
    await process.wait()


async def test_unary_answers(world: World) -> None:
    described = pool_pb2.PoolDescription(name="p1", config={"target": "here"})
    assert await world.describe("p1") == described
    assert await world.describe("p1", member="none") == described
    assert world.server.counters.methods["Pools.Describe"].requests == 2


@pytest.mark.parametrize(
    ("name", "fault", "text"),
    [
        ("missing", errors.NotFound, "Storage pool not found"),
        ("busy", errors.Unavailable, "later"),
        ("broken", errors.Internal, "ZeroDivisionError: one by nought"),
        ("big", errors.Internal, "The answer is larger than the bus carries"),
    ],
)
async def test_faults_cross_the_wire(world: World, name: str, fault: type[errors.Fault], text: str) -> None:
    with pytest.raises(fault) as caught:
        await world.describe(name)
    assert type(caught.value) is fault
    assert caught.value.text == text


async def test_the_context_travels(world: World) -> None:
    caller = Caller(protocol="tls", username="abc", address="10.0.0.1:99", trusted=True, projects=("blue",))
    context = Call(caller=caller, revision=5, traceparent="00-aa-bb-01")
    await world.describe("writes", context=context, timeout=7)
    seen = world.pools.calls[-1]
    assert seen.caller == caller
    assert seen.traceparent == "00-aa-bb-01"
    assert seen.remaining(100) <= 7
    assert context.revision == 77  # what the server wrote, the caller has seen


async def test_nobody_there_is_told_at_once(world: World) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(errors.Unavailable, match="The network service is not available"):
        await world.client.call(POOLS, "Describe", pool_pb2.PoolRequest(), part="network", timeout=20)
    with pytest.raises(errors.Unavailable):
        await world.describe("x", member="elsewhere")
    assert asyncio.get_running_loop().time() - started < 10  # half of what the first would have waited


async def test_time_runs_out(world: World) -> None:
    with pytest.raises(errors.Unavailable, match=r"within 0\.2s"):
        await world.describe("slow", timeout=0.2)


async def test_a_long_call_gives_signs_of_life_and_a_silent_one_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.rpc_nats.PULSE", 0.1)
    monkeypatch.setattr("chassis.rpc_nats.PATIENCE", 2.0)
    assert (await world.describe("slow", timeout=20)).name == "slow"
    monkeypatch.setattr("chassis.rpc_nats.NatsServer._start_pulse", lambda *_: None)
    with pytest.raises(errors.Unavailable, match="stopped answering"):
        await world.describe("never", timeout=20)


async def test_what_reads_is_asked_again_when_a_replica_dies_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first who has the call never answers, the second does."""
    monkeypatch.setattr("chassis.rpc_nats.PATIENCE", 0.8)
    monkeypatch.setattr("chassis.rpc_nats.NatsServer._start_pulse", lambda *_: None)
    dead, describe = asyncio.Event(), Pools.Describe

    async def die_once(self: Pools, request: pool_pb2.PoolRequest, call: Call) -> pool_pb2.PoolDescription:
        if request.name == "x" and not dead.is_set():
            dead.set()
            await asyncio.Event().wait()
        return await describe(self, request, call)

    handlers = world.server.unary.handlers
    deadly = (handlers["Pools.Describe"][0], functools.partial(die_once, world.pools))
    monkeypatch.setitem(handlers, "Pools.Describe", deadly)
    with pytest.raises(errors.Unavailable, match="stopped answering"):
        await world.describe("x", timeout=20)
    dead.clear()
    assert (await world.describe("x", timeout=20, reads=True)).name == "x"


async def test_streams(world: World) -> None:
    async def frames() -> AsyncIterator[rest_pb2.SocketFrame]:
        for word in (b"abc", b"def"):
            yield rest_pb2.SocketFrame(data=word)

    context = Call(caller=Caller(username="me"))
    found = [
        (frame.data, frame.operation)
        async for frame in world.client.stream(SOCKETS, "Connect", frames(), part="storage", context=context)
    ]
    assert found == [(b"cba", "me"), (b"fed", "me")]


async def test_faults_of_streams(world: World) -> None:
    async def frames() -> AsyncIterator[rest_pb2.SocketFrame]:
        yield rest_pb2.SocketFrame(secret="wrong")

    with pytest.raises(errors.Forbidden, match="Bad websocket secret"):
        async for _ in world.client.stream(SOCKETS, "Connect", frames(), part="storage"):
            pass
    with pytest.raises(errors.Unavailable, match="images service is not available"):
        async for _ in world.client.stream(SOCKETS, "Connect", frames(), part="images"):
            pass
    (world.directory / "run" / "network.sock").touch()
    with pytest.raises(errors.Unavailable, match="network service is not available"):
        async for _ in world.client.stream(SOCKETS, "Connect", frames(), part="network"):
            pass


@pytest.mark.parametrize("count", [1, 10_000], ids=["written", "still writing"])
@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN])
async def test_a_stream_that_ends_with_its_part_is_one_of_a_part_that_is_away(
    world: World, code: grpc.StatusCode, count: int
) -> None:
    async def end(_requests: Any, context: Any) -> None:
        await context.abort(code, "")  # without the mark of a fault: no part says so

    leaving = grpc.aio.server()
    methods = {"Connect": grpc.stream_stream_rpc_method_handler(end)}
    leaving.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SOCKETS, methods),))
    leaving.add_insecure_port(f"unix:{world.directory}/run/network.sock")
    await leaving.start()

    async def frames() -> AsyncIterator[rest_pb2.SocketFrame]:
        for _ in range(count):
            yield rest_pb2.SocketFrame(data=b"abc")

    try:
        with pytest.raises(errors.Unavailable, match="network service is not available"):
            async for _ in world.client.stream(SOCKETS, "Connect", frames(), part="network"):
                pass
    finally:
        await leaving.stop(None)


async def test_a_part_that_is_slow_to_greet_is_waited_for(world: World) -> None:
    """A busy machine takes its time until a connection stands; a part that is away refuses at once."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        finally:
            writer.close()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.7)
        onward = await asyncio.open_unix_connection(world.directory / "run" / "storage.sock")
        await asyncio.gather(pipe(reader, onward[1]), pipe(onward[0], writer))

    async def frames() -> AsyncIterator[rest_pb2.SocketFrame]:
        yield rest_pb2.SocketFrame(data=b"abc")

    slow = await asyncio.start_unix_server(greet, world.directory / "run" / "network.sock")
    try:
        found = [frame.data async for frame in world.client.stream(SOCKETS, "Connect", frames(), part="network")]
    finally:
        slow.close()
        await world.client.close()  # with which the pipes end
        await slow.wait_closed()
    assert found == [b"cba"]


async def test_a_stream_that_is_left_is_cancelled(world: World) -> None:
    hold = asyncio.Event()

    async def frames() -> AsyncIterator[rest_pb2.SocketFrame]:
        yield rest_pb2.SocketFrame(data=b"x")
        await hold.wait()

    stream = world.client.stream(SOCKETS, "Connect", frames(), part="storage")
    async with aclosing(stream):  # type: ignore[type-var]
        async for _ in stream:
            break
    count = world.server.counters.methods["Sockets.Connect"]
    async with asyncio.timeout(10):
        while count.running:
            await asyncio.sleep(0.01)


async def test_a_fault_reaches_a_client_that_is_still_writing(world: World) -> None:
    async def ask(size: int) -> str:
        async def frames() -> AsyncIterator[rest_pb2.SocketFrame]:
            yield rest_pb2.SocketFrame(secret="wrong")
            for _ in range(20):
                yield rest_pb2.SocketFrame(data=b"x" * size)

        with pytest.raises(errors.Forbidden) as caught:
            async for _ in world.client.stream(SOCKETS, "Connect", frames(), part="storage"):
                pass
        return caught.value.text

    told = await asyncio.gather(*(ask(10 if number % 2 else 100_000) for number in range(60)))
    assert set(told) == {"Bad websocket secret"}
