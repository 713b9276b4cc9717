"""The instances service over a log in memory and a host that is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from chassis.calls import ITSELF, Call
from chassis.sagas import Sagas
from chassis.sockets import Sockets
from chassis.store import Store
from chassis.testing.memory import MemoryLog
from gen.nubibus.instances.v1 import instance_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.instance import INSTANCE
from services.instances.boot import Boot
from services.instances.exits import Exits
from services.instances.parts import Parts
from services.instances.profile import Profiles
from services.instances.sagas import SAGAS
from services.instances.servicer import InstanceServicer
from tests.sagas.instances.world import InstanceWorld

CALL = Call(caller=ITSELF)


ROOT = {"root": {"type": "disk", "path": "/", "pool": "p"}}


class Service:
    """One life of the service over a world that stays."""

    def __init__(self, log: MemoryLog, world: InstanceWorld) -> None:
        self.log = log
        self.store = Store(log.connect(), "instances")
        self.parts: Parts = world.parts(self.store)
        self.parts.sagas = Sagas(self.store, "instances", SAGAS, parts=self.parts)
        self.exits = Exits(self.parts)
        self.boot = Boot(self.parts, self.exits)
        self.instances = InstanceServicer(self.parts, Sockets())
        self.profiles = Profiles(self.parts)
        self.world = world

    async def start(self) -> None:
        await self.store.start()
        await self.boot.converge()
        await self.parts.sagas.start()

    async def stop(self) -> None:
        await self.exits.close()
        await self.parts.sagas.stop()
        await self.store.stop()

    def row(self, name: str = "c1") -> Any:
        found = self.store.mirror(INSTANCE).get("default", name)
        return found.value if found else None

    async def done(self, answer: rest_pb2.Answer) -> str:
        """The error of an accepted operation, once it has ended."""
        return (await self.parts.sagas.operations.wait(answer.accepted.id, 10)).err

    async def act(self, name: str, action: str, **fields: Any) -> str:
        return await self.done(await self.put_state(name, action, **fields))

    async def put_state(self, name: str, action: str, **fields: Any) -> rest_pb2.Answer:
        body = json.dumps({"action": action, **fields}).encode()
        return await self.instances.PutState(instance_pb2.PutInstanceRequest(name=name, body=body), CALL)

    async def create(self, name: str, **fields: Any) -> str:
        body = {"name": name, "source": {"type": "none"}, "devices": ROOT, "profiles": [], **fields}

        async def frames() -> AsyncIterator[instance_pb2.CreateInstanceFrame]:
            yield instance_pb2.CreateInstanceFrame(request=instance_pb2.CreateInstanceRequest())
            yield instance_pb2.CreateInstanceFrame(data=json.dumps(body).encode())

        return await self.done(await self.instances.Create(frames(), CALL))

    async def patch(self, name: str, **fields: Any) -> None:
        if_match = fields.pop("if_match", "")
        body = json.dumps(fields).encode()
        request = instance_pb2.PutInstanceRequest(name=name, body=body, if_match=if_match)
        await self.instances.Patch(request, CALL)

    def told(self) -> list[str]:
        """The lifecycle events so far."""
        events = (
            json.loads(stored.data) for stored in self.log.history if stored.subject.startswith("event.lifecycle")
        )
        return [event["metadata"]["action"] for event in events]

    async def until(self, claim: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not claim():
                await asyncio.sleep(0.005)
