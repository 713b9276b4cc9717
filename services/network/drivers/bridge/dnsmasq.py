"""How dnsmasq is called for a bridge. Pure.

Everything travels as one argument `--option=value`, so no value can become another option or another line; `raw.dnsmasq`, which exists
to write lines, is a file of its own. The command line is also how a running dnsmasq is recognised as the one that is wanted.
"""

from __future__ import annotations

import ipaddress

from chassis.keys import Config
from services.network.dhcp import PROGRAM, Files
from services.network.drivers.bridge import keys


def is_wanted(config: Config) -> bool:
    return any(keys.address(config, version) for version in (4, 6))


def arguments(name: str, config: Config, files: Files, user: str = "nobody") -> tuple[str, ...]:
    """The command line; () if the network has no address that a service could listen on."""
    if not is_wanted(config):
        return ()
    found = [
        PROGRAM,
        "--strict-order",
        "--bind-interfaces",
        "--except-interface=lo",
        f"--pid-file={files.pid}",
        "--no-ping",
        f"--interface={name}",
        "--dhcp-rapid-commit",
        "--quiet-dhcp",
        "--quiet-dhcp6",
        "--quiet-ra",
        *_ipv4(config, files),
        *_ipv6(name, config, files),
        *_dns(name, config),
        f"--conf-file={files.raw}",
        f"--user={user}",
    ]
    return tuple(found)


def _files(files: Files) -> list[str]:
    return [f"--dhcp-leasefile={files.leases}", f"--dhcp-hostsfile={files.hosts}"]


def _ipv4(config: Config, files: Files) -> list[str]:
    address = keys.address4(config)
    if address is None:
        return []
    found = [f"--listen-address={address.ip}"]
    if not config[keys.IPV4_DHCP]:
        return found
    found += ["--dhcp-no-override", "--dhcp-authoritative", *_files(files)]
    gateway = config[keys.IPV4_GATEWAY]
    if gateway:
        found.append(f"--dhcp-option-force=3,{gateway}")
    if keys.mtu(config) != 1500:
        found.append(f"--dhcp-option-force=26,{keys.mtu(config)}")
    search = config[keys.DNS_SEARCH]
    if search:
        found.append(f"--dhcp-option-force=119,{','.join(search)}")
    ranges = config[keys.IPV4_RANGES] or whole(address.network)
    return found + [f"--dhcp-range={first},{last},{config[keys.IPV4_EXPIRY]}" for first, last in ranges]


def whole(network: ipaddress.IPv4Network) -> tuple[tuple[ipaddress.IPv4Address, ipaddress.IPv4Address], ...]:
    """From the second address to the last but the broadcast address. Nothing for a subnet without room."""
    first, last = int(network.network_address) + 2, int(network.broadcast_address) - 1
    return ((ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)),) if first <= last else ()


def _ipv6(name: str, config: Config, files: Files) -> list[str]:
    address = keys.address6(config)
    if address is None:
        return []
    found = [f"--listen-address={address.ip}", "--enable-ra"]
    if not config[keys.IPV6_DHCP]:
        return [*found, f"--dhcp-range=::,constructor:{name},ra-only"]
    if keys.address4(config) is None or not config[keys.IPV4_DHCP]:
        found += ["--dhcp-no-override", "--dhcp-authoritative", *_files(files)]
    if not config[keys.IPV6_STATEFUL]:
        return [*found, f"--dhcp-range=::,constructor:{name},ra-stateless,ra-names"]
    network = address.network
    ranges = config[keys.IPV6_RANGES] or ((network.network_address + 2, network.broadcast_address),)
    expiry = config[keys.IPV6_EXPIRY]
    return found + [f"--dhcp-range={first},{last},{network.prefixlen},{expiry}" for first, last in ranges]


def _dns(name: str, config: Config) -> list[str]:
    if config[keys.DNS_MODE] == "none":
        return ["--port=0"]
    domain = config[keys.DNS_DOMAIN]
    return [f"--domain={domain}", f"--interface-name=_gateway.{domain},{name}", f"--local=/{domain}/"]
