"""A batch that a crash cut short is completed before anybody sees the log."""

from __future__ import annotations

import asyncio
import shutil
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chassis import events
from chassis.errors import Unavailable
from chassis.log import Message, Moved, Stored
from chassis.redo import HEADER_REST, mend, with_rest
from chassis.store import Change, Kind, Store
from chassis.testing.nats import NatsServer


class Thing(msgspec.Struct, frozen=True):
    name: str
    size: int
    pad: str = ""


THING = Kind("test_thing", Thing, ("name",))
NAMES = "abcdef"


SMALL, LARGE = 0, 20_000  # bytes of padding; what does not fit into a header is written down before


def change(size: int, pad: int = SMALL) -> Change:
    made = Change()
    for name in NAMES:
        made.put(THING, Thing(name, size, "x" * pad), expect=None)
    return made.event(events.lifecycle("thing-updated", "/1.0/things"))


def records(block: bytes) -> list[int]:
    """Where each message of a block file of nats-server begins: a record starts with its length, the top bit marks headers."""
    found, at = [], 0
    while at + 22 <= len(block):
        (length,) = struct.unpack_from("<I", block, at)
        found.append(at)
        at += length & 0x7FFFFFFF
    return found


def cut(directory: Path, messages: int) -> None:
    """As after a power cut: the last messages never reached the disk, nor did what the server staged or indexed."""
    stream = directory / "nats" / "jetstream" / "$G" / "streams" / "LOG"
    newest = max((stream / "msgs").glob("*.blk"), key=lambda path: int(path.stem))
    block = newest.read_bytes()
    newest.write_bytes(block[: records(block)[-messages]])
    (stream / "msgs" / "index.db").unlink(missing_ok=True)
    shutil.rmtree(stream / "batches", ignore_errors=True)


@pytest.mark.parametrize("pad", [SMALL, LARGE])
@pytest.mark.parametrize("lost", range(1, len(NAMES) + 1))
async def test_a_batch_whose_end_was_lost_is_completed(tmp_path: Path, lost: int, pad: int) -> None:
    async with NatsServer(tmp_path) as server:
        store = await server.store()
        await store.start()
        await store.commit(change(1))
        await store.commit(change(2, pad))
        newest = (await store.log.stream())["state"]["last_seq"]  # type: ignore[attr-defined]
        await server.kill()
        cut(tmp_path, lost)
        await server.start()
        late = await server.store()
        mirror = late.mirror(THING)
        await late.start()
        assert {(row.value.size, len(row.value.pad)) for row in mirror.select()} == {(2, pad)}
        assert len(mirror) == len(NAMES)
        assert (await late.log.stream())["state"]["last_seq"] == newest  # type: ignore[attr-defined]
        await late.commit(change(3, pad))
        assert {row.value.size for row in mirror.select()} == {3}
        await late.stop()
        await store.stop()


async def test_what_completes_a_large_batch_can_be_cut_short_too(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        store = await server.store()
        await store.start()
        await store.commit(change(2, LARGE))
        for lost in (5, 3, 2):
            await server.kill()
            cut(tmp_path, lost)
            await server.start()
            late = await server.store()
            mirror = late.mirror(THING)
            await late.start()
            assert {(row.value.name, row.value.size, len(row.value.pad)) for row in mirror.select()} == {
                (name, 2, LARGE) for name in NAMES
            }
            await late.stop()
        await store.stop()


async def test_a_batch_that_was_lost_whole_was_not(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        store = await server.store()
        await store.start()
        await store.commit(change(1))
        await store.commit(Change().put(THING, Thing("g", 7), expect=0))
        await server.kill()
        cut(tmp_path, 1)
        await server.start()
        late = await server.store()
        mirror = late.mirror(THING)
        await late.start()
        assert {row.value.size for row in mirror.select()} == {1}
        await late.stop()
        await store.stop()


async def test_nothing_is_half_there_after_kills(tmp_path: Path) -> None:
    """The server is killed in the middle of batches; whoever looks afterwards sees whole ones."""
    async with NatsServer(tmp_path) as server:
        store = await server.store()
        await store.start()
        size = 0
        for _ in range(6):
            killed = asyncio.Event()
            await store.log.when_up()

            async def write(killed: asyncio.Event = killed) -> None:
                nonlocal size
                while not killed.is_set():
                    size += 1
                    try:
                        await store.log.append(change(size).messages())
                    except Unavailable:
                        return

            writers = [asyncio.create_task(write()) for _ in range(3)]
            start = size
            while size < start + 15 and not all(writer.done() for writer in writers):
                await asyncio.sleep(0.002)
            await server.kill()
            killed.set()
            await asyncio.gather(*writers)
            await server.start()
            await look(server)
        await store.stop()


async def look(server: NatsServer) -> None:
    late: Store = await server.store()
    mirror = late.mirror(THING)
    await late.start()
    sizes = {row.value.size for row in mirror.select()}
    assert len(sizes) == 1
    assert len(mirror) == len(NAMES)
    await late.stop()


class FakeBus:
    """The end of a log, and somebody who may be quicker."""

    def __init__(self, messages: list[Stored], *, quicker: int = 0) -> None:
        self.messages = messages
        self.quicker = quicker
        self.appended: list[Message] = []

    async def stream(self) -> dict[str, Any]:
        return {"state": {"last_seq": self.messages[-1].sequence if self.messages else 0}}

    async def fetch(self, request: dict[str, Any]) -> Stored | None:
        return next((m for m in self.messages if m.sequence == request["seq"]), None)

    async def append(self, messages: list[Message]) -> int:
        if self.quicker:
            self.quicker -= 1
            self.messages[-1] = self.messages[-1]._replace(headers={})
            raise Moved
        self.appended = messages
        return 0


def batch(written: int) -> list[Stored]:
    messages, _ = with_rest([Message(f"row.x.{n}", b"%d" % n, {"n": str(n)}) for n in range(4)])
    found = []
    for number, message in enumerate(messages[:written], 1):
        headers = {**message.headers, "Nats-Batch-Id": "b", "Nats-Batch-Sequence": str(number)}
        if number == 4:
            headers["Nats-Batch-Commit"] = "1"
        found.append(Stored(message.subject, message.data, headers, 100 + number, 0))
    return found


@pytest.mark.parametrize("written", [1, 2, 3])
async def test_exactly_the_rest_is_appended(written: int) -> None:
    bus = FakeBus(batch(written))
    assert await mend(bus)  # type: ignore[arg-type]
    assert [m.subject for m in bus.appended] == [f"row.x.{n}" for n in range(written, 4)]
    assert bus.appended[0].headers["Nats-Expected-Last-Sequence"] == str(100 + written)


async def test_a_whole_batch_is_left_alone() -> None:
    bus = FakeBus(batch(4))
    assert not await mend(bus)  # type: ignore[arg-type]
    assert not await mend(FakeBus([]))  # type: ignore[arg-type]


async def test_somebody_else_may_have_done_it() -> None:
    bus = FakeBus(batch(2), quicker=1)
    assert not await mend(bus)  # type: ignore[arg-type]
    assert bus.appended == []


async def test_without_a_record_it_is_told_and_left() -> None:
    messages = [m._replace(headers={k: v for k, v in m.headers.items() if k != HEADER_REST}) for m in batch(2)]
    bus = FakeBus(messages)
    assert not await mend(bus)  # type: ignore[arg-type]
    assert bus.appended == []
