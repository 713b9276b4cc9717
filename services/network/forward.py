"""Network forwards: external addresses, or ports of them, that lead into a network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import msgspec

from chassis import errors, listing
from chassis.calls import Call, current
from chassis.documents import check_if_match, document, empty, etag_of, read_body
from chassis.references import in_project
from chassis.store import Change, Store, Versioned
from gen.nubibus.network.v1 import forward_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.network import NETWORK_FORWARD, ForwardPort, Network, NetworkForward
from services.network import forward_rules
from services.network.bodies import Editable, patched, replaced
from services.network.keeper import Beside, Keeper
from services.network.occurrences import told
from services.network.usage import Usage

Row = Versioned[NetworkForward]


class Body(Editable):
    """NetworkForwardPut and NetworkForwardsPost; what is not in the body is UNSET."""

    listen_address: str = ""
    ports: tuple[ForwardPort, ...] | msgspec.UnsetType | None = msgspec.UNSET


class Forwards:
    """Forwards of this member's networks."""

    service: ClassVar[str] = "nubibus.network.v1.Forwards"

    def __init__(self, store: Store, usage: Usage, keeper: Keeper, member: str) -> None:
        self.store = store
        self.usage = usage
        self.keeper = keeper
        self.member = member

    async def List(self, request: forward_pb2.ListForwardsRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        network = self._network(request.project, request.network)
        rows = self.usage.forwards.select(network.project, network.name)
        forwards = sorted((row.value for row in rows), key=lambda forward: forward.listen_address)
        pieces = listing.pieces(forwards, request, self._show, _url)
        async for chunk in listing.chunks(pieces, head=rest_pb2.Document(revision=self.store.revision)):
            yield chunk

    async def Get(self, request: forward_pb2.ForwardRequest, call: Call) -> rest_pb2.Document:
        row = self._one(self._network(request.project, request.network), request.listen_address)
        return document(self._show(row.value), editable=editable(row.value), revision=row.revision)

    async def Create(self, request: forward_pb2.CreateForwardRequest, call: Call) -> rest_pb2.Document:
        network = self._network(request.project, request.network)
        body = read_body(request.body, Body)
        forward = NetworkForward(
            project=network.project, network=network.name, listen_address=body.listen_address, **body.given()
        )
        taken = {row.value.listen_address for row in self.usage.forwards.select()}
        if forward.listen_address in taken:
            raise errors.Conflict("Failed creating forward: A forward for that listen address already exists")
        _check(forward, network, "Failed creating forward")
        change = Change().put(NETWORK_FORWARD, forward, expect=0)
        change.event(self._event("network-forward-created", forward, call))
        revision = await self._apply(network, change, forward, None)
        return empty(location=_url(forward), revision=revision)

    async def Put(self, request: forward_pb2.PutForwardRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, replaced)

    async def Patch(self, request: forward_pb2.PutForwardRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, patched)

    async def _update(
        self,
        request: forward_pb2.PutForwardRequest,
        call: Call,
        merge: Callable[[NetworkForward, Body], NetworkForward],
    ) -> rest_pb2.Document:
        network = self._network(request.project, request.network)
        row = self._one(network, request.listen_address)
        check_if_match(request.if_match, etag_of(editable(row.value)))
        wanted = merge(row.value, read_body(request.body, Body))
        _check(wanted, network, "Failed updating forward")
        change = Change().put(NETWORK_FORWARD, wanted, expect=row.revision)
        change.event(self._event("network-forward-updated", wanted, call))
        return empty(revision=await self._apply(network, change, wanted, row.value))

    async def Delete(self, request: forward_pb2.ForwardRequest, call: Call) -> rest_pb2.Document:
        network = self._network(request.project, request.network)
        row = self._one(network, request.listen_address, "Failed deleting forward: ")
        change = Change().delete(NETWORK_FORWARD, row.key, expect=row.revision)
        change.event(self._event("network-forward-deleted", row.value, call))
        return empty(revision=await self._apply(network, change, None, row.value))

    # Helpers of the above.

    async def _apply(
        self, network: Network, change: Change, new: NetworkForward | None, old: NetworkForward | None
    ) -> int:
        """The firewall first, then the log; back to what the log says if either refuses."""
        current().act()
        async with self.keeper.changing(network.name):
            rows = self.usage.forwards.select(network.project, network.name)
            kept = [row.value for row in rows if old is None or row.value.listen_address != old.listen_address]
            try:
                beside = Beside(forwards=(*kept, *([new] if new else [])))
                await self.keeper.establish_one(network, beside=beside)
                return await self.store.commit(change)
            except errors.Fault:
                await self.keeper.establish_one(network)
                raise

    def _network(self, project: str, name: str) -> Network:
        row = self.usage.networks.get(self.usage.reach(project, name), name)
        if row is None:
            raise errors.NotFound("Failed loading network: Network not found")
        if row.value.type != "bridge":
            raise errors.BadRequest(f'Network driver "{row.value.type}" does not support forwards')
        return row.value

    def _one(self, network: Network, listen_address: str, what: str = "") -> Row:
        row = self.usage.forwards.get(network.project, network.name, listen_address)
        if row is None:
            raise errors.NotFound(f"{what}Network forward not found")
        return row

    def _event(self, action: str, forward: NetworkForward, call: Call) -> Any:
        return told(action, _path(forward), forward.project, self.member, call)

    def _show(self, forward: NetworkForward) -> dict[str, Any]:
        return {**editable(forward), "listen_address": forward.listen_address, "location": self.member}


def editable(forward: NetworkForward) -> dict[str, Any]:
    return {"description": forward.description, "config": forward.config, "ports": forward.ports}


def _path(forward: NetworkForward) -> str:
    return f"/1.0/networks/{forward.network}/forwards/{forward.listen_address}"


def _url(forward: NetworkForward) -> str:
    return in_project(_path(forward), forward.project)


def _check(forward: NetworkForward, network: Network, what: str) -> None:
    """Raises Internal: LXD answers 500 to a wrong forward."""
    try:
        forward_rules.check(forward, network.config)
    except ValueError as reason:
        raise errors.Internal(f"{what}: {reason}") from None
