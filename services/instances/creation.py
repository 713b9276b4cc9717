"""What a new instance becomes: the request, the image and the profiles made into the row that is written.

Everything that is drawn (its uid, its MAC addresses, its name) is drawn once, before the first step of the saga.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chassis.errors import BadRequest, Fault, Internal, NotFound
from rows.instance import Instance
from rows.limits import Held
from services.instances import allowed, identity, rules
from services.instances.body import NewInstance, set_keys
from services.instances.devices import nic
from services.instances.expansion import Expanded, expand, root_disk
from services.instances.keys import volatile
from services.instances.parts import Parts

CUSTOM_TYPE = re.compile(r"(?:c(?P<cpu>[0-9]+(?:\.[0-9]+)?))?-?(?:m(?P<memory>[0-9]+(?:\.[0-9]+)?))?")
RECORD = "Failed creating instance record: "
TYPES = {"": "container", "container": "container", "virtual-machine": "virtual-machine"}


def limits_of_type(name: str) -> dict[str, str]:
    """LXD's short form of limits: "c2-m4" is two CPUs and 4 GB."""
    if not name:
        return {}
    if name[0] not in "cm":
        raise BadRequest(f"Provided instance type doesn't exist: {name}")
    match = CUSTOM_TYPE.fullmatch(name)
    if match is None or not (match["cpu"] or match["memory"]):
        raise BadRequest(f"Bad custom instance type: {name}")
    found: dict[str, str] = {}
    if match["cpu"]:
        cpu = float(match["cpu"])
        found["limits.cpu"] = str(max(1, int(cpu + 0.999)))
        if cpu < 1:
            found["limits.cpu.allowance"] = f"{int(cpu * 100)}%"
    if match["memory"]:
        found["limits.memory"] = f"{int(float(match['memory']) * 1024)}MB"
    return found


def instance_type(given: str, path_type: str) -> str:
    """The type that the request or its path names. Raises BadRequest."""
    if given not in TYPES:
        raise BadRequest("Invalid instance type")
    if not given and path_type == "virtual-machines":
        return "virtual-machine"
    return TYPES[given]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the instance takes from its image; an instance from nothing has the defaults."""

    fingerprint: str = ""
    architecture: str = ""
    properties: Mapping[str, str] | None = None
    profiles: tuple[str, ...] = ("default",)


def drawn() -> dict[str, str]:
    """Identities of a new instance."""
    return {"uid": str(uuid.uuid4()), "cloud_init": str(uuid.uuid4())}


def arguments(body: NewInstance, name: str, type_: str, image: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What the creation is accepted with."""
    config = {**limits_of_type(body.instance_type), **(body.config or {})}
    return {
        "name": name,
        "type": type_,
        "architecture": body.architecture,
        "description": body.description,
        "ephemeral": body.ephemeral,
        "profiles": body.profiles,
        "config": config,
        "devices": body.devices or {},
        "image": dict(image),
        "created_at": now.isoformat(),
        **drawn(),
    }


def new_row(parts: Parts, project: str, args: Mapping[str, Any], image: ImageFacts) -> tuple[Instance, Expanded]:
    """The row and what it expands to. Raises faults in LXD's words for what the client got wrong."""
    profiles = tuple(args["profiles"] if args["profiles"] is not None else image.profiles)
    config: dict[str, str] = {f"image.{key}": text for key, text in (image.properties or {}).items()}
    config |= args["config"]
    devices: dict[str, dict[str, str]] = args["devices"]
    try:
        rules.check_config(config, devices)
        rules.check_types(devices)
        rows = parts.roster.profiles_of(project, profiles)
    except NotFound:
        raise Internal(f"{RECORD}Profile not found") from None
    except Fault as fault:
        raise rules.worded(RECORD, fault) from None
    config[volatile.UUID.name] = args["uid"]
    config[volatile.CLOUD_INIT_ID.name] = args["cloud_init"]
    if image.fingerprint:
        config[volatile.BASE_IMAGE.name] = image.fingerprint
    config[volatile.APPLY_TEMPLATE.name] = "create"
    config = identity.kept({}, set_keys(config))
    expanded = expand(rows, config, devices)
    try:
        rules.check_merged(expanded.config)
    except BadRequest as fault:
        raise rules.worded(RECORD, fault) from None
    config = nic.fill(config, expanded.active)
    config |= identity.next_idmap(parts, project, args["name"], expanded.config)
    config[volatile.LAST_IDMAP.name] = identity.NONE
    row = Instance(
        project=project,
        name=args["name"],
        uid=args["uid"],
        type=args["type"],
        architecture=image.architecture or args["architecture"] or identity.ARCHITECTURE,
        description=args["description"],
        ephemeral=args["ephemeral"],
        profiles=profiles,
        config=config,
        devices=devices,
        created_at=datetime.fromisoformat(args["created_at"]),
        member=parts.member,
    )
    return row, expand(rows, config, devices)


def refuse_early(parts: Parts, project: str, args: Mapping[str, Any]) -> None:
    """What the project does not allow, before anything is accepted, as LXD does; profiles that an image brings are judged later."""
    allowed.check_volatile(parts, project, args["name"], args["config"], {})
    profiles = args["profiles"]
    if profiles is None and args["image"]:
        return
    expanded = expand(parts.roster.profiles_of(project, tuple(profiles or ())), args["config"], args["devices"])
    new = Held(args["name"], args["type"], expanded.config, expanded.active)
    allowed.check(parts, project, new, allowed.CREATION)


async def validate(parts: Parts, row: Instance, expanded: Expanded) -> None:
    """The merged whole against its project and this server. Raises faults in LXD's words."""
    allowed.check_restrictions(parts, row.project, allowed.held(row, expanded), allowed.CREATION)
    try:
        root_disk(expanded.active)
    except ValueError as error:
        if not any(device.get("path") == "/" for device in expanded.active.values()) and not row.devices:
            raise Internal(f"{RECORD}Failed initialising instance: Failed getting root disk: {error}") from None
    try:
        await rules.validate_expanded(parts, row.project, row.name, row.type, row.config, expanded)
    except Fault as fault:
        raise rules.worded(f"{RECORD}Failed initialising instance: ", fault) from None
