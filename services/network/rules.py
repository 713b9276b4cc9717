"""What may be asked of networks: bodies, names, and how a configuration is checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from chassis import errors
from chassis.key_types import InterfaceName, quote
from services.network.bodies import Editable
from services.network.drivers import find
from services.network.drivers.driver import Driver

RESERVED = frozenset({".", "..", "all", "default"})  # not interfaces, but names below /proc/sys/net or of directories


class Body(Editable):
    """NetworkPut."""


class Creation(Body):
    """NetworksPost."""

    name: str = ""
    type: str = ""


class Renaming(msgspec.Struct):
    """NetworkPost."""

    name: str = ""


def texts_of(body: Body) -> dict[str, str]:
    return body.config or {} if not isinstance(body.config, msgspec.UnsetType) else {}


def check_name(name: str) -> None:
    """Raises BadRequest, also for names that the host has taken by their meaning."""
    try:
        InterfaceName.parse(name)
    except ValueError as reason:
        raise errors.BadRequest(str(reason)) from None
    if name in RESERVED:
        raise errors.BadRequest(f"Network interface {quote(name)} already exists")


def driver_of(type_: str) -> Driver:
    """Raises BadRequest for a type that does not exist."""
    driver = find(type_)
    if driver is None:
        raise errors.BadRequest("Unknown driver")
    return driver


def validate(driver: Driver, name: str, texts: Mapping[str, str], *, creating: bool) -> None:
    """Every key of a configuration. LXD answers 500 to a creation and 400 to a change."""
    try:
        driver.schema.validate(texts, network=quote(name))
    except errors.BadRequest as fault:
        raise (errors.Internal if creating else errors.BadRequest)(fault.text) from None


def cleaned(texts: Mapping[str, str]) -> dict[str, str]:
    """Without keys that are not set, in order."""
    return {key: text for key, text in sorted(texts.items()) if text}
