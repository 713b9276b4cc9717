"""A gateway with doubles of the services behind it, on a real NATS server, and a small HTTP client."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chassis import documents, errors, listing, rpc, service
from chassis.calls import Call
from chassis.service import Part, Settings
from chassis.sockets import Sockets
from chassis.testing.nats import NatsServer
from gen.nubibus.control.v1 import control_pb2
from gen.nubibus.instances.v1 import instance_pb2
from gen.nubibus.rest.v1 import rest_pb2
from services.gateway.__main__ import wire


@dataclass(slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def metadata(self) -> Any:
        return self.json["metadata"]

    @property
    def error(self) -> str:
        return str(self.json["error"])


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("lxd", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(str(self.path))


@dataclass(frozen=True, slots=True)
class Identity:
    """A self-signed certificate on disk."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        found = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return found.fingerprint(hashes.SHA256()).hex()


def make_identity(folder: Path, name: str, *, days: int = 30, since: int = 1) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=since))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Identity(certificate, private)


class Server:
    """A double of control's Server."""

    service: ClassVar[str] = "nubibus.control.v1.Server"

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def Get(self, request: control_pb2.ServerRequest, call: Call) -> rest_pb2.Document:
        self.calls.append(call)
        shown = {"config": {}, "environment": {"server": "lxd"}}
        return documents.document(shown, editable={"config": {}})

    async def Put(self, request: control_pb2.PutServerRequest, call: Call) -> rest_pb2.Document:
        self.calls.append(call)
        documents.check_if_match(request.if_match, documents.etag_of({"config": {}}))
        documents.read_object(request.body)
        return documents.empty()


class Certificates:
    service: ClassVar[str] = "nubibus.control.v1.Certificates"

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.requests: list[control_pb2.CreateRequest] = []

    async def Create(self, request: control_pb2.CreateRequest, call: Call) -> rest_pb2.Answer:
        self.calls.append(call)
        self.requests.append(request)
        return documents.answer(documents.empty(location="/1.0/certificates/abc"))


@dataclass
class Instances:
    """A double of instances: what a request becomes, and answers of every kind."""

    service: ClassVar[str] = "nubibus.instances.v1.Instances"
    requests: list[Any] = field(default_factory=list)
    received: bytes = b""
    broken_off: bool = False
    count: int = 3

    async def List(self, request: instance_pb2.ListInstancesRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        self.requests.append(request)
        if request.filter == "fails":
            raise errors.Internal("Invalid filter: clause has no operator")
        paths = [f"/1.0/{request.path_type}/c{number}" for number in range(self.count)]
        async for chunk in listing.chunks(listing.urls(paths)):
            yield chunk

    async def Get(self, request: instance_pb2.InstanceRequest, call: Call) -> rest_pb2.Document:
        self.requests.append(request)
        if request.name == "nope":
            raise errors.NotFound("Instance not found")
        return documents.document({"name": request.name, "project": request.project}, editable={"name": request.name})

    async def PutState(self, request: instance_pb2.PutInstanceRequest, call: Call) -> rest_pb2.Answer:
        self.requests.append(request)
        operation = rest_pb2.Accepted(id="5fb6d4b8-3a08-4e5d-bb2c-3d1ad1fcd8a0", operation=b'{"id":"x"}')
        return documents.answer(operation)

    async def PostFile(self, request: AsyncIterator[instance_pb2.FileFrame], call: Call) -> rest_pb2.Document:
        parts = []
        try:
            async for frame in request:
                if frame.WhichOneof("kind") == "request":
                    self.requests.append(frame.request)
                else:
                    parts.append(frame.data)
        except BaseException:
            self.broken_off = True
            raise
        self.received = b"".join(parts)
        return documents.empty()

    async def Create(self, request: AsyncIterator[instance_pb2.CreateInstanceFrame], call: Call) -> rest_pb2.Answer:
        async for frame in request:
            self.requests.append(frame)
        return documents.answer(documents.empty())

    async def GetFile(self, request: instance_pb2.FileRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        self.requests.append(request)
        if request.path == "/missing":
            raise errors.NotFound("not found")
        head = rest_pb2.Document(raw=True, headers={"X-LXD-type": "file", "X-LXD-mode": "0644"})
        yield rest_pb2.Chunk(head=head, data=b"a" * 1000)
        if request.path == "/large":
            for _ in range(64):
                yield rest_pb2.Chunk(data=b"b" * 65536)
        if request.path == "/breaks":
            for _ in range(8):
                yield rest_pb2.Chunk(data=b"b" * 65536)
            raise errors.Internal("the disk failed")


@dataclass
class World:
    """A running gateway. `client` speaks to its unix socket."""

    directory: Path
    nats: NatsServer
    gateway: Part
    behind: dict[str, rpc.RpcServer]
    server: Server
    certificates: Certificates
    instances: Instances
    sockets: Sockets

    async def ask(
        self,
        verb: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        identity: Identity | None = None,
    ) -> Reply:
        return await asyncio.to_thread(self._ask, verb, path, body, dict(headers or {}), port, identity)

    def _ask(
        self, verb: str, path: str, body: bytes | None, headers: dict[str, str], port: int | None, who: Identity | None
    ) -> Reply:
        connection: http.client.HTTPConnection
        if port is None:
            connection = UnixConnection(self.directory / "unix.socket")
        else:
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=tls(who))
        try:
            connection.request(verb, path, body, headers)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


def tls(who: Identity | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if who is not None:
        context.load_cert_chain(who.certificate, who.key)
    return context


async def _reached(_revision: int) -> None:
    return None


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[World]:
    """A world in a directory; everything ends with the block."""
    async with NatsServer(directory) as nats:
        make_identity(directory, "server")
        os.environ["NUBIBUS_NATS"] = nats.url
        bus = await nats.connect("behind")
        behind = {part: rpc.RpcServer(bus, part, directory, reached=_reached) for part in ("control", "instances")}
        server, certificates, instances, sockets = Server(), Certificates(), Instances(), Sockets()
        for servicer in (server, certificates):
            behind["control"].add(servicer)
        for servicer in (instances, sockets):
            behind["instances"].add(servicer)
        for answering in behind.values():
            await answering.open()
        gateway = await service.build("gateway", Settings(directory))
        rpc.install(gateway.calls)
        await wire(gateway)
        ready = asyncio.Event()
        run = asyncio.create_task(gateway.run(on_ready=ready.set))
        try:
            waiting = asyncio.ensure_future(ready.wait())
            await asyncio.wait((run, waiting), return_when=asyncio.FIRST_COMPLETED, timeout=30)
            assert ready.is_set(), run
            yield World(directory, nats, gateway, behind, server, certificates, instances, sockets)
        finally:
            gateway.stop()
            await run
            rpc.install(None)
            await gateway.calls.close()
            await gateway.store.stop()
            await gateway.bus.close()
            for answering in behind.values():
                await answering.drain(1)
            del os.environ["NUBIBUS_NATS"]
