"""`nubibus init`, with the modes and options of `lxd init`."""

from __future__ import annotations

import argparse
import sys

import yaml

from cli import ask, preseed
from cli.failure import Failure
from cli.preseed import Document
from cli.rest import Rest

BRIDGE = "nubibr"  # the first free name with a number after it; other servers on the machine have theirs


def run(options: argparse.Namespace) -> int:
    """Exit code 0. Raises Failure."""
    rest = Rest(options.dir)
    if options.dump:
        yaml.safe_dump(preseed.dump(rest), sys.stdout, default_flow_style=False, sort_keys=False)
        return 0
    if options.preseed:
        document = _read()
    elif options.auto or options.minimal:
        document = automatic(rest, options)
    else:
        document = ask.interview(rest, ask.Terminal())
    preseed.apply(rest, document)
    return 0


def _read() -> Document:
    try:
        document: Document = yaml.safe_load(sys.stdin)
    except yaml.YAMLError as error:
        raise Failure(f"the preseed is no valid YAML: {error}") from None
    return document


def automatic(rest: Rest, options: argparse.Namespace) -> Document:
    """A pool and a bridge where there are none, the default profile that uses them, and HTTPS if an address is given."""
    _check(rest, options)
    document: Document = {"config": {}, "networks": [], "storage_pools": [], "profiles": []}
    devices: dict[str, dict[str, str]] = {}
    if options.network_address:
        port = 8443 if options.network_port == -1 else options.network_port
        document["config"]["core.https_address"] = listening_address(options.network_address, port)
        if options.trust_password:
            document["config"]["core.trust_password"] = options.trust_password
    if not rest.get("/1.0/storage-pools"):
        document["storage_pools"] = [_pool(options)]
        devices["root"] = {"type": "disk", "path": "/", "pool": "default"}
    if not any(network["managed"] for network in rest.get("/1.0/networks?recursion=1")):
        bridge = free_bridge(rest)
        document["networks"] = [{"name": bridge, "type": "bridge", "project": "default"}]
        devices["eth0"] = {"type": "nic", "name": "eth0", "network": bridge}
    if devices:
        document["profiles"] = [{"name": "default", "devices": devices}]
    return document


def _check(rest: Rest, options: argparse.Namespace) -> None:
    """LXD's refusals of options that do not go together."""
    placed = options.storage_create_device or options.storage_create_loop != -1 or options.storage_pool
    if options.storage_backend in ("", "dir") and placed:
        raise Failure(
            "None of --storage-pool, --storage-create-device or --storage-create-loop may be used with the 'dir' backend"
        )
    if options.storage_create_device and options.storage_create_loop != -1:
        raise Failure("Only one of --storage-create-device or --storage-create-loop can be specified")
    if not options.network_address and options.network_port != -1:
        raise Failure("--network-port can't be used without --network-address")
    if not options.network_address and options.trust_password:
        raise Failure("--trust-password can't be used without --network-address")
    if options.storage_backend:
        drivers = [driver["Name"] for driver in rest.get("/1.0")["environment"]["storage_supported_drivers"]]
        if options.storage_backend not in drivers:
            raise Failure(
                f"The requested backend '{options.storage_backend}' isn't available on your system (missing tools)"
            )
        if rest.get("/1.0/storage-pools"):
            raise Failure("Storage has already been configured")


def _pool(options: argparse.Namespace) -> Document:
    config: dict[str, str] = {}
    if options.storage_create_device:
        config["source"] = options.storage_create_device
    elif options.storage_create_loop != -1:
        config["size"] = f"{options.storage_create_loop}GB"
    elif options.storage_pool:
        config["source"] = options.storage_pool
    return {"name": "default", "driver": options.storage_backend or "dir", "config": config}


def listening_address(address: str, port: int) -> str:
    """ "::1" and 8443 as "[::1]:8443"."""
    return f"[{address}]:{port}" if ":" in address and not address.startswith("[") else f"{address}:{port}"


def free_bridge(rest: Rest) -> str:
    """A bridge name that neither the server nor the host uses."""
    taken = {network["name"] for network in rest.get("/1.0/networks?recursion=1")}
    return next(name for number in range(100) if (name := f"{BRIDGE}{number}") not in taken)
