"""setxattr and lsetxattr of the one trusted attribute that an overlay in a container needs: `trusted.overlay.opaque`, "y"."""

from __future__ import annotations

import os

from services.instances.host import capabilities
from services.instances.host.interception.caller import AT_FDCWD, Caller, Denied
from services.instances.host.interception.message import DONE, Outcome

NAME, VALUE = b"trusted.overlay.opaque", b"y"
FLAGS = (0, os.XATTR_CREATE, os.XATTR_REPLACE)
LONGEST_NAME = 256


def setxattr(caller: Caller) -> Outcome:
    return _set(caller, os.O_PATH)


def lsetxattr(caller: Caller) -> Outcome:
    return _set(caller, os.O_PATH | os.O_NOFOLLOW)


def _set(caller: Caller, how: int) -> Outcome:
    """Raises Denied, OSError."""
    caller.need(capabilities.SYS_ADMIN)
    flags = caller.signed(4)
    if caller.argument(3) != len(VALUE) or flags not in FLAGS:
        raise Denied
    if caller.text(caller.argument(1), LONGEST_NAME) != NAME or caller.read(caller.argument(2), len(VALUE)) != VALUE:
        raise Denied
    path = caller.text(caller.argument(0))
    found = caller.find(caller.base(AT_FDCWD), path, how)
    if not caller.owns(os.fstat(found)):  # the kernel asks for no more than a right that we have and the caller has not
        raise Denied
    caller.still_waits()
    os.setxattr(f"/proc/self/fd/{found}", NAME, VALUE, flags)
    return DONE
