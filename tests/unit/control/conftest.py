"""The control service's servicers over a log in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chassis.calls import Call, Caller, enter, leave
from chassis.operations import Operations
from chassis.store import Store
from chassis.testing.memory import MemoryLog
from gen.nubibus.control.v1 import control_pb2
from rows.storage import POOL
from services.control.certificate import Certificates
from services.control.configuration import Configuration
from services.control.holdings import Holdings
from services.control.project import Projects
from services.control.server import Server
from services.control.warning import Warnings
from supervisor import identity

ADMIN = Call(caller=Caller(protocol="unix", username="root", admin=True, trusted=True))


async def no_hardware() -> dict[str, Any]:
    return {}


@dataclass
class World:
    """Everything that a test of control may want; `events` are the lifecycle events so far."""

    log: MemoryLog
    store: Store
    configuration: Configuration
    operations: Operations
    holdings: Holdings
    projects: Projects
    server: Server
    certificates: Certificates
    warnings: Warnings

    def events(self) -> list[dict[str, Any]]:
        found = [json.loads(one.data) for one in self.log.history if one.subject.startswith("event.lifecycle.")]
        return [one["metadata"] for one in found]

    async def project(self, name: str, call: Call = ADMIN, **config: str) -> Any:
        body = {"name": name, "config": {key.replace("__", "."): text for key, text in config.items()}}
        return await self.projects.Create(control_pb2.CreateRequest(body=json.dumps(body).encode()), call)

    async def configure(self, config: Mapping[str, Any], call: Call = ADMIN) -> Any:
        return await self.server.Patch(control_pb2.PutServerRequest(body=json.dumps({"config": config}).encode()), call)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    identity.ensure(tmp_path)
    log = MemoryLog()
    store = Store(log, "control")
    configuration, operations, holdings = Configuration(store), Operations(store, "control"), Holdings(store)
    projects = Projects(store, holdings, operations)
    server = Server(configuration, store.mirror(POOL), tmp_path, no_hardware)
    certificates = Certificates(store, configuration, projects.rows, operations, server)
    warnings = Warnings(store)
    await store.start()
    await projects.ensure_default()
    token = enter(ADMIN)
    yield World(log, store, configuration, operations, holdings, projects, server, certificates, warnings)
    leave(token)
    await store.stop()


async def collected(stream: AsyncIterator[Any]) -> Any:
    """The JSON of a streamed list."""
    return json.loads(b"".join([chunk.data async for chunk in stream]))
