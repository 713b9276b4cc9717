"""Wiring of the control service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from chassis import service
from chassis.cancellation import Cancellation
from chassis.converge import Converge
from chassis.operations import Operations
from chassis.retention import retention_of
from chassis.service import Part
from chassis.stream import trim
from rows.storage import POOL
from services.control import shortcomings
from services.control.certificate import Certificates
from services.control.configuration import Configuration
from services.control.first_clients import FirstClients
from services.control.holdings import Holdings
from services.control.project import Projects
from services.control.server import Server
from services.control.warning import Warnings

SWEEP = 3600.0  # seconds between two looks for warnings that may go
TRIM = 60.0  # seconds between two looks for events that may go
LOOK = 10.0  # seconds between two looks for certificates of first clients
MACHINE = Path("/")


async def resources() -> dict[str, Any]:
    """The hardware, read beside the loop."""
    from services.control.resources import read

    return await asyncio.to_thread(read, MACHINE)


async def wire(part: Part) -> None:
    store = part.store
    configuration = Configuration(store)
    operations = Operations(store, "control", part.member)
    projects = Projects(store, Holdings(store), operations)
    server = Server(configuration, store.mirror(POOL), part.directory, resources)
    warnings = Warnings(store)
    certificates = Certificates(store, configuration, projects.rows, operations, server)

    first_clients = FirstClients(store, certificates.rows)

    async def watch_first_clients() -> None:
        while True:
            await asyncio.sleep(LOOK)
            await first_clients.trust()

    async def sweep_warnings() -> None:
        await shortcomings.report(warnings, part.member)
        while True:
            await warnings.forget_resolved()
            await asyncio.sleep(SWEEP)

    async def trim_events() -> None:
        """No more events than the configuration allows; rows are never touched."""
        kept = retention_of(configuration.texts)
        await trim(part.bus, kept.number, size=kept.size, age=kept.events)

    events = Converge("events", trim_events, every=TRIM)
    configuration.rows.watch(lambda *_: events.wake())
    part.serve(server, certificates, projects, warnings, Cancellation(operations.cancel))
    part.before_ready(projects.ensure_default)
    part.before_ready(operations.sweep)
    part.before_ready(first_clients.trust)
    part.keep(events.run, "trim events")
    part.keep(sweep_warnings, "sweep warnings")
    part.keep(watch_first_clients, "watch first clients")


if __name__ == "__main__":
    service.main("control", wire)
