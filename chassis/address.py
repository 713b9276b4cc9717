"""Where NATS is, and how one gets in: a URL, or what a data directory and the environment say."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import msgspec


def address(where: str | os.PathLike[str]) -> Callable[[], str]:
    """Where NATS is, asked anew at each attempt.

    A URL is taken as it is. For a data directory NUBIBUS_NATS (with NUBIBUS_NATS_USER and NUBIBUS_NATS_PASSWORD if the URL has no
    credentials) comes first, then what `run/nats.json` says at that moment.
    """
    if isinstance(where, str) and "://" in where:
        url = where
        return lambda: url

    def read() -> str:
        given = os.environ.get("NUBIBUS_NATS")
        if given:
            return with_credentials(given)
        return str(msgspec.json.decode(Path(where, "run", "nats.json").read_bytes())["url"])

    return read


def with_credentials(url: str) -> str:
    """The URL with user and password of the environment, unless it has its own."""
    password = os.environ.get("NUBIBUS_NATS_PASSWORD")
    scheme, _, rest = url.partition("://")
    if not password or "@" in rest:
        return url
    user = os.environ.get("NUBIBUS_NATS_USER", "nubibus")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def tls_context() -> ssl.SSLContext | None:
    """Mutual TLS towards NATS with what lies in NUBIBUS_TLS (ca.crt, tls.crt, tls.key); only a tls:// URL makes use of it."""
    directory = os.environ.get("NUBIBUS_TLS")
    if not directory or not os.environ.get("NUBIBUS_NATS", "").startswith("tls"):
        return None
    context = ssl.create_default_context(cafile=str(Path(directory, "ca.crt")))
    context.load_cert_chain(Path(directory, "tls.crt"), Path(directory, "tls.key"))
    return context
