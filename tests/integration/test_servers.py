"""Servers started one by one, as systemd starts them: `irt run`, notifications to systemd, and `irt health`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests
import yaml
from dagster import DagsterInstance, DagsterRunStatus

from irt_assets.common.environment import instance_environment
from irt_assets.common.probes import DAEMONS
from irt_assets.servers.instance import dagster_instance
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from resources.version import code_version
from services.dashboard.data_access import Reader
from services.dashboard.server import build_app as dashboard
from services.exporter.app import StateCollector, build_app as exporter
from services.jwt_verifier.app import build_app as jwt_verifier
from services.jwt_verifier.tokens import build_verifier
from services.theta_api.access import Access
from services.theta_api.app import build_app as theta_api
from services.theta_api.parameter_cache import Ledger
from services.theta_client.api import PATH
from tests.helpers import rooms
from tests.helpers.door import ROOT, listening, port_of, serve_in_thread
from tests.helpers.prometheus import answer, child
from tests.integration.test_theta_api import HEADERS, TOKEN
from tests.testbed.issuer import AUDIENCE, ISSUER, ORGANISATION, Issuer
from tests.testbed.machine import free_port
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for
from tests.unit.test_metrics import OF_EXPORTER, OF_SERVERS

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("servers")]

SERVERS = ("code-server", "webserver", "daemon")
METRICS_PORTS = {"daemon": 9465, "code-server": 9466, "webserver": 9467}
"""The port of each server in our configuration of Prometheus, if the exporter's is 9464."""
IRT = [sys.executable, "-m", "irt_assets.cli"]
STARTS_WITHIN_S = 120.0
"""Ten times the duration on an idle machine."""


@dataclass
class Service:
    """A server, and the socket for its notifications to the manager."""

    process: subprocess.Popen[bytes]
    manager: socket.socket
    log: Path

    def wait_until_it_says(self, word: str, timeout: float = STARTS_WITHIN_S) -> None:
        end = time.monotonic() + patient(timeout)
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if word in self.manager.recv(4096).decode():
                    return
            except TimeoutError:
                continue
        raise TimeoutError(f"{word} was not said\n{self.log.read_text()[-3000:]}")

    def forget(self) -> None:
        """Discard the notifications so far. Ends if no notification arrives for a second."""
        while True:
            try:
                self.manager.recv(4096)
            except TimeoutError:
                return


@dataclass
class Installation:
    settings: Settings
    environment: dict[str, str]
    services: dict[str, Service]

    def irt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*IRT, *arguments], env=self.environment, capture_output=True, text=True, timeout=patient(60)
        )


@pytest.fixture(scope="module")
def installation(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("servers")
    with rooms.copied(postgres.start(), migrated_template, "servers", home) as copied:
        settings = copied.model_copy(update={"irt_schedules": "stopped"})
        database = Database(settings)
        ports = {"IRT_UI_PORT": str(free_port()), "IRT_EXPORTER_METRICS_PORT": str(free_port(4))}
        environment = {**os.environ, **instance_environment(settings, database), **ports}
        services = dict[str, Service]()
        try:
            for name in SERVERS:
                services[name] = start_service(name, environment, home)
            for service in services.values():
                service.wait_until_it_says("READY=1")
            yield Installation(settings, environment, services)
        finally:
            for service in services.values():
                service.process.terminate()
            for service in services.values():
                service.process.wait(patient(60))
                service.manager.close()


def start_service(name: str, environment: dict[str, str], home: Path) -> Service:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = home / f"{name}.notify"
    manager.bind(str(address))
    manager.settimeout(1)
    log = home / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*IRT, "run", name],
            env={**environment, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "6000000"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    return Service(process, manager, log)


@pytest.fixture
def instance(installation: Installation) -> Iterator[DagsterInstance]:
    with dagster_instance(installation.settings, Database(installation.settings)) as instance:
        yield instance


def test_health_reports_every_running_server_as_well(installation: Installation) -> None:
    done = installation.irt("health")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n")[:-1] == [
        f"{name}: well" for name in ("config", "schema", "webserver", "daemon", "code-server")
    ]


def test_daemon_parts_equal_the_types_that_dagster_requires(instance: DagsterInstance) -> None:
    assert set(DAEMONS) == set(instance.get_required_daemon_types())


def test_run_passes_through_webserver_daemon_and_code_server(
    installation: Installation, instance: DagsterInstance
) -> None:
    done = installation.irt("job", "prune")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = [run for run in instance.get_runs() if run.job_name == "prune"]
    assert run.status is DagsterRunStatus.SUCCESS
    assert run.remote_job_origin is not None, "the daemon launches only what says where its code is"


def test_prometheus_scrapes_every_server_with_our_configuration(
    installation: Installation, tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    """The services run as threads here, with ports that differ from the file."""
    prometheus = shutil.which("prometheus")
    require(prometheus is not None, "prometheus (Debian's)")
    settings = installation.settings
    verifier = build_verifier(settings.model_copy(update=Issuer().settings(tmp_path)))
    moved = int(installation.environment["IRT_EXPORTER_METRICS_PORT"]) - 9464
    ports = {port: port + moved for port in METRICS_PORTS.values()}
    with ExitStack() as stack:
        reader = Reader(settings, stack.enter_context(dagster_instance(settings, Database(settings))))
        for port, app in {
            9464: exporter(StateCollector(Database(settings), settings)),
            8001: theta_api(Access(TOKEN, None), Ledger(Database(settings), 1), 1),
            9000: jwt_verifier(verifier, "cookie"),
            8080: dashboard(reader, verifier, settings),
        }.items():
            made = listening()
            ports[port] = port_of(made)
            stack.enter_context(serve_in_thread(app, [made]))
        text = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8")
        text = re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{ports[int(found[1])]}", text)
        configuration = yaml.safe_load(text) | {"rule_files": []}
        for scrape in configuration["scrape_configs"]:
            scrape |= {"scrape_interval": "2s", "scrape_timeout": "2s"}
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration), "utf-8")
        web = free_port()
        command = [str(prometheus), "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
        stack.enter_context(child([*command, f"--web.listen-address=127.0.0.1:{web}"], tmp_path))
        api = f"http://127.0.0.1:{web}/api/v1"
        expected = {scrape["job_name"] for scrape in configuration["scrape_configs"]}
        assert len(expected) == len(ports)
        answer(f"{api}/query?query=up==1", lambda data: {one["metric"]["job"] for one in data["result"]} == expected)
        body = {"user_id": "ann"}  # so that it has something to count
        requests.post(f"http://127.0.0.1:{ports[8001]}{PATH}", json=body, headers=HEADERS, timeout=30)
        found = set(answer(f"{api}/label/__name__/values", lambda data: set(OF_SERVERS) <= set(data)))
        ours = {name for name in found if name.startswith("irt_")} - set(OF_EXPORTER) - set(OF_SERVERS)
        assert {name for name in ours if not re.search("_(created|bucket|count|sum)$", name)} == set()
        builds = answer(f"{api}/query?query=irt_build_info", lambda data: len(data["result"]) == len(expected))
        assert {one["metric"]["version"] for one in builds["result"]} == {code_version()}


@pytest.mark.parametrize("name", SERVERS)
def test_hup_restarts_a_server_in_the_same_process(name: str, installation: Installation) -> None:
    service = installation.services[name]
    before = psutil.Process(service.process.pid)
    service.forget()
    service.process.send_signal(signal.SIGHUP)
    service.wait_until_it_says("RELOADING=1")
    service.wait_until_it_says("READY=1")
    assert psutil.Process(service.process.pid) == before  # compares starts by a clock that is never set
    wait_for(f"{name} to be well", lambda: installation.irt("health", "--probe", name).returncode == 0, 60)
    port = METRICS_PORTS[name] - 9464 + int(installation.environment["IRT_EXPORTER_METRICS_PORT"])
    assert "\nprocess_start_time_seconds " in requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text


@pytest.mark.parametrize("name", ["code-server", "webserver"])
def test_hanging_server_is_not_healthy(name: str, installation: Installation) -> None:
    """Its port is open and its process exists."""
    process = installation.services[name].process
    process.send_signal(signal.SIGSTOP)
    try:
        done = installation.irt("health", "--probe", name)
    finally:
        process.send_signal(signal.SIGCONT)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{name}: no")


def test_second_code_server_or_stack_of_a_home_is_refused(installation: Installation) -> None:
    for arguments in (["run", "code-server"], ["serve"]):
        done = installation.irt(*arguments)
        assert done.returncode == 2
        assert str(installation.settings.irt_home) in done.stderr.replace("\n", "")


def test_health_starts_no_server_and_names_the_missing_parts(tmp_path: Path) -> None:
    environment = {**os.environ, "IRT_HOME": str(tmp_path / "new"), "IRT_UI_PORT": str(free_port())}
    done = subprocess.run([*IRT, "health"], env=environment, capture_output=True, text=True, timeout=patient(60))
    output_lines = done.stdout.splitlines()
    assert (done.returncode, output_lines[0], len(output_lines)) == (1, "config: well", 5)
    assert "embedded PostgreSQL is not running" in output_lines[1]
    assert not (tmp_path / "new").exists()


def test_verifier_starts_without_a_database_and_reports_its_readiness(tmp_path: Path) -> None:
    (tmp_path / "public.pem").write_bytes(Issuer().pem)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DATABASE_URL"},
        "IRT_HOME": str(tmp_path / "no-home"),
        "IRT_ORG_ID": ORGANISATION,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "JWT_PUBLIC_KEY_PATH": str(tmp_path / "public.pem"),
        "PORT": str(free_port()),
    }
    service = start_service("jwt-verifier", environment, tmp_path)
    try:
        service.wait_until_it_says("READY=1")
        done = subprocess.run(
            [*IRT, "health", "--probe", "jwt-verifier"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=patient(60),
        )
    finally:
        service.process.terminate()
        service.process.wait(patient(30))
        service.manager.close()
    assert (done.returncode, done.stdout) == (0, "jwt-verifier: well\n")
    assert not (tmp_path / "no-home").exists()
