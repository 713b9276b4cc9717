"""Images that come from elsewhere: from another server, pulled and refreshed, and out of an instance."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chassis.saga import Saga
from services.images.sagas import publishing, pulling, refreshing
from tests.conformance import images, servers
from tests.conformance.client import Answer, Client, eventually
from tests.conformance.tls import Remote, free_port
from tests.conformance.world import unique
from tools.faults.scenes import Scene
from tools.faults.subject import DEADLINE, Subject


class Far:
    """Another server, which nobody harms, with images for everybody."""

    def __init__(self, api: Client, port: int) -> None:
        self.api = api
        self.source = {
            "type": "image",
            "mode": "pull",
            "protocol": "lxd",
            "server": f"https://127.0.0.1:{port}",
            "certificate": api.get("/1.0")["environment"]["certificate"],
        }

    def offer(self) -> str:
        """A new image there; its fingerprint."""
        return images.upload(self.api, images.unified_with({"far": unique("i")}), **{"X-LXD-public": "1"})


@contextlib.contextmanager
def _far() -> Iterator[Far]:
    server = servers.make("nubibus")
    try:
        server.start()
        port = free_port()
        api = Client(server.socket)
        api.patch("/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
        eventually(lambda: _listens(port), DEADLINE)
        yield Far(api, port)
    finally:
        server.close()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        return Remote(port).request("GET", "/1.0").status == 200
    return False


def far_of(subject: Subject) -> Far:
    """The other server of this run; it is started when it is first needed."""
    found: Far | None = getattr(subject, "far", None)
    if found is None:
        found = subject.kept.enter_context(_far())
        subject.far = found  # type: ignore[attr-defined]
    return found


@dataclass
class Fetched(Scene):
    """`wanted` is the fingerprint of what is to come; `what` the alias that it gets."""

    wanted: str = ""

    def whole(self, subject: Subject, fingerprint: str) -> str:
        found = subject.api.request("GET", f"/1.0/images/{fingerprint}/export")
        if found.status != 200:
            return f"the image's export answers {found.status}"
        return "" if images.fingerprint(found.body) == fingerprint else "the image is not what its fingerprint says"

    def named(self, subject: Subject) -> str:
        """What the alias names, "" if there is none."""
        found = subject.api.request("GET", f"/1.0/images/aliases/{self.what}")
        return str(found.metadata["target"]) if found.status == 200 else ""

    def absent(self, subject: Subject) -> str:
        return self.gone(subject, f"/1.0/images/{self.wanted}")


@dataclass
class Pull(Fetched):
    def prepare(self, subject: Subject) -> None:
        self.wanted = far_of(subject).offer()

    def ask(self, subject: Subject) -> Answer:
        source = {**far_of(subject).source, "fingerprint": self.wanted}
        return subject.api.request("POST", "/1.0/images", {"source": source, "aliases": [{"name": self.what}]})

    def achieved(self, subject: Subject) -> str:
        return "the alias" if self.named(subject) != self.wanted else self.whole(subject, self.wanted)

    def undone(self, subject: Subject) -> str:
        return "the alias is there" if self.named(subject) else self.absent(subject)

    def clear(self, subject: Subject) -> None:
        subject.world.gone(f"/1.0/images/{self.wanted}")


@dataclass
class Refresh(Fetched):
    """The alias there names another image than when this one came; here it has an alias of its own."""

    old: str = ""

    def prepare(self, subject: Subject) -> None:
        far = far_of(subject)
        self.old, self.wanted = far.offer(), far.offer()
        far.api.post("/1.0/images/aliases", {"name": self.other, "target": self.old})
        source = {**far.source, "alias": self.other}
        subject.api.post("/1.0/images", {"source": source, "aliases": [{"name": self.what}]})
        far.api.put(f"/1.0/images/aliases/{self.other}", {"target": self.wanted})

    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("POST", f"/1.0/images/{self.old}/refresh")

    def achieved(self, subject: Subject) -> str:
        moved = "" if self.named(subject) == self.wanted else "the alias names the old image"
        return moved or self.gone(subject, f"/1.0/images/{self.old}") or self.whole(subject, self.wanted)

    def undone(self, subject: Subject) -> str:
        moved = "" if self.named(subject) == self.old else "the alias does not name the old image"
        return moved or self.absent(subject) or self.whole(subject, self.old)

    def clear(self, subject: Subject) -> None:
        for fingerprint in (self.old, self.wanted):
            subject.world.gone(f"/1.0/images/{fingerprint}")


@dataclass
class Publish(Fetched):
    """An image out of a stopped instance, with its alias."""

    def prepare(self, subject: Subject) -> None:
        subject.api.post("/1.0/instances", subject.world.body(self.other))

    def ask(self, subject: Subject) -> Answer:
        source = {"type": "instance", "name": self.other}
        return subject.api.request("POST", "/1.0/images", {"source": source, "aliases": [{"name": self.what}]})

    def achieved(self, subject: Subject) -> str:
        found = self.named(subject)
        return self.whole(subject, found) if found else "there is no alias"

    def undone(self, subject: Subject) -> str:
        """That no image is left is told by the rows and files."""
        return "the alias is there" if self.named(subject) else self.there(subject, f"/1.0/instances/{self.other}")

    def clear(self, subject: Subject) -> None:
        if found := self.named(subject):
            subject.world.gone(f"/1.0/images/{found}")
        subject.world.remove_instance(self.other)


def of_fetched_images() -> list[Callable[[], Scene]]:
    """A maker for each scene."""

    def scene(kind: type[Scene], saga: Saga) -> Callable[[], Scene]:
        steps = [step.name for step in saga.steps]
        undos = [step.name for step in saga.steps if step.undo is not None]
        return lambda: kind(saga.name, saga.name, "images", steps, undos)

    return [scene(Pull, pulling.PULL), scene(Refresh, refreshing.REFRESH), scene(Publish, publishing.PUBLISH)]
