"""Turn a request's token into an `Identity`, or raise `TokenRefused`.

This module does not depend on a web framework. What does not belong here: where keys come from (see `keys`), and how
refusals are sent (see `app`).
"""

import json
import logging
import re
import time
import traceback
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt

from resources.failures import PermanentFailure
from resources.settings import Settings
from services.jwt_verifier.keys import MAX_WAIT_S, KeySource, KeysUnavailable, key_source

LOG = logging.getLogger("services.jwt_verifier")
Role = Literal["viewer", "analyst", "psychometrician", "operator"]
ROLES: tuple[Role, ...] = ("viewer", "analyst", "psychometrician", "operator")
"""Roles from lowest to highest. Each role includes the rights of the roles before it."""
REQUIRED = ["iss", "aud", "exp", "iat", "sub"]
TIMES = ("exp", "iat", "nbf")
MAX_TIME = 253_402_300_800
"""Unix time of the year 10000; a larger number is not a time."""
LEEWAY_S = 30
MAX_AGE_S = 24 * 3600
"""Greatest age of a token, in seconds. An older token is refused, even if its `exp` is in the future."""
MAX_TOKEN_BYTES = 8 * 1024
MAX_NAME_LENGTH = 256
COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
TYPES = ("jwt", "at+jwt", "application/at+jwt")
KEY_HEADERS = ("jwk", "jku", "x5u", "x5c")

Reason = Literal[
    "no_token",
    "two_tokens",
    "too_large",
    "malformed",
    "algorithm",
    "brings_a_key",
    "unknown_key",
    "bad_signature",
    "expired",
    "too_old",
    "not_yet_valid",
    "wrong_issuer",
    "wrong_audience",
    "missing_claim",
    "duplicate_claim",
    "bad_scope",
    "bad_name",
    "wrong_organisation",
    "role_too_low",
    "unknown_role_required",
    "keys_unavailable",
    "internal",
]
SENTENCES: dict[Reason, str] = {
    "no_token": "No token came with the request: log in, or send Authorization: Bearer TOKEN.",
    "two_tokens": "More than one token came with the request.",
    "too_large": "The token is larger than 8 KiB.",
    "malformed": "The token is not a readable JWT.",
    "algorithm": "The token is not signed with its key's algorithm.",
    "brings_a_key": "The token names a key of its own; only the issuer's keys count.",
    "unknown_key": "The issuer has no key with the token's key id.",
    "bad_signature": "The signature is not the issuer's.",
    "expired": "The token has expired: log in again.",
    "too_old": "The token was issued too long ago: log in again.",
    "not_yet_valid": "The token is not valid yet: a clock is wrong here, or where it was issued.",
    "wrong_issuer": "The token comes from another issuer.",
    "wrong_audience": "The token is meant for another service.",
    "missing_claim": "The token lacks one of iss, aud, exp, iat, sub.",
    "duplicate_claim": "The token contains a field twice.",
    "bad_scope": "The token's scope is not a string.",
    "bad_name": "The token's sub or org_id is not a valid name.",
    "wrong_organisation": "The token belongs to another organisation.",
    "role_too_low": "This needs a higher role than the token has.",
    "unknown_role_required": "The proxy requires a role that does not exist.",
    "keys_unavailable": "The issuer's keys cannot be read at the moment.",
    "internal": "The token could not be verified.",
}
BY_ERROR: tuple[tuple[type[jwt.PyJWTError], Reason], ...] = (
    (jwt.ExpiredSignatureError, "expired"),
    (jwt.ImmatureSignatureError, "not_yet_valid"),
    (jwt.InvalidIssuerError, "wrong_issuer"),
    (jwt.InvalidAudienceError, "wrong_audience"),
    (jwt.MissingRequiredClaimError, "missing_claim"),
    (jwt.InvalidAlgorithmError, "algorithm"),
    (jwt.InvalidSignatureError, "bad_signature"),
)
FORBIDDEN = {"bad_name", "wrong_organisation", "role_too_low", "unknown_role_required", "keys_unavailable", "internal"}
"""Reasons for which logging in again does not help (403). For every other reason it does (401)."""


class TokenRefused(Exception):
    """A refusal: `reason` for programs, `status` 401 or 403, a message for people. The message quotes no claim."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(SENTENCES[reason])
        self.reason = reason
        self.status: Literal[401, 403] = 403 if reason in FORBIDDEN else 401


@dataclass(frozen=True)
class Identity:
    """The caller, according to the issuer. `exp`: when the token expires (Unix time, seconds)."""

    sub: str
    org_id: str
    roles: tuple[Role, ...]
    scope: frozenset[str]
    exp: float

    def has_role(self, role: Role) -> bool:
        """Whether one of the roles is this role or a higher one."""
        return any(ROLES.index(own) >= ROLES.index(role) for own in self.roles)

    def require_role(self, role: Role) -> None:
        if not self.has_role(role):
            raise TokenRefused("role_too_low")

    def require_current(self) -> None:
        """Check the expiry again, for pages that stay open after the token was verified."""
        if time.time() >= self.exp + LEEWAY_S:
            raise TokenRefused("expired")


@dataclass(frozen=True)
class Rules:
    """The required claims of a token.

    Attributes:
        roles: our role for each of the issuer's roles; every other role grants nothing.
        roles_claim: name of the claim with the roles; dots lead into nested claims.
        org_claim: name of the claim with the organisation, or None if tokens name no organisation.
    """

    issuer: str
    audience: str
    org_id: str
    max_age_s: float
    roles: Mapping[str, Role] = field(default_factory=lambda: {role: role for role in ROLES})
    roles_claim: str = "roles"
    org_claim: str | None = "org_id"


@dataclass(eq=False)
class Verifier:
    """Verifies tokens with the keys of `keys` and the rules of `rules`."""

    keys: KeySource
    rules: Rules

    def verify(self, token: str, wait_s: float = MAX_WAIT_S) -> Identity:
        """The token's identity. Raises only TokenRefused. `wait_s`: seconds to wait for keys that are being fetched."""
        try:
            return self._verify(token, wait_s)
        except TokenRefused:
            raise
        except KeysUnavailable:
            raise TokenRefused("keys_unavailable") from None
        except Exception as error:  # noqa: BLE001 - after any error the token is refused
            log_fault(error)
            raise TokenRefused("internal") from None

    def _verify(self, token: str, wait_s: float) -> Identity:
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenRefused("too_large")
        if not COMPACT.fullmatch(token):
            raise TokenRefused("malformed")
        header, claims = map(_object, token.split(".")[:2])
        key_id = _key_id(header)
        key = self.keys.find(key_id, wait_s)
        if key is None:
            raise TokenRefused("unknown_key")
        if not all(_is_time(claims[name]) for name in TIMES if name in claims):
            raise TokenRefused("malformed")
        try:
            jwt.decode(
                token,
                key.public,
                algorithms=[key.algorithm],
                audience=self.rules.audience,
                issuer=self.rules.issuer,
                leeway=LEEWAY_S,
                options={"require": REQUIRED},
            )
        except jwt.PyJWTError as error:
            reason: Reason = next((reason for kind, reason in BY_ERROR if isinstance(error, kind)), "malformed")
            raise TokenRefused(reason) from None
        return self._identity(claims)

    def _identity(self, claims: dict[str, Any]) -> Identity:
        if time.time() - claims["iat"] > self.rules.max_age_s + LEEWAY_S:
            raise TokenRefused("too_old")
        role_names, scope = _claim(claims, self.rules.roles_claim), claims.get("scope", "")
        if not isinstance(scope, str):
            raise TokenRefused("bad_scope")
        sub, org_id = claims["sub"], self.rules.org_id
        if self.rules.org_claim is not None and _claim(claims, self.rules.org_claim) != org_id:
            raise TokenRefused("wrong_organisation")
        if not 0 < len(sub) <= MAX_NAME_LENGTH or not sub.isprintable():
            raise TokenRefused("bad_name")
        texts = (name for name in role_names if isinstance(name, str)) if isinstance(role_names, list) else ()
        granted = {self.rules.roles.get(name) for name in texts}
        roles = tuple(role for role in ROLES if role in granted)
        return Identity(sub, org_id, roles, frozenset(scope.split()), float(claims["exp"]))


def build_verifier(settings: Settings) -> Verifier:
    """Build the verifier from the settings. Raises PermanentFailure if settings are missing or invalid."""
    required = {
        "JWT_ISSUER": settings.jwt_issuer,
        "JWT_AUDIENCE": settings.jwt_audience,
        "IRT_ORG_ID": settings.irt_org_id,
    }
    missing = [name for name, value in required.items() if not value]
    if missing:
        raise PermanentFailure(f"tokens cannot be verified: set {', '.join(missing)} (see docs/how-to/login.md)")
    issuer, audience, org_id = (str(value) for value in required.values())
    rules = Rules(
        issuer,
        audience,
        org_id,
        MAX_AGE_S,
        _roles(settings),
        settings.jwt_roles_claim,
        None if settings.jwt_org_claim == "none" else settings.jwt_org_claim,
    )
    return Verifier(key_source(settings), rules)


def _roles(settings: Settings) -> dict[str, Role]:
    by_name: dict[str, Role] = {role: role for role in ROLES}
    unknown = sorted(set(settings.login_roles.values()) - {*ROLES})
    if unknown:
        raise PermanentFailure(
            f"JWT_ROLES names {', '.join(unknown)}, which is not a role: write one of {', '.join(ROLES)} after ="
        )
    return {name: by_name[role] for name, role in settings.login_roles.items()} or by_name


def sent_token(authorization: Sequence[str], cookies: Sequence[str], cookie_name: str) -> str:
    """The token in a request's `Authorization` or else its `Cookie` headers.

    Raises TokenRefused if there is no token, or more than one: another program might choose a different token.
    """
    if len(authorization) > 1:
        raise TokenRefused("two_tokens")
    if authorization:
        scheme, _, token = authorization[0].partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise TokenRefused("no_token")
        return token.strip()
    pairs = [pair.strip().partition("=") for line in cookies for pair in line.split(";")]
    tokens = [value for name, _, value in pairs if name == cookie_name and value]
    if len(tokens) > 1:
        raise TokenRefused("two_tokens")
    if not tokens:
        raise TokenRefused("no_token")
    return tokens[0]


def log_fault(error: Exception) -> None:
    """Log where our own code failed, without the error's message, which may quote a token."""
    location = "".join(traceback.format_tb(error.__traceback__))
    LOG.error("verification failed with %s\n%s", type(error).__name__, location)


def _key_id(header: dict[str, Any]) -> str | None:
    if any(name in header for name in KEY_HEADERS):
        raise TokenRefused("brings_a_key")
    key_id, kind = header.get("kid"), header.get("typ", "JWT")
    if "crit" in header or "b64" in header or not isinstance(kind, str) or kind.lower() not in TYPES:
        raise TokenRefused("malformed")
    if key_id is not None and (not isinstance(key_id, str) or len(key_id) > MAX_NAME_LENGTH):
        raise TokenRefused("malformed")
    return key_id


def _object(segment: str) -> dict[str, Any]:
    """Parse a part of a token strictly, so that two programs cannot read it differently."""
    try:
        text = urlsafe_b64decode(segment + "=" * (-len(segment) % 4)).decode("utf-8")
        parsed = json.loads(text, object_pairs_hook=_unique_object)
    except (ValueError, RecursionError):
        raise TokenRefused("malformed") from None
    if not isinstance(parsed, dict):
        raise TokenRefused("malformed")
    return parsed


def _claim(claims: dict[str, Any], name: str) -> Any:
    """The claim with this name or, if there is none, the nested claim at the dotted path. Returns None without either.

    The whole name is tried first, because some logins use addresses as names: `https://example.org/roles`.
    """
    if name in claims:
        return claims[name]
    claim: Any = claims
    for part in name.split("."):
        claim = claim.get(part) if isinstance(claim, dict) else None
    return claim


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise TokenRefused("duplicate_claim")
    return parsed


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_TIME
