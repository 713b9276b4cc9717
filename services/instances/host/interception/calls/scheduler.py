"""sched_setscheduler: real-time policies for processes of the container."""

from __future__ import annotations

import errno
import os

from services.instances.host import capabilities
from services.instances.host.interception import mounts
from services.instances.host.interception.caller import Caller
from services.instances.host.interception.message import DONE, Outcome

CLONE_NEWPID = 0x20000000
OTHER = 100  # what the grandchild ends with if it could not say what went wrong


def set_scheduler(caller: Caller) -> Outcome:
    """The pid is one of the caller's namespace, so who sets it is a process born there. Raises Denied, OSError."""
    caller.need(capabilities.SYS_NICE)
    process, policy = caller.signed(0), caller.signed(1)
    if process < 0 or policy < 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    priority = int.from_bytes(caller.read(caller.argument(2), 4), "little", signed=True)
    space = caller.open("ns/pid", os.O_RDONLY)
    itself = int(caller.status["NSpid"][-1])
    caller.still_waits()
    mounts.setns(space, CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        os._exit(_set(process or itself, policy, priority))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code if 0 < code < OTHER else errno.EPERM, "sched_setscheduler")
    return DONE


def _set(process: int, policy: int, priority: int) -> int:
    """0 or an error."""
    try:
        os.sched_setscheduler(process, policy, os.sched_param(priority))
    except OSError as error:
        return error.errno or errno.EPERM
    except BaseException:
        return OTHER
    return 0
