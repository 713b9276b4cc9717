"""Candid: clients without a certificate who prove who they are with macaroons that an identity service discharged.

A client that speaks the bakery protocol and is not trusted gets a macaroon with a caveat for the service at `candid.api.url`; with the
discharge as a cookie it is who the service says, an administrator. With RBAC its service takes Candid's place, and what a user may do is
for `rbac` to say. Keys live as long as the process, as in LXD.
The bakery itself is the library's; it is loaded when the configuration first asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from chassis import errors
from chassis.calls import Caller
from rows.control import has_rbac
from services.gateway.configuration import Configuration
from services.gateway.encode import Response
from services.gateway.requests import Request

PROTOCOL_HEADER = "bakery-protocol-version"
COOKIE = "macaroon-"
SUFFIX = "auth"  # of the cookie's name
EXPIRY = 3600  # seconds, when candid.expiry is not set
CONDITION = "is-authenticated-user"
log = structlog.get_logger()


class Needed(Exception):
    """The client must discharge a macaroon first. Carries what the library says is missing."""

    def __init__(self, discharge: Any) -> None:
        super().__init__("discharge required")
        self.discharge = discharge


@dataclass(frozen=True, slots=True)
class Settings:
    url: str
    key: str
    domains: frozenset[str]
    expiry: int
    roles: bool = False  # RBAC says what a user may do

    @staticmethod
    def of(texts: Mapping[str, str]) -> Settings:
        if has_rbac(texts):
            return Settings(
                url=f"{texts['rbac.api.url'].rstrip('/')}/auth",
                key=texts.get("rbac.api.key", ""),
                domains=frozenset(),
                expiry=_seconds(texts.get("rbac.api.expiry") or texts.get("rbac.expiry", "")),
                roles=True,
            )
        domains = frozenset(name.strip() for name in texts.get("candid.domains", "").split(",") if name.strip())
        return Settings(
            url=texts.get("candid.api.url", ""),
            key=texts.get("candid.api.key", ""),
            domains=domains,
            expiry=_seconds(texts.get("candid.expiry", "")),
        )


def _seconds(expiry: str) -> int:
    return int(expiry) if expiry.isdecimal() else EXPIRY


class Candid:
    """Authenticates requests as the configuration of the moment says."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.settings: Settings | None = None
        self.bakery: Any = None

    def _ready(self) -> bool:
        """Whether Candid is on; a changed configuration makes a new bakery, and old cookies worth nothing."""
        settings = Settings.of(self.configuration.texts)
        if settings != self.settings:
            self.settings = settings
            self.bakery = make_bakery(settings) if settings.url else None
        return self.bakery is not None

    def caller(self, request: Request) -> Caller | None:
        """Who a client without a trusted certificate is; None if it does not speak the protocol. Raises Needed.

        With RBAC that is only the name: neither trusted nor an administrator yet.
        """
        speaks = PROTOCOL_HEADER in request.headers or COOKIE in request.headers.get("cookie", "")
        if not speaks or not self._ready():
            return None
        name = self._name(request.headers.get("cookie", ""))
        if name is None:
            return None
        assert self.settings is not None
        alone = not self.settings.roles
        address = request.peer.address
        return Caller(protocol="candid", username=name, address=address, admin=alone, trusted=alone)

    def _name(self, cookie: str) -> str | None:
        """Who the cookie's macaroons say it is; None for somebody who is not let in. Raises Needed without a good one."""
        from macaroonbakery import bakery, checkers, httpbakery

        def allowed(macaroons: list[Any]) -> Any:
            return self.bakery.checker.auth(macaroons).allow(checkers.AuthContext(), [bakery.LOGIN_OP])

        try:
            found = allowed([each for each in httpbakery.extract_macaroons({"Cookie": cookie}) if each])
        except bakery.DischargeRequiredError as discharge:
            raise Needed(discharge) from None
        except (bakery.PermissionDenied, bakery.IdentityError) as error:
            log.info("an identity was refused", reason=str(error))
            return None
        except Exception as error:  # a macaroon that is none: of as many kinds as there are ways to be wrong
            log.info("a macaroon was refused", reason=str(error))
            return self._name("") if cookie else None
        return str(found.identity.id()) if found.identity is not None else None

    async def challenge(self, needed: Needed, request: Request) -> Response:
        """401 with the macaroon to discharge. The service may be asked for its key, so this is done in a thread."""
        try:
            content, headers = await asyncio.to_thread(self._mint, needed, dict(request.headers))
        except Exception as error:  # the service is away, or not what it should be
            log.warning("the identity service cannot be used", error=str(error))
            raise errors.Internal(f"Candid: {error}") from None
        named = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        return Response(401, named, content)

    def _mint(self, needed: Needed, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
        from macaroonbakery import httpbakery

        assert self.settings is not None
        version = httpbakery.request_version({"Bakery-Protocol-Version": headers.get(PROTOCOL_HEADER)})
        until = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=self.settings.expiry)
        macaroon = self.bakery.oven.macaroon(version, until, needed.discharge.cavs(), needed.discharge.ops())
        content, made = httpbakery.discharge_required_response(macaroon, "/", SUFFIX)
        return content, made


def make_bakery(settings: Settings) -> Any:
    """A bakery whose identities come from the service. Raises nothing: what is wrong shows when it is used."""
    from macaroonbakery import bakery, httpbakery

    class Identities(bakery.IdentityClient):  # type: ignore[misc]  # the library has no types
        def identity_from_context(self, _context: Any) -> tuple[None, list[Any]]:
            from macaroonbakery import checkers

            caveat = checkers.Caveat(location=settings.url, condition=CONDITION)
            return None, [checkers.need_declared_caveat(caveat, ["username"])]

        def declared_identity(self, _context: Any, declared: Mapping[str, str]) -> Any:
            name = declared.get("username") or ""
            domain = name.rpartition("@")[2] if "@" in name else ""
            if not name:
                raise bakery.IdentityError("no username declared")
            if settings.domains and domain not in settings.domains:
                raise bakery.IdentityError(f'untrusted domain "{domain}"')
            return bakery.SimpleIdentity(name)

    locator = httpbakery.ThirdPartyLocator(allow_insecure=bool(settings.key))
    if settings.key:
        info = bakery.ThirdPartyInfo(public_key=bakery.PublicKey.deserialize(settings.key), version=3)
        locator._cache[settings.url.rstrip("/")] = info
    return bakery.Bakery(
        location=settings.url,
        locator=locator,
        key=bakery.generate_key(),
        identity_client=Identities(),
        authorizer=bakery.ACLAuthorizer(lambda _context, _operation: [bakery.EVERYONE]),
    )
