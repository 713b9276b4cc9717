"""The end and the start of a server: what happens to its instances."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client import Client, eventually
from tests.conformance.conftest import prepare
from tests.conformance.servers import Server
from tests.conformance.world import Ground, World

STUBBORN = b"#!/bin/sh\ntrap '' PWR\nwhile :; do sleep 1; done\n"


@pytest.fixture(scope="module")
def own_ground(own_server: Server) -> Ground:
    """A pool and an image on a server that only this module uses."""
    return prepare(Client(own_server.socket))


@pytest.fixture
def own(own_server: Server, own_ground: Ground) -> Iterator[World]:
    made = World(own_ground)
    yield made
    if own_server.started is None:
        own_server.start()
    made.close()


def show(own: World, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = own.api.get(f"/1.0/instances/{name}")
    return shown


def running(own: World, name: str) -> None:
    """Waits until an instance runs."""
    eventually(lambda: show(own, name)["status"] == "Running")


@pytest.mark.extension("container_last_used_at")
@pytest.mark.extension("entity_description")
def test_instances_keep_running_while_the_server_is_away(own: World, own_server: Server) -> None:
    name = own.instance(start=True, description="mine", config={"user.a": "1"})
    pid, before = own.pid(name), show(own, name)

    own_server.leave()
    assert Path(f"/proc/{pid}").exists()
    own_server.start()

    after = show(own, name)
    assert (after["status"], own.pid(name)) == ("Running", pid)
    for field in ("last_used_at", "description", "created_at", "devices", "profiles"):
        assert after[field] == before[field]
    assert after["config"]["user.a"] == "1"
    assert own.shell(name, "hostname") == name
    own.state(name, "stop")
    assert show(own, name)["status"] == "Stopped"


def test_an_instance_that_ends_while_the_server_is_away_is_found_stopped(own: World, own_server: Server) -> None:
    name = own.instance(start=True, config={"boot.autostart": "false"})
    end_while_away(own, own_server, name)
    eventually(lambda: show(own, name)["status"] == "Stopped")
    own.start(name)
    assert own.shell(name, "hostname") == name


def test_an_instance_that_ends_while_the_server_is_away_runs_again(own: World, own_server: Server) -> None:
    name = own.instance(start=True)
    old = end_while_away(own, own_server, name)
    running(own, name)
    assert own.pid(name) != old


def end_while_away(own: World, own_server: Server, name: str) -> int:
    pid = own.pid(name)
    own_server.leave()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists())
    own_server.start()
    return pid


@pytest.mark.extension("container_host_shutdown_timeout")
def test_an_instance_that_does_not_stop_is_killed_after_its_timeout(own: World, own_server: Server) -> None:
    name = own.instance(config={"boot.host_shutdown_timeout": "2"})
    own.push(name, "/sbin/init", STUBBORN)
    own.start(name)
    pid = own.pid(name)

    begin = time.monotonic()
    own_server.shut_down()
    took = time.monotonic() - begin

    assert 1.5 < took < 28  # with the default of 30 s it would take longer
    assert not Path(f"/proc/{pid}").exists()
    own_server.start()
    running(own, name)  # it ran when the host went down, so it runs again


@pytest.mark.extension("container_stop_priority")
def test_instances_are_stopped_in_the_order_of_their_priority(own: World, own_server: Server) -> None:
    names = [
        own.instance(start=True, config={"boot.stop.priority": priority, "boot.autostart": "false"})
        for priority in ("0", "10", "5")
    ]
    with own.api.events() as events:
        own_server.shut_down()
    stopped = [
        event["metadata"]["source"].rsplit("/", 1)[1]
        for event in events.seen
        if event["type"] == "lifecycle" and event["metadata"]["action"] in ("instance-shutdown", "instance-stopped")
    ]
    order = [name for name in stopped if name in names]
    assert list(dict.fromkeys(order)) == [names[1], names[2], names[0]]


def test_instances_start_with_the_server_as_they_are_told_to(own: World, own_server: Server) -> None:
    always = own.instance(config={"boot.autostart": "true"})
    never = own.instance(start=True, config={"boot.autostart": "false"})
    as_before = own.instance(start=True)
    stopped = own.instance()

    own_server.shut_down()
    own_server.start()

    running(own, always)
    running(own, as_before)
    for name in (never, stopped):
        assert show(own, name)["status"] == "Stopped"


def test_instances_start_in_the_order_of_their_priority(own: World, own_server: Server) -> None:
    config = {"boot.autostart": "true"}
    low, high = (own.instance(config={**config, "boot.autostart.priority": p}) for p in ("1", "9"))

    own_server.leave()
    own_server.start()

    for name in (low, high):
        running(own, name)
    assert show(own, high)["last_used_at"] < show(own, low)["last_used_at"]


def test_what_was_made_is_there_after_a_restart(own: World, own_server: Server, own_ground: Ground) -> None:
    profile = own.profile({"user.a": "1"}, description="mine")
    paths = [
        f"/1.0/profiles/{profile}",
        f"/1.0/images/{own_ground.image}",
        f"/1.0/storage-pools/{own_ground.pool}",
        f"/1.0/instances/{own.instance()}",
    ]

    def made() -> dict[str, Any]:
        shown = {path: own.api.get(path) for path in paths}
        return {path: {**entry, "last_used_at": None} for path, entry in shown.items()}  # may be noted a little later

    before = made()
    own_server.leave()
    own_server.start()

    assert made() == before
