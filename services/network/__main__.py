"""The network service: `python -m services.network --dir D`. Wiring only."""

from __future__ import annotations

import asyncio
import signal

from chassis import errors, service
from chassis.converge import Converge
from chassis.service import Part
from chassis.store import Mirror
from chassis.troubles import Troubles
from rows.control import SERVER_CONFIG, ServerConfig
from services.network.acl import Acls
from services.network.dns_server import DnsServer
from services.network.forward import Forwards
from services.network.host import Host
from services.network.keeper import Keeper
from services.network.network import Networks
from services.network.nic import Nics
from services.network.power import Power
from services.network.usage import Usage
from services.network.zone import NetworkZones, Served
from services.network.zone_record import ZoneRecords

DNS_PORT = 53


async def wire(part: Part) -> None:
    usage = Usage(part.store)
    host = Host(part.directory)
    keeper = Keeper(part.store, usage, host)
    keeper.tell = Troubles("Network unavailable", "moderate", part.member).tell
    configuration = part.store.mirror(SERVER_CONFIG)

    names = DnsServer(Served(usage, host, part.member).zones)
    listening = Converge("DNS server", lambda: _listen(names, configuration), every=60.0)

    async def begin() -> None:
        keeper.watch()
        configuration.watch(lambda *_: listening.wake())

    part.need("nftables", host.lacks_nftables)
    part.before_ready(begin)
    shared = (part.store, usage, keeper, part.member)
    part.serve(Networks(*shared), Acls(*shared), Forwards(*shared))
    part.serve(NetworkZones(part.store, usage, part.member), ZoneRecords(part.store, usage, part.member))
    part.serve(Nics(usage, keeper), Power(keeper))
    part.keep(keeper.networks.run, "networks")
    part.keep(keeper.hosts.run, "DHCP hosts")
    part.keep(listening.run, "DNS server")
    part.at_end(host.close)
    part.at_end(names.close)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, keeper.networks.wake)


async def _listen(names: DnsServer, configuration: Mirror[ServerConfig]) -> None:
    """Where `core.dns_address` says; an address that cannot be had is tried again."""
    row = configuration.get("cluster")
    address = row.value.config.get("core.dns_address", "") if row else ""
    if address and ":" not in address:
        address = f"{address}:{DNS_PORT}"
    if address != names.address:
        try:
            await names.listen(address)
        except OSError as error:
            raise errors.Unavailable(f"core.dns_address {address}: {error}") from None


if __name__ == "__main__":
    service.main("network", wire)
