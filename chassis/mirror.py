"""A mirror: all rows of one kind, in memory, as far as the log has been read.

Rows arrive in the order of the log; the rows of one change become visible together. Callbacks are plain functions, called in that
order after the whole change is visible.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

from chassis.errors import NotFound
from chassis.kinds import Kind, Versioned

T = TypeVar("T", bound=msgspec.Struct)

Callback = Callable[[tuple[str, ...], "Versioned[T] | None", "Versioned[T] | None"], None]


class Index(Generic[T]):
    """Rows by something other than their key. `key_of(value)` gives the index keys that a row is found under."""

    def __init__(self, key_of: Callable[[T], Iterable[Hashable]]) -> None:
        self._key_of = key_of
        self._found: dict[Hashable, dict[tuple[str, ...], Versioned[T]]] = {}

    def select(self, key: Hashable) -> Iterator[Versioned[T]]:
        yield from list(self._found.get(key, {}).values())

    def count(self, key: Hashable) -> int:
        return len(self._found.get(key, ()))

    def move(self, key: tuple[str, ...], old: Versioned[T] | None, new: Versioned[T] | None) -> None:
        if old is not None:
            for found in self._key_of(old.value):
                rows = self._found.get(found, {})
                rows.pop(key, None)
                if not rows:
                    self._found.pop(found, None)
        if new is not None:
            for found in self._key_of(new.value):
                self._found.setdefault(found, {})[key] = new


class Mirror(Generic[T]):
    """The rows of one kind. Fed by the store; everybody else reads."""

    def __init__(self, kind: Kind[T]) -> None:
        self.kind = kind
        self._rows: dict[tuple[str, ...], Versioned[T]] = {}
        self._tombs: dict[tuple[str, ...], int] = {}
        self._doubtful: set[tuple[str, ...]] = set()
        self._indexes: dict[str, Index[T]] = {}
        self._prefixes: dict[int, Index[T]] = {}
        self._callbacks: list[Callback[T]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, *key: str) -> Versioned[T] | None:
        return self._rows.get(key)

    def one(self, *key: str) -> Versioned[T]:
        """The row; NotFound when there is none."""
        row = self._rows.get(key)
        if row is None:
            raise NotFound(f"{self.kind.name.split('_')[-1].replace('-', ' ').capitalize()} not found")
        return row

    def revision(self, *key: str) -> int:
        """What `expect` must be to write this row if it has not changed: 0 when there is none."""
        row = self._rows.get(key)
        return row.revision if row else 0

    def select(self, *prefix: str) -> Iterator[Versioned[T]]:
        """Rows whose key begins with these fields, in the order in which they were first written."""
        if not prefix:
            yield from list(self._rows.values())
            return
        index = self._prefixes.get(len(prefix))
        if index is None:
            index = self._prefixes[len(prefix)] = self._new_index(self._prefix_of(len(prefix)))
        yield from index.select(prefix)

    def index(self, name: str, key_of: Callable[[T], Iterable[Hashable]]) -> Index[T]:
        """An index that is kept from now on. `key_of(value)` gives the keys that a row is found under."""
        if name not in self._indexes:
            self._indexes[name] = self._new_index(key_of)
        return self._indexes[name]

    def watch(self, callback: Callback[T]) -> Callable[[], None]:
        """Call `callback(key, old, new)` on each change of a row; also for the rows that are there already, with old None.

        It is a plain function, called in the order of the log; what it raises is logged. Returns a function that ends the watch.
        """
        self._callbacks.append(callback)
        for row in list(self._rows.values()):
            callback(row.key, None, row)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    # What follows is called by the store alone.

    def apply(self, key: tuple[str, ...], row: Versioned[T] | None, revision: int) -> list[Callable[[], Any]]:
        """Put or remove a row; returns the calls that tell the watchers, to be made when the whole change is applied."""
        old = self._rows.get(key)
        if key in self._doubtful:
            self._doubtful.discard(key)
            if old == row:
                return []
        elif old is not None and old.revision >= revision:
            return []
        if row is None:
            self._rows.pop(key, None)
            self._tombs[key] = revision
            if old is None:
                return []
        else:
            self._rows[key] = row
            self._tombs.pop(key, None)
        for index in (*self._indexes.values(), *self._prefixes.values()):
            index.move(key, old, row)
        return [_call(callback, key, old, row) for callback in self._callbacks]

    def guard(self, key: tuple[str, ...]) -> int:
        """The sequence of the last message of a row that does not exist: of its deletion, or 0."""
        return self._tombs.get(key, 0)

    def forget_tomb(self, key: tuple[str, ...], revision: int) -> None:
        if self._tombs.get(key) == revision:
            del self._tombs[key]

    def doubt(self) -> None:
        """The log is going to be read anew: a row is true only once it was seen again."""
        self._doubtful = set(self._rows)
        self._tombs.clear()

    def settle(self) -> list[Callable[[], Any]]:
        """The log has been read: what was not seen again is gone."""
        doubtful, self._doubtful = self._doubtful, set()
        calls: list[Callable[[], Any]] = []
        for key in doubtful:
            old = self._rows.pop(key)
            for index in (*self._indexes.values(), *self._prefixes.values()):
                index.move(key, old, None)
            calls += [_call(callback, key, old, None) for callback in self._callbacks]
        return calls

    def keys(self) -> list[tuple[str, ...]]:
        return list(self._rows)

    def _new_index(self, key_of: Callable[[T], Iterable[Hashable]]) -> Index[T]:
        index = Index(key_of)
        for row in self._rows.values():
            index.move(row.key, None, row)
        return index

    def _prefix_of(self, length: int) -> Callable[[T], Iterable[Hashable]]:
        return lambda value: (self.kind.key_of(value)[:length],)


def _call(
    callback: Callback[T], key: tuple[str, ...], old: Versioned[T] | None, new: Versioned[T] | None
) -> Callable[[], Any]:
    return lambda: callback(key, old, new)
