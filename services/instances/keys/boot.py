"""When an instance starts and stops with its host."""

from __future__ import annotations

from typing import Any

from chassis.key_types import Bool, Cron, Enum, Expiry, Int, NotYet, Str
from chassis.keys import Key

AUTOSTART = Key("boot.autostart", Bool, doc="Start with the host; unset: as it was when the host went down")
AUTOSTART_DELAY = Key(
    "boot.autostart.delay", Int(), doc="Seconds to wait after its start before the next one is started"
)
AUTOSTART_PRIORITY = Key("boot.autostart.priority", Int(), doc="Order of the starts, highest first")
STOP_PRIORITY = Key(
    "boot.stop.priority", Int(), since="container_stop_priority", doc="Order of the stops, highest first"
)
SHUTDOWN_TIMEOUT = Key(
    "boot.host_shutdown_timeout", Int(), default="30", since="container_host_shutdown_timeout",
    doc="Seconds that a clean stop may take when the host goes down",
)  # fmt: skip
EVACUATE = Key(
    "cluster.evacuate", NotYet(Enum("auto", "migrate", "live-migrate", "stop")), default="auto", since="clustering_evacuation",
    doc="What becomes of the instance when its member is evacuated",
)  # fmt: skip

SCHEDULE = Key(
    "snapshots.schedule", NotYet(Cron), since="snapshot_scheduling", doc="When snapshots are taken by themselves"
)
SCHEDULE_STOPPED = Key(
    "snapshots.schedule.stopped",
    NotYet(Bool, "false"),
    since="snapshot_scheduling",
    doc="Whether a stopped instance is snapshotted too",
)
PATTERN = Key(
    "snapshots.pattern",
    NotYet(Str),
    default="snap%d",
    since="snapshot_scheduling",
    doc="Names of snapshots without a name",
)
EXPIRY = Key("snapshots.expiry", NotYet(Expiry), since="snapshot_expiry", doc="How long snapshots are kept")

KEYS: tuple[Key[Any], ...] = (
    AUTOSTART, AUTOSTART_DELAY, AUTOSTART_PRIORITY, STOP_PRIORITY, SHUTDOWN_TIMEOUT, EVACUATE, SCHEDULE, SCHEDULE_STOPPED, PATTERN, EXPIRY,
)  # fmt: skip
