"""The exporter as a process, promtool's checks of our rules and dashboards, and a Prometheus that scrapes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml

from resources.settings import Settings
from services.exporter.families import FAMILIES
from tests.helpers.door import ROOT
from tests.helpers.prometheus import PATIENCE_S, answer, child
from tests.helpers.sentences import missing_sentences
from tests.testbed.machine import free_port

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("prometheus")]
PROMETHEUS = ROOT / "deploy" / "prometheus"
SILENT = "IrtDaemonSilent"
"""The alert of a new installation whose daemon was never started."""


@pytest.fixture
def promtool(require: Callable[[bool, str], None]) -> str:
    found = shutil.which("promtool")
    require(found is not None, "promtool (Debian's prometheus)")
    return str(found)


@contextmanager
def exporter(settings: Settings, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Yields the exporter on a free port, after it has reported to the service manager that it is ready."""
    port = free_port()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(PATIENCE_S)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "IRT_HOME": str(settings.irt_home),
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "IRT_EXPORTER_METRICS_PORT": str(port),
            "NOTIFY_SOCKET": str(folder / "notify"),
        }
        with child([sys.executable, "-m", "services.exporter"], folder, env=environment) as process:
            while b"READY=1" not in manager.recv(200):
                pass
            yield process, port


def test_exporter_serves_only_on_loopback_and_ends_on_sigterm(settings: Settings, tmp_path: Path) -> None:
    with exporter(settings, tmp_path) as (process, port):
        response = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=20)
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert not missing_sentences(response.text, "\nirt_exporter_up 1.0\n", "process_resident_memory_bytes")
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.2:{port}/metrics", timeout=5)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def test_promtool_accepts_the_rules_and_each_alert_fires_under_its_condition(promtool: str) -> None:
    for words in ("check rules rules.yml", "check config prometheus.yml", "test rules rules_test.yml"):
        command = [promtool, *words.split()]
        done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_every_expression_of_the_dashboards(promtool: str, tmp_path: Path) -> None:
    """Checks the expressions as recording rules, with a fixed scale instead of the dashboard's variable."""
    dashboards = [json.loads(path.read_text("utf-8")) for path in (ROOT / "deploy" / "grafana").glob("*.json")]
    expressions = {target["expr"] for one in dashboards for panel in one["panels"] for target in panel["targets"]}
    rules = [
        {"record": f"panel:{n}", "expr": text.replace("$scale", "maths")} for n, text in enumerate(sorted(expressions))
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    command = [promtool, "check", "rules", "panels.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_prometheus_scrapes_the_exporter_and_evaluates_our_rules(
    settings: Settings, tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    prometheus = shutil.which("prometheus")
    require(prometheus is not None, "prometheus (Debian's)")
    with exporter(settings, tmp_path) as (_, port):
        configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
        configuration["global"]["evaluation_interval"] = "1s"
        configuration["rule_files"] = [str(PROMETHEUS / "rules.yml")]
        configuration["scrape_configs"] = [scrape] = configuration["scrape_configs"][:1]
        scrape |= {"scrape_interval": "2s", "scrape_timeout": "2s"}
        scrape["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration), "utf-8")
        web = free_port()
        command = [str(prometheus), "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
        with child([*command, f"--web.listen-address=127.0.0.1:{web}"], tmp_path):
            api = f"http://127.0.0.1:{web}/api/v1"
            found = answer(f"{api}/query?query=irt_job_overdue", lambda data: bool(data["result"]))
            jobs = {one["metric"]["job"] for one in found["result"]}
            assert {"inventory", "invariants"} <= jobs, "the label is ours, not that of the scrape"
            names = set(answer(f"{api}/label/__name__/values", bool))
            assert {"irt_exporter_up", "irt_build_info", "irt_daemon_heartbeat_age_seconds"} <= names
            assert {name for name in names if name.startswith("irt_")} <= {family.name for family in FAMILIES}
            # Before the first scrape, the exporter's own alert is active.
            answer(f"{api}/alerts", lambda data: {one["labels"]["alertname"] for one in data["alerts"]} == {SILENT})
