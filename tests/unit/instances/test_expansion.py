"""Profiles in order, then the instance's own; and how one set of devices becomes another."""

from __future__ import annotations

import pytest

from rows.profile import Profile
from services.instances.devices import nic
from services.instances.expansion import changed_keys, compare, expand, root_disk

ROOT = {"type": "disk", "path": "/", "pool": "p"}
NIC = {"type": "nic", "nictype": "p2p"}


def test_later_profiles_win_and_the_instance_wins_over_all() -> None:
    one = Profile(
        project="default", name="one", config={"user.a": "1", "user.b": "1"}, devices={"root": ROOT, "eth0": NIC}
    )
    two = Profile(project="default", name="two", config={"user.b": "2", "user.c": "2"})
    found = expand([one, two], {"user.c": "3"}, {"eth0": {"type": "nic", "network": "n"}})
    assert found.config == {"user.a": "1", "user.b": "2", "user.c": "3"}
    assert found.devices["eth0"] == {"type": "nic", "network": "n"}, "a device is replaced whole"


def test_a_device_of_type_none_takes_one_away() -> None:
    profile = Profile(project="default", name="one", devices={"root": ROOT, "eth0": NIC})
    found = expand([profile], {}, {"eth0": {"type": "none"}})
    assert found.devices["eth0"] == {"type": "none"}
    assert list(found.active) == ["root"]


def test_disks_come_before_other_devices_by_path() -> None:
    disk = {"type": "disk", "source": "/x"}
    found = expand([], {}, {"a": NIC, "z": {**disk, "path": "/a"}, "b": {**disk, "path": "/a/b"}, "root": ROOT})
    assert list(found.active) == ["root", "z", "b", "a"]


def test_the_root_disk_is_one() -> None:
    assert root_disk({"root": ROOT})[0] == "root"
    with pytest.raises(ValueError, match="No root device could be found"):
        root_disk({"x": {**ROOT, "source": "/x"}})
    with pytest.raises(ValueError, match="More than one root device found"):
        root_disk({"a": ROOT, "b": ROOT})


def test_a_change_of_type_is_a_removal_and_an_addition() -> None:
    found = compare(
        {"a": NIC, "b": NIC, "c": NIC},
        {"a": {"type": "none"}, "b": {"type": "disk"}, "c": {**NIC, "mtu": "9"}, "d": NIC},
    )
    assert found.removed == {"a": NIC, "b": NIC}
    assert found.added.keys() == {"b", "d"}
    assert found.updated == {"c": (NIC, {**NIC, "mtu": "9"})}


def test_an_empty_text_is_no_text() -> None:
    assert changed_keys({"a": "", "b": "1"}, {"b": "2"}) == {"b"}


def test_nics_without_address_or_name_are_given_them_once() -> None:
    devices = {"eth0": NIC, "net1": {**NIC, "hwaddr": "00:11:22:33:44:55"}, "x": {**NIC, "name": "eth1"}}
    filled = nic.fill({"volatile.eth0.hwaddr": "00:16:3e:00:00:09"}, devices)
    assert filled["volatile.eth0.hwaddr"] == "00:16:3e:00:00:09"
    assert (filled["volatile.eth0.name"], filled["volatile.net1.name"]) == ("eth0", "eth2")
    assert "volatile.net1.hwaddr" not in filled
    assert "volatile.x.name" not in filled
    assert nic.fill(filled, devices) == filled
