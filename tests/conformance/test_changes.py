"""What holds for every change: it can be asked about without being made, and made once though it is asked for again."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client import Client
from tests.conformance.lives import LIVES, Life, Step, Values
from tests.conformance.servers import Server
from tests.conformance.tls import Identity, Remote
from tests.conformance.world import World, unique

KEY = "Idempotency-Key"
pytestmark = pytest.mark.usefixtures("_an_addition")


@pytest.fixture(scope="module")
def _an_addition(server: Server) -> None:
    if server.is_lxd:
        pytest.skip("LXD knows neither validate-only nor Idempotency-Key")


def sight(api: Client, step: Step, values: Values) -> tuple[int, Any]:
    """What a client can see of what the step changes; of the server its configuration, for the rest of it lives."""
    path = step.sight(values)
    answer = api.request("GET", path)
    return answer.status, answer.metadata["config"] if path == "/1.0" else answer.body


NOT_LIVED = {
    "DELETE /1.0/instances/{name}/logs/{file}": "its name is drawn by the server",
    "POST /1.0/images/{fingerprint}/refresh": "wants an image that came from another server",
    **{f"{verb} /1.0/warnings/{{name}}": "wants something to be wrong" for verb in ("PUT", "PATCH", "DELETE")},
    "DELETE /1.0/operations/{id}": "wants one that runs: see below",
}
ALIASES = ("/1.0/containers", "/1.0/virtual-machines")


def test_every_method_that_changes_something_is_tried(api: Client) -> None:
    lived = {f"{step.verb} {step.path.replace('{renamed}', '{name}')}" for life in LIVES for step in life.steps}
    paths = api.request("GET", "/1.0/openapi.json").json["paths"]
    there = {
        f"{verb.upper()} {path}"
        for path, verbs in paths.items()
        for verb in verbs
        if verb in ("post", "put", "patch", "delete") and not path.startswith(ALIASES)
    }
    assert there - lived == set(NOT_LIVED)
    assert lived <= there


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
def test_a_change_is_asked_about_then_made_once(world: World, life: Life) -> None:
    values = life.setup(world)
    for step in life.steps:
        what = f"{step.verb} {step.url(values)}"
        before = sight(world.api, step, values)
        url, body = step.url(values), step.sent(values)
        told = world.api.request(step.verb, f"{url}{'&' if '?' in url else '?'}validate-only=true", body)
        assert (told.status, told.json["metadata"]) == (200, {"valid": True}), f"{what}: {told.body[:300]!r}"
        assert sight(world.api, step, values) == before, what

        key = {KEY: str(uuid.uuid4())}
        first = world.api.request(step.verb, url, body, key)
        assert first.status in (200, 201, 202), f"{what}: {first.body[:300]!r}"
        if first.status == 202 and first.json["metadata"]["class"] == "task":
            world.api.wait(first)
        again = world.api.request(step.verb, url, body, key)
        for name in ("content-type", "location", "etag"):
            assert again.headers.get(name) == first.headers.get(name), what
        assert (again.status, again.body) == (first.status, first.body), what


def test_a_refusal_is_the_same_when_only_asked_about(world: World) -> None:
    api, name = world.api, world.profile()
    instance = world.instance()
    for verb, path, body in (
        ("POST", "/1.0/profiles", {"name": name}),
        ("POST", "/1.0/profiles", {"name": unique("p"), "config": {"limits.cpu": "many"}}),
        ("DELETE", "/1.0/profiles/default", None),
        ("DELETE", f"/1.0/storage-pools/{world.ground.pool}", None),
        ("POST", "/1.0/networks", {"name": unique("nb"), "config": {"bridge.mtu": "wide"}}),
        ("PATCH", "/1.0", {"config": {"core.https_address": "nowhere:at:all"}}),
        ("PUT", "/1.0/profiles/default?project=nowhere", {}),
        ("DELETE", f"/1.0/instances/{instance}/files?path=/none", None),
    ):
        asked = api.request(verb, f"{path}{'&' if '?' in path else '?'}validate-only=true", body)
        made = api.request(verb, path, body)
        assert made.status >= 400, path
        assert (asked.status, asked.error) == (made.status, made.error), path


def test_what_an_operation_would_refuse_is_refused_at_once_when_only_asked_about(world: World) -> None:
    api, name = world.api, world.instance()
    path = f"/1.0/instances/{name}"
    stop, shown = {"action": "stop"}, api.get(path)
    assert api.refusal("PUT", f"{path}/state", stop).status == 400
    asked = api.request("PUT", f"{path}/state?validate-only=true", stop)
    assert (asked.status, asked.error) == (400, "The instance is already stopped")
    wrong = {**shown, "config": {**shown["config"], "limits.cpu": "many"}}
    assert api.request("PUT", f"{path}?validate-only=true", wrong).status in (400, 500)
    body = world.body(unique("c"), config={"limits.cpu": "many"})
    assert api.request("POST", "/1.0/instances?validate-only=true", body).status in (400, 500)
    assert api.get(path) == shown


def test_a_repetition_does_not_undo_what_came_later(world: World) -> None:
    path, key = f"/1.0/profiles/{world.profile({'user.a': '0'})}", {KEY: str(uuid.uuid4())}
    first = {"config": {"user.a": "1"}}
    assert world.api.request("PATCH", path, first, key).status == 200
    world.api.patch(path, {"config": {"user.a": "2"}})
    assert world.api.request("PATCH", path, first, key).status == 200
    assert world.api.get(path)["config"]["user.a"] == "2"


def test_a_change_that_had_nothing_to_do_counts_as_done(world: World) -> None:
    network, key = world.bridge().name, {KEY: str(uuid.uuid4())}
    path = f"/1.0/networks/{network}"
    same = {"description": world.api.get(path)["description"]}
    assert world.api.request("PATCH", path, same, key).status == 200
    world.api.patch(path, {"description": "later"})
    assert world.api.request("PATCH", path, same, key).status == 200
    assert world.api.get(path)["description"] == "later"


def test_a_refused_request_is_tried_again(world: World) -> None:
    name, key = unique("p"), {KEY: str(uuid.uuid4())}
    path = f"/1.0/profiles/{name}"
    assert world.api.request("PATCH", path, {"description": "x"}, key).status == 404
    world.profile(name=name)
    assert world.api.request("PATCH", path, {"description": "x"}, key).status == 200
    assert world.api.get(path)["description"] == "x"


def test_a_key_belongs_to_one_request(world: World, https_port: int, tmp_path: Path) -> None:
    api, name, key = world.api, world.profile(), {KEY: str(uuid.uuid4())}
    path, body = f"/1.0/profiles/{name}", {"description": "x"}
    assert api.request("PATCH", path, body, key).status == 200
    for verb, other_path, other_body in (
        ("PUT", path, body),
        ("PATCH", f"/1.0/profiles/{world.profile()}", body),
        ("PATCH", f"{path}?project=default", body),
        ("PATCH", path, {"description": "y"}),
    ):
        told = api.request(verb, other_path, other_body, key)
        assert (told.status, told.error) == (422, "This Idempotency-Key was used for another request")
    assert api.get(path)["description"] == "x"
    who = Identity.make(tmp_path, unique("client"))
    api.post("/1.0/certificates", {"type": "client", "certificate": who.base64})
    world.finally_do(lambda: api.request("DELETE", f"/1.0/certificates/{who.fingerprint}"))
    assert Remote(https_port, who).request("PATCH", path, body, key).status == 422


@pytest.mark.parametrize("key", [" ", "k" * 256, "caf\u00e9"])
def test_a_key_that_is_none(api: Client, key: str) -> None:
    told = api.request("PATCH", "/1.0/profiles/default", {}, {KEY: key.encode().decode("latin-1")})
    assert (told.status, told.error[:15]) == (400, "Idempotency-Key")


def test_appending_to_a_file_takes_no_key(world: World, still: str) -> None:
    headers = {KEY: str(uuid.uuid4()), "X-LXD-write": "append"}
    told = world.api.request("POST", f"/1.0/instances/{still}/files?path=/root/{unique('f')}", b"x", headers)
    assert told.status == 400
