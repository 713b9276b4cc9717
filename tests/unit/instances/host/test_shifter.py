"""Owners, ACLs and capabilities when a tree is given to other ids."""

from __future__ import annotations

import json
import struct

import pytest

from services.instances.host.idmap import IdMap, both
from services.instances.host.shifter import REVISION_2, REVISION_3, Ranges, shifted_acl, shifted_capability, shifter

FIRST, SECOND = both(1_000_000, 0, 65_536), both(2_000_000, 0, 65_536)


def ranges(idmap: IdMap | None) -> Ranges:
    return list(json.loads(idmap.to_json())) if idmap is not None else []


@pytest.mark.parametrize(
    ("old", "new", "ident", "expected"),
    [
        (None, FIRST, 0, 1_000_000),
        (None, FIRST, 65_535, 1_065_535),
        (None, FIRST, 70_000, 70_000),
        (FIRST, None, 1_000_005, 5),
        (FIRST, SECOND, 1_000_005, 2_000_005),
        (FIRST, SECOND, 2_000_005, 2_000_005),
        (None, FIRST, 1_000_005, 1_000_005),
        (FIRST, None, 5, 5),
        (FIRST, SECOND, 77, 77),
    ],
)
def test_owners(old: IdMap | None, new: IdMap | None, ident: int, expected: int) -> None:
    shift = shifter(ranges(old), ranges(new))
    assert shift("u", ident) == shift("g", ident) == expected
    assert shift("u", expected) == expected  # a second run changes nothing


def test_acls() -> None:
    def acl(user: int, group: int) -> bytes:
        entries = [(0x01, 7, 2**32 - 1), (0x02, 6, user), (0x04, 5, 2**32 - 1), (0x08, 4, group), (0x20, 0, 2**32 - 1)]
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)

    assert shifted_acl(acl(5, 6), shifter([], ranges(FIRST))) == acl(1_000_005, 1_000_006)


def test_capabilities() -> None:
    body = bytes(range(16))
    second = (REVISION_2 | 1).to_bytes(4, "little") + body
    third = (REVISION_3 | 1).to_bytes(4, "little") + body + (1_000_000).to_bytes(4, "little")
    assert shifted_capability(second, 1_000_000) == third
    assert shifted_capability(third, 0) == second
    assert shifted_capability(b"\0\0\0\1rest", 5) == b"\0\0\0\1rest"
