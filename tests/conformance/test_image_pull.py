"""Images from another server: the server itself, asked over HTTPS from another project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance import images
from tests.conformance.client import eventually
from tests.conformance.tls import Identity, Remote, free_port
from tests.conformance.world import Ground, World, unique


@pytest.fixture(scope="module")
def https(ground: Ground) -> Iterator[str]:
    """Where the server listens on HTTPS."""
    port = free_port()
    ground.api.patch("/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
    eventually(lambda: _answers(port))
    yield f"https://127.0.0.1:{port}"
    ground.api.patch("/1.0", {"config": {"core.https_address": ""}})


def _answers(port: int) -> bool:
    try:
        return Remote(port).request("GET", "/1.0").status == 200
    except OSError:
        return False


@pytest.fixture
def project(world: World) -> str:
    name = unique("pr")
    world.finally_do(lambda: world.gone(f"/1.0/projects/{name}"))
    world.api.post("/1.0/projects", {"name": name, "config": {"features.images": "true"}})
    return name


def source(world: World, server: str, **fields: Any) -> dict[str, Any]:
    certificate = world.api.get("/1.0")["environment"]["certificate"]
    base = {"type": "image", "mode": "pull", "protocol": "lxd", "server": server, "certificate": certificate}
    return {**base, **fields}


def pulled(world: World, project: str, given: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The image as the project shows it."""
    operation = world.api.post(f"/1.0/images?project={project}", {"source": given, **fields})
    fingerprint = operation["metadata"]["fingerprint"]
    world.finally_do(lambda: world.gone(f"/1.0/images/{fingerprint}?project={project}"))
    shown: dict[str, Any] = world.api.get(f"/1.0/images/{fingerprint}?project={project}")
    return shown


@pytest.mark.extension("images_target_project")
def test_a_public_image_comes_to_the_project_that_asks(world: World, https: str, project: str) -> None:
    image = world.image({"mine": unique("x")}, **{"X-LXD-public": "1"})
    shown = pulled(world, project, source(world, https, fingerprint=image))
    assert shown["fingerprint"] == image
    assert shown["public"] is False
    original = world.api.get(f"/1.0/images/{image}")
    for field in ("properties", "size", "architecture", "created_at", "type"):
        assert shown[field] == original[field]
    exported = world.api.request("GET", f"/1.0/images/{image}/export?project={project}")
    assert images.fingerprint(exported.body) == image


@pytest.mark.extension("image_source_project")
def test_a_private_image_of_a_project_comes_with_its_secret(world: World, https: str, project: str) -> None:
    data = images.unified_with({"mine": unique("x")})
    image = images.fingerprint(data)
    world.finally_do(lambda: world.gone(f"/1.0/images/{image}?project={project}"))
    world.api.wait(world.api.request("POST", f"/1.0/images?project={project}", data, images_headers()))
    given = source(world, https, fingerprint=image)
    refused = world.api.refusal("POST", "/1.0/images", {"source": {**given, "project": project}})
    assert "not found" in refused.text.lower()
    answer = world.api.request("POST", f"/1.0/images/{image}/secret?project={project}")
    secret = answer.metadata["metadata"]["secret"]
    shown = pulled(world, "default", {**given, "project": project, "secret": secret})
    assert shown["fingerprint"] == image


def images_headers() -> dict[str, str]:
    return {"Content-Type": images.UNIFIED}


def test_a_split_image_comes_whole(world: World, https: str, project: str) -> None:
    meta, rootfs = images.split("squashfs", {"mine": unique("x")})
    body, headers = images.multipart(meta, rootfs)
    image = images.fingerprint(meta, rootfs)
    world.finally_do(lambda: world.gone(f"/1.0/images/{image}"))
    world.api.wait(world.api.request("POST", "/1.0/images", body, {**headers, "X-LXD-public": "1"}))
    shown = pulled(world, project, source(world, https, fingerprint=image))
    assert shown["size"] == len(meta) + len(rootfs)


@pytest.mark.extension("image_create_aliases")
def test_an_image_is_found_by_its_alias_and_given_aliases(world: World, https: str, project: str) -> None:
    image, name, own = world.image({"mine": unique("x")}, **{"X-LXD-public": "1"}), unique("al"), unique("al")
    world.finally_do(lambda: world.gone(f"/1.0/images/aliases/{name}"))
    world.api.post("/1.0/images/aliases", {"name": name, "target": image})
    shown = pulled(world, project, source(world, https, alias=name), aliases=[{"name": own}], auto_update=True)
    assert shown["fingerprint"] == image
    assert shown["auto_update"] is True
    assert shown["update_source"]["alias"] == name


@pytest.mark.parametrize("fields", [{"fingerprint": "0" * 64}, {"alias": "nope"}], ids=["fingerprint", "alias"])
def test_what_the_other_server_has_not_is_not_found(
    world: World, https: str, project: str, fields: dict[str, str]
) -> None:
    refusal = world.api.refusal("POST", f"/1.0/images?project={project}", {"source": source(world, https, **fields)})
    assert "not found" in refusal.text.lower()


def test_a_server_with_another_certificate_is_not_trusted(
    world: World, https: str, project: str, tmp_path: Any
) -> None:
    other = Identity.make(tmp_path, "other").pem
    image = world.image({"mine": unique("x")}, **{"X-LXD-public": "1"})
    given = source(world, https, fingerprint=image, certificate=other)
    world.api.refusal("POST", f"/1.0/images?project={project}", {"source": given})
    assert world.api.get(f"/1.0/images?project={project}") == []


def test_a_server_that_is_not_there_is_told(world: World, project: str) -> None:
    given = source(world, f"https://127.0.0.1:{free_port()}", fingerprint="0" * 64)
    refusal = world.api.refusal("POST", f"/1.0/images?project={project}", {"source": given})
    assert "Failed to connect to LXD server" in refusal.text


def test_a_source_without_an_image_is_refused(world: World, https: str, project: str) -> None:
    refusal = world.api.refusal("POST", f"/1.0/images?project={project}", {"source": source(world, https)})
    assert refusal.text == "must specify one of alias or fingerprint for init from image"


@pytest.mark.extension("image_force_refresh")
def test_an_image_is_fetched_anew_when_its_alias_leads_to_another(world: World, https: str, project: str) -> None:
    first, name, own = world.image({"mine": unique("x")}, **{"X-LXD-public": "1"}), unique("al"), unique("al")
    world.finally_do(lambda: world.gone(f"/1.0/images/aliases/{name}"))
    world.api.post("/1.0/images/aliases", {"name": name, "target": first})
    pulled(world, project, source(world, https, alias=name), auto_update=True)
    world.finally_do(lambda: world.gone(f"/1.0/images/aliases/{own}?project={project}"))
    world.api.post(f"/1.0/images/aliases?project={project}", {"name": own, "target": first})
    same = world.api.post(f"/1.0/images/{first}/refresh?project={project}")
    assert same["metadata"]["refreshed"] is False
    second = world.image({"mine": unique("x")}, **{"X-LXD-public": "1"})
    world.api.put(f"/1.0/images/aliases/{name}", {"target": second})
    world.finally_do(lambda: world.gone(f"/1.0/images/{second}?project={project}"))
    operation = world.api.post(f"/1.0/images/{first}/refresh?project={project}")
    assert operation["metadata"]["refreshed"] is True
    assert world.api.get(f"/1.0/images?project={project}") == [f"/1.0/images/{second}"]
    assert world.api.get(f"/1.0/images/aliases/{own}?project={project}")["target"] == second


@pytest.mark.extension("image_force_refresh")
def test_an_image_without_a_source_is_not_refreshed(world: World) -> None:
    image = world.image({"mine": unique("x")})
    assert "Image source not found" in world.api.refusal("POST", f"/1.0/images/{image}/refresh").text
