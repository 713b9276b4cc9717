"""Kinds of rows: how a value of the log is named, written and read.

A kind is declared once, by the noun module that owns it. Its subject is `row.<kind>.<token>...`, one token for each key field.
"""

from __future__ import annotations

import re
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

_PLAIN = re.compile(r"[A-Za-z0-9_-]+\Z")
_ESCAPED = re.compile(r"=([0-9A-F]{2})")
_EMPTY = "=-"


def escape(token: str) -> str:
    """A key field as one token of a subject: bytes outside [A-Za-z0-9_-] become =XX, nothing becomes `=-`."""
    if _PLAIN.match(token):
        return token
    if not token:
        return _EMPTY
    return "".join(c if _PLAIN.match(c) else "".join(f"={b:02X}" for b in c.encode()) for c in token)


def unescape(token: str) -> str:
    """The reverse of `escape`."""
    if token == _EMPTY:
        return ""
    if "=" not in token:
        return token
    raw = _ESCAPED.sub(lambda m: chr(int(m[1], 16)), token)
    return raw.encode("latin-1").decode()


class Versioned(NamedTuple, Generic[T]):
    """A row as a mirror holds it. `revision` is the sequence of the message that wrote it."""

    value: T
    revision: int
    key: tuple[str, ...]


class Kind(Generic[T]):
    """A kind of row: `Kind("instances_instance", Instance, ("project", "name"))`. Key fields are attributes of the struct.

    `fleeting`: its rows do not live long (operations, locks), so they come first in a batch and carry what `redo` needs.
    """

    def __init__(self, name: str, struct: type[T], key: tuple[str, ...], *, fleeting: bool = False) -> None:
        if not _PLAIN.match(name):
            raise ValueError(f"Kind name {name!r} is not one plain token")
        self.name = name
        self.struct = struct
        self.key_fields = key
        self.fleeting = fleeting
        self.prefix = f"row.{name}."
        self._decoder = msgspec.json.Decoder(struct)
        self._encoder = msgspec.json.Encoder()

    def __repr__(self) -> str:
        return f"Kind({self.name!r})"

    def key_of(self, value: T) -> tuple[str, ...]:
        return tuple(str(getattr(value, field)) for field in self.key_fields)

    def subject(self, key: tuple[str, ...]) -> str:
        if len(key) != len(self.key_fields):
            raise ValueError(f"A key of {self.name} has {len(self.key_fields)} fields, not {len(key)}")
        return self.prefix + ".".join(map(escape, key))

    def key_from(self, subject: str) -> tuple[str, ...]:
        return tuple(map(unescape, subject[len(self.prefix) :].split(".")))

    def encode(self, value: T) -> bytes:
        return self._encoder.encode(value)

    def decode(self, data: bytes) -> T:
        return self._decoder.decode(data)


AnyKind = Kind[Any]


def kind_name(subject: str) -> str:
    """The kind that a row subject belongs to."""
    return subject[4 : subject.index(".", 4)]
