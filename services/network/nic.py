"""Nics of instances: the host's half, made before an instance starts and taken away after it ended.

The pair is made with everything that hangs on it in one visit of the host thread, so no nic is ever seen half made by a converging
network. The other end stays in this namespace under a name of its own; whoever starts the instance moves it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from chassis import errors
from chassis.calls import Call
from chassis.key_types import quote
from chassis.keys import Config
from chassis.store import Versioned
from gen.nubibus.network.v1 import nic_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.network import Network
from services.network import leases, subnets
from services.network.drivers.bridge import keys as bridge
from services.network.drivers.macvlan import keys as macvlan
from services.network.host import Host
from services.network.keeper import CREATED, HOST_FAULTS, Keeper, reason
from services.network.links import Route
from services.network.nics import addressing, apply, check, keys, plan
from services.network.usage import DEFAULT, Nic, Usage, hangs_on

EMPTY = rest_pb2.Empty()


@dataclass(frozen=True, slots=True)
class Asked:
    """A nic as the instances service describes it, with the row of its network if that is a managed one."""

    nic: Nic
    nictype: str
    network: Network | None
    host_name: str
    hwaddr: str

    @property
    def bridge(self) -> str:
        return self.network.name if self.network else self.nic.config.get("parent", "")


class Nics:
    """Nics on this member's networks and bridges."""

    service: ClassVar[str] = "nubibus.network.v1.Nics"

    def __init__(self, usage: Usage, keeper: Keeper) -> None:
        self.usage = usage
        self.keeper = keeper
        self.host: Host = keeper.host

    async def Attach(self, request: nic_pb2.NicSpec, call: Call) -> nic_pb2.AttachedNic:
        asked = self._asked(request)
        self._check(asked.nic, asked.network, alone=True)
        addresses = await self._addresses(asked)
        wanted = self._wanted(asked, addresses)
        mtu = await self._attach(asked, wanted)
        if asked.network is not None and asked.nictype == "bridged":
            await self.keeper.write_host(asked.network, asked.nic, addresses=addresses, hwaddr=asked.hwaddr)
        volatile = {"host_name": asked.host_name}
        if not asked.nic.config.get("hwaddr"):
            volatile["hwaddr"] = asked.hwaddr
        guest_name = asked.nic.config.get("name") or asked.nic.volatile.get("name") or asked.nic.device
        return nic_pb2.AttachedNic(
            host_name=asked.host_name,
            peer_name=wanted.peer_name,
            hwaddr=asked.hwaddr,
            mtu=mtu,
            volatile=volatile,
            guest_name=guest_name,
            addresses=wanted.guest.addresses,
            ipv4_gateway=wanted.guest.ipv4_gateway,
            ipv6_gateway=wanted.guest.ipv6_gateway,
        )

    async def _attach(self, asked: Asked, wanted: plan.Wanted) -> int:
        """A managed network that is not there (yet: the host has just booted) is made first."""
        try:
            return await self.host.run(apply.attach, wanted)
        except LookupError as missing:
            if asked.network is None:
                raise errors.Internal(reason(missing)) from None
        except HOST_FAULTS as fault:
            raise errors.Internal(reason(fault)) from None
        async with self.keeper.changing(asked.network.name):
            await self.keeper.establish_one(asked.network)
        try:
            return await self.host.run(apply.attach, wanted)
        except HOST_FAULTS as fault:
            raise errors.Internal(reason(fault)) from None

    async def Detach(self, request: nic_pb2.NicSpec, call: Call) -> rest_pb2.Empty:
        asked = self._asked(request, strict=False)
        if asked.host_name and asked.nictype:
            try:
                await self.host.run(apply.detach, self._wanted(asked, ("", "")))
            except HOST_FAULTS as fault:
                raise errors.Internal(reason(fault)) from None
        return EMPTY

    async def Update(self, request: nic_pb2.NicSpec, call: Call) -> rest_pb2.Empty:
        """Nothing happens to a nic that is not attached, but DHCP learns of its addresses."""
        asked = self._asked(request)
        self._check(asked.nic, asked.network, alone=True)
        addresses = await self._addresses(asked)
        before = self._known(asked.nic)
        gone = plan.routes(Config(before.config)) if before else ()
        try:
            if asked.nic.volatile.get("host_name"):
                await self.host.run(_change, self._wanted(asked, addresses), gone)
        except HOST_FAULTS as fault:
            raise errors.Internal(reason(fault)) from None
        if asked.network is not None and asked.nictype == "bridged":
            await self.keeper.write_host(asked.network, asked.nic, addresses=addresses, hwaddr=asked.hwaddr)
        return EMPTY

    async def Validate(self, request: nic_pb2.NicRequest, call: Call) -> rest_pb2.Empty:
        device = dict(request.config)
        network = self._network(request.project, device)
        nic = Nic(request.project or DEFAULT, request.instance, request.device, device, {})
        self._check(nic, network)
        return EMPTY

    async def Forget(self, request: nic_pb2.NicSpec, call: Call) -> rest_pb2.Empty:
        asked = self._asked(request, strict=False)
        if asked.network is not None and asked.nictype == "bridged":
            await self.keeper.write_host(asked.network, asked.nic, gone=True)
            await self.host.run(leases.give_back, asked.network, asked.hwaddr)
        return EMPTY

    # Helpers of the above.

    def _asked(self, spec: nic_pb2.NicSpec, *, strict: bool = True) -> Asked:
        """`strict`: a missing network or a wrong type is an error; without it the nic is only taken away."""
        device, volatile = dict(spec.config), dict(spec.volatile)
        nic = Nic(spec.project or DEFAULT, spec.instance, spec.device, device, volatile)
        try:
            network = self._network(nic.project, device)
            nictype = check.nictype_of(device, network)
        except (errors.Fault, ValueError) as fault:
            if strict:
                raise fault if isinstance(fault, errors.Fault) else errors.BadRequest(str(fault)) from None
            network, nictype = None, "bridged" if volatile.get("host_name") else ""
        drawn = f"{'mac' if nictype == 'macvlan' else 'veth'}{secrets.token_hex(4)}" if strict else ""
        host_name = device.get("host_name") or volatile.get("host_name") or drawn
        hwaddr = nic.hwaddr or (subnets.hwaddr(subnets.SYSTEM) if strict else "")
        return Asked(nic, nictype, network, host_name, hwaddr)

    def _network(self, project: str, device: Mapping[str, str]) -> Network | None:
        """The managed network that a device hangs on. Raises BadRequest if it names one that does not exist."""
        holder = self.usage.project_of(project or DEFAULT)
        name = device.get("network")
        if name:
            row = self.usage.networks.get(holder, name)
            if row is None or row.value.status != CREATED:
                raise errors.BadRequest(
                    f"Failed to load network {quote(name)} for project {quote(project or DEFAULT)}: Network not found"
                )
            return row.value
        parent = device.get("parent", "") if device.get("nictype") == "bridged" else ""
        found: Versioned[Network] | None = self.usage.networks.get(DEFAULT, parent) if parent else None
        return found.value if found and found.value.type == "bridge" else None

    def _check(self, nic: Nic, network: Network | None, *, alone: bool = False) -> None:
        """`alone`: only against its instance; nics of others were looked at when it was configured, not at each start."""
        others = self._beside(nic)
        if network is not None:
            everywhere = others if alone else self.usage.nics(network.project, network.name)
            others = [found for found in everywhere if hangs_on(found.config, network.name)]
        asked = check.Asked(nic.config, network, nic.instance, nic.project, nic.device)
        try:
            check.check(asked, others)
        except ValueError as fault:
            raise errors.BadRequest(str(fault)) from None

    def _beside(self, nic: Nic) -> list[Nic]:
        """The other nics of its instance."""
        row = self.usage.instances.get(nic.project, nic.instance)
        nics = self.usage.nics_of(row.value) if row else ()
        return [found for found in nics if found.device != nic.device]

    def _known(self, nic: Nic) -> Nic | None:
        """The nic as its instance's row has it now."""
        row = self.usage.instances.get(nic.project, nic.instance)
        nics = self.usage.nics_of(row.value) if row else ()
        return next((found for found in nics if found.device == nic.device), None)

    async def _addresses(self, asked: Asked) -> tuple[str, str]:
        """The addresses that are the nic's: fixed ones, or ones reserved for it where it may use no other."""
        fixed = asked.nic.dhcp()
        texts = Config(asked.nic.config)
        filtered = texts[keys.IPV4_FILTERING] or texts[keys.IPV6_FILTERING]
        if asked.network is None or asked.nictype != "bridged" or not filtered:
            return fixed.ipv4, fixed.ipv6
        taken = {
            nic.config.get("ipv4.address", "") for nic in self.usage.nics(asked.network.project, asked.network.name)
        }
        try:
            return await self.host.run(addressing.reserve, asked.network, asked.nic, asked.hwaddr, frozenset(taken))
        except ValueError as fault:
            raise errors.Internal(str(fault)) from None

    def _wanted(self, asked: Asked, addresses: tuple[str, str]) -> plan.Wanted:
        owner = f"{asked.nic.project}/{asked.nic.instance}/{asked.nic.device}"
        return replace(self._planned(asked, addresses), owner=owner)

    def _planned(self, asked: Asked, addresses: tuple[str, str]) -> plan.Wanted:
        device = asked.nic.config
        if asked.nictype == "p2p":
            return plan.p2p(device, host_name=asked.host_name, hwaddr=asked.hwaddr)
        if asked.nictype == "routed":
            return plan.routed(device, host_name=asked.host_name, hwaddr=asked.hwaddr)
        mtu = Config(device)[keys.MTU]
        if asked.nictype == "macvlan":
            texts = Config(asked.network.config if asked.network else {})
            parent = texts[macvlan.PARENT] if asked.network else device.get("parent", "")
            mtu = texts[macvlan.MTU] if asked.network else mtu
            return plan.macvlan(device, parent=parent, host_name=asked.host_name, hwaddr=asked.hwaddr, mtu=mtu)
        if asked.network is not None and not mtu:
            mtu = bridge.mtu(Config(asked.network.config))
        return plan.bridged(
            device,
            bridge=asked.bridge,
            host_name=asked.host_name,
            hwaddr=asked.hwaddr,
            mtu=mtu,
            addresses=addresses,
        )


def _change(host: Host, wanted: plan.Wanted, gone: tuple[Route, ...]) -> None:
    if host.links.get(wanted.host_name) is not None:
        apply.change(host, wanted, gone=gone)
