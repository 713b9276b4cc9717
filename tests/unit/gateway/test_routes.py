"""The table of routes, as it is derived from the contracts."""

from __future__ import annotations

import pytest

from services.gateway.routes import table_of_contracts


@pytest.mark.parametrize(
    ("path", "means_default"),
    [("/1.0/instances", True), ("/1.0/images", True), ("/1.0/projects", False), ("/1.0/warnings", False)],
)
def test_a_list_is_of_the_default_project_unless_the_project_is_optional(path: str, means_default: bool) -> None:
    found = table_of_contracts().match(path)
    assert found is not None
    assert found[0]["GET"].means_default is means_default
