"""The whole play: a user's first steps, rights, every part killed and replaced under load, a larger gateway, bad surroundings."""

from __future__ import annotations

import time

from tools.play import evidence, rights, surroundings, upkeep
from tools.play.claims import Claims
from tools.play.client import Monitor, change, ends, launch, prepare, ran
from tools.play.containerfile import TAG
from tools.play.deployment import Deployment
from tools.play.load import Listener, Reads

READS = ("/1.0", "/1.0/profiles", "/1.0/instances?recursion=1", "/1.0/images", "/1.0/networks", "/1.0/storage-pools")
TWICE = ("gateway", "control")
ON_THE_NODE = ("instances", "storage", "network")
KILLED = ("gateway", "control", "images", *ON_THE_NODE, "nats")
BUILT = "roll to what the Containerfile makes"
ROLLED = ("gateway", "control", "images", "node")
LIFE = ["instance-created", "instance-started", "instance-stopped", "instance-deleted"]


def play(claims: Claims, deployment: Deployment, *, containerfile: bool = False) -> None:
    """`containerfile`: the gateway's image of that kind has been built, and is rolled out as well."""
    remote = deployment.remote()
    image = prepare(remote)
    first_steps(claims, deployment, image)
    rights.check(claims.tell, deployment)
    for what in KILLED:
        under_load(claims, deployment, what, image, "kill")
    claims.tell("the instance ran on through it all", ran(remote, "c1") == 7)
    for what in ROLLED:
        under_load(claims, deployment, what, image, "roll")
    if containerfile:
        under_load(claims, deployment, "gateway", image, BUILT)
    claims.tell("the instance ran on through the change", ran(remote, "c1") == 7)
    scale(claims, deployment)
    upkeep.check(claims, deployment)
    surroundings.check(claims.tell, deployment)
    claims.tell("the instance ends", ends(remote, "c1")["status"] == "Success")


def first_steps(claims: Claims, deployment: Deployment, image: str) -> None:
    """With Debian's client, as somebody who has read docs/kubernetes.md does them."""
    lxc = deployment.lxc()
    with Monitor(lxc) as monitor:
        monitor.connected(deployment.remote())
        lxc.run("launch", f"play:{image}", "play:c1")
        said = lxc.run("exec", "play:c1", "--", "sh", "-c", "echo from $(hostname); exit 7", code=7)
        heard = monitor.heard("instance-started")
    claims.tell("lxc launches an instance, and its command ends with its exit code", said == "from c1\n", said.strip())
    claims.tell("lxc monitor hears of it", heard and "instance-created" in monitor.actions)


def under_load(
    claims: Claims, deployment: Deployment, what: str, image: str, action: str, *, patient: bool = False
) -> None:
    """Does `action` while reads go on and an instance comes and goes; nothing may be lost. `patient` clients mind Retry-After."""
    remote, title = deployment.remote(), f"{action} of {what}"
    with Listener(remote) as listener, Reads(remote, READS, patient) as reads:
        time.sleep(0.5)
        before, begin = len(listener.actions), time.time()
        disturb(deployment, what, action)
        name = f"load-{what}"
        outcome = [came_of(launch(remote, name, image)), came_of(ends(remote, name))]
        told = listener.heard(LIFE, before)
    broken = len(claims.broken)
    claims.tell(f"{title}: operations end in Success", outcome == ["Success", "Success"], outcome)
    expected = () if what in TWICE else ("503",)
    failed = reads.failed()
    claims.tell(
        f"{title}: {'only 503 with Retry-After' if expected else 'no request failed'}",
        {status for _, status in failed} <= set(expected) and not reads.unretryable,
        f"{failed} {dict(reads.said)}" if failed else "",
    )
    # A gateway that is killed breaks the connections on which it had not answered: at most one a client. Nothing else breaks any.
    bound = len(READS) if (what, action) == ("gateway", "kill") else 0
    claims.tell(f"{title}: at most {bound} requests were asked again", reads.asked_again <= bound, reads.asked_again)
    seen = listener.sequences
    claims.tell(f"{title}: events in order, none twice", seen == sorted(set(seen)))
    claims.tell(f"{title}: no event is missing", told == LIFE, told or "none came")
    if len(claims.broken) > broken:
        odd = [one for one in reads.odd if one.status not in expected] or reads.odd
        print("\n".join(evidence.report(odd, deployment.podman.journals(), begin)), flush=True)


def came_of(operation: dict[str, object]) -> str:
    return " ".join(str(part) for part in (operation["status"], operation.get("err", "")) if part)


def disturb(deployment: Deployment, what: str, action: str) -> None:
    if action == "kill":
        deployment.kill("node-0" if what in ON_THE_NODE else f"{what}-0", what)
    else:
        deployment.roll(what, TAG if action == BUILT else f"{deployment.tag}-next")


def scale(claims: Claims, deployment: Deployment) -> None:
    """The gateway from as many as there are to 1, and from 1 to 3 while a listener stays."""
    remote = deployment.remote()
    for name in [name for name, (pod, _) in deployment.podman.pods.items() if pod.workload == "gateway"][1:]:
        deployment.podman.remove(name)
    with Listener(remote) as listener, Reads(remote, ("/1.0",)) as reads:
        time.sleep(0.5)
        for number in (20, 21):
            deployment.start("gateway", number)
            deployment.podman.wait_ready(f"gateway-{number}")
        connected = listener.reconnects
        change(remote, "PATCH", "/1.0/profiles/default", {"description": "scaled"})
        told = listener.heard(["profile-updated"], 0)
    claims.tell("scaling the gateway from 1 to 3: its listener stays connected", connected == 0, connected)
    claims.tell("scaling the gateway from 1 to 3: its listener hears", bool(told), told)
    failed = reads.failed()
    claims.tell("scaling the gateway from 1 to 3: no request failed", not failed and not reads.asked_again, failed)
