"""Host tools: never a shell, never a value that becomes an option, errors in the tool's own words."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from chassis import errors
from chassis.command import Command, Failed, Value, find, option


async def test_output() -> None:
    output = await Command("sh", "-c", "cat; echo $1; echo problem >&2", "x", "$HOME;`id`").run(stdin=b"in ")
    assert output.text == "in $HOME;`id`\n"
    assert output.stderr == b"problem\n"


async def test_failure() -> None:
    with pytest.raises(Failed) as caught:
        await Command("sh", "-c", "echo it broke >&2; exit 3").run()
    assert caught.value.code == 3
    assert caught.value.text.endswith("exit status 3 (it broke)")
    output = await Command("sh", "-c", "exit 3").run(codes=(0, 3))
    assert output.code == 3


def test_values_are_no_options() -> None:
    for arguments in ((Value("-rf"),), ("-m", Value("--x"))):
        with pytest.raises(errors.BadRequest, match="begins with a dash"):
            Command("rm", *arguments)
    assert Command("rm", "--", Value("-rf")).arguments == ("--", "-rf")
    assert Command("mkfs", option("--label", "-x")).arguments == ("--label=-x",)
    with pytest.raises(errors.BadRequest, match="NUL"):
        Command("rm", "--", Value("a\0b"))


async def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.command.find", lambda _: None)
    with pytest.raises(errors.Internal) as caught:
        await Command("mkfs.btrfs", "x").run()
    assert caught.value.text == 'Required tool "mkfs.btrfs" is missing (install the Debian package btrfs-progs)'


SCRIPT = "sleep 600 & echo $! > {place}/child.new; mv {place}/child.new {place}/child; wait"


async def child(place: Path) -> int:
    """The pid of what the tool has started, once it has."""
    async with asyncio.timeout(20):
        while not (place / "child").exists():
            await asyncio.sleep(0.01)
    return int((place / "child").read_text())


async def gone(pid: int) -> None:
    """Wait until a process has ended, whether or not anybody has asked for its exit code."""
    async with asyncio.timeout(20):
        while True:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                return
            if state in "ZX":
                return
            await asyncio.sleep(0.01)


async def test_time_ends_the_whole_group(tmp_path: Path) -> None:
    for seconds in (0.5, 5.0, 30.0):  # a machine under load takes its time to begin
        with pytest.raises(errors.Unavailable, match="did not finish within"):
            await Command("sh", "-c", SCRIPT.format(place=tmp_path)).run(timeout=seconds)
        if (tmp_path / "child").exists():
            break
    await gone(await child(tmp_path))


async def test_cancellation_ends_the_whole_group(tmp_path: Path) -> None:
    task = asyncio.create_task(Command("sh", "-c", SCRIPT.format(place=tmp_path)).run())
    pid = await child(tmp_path)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(pid)


async def test_cancellation_at_the_start_ends_the_whole_group(tmp_path: Path) -> None:
    task = asyncio.create_task(Command("sh", "-c", SCRIPT.format(place=tmp_path)).run())
    while not (tmp_path / "child").exists():
        await asyncio.sleep(0)  # as little as can be: it has been started, and nobody has taken note
        time.sleep(0.05)  # the loop stands still, as on a machine under load
        if task.done():
            break
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    await gone(await child(tmp_path))


async def test_what_is_read_piece_by_piece_ends_with_its_block(tmp_path: Path) -> None:
    async with Command("sh", "-c", SCRIPT.format(place=tmp_path)).open():
        pid = await child(tmp_path)
    await gone(pid)


def test_finding() -> None:
    assert find("sh")
    assert find("no-such-tool-anywhere") is None
