"""What a client that is restricted to one project cannot do: change what its project shares with others, or look over the fence."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client import Answer, Client, eventually
from tests.conformance.tls import Identity, Remote, free_port, open_at
from tests.conformance.world import World, unique


@pytest.fixture(scope="module")
def port(api: Client) -> Iterator[int]:
    number = free_port()
    api.patch("/1.0", {"config": {"core.https_address": f"127.0.0.1:{number}"}})
    eventually(lambda: open_at(number))
    yield number
    api.patch("/1.0", {"config": {"core.https_address": ""}})


@pytest.fixture
def identity(tmp_path: Path, api: Client) -> Iterator[Identity]:
    made = Identity.make(tmp_path, unique("client"))
    yield made
    api.request("DELETE", f"/1.0/certificates/{made.fingerprint}")


class Tenant:
    """A client with rights for one project."""

    def __init__(self, world: World, port: int, identity: Identity, **config: str) -> None:
        self.world = world
        self.project = unique("pr")
        world.finally_do(partial(world.gone, f"/1.0/projects/{self.project}"))
        world.api.post(
            "/1.0/projects", {"name": self.project, "config": {k.replace("__", "."): v for k, v in config.items()}}
        )
        certificate = {"type": "client", "certificate": identity.base64, "restricted": True, "projects": [self.project]}
        world.api.post("/1.0/certificates", certificate)
        self.remote = Remote(port, identity)

    def ask(self, verb: str, path: str, body: Any = None, **headers: str) -> Answer:
        mark = "&" if "?" in path else "?"
        return self.remote.request(verb, f"{path}{mark}project={self.project}", body, headers)


SHARING = {
    "features__images": "false",
    "features__networks": "false",
    "features__profiles": "false",
    "features__storage__volumes": "false",
}


@pytest.mark.differs("5.0.2 lets such a client change them all, and with raw.dnsmasq become root of the host")
def test_what_belongs_to_the_default_project_is_used_and_not_changed(
    world: World, port: int, identity: Identity
) -> None:
    tenant = Tenant(world, port, identity, **SHARING)
    bridge, profile, volume = world.bridge(), world.profile(), unique("v")
    image = world.image({"os": "shared"})
    pool = f"/1.0/storage-pools/{world.ground.pool}/volumes/custom"
    world.finally_do(partial(world.gone, f"{pool}/{volume}"))
    world.api.post(pool, {"name": volume})
    acl = unique("acl")
    world.finally_do(partial(world.gone, f"/1.0/network-acls/{acl}"))
    world.api.post("/1.0/network-acls", {"name": acl})
    for path in (
        f"/1.0/networks/{bridge.name}",
        f"/1.0/profiles/{profile}",
        f"/1.0/images/{image}",
        f"{pool}/{volume}",
    ):
        assert tenant.ask("GET", path).status == 200, path
    for verb, path, body in (
        ("PATCH", f"/1.0/networks/{bridge.name}", {"config": {"raw.dnsmasq": "dhcp-script=/bin/true"}}),
        ("PUT", f"/1.0/networks/{bridge.name}", {"config": {}}),
        ("POST", f"/1.0/networks/{bridge.name}", {"name": unique("nb")}),
        ("DELETE", f"/1.0/networks/{bridge.name}", None),
        ("POST", "/1.0/networks", {"name": unique("nb"), "config": {"ipv4.address": "none", "ipv6.address": "none"}}),
        ("POST", f"/1.0/networks/{bridge.name}/forwards", {"listen_address": "198.18.0.1"}),
        ("POST", "/1.0/network-acls", {"name": unique("acl")}),
        ("PATCH", f"/1.0/network-acls/{acl}", {"description": "mine"}),
        ("POST", "/1.0/network-zones", {"name": f"{unique('z')}.test"}),
        ("PATCH", f"/1.0/profiles/{profile}", {"config": {"security.privileged": "true"}}),
        ("DELETE", f"/1.0/profiles/{profile}", None),
        ("POST", "/1.0/profiles", {"name": unique("p")}),
        ("PATCH", f"/1.0/images/{image}", {"public": True}),
        ("DELETE", f"/1.0/images/{image}", None),
        ("POST", f"/1.0/images/{image}/secret", None),
        ("POST", "/1.0/images/aliases", {"name": unique("alias"), "target": image}),
        ("POST", "/1.0/images", {"source": {"type": "image", "server": "https://127.0.0.1:1", "alias": "x"}}),
        ("PATCH", f"{pool}/{volume}", {"description": "mine"}),
        ("DELETE", f"{pool}/{volume}", None),
        ("POST", pool, {"name": unique("v")}),
        ("POST", f"{pool}/{volume}/snapshots", {"name": "s"}),
    ):
        answer = tenant.ask(verb, path, body)
        assert (answer.status, answer.error) == (403, "not authorized"), f"{verb} {path}"


def test_who_uses_what_is_not_told_across_projects(world: World, port: int, identity: Identity) -> None:
    tenant = Tenant(world, port, identity, features__images="false")
    bridge = world.bridge()
    name = world.instance(devices={"eth0": {"type": "nic", "network": bridge.name, "name": "eth0"}})
    for path in (f"/1.0/storage-pools/{world.ground.pool}", f"/1.0/networks/{bridge.name}"):
        assert any(name in url for url in world.api.get(path)["used_by"])
        shown = tenant.ask("GET", path)
        assert shown.status == 200
        assert not shown.metadata["used_by"], path
    listed = tenant.ask("GET", "/1.0/storage-pools?recursion=1").metadata
    assert not any(pool["used_by"] for pool in listed)
