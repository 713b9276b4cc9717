"""An instance's own copy of its image's metadata, and the templates that are rendered into it."""

from __future__ import annotations

import pytest

from tests.conformance.client import Client
from tests.conformance.world import World, unique

RULE = {"when": ["start"], "create_only": False, "template": "t.tpl", "properties": {"color": "blue"}}


def with_template(world: World, name: str, rule: dict[str, object], text: bytes) -> None:
    """Gives the instance a template for /etc/t.txt."""
    path = f"/1.0/instances/{name}/metadata"
    document = world.api.get(path)
    document["templates"]["/etc/t.txt"] = rule
    world.api.put(path, document)
    world.api.post(f"{path}/templates?path=t.tpl", text)


def test_the_metadata_is_that_of_the_image(api: Client, still: str) -> None:
    metadata = api.get(f"/1.0/instances/{still}/metadata")
    assert (metadata["architecture"], metadata["creation_date"]) == ("x86_64", 1_700_000_000)
    assert metadata["expiry_date"] == 0
    assert metadata["properties"]["os"] == "Busybox"
    assert metadata["templates"]["/etc/hostname"]["template"] == "hostname.tpl"


def test_the_templates_of_the_image_are_rendered_at_the_first_start(api: Client, box: str) -> None:
    answer = api.request("GET", f"/1.0/instances/{box}/files?path=/etc/hostname")
    assert answer.body == f"{box}\n".encode()


@pytest.mark.extension("container_edit_metadata")
def test_a_template_is_rendered_with_what_is_known_of_the_instance(world: World) -> None:
    name = world.instance(config={"user.color": "green"})
    text = b"{{ container.name }}|{{ instance.type }}|{{ trigger }}|{{ path }}|{{ properties.color }}|"
    text += b"{{ config_get('user.color', 'none') }}|{{ config_get('user.other', 'none') }}\n"
    with_template(world, name, RULE, text)

    world.start(name)

    expected = f"{name}|container|start|/etc/t.txt|blue|green|none"
    assert world.pull(name, "/etc/t.txt").decode().strip() == expected


@pytest.mark.extension("container_edit_metadata")
def test_a_template_for_creation_only_leaves_an_existing_file_alone(world: World) -> None:
    name = world.instance()
    world.push(name, "/etc/t.txt", b"mine")
    with_template(world, name, {**RULE, "create_only": True}, b"rendered")
    world.start(name)
    assert world.pull(name, "/etc/t.txt") == b"mine"


@pytest.mark.extension("container_edit_metadata")
def test_metadata_is_replaced_by_put_and_merged_by_patch(world: World) -> None:
    path = f"/1.0/instances/{world.instance()}/metadata"
    document = world.api.get(path)

    world.api.put(path, {**document, "properties": {"one": "1"}})
    world.api.patch(path, {"properties": {"two": "2"}})

    assert world.api.get(path) == {**document, "properties": {"one": "1", "two": "2"}}


@pytest.mark.extension("etag")
@pytest.mark.parametrize(
    "verb", ["PATCH", pytest.param("PUT", marks=pytest.mark.differs("PUT of metadata ignores If-Match"))]
)
def test_metadata_is_not_changed_with_an_old_etag(world: World, verb: str) -> None:
    path = f"/1.0/instances/{world.instance()}/metadata"
    old = world.api.etag(path)
    world.api.patch(path, {"properties": {"one": "1"}}, If_Match=old)
    document = world.api.get(path)

    refusal = world.api.refusal(verb, path, {**document, "properties": {"one": "2"}}, {"If-Match": old})

    assert refusal.status == 412
    assert world.api.get(path) == document


@pytest.mark.extension("container_edit_metadata")
def test_a_template_can_be_listed_read_and_deleted(world: World) -> None:
    path = f"/1.0/instances/{world.instance()}/metadata/templates"
    world.api.post(f"{path}?path=t.tpl", b"text")
    assert sorted(world.api.get(path)) == ["hostname.tpl", "t.tpl"]
    assert world.api.request("GET", f"{path}?path=t.tpl").body == b"text"
    world.api.delete(f"{path}?path=t.tpl")
    assert world.api.get(path) == ["hostname.tpl"]


@pytest.mark.extension("container_edit_metadata")
@pytest.mark.parametrize("verb", ["GET", "DELETE"])
def test_a_missing_template_is_not_found(api: Client, still: str, verb: str) -> None:
    refusal = api.refusal(verb, f"/1.0/instances/{still}/metadata/templates?path=nope")
    assert (refusal.status, refusal.text) == (404, 'Template "nope" not found')


@pytest.mark.extension("container_edit_metadata")
@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_a_template_outside_of_its_directory_is_refused(api: Client, still: str, verb: str) -> None:
    refusal = api.refusal(verb, f"/1.0/instances/{still}/metadata/templates?path=../metadata.yaml", b"x")
    assert (refusal.status, refusal.text) == (500, "Invalid template filename")


def test_malformed_metadata_is_refused_and_changes_nothing(api: Client, still: str) -> None:
    path = f"/1.0/instances/{still}/metadata"
    before = api.get(path)
    assert api.refusal("PUT", path, b"{", {"Content-Type": "application/json"}).status == 400
    assert api.get(path) == before


@pytest.mark.extension("event_lifecycle")
def test_changes_of_metadata_and_templates_are_events(world: World) -> None:
    name = world.instance()
    path = f"/1.0/instances/{name}/metadata"
    template = f"{unique('t')}.tpl"
    with world.api.events() as events:
        world.api.patch(path, {"properties": {"one": "1"}})
        world.api.post(f"{path}/templates?path={template}", b"text")
        world.api.delete(f"{path}/templates?path={template}")
        events.wait_for(action="instance-metadata-template-deleted", context={"path": template})
    assert events.actions(f"{name}/metadata") == ["instance-metadata-updated"]
    assert events.actions(f"{name}/metadata/templates") == [
        "instance-metadata-template-created",
        "instance-metadata-template-deleted",
    ]


@pytest.mark.parametrize("key", ["cloud-init.user-data", "cloud-init.vendor-data", "cloud-init.network-config"])
def test_what_cloud_init_is_to_read_comes_by_way_of_a_template(world: World, key: str) -> None:
    name = world.instance(config={key: "#cloud-config\nhostname: x\n"})
    with_template(world, name, RULE, f"{{{{ config_get('{key}', '') }}}}".encode())
    world.start(name)
    assert world.pull(name, "/etc/t.txt").decode().strip() == "#cloud-config\nhostname: x"
