"""System calls of an instance that the host carries out in its stead."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conformance.client import Client, eventually
from tests.conformance.host import host
from tests.conformance.kernel import group_of
from tests.conformance.servers import Server
from tests.conformance.world import World, unique
from tests.programs import REFUSE_ALL, Call, bpf_program, program, requires_x86_64

pytestmark = requires_x86_64

PREFIX = "security.syscalls.intercept."
HELPER = "its helper wants a capability that this machine's root has not"
OPAQUE = b"trusted.overlay.opaque"


def outcome(world: World, name: str, *calls: Call) -> int:
    """0, or the errno of the first call that fails inside."""
    path = f"/root/{unique('program')}"
    world.push(name, path, program(*calls), X_LXD_mode="0755")
    return world.run(name, path).code


@pytest.mark.extension("seccomp_notify")
def test_a_call_reaches_the_server_and_is_answered(world: World, api: Client, server: Server) -> None:
    environment = api.get("/1.0")["environment"]
    assert environment["kernel_features"]["seccomp_listener"] == "true"
    assert environment["kernel_features"]["seccomp_listener_continue"] == "true"
    assert environment["lxc_features"]["seccomp_notify"] == "true"
    name = world.instance(start=True, config={f"{PREFIX}setxattr": "true"})
    assert (server.directory / "seccomp.socket").is_socket()
    assert outcome(world, name, ("setxattr", b"/root", OPAQUE, b"y", 1, 0)) == 0
    assert os.getxattr(f"/proc/{world.pid(name)}/root/root", OPAQUE) == b"y"


@pytest.mark.extension("container_syscall_intercept")
def test_an_overlay_can_be_made_opaque_with_the_key_alone(world: World) -> None:
    name, other = world.instance(start=True, config={f"{PREFIX}setxattr": "true"}), world.instance(start=True)
    opaque = ("setxattr", b"/root", OPAQUE, b"y", 1, 0)
    assert (outcome(world, name, opaque), outcome(world, other, opaque)) == (0, errno.EPERM)
    for attribute, value in ((OPAQUE, b"x"), (b"trusted.foo", b"y"), (b"trusted.foo", b"yes")):
        assert outcome(world, name, ("setxattr", b"/root", attribute, value, len(value), 0)) == errno.EPERM


@pytest.mark.extension("container_syscall_intercept")
@pytest.mark.differs(f"{HELPER}, and answers errno 5555")
@pytest.mark.parametrize("folder", ["/root", "/dev"])
def test_harmless_devices_can_be_made_and_work_with_the_key_alone(world: World, folder: str) -> None:
    name, other = world.instance(start=True, config={f"{PREFIX}mknod": "true"}), world.instance(start=True)
    for number, (major, minor) in enumerate(((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1))):
        world.shell(name, f"mknod {folder}/n{number} c {major} {minor}")
        shown = world.shell(name, f"stat -c '%F %t:%T %u:%g' {folder}/n{number}")
        assert shown.strip() == f"character special file {major}:{minor} 0:0"
    assert world.shell(name, f"cd {folder}; echo x >n0; head -c 1 n1; head -c 9 n4 | wc -c").strip() == "\x009"
    assert "No space left" in world.run(name, "sh", "-c", f"echo x >{folder}/n2").stderr
    for words in ("c 8 0", "b 8 0", "c 5 9"):
        assert "not permitted" in world.run(name, "mknod", f"{folder}/no", *words.split()).stderr
    assert "not permitted" in world.run(other, "mknod", f"{folder}/n0", "c", "1", "3").stderr


@pytest.mark.extension("container_syscall_intercept_sched_setscheduler")
def test_real_time_can_be_had_with_the_key_alone(world: World) -> None:
    name = world.instance(start=True, config={f"{PREFIX}sched_setscheduler": "true"})
    other = world.instance(start=True)
    for which in (name, other):
        runtime = group_of(world.pid(which), which, "cpu")[0] / "cpu.rt_runtime_us"
        if runtime.exists():  # such a kernel gives new groups no real time at all
            runtime.write_text("100000")
    real = ("sched_setscheduler", 0, os.SCHED_FIFO, struct.pack("i", 10))
    assert (outcome(world, name, real), outcome(world, other, real)) == (0, errno.EPERM)
    path = f"/root/{unique('waits')}"
    world.push(name, path, program(real, ("pause",)), X_LXD_mode="0755")
    world.shell(name, f"{path} >/dev/null 2>&1 </dev/null &")
    eventually(lambda: os.SCHED_FIFO in [os.sched_getscheduler(pid) for pid in running(path)])


def running(path: str) -> list[int]:
    """The host's pids of a program of an instance."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().split(b"\0")[0] == path.encode():
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize(
    "key", ["mknod", "setxattr", "sched_setscheduler", "mount", "mount.shift", "bpf", "bpf.devices"]
)
def test_a_switch_is_a_boolean(world: World, key: str) -> None:
    path = f"/1.0/instances/{world.instance()}"
    refusal = world.api.refusal("PATCH", path, {"config": {PREFIX + key: "maybe"}})
    assert (refusal.status, "Invalid value for a boolean" in refusal.text) == (500, True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A loop device with an ext4 that holds a file."""
    content, image = tmp_path / "content", tmp_path / "image"
    content.mkdir()
    (content / "file").write_text("text")
    image.touch()
    os.truncate(image, 16 << 20)
    host("mkfs.ext4", "-q", "-d", str(content), str(image))
    device = host("losetup", "-f", "--show", str(image)).strip()
    yield device
    host("losetup", "-d", device)


READ_ONLY = 1


def with_disk(world: World, server: Server, disk: str, **config: str) -> str:
    """A running instance that has the device's node as /disk, its root's own, and a folder /mnt."""
    name = world.instance(config={f"{PREFIX}{key.replace('__', '.')}": text for key, text in config.items()})
    world.start(name)
    rootfs = server.directory / "storage-pools" / world.ground.pool / "containers" / name / "rootfs"
    os.mknod(rootfs / "disk", 0o60600, os.stat(disk).st_rdev)
    owner = rootfs.stat()
    os.chown(rootfs / "disk", owner.st_uid, owner.st_gid)
    world.shell(name, "mkdir -p /mnt")
    return name


@pytest.mark.extension("container_syscall_intercept_mount")
@pytest.mark.differs(HELPER)
def test_an_allowed_file_system_can_be_mounted_with_the_key_alone(world: World, server: Server, disk: str) -> None:
    name = with_disk(world, server, disk, mount="true", mount__allowed="ext4")
    ext4 = ("mount", b"/disk", b"/mnt", b"ext4", READ_ONLY, 0)
    assert outcome(world, name, ext4) == 0
    assert world.shell(name, "cat /mnt/file; stat -c ' %u' /mnt/file").strip() == "text 65534"
    assert " - ext4 /disk " in world.shell(name, "cat /proc/self/mountinfo")
    world.shell(name, "umount /mnt")
    assert outcome(world, name, ("mount", b"/disk", b"/mnt", b"xfs", READ_ONLY, 0)) == errno.EPERM

    path = f"/1.0/instances/{name}"
    world.api.patch(path, {"config": {f"{PREFIX}mount.shift": "true"}})
    assert outcome(world, name, ext4) == 0
    assert world.shell(name, "stat -c %u /mnt/file; umount /mnt").strip() == "0"
    world.api.patch(path, {"config": {f"{PREFIX}mount.allowed": ""}})
    assert outcome(world, name, ext4) == errno.EPERM
    other = with_disk(world, server, disk)
    assert outcome(world, other, ext4) == errno.EPERM


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Two more of 2 MiB on the host."""
    folder = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
    wanted, free = folder / "nr_hugepages", folder / "free_hugepages"
    before = wanted.read_text() if wanted.exists() else ""
    try:
        wanted.write_text(str(int(before) + 2))
    except (OSError, ValueError):
        pytest.skip("huge pages of this host cannot be set")
    try:
        if int(free.read_text()) == 0:
            pytest.skip("this host has no memory for huge pages")
        yield
    finally:
        wanted.write_text(before)


def uses_huge_page(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    return any("_Hugetlb:" in line and line.split()[1] == "2048" for line in lines)


@pytest.mark.extension("container_syscall_intercept_hugetlbfs")
@pytest.mark.differs(HELPER)
@pytest.mark.usefixtures("huge_pages")
def test_huge_pages_can_be_had_with_the_key_alone(world: World) -> None:
    name = world.instance(start=True, config={f"{PREFIX}mount": "true", f"{PREFIX}mount.allowed": "hugetlbfs"})
    other = world.instance(start=True)
    huge = ("mount", b"none", b"/mnt", b"hugetlbfs", 0, b"mode=0700")
    for which in (name, other):
        world.shell(which, "mkdir -p /mnt")
    assert (outcome(world, name, huge), outcome(world, other, huge)) == (0, errno.EPERM)
    root = os.stat(f"/proc/{world.pid(name)}").st_uid
    assert f"uid={root},gid={root}" in world.shell(name, "grep ' /mnt ' /proc/self/mounts")
    address, readable_writable, shared = 0x40000000, 3, 0x11
    world.push(name, "/root/byte", b"x")
    path = f"/root/{unique('maps')}"
    uses = program(
        ("open", b"/mnt/page", 0o102, 0o600),  # O_RDWR | O_CREAT
        ("mmap", address, 2 << 20, readable_writable, shared, 3, 0),
        ("open", b"/root/byte", 0),
        ("pread64", 4, address, 1, 0),
        ("pause",),
    )
    world.push(name, path, uses, X_LXD_mode="0755")
    world.shell(name, f"{path} >/dev/null 2>&1 </dev/null &")
    eventually(lambda: any(uses_huge_page(pid) for pid in running(path)))
    assert outcome(world, name, ("umount2", b"/mnt", 2)) == 0
    assert outcome(world, name, ("mount", b"none", b"/mnt", b"hugetlbfs", 0, b"uid=-1")) == errno.EINVAL


def test_a_file_system_is_mounted_by_the_kernel_or_by_a_program(world: World) -> None:
    config = {f"{PREFIX}mount": "true", f"{PREFIX}mount.allowed": "ext4", f"{PREFIX}mount.fuse": "ext4=fuse2fs"}
    refusal = world.api.refusal("PATCH", f"/1.0/instances/{world.instance()}", {"config": config})
    assert refusal.status == 500
    text = f"Filesystem ext4 cannot appear in {PREFIX}mount.allowed and {PREFIX}mount.fuse"
    assert text in refusal.text


DEVICE, SOCKET_FILTER = 15, 1  # kinds of programs


@pytest.mark.extension("container_syscall_intercept_bpf_devices")
def test_a_control_group_can_be_kept_from_devices_with_the_keys_alone(world: World) -> None:
    keys = {f"{PREFIX}bpf": "true", f"{PREFIX}bpf.devices": "true"}
    name, other = world.instance(start=True, config=keys), world.instance(start=True)
    content, load = bpf_program("/root/program", REFUSE_ALL, DEVICE)
    filter_, load_filter = bpf_program("/root/filter", REFUSE_ALL, SOCKET_FILTER)
    for which in (name, other):
        world.push(which, "/root/program", content)
        world.push(which, "/root/filter", filter_)
    assert outcome(world, other, *load) == errno.EPERM
    assert outcome(world, name, *load_filter) == errno.EPERM
    inside = "echo $$ > /groups/sub/cgroup.procs; echo x > /dev/null"
    world.shell(name, f"mkdir /groups; mount -t cgroup2 none /groups; mkdir /groups/sub; {inside}")
    attach = ("bpf", 8, struct.pack("=IIIII", 5, 4, 6, 0, 0), 20)
    assert outcome(world, name, *load, ("open", b"/groups/sub", os.O_DIRECTORY), attach) == 0
    ran = world.run(name, "sh", "-c", inside)
    assert (ran.code, "not permitted" in ran.stderr) == (1, True)
    world.shell(name, "echo x > /dev/null")


def in_project(world: World, **config: str) -> Client:
    """A restricted project with its own profiles, and a client that stands in it."""
    name = unique("pr")
    world.finally_do(partial(world.gone, f"/1.0/projects/{name}"))
    own = {
        "features.images": "false",
        "restricted": "true",
        **{key.replace("_", "."): text for key, text in config.items()},
    }
    world.api.post("/1.0/projects", {"name": name, "config": own})
    return Client(world.api.socket, name)


SAFE = ("mknod", "setxattr", "bpf", "bpf.devices", "mount")
LOW_LEVEL = {"sched_setscheduler": "true", "mount.allowed": "ext4", "mount.shift": "true"}


def refusal_of(world: World, inside: Client, config: dict[str, str]) -> str:
    """Why an instance with these keys is not made; "" if it is."""
    name = unique("c")
    world.finally_do(partial(removed, inside, name))
    keys = {PREFIX + key: text for key, text in config.items()}
    answer = inside.request("POST", "/1.0/instances", world.body(name, config=keys))
    if answer.status != 202:
        return str(json.loads(answer.body)["error"])
    return str(inside.finished(answer.operation)["err"])


def removed(inside: Client, name: str) -> None:
    answer = inside.request("DELETE", f"/1.0/instances/{name}")
    if answer.status == 202:
        inside.finished(answer.operation)


@pytest.mark.extension("projects_restricted_intercept")
@pytest.mark.parametrize("setting", ["", "block", "allow"])
def test_a_restricted_project_may_allow_what_is_safe(world: World, setting: str) -> None:
    inside = in_project(world, restricted_containers_interception=setting) if setting else in_project(world)
    for key in SAFE:
        reason = refusal_of(world, inside, {key: "true"})
        assert ("Container syscall interception is forbidden" in reason) == (setting != "allow"), (key, reason)
    for key, text in LOW_LEVEL.items():
        assert f'Use of low-level config "{PREFIX}{key}"' in refusal_of(world, inside, {key: text})


@pytest.mark.extension("projects_restricted_intercept")
@pytest.mark.differs("5.0.2 takes full for block")
def test_a_restricted_project_may_allow_everything(world: World) -> None:
    inside = in_project(world, restricted_containers_interception="full")
    both = {**dict.fromkeys(SAFE, "true"), **LOW_LEVEL, "mount.fuse": "ntfs=ntfs-3g"}
    assert refusal_of(world, inside, both) == ""


@pytest.mark.extension("projects_restricted_intercept")
def test_a_setting_that_is_none_is_refused(world: World) -> None:
    config = {"restricted": "true", "restricted.containers.interception": "bogus"}
    refusal = world.api.refusal("POST", "/1.0/projects", {"name": unique("pr"), "config": config})
    assert (refusal.status, "not one of [allow block full]" in refusal.text) == (400, True)
