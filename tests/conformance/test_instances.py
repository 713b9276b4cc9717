"""Instances as entities: create, show, list, rename, delete."""

from __future__ import annotations

import re

import pytest

from tests.conformance.client import Client, eventually
from tests.conformance.world import Ground, World, now, unique

COLLECTION = "/1.0/instances"


def test_a_new_instance_is_shown_with_what_was_asked_for(world: World) -> None:
    name = world.instance(config={"user.color": "blue"}, description="mine")
    shown = world.api.get(f"{COLLECTION}/{name}")
    assert (shown["name"], shown["type"], shown["project"]) == (name, "container", "default")
    assert (shown["status"], shown["status_code"]) == ("Stopped", 102)
    assert (shown["description"], shown["ephemeral"], shown["stateful"]) == ("mine", False, False)
    assert (shown["architecture"], shown["location"], shown["profiles"]) == ("x86_64", "none", [])
    assert shown["config"]["user.color"] == "blue"
    assert shown["devices"] == shown["expanded_devices"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", shown["created_at"])


def test_an_instance_can_be_made_from_an_alias_and_from_properties(world: World, ground: Ground) -> None:
    alias = unique("al")
    world.finally_do(lambda: world.gone(f"/1.0/images/aliases/{alias}"))
    world.api.post("/1.0/images/aliases", {"name": alias, "target": ground.image})
    properties = world.api.get(f"/1.0/images/{ground.image}")["properties"]

    by_alias = world.instance(source={"type": "image", "alias": alias})
    by_properties = world.instance(source={"type": "image", "properties": {"session": properties["session"]}})

    for name in (by_alias, by_properties):
        assert world.api.get(f"{COLLECTION}/{name}")["config"]["volatile.base_image"] == ground.image


def test_an_instance_without_a_name_gets_one(world: World) -> None:
    operation = world.api.post(COLLECTION, world.body(""))
    name = operation["resources"]["instances"][0].rsplit("/", 1)[1]
    world.finally_do(lambda: world.remove_instance(name))
    assert re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", name)


@pytest.mark.extension("container_image_properties")
def test_the_properties_of_the_image_become_config_and_outlive_it(world: World) -> None:
    image = world.image({"release": "9", "mine": unique("x")})
    name = world.instance(source={"type": "image", "fingerprint": image})
    before = world.api.get(f"{COLLECTION}/{name}")
    world.gone(f"/1.0/images/{image}")

    after = world.api.get(f"{COLLECTION}/{name}")

    assert (after["config"]["image.os"], after["config"]["image.release"]) == ("Busybox", "9")
    assert after["config"]["image.description"] == after["expanded_config"]["image.description"]
    assert after["config"] == before["config"]


@pytest.mark.extension("instances")
def test_containers_are_the_same_instances_under_other_urls(api: Client, box: str) -> None:
    instance, container = (api.request("GET", f"/1.0/{kind}/{box}") for kind in ("instances", "containers"))
    assert container.metadata == instance.metadata
    assert container.etag == instance.etag
    assert f"/1.0/containers/{box}" in api.get("/1.0/containers")
    assert f"/1.0/instances/{box}" in api.get(COLLECTION)


@pytest.mark.extension("instances")
def test_a_container_is_not_among_the_virtual_machines(api: Client, box: str) -> None:
    assert f"/1.0/virtual-machines/{box}" not in api.get("/1.0/virtual-machines")
    refusal = api.refusal("GET", f"/1.0/virtual-machines/{box}")
    assert (refusal.status, refusal.text) == (404, "Instance not found")


@pytest.mark.extension("instances")
def test_an_unknown_type_of_instance_is_refused(world: World) -> None:
    refusal = world.api.refusal("POST", COLLECTION, world.body(unique("c"), type="zzz"))
    assert (refusal.status, refusal.text) == (400, "Invalid instance type")


@pytest.mark.extension("instance_get_full")
def test_one_instance_with_recursion_has_its_state_and_snapshots(api: Client, box: str) -> None:
    full = api.get(f"{COLLECTION}/{box}?recursion=1")
    plain, state = api.get(f"{COLLECTION}/{box}"), api.get(f"{COLLECTION}/{box}/state")
    assert {key: full[key] for key in plain} == plain
    assert (full["state"]["status"], full["state"]["pid"]) == ("Running", state["pid"])
    assert (full["snapshots"], full["backups"]) == (None, None)


@pytest.mark.extension("container_full")
def test_a_full_list_has_what_each_instance_has(api: Client, box: str, still: str) -> None:
    full = {entry["name"]: entry for entry in api.get(f"{COLLECTION}?recursion=2")}
    for name, status in ((box, "Running"), (still, "Stopped")):
        plain = api.get(f"{COLLECTION}/{name}")
        assert {key: full[name][key] for key in plain} == plain
        assert full[name]["state"]["status"] == status
        assert full[name]["state"].keys() == api.get(f"{COLLECTION}/{name}/state").keys()
        assert {"snapshots", "backups"} <= full[name].keys()


@pytest.mark.extension("container_full")
def test_a_list_has_urls_or_objects_by_its_recursion(api: Client, box: str) -> None:
    assert f"{COLLECTION}/{box}" in api.get(COLLECTION)
    listed = {entry["name"]: entry for entry in api.get(f"{COLLECTION}?recursion=1")}
    assert listed[box] == api.get(f"{COLLECTION}/{box}")
    assert "state" not in listed[box]


@pytest.mark.extension("api_filtering")
def test_a_list_can_be_filtered(api: Client, box: str, still: str) -> None:
    both = f"name eq {box} or name eq {still}".replace(" ", "%20")
    assert sorted(api.get(f"{COLLECTION}?filter={both}")) == sorted(f"{COLLECTION}/{name}" for name in (box, still))
    running = f"status eq Running and name eq {still}".replace(" ", "%20")
    assert api.get(f"{COLLECTION}?recursion=1&filter={running}") == []


@pytest.mark.extension("api_filtering")
def test_a_malformed_filter_is_refused(api: Client) -> None:
    refusal = api.refusal("GET", f"{COLLECTION}?filter=bogus")
    assert (refusal.status, refusal.text) == (500, "Invalid filter: clause has no operator")


@pytest.mark.extension("instance_all_projects")
def test_a_list_over_all_projects_has_the_instances_of_the_default_one(api: Client, box: str) -> None:
    assert f"{COLLECTION}/{box}" in api.get(f"{COLLECTION}?all-projects=true")


def test_a_renamed_instance_answers_to_its_new_name_only(world: World) -> None:
    name, new = world.instance(), unique("r")
    world.finally_do(lambda: world.remove_instance(new))

    with world.api.events() as events:
        world.api.post(f"{COLLECTION}/{name}", {"name": new})
        events.wait_for(action="instance-renamed", source=f"{COLLECTION}/{new}", context={"old_name": name})

    assert world.api.refusal("GET", f"{COLLECTION}/{name}").status == 404
    world.start(new)
    assert world.shell(new, "hostname") == new
    assert world.pull(new, "/etc/hostname").decode().strip() == new


def test_a_running_instance_is_not_renamed(api: Client, box: str) -> None:
    refusal = api.refusal("POST", f"{COLLECTION}/{box}", {"name": unique("r")})
    assert (refusal.status, refusal.text) == (400, "Renaming of running container not allowed")


@pytest.mark.extension("event_lifecycle")
def test_creating_and_deleting_are_events(world: World, ground: Ground) -> None:
    with world.api.events() as events:
        name = world.instance()
        world.api.delete(f"{COLLECTION}/{name}")
        events.wait_for(action="instance-deleted", source=f"{COLLECTION}/{name}")
    assert events.actions(f"{COLLECTION}/{name}") == ["instance-created", "instance-deleted"]
    created = events.wait_for(action="instance-created", source=f"{COLLECTION}/{name}")
    assert created["metadata"]["context"] == {"type": "container", "storage-pool": ground.pool}


def test_a_deleted_instance_leaves_no_volume(world: World, ground: Ground) -> None:
    name = world.instance()
    volume = f"/1.0/storage-pools/{ground.pool}/volumes/container/{name}"
    assert world.api.get(volume)["used_by"] == [f"{COLLECTION}/{name}"]
    world.api.delete(f"{COLLECTION}/{name}")
    assert world.api.request("GET", volume).status == 404
    assert world.api.request("GET", f"{COLLECTION}/{name}").status == 404


def test_a_running_instance_is_not_deleted(api: Client, box: str) -> None:
    refusal = api.refusal("DELETE", f"{COLLECTION}/{box}")
    assert (refusal.status, refusal.text) == (400, "Instance is running")


@pytest.mark.extension("container_protection_delete")
def test_a_protected_instance_is_not_deleted(world: World) -> None:
    name = world.instance(config={"security.protection.delete": "true"})
    world.finally_do(lambda: world.set(name, security_protection_delete=""))

    refusal = world.api.refusal("DELETE", f"{COLLECTION}/{name}")

    assert (refusal.status, refusal.text) == (400, "Container is protected")
    assert world.api.get(f"{COLLECTION}/{name}")["status"] == "Stopped"


def test_an_ephemeral_instance_is_gone_when_it_stops(world: World) -> None:
    name = world.instance(start=True, ephemeral=True)
    world.stop(name)
    eventually(lambda: world.api.request("GET", f"{COLLECTION}/{name}").status == 404)


def test_an_instance_without_an_image_is_empty(world: World) -> None:
    name = world.instance(source={"type": "none"})
    assert world.api.get(f"{COLLECTION}/{name}")["status"] == "Stopped"


@pytest.mark.extension("container_last_used_at")
def test_an_instance_that_never_ran_was_last_used_in_1970(api: Client, still: str) -> None:
    assert api.get(f"{COLLECTION}/{still}")["last_used_at"] == "1970-01-01T00:00:00Z"


@pytest.mark.extension("container_last_used_at")
def test_the_last_use_is_the_last_start(world: World) -> None:
    name = world.instance()
    before = now()
    world.start(name)
    used = world.api.get(f"{COLLECTION}/{name}")["last_used_at"]
    world.stop(name)
    assert before <= used[:19] <= now()
    assert world.api.get(f"{COLLECTION}/{name}")["last_used_at"] == used
