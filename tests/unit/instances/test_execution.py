"""What a command is given, and its websockets at its end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing

from chassis.calls import Call
from chassis.sockets import Socket, Sockets
from gen.nubibus.rest.v1 import rest_pb2
from services.instances.execution import Wires, environment


def test_the_instances_environment_lies_below_the_clients() -> None:
    found = environment({"environment.A": "1", "environment.B": "1", "user.x": "y"}, {"B": "2"}, 0, terminal=True)
    assert (found["A"], found["B"], found["HOME"], found["USER"], found["TERM"]) == ("1", "2", "/root", "root", "linux")
    assert found["PATH"].startswith("/usr/local/sbin:")


def test_another_user_has_no_home_of_root() -> None:
    found = environment({}, {"LANG": "de"}, 1000, terminal=False)
    assert "HOME" not in found
    assert "TERM" not in found
    assert found["LANG"] == "de"


async def test_a_command_has_ended_only_when_its_client_has_the_output() -> None:
    """Else a client that hears of the end (GET /1.0/operations/ID/wait) closes the websocket on what is still under way."""

    async def asking() -> AsyncIterator[rest_pb2.SocketFrame]:
        yield rest_pb2.SocketFrame(operation="op", secret="s")
        await asyncio.Event().wait()

    wires, sockets = Wires(frozenset({"0"})), Sockets()
    sockets.register("op", {"0": "s"}, wires.attach)
    gateway = sockets.Connect(asking(), Call())
    assert not (await anext(gateway)).data  # the websocket is taken
    taking = asyncio.ensure_future(anext(gateway))
    await wires.ready.wait()
    await wires.sockets["0"].send(b"out")
    wires.done.set()
    leaving = asyncio.create_task(wires.left())
    assert (await taking).data == b"out"
    assert (await anext(gateway)).close
    assert not leaving.done()
    await gateway.aclose()  # as the gateway does when it has sent everything
    await asyncio.wait_for(leaving, 10)


async def test_a_client_that_sends_no_more_input_gets_its_output() -> None:
    async def asking() -> AsyncIterator[rest_pb2.SocketFrame]:
        yield rest_pb2.SocketFrame(operation="op", secret="s")
        yield rest_pb2.SocketFrame(text=True)
        await asyncio.Event().wait()

    async def attach(socket: Socket) -> None:
        async for message in socket:
            if not message.data:
                break
        gc.collect()  # the reading that was left ends
        await asyncio.sleep(0)
        await socket.send(b"out")

    sockets = Sockets()
    sockets.register("op", {"0": "s"}, attach)
    got = []
    async with aclosing(sockets.Connect(asking(), Call())) as gateway:  # type: ignore[type-var]
        async for frame in gateway:
            got.append(frame.data)
            if frame.close:
                break
    assert got == [b"", b"out", b""]
