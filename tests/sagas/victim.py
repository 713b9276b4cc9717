"""A service with one saga over a real log, for tests that kill it: it makes a folder with two files and a row.

python -m tests.sagas.victim --nats URL --host FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
from pathlib import Path

import msgspec
import uvloop

from chassis import events
from chassis.bus import Bus
from chassis.errors import Internal
from chassis.saga import Context, Saga, Step
from chassis.sagas import Sagas
from chassis.store import Change, Kind, Store


class Thing(msgspec.Struct, frozen=True):
    name: str
    color: str


THING = Kind("victim_thing", Thing, ("name",))
SERVICE = "victim"


def folder(ctx: Context) -> Path:
    return Path(ctx.parts, ctx.args["name"])


async def make_folder(ctx: Context) -> str:
    folder(ctx).mkdir(exist_ok=True)
    return str(folder(ctx))


async def remove_folder(ctx: Context) -> None:
    shutil.rmtree(folder(ctx), ignore_errors=True)


async def write_color(ctx: Context) -> None:
    (folder(ctx) / "color").write_text("blue")


async def remove_color(ctx: Context) -> None:
    (folder(ctx) / "color").unlink(missing_ok=True)


async def write_size(ctx: Context) -> int:
    (folder(ctx) / "size").write_text("7")
    if ctx.args.get("fails"):
        raise Internal("No room for the size")
    return 7


async def remove_size(ctx: Context) -> None:
    (folder(ctx) / "size").unlink(missing_ok=True)


def finish(ctx: Context, change: Change) -> None:
    expect = ctx.store.mirror(THING).revision(ctx.args["name"])
    change.put(THING, Thing(ctx.args["name"], "blue"), expect=expect)
    change.event(events.lifecycle("thing-created", f"/1.0/things/{ctx.args['name']}"))


STEPS = (
    Step("folder", make_folder, remove_folder),
    Step("color", write_color, remove_color, light=True),
    Step("size", write_size, remove_size),
)
CREATE = Saga("thing.create", STEPS, description="Creating thing", finish=finish)


def sagas_of(store: Store, host: Path | None) -> Sagas:
    """The service's sagas; without a host it only accepts."""
    store.mirror(THING)
    return Sagas(store, SERVICE, [CREATE], parts=host)


async def serve(nats: str, host: Path) -> None:
    bus = Bus(nats, SERVICE)
    await bus.connect()
    store = Store(bus, SERVICE)
    sagas = sagas_of(store, host)
    await store.start()
    await sagas.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--nats", required=True)
    parser.add_argument("--host", type=Path, required=True)
    options = parser.parse_args()
    uvloop.run(serve(options.nats, options.host))
