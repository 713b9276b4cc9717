"""What a project's limits add up to, refuse, and refuse to become."""

from __future__ import annotations

import pytest

from chassis.errors import Conflict, Internal
from chassis.store import Change, Store
from chassis.testing.memory import MemoryLog
from rows import limits
from rows.control import PROJECT, Project
from rows.limits import Held, Use, refusal, refuse_lower, totals
from rows.room import Room

MIB = 1024**2


def held(name: str = "c1", type_: str = "container", size: str = "10MiB", **config: str) -> Held:
    root = {"type": "disk", "path": "/", "pool": "p", **({"size": size} if size else {})}
    return Held(name, type_, {f"limits.{key}": text for key, text in config.items()}, {"root": root})


def project(**texts: str) -> dict[str, str]:
    return {f"limits.{key.replace('_', '-')}": text for key, text in texts.items()}


@pytest.mark.parametrize(
    ("limit", "use", "reason"),
    [
        (project(), Use([held()] * 9, []), ""),
        (project(cpu="2"), Use([held(cpu="1"), held(cpu="1")], []), ""),
        (project(cpu="2"), Use([held(cpu="1"), held(cpu="2")], []), 'maximum aggregate value "2" for "limits.cpu"'),
        (project(cpu="2"), Use([held()], []), 'Instance "c1" in project "p" has no "limits.cpu" config'),
        (project(memory="1GiB"), Use([held(memory="50%")], []), 'Failed parsing "limits.memory" for instance "c1"'),
        (project(disk="20MiB"), Use([held(size="")], []), 'has no "size" config set on the root device'),
        (project(disk="20MiB"), Use([held()], [("v", {"size": "10MiB"})]), ""),
        (project(disk="20MiB"), Use([held()], [("v", {"size": "11MiB"})]), 'value "20MiB" for "limits.disk"'),
        (project(disk="20MiB"), Use([], [("v", {})]), 'Custom volume "v" in project "p" has no "size" config set'),
        (project(disk="100MiB"), Use([held(type_="virtual-machine")], []), 'value "100MiB" for "limits.disk"'),
        (project(instances="1"), Use([held()], []), ""),
        (project(instances="1"), Use([held("a"), held("b")], []), "maximum number of instances in project"),
        (project(containers="1"), Use([held("a"), held("b")], []), 'instances of type "container" in project'),
        (project(virtual_machines="0"), Use([held("a"), held("b")], []), ""),
    ],
)
def test_what_a_project_may_come_to_hold(limit: dict[str, str], use: Use, reason: str) -> None:
    found = refusal(limit, "p", use)
    assert reason in found
    assert bool(found) == bool(reason)


def test_lowering_goes_down_to_what_is_there() -> None:
    use = Use([held(cpu="2", memory="100MiB")], [("v", {"size": "5MiB"})])
    refuse_lower({}, project(cpu="2", memory="100MiB", disk="15MiB", instances="1"), "p", use)
    for limit, reason in (
        (project(cpu="1"), '"limits.cpu" is too low: current total is "2"'),
        (project(memory="99MiB"), '"limits.memory" is too low: current total is "100.0MiB"'),
        (project(disk="14MiB"), '"limits.disk" is too low: current total is "15.0MiB"'),
        (project(processes="9"), 'has no "limits.processes" config'),
        (project(instances="0"), "there currently are 1 total instances"),
    ):
        with pytest.raises(Internal) as raised:
            refuse_lower({}, limit, "p", use)
        assert reason in raised.value.text
    refuse_lower(project(processes="9"), project(processes="9"), "p", use)  # what does not change is not judged


def test_usage_is_shown_of_what_has_limits() -> None:
    use = Use([held(cpu="2"), held(size="", memory="50%")], [("v", {}), ("w", {"size": "1MiB"})])
    found = totals("p", limits.PARSERS, use, strict=False)
    assert found == {"limits.cpu": 2, "limits.disk": 11 * MIB, "limits.memory": 0, "limits.processes": 0}


async def test_of_two_that_were_judged_alike_one_is_written() -> None:
    log = MemoryLog()
    stores = [Store(log.connect(), f"s{number}") for number in range(2)]
    rooms = [Room(store) for store in stores]
    for store in stores:
        await store.start()
    await stores[0].commit(Change().put(PROJECT, Project(name="p", config=project(cpu="2")), expect=0))
    for store in stores:
        await store.refresh()
    changes = [Change(), Change()]
    for room, change, name in zip(rooms, changes, ("a", "b"), strict=True):
        room.take(change, "p", "instance creation", [held(name, cpu="2")])
    await stores[0].commit(changes[0])
    with pytest.raises(Conflict):
        await stores[1].commit(changes[1])
    free = Change()
    rooms[0].take(free, "other", "instance creation", [held(cpu="99")])
    assert not free, "a project without limits has no gate"
    for store in stores:
        await store.stop()
