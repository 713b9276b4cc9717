"""Containers whose service, starter or start ended in the middle: the next life finds them, ends what hangs, and loses none."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from chassis.errors import Internal
from services.instances.host import preparation, process, takeover
from services.instances.host.idmap import both
from services.instances.host.spec import Exit, Key, MountSpec
from tests.drivers.instances.conftest import World, eventually, requires_root

pytestmark = requires_root

ROOT = Path(__file__).parents[3]


async def test_running_ones_are_taken_over(world: World) -> None:
    spec = world.spec()
    pid = await world.containers.start(spec)
    await world.reopen()
    live = world.containers.state(spec.key)
    assert live is not None
    assert live.pid == pid
    assert await world.shell(spec.key, "echo hello") == "hello\n"
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: world.exits == [(spec.key, Exit("stop", pid))])


async def test_the_service_is_killed_and_comes_back(world: World, other_life: list[str]) -> None:
    spec = world.spec("k1")
    first = subprocess.Popen(
        [*other_life, str(world.directory), str(spec.volume), "k1"], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert first.stdout is not None
    with first.stdout:
        assert first.stdout.readline() == "open\n"
        pid = int(first.stdout.readline().split()[1])
    first.kill()
    first.wait()
    await world.reopen()
    live = world.containers.state(spec.key)
    assert live is not None
    assert live.pid == pid
    # the command that it ran for a client ends with it
    await eventually(lambda: b"54321" not in b"".join(_command_lines(pid)))
    await world.containers.kill(spec.key)


def _command_lines(init: int) -> list[bytes]:
    """Of the processes in a container's pid namespace."""
    space = os.readlink(f"/proc/{init}/ns/pid")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if os.readlink(entry / "ns/pid") == space:
                    found.append((entry / "cmdline").read_bytes())
    return found


async def test_the_service_is_killed_in_the_middle_of_starts(world: World, other_life: list[str]) -> None:
    spec = world.spec("k0")
    names = [f"k{number}" for number in range(6)]
    for delay in (0.0, 0.01, 0.03):
        life = subprocess.Popen(
            [*other_life, str(world.directory), str(spec.volume), *names], stdout=subprocess.PIPE, cwd=ROOT, text=True
        )
        assert life.stdout is not None
        with life.stdout:
            assert life.stdout.readline() == "open\n"
            await asyncio.sleep(delay)
            life.kill()
        life.wait()
        await world.reopen()
        # each either runs and can be used, or has left nothing
        for name in names:
            key = Key("default", name)
            if world.containers.state(key) is not None:
                assert await world.shell(key, "echo fine") == "fine\n"
                await world.containers.kill(key)
            assert not world.containers.groups(key).exist


async def test_the_starter_is_killed(world: World) -> None:
    spec = world.spec()
    os.kill(world.starter.pid, signal.SIGKILL)
    await world.containers.start(spec)
    pid = world.starter.pid
    os.kill(pid, signal.SIGKILL)
    assert await world.shell(spec.key, "echo hello") == "hello\n"
    assert world.starter.pid != pid


async def test_a_cancelled_start_is_not_lost(world: World) -> None:
    spec = world.spec()
    start = asyncio.ensure_future(world.containers.start(spec))
    await asyncio.sleep(0.002)
    start.cancel()
    with suppress(asyncio.CancelledError):
        await start
    await world.containers.kill(spec.key)
    assert world.containers.state(spec.key) is None
    assert not world.containers.groups(spec.key).exist


async def test_a_monitor_that_hangs_does_not_hold_up_the_others(world: World) -> None:
    stuck, fine = world.spec("a1"), world.spec("a2")
    pid = await world.containers.start(stuck)
    await world.containers.start(fine)
    os.kill(process.parent(pid), signal.SIGSTOP)
    await world.reopen()
    assert world.containers.state(stuck.key) is None
    assert world.containers.state(fine.key) is not None
    assert not world.containers.groups(stuck.key).exist


async def test_a_start_that_hangs_is_ended_by_the_next_life(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "PATIENCE", 0.5)
    script = (
        "import fcntl, os, sys, time\n"
        "f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.lockf(f, fcntl.LOCK_EX, 1, os.getpid())\n"
        "print('held', flush=True); time.sleep(1000)\n"
    )
    path = str(world.containers.directory / takeover.LOCKS)
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        await world.reopen()
        assert child.wait(20) == -signal.SIGKILL


async def test_a_start_that_was_cut_off_endangers_no_source(world: World, tmp_path: Path) -> None:
    """What is bound into the folder for a start must never be removed with the folder."""
    source = tmp_path / "precious"
    source.mkdir()
    (source / "file").write_text("precious")
    key = Key("default", "cut")
    folder = world.containers.folder(key)
    folder.mkdir()
    mounts = (MountSpec(str(source), "mnt", ("rbind",), "dir"), MountSpec(str(source / "file"), "f", ("bind",), "file"))
    assert len(list(preparation.stage(folder, mounts))) == 2
    await world.reopen()
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    assert len(list(preparation.stage(folder, mounts, both(1_000_000, 0, 65_536)))) == 2
    staged = (folder / preparation.STAGED).stat()
    assert (staged.st_uid, staged.st_gid, staged.st_mode & 0o777) == (1_000_000, 1_000_000, 0o700)
    await world.containers.forget(key)
    assert not folder.exists()
    folder.mkdir()
    (folder / "elsewhere").mkdir()
    subprocess.run(["mount", "--bind", str(source), str(folder / "elsewhere")], check=True)
    try:
        with pytest.raises(Internal, match="still mounted"):
            await world.containers.forget(key)
    finally:
        subprocess.run(["umount", str(folder / "elsewhere")], check=True)
    assert (source / "file").read_text() == "precious"
