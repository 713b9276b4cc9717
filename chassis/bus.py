"""The connection to NATS: it comes back by itself, and while it is away every call fails at once.

What always holds: a request in flight when the connection breaks ends immediately (Unavailable, or Unknown for an append, whose
outcome only the log can tell); nothing waits for a server that is away unless it asks to (`when_up`). The address is read again
before each attempt, since a server that was set up anew may listen elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import nats
import structlog
from nats.aio.client import Server
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from chassis.address import address, tls_context
from chassis.connection import Connection, Hearer
from chassis.errors import NotFound, Unavailable
from chassis.events import Event
from chassis.log import STREAM, Following, Message, Moved, Stored, Unknown
from chassis.pulse import Pulse
from chassis.redo import mend, with_rest
from chassis.stored import acknowledgement, stored_from, stored_of
from chassis.stream import ensure, level
from chassis.tail import Tail

ACK_TIMEOUT = 5.0
RECONNECT_WAIT = 0.05
DIAL_WAIT = 1.0  # seconds at most between two attempts to connect for the first time
_NO_STREAM = 10059
_WRONG_REVISION = (10071, 10164)
_STORE_FAILED = 10077
_END_OF_PAGE = ("204", "404")
_AWAY = "The message bus is away"
log = structlog.get_logger(__name__)


class Bus:
    """One NATS connection of a process: `bus = Bus(directory, name); await bus.connect()`; `close` ends it.

    `where` is a data directory (`run/nats.json` says the rest), a URL with credentials, or a function that gives one.
    """

    def __init__(self, where: str | os.PathLike[str] | Callable[[], str], name: str = "nubibus") -> None:
        self.where = where if callable(where) else address(where)
        self._name = name
        self._nc = Connection()
        self._inbox = f"_INBOX.{uuid.uuid4().hex}"
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._arriving: dict[str, asyncio.Queue[Msg | None]] = {}
        self._drawn = 0
        self._up = asyncio.Event()
        self._closed = False
        self._dialed = False
        self._connected = False
        self._rising: asyncio.Task[None] | None = None
        self.on_up: list[Callable[[], Awaitable[None]]] = []
        self.on_store_failed: Callable[[], None] = lambda: None
        self.on_refused: Callable[[BaseException], None] = lambda _error: None
        self.on_down: list[Callable[[], None]] = []
        self.waiters: list[Callable[[], bool]] = [lambda: bool(self._waiting)]  # whether somebody waits for an answer
        self._pulse: asyncio.Task[None] | None = None

    async def connect(self, timeout: float | None = None) -> None:
        """Wait until the server is there; Unavailable after `timeout` seconds (None: wait for ever)."""
        try:
            async with asyncio.timeout(timeout):
                attempt = 0
                while not await self._dial():
                    await asyncio.sleep(min(RECONNECT_WAIT * 1.5**attempt, DIAL_WAIT))
                    attempt += 1
                await self._nc.hear(f"{self._inbox}.*", self._answered)
                await self._came_up()
                await self._up.wait()
            self._pulse = asyncio.create_task(self._watched().run(), name=f"{self._name} pulse")
        except TimeoutError:
            await self.close()
            raise Unavailable(_AWAY) from None

    async def _dial(self) -> bool:
        nc = Connection()
        try:
            await nc.connect(
                [self.where()],
                name=self._name,
                allow_reconnect=False,
                reconnect_time_wait=0,
                max_reconnect_attempts=1,
                connect_timeout=2,
                ping_interval=1,
                max_outstanding_pings=2,
                disconnected_cb=self._went_down,
                reconnected_cb=self._came_up,
                error_cb=self._failed,
                reconnect_to_server_handler=self._next_server,
                pending_size=32 * 1024 * 1024,
                tls=tls_context(),
            )
        except (OSError, nats.errors.Error, TimeoutError, ValueError) as error:
            self.on_refused(error)
            with suppress(Exception):
                await nc.close()
            return False
        # Only the first attempt must give up soon (`connect` paces it): from now on the client comes back by itself.
        nc.options["allow_reconnect"] = True
        nc.options["max_reconnect_attempts"] = -1
        self._nc = nc
        self._dialed = True
        return True

    def _next_server(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
        """Called before each attempt: read the address again, and pause a little."""
        with suppress(OSError, ValueError):
            self._nc.set_server_pool([self.where()])
        return None, RECONNECT_WAIT

    @property
    def nats(self) -> Connection:
        """The connection itself; Unavailable while it is away."""
        if not self._connected or not (self._up.is_set() or asyncio.current_task() is self._rising):
            raise Unavailable(_AWAY)
        return self._nc

    @property
    def up(self) -> bool:
        return self._up.is_set()

    async def when_up(self, timeout: float | None = None) -> bool:
        """Wait for the connection; false when `timeout` seconds have passed."""
        try:
            async with asyncio.timeout(timeout):
                await self._up.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        self._closed = True
        if self._pulse is not None:
            self._pulse.cancel()
        await self._went_down()
        if self._dialed:
            await self._nc.close()

    async def request(
        self, subject: str, data: bytes = b"", *, headers: dict[str, str] | None = None, timeout: float = 5.0
    ) -> Msg:
        """One answer to one message. Unavailable when nobody serves the subject, the bus goes away or time runs out."""
        return await self._ask(subject, data, headers, timeout)

    async def _ask(self, subject: str, data: bytes, headers: dict[str, str] | None, timeout: float) -> Msg:
        nc = self.nats
        self._drawn += 1
        token = f"{self._drawn:x}"
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Msg] = loop.create_future()
        self._waiting[token] = answer
        timer = loop.call_later(timeout, _expire, answer, subject)
        try:
            await nc.publish(subject, data, reply=f"{self._inbox}.{token}", headers=headers)
            msg = await answer
        except nats.errors.Error as e:
            raise Unavailable(f"{_AWAY}: {e}") from e
        finally:
            timer.cancel()
            self._waiting.pop(token, None)
        if not msg.data and msg.headers and msg.headers.get("Status") == "503":
            raise Unavailable(f"Nobody answers {subject}")
        return msg

    def _answered(self, msg: Msg) -> None:
        token = msg.subject.rpartition(".")[2]
        if token in self._arriving:
            self._arriving[token].put_nowait(msg)
            return
        answer = self._waiting.get(token)
        if answer is not None and not answer.done():
            answer.set_result(msg)

    async def api(self, name: str, request: Any = None, *, timeout: float = 5.0) -> dict[str, Any]:
        """A request of the JetStream API: `name` without "$JS.API.". The answer may hold "error"."""
        data = msgspec.json.encode(request) if request is not None else b""
        msg = await self.request(f"$JS.API.{name}", data, timeout=timeout)
        return msgspec.json.decode(msg.data, type=dict[str, Any])

    async def publish(self, subject: str, data: bytes, *, headers: dict[str, str] | None = None) -> None:
        """Send to whoever listens; nothing tells whether it arrived."""
        await self.nats.publish(subject, data, headers=headers)

    async def announce(self, event: Event) -> None:
        """An event that is not kept (log lines, progress). While the bus is away it is dropped."""
        if self.up:
            await self._nc.publish(event.live_subject(), event.encode())

    async def hear(self, subject: str, hearer: Hearer) -> Subscription:
        """Call a plain function for each message, as soon as it has been read."""
        return await self.nats.hear(subject, hearer)

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        return await self.nats.subscribe(
            subject, queue=queue, cb=callback, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    # The log.

    async def ready(self) -> None:
        """See that the stream is there."""
        await ensure(self)

    async def append(self, messages: Sequence[Message]) -> int:
        """Append all or nothing; the sequence of the last message. Moved, Unavailable or Unknown otherwise."""
        nc = self.nats
        if len(messages) == 1:
            return await self._append_last(messages[0], messages[0].guarded)
        messages, note = with_rest(messages)
        if note is not None:
            await self._append_last(note, note.guarded)
        final = messages[-1]
        batch = uuid.uuid4().hex
        try:
            with nc.gathering():
                for number, message in enumerate(messages[:-1], 1):
                    numbered = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                    await nc.publish(message.subject, message.data, headers=message.guarded | numbered)
        except nats.errors.Error as e:
            raise Unavailable(f"{_AWAY}: {e}") from e
        headers = final.guarded
        headers["Nats-Batch-Id"] = batch
        headers["Nats-Batch-Sequence"] = str(len(messages))
        headers["Nats-Batch-Commit"] = "1"
        return await self._append_last(final, headers)

    async def _append_last(self, message: Message, headers: dict[str, str]) -> int:
        try:
            msg = await self._ask(message.subject, message.data, headers, ACK_TIMEOUT)
        except Unavailable as e:
            if self.up:  # the connection stands and no acknowledgement came: of a batch the server does not tell why
                self.on_store_failed()
            raise Unknown(e.text) from e
        answer = acknowledgement(msg)
        if answer.error is None:
            return answer.seq
        if answer.error.err_code in _WRONG_REVISION:
            raise Moved(answer.error.description)
        if answer.error.err_code == _STORE_FAILED:
            self.on_store_failed()
            raise Unknown(f"The log cannot write: {answer.error.description}")  # a part of the batch may be there
        raise Unavailable(f"The log refused to write: {answer.error.description} ({answer.error.err_code})")

    async def last(self, subject: str) -> Stored | None:
        """The last message of a subject, as the leader of the stream has it."""
        return await self.fetch({"last_by_subj": subject})

    async def fetch(self, request: dict[str, Any]) -> Stored | None:
        """One message of the stream: {"seq": n}, {"last_by_subj": s} or {"seq": n, "next_by_subj": s}; None if there is none."""
        answer = await self.api(f"STREAM.MSG.GET.{STREAM}", request)
        if "error" in answer:
            if answer["error"].get("code") == 404:
                return None
            raise Unavailable(f"The log cannot be read: {answer['error'].get('description')}")
        return stored_from(answer["message"])

    async def stream(self, *, subjects: str = "") -> dict[str, Any]:
        """What the server tells of the stream (STREAM.INFO); with the subjects under a pattern and their counts if asked."""
        request = {"subjects_filter": subjects} if subjects else None
        info = await self.api(f"STREAM.INFO.{STREAM}", request)
        if "error" in info:
            text = f"The log is not there: {info['error'].get('description')}"
            raise NotFound(text) if info["error"].get("err_code") == _NO_STREAM else Unavailable(text)
        return info

    async def page(self, pattern: str, after: int, size: int) -> list[Stored]:
        """At most `size` kept messages under a pattern beyond a sequence, in order; none when there are no more."""
        self._drawn += 1
        token = f"{self._drawn:x}"
        arriving: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._arriving[token] = arriving
        request = msgspec.json.encode({"seq": after + 1, "batch": size, "next_by_subj": pattern})
        found: list[Stored] = []
        try:
            async with asyncio.timeout(10):
                await self.nats.publish(f"$JS.API.DIRECT.GET.{STREAM}", request, reply=f"{self._inbox}.{token}")
                while (msg := await arriving.get()) is not None:
                    status = (msg.headers or {}).get("Status")
                    if status is not None:
                        if status in _END_OF_PAGE:
                            return found
                        raise Unavailable(f"The log cannot be read: {(msg.headers or {}).get('Description')}")
                    found.append(stored_of(msg))
        except (TimeoutError, nats.errors.Error):
            pass
        finally:
            del self._arriving[token]
        raise Unavailable(_AWAY)

    async def follow(
        self,
        pattern: str,
        after: int,
        deliver: Callable[[Stored], None],
        *,
        caught_up: Callable[[int], None],
        anew: Callable[[], None],
    ) -> Following:
        """Deliver what is kept under `pattern` with a sequence beyond `after`, then what comes, in order, each once.

        `anew()` is called before everything is delivered again from the beginning (see `Tail`).
        """
        tail = Tail(self, pattern, after, deliver, caught_up, anew)
        await tail.start()
        return tail

    # What the connection tells.

    async def _went_down(self) -> None:
        self._connected = False
        self._up.clear()
        if self._rising is not None:
            self._rising.cancel()
        self._drop_requests()

    def _watched(self) -> Pulse:
        return Pulse(
            lambda: self._nc if self._connected and not self._closed else None,
            lambda: any(waits() for waits in self.waiters),
            self._fell_silent,
            self._answers_again,
        )

    def _fell_silent(self) -> None:
        """The connection stands and nothing comes: nobody waits for it any longer, until it answers again."""
        self._up.clear()
        self._drop_requests()

    def _answers_again(self) -> None:
        if self._rising is None or self._rising.done():
            self._up.set()

    async def _came_up(self) -> None:
        if not self._closed:
            self._connected = True
            self._rising = asyncio.create_task(self._rise(), name=f"{self._name} comes up")

    async def _rise(self) -> None:
        """Nobody uses the log before its end is known to be whole, and JetStream has read its files."""
        while True:
            try:
                if await mend(self):
                    log.info("The log is whole again")
                await level(self)
                break
            except NotFound:
                break  # there is no log yet
            except Unavailable:
                await asyncio.sleep(RECONNECT_WAIT)
        self._up.set()
        for callback in list(self.on_up):
            await callback()

    def _drop_requests(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Unavailable(_AWAY))
        for arriving in self._arriving.values():
            arriving.put_nowait(None)
        for tell in self.on_down:
            tell()

    async def _failed(self, error: Exception) -> None:
        """The connection comes back by itself and a request tells its own caller; anything else is a mistake in a callback."""
        if not isinstance(error, OSError | nats.errors.Error | TimeoutError):
            log.error("A callback of the bus failed", exc_info=error)
        elif not self._connected:
            self.on_refused(error)


def _expire(answer: asyncio.Future[Msg], subject: str) -> None:
    if not answer.done():
        answer.set_exception(Unavailable(f"No answer from {subject} in time"))
