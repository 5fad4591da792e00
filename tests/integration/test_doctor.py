"""The doctor names what is wrong and the way out, changes nothing, and keeps secrets."""

from __future__ import annotations

import http.server
import os
import re
import socket
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from irt_assets.engines import diagnosis
from resources import doctor, r_runtime
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.rooms import run_sql
from tests.integration.sinks import serving
from tests.testbed.machine import free_port


@pytest.fixture(autouse=True)
def no_r(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without R, whatever this one has: starting R takes seconds."""
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)


def found(settings: Settings, subject: str) -> doctor.Finding:
    (finding,) = (
        finding
        for finding in doctor.diagnose(settings, diagnosis.engine_findings(settings))
        if finding.subject == subject
    )
    return finding


def told(settings: Settings, subject: str, state: str) -> str:
    """The detail and the way out of a finding of this state."""
    finding = found(settings, subject)
    assert finding.state == state
    return f"{finding.detail}; {finding.fix}"


def at_home(home: Path, **values: object) -> Settings:
    return Settings(irt_home=home, _env_file=None, **values)


def test_a_fresh_machine_has_no_errors_and_is_left_as_it_was(tmp_path: Path) -> None:
    settings = at_home(tmp_path / "irt")
    findings = doctor.diagnose(settings, diagnosis.engine_findings(settings))
    assert [finding for finding in findings if finding.state == "error"] == []
    absent = {finding.subject for finding in findings if finding.state == "absent"}
    assert {"IRT_HOME", "database", "object store", "DAGSTER_HOME", "R"} <= absent
    assert list(tmp_path.iterdir()) == []


def test_a_migrated_database_is_ok(settings: Settings) -> None:
    assert told(settings, "database", "ok").startswith("external PostgreSQL 16.")
    assert found(settings, "schema").state == "ok"
    assert not [finding for finding in doctor.diagnose(settings) if finding.subject == "clock"]


@pytest.mark.parametrize(("wrong_by_s", "words"), [(3600, "s ahead of the database"), (-3600, "s behind the database")])
def test_a_clock_that_differs_from_the_databases_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, wrong_by_s: float, words: str
) -> None:
    true_time = time.time
    monkeypatch.setattr(doctor.time, "time", lambda: true_time() + wrong_by_s)
    assert words in told(settings, "clock", "error")


def test_no_finding_shows_a_password(settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    password = url.split(":")[2].split("@")[0]
    for database_url in (url, url.replace(password, password + "x"), url.replace("127.0.0.1", "not a host")):
        findings = doctor.diagnose(settings.model_copy(update={"database_url": SecretStr(database_url)}))
        assert not [finding for finding in findings if password in str(finding)]


def test_a_wrong_password_is_an_error(settings: Settings) -> None:
    wrong = settings.database_url.get_secret_value().replace("postgresql://irt:", "postgresql://irt:x")
    said = told(settings.model_copy(update={"database_url": SecretStr(wrong)}), "database", "error")
    assert re.search("password authentication failed.*; .*DATABASE_URL", said, re.DOTALL)


def test_a_url_of_another_database_is_an_error(tmp_path: Path) -> None:
    assert "postgresql://" in told(at_home(tmp_path, database_url="mysql://u:p@h/d"), "database", "error")


def test_a_database_without_the_schema_names_the_command(settings: Settings, postgres: EmbeddedPostgres) -> None:
    said = told(settings.model_copy(update={"database_url": SecretStr(postgres.start())}), "schema", "warn")
    assert re.search("no schema.*; run `irt db upgrade`$", said)


def test_a_schema_changed_by_hand_is_named(settings: Settings, database: Database) -> None:
    run_sql(database, "ALTER TABLE learner DROP COLUMN target_theta")
    assert "column learner.target_theta is missing" in told(settings, "schema", "warn")


def test_the_embedded_server_is_looked_at_and_not_started(tmp_path: Path) -> None:
    settings = at_home(tmp_path)
    server = EmbeddedPostgres(tmp_path / "postgres")
    try:
        server.start()
        assert found(settings, "database").detail.startswith("embedded PostgreSQL 16.")
    finally:
        server.stop()
    assert "stopped" in told(settings, "database", "absent")
    assert server.status().state == "stopped"


def test_an_object_store_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    settings = at_home(tmp_path)
    store = FolderStore(tmp_path / "objects")
    store.put("kept", b"x")
    assert found(settings, "object store").state == "ok"
    assert [path.name for path in store.root.iterdir()] == ["kept"]
    store.delete("kept")
    store.root.rmdir()
    store.root.write_text("a file")
    assert "IRT_HOME" in told(settings, "object store", "error")


def test_a_home_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "irt").write_text("")
    finding = found(at_home(tmp_path / "irt"), "IRT_HOME")
    assert (finding.state, finding.fix) == ("error", "Set IRT_HOME to a folder you may write to.")


@pytest.mark.parametrize(("free", "state"), [(2**29, "error"), (2 * 2**30, "warn"), (6 * 2**30, "ok")])
def test_little_disk_space_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    usage = type(doctor.shutil.disk_usage(tmp_path))(2**40, 2**40 - free, free)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    finding = found(at_home(tmp_path), "disk space")
    assert (finding.state, bool(finding.fix)) == (state, state != "ok")


def test_misspelt_settings_are_named_with_the_right_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRT_TREADS", "2")
    finding = found(at_home(tmp_path), "IRT_TREADS")
    assert (finding.state, finding.fix) == ("warn", "Did you mean IRT_THREADS?")
    (tmp_path / "irt.env").write_text("DATABSE_URL=x\n")
    assert found(at_home(tmp_path), "DATABSE_URL").fix == "Did you mean DATABASE_URL?"


def test_an_env_file_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRT_ENV_FILE", str(tmp_path / "none.env"))
    assert found(at_home(tmp_path), "IRT_ENV_FILE").state == "error"


def test_another_dagster_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/elsewhere")
    assert str(tmp_path / "dagster") in told(at_home(tmp_path), "DAGSTER_HOME", "warn")


def test_a_port_in_use_is_told_unless_it_is_a_dagster_ui(tmp_path: Path) -> None:
    class Ui(http.server.BaseHTTPRequestHandler):
        answer = b"{}"

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.answer)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Ui)
    with serving(server):
        port = server.server_address[1]
        settings = at_home(tmp_path, irt_ui_port=port)
        assert told(settings, f"port {port}", "warn").endswith("; Set IRT_UI_PORT to a free one.")
        Ui.answer = b'{"dagster_webserver_version": "1.13.27", "dagster_version": "1.13.27"}'
        assert found(settings, f"port {port}").state == "ok"
    assert found(settings, f"port {port}").detail == "free for the Dagster UI"


def test_a_port_that_answers_nothing_is_another_program_and_which(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"(pid {os.getpid()})" in told(at_home(tmp_path, irt_ui_port=port), f"port {port}", "warn")


def test_a_package_that_is_missing_is_an_error() -> None:
    required = ["numba>=0.65", "no-such-package[extra]<2", 'no-such-extra; extra == "bayes"']
    _python, packages = doctor._python(required)
    assert packages == doctor.Finding("packages", "error", "missing: no-such-package", "make venv")


def an_rscript(folder: Path, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rscript = folder / "Rscript"
    rscript.write_text(f"#!/bin/sh\n{does}\n")
    rscript.chmod(0o755)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: str(rscript))


def test_r_and_its_packages_are_reported_with_the_way_to_install_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_rscript(
        tmp_path, "shift 2; echo 4.5.0; for package; do [ $package = mirt ] && echo 1.45 || echo -; done", monkeypatch
    )
    monkeypatch.setattr(r_runtime, "installed_version", lambda _: "3.6.5")
    settings = at_home(tmp_path)
    assert found(settings, "R") == doctor.Finding("R", "ok", "4.5.0")
    assert found(settings, "R package mirt").detail == "1.45"
    for package in ("brms", "rstan"):
        finding = found(settings, f"R package {package}")
        assert (finding.state, finding.fix) == ("absent", f"apt install r-cran-{package}")
    assert "needs the R package brms: apt install r-cran-brms" in found(settings, "engine brms").detail
    assert found(settings, "Debian packages").fix == "apt install r-cran-brms r-cran-rstan"


def test_an_engine_whose_r_is_not_there_or_does_not_answer_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        for engine in ("mirt", "brms"):
            said = told(at_home(tmp_path), f"engine {engine}", "absent")
            assert "needs R, and there is no Rscript on the PATH that answers: apt install r-base-core" in said
        an_rscript(tmp_path, "exit 1", monkeypatch)


def test_without_rpy2_r_is_of_no_use_to_the_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    an_rscript(tmp_path, "shift 2; echo 4.5.0; for package; do echo 1.0; done", monkeypatch)
    monkeypatch.setattr(r_runtime, "RPY2", "a package that nobody has")
    for engine in ("mirt", "brms"):
        assert "make venv" in found(at_home(tmp_path), f"engine {engine}").detail


@pytest.mark.parametrize(
    ("enabled", "there", "state", "said"),
    [
        ("", True, "ok", "installed, not enabled; To fit each month with it too, besides em: IRT_ENGINES=mirt."),
        ("pymc", True, "ok", "not enabled; To fit each month with it too, besides em: IRT_ENGINES=pymc,mirt."),
        ("mirt", True, "ok", "fits every month of all scales"),
        ("maths:mirt", True, "ok", "fits every month of scale maths"),
        ("", False, "absent", "needs R"),
        ("mirt", False, "error", "IRT_ENGINES enables it for all scales, but it cannot run: engine mirt needs R"),
    ],
)
def test_an_engine_without_an_asset_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: str, there: bool, state: str, said: str
) -> None:
    if there:
        monkeypatch.setattr(diagnosis, "installed", lambda engine, settings: None)
    assert said in told(at_home(tmp_path / "irt", irt_engines=enabled), "engine mirt", state)


def test_channels_of_alerts_are_named_and_a_wrong_one_is_an_error(tmp_path: Path) -> None:
    home = tmp_path / "irt"
    assert found(at_home(home), "alerts").state == "absent"
    assert found(at_home(home, alert_email="ops@example.org"), "alerts").detail == "they go to email"
    wrong = found(at_home(home, slack_webhook_url=SecretStr("https://example.org/secret-path")), "alerts")
    assert (wrong.state, "secret-path" in str(wrong)) == ("error", False)


@pytest.mark.parametrize("token", [None, "a-token"])
def test_the_password_in_a_service_s_address_is_not_shown(tmp_path: Path, token: str | None) -> None:
    url = "http://irt:hunter2@127.0.0.1:9"
    settings = at_home(tmp_path / "irt", r_irt_base_url=url, r_irt_internal_token=token, irt_engines="mirt")
    finding = found(settings, "R IRT service")
    assert "http://irt:***@127.0.0.1:9" in finding.detail
    assert not [
        finding
        for finding in doctor.diagnose(settings, diagnosis.engine_findings(settings))
        if "hunter2" in str(finding)
    ]
