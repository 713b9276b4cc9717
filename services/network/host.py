"""This host as the service works on it: one netlink socket, one directory, one thread.

All blocking work (rtnetlink, nftables, starting dnsmasq) is done by that thread in the order in which it was asked for, so two changes
never interleave and the event loop never waits.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from services.network import nftables
from services.network.dhcp import Files
from services.network.links import ALIAS, Link, Links

P = ParamSpec("P")
T = TypeVar("T")


class Host:
    """`directory` is D. `server` is short, stable, and differs between servers on one machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.server = hashlib.sha256(str(self.directory).encode()).hexdigest()[:6]
        self.networks = self.directory / "networks"
        self.rules: dict[str, str] = {}  # nftables' table -> what this process made of it
        self._sees_nftables = False
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="host")

    @cached_property
    def links(self) -> Links:
        return Links()

    def lacks_nftables(self) -> str:
        """Looked at until they were seen once, which is before the host thread has work: the library is used by one thread only."""
        if not self._sees_nftables:
            lack = nftables.lacks()
            self._sees_nftables = not lack
            return lack
        return ""

    @property
    def alias(self) -> str:
        """What links that this server made for itself are called besides their name."""
        return f"{ALIAS} {self.server}"

    def made(self, link: Link) -> bool:
        return link.alias.startswith(self.alias)

    def files(self, network: str) -> Files:
        return Files(self.networks / network)

    async def run(self, work: Callable[Concatenate[Host, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work(host, …)` in the host thread. Work that was begun is finished even if the caller goes away."""
        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(self.thread, lambda: work(self, *args, **kwargs))
        )

    async def close(self) -> None:
        await self.run(_close)
        self.thread.shutdown()


def _close(host: Host) -> None:
    if "links" in host.__dict__:
        host.links.close()
