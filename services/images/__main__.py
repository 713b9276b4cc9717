"""Wiring of the images service."""

from __future__ import annotations

from chassis import service
from chassis.cancellation import Cancellation
from chassis.converge import Converge
from chassis.kinds import Versioned
from chassis.sagas import Sagas
from rows.image import Image
from services.images.alias import Aliases
from services.images.files import Files
from services.images.image import Images
from services.images.last_used import LastUsed
from services.images.parts import Parts
from services.images.refresh import LOOK, AutoUpdate
from services.images.sagas import deleting, importing, publishing, pulling, refreshing

VERBS = (importing.IMPORT, publishing.PUBLISH, pulling.PULL, refreshing.REFRESH, deleting.DELETE)


async def wire(part: service.Part) -> None:
    files = Files(part.directory)
    parts = Parts.of(files, part.store)
    shelf = parts.shelf
    sagas = Sagas(part.store, part.name, VERBS, parts=parts, member=part.member)
    used = LastUsed(part.store, shelf)

    async def prepare() -> None:
        """Uploads whose operation goes on are kept, all others are remains."""
        unfinished = (row.value for row in sagas.operations.rows.select() if not row.value.final)
        files.prepare(
            str(operation.args.get("token", "")) for operation in unfinished if sagas.operations.mine(operation)
        )

    def forget(_key: tuple[str, ...], old: Versioned[Image] | None, new: Versioned[Image] | None) -> None:
        """The files of an image go with the last row that names them, whichever verb removed it."""
        if old is not None and new is None and not shelf.anywhere(old.value.fingerprint):
            files.take_back(old.value.fingerprint)

    shelf.images.watch(forget)
    updates = Converge("refresh images", AutoUpdate(parts, sagas).look, every=LOOK)
    part.before_ready(prepare)
    part.before_ready(sagas.start)
    part.keep(used.writing.run, "write when images were used")
    part.keep(updates.run, "refresh images")
    part.at_end(used.flush)
    part.at_end(sagas.stop)
    part.serve(Images(part.store, parts, sagas, used), Aliases(part.store, shelf), Cancellation(sagas.cancel))


if __name__ == "__main__":
    service.main("images", wire)
