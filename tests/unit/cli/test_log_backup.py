"""A backup of the log over a real nats-server: the same rows come back, nothing else, and never from half a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from chassis import natsd
from chassis.errors import Gone, Unavailable
from chassis.feed import Feed
from chassis.store import Change, Kind, Store
from chassis.testing.nats import NatsServer
from cli import log_backup
from cli.__main__ import main


class Note(msgspec.Struct, frozen=True):
    name: str
    text: str


NOTE = Kind("test_note", Note, ("name",))


@pytest_asyncio.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NatsServer]:
    """Reached as a deployment is: NUBIBUS_NATS says where."""
    async with NatsServer(tmp_path / "nats") as running:
        monkeypatch.setenv("NUBIBUS_NATS", running.url)
        yield running


async def write(server: NatsServer, **texts: str | None) -> None:
    """Each its text; None deletes."""
    store = await server.store()
    notes = store.mirror(NOTE)
    await store.start()
    for name, text in texts.items():
        change = Change()
        if text is None:
            change.delete(NOTE, (name,), expect=notes.revision(name))
        else:
            change.put(NOTE, Note(name, text), expect=None)
        await store.commit(change)
    await store.stop()


async def texts(server: NatsServer) -> dict[str, str]:
    store: Store = await server.store()
    notes = store.mirror(NOTE)
    await store.start()
    found = {row.value.name: row.value.text for row in notes.select()}
    await store.stop()
    return found


async def run(*arguments: str | Path) -> int:
    return await asyncio.to_thread(main, [str(argument) for argument in arguments])


async def test_a_restore_brings_back_what_was_backed_up_and_nothing_else(server: NatsServer, tmp_path: Path) -> None:
    file = tmp_path / "log.gz"
    many = {f"n{number}": "kept" for number in range(log_backup.PAGE + 10)}  # more than a page
    await write(server, **many, gone="soon")
    await write(server, gone=None)
    assert await run("log-backup", file) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    await write(server, n1="changed", n2=None, later="than the backup")
    bus = await server.connect()
    newest = (await bus.stream())["state"]["last_seq"]
    assert await run("log-restore", file, "--yes") == 0
    assert await texts(server) == many
    assert (await bus.stream())["state"]["first_seq"] == newest + 1  # no sequence is given out twice
    with pytest.raises(Gone):
        await Feed(bus).check_since(newest - 1)
    assert await run("log-restore", file, "--yes") == 0
    assert await texts(server) == many


async def test_a_lost_log_is_made_anew(server: NatsServer, tmp_path: Path) -> None:
    file = tmp_path / "log.gz"
    await write(server, one="1")
    assert await run("log-backup", file) == 0
    bus = await server.connect()
    assert "error" not in await bus.api("STREAM.DELETE.LOG")
    assert await run("log-restore", file, "--yes") == 0
    assert await texts(server) == {"one": "1"}


async def test_nothing_is_written_while_parts_run_or_without_a_yes(
    server: NatsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "log.gz"
    await write(server, one="1")
    assert await run("log-backup", file) == 0
    await write(server, one="2")
    bus = await server.connect()

    async def answer(msg: Msg) -> None:
        await msg.respond(b'{"name": "gateway"}')

    asked = await bus.subscribe("$SRV.PING", answer)
    assert await run("log-restore", file, "--yes") == 1
    assert "end them first: gateway" in capsys.readouterr().err
    await asked.unsubscribe()
    monkeypatch.setattr("builtins.input", lambda _question: "no")
    assert await run("log-restore", file) == 1
    assert await texts(server) == {"one": "2"}


@pytest.mark.parametrize("kept", [0, 5, -1, -20])
async def test_half_a_file_is_refused(
    server: NatsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: int
) -> None:
    file = tmp_path / "log.gz"
    await write(server, one="1")
    assert await run("log-backup", file) == 0
    file.write_bytes(file.read_bytes()[:kept])
    assert await run("log-restore", file, "--yes") == 1
    assert "not a whole one" in capsys.readouterr().err
    assert await texts(server) == {"one": "1"}


async def test_nobody_uses_a_log_that_is_half_restored(
    server: NatsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "log.gz", tmp_path / "broken.gz"
    await write(server, one="1", two="2")
    assert await run("log-backup", whole) == 0
    found = log_backup.load(whole)
    too_large = ("row.test_note.large", "x" * (natsd.MAX_PAYLOAD + 1), "")
    log_backup.save(replace(found, rows=[found.rows[0], too_large, found.rows[1]]), broken)
    assert await run("log-restore", broken, "--yes") == 1
    bus = await server.connect()
    with pytest.raises(Unavailable, match="half restored"):
        await bus.ready()
    capsys.readouterr()
    assert await run("log-backup", tmp_path / "half.gz") == 1
    assert "half restored" in capsys.readouterr().err
    assert await run("log-restore", whole, "--yes") == 0
    await bus.ready()
    assert await texts(server) == {"one": "1", "two": "2"}


async def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(server: NatsServer, tmp_path: Path) -> None:
    await write(server, one="1")
    (tmp_path / "other").write_text("somebody else's")
    for name in ("log.gz", f".log.gz.{os.getpid()}"):
        (tmp_path / name).symlink_to(tmp_path / "other")
    assert await run("log-backup", tmp_path / "log.gz") == 0
    assert (tmp_path / "other").read_text() == "somebody else's"
    assert not (tmp_path / "log.gz").is_symlink()


async def test_what_is_missing_is_said(
    server: NatsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await run("log-restore", tmp_path / "none", "--yes") == 1
    assert "there is no " in capsys.readouterr().err
    assert await run("log-backup", tmp_path / "no" / "such") == 1
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    wrong = server.url.replace("nubibus:", "nubibus:x")
    monkeypatch.setenv("NUBIBUS_NATS", wrong)
    monkeypatch.setattr(log_backup, "PATIENCE", 0.5)
    assert await run("log-backup", tmp_path / "log.gz") == 1
    assert "refuses the password of user 'nubibus'" in capsys.readouterr().err
    monkeypatch.delenv("NUBIBUS_NATS")
    assert await run("log-backup", "--dir", tmp_path / "none", tmp_path / "log.gz") == 1
    assert "there is no log in" in capsys.readouterr().err
