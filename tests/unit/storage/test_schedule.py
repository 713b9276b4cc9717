"""When snapshots are made and end by themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chassis import errors
from chassis.sagas import Sagas
from chassis.store import Change, Store
from chassis.testing.memory import MemoryLog
from rows.control import PROJECT, Project
from rows.storage import POOL, VOLUME, VOLUME_SNAPSHOT, Pool, Volume, VolumeSnapshot
from services.storage.custom import next_snapshot_name
from services.storage.drivers import VolumeName
from services.storage.drivers.dir.keys import VOLUME as KEYS
from services.storage.parts import Parts
from services.storage.sagas import snapshot
from services.storage.schedule import Schedule, is_due, name_for

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "after", "now", "due"),
    [
        ("* * * * *", NOON, NOON + timedelta(minutes=1), True),
        ("0 12 * * *", NOON - timedelta(seconds=30), NOON, True),
        ("0 12 * * *", NOON, NOON + timedelta(minutes=1), False),
        ("@hourly", NOON - timedelta(seconds=1), NOON + timedelta(seconds=1), True),
        ("@daily, @hourly", NOON - timedelta(seconds=1), NOON + timedelta(seconds=1), True),
        ("nonsense", NOON, NOON + timedelta(days=1), False),
    ],
)
def test_a_moment_is_due_once(text: str, after: datetime, now: datetime, due: bool) -> None:
    assert is_due(text, after, now) is due


@pytest.mark.parametrize("text", ["every day", "@startup", "@never", "* * * *", "61 * * * *"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(errors.Internal):
        KEYS.validate({"snapshots.schedule": text})


@pytest.mark.parametrize(
    ("pattern", "names", "name"),
    [
        ("", set(), "snap0"),
        ("auto%d", {"auto0", "auto7", "other9"}, "auto8"),
        ("daily", set(), "daily"),
        ("daily", {"daily"}, "daily-0"),
        ("at-{{ creation_date|date:'2006' }}", set(), "at-2026-01-01_12-00-00"),
        ("a/b%d", set(), "a-b0"),
    ],
)
def test_names(pattern: str, names: set[str], name: str) -> None:
    assert name_for(pattern, names, NOON) == name


def test_numbers_count_on() -> None:
    assert next_snapshot_name({"snap0", "snap1", "snapx"}) == "snap2"


async def test_a_project_that_allows_no_snapshots_has_no_scheduled_ones(tmp_path: Path) -> None:
    store = Store(MemoryLog(), "storage")
    parts = Parts.of(tmp_path, store, lambda _: True)
    schedule = Schedule(parts, Sagas(store, "storage", snapshot.SAGAS, parts=parts))
    await store.start()
    change = Change()
    for name, config in (
        ("closed", {"restricted": "true"}),
        ("open", {"restricted": "true", "restricted.snapshots": "allow"}),
        ("free", {"restricted.snapshots": "block"}),
    ):
        change.put(PROJECT, Project(name=name, config={"features.storage.volumes": "true", **config}), expect=0)
        due = {"snapshots.schedule": "* * * * *"}
        row = Volume(pool="p", project=name, type="custom", name="v", config=due, created_at=NOON)
        change.put(VOLUME, row, expect=0)
    await store.commit(change)
    found = schedule.scheduled(NOON, NOON + timedelta(minutes=1))
    assert sorted(volume.project for volume in found) == ["free", "open"]
    await store.stop()


async def test_a_tick_makes_what_is_due_and_deletes_what_is_over(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = Store(MemoryLog(), "storage")
    parts = Parts.of(tmp_path, store, lambda _: True)
    places = parts.places
    sagas = Sagas(store, "storage", snapshot.SAGAS, parts=parts)
    await store.start()
    await sagas.start()
    config = {"snapshots.schedule": "* * * * *", "snapshots.pattern": "auto%d", "snapshots.expiry": "1d"}
    row = Volume(pool="p", project="default", type="custom", name="v", config=config, created_at=NOON)
    over = VolumeSnapshot(
        pool="p", project="default", type="custom", volume="v", name="over", created_at=NOON, expires_at=NOON
    )
    await places.make("dir", "p", {}).create()
    await store.commit(Change().put(POOL, Pool(name="p", driver="dir"), expect=0).put(VOLUME, row, expect=0))
    await store.commit(Change().put(VOLUME_SNAPSHOT, over, expect=0))
    volume = VolumeName("custom", "default", "v")
    await places.driver("p").make(volume)
    await places.driver("p").copy(volume, volume.at("over"))
    schedule = Schedule(parts, sagas)
    key = ("p", "default", "custom", "v")
    schedule.looked = datetime.now(UTC) - timedelta(minutes=2)
    await schedule.tick()
    made = await store.until(VOLUME_SNAPSHOT, (*key, "auto0"), lambda found: found is not None, 30)
    assert made is not None
    assert made.value.expires_at is not None
    await schedule.tick()
    gone = await store.until(VOLUME_SNAPSHOT, (*key, "over"), lambda found: found is None, 30)
    assert gone is None
    assert [found.value.name for found in places.snapshots.select(*key)] == ["auto0"]
    await sagas.stop()
    await store.stop()
