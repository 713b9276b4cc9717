"""A life of the service's host layer, for tests to kill: opens a directory, starts what it is told, says so, and waits.

`python -m tests.drivers.instances.life DIRECTORY VOLUME NAME...`
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from services.instances.host import exec as host_exec
from services.instances.host.containers import Containers
from services.instances.host.exec import ExecSpec
from services.instances.host.idmap import both
from services.instances.host.spec import Key, Spec
from services.instances.host.starter import Starter


async def main(directory: Path, volume: Path, names: list[str]) -> None:
    containers = Containers(directory, Starter.spawn(), lambda key, how: None)
    await containers.open()
    idmap = both(1_000_000, 0, 65_536)
    print("open", flush=True)
    for name in names:
        pid = await containers.start(Spec(Key("default", name), "uid", volume, idmap=idmap))
        await host_exec.execute(containers, Key("default", name), ExecSpec(["sleep", "54321"], {"PATH": "/bin"}))
        print(name, pid, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
