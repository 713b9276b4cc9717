"""The server: `GET /1.0` for guests and for the trusted, its configuration, its hardware."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from chassis import documents, errors, listening, rpc
from chassis.calls import Call
from chassis.mirror import Mirror
from chassis.service import VERSION
from gen.nubibus.control.v1 import control_pb2
from gen.nubibus.rest.v1 import rest_pb2
from gen.nubibus.storage.v1 import pool_pb2
from rows.storage import Pool
from services.control import environment, keys
from services.control.configuration import SCOPE, Configuration
from services.control.links import own_addresses
from services.control.requests import field, read_object

DRIVERS_WAIT = 1.0  # seconds; without storage's answer the list of drivers is what was last known
Drivers = list[dict[str, Any]]


@dataclass(frozen=True)
class Certificate:
    """The server's own certificate."""

    pem: str
    fingerprint: str

    @staticmethod
    def read(directory: Path) -> Certificate:
        """From NUBIBUS_SERVER (tls.crt) or the server's directory."""
        given = os.environ.get("NUBIBUS_SERVER")
        pem = (Path(given, "tls.crt") if given else directory / "server.crt").read_bytes()
        der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
        return Certificate(pem.decode(), sha256(der).hexdigest())


class Server:
    """Answers for nubibus.control.v1.Server."""

    service: ClassVar[str] = "nubibus.control.v1.Server"

    def __init__(
        self,
        configuration: Configuration,
        pools: Mirror[Pool],
        directory: Path,
        resources: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self.configuration = configuration
        self.pools = pools
        self.directory = directory
        self.resources = resources
        self.drivers: Drivers = []

    def certificate(self) -> Certificate:
        """Read again at every call: it may have been renewed."""
        return Certificate.read(self.directory)

    async def Get(self, request: control_pb2.ServerRequest, call: Call) -> rest_pb2.Document:
        """The gateway adds who the client is and what the API offers; a guest is told nothing that is known here."""
        if not call.caller.trusted:
            return documents.document({})
        config = self.configuration.shown() if call.caller.admin else None
        row = self.configuration.rows.get(SCOPE)
        environment_ = await self._environment(request.project or "default")
        return documents.document(
            {"config": config, "environment": environment_}, editable=config, revision=row.revision if row else 0
        )

    async def Put(self, request: control_pb2.PutServerRequest, call: Call) -> rest_pb2.Document:
        return await self._write(request, self.configuration.replace)

    async def Patch(self, request: control_pb2.PutServerRequest, call: Call) -> rest_pb2.Document:
        return await self._write(request, self.configuration.change)

    async def _write(
        self, request: control_pb2.PutServerRequest, write: Callable[[dict[str, Any]], Awaitable[int]]
    ) -> rest_pb2.Document:
        documents.check_if_match(request.if_match, documents.etag_of(self.configuration.shown()))
        body = read_object(request.body)
        return documents.empty(revision=await write(field(body, "config", dict, {}, "ServerPut")))

    async def Resources(self, _request: control_pb2.ResourcesRequest, _call: Call) -> rest_pb2.Document:
        return documents.document(await self.resources())

    async def _environment(self, project: str) -> dict[str, Any]:
        certificate = self.certificate()
        drivers = await self._storage_drivers()
        used = sorted({row.value.driver for row in self.pools.select()})
        versions = {driver["Name"]: driver["Version"] for driver in drivers}
        os_name, os_version = environment.system()
        return {
            "addresses": await asyncio.to_thread(addresses, self.configuration.texts.get(keys.HTTPS_ADDRESS.name, "")),
            "architectures": environment.architectures(),
            "certificate": certificate.pem,
            "certificate_fingerprint": certificate.fingerprint,
            "driver": "lxc",
            "driver_version": environment.lxc_version(),
            "firewall": "nftables",
            **environment.kernel(),
            "kernel_features": environment.kernel_features(),
            "lxc_features": environment.lxc_features(),
            "os_name": os_name,
            "os_version": os_version,
            "project": project,
            "server": "lxd",
            "server_clustered": False,
            "server_event_mode": "full-mesh",
            "server_name": socket.gethostname(),
            "server_pid": os.getpid(),
            "server_version": VERSION,
            "storage": " | ".join(used),
            "storage_version": " | ".join(versions.get(name, "") for name in used),
            "storage_supported_drivers": drivers,
        }

    async def _storage_drivers(self) -> Drivers:
        """Storage knows which of its drivers can work here."""
        try:
            found = await rpc.call(
                "nubibus.storage.v1.Pools", "Available", pool_pb2.DriversRequest(), timeout=DRIVERS_WAIT
            )
        except (errors.Unavailable, errors.NotImplementedHere):
            return self.drivers
        self.drivers = [{"Name": one.name, "Version": one.version, "Remote": one.remote} for one in found.drivers]
        return self.drivers


def addresses(address: str) -> list[str]:
    """Where clients reach the server: the address itself, or for a wildcard every address of this machine that is not local to it."""
    if not address:
        return []
    host, port = listening.split(address)
    if host not in ("", "0.0.0.0"):
        return [_joined(host, port)]
    only_v4 = bool(host)
    return [_joined(text, port) for text in own_addresses() if not (only_v4 and ":" in text)]


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
