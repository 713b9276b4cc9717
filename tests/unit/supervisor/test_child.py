"""A supervised process: it starts again after its death, with a pause, and ends when told, by force if need be."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from supervisor.child import Supervised
from supervisor.launch import FAILED, Launch, start

ROOT = Path(__file__).resolve().parents[3]
Make = Callable[..., Supervised]


def launch(folder: Path, *argv: str, sockets: tuple[int, ...] = ()) -> Launch:
    return Launch(argv, dict(os.environ), folder / "log", cwd=folder, directory=folder, sockets=sockets)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes supervised processes and ends them all afterwards."""
    made: list[tuple[Supervised, asyncio.Task[None]]] = []

    def build(*argv: str) -> Supervised:
        child = Supervised("it", launch(tmp_path, *argv), lambda _text: None)
        made.append((child, asyncio.create_task(child.run())))
        return child

    yield build
    for child, task in made:
        await child.stop(5)
        await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_it_starts_again_after_its_death(make: Make) -> None:
    child = make("/bin/sleep", "1000")
    await until(lambda: child.child)
    assert child.child
    first = child.child.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.child and child.child.pid != first)
    assert child.restarts == 1
    assert child.last_exit == "was ended by SIGKILL"


async def test_a_program_that_cannot_start_is_tried_again_with_growing_pauses(make: Make, tmp_path: Path) -> None:
    child = make("/nonexistent")
    await until(lambda: child.restarts >= 2)
    assert child.last_exit == f"exited with code {FAILED}"
    assert "cannot start /nonexistent" in (tmp_path / "log").read_text()


async def test_one_that_ignores_sigterm_is_killed(make: Make, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = make("/bin/sh", "-c", f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done")
    await until(ready.exists)
    await child.stop(0.1)
    assert child.last_exit == "was ended by SIGKILL"
    assert child.status()["pid"] == 0


def test_sockets_are_handed_over_from_descriptor_three_on(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = start(launch(tmp_path, "/bin/sh", "-c", "echo hello >&3", sockets=(writing,)))
    os.waitpid(child.pid, 0)
    os.close(child.pidfd)
    os.close(writing)
    with open(reading) as pipe:
        assert pipe.read() == "hello\n"


def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, signal, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from supervisor.launch import Launch, start\n"
        "here = pathlib.Path(sys.argv[2])\n"
        "print(start(Launch(('/bin/sleep', '1000'), {}, here / 'log', cwd=here, directory=here)).pid, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, ROOT, tmp_path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        os.set_blocking(pidfd, False)
        import select

        assert select.select([pidfd], [], [], 30)[0]
    finally:
        os.close(pidfd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_part_without_root_sees_the_code_and_its_directory_and_nothing_else(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    directory = tmp_path / "d"
    directory.mkdir()
    directory.chmod(0o711)
    script = f"cat /proc/self/status; ls -d {directory} {ROOT}/supervisor; ls {secret}; touch {ROOT}/x; ls /var /sys"
    found = start(
        Launch(
            ("/bin/sh", "-c", script),
            {"PATH": "/usr/bin:/bin"},
            tmp_path / "log",
            cwd=ROOT,
            directory=directory,
            user="nobody",
            code=(ROOT,),
        )
    )
    os.waitpid(found.pid, 0)
    os.close(found.pidfd)
    told = (tmp_path / "log").read_text()
    assert "CapEff:\t0000000000000000" in told
    assert "NoNewPrivs:\t1" in told
    assert f"\n{directory}\n" in told
    assert f"\n{ROOT}/supervisor\n" in told
    assert f"cannot access '{secret}': No such file" in told
    assert f"cannot touch '{ROOT}/x': Read-only file system" in told
    assert "cannot access '/var': No such file" in told
