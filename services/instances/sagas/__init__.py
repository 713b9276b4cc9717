"""The verbs of this service. This tuple is the list of them."""

from __future__ import annotations

from chassis.saga import Saga
from services.instances.sagas import (
    bulk,
    create,
    delete,
    freeze,
    hurry,
    move,
    reach,
    rename,
    rename_profile,
    restart,
    start,
    stop,
    update,
)

SAGAS: tuple[Saga, ...] = (
    bulk.SAGA,
    create.SAGA,
    delete.SAGA,
    freeze.FREEZE,
    freeze.UNFREEZE,
    hurry.SAGA,
    move.SAGA,
    reach.SAGA,
    rename.SAGA,
    rename_profile.SAGA,
    restart.SAGA,
    start.SAGA,
    stop.SAGA,
    update.SAGA,
)
