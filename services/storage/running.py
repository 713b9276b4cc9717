"""Running a saga for a caller: to its end within the call, or as an operation that the caller follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chassis import errors
from chassis.documents import answer
from chassis.operations import FAILURE, LockKey
from chassis.saga import Saga
from chassis.sagas import Sagas
from chassis.store import Store
from gen.nubibus.rest.v1 import rest_pb2

LONGEST = 600.0  # seconds
Condition = Callable[[], None]


class Running:
    def __init__(self, sagas: Sagas, store: Store) -> None:
        self._sagas = sagas
        self._store = store

    async def to_the_end(
        self,
        saga: Saga,
        args: dict[str, Any],
        project: str,
        *locks: LockKey,
        condition: Condition | None = None,
        location: str = "",
    ) -> int:
        """Where LXD answers synchronously: the revision at the end. Raises Internal with its reason when it fails.

        `condition` is looked at under the locks and raises what is to be refused. `location`: what the answer will bear.
        """
        accepted = await self._sagas.accept(saga, args, project=project, locks=locks, change=condition, waited=location)
        ended = await self._sagas.operations.wait(accepted.id, LONGEST)
        if not ended.final:
            raise errors.Unavailable(f"{saga.description} goes on as operation {ended.id}")
        if ended.status_code >= FAILURE:
            raise errors.Internal(ended.err)
        return self._store.revision

    async def accepted(
        self,
        saga: Saga,
        args: dict[str, Any],
        project: str,
        *locks: LockKey,
        resources: Mapping[str, Sequence[str]] | None = None,
        condition: Condition | None = None,
    ) -> rest_pb2.Answer:
        found = await self._sagas.accept(
            saga, args, project=project or "default", locks=locks, resources=resources, change=condition
        )
        return answer(rest_pb2.Accepted(id=found.id, operation=found.operation, revision=found.revision))
