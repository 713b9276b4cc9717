"""Warnings: counted, acknowledged, resolved, forgotten."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from chassis import errors
from chassis.store import Change
from gen.nubibus.control.v1 import control_pb2
from rows.control import WARNING
from services.control import shortcomings
from tests.unit.control.conftest import ADMIN, World, collected


def report(message: str = "m", **fields: str) -> control_pb2.WarningReport:
    return control_pb2.WarningReport(type="Disk full", message=message, **fields)


async def listed(world: World) -> list[dict[str, Any]]:
    return list(await collected(world.warnings.List(control_pb2.ListRequest(recursion=1), ADMIN)))


async def test_the_same_warning_counts_up_and_another_entity_is_another(world: World) -> None:
    await world.warnings.Report(report("a"), ADMIN)
    await world.warnings.Report(report("b"), ADMIN)
    await world.warnings.Report(report("b", entity_url="/1.0/instances/c1"), ADMIN)
    first, second = await listed(world)
    assert (first["count"], first["last_message"], first["status"], first["severity"]) == (2, "b", "new", "low")
    assert second["entity_url"] == "/1.0/instances/c1"
    urls = await collected(world.warnings.List(control_pb2.ListRequest(), ADMIN))
    assert urls == [f"/1.0/warnings/{one['uuid']}" for one in (first, second)]


async def test_a_project_has_its_own_warnings_alone(world: World) -> None:
    for project in ("", "default", "p1"):
        await world.warnings.Report(report(project=project), ADMIN)

    async def projects(**asked: str) -> list[str]:
        request = control_pb2.ListRequest(recursion=1, **asked)
        return [one["project"] for one in await collected(world.warnings.List(request, ADMIN))]

    assert sorted(await projects()) == ["", "default", "p1"]
    assert await projects(project="p1") == ["p1"]
    assert await projects(project="default") == ["default"]
    assert await projects(project="none of these") == []


async def test_a_repeated_report_is_no_heartbeat_in_the_log(world: World) -> None:
    await world.warnings.Report(report(), ADMIN)
    written = world.log.appends
    await world.warnings.Report(report(), ADMIN)
    assert world.log.appends == written


async def test_acknowledging_and_what_else_a_status_cannot_be(world: World) -> None:
    await world.warnings.Report(report(), ADMIN)
    (found,) = await listed(world)

    async def put(**body: str) -> None:
        request = control_pb2.PutRequest(name=found["uuid"], body=json.dumps(body).encode())
        await world.warnings.Put(request, ADMIN)

    await put(status="acknowledged")
    assert (await listed(world))[0]["status"] == "acknowledged"
    with pytest.raises(errors.Forbidden, match="Status may only be set"):
        await put(status="resolved")
    for status in ("", "x"):
        with pytest.raises(errors.BadRequest, match=f'^Invalid warning type "{status}"$'):
            await put(status=status)
    await put(status="new")
    assert [event["action"] for event in world.events()] == ["warning-acknowledged", "warning-reset"]


async def test_a_resolved_warning_comes_back_as_new_and_is_forgotten_after_a_day(world: World) -> None:
    await world.warnings.Resolve(report(), ADMIN)  # of nothing
    await world.warnings.Report(report(), ADMIN)
    await world.warnings.Resolve(report(), ADMIN)
    assert (await listed(world))[0]["status"] == "resolved"
    await world.warnings.Report(report("again"), ADMIN)
    assert (await listed(world))[0]["status"] == "new"
    await world.warnings.Resolve(report(), ADMIN)
    await world.warnings.forget_resolved()
    (row,) = world.warnings.rows.select()
    old = msgspec.structs.replace(row.value, updated_at=row.value.updated_at - timedelta(days=2))
    await world.store.commit(Change().put(WARNING, old, expect=row.revision))
    await world.warnings.forget_resolved()
    assert await listed(world) == []


async def test_deleting_and_not_finding(world: World) -> None:
    await world.warnings.Report(report(), ADMIN)
    name = (await listed(world))[0]["uuid"]
    await world.warnings.Delete(control_pb2.NameRequest(name=name), ADMIN)
    with pytest.raises(errors.NotFound, match="Warning not found"):
        await world.warnings.Get(control_pb2.NameRequest(name=name), ADMIN)


async def test_what_is_no_longer_missing_is_resolved(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = ["AppArmor support has been disabled", "Instance type not operational"]

    def find(*, member: str) -> list[control_pb2.WarningReport]:
        return [control_pb2.WarningReport(type=each, message="m", member=member) for each in lacking]

    monkeypatch.setattr(shortcomings, "find", find)
    await shortcomings.report(world.warnings, "none")
    await world.warnings.Report(report(), ADMIN)
    del lacking[0]
    await shortcomings.report(world.warnings, "none")
    statuses = {one["type"]: (one["status"], one["count"]) for one in await listed(world)}
    assert statuses == {
        "AppArmor support has been disabled": ("resolved", 1),
        "Instance type not operational": ("new", 2),
        "Disk full": ("new", 1),  # somebody else's
    }
