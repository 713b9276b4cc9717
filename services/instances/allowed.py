"""What a project allows its instances: its restrictions and its limits, held against the merged configuration, profiles and all.

Every way an instance comes to be or changes passes here: `check` early, to refuse before anything is done, and `take` with the change that
makes it true.
"""

from __future__ import annotations

from collections.abc import Mapping

from chassis.errors import Internal
from chassis.store import Change
from rows import restrictions
from rows.instance import Instance
from rows.limits import Held
from services.instances.expansion import Config, Devices, Expanded
from services.instances.parts import Parts

CREATION, UPDATE, PROFILE = "instance creation", "instance update", "profile update"


def held(instance: Instance, expanded: Expanded) -> Held:
    return Held(instance.name, instance.type, expanded.config, expanded.active)


def check_restrictions(parts: Parts, project: str, one: Held, action: str) -> None:
    """The half of `check` that looks at one instance alone."""
    config = parts.roster.projects.config(project)
    for reason in restrictions.refusals(config, project, f'{one.type} "{one.name}"', one.config, one.devices):
        raise Internal(f"Failed checking if {action} allowed: {reason}")


def check(parts: Parts, project: str, one: Held, action: str) -> None:
    """Raises Internal with LXD's sentence for the first thing that is not allowed."""
    check_restrictions(parts, project, one, action)
    parts.roster.room.check(project, action, [one])


def check_profile(parts: Parts, project: str, name: str, config: Config, devices: Devices) -> None:
    """A profile by itself: also one that nobody uses yet may not become what its project forbids. Raises Internal."""
    restricting, owner = parts.roster.projects.config(project), f'profile "{name}"'
    for reason in restrictions.refusals(restricting, project, owner, config, devices, whole=False):
        raise Internal(f"Failed checking if {PROFILE} allowed: {reason}")


def take(parts: Parts, change: Change, project: str, one: Held, action: str) -> None:
    """The same; and the change is not written if somebody else takes room in the project meanwhile: Conflict, try anew."""
    check_restrictions(parts, project, one, action)
    parts.roster.room.take(change, project, action, [one])


def check_volatile(
    parts: Parts, project: str, name: str, config: Mapping[str, str], now: Mapping[str, str], type_: str = "container"
) -> None:
    """A client of a restricted project does not write what the server notes for itself. Raises Internal."""
    restricting = parts.roster.projects.config(project)
    if reason := restrictions.volatile_refusal(restricting, project, f'{type_} "{name}"', config, now):
        raise Internal(reason)
