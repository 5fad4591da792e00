"""Whose token is whose, and that nothing which the issuer did not sign for us lets anybody in."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from resources.failures import PermanentFailure
from resources.settings import Settings
from services.jwt_verifier.app import build_app
from services.jwt_verifier.keys import JwksKeys, KeySource, PemKey
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
