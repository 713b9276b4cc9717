"""Clients without a certificate: macaroons that an identity service (a double of Candid) discharges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests

from tests import identity as double
from tests.conformance.client import Client, eventually
from tests.conformance.servers import Server
from tests.conformance.tls import free_port, open_at

KEYS = ("candid.api.url", "candid.api.key", "candid.domains", "candid.expiry", "core.https_address")


@pytest.fixture
def service() -> Iterator[double.IdentityService]:
    with double.IdentityService() as running:
        yield running


@pytest.fixture
def base(
    server: Server, api: Client, service: double.IdentityService, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """URL of the server, which asks the double who clients are."""
    port = free_port()
    config = {
        "core.https_address": f"127.0.0.1:{port}",
        "candid.api.key": service.public_key,
        "candid.api.url": service.url,
    }
    api.patch("/1.0", {"config": config})
    eventually(lambda: open_at(port))
    # The library's second request forgets `verify`, so the server's certificate is an authority of the environment.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.directory / "server.crt"))
    yield f"https://127.0.0.1:{port}"
    api.patch("/1.0", {"config": dict.fromkeys(KEYS, "")})


def ask(client: Any, url: str) -> requests.Response:
    answer: requests.Response = client.request("GET", url, timeout=30)
    return answer


@pytest.mark.extension("external_authentication")
def test_a_client_is_told_which_macaroon_to_discharge(base: str, service: double.IdentityService) -> None:
    plain = requests.get(f"{base}/1.0/profiles", timeout=30)
    assert plain.status_code == 403
    headers = {"Bakery-Protocol-Version": "3"}
    told = requests.get(f"{base}/1.0/profiles", headers=headers, timeout=30)
    assert told.status_code == 401
    assert told.headers["WWW-Authenticate"] == "Macaroon"
    assert told.json()["Code"] == "macaroon discharge required"
    assert told.json()["Info"]["Macaroon"]
    service.user = "jane@good"
    client = double.client()
    assert ask(client, f"{base}/1.0/profiles").status_code == 200
    assert ask(client, f"{base}/1.0").json()["metadata"]["auth"] == "trusted"
    forged = {"Bakery-Protocol-Version": "3", "Cookie": "macaroon-auth=W10="}
    assert requests.get(f"{base}/1.0/profiles", headers=forged, timeout=30).status_code == 401


@pytest.mark.extension("candid_authentication")
def test_candid_is_a_method_while_its_url_is_set(api: Client, base: str, service: double.IdentityService) -> None:
    assert api.get("/1.0")["auth_methods"] == ["tls", "candid"]
    with pytest.raises(Exception):  # noqa: B017  # the library has many
        ask(double.client(), f"{base}/1.0/profiles")  # nobody is logged in
    service.user = "jane@good"
    client = double.client()
    assert ask(client, f"{base}/1.0/profiles").status_code == 200
    api.patch("/1.0", {"config": {"candid.api.url": ""}})
    assert api.get("/1.0")["auth_methods"] == ["tls"]
    eventually(lambda: ask(client, f"{base}/1.0/profiles").status_code == 403)


@pytest.mark.extension("candid_config")
def test_domains_and_expiry(api: Client, base: str, service: double.IdentityService) -> None:
    assert api.request("PATCH", "/1.0", {"config": {"candid.expiry": "abc"}}).status == 400
    service.user = "jane@bad"
    assert ask(double.client(), f"{base}/1.0/profiles").status_code == 200
    api.patch("/1.0", {"config": {"candid.domains": "good"}})

    def refused() -> bool:
        with suppress(Exception):
            return ask(double.client(), f"{base}/1.0/profiles").status_code != 200
        return True

    eventually(refused)
    service.user = "jane@good"
    assert ask(double.client(), f"{base}/1.0/profiles").status_code == 200
    api.patch("/1.0", {"config": {"candid.expiry": "2"}})
    client = double.client()
    eventually(lambda: ask(client, f"{base}/1.0/profiles").status_code == 200)
    service.user = None

    def expired() -> bool:
        with suppress(Exception):
            return ask(client, f"{base}/1.0/profiles").status_code != 200
        return True

    eventually(expired)


@pytest.mark.extension("candid_config_key")
def test_with_a_key_the_service_is_not_asked_for_it(api: Client, base: str, service: double.IdentityService) -> None:
    service.user = "jane@good"
    assert ask(double.client(), f"{base}/1.0/profiles").status_code == 200
    assert service.asked == 0
    with double.IdentityService() as other:
        api.patch("/1.0", {"config": {"candid.api.key": other.public_key}})

        def refused() -> bool:
            with suppress(Exception):
                return ask(double.client(), f"{base}/1.0/profiles").status_code != 200
            return True

        eventually(refused)
