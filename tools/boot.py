"""python -m tools.boot: boots a copy of this machine under systemd, in a container, and shows what the units of deploy/systemd do.

Needs root, liblxc and systemd (tools/setup). The copy is an overlay over the machine's own root file system, so nothing is built or fetched
and nothing of the machine is changed; the server's directory is empty at first and outlives a reboot. Prints one line a claim and exits
1 when one does not hold. About a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lxc

from tools import busybox_image
from tools.play.claims import Claims

ROOT = Path(__file__).resolve().parents[1]
SYSTEMD = Path("/usr/lib/systemd/systemd")
UNITS = ("nubibus.service", "nubibus-instances.service")
STATE = "var/lib/nubibus"
PATIENCE = 180.0  # seconds for a boot, an end, a unit
# In a process of its own: liblxc moves the one that starts a container into a control group of the container's.
START = "import lxc, sys; sys.exit(not lxc.Container(sys.argv[1], sys.argv[2]).start())"
PIVOT = "lxc.pivot"  # where a monitor goes to end
MASKED = ("getty@", "console-getty", "systemd-networkd", "systemd-resolved", "systemd-timesyncd", "systemd-udevd")
# c2 must have ended before c1 is told to; what init does on the way out tells when that was.
SLOW = {"c1": "date +%s > /root/ended; exit 0", "c2": "sleep 3; date +%s > /root/ended; exit 0"}


class Machine:
    """A copy of this machine. `boot` and `off` as often as wanted; what was written stays until `close`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "top" / "root"
        self.container = lxc.Container(f"nbboot-{os.getpid()}", str(directory))
        self.groups = [f"lxc.monitor.{self.container.name}*", *(() if _groups(PIVOT) else (PIVOT,))]

    def open(self) -> None:
        """A file system in memory for what differs: an overlay cannot lie below itself."""
        top = self.directory / "top"
        top.mkdir()
        _run("mount", "-t", "tmpfs", "-o", "mode=755", "nubibus-boot", top)
        for name in ("upper", "work", "root", "state"):
            (top / name).mkdir()
        (top / "state").chmod(0o711)
        options = f"lowerdir=/,upperdir={top}/upper,workdir={top}/work"
        _run("mount", "-t", "overlay", "-o", options, "nubibus-boot", self.root)
        self._prepare()
        self._configure(top)

    def _prepare(self) -> None:
        """Nothing of what this machine starts at boot is started in the copy; the checkout is in /opt/nubibus."""
        system = self.root / "etc/systemd/system"
        _run("rm", "-rf", system)
        system.mkdir(parents=True)
        for unit in MASKED:
            (system / f"{unit}.service").symlink_to("/dev/null")
        (self.root / "etc/fstab").write_text("")
        (self.root / "etc/machine-id").write_text("")
        (self.root / "opt").mkdir(exist_ok=True)
        _run("ln", "-sfn", ROOT, self.root / "opt/nubibus")

    def _configure(self, top: Path) -> None:
        needed = {ROOT, Path(os.path.realpath(ROOT / ".venv")), Path(sys.base_prefix)}
        elsewhere = sorted(path for path in needed if path.stat().st_dev != Path("/").stat().st_dev)
        for key, value in [
            ("lxc.rootfs.path", f"dir:{self.root}"),
            ("lxc.uts.name", "boot"),
            ("lxc.init.cmd", str(SYSTEMD)),
            ("lxc.mount.auto", "proc:rw sys:rw cgroup:rw:force"),
            ("lxc.apparmor.profile", "unconfined"),
            ("lxc.net.0.type", "empty"),
            ("lxc.signal.halt", "SIGRTMIN+3"),
            ("lxc.log.file", str(self.directory / "lxc.log")),
            # As a container that may hold others must have them: without, the kernel lets none of those mount its own.
            ("lxc.mount.entry", "proc dev/.lxc/proc proc create=dir 0 0"),
            ("lxc.mount.entry", "sys dev/.lxc/sys sysfs create=dir 0 0"),
            ("lxc.mount.entry", f"{top}/state {STATE} none bind,create=dir 0 0"),
            *(("lxc.mount.entry", f"{path} {str(path).lstrip('/')} none bind,ro,create=dir 0 0") for path in elsewhere),
        ]:
            if not self.container.append_config_item(key, value):
                raise RuntimeError(f"liblxc refuses {key} = {value}")
        if not self.container.save_config():
            raise RuntimeError("the container's configuration cannot be written")

    def boot(self) -> None:
        """Returns when systemd has started everything that it will."""
        started = [sys.executable, "-c", START, self.container.name, str(self.directory)]
        if subprocess.run(started, stdin=subprocess.DEVNULL).returncode:
            raise RuntimeError(f"the container does not start: {(self.directory / 'lxc.log').read_text()[-2000:]}")
        until(
            lambda: self.said("systemctl", "is-system-running") in ("running", "degraded"), "systemd does not come up"
        )

    def off(self) -> None:
        """As an administrator does it; returns when it is off."""
        self.run("systemctl", "poweroff", check=False)
        if not self.container.wait("STOPPED", int(PATIENCE)):
            raise RuntimeError("the machine does not go off")

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LXD_DIR": f"/{STATE}",
            "LANG": "C.UTF-8",
        }
        entered = ["nsenter", "--all", "--target", str(self.container.init_pid), *command]
        done = subprocess.run(entered, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if check and done.returncode:
            words = " ".join(map(str, command))
            raise RuntimeError(f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}{self.journal()}")
        return done

    def said(self, *command: str | Path) -> str:
        return self.run(*command, check=False).stdout.strip()

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "--lines=60", check=False).stdout

    def close(self) -> None:
        if self.container.running:
            self.container.stop()
        subprocess.run(["umount", "--recursive", "--lazy", self.directory / "top"], capture_output=True)
        until(self._monitor_gone, "the container's monitor does not end")

    def _monitor_gone(self) -> bool:
        """liblxc leaves the control groups of a monitor, which is in them until it ends."""
        left = [path for name in self.groups for path in _groups(name)]
        for path in left:
            with suppress(OSError):
                path.rmdir()
        return not left


def _groups(name: str) -> list[Path]:
    """Control groups of that name at the top of any hierarchy."""
    top = Path("/sys/fs/cgroup")
    return [*top.glob(name), *top.glob(f"*/{name}")]


@contextmanager
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="nbboot-", dir="/var/tmp") as directory:
        os.chmod(directory, 0o755)
        made = Machine(Path(directory))
        try:
            yield made
        finally:
            made.close()


def until(claim: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + PATIENCE
    while not claim():
        if time.monotonic() > end:
            raise RuntimeError(otherwise)
        time.sleep(0.2)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def installs(claims: Claims, host: Machine) -> None:
    """The two commands that the unit says it is installed with."""
    host.run("systemctl", "link", *(f"/opt/nubibus/deploy/systemd/{unit}" for unit in UNITS))
    host.run("systemctl", "enable", "--now", "nubibus")
    claims.tell(
        "the server is up when systemctl returns", '"api_version": "1.0"' in host.run("lxc", "query", "/1.0").stdout
    )
    until(lambda: active(host) == ["active", "active"], f"the units are {active(host)}")
    host.run("/opt/nubibus/nubibus", "init", "--auto", "--dir", f"/{STATE}")
    host.run(ROOT / ".venv/bin/python", ROOT / "tools/busybox_image.py", "unified", "tar.gz", "/root/bb.tar.gz")
    host.run("lxc", "image", "import", "/root/bb.tar.gz", "--alias", "bb")
    for name, words in SLOW.items():
        init = host.root / "root/init"
        init.write_text(busybox_image.INIT.replace("'exit 0'", f"'{words}'"))
        host.run("lxc", "init", "bb", name, "-c", f"boot.stop.priority={int(name == 'c2')}")
        host.run("lxc", "file", "push", "--mode=0755", "/root/init", f"{name}/sbin/init")
        host.run("lxc", "start", name)
    claims.tell("instances run", states(host) == ["RUNNING", "RUNNING"], states(host))


def active(host: Machine) -> list[str]:
    return host.said("systemctl", "is-active", *UNITS).split()


def states(host: Machine) -> list[str]:
    return host.said("lxc", "list", "--format=csv", "--columns=s").split()


def process(host: Machine, name: str = "c1") -> str:
    lines = host.run("lxc", "info", name).stdout.splitlines()
    return next((line.split()[1] for line in lines if line.startswith("PID:")), "")


def leaves_instances(claims: Claims, host: Machine) -> None:
    """Stop, start, restart and the death of the supervisor: the instances are the same processes after it."""
    before = process(host)
    host.run("systemctl", "stop", "nubibus")
    lives = host.run("kill", "-0", before, check=False).returncode == 0
    claims.tell("systemctl stop ends the server and leaves instances running", lives and active(host)[0] == "inactive")
    for verb in ("start", "restart"):
        host.run("systemctl", verb, "nubibus")
        claims.tell(f"systemctl {verb}: the server finds them again", process(host) == before)
    supervisor = host.said("systemctl", "show", "--property=MainPID", "--value", "nubibus")
    host.run("kill", "-9", supervisor)
    until(
        lambda: (
            host.said("systemctl", "show", "--property=MainPID", "--value", "nubibus") not in (supervisor, "0")
            and active(host) == ["active", "active"]
        ),
        "systemd does not start it again",
    )
    claims.tell("systemd starts a killed server again, and it finds them", process(host) == before)


def obeys_the_power_signal(claims: Claims, host: Machine) -> None:
    before = process(host)
    host.run("systemctl", "kill", "--signal=PWR", "--kill-who=main", "nubibus")
    until(lambda: active(host)[0] in ("inactive", "failed"), "SIGPWR does not end the server")
    gone = host.run("kill", "-0", before, check=False).returncode != 0
    claims.tell("SIGPWR stops the instances, then the server", gone and active(host)[0] == "inactive", active(host)[0])
    host.run("systemctl", "start", "nubibus")
    until(lambda: states(host) == ["RUNNING", "RUNNING"], f"instances do not start again: {states(host)}")


def goes_down_in_order(claims: Claims, host: Machine) -> None:
    """Off and on again, with nobody there to start anything."""
    for name in SLOW:
        host.run("lxc", "file", "delete", f"{name}/root/ended")  # of the time before
    host.off()
    host.boot()
    until(lambda: active(host) == ["active", "active"], f"after a boot the units are {active(host)}")
    until(lambda: states(host) == ["RUNNING", "RUNNING"], f"after a boot the instances are {states(host)}")
    claims.tell("server and instances start at boot", True)
    ended = {name: host.said("lxc", "file", "pull", f"{name}/root/ended", "-") for name in SLOW}
    orderly = all(ended.values()) and int(ended["c2"]) <= int(ended["c1"])
    claims.tell("when the machine goes down the instances are stopped in their order", orderly, ended)


def check(claims: Claims, host: Machine) -> None:
    """On a machine that has booted for the first time."""
    for part in (installs, leaves_instances, obeys_the_power_signal, goes_down_in_order):
        part(claims, host)
    host.off()


def main() -> int:
    claims = Claims()
    with machine() as host:
        host.open()
        host.boot()
        check(claims, host)
    print(f"{claims.told} claims, {len(claims.broken)} broken")
    return 1 if claims.broken else 0


if __name__ == "__main__":
    sys.exit(main())
