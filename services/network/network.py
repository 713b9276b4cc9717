"""Managed networks: what clients see of them and what they may do to them.

A change is checked whole before anything happens; then the host is changed and the log told, in the order that keeper.py can finish or
take back after a crash at any point.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, ClassVar

import msgspec

from chassis import errors, listing
from chassis.calls import Call
from chassis.documents import check_if_match, document, empty, etag_of, read_body, render
from chassis.events import Event
from chassis.failpoint import failpoint
from chassis.key_types import quote
from chassis.keys import Config
from chassis.references import in_project
from chassis.store import Change, Store, Versioned
from gen.nubibus.network.v1 import network_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows import restrictions
from rows.network import NETWORK, NETWORK_FORWARD, Network
from services.network import leases, rules, state, subnets
from services.network.bodies import merged
from services.network.drivers import driver
from services.network.drivers.bridge.keys import ZONES
from services.network.host import Host
from services.network.keeper import CREATED, CREATING, DELETING, HOST_FAULTS, Keeper, reason
from services.network.occurrences import told
from services.network.usage import DEFAULT, Usage

Row = Versioned[Network]
Users = Mapping[str, list[tuple[str, str]]]
replace = msgspec.structs.replace


class Networks:
    """The networks of this member; unmanaged interfaces of the host are shown beside them."""

    service: ClassVar[str] = "nubibus.network.v1.Networks"

    def __init__(self, store: Store, usage: Usage, keeper: Keeper, member: str) -> None:
        self.store = store
        self.usage = usage
        self.keeper = keeper
        self.host: Host = keeper.host
        self.member = member

    # Reading.

    async def List(self, request: network_pb2.ListNetworksRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        project = self.usage.holder(request.project)
        wanted = listing.parse_filter(request.filter)
        users = self.usage.users_by_network(project)
        rows = [row for row in self._rows(project) if self._shows(request.project, row.value.name, managed=True)]
        found = [self._show(row.value, call, users) for row in rows]
        if project == DEFAULT:
            names = {row.value.name for row in self._rows(project)}
            others = await self.host.run(state.unmanaged)
            free = {n: type_ for n, type_ in others.items() if n not in names and self._shows(request.project, n)}
            found += [self._show_unmanaged(n, type_, call, users) for n, type_ in free.items()]
        found = [network for network in found if wanted.matches(network)]
        if request.recursion:
            pieces: Iterable[bytes] = (render(network) for network in found)
        else:
            pieces = listing.urls(in_project(f"/1.0/networks/{network['name']}", project) for network in found)
        async for chunk in listing.chunks(pieces, head=rest_pb2.Document(revision=self.store.revision)):
            yield chunk

    async def Get(self, request: network_pb2.NetworkRequest, call: Call) -> rest_pb2.Document:
        project = self.usage.reach(request.project, request.name)
        row = self._find(project, request.name)
        if row is not None:
            return document(self._show(row.value, call), editable=editable(row.value), revision=row.revision)
        shows = project == DEFAULT and self._shows(request.project, request.name)
        others = await self.host.run(state.unmanaged) if shows else {}
        if request.name not in others:
            raise errors.NotFound("Network not found")
        shown = self._show_unmanaged(request.name, others[request.name], call)
        return document(shown, editable=shown)

    async def State(self, request: network_pb2.NetworkRequest, call: Call) -> rest_pb2.Document:
        project = self.usage.reach(request.project, request.name)
        if self._find(project, request.name) is None and not self._shows(request.project, request.name):
            raise errors.NotFound("Network not found")
        found = await self.host.run(state.show, request.name)
        if found is None:
            raise errors.NotFound(f"Network interface {quote(request.name)} not found")
        return document(found)

    async def Leases(self, request: network_pb2.NetworkRequest, call: Call) -> rest_pb2.Document:
        row = self._one(self.usage.reach(request.project, request.name), request.name)
        network = row.value
        if not rules.driver_of(network.type).has_leases:
            raise errors.Internal("Not implemented")
        entries = await self.host.run(leases.read, network.name)
        found = leases.of_network(
            network.name,
            Config(network.config),
            self.usage.nics(network.project, network.name),
            entries,
            project=request.project or DEFAULT,
            home=network.project,
            location=self.member,
        )
        return document(found)

    # Changing.

    async def Create(self, request: network_pb2.CreateNetworkRequest, call: Call) -> rest_pb2.Document:
        project = self.usage.holder(request.project)
        body = read_body(request.body, rules.Creation)
        if not body.name:
            raise errors.BadRequest("No name provided")
        self._refuse_foreign(request.project, body.name)
        rules.check_name(body.name)
        found = rules.driver_of(body.type or "bridge")
        if project != DEFAULT and not found.in_projects:
            raise errors.BadRequest("Network type does not support non-default projects")
        async with self.keeper.changing(body.name):
            left = self._find(project, body.name)
            if left is not None and left.value.status != CREATED:
                call.act()
                await self.keeper.settle(left)  # a crash left it: nobody works on it, for we hold its name
            if self._find(project, body.name) is not None:
                raise errors.BadRequest("The network already exists")
            texts = await self._filled(found, project, body.name, rules.texts_of(body), creating=True)
            drawn = subnets.hwaddr(subnets.SYSTEM)
            network = Network(
                project=project,
                name=body.name,
                type=found.type,
                description=body.description or "",
                config=texts,
                status=CREATING,
                hwaddr=drawn,
            )
            revision = await self._create(found, network, call)
        return empty(location=in_project(f"/1.0/networks/{body.name}", project), revision=revision)

    async def _create(self, found: driver.Driver, network: Network, call: Call) -> int:
        await self._check(found, network, creating=True)
        try:
            await self.store.commit(Change().put(NETWORK, network, expect=0), settles=False)
        except errors.Conflict:
            raise errors.BadRequest("The network already exists") from None
        made = self._one(network.project, network.name)
        await failpoint("network.create", "record.do.after")
        try:
            await self.keeper.establish_one(network)
        except errors.Fault:
            await self.keeper.remove(network)
            await self.store.commit(Change().delete(NETWORK, made.key, expect=made.revision))
            raise
        await failpoint("network.create", "host.do.after")
        change = Change().put(NETWORK, replace(network, status=CREATED), expect=made.revision)
        # The host has it: this goes forward as soon as the log is there.
        return await self.store.commit(change.event(self._event("network-created", network, call)), patience=None)

    async def Put(self, request: network_pb2.PutNetworkRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, _replaced)

    async def Patch(self, request: network_pb2.PutNetworkRequest, call: Call) -> rest_pb2.Document:
        return await self._update(request, call, _patched)

    async def _update(
        self, request: network_pb2.PutNetworkRequest, call: Call, merge: Callable[[Network, rules.Body], Network]
    ) -> rest_pb2.Document:
        project = self.usage.reach(request.project, request.name)
        async with self.keeper.changing(request.name):
            row = self._one(project, request.name)
            check_if_match(request.if_match, etag_of(editable(row.value)))
            wanted = merge(row.value, read_body(request.body, rules.Body))
            found = rules.driver_of(row.value.type)
            texts = await self._filled(found, project, request.name, wanted.config, creating=False)
            wanted = replace(wanted, config=texts)
            if wanted == row.value:
                return empty(revision=row.revision)
            await self._check(found, wanted, creating=False)
            revision = await self._change(row, wanted, call)
        return empty(revision=revision)

    async def _change(self, row: Row, wanted: Network, call: Call) -> int:
        """The host first: the log tells only of what stands."""
        change = Change().put(NETWORK, wanted, expect=row.revision)
        change.event(self._event("network-updated", wanted, call))
        call.act()
        try:
            await self.keeper.establish_one(wanted, before=row.value)
            await failpoint("network.update", "host.do.after")
            return await self.store.commit(change)
        except errors.Fault:
            await self.keeper.establish_one(row.value, before=wanted)
            raise

    async def Rename(self, request: network_pb2.PutNetworkRequest, call: Call) -> rest_pb2.Document:
        project = self.usage.reach(request.project, request.name)
        self._one(project, request.name)
        name = read_body(request.body, rules.Renaming).name
        if not name:
            raise errors.BadRequest("New network name not provided")
        self._refuse_foreign(request.project, name)
        rules.check_name(name)
        async with self.keeper.changing(request.name, name):
            row = self._one(project, request.name)
            if self.usage.users(project, request.name):
                raise errors.BadRequest("Network is currently in use")
            if self._find(project, name) is not None:
                raise errors.Conflict(f"Network {quote(name)} already exists")
            wanted = replace(row.value, name=name)
            await self._check(rules.driver_of(wanted.type), wanted, creating=True)
            revision = await self._rename(row, wanted, call)
        return empty(location=in_project(f"/1.0/networks/{name}", project), revision=revision)

    async def _rename(self, row: Row, wanted: Network, call: Call) -> int:
        old = row.value
        found = rules.driver_of(old.type)
        change = Change().delete(NETWORK, row.key, expect=row.revision).put(NETWORK, wanted, expect=0)
        for forward in self.usage.forwards.select(old.project, old.name):
            change.delete(NETWORK_FORWARD, forward.key, expect=forward.revision)
            change.put(NETWORK_FORWARD, replace(forward.value, network=wanted.name), expect=0)
        change.event(self._event("network-renamed", wanted, call, {"old_name": old.name}))
        call.act()
        try:
            await self.host.run(_rename, found, old.name, wanted.name)
            await failpoint("network.rename", "links.do.after")
            await self.keeper.establish_one(wanted)
            await failpoint("network.rename", "host.do.after")
            return await self.store.commit(change)
        except (errors.Fault, *HOST_FAULTS) as fault:
            await self.host.run(_rename, found, wanted.name, old.name)
            await self.keeper.establish_one(old)
            raise fault if isinstance(fault, errors.Fault) else errors.Internal(reason(fault)) from None

    async def Delete(self, request: network_pb2.NetworkRequest, call: Call) -> rest_pb2.Document:
        project = self.usage.reach(request.project, request.name)
        async with self.keeper.changing(request.name):
            row = self._one(project, request.name)
            if self.usage.users(project, request.name):
                raise errors.BadRequest("The network is currently in use")
            going = replace(row.value, status=DELETING)
            await self.store.commit(Change().put(NETWORK, going, expect=row.revision))
            row = self._one(project, request.name)
            await failpoint("network.delete", "record.do.after")
            await self.keeper.remove(going)
            await failpoint("network.delete", "host.do.after")
            change = Change().delete(NETWORK, row.key, expect=row.revision)
            for forward in self.usage.forwards.select(project, request.name):
                change.delete(NETWORK_FORWARD, forward.key, expect=forward.revision)
            revision = await self.store.commit(change.event(self._event("network-deleted", going, call)), patience=None)
        return empty(revision=revision)

    # Helpers of the above.

    def _rows(self, project: str) -> list[Row]:
        rows = [row for row in self.usage.networks.select(project) if row.value.status != CREATING]
        return sorted(rows, key=lambda row: row.value.name)

    def _find(self, project: str, name: str) -> Row | None:
        return self.usage.networks.get(project, name)

    def _shows(self, project: str, name: str, *, managed: bool = False) -> bool:
        return restrictions.shows_network(self.usage.config(project), name, managed=managed)

    def _refuse_foreign(self, project: str, name: str) -> None:
        """A project makes no networks by a name that it may not use."""
        if not restrictions.allows_network(self.usage.config(project), name):
            raise errors.Forbidden(restrictions.NETWORK)

    def _one(self, project: str, name: str) -> Row:
        row = self._find(project, name)
        if row is None:
            raise errors.NotFound("Failed loading network: Network not found")
        return row

    async def _filled(
        self, found: driver.Driver, project: str, name: str, texts: Mapping[str, str], *, creating: bool
    ) -> dict[str, str]:
        """The configuration, checked and with what is automatic drawn."""
        rules.validate(found, name, texts, creating=creating)
        for acl in self.usage.acls_of(Network(project=project, name=name, config=dict(texts))):
            if self.usage.acls.get(project, acl) is None:
                refusal = errors.Internal if creating else errors.BadRequest
                raise refusal(f"Network ACL {quote(acl)} does not exist")
        for key in ZONES:
            zone = texts.get(key.name, "")
            if zone and self.usage.zones.get(project, zone) is None:
                refusal = errors.Internal if creating else errors.BadRequest
                why = f"Network zone {quote(zone)} doesn't exist"
                raise refusal(f"Invalid value for network {quote(name)} option {quote(key.name)}: {why}")
        taken = [
            text
            for row in self.usage.networks.select()
            for key in ("ipv4.address", "ipv6.address")
            if "/" in (text := row.value.config.get(key, ""))
        ]
        try:
            filled = await self.host.run(_fill, found, texts, taken, creating)
        except ValueError as fault:
            raise errors.Internal(str(fault)) from None
        return rules.cleaned(filled)

    async def _check(self, found: driver.Driver, network: Network, *, creating: bool) -> None:
        """Whether the host can have it. Raises Internal, as LXD does."""
        try:
            view = await self.keeper.view(network)
            await self.host.run(_check, found, view, creating)
        except HOST_FAULTS as fault:
            raise errors.Internal(reason(fault)) from None

    def _event(self, action: str, network: Network, call: Call, context: dict[str, Any] | None = None) -> Event:
        return told(action, f"/1.0/networks/{network.name}", network.project, self.member, call, context)

    def _show(self, network: Network, call: Call, users: Users | None = None) -> dict[str, Any]:
        users = self.usage.users_by_network(network.project) if users is None else users
        return {
            "config": network.config,
            "description": network.description,
            "name": network.name,
            "type": network.type,
            "used_by": _visible(users.get(network.name, []), call),
            "managed": True,
            "status": CREATED if network.status == CREATED else "Errored",
            "locations": [self.member],
        }

    def _show_unmanaged(self, name: str, type_: str, call: Call, users: Users | None = None) -> dict[str, Any]:
        users = self.usage.users_by_network(DEFAULT) if users is None else users
        return {
            "config": {},
            "description": "",
            "name": name,
            "type": type_,
            "used_by": [] if type_ == "loopback" else _visible(users.get(name, []), call),
            "managed": False,
            "status": "",
            "locations": None,
        }


def _visible(users: list[tuple[str, str]], call: Call) -> list[str] | None:
    """What the caller may see; None if it is nothing: LXD shows null."""
    return [found for found, owner in users if call.caller.may_see(owner)] or None


def editable(network: Network) -> dict[str, Any]:
    """What the ETag covers."""
    return {
        "name": network.name,
        "type": network.type,
        "description": network.description,
        "config": network.config,
    }


def _replaced(old: Network, body: rules.Body) -> Network:
    return replace(old, description=body.description or "", config=rules.cleaned(rules.texts_of(body)))


def _patched(old: Network, body: rules.Body) -> Network:
    description = old.description if isinstance(body.description, msgspec.UnsetType) else body.description
    return replace(old, description=description, config=merged(old.config, rules.texts_of(body)))


def _fill(
    host: Host, found: driver.Driver, texts: Mapping[str, str], taken: Iterable[str], creating: bool
) -> dict[str, str]:
    return found.fill(host, texts, taken, creating=creating)


def _check(host: Host, found: driver.Driver, network: driver.Network, creating: bool) -> None:
    found.check(host, network, creating=creating)


def _rename(host: Host, found: driver.Driver, old: str, new: str) -> None:
    found.rename(host, old, new)
