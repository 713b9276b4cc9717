"""LXD's filter language, and lists that are not held whole."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from chassis import errors, listing
from gen.nubibus.rest.v1 import rest_pb2

C1: dict[str, Any] = {
    "name": "c1",
    "status_code": 102,
    "ephemeral": False,
    "config": {"user.foo": "a b", "image.os": "BusyBox"},
    "devices": {"root": {"pool": "p"}},
}
C2: dict[str, Any] = {"name": "c2", "status_code": 103, "ephemeral": True, "config": {"user.foo": "xyz"}, "devices": {}}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["c1", "c2"]),
        ("name eq c1", ["c1"]),
        ("name eq C1", ["c1"]),
        ("name eq c", []),
        ("name eq c.", ["c1", "c2"]),
        ("name eq ^c", ["c1", "c2"]),
        ("name ne c1", ["c2"]),
        ("not name eq c1", ["c2"]),
        ("NOT name ne c1", ["c1"]),
        ('config.user.foo eq "a b"', ["c1"]),
        ("config.image.os eq busybox and name eq c1", ["c1"]),
        ("name eq c1 or name eq c2", ["c1", "c2"]),
        ("name eq c2 or name eq c1 and config.user.foo eq xyz", ["c2"]),  # from left to right
        ("devices.root.pool eq p", ["c1"]),
        ("status_code eq 102", ["c1"]),
        ("ephemeral eq true", ["c2"]),
        ("nosuch eq x", []),
        ("nosuch ne x", ["c1", "c2"]),
        ("name foo c1", ["c1"]),
        ("name eq (", []),
    ],
)
def test_filters(text: str, names: list[str]) -> None:
    found = listing.parse_filter(text)
    assert [thing["name"] for thing in (C1, C2) if found.matches(thing)] == names


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bad", "clause has no operator"),
        ("name eq", "clause has no value"),
        ("not", "incomplete not clause"),
        ("name eq c1 xor name eq c2", "invalid clause composition"),
        ("name eq c1 OR name eq c2", "invalid clause composition"),
        ("name eq c1 and", "unterminated compound clause"),
        ('name eq "c1', "unterminated quote"),
        ("a" * 5000, "longer than 4096 characters"),
    ],
)
def test_wrong_filters(text: str, reason: str) -> None:
    with pytest.raises(errors.Internal) as caught:
        listing.parse_filter(text)
    assert caught.value.text == f"Invalid filter: {reason}"


def test_a_filter_cannot_take_for_ever() -> None:
    found = listing.parse_filter("name eq ^(a+)+$")
    started = time.monotonic()
    assert not found.matches({"name": "a" * 60_000 + "b"})
    assert time.monotonic() - started < 5


async def test_chunks() -> None:
    pieces = (json.dumps(f"/1.0/instances/c{number}").encode() for number in range(50_000))
    found = [chunk async for chunk in listing.chunks(pieces, head=rest_pb2.Document(revision=7))]
    assert len(found) > 1
    assert found[0].head.revision == 7
    assert not found[1].HasField("head")
    assert len(json.loads(b"".join(chunk.data for chunk in found))) == 50_000
    empty = [chunk async for chunk in listing.chunks([])]
    assert b"".join(chunk.data for chunk in empty) == b"[]"
    assert empty[0].HasField("head")
