"""Whatever is asked is answered: as the API's description says, in LXD's envelope, never with a failure of the code itself.

Bounded here; `NUBIBUS_FUZZ=300` in the environment asks that many requests of each method (docs/rest.md has the figures). It has a
server of its own: a made-up `DELETE /1.0/images/0` means every image whose fingerprint begins so. What would make things on the host or
change where the server listens is asked with `validate-only=true`, which goes through the same checks.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections import Counter
from pathlib import Path

import pytest
import requests
import requests.adapters
import schemathesis
import urllib3
from hypothesis import HealthCheck, Phase, given, settings

from tests.conformance.servers import Server

EXAMPLES = int(os.environ.get("NUBIBUS_FUZZ", "4"))
ONLY_ASKED = re.compile(
    r"^(POST /1\.0/(networks|storage-pools|instances|containers|virtual-machines|images)|(PUT|PATCH) /1\.0)$"
)
OWN_FAILURE = re.compile(r"^[A-Z]\w*(Error|Exception|Interrupt): ")
FATAL = (500, 501, 503)  # that LXD itself answers; anything else beyond 499 is a failure


class Connection(urllib3.connection.HTTPConnection):
    """Over a unix socket, whatever the URL says."""

    path: Path

    def _new_conn(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(60)
        sock.connect(str(self.path))
        return sock


def session_of(path: Path) -> requests.Session:
    """A session whose every request goes to the unix socket."""
    pool = urllib3.HTTPConnectionPool("lxd")
    pool.ConnectionCls = type("ThisConnection", (Connection,), {"path": path})

    class Adapter(requests.adapters.HTTPAdapter):
        def get_connection_with_tls_context(self, *_: object, **__: object) -> urllib3.HTTPConnectionPool:
            return pool

    session = requests.Session()
    session.mount("http://", Adapter())
    return session


def check(response: requests.Response, what: str) -> None:
    assert response.status_code < 500 or response.status_code in FATAL, f"{what}: {response.status_code}"
    if response.headers.get("content-type") != "application/json" or not response.content:
        return
    told = json.loads(response.content)
    if response.status_code >= 400:
        assert told["type"] == "error", what
        assert told["error_code"] == response.status_code, what
        assert told["error"], what
        assert not OWN_FAILURE.match(told["error"]), f"{what}: {told['error']}"


@pytest.mark.timeout(600 + 30 * EXAMPLES)
def test_every_method_answers_whatever_is_asked(own_server: Server) -> None:
    if own_server.is_lxd:
        pytest.skip("LXD has no such document")
    base, session = "http://lxd", session_of(own_server.socket)
    schema = schemathesis.openapi.from_dict(session.get(f"{base}/1.0/openapi.json", timeout=30).json())
    failures: list[str] = []
    asked: Counter[str] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            if ONLY_ASKED.match(f"{case.method} {case.path}"):
                case.query = {**(case.query or {}), "validate-only": "true"}
            asked[case.method] += 1
            try:
                response = case.call(base_url=base, session=session, timeout=60)
            except requests.exceptions.InvalidURL:
                return
            check(response, f"{case.method} {case.formatted_path} {case.query} {str(case.body)[:200]}")

        try:
            ask()
        except (AssertionError, requests.RequestException, KeyError, ValueError) as error:
            failures.append(f"{operation.method.upper()} {operation.path}: {error}")
    print(f"{asked.total()} requests: {dict(asked)}")
    assert not failures, "\n".join(failures)
