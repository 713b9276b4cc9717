"""Cancelling an operation of a service: every service that has operations serves this."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from chassis.calls import Call
from gen.nubibus.rest.v1 import rest_pb2

Cancel = Callable[[str], Awaitable[None]]  # of an operation's id; `Sagas.cancel`, `Operations.cancel`


class Cancellation:
    """Answers for nubibus.rest.v1.Operations."""

    service: ClassVar[str] = "nubibus.rest.v1.Operations"

    def __init__(self, cancel: Cancel) -> None:
        self.cancel = cancel

    async def Cancel(self, request: rest_pb2.CancelRequest, call: Call) -> rest_pb2.Empty:
        await self.cancel(request.id)
        return rest_pb2.Empty()
