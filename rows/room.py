"""The room that a project's limits leave, for every service that takes some.

What always holds: of two changes that were judged by the same state of a limited project only one is written. Each of them writes the
project's gate with the revision that it was judged at; the log refuses the later one, which is then judged anew. So it does not matter
which service makes a change, or how many at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from chassis.change import Change
from chassis.errors import Internal
from chassis.store import Kind, Store
from rows import limits
from rows.control import PROJECT, has_feature
from rows.instance import INSTANCE, Instance
from rows.limits import Held, Texts, Use
from rows.profile import PROFILE
from rows.storage import VOLUME, Volume

DEFAULT = "default"
Volumes = Mapping[tuple[str, str], Texts]
"""Configurations of custom volumes by (pool, name)."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Written by whoever takes room in a limited project."""

    project: str


GATE = Kind("project_gate", Gate, ("project",))


class Room:
    """Made before the store starts."""

    def __init__(self, store: Store) -> None:
        self.projects = store.mirror(PROJECT)
        self.instances = store.mirror(INSTANCE)
        self.profiles = store.mirror(PROFILE)
        self.volumes = store.mirror(VOLUME)
        self.gates = store.mirror(GATE)
        self._volumes_in = self.volumes.index("project", lambda volume: (volume.project,))

    def config(self, project: str) -> Texts:
        """Its configuration; empty for a project that has not been seen."""
        row = self.projects.get(project)
        return row.value.config if row else {}

    def merged(self, project: str) -> Iterator[Held]:
        """The instances of a project with their profiles in order below them."""
        for row in self.instances.select(project):
            yield self._held(row.value)

    def _held(self, instance: Instance) -> Held:
        config: dict[str, str] = {}
        devices: dict[str, dict[str, str]] = {}
        row = self.projects.get(instance.project)
        holder = instance.project if has_feature(row.value if row else None, "profiles") else DEFAULT
        for name in instance.profiles:
            profile = self.profiles.get(holder, name)
            if profile is not None:
                config.update(profile.value.config)
                devices.update(profile.value.devices)
        merged = {**config, **instance.config}
        return Held(instance.name, instance.type, merged, {**devices, **instance.devices})

    def volumes_of(self, project: str) -> Iterator[Volume]:
        """Its custom volumes."""
        return (row.value for row in self._volumes_in.select(project) if row.value.type == "custom")

    def use(self, project: str, instances: Iterable[Held] = (), volumes: Volumes | None = None) -> Use:
        """What a project holds once these instances and custom volumes have come, or become so."""
        held = {one.name: one for one in (*self.merged(project), *instances)}
        there: dict[tuple[str, str], Texts] = {(v.pool, v.name): v.config for v in self.volumes_of(project)}
        there.update(volumes or {})
        return Use(list(held.values()), [(name, config) for (_, name), config in there.items()])

    def check(self, project: str, action: str, instances: Iterable[Held] = (), volumes: Volumes | None = None) -> None:
        """Raises Internal where there is no room for it. `action` is "instance creation", "volume update" and the like."""
        config = self.config(project)
        if not limits.limited(config):
            return
        if reason := limits.refusal(config, project, self.use(project, instances, volumes)):
            raise Internal(f"Failed checking if {action} allowed: {reason}")

    def take(
        self,
        change: Change,
        project: str,
        action: str,
        instances: Iterable[Held] = (),
        volumes: Volumes | None = None,
    ) -> None:
        """The same, and this change is not written if somebody else takes room in the meantime: try anew after its Conflict."""
        self.check(project, action, instances, volumes)
        if limits.limited(self.config(project)):
            self.close(change, project)

    def close(self, change: Change, project: str) -> None:
        """What else was judged by this state is not written after this change."""
        change.put(GATE, Gate(project=project), expect=self.gates.revision(project))

    def forget(self, change: Change, project: str) -> None:
        """With the project that goes."""
        if gate := self.gates.get(project):
            change.delete(GATE, gate.key, expect=None)

    def budget(self, project: str) -> int | None:
        """Bytes that an image may have; None where nothing limits it."""
        limit = self.config(project).get(limits.DISK)
        if not limit:
            return None
        total = limits.totals(project, [limits.DISK], self.use(project))[limits.DISK]
        return max(0, limits.PARSERS[limits.DISK](limit) - total)
