"""pyroute2 without its package's `__init__`, which imports everything it has (0.3 s and 8 MiB more than rtnetlink needs)."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    IPRoute = Any

    class NetlinkError(Exception):
        """The kernel's answer; `code` is an errno."""

        code: int
else:
    if "pyroute2" not in sys.modules:
        sys.modules["pyroute2"] = importlib.util.module_from_spec(importlib.util.find_spec("pyroute2"))
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

__all__ = ["IPRoute", "NetlinkError"]
