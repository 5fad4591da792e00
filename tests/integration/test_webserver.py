"""The Dagster UI as it is served: Dagster's application behind our layer, and reports from a database and store."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, date, datetime, timedelta

import pytest
from dagster import AssetKey, DagsterInstance

from irt_assets.reports.artifacts import store_report, unrecorded_keys
from jobs.retention.unused import prune_files
from resources.files.object_store import PIECE_BYTES, BucketStore, FolderStore, ObjectStore
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.asgi import ask
from tests.helpers.rooms import call
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.integration.dagster_page import GO, JSON, PAUSED, instance, post, serve_page, settings

__all__ = ["instance", "settings"]  # fixtures

REPORT = '{"check_name": "converged", "passed": true}'


def test_requests_of_the_ui_work_and_requests_of_foreign_pages_are_refused(
    instance: DagsterInstance, settings: Settings
) -> None:
    with serve_page(settings) as app:
        assert "<!DOCTYPE html>" in ask(app, "GET", "/").text
        script = re.search(r'src="(/_next/[^"]+\.js)"', ask(app, "GET", "/").text)
        assert script
        assert ask(app, "GET", script[1]).headers["content-type"].startswith("application/javascript")
        before = post(app, PAUSED).text
        assert ask(app, "GET", "/graphql", query=f"query={GO}").status == 405
        forms = {"content-type": "text/plain; application/json"}
        assert ask(app, "POST", "/graphql", forms, body=json.dumps({"query": GO}).encode()).status == 415
        assert post(app, GO, origin="http://evil.example").status == 403
        assert (post(app, GO, host="evil.example").status, post(app, PAUSED).text) == (403, before)
        assert ask(app, "POST", "/report_asset_check/abilities", JSON, body=REPORT.encode()).status == 403
        assert ask(app, "POST", "/report_asset_materialization/abilities", JSON, body=b"{}").status == 403
        assert instance.get_latest_materialization_event(AssetKey("abilities")) is None


def test_malformed_requests_are_refused_without_an_exception(instance: DagsterInstance, settings: Settings) -> None:
    with serve_page(settings) as app:
        bodies = b"[]", b'[{"query": "{ version }"}]', b"7", b'{"query": 7}', b"nothing", b'{"query": "{"}'
        found = {body: ask(app, "POST", "/graphql", JSON, body=body).status for body in bodies}
        assert found == dict.fromkeys(bodies, 400)
        paths = "/logs/", "/logs/..", "/logs/a", "/logs/../../x.out", "/logs/a\0/b.out", "/logs/a/b.out"
        assert {path: ask(app, "GET", path).status for path in paths} == dict.fromkeys(paths, 404)
        assert "version" in post(app, "{ version }").text


@pytest.mark.parametrize("kind", ["folder", pytest.param("bucket", marks=pytest.mark.ci)])
def test_reports_are_read_from_the_store_by_row_id(
    kind: str, instance: DagsterInstance, settings: Settings, request: pytest.FixtureRequest
) -> None:
    store: ObjectStore = FolderStore(settings.irt_home / "objects")
    if kind == "bucket":
        _: SeaweedFS = request.getfixturevalue("s3")
        settings, store = settings.model_copy(update={"s3_bucket": BUCKET}), BucketStore(BUCKET)
    database, page = Database(settings), "<p>safe</p>" + " " * 2 * PIECE_BYTES
    html = store_report(database, store, "reports/drift/a.html", page.encode(), format="html", window=f"2026-09/{kind}")
    learners = store_report(
        database, store, "reports/w/u.pdf", b"%PDF", format="pdf", user_id=kind, week_start=date(2026, 11, 9)
    )
    with serve_page(settings) as app:
        answer = ask(app, "GET", f"/reports/{html.artifact_id}")
        assert (answer.status, answer.text) == (200, page)
        assert "sandbox; default-src 'none'" in answer.headers["content-security-policy"]
        assert (
            ask(app, "GET", f"/reports/{learners.artifact_id}").headers["content-disposition"].startswith("attachment")
        )
        assert ask(app, "GET", f"/reports/{html.artifact_id}", {"host": "evil.example"}).status == 403
        store.delete("reports/drift/a.html")
        assert "no longer in the object store" in ask(app, "GET", f"/reports/{html.artifact_id}").text
    if kind == "folder":  # the home moves, but the rows keep the old addresses
        store.put("reports/drift/a.html", page.encode())
        moved = settings.irt_home.with_name("moved")
        shutil.copytree(store.root, moved / "objects")
        shutil.rmtree(store.root)
        with serve_page(settings, irt_home=moved) as app:
            assert ask(app, "GET", f"/reports/{html.artifact_id}").text == page
        assert call(database, unrecorded_keys, FolderStore(moved / "objects"), "reports/drift") == []
        later = datetime.now(UTC) + timedelta(days=2)
        assert prune_files(database, FolderStore(moved / "objects"), later, dry_run=True).names == ()
    with serve_page(settings, irt_ui_url="https://irt.example.org") as app:
        refused = ask(app, "GET", f"/reports/{learners.artifact_id}", {"host": "irt.example.org"})
        assert (refused.status, "IRT_UI_LEARNER_REPORTS" in refused.text) == (403, True)
