"""A request with an Idempotency-Key whose answer a crash took away: asked again it is answered, and it was done once."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from chassis.bus import Bus
from tests.conformance.client import Answer, eventually
from tests.conformance.world import unique
from tools.faults.subject import DEADLINE, Subject, subject


class Case(NamedTuple):
    """A request that makes something: where, with what besides its name, the event that tells of it, and its first answer."""

    collection: str
    body: dict[str, Any]
    action: str
    status: int


PROFILE = Case("/1.0/profiles", {}, "profile-created", 201)
POOL = Case("/1.0/storage-pools", {"driver": "dir"}, "storage-pool-created", 201)
WITHOUT_ADDRESSES = {"config": {"ipv4.address": "none", "ipv6.address": "none"}}
NETWORK = Case("/1.0/networks", WITHOUT_ADDRESSES, "network-created", 201)
INSTANCE = Case("/1.0/instances", {"source": {"type": "none"}}, "instance-created", 202)


@pytest.fixture(scope="module")
def found() -> Iterator[Subject]:
    with subject() as made:
        yield made


class Asked:
    """One keyed request, as often as it is sent."""

    def __init__(self, found: Subject, case: Case) -> None:
        self.found, self.case = found, case
        self.name, self.key = unique("on"), str(uuid.uuid4())
        self.path = f"{case.collection}/{self.name}"
        body = {"name": self.name, **case.body}
        if case is INSTANCE:
            pool = found.world.ground.pool
            body["devices"] = {"root": {"type": "disk", "path": "/", "pool": pool}}
        self.body = body
        found.world.finally_do(partial(found.world.gone, self.path))

    def send(self) -> Answer:
        """Status 0 when the connection ended without an answer."""
        try:
            return self.found.api.request(
                "POST", self.case.collection, self.body, {"Idempotency-Key": self.key}, timeout=DEADLINE
            )
        except (OSError, http.client.HTTPException):
            return Answer(0, {}, b"")

    def until_answered(self) -> Answer:
        """As a client does that lost the answer: the same again while the server says to come back."""
        answers: list[Answer] = []

        def ask() -> bool:
            answers.append(self.send())
            return answers[-1].status not in (0, 409, 503)

        eventually(ask, DEADLINE)
        return answers[-1]

    def check_done_once(self) -> None:
        answer = self.until_answered()
        assert answer.status == self.case.status, answer.body
        if answer.status == 202:
            self.found.api.wait(answer)
        else:
            assert answer.headers["location"] == self.path
            assert answer.metadata is None
        self.found.wait_ready()
        assert self.found.api.request("GET", self.path).status == 200
        assert self.until_answered().status == self.case.status
        told = [event for event in asyncio.run(events(self.found)) if event.get("action") == self.case.action]
        assert [event["source"] for event in told].count(self.path) == 1


async def events(found: Subject) -> list[dict[str, Any]]:
    """The metadata of every event that the log keeps."""
    bus = Bus(found.directory, "once")
    await bus.connect(DEADLINE)
    told: list[dict[str, Any]] = []
    after = 0
    try:
        while page := await bus.page("event.>", after, 256):
            after = page[-1].sequence
            told += [json.loads(each.data)["metadata"] for each in page if each.data]
    finally:
        await bus.close()
    return told


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("case", "point"),
    [
        (PROFILE, "commit:request.before"),
        (PROFILE, "commit:request.after"),
        (NETWORK, "commit:request.before"),
        (INSTANCE, "commit:request.after"),
        (POOL, "storage-pool.create:create.do.after"),  # before an operation ends that the answer waits for
    ],
    ids=lambda given: given if isinstance(given, str) else given.action,
)
def test_a_crash_of_the_service(found: Subject, case: Case, point: str) -> None:
    asked = Asked(found, case)
    found.arm(f"{point}=kill")
    assert asked.send().status in (0, 503)
    eventually(found.fired, DEADLINE)
    asked.check_done_once()


@pytest.mark.timeout(300)
def test_a_crash_of_the_gateway(found: Subject) -> None:
    asked = Asked(found, PROFILE)
    found.arm("commit:request.after=hold")
    sending = threading.Thread(target=asked.send)
    sending.start()
    eventually(found.reached.exists, DEADLINE)
    busy = asked.send()
    assert (busy.status, busy.error) == (409, "A request with this Idempotency-Key is being worked on")
    found.wait_replaced("gateway", found.kill("gateway"))
    sending.join(DEADLINE)
    assert asked.until_answered().status == 201  # made again from the row, while the first call still stands
    found.disarm()
    asked.check_done_once()
