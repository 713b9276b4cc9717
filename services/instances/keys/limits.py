"""What an instance may use of its host."""

from __future__ import annotations

from typing import Any

from chassis.key_types import Bool, Enum, Int, NotYet, Size, Str
from chassis.keys import Key
from services.instances.keys.texts import Allowance, CpuLimit, Memory, OneLine, Priority, ResourceLimit

CPU = Key("limits.cpu", CpuLimit, doc='Number of CPUs, or the set to run on ("0-1,3")')
CPU_ALLOWANCE = Key(
    "limits.cpu.allowance", Allowance, default="100%", doc='A soft share ("50%") or a hard quota ("25ms/100ms")'
)
CPU_PRIORITY = Key(
    "limits.cpu.priority", Priority, default="10", doc="Weight among instances with the same share, 0 to 10"
)
MEMORY = Key("limits.memory", Memory, doc="Size, or percentage of the host's memory")
MEMORY_ENFORCE = Key(
    "limits.memory.enforce",
    Enum("soft", "hard"),
    default="hard",
    doc="Whether the limit may be exceeded while there is room",
)
MEMORY_SWAP = Key("limits.memory.swap", Bool, default="true", doc="Whether memory may be swapped out")
MEMORY_SWAP_PRIORITY = Key(
    "limits.memory.swap.priority", Priority, default="10", doc="The higher, the less likely it is swapped out, 0 to 10"
)
PROCESSES = Key("limits.processes", Int(), doc="Most processes")
DISK_PRIORITY = Key("limits.disk.priority", NotYet(Priority), default="5", doc="Share of disk I/O under load, 0 to 10")
NETWORK_PRIORITY = Key(
    "limits.network.priority", NotYet(Priority), default="0", doc="Priority of its packets under load, 0 to 10"
)
HUGEPAGES = tuple(
    Key(f"limits.hugepages.{size}", Size, since="limits_hugepages", doc=f"Most memory in huge pages of {size}")
    for size in ("64KB", "1MB", "2MB", "1GB")
)
RESOURCES = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
    "sigpending", "stack",
)  # fmt: skip
KERNEL = tuple(
    Key(
        f"limits.kernel.{name}",
        ResourceLimit,
        since="kernel_limits",
        live=False,
        doc=f'Resource limit {name} (setrlimit), "soft:hard" or one for both',
    )
    for name in RESOURCES
)
SYSCTL = Key("linux.sysctl.*", OneLine, since="linux_sysctl", live=False, doc="Kernel parameter of its namespaces")
MODULES = Key("linux.kernel_modules", NotYet(Str), doc="Kernel modules to load before it starts")

KEYS: tuple[Key[Any], ...] = (
    CPU, CPU_ALLOWANCE, CPU_PRIORITY, MEMORY, MEMORY_ENFORCE, MEMORY_SWAP, MEMORY_SWAP_PRIORITY, PROCESSES,
    DISK_PRIORITY, NETWORK_PRIORITY, *HUGEPAGES, *KERNEL, SYSCTL, MODULES,
)  # fmt: skip
