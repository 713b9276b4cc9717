"""What clients need: a server, a pool and image of the session, and an environment that leads a client to them."""

from __future__ import annotations

from tests.conformance.conftest import api, ground, https_port, reaper, stage, world

__all__ = ["api", "ground", "https_port", "reaper", "stage", "world"]
