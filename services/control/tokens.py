"""Certificate tokens: a token operation with a secret, which lets one untrusted client add its own certificate, once."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from chassis import errors, units
from chassis.documents import timestamp
from chassis.operations import Accepted, Operations

DESCRIPTION = "Executing operation"  # what LXD calls it


class Token(msgspec.Struct):
    """What a client pastes, base64 of this as JSON."""

    secret: str
    fingerprint: str
    addresses: list[str]
    client_name: str = ""
    expires_at: str = ""


def decode(text: str) -> Token | None:
    """None for what is no token (a password, say)."""
    try:
        token = msgspec.json.decode(base64.b64decode(text, validate=True), type=Token)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return None
    return token if token.secret and token.fingerprint and token.addresses else None


async def issue(
    operations: Operations, request: dict[str, Any], *, fingerprint: str, addresses: Sequence[str], expiry: str
) -> Accepted:
    """A new token. `request` is what the certificate will be; `expiry` an expression like "1d", empty for never."""
    metadata: dict[str, Any] = {
        "addresses": list(addresses),
        "fingerprint": fingerprint,
        "request": request,
        "secret": secrets.token_hex(32),
    }
    if expiry:
        metadata["expiresAt"] = timestamp(units.parse_expiry(datetime.now(UTC), expiry))
    return await operations.open_token(description=DESCRIPTION, metadata=metadata)


def find(operations: Operations, token: Token) -> tuple[str, dict[str, Any]]:
    """The operation that a token belongs to, and what it allows to add. Raises Forbidden if there is none."""
    for row in operations.rows.select():
        operation = row.value
        metadata = operation.metadata or {}
        if operation.kind != "token" or operation.final or "request" not in metadata:
            continue
        if hmac.compare_digest(str(metadata.get("secret", "")), token.secret):
            expires = metadata.get("expiresAt", "")
            if expires and datetime.fromisoformat(expires) < datetime.now(UTC):
                raise errors.Forbidden("Token has expired")
            return operation.id, metadata["request"]
    raise errors.Forbidden("No matching certificate add operation found")


def needs_address(configured: str) -> None:
    if not configured:
        raise errors.BadRequest("Can't issue token when server isn't listening on network")
