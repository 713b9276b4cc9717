"""A part from its start to its end: readiness, discovery, draining, and streams to another machine over mutual TLS."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chassis import errors, probes, rpc, service
from chassis.calls import Call
from chassis.service import Part, Settings
from chassis.testing.nats import NatsServer
from gen.nubibus.rest.v1 import rest_pb2

OPERATIONS = "nubibus.rest.v1.Operations"
SOCKETS = "nubibus.rest.v1.Sockets"


class Operations:
    service: ClassVar[str] = OPERATIONS

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled: list[str] = []

    async def Cancel(self, request: rest_pb2.CancelRequest, call: Call) -> rest_pb2.Empty:
        self.asked.set()
        if request.id == "wait":
            await self.go_on.wait()
        self.cancelled.append(request.id)
        return rest_pb2.Empty()


class Sockets:
    service: ClassVar[str] = SOCKETS

    async def Connect(
        self, request: AsyncIterator[rest_pb2.SocketFrame], call: Call
    ) -> AsyncIterator[rest_pb2.SocketFrame]:
        async for frame in request:
            yield frame


@pytest_asyncio.fixture
async def nats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path / "d") as server:
        monkeypatch.setenv("NUBIBUS_NATS", server.url)
        yield server


async def started(part: Part) -> asyncio.Task[None]:
    ready = asyncio.Event()
    running = asyncio.create_task(part.run(on_ready=ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED, timeout=30)
    assert ready.is_set()
    return running


async def ended(part: Part, running: asyncio.Task[None]) -> None:
    part.stop()
    await running
    await part.calls.close()
    await part.store.stop()
    await part.bus.close()


async def asked(part: Part, subject: str) -> dict[str, Any]:
    answer = await part.bus.request(subject)
    found: dict[str, Any] = json.loads(answer.data)
    return found


async def test_life(nats: NatsServer) -> None:
    order: list[str] = []
    part = await service.build("storage", Settings(nats.directory))

    async def note(what: str) -> None:
        order.append(what)

    async def work() -> None:
        order.append("work")
        await asyncio.Event().wait()

    operations = Operations()
    part.serve(operations)
    part.before_ready(lambda: note("first"))
    part.before_ready(lambda: note("second"))
    part.at_end(lambda: note("last"))
    part.at_end(lambda: note("before last"))
    part.keep(work)
    running = await started(part)
    assert await asked(part, "$SRV.PING.storage") == {
        "type": "io.nats.micro.v1.ping_response",
        "name": "storage",
        "id": part.id,
        "version": "5.0.2",
        "metadata": {"member": "none", "address": "", "pid": part._identity("ping")["metadata"]["pid"]},
    }
    info = await asked(part, f"$SRV.INFO.storage.{part.id}")
    assert info["endpoints"][0]["subject"] == "rpc.storage.Operations.Cancel"
    request = rest_pb2.CancelRequest(id="x")
    assert await part.calls.call(OPERATIONS, "Cancel", request, part="storage") == rest_pb2.Empty()
    assert operations.cancelled == ["x"]
    stats = await asked(part, "$SRV.STATS.storage")
    assert stats["endpoints"][0]["num_requests"] == 1
    await ended(part, running)
    assert order == ["first", "second", "work", "before last", "last"]


async def answers(client: rpc.Rpc) -> bool:
    try:
        await client.call(OPERATIONS, "Cancel", rest_pb2.CancelRequest(), part="storage", timeout=5)
    except errors.Unavailable:
        return False
    return True


async def test_what_runs_may_finish(nats: NatsServer) -> None:
    part = await service.build("storage", Settings(nats.directory))
    operations = Operations()
    part.serve(operations)
    running = await started(part)
    bus = await nats.connect("client")
    client = rpc.Rpc(bus, nats.directory)
    await client.open()
    request = rest_pb2.CancelRequest(id="wait")
    call = asyncio.create_task(client.call(OPERATIONS, "Cancel", request, part="storage"))
    await operations.asked.wait()
    part.stop()
    async with asyncio.timeout(20):
        while await answers(client):
            pass
    operations.go_on.set()
    assert await call == rest_pb2.Empty()
    assert operations.cancelled[-1] == "wait"
    await client.close()
    await ended(part, running)


async def test_a_kept_task_that_fails_ends_the_part(nats: NatsServer) -> None:
    part = await service.build("storage", Settings(nats.directory))

    async def fail() -> None:
        raise RuntimeError("broken")

    part.keep(fail)
    with pytest.raises(ExceptionGroup):
        await part.run()
    await part.calls.close()
    await part.store.stop()
    await part.bus.close()


def identity(folder: Path) -> None:
    """An authority and one certificate of it, as a deployment mounts them."""
    folder.mkdir()
    now = datetime.now(UTC)

    def sign(name: str, key: Any, issuer: str, by: Any, *, authority: bool) -> x509.Certificate:
        named = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)]
        builder = x509.CertificateBuilder().subject_name(named[0]).issuer_name(named[1]).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        builder = builder.not_valid_after(now + timedelta(days=9))
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(by, hashes.SHA256())

    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(sign("ca", root, "ca", root, authority=True).public_bytes(pem))
    (folder / "tls.crt").write_bytes(sign("nubibus", own, "ca", root, authority=False).public_bytes(pem))
    private = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(private)


async def echo(client: rpc.Rpc) -> list[bytes]:
    async def frames() -> AsyncIterator[rest_pb2.SocketFrame]:
        yield rest_pb2.SocketFrame(data=b"a")

    return [frame.data async for frame in client.stream(SOCKETS, "Connect", frames(), part="storage", member="two")]


async def test_streams_between_machines(nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity(tmp_path / "tls")
    monkeypatch.setenv("NUBIBUS_TLS", str(tmp_path / "tls"))
    (tmp_path / "two").mkdir()
    part = await service.build("storage", Settings(tmp_path / "two", member="two", listen="127.0.0.1:0"))
    operations = Operations()
    part.serve(Sockets(), operations)
    running = await started(part)
    bus = await nats.connect("one")
    client = rpc.Rpc(bus, tmp_path / "one", "one")
    await client.open()
    assert await echo(client) == [b"a"]
    request = rest_pb2.CancelRequest(id="x")
    assert await client.call(OPERATIONS, "Cancel", request, part="storage", member="two") == rest_pb2.Empty()
    assert operations.cancelled == ["x"]
    identity(tmp_path / "other")  # somebody else's authority
    monkeypatch.setenv("NUBIBUS_TLS", str(tmp_path / "other"))
    stranger = rpc.Rpc(bus, tmp_path / "one", "one")
    await stranger.open()
    with pytest.raises(errors.Unavailable):
        await echo(stranger)
    await stranger.close()
    await client.close()
    await ended(part, running)


async def test_probes() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    lacks: tuple[str, ...] = ("No disk: mount one", "No bus")
    from chassis.metrics import Counters

    counters = Counters("storage")
    with counters.measure("Volumes.Ensure"):
        pass
    serving = asyncio.create_task(probes.serve(f"127.0.0.1:{port}", lambda: lacks, counters)())

    def get(path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    async with asyncio.timeout(20):
        while True:
            try:
                assert (await asyncio.to_thread(get, "/livez"))[0] == 200
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
    assert await asyncio.to_thread(get, "/readyz") == (503, b"No disk: mount one\nNo bus\n")
    lacks = ()
    assert (await asyncio.to_thread(get, "/readyz"))[0] == 200
    text = (await asyncio.to_thread(get, "/metrics"))[1]
    assert b'nubibus_calls_total{method="Volumes.Ensure",part="storage"} 1.0' in text
    assert (await asyncio.to_thread(get, "/"))[0] == 404
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
