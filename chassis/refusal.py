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


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
