"""How long events and ended operations are kept, and how many: server keys that every part obeys as soon as they change.

The configuration's row is declared here because the chassis itself reads it; `rows.control` has it for everybody else. Control owns it.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import structlog

from chassis import units
from chassis.change import EVENTS_TTL, OPERATIONS_TTL
from chassis.kinds import Kind, Versioned
from chassis.store import Store

EVENTS, EVENTS_LIMIT, EVENTS_SIZE = "core.events_retention", "core.events_limit", "core.events_size"
OPERATIONS = "core.operations_retention"
HOURS, NUMBER, SIZE, MINUTES = "24", "250000", "256MiB", "60"  # what holds when a key is not set
log = structlog.get_logger(__name__)


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The server's configuration: one row, scope "cluster". Secrets stand here hashed."""

    scope: str = "cluster"
    config: dict[str, str] = {}


SERVER_CONFIG = Kind("control_config", ServerConfig, ("scope",))


class Retention(NamedTuple):
    """Seconds that events and ended operations are kept; how many events, and about how many bytes of them."""

    events: int = EVENTS_TTL
    operations: int = OPERATIONS_TTL
    number: int = int(NUMBER)
    size: int = 256 * 1024 * 1024


def retention_of(config: dict[str, str]) -> Retention:
    """What a configuration asks for. Raises ValueError for one that control would not have stored."""
    return Retention(
        events=int(config.get(EVENTS) or HOURS) * 3600,
        operations=int(config.get(OPERATIONS) or MINUTES) * 60,
        number=int(config.get(EVENTS_LIMIT) or NUMBER),
        size=units.parse_bytes(config.get(EVENTS_SIZE) or SIZE),
    )


def follow(store: Store) -> None:
    """Make a store obey the configuration, from its start on."""

    def obey(_key: tuple[str, ...], _old: object, row: Versioned[ServerConfig] | None) -> None:
        try:
            wanted = retention_of(row.value.config if row else {})
        except ValueError as error:
            log.error("What is to be kept cannot be understood", error=str(error))
            return
        store.events_ttl, store.operations_ttl = wanted.events, wanted.operations

    store.mirror(SERVER_CONFIG).watch(obey)
