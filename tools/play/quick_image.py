"""One image that serves as every part's, made in seconds and without a mirror: of the Debian packages that this machine has.

For the short form of the play only. It holds what deploy/images/packages names, as far as that is installed here; the locked wheels;
and the code of the work tree. The parts' own images are made by deploy/images/build.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from tools.play.podman import ROOT

NAME = "localhost/nubibus/quick:latest"
NOT_WANTED = re.compile(
    r"/usr/share/(doc|man|locale|info|lintian|bash-completion|zsh)/|/usr/lib/python3/dist-packages/.*/tests/"
)
CODE = ("chassis", "rows", "services", "gen")
OWN = {"passwd": "{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n", "group": "{name}:x:{id}:\n"}
USERS = {"nubibus": 64040, "nats": 64041}


def wanted() -> set[str]:
    """The packages of all parts."""
    lines = (ROOT / "deploy/images/packages").read_text().splitlines()
    return {name for line in lines if not line.startswith("#") for name in line.split()[1:]}


def closure(names: Iterable[str], status: str) -> set[str]:
    """The installed ones of `names`, of the essential packages, and of what they depend on.

    `status` are lines "package TAB essential TAB depends TAB provides" of the installed packages.
    """
    depends: dict[str, list[str]] = {}
    provided: dict[str, str] = {}
    ahead: list[str] = list(names)
    for line in status.splitlines():
        name, essential, needs, provides = line.split("\t")
        depends[name] = needs.split(",")
        provided.update(dict.fromkeys(_names(provides.split(",")), name))
        if essential == "yes":
            ahead.append(name)
    found: set[str] = set()
    while ahead:
        name = ahead.pop()
        name = name if name in depends else provided.get(name, "")
        if name and name not in found:
            found.add(name)
            ahead += [
                next((n for n in _names(choice.split("|")) if n in depends or n in provided), "")
                for choice in depends[name]
            ]
    return found


def _names(clauses: Iterable[str]) -> Iterator[str]:
    """ "libc6 (>= 2.36)", "python3:any" -> the names alone."""
    return (words[0].partition(":")[0] for clause in clauses if (words := clause.split()))


def files(packages: Iterable[str]) -> list[str]:
    """Where the packages' files and links really lie (/lib is a link to /usr/lib), relative to the root."""
    listed = subprocess.run(["dpkg-query", "-L", *packages], capture_output=True, text=True).stdout.splitlines()
    found = {
        f"{os.path.realpath(os.path.dirname(path))}/{os.path.basename(path)}" for path in listed if path.startswith("/")
    }
    return sorted(
        path.lstrip("/")
        for path in found
        if not NOT_WANTED.search(path) and (os.path.islink(path) or os.path.isfile(path))
    )


def fill(root: Path) -> None:
    """Everything that the image holds, into an empty directory."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("tmp", "proc", "sys", "dev", "run", "root", "etc", "var/lib", "data", "opt/nubibus", "opt/wheels"):
        (root / name).mkdir(parents=True, exist_ok=True)
    form = r"${Package}\t${Essential}\t${Pre-Depends},${Depends}\t${Provides}\n"
    status = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
    listed = "\0".join(files(closure(wanted(), status)))
    pack = ["tar", "-C", "/", "--no-recursion", "--null", "--ignore-failed-read", "-T", "-", "-cf", "-"]
    packed = subprocess.run(
        pack, input=listed.encode(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    ).stdout
    subprocess.run(["tar", "-C", root, "--keep-directory-symlink", "-xf", "-"], input=packed, check=True)
    shutil.copy("/etc/ld.so.cache", root / "etc/ld.so.cache")
    for file, line in OWN.items():
        debian = Path(f"/usr/share/base-passwd/{file}.master").read_text()
        (root / "etc" / file).write_text(
            debian + "".join(line.format(name=name, id=id_) for name, id_ in USERS.items())
        )
    shutil.copy(ROOT / ".venv/bin/nats-server", root / "usr/bin/nats-server")
    for name in CODE:
        shutil.copytree(ROOT / name, root / "opt/nubibus" / name, symlinks=True)
    wheels(root / "opt/wheels")
    compile_what_starts(root)


def compile_what_starts(root: Path) -> None:
    """Bytecode of all that the parts import: their root file systems cannot be written when they run."""
    imports = "; ".join(
        f"import services.{path.parent.name}.__main__" for path in sorted(ROOT.glob("services/*/__main__.py"))
    )
    clean = {"PATH": "/usr/bin:/usr/sbin", "PYTHONPATH": "/opt/nubibus:/opt/wheels"}
    subprocess.run(
        ["chroot", root, "/usr/bin/python3", "-c", imports], env=clean, check=True, stderr=subprocess.DEVNULL
    )


def wheels(into: Path) -> None:
    """What the parts import besides Debian's, from the cache that tools/setup has filled."""
    uv, locked = str(ROOT / ".venv/bin/uv"), into / "requirements.txt"
    export = [uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project"]
    locked.write_bytes(
        subprocess.run(export, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
    )
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        str(ROOT / ".venv/bin/python"),
        "--target",
        str(into),
        "-r",
        str(locked),
    ]
    subprocess.run(install, stdin=subprocess.DEVNULL, check=True)
    for path in (*into.glob("bin/nats-server"), *into.glob("nats_server*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def build(environment: dict[str, str]) -> None:
    """The image under `NAME` in the store of that environment."""

    def buildah(*arguments: str | Path) -> str:
        done = subprocess.run(["buildah", *arguments], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"buildah {arguments[0]}: {done.stderr.strip()}")
        return done.stdout.strip()

    container = buildah("from", "scratch")
    fill(Path(buildah("mount", container)))
    for key in ("PYTHONPATH=/opt/nubibus:/opt/wheels", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"):
        buildah("config", "--env", key, container)
    buildah("config", "--workingdir", "/opt/nubibus", container)
    buildah("commit", "--quiet", "--rm", "--disable-compression", container, NAME)
