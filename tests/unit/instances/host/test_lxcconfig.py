"""The configuration that liblxc gets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from services.instances.host.idmap import both
from services.instances.host.lxcconfig import Host, Place, file_of, hook_of, mount_entry, probe
from services.instances.host.spec import Key, MountSpec, NicSpec, Spec

PLACE = Place(Path("/d/instances/c1"), "lxc.payload.x.c1", "lxc.monitor.x.c1", "lxc.pivot.x")
SPEC = Spec(Key("default", "c1"), "uid", Path("/pool/c1"), idmap=both(1_000_000, 0, 65_536))


def lines(spec: Spec = SPEC, place: Place = PLACE, host: Host | None = None) -> list[str]:
    return file_of(spec, place, host or Host()).splitlines()


def with_config(**config: str) -> Spec:
    return dataclasses.replace(SPEC, config={k.replace("__", "."): v for k, v in config.items()})


def test_an_unprivileged_one() -> None:
    found = lines()
    assert "lxc.idmap = u 0 1000000 65536" in found
    assert "lxc.idmap = g 0 1000000 65536" in found
    assert "lxc.rootfs.path = dir:/pool/c1/rootfs" in found
    assert "lxc.mount.auto = proc:rw sys:rw cgroup:mixed" in found
    assert "lxc.net.0.type = empty" in found
    assert not [line for line in found if "cap.drop" in line or "devices.deny" in line]


def test_a_privileged_one_loses_capabilities_and_devices() -> None:
    found = lines(dataclasses.replace(SPEC, idmap=None))
    assert "lxc.cap.drop = sys_time sys_module sys_rawio mac_admin mac_override" in found
    assert found.index("lxc.cgroup.devices.deny = a") < found.index("lxc.cgroup.devices.allow = c 1:3 rwm")
    assert not [line for line in found if line.startswith("lxc.idmap")]


def test_devices_on_cgroup2() -> None:
    found = lines(dataclasses.replace(SPEC, idmap=None), host=Host(unified=True))
    assert "lxc.cgroup2.devices.deny = a" in found
    assert "lxc.mount.auto = proc:mixed sys:mixed cgroup:rw:force" in found


def test_its_cgroups_have_names_of_their_own() -> None:
    found = lines()
    assert "lxc.cgroup.dir.container = lxc.payload.x.c1" in found
    assert "lxc.cgroup.dir.monitor = lxc.monitor.x.c1" in found


def test_rootfs_is_shifted_when_asked_for() -> None:
    assert "lxc.rootfs.options = idmap=container" in lines(place=dataclasses.replace(PLACE, shifts_rootfs=True))
    assert not [line for line in lines() if "rootfs.options" in line]


def test_nics_take_the_place_of_the_empty_net() -> None:
    nics = (NicSpec("veth1", "eth0", "00:16:3e:00:00:01", 1400), NicSpec("veth2", "eth1"))
    found = lines(dataclasses.replace(SPEC, nics=nics))
    assert "lxc.net.0.type = phys" in found
    assert "lxc.net.0.link = veth1" in found
    assert "lxc.net.0.hwaddr = 00:16:3e:00:00:01" in found
    assert "lxc.net.0.mtu = 1400" in found
    assert "lxc.net.1.name = eth1" in found
    assert "lxc.net.1.hwaddr" not in "\n".join(found)


def test_keys_of_the_configuration() -> None:
    found = lines(
        with_config(
            environment__FOO="a b", limits__kernel__nofile="3000:4000", linux__sysctl__net__ipv4__ip_forward="1"
        )
    )
    assert "lxc.environment = FOO=a b" in found
    assert "lxc.prlimit.nofile = 3000:4000" in found
    assert "lxc.sysctl.net.ipv4.ip_forward = 1" in found


def test_nesting_gets_clean_mounts_of_proc_and_sys() -> None:
    found = lines(with_config(security__nesting="true"))
    assert "lxc.mount.entry = proc dev/.lxc/proc proc create=dir,optional 0 0" in found
    assert "lxc.mount.entry = sys dev/.lxc/sys sysfs create=dir,optional 0 0" in found


def test_no_value_can_add_a_line() -> None:
    with pytest.raises(ValueError, match=r"lxc\.environment"):
        lines(with_config(environment__FOO="x\nlxc.hook.pre-start = /bin/evil"))


def test_no_key_can_add_a_line() -> None:
    spec = dataclasses.replace(SPEC, config={"linux.sysctl.a = 1\nlxc.hook.pre-start": "/bin/evil"})
    with pytest.raises(ValueError, match="line break"):
        lines(spec)


def test_raw_lines_come_last() -> None:
    assert lines(with_config(raw__lxc="lxc.signal.halt = SIGTERM\n"))[-1] == "lxc.signal.halt = SIGTERM"


def test_blanks_in_mounts_are_escaped() -> None:
    mount = MountSpec("/srv/a b\\c", "/mnt/x y", ("bind", "ro"), "dir")
    assert mount_entry(mount, shift=True) == r"/srv/a\040b\134c mnt/x\040y none bind,ro,create=dir,idmap=container 0 0"


def test_a_shifted_mount_of_a_privileged_one_is_plain() -> None:
    spec = dataclasses.replace(SPEC, idmap=None, mounts=(MountSpec("/a", "b", ("bind",), "dir", shift=True),))
    assert "lxc.mount.entry = /a b none bind,create=dir 0 0" in lines(spec)


def test_the_hook_quotes_its_folder() -> None:
    place = dataclasses.replace(PLACE, folder=Path("/d/it's here"))
    assert hook_of(place).splitlines()[0] == "echo \"$LXC_TARGET\" > '/d/it'\\''s here/target'"


def test_what_the_host_has_is_looked_up(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/fuse").touch()
    (tmp_path / "sys/kernel/debug").mkdir(parents=True)
    (tmp_path / "var/lib/lxcfs/proc").mkdir(parents=True)
    (tmp_path / "var/lib/lxcfs/proc/meminfo").touch()
    found = probe(unified=False, devices_controller=True, root=tmp_path, mounted=["/var/lib/lxcfs"])
    assert found.bindable == {"/dev/fuse", "/sys/kernel/debug/"}
    assert found.lxcfs == {"proc/meminfo"}
    shown = lines(host=found)
    assert "lxc.mount.entry = /dev/fuse dev/fuse none bind,create=file,optional 0 0" in shown
    assert "lxc.mount.entry = /sys/kernel/debug sys/kernel/debug none rbind,create=dir,optional 0 0" in shown
    assert "lxc.mount.entry = /var/lib/lxcfs/proc/meminfo proc/meminfo none bind,optional 0 0" in shown
    assert not probe(unified=False, devices_controller=True, root=tmp_path, mounted=[]).lxcfs


@pytest.mark.parametrize(("key", "folder"), [(Key("default", "c1"), "c1"), (Key("dev", "c1"), "dev_c1")])
def test_folder_names_lead_back_to_their_keys(key: Key, folder: str) -> None:
    assert key.folder_name == folder
    assert Key.of_folder(folder) == key


def test_apparmor_confines_who_has_the_hosts_root(tmp_path: Path) -> None:
    folder = tmp_path / "sys/kernel/security/apparmor"
    folder.mkdir(parents=True)
    (folder / "profiles").write_text("lxc-container-default-cgns (enforce)\n/usr/bin/man (enforce)\n")
    host = probe(unified=False, devices_controller=True, root=tmp_path)
    privileged = dataclasses.replace(SPEC, idmap=None)
    assert "lxc.apparmor.profile = lxc-container-default-cgns" in lines(privileged, host=host)
    assert "lxc.apparmor.profile = unconfined" in lines(host=host)
    nested = dataclasses.replace(privileged, config={"security.nesting": "true"})
    assert "lxc.apparmor.profile = unconfined" in lines(nested, host=host)
    assert "apparmor" not in "\n".join(lines(privileged))
