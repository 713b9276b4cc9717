"""What an instance is told and given: environment, cloud-init, free keys, raw configuration, migration and GPU runtimes."""

from __future__ import annotations

from typing import Any

from chassis.key_types import Bool, NotYet, Str, Uint32
from chassis.keys import Key
from services.instances.keys.texts import OneLine, RawLxc

ENVIRONMENT = Key("environment.*", OneLine, doc="Environment variable of its init and of commands run in it")
USER = Key("user.*", Str, doc="Free, for templates and for clients")
IMAGE = Key("image.*", Str, since="container_image_properties", doc="Property of the image that it was made from")

CLOUD_INIT = tuple(
    Key(f"cloud-init.{name}", Str, since="cloud_init", live=False, doc=f"cloud-init's {name}")
    for name in ("network-config", "user-data", "vendor-data")
)

RAW_LXC = Key("raw.lxc", RawLxc, live=False, doc="Lines appended to its liblxc configuration")
RAW_IDMAP = Key("raw.idmap", Str, since="id_map", live=False, doc='Ids passed through, "both 1000 1000" one a line')
RAW_APPARMOR = Key("raw.apparmor", NotYet(Str), doc="Lines appended to its AppArmor profile")
RAW_SECCOMP = Key("raw.seccomp", Str, live=False, doc="The whole seccomp policy")

MIGRATION: tuple[Key[Any], ...] = (
    Key(
        "migration.incremental.memory",
        NotYet(Bool, "false"),
        since="migration_pre_copy",
        doc="Move memory while it runs",
    ),
    Key(
        "migration.incremental.memory.goal",
        NotYet(Uint32),
        default="70",
        doc="Percentage of memory in sync before it is stopped",
    ),
    Key("migration.incremental.memory.iterations", NotYet(Uint32), default="10", doc="Most rounds"),
)
NVIDIA: tuple[Key[Any], ...] = (
    Key(
        "nvidia.runtime",
        NotYet(Bool, "false"),
        since="nvidia_runtime",
        live=False,
        doc="Pass the NVIDIA runtime through",
    ),
    *(
        Key(f"nvidia.{name}", NotYet(Str), since="nvidia_runtime_config", live=False, doc=doc)
        for name, doc in (
            ("driver.capabilities", "Parts of the driver"),
            ("require.cuda", "Required version of CUDA"),
            ("require.driver", "Required version of the driver"),
        )
    ),
)

KEYS: tuple[Key[Any], ...] = (
    ENVIRONMENT,
    USER,
    IMAGE,
    *CLOUD_INIT,
    RAW_LXC,
    RAW_IDMAP,
    RAW_APPARMOR,
    RAW_SECCOMP,
    *MIGRATION,
    *NVIDIA,
)
