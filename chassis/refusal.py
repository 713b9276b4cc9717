"""Why the bus cannot be reached, in words that say what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit


def explain(error: BaseException, address: Callable[[], str]) -> str:
    """`error` is what an attempt to connect raised. `address` gives the URL, whose password is not repeated, or fails itself."""
    try:
        parts = urlsplit(address())
    except (OSError, ValueError) as unknown:
        return f"The address of nats-server is not known ({unknown}): start nats-server, or set NUBIBUS_NATS"
    where = f"nats-server at {parts.hostname}:{parts.port or 4222}"
    for one in _chain(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return (
                f"The certificate of {where} is not accepted ({one.verify_message}): renew it, or give both sides the same "
                "authority (Secrets nubibus-tls-…, made by tools.cluster_secrets)"
            )
        if isinstance(one, socket.gaierror):
            return f"The name {parts.hostname} does not resolve: check NUBIBUS_NATS and the Service of that name"
        if "authorization" in str(one).lower():
            return (
                f"{where} refuses the password of user {parts.username or ''!r}: NUBIBUS_NATS_PASSWORD must be the one that "
                "nats-server was started with (on Kubernetes both read the Secret nubibus-nats when they start)"
            )
    return f"{where} does not answer ({error or type(error).__name__}): check that it runs and can be reached"


class Refusals:
    """Why the bus cannot be reached, one failed attempt after the other: `tell` is given the words, "" when it is reached."""

    def __init__(self, address: Callable[[], str], tell: Callable[[str], None]) -> None:
        self._address = address
        self._tell = tell
        self._said = ""

    def failed(self, error: BaseException) -> None:
        """nats-server refuses and closes the connection, and the reset can overtake its words: it says nothing new."""
        if not (self._said and any(isinstance(one, ConnectionResetError) for one in _chain(error))):
            self._said = explain(error, self._address)
        self._tell(self._said)

    async def over(self) -> None:
        self._said = ""
        self._tell("")


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
