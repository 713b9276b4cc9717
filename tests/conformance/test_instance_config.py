"""The configuration of an instance: its own keys, those of its profiles, and how they are changed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.client import Client
from tests.conformance.kernel import control
from tests.conformance.world import World


def show(world: World, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = world.api.get(f"/1.0/instances/{name}")
    return shown


def user_keys(world: World, name: str) -> dict[str, str]:
    return {key: value for key, value in show(world, name)["config"].items() if key.startswith("user.")}


@pytest.mark.extension("patch")
def test_patch_changes_the_keys_it_names_and_an_empty_value_removes_one(world: World) -> None:
    name = world.instance(config={"user.a": "1", "user.b": "2"})
    world.api.patch(f"/1.0/instances/{name}", {"config": {"user.b": "3", "user.c": "4"}})
    assert user_keys(world, name) == {"user.a": "1", "user.b": "3", "user.c": "4"}

    world.api.patch(f"/1.0/instances/{name}", {"config": {"user.a": ""}})
    assert user_keys(world, name) == {"user.b": "3", "user.c": "4"}


@pytest.mark.extension("patch")
@pytest.mark.differs("PATCH without a description clears it")
def test_patch_keeps_a_description_it_does_not_name(world: World) -> None:
    name = world.instance(description="before")
    world.set(name, user_a="1")
    assert show(world, name)["description"] == "before"


@pytest.mark.extension("patch")
def test_put_replaces_what_it_leaves_out(world: World) -> None:
    name = world.instance(config={"user.a": "1", "user.b": "2"})
    whole = show(world, name)
    config = {key: value for key, value in whole["config"].items() if key != "user.a"}
    world.api.put(f"/1.0/instances/{name}", {**whole, "config": config})
    assert user_keys(world, name) == {"user.b": "2"}


@pytest.mark.extension("patch")
def test_patch_answers_at_once_and_put_with_an_operation(world: World) -> None:
    path = f"/1.0/instances/{world.instance()}"
    assert world.api.request("PATCH", path, {"config": {"user.a": "1"}}).status == 200
    answer = world.api.request("PUT", path, world.api.get(path))
    assert (answer.status, answer.metadata["description"]) == (202, "Updating instance")
    world.api.wait(answer)


@pytest.mark.extension("etag")
@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_a_change_with_an_old_etag_is_refused(world: World, verb: str) -> None:
    path = f"/1.0/instances/{world.instance()}"
    old = world.api.etag(path)
    world.api.patch(path, {"config": {"user.a": "1"}})
    current = world.api.request("GET", path)

    refusal = world.api.refusal(verb, path, {**current.metadata, "description": "late"}, {"If-Match": old})

    assert refusal.status == 412
    assert refusal.text.startswith("ETag doesn't match: ")
    assert world.api.get(path) == current.metadata
    world.api.change(verb, path, {**current.metadata, "description": "in time"}, {"If-Match": current.etag})
    assert world.api.get(path)["description"] == "in time"


@pytest.mark.extension("etag")
def test_the_etag_stays_while_nothing_that_can_be_edited_changes(world: World) -> None:
    name = world.instance()
    path = f"/1.0/instances/{name}"
    before = world.api.etag(path)
    assert world.api.etag(path) == before
    world.start(name)
    world.stop(name)
    config = world.api.get(path)["config"]
    world.set(name, user_a="1")
    assert world.api.etag(path) != before
    assert world.api.get(path)["config"] == {**config, "user.a": "1"}


@pytest.mark.extension("entity_description")
def test_the_description_of_an_instance_is_kept_and_listed(world: World) -> None:
    name = world.instance()
    world.api.patch(f"/1.0/instances/{name}", {"description": "a box"})
    assert show(world, name)["description"] == "a box"
    listed = {entry["name"]: entry for entry in world.api.get("/1.0/instances?recursion=1")}
    assert listed[name]["description"] == "a box"


def test_the_keys_of_profiles_are_laid_over_each_other_and_below_the_instances_own(world: World) -> None:
    first = world.profile({"user.a": "first", "user.b": "first", "user.c": "first"})
    second = world.profile({"user.b": "second", "user.c": "second"})
    name = world.instance(config={"user.c": "own"}, profiles=[first, second])
    shown = show(world, name)
    expanded = {key: value for key, value in shown["expanded_config"].items() if key.startswith("user.")}
    assert expanded == {"user.a": "first", "user.b": "second", "user.c": "own"}
    assert user_keys(world, name) == {"user.c": "own"}
    assert shown["profiles"] == [first, second]


def test_the_devices_of_a_profile_are_expanded_and_can_be_masked(world: World) -> None:
    profile = world.profile(devices={"p0": {"type": "nic", "nictype": "p2p"}})
    name = world.instance(profiles=[profile])
    assert show(world, name)["expanded_devices"]["p0"] == {"type": "nic", "nictype": "p2p"}
    assert "p0" not in show(world, name)["devices"]

    devices = show(world, name)["devices"]
    world.api.patch(f"/1.0/instances/{name}", {"devices": {**devices, "p0": {"type": "none"}}})

    assert show(world, name)["expanded_devices"]["p0"] == {"type": "none"}


def test_a_change_of_a_profile_reaches_its_running_instances(world: World) -> None:
    profile = world.profile({"limits.memory": "64MiB"})
    name = world.instance(start=True, profiles=[profile])
    world.api.patch(f"/1.0/profiles/{profile}", {"config": {"limits.memory": "96MiB"}})
    assert show(world, name)["expanded_config"]["limits.memory"] == "96MiB"
    limit = control(world.pid(name), name, "memory", "memory.limit_in_bytes", "memory.max")
    assert limit == str(96 << 20)


@pytest.mark.extension("event_lifecycle")
def test_a_change_of_configuration_is_an_event(world: World) -> None:
    name = world.instance()
    with world.api.events() as events:
        world.set(name, user_a="1")
        events.wait_for(action="instance-updated", source=name)
    assert events.actions(name) == ["instance-updated"]


def test_the_identity_of_an_instance_is_volatile_config(api: Client, box: str) -> None:
    config = api.get(f"/1.0/instances/{box}")["config"]
    assert len(config["volatile.uuid"]) == len(config["volatile.cloud-init.instance-id"]) == 36
    assert config["volatile.last_state.power"] == "RUNNING"


def test_raw_lxc_reaches_the_container(world: World) -> None:
    name = world.instance(start=True, config={"raw.lxc": "lxc.environment = FROM_RAW=yes"})
    assert "FROM_RAW=yes" in world.shell(name, "tr '\\0' '\\n' </proc/1/environ").splitlines()


def test_a_privileged_instance_has_no_map_of_its_own(world: World) -> None:
    name = world.instance(start=True, config={"security.privileged": "true"})
    assert world.shell(name, "cat /proc/self/uid_map").split() == ["0", "0", "4294967295"]


def test_sysctls_are_set_inside(world: World) -> None:
    name = world.instance(start=True, config={"linux.sysctl.net.ipv4.ip_forward": "1"})
    assert world.shell(name, "cat /proc/sys/net/ipv4/ip_forward") == "1"


BAD_KEYS = [
    ("bogus", "1", "Unknown configuration key: bogus"),
    ("limits.cpu", "x", "Invalid CPU limit syntax"),
    ("limits.memory", "5XB", "Invalid value: 5XB"),
    ("limits.processes", "-", 'Invalid value for an integer "-"'),
    ("limits.cpu.priority", "11", 'Invalid value for a limit "11". Must be between 0 and 10'),
    ("limits.cpu.allowance", "x", "Invalid allowance: x"),
    ("limits.memory.enforce", "x", 'Invalid value "x" (not one of [soft hard])'),
    ("boot.autostart", "maybe", 'Invalid value for a boolean "maybe"'),
    ("boot.stop.priority", "x", 'Invalid value for an integer "x"'),
    ("boot.host_shutdown_timeout", "abc", 'Invalid value for an integer "abc"'),
    ("security.privileged", "x", 'Invalid value for a boolean "x"'),
    ("security.protection.delete", "x", 'Invalid value for a boolean "x"'),
    ("security.idmap.base", "99999999999", 'Invalid value for uint32 "99999999999"'),
    ("volatile.foo", "x", "Unknown configuration key: volatile.foo"),
]


@pytest.mark.parametrize(("key", "value", "text"), BAD_KEYS)
def test_a_key_or_value_that_is_not_valid_is_refused_and_changes_nothing(
    api: Client, still: str, key: str, value: str, text: str
) -> None:
    path = f"/1.0/instances/{still}"
    before = api.get(path)
    refusal = api.refusal("PATCH", path, {"config": {key: value, "user.beside": "1"}})
    assert refusal.status == 500
    assert refusal.text.startswith(f"Invalid config: {text}")
    assert api.get(path) == before


@pytest.mark.parametrize(("key", "value", "text"), [BAD_KEYS[0], BAD_KEYS[2], BAD_KEYS[7]])
def test_a_put_that_is_not_valid_fails_its_operation(api: Client, still: str, key: str, value: str, text: str) -> None:
    path = f"/1.0/instances/{still}"
    before = api.get(path)
    refusal = api.refusal("PUT", path, {**before, "config": {**before["config"], key: value}})
    assert refusal.status == 400
    assert refusal.text.startswith(f"Invalid config: {text}")
    assert api.get(path) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        ({"config": {"user.a": 1}}, 400),
        ({"description": 5}, 400),
        ({"profiles": ["no-such-profile"]}, 404),
        ({"devices": {"x": {"type": "bogus"}}}, 500),
    ],
)
def test_a_change_of_the_wrong_shape_is_refused(api: Client, still: str, body: Any, status: int) -> None:
    path = f"/1.0/instances/{still}"
    before = api.get(path)
    assert api.refusal("PATCH", path, body, {"Content-Type": "application/json"}).status == status
    assert api.get(path) == before


def test_the_keys_of_the_id_map_cannot_be_deleted_by_leaving_them_out(api: Client, still: str) -> None:
    path = f"/1.0/instances/{still}"
    refusal = api.refusal("PUT", path, {**api.get(path), "config": {}})
    assert (refusal.status, refusal.text) == (400, "Volatile idmap keys can't be deleted by the user")
