"""Profiles: configuration and devices that instances share."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.conformance.client import Client
from tests.conformance.world import World, unique

COLLECTION = "/1.0/profiles"


def test_a_profile_is_shown_with_what_was_asked_for(world: World) -> None:
    nic = {"p0": {"type": "nic", "nictype": "p2p"}}
    name = world.profile({"user.a": "1"}, description="mine", devices=nic)
    expected = {"name": name, "description": "mine", "config": {"user.a": "1"}, "devices": nic, "used_by": []}
    assert world.api.get(f"{COLLECTION}/{name}") == expected
    assert expected in world.api.get(f"{COLLECTION}?recursion=1")
    assert f"{COLLECTION}/{name}" in world.api.get(COLLECTION)


def test_there_is_always_a_default_profile(api: Client) -> None:
    assert f"{COLLECTION}/default" in api.get(COLLECTION)
    for refusal in (
        api.refusal("DELETE", f"{COLLECTION}/default"),
        api.refusal("POST", f"{COLLECTION}/default", {"name": "other"}),
    ):
        assert refusal.status == 403


@pytest.mark.extension("profile_usedby")
def test_a_profile_tells_who_uses_it_and_is_not_deleted_meanwhile(world: World) -> None:
    name = world.profile()
    path = f"{COLLECTION}/{name}"
    first, second = world.instance(profiles=[name]), world.instance(profiles=[name])
    assert sorted(world.api.get(path)["used_by"]) == sorted(f"/1.0/instances/{i}" for i in (first, second))

    refusal = world.api.refusal("DELETE", path)
    assert (refusal.status, refusal.text) == (500, "Profile is currently in use")

    world.remove_instance(second)
    assert world.api.get(path)["used_by"] == [f"/1.0/instances/{first}"]


@pytest.mark.extension("patch")
def test_patch_merges_the_config_and_an_empty_value_removes_a_key(world: World) -> None:
    path = f"{COLLECTION}/{world.profile({'user.a': '1', 'user.b': '2'}, description='mine')}"
    world.api.patch(path, {"config": {"user.b": "", "user.c": "3"}})
    shown = world.api.get(path)
    assert (shown["config"], shown["description"]) == ({"user.a": "1", "user.c": "3"}, "mine")


@pytest.mark.extension("patch")
def test_put_replaces_the_profile(world: World) -> None:
    path = f"{COLLECTION}/{world.profile({'user.a': '1'}, description='mine')}"
    world.api.put(path, {"config": {"user.b": "2"}})
    shown = world.api.get(path)
    assert (shown["config"], shown["description"], shown["devices"]) == ({"user.b": "2"}, "", {})


@pytest.mark.extension("etag")
def test_a_profile_is_not_changed_with_an_old_etag(world: World) -> None:
    path = f"{COLLECTION}/{world.profile()}"
    old = world.api.etag(path)
    world.instance(profiles=[path.rsplit("/", 1)[1]])
    assert world.api.etag(path) == old  # who uses it does not count
    world.api.put(path, {"config": {"user.a": "1"}}, If_Match=old)
    refusal = world.api.refusal("PUT", path, {"config": {}}, {"If-Match": old})
    assert refusal.status == 412
    assert world.api.get(path)["config"] == {"user.a": "1"}


@pytest.mark.extension("entity_description")
def test_a_profile_has_a_description(world: World) -> None:
    path = f"{COLLECTION}/{world.profile()}"
    before = world.api.etag(path)
    world.api.patch(path, {"description": "new"})
    assert world.api.get(path)["description"] == "new"
    assert world.api.etag(path) != before


@pytest.mark.extension("event_lifecycle")
def test_a_profile_can_be_renamed_while_it_is_used_and_that_is_seen(world: World) -> None:
    with world.api.events() as events:
        name, new = world.profile(), unique("p")
        world.finally_do(lambda: world.gone(f"{COLLECTION}/{new}"))
        instance = world.instance(profiles=[name])
        answer = world.api.request("POST", f"{COLLECTION}/{name}", {"name": new})
        world.remove_instance(instance)
        world.api.delete(f"{COLLECTION}/{new}")
        events.wait_for(action="profile-deleted", source=new)
    assert (answer.status, answer.headers["location"]) == (201, f"{COLLECTION}/{new}")
    assert events.actions(f"{COLLECTION}/{name}") == ["profile-created"]
    assert events.actions(f"{COLLECTION}/{new}") == ["profile-renamed", "profile-deleted"]


def test_an_instance_follows_a_rename_of_its_profile(world: World) -> None:
    name, new = world.profile({"user.a": "1"}), unique("p")
    world.finally_do(lambda: world.gone(f"{COLLECTION}/{new}"))
    instance = world.instance(profiles=[name])
    world.api.post(f"{COLLECTION}/{name}", {"name": new})
    shown = world.api.get(f"/1.0/instances/{instance}")
    assert (shown["profiles"], shown["expanded_config"]["user.a"]) == ([new], "1")
    world.remove_instance(instance)


def test_a_second_profile_of_a_name_is_refused(world: World) -> None:
    name, other = world.profile(), world.profile()
    created = world.api.refusal("POST", COLLECTION, {"name": name})
    renamed = world.api.refusal("POST", f"{COLLECTION}/{other}", {"name": name})
    assert (created.status, created.text) == (
        500,
        f'Error inserting "{name}" into database: The profile already exists',
    )
    assert (renamed.status, renamed.text) == (500, f'Name "{name}" already in use')


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"name": ""}, "No name provided"),
        ({"name": "a/b"}, "Profile names may not contain slashes"),
        ({"name": ".."}, 'Invalid profile name ".."'),
        ({"name": "p-bad", "config": {"bogus": "1"}}, "Unknown configuration key: bogus"),
        ({"name": "p-bad", "config": {"limits.cpu": "x"}}, "Invalid CPU limit syntax"),
        ({"name": "p-bad", "config": {"volatile.x": "1"}}, "Volatile keys can only be set on instances"),
        ({"name": "p-bad", "config": {"image.os": "1"}}, "Image keys can only be set on instances"),
        ({"name": "p-bad", "config": {"limits.memory": 5}}, "json: cannot unmarshal number"),
        ({"name": "p-bad", "devices": {"x": {"type": "bogus"}}}, "Unsupported device type"),
    ],
)
def test_a_profile_that_is_not_valid_is_refused(api: Client, body: dict[str, Any], text: str) -> None:
    refusal = api.refusal("POST", COLLECTION, body)
    assert refusal.status == 400
    assert text in refusal.text
    assert f"{COLLECTION}/p-bad" not in api.get(COLLECTION)


def test_a_change_that_is_not_valid_changes_nothing(world: World) -> None:
    path = f"{COLLECTION}/{world.profile({'user.a': '1'})}"
    refusal = world.api.refusal("PUT", path, {"config": {"bogus": "1"}})
    assert (refusal.status, refusal.text) == (500, "Unknown configuration key: bogus")
    assert world.api.get(path)["config"] == {"user.a": "1"}


@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE"])
def test_a_missing_profile_is_not_found(api: Client, verb: str) -> None:
    refusal = api.refusal(verb, f"{COLLECTION}/no-such-profile", {} if verb == "PUT" else None)
    assert refusal.status == 404
    assert "Profile not found" in refusal.text


@pytest.mark.parametrize(
    ("verb", "path", "body", "text"),
    [
        ("GET", COLLECTION, None, 'Failed loading project "no-such": Project not found'),
        ("POST", COLLECTION, {"name": "x"}, 'Failed loading project "no-such": Project not found'),
        ("PUT", f"{COLLECTION}/default", {}, 'Failed loading project "no-such": Project not found'),
        ("DELETE", f"{COLLECTION}/x", None, 'Failed loading project "no-such": Project not found'),
        (
            "POST",
            "/1.0/instances",
            {"name": "x", "source": {"type": "none"}},
            "Failed loading project: Project not found",
        ),
    ],
)
def test_nothing_is_made_in_a_project_that_there_is_not(
    api: Client, verb: str, path: str, body: dict[str, Any] | None, text: str
) -> None:
    refusal = api.refusal(verb, f"{path}?project=no-such", body)
    assert (refusal.status, refusal.text) == (404, text)


@pytest.mark.extension("usedby_consistency")
def test_used_by_names_the_project_of_each_user(world: World) -> None:
    """A project without profiles of its own uses those of the default project."""
    name, project = world.profile(), unique("pr")
    world.finally_do(partial(world.gone, f"/1.0/projects/{project}"))
    features = {"features.images": "false", "features.profiles": "false"}
    world.api.post("/1.0/projects", {"name": project, "config": features})
    here, there = world.instance(profiles=[name]), unique("c")
    where = f"/1.0/instances/{there}?project={project}"
    world.finally_do(partial(world.gone, where))
    world.api.post(f"/1.0/instances?project={project}", world.body(there, profiles=[name]))

    users = {f"/1.0/instances/{here}", where}
    assert set(world.api.get(f"{COLLECTION}/{name}")["used_by"]) == users
    assert users <= set(world.api.get(f"/1.0/storage-pools/{world.ground.pool}")["used_by"])
    assert where in world.api.get(f"/1.0/projects/{project}")["used_by"]
    world.api.delete(where)
    assert world.api.get(f"{COLLECTION}/{name}")["used_by"] == [f"/1.0/instances/{here}"]


@pytest.mark.extension("image_profiles")
def test_an_instance_without_profiles_gets_those_of_its_image(world: World) -> None:
    name, second = world.profile({"user.from": "image", "user.order": "1"}), world.profile({"user.order": "2"})
    image = world.image({"made-for": name})
    path = f"/1.0/images/{image}"
    assert world.api.get(path)["profiles"] == ["default"]
    world.api.put(path, {"profiles": [name, second]})
    source = {"type": "image", "fingerprint": image}
    from_image, told = unique("c"), world.instance(source=source, profiles=[second])
    world.finally_do(partial(world.remove_instance, from_image))
    world.api.post("/1.0/instances", {**world.body(from_image, source=source), "profiles": None})
    shown = world.api.get(f"/1.0/instances/{from_image}")
    assert shown["profiles"] == [name, second]
    assert (shown["expanded_config"]["user.from"], shown["expanded_config"]["user.order"]) == ("image", "2")
    assert world.api.get(f"/1.0/instances/{told}")["profiles"] == [second]
