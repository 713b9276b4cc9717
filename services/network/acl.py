"""Network ACLs: named rule sets, and the networks that follow them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import msgspec

from chassis import errors, listing
from chassis.calls import Call
from chassis.documents import check_if_match, document, empty, etag_of, read_body
from chassis.references import in_project, visible
from chassis.store import Change, Store, Versioned
from gen.nubibus.network.v1 import acl_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.network import NETWORK_ACL, AclRule, Network, NetworkAcl
from services.network import acl_rules
from services.network.bodies import Editable, patched, replaced
from services.network.keeper import Beside, Keeper
from services.network.occurrences import told
from services.network.usage import Usage

Row = Versioned[NetworkAcl]
replace = msgspec.structs.replace


class Body(Editable):
    """NetworkACLPut, NetworkACLPost and NetworkACLsPost; what is not in the body is UNSET."""

    name: str = ""
    ingress: tuple[AclRule, ...] | msgspec.UnsetType | None = msgspec.UNSET
    egress: tuple[AclRule, ...] | msgspec.UnsetType | None = msgspec.UNSET


class Acls:
    """ACLs of the projects that have networks of their own, and of the default project."""

    service: ClassVar[str] = "nubibus.network.v1.Acls"

    def __init__(self, store: Store, usage: Usage, keeper: Keeper, member: str) -> None:
        self.store = store
        self.usage = usage
        self.keeper = keeper
        self.member = member

    async def List(self, request: acl_pb2.ListAclsRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        project = self.usage.holder(request.project)
        acls = sorted((row.value for row in self.usage.acls.select(project)), key=lambda acl: acl.name)
        pieces = listing.pieces(acls, request, self._show, _url)
        async for chunk in listing.chunks(pieces, head=rest_pb2.Document(revision=self.store.revision)):
            yield chunk

    async def Get(self, request: acl_pb2.AclRequest, call: Call) -> rest_pb2.Document:
        row = self._one(self.usage.holder(request.project), request.name)
        return document(self._show(row.value), editable=editable(row.value), revision=row.revision)

    async def Create(self, request: acl_pb2.CreateAclRequest, call: Call) -> rest_pb2.Document:
        project = self.usage.holder(request.project)
        body = read_body(request.body, Body)
        acl = NetworkAcl(project=project, name=body.name, **body.given())
        if self.usage.acls.get(project, acl.name) is not None:
            raise errors.BadRequest("The network ACL already exists")
        _check(acl)
        change = Change().put(NETWORK_ACL, acl, expect=0)
        try:
            revision = await self._tell(change, "network-acl-created", acl, call)
        except errors.Conflict:
            raise errors.BadRequest("The network ACL already exists") from None
        return empty(location=_url(acl), revision=revision)

    async def Put(self, request: acl_pb2.PutAclRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, replaced)

    async def Patch(self, request: acl_pb2.PutAclRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, patched)

    async def _update(
        self, request: acl_pb2.PutAclRequest, call: Call, merge: Callable[[NetworkAcl, Body], NetworkAcl]
    ) -> rest_pb2.Document:
        """The networks that follow it first: the log tells only of rules that stand."""
        project = self.usage.holder(request.project)
        row = self._one(project, request.name)
        check_if_match(request.if_match, etag_of(editable(row.value)))
        wanted = merge(row.value, read_body(request.body, Body))
        _check(wanted)
        followers = self._followers(wanted)
        call.act()
        async with self.keeper.changing(*(network.name for network in followers)):
            try:
                for network in followers:
                    await self.keeper.establish_one(network, beside=Beside(acls={wanted.name: wanted}))
                change = Change().put(NETWORK_ACL, wanted, expect=row.revision)
                revision = await self._tell(change, "network-acl-updated", wanted, call)
            except errors.Fault:
                for network in followers:
                    await self.keeper.establish_one(network)
                raise
        return empty(revision=revision)

    async def Rename(self, request: acl_pb2.PutAclRequest, call: Call) -> rest_pb2.Document:
        project = self.usage.holder(request.project)
        row = self._one(project, request.name)
        wanted = replace(row.value, name=read_body(request.body, Body).name)
        _check(wanted)
        if self.usage.acls.get(project, wanted.name) is not None:
            raise errors.BadRequest("An ACL by that name exists already")
        if self._followers(row.value):
            raise errors.Internal("Cannot rename an ACL that is in use")
        change = Change().delete(NETWORK_ACL, row.key, expect=row.revision).put(NETWORK_ACL, wanted, expect=0)
        revision = await self._tell(change, "network-acl-renamed", wanted, call, {"old_name": row.value.name})
        return empty(location=_url(wanted), revision=revision)

    async def Delete(self, request: acl_pb2.AclRequest, call: Call) -> rest_pb2.Document:
        row = self._one(self.usage.holder(request.project), request.name)
        if self._followers(row.value):
            raise errors.Internal("Cannot delete an ACL that is in use")
        change = Change().delete(NETWORK_ACL, row.key, expect=row.revision)
        return empty(revision=await self._tell(change, "network-acl-deleted", row.value, call))

    # Helpers of the above.

    def _one(self, project: str, name: str) -> Row:
        row = self.usage.acls.get(project, name)
        if row is None:
            raise errors.NotFound("Network ACL not found")
        return row

    def _followers(self, acl: NetworkAcl) -> list[Network]:
        rows = self.usage.networks.select(acl.project)
        return [row.value for row in rows if acl.name in self.usage.acls_of(row.value)]

    async def _tell(
        self, change: Change, action: str, acl: NetworkAcl, call: Call, context: dict[str, Any] | None = None
    ) -> int:
        change.event(told(action, _path(acl), acl.project, self.member, call, context))
        return await self.store.commit(change)

    def _show(self, acl: NetworkAcl) -> dict[str, Any]:
        used = visible(in_project(f"/1.0/networks/{found.name}", found.project) for found in self._followers(acl))
        return {"name": acl.name, **editable(acl), "used_by": sorted(used)}


def _path(acl: NetworkAcl) -> str:
    return f"/1.0/network-acls/{acl.name}"


def _url(acl: NetworkAcl) -> str:
    return in_project(_path(acl), acl.project)


def editable(acl: NetworkAcl) -> dict[str, Any]:
    return {"description": acl.description, "egress": acl.egress, "ingress": acl.ingress, "config": acl.config}


def _check(acl: NetworkAcl) -> None:
    """Raises Internal: LXD answers 500 to a wrong ACL."""
    try:
        acl_rules.check_name(acl.name)
        acl_rules.check_config(acl.config)
        acl_rules.check_rules("ingress", acl.ingress)
        acl_rules.check_rules("egress", acl.egress)
    except ValueError as reason:
        raise errors.Internal(str(reason)) from None
