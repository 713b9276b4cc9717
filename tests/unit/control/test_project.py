"""Projects: names, configuration, what keeps one from being removed, who sees which."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis import errors
from chassis.calls import Call, Caller
from chassis.store import Change
from gen.nubibus.control.v1 import control_pb2
from rows.control import CERTIFICATE, Certificate
from rows.instance import INSTANCE, Instance
from rows.profile import PROFILE, Profile
from tests.unit.control.conftest import ADMIN, World, collected

RESTRICTED = Call(caller=Caller(protocol="tls", trusted=True, fingerprint="f", projects=("p1",)))


def put(name: str, if_match: str = "", /, **body: Any) -> control_pb2.PutRequest:
    return control_pb2.PutRequest(name=name, body=json.dumps(body).encode(), if_match=if_match)


def named(name: str) -> control_pb2.NameRequest:
    return control_pb2.NameRequest(name=name)


async def shown(world: World, name: str) -> dict[str, Any]:
    return dict(json.loads((await world.projects.Get(named(name), ADMIN)).json))


async def test_the_default_project_has_every_feature(world: World) -> None:
    config = (await shown(world, "default"))["config"]
    assert config == dict.fromkeys(
        ("features.images", "features.networks", "features.profiles", "features.storage.volumes"), "true"
    )


async def test_a_new_project_comes_with_its_default_profile_in_one_change(world: World) -> None:
    answer = await world.project("p1")
    assert (answer.status, answer.location) == (201, "/1.0/projects/p1")
    found = await shown(world, "p1")
    assert found["config"] == dict.fromkeys(
        ("features.images", "features.profiles", "features.storage.volumes"), "true"
    )
    assert found["used_by"] == ["/1.0/profiles/default?project=p1"]
    assert [event["action"] for event in world.events()] == ["project-created"]
    assert world.events()[0]["requestor"]["username"] == "root"


async def test_without_the_feature_there_is_no_profile(world: World) -> None:
    await world.project("p1", features__profiles="false")
    assert (await shown(world, "p1"))["used_by"] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "No name provided"),
        ("a/b", "Project names may not contain slashes"),
        ("*", "Reserved project name"),
        ("..", 'Invalid project name ".."'),
        ("a b", "Project names may not contain spaces"),
        ("a_b", "Project names may not contain underscores"),
        ("a'b", "Project names may not contain quotes"),
        ("a" * 64, "longer than 63 characters"),
        ("a\x00b", "cannot be printed"),
    ],
)
async def test_names_that_are_refused(world: World, name: str, text: str) -> None:
    with pytest.raises(errors.BadRequest) as raised:
        await world.project(name)
    assert text in raised.value.text


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("foo", "bar", 'Invalid project configuration key "foo"'),
        ("features.images", "x", 'key "features.images" value: Invalid value for a boolean "x"'),
        ("limits.instances", "x", 'Invalid value for uint32 "x": strconv.ParseUint: parsing "x": invalid syntax'),
        ("limits.instances", "5000000000", "value out of range"),
        ("limits.memory", "50%", 'key "limits.memory" value: Invalid value: 50%'),
        ("limits.cpu", "0-1", 'Invalid value for uint32 "0-1"'),
        ("backups.compression_algorithm", "nope", 'Invalid compression algorithm "nope"'),
        ("backups.compression_algorithm", "gzip;id", 'Invalid compression algorithm "gzip;id"'),
        ("restricted.containers.nesting", "foo", 'Invalid value "foo" (not one of [block allow])'),
        ("restricted", "maybe", 'Invalid value for a boolean "maybe"'),
        ("restricted.devices.nic", "x", 'Invalid value "x" (not one of [block allow managed])'),
        ("restricted.idmap.uid", "x", 'Item "x": Invalid number "x"'),
        ("restricted.networks.uplinks", "n", "OVN networks are not supported yet"),
    ],
)
async def test_keys_that_are_refused(world: World, key: str, value: str, text: str) -> None:
    with pytest.raises(errors.BadRequest) as raised:
        await world.project("p", **{key: value})
    assert text in raised.value.text
    assert world.projects.rows.get("p") is None


async def test_a_name_is_taken_once(world: World) -> None:
    await world.project("p1")
    with pytest.raises(errors.Conflict, match="entry already exists"):
        await world.project("p1")


async def test_put_replaces_and_patch_lays_over(world: World) -> None:
    await world.project("p1", user__a="1")
    await world.projects.Patch(put("p1", config={"user.b": "2"}, description="d"), ADMIN)
    found = await shown(world, "p1")
    assert (found["config"]["user.a"], found["config"]["user.b"], found["description"]) == ("1", "2", "d")
    await world.projects.Put(put("p1", config={"features.profiles": "true", "user.b": "3"}), ADMIN)
    found = await shown(world, "p1")
    assert found["config"] == {"features.profiles": "true", "user.b": "3"}
    assert found["description"] == ""


async def test_if_match_guards_a_put(world: World) -> None:
    await world.project("p1")
    etag = (await world.projects.Get(named("p1"), ADMIN)).etag
    await world.projects.Patch(put("p1", etag, description="one"), ADMIN)
    with pytest.raises(errors.PreconditionFailed, match="ETag doesn't match"):
        await world.projects.Patch(put("p1", etag, description="two"), ADMIN)


async def test_the_default_project_keeps_its_features_and_its_name(world: World) -> None:
    with pytest.raises(errors.BadRequest, match="can't change the features of the default project"):
        await world.projects.Put(put("default", config={}), ADMIN)
    with pytest.raises(errors.Forbidden, match="cannot be renamed"):
        await world.projects.Rename(put("default", name="x"), ADMIN)
    with pytest.raises(errors.Forbidden, match="cannot be deleted"):
        await world.projects.Delete(named("default"), ADMIN)


async def test_a_project_in_use_is_neither_removed_nor_renamed_nor_given_other_features(world: World) -> None:
    await world.project("p1")
    instance = Instance(project="p1", name="c1", uid="u", created_at=datetime.now(UTC))
    await world.store.commit(Change().put(INSTANCE, instance, expect=0))
    assert (await shown(world, "p1"))["used_by"][0] == "/1.0/instances/c1?project=p1"
    with pytest.raises(errors.Internal, match="Only empty projects can be removed"):
        await world.projects.Delete(named("p1"), ADMIN)
    with pytest.raises(errors.BadRequest, match="Only empty projects can be renamed"):
        await world.projects.Rename(put("p1", name="p2"), ADMIN)
    with pytest.raises(errors.BadRequest, match="Features can only be changed on empty projects"):
        await world.projects.Patch(put("p1", config={"features.images": "false"}), ADMIN)
    state = json.loads((await world.projects.State(named("p1"), ADMIN)).json)["resources"]
    assert state["instances"] == {"Limit": -1, "Usage": 1}
    assert state["virtual-machines"] == {"Limit": -1, "Usage": 0}


async def test_a_project_without_its_own_profiles_is_not_restricted(world: World) -> None:
    with pytest.raises(errors.BadRequest, match="Projects without their own profiles cannot be restricted"):
        await world.project("p1", restricted="true", features__profiles="false")


async def test_restrictions_are_not_tightened_over_what_is_there(world: World) -> None:
    await world.project("p1")
    profile = Profile(project="p1", name="nested", config={"security.nesting": "true"})
    instance = Instance(project="p1", name="c1", uid="u", created_at=datetime.now(UTC), profiles=("nested",))
    await world.store.commit(Change().put(PROFILE, profile, expect=0).put(INSTANCE, instance, expect=0))
    with pytest.raises(errors.Internal) as raised:
        await world.projects.Patch(put("p1", config={"restricted": "true"}), ADMIN)
    assert raised.value.text == (
        'Conflict detected when changing "restricted" in project "p1": Invalid value "true" for config "security.nesting" '
        'on container "c1" of project "p1": Container nesting is forbidden'
    )
    allowed = {"restricted": "true", "restricted.containers.nesting": "allow"}
    await world.projects.Patch(put("p1", config=allowed), ADMIN)
    with pytest.raises(errors.Internal, match=r'Conflict detected when changing "restricted\.containers\.nesting"'):
        await world.projects.Patch(put("p1", config={"restricted.containers.nesting": "block"}), ADMIN)


async def test_a_limit_is_shown_and_never_below_what_is_there(world: World) -> None:
    await world.project("p1", limits__instances="2")
    for name in ("c1", "c2"):
        instance = Instance(project="p1", name=name, uid=name, created_at=datetime.now(UTC))
        await world.store.commit(Change().put(INSTANCE, instance, expect=0))
    state = json.loads((await world.projects.State(named("p1"), ADMIN)).json)["resources"]
    assert state["instances"] == {"Limit": 2, "Usage": 2}
    for key, text in (
        ("limits.instances", '"limits.instances" is too low: there currently are 2 total instances in project "p1"'),
        ("limits.containers", "there currently are 2 instances of type container"),
    ):
        with pytest.raises(errors.Internal) as raised:
            await world.projects.Patch(put("p1", config={key: "1"}), ADMIN)
        assert text in raised.value.text
    await world.projects.Patch(put("p1", config={"limits.instances": ""}), ADMIN)
    assert "limits.instances" not in (await shown(world, "p1"))["config"]


async def test_removing_a_project_takes_its_default_profile_and_the_clients_rights_along(world: World) -> None:
    await world.project("p1")
    client = Certificate(fingerprint="f", name="n", certificate="", restricted=True, projects=("p1", "default"))
    await world.store.commit(Change().put(CERTIFICATE, client, expect=0))
    await world.projects.Delete(named("p1"), ADMIN)
    assert world.holdings.profiles.get("p1", "default") is None
    row = world.certificates.rows.one("f").value
    assert (row.restricted, row.projects) == (True, ("default",))


async def test_renaming_is_an_operation_and_keeps_what_belongs_to_it(world: World) -> None:
    await world.project("p1", user__a="1")
    client = Certificate(fingerprint="f", name="n", certificate="", restricted=True, projects=("p1",))
    await world.store.commit(Change().put(CERTIFICATE, client, expect=0))
    answer = await world.projects.Rename(put("p1", name="p2"), ADMIN)
    operation = await world.operations.wait(answer.accepted.id)
    assert (operation.description, operation.status_code) == ("Renaming project", 200)
    found = await shown(world, "p2")
    assert found["config"]["user.a"] == "1"
    assert found["used_by"] == ["/1.0/profiles/default?project=p2"]
    assert world.projects.rows.get("p1") is None
    assert world.certificates.rows.one("f").value.projects == ("p2",)


async def test_a_restricted_client_sees_its_projects_alone(world: World) -> None:
    await world.project("p1")
    await world.project("p2")
    urls = await collected(world.projects.List(control_pb2.PlainListRequest(), RESTRICTED))
    assert urls == ["/1.0/projects/p1"]
    await world.projects.Get(named("p1"), RESTRICTED)
    for name in ("p2", "nothing"):  # and cannot tell one that it may not see from one that is not there
        with pytest.raises(errors.Forbidden):
            await world.projects.Get(named(name), RESTRICTED)


async def test_the_default_project_comes_first_in_the_list(world: World) -> None:
    await world.project("a")
    found = await collected(world.projects.List(control_pb2.PlainListRequest(recursion=1), ADMIN))
    assert [one["name"] for one in found] == ["default", "a"]
