"""A pytest plugin that leads pylxd's own tests to a server over HTTPS: PYLXD_ENDPOINT, as the client whose pair PYLXD_CERTIFICATE holds.

What asks for the fixed address https://127.0.0.1:8443 is led there too, as whoever pylxd takes for itself: the pair in its home.
"""

from __future__ import annotations

import os
from typing import Any

from pylxd import client

FIXED = "https://127.0.0.1:8443"
original = client.Client.__init__


def led(self: Any, endpoint: str | None = None, *arguments: Any, **options: Any) -> None:
    if endpoint is None:
        pair = os.environ["PYLXD_CERTIFICATE"]
        options["cert"] = client.Cert(pair, pair)
    elif not endpoint.startswith(FIXED):
        raise ValueError(f"{endpoint} is not led anywhere")
    original(self, os.environ["PYLXD_ENDPOINT"], *arguments, **options)


client.Client.__init__ = led
