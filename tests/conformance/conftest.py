"""The fixtures of the conformance suite. One server a session; what a test makes is removed after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.conformance import images
from tests.conformance.client import Client, eventually
from tests.conformance.servers import Server
from tests.conformance.tls import free_port, open_at
from tests.conformance.world import Bridge, Ground, World, unique


def prepare(api: Client) -> Ground:
    """A `dir` pool and the busybox image, both under names of this session."""
    pool, alias = unique("pool"), unique("bb")
    api.post("/1.0/storage-pools", {"name": pool, "driver": "dir", "config": {}})
    data = images.unified_with({"session": alias}, "tar.gz")
    return Ground(api, pool, images.upload(api, data))


def clear(ground: Ground) -> None:
    ground.api.delete(f"/1.0/images/{ground.image}")
    ground.api.delete(f"/1.0/storage-pools/{ground.pool}")


@pytest.fixture(scope="session")
def api(server: Server) -> Client:
    return Client(server.socket)


@pytest.fixture(scope="module")
def https_port(api: Client) -> Iterator[int]:
    """Where the server listens on HTTPS for the tests of one module."""
    number = free_port()
    api.patch("/1.0", {"config": {"core.https_address": f"127.0.0.1:{number}"}})
    eventually(lambda: open_at(number))
    yield number
    api.patch("/1.0", {"config": {"core.https_address": ""}})


@pytest.fixture(scope="session")
def ground(api: Client) -> Iterator[Ground]:
    made = prepare(api)
    yield made
    clear(made)


@pytest.fixture(scope="session")
def stage(ground: Ground) -> Iterator[World]:
    """Makes things that all tests share."""
    made = World(ground)
    yield made
    made.close()


@pytest.fixture(scope="session")
def reaper(stage: World) -> Iterator[Callable[[World], None]]:
    """Removes what tests made while the next ones run already; what could not be removed fails the session.

    It is done before the stage goes, on which the last test's things may still stand.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        closing: list[Future[None]] = []
        yield lambda made: closing.append(thread.submit(made.close))
        problems = [error for each in closing if (error := each.exception()) is not None]
    if problems:
        raise BaseExceptionGroup("left behind", problems)


@pytest.fixture
def world(ground: Ground, reaper: Callable[[World], None]) -> Iterator[World]:
    """Makes things for one test."""
    made = World(ground)
    yield made
    reaper(made)


@pytest.fixture(scope="module")
def shared(ground: Ground) -> Iterator[World]:
    """Makes things that the tests of one module share."""
    made = World(ground)
    yield made
    made.close()


@pytest.fixture(scope="session")
def box(stage: World) -> str:
    """A running container that tests may run commands and place files in, each under names of its own."""
    return stage.instance(start=True)


@pytest.fixture(scope="session")
def still(stage: World) -> str:
    """A stopped container; tests change nothing of it but its files."""
    return stage.instance()


@pytest.fixture(scope="session")
def bridge(stage: World) -> Bridge:
    """A managed bridge with DHCP and NAT that tests attach nics to."""
    return stage.bridge()
