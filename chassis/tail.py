"""An ordered follower of the stream: every message under a pattern, in order, each once, across reconnects and restarts.

It is an ephemeral push consumer without acknowledgements. A gap in the consumer's own numbers, a new connection or a consumer that
the server has lost make it start a new one just behind what was delivered last.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from chassis.errors import Unavailable
from chassis.log import STREAM, Stored

if TYPE_CHECKING:
    from chassis.bus import Bus

log = structlog.get_logger(__name__)

CHECK_EVERY = 5.0
# The marker of a deletion lives for an hour (`change.DELETION_TTL`): who was away for longer must look at everything.
RESYNC_AFTER = 45 * 60
RETRY = 0.1


class Tail:
    """See the module. `deliver` gets each message; `caught_up(sequence)` is called when nothing below that sequence is missing.

    `anew()` is called when everything is going to be delivered again from the beginning of the log.
    """

    def __init__(
        self,
        bus: Bus,
        pattern: str,
        after: int,
        deliver: Callable[[Stored], None],
        caught_up: Callable[[int], None],
        anew: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._pattern = pattern
        self._after = after
        self._deliver = deliver
        self._caught_up = caught_up
        self._anew = anew
        self._created = ""
        self._contact = time.time()
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._expected = 0
        self._target = 0
        self._again = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._begin()
        self._bus.on_up.append(self._reconnected)
        self._keeper = asyncio.create_task(self._keep(), name=f"tail {self._pattern}")

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._bus.on_up.remove(self._reconnected)
        await self._end()

    async def _begin(self) -> None:
        """Start a consumer behind the last delivered message."""
        await self._end()
        bus = self._bus
        inbox = f"_INBOX.{uuid.uuid4().hex}"
        info = await bus.api(f"STREAM.INFO.{STREAM}")
        if "error" in info:
            raise Unavailable(f"The log is not there: {info['error'].get('description')}")
        self._look_at(info)
        self._target = info["state"]["last_seq"]
        self._consumer = f"t{uuid.uuid4().hex}"
        self._expected = 1
        self._subscription = await bus.hear(inbox, self._receive)
        config = {
            "name": self._consumer,
            "deliver_subject": inbox,
            "filter_subject": self._pattern,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._after + 1,
            "ack_policy": "none",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 60_000_000_000,
        }
        answer = await bus.api(
            f"CONSUMER.CREATE.{STREAM}.{self._consumer}",
            {"stream_name": STREAM, "config": config, "action": "create"},
        )
        if "error" in answer:
            raise Unavailable(f"The log cannot be followed: {answer['error'].get('description')}")
        if answer.get("num_pending", 0) == 0 and answer["delivered"]["consumer_seq"] == 0:
            self._caught_up(self._target)

    def _look_at(self, info: dict[str, Any]) -> None:
        """Begin at the beginning if this is another log than before, or if marks of deletions may have gone unseen."""
        replaced = self._created not in ("", info["created"]) or info["state"]["last_seq"] < self._after
        if replaced or time.time() - self._contact > RESYNC_AFTER:
            log.warning("The log is read anew", pattern=self._pattern, replaced=replaced)
            self._after = 0
            self._anew()
        self._created = info["created"]
        self._contact = time.time()

    async def _end(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(Exception):
                await subscription.unsubscribe()
            if self._bus.up:
                with suppress(Unavailable):
                    await self._bus.api(f"CONSUMER.DELETE.{STREAM}.{self._consumer}", timeout=1.0)

    def _receive(self, msg: Msg) -> None:
        fields = msg.reply.split(".")
        at = 4 if len(fields) == 9 else 6
        consumer, sequence, number = fields[at - 1], int(fields[at + 1]), int(fields[at + 2])
        if consumer != self._consumer:
            return
        if number != self._expected:
            self._again.set()
            return
        self._expected += 1
        if sequence > self._after:
            self._after = sequence
            try:
                self._deliver(Stored(msg.subject, msg.data, msg.headers or {}, sequence, int(fields[at + 3])))
            except Exception:
                log.exception("A message of the log was not understood", subject=msg.subject, sequence=sequence)
        if fields[at + 4] == "0":
            self._caught_up(max(sequence, self._target))

    async def _reconnected(self) -> None:
        self._again.set()

    async def _keep(self) -> None:
        """Start the consumer anew when it must be; look after it now and then, since a server can lose one silently."""
        while True:
            try:
                async with asyncio.timeout(CHECK_EVERY):
                    await self._again.wait()
            except TimeoutError:
                if not self._bus.up or await self._alive():
                    continue
            self._again.clear()
            await self._bus.when_up()
            try:
                await self._begin()
            except Unavailable as e:
                log.warning("The log cannot be followed yet", pattern=self._pattern, error=e.text)
                await asyncio.sleep(RETRY)
                self._again.set()

    async def _alive(self) -> bool:
        """Whether the consumer is there and has nothing that did not reach us."""
        expected = self._expected
        self._contact = time.time()
        try:
            info = await self._bus.api(f"CONSUMER.INFO.{STREAM}.{self._consumer}")
        except Unavailable:
            return True
        if "error" in info:
            return False
        quiet = expected == self._expected
        return not quiet or info["delivered"]["consumer_seq"] < self._expected or bool(info["num_pending"])
