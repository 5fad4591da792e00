"""Results that the pages' reader keeps, and the answer of a page if the database does not respond."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from queue import Queue

import dagster as dg
import psycopg2
import pytest
import sqlalchemy.exc

from resources.settings import Settings
from services.dashboard import data_access, decision_form
from services.dashboard.data_access import Reader
from services.dashboard.login import DEMO
from services.dashboard.page import ViewRequest
from services.dashboard.server import make_page

LONG_S = 60.0


@pytest.fixture
def reader() -> Iterator[Reader]:
    with dg.DagsterInstance.ephemeral() as instance:
        reader = Reader(Settings(_env_file=None), instance)
        reader.now = lambda: datetime(2026, 11, 1, tzinfo=UTC)  # type: ignore[method-assign]
        yield reader


def test_results_that_take_long_are_computed_one_at_a_time_and_once(reader: Reader) -> None:
    begun, go_on, results = Queue[str](), threading.Event(), Queue[str]()

    def compute(name: str) -> str:
        begun.put(name)
        assert go_on.wait(LONG_S)
        return name

    def request(name: str) -> None:
        results.put(reader.compute_cached((name,), lambda: compute(name)))

    visitors = [threading.Thread(target=request, args=(name,)) for name in ("a", "b", "a")]
    for visitor in visitors:
        visitor.start()
    begun.get(timeout=LONG_S)
    assert begun.empty()
    go_on.set()
    for visitor in visitors:
        visitor.join(LONG_S)
    assert sorted(results.get(timeout=LONG_S) for _ in visitors) == ["a", "a", "b"]
    assert begun.qsize() == 1


def test_lost_connection_of_dagster_is_reported_as_the_databases_failure(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster keeps its connections, so the first query after a restart of the database uses a dead connection."""
    lost = sqlalchemy.exc.OperationalError("SELECT 1", {}, psycopg2.OperationalError("server closed the connection"))

    def fail(_instance: object) -> set[str]:
        raise lost

    monkeypatch.setattr(data_access, "unsettled_months", fail)
    status, page = make_page(ViewRequest("months", {}, DEMO, reader))
    assert (int(status), page.title) == (503, "The database does not answer")


def test_form_proposes_a_day_in_the_future(reader: Reader) -> None:
    shown = str(decision_form.form(ViewRequest("item", {}, DEMO, reader), ("withdraw",)))
    assert 'placeholder="2026-11-02"' in shown
