"""Instances as their `backup.yaml` describes them: LXD's shape, turned into rows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chassis.kinds import escape

EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Backup:
    """One instance on a pool."""

    pool: str
    project: str
    name: str
    content: dict[str, Any]

    def rows(self) -> dict[str, dict[str, Any]]:
        """Rows by subject: its pool, its profiles, its volume, itself."""
        found = {}
        if pool := self.content.get("pool"):
            kept = {key: pool[key] for key in ("name", "driver", "description", "config") if key in pool}
            found[f"row.storage_pool.{escape(self.pool)}"] = kept
        for profile in self.content.get("profiles") or ():
            kept = {key: profile[key] for key in ("name", "description", "config", "devices") if key in profile}
            subject = f"row.instances_profile.{escape(self.project)}.{escape(profile['name'])}"
            found[subject] = {"project": self.project, **kept}
        own = f"{escape(self.project)}.{escape(self.name)}"
        found[f"row.storage_volume.{escape(self.pool)}.{escape(self.project)}.container.{escape(self.name)}"] = {
            "pool": self.pool,
            "project": self.project,
            "type": "container",
            "name": self.name,
            "created_at": self._created(self.content.get("volume") or {}),
        }
        found[f"row.instances_instance.{own}"] = self._instance()
        return found

    def _instance(self) -> dict[str, Any]:
        kept = self.content["container"]
        config = dict(kept.get("config") or {})
        return {
            "project": self.project,
            "name": self.name,
            "uid": config.get("volatile.uuid") or str(uuid.uuid4()),
            "type": kept.get("type") or "container",
            "architecture": kept.get("architecture") or "x86_64",
            "description": kept.get("description") or "",
            "ephemeral": bool(kept.get("ephemeral")),
            "profiles": list(kept.get("profiles") or ()),
            "config": config,
            "devices": dict(kept.get("devices") or {}),
            "created_at": self._created(kept),
            "powered": config.get("volatile.last_state.power") == "RUNNING",
        }

    @staticmethod
    def _created(kept: dict[str, Any]) -> str:
        found: Any = kept.get("created_at")
        return str(found.isoformat() if hasattr(found, "isoformat") else found or EPOCH)


def instances(directory: Path) -> Iterator[Backup]:
    """All that lie on the pools of this server. A file that cannot be read is skipped."""
    for path in sorted((directory / "storage-pools").glob("*/containers/*/backup.yaml")):
        project, underscore, name = path.parent.name.rpartition("_")
        try:
            content = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError):
            continue
        if isinstance(content, dict) and isinstance(content.get("container"), dict):
            yield Backup(path.parts[-4], project if underscore else "default", name, content)
