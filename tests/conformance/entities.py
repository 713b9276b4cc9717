"""One object of each kind that the API has: how it is made, what of it can be changed, how its list is filtered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.conformance.tls import Identity
from tests.conformance.world import World, free_subnets, unique


@dataclass(frozen=True)
class Made:
    """One object: the list it is in, its name there, and where it is."""

    collection: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.collection}/{self.name}"


@dataclass(frozen=True)
class Entity:
    """`change`: what is laid over the object to change it; `key`: by which field a list is filtered."""

    name: str
    make: Callable[[World], Made]
    change: dict[str, Any] = field(default_factory=lambda: {"description": "changed"})
    key: str = "name"

    def listed(self, shown: dict[str, Any], found: dict[str, Any]) -> bool:
        """Whether an entry of a list is the object (snapshots have longer names there, and recursion adds to instances)."""
        own = (
            found["name"].endswith(f"/{shown['name']}")
            if self.name == "snapshot"
            else found[self.key] == shown[self.key]
        )
        return own and all(found[key] == value for key, value in shown.items() if key != "name")

    def in_list(self, shown: dict[str, Any], made: Made) -> dict[str, Any]:
        """The object as an entry of its list."""
        volume = made.collection.split("/")[-2]
        return {**shown, "name": f"{volume}/{shown['name']}"} if self.name == "snapshot" else shown


def profile(world: World) -> Made:
    return Made("/1.0/profiles", world.profile())


def project(world: World) -> Made:
    return _posted(world, "/1.0/projects", {"name": unique("pr")})


def _posted(world: World, collection: str, body: dict[str, Any], name: str = "") -> Made:
    made = Made(collection, name or body["name"])
    world.finally_do(partial(world.gone, made.path))
    world.api.post(collection, body)
    return made


def network(world: World) -> Made:
    body = {"name": unique("nb"), "config": {"ipv4.address": "none", "ipv6.address": "none"}}
    return _posted(world, "/1.0/networks", body)


def acl(world: World) -> Made:
    return _posted(world, "/1.0/network-acls", {"name": unique("acl")})


def zone(world: World) -> Made:
    return _posted(world, "/1.0/network-zones", {"name": f"{unique('z')}.example"})


def record(world: World) -> Made:
    return _posted(world, f"{zone(world).path}/records", {"name": unique("r")})


def forward(world: World) -> Made:
    v4, _ = free_subnets()
    bridge = world.bridge().name
    address = str(v4[200])
    return _posted(world, f"/1.0/networks/{bridge}/forwards", {"listen_address": address}, address)


def pool(world: World) -> Made:
    return _posted(world, "/1.0/storage-pools", {"name": unique("pool"), "driver": "dir"})


def volume(world: World) -> Made:
    return _posted(world, f"/1.0/storage-pools/{world.ground.pool}/volumes/custom", {"name": unique("v")})


def snapshot(world: World) -> Made:
    return _posted(world, f"{volume(world).path}/snapshots", {"name": "first"})


def instance(world: World) -> Made:
    return Made("/1.0/instances", world.instance())


def image(world: World) -> Made:
    return Made("/1.0/images", world.image({"of": unique("x")}))


def alias(world: World) -> Made:
    return _posted(world, "/1.0/images/aliases", {"name": unique("al"), "target": image(world).name})


def certificate(world: World) -> Made:
    with TemporaryDirectory() as folder:
        who = Identity.make(Path(folder), unique("who"))
    body = {"type": "client", "certificate": who.base64}
    return _posted(world, "/1.0/certificates", body, who.fingerprint)


ENTITIES = (
    Entity("profile", profile),
    Entity("project", project),
    Entity("network", network),
    Entity("acl", acl),
    Entity("zone", zone),
    Entity("record", record),
    Entity("forward", forward, key="listen_address"),
    Entity("pool", pool),
    Entity("volume", volume),
    Entity("snapshot", snapshot),
    Entity("instance", instance),
    Entity("image", image, {"public": True}, "fingerprint"),
    Entity("alias", alias),
    Entity("certificate", certificate, {"name": "changed"}, "fingerprint"),
)
