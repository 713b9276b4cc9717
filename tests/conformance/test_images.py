"""Images: import in every shape, show, edit, export, delete."""

from __future__ import annotations

import hashlib
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.conformance import images
from tests.conformance.client import Answer, Client, eventually
from tests.conformance.world import World, unique
from tools import busybox_image as busybox


def upload(world: World, data: bytes, **headers: str) -> str:
    world.finally_do(lambda: world.gone(f"/1.0/images/{images.fingerprint(data)}"))
    return images.upload(world.api, data, **headers)


def upload_split(world: World, meta: bytes, rootfs: bytes, **headers: str) -> str:
    world.finally_do(lambda: world.gone(f"/1.0/images/{images.fingerprint(meta, rootfs)}"))
    return images.upload_split(world.api, meta, rootfs, **headers)


def parts(answer: Answer) -> dict[str, tuple[str, bytes]]:
    """A multipart export: name of the part -> file name and content."""
    message = message_from_bytes(
        b"Content-Type: " + answer.headers["content-type"].encode() + b"\r\n\r\n" + answer.body
    )
    found = {}
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, str):
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            found[name] = (part.get_filename() or "", data)
    return found


@pytest.mark.parametrize("compression", sorted(busybox.COMPRESSORS))
def test_a_unified_image_is_imported_hashed_and_exported_unchanged(world: World, compression: str) -> None:
    data = images.unified_with({"mine": unique("x")}, compression)
    fingerprint = upload(world, data)
    assert fingerprint == hashlib.sha256(data).hexdigest()
    shown = world.api.get(f"/1.0/images/{fingerprint}")
    assert (shown["size"], shown["type"], shown["architecture"]) == (len(data), "container", "x86_64")
    exported = world.api.request("GET", f"/1.0/images/{fingerprint}/export")
    assert exported.body == data
    assert exported.headers["content-disposition"] == f"inline;filename={fingerprint}.{compression}"


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz"])
def test_a_split_image_is_imported_and_exported_in_its_two_parts(world: World, kind: str) -> None:
    meta, rootfs = images.split(kind, {"mine": unique("x")})
    fingerprint = upload_split(world, meta, rootfs)
    assert fingerprint == hashlib.sha256(meta + rootfs).hexdigest()
    exported = parts(world.api.request("GET", f"/1.0/images/{fingerprint}/export"))
    assert exported["metadata"] == (f"meta-{fingerprint}.tar.xz", meta)
    assert exported["rootfs"] == (f"{fingerprint}.{kind}", rootfs)


@pytest.mark.extension("compression_squashfs")
def test_a_squashfs_image_is_imported_launched_and_exported(world: World) -> None:
    meta, rootfs = images.split("squashfs", {"mine": unique("x")})
    fingerprint = upload_split(world, meta, rootfs)
    exported = parts(world.api.request("GET", f"/1.0/images/{fingerprint}/export"))
    assert exported["rootfs"] == (f"{fingerprint}.squashfs", rootfs)

    name = world.instance(start=True, source={"type": "image", "fingerprint": fingerprint})

    assert world.shell(name, "stat -c '%a %u %F' /bin/busybox /tmp").splitlines() == [
        "755 0 regular file",
        "1777 0 directory",
    ]


def test_an_image_keeps_owners_modes_links_and_special_files(world: World) -> None:
    name = world.instance(start=True, source={"type": "image", "fingerprint": upload(world, images.odd_files())})
    seen = world.shell(name, "cd /odd; stat -c '%n %a %u:%g %F' * | sort; readlink link; stat -c %h hard")
    assert seen.splitlines() == [
        "empty 700 5:6 directory",
        "hard 640 7:8 regular file",
        "link 777 0:0 symbolic link",
        "setuid 4755 0:0 regular file",
        "text 640 7:8 regular file",
        "text",
        "2",
    ]


def test_an_image_is_shown_with_what_its_metadata_and_its_upload_say(world: World) -> None:
    mark = unique("x")
    data = images.unified_with({"mine": mark})
    fingerprint = upload(world, data, X_LXD_public="1", X_LXD_filename="bb.tar", X_LXD_properties="color=blue&a=b%20c")
    shown = world.api.get(f"/1.0/images/{fingerprint}")
    assert (shown["public"], shown["filename"], shown["auto_update"], shown["cached"]) == (True, "bb.tar", False, False)
    properties = shown["properties"]
    assert (properties["mine"], properties["color"], properties["a"]) == (mark, "blue", "b c")
    assert (shown["created_at"], shown["expires_at"]) == ("2023-11-14T22:13:20Z", "1970-01-01T00:00:00Z")
    assert shown["last_used_at"] == "0001-01-01T00:00:00Z"
    assert (shown["aliases"], shown["profiles"]) == ([], ["default"])


def test_an_image_is_found_by_the_beginning_of_its_fingerprint(world: World) -> None:
    fingerprint = world.image({"mine": unique("x")})
    assert world.api.get(f"/1.0/images/{fingerprint[:16]}")["fingerprint"] == fingerprint


def test_images_are_listed_as_urls_and_as_objects(world: World) -> None:
    fingerprint = world.image({"mine": unique("x")})
    assert f"/1.0/images/{fingerprint}" in world.api.get("/1.0/images")
    listed = {entry["fingerprint"]: entry for entry in world.api.get("/1.0/images?recursion=1")}
    assert listed[fingerprint] == world.api.get(f"/1.0/images/{fingerprint}")


@pytest.mark.extension("api_filtering")
def test_images_can_be_filtered_by_a_property(world: World) -> None:
    mark = unique("x")
    fingerprint = world.image({"mine": mark})
    assert world.api.get(f"/1.0/images?filter=properties.mine%20eq%20{mark}") == [f"/1.0/images/{fingerprint}"]


@pytest.mark.extension("patch")
def test_patch_merges_the_properties_of_an_image_and_put_replaces_them(world: World) -> None:
    path = f"/1.0/images/{world.image({'mine': unique('x')})}"
    before = world.api.get(path)["properties"]
    world.api.patch(path, {"properties": {"color": "blue"}})
    assert world.api.get(path)["properties"] == {**before, "color": "blue"}
    world.api.put(path, {"properties": {"only": "this"}, "public": True})
    assert (world.api.get(path)["properties"], world.api.get(path)["public"]) == ({"only": "this"}, True)


@pytest.mark.extension("etag")
def test_an_image_is_not_changed_with_an_old_etag(world: World) -> None:
    path = f"/1.0/images/{world.image({'mine': unique('x')})}"
    old = world.api.etag(path)
    world.api.patch(path, {"properties": {"color": "blue"}}, If_Match=old)
    assert world.api.refusal("PUT", path, {"properties": {}}, {"If-Match": old}).status == 412
    assert world.api.get(path)["properties"]["color"] == "blue"


@pytest.mark.extension("images_expiry")
def test_the_expiry_of_an_image_can_be_set(world: World) -> None:
    path = f"/1.0/images/{world.image({'mine': unique('x')})}"
    whole = world.api.get(path)
    world.api.put(path, {**whole, "expires_at": "2040-01-02T03:04:05Z"})
    assert world.api.get(path)["expires_at"] == "2040-01-02T03:04:05Z"


def test_an_image_that_an_instance_came_from_can_be_deleted(world: World) -> None:
    fingerprint = world.image({"mine": unique("x")})
    name = world.instance(source={"type": "image", "fingerprint": fingerprint})
    world.api.delete(f"/1.0/images/{fingerprint}")
    assert world.api.request("GET", f"/1.0/images/{fingerprint}").status == 404
    world.start(name)
    assert world.shell(name, "hostname") == name


@pytest.mark.extension("event_lifecycle")
def test_the_life_of_an_image_is_seen_in_events(world: World) -> None:
    with world.api.events() as events:
        fingerprint = world.image({"mine": unique("x")})
        path = f"/1.0/images/{fingerprint}"
        world.api.patch(path, {"properties": {"color": "blue"}})
        world.api.request("GET", f"{path}/export")
        world.api.delete(path)
        events.wait_for(action="image-deleted", source=fingerprint)
    assert events.actions(fingerprint) == ["image-created", "image-updated", "image-retrieved", "image-deleted"]


@pytest.mark.extension("operation_description")
def test_importing_and_deleting_are_operations_with_descriptions(world: World) -> None:
    data = images.unified_with({"mine": unique("x")})
    imported = world.api.post("/1.0/images", data)
    deleted = world.api.delete(f"/1.0/images/{images.fingerprint(data)}")
    assert (imported["description"], deleted["description"]) == ("Downloading image", "Deleting image")
    assert imported["metadata"] == {"fingerprint": images.fingerprint(data), "size": str(len(data))}


def test_an_upload_can_be_checked_against_a_fingerprint(world: World) -> None:
    data = images.unified_with({"mine": unique("x")})
    refusal = world.api.refusal("POST", "/1.0/images", data, {"X-LXD-fingerprint": "0" * 64})
    assert "fingerprints don't match" in refusal.text
    assert world.api.request("GET", f"/1.0/images/{images.fingerprint(data)}").status == 404
    assert upload(world, data, X_LXD_fingerprint=images.fingerprint(data)) == images.fingerprint(data)


def test_an_upload_needs_no_content_type(world: World) -> None:
    data = images.unified_with({"mine": unique("x")})
    assert upload(world, data, Content_Type="") == images.fingerprint(data)  # so does pylxd


def test_the_same_image_twice_is_refused(world: World) -> None:
    data = images.unified_with({"mine": unique("x")})
    upload(world, data)
    refusal = world.api.refusal("POST", "/1.0/images", data)
    assert (refusal.status, refusal.text) == (400, "Image with same fingerprint already exists")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "EOF"),
        (b"garbage" * 100, "Unsupported compression"),
        (busybox.COMPRESSORS["tar.gz"](busybox.rootfs_tar()), "Metadata tarball is missing metadata.yaml"),
        (busybox.unified_tar(busybox.metadata(architecture="zzz")), "Architecture isn't supported: zzz"),
        (busybox.unified_tar(busybox.metadata(creation_date=None)), "Missing creation date"),
    ],
    ids=["nothing", "garbage", "no metadata", "unknown architecture", "no creation date"],
)
def test_what_is_not_an_image_is_refused_and_leaves_none(api: Client, data: bytes, text: str) -> None:
    refusal = api.refusal("POST", "/1.0/images", data, {"Content-Type": "application/octet-stream"})
    assert refusal.status == 400
    assert text in refusal.text
    assert api.request("GET", f"/1.0/images/{images.fingerprint(data)}").status == 404


def test_a_split_upload_that_ends_early_is_refused(api: Client) -> None:
    body, headers = images.multipart(*images.split("tar.gz", {"mine": unique("x")}))
    assert api.refusal("POST", "/1.0/images", body[: len(body) // 2], headers).status == 400


def test_a_truncated_image_never_becomes_an_instance(world: World) -> None:
    data = images.unified_with({"mine": unique("x")}, "tar.gz")[:-200_000]
    fingerprint, name = images.fingerprint(data), unique("c")
    world.finally_do(lambda: world.gone(f"/1.0/images/{fingerprint}"))
    world.finally_do(lambda: world.remove_instance(name))
    answer = world.api.request("POST", "/1.0/images", data)
    if answer.status == 202 and world.api.finished(answer.operation)["status"] == "Success":  # LXD looks no further
        world.api.refusal(
            "POST", "/1.0/instances", world.body(name, source={"type": "image", "fingerprint": fingerprint})
        )
    assert world.api.request("GET", f"/1.0/instances/{name}").status == 404


HOSTILE = ["parent references", "an absolute path", "a symlink out of the tree", "a hard link out of the tree"]


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_image_writes_nothing_outside_of_its_instance(world: World, tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    data = images.hostile(victim, {"mine": unique("x")})[kind]
    fingerprint, name = images.fingerprint(data), unique("c")
    world.finally_do(lambda: world.gone(f"/1.0/images/{fingerprint}"))
    world.finally_do(lambda: world.remove_instance(name))

    answer = world.api.request("POST", "/1.0/images", data)
    if answer.status == 202 and world.api.finished(answer.operation)["status"] == "Success":
        body = world.body(name, source={"type": "image", "fingerprint": fingerprint})
        world.api.finished(world.api.request("POST", "/1.0/instances", body).operation)

    assert not victim.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_device_node_of_an_image_opens_no_device_of_the_host(world: World) -> None:
    fingerprint = upload(world, images.with_device_nodes({"mine": unique("x")}))
    name = world.instance(source={"type": "image", "fingerprint": fingerprint})
    world.start(name)
    ran = world.run(name, "dd", "if=/root/disk", "of=/dev/null", "bs=512", "count=1")
    assert ran.code != 0


@pytest.mark.parametrize("verb", ["GET", "DELETE", "PUT", "PATCH"])
def test_a_missing_image_is_not_found(api: Client, verb: str) -> None:
    refusal = api.refusal(verb, f"/1.0/images/{'0' * 64}", {} if verb.startswith("P") else None)
    assert (refusal.status, refusal.text) == (404, "Image not found")


def test_an_image_that_is_being_used_for_the_first_time_is_marked_as_used(world: World) -> None:
    fingerprint = world.image({"mine": unique("x")})
    world.instance(source={"type": "image", "fingerprint": fingerprint})
    eventually(lambda: world.api.get(f"/1.0/images/{fingerprint}")["last_used_at"] > "2024")


def test_an_upload_may_come_in_chunks_of_unknown_number(world: World) -> None:
    data = images.unified_with({"mine": unique("x")})
    world.finally_do(lambda: world.gone(f"/1.0/images/{images.fingerprint(data)}"))
    pieces = (data[start : start + 65536] for start in range(0, len(data), 65536))
    assert world.api.post("/1.0/images", pieces)["metadata"]["fingerprint"] == images.fingerprint(data)


def test_an_image_that_is_deleted_twice_at_once_is_gone_for_both(world: World) -> None:
    path = f"/1.0/images/{world.image({'mine': unique('x')})}"
    answers = [world.api.request("DELETE", path) for _ in range(2)]
    assert {answer.status for answer in answers} <= {202, 404}
    for answer in answers:
        if answer.status == 202:
            world.api.finished(answer.operation)
    assert world.api.request("GET", path).status == 404
