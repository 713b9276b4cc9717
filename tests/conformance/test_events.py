"""Events over the websocket of /1.0/events."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.conformance.client import Client
from tests.conformance.world import World

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.mark.extension("event_lifecycle")
@pytest.mark.extension("event_project")
@pytest.mark.extension("event_location")
def test_a_lifecycle_event_tells_what_happened_to_what_when_and_where(world: World) -> None:
    with world.api.events() as events:
        name = world.profile()
        event = events.wait_for(action="profile-created", source=name)
    assert (event["type"], event["project"], event["location"]) == ("lifecycle", "default", "none")
    assert TIME.fullmatch(event["timestamp"])
    assert event["metadata"]["source"] == f"/1.0/profiles/{name}"


@pytest.mark.extension("event_lifecycle_requestor_address")
def test_an_event_tells_who_asked(world: World) -> None:
    with world.api.events() as events:
        name = world.profile()
        event = events.wait_for(action="profile-created", source=name)
    assert event["metadata"]["requestor"] == {"username": "root", "protocol": "unix", "address": "@"}


def test_a_listener_sees_only_the_types_it_asked_for(world: World) -> None:
    with world.api.events("operation") as operations, world.api.events("lifecycle") as changes:
        name = world.instance()
        changes.wait_for(action="instance-created", source=name)
        operations.wait_for(description="Creating instance", status="Success")
    assert {event["type"] for event in operations.seen} == {"operation"}
    assert {event["type"] for event in changes.seen} == {"lifecycle"}


def test_a_listener_that_asks_for_no_type_sees_operations_and_lifecycle(world: World) -> None:
    with world.api.events_of_any_type() as events:
        name = world.instance()
        events.wait_for(action="instance-created", source=name)
        events.wait_for(description="Creating instance", status="Success")


def test_all_listeners_see_the_same_events_in_the_same_order(world: World) -> None:
    with world.api.events() as one, world.api.events() as two:
        names = [world.profile() for _ in range(20)]
        for listener in (one, two):
            listener.wait_for(action="profile-created", source=names[-1])
    for listener in (one, two):
        created = [e["metadata"]["source"] for e in listener.matching(action="profile-created")]
        assert [source for source in created if source.rsplit("/", 1)[1] in names] == [
            f"/1.0/profiles/{name}" for name in names
        ]


@pytest.mark.extension("event_project")
def test_a_listener_of_all_projects_sees_the_default_one(world: World) -> None:
    with world.api.events(query="&all-projects=true") as events:
        name = world.profile()
        assert events.wait_for(action="profile-created", source=name)["project"] == "default"


@pytest.mark.extension("event_lifecycle")
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("?type=bogus", '\\"bogus\\" isn\'t a supported event type'),
        ("?all-projects=true&project=default", "Cannot specify a project when requesting all projects"),
    ],
)
def test_a_listener_that_asks_for_nonsense_is_refused(api: Client, query: str, text: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        api.websocket(f"/1.0/events{query}").close()
    assert refused.value.response.status_code in (400, 500)
    assert text.encode() in (refused.value.response.body or b"")


def test_events_without_an_upgrade_are_refused(api: Client) -> None:
    assert api.request("GET", "/1.0/events").status == 400


@pytest.mark.extension("event_location")
def test_log_lines_are_events_too(world: World, tmp_path: Path) -> None:
    """What a server logs of a start that fails."""
    source = tmp_path / "source"
    source.mkdir()
    name = world.instance(devices={"d": {"type": "disk", "source": str(source), "path": "/mnt"}})
    source.rmdir()
    with world.api.events("logging") as lines, world.api.events("lifecycle,operation") as others:
        refusal = world.api.refusal("PUT", f"/1.0/instances/{name}/state", {"action": "start"})
        line = lines.wait_for()
        others.wait_for(description="Starting instance", status="Failure")
    assert refusal.status == 400
    assert {event["type"] for event in lines.seen} == {"logging"}
    assert "logging" not in {event["type"] for event in others.seen}
    assert line["location"] == "none"
    assert TIME.fullmatch(line["timestamp"])
    assert line["metadata"]["message"]
    assert line["metadata"]["level"] in ("debug", "info", "warning", "error")
    assert isinstance(line["metadata"]["context"], dict)
