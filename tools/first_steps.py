"""What `./run` shows on a running server: configure it, import an image, launch a container, run a command, see the events.

Everything goes through LXD's own client, as a user would do it; each command is printed before it runs. What is there already is left
as it is.
"""

from __future__ import annotations

import argparse
import lzma
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli import init, preseed
from cli.failure import Failure
from cli.rest import Rest
from tools import busybox_image

IMAGE, CONTAINER = "bb", "first"
OPTIONS = argparse.Namespace(
    network_address="", network_port=-1, storage_backend="", storage_create_device="", storage_create_loop=-1,
    storage_pool="", trust_password="",
)  # fmt: skip


class Steps:
    """The client, told where the server is."""

    def __init__(self, directory: Path) -> None:
        self.rest = Rest(directory)
        self.environment = {**os.environ, "LXD_DIR": str(directory)}

    def lxc(self, *arguments: str) -> None:
        print(f"$ lxc {' '.join(arguments)}", flush=True)
        done = subprocess.run(["lxc", *arguments], env=self.environment, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise Failure(f"lxc {' '.join(arguments)} ended with code {done.returncode}")

    @contextmanager
    def events(self) -> Iterator[None]:
        """Show the lifecycle events that come meanwhile."""
        monitor = subprocess.Popen(
            ["lxc", "monitor", "--type=lifecycle", "--format=pretty"],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        reader = threading.Thread(target=_show, args=(monitor,), daemon=True)
        reader.start()
        try:
            yield
        finally:
            try:
                monitor.wait(0.5)  # the last events are on their way
            except subprocess.TimeoutExpired:
                monitor.terminate()
            monitor.wait()
            reader.join()

    def configure(self) -> None:
        document = init.automatic(self.rest, OPTIONS)
        for section in ("storage_pools", "networks", "profiles"):
            for entry in document[section]:
                print(f"making {section.replace('_', ' ')[:-1]} {entry['name']}", flush=True)
        preseed.apply(self.rest, document)

    def image(self) -> None:
        if self.rest.exists(f"/1.0/images/aliases/{IMAGE}"):
            return
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "busybox.tar.xz")
            file.write_bytes(lzma.compress(busybox_image.unified_tar(), preset=1))
            self.lxc("image", "import", str(file), "--alias", IMAGE)

    def container(self) -> None:
        state = self.rest.find(f"/1.0/instances/{CONTAINER}/state")
        if state is None:
            self.lxc("launch", IMAGE, CONTAINER)
        elif state["status"] != "Running":
            self.lxc("start", CONTAINER)
        self.lxc("exec", CONTAINER, "--", "sh", "-c", "echo Hello from $(hostname), process $$ of $(uname -sr)")


def _show(monitor: subprocess.Popen[str]) -> None:
    assert monitor.stdout
    for line in monitor.stdout:
        print(f"  event: {line.rstrip()}", flush=True)


def main(directory: Path) -> int:
    steps = Steps(directory)
    try:
        steps.configure()
        with steps.events():
            steps.image()
            steps.container()
        steps.lxc("list")
    except Failure as failure:
        print(f"Error: {failure} (see: ./nubibus logs)", file=sys.stderr)
        return 1
    print(
        f"\nThe server goes on running in {directory}. Go on with:\n\n    export LXD_DIR={directory}\n"
        f"    lxc exec {CONTAINER} -- sh          lxc launch {IMAGE} second          lxc monitor\n\n"
        "and end it with ./nubibus down (containers keep running) or ./nubibus shutdown (they stop first)."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
