"""A part that lacks something stays up, says what and what to do, and goes on when it is there."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from chassis import readiness, surroundings
from chassis.readiness import Readiness
from chassis.refusal import Refusals, explain
from chassis.testing.nats import NatsServer
from tools.cluster_secrets import Authority

ROOT = Path(__file__).resolve().parents[3]
DEADLINE = 60.0


def test_a_change_is_said_once() -> None:
    state = Readiness()
    with capture_logs() as lines:
        for lack in ("no disk", "no disk", "", "", "no disk"):
            state.tell("disk", lack)
    assert [line["event"] for line in lines] == ["not ready", "there again", "not ready"]
    assert lines[0]["reason"] == "no disk"
    assert state.reasons == ("no disk",)


async def test_a_reset_that_overtakes_a_refusal_says_nothing_new() -> None:
    told: list[str] = []
    refusals = Refusals(lambda: "nats://nubibus:x@host:4222", told.append)
    refusals.failed(RuntimeError("nats: 'Authorization Violation'"))
    refusals.failed(ConnectionResetError(104, "Connection reset by peer"))
    assert "refuses the password of user 'nubibus'" in told[0]
    assert told[1] == told[0]
    await refusals.over()
    refusals.failed(ConnectionResetError(104, "Connection reset by peer"))
    assert told[2] == ""
    assert "does not answer" in told[3]


async def test_met_waits_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "AGAIN", 0.01)
    state, answers = Readiness(), ["gone", "gone", ""]
    state.need("disk", lambda: answers.pop(0))
    state.tell("bus", "away")  # comes by itself: nothing to look at
    async with asyncio.timeout(DEADLINE):
        await state.met()
    assert answers == []
    assert state.reasons == ("away",)


async def test_what_goes_later_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "EVERY", 0.01)
    state, lack = Readiness(), ""
    state.need("disk", lambda: lack)
    await state.met()
    keeping = asyncio.create_task(state.keep())
    lack = "gone"
    async with asyncio.timeout(DEADLINE):
        while state.reasons != ("gone",):
            await asyncio.sleep(0.01)
    keeping.cancel()


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    assert surroundings.directory_lacks(tmp_path, writable=True) == ""
    missing = tmp_path / "state"
    assert str(missing) in surroundings.directory_lacks(missing, writable=False)
    assert "mount" in surroundings.directory_lacks(missing, writable=True)


def write(directory: Path, files: dict[str, bytes]) -> None:
    """Each file whole or not at all: a part may look at any moment."""
    for name, data in files.items():
        fresh = directory / f".{name}"
        fresh.write_bytes(data)
        fresh.rename(directory / name)


def test_a_certificate_out_of_its_time_is_named(tmp_path: Path) -> None:
    assert "Secret" in surroundings.certificate_lacks(tmp_path)
    write(tmp_path, Authority.fresh().issue("node", ()))
    assert surroundings.certificate_lacks(tmp_path) == ""
    for moment in (timedelta(days=400), timedelta(days=-400)):
        said = surroundings.certificate_lacks(tmp_path, datetime.now(UTC) + moment)
        assert str(tmp_path / "tls.crt") in said
        assert "tools.cluster_secrets --keep" in said
    (tmp_path / "ca.crt").write_text("nothing")
    assert str(tmp_path / "ca.crt") in surroundings.certificate_lacks(tmp_path)


def address(url: str) -> Callable[[], str]:
    return lambda: url


def test_a_refusal_of_the_bus_says_what_to_do() -> None:
    url = "tls://nubibus:hidden@nats.nubibus.svc:4222"
    unresolved = explain(socket.gaierror(-2, "Name or service not known"), address(url))
    assert "nats.nubibus.svc does not resolve" in unresolved
    refused = explain(ConnectionRefusedError(111, "Connection refused"), address(url))
    assert "nats.nubibus.svc:4222 does not answer" in refused
    assert "hidden" not in refused + unresolved

    def unknown() -> str:
        raise FileNotFoundError(2, "No such file or directory", "run/nats.json")

    assert "run/nats.json" in explain(FileNotFoundError(), unknown)


class Probed:
    """A part as a process of its own, and what it answers to probes."""

    def __init__(self, port: int, log: Path) -> None:
        self.port, self.log = port, log

    def asked(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    async def until(self, code: int, *words: str) -> None:
        """/readyz answers with the code and the words, and /livez that it lives."""
        said: tuple[int, str] = (0, "")
        try:
            async with asyncio.timeout(DEADLINE):
                while said[0] != code or not all(word in said[1] for word in words):
                    said = await asyncio.to_thread(self.asked, "/readyz")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{said}\n{self.log.read_text()}")
        assert (await asyncio.to_thread(self.asked, "/livez"))[0] == 200

    def complaints(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if "not ready" in line]


@asynccontextmanager
async def part(directory: Path, log: Path, environment: dict[str, str], *, code: int = 0) -> AsyncIterator[Probed]:
    """The control service, which needs no rights. It ends within the deadline when it is told to, with `code`."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    environment = {**os.environ, "NUBIBUS_PROBES": f"127.0.0.1:{port}", **environment}
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.control", "--dir", str(directory), cwd=ROOT, env=environment, stdout=out, stderr=out
        )  # fmt: skip
    try:
        yield Probed(port, log)
        assert process.returncode is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):
            assert await process.wait() == code, log.read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_wrong_password_is_said_and_mended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with NatsServer(tmp_path / "nats") as nats:
        right = nats.url.rpartition("@")[2]
        where = tmp_path / "d" / "run"
        where.mkdir(parents=True)
        write(where, {"nats.json": f'{{"url": "nats://nubibus:wrong@{right}"}}'.encode()})
        async with part(tmp_path / "d", log, {}) as probed:
            await probed.until(503, "refuses the password of user 'nubibus'", "NUBIBUS_NATS_PASSWORD")
            write(where, {"nats.json": f'{{"url": "{nats.url}"}}'.encode()})
            await probed.until(200, "ok")
        assert len(probed.complaints()) == 1
        assert "Traceback" not in log.read_text()


async def test_a_missing_directory_is_said_and_mended(tmp_path: Path) -> None:
    log, directory = tmp_path / "log", tmp_path / "d"
    async with NatsServer(tmp_path / "nats") as nats:
        async with part(directory, log, {"NUBIBUS_NATS": nats.url}) as probed:
            await probed.until(503, f"{directory} is missing")
            directory.mkdir()
            await probed.until(200, "ok")
        assert len(probed.complaints()) == 1


async def test_an_expired_certificate_is_said_and_mended(tmp_path: Path) -> None:
    log, tls, authority = tmp_path / "log", tmp_path / "tls", Authority.fresh()
    for directory in (tls, tmp_path / "d"):
        directory.mkdir()
    write(tls, authority.issue("control", (), days=0))
    async with NatsServer(tmp_path / "nats") as nats:
        async with part(tmp_path / "d", log, {"NUBIBUS_NATS": nats.url, "NUBIBUS_TLS": str(tls)}) as probed:
            await probed.until(503, str(tls / "tls.crt"), "renew it")
            write(tls, authority.issue("control", ()))
            await probed.until(200, "ok")
        assert len(probed.complaints()) == 1


async def test_a_part_that_waits_ends_when_it_is_told_to(tmp_path: Path) -> None:
    async with part(tmp_path / "nowhere", tmp_path / "log", {}) as probed:
        await probed.until(503, "is missing")
