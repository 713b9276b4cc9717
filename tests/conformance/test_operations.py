"""Operations: what runs in the background, and waiting for it."""

from __future__ import annotations

import re
import time

import pytest

from tests.conformance.client import Client
from tests.conformance.process import execution
from tests.conformance.world import World, unique

COLLECTION = "/1.0/operations"
UNKNOWN = f"{COLLECTION}/8a42a07a-5149-428e-b55f-8b5aa446115c"


def test_an_accepted_change_is_an_operation_that_can_be_followed(world: World) -> None:
    name = unique("c")
    world.finally_do(lambda: world.remove_instance(name))

    answer = world.api.request("POST", "/1.0/instances", world.body(name))

    assert answer.status == 202
    assert (answer.json["type"], answer.json["status"], answer.json["status_code"]) == (
        "async",
        "Operation created",
        100,
    )
    assert answer.headers["location"] == answer.operation
    operation = answer.metadata
    assert answer.operation == f"{COLLECTION}/{operation['id']}"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", operation["id"])
    assert (operation["class"], operation["description"]) == ("task", "Creating instance")
    assert operation["resources"] == {
        "instances": [f"/1.0/instances/{name}"],
        "containers": [f"/1.0/containers/{name}"],
    }
    assert (operation["may_cancel"], operation["err"], operation["location"]) == (False, "", "none")
    ended = world.api.finished(answer.operation)
    assert (ended["id"], ended["status"], ended["status_code"]) == (operation["id"], "Success", 200)
    assert world.api.get(answer.operation)["status"] == "Success"


@pytest.mark.extension("operation_description")
def test_a_running_operation_is_listed_with_its_description(api: Client, box: str) -> None:
    with execution(api, box, ["sleep", "1000"]) as session:
        running = {entry["id"]: entry for entry in api.get(f"{COLLECTION}?recursion=1")["running"]}
        urls = api.get(COLLECTION)["running"]
        session.signal(15)
        session.finish()
    assert session.operation in urls
    entry = running[session.operation.rsplit("/", 1)[1]]
    assert (entry["description"], entry["class"]) == ("Executing command", "websocket")


@pytest.mark.extension("operation_description")
def test_every_operation_says_what_it_does(world: World) -> None:
    name, new = unique("c"), unique("r")
    world.finally_do(lambda: world.remove_instance(new))
    path = f"/1.0/instances/{name}"
    seen = [
        world.api.post("/1.0/instances", world.body(name))["description"],
        world.api.put(path, world.api.get(path))["description"],
        world.api.post(path, {"name": new})["description"],
        world.api.delete(f"/1.0/instances/{new}")["description"],
    ]
    assert seen == ["Creating instance", "Updating instance", "Renaming instance", "Deleting instance"]


def test_waiting_ends_with_the_timeout_while_an_operation_runs(api: Client, box: str) -> None:
    with execution(api, box, ["sleep", "1000"]) as session:
        begin = time.monotonic()
        for seconds in (0, 1):
            assert api.get(f"{session.operation}/wait?timeout={seconds}")["status"] == "Running"
        assert 0.9 < time.monotonic() - begin < 30
        session.signal(15)
        session.finish()


def test_waiting_without_a_timeout_ends_with_the_operation(world: World) -> None:
    name = unique("c")
    world.finally_do(lambda: world.remove_instance(name))
    answer = world.api.request("POST", "/1.0/instances", world.body(name))
    assert world.api.get(f"{answer.operation}/wait")["status"] == "Success"


def test_a_failed_operation_tells_why(world: World) -> None:
    answer = world.api.request("POST", "/1.0/instances", world.body(unique("c"), config={"bogus": "1"}))
    ended = world.api.finished(answer.operation)
    assert (ended["status"], ended["status_code"]) == ("Failure", 400)
    assert ended["err"].endswith("Unknown configuration key: bogus")


def test_a_wait_that_gives_no_number_is_refused(api: Client, box: str) -> None:
    with execution(api, box, ["sleep", "1000"]) as session:
        refusal = api.refusal("GET", f"{session.operation}/wait?timeout=abc")
        session.signal(15)
        session.finish()
    assert refusal.status in (400, 500)


@pytest.mark.parametrize(("verb", "suffix"), [("GET", ""), ("GET", "/wait"), ("DELETE", "")])
def test_an_operation_that_is_unknown_is_not_found(api: Client, verb: str, suffix: str) -> None:
    refusal = api.refusal(verb, UNKNOWN + suffix)
    assert (refusal.status, refusal.text) == (404, "Operation not found")


def test_the_events_of_an_operation_tell_its_whole_course(world: World) -> None:
    name = world.instance()
    with world.api.events("operation") as events:
        operation = world.state(name, "start")
        events.wait_for(id=operation["id"], status="Success")
    course = [event["metadata"]["status"] for event in events.matching(id=operation["id"])]
    assert course[0] in ("Pending", "Running")
    assert "Running" in course
    assert course.count("Success") == 1


def test_two_changes_of_one_instance_do_not_mix(world: World) -> None:
    """Starting twice at once: one start succeeds, the other is refused or finds it running."""
    name = world.instance()
    body = {"action": "start", "timeout": 30}
    answers = [world.api.request("PUT", f"/1.0/instances/{name}/state", body) for _ in range(2)]
    ends = [world.api.finished(answer.operation)["status"] for answer in answers if answer.status == 202]
    assert ends.count("Success") >= 1
    assert world.api.get(f"/1.0/instances/{name}")["status"] == "Running"


@pytest.mark.differs("it does not tell what the steps of an operation took")
def test_an_operation_tells_its_steps_when_asked(world: World) -> None:
    name = world.instance()
    answer = world.api.request("PUT", f"/1.0/instances/{name}/state", {"action": "start"})
    world.api.wait(answer)
    steps = world.api.get(f"{answer.operation}?steps=true")["steps"]
    assert "container" in [step["name"] for step in steps]
    assert all(step["milliseconds"] >= 0 for step in steps)
    assert "steps" not in world.api.get(answer.operation)
