"""python -m tools.play [--tag TAG] [--as-built] [--containerfile]: builds, plays and checks the deployment, and cleans up.

Needs root, buildah, mmdebstrap and podman with runc. Images whose content is not what the last commit says are built first
(minutes the first time; not with --as-built). Prints one line a claim and exits 1 when one does not hold: Debian's lxc launches an
instance, runs a command and hears the events; each part is killed while requests go on; the deployment is rolled to another image;
the gateway is scaled from 1 to 3 while listeners stay; the gateway's rights are what the manifests say; a part in bad surroundings
says what is missing; the log is backed up and restored; nothing is left on the machine. With --containerfile the gateway is rolled to
an image that deploy/images/Containerfile makes, too (minutes; on a base image made with mmdebstrap, so that no registry is needed).
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.play import containerfile, debris, scenario
from tools.play.claims import Claims
from tools.play.deployment import Deployment
from tools.play.podman import ROOT, Podman

PARTS = ("gateway", "control", "images", "instances", "storage", "network", "nats")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", default="latest")
    parser.add_argument("--as-built", action="store_true", help="play the images as they are")
    parser.add_argument("--containerfile", action="store_true", help="build and play deploy/images/Containerfile, too")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    claims, begin = Claims(), time.monotonic()
    with Podman.alone():
        if not given.as_built:
            subprocess.run([ROOT / "deploy/images/build", given.tag], check=True)
        print(f"images are there after {time.monotonic() - begin:.0f} s", flush=True)
        with tempfile.TemporaryDirectory(prefix="nbplay-", dir="/var/tmp") as scratch:
            podman = Podman(Path(scratch))
            with played(podman, given.tag) as deployment:
                if given.containerfile:
                    claims.tell(
                        "the Containerfile builds", bool(name := containerfile.build(podman.env, "gateway")), name
                    )
                before = debris.look(podman)
                deployment.open()
                scenario.play(claims, deployment, containerfile=given.containerfile)
            left = debris.look(podman) - before
        claims.tell("nothing is left on the machine", not left, left)
    print(f"{claims.told} claims, {len(claims.broken)} broken, {time.monotonic() - begin:.0f} s")
    for line in claims.broken:
        print(f"BROKEN {line}")
    return 1 if claims.broken else 0


def _end(*_: object) -> None:
    raise SystemExit(1)


@contextmanager
def played(podman: Podman, tag: str) -> Iterator[Deployment]:
    """The deployment, not open yet; image N+1 is image N under another tag."""
    podman.clear()
    podman.open()
    for part in PARTS:
        podman.run("tag", f"localhost/nubibus/{part}:{tag}", f"localhost/nubibus/{part}:{tag}-next")
    deployment = Deployment(podman.directory, podman, tag)
    try:
        yield deployment
    finally:
        deployment.close()


if __name__ == "__main__":
    sys.exit(main())
