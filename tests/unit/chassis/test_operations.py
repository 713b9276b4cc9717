"""Operations: acceptance, locks, ends; on the log in memory."""

from __future__ import annotations

import asyncio
import json

import pytest

from chassis import calls
from chassis.calls import Call, Caller
from chassis.errors import BadRequest, Conflict, NotFound
from chassis.operations import CANCELLED, FAILURE, LOCK, RUNNING, SUCCESS, Operation, render
from chassis.saga import Context, Saga, Step
from chassis.sagas import Sagas
from chassis.store import Change, Store
from chassis.testing.memory import MemoryLog
from tests.unit.chassis.operating import BROKEN, C1, SLOW, START, THING, Service, Thing, play


def test_an_operation_is_rendered_as_lxd_does() -> None:
    operation = Operation(
        id="b7",
        description="Starting instance",
        created_at="2026-01-02T03:04:05.678Z",
        updated_at="2026-01-02T03:04:05.678Z",
        resources={"instances": ("/1.0/instances/c1",)},
    )
    assert json.loads(render(operation)) == {
        "id": "b7",
        "class": "task",
        "description": "Starting instance",
        "created_at": "2026-01-02T03:04:05.678Z",
        "updated_at": "2026-01-02T03:04:05.678Z",
        "status": "Running",
        "status_code": 103,
        "resources": {"instances": ["/1.0/instances/c1"]},
        "metadata": None,
        "may_cancel": False,
        "err": "",
        "location": "none",
    }


def test_progress_is_laid_over_the_metadata() -> None:
    operation = Operation(id="b7", created_at="", updated_at="", metadata={"a": 1})
    assert json.loads(render(operation, {"progress": "5%"}))["metadata"] == {"a": 1, "progress": "5%"}


def test_an_accepted_operation_is_there_and_ends() -> None:
    async def story() -> None:
        async with Service() as service:
            accepted = await service.sagas.accept(START, {"seconds": 5}, locks=[C1])
            assert service.operations.one(accepted.id).value.status_code == RUNNING
            assert (await service.operations.wait(accepted.id, timeout=1)).status_code == RUNNING
            ended = await service.operations.wait(accepted.id)
            assert ended.status_code == SUCCESS
            assert service.things.get("t") is not None
            assert service.operations.locks.get(*C1) is None
            codes = [event["metadata"]["status_code"] for event in service.events()]
            assert codes == [RUNNING, SUCCESS]
            (entry,) = json.loads(render(ended, steps=True))["steps"]
            assert entry["name"] == "wait"
            assert entry["milliseconds"] == pytest.approx(5000)

    play(story())


def test_a_second_operation_is_refused_in_lxds_words() -> None:
    async def story() -> None:
        async with Service() as service:
            first = await service.sagas.accept(START, {"seconds": 5}, locks=[C1])
            with pytest.raises(Conflict, match=r'^Instance is busy running a "start" operation$'):
                await service.sagas.accept(START, {}, locks=[C1])
            await service.operations.wait(first.id)
            second = await service.sagas.accept(START, {}, locks=[C1])
            assert (await service.operations.wait(second.id)).status_code == SUCCESS

    play(story())


def test_of_many_at_once_one_is_accepted() -> None:
    async def story() -> None:
        async with Service(MemoryLog(delay=lambda: 0.01)) as service:
            many = [service.sagas.accept(START, {"seconds": 5}, locks=[C1]) for _ in range(8)]
            answers = await asyncio.gather(*many, return_exceptions=True)
            assert sum(isinstance(answer, Conflict) for answer in answers) == 7

    play(story())


def test_the_lock_of_an_operation_that_is_gone_is_void() -> None:
    async def story() -> None:
        async with Service() as service:
            from chassis.operations import Lock

            await service.store.commit(Change().put(LOCK, Lock(*C1, "nobody"), expect=0))
            accepted = await service.sagas.accept(START, {}, locks=[C1])
            assert (await service.operations.wait(accepted.id)).status_code == SUCCESS
            assert service.operations.locks.get(*C1) is None

    play(story())


def test_what_is_checked_at_acceptance_holds_under_the_lock() -> None:
    async def story() -> None:
        async with Service(MemoryLog(delay=lambda: 0.01)) as service:

            def absent() -> None:
                if service.things.get("t"):
                    raise Conflict('Thing "t" already exists')

            many = [service.sagas.accept(START, {}, locks=[C1], change=absent) for _ in range(4)]
            answers = await asyncio.gather(*many, return_exceptions=True)
            await asyncio.sleep(10)
            with pytest.raises(Conflict, match="already exists"):
                await service.sagas.accept(START, {}, locks=[C1], change=absent)
            assert sum(not isinstance(answer, Exception) for answer in answers) == 1

    play(story())


def test_a_guard_of_the_callers_own_change_is_told() -> None:
    async def story() -> None:
        async with Service() as service:
            await service.store.commit(Change().put(THING, Thing("t"), expect=0))
            change = Change().put(THING, Thing("t"), expect=0)
            with pytest.raises(Conflict):
                await service.sagas.accept(START, {}, locks=[C1], change=change)
            assert list(service.operations.rows.select()) == []

    play(story())


def test_the_same_key_is_the_same_operation() -> None:
    async def story() -> None:
        async with Service(MemoryLog(delay=lambda: 0.01)) as service:
            many = [service.sagas.accept(START, {"seconds": 1}, locks=[C1], key="k") for _ in range(3)]
            ids = {accepted.id for accepted in await asyncio.gather(*many)}
            assert len(ids) == 1
            other = await service.sagas.accept(START, {}, project="p", key="k")
            assert other.id not in ids
            for id in ids:
                await service.operations.wait(id)
            again = await service.sagas.accept(START, {}, locks=[C1], key="k")
            assert json.loads(again.operation)["status_code"] == SUCCESS

    play(story())


def test_a_failure_ends_with_its_text_and_what_abandon_adds() -> None:
    async def story() -> None:
        async with Service() as service:
            accepted = await service.sagas.accept(BROKEN, {"name": "ruin"}, locks=[C1])
            ended = await service.operations.wait(accepted.id)
            assert (ended.status_code, ended.err) == (FAILURE, "Failed to run it")
            assert service.things.get("ruin") is not None

    play(story())


def test_cancel_breaks_into_an_interruptible_step() -> None:
    async def story() -> None:
        async with Service() as service:
            accepted = await service.sagas.accept(SLOW, {"seconds": 1000}, locks=[C1])
            await asyncio.sleep(1)
            await service.sagas.cancel(accepted.id)
            ended = await service.operations.wait(accepted.id, timeout=1)
            assert ended.status_code == CANCELLED
            with pytest.raises(BadRequest, match="Only running operations can be cancelled"):
                await service.sagas.cancel(accepted.id)

    play(story())


def test_what_cannot_be_cancelled_says_so() -> None:
    async def story() -> None:
        async with Service() as service:
            accepted = await service.sagas.accept(START, {"seconds": 5})
            with pytest.raises(BadRequest, match="This operation can't be cancelled"):
                await service.sagas.cancel(accepted.id)
            with pytest.raises(NotFound, match="Operation not found"):
                await service.sagas.cancel("no")
            await service.operations.wait(accepted.id)

    play(story())


def test_metadata_changed_on_purpose_is_told_and_kept() -> None:
    async def update(ctx: Context) -> None:
        ctx.progress({"download_progress": "10%"})
        await asyncio.sleep(0.1)
        await ctx.update({"fingerprint": "abc"})

    saga = Saga("image.create", [Step("update", update)])

    async def story() -> None:
        log = MemoryLog()
        store = Store(log, "images")
        sagas = Sagas(store, "images", [saga])
        await store.start()
        await sagas.start()
        accepted = await sagas.accept(saga, {})
        ended = await sagas.operations.wait(accepted.id)
        assert ended.metadata == {"fingerprint": "abc"}
        (tick,) = log.announced
        assert json.loads(tick.encode())["metadata"]["metadata"] == {"download_progress": "10%"}
        kept = [json.loads(m.data)["metadata"]["metadata"] for m in log.history if m.subject.startswith("event.")]
        assert kept == [None, {"fingerprint": "abc"}, {"fingerprint": "abc"}]
        await sagas.stop()
        await store.stop()

    play(story())


def test_an_operation_names_who_asked() -> None:
    async def story() -> None:
        async with Service() as service:
            call = Call(Caller(protocol="unix", username="root", address="@"))
            token = calls._call.set(call)
            try:
                accepted = await service.sagas.accept(START, {})
            finally:
                calls._call.reset(token)
            requestor = accepted.row.requestor
            assert requestor is not None
            assert (requestor.protocol, requestor.username) == ("unix", "root")
            assert call.revision == accepted.revision

    play(story())
