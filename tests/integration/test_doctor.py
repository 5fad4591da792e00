"""The doctor names each problem and its remedy, changes nothing, and keeps secrets."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
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


@pytest.fixture
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only folder in which the doctor finds programs. It is empty at first: R is absent, as it starts slowly."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(autouse=True)
def only_these_programs(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))


@pytest.fixture
def rpy2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed rpy2, as its metadata says."""
    metadata = tmp_path / "packages" / "rpy2-3.6.5.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: rpy2\nVersion: 3.6.5\n")
    monkeypatch.syspath_prepend(metadata.parents[1])


def find(settings: Settings, subject: str) -> doctor.Finding:
    (finding,) = (
        finding
        for finding in doctor.diagnose(settings, diagnosis.engine_findings(settings))
        if finding.subject == subject
    )
    return finding


def explanation(settings: Settings, subject: str, state: str) -> str:
    """Detail and remedy of the finding on a subject, which must have this state."""
    finding = find(settings, subject)
    assert finding.state == state
    return f"{finding.detail}; {finding.fix}"


def at_home(home: Path, **values: object) -> Settings:
    return Settings(irt_home=home, _env_file=None, **values)


def test_fresh_machine_has_no_errors_and_is_unchanged(tmp_path: Path) -> None:
    settings = at_home(tmp_path / "irt")
    findings = doctor.diagnose(settings, diagnosis.engine_findings(settings))
    assert [finding for finding in findings if finding.state == "error"] == []
    absent = {finding.subject for finding in findings if finding.state == "absent"}
    assert {"IRT_HOME", "database", "object store", "DAGSTER_HOME", "R"} <= absent
    assert list(tmp_path.iterdir()) == []


def test_a_migrated_database_is_ok(settings: Settings) -> None:
    assert (
        explanation(settings, "database", "ok").startswith("external PostgreSQL 16."),
        find(settings, "schema").state,
        [finding for finding in doctor.diagnose(settings) if finding.subject == "clock"],
    ) == (True, "ok", [])


@pytest.mark.parametrize(("wrong_by_s", "words"), [(3600, "s ahead of the database"), (-3600, "s behind the database")])
def test_clock_that_differs_from_the_databases_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, wrong_by_s: float, words: str
) -> None:
    true_time = time.time
    monkeypatch.setattr(doctor.time, "time", lambda: true_time() + wrong_by_s)
    assert words in explanation(settings, "clock", "error")


def test_no_finding_shows_a_password(settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    password = url.split(":")[2].split("@")[0]
    in_query = f"{url.replace(f':{password}', '')}?password={password}&sslpassword=x{password}"
    for database_url in (url, in_query, url.replace(password, password + "x"), url.replace("127.0.0.1", "not a host")):
        findings = doctor.diagnose(settings.model_copy(update={"database_url": SecretStr(database_url)}))
        assert not [finding for finding in findings if password in str(finding)]


@pytest.mark.parametrize(
    ("change", "subject", "state", "message"),
    [
        (
            lambda url: url.replace("postgresql://irt:", "postgresql://irt:x"),
            "database",
            "error",
            "password authentication failed.*; .*DATABASE_URL",
        ),
        (lambda _: "mysql://u:p@h/d", "database", "error", "postgresql://"),
        (lambda url: f"{url.rpartition('/')[0]}/postgres", "schema", "warn", "no schema.*; run `irt db upgrade`$"),
    ],
    ids=["a wrong password", "another kind of database", "no schema"],
)
def test_unusable_database_is_reported_with_the_remedy(
    settings: Settings, change: Callable[[str], str], subject: str, state: str, message: str
) -> None:
    url = SecretStr(change(settings.database_url.get_secret_value()))
    assert re.search(message, explanation(settings.model_copy(update={"database_url": url}), subject, state), re.DOTALL)


def test_a_schema_changed_by_hand_is_named(settings: Settings, database: Database) -> None:
    run_sql(database, "ALTER TABLE learner DROP COLUMN target_theta")
    assert "column learner.target_theta is missing" in explanation(settings, "schema", "warn")


def test_embedded_server_is_inspected_and_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = at_home(tmp_path)
    server = EmbeddedPostgres(tmp_path / "postgres")
    try:
        with monkeypatch.context() as patched:
            patched.setenv("PATH", os.defpath)  # root starts its server by a program of the system
            server.start()
        assert find(settings, "database").detail.startswith("embedded PostgreSQL 16.")
    finally:
        server.stop()
    assert "stopped" in explanation(settings, "database", "absent")
    assert server.status().state == "stopped"


def test_unwritable_object_store_is_an_error(tmp_path: Path) -> None:
    settings = at_home(tmp_path)
    store = FolderStore(tmp_path / "objects")
    store.put("kept", b"x")
    assert find(settings, "object store").state == "ok"
    assert [path.name for path in store.root.iterdir()] == ["kept"]
    store.delete("kept")
    store.root.rmdir()
    store.root.write_text("a file")
    assert "IRT_HOME" in explanation(settings, "object store", "error")


def test_home_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "irt").write_text("")
    finding = find(at_home(tmp_path / "irt"), "IRT_HOME")
    assert (finding.state, finding.fix) == ("error", "Set IRT_HOME to a folder you may write to.")


def test_low_disk_space_is_reported(tmp_path: Path) -> None:
    assert find(at_home(tmp_path), "disk space").detail.endswith(f" GiB free at {tmp_path}")
    told_of = [doctor._disk_space(tmp_path, free) for free in (2**29, 2 * 2**30, 6 * 2**30)]
    assert [(finding.state, bool(finding.fix)) for finding in told_of] == [
        ("error", True),
        ("warn", True),
        ("ok", False),
    ]


@pytest.mark.parametrize(
    ("name", "value", "state", "message"),
    [
        ("IRT_TREADS", "2", "warn", "; Did you mean IRT_THREADS?"),
        ("IRT_ENV_FILE", "/nowhere/none.env", "error", "none.env"),
        ("DAGSTER_HOME", "/elsewhere", "warn", "/dagster"),
    ],
)
def test_environment_variables_without_the_intended_effect_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, state: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    assert message.replace("/dagster", f"{tmp_path}/dagster") in explanation(at_home(tmp_path), name, state)


def test_a_misspelt_setting_of_a_file_is_named_with_the_right_spelling(tmp_path: Path) -> None:
    (tmp_path / "irt.env").write_text("DATABSE_URL=x\n")
    assert find(at_home(tmp_path), "DATABSE_URL").fix == "Did you mean DATABASE_URL?"


def test_missing_package_is_an_error() -> None:
    required = ["numba>=0.65", "no-such-package[extra]<2", 'no-such-extra; extra == "bayes"']
    _python, packages = doctor._python(required)
    assert packages == doctor.Finding("packages", "error", "missing: no-such-package", "make venv")


WITH_MIRT_ALONE = "shift 2; echo 4.5.0; for package; do [ $package = mirt ] && echo 1.45 || echo -; done"
WITH_ALL_PACKAGES = "shift 2; echo 4.5.0; for package; do echo 1.0; done"


def add_rscript(programs: Path, does: str) -> None:
    rscript = programs / "Rscript"
    rscript.write_text(f"#!/bin/sh\n{does}\n")
    rscript.chmod(0o755)


@pytest.mark.usefixtures("rpy2")
def test_r_and_its_packages_are_reported_with_the_install_command(tmp_path: Path, programs: Path) -> None:
    add_rscript(programs, WITH_MIRT_ALONE)
    settings = at_home(tmp_path)
    assert (find(settings, "R"), find(settings, "R package mirt").detail) == (
        doctor.Finding("R", "ok", "4.5.0"),
        "1.45",
    )
    for package in ("brms", "rstan"):
        finding = find(settings, f"R package {package}")
        assert (finding.state, finding.fix) == ("absent", f"apt install r-cran-{package}")
    assert (
        "needs the R package brms: apt install r-cran-brms" in find(settings, "engine brms").detail,
        find(settings, "Debian packages").fix,
    ) == (True, "apt install r-cran-brms r-cran-rstan")


def test_engine_is_absent_if_r_is_missing_or_does_not_respond(tmp_path: Path, programs: Path) -> None:
    for _ in range(2):
        for engine in ("mirt", "brms"):
            message = explanation(at_home(tmp_path), f"engine {engine}", "absent")
            assert "needs R, and there is no Rscript on the PATH that answers: apt install r-base-core" in message
        add_rscript(programs, "exit 1")


def test_engines_of_r_are_absent_without_rpy2(tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_rscript(programs, WITH_ALL_PACKAGES)
    monkeypatch.setattr(r_runtime, "RPY2", "a package that nobody has")
    for engine in ("mirt", "brms"):
        assert "make venv" in find(at_home(tmp_path), f"engine {engine}").detail


@pytest.mark.parametrize(
    ("enabled", "installed", "state", "message"),
    [
        ("", True, "ok", "installed, not enabled; To fit each month with it too, besides em: IRT_ENGINES=mirt."),
        ("pymc", True, "ok", "not enabled; To fit each month with it too, besides em: IRT_ENGINES=pymc,mirt."),
        ("mirt", True, "ok", "fits every month of all scales"),
        ("maths:mirt", True, "ok", "fits every month of scale maths"),
        ("", False, "absent", "needs R"),
        ("mirt", False, "error", "IRT_ENGINES enables it for all scales, but it cannot run: engine mirt needs R"),
    ],
)
@pytest.mark.usefixtures("rpy2")
def test_an_engine_without_an_asset_is_explained(
    tmp_path: Path, programs: Path, enabled: str, installed: bool, state: str, message: str
) -> None:
    if installed:
        add_rscript(programs, WITH_MIRT_ALONE)
    assert message in explanation(at_home(tmp_path / "irt", irt_engines=enabled), "engine mirt", state)


def test_alert_channels_are_named_and_an_invalid_channel_is_an_error(tmp_path: Path) -> None:
    home = tmp_path / "irt"
    assert (
        find(at_home(home), "alerts").state,
        find(at_home(home, alert_email="ops@example.org"), "alerts").detail,
    ) == ("absent", "they go to email")
    wrong = find(at_home(home, slack_webhook_url=SecretStr("https://example.org/secret-path")), "alerts")
    assert (wrong.state, "secret-path" in str(wrong)) == ("error", False)


def test_secrets_in_the_query_of_a_service_s_address_are_not_shown(tmp_path: Path) -> None:
    endpoint = "https://otel.example.org/v1?api-key=hunter2&signature=hunter2&env=test"
    shown = str(doctor.diagnose(at_home(tmp_path / "irt", otel_exporter_otlp_endpoint=endpoint)))
    assert "hunter2" not in shown
    assert "otel.example.org/v1?api-key=***&signature=***&env=test" in shown


@pytest.mark.parametrize("token", [None, "a-token"])
def test_the_password_in_a_service_s_address_is_not_shown(tmp_path: Path, token: str | None) -> None:
    url = "http://irt:hunter2@127.0.0.1:9"
    settings = at_home(tmp_path / "irt", r_irt_base_url=url, r_irt_internal_token=token, irt_engines="mirt")
    finding = find(settings, "R IRT service")
    assert "http://irt:***@127.0.0.1:9" in finding.detail
    assert not [
        finding
        for finding in doctor.diagnose(settings, diagnosis.engine_findings(settings))
        if "hunter2" in str(finding)
    ]
