"""What a restricted project forbids: by default, and when a key allows it."""

from __future__ import annotations

import pytest

from chassis.errors import Internal
from rows.restrictions import allowed_parent, allows_network, refusals, refuse, shows_network, volatile_refusal

ON = {"restricted": "true"}
WHERE = 'on container "c1" of project "p"'


def found(project: dict[str, str], config: dict[str, str] | None = None, **devices: dict[str, str]) -> list[str]:
    return list(refusals(project, "p", 'container "c1"', config or {}, devices))


CONFIG = [
    ("security.nesting", "true", "restricted.containers.nesting", "Container nesting is forbidden"),
    ("security.privileged", "true", "restricted.containers.privilege", "Privileged containers are forbidden"),
    (
        "security.syscalls.intercept.mknod",
        "true",
        "restricted.containers.interception",
        "syscall interception is forbidden",
    ),
    (
        "security.syscalls.intercept.mount.fuse",
        "ext4=x",
        "restricted.containers.interception",
        "interception is forbidden",
    ),
    ("security.syscalls.intercept.mount.allowed", "ext4", "restricted.containers.lowlevel", "Use of low-level config"),
    ("security.syscalls.intercept.sched_setscheduler", "true", "restricted.containers.lowlevel", "low-level"),
    ("raw.lxc", "x=1", "restricted.containers.lowlevel", f'Use of low-level config "raw.lxc" {WHERE} is forbidden'),
    (
        "raw.idmap",
        "both 1 1",
        "restricted.containers.lowlevel",
        f'Use of low-level "raw.idmap" element 0 {WHERE} is forbidden',
    ),
    ("security.idmap.base", "1", "restricted.containers.lowlevel", "low-level"),
]


@pytest.mark.parametrize(("key", "text", "allowing", "reason"), CONFIG)
def test_configuration(key: str, text: str, allowing: str, reason: str) -> None:
    (refusal,) = found(ON, {key: text})
    assert reason in refusal
    assert found({**ON, allowing: "allow"}, {key: text}) == []
    assert found({}, {key: text}) == []
    assert found({"restricted": "false"}, {key: text}) == []


@pytest.mark.parametrize(("setting", "allowed"), [("", ""), ("block", ""), ("allow", "safe"), ("full", "safe all")])
def test_interceptions_that_are_allowed(setting: str, allowed: str) -> None:
    project = {**ON, "restricted.containers.interception": setting}
    safe = {
        f"security.syscalls.intercept.{name}": "true" for name in ("mknod", "setxattr", "bpf", "bpf.devices", "mount")
    }
    others = {
        f"security.syscalls.intercept.{name}": "true" for name in ("sched_setscheduler", "mount.allowed", "mount.shift")
    }
    assert len(found(project, safe)) == (0 if "safe" in allowed else len(safe))
    assert len(found(project, others)) == (0 if "all" in allowed else len(others))
    assert found(project, {"raw.lxc": "x=1"}) != []


DEVICES = [
    ({"type": "unix-char", "path": "/dev/null"}, "unix-char", "Unix character devices are forbidden"),
    ({"type": "unix-block"}, "unix-block", "Unix block devices are forbidden"),
    ({"type": "unix-hotplug"}, "unix-hotplug", "Unix hotplug devices are forbidden"),
    ({"type": "gpu"}, "gpu", "GPU devices are forbidden"),
    ({"type": "usb"}, "usb", "USB devices are forbidden"),
    ({"type": "pci"}, "pci", "PCI devices are forbidden"),
    ({"type": "infiniband"}, "infiniband", "Infiniband devices are forbidden"),
    ({"type": "proxy"}, "proxy", "Proxy devices are forbidden"),
    ({"type": "nic", "nictype": "bridged", "parent": "br0"}, "nic", "Only managed network devices are allowed"),
    ({"type": "disk", "source": "/etc", "path": "/"}, "disk", "Attaching disks not backed by a pool is forbidden"),
    ({"type": "disk", "source": "/tmp", "path": "/mnt"}, "disk", "Attaching disks not backed by a pool is forbidden"),
]


@pytest.mark.parametrize(("device", "key", "reason"), DEVICES)
def test_devices(device: dict[str, str], key: str, reason: str) -> None:
    assert found(ON, d=device) == [f'Invalid device "d" {WHERE}: {reason}']
    assert found({**ON, f"restricted.devices.{key}": "allow"}, d=device) == []


def test_what_a_restricted_project_may_have() -> None:
    fine = {
        "limits.cpu": "1",
        "security.nesting": "false",
        "security.privileged": "",
        "user.x": "y",
        "security.syscalls.intercept.mknod": "0",
    }
    root = {"type": "disk", "path": "/", "pool": "p"}
    volume = {"type": "disk", "path": "/v", "pool": "p", "source": "v"}
    nic = {"type": "nic", "network": "n"}
    assert found(ON, fine, root=root, volume=volume, eth0=nic, tpm={"type": "tpm"}, gone={"type": "none"}) == []
    blocked = {**ON, "restricted.devices.disk": "block", "restricted.devices.nic": "block"}
    assert [text.rpartition(": ")[2] for text in found(blocked, root=root, volume=volume, eth0=nic)] == [
        "Network devices are forbidden",
        "Disk devices are forbidden",
    ]


def test_isolated_means_isolated_also_when_nothing_is_said() -> None:
    isolated = {**ON, "restricted.containers.privilege": "isolated"}
    assert "Non-isolated containers are forbidden" in found(isolated)[0]
    assert found(isolated, {"security.idmap.isolated": "true"}) == []
    assert (
        "Privileged containers are forbidden"
        in found(isolated, {"security.privileged": "true", "security.idmap.isolated": "true"})[0]
    )


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("uid 1000 0", True),
        ("uid 1000-1005 0-5", True),
        ("gid 50 0", True),
        ("both 50 0", False),
        ("uid 999-1001 0-2", False),
        ("uid 1000 0\nuid 5 5", False),
        ("uid x 0", False),
        ("uid", False),
    ],
)
def test_ids_that_are_allowed(text: str, fine: bool) -> None:
    project = {**ON, "restricted.idmap.uid": "1000-1010, 2000", "restricted.idmap.gid": "50"}
    assert (found(project, {"raw.idmap": text}) == []) is fine


def test_snapshots_and_backups() -> None:
    with pytest.raises(Internal, match='Project "p" doesn\'t allow for snapshot creation'):
        refuse(ON, "p", "snapshot")
    refuse({**ON, "restricted.snapshots": "allow"}, "p", "snapshot")
    refuse({}, "p", "backup")


PATHS = {**ON, "restricted.devices.disk": "allow", "restricted.devices.disk.paths": "/srv/a, /opt/"}


@pytest.mark.parametrize(
    ("source", "parent"),
    [
        ("/srv/a", "/srv/a"),
        ("/srv/a/b/c", "/srv/a"),
        ("/srv//a/./b", "/srv/a"),
        ("/opt/x", "/opt"),
        ("/srv/ab", None),
        ("/srv/a/../b", None),
        ("/srv", None),
        ("/", None),
    ],
)
def test_paths_of_the_host(source: str, parent: str | None) -> None:
    assert allowed_parent(PATHS, source) == parent
    assert allowed_parent({**PATHS, "restricted": "false"}, source) == ""
    device = {"type": "disk", "source": source, "path": "/mnt"}
    refused = [f'Invalid device "d" {WHERE}: Disk source path "{source}" not allowed']
    assert found(PATHS, d=device) == ([] if parent else refused)
    assert found(PATHS, d={**device, "pool": "p"}) == []


def test_networks() -> None:
    some = {**ON, "restricted.networks.access": "a, b"}
    assert [name for name in "abc" if allows_network(some, name)] == ["a", "b"]
    assert [name for name in "abc" if allows_network({**some, "restricted": "false"}, name)] == ["a", "b", "c"]
    assert not allows_network({**some, "restricted.devices.nic": "block"}, "a")
    assert shows_network(some, "a", managed=True)
    assert not shows_network(some, "a", managed=False)
    assert shows_network({**some, "restricted.devices.nic": "allow"}, "a", managed=False)
    assert shows_network({}, "lo", managed=False)
    nic = {"type": "nic", "network": "c"}
    assert found(some, eth0=nic) == [f'Invalid device "eth0" {WHERE}: Network not allowed in project']
    assert found(some, eth0={**nic, "network": "b"}) == []
    parent = {"type": "nic", "nictype": "bridged", "parent": "c"}
    allowing = {**some, "restricted.devices.nic": "allow"}
    assert found(allowing, eth0=parent) == [f'Invalid device "eth0" {WHERE}: Network not allowed in project']


def test_what_the_server_notes() -> None:
    def reason(key: str, now: dict[str, str], **project: str) -> str:
        return volatile_refusal({**ON, **project}, "p", 'container "c1"', {key: "1"}, now)

    told = 'Setting "volatile.idmap.base" on container "c1" in project "p" is forbidden'
    assert reason("volatile.idmap.base", {}) == told
    assert reason("volatile.idmap.base", {"volatile.idmap.base": "0"}).startswith('Changing "volatile.idmap.base"')
    assert reason("volatile.idmap.base", {"volatile.idmap.base": "1"}) == ""
    for key in ("user.x", "volatile.eth0.hwaddr", "volatile.root.apply_quota", "volatile.base_image"):
        assert reason(key, {}) == ""
    assert reason("volatile.idmap.base", {}, **{"restricted.containers.lowlevel": "allow"}) == ""
    assert reason("volatile.idmap.base", {}, restricted="false") == ""
