"""Commands in a running instance: what one is asked to be, and the carrying of bytes between it and its websockets.

Websockets of a command, as LXD has them: interactive "0" (both ways) and "control"; otherwise "0" (input), "1", "2" (output) and "control".
Control messages are {"command": "window-resize", "args": {"width", "height"}} and {"command": "signal", "signal": 15}.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from chassis.errors import Fault
from chassis.sockets import PATIENCE, Gone, Socket
from services.instances.host.exec import Executed, read_some, write_all

GRACE = 0.2  # seconds that output may still come after the command has ended (children that hold the pipe are not waited for)
DEFAULTS = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
SNAP = ":/snap/bin"
log = structlog.get_logger()


def environment(config: Mapping[str, str], given: Mapping[str, str], user: int, terminal: bool) -> dict[str, str]:
    """The variables of a command: LXD's defaults, environment.* of the instance, then what the client gave."""
    found = {key.removeprefix("environment."): text for key, text in config.items() if key.startswith("environment.")}
    found |= given
    for name, text in DEFAULTS.items():
        found.setdefault(name, text)
    if user == 0:
        found.setdefault("HOME", "/root")
        found.setdefault("USER", "root")
    if terminal:
        found.setdefault("TERM", "linux")
    return found


@dataclass
class Wires:
    """The websockets of one command as they connect. `ready` is set when all are there but "control": pylxd never connects that."""

    wanted: frozenset[str]
    sockets: dict[str, Socket] = field(default_factory=dict)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    steered: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def attach(self, socket: Socket) -> None:
        """Handler of a websocket: it stays open until the command is done."""
        self.sockets[socket.name] = socket
        if socket.name == "control":
            self.steered.set()
        if self.wanted - {"control"} <= self.sockets.keys():
            self.ready.set()
        await self.done.wait()

    async def left(self) -> None:
        """All that was sent is with the client, or the client has gone. Only then may the operation end: a client that hears of the end
        closes what it reads from."""
        leaving = [asyncio.ensure_future(socket.left.wait()) for socket in self.sockets.values()]
        try:
            await asyncio.wait(leaving, timeout=PATIENCE)
        finally:
            for one in leaving:
                one.cancel()

    async def control(self) -> Socket:
        """The websocket of control messages, as soon as the client connects it."""
        await self.steered.wait()
        return self.sockets["control"]


async def carry(executed: Executed, wires: Wires) -> int:
    """Run the command's input and output over its websockets until it has ended and they have. Its exit code."""
    ended = asyncio.Event()
    sockets = wires.sockets
    pairs = [(executed.stdout, "1"), (executed.stderr, "2")] if "1" in wires.wanted else [(executed.stdout, "0")]
    inputs = [
        asyncio.create_task(_steer(executed, wires), name="exec control"),
        asyncio.create_task(_feed(executed, sockets["0"]), name="exec input"),
    ]
    outputs = [
        asyncio.create_task(_drain(end, sockets[name], ended), name=f"exec output {name}") for end, name in pairs
    ]
    try:
        code = await executed.wait()
        ended.set()
        await asyncio.wait(outputs)  # a slow client gets everything; one that goes away ends its output
        wires.done.set()
        await wires.left()
        return code
    finally:
        for task in (*inputs, *outputs):
            task.cancel()
        await asyncio.gather(*inputs, *outputs, return_exceptions=True)
        executed.close()
        wires.done.set()


async def _steer(executed: Executed, wires: Wires) -> None:
    """Control messages; when the client goes away the command is killed, as LXD does."""
    async for message in await wires.control():
        try:
            order: dict[str, Any] = msgspec.json.decode(message.data)
            _obey(executed, order)
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError, Fault) as error:
            log.warning("a control message was not understood", error=str(error))
    executed.signal(9)


def _obey(executed: Executed, order: Mapping[str, Any]) -> None:
    if order["command"] == "window-resize":
        executed.resize(int(order["args"]["width"]), int(order["args"]["height"]))
    elif order["command"] == "signal":
        executed.signal(int(order["signal"]))


async def _feed(executed: Executed, socket: Socket) -> None:
    """What the client sends, to the command. An empty text, or the client's going, is the end of input."""
    with suppress(BrokenPipeError):
        async for message in socket:
            if executed.stdin is None or (message.text and not message.data):
                break
            await write_all(executed.stdin, message.data)
    executed.close_stdin()


async def _drain(descriptor: int | None, socket: Socket, ended: asyncio.Event) -> None:
    """What the command writes, to the client; then the mark that there is no more.

    Children that outlive the command may hold its output open: then what comes within `GRACE` seconds after its end is the last of it.
    """
    with suppress(Gone):
        while descriptor is not None and (data := await _next(descriptor, ended)):
            await socket.send(data)
        await socket.end_of_output()


async def _next(descriptor: int, ended: asyncio.Event) -> bytes:
    """What is there to be read; empty at the end of it, or when the command has ended and nothing more comes."""
    reading = asyncio.ensure_future(read_some(descriptor))
    end = asyncio.ensure_future(ended.wait())
    try:
        await asyncio.wait((reading, end), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            await asyncio.wait((reading,), timeout=GRACE)
        return reading.result() if reading.done() else b""
    finally:
        reading.cancel()
        end.cancel()
        await asyncio.gather(reading, end, return_exceptions=True)
