"""The overview that pages read: how long a page waits for it, how old it may be, and that decisions renew it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from queue import Queue

import dagster as dg
import psycopg2
import pytest
import sqlalchemy.exc

from jobs.watching.overview import Overview
from resources.failures import PermanentFailure
from resources.settings import Settings
from services.dashboard import decision_form
from services.dashboard.data_access import OverviewPending, Reader
from services.dashboard.login import DEMO
from services.dashboard.page import ViewRequest
from services.dashboard.server import make_page

LONG_S = 60.0


def overview(minute: int) -> Overview:
    now = datetime(2026, 11, 1, 0, 0, minute, tzinfo=UTC)
    return Overview(now, True, now, [], [], [], [], [], [])


class ScriptedLooks:
    """Replacement of `look` whose results the test sets; `begun` has an entry for each call."""

    def __init__(self) -> None:
        self.begun = Queue[Queue[Overview | Exception]]()

    def __call__(self, *_: object) -> Overview:
        answer = Queue[Overview | Exception]()
        self.begun.put(answer)
        found = answer.get(timeout=LONG_S)
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def looks() -> ScriptedLooks:
    return ScriptedLooks()


@pytest.fixture
def reader(looks: ScriptedLooks) -> Iterator[Reader]:
    with dg.DagsterInstance.ephemeral() as instance:
        reader = Reader(Settings(_env_file=None), instance, looks)
        reader.timeout_s = 0.05
        reader.now = lambda: overview(1).now  # type: ignore[method-assign]
        yield reader


def test_page_reports_that_the_first_overview_is_being_read_and_does_not_wait(
    reader: Reader, looks: ScriptedLooks
) -> None:
    request = ViewRequest("months", {}, DEMO, reader)
    for _ in range(3):
        status, page = make_page(request)
        assert int(status) == 503
        assert "The months are being read" in page.title
        assert 'data-again="2000"' in str(page.body)
    assert not reader.is_ready
    reading = reader.start_reading()
    looks.begun.get(timeout=LONG_S).put(overview(1))
    assert looks.begun.empty()
    reading.result(LONG_S)
    assert reader.is_ready
    assert int(make_page(request)[0]) == 200


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


def test_first_overview_is_read_again_if_reading_failed(reader: Reader, looks: ScriptedLooks) -> None:
    reading = reader.start_reading()
    looks.begun.get().put(PermanentFailure("the schema is older than this code"))
    with pytest.raises(PermanentFailure, match="older than this code"):
        reading.result(LONG_S)
    with pytest.raises(OverviewPending):
        reader.overview()
    reading = reader.start_reading()
    looks.begun.get().put(overview(1))
    assert reading.result(LONG_S) == reader.overview() == overview(1)


def test_lost_connection_of_dagster_is_reported_as_the_databases_failure(reader: Reader, looks: ScriptedLooks) -> None:
    """Dagster keeps its connections, so the first query after a restart of the database uses a dead connection."""
    lost = sqlalchemy.exc.OperationalError("SELECT 1", {}, psycopg2.OperationalError("server closed the connection"))
    reader.timeout_s = LONG_S
    reader.start_reading()
    looks.begun.get(timeout=LONG_S).put(lost)
    status, page = make_page(ViewRequest("months", {}, DEMO, reader))
    assert (int(status), page.title) == (503, "The database does not answer")


def age(reader: Reader, looks: ScriptedLooks, **since: float) -> None:
    """Read an overview and set the clock forward by `since`."""
    reading = reader.start_reading()
    looks.begun.get(timeout=LONG_S).put(overview(1))
    reading.result(LONG_S)
    reader.now = lambda: overview(1).now + timedelta(**since)  # type: ignore[method-assign]


def test_a_fresh_overview_is_not_read_again(reader: Reader, looks: ScriptedLooks) -> None:
    age(reader, looks, seconds=30)
    assert reader.overview() == overview(1)
    assert looks.begun.empty()


@pytest.mark.parametrize("seconds", [31, 15 * 60, -3600])
def test_page_waits_for_a_new_overview_if_the_stored_overview_is_old(
    reader: Reader, looks: ScriptedLooks, seconds: float
) -> None:
    """An overview from the future counts as old too: the clock may have been set back."""
    reader.timeout_with_old_s = LONG_S
    age(reader, looks, seconds=seconds)
    shown = Queue[Overview]()
    visitor = threading.Thread(target=lambda: shown.put(reader.overview()))
    visitor.start()
    looks.begun.get(timeout=LONG_S).put(overview(2))
    assert shown.get(timeout=LONG_S) == overview(2)


@pytest.mark.parametrize(("seconds", "ago"), [(31, "one minute"), (13, None), (9 * 60, "nine minutes")])
def test_page_with_an_old_overview_shows_its_age_and_reloads(
    reader: Reader, looks: ScriptedLooks, seconds: float, ago: str | None
) -> None:
    reader.timeout_with_old_s = 0.01
    age(reader, looks, seconds=seconds)
    status, page = make_page(ViewRequest("months", {}, DEMO, reader))
    assert int(status) == 200
    assert page.title == ("Months" if ago is None else f"Months, as of {ago} ago")
    assert ('data-again="2000"' in str(page.body)) is (ago is not None)
    if ago is not None:
        looks.begun.get(timeout=LONG_S).put(overview(2))


def test_an_overview_older_than_ten_minutes_is_never_shown(reader: Reader, looks: ScriptedLooks) -> None:
    reader.timeout_with_old_s = 0.01
    age(reader, looks, minutes=13)
    status, page = make_page(ViewRequest("months", {}, DEMO, reader))
    assert (int(status), page.title) == (503, "The months are being read")
    assert 'data-again="2000"' in str(page.body)
    looks.begun.get(timeout=LONG_S).put(overview(2))


def test_overview_read_before_a_decision_is_not_shown_after_the_decision(reader: Reader, looks: ScriptedLooks) -> None:
    """This holds also for an overview whose reading began before the decision and ends after it."""
    before, old = reader.start_reading(), looks.begun.get()
    reader.drop_overview()
    after, new = reader.start_reading(), looks.begun.get()
    old.put(overview(1))
    assert before.result(LONG_S) == overview(1)
    assert not reader.is_ready  # only a stored overview makes the reader ready
    new.put(overview(2))
    after.result(LONG_S)
    assert reader.overview() == overview(2)


def test_page_waits_for_the_new_overview_after_a_decision(reader: Reader, looks: ScriptedLooks) -> None:
    """The second overview is read far faster than the first, so visitors need not reload."""
    first = reader.start_reading()
    looks.begun.get().put(overview(1))
    first.result(LONG_S)
    reader.timeout_s = 0.0
    reader.drop_overview()
    assert reader.is_ready
    shown = Queue[Overview]()
    visitor = threading.Thread(target=lambda: shown.put(reader.overview()))
    visitor.start()
    looks.begun.get(timeout=LONG_S).put(overview(2))
    assert shown.get(timeout=LONG_S) == overview(2)


def test_simultaneous_visitors_wait_for_the_same_reading(reader: Reader, looks: ScriptedLooks) -> None:
    reader.timeout_s = LONG_S
    shown = Queue[Overview]()
    visitors = [threading.Thread(target=lambda: shown.put(reader.overview())) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    looks.begun.get().put(overview(1))
    assert [shown.get(timeout=LONG_S) for _ in visitors] == [overview(1)] * 4
    assert looks.begun.empty()


def test_form_proposes_a_day_in_the_future(reader: Reader) -> None:
    shown = str(decision_form.form(ViewRequest("item", {}, DEMO, reader), ("withdraw",)))
    assert 'placeholder="2026-11-02"' in shown
