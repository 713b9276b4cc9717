"""Cancelling an operation of this service."""

from __future__ import annotations

from typing import ClassVar

from chassis.calls import Call
from chassis.sagas import Sagas
from gen.nubibus.rest.v1 import rest_pb2


class Operations:
    service: ClassVar[str] = "nubibus.rest.v1.Operations"

    def __init__(self, sagas: Sagas) -> None:
        self.sagas = sagas

    async def Cancel(self, request: rest_pb2.CancelRequest, call: Call) -> rest_pb2.Empty:
        await self.sagas.cancel(request.id)
        return rest_pb2.Empty()
