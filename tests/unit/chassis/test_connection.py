"""How messages are read and handed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop
from nats.aio.msg import Msg
from nats.errors import BadSubjectError, ProtocolError

from chassis.bus import Bus
from chassis.connection import Connection, Reader, headers_of, published
from chassis.errors import Unavailable
from chassis.testing.nats import NatsServer

WIRE = (
    b"+OK\r\n"
    b"MSG a.b 1 5\r\nhel\r\n\r\n"
    b"MSG a.b 1 inbox.1 0\r\n\r\n"
    b"HMSG a.c 2 inbox.2 29 33\r\nNATS/1.0\r\nName: a: b\r\nX:y\r\n\r\ndata\r\n"
    b"HMSG a.d 2 29 29\r\nNATS/1.0 503 Nobody there\r\n\r\n\r\n"
)
READ = [
    (1, b"a.b", b"", b"", b"hel\r\n"),
    (1, b"a.b", b"inbox.1", b"", b""),
    (2, b"a.c", b"inbox.2", b"NATS/1.0\r\nName: a: b\r\nX:y\r\n\r\n", b"data"),
    (2, b"a.d", b"", b"NATS/1.0 503 Nobody there\r\n\r\n", b""),
]


class Noting(Connection):
    """Notes what it is handed instead of passing it on."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[int, bytes, bytes, bytes, bytes]] = []

    async def hand_over(self, sid: int, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        self.noted.append((sid, subject, reply, headers, data))


@pytest.mark.parametrize("piece", range(1, len(WIRE) + 1))
async def test_messages_are_read_wherever_they_are_cut(piece: int) -> None:
    connection = Noting()
    reader = Reader(connection)
    for at in range(0, len(WIRE), piece):
        await reader.parse(WIRE[at : at + piece])
    assert connection.noted == READ
    assert not reader.buf


@pytest.mark.parametrize("line", [b"HELLO\r\n", b"MSG a.b 1\r\n", b"HMSG a.b 1 5\r\n", b"MSG a b c d 5\r\n"])
async def test_what_no_server_says_breaks_the_connection(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        await Reader(Noting()).parse(line)


def test_headers_are_read_with_the_status_of_the_server() -> None:
    assert headers_of(b"NATS/1.0\r\nName: a: b\r\nX:y\r\nEmpty:\r\n\r\n") == {"Name": "a: b", "X": "y", "Empty": ""}
    assert headers_of(b"NATS/1.0 503\r\n\r\n") == {"Status": "503"}
    found = headers_of(b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Stream: 7\r\n\r\n")
    assert found == {"Status": "100", "Description": "Idle Heartbeat", "Nats-Last-Stream": "7"}


def test_a_message_is_written_as_the_protocol_says() -> None:
    assert published("a.b", "", b"x\r\n", None) == b"PUB a.b  3\r\nx\r\n\r\n"
    assert published("a.b", "inbox", b"", {}) == b"PUB a.b inbox 0\r\n\r\n"
    head = "NATS/1.0\r\nName: é\r\nX: \r\n\r\n".encode()
    expected = b"HPUB a.b inbox %d %d\r\n%bdata\r\n" % (len(head), len(head) + 4, head)
    assert published("a.b", "inbox", b"data", {"Name": "é", "X": ""}) == expected


async def test_a_header_cannot_bring_another_one(bus: Bus) -> None:
    heard = asyncio.Queue[Msg]()
    await bus.hear("news", heard.put_nowait)
    await bus.publish("news", b"", headers={"Name": "a\r\nOther: b", "X": "y"})
    async with asyncio.timeout(30):
        assert (await heard.get()).headers == {"Name": "a  Other: b", "X": "y"}


async def test_what_is_gathered_leaves_with_the_next_message(bus: Bus) -> None:
    heard: list[bytes] = []
    await bus.hear("news", lambda msg: heard.append(msg.data))
    with bus.nats.gathering():
        await bus.publish("news", b"1")
        await bus.publish("news", b"2")
    await asyncio.sleep(0)
    assert len(bus.nats._pending) == 2
    await bus.publish("news", b"3")
    await bus.nats.flush()
    assert heard == [b"1", b"2", b"3"]


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with NatsServer() as server:
        yield await server.connect()


async def test_a_hearer_gets_every_message_once_and_in_order(bus: Bus) -> None:
    heard: list[Msg] = []
    whole = asyncio.Event()

    def hear(msg: Msg) -> None:
        heard.append(msg)
        if len(heard) == 2000:
            whole.set()

    await bus.hear("numbers.*", hear)
    for number in range(2000):
        await bus.publish(f"numbers.{number}", b"x" * number, headers={"Number": str(number)})
    async with asyncio.timeout(30):
        await whole.wait()
    assert [(m.subject, m.headers, len(m.data)) for m in heard] == [
        (f"numbers.{n}", {"Number": str(n)}, n) for n in range(2000)
    ]


async def test_a_hearer_that_fails_ends_neither_the_connection_nor_others(bus: Bus) -> None:
    heard = asyncio.Queue[bytes]()

    def fail(_msg: Msg) -> None:
        raise ValueError("a mistake")

    await bus.hear("news", fail)
    await bus.hear("news", lambda msg: heard.put_nowait(msg.data))
    for data in (b"1", b"2"):
        await bus.publish("news", data)
        async with asyncio.timeout(30):
            assert await heard.get() == data


async def test_a_hearer_that_could_not_subscribe_hears_nothing(bus: Bus) -> None:
    with pytest.raises(BadSubjectError):
        await bus.hear("no subject", lambda _msg: None)
    heard = asyncio.Queue[bytes]()

    async def take(msg: Msg) -> None:
        heard.put_nowait(msg.data)

    await bus.subscribe("news", take)
    await bus.publish("news", b"1")
    async with asyncio.timeout(30):
        assert await heard.get() == b"1"


async def test_a_hearer_hears_until_it_unsubscribes_and_again_after_a_reconnect() -> None:
    async with NatsServer() as server:
        bus, other = await server.connect(), await server.connect()
        heard = asyncio.Queue[bytes]()
        subscription = await bus.hear("news", lambda msg: heard.put_nowait(msg.data))
        await server.kill()
        await server.start()
        async with asyncio.timeout(30):
            await bus.when_up()
            await other.when_up()
            await bus.nats.flush()
            await other.publish("news", b"again")
            assert await heard.get() == b"again"
        await subscription.unsubscribe()
        await bus.nats.flush()
        await other.publish("news", b"never")
        await other.nats.flush()
        await bus.nats.flush()
        assert heard.empty()


async def test_much_is_published_without_losing_any_of_it(bus: Bus) -> None:
    """More than the socket takes at once: the publisher waits meanwhile."""
    piece, count = b"x" * (1 << 20), 40
    sizes = 0
    whole = asyncio.Event()

    def hear(msg: Msg) -> None:
        nonlocal sizes
        sizes += len(msg.data)
        if sizes == len(piece) * count:
            whole.set()

    await bus.hear("much", hear)
    for _ in range(count):
        await bus.publish("much", piece)
    async with asyncio.timeout(60):
        await whole.wait()


@pytest.mark.parametrize("turns", range(5))
def test_a_connection_that_has_just_ended_is_away_and_nothing_worse(turns: int) -> None:
    async def ask() -> None:
        async with NatsServer() as server:
            bus = await server.connect()
            writer = getattr(bus.nats._transport, "_io_writer")  # noqa: B009  # whose transport ends without a word
            writer.transport.abort()
            for _ in range(turns):
                await asyncio.sleep(0)
            with pytest.raises(Unavailable):
                await bus.request("nobody")
            await server.stop()

    uvloop.run(asyncio.wait_for(ask(), 60))  # the parts' loop, which refuses to write into what is closed
