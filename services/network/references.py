"""What networks refer to, and the end of the host: asked by other parts and by the supervisor."""

from __future__ import annotations

from typing import ClassVar

from chassis.calls import Call
from gen.nubibus.rest.v1 import rest_pb2
from services.network.keeper import Keeper
from services.network.usage import DEFAULT, Usage, url


class References:
    """Networks belong to projects, and some hang on others."""

    service: ClassVar[str] = "nubibus.rest.v1.References"

    def __init__(self, usage: Usage) -> None:
        self.usage = usage

    async def Find(self, request: rest_pb2.UsedByRequest, call: Call) -> rest_pb2.UsedBy:
        if request.kind == "project":
            rows = self.usage.networks.select(request.name)
            return rest_pb2.UsedBy(urls=[url(f"/1.0/networks/{row.value.name}", row.value.project) for row in rows])
        if request.kind == "network":
            users = self.usage.used_by(request.project or DEFAULT, request.name)
            return rest_pb2.UsedBy(urls=[found for found in users if found.startswith("/1.0/networks/")])
        return rest_pb2.UsedBy()


class Power:
    """The whole server stops and its host is to be as before."""

    service: ClassVar[str] = "nubibus.network.v1.Power"

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper

    async def Shutdown(self, request: rest_pb2.Empty, call: Call) -> rest_pb2.Empty:
        await self.keeper.take_down()
        return rest_pb2.Empty()
