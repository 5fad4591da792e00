"""Whose token is whose, and that nothing which the issuer did not sign for us lets anybody in."""

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


def asked(verifier: Verifier, token: str, *more: tuple[str, str], method: str = "GET") -> Answer:
    """What nginx is answered for a request with this token."""
    return ask(door(verifier, COOKIE), method, "/verify", [("authorization", f"Bearer {token}"), *more])


def names_told(answer: Answer) -> set[str]:
    return {name for name in ("x-user", "x-org-id", "x-roles") if name in answer.headers}


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_is_refused(verifier: Verifier, attack: Attack) -> None:
    token = attack.make(Issuer())
    with pytest.raises(TokenRefused) as refused:
        verifier.verify(token)
    assert refused.value.reason in attack.reasons.split()
    answer = asked(verifier, token)
    assert answer.status == refused.value.status == attack.status
    assert not names_told(answer)
    assert answer.headers.get("www-authenticate", "").startswith("Bearer ") == (attack.status == 401)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("source", ["pem", "jwks"])
def test_the_type_of_the_key_decides_the_algorithm(
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


def test_a_sound_token_says_who_asks(verifier: Verifier) -> None:
    exp = after(1800)
    identity = verifier.verify(Issuer().token(exp=exp))
    scope = frozenset({"exam:write", "openid"})
    assert identity == Identity("ann", ORGANISATION, ("viewer", "psychometrician"), scope, exp)
    answer = asked(verifier, Issuer().token())
    assert answer.status == 200
    told = {name: answer.headers[name] for name in ("x-user", "x-org-id", "x-roles", "cache-control")}
    assert told == {
        "x-user": "ann",
        "x-org-id": "acme",
        "x-roles": "viewer,psychometrician",
        "cache-control": "no-store",
    }


@pytest.mark.parametrize(
    ("claim", "seconds"), [("exp", -10), ("exp", 0.5), ("nbf", 20), ("iat", 20), ("iat", -MAX_AGE_S)]
)
def test_clocks_may_differ_a_little(pem: Verifier, claim: str, seconds: float) -> None:
    assert asked(pem, Issuer().token(**{claim: time.time() + seconds})).status == 200


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
def test_what_a_token_may_say_besides(verifier: Verifier, changes: dict[str, Any]) -> None:
    assert asked(verifier, Issuer().token(**changes)).status == 200


@pytest.mark.parametrize("header", [{"typ": ABSENT}, {"typ": "at+jwt"}, {"x5t": "abc"}])
def test_what_a_header_may_say_besides(verifier: Verifier, header: dict[str, Any]) -> None:
    assert asked(verifier, Issuer().token(header)).status == 200


@pytest.mark.parametrize("name", UNFIT_FOR_HEADERS)
def test_a_name_that_no_header_can_hold_is_refused_by_the_door_alone(verifier: Verifier, name: str) -> None:
    token = Issuer().token(sub=name)
    assert verifier.verify(token).sub == name
    answer = asked(verifier, token)
    assert (answer.status, names_told(answer)) == (403, set())


@pytest.mark.parametrize("own", ROLES)
@pytest.mark.parametrize("needed", ROLES)
def test_a_role_may_do_what_those_below_it_may(pem: Verifier, own: Role, needed: Role) -> None:
    answer = asked(pem, Issuer().token(roles=[own]), ("x-required-role", needed))
    assert answer.status == (200 if ROLES.index(own) >= ROLES.index(needed) else 403)


NO_ROLE = [[], ABSENT, ["student", "admin"], "operator", {"operator": 1}, [["operator"]], [None], 7, None]
NO_ROLE += [["Operator", "operator\r\n"], ["operator "]]


@pytest.mark.parametrize("roles", NO_ROLE)
def test_who_has_no_role_of_ours_is_known_and_not_let_in(pem: Verifier, roles: object) -> None:
    """A learner's token, or a service's with a scope alone. Another login would not change it: no 401."""
    token = Issuer().token(roles=roles)
    assert pem.verify(token).roles == ()
    assert asked(pem, token).status == 403


def test_roles_that_are_not_ours_are_ignored(pem: Verifier) -> None:
    token = Issuer().token(roles=["admin", "analyst", "viewer"])
    assert pem.verify(token).roles == ("viewer", "analyst")
    assert asked(pem, token, ("x-required-role", "analyst")).headers["x-roles"] == "viewer,analyst"


def test_the_companys_names_of_roles_are_mapped_and_no_other_counts(tmp_path: Path) -> None:
    """Not even one of ours: the company's operator may be somebody else."""
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


def test_organisation_is_read_from_the_claim_of_the_settings_or_not_at_all(tmp_path: Path) -> None:
    elsewhere = verifier_with(tmp_path, jwt_org_claim="org.id")
    assert elsewhere.verify(Issuer().token(org_id=ABSENT, org={"id": ORGANISATION})).org_id == ORGANISATION
    with pytest.raises(TokenRefused, match="another organisation"):
        elsewhere.verify(Issuer().token())
    without = verifier_with(tmp_path, jwt_org_claim="none")
    assert without.verify(Issuer().token(org_id=ABSENT)).org_id == ORGANISATION


def test_trial_token_is_accepted_with_the_settings_that_it_names(tmp_path: Path) -> None:
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


def test_a_role_that_is_not_ours_cannot_be_granted(tmp_path: Path) -> None:
    settings = Settings(**Issuer().settings(tmp_path), jwt_roles="admin=root")
    with pytest.raises(PermanentFailure, match=r"JWT_ROLES names root.*viewer, analyst, psychometrician, operator"):
        build_verifier(settings)
    with pytest.raises(ValidationError, match="THEIRS=OURS"):
        Settings(jwt_roles="admin")


@pytest.mark.parametrize("needed", ["root", "", "viewer, operator", "VIEWER"])
def test_a_role_that_does_not_exist_lets_nobody_in(pem: Verifier, needed: str) -> None:
    assert asked(pem, Issuer().token(roles=["operator"]), ("x-required-role", needed)).status == 403


def test_two_roles_that_are_asked_for_let_nobody_in(pem: Verifier) -> None:
    twice = [("x-required-role", "viewer"), ("x-required-role", "viewer")]
    assert asked(pem, Issuer().token(roles=["operator"]), *twice).status == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PROPFIND", "BREW"])
def test_only_three_statuses_are_ever_answered(pem: Verifier, method: str) -> None:
    assert asked(pem, Issuer().token(), method=method).status in (200, 403)
    assert asked(pem, "garbage", method=method).status in (401, 403)


@pytest.mark.parametrize("fault", [RuntimeError, ValueError, MemoryError, RecursionError, KeyError])
def test_a_fault_of_our_own_lets_nobody_in(fault: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    class Broken(PemKey):
        def __init__(self) -> None:
            """Has no file."""

        def find(self, key_id: str | None, wait_s: float = 0) -> Any:
            raise fault(f"could not read {TOKEN}")

    answer = asked(Verifier(Broken(), RULES), TOKEN)
    assert (answer.status, names_told(answer)) == (403, set())
    assert TOKEN not in caplog.text + answer.text
    assert fault.__name__ in caplog.text


def test_a_fault_of_the_door_s_own_lets_nobody_in() -> None:
    class Broken(Verifier):
        def verify(self, token: str, wait_s: float = 0) -> Identity:
            raise RuntimeError(token)

    keys = JwksKeys("https://login.example.org/jwks", fetch=lambda _: Issuer().jwks)
    answer = asked(Broken(keys, RULES), TOKEN)
    assert (answer.status, names_told(answer)) == (403, set())


TOKEN = Issuer().token()


def test_no_token_is_ever_logged_or_repeated(verifier: Verifier, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = build_app(verifier, COOKIE)
    tokens = [TOKEN, *(attack.make(Issuer()) for attack in ATTACKS)]
    said = "".join(ask(app, "GET", "/verify", {"authorization": f"Bearer {token}"}).text for token in tokens)
    said += caplog.text + ask(app, "GET", "/metrics").text
    assert not any(part in said for token in tokens for part in token.split(".") if len(part) > 12)


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
def test_where_a_token_is_looked_for(pem: Verifier, headers: list[tuple[str, str]], status: int) -> None:
    assert ask(door(pem, COOKIE), "GET", "/verify", headers).status == status


def test_who_sends_no_token_is_told_of_no_error(pem: Verifier) -> None:
    """RFC 6750, section 3.1."""
    assert ask(build_app(pem, COOKIE), "GET", "/verify").headers["www-authenticate"] == 'Bearer realm="irt"'
    wrong = asked(pem, "x.y.z").headers["www-authenticate"]
    assert wrong == 'Bearer realm="irt", error="invalid_token"'


def test_the_cookie_s_name_is_a_setting(pem: Verifier) -> None:
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


def test_a_decision_long_after_looks_at_the_time_again(pem: Verifier) -> None:
    pem.verify(Issuer().token(exp=after(60))).require_current()
    with pytest.raises(TokenRefused, match="expired"):
        Identity("ann", "acme", ("operator",), frozenset(), after(-31)).require_current()


@pytest.mark.parametrize("missing", ["jwt_issuer", "jwt_audience", "irt_org_id"])
def test_settings_that_are_missing_are_named(tmp_path: Path, missing: str) -> None:
    given = Issuer().settings(tmp_path)
    assert build_verifier(Settings(**given, _env_file=None)).verify(TOKEN).sub == "ann"
    with pytest.raises(PermanentFailure, match=missing.upper()):
        build_verifier(Settings(**{**given, missing: None}, _env_file=None))


@pytest.mark.parametrize(
    "url", ["https://login.example.org/jwks", "http://localhost:8080/jwks", "http://[::1]/jwks?a=b"]
)
def test_keys_of_this_machine_need_no_tls(url: str) -> None:
    assert Settings(jwt_jwks_url=url, _env_file=None).jwt_jwks_url == url


# -- keys --------------------------------------------------------------------------------------------
# Keys: which are used, when they are read anew, and that nobody can make us fetch them in a storm.

URL = "https://login.example.org/jwks"
MINUTE_S = 60.0
KEY_RULES = Rules(ISSUER, AUDIENCE, ORGANISATION, 24 * 60 * MINUTE_S)
OTHER = private_key("RS256", "a stranger's")


class FakeIssuer:
    """Publishes what `answer` returns, counts how often it is asked, and has a clock that moves when told."""

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


def away() -> bytes:
    raise requests.ConnectionError("the issuer is away")


def test_ten_thousand_random_key_ids_cause_no_storm() -> None:
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


def test_askers_at_one_time_share_one_fetch() -> None:
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


def test_a_key_that_is_withdrawn_goes_with_the_next_fetch() -> None:
    issuer = FakeIssuer()
    with issuer.keys() as source:
        assert source.find("2026") is not None
        issuer.answer = lambda: Issuer(key_id="2027", key=OTHER).jwks
        issuer.now += 31
        assert source.find("2027") is not None
        assert source.find("2026") is None


@pytest.mark.parametrize("published", [[], [Issuer().jwk | {"use": "enc"}]], ids=["none", "none that verifies"])
def test_an_issuer_that_publishes_no_key_locks_nobody_out(
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
        issuer.now += keys.OLDEST_S
        with pytest.raises(KeysUnavailable):
            source.find("2026")


def test_while_the_issuer_is_away_its_keys_stay_for_a_day() -> None:
    issuer = FakeIssuer()
    with issuer.keys() as source:
        assert source.find("2026") is not None
        issuer.answer = away
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


def test_an_issuer_that_was_never_reached_lets_nobody_in_and_is_not_healthy(caplog: pytest.LogCaptureFixture) -> None:
    issuer = FakeIssuer(away)
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


def test_a_known_key_waits_for_no_fetch() -> None:
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
def test_what_is_no_jwks_leaves_the_keys_before_it(document: bytes) -> None:
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


def of(key: Any, algorithm: str) -> dict[str, Any]:
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
        {**of(rsa.generate_private_key(65537, 1024), "RS256")},
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
def test_keys_that_are_not_for_us_are_left_out(entry: Any) -> None:
    document = {"keys": [entry, Issuer("ES256", "sound").jwk]}
    assert [*parse_jwks(json.dumps(document).encode())] == ["sound"]


def test_one_algorithm_may_be_demanded() -> None:
    document = {"keys": [Issuer(algorithm, algorithm).jwk for algorithm in ("RS256", "ES256", "EdDSA")]}
    assert [*parse_jwks(json.dumps(document).encode())] == ["RS256", "ES256", "EdDSA"]
    assert [*parse_jwks(json.dumps(document).encode(), "ES256")] == ["ES256"]


def test_two_keys_of_one_id_are_not_chosen_between() -> None:
    document = {"keys": [Issuer().jwk, Issuer(key=OTHER).jwk]}
    with pytest.raises(ValueError, match="same id"):
        parse_jwks(json.dumps(document).encode())


def test_a_token_without_a_key_id_is_of_the_only_key() -> None:
    with FakeIssuer().keys() as source:
        assert source.find(None) is not None
    both = {"keys": [Issuer().jwk, Issuer(key_id="2027", key=OTHER).jwk]}
    with FakeIssuer(lambda: json.dumps(both).encode()).keys() as source:
        assert source.find(None) is None


@pytest.fixture
def web() -> Iterator[Callable[[str, bytes, dict[str, str]], str]]:
    """`web(status line, body, headers)` serves that at the URL it returns, once or often."""
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
                """Nothing."""

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
def test_no_redirect_is_followed_and_only_200_counts(web: Callable[..., str], status: str) -> None:
    elsewhere = web("200", Issuer().jwks, {})
    with pytest.raises(ValueError, match=f"status {status}"):
        fetch_jwks(web(status, b"", {"Location": elsewhere}))


def test_a_document_of_any_size_is_not_read(web: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match="more than 262144 bytes"):
        fetch_jwks(web("200", b" " * 300_000, {}))


def test_a_document_that_trickles_is_given_up(web: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "FETCH_S", -1.0)
    with pytest.raises(ValueError, match="not read within"):
        fetch_jwks(web("200", Issuer().jwks, {}))


def written(path: Path, data: bytes) -> Path:
    """The file, replaced as an editor does it."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    return fresh.replace(path)


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "public.pem", Issuer().pem)
    source = PemKey(path)
    before = source.find("any")
    assert source.find(None) is before
    written(path, Issuer(key=OTHER).pem)
    assert source.find("any").public.public_numbers() == OTHER.public_key().public_numbers()  # type: ignore[union-attr]


@pytest.mark.parametrize("data", [b"", b"-----BEGIN PUBLIC KEY-----\n", None])
def test_a_file_that_broke_leaves_the_key_before_it(
    tmp_path: Path, data: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = written(tmp_path / "public.pem", Issuer().pem)
    source = PemKey(path)
    before = source.find("any")
    path.unlink() if data is None else written(path, data)
    assert source.find("any") is before
    assert source.find("any") is before
    assert caplog.text.count("the previous key stays in force") == 1
    written(path, Issuer(key=OTHER).pem)
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
def test_a_file_that_cannot_be_used_is_told_why(tmp_path: Path, data: bytes | None, fault: str) -> None:
    path = tmp_path / "public.pem"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(PermanentFailure, match=fault) as refused:
        PemKey(path, "RS256")
    assert str(path) in str(refused.value)


def test_the_settings_name_one_source(tmp_path: Path) -> None:
    path = written(tmp_path / "public.pem", Issuer().pem)
    assert isinstance(key_source(Settings(jwt_public_key_path=path, _env_file=None)), PemKey)
    assert isinstance(key_source(Settings(jwt_jwks_url=URL, _env_file=None)), JwksKeys)
    for given in ({}, {"jwt_public_key_path": path, "jwt_jwks_url": URL}):
        with pytest.raises(PermanentFailure, match="but not both"):
            key_source(Settings(**given, _env_file=None))  # type: ignore[arg-type]
