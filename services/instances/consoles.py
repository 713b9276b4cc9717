"""A client at the console of an instance: the terminal's bytes over "0", its size over "control"."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from chassis.sockets import Gone, Socket
from services.instances.execution import Wires
from services.instances.host import console as host_console
from services.instances.host.console import Console
from services.instances.host.exec import read_some, write_all
from services.instances.host.spec import Key
from services.instances.parts import Parts


class Screen:
    """One attachment, from the connecting of its websockets to its end (the client goes, or the instance stops)."""

    def __init__(self, parts: Parts, key: Key, size: tuple[int, int]) -> None:
        self.parts = parts
        self.key = key
        self.size = size
        self.wires = Wires(frozenset({"0", "control"}))

    async def show(self, patience: float) -> None:
        async with asyncio.timeout(patience):
            await self.wires.ready.wait()
        console = await host_console.attach(self.parts.host, self.key)
        try:
            if all(self.size):
                console.resize(*self.size)
            await self._carry(console)
        finally:
            console.close()

    async def _carry(self, console: Console) -> None:
        terminal, control = self.wires.sockets["0"], self.wires.sockets["control"]
        tasks = [
            asyncio.create_task(_type(console, terminal), name="console input"),
            asyncio.create_task(_show(console, terminal), name="console output"),
            asyncio.create_task(_steer(console, control), name="console control"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _type(console: Console, socket: Socket) -> None:
    async for message in socket:
        if message.text and not message.data:
            return
        await write_all(console.fd, message.data)


async def _show(console: Console, socket: Socket) -> None:
    try:
        while data := await read_some(console.fd):
            await socket.send(data)
    except Gone:
        return


async def _steer(console: Console, socket: Socket) -> None:
    async for message in socket:
        try:
            order: Mapping[str, Any] = msgspec.json.decode(message.data)
            if order["command"] == "window-resize":
                console.resize(int(order["args"]["width"]), int(order["args"]["height"]))
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
            continue
