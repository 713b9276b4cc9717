"""The checks of the test kit, on a saga that is right and on ones that are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from chassis import events
from chassis.errors import NotFound
from chassis.saga import Context, Saga, Step
from chassis.store import Change, Kind, Store
from chassis.testing import virtual
from chassis.testing.sagas import check_saga


class Thing(msgspec.Struct, frozen=True):
    project: str
    name: str
    path: str


THING = Kind("test_thing", Thing, ("project", "name"))


class Host:
    """What the steps touch: names of folders and links, and the rows that exist."""

    def __init__(self) -> None:
        self.made: set[str] = set()


class ThingWorld:
    args: dict[str, Any] = {"name": "t1"}
    locks: Sequence[tuple[str, str, str]] = (("thing", "default", "t1"),)

    def __init__(self) -> None:
        self.host = Host()
        self.store: Store | None = None

    def parts(self, store: Store) -> Host:
        self.store = store
        store.mirror(THING)
        return self.host

    async def given(self, store: Store) -> None:
        self.host.made.add("ground")

    def leftovers(self) -> list[str]:
        assert self.store is not None
        rows = [str(row.key) for row in self.store.mirror(THING).select()]
        return [*(self.host.made - {"ground"}), *rows]

    def achieved(self) -> list[str]:
        assert self.store is not None
        missing = {"folder", "link"} - self.host.made
        return [*missing, *([] if self.store.mirror(THING).get("default", "t1") else ["row"])]


async def make_folder(ctx: Context) -> str:
    ctx.parts.made.add("folder")
    return "/folder"


async def remove_folder(ctx: Context) -> None:
    ctx.parts.made.discard("folder")


async def make_link(ctx: Context) -> None:
    assert ctx.results["folder"] == "/folder"
    ctx.parts.made.add("link")


async def remove_link(ctx: Context) -> None:
    ctx.parts.made.discard("link")


def finish(ctx: Context, change: Change) -> None:
    expect = ctx.store.mirror(THING).revision("default", "t1")
    change.put(THING, Thing("default", "t1", ctx.results["folder"]), expect=expect)
    change.event(events.lifecycle("thing-created", "/1.0/things/t1"))


FOLDER = Step("folder", make_folder, remove_folder)
LINK = Step("link", make_link, remove_link)


def test_a_right_saga_passes() -> None:
    saga = Saga("thing.create", (FOLDER, Step("look", look), LINK), finish=finish)
    assert virtual.run(check_saga(saga, ThingWorld)) > 40


def test_a_light_step_may_be_repeated() -> None:
    light = Step("folder", make_folder, remove_folder, light=True)
    assert virtual.run(check_saga(Saga("thing.create", (light, LINK), finish=finish), ThingWorld))


async def look(ctx: Context) -> dict[str, Any]:
    return {"seen": sorted(ctx.parts.made)}


async def make_folder_once(ctx: Context) -> str:
    if "folder" in ctx.parts.made:
        raise NotFound("there is one already")
    return await make_folder(ctx)


async def remove_strictly(ctx: Context) -> None:
    ctx.parts.made.remove("folder")


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(Step("folder", make_folder), id="nothing is undone"),
        pytest.param(Step("folder", make_folder_once, remove_folder), id="a step that cannot run twice"),
    ],
)
def test_a_wrong_saga_is_found_out(step: Step) -> None:
    saga = Saga("thing.create", (step, LINK), finish=finish)
    with pytest.raises(AssertionError, match=r"thing\.create with"):
        virtual.run(check_saga(saga, ThingWorld))
