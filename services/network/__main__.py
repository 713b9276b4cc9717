"""The network service: `python -m services.network --dir D`. Wiring only."""

from __future__ import annotations

import asyncio
import signal

from chassis import service
from chassis.service import Part
from services.network.acl import Acls
from services.network.forward import Forwards
from services.network.host import Host
from services.network.keeper import Keeper
from services.network.network import Networks
from services.network.nic import Nics
from services.network.references import Power, References
from services.network.usage import Usage


async def wire(part: Part) -> None:
    usage = Usage(part.store)
    host = Host(part.directory)
    keeper = Keeper(part.store, usage, host)

    async def begin() -> None:
        keeper.watch()

    part.before_ready(begin)
    shared = (part.store, usage, keeper, part.member)
    part.serve(Networks(*shared), Acls(*shared), Forwards(*shared))
    part.serve(Nics(usage, keeper), References(usage), Power(keeper))
    part.keep(keeper.networks.run, "networks")
    part.keep(keeper.hosts.run, "DHCP hosts")
    part.at_end(host.close)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, keeper.networks.wake)


if __name__ == "__main__":
    service.main("network", wire)
