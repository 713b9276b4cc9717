"""The whole server stops and its host is to be as before."""

from __future__ import annotations

from typing import ClassVar

from chassis.calls import Call
from gen.nubibus.rest.v1 import rest_pb2
from services.storage.places import Places


class Power:
    service: ClassVar[str] = "nubibus.storage.v1.Power"

    def __init__(self, places: Places) -> None:
        self.places = places

    async def Shutdown(self, request: rest_pb2.Empty, call: Call) -> rest_pb2.Empty:
        await self.places.close_all()
        return rest_pb2.Empty()
