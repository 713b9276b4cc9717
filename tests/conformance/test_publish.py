"""Images out of instances: every compression, what they hold, and what is refused."""

from __future__ import annotations

import pytest

from tests.conformance.world import World, unique

MAGIC = {
    "gzip": (b"\x1f\x8b", ".tar.gz"),
    "bzip2": (b"BZh", ".tar.bz2"),
    "xz": (b"\xfd7zXZ", ".tar.xz"),
    "lzma": (b"\x5d\x00\x00", ".tar.lzma"),
    "zstd": (b"\x28\xb5\x2f\xfd", ".tar.zst"),
    "none": (b"metadata.yaml", ".tar"),
    "squashfs": (b"hsqs", ".squashfs"),
}

ANY_PROGRAM = pytest.mark.differs("takes any options of a program that there is")


def publish(world: World, instance: str, **fields: object) -> str:
    """Publishes an instance; the fingerprint of the image."""
    request = {"source": {"type": "instance", "name": instance}, **fields}
    fingerprint = str(world.api.post("/1.0/images", request)["metadata"]["fingerprint"])
    world.finally_do(lambda: world.gone(f"/1.0/images/{fingerprint}"))
    return fingerprint


def check_export(world: World, image: str, algorithm: str) -> None:
    answer = world.api.request("GET", f"/1.0/images/{image}/export")
    magic, suffix = MAGIC[algorithm]
    assert answer.body.startswith(magic)
    assert answer.headers["content-disposition"].endswith(suffix)


@pytest.mark.extension("image_compression_algorithm")
@pytest.mark.parametrize("algorithm", ["gzip", "bzip2", "xz", "lzma", "zstd", "none"])
def test_an_image_is_compressed_as_asked_for_and_can_be_launched(world: World, algorithm: str) -> None:
    instance = world.instance()
    world.push(instance, "/root/mark", algorithm.encode())
    image = publish(world, instance, compression_algorithm=algorithm, properties={"mine": unique("p")})
    check_export(world, image, algorithm)
    again = world.instance(source={"type": "image", "fingerprint": image})
    assert world.pull(again, "/root/mark") == algorithm.encode()


@pytest.mark.extension("compression_squashfs")
@pytest.mark.differs("needs tar2sqfs, which is not installed")
def test_an_image_can_be_a_squashfs(world: World) -> None:
    instance = world.instance()
    world.push(instance, "/root/mark", b"squashed")
    image = publish(world, instance, compression_algorithm="squashfs")
    check_export(world, image, "squashfs")
    again = world.instance(start=True, source={"type": "image", "fingerprint": image})
    assert world.shell(again, "cat /root/mark") == "squashed"


@pytest.mark.extension("image_compression_algorithm")
@pytest.mark.parametrize(
    "algorithm",
    ["zzz", *(pytest.param(line, marks=ANY_PROGRAM) for line in ("gzip --rsyncable /etc/passwd", "sh -c id"))],
)
def test_an_algorithm_that_is_none_is_refused(world: World, algorithm: str) -> None:
    request = {"source": {"type": "instance", "name": world.instance()}, "compression_algorithm": algorithm}
    answer = world.api.request("POST", "/1.0/images", request)
    assert (answer.status, answer.error) == (400, f'Invalid compression algorithm "{algorithm}"')


def test_an_image_of_an_instance_shows_what_was_asked_for(world: World) -> None:
    mine = unique("p")
    image = publish(world, world.instance(), public=True, properties={"mine": mine}, compression_algorithm="none")
    shown = world.api.get(f"/1.0/images/{image}")
    assert (shown["public"], shown["properties"], shown["type"]) == (True, {"mine": mine}, "container")
    assert shown["profiles"] == ["default"]


def test_a_running_instance_is_not_published(world: World) -> None:
    request = {"source": {"type": "instance", "name": world.instance(start=True)}}
    refusal = world.api.refusal("POST", "/1.0/images", request)
    assert "Cannot export a running instance as an image" in refusal.text


def test_what_does_not_exist_is_not_published(world: World) -> None:
    answer = world.api.request("POST", "/1.0/images", {"source": {"type": "instance", "name": "nope"}})
    assert (answer.status, answer.error) == (404, "Instance not found")
