"""Wiring of the storage service."""

from __future__ import annotations

from chassis import service
from chassis.cancellation import Cancellation
from chassis.converge import Converge
from chassis.kinds import Versioned
from chassis.sagas import Sagas
from chassis.troubles import Troubles
from rows.image import IMAGE, Image
from services.storage.drivers import host
from services.storage.parts import Parts
from services.storage.placing import Placing
from services.storage.pool import Pools
from services.storage.power import Power
from services.storage.sagas import backup as backup_sagas
from services.storage.sagas import pool as pool_sagas
from services.storage.sagas import snapshot as snapshot_sagas
from services.storage.sagas import volume as volume_sagas
from services.storage.schedule import TICK, Schedule
from services.storage.snapshot import Snapshots
from services.storage.volume import Volumes

VERBS = (*pool_sagas.SAGAS, *volume_sagas.SAGAS, *snapshot_sagas.SAGAS, *backup_sagas.SAGAS)
SWEEP = 3600.0  # seconds between sweeps of the cache and attempts to open what could not be opened


async def wire(part: service.Part) -> None:
    images = part.store.mirror(IMAGE)
    by_fingerprint = images.index("fingerprint", lambda image: [image.fingerprint])
    parts = Parts.of(part.directory, part.store, lambda name: by_fingerprint.count(name) > 0, part.member)
    parts.places.tell = Troubles("Storage pool unavailable", "high", part.member).tell
    places, trees = parts.places, parts.trees
    sagas = Sagas(part.store, part.name, VERBS, parts=parts, member=part.member)
    placing = Placing(part.store, parts)
    volumes = Volumes(part.store, parts, placing, sagas)

    async def tidy() -> None:
        await trees.sweep()
        await placing.drop_images(trees.known)
        await places.reopen_broken()

    schedule = Converge("snapshots of volumes", Schedule(parts, sagas).tick, every=TICK)
    keeper = Converge("storage", tidy, every=SWEEP, settle=1.0)

    async def prepare() -> None:
        await host.remove_tree(*parts.source.sweep())
        unfinished = (row.value for row in sagas.operations.rows.select() if not row.value.final)
        parts.backups.sweep(str(operation.args.get("token", "")) for operation in unfinished)
        await places.open_all()

    def image_changed(_key: tuple[str, ...], old: Versioned[Image] | None, new: Versioned[Image] | None) -> None:
        if old is not None and new is None:
            keeper.wake()

    images.watch(image_changed)
    part.before_ready(prepare)
    part.before_ready(sagas.start)
    part.keep(keeper.run, "tidy")
    part.keep(schedule.run, "snapshots of volumes")
    part.at_end(sagas.stop)
    part.serve(Pools(part.store, parts, sagas), volumes, Snapshots(part.store, volumes), volumes.backups, Power(places))
    part.serve(Cancellation(sagas.cancel))


if __name__ == "__main__":
    service.main("storage", wire)
