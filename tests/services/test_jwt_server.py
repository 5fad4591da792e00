"""The verifier as a process: it starts in the documented environment, reloads keys on HUP and ends on TERM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.helpers.door import ROOT
from tests.testbed.issuer import ATTACKS, AUDIENCE, ISSUER, ORGANISATION, Issuer, private_key
from tests.testbed.machine import free_port
from tests.testbed.patience import patient

OTHER = Issuer(key=private_key("RS256", "a stranger's"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of the documented unit file, with an organisation."""
    (tmp_path / "jwt_public.pem").write_bytes(Issuer().pem)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "JWT_PUBLIC_KEY_PATH": str(tmp_path / "jwt_public.pem"),
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_ALGORITHM": "RS256",
        "IRT_ORG_ID": ORGANISATION,
        "PORT": str(free_port()),
    }


@contextmanager
def running(environment: dict[str, str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    url = f"http://127.0.0.1:{environment['PORT']}"
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-W", "error", "-m", "services.jwt_verifier"]
        child = subprocess.Popen(command, env=environment, cwd=folder, stderr=log, stdout=log)
        try:
            deadline = time.monotonic() + patient(60)
            while child.poll() is None and time.monotonic() < deadline:
                try:
                    assert requests.get(f"{url}/health", timeout=5).json() == {"status": "ok"}
                    break
                except requests.RequestException:
                    time.sleep(0.05)
            assert child.poll() is None, (folder / "log").read_text("utf-8")
            yield child, url
        finally:
            child.kill()
            child.wait(10)


def status(url: str, token: str) -> int:
    return requests.get(f"{url}/verify", headers={"Authorization": f"Bearer {token}"}, timeout=10).status_code


def test_verifier_serves_reloads_keys_on_hup_and_ends_on_term(environment: dict[str, str], tmp_path: Path) -> None:
    sound, others = Issuer().token(), OTHER.token()
    with running(environment, tmp_path) as (child, url):
        assert (status(url, sound), status(url, others)) == (200, 401)
        assert [one for one in ATTACKS[:20] if status(url, one.make(Issuer())) != one.status] == []
        key = Path(environment["JWT_PUBLIC_KEY_PATH"])
        before = key.stat()
        key.write_bytes(OTHER.pem)
        os.utime(key, ns=(before.st_atime_ns, before.st_mtime_ns))
        child.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + patient(10)
        while status(url, others) != 200:
            assert time.monotonic() < deadline, "HUP did not make it read the file"
        assert status(url, sound) == 401
        counted = 'jwt_verifications_total{reason="algorithm",result="refused"}'
        assert counted in requests.get(f"{url}/metrics", timeout=10).text
        child.terminate()
        assert child.wait(patient(10)) in (0, -signal.SIGTERM)
    log = (tmp_path / "log").read_text("utf-8")
    assert "read the key of" in log
    assert not any(part in log for part in [*sound.split("."), *others.split(".")])


def test_requests_with_huge_headers_or_random_bodies_are_refused(environment: dict[str, str], tmp_path: Path) -> None:
    with running(environment, tmp_path) as (_, url):
        huge = requests.get(f"{url}/verify", headers={"Authorization": "Bearer " + "x" * 60_000}, timeout=10)
        assert huge.status_code in (400, 401, 431)
        assert requests.post(f"{url}/verify", data=os.urandom(2_000_000), timeout=10).status_code == 401


def test_verifier_does_not_start_without_settings_and_names_the_missing_settings(tmp_path: Path) -> None:
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "services.jwt_verifier"]
    done = subprocess.run(
        command, env=given, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=patient(60)
    )
    assert done.returncode == 1
    assert done.stderr.startswith("tokens cannot be verified: set JWT_ISSUER, JWT_AUDIENCE, IRT_ORG_ID")


def test_verifier_imports_no_database_driver_and_no_numerical_library() -> None:
    program = "import sys, services.jwt_verifier.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"dagster", "numba", "numpy", "pandas", "psycopg", "sqlalchemy", "irt_assets", "boto3"}
    assert not heavy & set(re.split(r"\s+", done.stdout))
