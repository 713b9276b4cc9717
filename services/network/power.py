"""The whole server stops and its host is to be as before."""

from __future__ import annotations

from typing import ClassVar

from chassis.calls import Call
from gen.nubibus.rest.v1 import rest_pb2
from services.network.keeper import Keeper


class Power:
    service: ClassVar[str] = "nubibus.network.v1.Power"

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper

    async def Shutdown(self, request: rest_pb2.Empty, call: Call) -> rest_pb2.Empty:
        await self.keeper.take_down()
        return rest_pb2.Empty()
