"""Role-based access control: an RBAC service (a double) says what users may do in which project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests import identity, roles
from tests.conformance.client import Client, eventually
from tests.conformance.servers import Server
from tests.conformance.tls import free_port, open_at

KEYS = (
    "rbac.agent.private_key", "rbac.agent.public_key", "rbac.agent.url", "rbac.agent.username", "rbac.api.expiry", "rbac.api.key",
    "rbac.api.url", "rbac.expiry", "candid.api.url", "core.https_address",
)  # fmt: skip
OWN = {"features.images": "true", "features.profiles": "true", "features.storage.volumes": "true"}
PROJECTS = ("roles-a", "roles-b")
PROFILE = "roles-profile"


@pytest.fixture
def service() -> Iterator[roles.RoleService]:
    with roles.RoleService() as running:
        running.user = "jane@good"
        yield running


@pytest.fixture
def projects(api: Client) -> Iterator[tuple[str, ...]]:
    for name in PROJECTS:
        api.post("/1.0/projects", {"name": name, "config": OWN})
    yield PROJECTS
    for name in PROJECTS:
        api.request("DELETE", f"/1.0/profiles/{PROFILE}?project={name}")
        assert api.request("DELETE", f"/1.0/projects/{name}").status == 200


@pytest.fixture
def unset(api: Client) -> Iterator[None]:
    yield
    api.patch("/1.0", {"config": dict.fromkeys(KEYS, "")})


@pytest.fixture
def base(
    server: Server,
    api: Client,
    projects: tuple[str, ...],
    service: roles.RoleService,
    unset: None,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """URL of the server, which asks the double what clients may do, and has told it of its projects."""
    port = free_port()
    api.patch("/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}", **service.keys}})
    eventually(lambda: open_at(port))
    eventually(lambda: {"default", *projects} <= set(service.projects.values()))
    # The library's second request forgets `verify`, so the server's certificate is an authority of the environment.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.directory / "server.crt"))
    return f"https://127.0.0.1:{port}"


class User:
    """Asks as whoever is logged in at the double."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.client: Any = identity.client()

    def ask(self, verb: str, path: str, body: Any = None) -> requests.Response:
        answer: requests.Response = self.client.request(verb, f"{self.base}{path}", json=body, timeout=30)
        return answer

    def status(self, verb: str, path: str, body: Any = None) -> int:
        return self.ask(verb, path, body).status_code


@pytest.mark.extension("rbac")
def test_a_user_sees_and_does_what_the_service_says(base: str, api: Client, service: roles.RoleService) -> None:
    service.permit("jane@good", {"roles-a": roles.AUDITOR})
    user = User(base)
    eventually(lambda: user.status("GET", "/1.0/profiles?project=roles-a") == 200)
    assert service.logins >= 1
    assert user.ask("GET", "/1.0/projects").json()["metadata"] == ["/1.0/projects/roles-a"]
    for path in ("/1.0/profiles", "/1.0/profiles?project=roles-b", "/1.0/projects/roles-b"):
        assert user.status("GET", path) == 403, path
    made = {"name": PROFILE}
    assert user.status("POST", "/1.0/profiles?project=roles-a", made) == 403
    assert user.status("POST", "/1.0/instances?project=roles-a", {"name": "c1", "source": {"type": "none"}}) == 403
    assert user.status("POST", "/1.0/projects", {"name": "roles-c"}) == 403
    assert user.status("PATCH", "/1.0/projects/roles-a", {"description": "mine"}) == 403
    assert user.ask("GET", "/1.0").json()["metadata"]["auth"] == "trusted"
    assert user.status("PATCH", "/1.0", {"config": {"user.x": "1"}}) == 403
    # A change that the service tells of holds from then on.
    service.permit("jane@good", {"roles-a": ("view", "manage-profiles")})
    eventually(lambda: user.status("POST", "/1.0/profiles?project=roles-a", made) in (201, 409))
    assert api.get(f"/1.0/profiles/{PROFILE}?project=roles-a")["name"] == PROFILE
    assert user.status("PATCH", "/1.0/projects/roles-a", {"description": "mine"}) == 403
    service.permit("jane@good", {"roles-a": roles.ADMIN})
    eventually(lambda: user.status("PATCH", "/1.0/projects/roles-a", {"description": "mine"}) == 200)
    assert user.status("POST", "/1.0/projects", {"name": "roles-c"}) == 403
    service.permit("jane@good", {"": ("admin",)})
    eventually(lambda: user.status("GET", "/1.0/profiles") == 200)
    assert {"/1.0/projects/default", "/1.0/projects/roles-b"} <= set(
        user.ask("GET", "/1.0/projects").json()["metadata"]
    )
    service.permit("jane@good", {})
    eventually(lambda: user.status("GET", f"/1.0/profiles/{PROFILE}?project=roles-a") == 403)


@pytest.mark.extension("rbac")
def test_the_service_is_told_of_projects(base: str, api: Client, service: roles.RoleService) -> None:
    assert "candid" in api.get("/1.0")["auth_methods"]
    try:
        api.post("/1.0/projects", {"name": "roles-new"})
        eventually(lambda: "roles-new" in service.projects.values())
    finally:
        api.request("DELETE", "/1.0/projects/roles-new")
    eventually(lambda: "roles-new" not in service.projects.values())


@pytest.mark.extension("rbac")
def test_what_is_refused(api: Client, service: roles.RoleService, unset: None) -> None:
    mixed = api.request("PATCH", "/1.0", {"config": {"rbac.api.url": service.url, "candid.api.url": service.url}})
    assert mixed.status == 400
    assert "mutually exclusive" in mixed.error
    assert api.request("PATCH", "/1.0", {"config": {"rbac.api.expiry": "soon"}}).status == 400
    assert api.request("PATCH", "/1.0", {"config": {**service.keys, "rbac.agent.private_key": "%no%"}}).status == 500
    shown = {name: text for name, text in service.keys.items() if name.startswith("rbac.agent.private")}
    api.patch("/1.0", {"config": dict.fromkeys(KEYS, "")})
    api.patch("/1.0", {"config": {**shown, "rbac.agent.url": service.url}})  # alone it does nothing
    config = api.get("/1.0")["config"]
    assert {name: config.get(name) for name in shown} == shown
    assert api.get("/1.0")["auth_methods"] == ["tls"]
