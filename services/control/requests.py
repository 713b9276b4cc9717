"""Bodies of requests as LXD's clients send them: read leniently where Go is lenient, refused in its words where it is not."""

from __future__ import annotations

from typing import Any

from chassis import errors
from chassis.documents import read_object

GO_TYPES = {dict: "map[string]interface {}", list: "[]string", str: "string", bool: "bool", int: "int64"}
KINDS = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number", type(None): "null"}


def kind(value: Any) -> str:
    """What Go calls a JSON value."""
    return KINDS.get(type(value), "value")


def field(body: dict[str, Any], name: str, type_: type, default: Any, struct: str) -> Any:
    """A field of the type, or the default when it is missing or null. Raises BadRequest in the words of Go's decoder."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
        raise errors.BadRequest(
            f"json: cannot unmarshal {kind(value)} into Go struct field {struct}.{name} of type {GO_TYPES[type_]}"
        )
    return value


def texts(body: dict[str, Any], name: str, struct: str) -> dict[str, str]:
    """A map of texts. Raises BadRequest for any other value in it."""
    found: dict[str, Any] = field(body, name, dict, {}, struct)
    for key, value in found.items():
        if not isinstance(value, str):
            raise errors.BadRequest(
                f"json: cannot unmarshal {kind(value)} into Go struct field {struct}.{name}.{key} of type string"
            )
    return dict(found)


def names(body: dict[str, Any], name: str, struct: str) -> tuple[str, ...] | None:
    """A list of texts; None when it is missing or null."""
    found: list[Any] | None = field(body, name, list, None, struct)
    if found is None:
        return None
    for value in found:
        if not isinstance(value, str):
            raise errors.BadRequest(
                f"json: cannot unmarshal {kind(value)} into Go struct field {struct}.{name} of type string"
            )
    return tuple(found)


__all__ = ["field", "kind", "names", "read_object", "texts"]
