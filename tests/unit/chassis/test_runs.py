"""Operations under way: where they run, what they wait for, and their websockets."""

from __future__ import annotations

import asyncio
import json

import pytest

from chassis import calls
from chassis.errors import Unavailable
from chassis.operations import CANCELLED, FAILURE, OPERATION, SUCCESS, Operation
from chassis.saga import Context, Saga, Step
from chassis.sagas import Sagas
from chassis.store import Change, Store
from chassis.testing.memory import MemoryLog
from tests.unit.chassis.operating import SLOW, START, Service, play


def test_a_websocket_operation_has_secrets_and_an_end() -> None:
    async def story() -> None:
        async with Service() as service:
            operations = service.operations
            accepted = await operations.open_socket(
                description="Executing command", metadata={"command": ["true"]}, fds=("0", "control")
            )
            told = json.loads(accepted.operation)
            assert told["class"] == "websocket"
            secrets = told["metadata"]["fds"]
            assert sorted(secrets) == ["0", "control"]
            await operations.end(accepted.id, metadata={"return": 0})
            await operations.end(accepted.id, err="too late")
            ended = operations.one(accepted.id).value
            assert ended.status_code == SUCCESS
            assert (ended.metadata or {})["return"] == 0

    play(story())


def test_a_websocket_operation_ends_when_its_service_starts_anew() -> None:
    async def story() -> None:
        async with Service() as service:
            accepted = await service.operations.open_socket(description="Executing command")
            token = await service.operations.open_token(description="Token", metadata={"secret": "s"})
            other = Operation(id="o", kind="websocket", owner="storage", created_at="", updated_at="")
            await service.store.commit(Change().put(OPERATION, other, expect=0))
        async with Service(service.log) as again:
            ended = again.operations.one(accepted.id).value
            assert (ended.status_code, bool(ended.err)) == (FAILURE, True)
            assert not again.operations.one("o").value.final
            assert not again.operations.one(token.id).value.final
            await again.sagas.cancel(token.id)
            assert again.operations.one(token.id).value.status_code == CANCELLED

    play(story())


def test_cancel_of_a_websocket_operation_tells_its_owner() -> None:
    async def story() -> None:
        async with Service() as service:
            told: list[str] = []

            async def note() -> None:
                told.append("cancelled")

            accepted = await service.operations.open_socket(description="Console", on_cancel=note)
            await service.sagas.cancel(accepted.id)
            assert told == ["cancelled"]
            assert service.operations.one(accepted.id).value.status_code == CANCELLED

    play(story())


def test_an_operation_runs_where_its_row_says() -> None:
    async def story() -> None:
        log = MemoryLog()
        async with Service(log, member="one") as one, Service(log, member="two") as two:
            accepted = await one.sagas.accept(START, {"seconds": 1})
            await asyncio.sleep(0.5)
            assert (one.sagas.running, two.sagas.running) == (1, 0)
            ended = await two.operations.wait(accepted.id)
            assert (ended.status_code, ended.location) == (SUCCESS, "one")

    play(story())


def test_a_stopping_service_takes_nothing_and_leaves_its_work_to_the_next() -> None:
    async def story() -> None:
        service = Service()
        async with service:
            accepted = await service.sagas.accept(SLOW, {"seconds": 60})
            await asyncio.sleep(1)
            await service.sagas.stop(grace=2)
            assert service.sagas.running == 0
            with pytest.raises(Unavailable):
                await service.sagas.accept(START, {})
            with pytest.raises(Unavailable):
                await service.sagas.cancel(accepted.id)
        assert not service.operations.one(accepted.id).value.final
        async with Service(service.log) as again:
            assert (await again.operations.wait(accepted.id)).status_code == SUCCESS

    play(story())


async def fail_for_ever(ctx: Context) -> None:
    raise Unavailable("storage is away")


def test_another_part_that_is_away_is_waited_for() -> None:
    tries: list[float] = []

    async def ask(ctx: Context) -> None:
        tries.append(asyncio.get_running_loop().time())
        if len(tries) < 4:
            raise Unavailable("storage is away")

    saga = Saga("instance.create", [Step("ask", ask)], patience=10)
    impatient = Saga("instance.move", [Step("ask", fail_for_ever)], patience=3)

    async def story() -> None:
        store = Store(MemoryLog(), "instances")
        sagas = Sagas(store, "instances", [saga, impatient])
        await store.start()
        await sagas.start()
        accepted = await sagas.accept(saga, {})
        assert (await sagas.operations.wait(accepted.id)).status_code == SUCCESS
        accepted = await sagas.accept(impatient, {})
        ended = await sagas.operations.wait(accepted.id)
        assert (ended.status_code, ended.err) == (FAILURE, "storage is away")
        await sagas.stop()
        await store.stop()

    play(story())


def test_who_a_saga_asks_must_have_seen_what_its_client_had() -> None:
    seen: list[int] = []

    async def ask(_ctx: Context) -> None:
        seen.append(calls.current().revision)

    saga = Saga("instance.create", [Step("ask", ask)])

    async def story() -> None:
        store = Store(MemoryLog(), "instances")
        sagas = Sagas(store, "instances", [saga])
        await store.start()
        await sagas.start()
        accepted = await sagas.accept(saga, {})
        await sagas.operations.wait(accepted.id)
        assert seen == [accepted.revision]
        await sagas.stop()
        await store.stop()

    play(story())
