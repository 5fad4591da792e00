"""The client of the R IRT service with a scripted HTTP server: repeated calls, final failures, and messages.

Tests of the service itself are in test_r_service.py.
"""

from __future__ import annotations

import logging
import socket
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any

import numpy as np
import pytest

from irt_assets.engines.r_engines import REngine, Sampling
from irt_assets.engines.r_service import Service
from irt_psychometrics import PsychometricsError
from irt_psychometrics.responses import Responses
from resources.failures import PermanentFailure, TransientFailure
from tests.helpers.scripted_server import answering
from tests.testbed.stack_harness import wait_for

TOKEN = "s3cret-of-this-test"
BUSY = (503, {"error": {"kind": "transient", "message": "waited 600 s"}})
FINE = (200, {"theta": [0.5], "se": [0.9], "versions": {}})


def service(url: str, **options: Any) -> Service:
    return Service(url, TOKEN, **({"pause": 0.01} | options))


def test_the_request_and_the_token_go_to_the_path_of_the_task():
    with answering(FINE) as seen:
        assert service(seen.url + "/").call("irt_score", {"item_ids": ["ü"]}) == FINE[1]
    assert (seen.paths, seen.tokens, seen.bodies) == (["/irt/score"], [f"Bearer {TOKEN}"], [{"item_ids": ["ü"]}])


def test_a_netrc_does_not_replace_the_token(tmp_path, monkeypatch):
    """requests reads this file by default, and would send a login in it instead of the header."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with answering(FINE) as seen:
        service(seen.url).call("irt_score", {})
    assert seen.tokens == [f"Bearer {TOKEN}"]


def test_two_transient_failures_are_followed_by_the_answer(caplog):
    caplog.set_level(logging.INFO)
    with answering(BUSY, (502, "<html>Bad Gateway</html>"), FINE) as seen:
        assert service(seen.url).call("irt_score", {}) == FINE[1]
    assert len(seen.paths) == 3
    logged = [(record.levelname, record.getMessage()) for record in caplog.records if "irt_assets" in record.name]
    assert logged[0] == ("INFO", "Calling R IRT service...")
    assert [level for level, _ in logged[1:]] == ["WARNING", "WARNING"]
    assert "attempt 1 of 3 failed: R IRT service: waited 600 s" in logged[1][1]
    assert "status 502" in logged[2][1]


@pytest.mark.parametrize("answer", [BUSY, (429, ""), (500, "oops"), (504, "")])
def test_service_that_keeps_failing_is_called_three_times(answer, caplog):
    with answering(answer) as seen, pytest.raises(TransientFailure, match=f"status {answer[0]}"):
        service(seen.url).call("irt_calibrate", {})
    assert len(seen.paths) == 3
    assert caplog.records[-1].getMessage() == "R IRT service call failed after 3 attempts"
    assert caplog.records[-1].levelname == "ERROR"


def test_pauses_between_attempts_grow_exponentially():
    """The pauses have jitter: pause + U(0, pause), then 2·pause + U(0, pause)."""
    with answering(BUSY) as seen, pytest.raises(TransientFailure):
        service(seen.url, pause=0.2).call("irt_calibrate", {})
    first, second = seen.times[1] - seen.times[0], seen.times[2] - seen.times[1]
    assert first >= 0.2
    assert second >= 0.4


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((401, {"error": {"kind": "permanent", "message": "no token"}}), "Set R_IRT_INTERNAL_TOKEN"),
        ((404, "no such page"), "not as the R IRT service does. Check R_IRT_BASE_URL"),
        ((413, "Maximum upload size exceeded"), "status 413"),
        ((500, {"error": {"kind": "permanent", "message": "R: item i7 is odd"}}), "R: item i7 is odd"),
        ((302, ""), "status 302"),
        ((200, "<html>log in</html>"), "not as the R IRT service does"),
        ((200, [1, 2]), "not as the R IRT service does"),
        ((200, {"error": "?"}), "not as the R IRT service does"),
    ],
)
def test_permanent_failures_are_explained_and_not_repeated(answer, says, caplog):
    with answering(answer) as seen, pytest.raises(PermanentFailure, match=says):
        service(seen.url).call("irt_calibrate", {})
    assert len(seen.paths) == 1
    assert not [record for record in caplog.records if "attempts" in record.getMessage()]


@pytest.mark.parametrize("status", [400, 422])
def test_requests_that_the_service_refuses_raise_the_error_of_every_engine(status):
    answer = (status, {"error": {"kind": "permanent", "message": "i7 is named twice"}})
    with answering(answer) as seen, pytest.raises(PsychometricsError, match="i7 is named twice"):
        service(seen.url).call("irt_calibrate", {})
    assert len(seen.paths) == 1


def test_hanging_service_is_given_up_after_the_time_limit():
    given_up = Event()
    with answering(lambda _: given_up.wait()) as seen:
        try:
            with pytest.raises(TransientFailure, match=r"no answer within 0\.1 s"):
                service(seen.url, seconds=0.1).call("irt_calibrate", {})
            # the last request may be given up before the server reads it
            wait_for("three requests", lambda: len(seen.paths) == 3)
        finally:
            given_up.set()


def cut_connection(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def send_half(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"theta": [')


@pytest.mark.parametrize("first", [cut_connection, send_half])
def test_calls_are_repeated_if_the_connection_breaks_before_or_within_an_answer(first):
    with answering(first, FINE) as seen:
        assert service(seen.url).call("irt_score", {}) == FINE[1]
    assert len(seen.paths) == 2


def test_refused_connections_are_transient_failures_that_name_the_setting(caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TransientFailure, match=r"Connection refused.*Check R_IRT_BASE_URL") as failure:
            service(url).call("irt_calibrate", {})
    assert url in str(failure.value)
    assert caplog.records[-1].getMessage() == "R IRT service call failed after 3 attempts"


def test_token_never_appears_in_messages_logs_or_repr(caplog):
    caplog.set_level(logging.DEBUG)
    messages = []
    with answering((401, {"error": {"kind": "permanent", "message": "no"}})) as seen:
        with pytest.raises(PermanentFailure) as refused:
            service(seen.url).call("irt_score", {})
        messages.append(str(refused.value))
    with answering(BUSY) as seen, pytest.raises(TransientFailure) as failed:
        service(seen.url).call("irt_score", {})
    messages += [str(failed.value), repr(service(seen.url)), caplog.text]
    with pytest.raises(PermanentFailure) as odd:
        Service("http://localhost", f"{TOKEN}\nx")
    messages.append(str(odd.value))
    assert all(messages)
    assert TOKEN not in " ".join(messages)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "pässwort"])
def test_tokens_that_are_invalid_in_a_header_are_refused(token):
    with pytest.raises(PermanentFailure, match="R_IRT_INTERNAL_TOKEN must be printable ASCII"):
        Service("http://localhost:8000", token)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "https://user:hidden@host"])
def test_invalid_base_urls_are_refused_without_showing_the_password(url):
    with pytest.raises(PermanentFailure, match="R_IRT_BASE_URL must be http") as refused:
        Service(url, TOKEN)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("sampling", [None, Sampling()], ids=["mirt", "brms"])
@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.full((20, 4), np.nan), "no responses"),
        (np.ones((50, 4)), r"left out: i1 \(all_correct\)"),
        (np.eye(3), "only 3 learners"),
        (np.kron(np.eye(2), np.ones((30, 4))), "common items"),
    ],
    ids=["none", "constant", "three", "disconnected"],
)
def test_data_that_cannot_be_fitted_are_refused_before_sending(sampling, x, says):
    if says == "common items":
        x = np.where(x == 1, np.random.default_rng(1).integers(0, 2, x.shape), np.nan)
    with answering(FINE) as seen, pytest.raises(PsychometricsError, match=says):
        REngine("remote", service(seen.url).call, sampling).calibrate(Responses.from_wide(x), model="2pl", data_hash="")
    assert seen.paths == []


def test_incomplete_answers_of_the_service_raise_a_permanent_failure():
    x = np.random.default_rng(1).integers(0, 2, (200, 5)).astype(float)
    with answering(FINE) as seen, pytest.raises(PermanentFailure, match="R's answer does not fit 5 items"):
        REngine("remote", service(seen.url).call).calibrate(Responses.from_wide(x), model="2pl", data_hash="")
    assert seen.paths == ["/irt/calibrate"]
