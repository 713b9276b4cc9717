"""Programs that decide about devices, loaded and attached for a container."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from services.instances.host.spec import Spec
from tests.drivers.instances.conftest import World, requires_root
from tests.drivers.instances.test_interception import outcome
from tests.programs import REFUSE_ALL, Call, bpf_program, requires_x86_64

pytestmark = [requires_root, requires_x86_64]

PREFIX = "security.syscalls.intercept.bpf"
ON = {PREFIX: "true", f"{PREFIX}.devices": "true"}
ATTACH, DETACH, DEVICE, SOCKET_FILTER = 8, 9, 15, 1
CALLS = bytes([0x85, 0, 0, 0, 5, 0, 0, 0]) + bytes([0x95, 0, 0, 0, 0, 0, 0, 0])  # return ktime_get_ns()


def loaded(
    spec: Spec, name: str, instructions: bytes, kind: int = DEVICE, count: int | None = None, size: int = 72
) -> list[Call]:
    """The calls that load a program from a file: descriptors 3 and then 4 are the file and the program."""
    content, calls = bpf_program(f"/{name}", instructions, kind, count, size)
    (spec.rootfs / name).write_bytes(content)
    return calls


def attach(group: int, program: int, flags: int = 0, purpose: int = 6) -> bytes:
    return struct.pack("=IIIII", group, program, purpose, flags, 0)


async def started(world: World, name: str = "c1", config: dict[str, str] = ON) -> Spec:
    """With a cgroup2 at /groups and a group "sub" in it."""
    spec = world.spec(name, config=config)
    await world.containers.start(spec)
    await world.shell(spec.key, "mkdir /groups; mount -t cgroup2 none /groups; mkdir /groups/sub")
    return spec


async def test_a_group_of_its_own_is_kept_from_devices(world: World) -> None:
    spec = await started(world)
    load = loaded(spec, "program", REFUSE_ALL)
    group: Call = ("open", b"/groups/sub", os.O_DIRECTORY)
    inside = "echo $$ > /groups/sub/cgroup.procs; echo x > /dev/null"
    await world.shell(spec.key, inside)
    assert await outcome(world, spec, *load, group, ("bpf", ATTACH, attach(5, 4), 20)) == 0
    code, said = await world.run(spec.key, "sh", "-c", inside)
    assert (code, "not permitted" in said) == (1, True)
    await world.shell(spec.key, "echo x > /dev/null")  # elsewhere nothing has changed
    assert await outcome(world, spec, *load, group, ("bpf", DETACH, attach(5, 4), 12)) == 0
    await world.shell(spec.key, inside)


@pytest.mark.parametrize(("size", "expected"), [(32, errno.EPERM), (48, 0), (72, 0), (152, 0)])
async def test_callers_of_every_age_are_understood(world: World, size: int, expected: int) -> None:
    spec = await started(world)
    assert await outcome(world, spec, *loaded(spec, "program", REFUSE_ALL, size=size)) == expected


async def test_what_is_not_allowed_stays_with_the_kernel(world: World) -> None:
    spec, plain = await started(world), await started(world, "plain", {})
    group: Call = ("open", b"/groups/sub", os.O_DIRECTORY)
    load = loaded(spec, "program", REFUSE_ALL)
    assert await outcome(world, plain, *loaded(plain, "program", REFUSE_ALL)) == errno.EPERM
    assert await outcome(world, spec, ("setuid", 1000), *load) == errno.EPERM
    assert await outcome(world, spec, ("unshare", 0x10000000), *load) == errno.EPERM
    assert await outcome(world, spec, *loaded(spec, "calls", CALLS)) == errno.EPERM
    assert await outcome(world, spec, *loaded(spec, "filter", REFUSE_ALL, SOCKET_FILTER)) == errno.EPERM
    assert await outcome(world, spec, *loaded(spec, "none", REFUSE_ALL, count=0)) == errno.E2BIG
    assert await outcome(world, spec, *loaded(spec, "many", REFUSE_ALL, count=5000)) == errno.E2BIG
    assert await outcome(world, spec, *loaded(spec, "beyond", REFUSE_ALL, count=4096)) == errno.EFAULT
    assert await outcome(world, spec, *loaded(spec, "endless", REFUSE_ALL[:8])) == errno.EINVAL  # the verifier's
    for attributes, expected in (
        (attach(5, 77), errno.EBADF),
        (attach(77, 4), errno.EBADF),
        (attach(5, 3), errno.EINVAL),  # a file is no program
        (attach(3, 4), errno.EPERM),  # nor a group
    ):
        assert await outcome(world, spec, *load, group, ("bpf", ATTACH, attributes, 20)) == expected, attributes
    assert await outcome(world, spec, *load, group, ("bpf", ATTACH, 0x10, 20)) == errno.EFAULT


async def test_a_group_of_the_host_is_out_of_reach(world: World) -> None:
    spec = await started(world)
    load, group = loaded(spec, "program", REFUSE_ALL), ("open", b"/groups/sub", os.O_DIRECTORY)
    sub = f"/proc/{world.containers.running()[spec.key]}/root/groups/sub"
    assert os.stat(sub).st_uid == 1_000_000
    os.chown(sub, 0, 0)  # as one that the host keeps for itself
    assert await outcome(world, spec, *load, group, ("bpf", ATTACH, attach(5, 4), 20)) == errno.EPERM
