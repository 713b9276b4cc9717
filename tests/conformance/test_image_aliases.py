"""Names for images: /1.0/images/aliases."""

from __future__ import annotations

import pytest

from tests.conformance.client import Client
from tests.conformance.world import Ground, World, unique

COLLECTION = "/1.0/images/aliases"


def alias(world: World, target: str, description: str = "") -> str:
    name = unique("al")
    world.finally_do(lambda: world.gone(f"{COLLECTION}/{name}"))
    answer = world.api.request("POST", COLLECTION, {"name": name, "target": target, "description": description})
    assert (answer.status, answer.headers["location"]) == (201, f"{COLLECTION}/{name}")
    return name


@pytest.mark.extension("image_create_aliases")
def test_an_alias_leads_to_its_image_and_a_launch_by_it_works(world: World, ground: Ground) -> None:
    name = alias(world, ground.image)
    instance = world.instance(start=True, source={"type": "image", "alias": name})
    assert world.shell(instance, "hostname") == instance
    aliases = world.api.get(f"/1.0/images/{ground.image}")["aliases"]
    assert {"name": name, "description": ""} in aliases


@pytest.mark.extension("image_create_aliases")
def test_aliases_named_in_a_request_for_an_image_are_made_with_it(world: World) -> None:
    name, instance = unique("al"), world.instance()
    world.finally_do(lambda: world.gone(f"{COLLECTION}/{name}"))
    request = {"source": {"type": "instance", "name": instance}, "aliases": [{"name": name, "description": "mine"}]}
    image = world.api.post("/1.0/images", {**request, "compression_algorithm": "none"})["metadata"]["fingerprint"]
    world.finally_do(lambda: world.gone(f"/1.0/images/{image}"))
    shown = world.api.get(f"{COLLECTION}/{name}")
    assert (shown["target"], shown["description"]) == (image, "mine")


def test_an_alias_is_shown_with_its_target_type_and_description(world: World, ground: Ground) -> None:
    name = alias(world, ground.image, "mine")
    expected = {"name": name, "target": ground.image, "description": "mine", "type": "container"}
    assert world.api.get(f"{COLLECTION}/{name}") == expected
    assert expected in world.api.get(f"{COLLECTION}?recursion=1")
    assert f"{COLLECTION}/{name}" in world.api.get(COLLECTION)


def test_an_alias_can_be_turned_to_another_image(world: World, ground: Ground) -> None:
    name, other = alias(world, ground.image), world.image({"mine": unique("x")})
    world.api.put(f"{COLLECTION}/{name}", {"target": other, "description": "turned"})
    shown = world.api.get(f"{COLLECTION}/{name}")
    assert (shown["target"], shown["description"]) == (other, "turned")


@pytest.mark.extension("patch")
@pytest.mark.differs("PATCH of an alias waits for itself and fails with 'context deadline exceeded'")
def test_patch_changes_only_the_description(world: World, ground: Ground) -> None:
    name = alias(world, ground.image)
    world.api.patch(f"{COLLECTION}/{name}", {"description": "new"})
    shown = world.api.get(f"{COLLECTION}/{name}")
    assert (shown["target"], shown["description"]) == (ground.image, "new")


@pytest.mark.extension("etag")
def test_an_alias_is_not_changed_with_an_old_etag(world: World, ground: Ground) -> None:
    path = f"{COLLECTION}/{alias(world, ground.image)}"
    old = world.api.etag(path)
    world.api.put(path, {"target": ground.image, "description": "new"}, If_Match=old)
    refusal = world.api.refusal("PUT", path, {"target": ground.image, "description": "late"}, {"If-Match": old})
    assert refusal.status == 412
    assert world.api.get(path)["description"] == "new"


@pytest.mark.extension("event_lifecycle")
def test_an_alias_can_be_renamed_and_deleted_and_that_is_seen(world: World, ground: Ground) -> None:
    with world.api.events() as events:
        name, new = alias(world, ground.image), unique("al")
        answer = world.api.request("POST", f"{COLLECTION}/{name}", {"name": new})
        world.api.delete(f"{COLLECTION}/{new}")
        events.wait_for(action="image-alias-deleted", source=new)
    assert (answer.status, answer.headers["location"]) == (201, f"{COLLECTION}/{new}")
    assert world.api.request("GET", f"{COLLECTION}/{name}").status == 404
    assert events.actions(name) == ["image-alias-created"]
    assert events.actions(new) == ["image-alias-renamed", "image-alias-deleted"]


def test_a_second_alias_of_a_name_is_refused(world: World, ground: Ground) -> None:
    name, other = alias(world, ground.image), alias(world, ground.image)
    twice = world.api.refusal("POST", COLLECTION, {"name": name, "target": ground.image})
    renamed = world.api.refusal("POST", f"{COLLECTION}/{other}", {"name": name})
    for refusal in (twice, renamed):
        assert (refusal.status, refusal.text) == (409, f'Alias "{name}" already exists')


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"name": "al", "target": "0" * 64}, 404, "Image not found"),
        ({"name": "", "target": "x"}, 400, "name and target are required"),
        ({"name": "al"}, 400, "name and target are required"),
    ],
)
def test_an_alias_without_a_name_or_an_image_is_refused(
    api: Client, body: dict[str, str], status: int, text: str
) -> None:
    refusal = api.refusal("POST", COLLECTION, body)
    assert (refusal.status, refusal.text) == (status, text)


@pytest.mark.parametrize("verb", ["GET", "DELETE"])
def test_a_missing_alias_is_not_found(api: Client, verb: str) -> None:
    refusal = api.refusal(verb, f"{COLLECTION}/no-such-alias")
    assert (refusal.status, refusal.text) == (404, "Image alias not found")
