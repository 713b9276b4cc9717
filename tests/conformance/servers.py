"""Starting and ending the server under test: a private Nubibus, a private real LXD, or one that runs already.

Each kind has its own directory; nothing outside it is touched except what LXD itself leaves (see `_sweep`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path

from tests.conformance.client import DEADLINE, Client

WHOLE = ("/1.0", "/1.0/instances", "/1.0/networks", "/1.0/storage-pools", "/1.0/images")
ROOT = Path(__file__).resolve().parents[2]


def nubibus_command(directory: Path) -> list[str]:
    """How Nubibus is started in the foreground. The one line to change when the command changes."""
    return [str(ROOT / ".venv/bin/python"), "-m", "cli", "serve", "--dir", str(directory)]


SPARE_ID = 20_000_000
"""A user of the host that root may hand to an instance with raw.idmap, outside the range instances get by default."""
SUBORDINATES = f"root:100000:10000001\nroot:{SPARE_ID}:1\n"


class Server(ABC):
    """A server with a directory of its own. `start` returns when it answers."""

    is_lxd = False
    started: subprocess.Popen[bytes] | None = None

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "unix.socket"
        self.log = directory.parent / f"{directory.name}.log"

    @abstractmethod
    def command(self) -> list[str]: ...

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def start(self) -> None:
        assert self.started is None, "already started"
        with self.log.open("ab") as log:
            self.started = subprocess.Popen(
                self._isolated(), cwd=ROOT, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.wait_ready()

    def _isolated(self) -> list[str]:
        """The command in a mount namespace of its own, where root's subordinate users are those we want.

        With Debian's `uidmap` installed, liblxc goes through newuidmap, which holds even root to /etc/subuid.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        allowed = self.directory.parent / "subordinates"
        allowed.write_text(SUBORDINATES)
        script = f'mount --bind {allowed} /etc/subuid && mount --bind {allowed} /etc/subgid && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *self.command()]

    def wait_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            code = self.started.poll() if self.started else None
            if code is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server does not answer (exit code {code}):\n{self.tail()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            api = Client(self.socket)
            return all(api.request("GET", path, timeout=5).status == 200 for path in WHOLE)
        return False

    def tail(self) -> str:
        """The end of the log, and the exit code of a server that died."""
        code = self.started.poll() if self.started else None
        died = "" if code is None else f"\nthe server ended with {code}"
        return self._log() + died

    def _log(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def signal(self, number: signal.Signals, timeout: float = DEADLINE) -> None:
        """Sends a signal to the server and waits until it is gone."""
        assert self.started is not None
        self.started.send_signal(number)
        self.started.wait(timeout)
        self.started = None

    def leave(self) -> None:
        """Ends the server; its instances keep running."""
        self.signal(signal.SIGTERM)

    def shut_down(self, timeout: float = DEADLINE) -> None:
        """Stops the instances in order, then the server."""
        self.signal(signal.SIGPWR, timeout)

    def close(self) -> None:
        """Ends everything that was started and removes the directory."""
        if self.started is not None:
            try:
                self.shut_down()
            except subprocess.TimeoutExpired:
                self.started.kill()
                self.started.wait(DEADLINE)
                self.started = None
        self.sweep()
        shutil.rmtree(self.directory.parent, ignore_errors=True)

    def sweep(self) -> None:
        """Removes what the server itself leaves on the host; Nubibus must leave nothing."""


class Nubibus(Server):
    """Ours: one directory, its parts as children of one process."""

    def _log(self) -> str:
        """The supervisor's log and the last lines of each part."""
        parts = sorted((self.directory / "log").glob("*.log"))
        ends = [f"{part.name}:\n{part.read_text(errors='replace')[-1500:]}" for part in parts]
        return "\n".join([super()._log(), *ends])

    def command(self) -> list[str]:
        return nubibus_command(self.directory)


class Lxd(Server):
    """Debian's LXD."""

    is_lxd = True

    def command(self) -> list[str]:
        return ["lxd", "--group", "root", "--logfile", f"{self.log}.lxd"]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "LXD_DIR": str(self.directory)}

    def sweep(self) -> None:
        for pid in _processes_naming(str(self.directory)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for hierarchy in Path("/sys/fs/cgroup").iterdir():
            for name in ("lxc.pivot", "lxd"):
                with contextlib.suppress(OSError):  # absent, or in use by another server
                    (hierarchy / name).rmdir()
        _remove_empty_table()


class Running(Server):
    """A server that somebody else started; it is only talked to."""

    def __init__(self, socket: Path) -> None:
        super().__init__(socket.parent)
        self.socket = socket
        self.is_lxd = (socket.parent / "database" / "global").exists()

    def command(self) -> list[str]:
        raise NotImplementedError("this server is not ours to start")

    def start(self) -> None:
        self.wait_ready()

    def close(self) -> None:
        return None


def _processes_naming(directory: str) -> list[int]:
    """Processes (other than ourselves) whose command line holds the directory: dnsmasq, monitors of containers."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if directory.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def _remove_empty_table() -> None:
    """LXD leaves its nftables table behind; it goes when no other LXD has a chain in it."""
    for family in ("inet", "ip", "ip6", "bridge"):
        listing = subprocess.run(["nft", "list", "table", family, "lxd"], capture_output=True, text=True, check=False)
        if listing.returncode == 0 and "chain" not in listing.stdout:
            subprocess.run(["nft", "delete", "table", family, "lxd"], capture_output=True, check=False)


def make(choice: str) -> Server:
    """The server for the value of `--server`: nubibus, lxd, or the path of a socket."""
    if choice not in ("nubibus", "lxd"):
        return Running(Path(choice))
    parent = Path(tempfile.mkdtemp(prefix=f"{choice[:3]}-", dir=os.environ.get("NUBIBUS_TEST_TMP", "/tmp")))
    parent.chmod(0o711)
    return (Lxd if choice == "lxd" else Nubibus)(parent / "d")


def main() -> int:
    """`python -m tests.conformance.servers lxd`: one for trying things by hand, until it is interrupted or terminated."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # also when the shell has put it into the background, ignoring SIGINT
        signal.signal(number, signal.default_int_handler)
    server = make(sys.argv[1])
    server.start()
    print(server.socket, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    server.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
