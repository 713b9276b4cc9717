"""What the gateway reads of the server's configuration: where to listen, whom to believe, what browsers are told."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from chassis.key_types import is_true
from chassis.listening import HTTPS, METRICS, with_port
from chassis.mirror import Mirror
from rows.control import ServerConfig, has_rbac


class Configuration:
    """The configuration of this moment."""

    def __init__(self, rows: Mirror[ServerConfig]) -> None:
        self.rows = rows

    @property
    def texts(self) -> Mapping[str, str]:
        row = self.rows.get("cluster")
        return row.value.config if row else {}

    def watch(self, callback: Callable[[], None]) -> None:
        """Call when it changes, and once now if there is one."""
        self.rows.watch(lambda *_: callback())

    def addresses(self) -> dict[str, bool]:
        """Where to listen for HTTPS, with the port; and whether that place is for metrics alone."""
        texts = self.texts
        metrics = texts.get("core.metrics_address", "")
        found = {with_port(metrics, METRICS): True} if metrics else {}
        whole = {texts.get("core.https_address"), os.environ.get("NUBIBUS_HTTPS")}
        return {**found, **{with_port(address, HTTPS): False for address in whole if address}}

    def proxies(self) -> frozenset[str]:
        """Addresses whose connections may begin with a PROXY header."""
        listed = self.texts.get("core.https_trusted_proxy", "").split(",")
        return frozenset(address.strip() for address in listed if address.strip())

    @property
    def metrics_are_open(self) -> bool:
        """Whether guests may read the metrics."""
        return not is_true(self.texts.get("core.metrics_authentication") or "true")

    @property
    def trusts_authority(self) -> bool:
        """Whether a certificate of the authority is trusted without an entry of its own."""
        return is_true(self.texts.get("core.trust_ca_certificates", ""))

    def auth_methods(self) -> tuple[str, ...]:
        """How clients may prove who they are."""
        asks = self.texts.get("candid.api.url") or has_rbac(self.texts)
        return ("tls", "candid") if asks else ("tls",)

    @property
    def debug_address(self) -> str:
        return self.texts.get("core.debug_address", "")
