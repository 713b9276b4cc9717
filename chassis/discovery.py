"""Where a part's streaming methods are reached: the one rule.

On the own machine it is the socket `D/run/<part>.sock`. A part that also listens on TCP says so in its
`$SRV.INFO` (`address`, `member`), which is asked when another member is wanted or no local socket exists; the
answer is kept for some seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import nats

from chassis import errors
from chassis.bus import Bus

KEEP = 5.0  # seconds that an announced address is believed
PATIENCE = 3.0  # seconds for a part that is there and busy; one that is not there is known at once


@dataclass(frozen=True, slots=True)
class Target:
    """A gRPC target; `secure` means TCP with mutual TLS."""

    address: str
    secure: bool


class _Metadata(msgspec.Struct):
    address: str = ""
    member: str = ""


class _Info(msgspec.Struct):
    name: str
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


@dataclass(slots=True)
class Discovery:
    bus: Bus
    directory: Path
    member: str
    known: dict[tuple[str, str | None], tuple[float, Target]] = field(default_factory=dict)
    sockets: dict[str, str] = field(default_factory=dict)

    def socket(self, part: str) -> Path:
        return self.directory / "run" / f"{part}.sock"

    async def find(self, part: str, member: str | None) -> Target:
        """Raises Unavailable if the part is nowhere."""
        here = self.sockets.get(part)
        if here is None:
            here = self.sockets[part] = str(self.socket(part))
        if member in (None, self.member) and os.path.exists(here):
            return Target(f"unix:{here}", secure=False)
        kept = self.known.get((part, member))
        if kept and time.monotonic() - kept[0] < KEEP:
            return kept[1]
        target = Target(await self._ask(part, member), secure=True)
        self.known[part, member] = (time.monotonic(), target)
        return target

    def forget(self, part: str, member: str | None) -> None:
        self.known.pop((part, member), None)

    async def _ask(self, part: str, member: str | None) -> str:
        async with aclosing(self._answers(f"$SRV.INFO.{part}", PATIENCE)) as answers:
            async for info in answers:
                if info.metadata.address and member in (None, info.metadata.member):
                    return info.metadata.address
        where = f" on member {member}" if member else ""
        raise errors.Unavailable(f"The {part} service is not available{where}")

    async def _answers(self, subject: str, wait: float) -> AsyncGenerator[_Info, None]:
        """Each answer as it comes; ends after `wait` seconds, at once when nobody listens."""
        inbox = self.bus.nats.new_inbox()
        deadline = time.monotonic() + wait
        try:
            subscription = await self.bus.nats.subscribe(inbox)
            try:
                await self.bus.nats.publish(subject, b"", reply=inbox)
                while (left := deadline - time.monotonic()) > 0:
                    msg = await subscription.next_msg(left)
                    if msg.headers and msg.headers.get("Status") == "503":
                        return
                    yield msgspec.json.decode(msg.data, type=_Info)
            except nats.errors.TimeoutError:
                return
            finally:
                await subscription.unsubscribe()
        except nats.errors.Error as error:
            raise errors.Unavailable(f"The message bus is not available: {error}") from None
