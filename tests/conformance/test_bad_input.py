"""What is wrong with a request is refused with LXD's status and a text that names it; nothing is left behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from typing import Any

import pytest

from tests.conformance import images
from tests.conformance.client import Client, Refusal, UnixConnection, eventually
from tests.conformance.servers import Server
from tests.conformance.test_instance_config import BAD_KEYS
from tests.conformance.world import Ground, World, unique

INSTANCES = "/1.0/instances"


def refused(world: World, **fields: Any) -> Refusal:
    """The refusal of a new instance; neither the instance nor its volume is there afterwards."""
    name = fields.pop("name", None) or unique("bad")
    world.finally_do(lambda: world.remove_instance(name) if re.fullmatch(r"[a-z0-9-]{1,63}", name) else None)
    refusal = world.api.refusal("POST", INSTANCES, world.body(name, **fields))
    assert f"{INSTANCES}/{name}" not in world.api.get(INSTANCES)
    volume = f"/1.0/storage-pools/{world.ground.pool}/volumes/container/{name}"
    assert volume not in world.api.get(f"/1.0/storage-pools/{world.ground.pool}/volumes")
    return refusal


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a/b", 'The character "/" is reserved for snapshots'),
        ("c" * 64, "Invalid instance name: Name must be 1-63 characters long"),
        ("1abc", "Invalid instance name: Name must not start with a number"),
        ("-abc", 'Invalid instance name: Name must not start with "-" character'),
        ("abc-", 'Invalid instance name: Name must not end with "-" character'),
        ("a_b", "Invalid instance name: Name can only contain alphanumeric and hyphen characters"),
        ("a.b", "Invalid instance name: Name can only contain alphanumeric and hyphen characters"),
        ("..", "Invalid instance name: Name can only contain alphanumeric and hyphen characters"),
        ("ä", "Invalid instance name: Name can only contain alphanumeric and hyphen characters"),
    ],
)
def test_a_name_that_no_instance_may_have_is_refused(world: World, name: str, text: str) -> None:
    refusal = refused(world, name=name)
    assert (refusal.status, refusal.text) == (400, text)


def test_a_name_of_63_letters_is_fine(world: World) -> None:
    name = unique("c").ljust(63, "x")
    assert world.instance(name=name) == name


@pytest.mark.parametrize("name", ["a/b", "x" * 64, "1abc", "a_b"])
def test_an_instance_is_not_renamed_to_a_bad_name(api: Client, still: str, name: str) -> None:
    assert api.refusal("POST", f"{INSTANCES}/{still}", {"name": name}).status == 400
    assert api.get(f"{INSTANCES}/{still}")["name"] == still


def test_an_instance_is_not_renamed_to_a_name_that_is_taken(api: Client, still: str, box: str) -> None:
    refusal = api.refusal("POST", f"{INSTANCES}/{still}", {"name": box})
    assert (refusal.status, refusal.text) == (409, f'Name "{box}" already in use')


def test_a_second_instance_of_a_name_is_refused_and_the_first_is_untouched(world: World, box: str) -> None:
    before = world.api.get(f"{INSTANCES}/{box}")
    refusal = world.api.refusal("POST", INSTANCES, world.body(box))
    assert refusal.status in (400, 409)
    assert "already exists" in refusal.text
    assert world.api.get(f"{INSTANCES}/{box}") == before
    assert world.shell(box, "hostname") == box


@pytest.mark.parametrize(
    ("source", "status", "text"),
    [
        ({"type": "image", "alias": "no-such-alias"}, 404, "Image alias not found"),
        ({"type": "image", "fingerprint": "0" * 64}, 400, "Image not provided for instance creation"),
        ({"type": "image"}, 500, "Must specify one of alias, fingerprint or properties for init from image"),
        ({"type": "image", "properties": {"os": "no-such-os"}}, 500, "No matching image could be found"),
        ({"type": "bogus"}, 400, "Unknown source type bogus"),
        ({}, 400, "Unknown source type "),
    ],
)
def test_a_source_that_is_missing_is_refused(world: World, source: dict[str, Any], status: int, text: str) -> None:
    refusal = refused(world, source=source)
    assert (refusal.status, refusal.text) == (status, text)


@pytest.mark.parametrize(("key", "value", "text"), BAD_KEYS)
def test_an_instance_with_a_bad_key_is_not_made(world: World, key: str, value: str, text: str) -> None:
    refusal = refused(world, config={key: value})
    assert refusal.status == 400
    assert text in refusal.text


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ({"type": "bogus"}, "Invalid device type bogus"),
        ({"type": "disk", "path": "/y"}, 'Disk entry is missing the required "source" or "path" property'),
        ({"type": "disk", "path": "/y", "source": "/no/such/path"}, 'Missing source path "/no/such/path" for disk "x"'),
        ({"type": "none", "foo": "1"}, 'Invalid device option "foo"'),
        ({"type": "nic", "nictype": "bogus"}, "Unsupported device type"),
        ({"type": "nic", "nictype": "p2p", "mtu": "x"}, 'Invalid MTU "x"'),
    ],
)
def test_an_instance_with_a_bad_device_is_not_made(world: World, device: dict[str, str], text: str) -> None:
    refusal = refused(world, devices={"x": device})
    assert refusal.status == 400
    assert text in refusal.text


@pytest.mark.parametrize(
    ("root", "text"),
    [
        ({"type": "disk", "path": "/", "pool": "no-such-pool"}, "Storage pool not found"),
        ({"type": "disk", "path": "/", "size": "xx"}, "Invalid value: xx"),
        ({"type": "disk", "path": "/", "bogus": "1"}, 'Invalid device option "bogus"'),
        ({"type": "none"}, "No root device could be found"),
    ],
)
def test_an_instance_without_a_good_root_disk_is_not_made(
    world: World, ground: Ground, root: dict[str, str], text: str
) -> None:
    pool = {} if root["type"] == "none" else {"pool": ground.pool}
    refusal = refused(world, devices={"root": {**pool, **root}})
    assert refusal.status == 400
    assert text in refusal.text


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"profiles": ["no-such-profile"]}, 500, 'Requested profile "no-such-profile" doesn\'t exist'),
        ({"type": "zzz"}, 400, "Invalid instance type"),
        ({"instance_type": "no.such"}, 400, "Provided instance type doesn't exist: no.such"),
        ({"ephemeral": "x"}, 400, "json: cannot unmarshal string into"),
        ({"config": {"limits.memory": 5}}, 400, "json: cannot unmarshal number into"),
        ({"config": "x"}, 400, "json: cannot unmarshal string into"),
        ({"devices": []}, 400, "json: cannot unmarshal array into"),
        ({"source": 5}, 400, "json: cannot unmarshal number into"),
    ],
)
def test_a_field_of_the_wrong_value_or_type_is_refused(
    world: World, fields: dict[str, Any], status: int, text: str
) -> None:
    name = unique("bad")
    refusal = world.api.refusal("POST", INSTANCES, {**world.body(name), **fields})
    assert refusal.status == status
    assert text in refusal.text
    assert f"{INSTANCES}/{name}" not in world.api.get(INSTANCES)


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b"", b'"text"', b"\xff\xfe"])
@pytest.mark.parametrize("path", [INSTANCES, "/1.0/profiles", "/1.0/storage-pools", "/1.0/networks"])
def test_a_body_that_is_no_json_object_is_refused(api: Client, path: str, body: bytes) -> None:
    answer = api.request("POST", path, body, {"Content-Type": "application/json"})
    assert answer.status in (400, 500)
    assert answer.json["type"] == "error"
    assert answer.error


def test_a_body_that_is_far_too_large_is_refused_before_it_is_read(server: Server) -> None:
    """LXD reads it to its end and then complains, so only the refusal and the survival are common ground."""
    connection = UnixConnection(server.socket, 60)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, http.client.HTTPException):
        connection.request("POST", "/1.0/profiles", b" " * (80 << 20) + b"{", {"Content-Type": "application/json"})
        assert connection.getresponse().status >= 400
    connection.close()
    assert Client(server.socket).get("/1.0")["api_version"] == "1.0"


def half_a_request(server: Server, path: str, body: bytes) -> None:
    """Announces twice the body, sends it and hangs up."""
    connection = UnixConnection(server.socket, 60)
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", str(2 * len(body)))
    connection.endheaders(body)
    connection.close()


def test_a_client_that_goes_away_while_it_uploads_an_image_leaves_none(api: Client, server: Server) -> None:
    data = images.unified_with({"mine": unique("x")})
    before = set(api.get("/1.0/images"))
    half_a_request(server, "/1.0/images", data)
    eventually(lambda: not uploading(api))
    assert f"/1.0/images/{images.fingerprint(data)}" not in api.get("/1.0/images")
    assert images.upload(api, data) == images.fingerprint(data)
    api.delete(f"/1.0/images/{images.fingerprint(data)}")
    assert before


def uploading(api: Client) -> list[Any]:
    running = api.get("/1.0/operations?recursion=1").get("running", [])
    return [entry for entry in running if entry["description"] == "Downloading image"]


def test_a_client_that_goes_away_while_it_pushes_a_file_disturbs_nothing(
    world: World, server: Server, box: str
) -> None:
    path = f"/tmp/{unique('f')}"
    half_a_request(server, f"{INSTANCES}/{box}/files?path={path}", b"x" * 100_000)

    def written() -> bool:
        """Tried again as long as what came of the half request may still be written."""
        world.push(box, path, b"whole")
        return world.pull(box, path) == b"whole"

    eventually(written)


def test_no_memory_left_inside_kills_only_what_asked_for_it(world: World, box: str) -> None:
    name = world.instance(start=True, config={"limits.memory": "32MiB", "limits.memory.swap": "false"})
    assert world.run(name, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1").code == 137
    assert world.api.get(f"{INSTANCES}/{name}")["status"] == "Running"
    assert world.shell(box, "hostname") == box


def test_an_upload_that_finds_the_file_system_full_fails(world: World, box: str) -> None:
    folder = f"/mnt/{unique('full')}"
    world.shell(box, f"mkdir {folder}; mount -t tmpfs -o size=64k none {folder}")
    path = f"{INSTANCES}/{box}/files?path={folder}/f"
    try:
        refusal = world.api.refusal("POST", path, b"x" * 1_000_000)
        assert refusal.status in (500, 507)
        assert world.shell(box, "hostname") == box
    finally:
        world.shell(box, f"umount {folder}; rmdir {folder}")


def test_nested_json_without_end_is_refused(api: Client) -> None:
    deep = json.dumps({"name": "p-bad"})[:-1] + ', "config": ' + "[" * 100_000
    answer = api.request("POST", "/1.0/profiles", deep.encode(), {"Content-Type": "application/json"})
    assert answer.status in (400, 500)
    assert api.get("/1.0")["api_version"] == "1.0"
