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
from chassis.sockets import Gone, Socket
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
    """The websockets of one command as they connect. `ready` is set when all are there."""

    wanted: frozenset[str]
    sockets: dict[str, Socket] = field(default_factory=dict)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def attach(self, socket: Socket) -> None:
        """Handler of a websocket: it stays open until the command is done."""
        self.sockets[socket.name] = socket
        if self.wanted <= self.sockets.keys():
            self.ready.set()
        await self.done.wait()


async def carry(executed: Executed, wires: Wires) -> int:
    """Run the command's input and output over its websockets until it ends. Its exit code."""
    tasks = [asyncio.create_task(_steer(executed, wires.sockets["control"]), name="exec control")]
    outputs = []
    if "1" in wires.wanted:
        tasks.append(asyncio.create_task(_feed(executed, wires.sockets["0"]), name="exec input"))
        outputs.append(asyncio.create_task(_drain(executed.stdout, wires.sockets["1"]), name="exec output"))
        outputs.append(asyncio.create_task(_drain(executed.stderr, wires.sockets["2"]), name="exec errors"))
    else:
        tasks.append(asyncio.create_task(_feed(executed, wires.sockets["0"]), name="exec input"))
        outputs.append(asyncio.create_task(_drain(executed.stdout, wires.sockets["0"]), name="exec output"))
    try:
        code = await executed.wait()
        await asyncio.wait(outputs, timeout=GRACE)
        return code
    finally:
        for task in (*tasks, *outputs):
            task.cancel()
        await asyncio.gather(*tasks, *outputs, return_exceptions=True)
        executed.close()
        wires.done.set()


async def _steer(executed: Executed, socket: Socket) -> None:
    """Control messages; when the client goes away the command is killed, as LXD does."""
    async for message in socket:
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


async def _drain(descriptor: int | None, socket: Socket) -> None:
    """What the command writes, to the client; then the mark that there is no more."""
    with suppress(Gone):
        while descriptor is not None and (data := await read_some(descriptor)):
            await socket.send(data)
        await socket.end_of_output()
