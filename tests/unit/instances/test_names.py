"""Names of instances and profiles, and how they are shown."""

from __future__ import annotations

import pytest

from chassis.errors import BadRequest
from services.instances import names


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/b", 'The character "/" is reserved for snapshots'),
        ("", "Invalid instance name: Name must be 1-63 characters long"),
        ("a" * 64, "Invalid instance name: Name must be 1-63 characters long"),
        ("1b", "Invalid instance name: Name must not start with a number"),
        ("-b", 'Invalid instance name: Name must not start with "-" character'),
        ("b-", 'Invalid instance name: Name must not end with "-" character'),
        ("b_c", "Invalid instance name: Name can only contain alphanumeric and hyphen characters"),
        ("bücher", "Invalid instance name: Name can only contain alphanumeric and hyphen characters"),
        ("b\n", "Invalid instance name: Name can only contain alphanumeric and hyphen characters"),
    ],
)
def test_wrong_names_are_told_in_lxds_words(name: str, reason: str) -> None:
    with pytest.raises(BadRequest) as caught:
        names.instance_name(name)
    assert caught.value.text == reason


@pytest.mark.parametrize("name", ["a", "a" * 63, "Web-01"])
def test_right_names(name: str) -> None:
    assert names.instance_name(name) == name


def test_a_drawn_name_is_valid_and_free() -> None:
    taken: set[str] = set()
    for _ in range(500):
        name = names.instance_name(names.drawn_name(taken.__contains__))
        assert name not in taken
        taken.add(name)


def test_addresses_bear_the_project() -> None:
    assert names.instance_url("default", "c1") == "/1.0/instances/c1"
    assert names.instance_url("a b", "c1") == "/1.0/instances/c1?project=a%20b"
    assert names.profile_url("default", "a b?") == "/1.0/profiles/a%20b%3F"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\x00"])
def test_wrong_profile_names(name: str) -> None:
    with pytest.raises(BadRequest):
        names.profile_name(name)
