"""What a project holds: counted and listed from the mirrors of the rows that the other services own."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from chassis.references import in_project
from chassis.store import Store
from rows import limits
from rows.image import IMAGE
from rows.network import NETWORK
from rows.room import Room


class Holdings:
    """Made before the store starts."""

    def __init__(self, store: Store) -> None:
        self.room = Room(store)
        self.instances = self.room.instances
        self.images = store.mirror(IMAGE)
        self.profiles = self.room.profiles
        self.networks = store.mirror(NETWORK)

    def urls(self, project: str) -> list[str]:
        """As LXD orders them: instances, images, custom volumes, profiles, networks."""
        return [in_project(path, project) for path in self._paths(project)]

    def _paths(self, project: str) -> Iterator[str]:
        yield from (f"/1.0/instances/{_part(row.value.name)}" for row in self.instances.select(project))
        yield from (f"/1.0/images/{row.value.fingerprint}" for row in self.images.select(project))
        for volume in self.room.volumes_of(project):
            yield f"/1.0/storage-pools/{_part(volume.pool)}/volumes/custom/{_part(volume.name)}"
        yield from (f"/1.0/profiles/{_part(row.value.name)}" for row in self.profiles.select(project))
        yield from (f"/1.0/networks/{_part(row.value.name)}" for row in self.networks.select(project))

    def usage(self, project: str) -> dict[str, int]:
        """What counts against limits: numbers of things, and the sums that the instances' and volumes' own limits make."""
        use = self.room.use(project)
        sums = limits.totals(project, limits.PARSERS, use, strict=False)
        numbers = {key: limits.number(use, type_) for key, type_ in limits.NUMBERS.items()}
        networks = sum(1 for _ in self.networks.select(project))
        found = {**numbers, **sums, "limits.networks": networks}
        return {key.removeprefix("limits."): used for key, used in sorted(found.items())}


def _part(name: str) -> str:
    return quote(name, safe="")
