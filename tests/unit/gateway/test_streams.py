"""Files and uploads: never held whole, ended cleanly when the client or the service goes."""

from __future__ import annotations

import asyncio
import http.client

import pytest

from tests.unit.gateway.world import World


async def test_upload(world: World) -> None:
    data = bytes(range(256)) * 20_000
    headers = {"X-LXD-mode": "0600", "X-LXD-type": "file", "X-Other": "1", "Content-Type": "application/octet-stream"}
    reply = await world.ask("POST", "/1.0/instances/c1/files?path=/tmp/a", data, headers)
    assert reply.status == 200
    assert world.instances.received == data
    request = world.instances.requests[-1]
    assert dict(request.headers) == {"x-lxd-mode": "0600", "x-lxd-type": "file"}
    assert (request.name, request.path) == ("c1", "/tmp/a")


async def test_a_json_body_goes_within_the_request(world: World) -> None:
    reply = await world.ask("POST", "/1.0/instances", b'{"name":"c1"}', {"Content-Type": "application/json"})
    assert reply.status == 200
    assert world.instances.requests[-1].request.body == b'{"name":"c1"}'
    await world.ask("POST", "/1.0/instances", b"binary", {"Content-Type": "application/octet-stream"})
    assert world.instances.requests[-1].data == b"binary"


async def test_download(world: World) -> None:
    small = await world.ask("GET", "/1.0/instances/c1/files?path=/small")
    assert small.body == b"a" * 1000
    assert small.headers["x-lxd-mode"] == "0644"
    assert small.headers["content-type"] == "application/octet-stream"
    assert small.headers["content-length"] == "1000"
    large = await world.ask("GET", "/1.0/instances/c1/files?path=/large")
    assert len(large.body) == 1000 + 64 * 65536
    missing = await world.ask("GET", "/1.0/instances/c1/files?path=/missing")
    assert (missing.status, missing.error) == (404, "not found")


async def test_a_download_that_breaks_is_not_taken_for_whole(world: World) -> None:
    with pytest.raises(http.client.IncompleteRead):
        await world.ask("GET", "/1.0/instances/c1/files?path=/breaks")


async def test_an_upload_that_breaks_off(world: World) -> None:
    reader, writer = await asyncio.open_unix_connection(str(world.directory / "unix.socket"))
    head = b"POST /1.0/instances/c1/files?path=/a HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"
    writer.write(head + b"x" * 2_000_000)
    await writer.drain()
    async with asyncio.timeout(20):
        while not world.instances.requests:
            await asyncio.sleep(0.01)
        writer.close()
        while not world.instances.broken_off:
            await asyncio.sleep(0.01)
    assert world.instances.received == b""
    del reader
