"""How objects are referred to, and which of them a caller may know of."""

from __future__ import annotations

from chassis import calls
from chassis.calls import Call, Caller
from chassis.references import in_project, visible


def test_a_url_names_its_project_unless_it_is_the_default_one() -> None:
    assert in_project("/1.0/networks/n", "default") == "/1.0/networks/n"
    assert in_project("/1.0/networks/n", "a&b") == "/1.0/networks/n?project=a%26b"


def test_a_caller_is_told_of_its_projects_only() -> None:
    urls = [in_project("/1.0/networks/n", project) for project in ("default", "a&b", "c")]
    assert visible(urls) == urls
    token = calls.enter(Call(caller=Caller(trusted=True, projects=("a&b",))))
    try:
        assert visible(urls) == [urls[1]]
    finally:
        calls.leave(token)
