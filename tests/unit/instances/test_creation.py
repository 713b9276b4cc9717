"""What a request for a new instance is made into."""

from __future__ import annotations

import pytest

from chassis.errors import BadRequest
from services.instances import creation


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("", {}),
        ("c2", {"limits.cpu": "2"}),
        ("c1-m2", {"limits.cpu": "1", "limits.memory": "2048MB"}),
        ("m0.5", {"limits.memory": "512MB"}),
        ("c0.5-m1", {"limits.cpu": "1", "limits.cpu.allowance": "50%", "limits.memory": "1024MB"}),
    ],
)
def test_short_forms_of_limits(name: str, limits: dict[str, str]) -> None:
    assert creation.limits_of_type(name) == limits


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("c1.micro", "Bad custom instance type: c1.micro"),
        ("c", "Bad custom instance type: c"),
        ("t2.micro", "Provided instance type doesn't exist: t2.micro"),
        ("-", "Provided instance type doesn't exist: -"),
    ],
)
def test_unknown_types_are_refused(name: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        creation.limits_of_type(name)


def test_the_type_comes_from_the_body_or_the_path() -> None:
    assert creation.instance_type("", "instances") == "container"
    assert creation.instance_type("", "virtual-machines") == "virtual-machine"
    with pytest.raises(BadRequest, match="Invalid instance type"):
        creation.instance_type("zzz", "instances")
