"""Keys: which are used, when they are read anew, and that nobody can make us fetch them in a storm."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from resources.failures import PermanentFailure
from resources.settings import Settings
from services.jwt_verifier import keys
from services.jwt_verifier.app import build_app
from services.jwt_verifier.keys import JwksKeys, KeysUnavailable, PemKey, fetch_jwks, key_source, parse_jwks
from services.jwt_verifier.tokens import Rules, TokenRefused, Verifier
from tests.helpers.asgi import ask
from tests.testbed.issuer import AUDIENCE, ISSUER, ORGANISATION, Issuer, private_key

URL = "https://login.example.org/jwks"
MINUTE_S = 60.0
RULES = Rules(ISSUER, AUDIENCE, ORGANISATION, 24 * 60 * MINUTE_S)
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
        verifier = Verifier(source, RULES)
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
        app = build_app(Verifier(source, RULES), "session")
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
