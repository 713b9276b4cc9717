"""Who uses an object: asked of every part, because only the owner of a reference knows it.

`used_by` is for showing: what is known now. `used_by_all` is for deciding (may this be deleted?): every part
must have answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit

from chassis import errors, rpc
from chassis.calls import current
from gen.nubibus.rest.v1 import rest_pb2

SERVICE = "nubibus.rest.v1.References"
HOLDERS: dict[str, tuple[str, ...]] = {
    # kind of object -> the parts that can hold a reference to it
    "network": ("instances", "network"),
    "network-acl": ("instances", "network"),
    "profile": ("instances",),
    "storage-pool": ("instances", "storage", "images"),
    "storage-volume": ("instances",),
    "image": ("instances",),
    "project": ("instances", "storage", "network", "images"),
}
WAIT = 1.0  # seconds


def visible(urls: Iterable[str]) -> list[str]:
    """Those of a `used_by` that the present caller may know of: each URL names its project, or none for the default one."""
    caller = current().caller
    return [url for url in urls if caller.may_see(parse_qs(urlsplit(url).query).get("project", ["default"])[0])]


async def _ask(part: str, request: rest_pb2.UsedByRequest) -> list[str]:
    answer: rest_pb2.UsedBy = await rpc.call(SERVICE, "Find", request, part=part, timeout=WAIT)
    return list(answer.urls)


async def _gather(kind: str, project: str, name: str, parts: Iterable[str]) -> dict[str, list[str] | BaseException]:
    request = rest_pb2.UsedByRequest(kind=kind, project=project, name=name)
    names = list(parts)
    answers = await asyncio.gather(*(_ask(part, request) for part in names), return_exceptions=True)
    return dict(zip(names, answers, strict=True))


async def used_by(kind: str, project: str, name: str) -> list[str]:
    """URLs of what is known to use it, sorted. A part that is away is left out."""
    answers = await _gather(kind, project, name, HOLDERS[kind])
    return sorted({url for found in answers.values() if isinstance(found, list) for url in found})


async def used_by_all(kind: str, project: str, name: str) -> list[str]:
    """The same, but raises Unavailable if a part that could hold a reference does not answer."""
    answers = await _gather(kind, project, name, HOLDERS[kind])
    for part, found in answers.items():
        if isinstance(found, errors.NotImplementedHere):
            continue
        if isinstance(found, BaseException):
            raise errors.Unavailable(f"Cannot tell who uses {kind} {name!r}: the {part} service does not answer")
    return sorted({url for found in answers.values() if isinstance(found, list) for url in found})
