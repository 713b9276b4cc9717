"""HTTPS: certificates that TLS asks for and does not verify; who is trusted, restricted, expired; live changes."""

from __future__ import annotations

import asyncio
import base64
import os
import resource
import socket
import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from chassis import documents
from chassis.calls import Call
from chassis.store import Change, Store
from chassis.tail import Tail
from gen.nubibus.control.v1 import control_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.control import CERTIFICATE, SERVER_CONFIG, Certificate, ServerConfig
from tests.unit.gateway.world import Identity, World, make_identity, tls


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def writer_of(world: World) -> Store:
    store = await world.nats.store("control")
    store.mirror(CERTIFICATE)
    store.mirror(SERVER_CONFIG)
    await store.start()
    return store


async def configure(store: Store, **config: str) -> None:
    change = Change()
    change.put(SERVER_CONFIG, ServerConfig(config={k.replace("__", "."): v for k, v in config.items()}), expect=None)
    await store.commit(change)


async def trust(store: Store, who: Identity, **more: object) -> None:
    entry = Certificate(fingerprint=who.fingerprint, name="c", certificate=who.certificate.read_text(), **more)  # type: ignore[arg-type]
    change = Change()
    change.put(CERTIFICATE, entry, expect=None)
    await store.commit(change)


async def listening(port: int, yes: bool = True) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                if not yes:
                    return
            else:
                writer.close()
                if yes:
                    return
            await asyncio.sleep(0.02)


@pytest.fixture
def me(tmp_path: Path) -> Identity:
    return make_identity(tmp_path, "me")


async def served(world: World) -> tuple[Store, int]:
    store, port = await writer_of(world), free_port()
    await configure(store, core__https_address=f"127.0.0.1:{port}")
    await listening(port)
    return store, port


async def test_guests(world: World, me: Identity) -> None:
    store, port = await served(world)
    for who in (None, me):
        shown = (await world.ask("GET", "/1.0", port=port, identity=who)).metadata
        assert shown["auth"] == "untrusted"
        assert set(shown) == {"api_extensions", "api_status", "api_version", "auth", "public", "auth_methods"}
        assert (await world.ask("GET", "/", port=port, identity=who)).status == 200
        for path in ("/1.0/instances", "/1.0/operations", "/1.0/networks/x", "/1.0/projects"):
            refused = await world.ask("GET", path, port=port, identity=who)
            assert (refused.status, refused.error) == (403, "not authorized")
        assert (await world.ask("GET", "/1.0/nope", port=port, identity=who)).status == 404
    await store.stop()


async def test_a_trusted_client(world: World, me: Identity) -> None:
    store, port = await served(world)
    await trust(store, me)
    async with asyncio.timeout(20):
        while (await world.ask("GET", "/1.0/instances/c1", port=port, identity=me)).status != 200:
            pass
    await world.ask("GET", "/1.0", port=port, identity=me)
    caller = world.server.calls[-1].caller
    assert (caller.protocol, caller.username, caller.admin) == ("tls", me.fingerprint, True)
    assert caller.address.startswith("127.0.0.1:")
    large = bytes(3_000_000)
    reply = await world.ask("POST", "/1.0/instances/c/files?path=/x", large, port=port, identity=me)
    assert reply.status == 200
    assert world.instances.received == large
    got = await world.ask("GET", "/1.0/instances/c/files?path=/large", port=port, identity=me)
    assert len(got.body) == 1000 + 64 * 65536
    change = Change()
    change.delete(CERTIFICATE, (me.fingerprint,), expect=None)
    await store.commit(change)
    async with asyncio.timeout(20):
        while (await world.ask("GET", "/1.0/instances/c1", port=port, identity=me)).status != 403:
            pass
    await store.stop()


def delay(store: Store, seconds: float) -> None:
    """From now on the store hears of rows so much later than others."""
    tail, later = store._following, asyncio.get_running_loop().call_later
    assert isinstance(tail, Tail)
    tail._deliver, tail._caught_up = partial(later, seconds, tail._deliver), partial(later, seconds, tail._caught_up)  # type: ignore[assignment]


async def test_who_was_admitted_is_known_when_the_answer_comes(
    world: World, me: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, port = await served(world)

    async def admit(_request: control_pb2.CreateRequest, _call: Call) -> rest_pb2.Answer:
        await trust(store, me)
        return documents.answer(documents.empty(location="/1.0/certificates/abc"))

    handlers = world.behind["control"].unary.handlers
    monkeypatch.setitem(handlers, "Certificates.Create", (handlers["Certificates.Create"][0], admit))
    delay(world.gateway.store, 0.3)
    assert (await world.ask("POST", "/1.0/certificates", b"{}")).status == 201
    assert (await world.ask("GET", "/1.0/instances/c1", port=port, identity=me)).status == 200
    await store.stop()


async def test_a_restricted_client(world: World, me: Identity) -> None:
    store, port = await served(world)
    await trust(store, me, restricted=True, projects=("blue",))
    async with asyncio.timeout(20):
        while (await world.ask("GET", "/1.0/instances/c1?project=blue", port=port, identity=me)).status != 200:
            pass
    for verb, path in (
        ("GET", "/1.0/instances/c1"),
        ("GET", "/1.0/instances/c1?project=green"),
        ("PUT", "/1.0"),
        ("GET", "/1.0/warnings"),
        ("POST", "/1.0/projects"),
    ):
        refused = await world.ask(verb, path, port=port, identity=me)
        assert refused.status == 403, path
    shown = await world.ask("GET", "/1.0/operations", port=port, identity=me)
    assert (shown.status, shown.metadata) == (200, {})
    await store.stop()


async def test_a_restricted_client_reaches_into_no_other_project(world: World, me: Identity) -> None:
    store, port = await served(world)
    await trust(store, me, restricted=True, projects=("blue",))
    await world.gateway.store.refresh()

    async def create(body: bytes) -> int:
        path, headers = "/1.0/instances?project=blue", {"Content-Type": "application/json"}
        return (await world.ask("POST", path, body, headers, port=port, identity=me)).status

    assert await create(b'{"name":"c","source":{"type":"copy","source":"x"}}') == 200
    assert await create(b'{"name":"c","source":{"type":"copy","source":"x","project":"blue"}}') == 200
    for body in (
        b'{"name":"c","source":{"type":"copy","source":"x","project":"green"}}',
        b'{"name":"c","source":{"type":"copy","source":"x","PROJECT":"green"}}',
        b'{"name":"c","source":[{"project":"green"}]}',
        b'{"name":"c","pro\\u006aect":"green"}',
    ):
        assert await create(body) == 403
    for body in (b'{"x":1e999,"project":"green"}', b'{"x":"\xff","project":"green"}', b'{"x":' + b"[" * 100_000):
        assert await create(body) == 400  # a reader that skips what it does not know would find a project
    moved = await world.ask(
        "PUT", "/1.0/instances/c/state?project=blue", b'{"project":"green"}', port=port, identity=me
    )
    assert moved.status == 403
    path, headers = "/1.0/instances?project=blue", {"Content-Type": "application/octet-stream"}
    for body, status in (
        (b'{"source":{"project":"green"}}', 403),
        (b' \n{"source":{"project":"blue"}}', 200),
        (b"\x1f\x8b" * 1_000_000, 200),
        (b"", 200),
    ):
        world.instances.requests.clear()
        assert (await world.ask("POST", path, body, headers, port=port, identity=me)).status == status
        if status == 200:
            assert b"".join(frame.data for frame in world.instances.requests) == body
    await store.stop()


async def test_what_stands_in_a_file_is_nobodys_business(world: World, me: Identity) -> None:
    store, port = await served(world)
    await trust(store, me, restricted=True, projects=("blue",))
    await world.gateway.store.refresh()
    for content in (b'{"project":"green"}', b"{ no JSON at all"):
        path = "/1.0/instances/c/files?project=blue&path=/x"
        assert (await world.ask("POST", path, content, port=port, identity=me)).status == 200
        assert world.instances.received == content
    await store.stop()


async def test_certificates_that_are_not_valid_today(world: World, tmp_path: Path) -> None:
    store, port = await served(world)
    for name, days, since in (("old", -1, 3), ("young", 30, -2)):
        who = make_identity(tmp_path, name, days=days, since=since)
        await trust(store, who)
        await world.gateway.store.refresh()
        refused = await world.ask("GET", "/1.0/instances/c1", port=port, identity=who)
        assert refused.status == 403
    await store.stop()


async def test_what_a_guest_shows_is_passed_on(world: World, me: Identity) -> None:
    store, port = await served(world)
    reply = await world.ask("POST", "/1.0/certificates", b"{}", port=port, identity=me)
    assert reply.status == 201
    request = world.certificates.requests[-1]
    shown = ssl.DER_cert_to_PEM_cert(base64.b64decode(request.client_certificate))
    assert shown.split() == me.certificate.read_text().split()
    assert not world.certificates.calls[-1].caller.trusted
    await store.stop()


async def test_only_tls_1_3(world: World) -> None:
    store, port = await served(world)
    context = tls(None)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=context)
    await store.stop()


async def test_address_and_certificate_change_while_connections_live(world: World, tmp_path: Path) -> None:
    store, port = await served(world)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls(None))

    async def still_answers() -> None:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b'["/1.0"]}\n')).startswith(b"HTTP/1.1 200")

    await still_answers()
    before = writer.get_extra_info("ssl_object").getpeercert(True)
    other = free_port()
    await configure(store, core__https_address=f"127.0.0.1:{other}")
    await listening(other)
    await listening(port, yes=False)
    await still_answers()
    fresh = make_identity(tmp_path / "run", "server")
    fresh.key.replace(world.directory / "server.key")
    fresh.certificate.replace(world.directory / "server.crt")
    async with asyncio.timeout(20):
        while True:
            _, second = await asyncio.open_connection("127.0.0.1", other, ssl=tls(None))
            now = second.get_extra_info("ssl_object").getpeercert(True)
            second.close()
            if now != before:
                break
            await asyncio.sleep(0.05)
    await still_answers()
    writer.close()
    await store.stop()


def greeted(early: socket.socket) -> bytes:
    """The beginning of an answer on a connection that has shown nothing yet."""
    early.settimeout(30)
    with tls(None).wrap_socket(early) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return connection.recv(100)


async def test_who_has_not_yet_shown_a_certificate_is_served_when_the_address_changes(world: World) -> None:
    store, port = await served(world)
    early = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port), 30)
    await listening(port)  # connections are taken in the order in which they come
    await configure(store, core__https_address=f"127.0.0.1:{free_port()}")
    await listening(port, yes=False)

    assert (await asyncio.to_thread(greeted, early)).startswith(b"HTTP/1.1 200")
    await store.stop()


def take_what_is_free(taken: list[int]) -> bool:
    """Open files up to the limit; whether there was room for any."""
    before = len(taken)
    with suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    return len(taken) > before


async def test_who_came_while_too_many_files_were_open_is_served_later(world: World) -> None:
    store, port = await served(world)
    early = socket.socket()
    early.setblocking(False)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (early.fileno() + 1, limits[1]))
    taken: list[int] = []
    try:
        calm = 0
        while calm < 3:  # until nobody lets go of one any more
            await asyncio.sleep(0.1)
            calm = 0 if take_what_is_free(taken) else calm + 1
        await asyncio.get_running_loop().sock_connect(early, ("127.0.0.1", port))
        await asyncio.sleep(0.2)  # in which it is tried in vain
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for file in taken:
            os.close(file)
    assert (await asyncio.to_thread(greeted, early)).startswith(b"HTTP/1.1 200")
    await store.stop()


async def test_cors(world: World) -> None:
    store = await writer_of(world)
    await configure(
        store,
        core__https_allowed_origin="https://ui",
        core__https_allowed_methods="GET, PUT",
        core__https_allowed_headers="Content-Type",
        core__https_allowed_credentials="true",
    )
    await world.gateway.store.refresh()
    plain = await world.ask("GET", "/1.0")
    assert "access-control-allow-origin" not in plain.headers
    for verb in ("GET", "OPTIONS"):
        headers = (await world.ask(verb, "/1.0", headers={"Origin": "https://ui"})).headers
        assert headers["access-control-allow-origin"] == "https://ui"
        assert headers["access-control-allow-methods"] == "GET, PUT"
        assert headers["access-control-allow-headers"] == "Content-Type"
        assert headers["access-control-allow-credentials"] == "true"
    await store.stop()
