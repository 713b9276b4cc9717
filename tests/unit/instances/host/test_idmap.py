"""Id maps: what is allocated, how raw ranges are let through, and LXD's JSON form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.instances.host.idmap import HostMap, IdMap, IdRange, allocate, both, host_map, parse_raw

HOST = HostMap(1_000_000, 1_000_000)
ISOLATED = {"security.idmap.isolated": "true"}


def test_a_privileged_one_has_no_map() -> None:
    assert allocate({"security.privileged": "true"}, [], HOST) is None


def test_the_whole_range_is_the_default() -> None:
    assert allocate({}, [], HOST) == both(1_000_000, 0, 1_000_000)


def test_isolated_ones_get_ranges_of_their_own() -> None:
    taken: list[IdMap] = []
    for _ in range(5):
        found = allocate(ISOLATED, taken, HOST)
        assert found is not None
        assert not any(a.meets_host(b) for other in taken for a in other.ranges for b in found.ranges)
        taken.append(found)
    assert taken[0].base == 1_065_536


def test_a_gap_between_isolated_ones_is_used() -> None:
    taken = [both(1_065_536, 0, 65_536), both(1_065_536 + 2 * 65_536, 0, 65_536)]
    found = allocate(ISOLATED, taken, HOST)
    assert found is not None
    assert found.base == 1_065_536 + 65_536


def test_size_and_base_of_an_isolated_one() -> None:
    found = allocate({**ISOLATED, "security.idmap.size": "70000", "security.idmap.base": "200000"}, [], HOST)
    assert found == both(200_000, 0, 70_000)


def test_more_ids_than_there_are() -> None:
    with pytest.raises(ValueError, match="Not enough uid/gid available"):
        allocate({**ISOLATED, "security.idmap.size": "2000000"}, [], HOST)


def test_raw_ranges_split_the_map() -> None:
    found = allocate({"raw.idmap": "both 50 3000\nuid 60-61 10-11"}, [], HOST)
    assert found is not None
    assert found.to_host("u", 3000) == 50
    assert found.to_host("g", 3000) == 50
    assert found.to_host("u", 10) == 60
    assert found.to_host("g", 10) == 1_000_010
    assert found.to_host("u", 2999) == 1_002_999
    assert found.to_host("u", 3001) == 1_003_001


@pytest.mark.parametrize("text", ["bogus", "both 1", "both 1-5 1-3", "user 1 1", "both 5-1 5-1", "both -1 1"])
def test_raw_lines_that_make_no_sense_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid ID map line"):
        parse_raw(text)


def test_a_raw_range_of_host_ids_that_the_map_has() -> None:
    with pytest.raises(ValueError, match="Host id is in the range of subids"):
        allocate({"raw.idmap": "both 1000005 5"}, [], HOST)


def test_json_is_lxds() -> None:
    found = both(1_000_000, 0, 65_536)
    assert json.loads(found.to_json())[0] == {
        "Isuid": True,
        "Isgid": False,
        "Hostid": 1_000_000,
        "Nsid": 0,
        "Maprange": 65_536,
    }
    assert IdMap.from_json(found.to_json()) == found
    assert IdMap.from_json("[]").ranges == ()


def test_json_with_both_in_one_entry() -> None:
    text = '[{"Isuid":true,"Isgid":true,"Hostid":5,"Nsid":0,"Maprange":1}]'
    assert IdMap.from_json(text) == both(5, 0, 1)


@given(
    st.integers(0, 70_000),
    st.lists(st.tuples(st.integers(0, 60_000), st.integers(1, 3000)), max_size=4),
)
def test_every_id_has_at_most_one_other_side(ident: int, holes: list[tuple[int, int]]) -> None:
    found = both(1_000_000, 0, 65_536)
    for number, (ns, length) in enumerate(holes):
        found = found.with_range(IdRange("u", 5_000_000 + number * 10_000, ns, length))
    sides = [r.host + ident - r.ns for r in found.by_kind["u"] if r.ns <= ident < r.ns + r.length]
    assert len(sides) == (1 if ident < max([65_536, *(n + length for n, length in holes)]) and sides else len(sides))
    if sides:
        assert found.to_host("u", ident) == sides[0]
        assert found.to_ns("u", sides[0]) == ident
    assert len(sides) <= 1


def _subids(root: Path, users: str, groups: str) -> Path:
    (root / "etc").mkdir()
    (root / "etc/subuid").write_text(users)
    (root / "etc/subgid").write_text(groups)
    return root


def test_the_hosts_map_is_roots(tmp_path: Path) -> None:
    text = "# a comment\n_lxd:1:2\nroot:100000:10000001\n"
    assert host_map(_subids(tmp_path, text, text)).whole == both(100_000, 0, 10_000_001)


def test_the_hosts_map_without_root_is_lxds_default(tmp_path: Path) -> None:
    assert host_map(_subids(tmp_path, "_lxd:1:2\n", "root:1:2\n")) == HostMap(1_000_000, 1_000_000_000)
    assert host_map(tmp_path / "nowhere") == HostMap(1_000_000, 1_000_000_000)


def test_users_and_groups_may_differ(tmp_path: Path) -> None:
    whole = host_map(_subids(tmp_path, "root:1000:10\n", "root:2000:20\n")).whole
    assert whole.ranges == (IdRange("u", 1000, 0, 10), IdRange("g", 2000, 0, 20))
