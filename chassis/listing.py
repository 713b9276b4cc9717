"""Lists as LXD gives them: recursion 0 (URLs), 1 (objects), 2 (objects with all that belongs to them), and
the filter language.

A filter is `[not] FIELD eq|ne VALUE` joined by `and` and `or`, read from left to right without precedence, as
LXD does. FIELD is a path with dots into the object ("config.limits.cpu", "devices.eth0.type"); VALUE may be
quoted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import re2

from chassis import errors
from chassis.documents import render
from gen.nubibus.rest.v1 import rest_pb2

LONGEST = 4096  # characters of a filter
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 1 << 20
PIECE = 256 * 1024  # bytes of one Chunk


Matcher = Callable[[str], bool]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clause:
    joined: str  # "and", "or": how it combines with what stands before
    negated: bool
    field: str
    operator: str
    value: str
    pattern: Matcher

    def matches(self, thing: Any) -> bool:
        same = self._same(value_of(thing, self.field))
        return same is not (self.negated is not (self.operator == "ne"))

    def _same(self, found: Any) -> bool:
        if isinstance(found, bool):
            return self.value.lower() == ("true" if found else "false")
        if isinstance(found, int | float):
            return self.value == str(found)
        return isinstance(found, str) and self.pattern(found)


def refuse_both(project: str, *, everywhere: bool) -> None:
    """A list of all projects is of no one project. Raises BadRequest; the default one may have been filled in for the client."""
    if everywhere and project not in ("", "default"):
        raise errors.BadRequest("Cannot specify a project when requesting all projects")


def matcher(value: str) -> Matcher:
    """How a text is compared: a regular expression without regard to case, of the whole text unless it has an anchor.

    RE2 takes time in proportion to the text, whatever the expression; what is no expression is compared as it stands.
    """
    expression = value if "^" in value or "$" in value else f"^{value}$"
    try:
        compiled = re2.compile(f"(?i){expression}", _OPTIONS)
    except re2.error:
        folded = value.casefold()
        return lambda text: text.casefold() == folded
    return lambda text: compiled.search(text) is not None


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter; without clauses it lets everything through."""

    clauses: tuple[Clause, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.clauses)

    def matches(self, thing: Any) -> bool:
        """`thing` is the object as decoded JSON (dicts, lists, texts, numbers)."""
        result = True
        for clause in self.clauses:
            found = clause.matches(thing)
            result = (result and found) if clause.joined == "and" else (result or found)
        return result


def value_of(thing: Any, path: str) -> Any:
    """The value at a path; a map of texts may have dots in its keys. None if there is nothing."""
    if not isinstance(thing, Mapping):
        return None
    if path in thing:
        return thing[path]
    key, dot, rest = path.partition(".")
    return value_of(thing[key], rest) if dot and key in thing else None


def parse_filter(text: str) -> Filter:
    """Raises Internal with LXD's reason (500 is what it answers)."""
    if len(text) > LONGEST:
        raise _wrong(f"longer than {LONGEST} characters")
    words = text.split()
    clauses: list[Clause] = []
    joined = "and"
    while words:
        clauses.append(_clause(words, joined))
        if words:
            joined = words.pop(0)
            if joined not in ("and", "or"):
                raise _wrong("invalid clause composition")
            if not words:
                raise _wrong("unterminated compound clause")
    return Filter(tuple(clauses))


def _wrong(reason: str) -> errors.Internal:
    return errors.Internal(f"Invalid filter: {reason}")


def _clause(words: list[str], joined: str) -> Clause:
    negated = words[0].lower() == "not"
    if negated:
        words.pop(0)
        if not words:
            raise _wrong("incomplete not clause")
    field = words.pop(0)
    if not words:
        raise _wrong("clause has no operator")
    operator = words.pop(0)
    if not words:
        raise _wrong("clause has no value")
    value = words.pop(0)
    if value.startswith('"'):
        value = _quoted(value[1:], words)
    return Clause(joined, negated, field, operator, value, matcher(value))


def _quoted(value: str, words: list[str]) -> str:
    parts = [value]
    while not parts[-1].endswith('"'):
        if not words:
            raise _wrong("unterminated quote")
        parts.append(words.pop(0))
    return " ".join(parts)[:-1]


async def chunks(pieces: Iterable[bytes], *, head: rest_pb2.Document | None = None) -> AsyncIterator[rest_pb2.Chunk]:
    """A JSON list of already rendered objects as Chunks.

    `pieces` may be a generator: nothing is held whole.
    """
    pending = bytearray(b"[")
    first = True
    head = head or rest_pb2.Document()
    for piece in pieces:
        if not first:
            pending += b","
        first = False
        pending += piece
        if len(pending) >= PIECE:
            yield (rest_pb2.Chunk(head=head, data=bytes(pending)) if head else rest_pb2.Chunk(data=bytes(pending)))
            head = None
            pending.clear()
    pending += b"]"
    yield rest_pb2.Chunk(head=head, data=bytes(pending)) if head else rest_pb2.Chunk(data=bytes(pending))


async def whole(value: Any, *, head: rest_pb2.Document | None = None) -> AsyncIterator[rest_pb2.Chunk]:
    """One value as the whole answer of a streaming method."""
    yield rest_pb2.Chunk(head=head or rest_pb2.Document(), data=render(value))


def urls(paths: Iterable[str]) -> Iterable[bytes]:
    """Rendered texts of a recursion 0 list."""
    return (render(path) for path in paths)


def pieces(
    things: Iterable[T], request: Any, document: Callable[[T], Mapping[str, Any]], url: Callable[[T], str]
) -> Iterable[bytes]:
    """The rendered entries of a list as `request.recursion` and `request.filter` want them."""
    wanted = parse_filter(request.filter)
    if not wanted and not request.recursion:
        return urls(map(url, things))
    found = ((thing, document(thing)) for thing in things)
    matching = ((thing, shown) for thing, shown in found if wanted.matches(shown))
    return (render(shown if request.recursion else url(thing)) for thing, shown in matching)
