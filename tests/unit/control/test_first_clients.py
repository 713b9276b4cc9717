"""The first clients of a deployment without a unix socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.control.first_clients import FirstClients
from tests.unit.control.conftest import World
from tests.unit.control.test_certificate import certificate, listed


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    (tmp_path / "trusted").mkdir()
    return tmp_path / "trusted"


def clients(world: World, directory: Path) -> FirstClients:
    return FirstClients(world.store, world.certificates.rows, str(directory))


def write(directory: Path, name: str) -> None:
    pem = f"-----BEGIN CERTIFICATE-----\n{certificate(name)}\n-----END CERTIFICATE-----\n"
    (directory / f"{name}.crt").write_text(pem)


async def test_a_certificate_in_the_directory_is_trusted_under_its_files_name(world: World, trusted: Path) -> None:
    write(trusted, "joe")
    await clients(world, trusted).trust()
    found = await listed(world)
    assert [(one["name"], one["type"], one["restricted"]) for one in found] == [("joe", "client", False)]
    assert [event["action"] for event in world.events()] == ["certificate-created"]


async def test_a_second_look_adds_what_is_new_and_nothing_twice(world: World, trusted: Path) -> None:
    first = clients(world, trusted)
    write(trusted, "joe")
    await first.trust()
    write(trusted, "ann")
    await first.trust()
    await clients(world, trusted).trust()
    assert sorted(one["name"] for one in await listed(world)) == ["ann", "joe"]


async def test_a_file_that_is_no_certificate_is_passed_over(world: World, trusted: Path) -> None:
    (trusted / "bad.crt").write_text("nonsense")
    write(trusted, "joe")
    await clients(world, trusted).trust()
    assert [one["name"] for one in await listed(world)] == ["joe"]


async def test_without_a_directory_nobody_is_trusted(world: World) -> None:
    await FirstClients(world.store, world.certificates.rows, "").trust()
    assert await listed(world) == []
