"""A profile that more instances use than one change of the log can hold, on a real nats-server: nothing is refused, nobody waits long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chassis.calls import ITSELF, Call
from chassis.sagas import Sagas
from chassis.store import Change, Store
from chassis.testing.nats import NatsServer
from gen.nubibus.instances.v1 import profile_pb2
from rows.instance import INSTANCE
from rows.profile import PROFILE, Profile
from services.instances.profile import BREATH, Profiles
from services.instances.sagas import SAGAS
from tests.sagas.instances.world import InstanceWorld, instance

MANY, PIECE = 1100, 500
CALL = Call(caller=ITSELF)


class Crowd:
    """The service on one log with many stopped instances of the profile "p"; `told` are the lifecycle events since then."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.world = InstanceWorld(folder, {})
        self.parts = self.world.parts(store)
        self.parts.sagas = Sagas(store, "instances", SAGAS, parts=self.parts)
        self.profiles = Profiles(self.parts)
        self.told: list[tuple[str, str]] = []

    async def start(self, bus: Any) -> None:
        await self.store.start()
        await self.parts.sagas.start()
        await self.world.given(self.store)
        await self.store.commit(Change().put(PROFILE, Profile(project="default", name="p"), expect=0))
        for first in range(0, MANY, PIECE):
            change = Change()
            for number in range(first, min(first + PIECE, MANY)):
                change.put(INSTANCE, instance(name=f"c{number}", profiles=("p",)), expect=0)
            await self.store.commit(change)
        await bus.nats.subscribe("event.lifecycle.>", cb=self._hear)
        await bus.nats.flush()

    async def _hear(self, message: Any) -> None:
        event = json.loads(message.data)["metadata"]
        self.told.append((event["action"], event["source"].rpartition("/")[2]))

    async def until_told(self, action: str) -> None:
        async with asyncio.timeout(60):
            while not self.told or self.told[-1][0] != action:
                await asyncio.sleep(0.01)


@pytest.fixture
async def crowd(tmp_path: Path) -> AsyncIterator[Crowd]:
    async with NatsServer(tmp_path / "nats") as nats:
        made = Crowd(await nats.store("instances"), tmp_path)
        await made.start(await nats.connect("listener"))
        yield made
        await made.parts.sagas.stop()
        await made.store.stop()


async def test_all_follow_a_change_each_is_told_of_once_and_others_get_their_turn(crowd: Crowd) -> None:
    turns = 0

    async def somebody_else() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(somebody_else())
    checked: list[int] = []
    open_ = crowd.parts.sagas.operations.open

    async def noticing(*given: Any, **options: Any) -> Any:
        checked.append(turns)
        other.cancel()
        return await open_(*given, **options)

    crowd.parts.sagas.operations.open = noticing  # type: ignore[method-assign]
    body = json.dumps({"config": {"user.a": "1"}}).encode()
    await crowd.profiles.Put(profile_pb2.PutProfileRequest(name="p", body=body), CALL)
    assert checked[0] >= MANY // BREATH
    await crowd.until_told("profile-updated")
    assert sorted(crowd.told[:-1]) == sorted(("instance-updated", f"c{number}") for number in range(MANY))
    member = crowd.parts.roster.one("default", f"c{MANY - 1}")
    assert member.expanded.config["user.a"] == "1"


async def test_all_follow_a_new_name(crowd: Crowd) -> None:
    renamed = profile_pb2.PutProfileRequest(name="p", body=b'{"name":"q"}')
    answer = await crowd.profiles.Rename(renamed, CALL)
    assert answer.location == "/1.0/profiles/q"
    roster = crowd.parts.roster
    assert {row.value.profiles for row in roster.rows.select()} == {("q",)}
    assert sorted(row.value.name for row in roster.profiles.select()) == ["default", "q"]
    await crowd.until_told("profile-renamed")
    assert crowd.told == [("profile-renamed", "q")]
    shown = json.loads((await crowd.profiles.Get(profile_pb2.ProfileRequest(name="q"), CALL)).json)
    assert len(shown["used_by"]) == MANY
