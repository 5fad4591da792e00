"""The running R IRT service: authorisation, responses to valid and invalid requests, and failures of R."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest
import requests
from scipy.special import expit

from irt_assets.engines.diagnosis import engine_findings
from irt_assets.engines.em import EmEngine
from irt_assets.engines.r_engines import REngine
from irt_assets.engines.r_service import Service
from irt_assets.engines.registry import build
from irt_assets.file_commands.fit import calibrate_by
from irt_psychometrics.commands import Files, fit
from irt_psychometrics.responses import Responses
from irt_psychometrics.scoring import estimate_abilities
from resources.failures import PermanentFailure, TransientFailure
from resources.settings import Settings, get_settings
from tests.engines.r_service import (
    IRT_FILE,
    ROOT,
    STARTED_WITHIN,
    TOKEN,
    RunningService,
    environment,
    missing_packages,
    running,
)
from tests.testbed.machine import free_port, lives
from tests.testbed.patience import patient

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("r")]

SECONDS, WAIT_SECONDS = 10, 1
LOADED_WITHIN = 30
"""brms takes four seconds on an idle machine."""

# Faults of R in a fit, by `options.fault`, without loading an engine.
FAULTS = f"""
sys.source("{IRT_FILE}", environment())
irt_versions <- function() list(R = R.version.string, mirt = NA, brms = NA)
irt_calibrate <- function(request) switch(
  request$options$fault,
  segfault = tools::pskill(Sys.getpid(), 11), killed = tools::pskill(Sys.getpid(), 9), quit = quit(status = 7),
  stop = stop("item i7 is \\"odd\\" ü"), memory = numeric(1e9), sleep = Sys.sleep(600),
  token = list(warnings = Sys.getenv("R_IRT_INTERNAL_TOKEN", "unset")),
  numbers = list(a = 1 / 3, d = c(NaN, Inf), cov = array(1:4, c(1, 2, 2)), loglik = NA_real_, converged = TRUE)
)
"""


@pytest.fixture(scope="module")
def r(require):
    missing = missing_packages()
    require(not missing, f"R package {', '.join(missing)}")


@pytest.fixture(scope="module")
def service(r, tmp_path_factory):
    with running(tmp_path_factory.mktemp("service"), R_IRT_BODY_MIB=1) as started:
        yield started


@pytest.fixture(scope="module")
def faults(r, tmp_path_factory):
    """The source of a service that starts quickly and whose fits fail as requested."""
    source = tmp_path_factory.mktemp("faults") / "faults.R"
    source.write_text(FAULTS, "utf-8")
    return source


@pytest.fixture(scope="module")
def faulty(faults, tmp_path_factory):
    """A service with this source: one fit at a time, with little time and memory."""
    limits = {"R_IRT_FITS": 1, "R_IRT_SECONDS": SECONDS, "R_IRT_WAIT_SECONDS": WAIT_SECONDS, "R_IRT_MEMORY_MIB": 3000}
    with running(tmp_path_factory.mktemp("faulty"), R_IRT_SOURCE=faults, **limits) as started:
        yield started


def request(**changes: Any) -> dict[str, Any]:
    """A calibration request: two persons' answers to two items."""
    fields = {
        "engine": "mirt",
        "model": "2pl",
        "item_ids": ["i1", "i2"],
        "n_persons": 2,
        "person": [0, 0, 1, 1],
        "item": [0, 1, 0, 1],
        "score": [1, 0, 0, 1],
    }
    return {name: value for name, value in (fields | changes).items() if value is not ...}


def refusal(response: requests.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert error["kind"] == "permanent"
    return response.status_code, error["message"]


@pytest.mark.parametrize("path", ["/health", "/healthz"])
def test_health_needs_no_token_and_lists_installed_packages(service, path):
    answer = requests.get(service.url + path, timeout=patient(5))
    health = answer.json()
    packages = ("mirt", "brms", "rstan", "eRm")
    code = "".join(
        f"cat(if (nzchar(system.file(package='{p}'))) format(packageVersion('{p}')) else 'none', '')" for p in packages
    ).replace(")cat", ");cat")
    found = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=True).stdout.split()
    versions = {p: None if v == "none" else v for p, v in zip(packages, found, strict=True)}
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert health["status"] == "ok"
    assert {name: health["versions"][name] for name in packages} == versions
    assert {*health["engines"], *health["loading"], *health["not_loaded"]} == {
        n for n in ("mirt", "brms") if versions[n]
    }


def test_engines_that_do_not_load_are_reported_as_unavailable(r, tmp_path):
    """A package named brms with a newer version than any release, whose code stops."""
    (tmp_path / "brms" / "R").mkdir(parents=True)
    (tmp_path / "brms" / "DESCRIPTION").write_text("Package: brms\nVersion: 99.0\nTitle: T\nLicense: L\n", "utf-8")
    (tmp_path / "brms" / "NAMESPACE").touch()
    (tmp_path / "brms" / "R" / "code.R").write_text('.onLoad <- function(...) stop("libx.so is \\"not\\" there")\n')
    library = tmp_path / "library"
    library.mkdir()
    built = ["R", "CMD", "INSTALL", "--no-test-load", "--no-docs", f"--library={library}", tmp_path / "brms"]
    subprocess.run(built, capture_output=True, check=True)
    with running(tmp_path, R_LIBS=library) as service:
        health = wait_until_loaded(service)
        assert health["versions"]["brms"] == "99.0"
        assert "brms" not in health["engines"]
        assert 'libx.so is "not" there' in health["not_loaded"]["brms"]
        assert "brms is installed and does not load" in service.log.read_text()
        named = Settings(
            irt_home=tmp_path,
            r_irt_base_url=service.url,
            r_irt_internal_token=TOKEN,
            irt_engines="brms",
            _env_file=None,
        )
        finding = next(one for one in engine_findings(named) if one.subject == "engine brms")
        assert (finding.state, "does not load" in finding.detail) == ("error", True)


def wait_until_loaded(service: RunningService) -> dict[str, Any]:
    """The service's health after it has tried to load every engine."""
    end = time.monotonic() + patient(LOADED_WITHIN)
    while (health := service.health())["loading"]:
        assert time.monotonic() < end, health
        time.sleep(0.1)
    return health


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}"]
)
@pytest.mark.parametrize("task", ["calibrate", "score"])
def test_requests_without_the_token_are_refused(service, task, header):
    answer = service.post(task, "{}", headers={} if header is None else {"Authorization": header})
    assert refusal(answer) == (401, "no bearer token, or not the token of this service")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("", 400, "the body is not JSON"),
        ("{", 400, "the body is not JSON"),
        ("[1, 2]", 400, "must be a JSON object"),
        ("null", 400, "must be a JSON object"),
        ("{}", 400, "item_ids"),
        (request(engine=...), 400, "engine: must be one of mirt, brms; got nothing"),
        (request(engine="em"), 400, "engine: must be one of mirt, brms; got em"),
        (request(model="4pl"), 400, "model: must be one of rasch, 1pl, 2pl, 3pl; got 4pl"),
        (request(item_ids=["i1", "i1"]), 400, "i1 is named twice"),
        (request(n_persons="two"), 400, "n_persons"),
        (request(score=[1, 0, 0, 2]), 400, "score: must lie between 0 and 1, got 2 at position 4"),
        (request(score=[1, 0, 0, None]), 400, "score: must be whole numbers"),
        (request(score=["a", 0, 0, 1]), 400, "score: must be whole numbers"),
        (request(item=[0, 1, 0, 2]), 400, "item: must lie between 0 and 1, got 2 at position 4"),
        (request(person=[0, 0, 1]), 400, "must have the same length, got 3, 4 and 4"),
        (request(person=[0, 0, 0, 0]), 400, "two answers to item i1"),
        (request(anchors=3), 400, "anchors: must be a JSON object or null"),
        (request(anchors={"item_ids": ["i9"]}), 400, "i9 is not among item_ids"),
        (request(guessing_prior="flat"), 400, "guessing_prior: must be a JSON object or null"),
        (request(person=[], item=[], score=[]), 422, "needs answers, and there are none"),
        (request(score=[1, 1, 1, 1]), 422, "only 0 items have both correct and wrong answers"),
    ],
)
def test_invalid_requests_are_refused_with_the_field(service, body, status, says):
    answered = refusal(service.post("calibrate", body if isinstance(body, str) else json.dumps(body)))
    assert answered[0] == status
    assert says in answered[1]


def test_unknown_paths_are_answered_with_the_existing_paths(service):
    named = {"Authorization": f"Bearer {TOKEN}"}
    answer = requests.put(f"{service.url}/irt/score", headers=named, timeout=patient(5))
    status, message = refusal(answer)
    assert status == 404
    assert "there is no PUT /irt/score" in message
    assert "POST /irt/score" in message


def test_bodies_above_the_limit_are_refused_before_reading(service):
    """The service closes the connection immediately, so its 413 does not always reach the client."""
    with pytest.raises((PermanentFailure, TransientFailure), match="R_IRT_BODY_MIB"):
        service.client.call("irt_calibrate", {"item_ids": ["x" * 2**21]})


@pytest.mark.parametrize("method", ["eap", "map", "wle", "ml"])
def test_scores_from_the_service_match_the_library(service, method):
    """Person 0 has all answers right, person 1 all wrong, person 2 no answer to an item with parameters.

    EAP is the same sum over 61 nodes on both sides; the remaining methods are roots, which R finds to about 1e-6.
    """
    rng = np.random.default_rng(7)
    a, d, c = rng.uniform(0.6, 2.0, 12), rng.normal(0, 1, 12), np.full(12, 0.15)
    a[3] = d[3] = c[3] = np.nan
    x = (rng.random((60, 12)) < expit(rng.normal(size=(60, 1)) * np.nan_to_num(a) + np.nan_to_num(d))).astype(float)
    x[rng.random(x.shape) < 0.3] = np.nan
    x[0], x[1], x[2] = 1, 0, np.nan
    x[2, 3] = 1
    responses = Responses.from_wide(x)
    parameters = {name: [None if np.isnan(v) else v for v in values] for name, values in (("a", a), ("d", d), ("c", c))}
    answer = service.client.call(
        "irt_score",
        request(
            engine=...,
            model=...,
            item_ids=list(responses.item_ids),
            n_persons=60,
            person=responses.person.tolist(),
            item=responses.item.tolist(),
            score=responses.score.tolist(),
            mean=0.2,
            sd=1.1,
            method=method,
            **parameters,
        ),
    )
    ours = estimate_abilities(responses, a, d, c, method=method, mean=0.2, sd=1.1)
    finite = np.isfinite(ours.theta)
    estimates, errors = (np.array([np.nan if v is None else v for v in answer[k]]) for k in ("theta", "se"))
    tolerance = 1e-9 if method == "eap" else 2e-5
    np.testing.assert_array_equal(np.isfinite(estimates), finite)
    np.testing.assert_allclose(estimates[finite], ours.theta[finite], atol=tolerance)
    np.testing.assert_allclose(errors[finite], ours.se[finite], atol=tolerance)
    assert answer["versions"]["R"]


@pytest.fixture(scope="module")
def with_mirt(service):
    if "mirt" not in service.health()["engines"]:
        pytest.skip("R's mirt, which Debian has no package of: absent")
    return service


@pytest.mark.parametrize(("model", "atol", "rtol"), [("rasch", 1e-4, 1e-3), ("2pl", 1e-4, 1e-3), ("3pl", 5e-3, 1e-2)])
def test_fits_of_mirt_in_the_service_match_em(with_mirt, model, atol, rtol):
    """mirt stops if its EM steps are below 1e-7, which is 1e-5 from the maximum. Under a 3PL the distance is larger,
    because c and a can rise together at little cost."""
    rng = np.random.default_rng(4)
    a, b = rng.uniform(0.8, 1.8, 10), np.linspace(-1.5, 1.5, 10)
    x = (rng.random((1500, 10)) < expit(a * (rng.normal(size=(1500, 1)) - b))).astype(float)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[:, 9] = np.where(np.isnan(x[:, 9]), np.nan, 1.0)
    responses = Responses.from_wide(x)
    fit = REngine("remote", with_mirt.client.call).calibrate(responses, model=model, data_hash="f00")
    em = EmEngine().calibrate(responses, model=model, data_hash="f00")
    assert fit.convergence.converged
    assert (fit.engine, fit.flags, fit.data_hash, fit.n_persons) == ("mirt", em.flags, "f00", em.n_persons)
    assert fit.software["mirt"] == with_mirt.health()["versions"]["mirt"]
    for name in ("a", "d", "c"):
        np.testing.assert_allclose(getattr(fit, name), getattr(em, name), atol=atol)
    np.testing.assert_allclose(fit.d_se, em.d_se, rtol=rtol)
    np.testing.assert_allclose(fit.a_se, em.a_se, rtol=rtol)
    assert fit.convergence.loglik == pytest.approx(em.convergence.loglik, abs=1e-3)


def test_fit_command_uses_the_remote_engine(with_mirt, monkeypatch, tmp_path):
    monkeypatch.setenv("R_IRT_BASE_URL", with_mirt.url)
    monkeypatch.setenv("R_IRT_INTERNAL_TOKEN", TOKEN)
    x = np.random.default_rng(1).integers(0, 2, (300, 5)).astype(float)
    x[:, 1:] = np.where(np.random.default_rng(2).random((300, 4)) < 0.6, x[:, [0]], x[:, 1:])
    np.savetxt(tmp_path / "answers.csv", x, fmt="%d", delimiter=",", header="a,b,c,d,e", comments="")
    answers = Files().answers(tmp_path / "answers.csv")
    remote = calibrate_by(build("remote", get_settings()), groups=False, latent="normal")
    done = fit(answers, model="rasch", calibrate=remote)
    assert done.calibration.engine == "mirt"
    np.testing.assert_allclose(
        done.calibration.d, EmEngine().calibrate(answers.responses, model="rasch", data_hash="").d, atol=1e-4
    )


def test_doctor_checks_the_service_and_the_token(service, tmp_path):
    def found(**settings: Any) -> dict[str, Any]:
        named = Settings(irt_home=tmp_path, _env_file=None, **settings)
        return {one.subject: one for one in engine_findings(named)}

    engines = wait_until_loaded(service)["engines"]
    findings = found(r_irt_base_url=service.url, r_irt_internal_token=TOKEN)
    assert findings["R IRT service"].state == "ok"
    for engine in ("mirt", "brms"):
        assert findings[f"engine {engine}"].state == ("ok" if engine in engines else "absent")
    wrong = found(r_irt_base_url=service.url, r_irt_internal_token="wrong")["R IRT service"]
    assert (wrong.state, "rejects" in wrong.detail) == ("error", True)
    none = found(r_irt_base_url=service.url)["R IRT service"]
    assert (none.state, "without R_IRT_INTERNAL_TOKEN" in none.detail) == ("error", True)
    nobody = found(r_irt_base_url=f"http://127.0.0.1:{free_port()}", r_irt_internal_token=TOKEN)["R IRT service"]
    assert (nobody.state, "does not answer" in nobody.detail) == ("error", True)


def fail(service: RunningService, fault: str) -> Any:
    return service.client.call("irt_calibrate", request(options={"fault": fault}))


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("segfault", PermanentFailure, r"R ended with signal 11 and without an answer.*\(status 500"),
        ("quit", PermanentFailure, r"R ended with exit code 7 and without an answer.*\(status 500"),
        ("stop", PermanentFailure, r'R: item i7 is "odd" ü \(status 500'),
        ("memory", PermanentFailure, r"R: cannot allocate vector of size 7\.5 Gb \(status 500"),
        (
            "sleep",
            PermanentFailure,
            rf"stopped after {SECONDS} s, the limit of R_IRT_SECONDS.*\(status 504",
        ),
        ("killed", TransientFailure, r"R ended with signal 9.*as happens if memory runs out.*\(status 500"),
    ],
)
def test_service_keeps_running_and_reports_the_reason_if_r_fails(faulty, fault, kind, says):
    with pytest.raises(kind, match=says):
        fail(faulty, fault)
    assert faulty.health()["running"] == 0
    assert fail(faulty, "numbers")["converged"] is True
    assert faulty.process.poll() is None


def test_log_contains_the_output_of_a_crash_but_never_the_token(faulty):
    with pytest.raises(PermanentFailure):
        fail(faulty, "segfault")
    assert "*** caught segfault ***" in faulty.log.read_text()
    assert "POST /irt/calibrate 500" in faulty.log.read_text()
    assert TOKEN not in faulty.log.read_text()


def test_environment_of_a_fit_does_not_contain_the_token(faulty):
    assert fail(faulty, "token")["warnings"] == ["unset"]


def test_answers_contain_lists_and_null_for_numbers_that_are_not_finite(faulty):
    assert fail(faulty, "numbers") == {
        "a": [pytest.approx(1 / 3, rel=1e-14)],  # R writes 15 digits
        "d": [None, None],
        "cov": [[[1, 3], [2, 4]]],
        "loglik": None,
        "converged": True,
    }


def test_health_answers_while_a_fit_runs_and_further_requests_wait(faulty):
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(faulty.post, "calibrate", json.dumps(request(options={"fault": "sleep"})))
        _until(lambda: faulty.health()["running"] == 1)
        began = time.monotonic()
        assert faulty.health()["running"] == 1
        assert time.monotonic() - began < SECONDS / 2  # milliseconds on an idle machine; the fit takes all of SECONDS
        waited = faulty.post("score", "{}")
        assert slow.result().status_code == 504
    assert waited.status_code == 503
    assert waited.json()["error"]["kind"] == "transient"
    assert f"waited {WAIT_SECONDS} s" in waited.json()["error"]["message"]
    assert faulty.health()["waiting"] == 0


def test_running_fits_end_if_the_service_is_killed(faults, tmp_path):
    with running(tmp_path, R_IRT_SOURCE=faults) as service, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(service.post, "calibrate", json.dumps(request(options={"fault": "sleep"})))
        _until(lambda: service.health()["running"] == 1)
        children = psutil.Process(service.process.pid).children(recursive=True)
        assert any("worker.R" in _command(child) for child in children)
        service.process.kill()
        service.process.wait()  # a zombie would pass for a living parent
        with pytest.raises(requests.exceptions.ConnectionError):
            slow.result()
        _until(lambda: not any(lives(child.pid) for child in children))


def test_calls_succeed_if_the_service_restarts_in_between(faults, tmp_path):
    port = free_port()
    client = Service(f"http://127.0.0.1:{port}", TOKEN, pause=patient(2.5))
    body = {"item_ids": ["i1"], "n_persons": 1, "person": [0], "item": [0], "score": [1], "method": "eap"}
    body |= {"a": [1.0], "d": [0.0], "c": [0.0], "mean": 0.0, "sd": 1.0}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.call, "irt_score", body)
        with running(tmp_path, port, R_IRT_SOURCE=faults):
            assert answer.result()["theta"][0] > 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"R_IRT_INTERNAL_TOKEN": " "}, "R_IRT_INTERNAL_TOKEN is not set"),
        ({"R_IRT_PORT": "http"}, "R_IRT_PORT must be a whole number from 1 to 65535, got 'http'"),
        ({"R_IRT_SECONDS": "0"}, "R_IRT_SECONDS must be a whole number from 1"),
        ({"R_IRT_SOURCE": "nowhere.R"}, "R_IRT_SOURCE: there is no file nowhere.R"),
    ],
)
def test_invalid_settings_are_refused_at_the_start(r, settings, says):
    ended = subprocess.run(
        ["Rscript", str(ROOT / "services/r_irt/run.R")],
        env=environment(free_port()) | settings,
        capture_output=True,
        text=True,
        timeout=patient(60),
        check=False,
    )
    assert ended.returncode == 2
    assert says in ended.stderr


def _command(process: psutil.Process) -> str:
    """The command line of a process, or "" if it has ended: R starts short-lived programs at its start."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _until(holds: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + patient(seconds)
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_systemd_is_notified_of_readiness_and_by_watchdog_signals(faults, require, tmp_path):
    require(shutil.which("systemd-notify") is not None, "systemd-notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(patient(STARTED_WITHIN))
        with running(tmp_path, R_IRT_SOURCE=faults, NOTIFY_SOCKET=tmp_path / "notify", WATCHDOG_USEC=2_000_000):
            heard = []
            while heard.count("WATCHDOG=1") < 2:
                heard += manager.recv(4096).decode().split()
    assert heard[0] == "READY=1"
