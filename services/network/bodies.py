"""What a client may set of an object, and what PUT and PATCH make of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from rows.network import NetworkAcl, NetworkForward, NetworkZone, ZoneRecord

T = TypeVar("T", NetworkAcl, NetworkForward, NetworkZone, ZoneRecord)
NOTHING: dict[str, type[Any]] = {"description": str, "config": dict}  # the other fields are lists


class Editable(msgspec.Struct):
    """What is not in the body is UNSET. A name that stands beside these is not: it is given or empty."""

    description: str | msgspec.UnsetType = msgspec.UNSET
    config: dict[str, str] | msgspec.UnsetType | None = msgspec.UNSET

    def given(self) -> dict[str, Any]:
        """What the body sets, null as nothing."""
        found = {name: getattr(self, name) for name in self.settable()}
        return {
            name: _nothing(name) if value is None else value
            for name, value in found.items()
            if value is not msgspec.UNSET
        }

    @classmethod
    def settable(cls) -> list[str]:
        return [field.name for field in msgspec.structs.fields(cls) if field.default is msgspec.UNSET]


def _nothing(name: str) -> Any:
    return NOTHING.get(name, tuple)()


def replaced(old: T, body: Editable) -> T:
    """A PUT: what it does not name is nothing."""
    nothing = {name: _nothing(name) for name in body.settable()}
    return msgspec.structs.replace(old, **{**nothing, **body.given()})


def patched(old: T, body: Editable) -> T:
    """A PATCH: what it does not name stays, and so each key of the configuration."""
    given = body.given()
    if "config" in given:
        given["config"] = merged(old.config, given["config"])
    return msgspec.structs.replace(old, **given)


def merged(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """The configuration after a PATCH: what is named replaces, an empty text unsets, the rest stays."""
    return {key: text for key, text in {**old, **new}.items() if text}
