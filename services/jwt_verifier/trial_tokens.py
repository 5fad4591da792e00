"""Tokens for trying the login before the company's login is connected, signed with a test key.

A verifier accepts these tokens only while its settings name the test key.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from resources.failures import PermanentFailure
from resources.settings import Settings
from services.jwt_verifier.tokens import ROLES, Role

FOLDER = "test-login"
LIFETIME_S = 3600


@dataclass(frozen=True)
class TrialToken:
    """A signed token, and the settings with which a server accepts the token."""

    token: str
    settings: dict[str, str]


def read_roles(names: Sequence[str]) -> list[Role]:
    """The roles with these names. Raises PermanentFailure if a name is not a role."""
    found = [role for role in ROLES if role in {*names}]
    if unknown := sorted({*names} - {*ROLES}):
        raise PermanentFailure(f"{', '.join(unknown)}: not a role; the roles are {', '.join(ROLES)}")
    return found


def make_trial_token(settings: Settings, sub: str, roles: Collection[Role], scope: str = "") -> TrialToken:
    """Sign a token that is valid for one hour, with the key pair in IRT_HOME/test-login (created if missing).

    Issuer, audience and organisation come from the settings, or are `irt-test` if unset. Raises PermanentFailure if
    the settings name another key, or if the private key is not one that this command made.
    """
    private, public = (settings.irt_home / FOLDER / name for name in ("private.pem", "public.pem"))
    setting = (
        "JWT_JWKS_URL" if settings.jwt_jwks_url else "JWT_PUBLIC_KEY_PATH" if settings.jwt_public_key_path else None
    )
    if setting and settings.jwt_public_key_path != public:
        raise PermanentFailure(
            f"{setting} names the company's key, and only the company's login can sign with it. To try the test key on "
            f"this machine, unset {setting} and set JWT_PUBLIC_KEY_PATH={public}"
        )
    key = _key(private, public)
    issuer, audience = settings.jwt_issuer or "irt-test", settings.jwt_audience or "irt-test"
    org_id = settings.irt_org_id or "irt-test"
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": sub,
        "iat": now,
        "exp": now + LIFETIME_S,
        "scope": scope,
    }
    claims[settings.jwt_roles_claim] = sorted(roles)
    if settings.jwt_org_claim != "none":
        claims[settings.jwt_org_claim] = org_id
    server_settings = {
        "JWT_PUBLIC_KEY_PATH": str(public),
        "JWT_ISSUER": issuer,
        "JWT_AUDIENCE": audience,
        "IRT_ORG_ID": org_id,
    }
    return TrialToken(jwt.encode(claims, key, algorithm="EdDSA", headers={"typ": "JWT"}), server_settings)


def _key(private: Path, public: Path) -> ed25519.Ed25519PrivateKey:
    if not private.exists():
        new_key = ed25519.Ed25519PrivateKey.generate()
        private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        private.touch(mode=0o600)
        private.write_bytes(
            new_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    key = serialization.load_pem_private_key(private.read_bytes(), None)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise PermanentFailure(f"{private} is not the key that this command made: delete {private.parent}")
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return key
