"""The server's configuration: one row, read, replaced and changed; secrets are stored hashed and shown as true."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from chassis import errors
from chassis.events import lifecycle
from chassis.operation import requestor_of
from chassis.store import Change, Store
from rows.control import SERVER_CONFIG, ServerConfig
from services.control import keys, passwords
from services.control.requests import kind

SCOPE = "cluster"
GO_TYPES = {"number": "float64", "bool": "bool", "object": "map[string]interface {}", "array": "[]interface {}"}


class Configuration:
    """Wraps the row. Values are what was set; defaults come from the keys."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows = store.mirror(SERVER_CONFIG)

    @property
    def texts(self) -> dict[str, str]:
        row = self.rows.get(SCOPE)
        return row.value.config if row else {}

    def shown(self) -> dict[str, Any]:
        """As the API shows it, in the order of the names."""
        return {name: True if _secret(name) else text for name, text in sorted(self.texts.items())}

    async def replace(self, given: dict[str, Any]) -> int:
        """PUT: what is not given goes. A secret given as true stays as it is. The revision."""
        return await self._write(given, keep=False)

    async def change(self, given: dict[str, Any]) -> int:
        """PATCH: what is not given stays; an empty value removes a key."""
        return await self._write(given, keep=True)

    async def _write(self, given: dict[str, Any], *, keep: bool) -> int:
        row = self.rows.get(SCOPE)
        before = row.value.config if row else {}
        texts = {**before} if keep else {}
        for name, value in given.items():
            text = _text(name, value, before)
            keys.check(name, text if before.get(name) != text else "")
            if text:
                texts[name] = text
            else:
                texts.pop(name, None)
        changed = {name for name in {*before, *texts} if before.get(name) != texts.get(name)}
        if not changed:
            return row.revision if row else 0
        await _check_listening(texts.get(keys.HTTPS_ADDRESS.name, ""), keys.HTTPS_ADDRESS.name in changed)
        stored = {
            name: passwords.hashed(text) if _secret(name) and name in changed else text for name, text in texts.items()
        }
        change = Change().put(
            SERVER_CONFIG, ServerConfig(scope=SCOPE, config=stored), expect=row.revision if row else 0
        )
        change.event(lifecycle("config-updated", "/1.0", project="", requestor=requestor_of()))
        return await self.store.commit(change)


def _secret(name: str) -> bool:
    key = keys.SERVER.find(name)
    return key is not None and key.secret


async def _stored(name: str, text: str) -> str:
    """A secret as its hash, made beside the loop: hashing takes tens of milliseconds on purpose."""
    return await asyncio.to_thread(passwords.hashed, text) if _secret(name) else text


def _text(name: str, value: Any, before: dict[str, str]) -> str:
    """The value as a text. A secret that comes back as it was shown (true) means: as it is."""
    if value is True and _secret(name):
        return before.get(name, "")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise errors.BadRequest(f"cannot set '{name}': invalid type {GO_TYPES[kind(value)]}")
    return value


async def _check_listening(address: str, changed: bool) -> None:
    """LXD refuses an address that it cannot listen on; the gateway opens it for real when the row says so."""
    if not address or not changed:
        return
    try:
        host, port = keys.split_address(address)
        found = await asyncio.get_running_loop().getaddrinfo(host or "::", port, type=socket.SOCK_STREAM)
        family, kind_, proto, _, place = found[0]
        with socket.socket(family, kind_, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except (OSError, ValueError, OverflowError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise errors.Internal(f'Cannot listen on network HTTPS socket "{address}": listen tcp: {reason}') from None
