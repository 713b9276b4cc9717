"""Trust over HTTPS: certificates by an administrator, by password, by token; restricted clients; renewal."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client import Client, eventually
from tests.conformance.tls import Identity, Remote, free_port
from tests.conformance.world import World, unique

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def port(api: Client) -> Iterator[int]:
    """The server listens on HTTPS for the tests of this module."""
    number = free_port()
    api.patch("/1.0", {"config": {"core.https_address": f"127.0.0.1:{number}", "core.trust_password": PASSWORD}})
    eventually(lambda: _answers(number))
    yield number
    api.patch("/1.0", {"config": {"core.https_address": "", "core.trust_password": ""}})


def _answers(port: int) -> bool:
    try:
        return Remote(port).request("GET", "/1.0").status == 200
    except OSError:
        return False


@pytest.fixture
def identity(tmp_path: Path, api: Client) -> Iterator[Identity]:
    """A client's key pair; its entry is removed afterwards."""
    made = Identity.make(tmp_path, unique("client"))
    yield made
    api.request("DELETE", f"/1.0/certificates/{made.fingerprint}")


def trust(api: Client, identity: Identity, **fields: Any) -> str:
    """Adds the certificate as an administrator; the path of its entry."""
    api.post("/1.0/certificates", {"type": "client", "certificate": identity.base64, **fields})
    return f"/1.0/certificates/{identity.fingerprint}"


def project(world: World, **config: str) -> str:
    name = unique("pr")
    world.finally_do(partial(world.gone, f"/1.0/projects/{name}"))
    world.api.post("/1.0/projects", {"name": name, "config": {key.replace("__", "."): v for key, v in config.items()}})
    return name


def test_a_stranger_sees_what_a_guest_may_and_nothing_else(port: int, identity: Identity) -> None:
    for remote in (Remote(port), Remote(port, identity)):
        found = remote.get("/1.0")
        assert found["auth"] == "untrusted"
        assert "environment" not in found
        assert "config" not in found
        for path in ("/1.0/certificates", "/1.0/instances", "/1.0/projects", "/1.0/operations", "/1.0/resources"):
            answer = remote.request("GET", path)
            assert (answer.status, answer.error) == (403, "not authorized"), path


@pytest.mark.extension("certificate_update")
def test_an_entry_is_patched_and_put_but_keeps_its_type(api: Client, identity: Identity) -> None:
    path = trust(api, identity, name="old")
    stale = api.etag(path)
    api.patch(path, {"name": "new"})
    found = api.get(path)
    assert (found["name"], found["type"], found["restricted"]) == ("new", "client", False)
    answer = api.request("PUT", path, {"name": "x", "type": "client"}, {"If-Match": stale})
    assert answer.status == 412
    answer = api.request("PATCH", path, {"type": "server"})
    assert (answer.status, answer.error) == (403, "The certificate type cannot be changed")
    assert api.request("PATCH", f"/1.0/certificates/{'0' * 64}", {"name": "x"}).status == 404
    assert api.get(path)["name"] == "new"


def test_the_password_admits_and_a_wrong_one_does_not(api: Client, port: int, identity: Identity) -> None:
    remote = Remote(port, identity)
    for password in ("", "wrong"):
        answer = remote.request("POST", "/1.0/certificates", {"type": "client", "password": password})
        assert (answer.status, answer.error) == (403, "not authorized")
    assert remote.request("POST", "/1.0/certificates", {"type": "client", "password": PASSWORD}).status == 201
    assert remote.get("/1.0")["auth"] == "trusted"
    assert remote.get("/1.0/projects")
    api.delete(f"/1.0/certificates/{identity.fingerprint}")
    assert remote.get("/1.0")["auth"] == "untrusted"


@pytest.mark.extension("certificate_token")
def test_a_token_admits_once_on_its_own_terms(api: Client, port: int, identity: Identity, tmp_path: Path) -> None:
    name = unique("tok")
    wanted = {"type": "client", "token": True, "name": name, "restricted": True, "projects": ["default"]}
    answer = api.request("POST", "/1.0/certificates", wanted)
    assert answer.status == 202
    assert answer.metadata["class"] == "token"
    issued = answer.metadata["metadata"]
    assert issued["addresses"] == [f"127.0.0.1:{port}"]
    assert issued["fingerprint"] == api.get("/1.0")["environment"]["certificate_fingerprint"]
    fields = {key: issued[key] for key in ("secret", "fingerprint", "addresses")}
    token = base64.b64encode(
        json.dumps({"client_name": name, "expires_at": "0001-01-01T00:00:00Z", **fields}).encode()
    ).decode()

    asked = {"type": "client", "password": token, "restricted": False, "name": "another"}
    assert Remote(port, identity).request("POST", "/1.0/certificates", asked).status == 201
    entry = api.get(f"/1.0/certificates/{identity.fingerprint}")
    assert (entry["name"], entry["restricted"], entry["projects"]) == (name, True, ["default"])
    assert api.get(answer.operation)["status"] == "Cancelled"

    second = Identity.make(tmp_path, unique("second"))
    refused = Remote(port, second).request("POST", "/1.0/certificates", asked)
    assert (refused.status, refused.error) == (403, "No matching certificate add operation found")


@pytest.mark.extension("certificate_project")
def test_a_restricted_client_stays_within_its_projects(world: World, port: int, identity: Identity) -> None:
    own = project(world)
    path = trust(world.api, identity, restricted=True, projects=[own])
    remote = Remote(port, identity)
    assert remote.request("GET", f"/1.0/instances?project={own}").status == 200
    assert remote.get("/1.0/projects") == [f"/1.0/projects/{own}"]
    for verb, where, body in (
        ("GET", "/1.0/instances", None),
        ("GET", "/1.0/instances?project=default", None),
        ("GET", "/1.0/projects/default", None),
        ("GET", "/1.0/warnings", None),
        ("PATCH", "/1.0", {"config": {"user.x": "1"}}),
        ("POST", "/1.0/projects", {"name": "another"}),
        ("DELETE", f"/1.0/projects/{own}", None),
        ("POST", "/1.0/certificates", {"type": "client", "certificate": "eA=="}),
    ):
        answer = remote.request(verb, where, body)
        assert (answer.status, answer.error) == (403, "not authorized"), f"{verb} {where}: {answer.body!r}"
    for where in ("/1.0/resources", f"/1.0/storage-pools?project={own}"):
        assert remote.request("GET", where).status == 200
    for widened in ({"restricted": False}, {"projects": [own, "default"]}):
        answer = remote.request("PATCH", path, widened)
        assert (answer.status, answer.error) == (403, "Only the certificate can be changed")
    assert world.api.request("PATCH", path, {"projects": ["nosuchproject"]}).status == 404


@pytest.mark.extension("certificate_self_renewal")
def test_a_restricted_client_renews_its_own_certificate(
    api: Client, port: int, identity: Identity, tmp_path: Path
) -> None:
    path = trust(api, identity, restricted=True, projects=["default"], name="renewing")
    entry = {key: api.get(path)[key] for key in ("name", "type", "restricted", "projects")}
    fresh = Identity.make(tmp_path, unique("fresh"))
    remote = Remote(port, identity)
    answer = remote.request("PUT", path, {**entry, "restricted": False, "certificate": fresh.pem})
    assert (answer.status, answer.error) == (403, "Only the certificate can be changed")
    assert remote.request("PUT", path, {**entry, "certificate": fresh.pem}).status == 200
    try:
        assert Remote(port, fresh).get("/1.0")["auth"] == "trusted"
        assert remote.request("GET", "/1.0/instances").status == 403
        found = api.get(f"/1.0/certificates/{fresh.fingerprint}")
        assert {key: found[key] for key in entry} == entry
    finally:
        api.request("DELETE", f"/1.0/certificates/{fresh.fingerprint}")


@pytest.mark.extension("event_lifecycle_requestor_address")
def test_events_say_from_where_it_was_asked(world: World, port: int, identity: Identity) -> None:
    trust(world.api, identity)
    with world.api.events() as events:
        near, far = world.profile(), unique("p")
        world.finally_do(partial(world.gone, f"/1.0/profiles/{far}"))
        assert Remote(port, identity).request("POST", "/1.0/profiles", {"name": far}).status == 201
        local = events.wait_for(action="profile-created", source=near)["metadata"]["requestor"]
        remote = events.wait_for(action="profile-created", source=far)["metadata"]["requestor"]
    assert local == {"username": "root", "protocol": "unix", "address": "@"}
    assert (remote["username"], remote["protocol"]) == (identity.fingerprint, "tls")
    assert remote["address"].startswith("127.0.0.1:")


@pytest.mark.differs("5.0.2 stores the address that it has just refused")
def test_an_address_that_is_taken_is_refused_and_the_old_one_stays(api: Client, port: int) -> None:
    refusal = api.refusal("PATCH", "/1.0", {"config": {"core.https_address": "192.0.2.1:1"}})
    assert refusal.text.startswith('Cannot listen on network HTTPS socket "192.0.2.1:1"')
    assert _answers(port)
    assert api.get("/1.0")["config"]["core.https_address"] == f"127.0.0.1:{port}"


def test_a_port_that_only_root_may_take_is_listened_on(api: Client, port: int) -> None:
    low = free_port(range(1000, 1024))
    api.patch("/1.0", {"config": {"core.https_address": f"127.0.0.1:{low}"}})
    try:
        eventually(lambda: _answers(low))
    finally:
        api.patch("/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
    eventually(lambda: _answers(port))
