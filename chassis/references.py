"""How objects are referred to: URLs that name a project, and which of them a caller may know of."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qs, quote, urlsplit

from chassis.calls import current


def in_project(path: str, project: str) -> str:
    """A path as LXD shows it: with the project unless it is the default one."""
    return path if project == "default" else f"{path}?project={quote(project, safe='')}"


def visible(urls: Iterable[str]) -> list[str]:
    """Those of a `used_by` that the present caller may know of: each URL names its project, or none for the default one."""
    caller = current().caller
    return [url for url in urls if caller.may_see(parse_qs(urlsplit(url).query).get("project", ["default"])[0])]
