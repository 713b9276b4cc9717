"""The server's configuration: one row, read, replaced and changed; secrets are stored hashed and shown as true."""

from __future__ import annotations

import asyncio
from typing import Any

from chassis import errors
from chassis.events import lifecycle
from chassis.operation import requestor_of
from chassis.store import Change, Store
from rows.control import SERVER_CONFIG, ServerConfig
from services.control import addresses, keys, passwords
from services.control.requests import kind

SCOPE = "cluster"
GO_KINDS = {"number": "float64", "bool": "bool", "object": "map", "array": "slice"}
Texts = dict[str, str]


class Configuration:
    """Wraps the row. Values are what was set; defaults come from the keys."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows = store.mirror(SERVER_CONFIG)

    @property
    def texts(self) -> Texts:
        row = self.rows.get(SCOPE)
        return row.value.config if row else {}

    def shown(self) -> dict[str, Any]:
        """As the API shows it, in the order of the names."""
        return {name: True if keys.is_secret(name) else text for name, text in sorted(self.texts.items())}

    async def replace(self, given: dict[str, Any]) -> int:
        """PUT: what is not given goes. A secret given as true stays as it is. The revision."""
        return await self._write(given, keep=False)

    async def change(self, given: dict[str, Any]) -> int:
        """PATCH: what is not given stays; an empty value removes a key."""
        return await self._write(given, keep=True)

    async def _write(self, given: dict[str, Any], *, keep: bool) -> int:
        row = self.rows.get(SCOPE)
        before = row.value.config if row else {}
        asked = {name: _text(name, value, before) for name, value in sorted(given.items())}
        await _check({name: text if before.get(name) != text else "" for name, text in asked.items()})
        laid = {**(before if keep else {}), **{name: keys.kept(name, text) for name, text in asked.items()}}
        texts = {name: text for name, text in laid.items() if text}
        keys.refuse_mixture(asked)
        keys.refuse_mixture(texts)
        keys.refuse_agent(texts)
        changed = {name for name in {*before, *texts} if before.get(name) != texts.get(name)}
        await addresses.probe(texts, before, changed)
        change = Change()
        if changed:
            stored = {name: await _stored(name, text) if name in changed else text for name, text in texts.items()}
            change.put(SERVER_CONFIG, ServerConfig(scope=SCOPE, config=stored), expect=row.revision if row else 0)
        # LXD tells of a request that changes nothing, too.
        change.event(lifecycle("config-updated", "/1.0", project="default", requestor=requestor_of()))
        return await self.store.commit(change)


async def _check(texts: Texts) -> None:
    """All keys. Raises BadRequest with the first reason and, as LXD, the number of the others."""
    reasons = []
    for name, text in texts.items():
        try:
            keys.check(name, text)
            if text and keys.is_address(name):
                await addresses.look_up(name, text)
            keys.refuse_waiting(name, text)
        except errors.BadRequest as fault:
            reasons.append(fault.text)
    if reasons:
        others = f" (and {len(reasons) - 1} more errors)" if len(reasons) > 1 else ""
        raise errors.BadRequest(reasons[0] + others)


async def _stored(name: str, text: str) -> str:
    """A secret as its hash, made beside the loop: hashing takes tens of milliseconds on purpose."""
    return await asyncio.to_thread(passwords.hashed, text) if keys.is_secret(name) else text


def _text(name: str, value: Any, before: Texts) -> str:
    """The value as a text. A secret that comes back as it was shown (true) means: as it is."""
    if value is True and keys.is_secret(name):
        return before.get(name, "")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise errors.BadRequest(f"cannot set '{name}': invalid type {GO_KINDS[kind(value)]}")
    return value
