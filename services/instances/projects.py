"""Which project holds what: an instance's profiles are its project's own, or the default project's."""

from __future__ import annotations

from chassis.errors import NotFound
from chassis.store import Mirror, Store
from rows.control import PROJECT, Project, has_feature

DEFAULT = "default"


class Projects:
    """The projects as this service reads them. A project whose row has not been seen counts as having every feature."""

    def __init__(self, store: Store) -> None:
        self.rows: Mirror[Project] = store.mirror(PROJECT)

    def has(self, project: str, feature: str) -> bool:
        row = self.rows.get(project)
        return project == DEFAULT or has_feature(row.value if row else None, feature)

    def config(self, project: str) -> dict[str, str]:
        """Its configuration; empty for a project that has not been seen."""
        row = self.rows.get(project)
        return row.value.config if row else {}

    def require(self, project: str, said: str) -> None:
        """Raises NotFound in LXD's words, which begin with `said`, for a project that there is not."""
        if project != DEFAULT and self.rows.get(project) is None:
            raise NotFound(f"{said}: Project not found")

    def of_profiles(self, project: str) -> str:
        """The project whose profiles the instances of this one use."""
        return project if self.has(project, "profiles") else DEFAULT
