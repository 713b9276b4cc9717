"""What must hold of an instance's or a profile's configuration and devices before it is written, in LXD's words.

`check_*` are for what the client gave; they raise faults whose text says what was wrong. Who calls adds LXD's prefix for the occasion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from chassis.errors import BadRequest, Fault, Internal, NotImplementedHere, Unavailable
from services.instances import keys
from services.instances.devices import type_of
from services.instances.devices.device import Owner
from services.instances.expansion import Devices, Expanded, is_root_disk, root_disk
from services.instances.host import seccomp
from services.instances.host.interception import settings
from services.instances.keys import volatile

if TYPE_CHECKING:
    from services.instances.parts import Parts

LONGEST_DEVICE_NAME = 64
PASSED = (Unavailable, NotImplementedHere)  # their class tells more than LXD's sentence


def worded(prefix: str, error: Exception) -> Fault:
    """The error as LXD answers to invalid configuration (HTTP 500), with what it was about in front."""
    if isinstance(error, PASSED):
        return error
    text = error.text if isinstance(error, Fault) else str(error)
    return Internal(f"{prefix}{text}")


def check_config(config: Mapping[str, str], devices: Devices) -> None:
    """An instance's own configuration. Raises BadRequest. Volatile keys of devices that it has, or had, are let through."""
    keys.INSTANCE.validate(config)


def check_merged(config: Mapping[str, str]) -> None:
    """Keys of the merged configuration that exclude each other. Raises BadRequest."""
    try:
        seccomp.policy(config)
        settings.of(config)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def check_device_names(devices: Devices) -> None:
    for name in devices:
        if not name or len(name) > LONGEST_DEVICE_NAME or name in (".", "..") or "/" in name or not name.isprintable():
            raise BadRequest(f"Invalid device name {name!r}: must be 1-64 printable characters without a slash")


def check_devices(devices: Devices) -> None:
    """Every device by itself. Raises Internal in LXD's words."""
    check_device_names(devices)
    for name, config in sorted(devices.items()):
        _check_device(name, config)


def _check_device(name: str, config: Mapping[str, str]) -> None:
    try:
        type_ = type_of(config)
    except ValueError:
        reason = f'Failed loading device "{name}": Unsupported device type'
        raise Internal(
            f'Invalid devices: Device validation failed for "{name}": {reason} "{config.get("type", "")}"'
        ) from None
    try:
        type_.check(name, config)
    except (ValueError, BadRequest) as error:
        text = error.text if isinstance(error, Fault) else str(error)
        raise Internal(f'Invalid devices: Device validation failed for "{name}": {text}') from None


async def validate_expanded(
    parts: Parts, project: str, name: str, type_: str, config: Mapping[str, str], expanded: Expanded
) -> None:
    """The merged whole: the root disk, and each device against this server. Raises Internal in LXD's words."""
    for device, given in expanded.devices.items():
        _check_device(device, given)
    try:
        root_disk(expanded.devices)
    except ValueError as error:
        raise Internal(f"Invalid devices: Failed detecting root disk device: {error}") from None
    for device, given in expanded.active.items():
        await _validate_device(parts, project, name, type_, config, device, given)


async def _validate_device(
    parts: Parts, project: str, name: str, type_: str, config: Mapping[str, str], device: str, given: Mapping[str, str]
) -> None:
    owner = Owner(project, name, type_, volatile.of_device(dict(config), device))
    try:
        await type_of(given).validate(parts, device, given, owner)
    except PASSED:
        raise
    except (ValueError, Fault) as error:
        text = error.text if isinstance(error, Fault) else str(error)
        if text.startswith("Failed loading storage pool"):
            raise Internal(text) from None
        raise Internal(f'Invalid devices: Device validation failed for "{device}": {text}') from None


def check_types(devices: Devices) -> None:
    """The types of the devices alone, and their names. Raises BadRequest as LXD words it at creation."""
    check_device_names(devices)
    for config in devices.values():
        try:
            type_of(config)
        except ValueError as error:
            raise BadRequest(str(error)) from None


def root_of(devices: Devices) -> Devices:
    """The root disk among these devices, or nothing."""
    return {name: config for name, config in devices.items() if is_root_disk(config)}
