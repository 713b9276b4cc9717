"""CORS headers, as the server's configuration says (core.https_allowed_*)."""

from __future__ import annotations

from collections.abc import Mapping

from services.gateway.encode import Headers, header

KEYS = (
    ("core.https_allowed_origin", b"access-control-allow-origin"),
    ("core.https_allowed_methods", b"access-control-allow-methods"),
    ("core.https_allowed_headers", b"access-control-allow-headers"),
)
CREDENTIALS = "core.https_allowed_credentials"
TRUE = frozenset({"true", "1", "yes", "on"})


def headers(config: Mapping[str, str], origin: str) -> Headers:
    """What a browser at `origin` is told; nothing to whoever names no origin."""
    found = [(name, header(config[key])) for key, name in KEYS if config.get(key)] if origin else []
    if config.get(CREDENTIALS, "").lower() in TRUE:
        found.append((b"access-control-allow-credentials", b"true"))
    return found
