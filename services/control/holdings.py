"""What a project holds: counted and listed from the mirrors of the rows that the other services own."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from chassis.store import Store
from rows.image import IMAGE
from rows.instance import INSTANCE
from rows.network import NETWORK
from rows.profile import PROFILE
from rows.storage import VOLUME


class Holdings:
    """Made before the store starts."""

    def __init__(self, store: Store) -> None:
        self.instances = store.mirror(INSTANCE)
        self.images = store.mirror(IMAGE)
        self.profiles = store.mirror(PROFILE)
        self.networks = store.mirror(NETWORK)
        self.volumes = store.mirror(VOLUME)
        self.volumes_of = self.volumes.index("project", lambda volume: (volume.project,))

    def urls(self, project: str) -> list[str]:
        """As LXD orders them: instances, images, custom volumes, profiles, networks."""
        return [_of_project(url, project) for url in self._paths(project)]

    def _paths(self, project: str) -> Iterator[str]:
        yield from (f"/1.0/instances/{_part(row.value.name)}" for row in self.instances.select(project))
        yield from (f"/1.0/images/{row.value.fingerprint}" for row in self.images.select(project))
        for row in self.volumes_of.select(project):
            if row.value.type == "custom":
                yield f"/1.0/storage-pools/{_part(row.value.pool)}/volumes/custom/{_part(row.value.name)}"
        yield from (f"/1.0/profiles/{_part(row.value.name)}" for row in self.profiles.select(project))
        yield from (f"/1.0/networks/{_part(row.value.name)}" for row in self.networks.select(project))

    def merged(self, project: str) -> Iterator[tuple[str, dict[str, str], dict[str, dict[str, str]]]]:
        """Each instance of a project that has profiles: who it is ('container "c1"'), configuration and devices, merged."""
        for row in self.instances.select(project):
            instance = row.value
            config: dict[str, str] = {}
            devices: dict[str, dict[str, str]] = {}
            for name in instance.profiles:
                profile = self.profiles.get(project, name)
                if profile is not None:
                    config.update(profile.value.config)
                    devices.update(profile.value.devices)
            yield f'{instance.type} "{instance.name}"', {**config, **instance.config}, {**devices, **instance.devices}

    def usage(self, project: str) -> dict[str, int]:
        """What counts against limits: numbers of things, and the sums that the instances' own limits make."""
        kinds = [row.value.type for row in self.instances.select(project)]
        return {
            "containers": kinds.count("container"),
            "cpu": 0,
            "disk": 0,
            "instances": len(kinds),
            "memory": 0,
            "networks": sum(1 for _ in self.networks.select(project)),
            "processes": 0,
            "virtual-machines": kinds.count("virtual-machine"),
        }


def _part(name: str) -> str:
    return quote(name, safe="")


def _of_project(url: str, project: str) -> str:
    return url if project == "default" else f"{url}?project={_part(project)}"
