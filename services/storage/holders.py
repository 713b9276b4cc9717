"""Who holds a custom volume: disk devices of instances and profiles, read from their rows."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from chassis.mirror import Mirror
from chassis.references import in_project
from chassis.store import Store
from rows import restrictions
from rows.control import PROJECT, Project, has_feature
from rows.instance import INSTANCE, Instance
from rows.profile import PROFILE, Profile
from rows.storage import Volume

Devices = dict[str, dict[str, str]]


def _volumes_of(devices: Devices) -> set[tuple[str, str]]:
    """(pool, name) of the custom volumes that disks name."""
    return {
        (device["pool"], device["source"])
        for device in devices.values()
        if device.get("type") == "disk" and device.get("pool") and device.get("source")
    }


class Holders:
    def __init__(self, store: Store) -> None:
        self.projects: Mirror[Project] = store.mirror(PROJECT)
        self.instances: Mirror[Instance] = store.mirror(INSTANCE)
        self.profiles: Mirror[Profile] = store.mirror(PROFILE)
        self._instances = self.instances.index("custom volume", lambda row: _volumes_of(row.devices))
        self._profiles = self.profiles.index("custom volume", lambda row: _volumes_of(row.devices))
        self._by_profile = self.instances.index("profile", lambda row: [(row.project, name) for name in row.profiles])

    def has(self, project: str, feature: str) -> bool:
        """Whether a project has a feature of its own; the default project has all."""
        row = self.projects.get(project)
        return has_feature(row.value if row else None, feature)

    def allows(self, project: str, what: str) -> bool:
        """Whether a project allows a "snapshot" or a "backup" of its volumes."""
        row = self.projects.get(project)
        return restrictions.allows(row.value.config if row else {}, what)

    def refuse(self, project: str, what: str) -> None:
        """`what` is "snapshot" or "backup". Raises Internal where the project does not allow it."""
        row = self.projects.get(project)
        restrictions.refuse(row.value.config if row else {}, project, what)

    def volumes_project(self, project: str) -> str:
        """The project that holds the custom volumes which this one sees."""
        return project if self.has(project, "storage.volumes") else "default"

    def profiles_of(self, volume: Volume) -> list[Profile]:
        rows = (row.value for row in self._profiles.select((volume.pool, volume.name)))
        return [row for row in rows if self.volumes_project(row.project) == volume.project]

    def instances_of(self, volume: Volume) -> list[Instance]:
        """With the device themselves, or by one of their profiles."""
        found = {
            (row.value.project, row.value.name): row.value for row in self._instances.select((volume.pool, volume.name))
        }
        for profile in self.profiles_of(volume):
            for row in self._by_profile.select((profile.project, profile.name)):
                found[row.value.project, row.value.name] = row.value
        return [row for row in found.values() if self.volumes_project(row.project) == volume.project]

    def used_by(self, volume: Volume) -> list[str]:
        """URLs, sorted."""
        instances = (in_project(f"/1.0/instances/{quote(row.name)}", row.project) for row in self.instances_of(volume))
        profiles = (in_project(f"/1.0/profiles/{quote(row.name)}", row.project) for row in self.profiles_of(volume))
        return sorted({*instances, *profiles})

    def running(self, volume: Volume) -> Iterable[Instance]:
        return [row for row in self.instances_of(volume) if row.powered]
