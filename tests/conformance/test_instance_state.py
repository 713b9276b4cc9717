"""What an instance does: start, stop, restart, freeze, and what its state tells."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.conformance.client import Client, OperationFailed, eventually
from tests.conformance.world import World

POWER = {
    "start": "Starting instance",
    "stop": "Stopping instance",
    "restart": "Restarting instance",
    "freeze": "Freezing instance",
    "unfreeze": "Unfreezing instance",
}


def status(world: World, name: str) -> str:
    return str(world.api.get(f"/1.0/instances/{name}")["status"])


@pytest.mark.extension("event_lifecycle")
def test_each_change_of_state_is_one_event(world: World) -> None:
    name = world.instance()
    with world.api.events() as events:
        for action in ("start", "freeze", "unfreeze", "restart", "stop"):
            world.state(name, action, force=action in ("restart", "stop"))
        events.wait_for(action="instance-stopped", source=name)
    assert events.actions(name) == [
        "instance-started",
        "instance-paused",
        "instance-resumed",
        "instance-restarted",
        "instance-stopped",
    ]


@pytest.mark.extension("operation_description")
def test_each_change_of_state_is_an_operation_with_its_description(world: World) -> None:
    name = world.instance()
    for action, description in POWER.items():
        if action == "freeze":
            world.start(name)
        refused = action == "restart"  # it is stopped by then
        body = {"action": action, "force": True, "timeout": 30}
        answer = world.api.request("PUT", f"/1.0/instances/{name}/state", body)
        assert answer.metadata["description"] == description
        assert answer.metadata["resources"]["instances"] == [f"/1.0/instances/{name}"]
        assert (world.api.finished(answer.operation)["status"] == "Failure") is refused


def test_a_clean_stop_lets_init_end_by_itself(world: World) -> None:
    name = world.instance(start=True)
    with world.api.events() as events:
        world.state(name, "stop")
        events.wait_for(action="instance-shutdown", source=name)
    assert status(world, name) == "Stopped"
    assert events.actions(name) == ["instance-shutdown"]


def test_a_clean_stop_that_takes_too_long_fails_and_leaves_the_instance_running(world: World) -> None:
    name = world.instance()
    world.push(name, "/sbin/init", b"#!/bin/sh\ntrap '' PWR\nwhile :; do sleep 1; done\n")
    world.start(name)
    with pytest.raises(OperationFailed):
        world.state(name, "stop", timeout=1)
    assert status(world, name) == "Running"


def test_a_clean_restart_gives_a_new_init(world: World) -> None:
    name = world.instance(start=True)
    before = world.pid(name)
    with world.api.events() as events:
        world.state(name, "restart")
        events.wait_for(action="instance-restarted", source=name)
    assert status(world, name) == "Running"
    assert world.pid(name) != before
    assert events.actions(name) == ["instance-restarted"]


def test_a_frozen_instance_stands_still_until_it_is_thawed(world: World) -> None:
    name = world.instance(start=True)
    world.shell(name, "(while :; do date +%s%N >/run/tick; done) >/dev/null 2>&1 &")
    init = Path(f"/proc/{world.pid(name)}/root/run/tick")
    eventually(init.exists)

    world.state(name, "freeze")
    frozen = world.api.get(f"/1.0/instances/{name}")
    tick = init.read_text()
    assert (frozen["status"], frozen["status_code"]) == ("Frozen", 110)
    assert world.api.get(f"/1.0/instances/{name}/state")["status"] == "Frozen"
    assert init.read_text() == tick

    world.state(name, "unfreeze")
    assert status(world, name) == "Running"
    eventually(lambda: init.read_text() not in ("", tick))


def test_a_frozen_instance_can_be_stopped(world: World) -> None:
    name = world.instance(start=True)
    world.state(name, "freeze")
    world.state(name, "stop")
    assert status(world, name) == "Stopped"


@pytest.mark.extension("event_lifecycle")
def test_an_instance_that_powers_itself_off_is_seen_as_stopped(world: World) -> None:
    name = world.instance(start=True)
    with world.api.events() as events:
        world.run(name, "poweroff")
        event = events.wait_for(action="instance-shutdown", source=name)
    assert "requestor" not in event["metadata"]
    assert status(world, name) == "Stopped"


@pytest.mark.extension("event_lifecycle")
def test_an_instance_that_reboots_itself_runs_again(world: World) -> None:
    name = world.instance(start=True)
    before = world.pid(name)
    with world.api.events() as events:
        world.run(name, "reboot")
        events.wait_for(action="instance-restarted", source=name)
    assert status(world, name) == "Running"
    assert world.pid(name) != before
    assert events.actions(name)[1:] == ["instance-shutdown", "instance-restarted"]


def test_an_instance_whose_init_is_killed_is_seen_as_stopped(world: World) -> None:
    name = world.instance(start=True)
    with world.api.events() as events:
        os.kill(world.pid(name), signal.SIGKILL)
        events.wait_for(action="instance-shutdown", source=name)
    assert status(world, name) == "Stopped"
    world.start(name)
    assert status(world, name) == "Running"


def test_a_started_instance_is_a_set_of_processes_in_namespaces_of_their_own(
    api: Client, world: World, box: str
) -> None:
    pid = world.pid(box)
    for namespace in ("pid", "mnt", "net", "uts", "ipc", "user", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{namespace}") != os.readlink(f"/proc/self/ns/{namespace}")
    assert world.shell(box, "hostname") == box
    assert world.shell(box, "cat /proc/1/comm") == "init"


def test_the_state_of_a_running_instance_tells_its_processes_and_memory(api: Client, box: str) -> None:
    state = api.get(f"/1.0/instances/{box}/state")
    assert (state["status"], state["status_code"]) == ("Running", 103)
    assert state["pid"] > 1
    assert state["processes"] >= 2
    assert 0 < state["memory"]["usage"] <= state["memory"]["usage_peak"]
    assert state["memory"].keys() == {"usage", "usage_peak", "swap_usage", "swap_usage_peak"}
    loopback = state["network"]["lo"]
    assert (loopback["type"], loopback["state"], loopback["mtu"]) == ("loopback", "up", 65536)
    assert {"family": "inet", "address": "127.0.0.1", "netmask": "8", "scope": "local"} in loopback["addresses"]


def test_the_state_of_a_stopped_instance_is_empty(api: Client, still: str) -> None:
    state = api.get(f"/1.0/instances/{still}/state")
    assert (state["status"], state["status_code"]) == ("Stopped", 102)
    assert (state["pid"], state["processes"], state["network"]) == (0, 0, None)
    assert (state["cpu"]["usage"], state["memory"]["usage"]) == (0, 0)


@pytest.mark.extension("container_cpu_time")
def test_the_cpu_time_grows_by_what_the_instance_uses(api: Client, world: World, box: str) -> None:
    path = f"/1.0/instances/{box}/state"
    before = api.get(path)["cpu"]["usage"]
    world.shell(box, "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; cat /proc/$$/stat >/tmp/cpu.stat")
    used = api.get(path)["cpu"]["usage"] - before
    fields = world.pull(box, "/tmp/cpu.stat").decode().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])  # user and system time in 1/100 s
    assert ticks * 10_000_000 * 0.8 <= used <= ticks * 10_000_000 * 1.5 + 500_000_000


@pytest.mark.parametrize(
    ("running", "action", "text"),
    [
        (False, "stop", "The instance is already stopped"),
        (False, "restart", "The instance is already stopped"),
        (False, "freeze", "The container isn't running"),
        (False, "unfreeze", "The container isn't running"),
        (True, "start", "The instance is already running"),
        (True, "unfreeze", "The container is already running"),
    ],
)
def test_a_change_that_does_not_fit_the_state_fails(
    api: Client, box: str, still: str, running: bool, action: str, text: str
) -> None:
    name = box if running else still
    refusal = api.refusal("PUT", f"/1.0/instances/{name}/state", {"action": action, "timeout": 30})
    assert (refusal.status, refusal.text) == (400, text)


def test_an_unknown_action_is_refused(api: Client, box: str) -> None:
    refusal = api.refusal("PUT", f"/1.0/instances/{box}/state", {"action": "bogus"})
    assert (refusal.status, refusal.text) == (400, "Unknown action: 'bogus'")


def test_the_state_of_a_missing_instance_is_not_found(api: Client) -> None:
    assert api.refusal("GET", "/1.0/instances/no-such-instance/state").status == 404
    assert api.refusal("PUT", "/1.0/instances/no-such-instance/state", {"action": "start"}).status == 404
