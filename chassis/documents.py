"""Answers as LXD writes them: JSON of a struct or dict, its ETag, and the check of If-Match.

LXD's ETag covers what a PUT may change. Here it is the sha256 of the canonical JSON (sorted keys) of exactly
that part, so it changes when and only when the editable part does, whichever service or replica rendered it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from chassis import errors, go_json
from chassis.clock import ZERO
from gen.nubibus.rest.v1 import rest_pb2

_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode


def render(value: Any) -> bytes:
    """JSON of structs, dicts, lists. Field order is kept."""
    return _encode(value)


def etag_of(editable: Any) -> str:
    """ETag of the editable part, 64 hex digits."""
    return hashlib.sha256(_canonical(editable)).hexdigest()


def check_if_match(if_match: str, etag: str) -> None:
    """Raise PreconditionFailed as LXD words it if the client's If-Match is given and another."""
    given = if_match.strip().removeprefix("W/").strip('"')
    if given and given not in ("*", etag):
        raise errors.PreconditionFailed(f"ETag doesn't match: {etag} vs {given}")


def document(
    value: Any,
    *,
    editable: Any = None,
    location: str = "",
    revision: int = 0,
    headers: Mapping[str, str] | None = None,
    status: int = 0,
) -> rest_pb2.Document:
    """A synchronous answer with `value` as its metadata; with `editable` it bears an ETag."""
    return rest_pb2.Document(
        json=render(value),
        etag=etag_of(editable) if editable is not None else "",
        location=location,
        revision=revision,
        headers=headers or {},
        status=status,
    )


def empty(*, location: str = "", revision: int = 0, status: int = 0) -> rest_pb2.Document:
    """A synchronous answer without a result, as LXD gives it: `{}`; with a location 201 and null."""
    json = b"null" if location else b"{}"
    status = status or (201 if location else 0)
    return rest_pb2.Document(json=json, location=location, revision=revision, status=status)


def answer(found: rest_pb2.Document | rest_pb2.Accepted) -> rest_pb2.Answer:
    """Either kind as an Answer."""
    if isinstance(found, rest_pb2.Accepted):
        return rest_pb2.Answer(accepted=found)
    return rest_pb2.Answer(document=found)


def read_body(body: bytes, type_: Any, name: str = "") -> Any:
    """A JSON body as `type_` (a Struct, or dict).

    Raises BadRequest in the words of Go's decoder, which clients see from LXD. `name` is LXD's name of the type ("ProfilesPost").
    """
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        wrong = go_json.complaint(body) or str(error)
        if "got `null`" in wrong:  # to Go, null is as good as absent
            with suppress(msgspec.ValidationError):
                return msgspec.convert(_without_nulls(msgspec.json.decode(body)), type_)
        raise errors.BadRequest(go_json.mismatch(wrong, name or getattr(type_, "__name__", "value"))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.BadRequest(go_json.complaint(body) or str(error)) from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return {} if value is None else value


def read_object(body: bytes, name: str = "") -> dict[str, Any]:
    """A JSON body that must be an object, its fields unchecked."""
    found: dict[str, Any] = read_body(body, dict[str, Any], name or "Go value")
    return found


def timestamp(moment: datetime | None) -> str:
    """RFC 3339 as Go prints it; None is Go's zero time."""
    if moment is None:
        return ZERO
    text = moment.isoformat()
    whole, dot, fraction = text.partition(".")
    if dot:
        digits, offset = fraction[:6].rstrip("0"), fraction[6:]
        text = f"{whole}.{digits}{offset}" if digits else whole + offset
    return text.replace("+00:00", "Z")
