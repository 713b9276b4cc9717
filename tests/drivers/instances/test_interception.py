"""System calls that the host carries out for a container, on the real kernel: what is done, what is left to the kernel, and what happens
to a container that lies, floods, or whose host goes away."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
import stat
import struct
from pathlib import Path

import pytest

from services.instances.host.interception.caller import AT_FDCWD
from services.instances.host.spec import MountSpec, Spec
from tests.drivers.instances.conftest import World, requires_root
from tests.programs import program, requires_x86_64

pytestmark = [requires_root, requires_x86_64]

ON = {
    f"security.syscalls.intercept.{name}": "true" for name in ("mknod", "setxattr", "sched_setscheduler")
}  # fmt: skip
CHARACTER, BLOCK, NEW_USER = stat.S_IFCHR, stat.S_IFBLK, 0x10000000
NULL, ZERO = 0x103, 0x105  # device numbers as the call has them
_numbers = itertools.count()


async def started(world: World, name: str = "c1", **more: object) -> Spec:
    spec = world.spec(name, config=ON, **more)
    await world.containers.start(spec)
    return spec


def place(spec: Spec, *calls: tuple[str | int | bytes, ...], times: int = 1) -> str:
    """A program in the container."""
    path = f"/program{next(_numbers)}"
    file = spec.rootfs / path[1:]
    file.write_bytes(program(*calls, times=times))
    file.chmod(0o755)
    return path


async def outcome(world: World, spec: Spec, *calls: tuple[str | int | bytes, ...]) -> int:
    """0, or the errno of the first call that fails."""
    return (await world.run(spec.key, place(spec, *calls)))[0]


async def test_nodes_of_harmless_devices_are_made_and_work(world: World) -> None:
    spec = await started(world)
    script = "umask 027; mkdir /t; mount -t tmpfs none /t; cd /t; mknod -m 0666 null c 1 3; mknod ./zero c 1 5; mknod /root/full c 1 7"
    await world.shell(spec.key, script)
    found = await world.shell(
        spec.key, "echo x >/t/null; head -c 2 /t/zero; stat -c '%F %t:%T %a %u:%g' /t/* /root/full"
    )
    assert found == "".join(
        f"{line}\n"
        for line in (
            "\0\0character special file 1:3 666 0:0",
            "character special file 1:5 640 0:0",
            "character special file 1:7 640 0:0",
        )
    )
    made = (spec.rootfs / "root/full").lstat()
    assert (made.st_rdev, made.st_uid) == (os.makedev(1, 7), 0)
    code, said = await world.run(spec.key, "sh", "-c", "echo x > /root/full")
    assert (code, "No space left" in said) == (1, True)


@pytest.mark.parametrize(
    ("mode", "device", "expected"),
    [
        (CHARACTER, 0x0, 0),  # a whiteout
        (CHARACTER, 0x501, 0),
        (CHARACTER, 0x509, errno.EPERM),
        (CHARACTER, 0x102, errno.EPERM),  # kmem
        (CHARACTER, 1 << 32 | NULL, 0),  # the kernel sees no more than 32 bits either
        (CHARACTER, 0x100103, errno.EPERM),  # a minor of 256 + 3
        (BLOCK, 0x800, errno.EPERM),
        (BLOCK, NULL, errno.EPERM),
    ],
)
async def test_what_the_list_does_not_hold_is_refused(world: World, mode: int, device: int, expected: int) -> None:
    spec = await started(world)
    assert await outcome(world, spec, ("mknod", b"/node", mode | 0o600, device)) == expected
    assert (spec.rootfs / "node").exists() == (expected == 0)


async def test_without_the_key_it_is_refused(world: World) -> None:
    spec = world.spec()
    await world.containers.start(spec)
    assert await outcome(world, spec, ("mknod", b"/node", CHARACTER, NULL)) == errno.EPERM


async def test_who_may_not_ask_for_it_inside_is_refused(world: World) -> None:
    spec = await started(world)
    (spec.rootfs / "open").mkdir()
    (spec.rootfs / "open").chmod(0o777)
    make = ("mknod", b"/open/node", CHARACTER, NULL)
    assert await outcome(world, spec, ("setuid", 1000), make) == errno.EPERM
    assert await outcome(world, spec, ("unshare", NEW_USER), make) == errno.EPERM
    opaque = ("setxattr", b"/open", b"trusted.overlay.opaque", b"y", 1, 0)
    assert await outcome(world, spec, ("setuid", 1000), opaque) == errno.EPERM
    assert await outcome(world, spec, ("unshare", NEW_USER), opaque) == errno.EPERM
    assert await outcome(world, spec, make, opaque) == 0


PATHS: list[tuple[str, tuple[str | int | bytes, ...], int]] = [
    ("no pointer", ("mknod", 0, CHARACTER, NULL), errno.EFAULT),
    ("a pointer to nothing", ("mknod", 0x10000, CHARACTER, NULL), errno.EFAULT),
    ("the kernel's memory", ("mknod", 0xFFFFFFFF81000000, CHARACTER, NULL), errno.EFAULT),
    ("the last byte there is", ("mknod", 2**64 - 1, CHARACTER, NULL), errno.EFAULT),
    ("nothing", ("mknod", b"", CHARACTER, NULL), errno.ENOENT),
    ("the root", ("mknod", b"///", CHARACTER, NULL), errno.EEXIST),
    ("a folder", ("mknod", b"/root/.", CHARACTER, NULL), errno.EEXIST),
    ("a trailing slash", ("mknod", b"/root/x/", CHARACTER, NULL), errno.ENOENT),
    ("what exists", ("mknod", b"/file", CHARACTER, NULL), errno.EEXIST),
    ("a dangling link", ("mknod", b"/dangling", CHARACTER, NULL), errno.EEXIST),
    ("no folder", ("mknod", b"/none/x", CHARACTER, NULL), errno.ENOENT),
    ("below a file", ("mknod", b"/file/x", CHARACTER, NULL), errno.ENOTDIR),
    ("a circle", ("mknod", b"/circle/x", CHARACTER, NULL), errno.ELOOP),
    ("a way through /proc", ("mknod", b"/proc/1/root/x", CHARACTER, NULL), errno.ELOOP),
    ("too long a path", ("mknod", b"/" * 5000, CHARACTER, NULL), errno.ENAMETOOLONG),
    ("too long a name", ("mknod", b"/" + b"n" * 300, CHARACTER, NULL), errno.ENAMETOOLONG),
    ("no descriptor", ("mknodat", 77, b"x", CHARACTER, NULL), errno.EBADF),
    ("a negative descriptor", ("mknodat", -5, b"x", CHARACTER, NULL), errno.EBADF),
    ("a descriptor of a file", ("mknodat", 0, b"x", CHARACTER, NULL), errno.ENOTDIR),
    ("a descriptor that does not matter", ("mknodat", 77, b"/made", CHARACTER, NULL), 0),
    ("the current folder", ("mknodat", AT_FDCWD, b"made", CHARACTER, NULL), 0),
    ("a link inside", ("mknod", b"/inside/made", CHARACTER, NULL), 0),
    ("a link that climbs", ("mknod", b"/climb/x", CHARACTER, NULL), errno.ENOENT),
    ("dots that climb", ("mknod", b"/../../../../../../made", CHARACTER, NULL), 0),
]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of the host that no call may reach."""
    folder = tmp_path / "victim"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


async def test_paths_mean_what_they_mean_inside(world: World, victim: Path) -> None:
    spec = world.spec(config=ON)
    (spec.rootfs / "file").touch()
    (spec.rootfs / "dangling").symlink_to("nowhere")
    (spec.rootfs / "circle").symlink_to("circle")
    (spec.rootfs / "inside").symlink_to("/root")
    (spec.rootfs / "climb").symlink_to("../" * 20 + str(victim))
    await world.containers.start(spec)
    for what, call, expected in PATHS:
        found = await outcome(world, spec, ("chdir", b"/root"), call)
        assert found == expected, f"{what}: {errno.errorcode.get(found, found)}"
        for made in ("made", "root/made"):
            (spec.rootfs / made).unlink(missing_ok=True)
    assert list(victim.iterdir()) == []


async def test_a_path_at_the_end_of_memory_is_read(world: World) -> None:
    spec = await started(world)
    page = 0x700000
    body = b"/edge\0"
    fixed = ("mmap", page, 4096, 3, 0x32, -1, 0)  # private, anonymous, fixed
    read = ("open", b"/text", 0)
    (spec.rootfs / "text").write_bytes(body.rjust(4096, b"/"))
    calls = (fixed, read, ("pread64", 3, page, 4096, 0), ("mknod", page + 4096 - len(body), CHARACTER, NULL))
    assert await outcome(world, spec, *calls) == 0
    assert stat.S_ISCHR((spec.rootfs / "edge").lstat().st_mode)
    unended = ("mknod", page + 4096 - len(body) + 1, CHARACTER, NULL)
    (spec.rootfs / "text").write_bytes(b"/" * 4096)
    assert await outcome(world, spec, fixed, read, ("pread64", 3, page, 4096, 0), unended) == errno.EFAULT


async def test_a_caller_in_a_root_of_its_own_stays_there(world: World) -> None:
    spec = await started(world)
    (spec.rootfs / "jail/below").mkdir(parents=True)
    (spec.rootfs / "jail/link").symlink_to("/below")
    jailed = (("chdir", b"/jail"), ("chroot", b"/jail"))
    assert await outcome(world, spec, *jailed, ("mknod", b"/link/../../n1", CHARACTER, NULL)) == 0
    assert await outcome(world, spec, *jailed, ("mknod", b"below/n2", CHARACTER, NULL)) == 0
    assert (spec.rootfs / "jail/n1").is_char_device()
    assert (spec.rootfs / "jail/below/n2").is_char_device()


async def test_rights_over_files_count_for_what_is_the_containers_alone(world: World, victim: Path) -> None:
    hosts = victim / "hosts"
    (hosts / "hidden").mkdir(parents=True)
    hosts.chmod(0o755)
    (hosts / "hidden").chmod(0o700)
    spec = await started(world, mounts=(MountSpec(str(victim), "/victim", ("bind",), "dir"),))
    (spec.rootfs / "users").mkdir()
    os.chown(spec.rootfs / "users", 1000, 1000)
    (spec.rootfs / "users").chmod(0o700)
    assert await outcome(world, spec, ("mknod", b"/users/node", CHARACTER, NULL)) == 0
    assert await outcome(world, spec, ("mknod", b"/victim/hosts/node", CHARACTER, NULL)) == errno.EACCES
    for path in (b"/victim/hosts/hidden/node", b"/victim/hosts/hidden/none/node"):
        assert await outcome(world, spec, ("mknod", path, CHARACTER, NULL)) == errno.EACCES
    opaque = (b"trusted.overlay.opaque", b"y", 1, 0)
    assert await outcome(world, spec, ("setxattr", b"/victim/hosts", *opaque)) == errno.EPERM
    assert list(hosts.iterdir()) == [hosts / "hidden"]
    assert os.listxattr(hosts) == []


@pytest.mark.parametrize("call", ["setxattr", "lsetxattr"])
async def test_a_folder_is_made_opaque(world: World, call: str) -> None:
    spec = await started(world)
    (spec.rootfs / "link").symlink_to("root")
    name = b"trusted.overlay.opaque"
    assert await outcome(world, spec, (call, b"/root", name, b"y", 1, 0)) == 0
    assert os.getxattr(spec.rootfs / "root", name) == b"y"
    assert await outcome(world, spec, (call, b"/root", name, b"y", 1, os.XATTR_CREATE)) == errno.EEXIST
    assert await outcome(world, spec, (call, b"/root", name, b"x", 1, 0)) == errno.EPERM
    assert await outcome(world, spec, (call, b"/root", b"trusted.overlay.other", b"y", 1, 0)) == errno.EPERM
    assert await outcome(world, spec, (call, b"/root", b"trusted.foo", b"yes", 3, 0)) == errno.EPERM
    assert await outcome(world, spec, (call, b"/root", 0, b"y", 1, 0)) == errno.EFAULT
    assert await outcome(world, spec, (call, b"/root", b"user.foo", b"y", 1, 0)) == 0
    assert os.getxattr(spec.rootfs / "root", "user.foo") == b"y"
    assert await outcome(world, spec, (call, b"/link", name, b"y", 1, 0)) == 0
    assert (name.decode() in os.listxattr(spec.rootfs / "link", follow_symlinks=False)) == (call == "lsetxattr")


async def test_a_policy_is_set_for_a_process_of_the_container(world: World) -> None:
    spec = await started(world)
    init = world.containers.running()[spec.key]
    ten = struct.pack("i", 10)
    runtime = world.containers.layout.get("cpu")
    if (
        runtime is not None
        and (found := runtime.group(world.containers.places.payload(spec.key)) / "cpu.rt_runtime_us").exists()
    ):
        found.write_text("100000")  # such a kernel gives new groups no real time at all
    assert await outcome(world, spec, ("sched_setscheduler", 1, os.SCHED_FIFO, ten)) == 0
    assert os.sched_getscheduler(init) == os.SCHED_FIFO
    assert os.sched_getparam(init).sched_priority == 10
    assert await outcome(world, spec, ("sched_setscheduler", 0, os.SCHED_RR, ten)) == 0
    for process, policy, expected in (
        (1, -1, errno.EINVAL),
        (-1, 1, errno.EINVAL),
        (30000, 1, errno.ESRCH),
        (0, 99, errno.EINVAL),
    ):
        assert await outcome(world, spec, ("sched_setscheduler", process, policy, ten)) == expected
    assert await outcome(world, spec, ("sched_setscheduler", 0, os.SCHED_FIFO, 0)) == errno.EFAULT
    assert await outcome(world, spec, ("setuid", 1000), ("sched_setscheduler", 0, os.SCHED_FIFO, ten)) == errno.EPERM


async def test_calls_without_end_from_many_processes_of_several_containers(world: World) -> None:
    specs = [await started(world, name) for name in ("c1", "c2", "c3")]
    scripts = []
    for spec in specs:
        calls = [
            place(spec, ("mknod", b"/n%d" % n, CHARACTER, NULL), ("unlink", b"/n%d" % n), times=3) for n in range(10)
        ]
        scripts.append(
            "for p in "
            + " ".join(calls)
            + "; do $p & done; for p in "
            + " ".join(calls)
            + "; do wait -n || exit 1; done"
        )
    ended = await asyncio.gather(
        *(world.run(spec.key, "sh", "-c", script) for spec, script in zip(specs, scripts, strict=True))
    )
    assert ended == [(0, "")] * 3


async def test_a_caller_that_is_killed_meanwhile_harms_nobody(world: World) -> None:
    spec = await started(world)
    for n in range(5):  # each with a name of its own: who is killed leaves it, or not
        name = b"/killed%d" % n
        endless = place(spec, ("mknod", name, CHARACTER, NULL), ("unlink", name), times=2**31 - 1)
        code, _ = await world.run(spec.key, "timeout", "-s", "KILL", "0.2", endless)
        assert code == 128 + signal.SIGKILL
    assert await outcome(world, spec, ("mknod", b"/n", CHARACTER, NULL)) == 0


async def settled(world: World, other_than: int = -1) -> int:
    """The pid of the deputy, once it serves."""
    async with asyncio.timeout(20):
        while (pid := world.containers.interception.pid) == other_than or pid < 0:
            await asyncio.sleep(0.01)
    return pid


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_deputy_that_dies_has_a_successor_and_calls_that_it_held_fail(world: World) -> None:
    spec = await started(world)
    first = await settled(world)
    os.kill(first, signal.SIGSTOP)
    waits = place(spec, ("mknod", b"/waited", CHARACTER, NULL))
    pending = asyncio.ensure_future(world.run(spec.key, "sh", "-c", f"touch /begun; {waits}; echo $? > /code"))
    async with asyncio.timeout(20):
        while not (spec.rootfs / "begun").exists():
            await asyncio.sleep(0.01)
    os.kill(first, signal.SIGKILL)
    assert (await pending)[0] == 0
    assert int((spec.rootfs / "code").read_text()) in (0, errno.ENOSYS)  # 0: it had not been passed on yet
    await settled(world, first)
    assert await outcome(world, spec, ("mknod", b"/n", CHARACTER, NULL)) == 0


async def test_calls_are_served_while_the_service_is_away_and_by_its_next_life(world: World) -> None:
    spec = await started(world)
    first = await settled(world)
    make = [place(spec, ("mknod", b"/n%d" % n, CHARACTER, NULL)) for n in range(3)]
    endless = place(spec, ("mknod", b"/endless", CHARACTER, NULL), ("unlink", b"/endless"), times=2**31 - 1)
    running = asyncio.ensure_future(
        world.run(spec.key, "sh", "-c", f"{endless}& echo $! >/endless.pid; wait $!; echo $? >/code")
    )
    assert (await world.run(spec.key, make[0]))[0] == 0
    await world.containers.interception.close()
    assert (await world.run(spec.key, make[1]))[0] == 0
    assert is_alive(first)
    running.cancel()
    await world.reopen()
    assert await settled(world) != first
    assert (await world.run(spec.key, make[2]))[0] == 0
    async with asyncio.timeout(20):
        while is_alive(first):
            await asyncio.sleep(0.01)
    assert not (spec.rootfs / "code").exists()
    assert [(spec.rootfs / f"n{n}").is_char_device() for n in range(3)] == [True] * 3


async def test_nobody_serves_when_no_container_needs_it(world: World) -> None:
    await world.containers.start(world.spec("plain"))
    assert world.containers.interception.pid < 0
    spec = await started(world)
    pid = await settled(world)
    await world.containers.kill(spec.key)
    await world.containers.interception.close()
    async with asyncio.timeout(20):
        while is_alive(pid):
            await asyncio.sleep(0.01)
