"""Who uses an object: what of its `used_by` a caller is shown. The owner finds the users among the rows that it mirrors."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit

from chassis.calls import current


def visible(urls: Iterable[str]) -> list[str]:
    """Those of a `used_by` that the present caller may know of: each URL names its project, or none for the default one."""
    caller = current().caller
    return [url for url in urls if caller.may_see(parse_qs(urlsplit(url).query).get("project", ["default"])[0])]
