"""Configuration keys, declared once.

    MTU = Key("bridge.mtu", Int(68, 65535), default="1500", since="network", doc="MTU of the bridge")
    BRIDGE = Schema("network", [MTU, ...], unknown='Invalid option for network {name} option {key}', ...)
    BRIDGE.validate(config, name='"lxdbr0"')
    Config(config)[MTU]                      # an int, with its default

The object is the accessor, the validator, the documentation and the API's metadata. A `*` in a name stands
for one part (`tunnel.*.id`), at the end for all that follows (`user.*`), but never for control characters. An
empty text is "not set" everywhere, as in LXD.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

from chassis import errors
from chassis.key_types import Type, quote

T = TypeVar("T")
Texts = Mapping[str, str]
REMEMBERED = 1024  # names of wild keys that a schema remembers the key of
LONGEST_REMEMBERED = 256  # characters: clients choose the names


@dataclass(frozen=True, eq=False)
class Key(Generic[T]):
    """One key, or a family of keys when the name has a `*`."""

    name: str
    type: Type[T]
    default: str = ""
    since: str = ""  # the API extension that brought it
    doc: str = ""
    live: bool = True  # takes effect without a restart of what it configures
    scope: str = ""  # "local" (a member's own) or "" (everywhere the same)
    required: bool = False
    secret: bool = False  # never shown
    deep: bool = False  # a `*` in its middle may stand for several parts: a name that somebody chose, dots and all
    when: str = ""  # for the reader: under which condition it is used
    applies: Callable[[Texts], bool] | None = None  # and for the machine: else the key is unknown

    @property
    def wild(self) -> bool:
        return "*" in self.name

    def match(self, name: str) -> tuple[str, ...] | None:
        """What stands for the wildcards, () for an exact match, None for another key."""
        if not self.wild:
            return () if name == self.name else None
        found = _compiled(self.name, self.deep).fullmatch(name)
        return found.groups() if found else None

    def at(self, *parts: str) -> str:
        """The concrete name of a wild key."""
        words = iter(parts)
        return re.sub(r"\*", lambda _: next(words), self.name)

    def describe(self) -> dict[str, Any]:
        """For the reference pages and the API's metadata."""
        return {
            "key": self.name,
            "type": self.type.name,
            "default": self.default or None,
            "since": self.since or None,
            "liveupdate": self.live,
            "scope": self.scope or None,
            "condition": self.when or None,
            "description": self.doc,
        }


_patterns: dict[tuple[str, bool], re.Pattern[str]] = {}
_CONTROL = r"\x00-\x1f\x7f"  # stand in no name: many end up in lines of configuration files


def _compiled(name: str, deep: bool) -> re.Pattern[str]:
    if (name, deep) not in _patterns:
        dot = "" if deep else "."
        parts = [rf"([^{dot}{_CONTROL}]+)" if part == "*" else re.escape(part) for part in name.split(".")]
        if name.endswith(".*"):
            parts[-1] = rf"([^{_CONTROL}]+)"
        _patterns[name, deep] = re.compile(r"\.".join(parts))
    return _patterns[name, deep]


class Config:
    """Typed reading of a map of texts that was validated before."""

    __slots__ = ("texts",)

    def __init__(self, texts: Texts) -> None:
        self.texts = texts

    def __getitem__(self, key: Key[T]) -> T:
        """The value, or the key's default, or the type's zero."""
        text = self.text(key)
        return key.type.parse(text) if text else key.type.zero

    def __contains__(self, key: Key[Any]) -> bool:
        """Whether it is set (a default does not count)."""
        return bool(self.texts.get(key.name))

    def get(self, key: Key[T]) -> T | None:
        """The value or the default; None if there is neither."""
        text = self.text(key)
        return key.type.parse(text) if text else None

    def text(self, key: Key[Any]) -> str:
        return self.texts.get(key.name) or key.default

    def each(self, key: Key[T]) -> Iterator[tuple[tuple[str, ...], T]]:
        """Every set member of a wild key: what stands for the wildcards, and the value."""
        for name, text in self.texts.items():
            parts = key.match(name)
            if parts is not None and text:
                yield parts, key.type.parse(text)


Rule = Callable[[Config], None]  # raises ValueError with a whole sentence


@dataclass
class Schema:
    """The keys of one kind of thing, and LXD's sentences about wrong ones.

    In the sentences {key} and {value} are quoted as Go does, {bare} is the key unquoted, {reason} the type's;
    further fields come from `validate`. `fault` is what LXD answers with.
    """

    name: str
    keys: Iterable[Key[Any]]
    unknown: str = "Invalid option {key}"
    invalid: str = "Invalid value for option {key}: {reason}"
    fault: type[errors.Fault] = errors.BadRequest
    rules: tuple[Rule, ...] = ()
    exact: dict[str, Key[Any]] = field(default_factory=dict, init=False)
    wild: list[Key[Any]] = field(default_factory=list, init=False)
    required: list[Key[Any]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.keys = tuple(self.keys)
        self.exact = {key.name: key for key in self.keys if not key.wild}
        self.wild = [key for key in self.keys if key.wild]
        self.required = [key for key in self.exact.values() if key.required]
        self._declares = lru_cache(REMEMBERED)(self._wild)

    def find(self, name: str) -> Key[Any] | None:
        """The key that declares this name."""
        return self.exact.get(name) or (self._declares if len(name) <= LONGEST_REMEMBERED else self._wild)(name)

    def _wild(self, name: str) -> Key[Any] | None:
        return next((key for key in self.wild if key.match(name) is not None), None)

    def check(self, name: str, text: str, texts: Texts | None = None, /, **names: str) -> None:
        """One key and its value. Raises the schema's fault."""
        key = self.find(name)
        if key is None or (key.applies is not None and not key.applies(texts or {})):
            raise self.fault(self.unknown.format(key=quote(name), bare=name, value=quote(text), **names))
        if not text and not key.required:
            return
        try:
            if not text:
                raise ValueError("Required value")
            key.type.parse(text)
        except ValueError as reason:
            raise self.fault(
                self.invalid.format(key=quote(name), bare=name, value=quote(text), reason=reason, **names)
            ) from None

    def validate(self, texts: Texts, /, **names: str) -> None:
        """Every key, what is required, and the rules between keys.

        Raises the schema's fault, for the first key in order.
        """
        for name, text in sorted(texts.items()):
            self.check(name, text, texts, **names)
        for key in self.required:
            applies = key.applies is None or key.applies(texts)
            if applies and not texts.get(key.name):
                self.check(key.name, "", texts, **names)
        config = Config(texts)
        for rule in self.rules:
            try:
                rule(config)
            except ValueError as reason:
                raise self.fault(str(reason)) from None

    def describe(self) -> list[dict[str, Any]]:
        return [key.describe() for key in self.keys]
