"""Wiring of the images service."""

from __future__ import annotations

from chassis import service
from chassis.sagas import Sagas
from services.images.alias import Aliases
from services.images.files import Files
from services.images.image import Images
from services.images.last_used import LastUsed
from services.images.parts import Parts
from services.images.sagas import deleting, importing, publishing, pulling


async def wire(part: service.Part) -> None:
    files = Files(part.directory)
    parts = Parts.of(files, part.store)
    shelf = parts.shelf
    verbs = (importing.IMPORT, publishing.PUBLISH, pulling.PULL, deleting.DELETE)
    sagas = Sagas(part.store, part.name, verbs, parts=parts, member=part.member)
    used = LastUsed(part.store, shelf)

    async def prepare() -> None:
        """Uploads whose operation goes on are kept, all others are remains."""
        unfinished = (row.value for row in sagas.operations.rows.select() if not row.value.final)
        files.prepare(
            str(operation.args.get("token", "")) for operation in unfinished if sagas.operations.mine(operation)
        )

    part.before_ready(prepare)
    part.before_ready(sagas.start)
    part.keep(used.writing.run, "write when images were used")
    part.at_end(sagas.stop)
    part.serve(Images(part.store, parts, sagas, used), Aliases(part.store, shelf))


if __name__ == "__main__":
    service.main("images", wire)
