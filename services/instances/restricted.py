"""A project's restrictions, held against the merged configuration of an instance when it, or a profile of it, is made or changed."""

from __future__ import annotations

from chassis.errors import Internal
from rows import restrictions
from services.instances.expansion import Expanded
from services.instances.parts import Parts


def check(parts: Parts, project: str, name: str, expanded: Expanded, action: str) -> None:
    """`action` is "instance creation", "instance update" or "profile update". Raises Internal with LXD's sentence for the first refusal."""
    config = parts.roster.projects.config(project)
    for reason in restrictions.refusals(config, project, f'container "{name}"', expanded.config, expanded.devices):
        raise Internal(f"Failed checking if {action} allowed: {reason}")
