"""REST face of an instance's state: reading it, starting, stopping, restarting, freezing; and all instances of a project at once."""

from __future__ import annotations

from chassis import documents
from chassis.calls import Call
from gen.nubibus.instances.v1 import instance_pb2
from gen.nubibus.rest.v1 import rest_pb2
from services.instances import names
from services.instances.actions import accept, action_of
from services.instances.body import BulkBody, StateBody, read
from services.instances.parts import Parts
from services.instances.projects import DEFAULT
from services.instances.sagas import bulk
from services.instances.servicer_instances import TYPE_OF_PATH, answer_of, found
from services.instances.states import States


class StateMethods:
    """The methods of Instances about state."""

    parts: Parts
    states: States

    async def GetState(self, request: instance_pb2.InstanceRequest, call: Call) -> rest_pb2.Document:
        member = found(self.parts, request)
        return documents.document(await self.states.one(member), revision=member.row.revision)

    async def PutState(self, request: instance_pb2.PutInstanceRequest, call: Call) -> rest_pb2.Answer:
        body: StateBody = read(request.body, StateBody)
        member = found(self.parts, request)
        return answer_of(await accept(self.parts, member, body))

    async def Bulk(self, request: instance_pb2.BulkStateRequest, call: Call) -> rest_pb2.Answer:
        body: BulkBody = read(request.body, BulkBody)
        state = body.state or StateBody()
        action = action_of(state)
        project = request.project or DEFAULT
        wanted = TYPE_OF_PATH.get(request.path_type)
        members = [
            member
            for member in self.parts.roster.select(project)
            if (not wanted or member.value.type == wanted) and bulk.concerns(self.parts, member, state.action)
        ]
        args = bulk.arguments([member.value.name for member in members], state)
        resources = {"instances": [names.instance_url(project, member.value.name) for member in members]}
        return answer_of(
            await self.parts.sagas.accept(
                bulk.SAGA, args, project=project, resources=resources, description=action.saga.description
            )
        )
