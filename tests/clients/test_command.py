"""The command `nubibus` on servers of its own: up, status, init, restart, kill, down; two of them side by side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.client import DEADLINE, Client, eventually

ROOT = Path(__file__).resolve().parents[2]
PARTS = {"nats", "gateway", "control", "instances", "storage", "network", "images"}


class Command:
    """`nubibus` with one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.api = Client(directory / "unix.socket")

    def run(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        """What it printed; it must end with the code."""
        command = [str(ROOT / "nubibus"), arguments[0], "--dir", str(self.directory), *arguments[1:]]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=DEADLINE * 3, check=False)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def pids(self) -> dict[str, int]:
        """Of the parts that run, by name."""
        lines = self.run("status").splitlines()
        return {words[0]: int(words[1]) for line in lines if (words := line.split())[0] in PARTS and words[1] != "-"}

    def supervisor(self) -> int:
        return int((self.directory / "run" / "supervisor.lock").read_text())


@pytest.fixture(scope="module")
def command() -> Iterator[Command]:
    with tempfile.TemporaryDirectory(prefix="cmd-", dir=os.environ.get("NUBIBUS_TEST_TMP")) as folder:
        Path(folder).chmod(0o711)
        made = Command(Path(folder, "d"))
        made.run("up", "--group", "root")
        yield made
        made.run("shutdown")


def gone(pid: int) -> bool:
    """Also when nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_every_part_runs_and_ends_with_the_server(command: Command) -> None:
    pids = command.pids()
    assert set(pids) == PARTS
    assert "ready" in command.run("status").splitlines()
    status = Path(f"/proc/{pids['gateway']}/status").read_text()
    assert "CapEff:\t0000000000000400" in status  # CAP_NET_BIND_SERVICE
    assert "Uid:\t0" not in status
    command.run("up")  # nothing to do
    assert command.pids() == pids
    command.run("down")
    assert all(gone(pid) for pid in pids.values())
    command.run("down")
    assert "no server runs" in command.run("status", code=1)
    command.run("up", "--group", "root")
    assert command.api.get("/1.0")["auth"] == "trusted"


def test_a_directory_has_one_server(command: Command) -> None:
    told = command.run("serve", code=1)
    assert f"A server is already running in {command.directory} (pid {command.supervisor()})" in told


def test_parts_come_back_and_a_killed_supervisor_takes_all_along(command: Command) -> None:
    before = command.pids()
    command.run("restart", "control")
    os.kill(before["gateway"], signal.SIGKILL)
    os.kill(before["nats"], signal.SIGKILL)
    eventually(lambda: command.api.request("GET", "/1.0/projects").status == 200)
    after = eventually(lambda: pids if set(pids := command.pids()) == PARTS else None)
    assert all(before[part] != after[part] for part in ("control", "gateway", "nats"))
    assert all(before[part] == after[part] for part in ("storage", "images", "network"))
    os.kill(command.supervisor(), signal.SIGKILL)
    eventually(lambda: all(gone(pid) for pid in after.values()))
    command.run("up", "--group", "root")


def test_clients_wait_while_the_gateway_restarts(command: Command) -> None:
    """The listening socket outlives the gateway: nobody is refused."""
    for _ in range(3):
        os.kill(command.pids()["gateway"], signal.SIGKILL)
        assert command.api.request("GET", "/1.0").status == 200


def test_init_makes_a_pool_a_profile_and_what_a_dump_says_can_be_fed_back(command: Command) -> None:
    preseed: dict[str, Any] = {
        "config": {"user.place": "here"},
        "storage_pools": [{"name": "tank", "driver": "dir"}],
        "profiles": [{"name": "default", "devices": {"root": {"type": "disk", "path": "/", "pool": "tank"}}}],
        "projects": [{"name": "blue", "description": "sky", "config": {"features.images": False}}],
    }
    command.run("init", "--preseed", stdin=yaml.safe_dump(preseed))
    dump = command.run("init", "--dump")
    found = yaml.safe_load(dump)
    assert found["config"] == {"user.place": "here"}
    assert [pool["name"] for pool in found["storage_pools"]] == ["tank"]
    default = next(one for one in found["profiles"] if one["name"] == "default" and "project" not in one)
    assert default["devices"]["root"]["pool"] == "tank"
    blue = next(one for one in found["projects"] if one["name"] == "blue")
    assert blue["config"]["features.images"] == "false"
    command.run("init", "--preseed", stdin=dump)
    assert yaml.safe_load(command.run("init", "--dump")) == found


def test_init_says_what_was_refused(command: Command) -> None:
    told = command.run("init", "--preseed", stdin="storage_pools: [{name: p, driver: nosuch}]", code=1)
    assert told.startswith("Error: storage_pools 'p': ")
    told = command.run("init", "--auto", "--network-port=1", code=1)
    assert told == "Error: --network-port can't be used without --network-address\n"


def test_two_servers_live_side_by_side(command: Command) -> None:
    with tempfile.TemporaryDirectory(prefix="two-", dir=os.environ.get("NUBIBUS_TEST_TMP")) as folder:
        Path(folder).chmod(0o711)
        other = Command(Path(folder, "d"))
        other.run("up", "--group", "root")
        try:
            other.api.post("/1.0/projects", {"name": "only-there"})
            assert command.api.request("GET", "/1.0/projects/only-there").status == 404
            assert not set(other.pids().values()) & set(command.pids().values())
        finally:
            other.run("shutdown")
    assert command.api.get("/1.0")["auth"] == "trusted"


def test_logs_are_shown(command: Command) -> None:
    lines = [json.loads(line) for line in command.run("logs", "control").splitlines() if line.startswith("{")]
    assert any(line["event"] == "ready" for line in lines)
