"""A client whose certificate is restricted to one project, against every endpoint: what LXD answers it, and what it must not reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conformance import images
from tests.conformance.client import Client, eventually
from tests.conformance.test_projects import remove, within
from tests.conformance.tls import Identity, Remote, free_port, open_at
from tests.conformance.world import World, unique

OPEN = (200, 200, 200, 200)
OWN = (403, 200, 403, 403)
SHUT = (403, 403, 403, 403)
PUBLIC = (200, 200, 200, 404)  # of a project that is not one's own one sees what everybody sees
HIDDEN = (404, 200, 404, 404)
# The statuses of GET without a project, with one's own, with the default one, and with one that does not exist.
READ: dict[str, tuple[int, int, int, int]] = {
    "/1.0": OPEN,
    "/1.0/instances": OWN,
    "/1.0/instances?recursion=1": OWN,
    "/1.0/instances?recursion=2": OWN,
    "/1.0/instances/{thing}": OWN,
    "/1.0/instances/{thing}/state": OWN,
    "/1.0/instances/{thing}/metadata": OWN,
    "/1.0/instances/{thing}/metadata/templates": OWN,
    "/1.0/instances/{thing}/files?path=/": OWN,
    "/1.0/instances/{thing}/logs": OWN,
    "/1.0/containers": OWN,
    "/1.0/virtual-machines": OWN,
    "/1.0/images": PUBLIC,
    "/1.0/images?recursion=1": PUBLIC,
    "/1.0/images/{image}": HIDDEN,
    "/1.0/images/aliases/{thing}": HIDDEN,
    "/1.0/profiles": OWN,
    "/1.0/profiles/{thing}": OWN,
    "/1.0/profiles/default": OWN,
    "/1.0/projects": OPEN,
    "/1.0/projects?recursion=1": OPEN,
    "/1.0/projects/{own}": OPEN,
    "/1.0/projects/{own}/state": OPEN,
    "/1.0/projects/default": SHUT,
    "/1.0/projects/default/state": SHUT,
    "/1.0/storage-pools": OPEN,
    "/1.0/storage-pools?recursion=1": OPEN,
    "/1.0/storage-pools/{pool}": OPEN,
    "/1.0/storage-pools/{pool}/resources": OPEN,
    "/1.0/storage-pools/{pool}/volumes": OWN,
    "/1.0/storage-pools/{pool}/volumes/custom": OWN,
    "/1.0/storage-pools/{pool}/volumes/custom/{thing}": OWN,
    "/1.0/storage-pools/{pool}/volumes/custom/{thing}/snapshots": OWN,
    "/1.0/storage-pools/{pool}/volumes/custom/{thing}/backups": OWN,
    "/1.0/networks": OWN,
    "/1.0/networks?recursion=1": OWN,
    "/1.0/networks/{bridge}": OWN,
    "/1.0/networks/{bridge}/state": OWN,
    "/1.0/networks/{bridge}/leases": OWN,
    "/1.0/networks/{bridge}/forwards": OWN,
    "/1.0/network-acls": OWN,
    "/1.0/network-zones": OWN,
    "/1.0/certificates": OPEN,
    "/1.0/certificates/{fingerprint}": OPEN,
    "/1.0/operations": OPEN,
    "/1.0/operations?recursion=1": OPEN,
    "/1.0/resources": OPEN,
    "/1.0/warnings": SHUT,
    "/1.0/metrics": OWN,
}
# Verb, path, body, and the statuses without a project, with one's own, and with the default one.
ASK = tuple[str, str, Any, tuple[int, int, int]]
CHANGE: list[ASK] = [
    ("PATCH", "/1.0", {"config": {"user.x": "1"}}, (403, 403, 403)),
    ("PUT", "/1.0", {"config": {}}, (403, 403, 403)),
    ("POST", "/1.0/projects", {"name": "another"}, (403, 403, 403)),
    ("PATCH", "/1.0/projects/{own}", {"description": "x"}, (403, 403, 403)),
    ("PUT", "/1.0/projects/{own}", {"config": {}}, (403, 403, 403)),
    ("POST", "/1.0/projects/{own}", {"name": "another"}, (403, 403, 403)),
    ("DELETE", "/1.0/projects/{own}", None, (403, 403, 403)),
    ("DELETE", "/1.0/projects/default", None, (403, 403, 403)),
    ("POST", "/1.0/storage-pools", {"name": "another", "driver": "dir"}, (403, 403, 403)),
    ("PATCH", "/1.0/storage-pools/{pool}", {"description": "x"}, (403, 403, 403)),
    ("DELETE", "/1.0/storage-pools/{pool}", None, (403, 403, 403)),
    ("POST", "/1.0/certificates", {"type": "client", "token": True, "name": "x"}, (403, 403, 403)),
    ("PATCH", "/1.0/instances/{thing}", {"description": "x"}, (403, 200, 403)),
    ("PUT", "/1.0/instances/{thing}/state", {"action": "nonsense"}, (403, 400, 403)),
    ("POST", "/1.0/instances", {"name": "a/b"}, (403, 400, 403)),
    ("PATCH", "/1.0/profiles/{thing}", {"description": "x"}, (403, 200, 403)),
    ("POST", "/1.0/profiles", {"name": "a/b"}, (403, 400, 403)),
    ("DELETE", "/1.0/profiles/nosuch", None, (403, 404, 403)),
    ("PATCH", "/1.0/images/{image}", {"properties": {"x": "1"}}, (403, 200, 403)),
    ("POST", "/1.0/images/aliases", {"name": ""}, (403, 400, 403)),
    ("PATCH", "/1.0/storage-pools/{pool}/volumes/custom/{thing}", {"description": "x"}, (403, 200, 403)),
    ("POST", "/1.0/storage-pools/{pool}/volumes/custom", {"name": "a/b"}, (403, 400, 403)),
    ("DELETE", "/1.0/operations/nosuch", None, (404, 404, 404)),
]


@dataclass(frozen=True)
class Fenced:
    """The client, its project, and the names that stand in the paths of the tables."""

    remote: Remote
    own: str
    names: dict[str, str]

    def path(self, pattern: str, project: str | None) -> str:
        path = pattern.format(**self.names)
        return path if project is None else f"{path}{'&' if '?' in path else '?'}project={project}"

    def status(self, verb: str, pattern: str, project: str | None, body: Any = None) -> int:
        answer = self.remote.request(verb, self.path(pattern, project), body)
        if answer.status == 403:
            assert answer.error == "not authorized"
        return answer.status


@pytest.fixture(scope="module")
def fenced(shared: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fenced]:
    """The same things stand in its own project and in the default one, so that what is missing is missing for a reason."""
    api, own, thing, port = shared.api, unique("pr"), unique("t"), free_port()
    identity = Identity.make(tmp_path_factory.mktemp("client"), thing)
    shared.finally_do(lambda: shared.gone(f"/1.0/projects/{own}"))
    api.post("/1.0/projects", {"name": own})
    data, bridge = images.unified_with({"restricted": own}, "tar.gz"), shared.bridge().name
    pool, image = shared.ground.pool, images.fingerprint(data)
    for client in (api, within(shared, own)):
        furnish(shared, client, thing, pool, data)
    api.patch("/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
    entry = {"type": "client", "certificate": identity.base64, "restricted": True, "projects": [own]}
    shared.finally_do(lambda: shared.gone(f"/1.0/certificates/{identity.fingerprint}"))
    api.post("/1.0/certificates", entry)
    eventually(lambda: open_at(port))
    names = {"own": own, "thing": thing, "image": image, "pool": pool, "bridge": bridge}
    yield Fenced(Remote(port, identity), own, {**names, "fingerprint": identity.fingerprint})
    api.patch("/1.0", {"config": {"core.https_address": ""}})


def furnish(world: World, client: Client, thing: str, pool: str, data: bytes) -> None:
    """An image with an alias, a profile, a volume and an instance, all by one name."""
    image, volumes = images.fingerprint(data), f"/1.0/storage-pools/{pool}/volumes/custom"
    for path in (f"/1.0/images/{image}", f"/1.0/profiles/{thing}", f"{volumes}/{thing}", f"/1.0/instances/{thing}"):
        world.finally_do(lambda path=path: remove(client, path))
    images.upload(client, data)
    client.post("/1.0/images/aliases", {"name": thing, "target": image})
    client.post("/1.0/profiles", {"name": thing})
    client.post(volumes, {"name": thing})
    client.post("/1.0/instances", {**world.body(thing), "source": {"type": "image", "fingerprint": image}})


@pytest.mark.extension("certificate_project")
@pytest.mark.parametrize("path", READ)
def test_what_is_read(fenced: Fenced, path: str) -> None:
    projects = (None, fenced.own, "default", "nosuch")
    assert tuple(fenced.status("GET", path, project) for project in projects) == READ[path]


@pytest.mark.extension("certificate_project")
@pytest.mark.parametrize(("verb", "path", "body", "statuses"), CHANGE)
def test_what_is_changed(fenced: Fenced, verb: str, path: str, body: Any, statuses: tuple[int, ...]) -> None:
    projects = (None, fenced.own, "default")
    assert tuple(fenced.status(verb, path, project, body) for project in projects) == statuses


@pytest.mark.extension("certificate_project")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/1.0/storage-pools/{pool}/volumes/custom/{thing}",
            {"name": "{thing}", "pool": "{pool}", "project": "default"},
        ),
        ("/1.0/instances/{thing}", {"name": "x{thing}", "project": "default", "migration": True}),
    ],
)
def test_nothing_is_moved_into_another_project(fenced: Fenced, path: str, body: dict[str, Any]) -> None:
    sent = {key: value.format(**fenced.names) if isinstance(value, str) else value for key, value in body.items()}
    assert fenced.status("POST", path, fenced.own, sent) == 403


@pytest.mark.differs("5.0.2 copies what the client may not see")
@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/1.0/instances", {"type": "copy", "source": "{thing}", "project": "default"}),
        (
            "/1.0/storage-pools/{pool}/volumes/custom",
            {"type": "copy", "name": "{thing}", "pool": "{pool}", "project": "default"},
        ),
    ],
)
def test_nothing_is_copied_out_of_another_project(fenced: Fenced, path: str, source: dict[str, str]) -> None:
    sent = {key: value.format(**fenced.names) for key, value in source.items()}
    assert fenced.status("POST", path, fenced.own, {"name": unique("x"), "source": sent}) == 403


@pytest.mark.extension("certificate_project")
def test_lists_hold_what_is_its_own(fenced: Fenced) -> None:
    remote, own, thing = fenced.remote, fenced.own, fenced.names["thing"]
    assert remote.get("/1.0/projects") == [f"/1.0/projects/{own}"]
    assert remote.get(f"/1.0/instances?project={own}") == [f"/1.0/instances/{thing}?project={own}"]
    assert len(remote.get(f"/1.0/images?project={own}")) == 1
    volumes = remote.get(f"/1.0/storage-pools/{fenced.names['pool']}/volumes/custom?project={own}")
    assert [found.partition("?")[0].rpartition("/")[2] for found in volumes] == [thing]


@pytest.mark.differs("5.0.2 shows the operations of the default project to everybody")
def test_operations_of_other_projects_are_not_shown(fenced: Fenced, world: World) -> None:
    name = world.instance()
    for query in ("", "?project=default", "?recursion=1"):
        assert not fenced.remote.get(f"/1.0/operations{query}")
    assert name not in str(fenced.remote.get("/1.0/operations?recursion=1&all-projects=true"))


@pytest.mark.extension("certificate_project")
def test_all_projects_and_one_project_are_not_asked_for_at_once(fenced: Fenced) -> None:
    for path in ("/1.0/instances", "/1.0/storage-pools/{pool}/volumes"):
        assert fenced.status("GET", f"{path}?all-projects=true", None) == 403
        asked = fenced.path(f"{path}?all-projects=true", fenced.own)
        answer = fenced.remote.request("GET", asked)
        assert (answer.status, answer.error) == (400, "Cannot specify a project when requesting all projects")
