"""What the gateway adds to GET /1.0: who the client is, and what the API offers. The rest is control's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from services.gateway import encode
from services.gateway.encode import Response
from services.gateway.requests import Request

GUEST_FIELDS = ("api_extensions", "api_status", "api_version", "auth", "public", "auth_methods")
FIELDS = ("config", *GUEST_FIELDS, "auth_user_name", "auth_user_method", "environment")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class ServerDocument:
    """Finishes the answer to GET /1.0.

    The finished bytes are kept for as long as control answers the same.
    """

    def __init__(self, extensions: tuple[str, ...], methods: Callable[[], tuple[str, ...]] = lambda: ("tls",)) -> None:
        self.extensions = extensions
        self.methods = methods
        self.kept: dict[tuple[bytes, bool, tuple[str, ...]], bytes] = {}

    def __call__(self, request: Request, response: Response) -> Response:
        if not isinstance(response.body, bytes):
            return response
        trusted = request.caller.trusted
        key = (response.body, trusted, self.methods())
        finished = self.kept.get(key)
        if finished is None:
            if len(self.kept) > 16:
                self.kept.clear()
            finished = self.kept[key] = self._finish(response.body, trusted)
        response.body = finished
        if not trusted:
            response.headers = [pair for pair in response.headers if pair[0] != b"etag"]
        return response

    def _finish(self, body: bytes, trusted: bool) -> bytes:
        found = _decode(body)["metadata"] or {}
        found.setdefault("api_status", "stable")
        found.setdefault("api_version", "1.0")
        found.setdefault("public", False)
        found["auth_methods"] = self.methods()
        found["api_extensions"] = self.extensions
        found["auth"] = "trusted" if trusted else "untrusted"
        names = FIELDS if trusted else GUEST_FIELDS
        shown = {name: found[name] for name in names if name in found}
        return encode.SYNC + _encode(shown) + encode.END
