"""The websockets: events in one order, resumable, cut off when they lag; operations' websockets carried to their owner."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import InvalidStatus

from chassis import events
from chassis.feed import Feed
from chassis.operations import Operations
from chassis.sockets import Socket
from chassis.store import Change, Store
from tests.unit.gateway.world import World


def open_socket(world: World, path: str) -> unix_connect:
    return unix_connect(str(world.directory / "unix.socket"), uri=f"ws://lxd{path}", compression=None, max_size=None)


async def writer_of(world: World) -> Store:
    store = await world.nats.store("instances")
    Operations(store, "instances")
    await store.start()
    return store


async def tell(store: Store, name: str, project: str = "default") -> None:
    change = Change()
    change.event(events.lifecycle("instance-created", f"/1.0/instances/{name}", project=project))
    await store.commit(change)


async def hear(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(20):
        text = await socket.recv()
    assert isinstance(text, str)
    assert text.endswith("}\n")
    heard: dict[str, Any] = json.loads(text)
    return heard


async def test_events_in_order_with_their_sequence(world: World) -> None:
    store = await writer_of(world)
    async with open_socket(world, "/1.0/events?type=lifecycle") as socket:
        await tell(store, "other", project="blue")
        for number in range(5):
            await tell(store, f"c{number}")
        heard = [await hear(socket) for _ in range(5)]
    assert [event["metadata"]["source"] for event in heard] == [f"/1.0/instances/c{n}" for n in range(5)]
    assert list(heard[0])[:3] == ["type", "timestamp", "metadata"]
    assert heard[0]["location"] == "none"
    assert heard[0]["project"] == "default"
    assert [event["sequence"] for event in heard] == sorted(event["sequence"] for event in heard)
    after = heard[2]["sequence"]
    async with open_socket(world, f"/1.0/events?since={after}&type=lifecycle") as socket:
        again = [await hear(socket) for _ in range(2)]
        assert again == heard[3:]
        await tell(store, "last")
        assert (await hear(socket))["metadata"]["source"] == "/1.0/instances/last"
    async with open_socket(world, "/1.0/events?since=0&all-projects=true") as socket:
        assert (await hear(socket))["project"] == "blue"
    with pytest.raises(InvalidStatus) as caught:
        async with open_socket(world, "/1.0/events?since=99999999"):
            pass
    assert caught.value.response.status_code == 400
    await store.stop()


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("type=foo", 500, '"foo" isn\'t a supported event type'),
        ("all-projects=true&project=a", 500, "Cannot specify a project when requesting all projects"),
    ],
)
async def test_events_that_nobody_can_have(world: World, query: str, status: int, text: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with open_socket(world, f"/1.0/events?{query}"):
            pass
    response = caught.value.response
    assert response.status_code == status
    assert json.loads(response.body or b"")["error"] == text


async def test_a_listener_that_lags_is_cut_off_and_slows_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Feed, "bound", property(lambda _: 5, lambda *_: None), raising=False)
    store = await writer_of(world)
    reader, writer = await asyncio.open_unix_connection(str(world.directory / "unix.socket"), limit=1024)
    writer.write(
        b"GET /1.0/events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert b"101" in await reader.readline()
    async with open_socket(world, "/1.0/events") as socket:
        padding = "x" * 60_000
        for number in range(30):
            change = Change()
            change.event(events.lifecycle("a", f"/{number}", context={"padding": padding}))
            await store.commit(change)
            assert (await hear(socket))["metadata"]["source"] == f"/{number}"
    async with asyncio.timeout(20):
        while await reader.read(65536):
            pass
    writer.close()
    await store.stop()


async def test_the_websocket_of_an_operation(world: World) -> None:
    store = await world.nats.store("instances")
    operations = Operations(store, "instances")
    await store.start()
    accepted = await operations.open_socket(description="Executing command", fds=("0", "control"))
    secrets = accepted.row.secrets
    names: list[str] = []

    async def attach(socket: Socket) -> None:
        names.append(socket.name)
        async for message in socket:
            if message.text and not message.data:
                await socket.end_of_output()
                return
            await socket.send(message.data[::-1], text=message.text)

    world.sockets.register(accepted.id, secrets, attach)
    path = f"/1.0/operations/{accepted.id}/websocket?secret="
    for wrong, status in (("x", 500), ("", 400)):
        with pytest.raises(InvalidStatus) as caught:
            async with open_socket(world, path + wrong):
                pass
        assert caught.value.response.status_code == status
    async with open_socket(world, path + secrets["0"]) as socket:
        await socket.send(b"\x00abc")
        assert await socket.recv() == b"cba\x00"
        await socket.send("text")
        assert await socket.recv() == "txet"
        await socket.send(b"z" * 3_000_000)
        assert len(await socket.recv()) == 3_000_000
        await socket.send("")
        assert await socket.recv() == ""
        await socket.wait_closed()
        assert socket.close_code == 1000
    assert names == ["0"]
    await operations.end(accepted.id)
    await world.ask("GET", f"/1.0/operations/{accepted.id}/wait")
    with pytest.raises(InvalidStatus) as ended:
        async with open_socket(world, path + secrets["control"]):
            pass
    assert ended.value.response.status_code == 400
    await store.stop()


async def test_the_client_of_an_operation_goes(world: World) -> None:
    store = await world.nats.store("instances")
    operations = Operations(store, "instances")
    await store.start()
    accepted = await operations.open_socket(description="Executing command", fds=("0",))
    ended = asyncio.Event()

    async def attach(socket: Socket) -> None:
        async for _ in socket:
            pass
        ended.set()

    world.sockets.register(accepted.id, accepted.row.secrets, attach)
    async with open_socket(world, f"/1.0/operations/{accepted.id}/websocket?secret={accepted.row.secrets['0']}"):
        pass
    async with asyncio.timeout(20):
        await ended.wait()
    await store.stop()
