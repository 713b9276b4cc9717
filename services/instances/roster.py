"""The instances as this service sees them: the row, the profiles expanded over it, and what the kernel says.

Reads only. What is expanded is kept with the revisions that it was made from, so a list of a thousand costs dictionary look-ups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chassis.errors import NotFound
from chassis.store import Mirror, Store, Versioned
from rows.instance import INSTANCE, Instance
from rows.profile import PROFILE, Profile
from rows.room import Room
from rows.storage import POOL, Pool
from services.instances.expansion import Expanded, expand_instance, root_disk
from services.instances.host.containers import Containers
from services.instances.host.spec import Key, Live
from services.instances.neighbours import VolumeId
from services.instances.projects import Projects

Marks = tuple[int, ...]
CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Member:
    """One instance at one moment. `marks` changes when anything that it was expanded from changes."""

    row: Versioned[Instance]
    expanded: Expanded
    marks: Marks

    @property
    def value(self) -> Instance:
        return self.row.value

    @property
    def key(self) -> Key:
        return Key(self.row.value.project, self.row.value.name)

    @property
    def volume(self) -> VolumeId:
        """Its root volume. Raises ValueError without a root disk."""
        _, device = root_disk(self.expanded.devices)
        return VolumeId(device.get("pool", ""), self.value.project, self.value.type, self.value.name)


class Roster:
    """Made before the store starts. `host` is asked for what runs."""

    def __init__(self, store: Store, projects: Projects, host: Containers) -> None:
        self.store = store
        self.projects = projects
        self.room = Room(store)
        self.host = host
        self.rows: Mirror[Instance] = store.mirror(INSTANCE)
        self.profiles: Mirror[Profile] = store.mirror(PROFILE)
        self.pools: Mirror[Pool] = store.mirror(POOL)
        self.by_profile = self.rows.index(
            "profile", lambda row: [(self.projects.of_profiles(row.project), name) for name in set(row.profiles)]
        )
        self._expanded: dict[tuple[str, ...], tuple[Marks, Expanded]] = {}
        self._selected: dict[tuple[str, ...], list[Member]] = {}
        self.rows.watch(self._forget)
        for mirror in (self.profiles, projects.rows):
            mirror.watch(self._select_anew)

    def get(self, project: str, name: str) -> Member | None:
        row = self.rows.get(project, name)
        return self.member(row) if row else None

    def one(self, project: str, name: str) -> Member:
        """The instance. Raises NotFound as LXD does."""
        found = self.get(project, name)
        if found is None:
            raise NotFound("Instance not found")
        return found

    def select(self, *project: str) -> Iterator[Member]:
        """All of a project, or all of them, by name. Kept until a row changes that they are made from."""
        found = self._selected.get(project)
        if found is None:
            found = [self.member(row) for row in sorted(self.rows.select(*project), key=lambda row: row.key)]
            self._selected[project] = found
        yield from found

    def using_profile(self, project: str, name: str) -> Iterator[Member]:
        """The instances that use this profile of this project."""
        for row in sorted(self.by_profile.select((project, name)), key=lambda row: row.key):
            yield self.member(row)

    def users_of(self, project: str, name: str) -> list[tuple[str, str]]:
        """(project, name) of the instances that use this profile of this project, without expanding any."""
        return sorted((row.value.project, row.value.name) for row in self.by_profile.select((project, name)))

    def member(self, row: Versioned[Instance]) -> Member:
        profiles = self._rows_of(row.value.project, row.value.profiles)
        marks = (row.revision, *(profile.revision for profile in profiles))
        kept = self._expanded.get(row.key)
        if kept is None or kept[0] != marks:
            kept = marks, expand_instance(row.value, [profile.value for profile in profiles])
            self._expanded[row.key] = kept
        return Member(row, kept[1], marks)

    def profiles_of(self, project: str, names: tuple[str, ...]) -> list[Profile]:
        """The profiles of these names, in order. Raises NotFound for one that is not there."""
        holder = self.projects.of_profiles(project)
        found = []
        for name in names:
            row = self.profiles.get(holder, name)
            if row is None:
                raise NotFound("Profile not found")
            found.append(row.value)
        return found

    def live(self, project: str, name: str) -> Live | None:
        """What runs; None when it is stopped."""
        return self.host.state(Key(project, name))

    def pool(self, name: str) -> Pool | None:
        row = self.pools.get(name)
        return row.value if row else None

    def _rows_of(self, project: str, names: tuple[str, ...]) -> list[Versioned[Profile]]:
        holder = self.projects.of_profiles(project)
        return [row for name in names if (row := self.profiles.get(holder, name)) is not None]

    def _forget(self, key: tuple[str, ...], _old: object, new: object) -> None:
        self._selected.clear()
        if new is None:
            self._expanded.pop(key, None)

    def _select_anew(self, _key: tuple[str, ...], _old: object, _new: object) -> None:
        self._selected.clear()
