"""What has to be done for a dir pool to be there. Pure: what is, comes in as facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from chassis import errors


class Bind(NamedTuple):
    """Show another folder at the pool's place."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Facts:
    """Of the source folder: whether it is there and holds nothing. Of the pool's place: whether something is mounted."""

    source_there: bool
    source_empty: bool
    mounted: bool


def plan_create(source: Path, place: Path, facts: Facts) -> list[Bind]:
    """Raises Internal in LXD's words when the source cannot be used."""
    if source == place:
        return []
    if source.is_relative_to(place.parent.parent):
        raise errors.Internal(f"Source path '{source}' is within the LXD directory")
    if not facts.source_there:
        raise errors.Internal(f"Source path '{source}' doesn't exist")
    if not facts.source_empty:
        raise errors.Internal(f"Source path '{source}' isn't empty")
    return plan_open(source, place, facts)


def plan_open(source: Path, place: Path, facts: Facts) -> list[Bind]:
    if source == place or facts.mounted:
        return []
    if not facts.source_there:
        raise errors.Internal(f"Source path '{source}' doesn't exist")
    return [Bind(source, place)]
