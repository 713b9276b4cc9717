"""Tasks that converge: woken by a signal and a timer, never twice at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from chassis.converge import Converge
from chassis.errors import Internal
from chassis.testing import virtual


def play(
    make: Callable[[], Awaitable[None]], story: Callable[[Converge], Coroutine[Any, Any, None]], settle: float = 0.0
) -> Converge:
    async def main() -> Converge:
        keeper = Converge("test", make, every=60, settle=settle)
        task = asyncio.create_task(keeper.run())
        await story(keeper)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return keeper

    return virtual.run(main())


async def nothing() -> None:
    await asyncio.sleep(1)


def test_it_runs_at_once_and_at_each_tick() -> None:
    async def story(keeper: Converge) -> None:
        await asyncio.sleep(0.5)
        assert keeper.runs == 1
        await asyncio.sleep(150)
        assert keeper.runs == 3

    play(nothing, story)


def test_many_wakes_during_a_run_make_one_more() -> None:
    async def story(keeper: Converge) -> None:
        await asyncio.sleep(0.5)
        for _ in range(10):
            keeper.wake()
        await asyncio.sleep(5)
        assert keeper.runs == 2

    play(nothing, story)


def test_a_burst_of_wakes_is_one_run_where_they_are_let_settle() -> None:
    async def story(keeper: Converge) -> None:
        await asyncio.sleep(2)
        for _ in range(4):
            keeper.wake()
            await asyncio.sleep(0.5)
        assert keeper.runs == 1
        await asyncio.sleep(5)
        assert keeper.runs == 2

    play(nothing, story, settle=3.0)


def test_settled_waits_for_a_run_that_began_after_it() -> None:
    async def story(keeper: Converge) -> None:
        await asyncio.sleep(0.5)
        assert await keeper.settled()
        assert keeper.runs == 2

    play(nothing, story)


def test_a_failure_is_tried_again_soon_and_then_later() -> None:
    async def fail() -> None:
        raise Internal("no")

    async def story(keeper: Converge) -> None:
        await asyncio.sleep(10)
        assert 4 <= keeper.failures <= 6
        assert not await keeper.settled(timeout=5)

    assert play(fail, story).failures >= 5
