"""Commands and consoles of real containers."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from chassis.errors import BadRequest, Internal
from services.instances.host import exec as host_exec
from services.instances.host.cgroups import Groups
from services.instances.host.console import Consoles, Session
from services.instances.host.exec import ExecSpec, Executed, read_some, write_all
from services.instances.host.spec import Key
from tests.drivers.instances.conftest import World, requires_root

pytestmark = requires_root
PATH = {"PATH": "/bin:/sbin:/usr/bin:/usr/sbin"}
KEY = Key("default", "c1")


@pytest.fixture
async def running(world: World) -> World:
    await world.containers.start(world.spec())
    return world


async def execute(world: World, *command: str, **more: object) -> Executed:
    return await host_exec.execute(world.containers, KEY, ExecSpec(command, PATH, **more))  # type: ignore[arg-type]


async def output(executed: Executed) -> str:
    parts = []
    assert executed.stdout is not None
    while data := await read_some(executed.stdout):
        parts.append(data)
    return b"".join(parts).decode()


async def until(fd: int | None, wanted: str) -> str:
    assert fd is not None
    found = ""
    async with asyncio.timeout(20):
        while wanted not in found:
            data = await read_some(fd)
            assert data, found
            found += data.decode()
    return found


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def test_pipes(running: World) -> None:
    executed = await execute(running, "sh", "-c", "read x; echo out $x; echo err >&2; exit 3")
    assert executed.stdin is not None
    assert executed.stderr is not None
    await write_all(executed.stdin, b"hello\n")
    executed.close_stdin()
    assert await output(executed) == "out hello\n"
    assert await read_some(executed.stderr) == b"err\n"
    assert await executed.wait() == 3
    executed.close()


async def test_much_output_and_much_input(running: World) -> None:
    executed = await execute(running, "sh", "-c", "cat | wc -c; head -c 3000000 /dev/zero")
    assert executed.stdin is not None

    async def feed() -> None:
        assert executed.stdin is not None
        await write_all(executed.stdin, b"x" * 2_000_000)
        executed.close_stdin()

    _, said = await asyncio.gather(feed(), output(executed))
    assert said.startswith("2000000\n")
    assert len(said) == 3_000_000 + len("2000000\n")
    executed.close()


async def test_a_terminal(running: World) -> None:
    executed = await execute(
        running, "sh", "-c", "tty; stty size; read x; stty size; echo hi > /dev/tty", pty=(100, 40)
    )
    seen = await until(executed.stdout, "40 100")
    assert "/dev/pts/" in seen
    executed.resize(132, 50)
    assert executed.stdin is not None
    await write_all(executed.stdin, b"\n")
    rest = await output(executed)
    assert "50 132" in rest
    assert "hi" in rest
    assert await executed.wait() == 0
    executed.close()


async def test_control_characters_reach_the_command(running: World) -> None:
    executed = await execute(running, "sleep", "1000", pty=(80, 24))
    assert executed.stdin is not None
    await write_all(executed.stdin, b"\x03")
    assert await executed.wait() == 128 + signal.SIGINT
    executed.close()


async def test_user_group_directory_and_environment(running: World) -> None:
    executed = await execute(
        running, "sh", "-c", "id -u; id -g; id -G; pwd; env | wc -l", uid=1000, gid=1001, cwd="/tmp"
    )
    assert (await output(executed)).split()[:4] == ["1000", "1001", "1001", "/tmp"]
    executed.close()


async def test_a_directory_that_is_not_there(running: World) -> None:
    executed = await execute(running, "pwd", cwd="/nothing")
    assert await output(executed) == "/\n"
    assert await executed.wait() == 0
    executed.close()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("nothing",), 127),
        (("/nothing",), 127),
        (("/etc",), 126),
        (("/etc/passwd",), 126),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "exit 200"), 200),
    ],
)
async def test_exit_codes(running: World, command: tuple[str, ...], code: int) -> None:
    executed = await execute(running, *command, discard=True)
    assert await executed.wait() == code
    executed.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
async def test_signals(running: World, number: int) -> None:
    executed = await execute(running, "sleep", "1000", discard=True)
    assert executed.signal(number)
    assert await executed.wait() == 128 + number
    executed.close()
    assert not executed.signal(number)


async def test_recording(running: World, tmp_path: Path) -> None:
    files = {"stdout": tmp_path / "out", "stderr": tmp_path / "err"}
    executed = await execute(running, "sh", "-c", "echo hi; echo err >&2; exit 7", **files)
    assert (executed.stdin, executed.stdout, executed.stderr) == (None, None, None)
    assert await executed.wait() == 7
    executed.close()
    assert [path.read_text() for path in files.values()] == ["hi\n", "err\n"]


async def test_a_recording_follows_no_link(running: World, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        await execute(running, "true", stdout=tmp_path / "out", stderr=tmp_path / "err")


async def test_closing_kills(running: World) -> None:
    executed = await execute(running, "sleep", "76543")
    executed.close()
    executed.close()
    assert await executed.wait() == 137
    assert "76543" not in await running.shell(KEY, "ps")


async def test_no_descriptor_is_left(running: World) -> None:
    await running.shell(KEY, "true")
    before = open_descriptors()
    for more in ({}, {"pty": (80, 24)}, {"discard": True}):
        executed = await execute(running, "ls", "-l", "/proc/self/fd", **more)
        if executed.stdout is not None:
            # standard ones, and that of the listing itself
            assert [line.split()[8] for line in (await output(executed)).splitlines() if "->" in line] == [
                "0",
                "1",
                "2",
            ]
        await executed.wait()
        executed.close()
    await running.shell(KEY, "true")
    assert open_descriptors() == before


async def test_a_stopped_one_runs_nothing(world: World) -> None:
    world.spec()
    with pytest.raises(Internal, match="not running"):
        await execute(world, "true")


async def test_the_command_ends_with_its_container(running: World) -> None:
    executed = await execute(running, "sleep", "1000", discard=True)
    await running.containers.kill(KEY)
    assert await executed.wait() == 137
    executed.close()


async def test_a_frozen_one_that_is_killed_lets_go(running: World) -> None:
    executed = await execute(running, "sleep", "1000", discard=True)
    await running.containers.freeze(KEY)
    await running.containers.kill(KEY)
    assert await executed.wait() == 137
    executed.close()


async def heard(session: Session, wanted: bytes) -> bytes:
    found = b""
    async with asyncio.timeout(20):
        async for data in session:
            found += data
            if wanted in found:
                return found
    raise AssertionError(found)


async def test_a_console_answers(running: World) -> None:
    consoles = Consoles(running.containers)
    session = await consoles.attach(KEY, 100, 30)
    await session.write(b"stty size; echo $((20+22))\n")
    assert b"30 100" in await heard(session, b"42\r\n")
    session.resize(132, 50)
    await session.write(b"stty size\n")
    await heard(session, b"50 132")
    await consoles.detach(KEY, session)
    await consoles.detach(KEY, session)


async def test_several_share_a_console(running: World) -> None:
    consoles = Consoles(running.containers)
    first, second = await consoles.attach(KEY), await consoles.attach(KEY)
    await first.write(b"echo $((20+22))\n")
    await asyncio.gather(heard(first, b"42\r\n"), heard(second, b"42\r\n"))
    await consoles.detach(KEY, first)
    await second.write(b"echo $((30+33))\n")
    await heard(second, b"63\r\n")
    await consoles.detach(KEY, second)
    third = await consoles.attach(KEY)
    await third.write(b"echo $((40+44))\n")
    await heard(third, b"84\r\n")
    await consoles.detach(KEY, third)


async def test_a_console_ends_with_its_container(running: World) -> None:
    consoles = Consoles(running.containers)
    session = await consoles.attach(KEY)
    await running.containers.kill(KEY)
    async with asyncio.timeout(20):
        async for _ in session:
            pass
    await consoles.detach(KEY, session)
    with pytest.raises(BadRequest, match="not running"):
        await consoles.attach(KEY)


async def test_the_log_of_a_console(running: World) -> None:
    consoles = Consoles(running.containers)
    await running.shell(KEY, "echo marked > /dev/console")
    await until_log(consoles, b"marked")
    consoles.clear_log(KEY)
    assert b"marked" not in consoles.read_log(KEY)
    await running.shell(KEY, "echo again > /dev/console")
    await until_log(consoles, b"again")
    await running.shell(KEY, "head -c 400000 /dev/zero | tr '\\0' x > /dev/console; echo theend > /dev/console")
    await until_log(consoles, b"theend")
    assert len(consoles.read_log(KEY)) <= 128 * 1024
    await running.containers.kill(KEY)
    assert b"theend" in consoles.read_log(KEY)


async def until_log(consoles: Consoles, wanted: bytes) -> None:
    async with asyncio.timeout(20):
        while wanted not in consoles.read_log(KEY):
            await asyncio.sleep(0.01)


def confinement(pid: int) -> dict[str, str]:
    """What the kernel holds a process to."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    kept = (
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "Groups",
        "Uid",
    )
    spaces = {space: os.readlink(f"/proc/{pid}/ns/{space}") for space in os.listdir(f"/proc/{pid}/ns")}
    files = {
        file: Path(f"/proc/{pid}/{file}").read_text() for file in ("cgroup", "limits", "oom_score_adj", "personality")
    }
    return {**{name: status.get(name, "").strip() for name in kept}, **spaces, **files}


@pytest.mark.parametrize("privileged", [False, True])
async def test_a_command_is_confined_as_liblxc_alone_confines_it(
    world: World, monkeypatch: pytest.MonkeyPatch, privileged: bool
) -> None:
    """Commands come into their cgroups by themselves, which is quicker; nothing else may differ by that."""
    spec = world.spec(idmap=None) if privileged else world.spec()
    await world.containers.start(spec)
    await world.shell(KEY, "true")  # the first is liblxc's, which makes the group for commands
    ours = await execute(world, "sleep", "1000", discard=True)
    monkeypatch.setattr(Groups, "entrances", {"payload": "", "tasks": [], "leaf": "/nonexistent"})
    theirs = await execute(world, "sleep", "1000", discard=True)
    assert confinement(ours.pid) == confinement(theirs.pid)
    for executed in (ours, theirs):
        executed.close()
        await executed.wait()


async def test_one_that_waits_to_begin_has_done_nothing_and_ends_when_it_is_given_up(running: World) -> None:
    spec = ExecSpec(["sh", "-c", "touch /tmp/done"], PATH, discard=True)
    given_up = await host_exec.attach(running.containers, KEY, spec)
    given_up.close()
    await given_up.wait()
    code, _ = await host_exec.run(running.containers, KEY, ["test", "-e", "/tmp/done"])
    assert code == 1
    executed = await host_exec.attach(running.containers, KEY, spec)
    await executed.begin()
    assert await executed.wait() == 0
    executed.close()
    await running.shell(KEY, "test -e /tmp/done")
