"""JWT verification: identities, refusal of forged and invalid tokens, roles, and the issuer's keys."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from resources.failures import PermanentFailure
from resources.settings import Settings
from services.jwt_verifier import keys
from services.jwt_verifier.app import build_app
from services.jwt_verifier.keys import JwksKeys, KeySource, KeysUnavailable, PemKey, fetch_jwks, key_source, parse_jwks
from services.jwt_verifier.tokens import (
    ROLES,
    Identity,
    Role,
    Rules,
    TokenRefused,
    Verifier,
    build_verifier,
    sent_token,
)
from services.jwt_verifier.trial_tokens import make_trial_token
from tests.helpers.asgi import Answer, ask
from tests.testbed.issuer import (
    ABSENT,
    ATTACKS,
    AUDIENCE,
    ISSUER,
    MAX_AGE_S,
    ORGANISATION,
    UNFIT_FOR_HEADERS,
    Attack,
    Issuer,
    after,
    private_key,
)

RULES = Rules(ISSUER, AUDIENCE, ORGANISATION, MAX_AGE_S)
COOKIE = "__Host-irt"
door = cache(build_app)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    path = tmp_path_factory.mktemp("keys") / "public.pem"
    path.write_bytes(Issuer().pem)
    return Verifier(PemKey(path), RULES)


@pytest.fixture(scope="module")
def jwks() -> Iterator[Verifier]:
    keys = JwksKeys("https://login.example.org/jwks", fetch=lambda _: Issuer().jwks)
    keys.refresh()
    yield Verifier(keys, RULES)
    keys.close()


@pytest.fixture(params=["pem", "jwks"])
def verifier(request: pytest.FixtureRequest, pem: Verifier, jwks: Verifier) -> Verifier:
    return {"pem": pem, "jwks": jwks}[request.param]


def verify_token(verifier: Verifier, token: str, *more: tuple[str, str], method: str = "GET") -> Answer:
    """Return the verifier's response to nginx for a request with this token."""
    return ask(door(verifier, COOKIE), method, "/verify", [("authorization", f"Bearer {token}"), *more])


def user_header_names(answer: Answer) -> set[str]:
    return {name for name in ("x-user", "x-org-id", "x-roles") if name in answer.headers}


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_forged_or_invalid_token_is_refused_with_its_reason(verifier: Verifier, attack: Attack) -> None:
    token = attack.make(Issuer())
    with pytest.raises(TokenRefused) as refused:
        verifier.verify(token)
    assert refused.value.reason in attack.reasons.split()
    answer = verify_token(verifier, token)
    assert answer.status == refused.value.status == attack.status
    assert not user_header_names(answer)
    assert answer.headers.get("www-authenticate", "").startswith("Bearer ") == (attack.status == 401)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("source", ["pem", "jwks"])
def test_type_of_the_key_determines_the_accepted_algorithm(
    tmp_path: Path, source: str, algorithm: str, request: pytest.FixtureRequest
) -> None:
    issuer = Issuer(algorithm)
    (tmp_path / "public.pem").write_bytes(issuer.pem)
    keys: KeySource = (
        PemKey(tmp_path / "public.pem") if source == "pem" else JwksKeys("https://x/", fetch=lambda _: issuer.jwks)
    )
    request.addfinalizer(keys.close)
    verifier = Verifier(keys, RULES)
    assert verifier.verify(issuer.token()).sub == "ann"
    for other in {"RS256", "ES256", "EdDSA", "HS256", "none"} - {algorithm}:
        with pytest.raises(TokenRefused) as refused:
            verifier.verify(issuer.token({"alg": other}))
        assert refused.value.reason == "algorithm"
    for other in {"RS256", "ES256", "EdDSA"} - {algorithm}:
        with pytest.raises(TokenRefused):
            verifier.verify(Issuer(other).token())
    with pytest.raises(TokenRefused) as refused:
        verifier.verify(issuer.forged(lambda _: bytes(64)))
    assert refused.value.reason == "bad_signature"


def test_valid_token_identifies_the_user(verifier: Verifier) -> None:
    exp = after(1800)
    identity = verifier.verify(Issuer().token(exp=exp))
    scope = frozenset({"exam:write", "openid"})
    assert identity == Identity("ann", ORGANISATION, ("viewer", "psychometrician"), scope, exp)
    answer = verify_token(verifier, Issuer().token())
    assert answer.status == 200
    headers = {name: answer.headers[name] for name in ("x-user", "x-org-id", "x-roles", "cache-control")}
    assert headers == {
        "x-user": "ann",
        "x-org-id": "acme",
        "x-roles": "viewer,psychometrician",
        "cache-control": "no-store",
    }


@pytest.mark.parametrize(
    ("claim", "seconds"), [("exp", -10), ("exp", 0.5), ("nbf", 20), ("iat", 20), ("iat", -MAX_AGE_S)]
)
def test_token_is_accepted_if_clocks_differ_by_a_few_seconds(pem: Verifier, claim: str, seconds: float) -> None:
    assert verify_token(pem, Issuer().token(**{claim: time.time() + seconds})).status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", AUDIENCE]},
        {"roles": ["viewer", "viewer"]},
        {"scope": ABSENT},
        {"note": "x" * 4000, "nested": {"a": [{"a": None}]}},
        {"sub": "!~,;=\"'<>&%$"},
    ],
)
def test_additional_claims_are_accepted(verifier: Verifier, changes: dict[str, Any]) -> None:
    assert verify_token(verifier, Issuer().token(**changes)).status == 200


@pytest.mark.parametrize("header", [{"typ": ABSENT}, {"typ": "at+jwt"}, {"x5t": "abc"}])
def test_additional_header_fields_are_accepted(verifier: Verifier, header: dict[str, Any]) -> None:
    assert verify_token(verifier, Issuer().token(header)).status == 200


@pytest.mark.parametrize("name", UNFIT_FOR_HEADERS)
def test_user_name_that_cannot_be_a_header_is_refused_by_the_endpoint(verifier: Verifier, name: str) -> None:
    token = Issuer().token(sub=name)
    assert verifier.verify(token).sub == name
    answer = verify_token(verifier, token)
    assert (answer.status, user_header_names(answer)) == (403, set())


@pytest.mark.parametrize("own", ROLES)
@pytest.mark.parametrize("needed", ROLES)
def test_role_includes_the_permissions_of_lower_roles(pem: Verifier, own: Role, needed: Role) -> None:
    answer = verify_token(pem, Issuer().token(roles=[own]), ("x-required-role", needed))
    assert answer.status == (200 if ROLES.index(own) >= ROLES.index(needed) else 403)


NO_ROLE = [[], ABSENT, ["student", "admin"], "operator", {"operator": 1}, [["operator"]], [None], 7, None]
NO_ROLE += [["Operator", "operator\r\n"], ["operator "]]


@pytest.mark.parametrize("roles", NO_ROLE)
def test_user_without_a_known_role_is_identified_and_refused(pem: Verifier, roles: object) -> None:
    """Such tokens belong to learners, or to services with a scope alone. A second login would not help, so the status
    is not 401."""
    token = Issuer().token(roles=roles)
    assert pem.verify(token).roles == ()
    assert verify_token(pem, token).status == 403


def test_unknown_roles_are_ignored(pem: Verifier) -> None:
    token = Issuer().token(roles=["admin", "analyst", "viewer"])
    assert pem.verify(token).roles == ("viewer", "analyst")
    assert verify_token(pem, token, ("x-required-role", "analyst")).headers["x-roles"] == "viewer,analyst"


def test_only_mapped_roles_count_if_the_settings_map_the_companys_roles(tmp_path: Path) -> None:
    """Our own names of roles do not count either, as the company's operator may have different duties."""
    settings = Settings(**Issuer().settings(tmp_path), jwt_roles="admin=operator, dc=teachers=viewer")
    verifier = build_verifier(settings)
    for roles, ours in {("admin",): ("operator",), ("dc=teachers", "operator"): ("viewer",), ("operator",): ()}.items():
        assert verifier.verify(Issuer().token(roles=list(roles))).roles == ours


def verifier_with(folder: Path, **named: str) -> Verifier:
    return build_verifier(Settings(**Issuer().settings(folder), **named))


@pytest.mark.parametrize(
    ("claim", "claims"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["analyst"]}}),
        ("https://example.org/roles", {"https://example.org/roles": ["analyst"]}),
    ],
)
def test_roles_are_read_from_the_claim_of_the_settings(tmp_path: Path, claim: str, claims: dict[str, Any]) -> None:
    verifier = verifier_with(tmp_path, jwt_roles_claim=claim)
    assert verifier.verify(Issuer().token(roles=ABSENT, **claims)).roles == ("analyst",)
    assert verifier.verify(Issuer().token(roles=["operator"])).roles == ()
    assert verifier.verify(Issuer().token(roles=ABSENT, realm_access="analyst")).roles == ()


def test_organisation_is_read_from_the_claim_of_the_settings_unless_disabled(tmp_path: Path) -> None:
    elsewhere = verifier_with(tmp_path, jwt_org_claim="org.id")
    assert elsewhere.verify(Issuer().token(org_id=ABSENT, org={"id": ORGANISATION})).org_id == ORGANISATION
    with pytest.raises(TokenRefused, match="another organisation"):
        elsewhere.verify(Issuer().token())
    without = verifier_with(tmp_path, jwt_org_claim="none")
    assert without.verify(Issuer().token(org_id=ABSENT)).org_id == ORGANISATION


def test_trial_token_is_accepted_with_the_settings_printed_for_the_token(tmp_path: Path) -> None:
    home = Settings(_env_file=None, irt_home=tmp_path, jwt_roles_claim="realm_access.roles")
    made = make_trial_token(home, "ann", ["analyst"], "exam:write")
    named = {name.lower(): value for name, value in made.settings.items()}
    identity = build_verifier(Settings(_env_file=None, jwt_roles_claim="realm_access.roles", **named)).verify(
        made.token
    )
    assert (identity.sub, identity.roles, identity.scope) == ("ann", ("analyst",), {"exam:write"})
    assert (tmp_path / "test-login/private.pem").stat().st_mode & 0o777 == 0o600
    again = make_trial_token(Settings(_env_file=None, irt_home=tmp_path, **named), "bob", ["viewer"])
    assert build_verifier(Settings(_env_file=None, **named)).verify(again.token).sub == "bob"


def test_trial_token_is_refused_if_the_settings_name_the_companys_key(tmp_path: Path) -> None:
    company = Settings(_env_file=None, irt_home=tmp_path, jwt_public_key_path=tmp_path / "company.pem")
    with pytest.raises(PermanentFailure, match="JWT_PUBLIC_KEY_PATH names the company's key"):
        make_trial_token(company, "ann", ["operator"])


def test_setting_that_maps_to_an_unknown_role_is_refused(tmp_path: Path) -> None:
    settings = Settings(**Issuer().settings(tmp_path), jwt_roles="admin=root")
    with pytest.raises(PermanentFailure, match=r"JWT_ROLES names root.*viewer, analyst, psychometrician, operator"):
        build_verifier(settings)
    with pytest.raises(ValidationError, match="THEIRS=OURS"):
        Settings(jwt_roles="admin")


@pytest.mark.parametrize("needed", ["root", "", "viewer, operator", "VIEWER"])
def test_request_that_requires_an_unknown_role_is_refused(pem: Verifier, needed: str) -> None:
    assert verify_token(pem, Issuer().token(roles=["operator"]), ("x-required-role", needed)).status == 403


def test_request_with_two_required_roles_is_refused(pem: Verifier) -> None:
    twice = [("x-required-role", "viewer"), ("x-required-role", "viewer")]
    assert verify_token(pem, Issuer().token(roles=["operator"]), *twice).status == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PROPFIND", "BREW"])
def test_responses_have_only_status_200_401_or_403(pem: Verifier, method: str) -> None:
    assert verify_token(pem, Issuer().token(), method=method).status in (200, 403)
    assert verify_token(pem, "garbage", method=method).status in (401, 403)


@pytest.mark.parametrize("fault", [RuntimeError, ValueError, MemoryError, RecursionError, KeyError])
def test_request_is_refused_if_reading_a_key_raises_an_error(
    fault: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(PemKey):
        def __init__(self) -> None:
            """Skip reading a file."""

        def find(self, key_id: str | None, wait_s: float = 0) -> Any:
            raise fault(f"could not read {TOKEN}")

    answer = verify_token(Verifier(Broken(), RULES), TOKEN)
    assert (answer.status, user_header_names(answer)) == (403, set())
    assert TOKEN not in caplog.text + answer.text
    assert fault.__name__ in caplog.text


def test_request_is_refused_if_the_verifier_raises_an_error() -> None:
    class Broken(Verifier):
        def verify(self, token: str, wait_s: float = 0) -> Identity:
            raise RuntimeError(token)

    keys = JwksKeys("https://login.example.org/jwks", fetch=lambda _: Issuer().jwks)
    answer = verify_token(Broken(keys, RULES), TOKEN)
    assert (answer.status, user_header_names(answer)) == (403, set())


TOKEN = Issuer().token()


def test_tokens_are_never_logged_or_included_in_responses(verifier: Verifier, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = build_app(verifier, COOKIE)
    tokens = [TOKEN, *(attack.make(Issuer()) for attack in ATTACKS)]
    output = "".join(ask(app, "GET", "/verify", {"authorization": f"Bearer {token}"}).text for token in tokens)
    output += caplog.text + ask(app, "GET", "/metrics").text
    assert not any(part in output for token in tokens for part in token.split(".") if len(part) > 12)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("authorization", f"Bearer {TOKEN}")], 200),
        ([("authorization", f"bearer   {TOKEN} ")], 200),
        ([("cookie", f"{COOKIE}={TOKEN}")], 200),
        ([("cookie", f"a=b; {COOKIE}={TOKEN}; theme=dark")], 200),
        ([("cookie", "a=b"), ("cookie", f"{COOKIE}={TOKEN}")], 200),
        ([("authorization", f"Bearer {TOKEN}"), ("cookie", f"{COOKIE}=rubbish")], 200),
        ([("authorization", "Bearer rubbish"), ("cookie", f"{COOKIE}={TOKEN}")], 401),
        ([("authorization", "Basic YTpi"), ("cookie", f"{COOKIE}={TOKEN}")], 401),
        ([("authorization", ""), ("cookie", f"{COOKIE}={TOKEN}")], 401),
        ([("authorization", f"Bearer {TOKEN}")] * 2, 401),
        ([("cookie", f"{COOKIE}={TOKEN}; {COOKIE}={TOKEN}")], 401),
        ([("cookie", f"{COOKIE}=x"), ("cookie", f"{COOKIE}={TOKEN}")], 401),
        ([("cookie", f"{COOKIE.lower()}={TOKEN}")], 401),
        ([("cookie", f"X{COOKIE}={TOKEN}")], 401),
        ([("cookie", f'{COOKIE}="{TOKEN}"')], 401),
        ([("authorization", TOKEN)], 401),
        ([("authorization", f"Bearer {TOKEN}, Bearer {TOKEN}")], 401),
        ([("authorization", "Bearer \u00ff")], 401),
        ([("x-user", "ann"), ("x-roles", "operator")], 401),
        ([], 401),
    ],
)
def test_token_is_read_from_the_authorization_header_or_from_the_cookie(
    pem: Verifier, headers: list[tuple[str, str]], status: int
) -> None:
    assert ask(door(pem, COOKIE), "GET", "/verify", headers).status == status


def test_response_names_an_error_only_if_a_token_was_sent(pem: Verifier) -> None:
    """RFC 6750, section 3.1, requires this."""
    assert ask(build_app(pem, COOKIE), "GET", "/verify").headers["www-authenticate"] == 'Bearer realm="irt"'
    wrong = verify_token(pem, "x.y.z").headers["www-authenticate"]
    assert wrong == 'Bearer realm="irt", error="invalid_token"'


def test_token_is_read_from_the_cookie_with_the_given_name(pem: Verifier) -> None:
    assert ask(build_app(pem, "session"), "GET", "/verify", {"cookie": f"session={TOKEN}"}).status == 200
    with pytest.raises(TokenRefused, match="No token"):
        sent_token([], [f"{COOKIE}={TOKEN}"], "session")


def test_verifications_are_counted_by_reason(pem: Verifier) -> None:
    app = build_app(pem, COOKIE)
    for token in [TOKEN, TOKEN, "x", Issuer().token(org_id="other")]:
        ask(app, "GET", "/verify", {"authorization": f"Bearer {token}"})
    ask(app, "GET", "/verify")
    lines = ask(app, "GET", "/metrics").text.splitlines()
    counted = dict(line.rsplit(" ", 1) for line in lines if line.startswith("jwt_verifications_total{"))
    assert counted == {
        'jwt_verifications_total{reason="valid",result="allowed"}': "2.0",
        'jwt_verifications_total{reason="malformed",result="refused"}': "1.0",
        'jwt_verifications_total{reason="wrong_organisation",result="refused"}': "1.0",
        'jwt_verifications_total{reason="no_token",result="refused"}': "1.0",
    }


def test_identity_is_refused_once_its_token_has_expired(pem: Verifier) -> None:
    pem.verify(Issuer().token(exp=after(60))).require_current()
    with pytest.raises(TokenRefused, match="expired"):
        Identity("ann", "acme", ("operator",), frozenset(), after(-31)).require_current()


@pytest.mark.parametrize("missing", ["jwt_issuer", "jwt_audience", "irt_org_id"])
def test_error_names_a_missing_setting(tmp_path: Path, missing: str) -> None:
    given = Issuer().settings(tmp_path)
    assert build_verifier(Settings(**given, _env_file=None)).verify(TOKEN).sub == "ann"
    with pytest.raises(PermanentFailure, match=missing.upper()):
        build_verifier(Settings(**{**given, missing: None}, _env_file=None))


@pytest.mark.parametrize(
    "url", ["https://login.example.org/jwks", "http://localhost:8080/jwks", "http://[::1]/jwks?a=b"]
)
def test_local_key_urls_may_use_http(url: str) -> None:
    assert Settings(jwt_jwks_url=url, _env_file=None).jwt_jwks_url == url


# -- keys --------------------------------------------------------------------------------------------
# Keys: which keys are used, when they are read again, and that tokens cannot cause many fetches.

URL = "https://login.example.org/jwks"
MINUTE_S = 60.0
KEY_RULES = Rules(ISSUER, AUDIENCE, ORGANISATION, 24 * 60 * MINUTE_S)
OTHER = private_key("RS256", "a stranger's")


class FakeIssuer:
    """An issuer that publishes the result of `answer`, records its requests, and has a clock that tests set."""

    def __init__(self, answer: Callable[[], bytes] = lambda: Issuer().jwks) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.now = 0.0

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        return self.answer()

    @contextmanager
    def keys(self) -> Iterator[JwksKeys]:
        made = JwksKeys(URL, fetch=self.fetch, clock=lambda: self.now)
        yield made
        made.close()


def refuse_connection() -> bytes:
    raise requests.ConnectionError("the issuer is away")


def test_random_key_ids_cause_at_most_a_single_fetch_in_thirty_seconds() -> None:
    issuer = FakeIssuer()
    with issuer.keys() as source:
        verifier = Verifier(source, KEY_RULES)
        for number in range(10_000):
            with pytest.raises(TokenRefused, match="no key with the token's key id"):
                verifier.verify(Issuer().forged(lambda _: b"x", kid=f"random-{number}"))
        assert len(issuer.asked) == 1
        issuer.now += 31
        assert all(source.find(f"later-{number}") is None for number in range(1000))
        assert issuer.asked == [URL, URL]


def test_simultaneous_requests_share_a_single_fetch() -> None:
    together, let_go = threading.Barrier(17), threading.Event()
    issuer = FakeIssuer(lambda: Issuer().jwks if let_go.wait(10) else b"")

    def find(_: int) -> object:
        together.wait(10)
        return source.find("2026")

    with issuer.keys() as source, ThreadPoolExecutor(16) as pool:
        found = pool.map(find, range(16))
        together.wait(10)
        let_go.set()
        assert None not in list(found)
        assert len(issuer.asked) == 1


def test_withdrawn_key_is_removed_by_the_next_fetch() -> None:
    issuer = FakeIssuer()
    with issuer.keys() as source:
        assert source.find("2026") is not None
        issuer.answer = lambda: Issuer(key_id="2027", key=OTHER).jwks
        issuer.now += 31
        assert source.find("2027") is not None
        assert source.find("2026") is None


@pytest.mark.parametrize("published", [[], [Issuer().jwk | {"use": "enc"}]], ids=["none", "none that verifies"])
def test_keys_are_kept_for_a_day_if_the_issuer_publishes_no_usable_key(
    published: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    issuer = FakeIssuer()
    with issuer.keys() as source:
        assert source.find("2026") is not None
        issuer.answer = lambda: json.dumps({"keys": published}).encode()
        issuer.now += 31
        assert source.find("another") is None
        assert source.find("2026") is not None
        assert len(issuer.asked) == 2
        assert "no key at JWT_JWKS_URL may verify tokens" in caplog.text
        issuer.now += keys.MAX_KEY_AGE_S
        with pytest.raises(KeysUnavailable):
            source.find("2026")


def test_keys_are_kept_for_a_day_if_the_issuer_is_unreachable() -> None:
    issuer = FakeIssuer()
    with issuer.keys() as source:
        assert source.find("2026") is not None
        issuer.answer = refuse_connection
        for _ in range(23):
            issuer.now += 60 * MINUTE_S
            assert source.find("another") is None
            assert source.find("2026") is not None
        issuer.now += 61 * MINUTE_S
        with pytest.raises(KeysUnavailable):
            source.find("2026")
        issuer.answer = lambda: Issuer().jwks
        issuer.now += 31
        assert source.find("2026") is not None


def test_verifier_refuses_tokens_and_is_unhealthy_until_the_issuer_responds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    issuer = FakeIssuer(refuse_connection)
    with issuer.keys() as source:
        app = build_app(Verifier(source, KEY_RULES), "session")
        token = {"authorization": f"Bearer {Issuer().token()}"}
        assert ask(app, "GET", "/verify", token).status == 403
        assert ask(app, "GET", "/health").status == 503
        assert "JWT_JWKS_URL cannot be read: ConnectionError" in caplog.text
        issuer.answer = lambda: Issuer().jwks
        issuer.now += 31
        assert ask(app, "GET", "/verify", token).status == 200
        assert ask(app, "GET", "/health").text == '{"status":"ok"}'
        assert "jwt_keys_age_seconds 0.0" in ask(app, "GET", "/metrics").text


def test_known_key_is_returned_while_a_fetch_is_in_progress() -> None:
    never = threading.Event()
    issuer = FakeIssuer()
    with issuer.keys() as source:
        assert source.find("2026") is not None
        issuer.answer = lambda: str(never.wait(10)).encode()
        issuer.now += 31
        assert source.find("another", wait_s=0) is None
        assert source.is_fetching
        assert source.find("2026", wait_s=10) is not None
        assert source.is_fetching
        never.set()


@pytest.mark.parametrize(
    "document",
    [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b'{"keys": "2026"}', b"\xff", b"[" * 100_000],
    ids=lambda document: repr(document[:12]),
)
def test_previous_keys_are_kept_if_the_document_is_not_a_jwks(document: bytes) -> None:
    issuer = FakeIssuer()
    with issuer.keys() as source:
        assert source.find("2026") is not None
        issuer.answer = lambda: document
        issuer.now += 31
        assert source.find("another") is None
        assert len(issuer.asked) == 2
        assert source.find("2026") is not None


def jwk(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (Issuer().jwk | changes).items() if value is not None}


def jwk_without_algorithm(key: Any, algorithm: str) -> dict[str, Any]:
    return {**Issuer(algorithm, key=key).jwk, "alg": None}


@pytest.mark.parametrize(
    "entry",
    [
        jwk(use="enc"),
        jwk(key_ops=["sign"]),
        jwk(alg="RS512"),
        jwk(alg="HS256"),
        jwk(alg=["RS256"]),
        jwk(kty="oct", k="c2VjcmV0", n=None, e=None, alg=None),
        jwk(kty=None),
        jwk(kty=["RSA"]),
        jwk(n="!"),
        jwk(n=7),
        jwk(e=None),
        jwk(kid=7),
        jwk(kid=["2026"]),
        jwk(d="AQ", p="AQ"),
        {**jwk_without_algorithm(rsa.generate_private_key(65537, 1024), "RS256")},
        {**Issuer("ES256").jwk, "crv": "P-384", "alg": None},
        {**Issuer("ES256").jwk, "crv": "secp256k1"},
        {**Issuer("ES256").jwk, "y": Issuer("ES256").jwk["x"]},
        {**Issuer("EdDSA").jwk, "crv": "X25519"},
        {"kty": "EC"},
        "2026",
        None,
        [],
    ],
    ids=lambda entry: str({k: v for k, v in entry.items() if k not in "nexy"} if isinstance(entry, dict) else entry)[
        :60
    ],
)
def test_unsuitable_keys_of_a_jwks_are_omitted(entry: Any) -> None:
    document = {"keys": [entry, Issuer("ES256", "sound").jwk]}
    assert [*parse_jwks(json.dumps(document).encode())] == ["sound"]


def test_keys_are_limited_to_an_algorithm_if_requested() -> None:
    document = {"keys": [Issuer(algorithm, algorithm).jwk for algorithm in ("RS256", "ES256", "EdDSA")]}
    assert [*parse_jwks(json.dumps(document).encode())] == ["RS256", "ES256", "EdDSA"]
    assert [*parse_jwks(json.dumps(document).encode(), "ES256")] == ["ES256"]


def test_two_keys_with_the_same_id_are_refused() -> None:
    document = {"keys": [Issuer().jwk, Issuer(key=OTHER).jwk]}
    with pytest.raises(ValueError, match="same id"):
        parse_jwks(json.dumps(document).encode())


def test_token_without_a_key_id_is_verified_only_if_there_is_a_single_key() -> None:
    with FakeIssuer().keys() as source:
        assert source.find(None) is not None
    both = {"keys": [Issuer().jwk, Issuer(key_id="2027", key=OTHER).jwk]}
    with FakeIssuer(lambda: json.dumps(both).encode()).keys() as source:
        assert source.find(None) is None


@pytest.fixture
def web() -> Iterator[Callable[[str, bytes, dict[str, str]], str]]:
    """Return a function `web(status, body, headers)` that serves this response and returns its URL."""
    servers = []

    def serve(status: str, body: bytes, headers: dict[str, str]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(int(status))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Do not log requests."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/jwks"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_keys_are_fetched_over_http(web: Callable[..., str]) -> None:
    made = JwksKeys(web("200", Issuer().jwks, {}))
    assert made.find("2026") is not None
    made.close()


@pytest.mark.parametrize("status", ["201", "204", "301", "302", "307", "404", "500"])
def test_redirects_and_responses_other_than_200_are_refused(web: Callable[..., str], status: str) -> None:
    elsewhere = web("200", Issuer().jwks, {})
    with pytest.raises(ValueError, match=f"status {status}"):
        fetch_jwks(web(status, b"", {"Location": elsewhere}))


def test_jwks_document_above_256_kib_is_refused(web: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match="more than 262144 bytes"):
        fetch_jwks(web("200", b" " * 300_000, {}))


def test_jwks_document_that_arrives_too_slowly_is_refused(
    web: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "FETCH_TIMEOUT_S", -1.0)
    with pytest.raises(ValueError, match="not read within"):
        fetch_jwks(web("200", Issuer().jwks, {}))


def replace_file(path: Path, data: bytes) -> Path:
    """Write a file by replacing it, as an editor does."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    return fresh.replace(path)


def test_key_file_is_read_again_after_a_change(tmp_path: Path) -> None:
    path = replace_file(tmp_path / "public.pem", Issuer().pem)
    source = PemKey(path)
    before = source.find("any")
    assert source.find(None) is before
    replace_file(path, Issuer(key=OTHER).pem)
    assert source.find("any").public.public_numbers() == OTHER.public_key().public_numbers()  # type: ignore[union-attr]


@pytest.mark.parametrize("data", [b"", b"-----BEGIN PUBLIC KEY-----\n", None])
def test_previous_key_is_kept_if_the_key_file_becomes_invalid(
    tmp_path: Path, data: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = replace_file(tmp_path / "public.pem", Issuer().pem)
    source = PemKey(path)
    before = source.find("any")
    path.unlink() if data is None else replace_file(path, data)
    assert source.find("any") is before
    assert source.find("any") is before
    assert caplog.text.count("the previous key stays in force") == 1
    replace_file(path, Issuer(key=OTHER).pem)
    assert source.find("any") is not before


def private(key: Any) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (None, "cannot be read: No such file"),
        (b"", "must hold exactly one public key"),
        (b"ssh-rsa AAAA", "must hold exactly one public key"),
        (Issuer().pem * 2, "must hold exactly one public key"),
        (private(private_key("RS256")), "holds a private key, which must stay with the issuer"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "use RSA with at least 2048 bits"),
        (Issuer(key=rsa.generate_private_key(65537, 1024)).pem, "use RSA with at least 2048 bits"),
        (Issuer(key=ec.generate_private_key(ec.SECP384R1())).pem, "use RSA with at least 2048 bits"),
        (Issuer("ES256").pem, "holds a key for ES256, and JWT_ALGORITHM is RS256"),
    ],
)
def test_unusable_key_file_is_refused_with_the_reason(tmp_path: Path, data: bytes | None, fault: str) -> None:
    path = tmp_path / "public.pem"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(PermanentFailure, match=fault) as refused:
        PemKey(path, "RS256")
    assert str(path) in str(refused.value)


def test_settings_must_name_a_single_source_of_keys(tmp_path: Path) -> None:
    path = replace_file(tmp_path / "public.pem", Issuer().pem)
    assert isinstance(key_source(Settings(jwt_public_key_path=path, _env_file=None)), PemKey)
    assert isinstance(key_source(Settings(jwt_jwks_url=URL, _env_file=None)), JwksKeys)
    for given in ({}, {"jwt_public_key_path": path, "jwt_jwks_url": URL}):
        with pytest.raises(PermanentFailure, match="but not both"):
            key_source(Settings(**given, _env_file=None))  # type: ignore[arg-type]
