"""Wiring of the gateway: the route table, the listeners, and what it mirrors of the log."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from chassis import service
from chassis.feed import Feed
from chassis.service import Part
from rows.control import CERTIFICATE, PROJECT, SERVER_CONFIG
from services.gateway.auth import Trust
from services.gateway.authority import Authority
from services.gateway.changes import Changes
from services.gateway.configuration import Configuration
from services.gateway.debug import DebugListener
from services.gateway.events import follow_ticks
from services.gateway.extensions import advertised
from services.gateway.http import App
from services.gateway.listeners import Listeners
from services.gateway.operations import Operations
from services.gateway.own import add_own
from services.gateway.routes import table_of_contracts
from services.gateway.server import ServerDocument
from services.gateway.tls import Files

CHECK = 2.0  # seconds between looks at the certificate files and at addresses that could not be bound
DRAIN = 5.0


def certificate_files(directory: Path) -> Files:
    """NUBIBUS_SERVER names a directory with tls.crt and tls.key; else they are server.crt and server.key."""
    given = os.environ.get("NUBIBUS_SERVER")
    if given:
        return Files(Path(given, "tls.crt"), Path(given, "tls.key"))
    return Files(directory / "server.crt", directory / "server.key")


async def wire(part: Part) -> None:
    configuration = Configuration(part.store.mirror(SERVER_CONFIG))
    authority = Authority(part.directory)
    certificates, projects = part.store.mirror(CERTIFICATE), part.store.mirror(PROJECT)
    trust = Trust(certificates, projects, authority, lambda: configuration.trusts_authority)
    operations = Operations(part.store)
    feed = Feed(part.bus, retention=lambda: part.store.events_ttl)
    table = table_of_contracts()
    add_own(table, operations, feed)
    app = App(table, trust, configuration, lambda: feed.revision, Changes(part.store, operations))
    app.finish["GET", "/1.0"] = ServerDocument(advertised(), configuration.auth_methods)
    listeners = Listeners(app, certificate_files(part.directory), configuration.proxies)

    async def open_all() -> None:
        await feed.start()
        await listeners.open_unix(part.directory / "unix.socket", os.environ.get("NUBIBUS_GROUP", "lxd"))

    part.before_ready(open_all)
    debug = DebugListener(part.bus)
    part.keep(lambda: listen(listeners, debug, authority, configuration), "listen")
    part.keep(listeners.keep_date, "date")
    part.keep(app.rbac.follow, "follow RBAC")
    part.keep(lambda: follow_ticks(feed, operations), "ticks")
    part.at_end(feed.stop)
    part.at_end(debug.close)
    part.at_end(lambda: listeners.drain(DRAIN))
    part.at_end(feed.flush)


async def listen(
    listeners: Listeners, debug: DebugListener, authority: Authority, configuration: Configuration
) -> None:
    """Listen where the configuration says; look again when it changes, and now and then at what lies on disk."""
    changed = asyncio.Event()
    configuration.watch(changed.set)
    while True:
        changed.clear()
        await listeners.listen_https(configuration.addresses())
        await debug.listen(configuration.debug_address)
        listeners.reload_certificate()
        authority.reload()
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK):
                await changed.wait()


if __name__ == "__main__":
    service.main("gateway", wire)
