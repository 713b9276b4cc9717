"""The bus stops answering, or dies: what needs it is refused soon, what does not is served, and everything goes on by itself afterwards."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.conformance.client import eventually
from tools.faults.subject import BUS, DEADLINE, Subject, subject

SOON = 8.0  # seconds; about one on a machine with nothing else to do


@pytest.fixture(scope="module")
def found() -> Iterator[Subject]:
    with subject() as made:
        yield made


def refused(found: Subject, path: str) -> float:
    """Asks for what needs the bus; how many seconds until it was refused with 503 and Retry-After."""
    began = time.monotonic()
    answer = found.api.request("GET", path)
    assert answer.status == 503, answer.body
    assert int(answer.headers["retry-after"]) >= 1
    return time.monotonic() - began


def test_a_paused_bus_is_told_of_and_everything_resumes(found: Subject) -> None:
    name = found.world.instance()
    pid = found.pid(BUS)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert refused(found, f"/1.0/instances/{name}") < SOON
        assert refused(found, "/1.0/networks/none") < SOON
        assert found.api.request("GET", "/1.0/operations").status == 200  # the gateway's own mirror
        answer = found.api.request("PUT", f"/1.0/instances/{name}/state", {"action": "start"})
        assert answer.status == 503
    finally:
        os.kill(pid, signal.SIGCONT)
    found.wait_ready()
    assert found.pid(BUS) == pid
    eventually(lambda: found.api.get(f"/1.0/instances/{name}/state")["status"] == "Stopped", DEADLINE)
    found.world.state(name, "start")
    assert found.api.get(f"/1.0/instances/{name}/state")["status"] == "Running"


def test_an_operation_under_way_outlives_a_pause_and_a_death_of_the_bus(found: Subject) -> None:
    name = found.world.instance()
    found.arm("instance.start:devices.do.after=hold")
    answer = found.api.request("PUT", f"/1.0/instances/{name}/state", {"action": "start"})
    eventually(found.reached.exists, DEADLINE)
    pid = found.kill(BUS)
    found.wait_replaced(BUS, pid)
    again = int(eventually(lambda: found.pid(BUS), DEADLINE))
    os.kill(again, signal.SIGSTOP)
    found.reached.unlink()
    os.kill(again, signal.SIGCONT)
    found.wait_ready()
    assert found.api.finished(answer.operation, DEADLINE)["err"] == ""


def test_reads_are_served_while_other_parts_die(found: Subject) -> None:
    """Instances are listed with network, storage, images and control dying one after the other; what is away says 503 soon."""
    found.wait_ready()
    seen = {200: 0, 503: 0}
    for part, path in (("network", "/1.0/networks/none"), ("storage", "/1.0/storage-pools/none"), ("images", "/1.0/images/none"),
                       ("control", "/1.0/projects/none")):  # fmt: skip
        pid = found.kill(part)
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            assert found.api.request("GET", "/1.0/instances?recursion=1").status == 200
            began = time.monotonic()
            answer = found.api.request("GET", path)
            assert answer.status in (404, 503), answer.body
            assert time.monotonic() - began < SOON
            seen[503 if answer.status == 503 else 200] += 1
            if answer.status == 503:
                assert int(answer.headers["retry-after"]) >= 1
            elif found.pid(part) not in (0, pid):
                break
        found.wait_replaced(part, pid)
    assert seen[200] >= 4
    found.wait_ready()
