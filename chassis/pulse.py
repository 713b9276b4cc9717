"""Notices within about a second that nats-server has stopped answering (stopped, starved, unreachable): the client itself takes several.

While somebody waits for an answer, the server is pinged; if neither the pong nor anything else comes in time, it counts as silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import nats
import structlog
from nats.aio.client import Client

LOOK = 0.2  # seconds between two looks whether somebody waits
ANSWER = 1.0  # seconds that a ping may take
log = structlog.get_logger(__name__)


class Pulse:
    """Watches one connection. `client` gives it, None while there is none; `waiting`: whether an answer is waited for."""

    def __init__(
        self,
        client: Callable[[], Client | None],
        waiting: Callable[[], bool],
        silent: Callable[[], None],
        back: Callable[[], None],
    ) -> None:
        self._client = client
        self._waiting = waiting
        self._silent = silent
        self._back = back

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK)
            client = self._client()
            if client is not None and self._waiting() and not await answers(client):
                log.warning("nats-server does not answer")
                self._silent()
                await self._return_of(client)

    async def _return_of(self, client: Client) -> None:
        """Until it answers again, or the connection breaks (whoever dials anew tells of that)."""
        while self._client() is client and client.is_connected:
            if await answers(client):
                log.info("nats-server answers again")
                self._back()
                return
            await asyncio.sleep(LOOK)


async def answers(client: Client) -> bool:
    """Whether the server says anything within a second. A delay of this process's own does not count."""
    loop = asyncio.get_running_loop()
    heard = client.stats["in_msgs"]
    pong: asyncio.Future[bool] = loop.create_future()
    try:
        await client._send_ping(pong)
    except (OSError, nats.errors.Error, AttributeError, RuntimeError):
        return True  # the connection is gone, and that is told by itself
    began = loop.time()
    await asyncio.wait([pong], timeout=ANSWER)
    late = loop.time() - began > ANSWER + LOOK
    return pong.done() or late or not client.is_connected or client.stats["in_msgs"] != heard
