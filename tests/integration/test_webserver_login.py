"""The Dagster UI with a login: Dagster's application on real runs, and the users' names on runs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRun
from starlette.types import ASGIApp

from jobs.launching.launched_by import LAUNCHED_BY
from resources.failures import PermanentFailure
from resources.settings import Settings
from tests.helpers.asgi import ask
from tests.helpers.dagster_private import DagsterGrpcClient, DagsterUserCodeUnreachableError
from tests.integration.dagster_page import GO, JSON, PAUSED, instance, post, serve_page, settings
from tests.testbed.issuer import Issuer, after
from tests.testbed.stack_harness import wait_for

__all__ = ["instance", "settings"]  # fixtures
pytestmark = pytest.mark.xdist_group("webserver")
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "here"}
LAUNCHED = "{ __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } }"
RUN = f"mutation ($p: ExecutionParams!) {{ launchRun(executionParams: $p) {LAUNCHED} }}"
AGAIN = f"mutation ($p: ReexecutionParams) {{ launchRunReexecution(reexecutionParams: $p) {LAUNCHED} }}"
BACKFILL = """mutation ($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) { __typename
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
BACKFILL_AGAIN = """mutation ($p: ReexecutionParams) { reexecutePartitionBackfill(reexecutionParams: $p) { __typename
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""


def bearer(role: str, name: str = "ann", **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {Issuer().token(roles=[role], sub=name, **claims)}"}


@pytest.fixture(scope="module")
def location(instance: DagsterInstance) -> Iterator[str]:
    """A code server, as the workspace names it."""
    with tempfile.TemporaryDirectory(prefix="irt-") as folder:
        socket = f"{folder}/code.sock"
        arguments = ["-m", "tests.integration.location_with_months", "--socket", socket]
        with subprocess.Popen([sys.executable, "-m", "dagster", "api", "grpc", *arguments]) as server:
            client = DagsterGrpcClient(socket=socket, host="localhost")
            wait_for("the code server", lambda: is_up(client))
            yield f"[{{grpc_server: {{host: localhost, socket: {socket}, location_name: here}}}}]"
            server.terminate()


def is_up(client: DagsterGrpcClient) -> bool:
    try:
        client.ping("")
    except DagsterUserCodeUnreachableError:
        return False
    return True


@pytest.fixture(scope="module")
def login(settings: Settings, instance: DagsterInstance) -> dict[str, Any]:
    return Issuer().settings(settings.irt_home)


@pytest.fixture(scope="module")
def page(settings: Settings, login: dict[str, Any], location: str) -> Iterator[ASGIApp]:
    with serve_page(settings, locations=location, **login) as app:
        yield app


def query_graphql(app: ASGIApp, query: str, params: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
    body = json.dumps({"query": query, "variables": {"p": params}}).encode()
    answer = ask(app, "POST", "/graphql", JSON | headers, body=body)
    return answer.status, json.loads(answer.text)


def of_job(job: str, **tags: str) -> dict[str, Any]:
    pairs = [{"key": key, "value": value} for key, value in ({"dagster/partition": "2026-01"} | tags).items()]
    return {"selector": REPOSITORY | {"jobName": job}, "runConfigData": {}, "executionMetadata": {"tags": pairs}}


def launched_run(instance: DagsterInstance, answer: tuple[int, dict[str, Any]]) -> DagsterRun:
    status, body = answer
    ((_, result),) = body["data"].items()
    assert (status, result["__typename"]) == (200, "LaunchRunSuccess"), body
    return instance.get_run_by_id(result["run"]["runId"])


def test_run_has_the_verified_name_and_ignores_a_typed_name(instance: DagsterInstance, page: ASGIApp) -> None:
    forged = {"irt-caller": '"zoe"', "x-user": "zoe"}
    params = of_job("months_work", **{LAUNCHED_BY: "zoe"})
    run = launched_run(instance, query_graphql(page, RUN, params, **bearer("analyst"), **forged))
    assert (run.status.value, run.tags[LAUNCHED_BY]) == ("QUEUED", "ann")
    again = {"parentRunId": run.run_id, "strategy": "ALL_STEPS", "useParentRunTags": True}
    assert (
        launched_run(instance, query_graphql(page, AGAIN, again, **bearer("analyst", "bob"))).tags[LAUNCHED_BY] == "bob"
    )


def test_operators_can_change_settings_and_viewers_can_only_read(
    instance: DagsterInstance, page: ASGIApp, settings: Settings, login: dict[str, Any]
) -> None:
    assert post(page, GO, **bearer("psychometrician")).status == 403
    assert "errors" not in post(page, GO, **bearer("operator")).text
    assert post(page, PAUSED, **bearer("viewer")).status == 403
    assert post(page, PAUSED, **bearer("operator", exp=after(-60))).status == 401
    with serve_page(settings, read_only=True, **login) as view:
        assert "<!DOCTYPE html>" in ask(view, "GET", "/", bearer("viewer")).text
        assert "autoMaterializePaused" in post(view, PAUSED, **bearer("viewer")).text
        assert ask(view, "GET", "/reports/1").status == 401
        assert ask(view, "GET", "/reports/1", bearer("viewer")).status == 404
        assert "UnauthorizedError" in post(view, GO, **bearer("operator")).text


def test_dagster_executes_the_query_of_the_body_and_not_of_the_address(
    instance: DagsterInstance, page: ASGIApp
) -> None:
    """Dagster itself reads the query from the address if the media type is spelled differently."""
    harmless, given = json.dumps({"query": "{ version }"}).encode(), bearer("analyst")
    for spelled in ("Application/JSON", "APPLICATION/json; charset=utf-8", "application/json"):
        answer = ask(page, "POST", "/graphql", given | {"content-type": spelled}, f"query={GO}", harmless)
        assert (answer.status, [*json.loads(answer.text)["data"]]) == (200, ["version"])


def test_typed_name_is_ignored_without_a_login(instance: DagsterInstance, settings: Settings, location: str) -> None:
    with serve_page(settings, locations=location) as app:
        params = of_job("months_work", **{LAUNCHED_BY: "zoe"})
        run = launched_run(instance, query_graphql(app, RUN, params, **{"irt-caller": '"zoe"'}))
        assert run.tags[LAUNCHED_BY] == ""


def test_incomplete_login_settings_refuse_to_start_the_page(
    instance: DagsterInstance, settings: Settings, login: dict[str, Any]
) -> None:
    for missing in login:
        with (
            pytest.raises(PermanentFailure, match=f"{missing.upper()}|a PEM file"),
            serve_page(settings, **login | {missing: None}),
        ):
            pass
