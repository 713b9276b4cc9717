"""What may be done to the state of an instance: a table from LXD's actions to the sagas that do them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chassis.errors import BadRequest, NotImplementedHere
from chassis.operations import Accepted, Operation
from chassis.saga import Saga
from services.instances import names
from services.instances.body import StateBody
from services.instances.parts import Parts
from services.instances.roster import Member
from services.instances.sagas import freeze, hurry, restart, start, stop
from services.instances.sagas.subject import locks

IN_A_HURRY = (stop.SAGA.name, restart.SAGA.name)


@dataclass(frozen=True)
class Action:
    """One action: its saga, the arguments for an instance, and what an operation that does it to many is called."""

    saga: Saga
    arguments: Callable[[Member, StateBody], dict[str, Any]]


def _named(member: Member, _body: StateBody) -> dict[str, Any]:
    return {"name": member.value.name}


ACTIONS: dict[str, Action] = {
    "start": Action(start.SAGA, lambda member, body: start.arguments(member)),
    "stop": Action(
        stop.SAGA, lambda member, body: stop.arguments(member.value.name, force=body.force, timeout=body.timeout)
    ),
    "restart": Action(
        restart.SAGA, lambda member, body: restart.arguments(member, force=body.force, timeout=body.timeout)
    ),
    "freeze": Action(freeze.FREEZE, _named),
    "unfreeze": Action(freeze.UNFREEZE, _named),
}


def action_of(body: StateBody) -> Action:
    """Raises BadRequest in LXD's words."""
    action = ACTIONS.get(body.action)
    if action is None:
        raise BadRequest(f"Unknown action: '{body.action}'")
    if body.stateful and body.action in ("start", "stop"):
        raise NotImplementedHere("Stateful stop and start are not supported by this server yet")
    return action


async def accept(parts: Parts, member: Member, body: StateBody, key: str = "") -> Accepted:
    """Accept the action for one instance. A forced stop overtakes a clean one that is under way."""
    action = action_of(body)
    project, name = member.value.project, member.value.name
    resources = {"instances": [names.instance_url(project, name)]}
    under_way = _under_way(parts, member)
    if body.action == "stop" and body.force and under_way is not None and under_way.saga in IN_A_HURRY:
        args = {"name": name, "waits_for": under_way.id}
        return await parts.sagas.accept(hurry.SAGA, args, project=project, resources=resources, key=key)
    args = action.arguments(member, body)
    return await parts.sagas.accept(
        action.saga, args, project=project, resources=resources, locks=locks(project, name), key=key
    )


def _under_way(parts: Parts, member: Member) -> Operation | None:
    return parts.sagas.operations.holder(locks(member.value.project, member.value.name)[0])
