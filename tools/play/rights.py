"""What the gateway's container cannot do: reach the host's files, or the gRPC of a node part without the deployment's authority."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

from tools import cluster_secrets
from tools.play.deployment import Deployment

NODE_PORTS = {"instances": 7441, "storage": 7442, "network": 7443}
Tell = Callable[[str, bool, object], None]


def check(tell: Tell, deployment: Deployment) -> None:
    pid = deployment.podman.containers("gateway-0")["gateway"]
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    tell("the gateway runs without root", fields["Uid"].split()[0] != "0", fields["Uid"])
    tell("the gateway has no capability", int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0, fields["CapEff"])
    tell("the gateway cannot gain rights", fields["NoNewPrivs"].strip() == "1", "")
    tell(
        "the gateway sees no file of the host", not Path(f"/proc/{pid}/root/var/lib/nubibus/storage-pools").exists(), ""
    )
    wrote = subprocess.run(
        ["nsenter", "-t", str(pid), "-m", "-S", "64040", "-G", "64040", "/usr/bin/python3", "-c", "open('/opt/x', 'w')"],
        capture_output=True,
    )  # fmt: skip
    tell("the gateway's root file system cannot be written", b"Read-only" in wrote.stderr, wrote.stderr[-80:])
    stranger = cluster_secrets.Authority.fresh().issue("gateway", ())
    for part, port in NODE_PORTS.items():
        tell(f"{part} refuses a certificate of another authority", not speaks(deployment, port, stranger), "")
        ours = deployment.translation.secrets["nubibus-tls-gateway"]
        tell(f"{part} answers one of ours", speaks(deployment, port, ours), "")


def speaks(deployment: Deployment, port: int, identity: dict[str, bytes]) -> bool:
    """Whether an HTTP/2 server at the port lets us in: its settings frame comes only after our certificate was taken."""
    directory = deployment.directory
    for name, data in identity.items():
        (directory / name).write_bytes(data)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    with contextlib.suppress(OSError), socket.create_connection((deployment.podman.gateway, port), 5) as raw:
        with context.wrap_socket(raw) as secured:
            secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            return len(secured.recv(9)) > 0
    return False
