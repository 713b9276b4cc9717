"""Projects: separate views of what they hold, features, names, what keeps one from going away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.conformance.client import Client
from tests.conformance.world import World, unique


def project(world: World, **config: str) -> str:
    name = unique("pr")
    world.finally_do(partial(world.gone, f"/1.0/projects/{name}"))
    world.api.post("/1.0/projects", {"name": name, "config": {key.replace("__", "."): v for key, v in config.items()}})
    return name


def within(world: World, name: str) -> Client:
    return Client(world.api.socket, name)


def remove(inside: Client, path: str) -> None:
    """What may be gone already, or never have been."""
    answer = inside.request("DELETE", path)
    if answer.status == 202:
        inside.wait(answer)


@pytest.mark.extension("projects")
def test_profiles_of_a_project_are_its_own(world: World) -> None:
    own, shared = project(world), project(world, features__profiles="false")
    name = world.profile()
    assert within(world, own).get("/1.0/profiles") == [f"/1.0/profiles/default?project={own}"]
    assert within(world, own).request("GET", f"/1.0/profiles/{name}").status == 404
    assert within(world, shared).get(f"/1.0/profiles/{name}")["name"] == name
    world.finally_do(partial(within(world, own).delete, f"/1.0/profiles/{name}"))
    within(world, own).post("/1.0/profiles", {"name": name, "config": {"user.where": own}})
    assert world.api.get(f"/1.0/profiles/{name}")["config"] == {}
    assert within(world, own).get(f"/1.0/profiles/{name}")["config"] == {"user.where": own}


@pytest.mark.extension("projects")
def test_images_of_the_default_project_are_seen_where_the_feature_is_off(world: World) -> None:
    own, shared = project(world), project(world, features__images="false")
    image = f"/1.0/images/{world.ground.image}"
    assert within(world, own).request("GET", image).status == 404
    assert within(world, shared).get(image)["fingerprint"] == world.ground.image


@pytest.mark.extension("projects")
def test_instances_belong_to_their_project_under_names_of_their_own(world: World) -> None:
    own = project(world, features__images="false", features__profiles="false")
    inside = within(world, own)
    name = world.instance()
    world.finally_do(partial(inside.delete, f"/1.0/instances/{name}"))
    inside.post("/1.0/instances", world.body(name))
    assert inside.get("/1.0/instances") == [f"/1.0/instances/{name}?project={own}"]
    assert inside.get(f"/1.0/instances/{name}")["project"] == own
    assert f"/1.0/instances/{name}?project={own}" in world.api.get(f"/1.0/projects/{own}")["used_by"]
    refusal = world.api.refusal("DELETE", f"/1.0/projects/{own}")
    assert (refusal.status, refusal.text) == (500, "Only empty projects can be removed")


@pytest.mark.extension("projects")
def test_a_project_is_changed_and_renamed(world: World) -> None:
    name, renamed = project(world, user__a="1"), unique("pr")
    stale = world.api.etag(f"/1.0/projects/{name}")
    config = world.api.get(f"/1.0/projects/{name}")["config"]
    world.api.put(f"/1.0/projects/{name}", {"config": {**config, "user.b": "2"}, "description": "d"})
    found = world.api.get(f"/1.0/projects/{name}")
    assert (found["config"]["user.b"], found["description"]) == ("2", "d")
    answer = world.api.request("PUT", f"/1.0/projects/{name}", {"config": config}, {"If-Match": stale})
    assert answer.status == 412
    world.finally_do(partial(world.gone, f"/1.0/projects/{renamed}"))
    world.api.post(f"/1.0/projects/{name}", {"name": renamed})
    assert world.api.get(f"/1.0/projects/{renamed}")["config"]["user.b"] == "2"
    assert world.api.request("GET", f"/1.0/projects/{name}").status == 404


@pytest.mark.differs("PATCH of 5.0.2 forgets the keys that were not sent")
def test_a_patch_leaves_the_other_keys_alone(world: World) -> None:
    name = project(world, user__a="1")
    world.api.patch(f"/1.0/projects/{name}", {"config": {"user.b": "2"}})
    config = world.api.get(f"/1.0/projects/{name}")["config"]
    assert (config["user.a"], config["user.b"], config["features.images"]) == ("1", "2", "true")


@pytest.mark.extension("projects")
@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("", 400, "No name provided"),
        ("a/b", 400, "Project names may not contain slashes"),
        ("*", 400, "Reserved project name"),
        ("..", 400, 'Invalid project name ".."'),
        ("a b", 400, "Project names may not contain spaces"),
        ("a_b", 400, "Project names may not contain underscores"),
        (
            "default",
            409,
            'Failed creating project "default": Failed adding database record: This "projects" entry already exists',
        ),
    ],
)
def test_names_that_are_refused(api: Client, name: str, status: int, text: str) -> None:
    refusal = api.refusal("POST", "/1.0/projects", {"name": name})
    assert (refusal.status, refusal.text) == (status, text)


@pytest.mark.extension("projects")
@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"foo": "bar"}, 'Invalid project configuration key "foo"'),
        (
            {"features.images": "x"},
            'Invalid project configuration key "features.images" value: Invalid value for a boolean "x"',
        ),
        ({"restricted.containers.nesting": "foo"}, 'Invalid value "foo" (not one of [block allow])'),
    ],
)
def test_keys_that_are_refused(api: Client, config: dict[str, Any], text: str) -> None:
    refusal = api.refusal("POST", "/1.0/projects", {"name": unique("pr"), "config": config})
    assert refusal.status == 400
    assert text in refusal.text


@pytest.mark.extension("projects")
def test_the_default_project_stays(api: Client) -> None:
    for verb, body, text in (
        ("DELETE", None, "The 'default' project cannot be deleted"),
        ("POST", {"name": "x"}, "The 'default' project cannot be renamed"),
    ):
        refusal = api.refusal(verb, "/1.0/projects/default", body)
        assert (refusal.status, refusal.text) == (403, text)
    assert api.request("GET", "/1.0/projects/nosuch").error == "Project not found"


@pytest.mark.extension("project_usage")
def test_use_is_counted(world: World) -> None:
    own = project(world, features__images="false", features__profiles="false")
    inside, name = within(world, own), unique("c")
    before = world.api.get(f"/1.0/projects/{own}/state")["resources"]
    assert before["instances"] == {"Limit": -1, "Usage": 0}
    world.finally_do(partial(inside.delete, f"/1.0/instances/{name}"))
    inside.post("/1.0/instances", world.body(name))
    after = world.api.get(f"/1.0/projects/{own}/state")["resources"]
    assert (after["instances"]["Usage"], after["containers"]["Usage"], after["virtual-machines"]["Usage"]) == (1, 1, 0)
    assert set(after) == {
        "containers",
        "cpu",
        "disk",
        "instances",
        "memory",
        "networks",
        "processes",
        "virtual-machines",
    }
    assert world.api.request("GET", "/1.0/projects/nosuch/state").status == 404


@pytest.mark.extension("event_project")
def test_events_are_heard_in_their_project(world: World) -> None:
    own = project(world)
    inside, name = within(world, own), unique("p")
    with world.api.events(query=f"&project={own}") as there, world.api.events() as elsewhere:
        with world.api.events(query="&all-projects=true") as everywhere:
            world.finally_do(partial(inside.delete, f"/1.0/profiles/{name}"))
            inside.post("/1.0/profiles", {"name": name})
            last = world.profile()
            assert there.wait_for(action="profile-created", source=name)["project"] == own
            assert everywhere.wait_for(action="profile-created", source=name)["project"] == own
            elsewhere.wait_for(action="profile-created", source=last)
    assert not elsewhere.matching(action="profile-created", source=name)
    assert not there.matching(action="profile-created", source=last)


@pytest.mark.extension("projects_limits_instances")
def test_a_full_project_takes_no_more_instances(world: World) -> None:
    own = project(world, features__images="false", features__profiles="false", limits__instances="2")
    inside, names = within(world, own), [unique("c") for _ in range(3)]
    for name in names[:2]:
        world.finally_do(partial(inside.delete, f"/1.0/instances/{name}"))
        inside.post("/1.0/instances", world.body(name))
    refusal = inside.refusal("POST", "/1.0/instances", world.body(names[2]))
    assert refusal.status == 500
    assert f'Reached maximum number of instances in project "{own}"' in refusal.text
    assert world.api.get(f"/1.0/projects/{own}/state")["resources"]["instances"] == {"Limit": 2, "Usage": 2}
    config = world.api.get(f"/1.0/projects/{own}")["config"]
    refusal = world.api.refusal("PUT", f"/1.0/projects/{own}", {"config": {**config, "limits.instances": "1"}})
    assert refusal.status == 500
    assert '"limits.instances" is too low: there currently are 2 total instances' in refusal.text
    world.api.put(f"/1.0/projects/{own}", {"config": {**config, "limits.instances": "3"}})
    world.finally_do(partial(inside.delete, f"/1.0/instances/{names[2]}"))
    inside.post("/1.0/instances", world.body(names[2]))


@pytest.mark.differs("5.0.2 counts first and adds later: all six are made")
def test_many_at_once_do_not_pass_a_limit(world: World) -> None:
    own = project(world, features__images="false", features__profiles="false", limits__containers="2")
    inside, names = within(world, own), [unique("c") for _ in range(6)]
    for name in names:
        world.finally_do(partial(remove, inside, f"/1.0/instances/{name}"))
    with ThreadPoolExecutor(len(names)) as threads:
        answers = list(threads.map(lambda name: inside.request("POST", "/1.0/instances", world.body(name)), names))
    ended = [inside.finished(answer.operation)["status"] for answer in answers if answer.status == 202]
    assert ended.count("Success") == 2
    assert len(inside.get("/1.0/instances")) == 2
    for path in inside.get("/1.0/instances"):
        world.api.delete(path)


FORBIDDEN: list[tuple[dict[str, str], dict[str, dict[str, str]], str]] = [
    ({"security.nesting": "true"}, {}, "Container nesting is forbidden"),
    ({"security.privileged": "true"}, {}, "Privileged containers are forbidden"),
    ({"raw.lxc": "lxc.log.level = 1"}, {}, 'Use of low-level config "raw.lxc"'),
    ({"raw.idmap": "both 1000 1000"}, {}, 'Use of low-level "raw.idmap" element 0'),
    (
        {},
        {"d": {"type": "disk", "source": "/tmp", "path": "/mnt"}},
        "Attaching disks not backed by a pool is forbidden",
    ),
    ({}, {"eth0": {"type": "nic", "nictype": "p2p"}}, "Only managed network devices are allowed"),
]


@pytest.mark.extension("projects_restrictions")
@pytest.mark.parametrize(("config", "devices", "text"), FORBIDDEN)
def test_what_a_restricted_project_forbids_is_not_made(
    world: World, config: dict[str, str], devices: dict[str, dict[str, str]], text: str
) -> None:
    own = project(world, features__images="false", restricted="true")
    inside, name = within(world, own), unique("c")
    world.finally_do(partial(remove, inside, f"/1.0/instances/{name}"))
    refusal = inside.refusal("POST", "/1.0/instances", world.body(name, config=config, devices=devices))
    assert "Failed checking if instance creation allowed: " in refusal.text
    assert text in refusal.text
    assert inside.get("/1.0/instances") == []


@pytest.mark.extension("projects_restrictions")
def test_restrictions_hold_for_changes_profiles_and_the_project_itself(world: World) -> None:
    own = project(world, features__images="false", restricted="true")
    inside, name = within(world, own), unique("c")
    world.finally_do(partial(remove, inside, f"/1.0/instances/{name}"))
    inside.post("/1.0/instances", world.body(name, profiles=["default"]))
    nesting = {"config": {"security.nesting": "true"}}

    refusal = inside.refusal("PATCH", f"/1.0/instances/{name}", nesting)
    assert "Container nesting is forbidden" in refusal.text
    refusal = inside.refusal("PATCH", "/1.0/profiles/default", nesting)
    assert "Failed checking if profile update allowed: " in refusal.text
    assert "security.nesting" not in inside.get(f"/1.0/instances/{name}")["expanded_config"]

    path = f"/1.0/projects/{own}"
    config = world.api.get(path)["config"]
    world.api.put(path, {"config": {**config, "restricted.containers.nesting": "allow"}})
    inside.patch(f"/1.0/instances/{name}", nesting)
    assert inside.get(f"/1.0/instances/{name}")["expanded_config"]["security.nesting"] == "true"
    refusal = world.api.refusal("PUT", path, {"config": config})
    assert (refusal.status, "Conflict detected when changing " in refusal.text) == (500, True)


@pytest.mark.extension("projects_restrictions")
def test_a_project_without_its_own_profiles_is_not_restricted(api: Client) -> None:
    config = {"restricted": "true", "features.profiles": "false"}
    refusal = api.refusal("POST", "/1.0/projects", {"name": unique("pr"), "config": config})
    assert (refusal.status, refusal.text) == (400, "Projects without their own profiles cannot be restricted")
