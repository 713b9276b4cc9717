"""REST face of the instance itself: list, create, read, change, rename, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

from chassis import documents, listing
from chassis.calls import Call
from chassis.errors import BadRequest, Conflict, Internal, NotFound, NotImplementedHere, TooLarge
from chassis.operations import SUCCESS, Accepted
from chassis.references import in_project
from chassis.saga import Saga
from chassis.store import Change
from gen.nubibus.instances.v1 import instance_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.instance import INSTANCE
from services.instances import allowed, change, creation, names
from services.instances.body import InstanceBody, MovedInstance, NewInstance, Source, given, read
from services.instances.document import Documents, etag, with_all
from services.instances.occurrences import asked
from services.instances.parts import Parts
from services.instances.projects import DEFAULT
from services.instances.roster import Member
from services.instances.sagas import create, delete, move, rename, update
from services.instances.sagas.subject import locks
from services.instances.states import States

LARGEST_BODY = 8 * 1024 * 1024
TRIES = 5
TYPE_OF_PATH = {"containers": "container", "virtual-machines": "virtual-machine"}
FULL = 2


def answer_of(accepted: Accepted) -> rest_pb2.Answer:
    return rest_pb2.Answer(
        accepted=rest_pb2.Accepted(id=accepted.id, operation=accepted.operation, revision=accepted.revision)
    )


def found(parts: Parts, request: Any) -> Member:
    """The instance that a request names. Raises NotFound, also when the path names another type."""
    member = parts.roster.one(request.project or DEFAULT, request.name)
    wanted = TYPE_OF_PATH.get(request.path_type)
    if wanted and member.value.type != wanted:
        raise NotFound("Instance not found")
    return member


class Instances:
    """Half of the servicer; the other topics are mixed in by `servicer`."""

    service: ClassVar[str] = "nubibus.instances.v1.Instances"

    def __init__(self, parts: Parts, documents_: Documents, states: States) -> None:
        self.parts = parts
        self.documents = documents_
        self.states = states

    # Reading.

    async def List(self, request: instance_pb2.ListInstancesRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        listing.refuse_both(request.project, everywhere=request.all_projects)
        wanted = listing.parse_filter(request.filter)
        members = [
            member
            for member in self._visible(request, call)
            if not wanted or wanted.matches(self.documents.decoded(member))
        ]
        if not request.recursion:
            pieces: Iterator[bytes] = iter([documents.render(_path(request.path_type, member)) for member in members])
        elif request.recursion < FULL:
            pieces = (self.documents.rendered(member) for member in members)
        else:
            states = await self.states.rendered_all(members)
            pieces = (with_all(self.documents.rendered(member), states[member.key]) for member in members)
        async for chunk in listing.chunks(pieces):
            yield chunk

    def _visible(self, request: instance_pb2.ListInstancesRequest, call: Call) -> Iterator[Member]:
        wanted = TYPE_OF_PATH.get(request.path_type) or request.instance_type
        projects = () if request.all_projects else (request.project or DEFAULT,)
        for member in self.parts.roster.select(*projects):
            if wanted and member.value.type != wanted:
                continue
            if request.all_projects and not call.caller.may_see(member.value.project):
                continue
            yield member

    async def Get(self, request: instance_pb2.InstanceRequest, call: Call) -> rest_pb2.Document:
        member = found(self.parts, request)
        rendered = self.documents.rendered(member)
        if request.recursion:
            rendered = with_all(rendered, await self.states.rendered(member))
        return rest_pb2.Document(json=rendered, etag=etag(member.value), revision=member.row.revision)

    # Creating.

    async def Create(self, request: AsyncIterator[instance_pb2.CreateInstanceFrame], call: Call) -> rest_pb2.Answer:
        head, raw = await _whole(request)
        if head.content_type.startswith("application/octet-stream"):
            raise NotImplementedHere("Creating an instance from a backup is not supported by this server yet")
        body: NewInstance = read(raw, NewInstance)
        project = head.project or DEFAULT
        self.parts.roster.projects.require(project, "Failed loading project")
        name = names.instance_name(body.name) if body.name else self._drawn_name(project)
        type_ = creation.instance_type(body.type, head.path_type)
        self._check_profiles(project, body.profiles)
        image = await self._image(project, body, type_)
        if type_ != "container":
            raise NotImplementedHere("Virtual machines are not supported by this server yet")
        args = creation.arguments(body, name, type_, image, datetime.now(UTC))
        creation.refuse_early(self.parts, project, args)
        accepted = await self.parts.sagas.accept(
            create.SAGA,
            args,
            project=project,
            resources=names.resources(project, name),
            locks=locks(project, name),
        )
        return answer_of(accepted)

    def _drawn_name(self, project: str) -> str:
        return names.drawn_name(lambda name: self.parts.roster.rows.get(project, name) is not None)

    def _check_profiles(self, project: str, wanted: list[str] | None) -> None:
        holder = self.parts.roster.projects.of_profiles(project)
        for name in wanted or ():
            if self.parts.roster.profiles.get(holder, name) is None:
                raise Internal(f'Requested profile "{name}" doesn\'t exist')

    async def _image(self, project: str, body: NewInstance, type_: str) -> dict[str, str]:
        """Which image is meant: nothing for an instance from nothing. Raises NotFound and BadRequest in LXD's words."""
        source = body.source
        if source.type == "none":
            return {}
        if source.type in ("copy", "migration"):
            raise NotImplementedHere(f'Source type "{source.type}" is not supported by this server yet')
        if source.type != "image":
            raise BadRequest(f"Unknown source type {source.type}")
        if source.server or source.mode not in ("", "local"):
            raise NotImplementedHere("Images of other servers are not supported by this server yet")
        return await self._local_image(project, source, type_)

    async def _local_image(self, project: str, source: Source, type_: str) -> dict[str, str]:
        if source.fingerprint:
            return {"project": project, "fingerprint": source.fingerprint}
        if not source.alias and not source.properties:
            raise Internal("Must specify one of alias, fingerprint or properties for init from image")
        try:
            image = await self.parts.images.resolve(
                project, alias=source.alias, properties=source.properties, type_=type_
            )
        except NotFound:
            if source.alias:
                raise NotFound("Image alias not found") from None
            raise Internal("No matching image could be found") from None
        return {"project": image.project, "fingerprint": image.fingerprint}

    # Changing.

    async def Put(self, request: instance_pb2.PutInstanceRequest, call: Call) -> rest_pb2.Answer:
        member = found(self.parts, request)
        documents.check_if_match(request.if_match, etag(member.value))
        body: InstanceBody = read(request.body, InstanceBody)
        if given(body.restore, ""):
            raise NotImplementedHere("Snapshots are not supported by this server yet")
        args = {"name": member.value.name, "body": msgspec.to_builtins(body)}
        return answer_of(await self._accept(update.SAGA, args, member))

    async def Patch(self, request: instance_pb2.PutInstanceRequest, call: Call) -> rest_pb2.Answer:
        body: InstanceBody = read(request.body, InstanceBody)
        for attempt in range(TRIES):
            member = found(self.parts, request)
            documents.check_if_match(request.if_match, etag(member.value))
            try:
                revision = await self._patch(member, body)
                return rest_pb2.Answer(document=documents.empty(revision=revision))
            except Conflict:
                if attempt == TRIES - 1 or self._busy(member):
                    raise
                await self.parts.store.refresh()
        raise AssertionError("unreachable")

    def _busy(self, member: Member) -> bool:
        return self.parts.sagas.operations.holder(locks(member.value.project, member.value.name)[0]) is not None

    async def _patch(self, member: Member, body: InstanceBody) -> int:
        """Change the row at once; through an operation, waited for, when the host must change with it."""
        parts = self.parts
        new, expanded = await change.settle(parts, member, change.patched(member.value, body))
        parts.sagas.operations.refuse_busy(locks(new.project, new.name))
        if not change.needs_host(parts, member, expanded):
            put = Change().put(INSTANCE, new, expect=member.row.revision)
            allowed.take(parts, put, new.project, allowed.held(new, expanded), allowed.UPDATE)
            return await parts.store.commit(put.event(asked(parts, "instance-updated", new)))
        args = {"name": new.name, "plan": change.plan(member, new, expanded)}
        accepted = await self._accept(update.SAGA, args, member, waited="")
        ended = await parts.sagas.operations.wait(accepted.id)
        if ended.status_code != SUCCESS:
            raise Internal(ended.err)
        return parts.sagas.operations.one(accepted.id).revision

    async def Rename(self, request: instance_pb2.PutInstanceRequest, call: Call) -> rest_pb2.Answer:
        member = found(self.parts, request)
        body: MovedInstance = read(request.body, MovedInstance)
        leaves = body.migration and body.project not in ("", member.value.project)
        if (body.migration and not leaves) or body.pool or request.target:
            raise NotImplementedHere("Moving an instance to another server or pool is not supported by this server yet")
        new_name = names.instance_name(body.name or member.value.name if leaves else body.name)
        if leaves:
            return answer_of(await self._move(member, body.project, new_name))
        if self.parts.roster.get(member.value.project, new_name) is not None:
            raise Conflict(f'Name "{new_name}" already in use')
        args = {"name": member.value.name, "new_name": new_name}
        return answer_of(await self._accept(rename.SAGA, args, member, new_name))

    async def _move(self, member: Member, project: str, name: str) -> Accepted:
        """Into another project; locked here and there."""
        here, now = member.value.project, member.value.name
        return await self.parts.sagas.accept(
            move.SAGA,
            {"name": now, "new_project": project, "new_name": name},
            project=here,
            resources=names.resources(here, now),
            locks=(*locks(here, now), *locks(project, name)),
        )

    async def Delete(self, request: instance_pb2.InstanceRequest, call: Call) -> rest_pb2.Answer:
        member = found(self.parts, request)
        if self.parts.roster.live(member.value.project, member.value.name) is not None:
            raise BadRequest("Instance is running")
        return answer_of(await self._accept(delete.SAGA, {"name": member.value.name}, member))

    async def _accept(
        self, saga: Saga, args: dict[str, Any], member: Member, *more: str, waited: str | None = None
    ) -> Accepted:
        project, name = member.value.project, member.value.name
        return await self.parts.sagas.accept(
            saga,
            args,
            project=project,
            resources=names.resources(project, name),
            locks=locks(project, name, *more),
            waited=waited,
        )


def _path(path_type: str, member: Member) -> str:
    noun = path_type if path_type in TYPE_OF_PATH else "instances"
    return in_project(f"/1.0/{noun}/{member.value.name}", member.value.project)


async def _whole(
    frames: AsyncIterator[instance_pb2.CreateInstanceFrame],
) -> tuple[instance_pb2.CreateInstanceRequest, bytes]:
    """The request and its body. A JSON body is small; a backup is refused before it is read."""
    head: instance_pb2.CreateInstanceRequest | None = None
    body = bytearray()
    async for frame in frames:
        if head is None:
            head = frame.request
            body += head.body
            if head.content_type.startswith("application/octet-stream"):
                break
        else:
            body += frame.data
        if len(body) > LARGEST_BODY:
            raise TooLarge(f"The body is larger than {LARGEST_BODY} bytes")
    if head is None:
        raise BadRequest("EOF")
    return head, bytes(body)
