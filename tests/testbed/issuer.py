"""An issuer of tokens, and attacks by somebody without its key."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER, AUDIENCE, ORGANISATION = "https://login.example.org", "irt", "acme"
MAX_AGE_S = 24 * 3600


class Absent(Enum):
    """Marks a claim that is left out. Its name is the same in every process, so test ids are stable."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


@cache
def private_key(algorithm: str, owner: str = "the issuer's") -> Any:
    """Returns the key of an algorithm and owner, generated once for all tests."""
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


@dataclass
class Issuer:
    """Signs any header and claims, well-formed or not."""

    algorithm: str = "RS256"
    key_id: str = "2026"
    key: Any = field(default=None)

    def __post_init__(self) -> None:
        self.key = self.key or private_key(self.algorithm)

    def settings(self, folder: Path) -> dict[str, Any]:
        """Settings for a login with this issuer's tokens. Writes its public key to a file in `folder`."""
        path = folder / "public.pem"
        path.write_bytes(self.pem)
        return {
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
            "irt_org_id": ORGANISATION,
            "jwt_public_key_path": path,
        }

    @property
    def pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def jwk(self) -> dict[str, Any]:
        made = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.key.public_key(), as_dict=True)
        return {**made, "kid": self.key_id, "use": "sig", "alg": self.algorithm}

    @property
    def jwks(self) -> bytes:
        return json.dumps({"keys": [self.jwk]}).encode()

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        sound = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ann",
            "iat": now - 60,
            "exp": now + 3600,
            "org_id": ORGANISATION,
            "roles": ["viewer", "psychometrician"],
            "scope": "exam:write openid",
        }
        return {name: value for name, value in (sound | changes).items() if value is not ABSENT}

    def token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Returns a valid token with these changes to its header and claims."""
        return self.sign(json.dumps(self.header(**(header or {}))), json.dumps(self.claims(**changes)))

    def header(self, **changes: Any) -> dict[str, Any]:
        sound = {"alg": self.algorithm, "typ": "JWT", "kid": self.key_id}
        return {name: value for name, value in (sound | changes).items() if value is not ABSENT}

    def sign(self, header: str, claims: str, by: Callable[[bytes], bytes] | None = None) -> str:
        """Returns the two texts unchanged, signed with this issuer's key or by the function `by`."""
        signed = f"{base64url(header.encode())}.{base64url(claims.encode())}"
        by = by or (lambda data: jwt.get_algorithm_by_name(self.algorithm).sign(data, self.key))
        return f"{signed}.{base64url(by(signed.encode()))}"

    def forged(self, by: Callable[[bytes], bytes], **header: Any) -> str:
        return self.sign(json.dumps(self.header(**header)), json.dumps(self.claims()), by)


def secret(key: bytes, digest: str = "sha256") -> Callable[[bytes], bytes]:
    """Returns the signing function of HS256, HS384 or HS512."""
    return lambda data: hmac.new(key, data, getattr(hashlib, digest)).digest()


def after(seconds: float) -> int:
    return int(time.time() + seconds)


def _swapped(issuer: Issuer) -> str:
    """Claims of an operator with the signature of another user's token."""
    head, _, signature = issuer.token().split(".")
    return ".".join([head, issuer.token(roles=["operator"]).split(".")[1], signature])


def _twice(issuer: Issuer, pair: str) -> str:
    """Valid claims followed by a repeated claim."""
    claims = json.dumps(issuer.claims())
    return issuer.sign(json.dumps(issuer.header()), f"{claims[:-1]}, {pair}}}")


def _stranger(issuer: Issuer) -> Issuer:
    return Issuer(issuer.algorithm, issuer.key_id, private_key(issuer.algorithm, "a stranger's"))


def _by_secret(issuer: Issuer, key: bytes, key_id: str) -> str:
    return issuer.forged(secret(key), alg="HS256", kid=key_id)


def _by_stranger(issuer: Issuer, **header: Any) -> str:
    return _stranger(issuer).token(header)


def _der(issuer: Issuer) -> bytes:
    return issuer.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Attack:
    """An attack. `reasons`: accepted reasons of the refusal, with a PEM file and with a JWKS."""

    name: str
    make: Callable[[Issuer], str]
    reasons: str
    status: int = 401

    def __str__(self) -> str:
        return self.name


def _shown(name: str, value: Any) -> str:
    return f"{name} absent" if value is ABSENT else f"{name} {value!r:.40}"


TWICE = [
    '"sub": "root"',
    '"exp": 99999999999',
    '"roles": ["operator"]',
    '"note": {"a": 1, "a": 2}',
    '"s\\u0075b": "root"',
]
CLAIMS: list[tuple[str, str, int, list[Any]]] = [
    ("exp", "malformed expired", 401, ["9999999999", True, [], {}, float("inf"), float("nan"), -1, 0, 10**400]),
    ("iat", "malformed not_yet_valid", 401, ["0", True, [], float("inf"), 10**400]),
    ("nbf", "malformed not_yet_valid", 401, ["0", True, [], float("inf"), 10**400]),
    ("iss", "wrong_issuer", 401, ["https://evil.example", f"{ISSUER}/", ISSUER[:-1], "", [ISSUER], {ISSUER: 1}]),
    ("aud", "wrong_audience", 401, ["other", "irt2", "ir", ["other"], {"irt": 1}, 7, [7, "irt"]]),
    *((name, "missing_claim", 401, [ABSENT]) for name in ("iss", "aud", "exp", "iat", "sub")),
    ("aud", "missing_claim", 401, ["", []]),
    ("scope", "bad_scope", 401, [["exam:write"], {}, 7, None]),
    ("sub", "bad_name", 403, ["ann\r\nX-Roles: operator", "ann\n", "a\x00b", "", "x" * 257, "\u202enna"]),
    ("sub", "malformed missing_claim", 401, [7, ["ann"], {"a": 1}, None]),
    ("org_id", "wrong_organisation", 403, ["other", "Acme", "acme ", ["acme"], None, 7, ABSENT]),
]
"""Claims that a valid token must not have: name, reasons, status, values."""

ATTACKS = [
    *(
        Attack(f"alg {alg!r}, no signature", lambda i, alg=alg: i.forged(lambda _: b"", alg=alg), "malformed")
        for alg in ("none", "None", "NONE", "")
    ),
    Attack("alg none, a signature that is none", lambda i: i.forged(lambda _: b"none", alg="none"), "algorithm"),
    Attack("alg none, the issuer's signature", lambda i: i.token({"alg": "none"}), "algorithm"),
    Attack("HS256 with the public PEM", lambda i: i.forged(secret(i.pem), alg="HS256"), "algorithm"),
    Attack("HS256 with the stripped PEM", lambda i: i.forged(secret(i.pem.strip()), alg="HS256"), "algorithm"),
    Attack("HS512 with the public PEM", lambda i: i.forged(secret(i.pem, "sha512"), alg="HS512"), "algorithm"),
    Attack("HS256 with the public DER", lambda i: i.forged(secret(_der(i)), alg="HS256"), "algorithm"),
    Attack("HS256 with the JWK", lambda i: i.forged(secret(json.dumps(i.jwk).encode()), alg="HS256"), "algorithm"),
    Attack("HS256's signature, the right alg", lambda i: i.forged(secret(i.pem)), "bad_signature"),
    *(
        Attack(f"alg {alg}, the issuer's signature", lambda i, alg=alg: i.token({"alg": alg}), "algorithm")
        for alg in ("RS512", "PS256", "ES384", ["RS256"], {"RS256": 1}, None, 7, ABSENT)
    ),
    *(
        Attack(f"kid {kid!r}, HS256", lambda i, k=kid, s=key: _by_secret(i, s, k), "algorithm unknown_key")
        for kid, key in (
            ("../../../../dev/null", b""),
            ("/proc/sys/kernel/randomize_va_space", b"2\n"),
            ("x' UNION SELECT 'secret' --", b"secret"),
            ("|cat /etc/passwd", b""),
        )
    ),
    *(
        Attack(f"kid {kid!r}", lambda i, k=kid: _by_stranger(i, kid=k), "bad_signature unknown_key")
        for kid in ("https://evil.example/jwks.json", "file:///etc/passwd", "", "\x00", "😀", "2026 ", "__class__")
    ),
    *(
        Attack(f"kid {kid!s:.9}", lambda i, k=kid: i.token({"kid": k}), "malformed")
        for kid in (7, [], {}, True, "k" * 257)
    ),
    Attack("kid of 10 kB", lambda i: i.token({"kid": "k" * 10_000}), "too_large"),
    Attack("jwk in the header", lambda i: _by_stranger(i, jwk=_stranger(i).jwk), "brings_a_key"),
    Attack("jku in the header", lambda i: _by_stranger(i, jku="https://evil.example/jwks.json"), "brings_a_key"),
    Attack("x5u in the header", lambda i: _by_stranger(i, x5u="https://evil.example/c.pem"), "brings_a_key"),
    Attack("x5c in the header", lambda i: _by_stranger(i, x5c=[base64url(_der(_stranger(i)))]), "brings_a_key"),
    Attack("jwk, the issuer's signature", lambda i: i.token({"jwk": i.jwk}), "brings_a_key"),
    Attack("crit", lambda i: i.token({"crit": ["exp"]}), "malformed"),
    Attack("b64 false", lambda i: i.token({"b64": False, "crit": ["b64"]}), "malformed"),
    Attack("another kind of JWT", lambda i: i.token({"typ": "logout+jwt"}), "malformed"),
    Attack("typ a list", lambda i: i.token({"typ": ["JWT"]}), "malformed"),
    Attack("a stranger's key", _by_stranger, "bad_signature"),
    Attack("swapped claims", _swapped, "bad_signature"),
    Attack("a signature of zeros", lambda i: i.forged(lambda _: bytes(64)), "bad_signature"),
    Attack("a signature cut short", lambda i: i.token()[:-8], "bad_signature malformed"),
    Attack("no signature", lambda i: i.token().rpartition(".")[0] + ".", "malformed"),
    Attack("two parts", lambda i: i.token().rpartition(".")[0], "malformed"),
    Attack("five parts", lambda i: i.token() + ".YQ.YQ", "malformed"),
    Attack("padded", lambda i: i.token() + "==", "malformed"),
    Attack("another alphabet", lambda i: i.forged(lambda _: b"\xff" * 9).replace("_", "/"), "malformed"),
    Attack("a space in it", lambda i: i.token().replace(".", ". "), "malformed"),
    Attack("another text", lambda i: "'; DROP TABLE users; --", "malformed"),
    Attack("no JSON", lambda i: i.sign("{}}", "{"), "malformed"),
    Attack("a header that is a list", lambda i: i.sign("[]", json.dumps(i.claims())), "malformed"),
    Attack("claims that are a text", lambda i: i.sign(json.dumps(i.header()), '"ann"'), "malformed"),
    Attack("claims that are not UTF-8", lambda i: i.token().split(".")[0] + "._w.YQ", "malformed"),
    Attack("nested a thousandfold", lambda i: i.sign(json.dumps(i.header()), "[" * 2500 + "]" * 2500), "malformed"),
    Attack("9 kB", lambda i: i.token(note="x" * 9000), "too_large"),
    *(Attack(f"twice: {pair}", lambda i, p=pair: _twice(i, p), "duplicate_claim") for pair in TWICE),
    Attack(
        "alg twice",
        lambda i: i.sign(f'{{"alg": "none", "alg": "{i.algorithm}"}}', json.dumps(i.claims())),
        "duplicate_claim",
    ),
    *(Attack(f"expired {s} s ago", lambda i, s=s: i.token(exp=after(-s)), "expired") for s in (32, 3600, 10**9)),
    Attack("not valid yet", lambda i: i.token(nbf=after(90)), "not_yet_valid"),
    Attack("issued in the future", lambda i: i.token(iat=after(90)), "not_yet_valid"),
    Attack("issued too long ago", lambda i: i.token(iat=after(-MAX_AGE_S - 90)), "too_old"),
    Attack("exp null", lambda i: i.token(exp=None), "malformed"),
    Attack("exp 1e999", lambda i: _raw(i, "exp", "1e999"), "malformed"),
    Attack("exp with 401 digits, not signed", lambda i: _endless(i), "malformed"),
    *(
        Attack(_shown(name, value), lambda i, n=name, v=value: i.token(**{n: v}), reasons, status)
        for name, reasons, status, values in CLAIMS
        for value in values
    ),
]
"""Attacks that every verifier refuses. Only their names depend on the algorithm of the issuer's key."""

UNFIT_FOR_HEADERS = ["Zoë", "ann operator", "안나", "😀"]
"""User names that are valid, but cannot be sent in a header."""


def _endless(issuer: Issuer) -> str:
    return issuer.sign(json.dumps(issuer.header(alg="none")), json.dumps(issuer.claims(exp=10**400)), lambda _: b"none")


def _raw(issuer: Issuer, name: str, value: str) -> str:
    """Valid claims with a number that `json.dumps` would write differently."""
    claims = json.dumps(issuer.claims(**{name: "HERE"})).replace('"HERE"', value)
    return issuer.sign(json.dumps(issuer.header()), claims)
