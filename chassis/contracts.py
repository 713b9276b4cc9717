"""The methods of proto/, found by name.

Every generated module below gen/ is imported once; after that a method's messages, its way of travelling
(unary or streaming) and its REST option are looked up here. Nothing else in the tree imports modules of gen/
by a computed name.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

GEN = Path(__file__).resolve().parent.parent / "gen"
SHARED = "rest"  # services of nubibus.rest.v1 are answered by every part; a call must name the part


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service.

    `part` is the service that answers it, "rest" for those that every part answers.
    """

    service: str  # "nubibus.storage.v1.Volumes"
    name: str
    part: str  # "storage"
    noun: str  # "Volumes"
    request: type[Message]
    answer: type[Message]
    client_streams: bool
    server_streams: bool

    @property
    def streams(self) -> bool:
        return self.client_streams or self.server_streams


def modules() -> list[str]:
    """Names of all generated message modules."""
    found = sorted(GEN.rglob("*_pb2.py"))
    return ["gen." + ".".join(path.relative_to(GEN).with_suffix("").parts) for path in found]


@functools.cache
def table() -> dict[str, dict[str, Method]]:
    """Every service of the contracts: service name -> method name -> Method."""
    services: dict[str, dict[str, Method]] = {}
    pool = descriptor_pool.Default()
    for module in modules():
        file = importlib.import_module(module).DESCRIPTOR
        for service in file.services_by_name.values():
            full = pool.FindServiceByName(service.full_name)
            part = service.full_name.split(".")[1]
            services[service.full_name] = {
                method.name: Method(
                    service=service.full_name,
                    name=method.name,
                    part=part,
                    noun=service.name,
                    request=message_factory.GetMessageClass(method.input_type),
                    answer=message_factory.GetMessageClass(method.output_type),
                    client_streams=method.client_streaming,
                    server_streams=method.server_streaming,
                )
                for method in full.methods
            }
    return services


def method(service: str, name: str) -> Method:
    """One method. Raises KeyError with the full name if the contracts have no such method."""
    try:
        return table()[service][name]
    except KeyError:
        raise KeyError(f"the contracts have no method {service}/{name}") from None


def options(found: Method) -> Message:
    """The options that the contract sets on a method."""
    service = descriptor_pool.Default().FindServiceByName(found.service)
    return service.methods_by_name[found.name].GetOptions()


def methods() -> Iterator[Method]:
    for found in table().values():
        yield from found.values()
