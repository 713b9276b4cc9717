"""The servicer of Instances: one class for the contract, its methods in one module a topic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from chassis.calls import Call
from chassis.sockets import Sockets
from gen.nubibus.instances.v1 import instance_pb2
from gen.nubibus.rest.v1 import rest_pb2
from services.instances.document import Documents
from services.instances.exposition import Exposition
from services.instances.host.console import Consoles
from services.instances.parts import Parts
from services.instances.servicer_exec import ExecMethods
from services.instances.servicer_files import FileMethods
from services.instances.servicer_instances import Instances
from services.instances.servicer_logs import LogMethods
from services.instances.servicer_metadata import MetadataMethods
from services.instances.servicer_state import StateMethods
from services.instances.states import States

OPENMETRICS = "text/plain"


class InstanceServicer(Instances, StateMethods, ExecMethods, FileMethods, LogMethods, MetadataMethods):
    def __init__(self, parts: Parts, sockets: Sockets) -> None:
        super().__init__(parts, Documents(parts.roster), States(parts))
        self.sockets = sockets
        self.consoles = Consoles(parts.host)
        self.tasks: set[asyncio.Task[None]] = set()
        self.exposition = Exposition(parts)

    async def Metrics(self, request: instance_pb2.MetricsRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        data = await self.exposition.text(request.project)
        yield rest_pb2.Chunk(head=rest_pb2.Document(raw=True, headers={"content-type": OPENMETRICS}), data=data)
