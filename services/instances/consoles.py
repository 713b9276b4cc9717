"""A client at the console of an instance: the terminal's bytes over "0", its size over "control"."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from chassis.errors import Fault
from chassis.sockets import Gone, Socket
from services.instances.execution import Wires
from services.instances.host.console import Consoles, Session
from services.instances.host.spec import Key


class Screen:
    """One attachment, from the connecting of its websockets to its end (the client goes, or the instance stops)."""

    def __init__(self, consoles: Consoles, key: Key, size: tuple[int, int]) -> None:
        self.consoles = consoles
        self.key = key
        self.size = size
        self.wires = Wires(frozenset({"0", "control"}))

    async def show(self, patience: float) -> None:
        async with asyncio.timeout(patience):
            await self.wires.ready.wait()
        session = await self.consoles.attach(self.key, *self.size)
        try:
            await self._carry(session)
        finally:
            await self.consoles.detach(self.key, session)

    async def _carry(self, session: Session) -> None:
        terminal = self.wires.sockets["0"]
        tasks = [
            asyncio.create_task(_type(session, terminal), name="console input"),
            asyncio.create_task(_show(session, terminal), name="console output"),
            asyncio.create_task(_steer(session, self.wires), name="console control"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _type(session: Session, socket: Socket) -> None:
    async for message in socket:
        if message.text and not message.data:
            return
        await session.write(message.data)


async def _show(session: Session, socket: Socket) -> None:
    try:
        async for data in session:
            await socket.send(data)
    except Gone:
        return


async def _steer(session: Session, wires: Wires) -> None:
    async for message in await wires.control():
        try:
            order: Mapping[str, Any] = msgspec.json.decode(message.data)
            if order["command"] == "window-resize":
                session.resize(int(order["args"]["width"]), int(order["args"]["height"]))
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError, Fault):
            continue
