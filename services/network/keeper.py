"""What must hold on this host for every managed network, established at the start, on a change and by a timer.

The log says which networks there are; the kernel is looked up each time. A network's row is also the journal of its change: "Creating"
means that the host may hold a part of it and it is taken away again, "Deleting" that it is on its way out, "Created" that it must be
there. A directory of a network without a row is what a crash in a rename, or a lost log, left behind.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from chassis import errors
from chassis.converge import Converge
from chassis.key_types import is_true
from chassis.keys import Config
from chassis.store import Change, Store, Versioned
from chassis.troubles import Tell, untold
from rows.instance import Instance
from rows.network import NETWORK, Network, NetworkAcl, NetworkForward
from rows.profile import Profile
from services.network import acl_firewall, daemons, dhcp, firewall, forward_rules, leases, nftables
from services.network.drivers import DRIVERS, driver, find
from services.network.drivers.bridge import dnsmasq, keys
from services.network.host import Host
from services.network.netlink import NetlinkError
from services.network.nftables import NftablesError
from services.network.usage import DEFAULT, Nic, Usage

CREATED, CREATING, DELETING = "Created", "Creating", "Deleting"
HOST_FAULTS = (NetlinkError, NftablesError, daemons.DaemonError, LookupError, OSError, ValueError)
EVERY = 60.0  # seconds between two looks at the host without a signal
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Beside:
    """What is about to stand beside a network in the log: ACLs by name, its forwards (None: as the rows say)."""

    acls: Mapping[str, NetworkAcl] = field(default_factory=dict)
    forwards: tuple[NetworkForward, ...] | None = None


class Keeper:
    """The networks of this member on its host."""

    def __init__(self, store: Store, usage: Usage, host: Host) -> None:
        self.store = store
        self.usage = usage
        self.host = host
        self.networks = Converge("networks", self.establish, every=EVERY)
        self.hosts = Converge("DHCP hosts", self.flush_hosts, every=EVERY * 10, settle=0.02)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._pending: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
        self._gone: dict[str, set[str]] = defaultdict(set)
        self._down = False
        self.tell: Tell = untold

    def watch(self) -> None:
        """From now on follow the rows whose nics DHCP must know; called when the store has caught up."""
        self.usage.instances.watch(self._instance_changed)
        self.usage.profiles.watch(self._profile_changed)

    @asynccontextmanager
    async def changing(self, *names: str) -> AsyncIterator[None]:
        """Nobody else changes these networks meanwhile."""
        if not names:
            yield
            return
        first, *rest = sorted(set(names))
        async with self._locks[first], self.changing(*rest):
            yield

    # One network.

    async def view(
        self, network: Network, before: Network | None = None, beside: Beside | None = None
    ) -> driver.Network:
        """The network as its driver needs it; `beside` replaces what the rows say of its ACLs and forwards.

        Raises ValueError for ACLs that a bridge cannot have.
        """
        beside = beside or Beside()
        reserved = await self.host.run(reservations, network.name)
        nics = [nic for nic in self.usage.nics(network.project, network.name) if nic.network == network.name]
        hosts = tuple(with_reservation(nic, reserved) for nic in nics if nic.hwaddr)
        return driver.Network(
            name=network.name,
            texts=network.config,
            hwaddr=network.hwaddr,
            dhcp=hosts,
            before=before.config if before else {},
            forwards=tuple(forward_rules.for_firewall(self._forwards(network, beside))),
            acl=self._acl(network, beside),
            nics=tuple(nic.host_name for nic in nics if nic.host_name),
        )

    def _forwards(self, network: Network, beside: Beside) -> list[NetworkForward]:
        if beside.forwards is not None:
            return list(beside.forwards)
        return [row.value for row in self.usage.forwards.select(network.project, network.name)]

    def _acl(self, network: Network, beside: Beside) -> tuple[dict[str, Any], ...]:
        found = []
        for name in self.usage.acls_of(network):
            row = self.usage.acls.get(network.project, name)
            if name in beside.acls:
                found.append(beside.acls[name])
            elif row is not None:
                found.append(row.value)
        config = Config(network.config)
        defaults = {
            "ingress": acl_firewall.Default(config[keys.ACL_INGRESS], config[keys.ACL_INGRESS_LOGGED]),
            "egress": acl_firewall.Default(config[keys.ACL_EGRESS], config[keys.ACL_EGRESS_LOGGED]),
        }
        table = firewall.table_name(self.host.server, network.name)
        return acl_firewall.render(table, network.name, found, defaults)

    async def establish_one(
        self, network: Network, before: Network | None = None, beside: Beside | None = None
    ) -> None:
        """Make the host what the row says. Raises Internal with the reason of the host."""
        found = find(network.type)
        if found is None:
            raise errors.Internal("Unknown driver")
        try:
            view = await self.view(network, before, beside)
            await self.host.run(_converge, found, view)
        except HOST_FAULTS as fault:
            raise errors.Internal(reason(fault)) from None

    async def remove(self, network: Network) -> None:
        found = find(network.type)
        if found is None:
            return
        try:
            await self.host.run(_remove, found, network.name)
        except HOST_FAULTS as fault:
            raise errors.Internal(reason(fault)) from None

    # All networks.

    async def establish(self) -> None:
        """Sweep what belongs to no network (it may hold an address that one needs), then finish or converge each."""
        if self._down:
            return
        await self._sweep()
        faults = []
        for row in list(self.usage.networks.select()):
            problem = ""
            try:
                async with self.changing(row.value.name):
                    await self.settle(row)
            except errors.Fault as fault:
                problem = fault.text
                faults.append(f"{row.value.name}: {problem}")
            await self.tell(f"/1.0/networks/{row.value.name}", row.value.project, problem)
        if faults:
            raise errors.Internal("; ".join(faults))

    async def settle(self, seen: Versioned[Network]) -> None:
        """Converge a network, or take away what a crash left of one that was being made or deleted. The caller holds its name."""
        row = self.usage.networks.get(*seen.key)  # it may have changed while we waited for the lock
        if row is None:
            return
        if row.value.status == CREATED:
            await self.establish_one(row.value)
            return
        await self.remove(row.value)
        await self.store.commit(Change().delete(NETWORK, row.key, expect=row.revision), settles=False)

    async def _sweep(self) -> None:
        names = await self.host.run(_directories)
        for name in names:
            async with self.changing(name):
                if any(row.value.name == name for row in self.usage.networks.select()):
                    continue
                log.warning("removing what is left of a network without a row", network=name)
                for found in DRIVERS:
                    await self.host.run(_remove, found, name)
        known = {row.value.name for row in self.usage.networks.select()} | set(self._locks)
        await self.host.run(_sweep_tables, known)

    async def take_down(self) -> None:
        """Everything off the host; the rows stay and bring it back at the next start of the service."""
        self._down = True
        for row in list(self.usage.networks.select()):
            async with self.changing(row.value.name):
                await self.remove(row.value)

    # DHCP's view of the nics.

    def _instance_changed(
        self, key: tuple[str, ...], old: Versioned[Instance] | None, new: Versioned[Instance] | None
    ) -> None:
        """Only what DHCP must know counts; the cost is the instance's own, however many there are."""
        before, after = self._entries(old), self._entries(new)
        if before == after:
            return
        for (network, file), host in before.items():
            if (network, file) not in after:
                self._pending[network][file] = (key[0], key[1])
                self._gone[network].add(host.hwaddr)
        for (network, file), host in after.items():
            if before.get((network, file)) != host:
                self._pending[network][file] = (key[0], key[1])
        self.hosts.wake()

    def _entries(self, row: Versioned[Instance] | None) -> dict[tuple[str, str], dhcp.Host]:
        nics = self.usage.nics_of(row.value) if row else ()
        return {(nic.network, host.file): host for nic in nics if nic.network and (host := nic.dhcp())}

    def _profile_changed(
        self, _: tuple[str, ...], old: Versioned[Profile] | None, new: Versioned[Profile] | None
    ) -> None:
        before, after = (row.value.devices if row else {} for row in (old, new))
        if old is not None and before != after:
            self.networks.wake()

    async def flush_hosts(self) -> None:
        """Bring the hosts files in line for the nics that changed, and give back what those that went have leased."""
        pending, self._pending = self._pending, defaultdict(dict)
        for network, files in pending.items():
            gone = self._gone.pop(network, set())
            row = self.usage.networks.get(DEFAULT, network)
            if row is None or row.value.status != CREATED:
                continue
            nics = {nic.dhcp().file: nic for nic in self._nics_of(set(files.values()), network) if nic.hwaddr}
            async with self.changing(network):
                reserved = await self.host.run(reservations, network)
                hosts = [with_reservation(nics[file], reserved) for file in files if file in nics]
                await self.host.run(_write_hosts, row.value, files, hosts)
                for hwaddr in gone - {nic.hwaddr for nic in nics.values()}:
                    await self.host.run(leases.give_back, row.value, hwaddr)

    def _nics_of(self, instances: set[tuple[str, str]], network: str) -> list[Nic]:
        rows = [row for key in sorted(instances) if (row := self.usage.instances.get(*key)) is not None]
        return [nic for row in rows for nic in self.usage.nics_of(row.value) if nic.network == network]

    async def write_host(
        self, network: Network, nic: Nic, *, addresses: tuple[str, str] = ("", ""), hwaddr: str = "", gone: bool = False
    ) -> None:
        """One nic's file, now: with these addresses, drawn for it if it has none of its own."""
        host = nic.dhcp()
        host = replace(
            host, hwaddr=hwaddr or host.hwaddr, ipv4=addresses[0] or host.ipv4, ipv6=addresses[1] or host.ipv6
        )
        await self.host.run(_write_hosts, network, [host.file], [] if gone else [host])


def reason(fault: BaseException) -> str:
    """The host's refusal as one sentence."""
    if isinstance(fault, NetlinkError):
        return f"The kernel refused a change of a network interface: {fault.args[-1] if fault.args else fault}"
    return str(fault.args[-1]) if isinstance(fault, OSError) and fault.args else str(fault)


def reservations(host: Host, network: str) -> dict[str, tuple[str, str]]:
    """Addresses in the present hosts files: file -> (IPv4, IPv6)."""
    folder = host.files(network).hosts
    found = {}
    for path in folder.iterdir() if folder.exists() else ():
        fields = path.read_text().strip().split(",")
        ipv4 = next((field for field in fields[1:] if field.count(".") == 3 and field[0].isdigit()), "")
        ipv6 = next((field.strip("[]") for field in fields[1:] if field.startswith("[")), "")
        found[path.name] = (ipv4, ipv6)
    return found


def with_reservation(nic: Nic, reserved: dict[str, tuple[str, str]]) -> dhcp.Host:
    """The nic for DHCP; one whose addresses are filtered keeps the address that was reserved for it."""
    found = nic.dhcp()
    ipv4, ipv6 = reserved.get(found.file, ("", ""))
    keep4 = not nic.config.get("ipv4.address") and is_true(nic.config.get("security.ipv4_filtering", ""))
    keep6 = not nic.config.get("ipv6.address") and is_true(nic.config.get("security.ipv6_filtering", ""))
    return replace(found, ipv4=ipv4 if keep4 else found.ipv4, ipv6=ipv6 if keep6 else found.ipv6)


def _converge(host: Host, found: driver.Driver, network: driver.Network) -> None:
    found.converge(host, network)


def _remove(host: Host, found: driver.Driver, name: str) -> None:
    found.remove(host, name)


def _directories(host: Host) -> list[str]:
    return [path.name for path in host.networks.iterdir() if path.is_dir()] if host.networks.exists() else []


def _sweep_tables(host: Host, known: Iterable[str]) -> None:
    """Tables of networks and nics that are gone. A nic's table bears the name of its host interface."""
    prefix = firewall.prefix_of(host.server)
    names = {*known, *host.links.names()}
    for family, table in nftables.tables(prefix):
        if table.removeprefix(prefix) not in names:
            nftables.run(nftables.removing(family, table))


def _write_hosts(host: Host, network: Network, files: Iterable[str], hosts: Iterable[dhcp.Host]) -> None:
    config = Config(network.config)
    if not dnsmasq.is_wanted(config):
        return
    wanted = dhcp.hosts(hosts, config[keys.DNS_MODE])
    place = host.files(network.name)
    changed = [daemons.write_hosts(place, {f: wanted[f]} if f in wanted else {}, only=f) for f in files]
    if any(changed):
        daemons.reload(place)
