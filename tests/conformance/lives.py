"""The life of one object of each kind, request by request: every method that changes something occurs here.

What holds for all requests alike is tested along these lives. Paths are those of the route table; `setup` gives what stands for their
parameters and makes what the object needs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.conformance import images
from tests.conformance.tls import Identity
from tests.conformance.world import World, free_subnets, unique

Values = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One request. `body` names its values in braces where they are texts; `looks`: the path (or query) that shows what it changes."""

    verb: str
    path: str
    body: Any = None
    looks: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""

    def url(self, values: Values) -> str:
        return filled(self.path + self.query, values)

    def sent(self, values: Values) -> Any:
        return filled(self.body, values)

    def sight(self, values: Values) -> str:
        return filled(self.looks or self.path, values)


def filled(what: Any, values: Values) -> Any:
    """The same with values in place of their names."""
    if isinstance(what, str):
        if what.startswith("{{") and what.endswith("}}"):
            value = values[what[2:-2]]
            return value() if callable(value) else value
        for name, value in values.items():
            if isinstance(value, str):
                what = what.replace(f"{{{name}}}", value)
        return what
    if isinstance(what, Mapping):
        return {key: filled(value, values) for key, value in what.items()}
    return [filled(each, values) for each in what] if isinstance(what, list) else what


@dataclass(frozen=True)
class Life:
    name: str
    setup: Callable[[World], Values]
    steps: tuple[Step, ...]


def _named(collection: str, *names: str, **more: str) -> Callable[[World], Values]:
    """New names for an object of a collection; whatever is left under one of them goes at the end."""

    def setup(world: World) -> Values:
        found = {name: unique("li") for name in ("name", "renamed", *names)}
        for name in ("name", "renamed"):
            world.finally_do(partial(world.gone, f"{collection}/{found[name]}"))
        return {**found, **more}

    return setup


def _member(collection: str, *, renames: bool = True, **body: Any) -> tuple[Step, ...]:
    """Made, replaced, changed, renamed, deleted: what most collections can do."""
    one = f"{collection}/{{name}}"
    put = {key: value for key, value in body.items() if key not in ("type", "driver")}
    steps = [
        Step("POST", collection, {"name": "{name}", **body}, looks=one),
        Step("PUT", one, {**put, "description": "put"}),
        Step("PATCH", one, {"description": "patched"}),
    ]
    if not renames:
        return (*steps, Step("DELETE", one))
    rename = Step("POST", one, {"name": "{renamed}"}, looks=f"{collection}/{{renamed}}")
    return (*steps, rename, Step("DELETE", one.replace("{name}", "{renamed}")))


def _certificate(world: World) -> Values:
    with tempfile.TemporaryDirectory() as folder:
        made = Identity.make(Path(folder), unique("li"))
    world.finally_do(partial(world.gone, f"/1.0/certificates/{made.fingerprint}"))
    return {"fingerprint": made.fingerprint, "certificate": made.base64}


def _image(world: World) -> Values:
    data = images.unified_with({"life": unique("li")})
    fingerprint = images.fingerprint(data)
    found = {name: unique("li") for name in ("name", "renamed")}
    for alias in found.values():
        world.finally_do(partial(world.gone, f"/1.0/images/aliases/{alias}"))
    world.finally_do(partial(world.gone, f"/1.0/images/{fingerprint}"))
    return {**found, "fingerprint": fingerprint, "data": data}


def _network(world: World) -> Values:
    found = {name: unique("li") for name in ("name", "renamed")}
    v4, _ = free_subnets()
    for name in found.values():
        world.finally_do(partial(world.gone, f"/1.0/networks/{name}"))
    return {**found, "address": f"{v4[1]}/24", "network": found["name"], "listen_address": str(v4[200])}


def _zone(world: World) -> Values:
    zone = f"{unique('li')}.example"
    world.finally_do(partial(world.gone, f"/1.0/network-zones/{zone}"))
    return {"zone": zone, "name": "record"}


def _pool(world: World) -> Values:
    name = unique("li")
    world.finally_do(partial(world.gone, f"/1.0/storage-pools/{name}"))
    source = world.api.get(f"/1.0/storage-pools/{world.ground.pool}")["config"]["source"].replace(
        world.ground.pool, name
    )
    return {"name": name, "put": {"description": "put", "config": {"source": source}}}


def _volume(world: World) -> Values:
    found = {name: unique("li") for name in ("name", "renamed", "volume")}
    pool = world.ground.pool
    for name in found.values():
        world.finally_do(partial(world.gone, f"/1.0/storage-pools/{pool}/volumes/custom/{name}"))
    return {**found, "pool": pool, "type": "custom"}


def _snapshots(world: World) -> Values:
    values = _volume(world)
    values["name"], values["renamed"] = "first", "second"
    world.api.post(f"/1.0/storage-pools/{values['pool']}/volumes/custom", {"name": values["volume"]})
    return values


def _instance(world: World) -> Values:
    found = {name: unique("li") for name in ("name", "renamed")}
    for name in found.values():
        world.finally_do(partial(world.remove_instance, name))
    body, path = world.body(found["name"]), f"/1.0/instances/{found['name']}"
    return {**found, "body": body, "put": lambda: {**world.api.get(path), "description": "put"}}


def _server(world: World) -> Values:
    config = world.api.get("/1.0")["config"]
    return {"put": {"config": {**config, "user.life": "put"}}, "before": {"config": config}}


VOLUMES = "/1.0/storage-pools/{pool}/volumes"
VOLUME = f"{VOLUMES}/{{type}}/{{name}}"
OF_VOLUME = f"{VOLUMES}/{{type}}/{{volume}}"
INSTANCE = "/1.0/instances/{name}"
FORWARDS = "/1.0/networks/{network}/forwards"
RECORDS = "/1.0/network-zones/{zone}/records"
IMAGE = "/1.0/images/{fingerprint}"
RENAMED = "/1.0/instances/{renamed}"

LIVES = (
    Life("profile", _named("/1.0/profiles"), _member("/1.0/profiles", config={"user.a": "1"})),
    Life("project", _named("/1.0/projects"), (
        *_member("/1.0/projects", config={"user.a": "1"})[:-2],
        Step("PUT", "/1.0/instances", {"state": {"action": "start"}}, query="?project={name}"),
        *_member("/1.0/projects")[-2:],
    )),
    Life("acl", _named("/1.0/network-acls"), _member("/1.0/network-acls", config={"user.a": "1"})),
    Life("pool", _pool, (
        Step("POST", "/1.0/storage-pools", {"name": "{name}", "driver": "dir"}, looks="/1.0/storage-pools/{name}"),
        Step("PUT", "/1.0/storage-pools/{name}", "{{put}}"),
        Step("PATCH", "/1.0/storage-pools/{name}", {"description": "patched"}),
        Step("DELETE", "/1.0/storage-pools/{name}"),
    )),
    Life("certificate", _certificate, (
        Step("POST", "/1.0/certificates", {"type": "client", "certificate": "{certificate}"},
             looks="/1.0/certificates/{fingerprint}"),
        Step("PUT", "/1.0/certificates/{fingerprint}", {"type": "client", "name": "put"}),
        Step("PATCH", "/1.0/certificates/{fingerprint}", {"name": "patched"}),
        Step("DELETE", "/1.0/certificates/{fingerprint}"),
    )),
    Life("image", _image, (
        Step("POST", "/1.0/images", "{{data}}", looks=IMAGE),
        Step("PUT", IMAGE, {"public": False, "properties": {"life": "put"}}),
        Step("PATCH", IMAGE, {"properties": {"life": "patched"}}),
        Step("POST", f"{IMAGE}/secret", looks=IMAGE),
        Step("POST", "/1.0/images/aliases", {"name": "{name}", "target": "{fingerprint}"}, looks="/1.0/images/aliases/{name}"),
        Step("PUT", "/1.0/images/aliases/{name}", {"target": "{fingerprint}", "description": "put"}),
        Step("PATCH", "/1.0/images/aliases/{name}", {"description": "patched"}),
        Step("POST", "/1.0/images/aliases/{name}", {"name": "{renamed}"}, looks="/1.0/images/aliases/{renamed}"),
        Step("DELETE", "/1.0/images/aliases/{renamed}"),
        Step("DELETE", IMAGE),
    )),
    Life("network", _network, (
        Step("POST", "/1.0/networks", looks="/1.0/networks/{name}", body={
            "name": "{name}", "config": {"ipv4.address": "{address}", "ipv6.address": "none"}}),
        Step("PUT", "/1.0/networks/{name}", {"config": {"ipv4.address": "{address}", "ipv6.address": "none", "ipv4.nat": "true"}}),
        Step("PATCH", "/1.0/networks/{name}", {"description": "patched"}),
        Step("POST", FORWARDS, {"listen_address": "{listen_address}"}, looks=f"{FORWARDS}/{{listen_address}}"),
        Step("PUT", f"{FORWARDS}/{{listen_address}}", {"description": "put"}),
        Step("PATCH", f"{FORWARDS}/{{listen_address}}", {"description": "patched"}),
        Step("DELETE", f"{FORWARDS}/{{listen_address}}"),
        Step("POST", "/1.0/networks/{name}", {"name": "{renamed}"}, looks="/1.0/networks/{renamed}"),
        Step("DELETE", "/1.0/networks/{renamed}"),
    )),
    Life("zone", _zone, (
        Step("POST", "/1.0/network-zones", {"name": "{zone}"}, looks="/1.0/network-zones/{zone}"),
        Step("PUT", "/1.0/network-zones/{zone}", {"description": "put"}),
        Step("PATCH", "/1.0/network-zones/{zone}", {"description": "patched"}),
        *_member(RECORDS, renames=False, entries=[{"type": "TXT", "value": "a"}]),
        Step("DELETE", "/1.0/network-zones/{zone}"),
    )),
    Life("volume", _volume, (
        Step("POST", f"{VOLUMES}/{{type}}", {"name": "{name}"}, looks=VOLUME),
        Step("PUT", VOLUME, {"description": "put", "config": {}}),
        Step("PATCH", VOLUME, {"description": "patched"}),
        Step("POST", VOLUME, {"name": "{renamed}"}, looks=VOLUME.replace("{name}", "{renamed}")),
        Step("DELETE", VOLUME.replace("{name}", "{renamed}")),
        Step("POST", VOLUMES, {"name": "{volume}", "type": "custom"}, looks=OF_VOLUME),
    )),
    *(
        Life(noun, _snapshots, (
            Step("POST", f"{OF_VOLUME}/{noun}", {"name": "{name}"}, looks=f"{OF_VOLUME}/{noun}/{{name}}"),
            *changes,
            Step("POST", f"{OF_VOLUME}/{noun}/{{name}}", {"name": "{renamed}"}, looks=f"{OF_VOLUME}/{noun}/{{renamed}}"),
            Step("DELETE", f"{OF_VOLUME}/{noun}/{{renamed}}"),
        ))
        for noun, changes in (
            ("snapshots", (
                Step("PUT", f"{OF_VOLUME}/snapshots/{{name}}", {"description": "put"}),
                Step("PATCH", f"{OF_VOLUME}/snapshots/{{name}}", {"description": "patched"}),
            )),
            ("backups", ()),
        )
    ),
    Life("instance", _instance, (
        Step("POST", "/1.0/instances", "{{body}}", looks=INSTANCE),
        Step("PUT", INSTANCE, "{{put}}"),
        Step("PATCH", INSTANCE, {"config": {"user.a": "patched"}}),
        Step("PUT", f"{INSTANCE}/metadata", {"architecture": "x86_64", "creation_date": 1, "properties": {"a": "put"}}),
        Step("PATCH", f"{INSTANCE}/metadata", {"properties": {"a": "patched"}}),
        Step("POST", f"{INSTANCE}/metadata/templates", b"made", query="?path=a.tpl", looks=f"{INSTANCE}/metadata/templates"),
        Step("DELETE", f"{INSTANCE}/metadata/templates", query="?path=a.tpl"),
        Step("POST", f"{INSTANCE}/files", b"made", query="?path=/root/made", looks=f"{INSTANCE}/files?path=/root/made"),
        Step("DELETE", f"{INSTANCE}/files", query="?path=/root/made", looks=f"{INSTANCE}/files?path=/root/made"),
        Step("PUT", f"{INSTANCE}/state", {"action": "start"}, looks=INSTANCE),
        Step("POST", f"{INSTANCE}/exec", {"command": ["true"], "record-output": True}, looks=f"{INSTANCE}/logs"),
        Step("POST", f"{INSTANCE}/console", {"type": "console"}, looks=INSTANCE),
        Step("DELETE", f"{INSTANCE}/console", looks=INSTANCE),
        Step("PUT", f"{INSTANCE}/state", {"action": "stop", "force": True}, looks=INSTANCE),
        Step("POST", INSTANCE, {"name": "{renamed}"}, looks=RENAMED),
        Step("DELETE", RENAMED),
    )),
    Life("server", _server, (
        Step("PATCH", "/1.0", {"config": {"user.life": "patched"}}),
        Step("PUT", "/1.0", "{{put}}"),
        Step("PUT", "/1.0", "{{before}}"),
    )),
)  # fmt: skip
