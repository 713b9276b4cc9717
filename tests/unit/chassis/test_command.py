"""Host tools: never a shell, never a value that becomes an option, errors in the tool's own words."""

from __future__ import annotations

import asyncio
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


async def test_time_and_cancellation_end_the_whole_group(tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    script = f"(sleep 60; touch {mark}) & echo started > {tmp_path}/started; wait"
    with pytest.raises(errors.Unavailable, match="did not finish within"):
        await Command("sh", "-c", script).run(timeout=0.3)
    task = asyncio.create_task(Command("sh", "-c", script).run())
    async with asyncio.timeout(20):
        while not (tmp_path / "started").exists():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_finding() -> None:
    assert find("sh")
    assert find("no-such-tool-anywhere") is None
