"""Reports served under an id: content, protective headers, learner reports, and responses if a report is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from resources.failures import PermanentFailure, TransientFailure
from resources.files.object_store import PIECE_BYTES, FolderStore
from services.report_files import ReportFiles
from tests.helpers.asgi import Answer, ask, echo

PAGE = b"<!doctype html><p>safe to release</p><script>alert('x')</script>"
LARGE = bytes(range(256)) * (PIECE_BYTES // 100)
CSP = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"


class Rows:
    """A database that contains the rows of `report_file` by id, or raises an error."""

    def __init__(self, rows: dict[int, tuple[Any, ...]], error: Exception | None = None) -> None:
        self.rows = rows
        self.error = error

    @contextmanager
    def connect(self) -> Iterator[Rows]:
        if self.error is not None:
            raise self.error
        yield self

    def execute(self, _query: str, values: tuple[int]) -> Rows:
        self.found = self.rows.get(values[0])
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return self.found


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects")


@pytest.fixture
def rows(store: FolderStore, tmp_path: Path) -> dict[int, tuple[Any, ...]]:
    (tmp_path / "secret").write_text("another file of this machine")
    return {
        7: (store.put("reports/drift/a.html", PAGE), "html", None, None, "2026-09/maths"),
        8: (store.put("reports/drift/a.pdf", LARGE), "pdf", None, None, "2026-09/maths"),
        9: (store.put("reports/u.html", PAGE), "html", 'u/1 "é', "2026-11-09", None),
        10: (store.uri("reports/gone.html"), "html", None, None, "2026-08/maths"),
        11: ("s3://another-store/reports/a.html", "html", None, None, "2026-08/maths"),
        12: ((tmp_path / "secret").as_uri(), "html", None, None, "2026-08/maths"),
        13: (f"{store.root.as_uri()}/../secret", "html", None, None, "2026-08/maths"),
    }


def request_file(
    rows: dict[int, tuple[Any, ...]], store: Any, path: str, *, learners: bool = False, prefix: str = "", **knobs: Any
) -> Answer:
    database: Any = Rows(rows, **knobs)
    return ask(ReportFiles(echo, database, store, prefix=prefix, learners=learners), "GET", path)


def test_html_report_is_served_inline_in_a_sandbox(rows: dict[int, tuple[Any, ...]], store: FolderStore) -> None:
    answer = request_file(rows, store, "/reports/7")
    assert (answer.status, answer.text) == (200, PAGE.decode())
    headers = {
        "content-security-policy": CSP,
        "x-content-type-options": "nosniff",
        "content-type": "text/html; charset=utf-8",
        "content-disposition": "inline; filename*=utf-8''drift_2026-09_maths.html",
        "cache-control": "private, no-store",
    }
    assert dict(answer.headers).items() >= headers.items()


def test_pdf_report_is_served_as_an_attachment_with_a_descriptive_name(
    rows: dict[int, tuple[Any, ...]], store: FolderStore
) -> None:
    answer = request_file(rows | {8: (store.put("b.pdf", b"%PDF"), *rows[8][1:])}, store, "/reports/8")
    headers = {
        "content-disposition": "attachment; filename*=utf-8''drift_2026-09_maths.pdf",
        "content-type": "application/pdf",
        "content-security-policy": CSP,
    }
    assert dict(answer.headers).items() >= headers.items()
    assert b"".join(store.stream("reports/drift/a.pdf")) == LARGE


def test_learner_reports_are_refused_unless_the_setting_permits_access(
    rows: dict[int, tuple[Any, ...]], store: FolderStore
) -> None:
    refused = request_file(rows, store, "/reports/9")
    assert refused.status == 403
    assert "IRT_UI_LEARNER_REPORTS=true" in refused.text
    shown = request_file(rows, store, "/reports/9", learners=True)
    assert shown.text == PAGE.decode()
    assert shown.headers["content-disposition"] == "inline; filename*=utf-8''week_2026-11-09_u_1%20%22%C3%A9.html"


@pytest.mark.parametrize("name", ["", "6", "007x", "-7", "+7", "٧", "7/", "7/../8", "../secret", "reports", "9" * 40])
def test_report_with_an_unknown_or_invalid_id_is_not_found(
    rows: dict[int, tuple[Any, ...]], store: FolderStore, name: str
) -> None:
    answer = request_file(rows, store, f"/reports/{name}")
    assert answer.status == 404
    assert answer.text.startswith("There is no report ")
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("artifact", [10, 11, 12, 13])
def test_response_recommends_materialising_a_report_whose_file_is_missing(
    rows: dict[int, tuple[Any, ...]], store: FolderStore, artifact: int
) -> None:
    answer = request_file(rows, store, f"/reports/{artifact}")
    assert answer.status == 404
    assert answer.text == (
        "The file drift_2026-08_maths.html is no longer in the object store; materialise the report again.\n"
    )


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (psycopg.OperationalError("connection to server at 10.0.0.5 failed"), 503),
        (TransientFailure("s3://bucket: timeout"), 503),
        (PermanentFailure("s3://bucket: AccessDenied"), 502),
    ],
)
def test_failures_of_database_or_store_reveal_no_internal_names(
    rows: dict[int, tuple[Any, ...]], store: FolderStore, error: Exception, status: int
) -> None:
    answer = request_file(rows, store, "/reports/7", error=error)
    assert answer.status == status
    assert "10.0.0.5" not in answer.text
    assert "bucket" not in answer.text


def test_requests_for_other_paths_are_passed_to_dagster(rows: dict[int, tuple[Any, ...]], store: FolderStore) -> None:
    assert request_file(rows, store, "/assets/reports/7").text == "the page"
    assert request_file(rows, store, "/dagster/runs", prefix="/dagster").text == "the page"
    assert request_file(rows, store, "/dagster/reports/7", prefix="/dagster").text == PAGE.decode()
