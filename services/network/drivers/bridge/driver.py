"""The bridge network: a Linux bridge of the host with addresses, NAT, DHCP and DNS."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Mapping
from typing import ClassVar

from chassis.keys import Config, Schema
from services.network import daemons, subnets
from services.network.drivers.bridge import apply, dnsmasq, keys, plan
from services.network.drivers.driver import Network
from services.network.host import Host
from services.network.links import read_sysctl


class Bridge:
    type: ClassVar[str] = "bridge"
    nictype: ClassVar[str] = "bridged"
    schema: ClassVar[Schema] = keys.SCHEMA
    in_projects: ClassVar[bool] = False
    has_leases: ClassVar[bool] = True
    has_link: ClassVar[bool] = True

    def __init__(self, draw: random.Random | None = None) -> None:
        self.draw = draw or random.SystemRandom()

    def fill(self, host: Host, texts: Mapping[str, str], taken: Iterable[str], *, creating: bool) -> dict[str, str]:
        filled = {name: text for name, text in texts.items() if text}
        known = [*taken, *host.links.destinations()]
        for version, choose in ((4, subnets.free4), (6, subnets.free6)):
            address, nat = f"ipv{version}.address", f"ipv{version}.nat"
            if creating and address not in filled:
                filled[address] = "auto" if version == 4 or _has_ipv6() else "none"
            if filled.get(address) == "auto":
                filled[address] = choose(known, self.draw)
                if creating:
                    filled.setdefault(nat, "true")
        return filled

    def check(self, host: Host, network: Network, *, creating: bool) -> None:
        config = Config(network.texts)
        link = host.links.get(network.name)
        if (creating and link is not None) or (link is not None and link.kind != "bridge"):
            raise ValueError(f'Network interface "{network.name}" already exists')
        for tunnel in keys.tunnels(config):
            if len(f"{network.name}-{tunnel}") > 15:
                raise ValueError(f"Network name too long for tunnel interface: {network.name}-{tunnel}")
        if config[keys.DRIVER] == "openvswitch":
            installed = shutil.which("ovs-vsctl")
            raise ValueError(f"Open vSwitch isn't {'supported yet' if installed else 'installed on this system'}")
        if config[keys.MODE] == "fan":
            raise ValueError('The bridge mode "fan" needs a kernel with FAN support')
        _check_ports(host, config, network.name)
        files = host.files(network.name)
        arguments = dnsmasq.arguments(network.name, config, files, daemons.user_for(host.networks))
        if arguments:
            existed = files.directory.exists()
            files.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            try:
                daemons.check(arguments, config[keys.RAW_DNSMASQ], files)
            finally:
                if not existed:
                    shutil.rmtree(files.directory, ignore_errors=True)

    def converge(self, host: Host, network: Network) -> None:
        want = self.desired(host, network)
        host.files(network.name).directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        have = apply.read(host, network.name, [name for name, _ in want.sysctls])
        loose = [
            name for name in network.nics if (link := host.links.get(name)) and not link.master and host.made(link)
        ]
        gone = plan.removed_ports(Config(network.before), Config(network.texts)) if network.before else []
        back = [plan.AddPort(network.name, name) for name in loose]  # the bridge was gone while instances ran
        apply.apply(host, [*gone, *plan.plan(want, have), *back])

    def desired(self, host: Host, network: Network) -> plan.Desired:
        config = Config(network.texts)
        return plan.desired(
            network.name,
            network.hwaddr,
            config,
            server=host.server,
            files=host.files(network.name),
            hosts=network.dhcp,
            carrier=host.links.carrier() if keys.tunnels(config) else "",
            user=daemons.user_for(host.networks),
            forwards=network.forwards,
            acl=network.acl,
        )

    def rename(self, host: Host, old: str, new: str) -> None:
        """The directory first: a bridge whose name has a directory but no row is removed at the next start."""
        apply.apply(host, [plan.StopDnsmasq(old), plan.SetFirewall(old, ())])
        if host.files(old).directory.exists():
            host.files(old).directory.rename(host.files(new).directory)
        if host.links.get(old) is not None:
            host.links.set(old, state="down")
            host.links.set(old, ifname=new)

    def remove(self, host: Host, name: str) -> None:
        if not host.files(name).directory.exists():
            return  # the directory is made before the link: without it the link is not ours
        have = apply.read(host, name)
        apply.apply(host, plan.removal(name, have))
        apply.forget(host, name)


def _has_ipv6() -> bool:
    return read_sysctl("net/ipv6/conf/all/disable_ipv6") == "0"


def _check_ports(host: Host, config: Config, name: str) -> None:
    for port in config[keys.PORTS]:
        link = host.links.get(port)
        if link is None:
            continue
        bridge = host.links.get(name)
        if bridge is not None and link.master == bridge.index:
            continue
        if any(address.scope == "global" for address in host.links.addresses(link.index)):
            raise ValueError("Only unconfigured network interfaces can be bridged")
