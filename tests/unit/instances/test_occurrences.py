"""An event is told once: with the change that comes in time, or by itself."""

from __future__ import annotations

from chassis.change import Change
from chassis.store import Store
from chassis.testing.memory import MemoryLog
from services.instances.occurrences import Telling, of_instance


class Counting(Store):
    """A store that counts the events of its changes."""

    told = 0

    async def commit(self, change: Change, **more: object) -> int:  # type: ignore[override]
        self.told += len(change.events)
        return 0


async def test_an_event_goes_with_the_change_that_comes_in_time() -> None:
    store = Counting(MemoryLog())
    telling = Telling(store, of_instance("instance-exec", "default", "c1"))
    assert len((await telling.rest()).events) == 1
    await telling.run()
    assert store.told == 0


async def test_an_event_that_no_change_comes_for_is_told_by_itself() -> None:
    store = Counting(MemoryLog())
    telling = Telling(store, of_instance("instance-exec", "default", "c1"))
    await telling.run()
    assert store.told == 1
    assert not (await telling.rest()).events
