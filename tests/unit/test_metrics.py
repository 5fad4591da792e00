"""Metrics: the exporter without a database, names in rules and dashboards, and metrics of servers."""

from __future__ import annotations

import json
import logging
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from resources.postgres.database import Database
from resources.serving import metrics
from resources.serving.guard import Guard
from resources.settings import Settings
from resources.version import code_version
from services.exporter.app import CACHED_S, StateCollector, build_app
from services.exporter.families import FAMILIES
from tests.helpers.asgi import ask, echo, open_socket
from tests.helpers.door import listening, port_of
from tests.testbed.machine import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds to scraped metrics; the exporter's own `job` is kept."""
OF_SERVERS: dict[str, set[str]] = {
    "irt_page_requests_total": {"status"},
    "irt_dashboard_requests_total": {"status"},
    "irt_theta_updates_total": {"result"},
    "irt_theta_seconds_bucket": {"le"},
    "irt_theta_shed_total": set(),
    "irt_theta_in_flight": set(),
    "irt_theta_set_age_seconds": set(),
    "jwt_keys_age_seconds": set(),
}
"""Metrics of servers, except metrics of any process. In tests/integration/test_servers.py a Prometheus scrapes them."""
OF_EXPORTER = {family.name: set(family.labels) for family in FAMILIES}
LABELS = {
    **OF_EXPORTER,
    **{name: labels | SCRAPED for name, labels in OF_SERVERS.items()},
    "up": SCRAPED,
    "process_resident_memory_bytes": SCRAPED,
}
METRIC = re.compile(r"\b(?:irt_\w+|jwt_\w+|up|process_\w+)\b")


class LostDatabase(Database):
    """A database that does not respond, and counts connections."""

    def __init__(self) -> None:
        super().__init__(Settings(database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), _env_file=None))
        self.asked = 0

    def connect(self) -> Any:
        self.asked += 1
        return super().connect()


def scrape(collector: StateCollector) -> dict[str, list[tuple[dict[str, str], float]]]:
    answer = ask(build_app(collector), "GET", "/metrics")
    assert answer.status == 200
    found = text_string_to_metric_families(answer.text)
    return {family.name: [(s.labels, s.value) for s in family.samples] for family in found}


def test_exporter_reports_itself_down_with_its_version_if_the_database_is_unreachable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    database = LostDatabase()
    collector = StateCollector(database, Settings(_env_file=None), clock=lambda: now[0])
    for seconds, n_reads in ((0.0, 1), (CACHED_S - 1, 1), (CACHED_S, 2), (2 * CACHED_S - 1, 2)):
        now[0] = seconds
        found = {name: samples for name, samples in scrape(collector).items() if name.startswith("irt_") and samples}
        assert found == {
            "irt_exporter_up": [({}, 0.0)],
            "irt_build_info": [({"version": code_version()}, 1.0)],
        }
        assert database.asked == n_reads
    assert [record.levelname for record in caplog.records] == ["ERROR"], "the same fault is logged once"
    assert ask(build_app(collector), "GET", "/health").status == 200


def test_names_of_metrics_follow_the_conventions_of_prometheus() -> None:
    assert len(OF_EXPORTER) == len(FAMILIES)
    for family in FAMILIES:
        assert re.fullmatch(r"irt_[a-z_]+", family.name)
        assert family.meaning.endswith(".")


# -- names in files ----------------------------------------------------------------------------------


def unknown(expression: str, templates: str = "") -> list[str]:
    """Return unknown metrics, and labels that no metric of the expression has."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    metrics = set(METRIC.findall(bare))
    known = set().union(*(LABELS.get(metric, set()) for metric in metrics))
    selected = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", bare)
    grouped = [label for group in re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", bare) for label in group.split(",")]
    shown = re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", templates)
    labels = {label.strip() for label in [*selected, *grouped, *shown]}
    return [*sorted(metrics - set(LABELS)), *sorted(labels - known)]


def dashboard_expressions(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each expression of a dashboard with the text that shows its labels."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
            yield metric, f"{{{{{label}}}}}"


@pytest.mark.parametrize(
    ("expression", "templates", "faults"),
    [
        ("irt_runs > 0", "", []),
        ('sum by (status) (irt_runs{status="success"})', "{{status}}", []),
        ("irt_rums", "", ["irt_rums"]),
        ('irt_runs{state!~"a, b=c"}', "", ["state"]),
        ("sum by (status, job) (irt_runs)", "", ["job"]),
        ("irt_runs", "{{ $labels.month }} of {{ $value }}", ["month"]),
    ],
)
def test_unknown_metrics_and_labels_of_an_expression_are_found(
    expression: str, templates: str, faults: list[str]
) -> None:
    assert unknown(expression, templates) == faults


def rules(kind: str) -> list[dict[str, Any]]:
    """Return the rules of a kind: `alert`, or `record` for expressions that other rules use."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def test_rules_use_only_existing_metrics_and_labels() -> None:
    recorded = {rule["record"] for rule in rules("record")}
    for rule in rules("alert") + rules("record"):
        read = set(re.findall(r"\birt:[\w:]+", rule["expr"]))
        assert read <= recorded
        assert read or METRIC.search(rule["expr"])
        assert unknown(rule["expr"], " ".join(rule.get("annotations", {}).values())) == [], rule


def test_every_alert_rule_has_a_test() -> None:
    tests = (DEPLOY / "prometheus" / "rules_test.yml").read_text("utf-8")
    assert [rule["alert"] for rule in rules("alert") if tests.count(rule["alert"]) < 3] == []


def test_every_alert_rule_links_a_page_of_the_site() -> None:
    docs = DEPLOY.parent / "docs"
    for rule in rules("alert"):
        site, _, page = rule["annotations"]["runbook_url"].partition("/")
        assert site == "{{ $externalLabels.irt_docs }}"
        assert (docs / page).with_suffix(".md").is_file(), rule["alert"]


@pytest.mark.parametrize("path", sorted((DEPLOY / "grafana").glob("*.json")), ids=lambda path: path.stem)
def test_dashboards_use_only_existing_metrics_and_labels(path: Path) -> None:
    dashboard = json.loads(path.read_text("utf-8"))
    found = list(dashboard_expressions(dashboard))
    assert [fault for expression, shown in found for fault in unknown(expression, shown)] == []
    named = {metric for expression, _ in found for metric in METRIC.findall(expression)}
    assert named >= set(OF_EXPORTER), "every metric of the platform's state is shown"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        shown_fields = json.dumps(panel["fieldConfig"]["overrides"]) + json.dumps(panel.get("transformations", []))
        of_panel = set().union(*(LABELS[m] for t in panel["targets"] for m in METRIC.findall(t["expr"])))
        used = set(re.findall(r'"(?:field|options)": "(\w+)"', shown_fields))
        assert used <= of_panel, panel["title"]


# -- metrics of servers ------------------------------------------------------------------------------
# Metrics of a server about itself.


def text(registry: metrics.CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_server_exposes_process_and_version_only_to_the_local_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, port = metrics.server_registry(), free_port()
    started = []
    monkeypatch.setattr(metrics, "start_http_server", lambda *given: started.append(start_http_server(*given)))
    metrics.serve(registry, port, "A_PORT")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        shown = answer.read().decode()
    assert f'\nirt_build_info{{version="{code_version()}"}} 1.0\n' in shown
    assert "\nprocess_resident_memory_bytes " in shown
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.2:{port}/metrics", timeout=10)
    ((server, thread),) = started
    server.shutdown()
    server.server_close()
    thread.join()


def test_warning_names_the_setting_if_the_metrics_port_is_in_use(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with listening() as other:
        metrics.serve(metrics.server_registry(), port_of(other), "IRT_EXPORTER_METRICS_PORT")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Address already in use. Set IRT_EXPORTER_METRICS_PORT" in record.message


def test_requests_are_counted_by_status_including_refused_requests() -> None:
    registry = metrics.server_registry()
    app = metrics.CountRequests(Guard(echo, Settings(_env_file=None).ui_names), "page", registry)
    for headers in ({}, {}, {"host": "evil.example"}):
        ask(app, "GET", "/runs", headers)
    assert open_socket(app, "/graphql").status == 101
    assert open_socket(app, "/graphql", {"origin": "https://evil.example"}).status == 403
    counted = [line for line in text(registry).splitlines() if line.startswith("irt_page_requests_total")]
    assert counted == [
        'irt_page_requests_total{status="200"} 2.0',
        'irt_page_requests_total{status="403"} 2.0',
        'irt_page_requests_total{status="101"} 1.0',
    ]


def test_websocket_that_was_accepted_and_closed_is_not_counted_as_refused() -> None:
    async def short(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    registry = metrics.server_registry()
    open_socket(metrics.CountRequests(short, "page", registry), "/graphql")
    assert '{status="403"}' not in text(registry)
