"""Containers on the real kernel: their life, their limits, their devices (test_takeover.py: how they outlive the service)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from chassis.errors import Internal
from services.instances.host import process
from services.instances.host.console import command_socket
from services.instances.host.idmap import both
from services.instances.host.spec import Exit, Key, MountSpec, NicSpec
from tests.drivers.instances.conftest import World, eventually, requires_root

pytestmark = requires_root

Pairs = Callable[[], tuple[str, str]]


async def test_an_unprivileged_one_lives_and_dies(world: World) -> None:
    spec = world.spec()
    pid = await world.containers.start(spec)
    live = world.containers.state(spec.key)
    assert live is not None
    assert (live.pid, live.frozen) == (pid, False)
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "1000000", "65536"]
    assert await world.shell(spec.key, "id -u; cat /proc/self/uid_map | tr -s ' '") == "0\n 0 1000000 65536\n"
    assert await world.containers.start(spec) == pid
    await world.containers.kill(spec.key)
    assert world.containers.state(spec.key) is None
    assert world.exits == [(spec.key, Exit("stop", pid))]
    assert not world.containers.groups(spec.key).exist


async def test_files_made_inside_are_roots_on_disk(world: World) -> None:
    spec = world.spec()
    await world.containers.start(spec)
    await world.shell(spec.key, "touch /made")
    assert (spec.rootfs / "made").stat().st_uid == 0


async def test_a_privileged_one(world: World) -> None:
    spec = world.spec(idmap=None)
    pid = await world.containers.start(spec)
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "0", "4294967295"]
    code, _ = await world.run(spec.key, "sh", "-c", "mknod /tmp/sda b 8 0 && cat /tmp/sda")
    assert code != 0
    capabilities = int((await world.shell(spec.key, "grep CapBnd /proc/self/status | cut -f2")).strip(), 16)
    assert not capabilities >> 16 & 1  # CAP_SYS_MODULE


async def test_ids_outside_of_subuid_are_no_trouble(world: World) -> None:
    spec = world.spec(idmap=both(700_000_000, 0, 70_000))
    pid = await world.containers.start(spec)
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "700000000", "70000"]


async def test_a_clean_stop(world: World) -> None:
    spec = world.spec()
    await world.containers.start(spec)
    await eventually_traps(world, spec.key)
    assert await world.containers.shutdown(spec.key, 20)
    assert world.containers.state(spec.key) is None
    assert await world.containers.shutdown(spec.key, 20)


async def eventually_traps(world: World, key: Key) -> None:
    """The init is a shell script: it must have come as far as to trap its signals."""
    live = world.containers.state(key)
    assert live is not None
    await eventually(lambda: int(process._status(live.pid)["SigCgt"], 16) >> (signal.SIGPWR - 1) & 1 == 1)


async def test_a_stop_that_the_container_ignores(world: World) -> None:
    spec = world.spec(config={"raw.lxc": "lxc.signal.halt = SIGWINCH"})
    await world.containers.start(spec)
    assert not await world.containers.shutdown(spec.key, 0.2)
    assert world.containers.state(spec.key) is not None


async def test_a_reboot_is_told_apart(world: World) -> None:
    spec = world.spec()
    pid = await world.containers.start(spec)
    await eventually_traps(world, spec.key)
    assert await world.containers.reboot(spec.key, 20)
    assert world.exits == [(spec.key, Exit("reboot", pid))]
    assert world.containers.state(spec.key) is None


async def test_an_init_that_dies_is_seen_at_once(world: World) -> None:
    spec = world.spec()
    pid = await world.containers.start(spec)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: world.exits == [(spec.key, Exit("stop", pid))])
    assert world.containers.state(spec.key) is None


async def test_a_monitor_that_is_killed_leaves_nothing(world: World) -> None:
    spec = world.spec()
    pid = await world.containers.start(spec)
    os.kill(process.parent(pid), signal.SIGKILL)
    await eventually(lambda: world.exits == [(spec.key, Exit("stop", pid))])
    assert not world.containers.groups(spec.key).exist
    assert await world.containers.start(spec) != pid


async def test_freezing(world: World) -> None:
    spec = world.spec()
    await world.containers.start(spec)
    for _ in range(2):
        await world.containers.freeze(spec.key)
        live = world.containers.state(spec.key)
        assert live is not None
        assert live.frozen
    await world.containers.unfreeze(spec.key)
    live = world.containers.state(spec.key)
    assert live is not None
    assert not live.frozen
    await world.containers.freeze(spec.key)
    await world.containers.kill(spec.key)
    assert world.containers.state(spec.key) is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"raw.lxc": "lxc.nonsense = 1"}, "refuses the configuration"),
        ({"limits.kernel.foo": "1"}, "Unknown resource foo"),
        ({"raw.lxc": "lxc.init.cmd = /nothing"}, 'Failed to exec "/nothing"'),
        ({"limits.cpu": "4000"}, None),
        ({"limits.cpu": "4000-4001"}, "limits.cpu"),
        ({"environment.A": "x\ny"}, "line break"),
        ({"security.syscalls.allow": "read", "security.syscalls.deny": "write"}, "mutually exclusive"),
    ],
)
async def test_starts_that_fail_say_why(world: World, config: dict[str, str], words: str | None) -> None:
    spec = world.spec(config=config)
    if words is None:
        await world.containers.start(spec)
        return
    with pytest.raises(Internal, match=words):
        await world.containers.start(spec)
    assert world.containers.state(spec.key) is None
    assert not world.containers.groups(spec.key).exist
    await world.containers.start(world.spec())


async def test_limits_hold_and_change_live(world: World) -> None:
    config = {"limits.memory": "64MiB", "limits.processes": "20", "limits.cpu": "1"}
    spec = world.spec(config=config)
    await world.containers.start(spec)
    assert (await world.run(spec.key, "dd", "if=/dev/zero", "of=/dev/null", "bs=16M", "count=1"))[0] == 0
    assert (await world.run(spec.key, "dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1"))[0] == 137
    assert "can't fork" in (await world.run(spec.key, "sh", "-c", "for i in $(seq 50); do sleep 5 & done"))[1]
    assert (await world.shell(spec.key, "grep -c Cpus_allowed_list: /proc/self/status")).strip() == "1"
    await world.containers.apply_limits(spec.key, config, {"limits.memory": "256MiB"})
    assert (await world.run(spec.key, "dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1"))[0] == 0
    allowed = await world.shell(spec.key, "grep Cpus_allowed_list: /proc/self/status | cut -f2")
    assert len(world.containers.machine.cpus) == 1 or allowed.strip() not in ("0", "1")


async def test_a_hard_allowance_slows_down(world: World) -> None:
    spec = world.spec(config={"limits.cpu.allowance": "5ms/100ms"})
    await world.containers.start(spec)
    await world.shell(spec.key, "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done")
    if world.containers.layout.controllers["cpu"].version == 1:
        assert world.containers.groups(spec.key).fields("cpu", "cpu.stat")["nr_throttled"] > 0


async def test_kernel_limits_sysctls_and_environment(world: World) -> None:
    config = {"limits.kernel.nofile": "300:400", "linux.sysctl.net.ipv4.ip_forward": "1", "environment.FOO": "a b"}
    spec = world.spec(config=config)
    pid = await world.containers.start(spec)
    said = await world.shell(spec.key, "ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_forward")
    assert said.split() == ["300", "400", "1"]
    assert b"FOO=a b" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


async def test_denied_system_calls(world: World) -> None:
    spec = world.spec(config={"security.syscalls.deny": "sethostname"})
    await world.containers.start(spec)
    assert (await world.run(spec.key, "hostname", "other"))[0] == 128 + signal.SIGSYS
    assert "Seccomp:\t2" in await world.shell(spec.key, "cat /proc/1/status")


async def test_nesting_mounts(world: World) -> None:
    spec = world.spec(config={"security.nesting": "true"})
    await world.containers.start(spec)
    assert (await world.shell(spec.key, "grep -c /dev/.lxc/ /proc/mounts")).strip() == "2"


async def test_nics_go_in_and_come_home(world: World, links: Pairs) -> None:
    ours, peer = links()
    spec = world.spec(nics=(NicSpec(peer, "eth0", "00:16:3e:11:22:33", 1400),))
    await world.containers.start(spec)
    assert not Path(f"/sys/class/net/{peer}").exists()
    assert "00:16:3e:11:22:33" in await world.shell(
        spec.key, "ip link show eth0 | grep 'mtu 1400' && ip link show eth0"
    )
    await world.containers.kill(spec.key)
    assert Path(f"/sys/class/net/{peer}").exists()
    assert Path(f"/sys/class/net/{ours}").exists()


async def test_nics_come_and_go_while_it_runs(world: World, links: Pairs) -> None:
    spec = world.spec()
    await world.containers.start(spec)
    ours, peer = links()
    for _ in range(2):
        await world.containers.attach_nic(spec.key, NicSpec(peer, "eth5", "00:16:3e:00:00:05"))
    assert "00:16:3e:00:00:05" in await world.shell(spec.key, "ip link show eth5")
    await world.containers.detach_nic(spec.key, "eth5", back_as=peer)
    assert Path(f"/sys/class/net/{peer}").exists()
    await world.containers.attach_nic(spec.key, NicSpec(peer, "eth6"))
    for _ in range(2):
        await world.containers.detach_nic(spec.key, "eth6")
    assert not Path(f"/sys/class/net/{ours}").exists()
    with pytest.raises(Internal, match="nothing"):
        await world.containers.attach_nic(spec.key, NicSpec("nothing", "eth7"))


async def test_mounts_from_a_closed_folder(world: World, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "data").mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "data/file").write_text("hello\n")
    mounts = (
        MountSpec(str(closed / "data"), "mnt/a b", ("bind", "ro"), "dir"),
        MountSpec(str(closed / "data/file"), "mnt/file", ("bind",), "file", shift=True),
    )
    spec = world.spec(mounts=mounts)
    await world.containers.start(spec)
    assert await world.shell(spec.key, "cat '/mnt/a b/file' /mnt/file; stat -c %u /mnt/file") == "hello\nhello\n0\n"
    assert (await world.run(spec.key, "touch", "/mnt/a b/x"))[0] == 1
    assert str(world.directory) not in Path("/proc/self/mountinfo").read_text()


async def test_mounts_come_and_go_while_it_runs(world: World, tmp_path: Path) -> None:
    spec = world.spec()
    await world.containers.start(spec)
    (tmp_path / "file").write_text("hello\n")
    mount = MountSpec(str(tmp_path), "opt/x/y", ("bind", "ro"), "dir", shift=True)
    for _ in range(2):
        await world.containers.attach_mount(spec.key, mount)
    assert await world.shell(spec.key, "cat /opt/x/y/file; grep -c /opt/x/y /proc/mounts") == "hello\n1\n"
    assert (await world.run(spec.key, "touch", "/opt/x/y/z"))[0] == 1
    for _ in range(2):
        await world.containers.detach_mount(spec.key, "/opt/x/y")
    assert await world.shell(spec.key, "ls /opt/x/y") == ""
    with pytest.raises(Internal, match="Failed to mount"):
        await world.containers.attach_mount(spec.key, MountSpec("/nothing/here", "opt/z", ("bind",), "dir"))


async def test_a_hostile_link_does_not_lead_a_mount_out(world: World, tmp_path: Path) -> None:
    spec = world.spec()
    await world.containers.start(spec)
    await world.shell(spec.key, "ln -s ../../../../../../../../.. /out")
    await world.containers.attach_mount(spec.key, MountSpec(str(tmp_path), "out/made", ("bind",), "dir"))
    assert not Path("/made").exists()
    assert await world.shell(spec.key, "grep -c ' /made ' /proc/mounts") == "1\n"


async def test_two_servers_have_containers_of_one_name(world: World, tmp_path: Path) -> None:
    from services.instances.host.containers import Containers

    (tmp_path / "other").mkdir()
    other = Containers(tmp_path / "other", world.starter, lambda key, how: None)
    await other.open()
    spec = world.spec()
    pid = await world.containers.start(spec)
    twin = world.spec("c1", project="twin")
    try:
        import dataclasses

        assert await other.start(dataclasses.replace(twin, key=spec.key)) != pid
        await other.kill(spec.key)
        assert world.containers.state(spec.key) is not None
    finally:
        await other.kill(spec.key)
        await other.close()


async def test_many_at_once(world: World) -> None:
    specs = [world.spec(f"m{number}") for number in range(8)]
    pids = await asyncio.gather(*(world.containers.start(spec) for spec in specs))
    assert len(set(pids)) == len(specs)
    await asyncio.gather(*(world.containers.kill(spec.key) for spec in specs))
    assert len(world.exits) == len(specs)


async def test_names_folders_and_renames(world: World) -> None:
    spec = world.spec(project="dev")
    await world.containers.start(spec)
    assert world.containers.folder(spec.key).name == "dev_c1"
    assert command_socket(world.containers.directory, "dev_c1")
    await world.containers.kill(spec.key)
    other = Key("dev", "c2")
    for _ in range(2):
        await world.containers.rename(spec.key, other)
    assert (world.containers.logs(other) / "lxc.log").exists()
    for _ in range(2):
        await world.containers.forget(other)
    assert not world.containers.folder(other).exists()
