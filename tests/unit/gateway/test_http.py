"""The conventions of the REST API, as a real LXD 5.0.2 answered (envelopes, status codes, headers)."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress

import pytest

from tests.unit.gateway.world import World

SYNC = '{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":%s}\n'


async def test_root(world: World) -> None:
    reply = await world.ask("GET", "/")
    assert reply.body.decode() == SYNC % '["/1.0"]'
    assert reply.headers["content-type"] == "application/json"
    assert "date" in reply.headers


async def test_sync_with_etag(world: World) -> None:
    reply = await world.ask("GET", "/1.0/instances/c1?project=blue")
    assert reply.status == 200
    assert reply.body.decode() == SYNC % '{"name":"c1","project":"blue"}'
    assert reply.headers["etag"].startswith('"')
    assert len(reply.headers["etag"]) == 66
    assert world.instances.requests[-1].path_type == "instances"


@pytest.mark.parametrize(
    ("verb", "path", "status", "text"),
    [
        ("GET", "/1.0/nothing", 404, "not found"),
        ("GET", "/foo", 404, "not found"),
        ("GET", "//1.0", 404, "not found"),
        ("GET", "/1.0/", 404, "not found"),
        ("GET", "/1.0/instances/", 404, "not found"),
        ("PATCH", "/1.0/operations", 501, "not implemented"),
        ("POST", "/1.0", 501, "not implemented"),
        ("GET", "/1.0/instances/nope", 404, "Instance not found"),
        ("GET", "/1.0/operations/5fb6d4b8-3a08-4e5d-bb2c-3d1ad1fcd8a0", 404, "Operation not found"),
    ],
)
async def test_errors(world: World, verb: str, path: str, status: int, text: str) -> None:
    reply = await world.ask(verb, path)
    assert reply.status == status
    assert reply.json == {
        "type": "error",
        "status": "",
        "status_code": 0,
        "operation": "",
        "error_code": status,
        "error": text,
        "metadata": None,
    }


async def test_aliases_and_encoded_names(world: World) -> None:
    await world.ask("GET", "/1.0/containers/a%2Fb%20c?recursion=1&unknown=1")
    request = world.instances.requests[-1]
    assert (request.name, request.path_type, request.recursion) == ("a/b c", "containers", 1)
    assert request.project == "default"


async def test_lists(world: World) -> None:
    reply = await world.ask("GET", "/1.0/virtual-machines?recursion=0&all-projects=true&filter=a%20eq%20b")
    assert reply.metadata == [f"/1.0/virtual-machines/c{number}" for number in range(3)]
    assert "content-length" in reply.headers
    request = world.instances.requests[-1]
    assert request.all_projects
    assert request.filter == "a eq b"
    failed = await world.ask("GET", "/1.0/instances?filter=fails")
    assert (failed.status, failed.error) == (500, "Invalid filter: clause has no operator")
    world.instances.count = 50_000
    long = await world.ask("GET", "/1.0/instances")
    assert len(long.metadata) == 50_000
    assert long.headers["transfer-encoding"] == "chunked"


async def test_accepted(world: World) -> None:
    reply = await world.ask("PUT", "/1.0/instances/c1/state", b'{"action":"start"}')
    assert reply.status == 202
    url = "/1.0/operations/5fb6d4b8-3a08-4e5d-bb2c-3d1ad1fcd8a0"
    assert reply.headers["location"] == url
    assert reply.json == {
        "type": "async",
        "status": "Operation created",
        "status_code": 100,
        "operation": url,
        "error_code": 0,
        "error": "",
        "metadata": {"id": "x"},
    }
    assert world.instances.requests[-1].body == b'{"action":"start"}'


async def test_bodies_and_preconditions(world: World) -> None:
    bad = await world.ask("PUT", "/1.0", b"{bad")
    assert (bad.status, bad.error) == (400, "invalid character 'b' looking for beginning of object key string")
    other = await world.ask("PUT", "/1.0", b"{}", {"If-Match": '"abc"'})
    assert other.status == 412
    assert other.error.startswith("ETag doesn't match: ")
    etag = (await world.ask("GET", "/1.0")).headers["etag"]
    good = await world.ask("PUT", "/1.0", b"{}", {"If-Match": etag})
    assert good.body.decode() == SYNC % "{}"
    large = await world.ask("PUT", "/1.0", b'{"config":"' + b"x" * 5_000_000 + b'"}')
    assert large.status == 413


async def test_created(world: World) -> None:
    reply = await world.ask("POST", "/1.0/certificates", b"{}")
    assert (reply.status, reply.headers["location"]) == (201, "/1.0/certificates/abc")
    assert reply.body.decode() == SYNC % "null"


async def test_head_and_options(world: World) -> None:
    head = await world.ask("HEAD", "/1.0/instances/c1")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["etag"]
    options = await world.ask("OPTIONS", "/1.0/instances/c1")
    assert (options.status, options.body) == (200, b"")


async def test_the_server_document(world: World) -> None:
    shown = (await world.ask("GET", "/1.0")).metadata
    assert list(shown)[:4] == ["config", "api_extensions", "api_status", "api_version"]
    assert shown["auth"] == "trusted"
    assert shown["auth_methods"] == ["tls"]
    assert world.server.calls[-1].caller.protocol == "unix"
    assert world.server.calls[-1].caller.admin


async def test_a_part_that_is_away(world: World) -> None:
    reply = await world.ask("GET", "/1.0/networks/lxdbr0")
    assert (reply.status, reply.error) == (503, "The network service is not available")
    assert reply.headers["retry-after"] == "1"
    listed = await world.ask("GET", "/1.0/storage-pools")
    assert listed.status == 503


async def test_the_bus_goes_and_comes_back(world: World) -> None:
    await world.nats.kill()
    reply = await world.ask("GET", "/1.0/instances/c1")
    assert reply.status == 503
    await world.nats.start()
    assert await world.gateway.bus.when_up(20)
    while (await world.ask("GET", "/1.0/instances/c1")).status != 200:
        pass


async def test_a_head_that_is_too_large(world: World) -> None:
    def ask() -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(world.directory / "unix.socket"))
            with suppress(OSError):  # it may hang up before everything is sent
                sock.sendall(b"GET / HTTP/1.1\r\nX-Large: " + b"x" * 8_000_000 + b"\r\n\r\n")
            return sock.recv(100)

    assert (await asyncio.to_thread(ask)).startswith(b"HTTP/1.1 431 ")


async def test_answers_are_json_whatever_is_asked(world: World) -> None:
    for path in ("/1.0/instances?recursion=x", "/1.0/instances?project=%ff", "/1.0/instances/%00", "/%2e%2e"):
        reply = await world.ask("GET", path)
        assert isinstance(json.loads(reply.body), dict)


async def raw(world: World, sent: bytes) -> bytes:
    """What a connection answers to bytes, until it is closed."""
    reader, writer = await asyncio.open_unix_connection(str(world.directory / "unix.socket"))
    writer.write(sent)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    "head",
    [
        b"POST /1.0/certificates HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /1.0/certificates HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /1.0/certificates HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /1.0/certificates HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET /1.0 HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
    ],
)
async def test_heads_that_could_be_read_in_two_ways_are_refused(world: World, head: bytes) -> None:
    answer = await raw(world, head + b"0\r\n\r\nGET /1.0/smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert not world.certificates.calls


async def test_a_head_that_never_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.listeners.PATIENCE", 0.2)
    assert await raw(world, b"GET / HTTP/1.1\r\nX-Slow: ") == b""
    assert await raw(world, b"") == b""


async def test_requests_in_a_row_on_one_connection(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.listeners.PATIENCE", 0.5)
    reader, writer = await asyncio.open_unix_connection(str(world.directory / "unix.socket"))
    for _ in range(3):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b'["/1.0"]}\n')).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.7)  # longer than a head may take: between requests another limit holds
    writer.close()


async def test_a_body_that_stands_still(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is held whole, and one that is streamed; what comes after the refusal is not taken for a request."""
    monkeypatch.setattr("services.gateway.requests.PATIENCE", 0.3)
    for path in (b"PUT /1.0/instances/c1/state", b"POST /1.0/instances/c1/files?path=/a"):
        head = path + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\n"
        answer = await raw(world, head + b"{")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert answer.count(b"HTTP/1.1") == 1
    assert not world.instances.received
    assert (await world.ask("GET", "/1.0/instances/c1")).status == 200


async def test_a_body_that_drips(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not buy time for a body that is held whole."""
    monkeypatch.setattr("services.gateway.requests.PATIENCE", 0.5)
    reader, writer = await asyncio.open_unix_connection(str(world.directory / "unix.socket"))
    writer.write(b"PUT /1.0/instances/c1/state HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n{")

    async def drip() -> None:
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    finally:
        dripping.cancel()
        writer.close()
